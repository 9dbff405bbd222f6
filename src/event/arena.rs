//! `Arena`: texts, bytes and numbers that had to be made from what a server sent.

/// Values that had to be made from the server's bytes, one after the other; cells say where each
/// piece lies.
#[derive(Debug, Default)]
pub struct Arena {
    /// Texts and bytes that do not stand in a frame as they are: cells of
    /// [`Place::Derived`](super::Place::Derived).
    pub derived: Vec<u8>,
    /// The numbers of vectors.
    pub floats: Vec<f32>,
}

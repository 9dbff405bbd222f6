//! The contract of an `Embedder`: text in, vectors out.

use async_trait::async_trait;

use crate::error::Result;

/// An embedding model. The same text gives the same vector, as far as the model does so.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// One vector per text, in the order of the texts. Splits what is too much for one request, and retries what
    /// is worth retrying until `Transient` errors have gone on for minutes.
    async fn embed(&self, texts: &[&str]) -> Result<Vectors>;
}

/// Rows of equal length, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vectors {
    /// Length of a row.
    pub dimension: usize,
    /// All rows; finite numbers.
    pub data: Vec<f32>,
}

impl Vectors {
    /// The rows, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.data.chunks_exact(self.dimension.max(1))
    }
}

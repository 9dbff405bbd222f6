//! `Unembedded`: says once that a handler writes points without vectors, which no search by meaning
//! finds.

use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that is set once the notice was given.
#[derive(Debug, Default)]
pub struct Unembedded(AtomicBool);

impl Unembedded {
    /// Says it of `handler`, the first time, if a sink takes its points that `holds_vectors`.
    pub(super) fn tell(&self, handler: &str, holds_vectors: bool) {
        if holds_vectors && !self.0.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                handler,
                help = "give `upsert` a text, which the host embeds, or a vector; to change a payload \
                        and keep the vector answer with `patch`",
                "the handler writes points without vectors: they are stored, and no search by meaning \
                 finds them"
            );
        }
    }
}

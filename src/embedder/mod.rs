//! The contract of an `Embedder`: text in, vectors out.

mod kind;

mod resolve;

mod hash;

mod openai;

mod budget;
mod memory;
mod paid;

use std::sync::Arc;

use async_trait::async_trait;

use crate::config::model::Budget;
use crate::error::Result;
use crate::meter::EmbedderMeter;

pub use budget::Account;
use budget::Budgeted;
pub use hash::HashEmbedder;
pub use kind::{EmbedderKind, kind};
pub use openai::{OpenAiEmbedder, TokenPrice};
pub use resolve::{resolve, weights};

/// An embedding model. The same text gives the same vector, as far as the model does so.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// One vector per text, in the order of the texts. Splits what is too much for one request, and
    /// retries what is worth retrying for some minutes; a `Transient` error after that says that
    /// the provider is still away. An error with a [`Code`](crate::error::Code) says that it takes
    /// texts, but not all of these.
    async fn embed(&self, texts: &[&str]) -> Result<Vectors>;

    /// Names the model, for people and to compare: kind, name and length, without its server and
    /// without keys. Empty where nothing tells the model.
    fn model(&self) -> String {
        String::new()
    }

    /// The counts of it, if there are any.
    fn meter(&self) -> Option<Arc<EmbedderMeter>> {
        None
    }

    /// The part of its budget that is used in the present period, of the limit that is nearest.
    /// None without a budget.
    fn budget_used(&self) -> Option<f64> {
        None
    }

    /// Embeds a word, once, to see whether it can: a failure that may pass is not waited out.
    async fn probe(&self) -> Result<()> {
        self.embed(&[ANY_TEXT]).await.map(drop)
    }

    /// Length of its vectors. Embeds a text to find out, unless it is known.
    async fn dimension(&self) -> Result<usize> {
        Ok(self.embed(&[ANY_TEXT]).await?.dimension)
    }
}

/// A text that every model takes.
const ANY_TEXT: &str = ".";

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

/// Makes the embedder that the pipeline file calls `name`. Asks nothing of the provider yet.
///
/// # Errors
/// `Config` if the settings cannot be used.
pub fn open(name: &str, settings: &dyn EmbedderKind) -> Result<Arc<dyn Embedder>> {
    settings.open(name, None)
}

/// As `open`, for one tenant within its budget. It shares neither requests nor memory of texts with
/// other tenants.
///
/// # Errors
/// As [`open`].
pub fn open_within(name: &str, settings: &dyn EmbedderKind, allowed: &Budget) -> Result<Arc<dyn Embedder>> {
    settings.open(name, Some(Account::new(name, allowed)))
}

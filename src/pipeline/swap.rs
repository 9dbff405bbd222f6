//! `Swap`: other handlers for a pipeline that runs. They take the batches from the next one on;
//! those before end with the old.

use tokio::sync::{mpsc, oneshot};

use super::Stage;
use crate::error::{Error, Fault, Result};

/// Handlers that are to take over.
pub(super) struct Swap {
    pub(super) stages: Vec<Stage>,
    /// Told once every batch of the handlers before has come through them.
    pub(super) done: oneshot::Sender<()>,
}

/// Hands other handlers to a pipeline that runs.
#[derive(Clone, Debug)]
pub struct Swapper(mpsc::Sender<Swap>);

impl Swapper {
    pub(super) fn new() -> (Self, mpsc::Receiver<Swap>) {
        let (swaps, wanted) = mpsc::channel(1);
        (Self(swaps), wanted)
    }

    /// Has `stages`, which have the names and the order of those before, take the batches from the
    /// next one on. Returns once all batches of the handlers before have come through them.
    ///
    /// # Errors
    /// `Transient` if the pipeline ends before that.
    pub async fn swap(&self, stages: Vec<Stage>) -> Result<()> {
        let ends = || Error::new(Fault::Transient, "the pipeline ended before its handlers were swapped");
        let (done, through) = oneshot::channel();
        self.0.send(Swap { stages, done }).await.map_err(|_| ends())?;
        through.await.map_err(|_| ends())
    }
}

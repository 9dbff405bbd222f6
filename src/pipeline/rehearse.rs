//! `rehearse`: a batch through the stages and no further, to see what would become of it.

use std::sync::Arc;

use super::handle::handle;
use super::progress::Ticket;
use super::room::Room;
use super::{Stage, Status};
use crate::error::Result;
use crate::event::Batch;
use crate::meter::PipelineMeter;
use crate::sink::DeadLetter;

/// The events of the batch that would be set aside: those that handlers refuse or fail on, those of
/// which an embedder refuses a text, and those whose points a sink has no place for. Nothing is
/// written. What fails in passing is waited for, without end.
///
/// # Errors
/// The error that would stop the pipeline.
pub async fn rehearse(stages: Arc<[Stage]>, batch: Batch) -> Result<Vec<DeadLetter>> {
    let room = Arc::new(Room::default());
    let meter = PipelineMeter::new([], []);
    let status = Arc::new(Status::new("", stages.iter().map(|stage| stage.name.as_str()), meter));
    let handled = handle(stages, status, Arc::new(batch), Ticket::default(), 0, room.enter()).await?;
    Ok(handled.made.into_iter().flat_map(|made| made.rejected).collect())
}

//! `deliver`: the task that owns a sink, gathers what is waiting into one write, and reports what
//! is durable.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::fork;
use super::inbox::{Inbox, Next};
use super::outflow::{Outflow, Route};
use super::writer::{Durable, Shared, Writer};
use super::{Outlet, SinkStatus};
use crate::error::{Error, Result};
use crate::meter::SinkMeter;

/// Writes batch after batch until the inbox is closed. Transient failures are repeated for as long
/// as they last; events whose commands the sink refuses go to whoever keeps the rejected events of
/// their handler.
pub(super) async fn deliver(
    outlet: Outlet,
    mut inbox: Inbox,
    durable: mpsc::Sender<Durable>,
    index: usize,
    shared: Arc<Shared>,
) -> Result<()> {
    let Outlet { name, sink, commands_of, rejected_of, .. } = outlet;
    let place = |error: Error| error.at(format!("sink `{name}`"));
    let unknown = SinkStatus::new(Arc::new(SinkMeter::new(&name)));
    let status = shared.status.sinks.get(index).unwrap_or(&unknown);
    let mut writer = Writer::new(sink, &name, status);
    let Some(begun) = inbox.begun().await else { return writer.close().await.map_err(place) };
    let held = writer.resume(&begun.origin).await.map_err(place)?;
    fork::refuse_older(held, begun.held_before).map_err(place)?;
    let route = Route { commands_of: &commands_of, rejected_of: &rejected_of, held };
    let mut outflow = Outflow::new(writer, &route, &shared, durable);
    loop {
        tokio::select! {
            biased;
            // 1. What is written frees memory, and a hand.
            Some(written) = outflow.next() => outflow.settle(written).await.map_err(place)?,
            // 2. What waits, while there is a hand for it.
            next = inbox.next(), if !outflow.idle.is_empty() => match next {
                Next::Letter(parcel) => outflow.keep(parcel).await.map_err(place)?,
                Next::Batches(gathered) => outflow.start(gathered).await.map_err(place)?,
                Next::End => break,
            },
        }
    }
    outflow.finish().await.map_err(place)
}

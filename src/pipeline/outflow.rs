//! `Outflow`: the writes that are under way into a sink, one after the other or, where it takes
//! that, two at once.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesOrdered;
use tokio::sync::mpsc;

use super::dead_letter::Parcel;
use super::fork;
use super::handle::Handled;
use super::narrow::{Asked, Narrow};
use super::overlap::Touched;
use super::tolerance::Window;
use super::writer::{Durable, Shared, Writer};
use crate::error::{Error, Fault, Result};
use crate::lsn::Position;
use crate::sabotage::Breakage;
use crate::sink::{DeadLetter, Delivery, Held};

/// Writes under way at once, where a sink takes several: while a server works on the last requests
/// of one, the next is prepared and sent.
const HANDS: usize = 2;

/// The part of the stream that flows into a sink.
pub(super) struct Route<'a> {
    pub(super) commands_of: &'a [usize],
    pub(super) rejected_of: &'a [usize],
    /// The last event that the sink held when the pipeline began.
    pub(super) held: Option<Held>,
}

/// Everything that is on its way into a sink.
pub(super) struct Outflow<'a> {
    route: &'a Route<'a>,
    shared: &'a Shared,
    durable: mpsc::Sender<Durable>,
    /// The events of each stage that were rejected or refused, as far as the sink has come.
    windows: Vec<Window>,
    hands: usize,
    /// Hands with nothing to do.
    pub(super) idle: Vec<Writer<'a>>,
    /// They come out in the order in which they were begun.
    under_way: UnderWay<'a>,
    /// Those that ended while an earlier one was narrowed.
    ended: VecDeque<Written<'a>>,
    /// Points and groups that each write changes, in the order in which the writes were begun. A
    /// write stands here until it is settled.
    touched: VecDeque<Touched>,
    begun: u64,
}

type UnderWay<'a> = FuturesOrdered<BoxFuture<'a, Written<'a>>>;

/// A write that has ended.
pub(super) struct Written<'a> {
    writer: Writer<'a>,
    gathered: Vec<Arc<Handled>>,
    commands: usize,
    letters: usize,
    outcome: Result<()>,
}

impl<'a> Outflow<'a> {
    pub(super) fn new(
        writer: Writer<'a>,
        route: &'a Route<'a>,
        shared: &'a Shared,
        durable: mpsc::Sender<Durable>,
    ) -> Self {
        let mut idle: Vec<Writer<'_>> = (1..HANDS).map_while(|_| writer.another()).collect();
        idle.push(writer);
        Self {
            route,
            shared,
            durable,
            windows: shared.status.stages.iter().map(|_| Window::default()).collect(),
            hands: idle.len(),
            idle,
            under_way: FuturesOrdered::new(),
            ended: VecDeque::new(),
            touched: VecDeque::new(),
            begun: 0,
        }
    }

    /// Begins to write what was gathered, once nothing is under way that touches the same.
    pub(super) async fn start(&mut self, mut gathered: Vec<Arc<Handled>>) -> Result<()> {
        if Breakage::ReorderedResults.is_on() {
            gathered.reverse();
        }
        gathered.iter().try_for_each(|handled| fork::refuse(self.route.held, &handled.commits))?;
        let touched = match self.hands {
            1 => Touched::default(),
            _ => Touched::by(self.route.asked(&gathered).map(|asked| asked.command)),
        };
        while !self.touched.iter().all(|other| touched.is_apart_from(other)) {
            self.settle_next().await?;
        }
        let writer = self.idle.pop().ok_or_else(|| Error::new(Fault::Bug, "no hand is free for a write"))?;
        self.begun += 1;
        let dropped = Breakage::DroppedBatch.is_on() && self.begun.is_multiple_of(3);
        self.touched.push_back(touched);
        self.under_way.push_back(write(writer, self.route, gathered, dropped).boxed());
        Ok(())
    }

    /// The next write that has ended, in the order in which they were begun. None if there is none
    /// to wait for.
    pub(super) async fn next(&mut self) -> Option<Written<'a>> {
        match self.ended.pop_front() {
            Some(written) => Some(written),
            None => self.under_way.next().await,
        }
    }

    /// Reports what a write has made durable. Of what was refused, sets the events aside that are
    /// to blame.
    pub(super) async fn settle(&mut self, written: Written<'a>) -> Result<()> {
        let Written { mut writer, gathered, commands, letters, outcome } = written;
        self.count(&gathered);
        match outcome {
            Err(error) if error.misdeed().is_some() && letters == 0 && commands > 0 => {
                let through = gathered.last().map(|handled| handled.through).unwrap_or_default();
                let asked = self.route.in_order(&gathered);
                let mut narrow = Narrow { writer: &mut writer, windows: &mut self.windows, shared: self.shared };
                beside(&mut self.under_way, &mut self.ended, narrow.run(&asked, through, error)).await?;
            }
            written => written?,
        }
        self.touched.pop_front();
        writer.status.wrote(commands + letters);
        let status = writer.status;
        self.idle.push(writer);
        for handled in gathered {
            status.meter.waiting.less(handled.commands_of(self.route.commands_of));
            // The loop is gone only when the pipeline is ending; what is not reported comes again.
            let _ = self.durable.send(Durable { ticket: handled.ticket }).await;
        }
        Ok(())
    }

    async fn settle_next(&mut self) -> Result<()> {
        match self.next().await {
            Some(written) => self.settle(written).await,
            None => Ok(()),
        }
    }

    async fn settle_all(&mut self) -> Result<()> {
        while let Some(written) = self.next().await {
            self.settle(written).await?;
        }
        Ok(())
    }

    /// Writes an event that another sink refused.
    pub(super) async fn keep(&mut self, Parcel { letter, kept }: Parcel) -> Result<()> {
        self.settle_all().await?;
        let through = Held { position: letter.position, ..Held::default() };
        let alone = Delivery { through, rejected: vec![&letter], ..Delivery::default() };
        if let Some(writer) = self.idle.first_mut() {
            writer.write(&alone).await?;
            writer.status.wrote(1);
            // Whoever waited is gone only when the pipeline is ending.
            let _ = kept.send(());
        }
        Ok(())
    }

    /// Lets everything end, and closes the sink.
    pub(super) async fn finish(mut self) -> Result<()> {
        self.settle_all().await?;
        for writer in self.idle {
            writer.close().await?;
        }
        Ok(())
    }

    /// Counts what handlers rejected before the sink comes to refuse what they made of others. More
    /// than is tolerated ends the pipeline elsewhere.
    fn count(&mut self, gathered: &[Arc<Handled>]) {
        for handled in gathered {
            for &index in self.route.commands_of {
                let (Some(stage), Some(made)) = (handled.stages.get(index), handled.made.get(index)) else {
                    continue;
                };
                let Some(window) = self.windows.get_mut(index) else { continue };
                for event in handled.counted(made) {
                    let _ = stage.tolerance.allows(window, event);
                }
            }
        }
    }
}

/// Does `work` while the writes under way go on. What it waits for may be in their hands: a place
/// among the requests to the server.
async fn beside<'a, T>(
    under_way: &mut UnderWay<'a>,
    ended: &mut VecDeque<Written<'a>>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(written) = under_way.next() => ended.push_back(written),
        }
    }
}

/// Writes all that the sink does not hold yet.
async fn write<'a>(
    mut writer: Writer<'a>,
    route: &'a Route<'a>,
    gathered: Vec<Arc<Handled>>,
    dropped: bool,
) -> Written<'a> {
    let through = gathered.last().map(|handled| handled.through).unwrap_or_default();
    let commands: Vec<_> = route.in_order(&gathered).iter().map(|asked| asked.command).collect();
    let rejected: Vec<_> = route.rejected(&gathered).collect();
    let (asked, letters) = (commands.len(), rejected.len());
    let outcome = if route.is_new(through.position) && !dropped {
        writer.write(&Delivery { commands, rejected, through }).await
    } else {
        Ok(())
    };
    Written { writer, gathered, commands: asked, letters, outcome }
}

impl Route<'_> {
    fn is_new(&self, position: Position) -> bool {
        self.held.is_none_or(|held| position > held.position)
    }

    fn asked<'b>(&self, gathered: &'b [Arc<Handled>]) -> impl Iterator<Item = Asked<'b>> {
        gathered.iter().flat_map(move |handled| {
            self.commands_of.iter().flat_map(move |&stage| {
                let commands = handled.made.get(stage).map(|made| made.commands.as_slice()).unwrap_or_default();
                let new = commands.iter().filter(move |command| self.is_new(command.position));
                new.map(move |command| Asked { command, stage, handled })
            })
        })
    }

    /// In commit order, whichever handler a command is from.
    fn in_order<'b>(&self, gathered: &'b [Arc<Handled>]) -> Vec<Asked<'b>> {
        let mut asked: Vec<_> = self.asked(gathered).collect();
        if self.commands_of.len() > 1 {
            asked.sort_by_key(|asked| asked.command.position);
        }
        asked
    }

    fn rejected<'b>(&self, gathered: &'b [Arc<Handled>]) -> impl Iterator<Item = &'b DeadLetter> {
        let made =
            gathered.iter().flat_map(|handled| self.rejected_of.iter().filter_map(|&stage| handled.made.get(stage)));
        made.flat_map(|made| &made.rejected).filter(|letter| self.is_new(letter.position))
    }
}

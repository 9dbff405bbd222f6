//! `watch`: keeps an eye on the slot, and a heart beating in the log, in a session of its own.
//!
//! A slot that nothing is confirmed for makes the server keep its log, until the disk is full or
//! the slot is invalidated. The tables are looked at, too: what is altered there must neither make
//! Postgres refuse the application's writes, nor go past the pipeline.
//!
//! The heartbeat is a transactional logical message: with it there is something to confirm also
//! where only tables are written that nobody publishes. What stands in the way otherwise is said
//! early, with who must act.
//!
//! A server that shuts down ends this session first, and the stream last: only once all that it has
//! sent is confirmed, which may be never, since the sinks may lie on that very server. So the end
//! of this session is what tells the stream to let go.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::Client;
use tracing::Instrument;

use super::bond;
use super::copy::PREFIX;
use super::feedback::Progress;
use super::loss::Loss;
use super::publication::{self, Published};
use super::settings::{Settings, literal};
use super::setup;
use super::slot_look::{SlotLook, Trouble};
use super::tables::{self, Table};
use super::writes::{Judged, Writes};
use crate::error::{Error, Fault, Result};
use crate::lsn::Lsn;
use crate::postgres::{failed, sqlstate};

/// The time between two looks at slot and tables, also where no heart beats: as long as that an
/// application's writes may fail, if a table was altered so that Postgres refuses them.
const LOOK: Duration = Duration::from_secs(5);
/// Time between two checks that the session still stands: a server that shuts down ends it, but not
/// the stream.
const GLANCE: Duration = Duration::from_secs(1);
/// The SQLSTATE that a server answers while it starts or shuts down.
const CANNOT_CONNECT_NOW: &str = "57P03";
/// The shortest time between two looks at the tables where a heart beats faster.
const ALTERED: Duration = Duration::from_millis(4_500);
/// Time for which the same trouble is not told again.
const AGAIN: Duration = Duration::from_secs(600);

/// The watch over a slot that is being read. Ends when it is dropped.
pub(super) struct Watch {
    task: JoinSet<Error>,
}

impl Watch {
    /// Watches the slot in this turn.
    pub(super) fn start(settings: Arc<Settings>, tables: Arc<[Table]>, progress: Arc<Progress>, turn: i64) -> Self {
        let mut task = JoinSet::new();
        task.spawn(watch(settings, tables, progress, turn).in_current_span());
        Self { task }
    }

    /// Returns the error for which the stream has to end, once it has to. Safe to cancel.
    pub(super) async fn ended(&mut self) -> Error {
        match self.task.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(panic)) => Error::new(Fault::Bug, "the task that watches the slot failed").because(panic),
            None => std::future::pending().await, // told already
        }
    }
}

/// Runs until the stream has to end. A server that cannot be reached is the stream's concern.
async fn watch(settings: Arc<Settings>, tables: Arc<[Table]>, progress: Arc<Progress>, turn: i64) -> Error {
    let mut session = None;
    let mut told = Told::default();
    let mut tables_watch = TablesWatch::default();
    let mut next_look = Instant::now();
    let mut heart = Heart { every: settings.heartbeat, due: next_look };
    let mut alarmed = false;
    let mut noted = Lsn::INVALID;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next_look) => {}
            () = ended(session.as_ref()) => {}
            () = tokio::time::sleep(GLANCE), if alarmed => {}
        }
        let had_session = session.is_some();
        alarmed =
            match look(&settings, &tables, &mut session, &mut heart, (&mut told, &mut tables_watch, &progress)).await {
                Ok(Published::AsStreamed) => {
                    note(&settings.slot, session.as_ref(), turn, progress.held(), &mut noted).await;
                    false
                }
                Ok(Published::Otherwise) => {
                    return Error::new(Fault::Transient, "another process has given the publication other tables");
                }
                Err(error) if Loss::of(&error).is_some() => return error,
                Err(error) => {
                    tracing::debug!(cause = error.chain(), "the slot cannot be looked at now");
                    session = None;
                    let shuts_down = sqlstate(&error) == Some(CANNOT_CONNECT_NOW);
                    if shuts_down {
                        progress.leave();
                    }
                    had_session || shuts_down
                }
            };
        next_look = heart.next_look(Instant::now());
    }
}

/// Notes how far all sinks have come, where that has changed. If it cannot be noted now, the next
/// look does.
async fn note(slot: &str, session: Option<&Client>, turn: i64, held: Lsn, noted: &mut Lsn) {
    if held > *noted
        && let Some(client) = session
        && bond::hold(client, slot, turn, held).await.is_ok()
    {
        *noted = held;
    }
}

/// Returns once the session was ended from outside.
async fn ended(session: Option<&Client>) {
    let Some(session) = session else { return std::future::pending().await };
    while !session.is_closed() {
        tokio::time::sleep(GLANCE).await;
    }
}

async fn look(
    settings: &Settings,
    tables: &[Table],
    session: &mut Option<Client>,
    heart: &mut Heart,
    (told, tables_watch, progress): (&mut Told, &mut TablesWatch, &Progress),
) -> Result<Published> {
    let client = match session {
        Some(client) => client,
        None => {
            let client = setup::session(settings).await?;
            let quiet = "SET synchronous_commit = off";
            client.batch_execute(quiet).await.map_err(|error| failed("cannot set up a session", error))?;
            session.insert(client)
        }
    };
    // The server goes on without a word when a table is taken out.
    let published = publication::verify(client, settings, tables).await?;
    if published != Published::AsStreamed {
        return Ok(published);
    }
    let now = Instant::now();
    if heart.is_due(now) {
        let sql = format!("SELECT pg_logical_emit_message(true, '{PREFIX}', {})", literal("heartbeat"));
        client.batch_execute(&sql).await.map_err(|error| failed("cannot write a heartbeat", error))?;
        heart.beat(now);
    }
    tables_watch.look(client, settings, tables).await?;
    let Some(slot) = SlotLook::take(client, settings).await? else { return Ok(published) };
    slot.tell(&settings.meter);
    progress.see(slot.end);
    if let Some(trouble) = slot.trouble(client).await?
        && told.is_new(&trouble, Instant::now())
    {
        let Trouble { what, help } = trouble;
        tracing::warn!(slot = settings.slot, help, "{what}");
    }
    Ok(published)
}

/// The watch over the tables: alterations since they were published, and those of them that were
/// told.
#[derive(Default)]
struct TablesWatch {
    looked: Option<Instant>,
    /// The last trouble with writes, and when it was told.
    told: Option<(String, Instant)>,
    /// Tables that the next set-up finds.
    new: Vec<String>,
}

impl TablesWatch {
    async fn look(&mut self, client: &Client, settings: &Settings, tables: &[Table]) -> Result<()> {
        if self.looked.is_some_and(|looked| looked.elapsed() < ALTERED) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let mut writes = Writes::look(client, tables).await?;
        if writes.lack_generated(settings) && publication::publish_generated(client, settings).await? {
            tracing::warn!(
                publication = settings.publication,
                "a table got a generated column, and Postgres refused UPDATE and DELETE on it as long as that was not published: \
                 now it is, and handlers see the generated columns of all tables"
            );
            writes = Writes::look(client, tables).await?;
        }
        match writes.check(settings, Judged::AsItIs) {
            Ok(()) => self.told = None,
            Err(error) => self.tell(&error),
        }
        for table in tables::unfollowed(client, settings, tables).await? {
            if !self.new.contains(&table) {
                tracing::info!(
                    table,
                    "a new table of the source is not followed yet: `pgstream-host setup pipeline.yaml`, or the next \
                     start, takes it up"
                );
                self.new.push(table);
            }
        }
        Ok(())
    }

    fn tell(&mut self, error: &Error) {
        let what = error.chain();
        if self.told.as_ref().is_some_and(|(told, when)| *told == what && when.elapsed() < AGAIN) {
            return;
        }
        let help = error.advice().unwrap_or_default();
        tracing::warn!(help, "a table was altered: {what}");
        self.told = Some((what, Instant::now()));
    }
}

/// The rhythm of heartbeats, with the time at which the next one is due.
struct Heart {
    /// None: never.
    every: Option<Duration>,
    due: Instant,
}

impl Heart {
    fn is_due(&self, now: Instant) -> bool {
        self.every.is_some() && now >= self.due
    }

    fn beat(&mut self, now: Instant) {
        self.due = now + self.every.unwrap_or_default();
    }

    /// Returns the time of the next look after a look at `now`: that of the next heartbeat, or an
    /// earlier one. A heartbeat that is overdue could not be written.
    fn next_look(&self, now: Instant) -> Instant {
        match self.every {
            Some(_) if self.due > now => self.due.min(now + LOOK),
            Some(every) => now + every.min(LOOK),
            None => now + LOOK,
        }
    }
}

/// The trouble that was told last, and the time when it was told.
#[derive(Default)]
struct Told {
    last: Option<(&'static str, Instant)>,
}

impl Told {
    fn is_new(&mut self, trouble: &Trouble, now: Instant) -> bool {
        let known = self.last.is_some_and(|(what, when)| what == trouble.what && now - when < AGAIN);
        if !known {
            self.last = Some((trouble.what, now));
        }
        !known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heart_beats_as_often_as_it_is_told_and_the_slot_is_looked_at_in_between() {
        let start = Instant::now();
        let in_ten_minutes = |every: Option<u64>| {
            let mut heart = Heart { every: every.map(Duration::from_secs), due: start };
            let (mut now, mut looks, mut beats) = (start, 0, 0);
            while now < start + Duration::from_secs(600) {
                looks += 1;
                if heart.is_due(now) {
                    beats += 1;
                    heart.beat(now);
                }
                now = heart.next_look(now);
            }
            (looks, beats)
        };
        assert_eq!(in_ten_minutes(Some(1)), (600, 600));
        assert_eq!(in_ten_minutes(Some(10)), (120, 60));
        assert_eq!(in_ten_minutes(Some(40)), (120, 15));
        assert_eq!(in_ten_minutes(Some(3600)), (120, 1));
        assert_eq!(in_ten_minutes(None), (120, 0));
    }

    #[test]
    fn a_server_that_cannot_be_reached_is_not_asked_without_a_pause() {
        let now = Instant::now();
        for (every, pause) in [(1, 1), (3600, 5)] {
            let overdue = Heart { every: Some(Duration::from_secs(every)), due: now };
            assert_eq!(overdue.next_look(now), now + Duration::from_secs(pause));
        }
    }

    #[test]
    fn the_same_trouble_is_told_once_in_a_while() {
        let trouble = |what| Trouble { what, help: String::new() };
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(told.is_new(&trouble("a"), now));
        assert!(!told.is_new(&trouble("a"), now));
        assert!(told.is_new(&trouble("b"), now), "another trouble");
        assert!(told.is_new(&trouble("b"), now + AGAIN), "still there");
    }
}

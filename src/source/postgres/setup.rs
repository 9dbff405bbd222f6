//! `setup`, `resnapshot` and `teardown`: what must hold on the server before anything can be
//! streamed, and what to make of it.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::OnSlotLost;
use super::bond::{self, Bond, Place};
use super::connection::Connection;
use super::loss::Loss;
use super::publication::{self, Publication, Wanted};
use super::server::Server;
use super::settings::Settings;
use super::slot::{self, Slot};
use super::tables::{self, Table};
use super::writes::{Judged, Writes};
use super::{copy, fed, footing, naming, schema, turn};
use crate::error::Result;
use crate::postgres::{connect, failed, sqlstate};

/// The SQLSTATE of the server where another process has just begun to make the slot.
const DUPLICATE: &str = "42710";
/// Between looks whether another process has made the slot.
const LOOK: Duration = Duration::from_millis(200);
/// Time for which it is not told again that another process is waited for.
const AGAIN: Duration = Duration::from_secs(30);

/// The state of the server for a pipeline, and the notes that are there of it.
pub(super) struct Found {
    pub(super) tables: Vec<Table>,
    pub(super) slot: Option<Slot>,
    pub(super) loss: Option<Loss>,
    place: Place,
    /// As noted when the pipeline last began anew.
    clear_sinks: bool,
    /// Other tables were published for the slot until now.
    other_tables: bool,
    /// The tables that were published before, by their OIDs.
    before: Vec<u32>,
    /// The publication before, if the settings name another one now.
    former_publication: Option<String>,
    writes: Writes,
}

impl Found {
    /// Tells if a new slot is to be made, whatever there is: because it was asked for, or because
    /// changes were lost. At a mere start a loss is an error instead, if the settings want that.
    fn begins_anew(&self, settings: &Settings, occasion: Occasion) -> Result<bool> {
        let wanted = occasion != Occasion::Start;
        match &self.loss {
            Some(loss) if !wanted && settings.on_slot_lost == OnSlotLost::Stop => Err(loss.clone().error()),
            loss => Ok(wanted || loss.is_some()),
        }
    }

    /// Tells if rows that are there are to be copied.
    fn copies(&self, settings: &Settings, anew: bool) -> bool {
        settings.copies_first || self.clear_sinks || anew
    }
}

/// The things that a pipeline has on the server once all is made.
pub(super) struct Ready {
    pub(super) tables: Vec<Table>,
    pub(super) place: Place,
    pub(super) bond: Bond,
    /// The steps that were done for it, line by line.
    pub(super) done: Vec<String>,
}

/// The reason why a pipeline is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// It starts: what is missing is made, and after a loss what the settings say.
    Start,
    /// Its sinks lack what the slot has confirmed, and the settings want them filled again.
    SinksLack,
    /// Somebody has typed `resnapshot`.
    Asked,
}

/// Makes publication and slot as far as they are missing. Unless it is a mere start, and after a
/// loss if the settings say so, makes a new slot in place of the one that is there, and notes that
/// the sinks are to be cleared and all rows copied.
pub(super) async fn setup(client: &Client, settings: &Settings, occasion: Occasion) -> Result<Ready> {
    let mut told: Option<Instant> = None;
    loop {
        let found = preflight(client, settings).await?;
        let from_scratch = found.begins_anew(settings, occasion)?;
        if let Some(loss) = found.loss.as_ref().filter(|_| occasion == Occasion::Start) {
            let (slot, cause) = (&settings.slot, loss.clone().error().chain());
            tracing::warn!(slot, cause, "changes were lost; the sinks are cleared and all rows copied again");
        }
        if from_scratch || found.slot.is_none() {
            // A slot that nobody can read would keep log for ever.
            Connection::open(settings).await?.check().await?;
        }
        bond::ensure(client, settings).await?;
        copy::ensure(client, settings, found.copies(settings, from_scratch)).await?;
        naming::ensure(client, settings, &found.tables).await?;
        // Boxed, as it is the larger part of all that a start waits for.
        let noting = Box::pin(note(client, settings, occasion));
        let Some(noted) = turn::take(client, settings, noting).await? else {
            if told.is_none_or(|at| at.elapsed() >= AGAIN) {
                let by = slot::in_use(client, &settings.slot).await.chain();
                tracing::info!(slot = settings.slot, by, "waits for another process that makes the slot");
                told = Some(Instant::now());
            }
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let Noted { tables, bond, mut done, slot_is_there } = noted;
        // Behind what was written just now: who sets the pipeline up from here on is another process.
        let place = Place::ask(client).await?;
        if slot_is_there {
            done.push(format!("slot `{}` is there", settings.slot));
            return Ok(Ready { tables, place, bond, done });
        }
        // Not within the turn: it may take as long as other people's transactions. Who comes meanwhile sees a slot in the making.
        match slot::create(client, settings).await {
            Ok(created) => done.push(created),
            Err(error) if sqlstate(&error) == Some(DUPLICATE) => continue,
            Err(error) => return Err(error),
        }
        let bond = bond::made(client, settings).await?;
        return Ok(Ready { tables, place, bond, done });
    }
}

/// The notes on a pipeline, taken before its slot is made if there is none yet.
struct Noted {
    tables: Vec<Table>,
    bond: Bond,
    done: Vec<String>,
    slot_is_there: bool,
}

/// Publishes the tables, and notes what is published, in one transaction: it changes for everybody
/// at once. All of it comes before the slot: a slot decodes with the publications of its time, and
/// a crash in between must not leave a slot without a note of the rows before it. None if another
/// process is just making the slot.
async fn note(client: &Client, settings: &Settings, occasion: Occasion) -> Result<Option<Noted>> {
    let found = preflight(client, settings).await?;
    if found.slot.as_ref().is_some_and(Slot::is_in_the_making) {
        return Ok(None);
    }
    let anew = found.begins_anew(settings, occasion)?;
    let copies = found.copies(settings, anew);
    let Found { mut tables, slot, place, other_tables, before, former_publication, writes, .. } = found;
    let (old_slot, slot) = if anew { (slot, None) } else { (None, slot) };
    let mut done = Vec::new();
    if old_slot.as_ref().is_some_and(Slot::is_active) {
        return Err(slot::in_use(client, &settings.slot).await.help("stop the pipeline that uses it first"));
    }
    // What is altered meanwhile is seen by the second look, or waits for the lock that publishing takes.
    writes.warn_of_silent_partitions();
    let wanted = Wanted { tables: &tables, generated: writes.need_generated() };
    done.push(publication::ensure(client, settings, wanted).await?);
    Writes::look(client, &tables).await?.check(settings, Judged::AsItIs)?;
    if other_tables && !anew {
        copy::say_set_up(client).await?;
    }
    // Who types it knows that ids may be others from now on. What happens by itself must not change what users look up.
    let asked = occasion == Occasion::Asked;
    let kept = if asked { &[][..] } else { &before };
    if asked {
        naming::forget(client, &settings.slot).await?;
    }
    done.extend(naming::settle(client, &settings.slot, &mut tables, kept).await?);
    if let Some(former) = former_publication.filter(|_| slot.is_none()) {
        done.push(publication::drop(client, settings, &former).await?);
    }
    if anew {
        bond::cut(client, settings, &place).await?;
    }
    let bond = bond::tie(client, settings, &place, &tables, slot.is_some()).await?;
    copy::withdraw(client, settings, &tables).await?;
    if copies {
        done.extend(copy::plan(client, settings, &tables, slot.is_none()).await?);
    }
    if old_slot.is_some() {
        // No transaction brings it back, so all that may fail comes before. A crash from here on leaves a slot that is gone, which
        // is a loss again.
        done.push(slot::drop(client, &settings.slot).await?);
    }
    Ok(Some(Noted { tables, bond, done, slot_is_there: slot.is_some() }))
}

/// Drops slot and publication, as far as they are ours. Says what it did.
pub(super) async fn teardown(client: &Client, settings: &Settings) -> Result<Vec<String>> {
    if let Some(publication) = Publication::find(client, &settings.publication).await? {
        publication.check_owner(settings)?;
    }
    let mut done = vec![
        slot::drop(client, &settings.slot).await?,
        publication::drop(client, settings, &settings.publication).await?,
    ];
    let bond = Bond::find(client, &settings.slot).await?;
    if let Some(former) = bond.as_ref().and_then(|bond| bond.former_publication(settings)) {
        done.push(publication::drop(client, settings, former).await?);
    }
    copy::forget(client, &settings.slot).await?;
    naming::forget(client, &settings.slot).await?;
    bond::forget(client, &settings.slot).await?;
    fed::forget(client, &settings.slot).await?;
    Ok(done)
}

/// Finds out everything that can be known before the first byte is streamed. Changes nothing.
pub(super) async fn preflight(client: &Client, settings: &Settings) -> Result<Found> {
    let found = look(client, settings).await?;
    if found.loss.is_none() {
        return Ok(found);
    }
    // Another host may have made publication, slot and notes while we looked at one after the other: what it made later
    // was seen, and what it made before was not.
    look(client, settings).await
}

async fn look(client: &Client, settings: &Settings) -> Result<Found> {
    let server = Server::ask(client).await?;
    server.check(settings)?;
    let tables = tables::find(client, settings).await?;
    let publication = Publication::find(client, &settings.publication).await?;
    let writes = Writes::look(client, &tables).await?;
    let is_theirs = publication.as_ref().is_some_and(|publication| !publication.is_ours(settings));
    writes.check(settings, if is_theirs { Judged::AsItIs } else { Judged::AsMade })?;
    let place = Place::ask(client).await?;
    let slot = Slot::find(client, &settings.slot).await?;
    let bond = Bond::find(client, &settings.slot).await?;
    if let Some(slot) = &slot {
        slot.check(settings)?;
    }
    if let Some(publication) = &publication {
        publication.check_owner(settings)?;
    }
    let name = &settings.slot;
    let mut loss = bond.as_ref().and_then(|bond| bond.loss(name, &place, slot.as_ref()));
    if let (None, Some(slot)) = (&loss, &slot) {
        let published = bond.as_ref().and_then(Bond::published);
        let otherwise = bond.as_ref().and_then(|bond| bond.other_publication(settings));
        loss = match (slot.loss(name).or(otherwise), &publication, published) {
            (Some(loss), ..) => Some(loss),
            (_, None, _) => Some(Loss::publication_gone(&settings.publication)),
            (_, Some(found), Some(tables)) if found.is_ours(settings) => {
                found.loss(client, &settings.publication, tables).await?
            }
            _ => None,
        };
        loss = loss.or_else(|| bond.as_ref().and_then(|bond| bond.swapped(&tables)));
    }
    if slot.is_none() && loss.is_none() {
        server.check_room_for_slot(settings)?;
    }
    if !slot.as_ref().is_some_and(Slot::is_active) {
        server.check_room_for_sender()?;
    }
    if loss.is_none() {
        let wanted = Wanted { tables: &tables, generated: writes.need_generated() };
        publication::check(publication.as_ref(), server.may_create, settings, wanted)?;
        schema::check(client, settings).await?;
    }
    let clear_sinks = bond.as_ref().is_some_and(|bond| bond.clear_sinks);
    let other_tables = bond.as_ref().is_some_and(|bond| bond.has_other_tables(&tables));
    let former_publication = bond.as_ref().and_then(|bond| bond.former_publication(settings)).map(str::to_owned);
    let before = match bond {
        Some(bond) => bond.tables,
        // A slot of which nothing was noted has points of all tables already.
        None if slot.is_some() => tables.iter().map(|table| table.oid).collect(),
        None => Vec::new(),
    };
    Ok(Found { tables, slot, loss, place, clear_sinks, other_tables, before, former_publication, writes })
}

/// Opens an SQL session for the source.
pub(super) async fn session(settings: &Settings) -> Result<Client> {
    let client = connect(&settings.url, &settings.application_name).await?;
    // What we write down serves this server alone: it must not wait for a standby that is away.
    let local = client.batch_execute(&format!("SET synchronous_commit = local; {}", footing::SESSION)).await;
    local.map_err(|error| failed("cannot set up a session", error))?;
    Ok(client)
}

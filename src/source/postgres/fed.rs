//! `pgstream.sinks`: by what the sinks of a slot were known when they were last fed, and which
//! models made their vectors.
//!
//! Events that were confirmed do not come again. A sink that was made anew, or that is new to the
//! pipeline, would lack them without a word; a sink whose model changed would hold vectors that
//! cannot be compared. So both are refused until somebody asks for a copy of all rows, or says that
//! all is well.

use tokio_postgres::Client;

use super::OnSlotLost;
use super::bond::{self, Bond};
use super::schema;
use super::settings::Settings;
use super::setup::{self, Occasion, Ready};
use super::tables::Table;
use crate::error::{Error, Fault, Result};
use crate::postgres::{ReadRow, failed, sqlstate};
use crate::source::Fed;

const TABLE: &str = "pgstream.sinks";

const CREATE: &str = "
    CREATE TABLE pgstream.sinks (
        slot text NOT NULL,
        sink text NOT NULL,
        incarnation text NOT NULL,
        mark text NOT NULL,
        models text[] NOT NULL,
        changed_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (slot, sink)
    );
    COMMENT ON TABLE pgstream.sinks IS 'pgstream-host: which sinks the slots of pipelines have fed'";

/// A copy of which some rows are made already has brought them to the sink that was there before.
const ALL_ROWS_COME: &str = "
    SELECT count(DISTINCT relation) FROM pgstream.copies
    WHERE slot = $1 AND relation = ANY ($2) AND done_at IS NULL AND error IS NULL AND filter IS NULL AND keys IS NULL
          AND after_key IS NULL";

/// The mark of a sink that is known by its place alone.
static NO_MARK: [String; 1] = [String::new()];

/// A sink as it was written down.
struct Noted {
    sink: String,
    mark: String,
    models: Vec<String>,
}

/// The outcome of comparing the sinks with what is noted of them.
enum Settled {
    /// They are noted as they are now.
    AsTheyAre,
    /// One lacks what the slot has confirmed, for this reason. It is noted as it was, so that the
    /// next start finds the same.
    Lacking(Error),
}

/// Sets the server up for the sinks as they are now. Those that lack rows are filled anew, if the
/// settings want that.
///
/// # Errors
/// As for [`setup::setup`] and [`settle`]; `Environment` for sinks that lack rows.
pub(super) async fn set_up(client: &Client, settings: &Settings) -> Result<Ready> {
    let ready = make(client, settings, Occasion::Start).await?;
    let Settled::Lacking(error) = settle(client, settings, &ready.bond, &ready.tables).await? else { return Ok(ready) };
    if settings.on_slot_lost == OnSlotLost::Stop {
        return Err(error);
    }
    tracing::warn!(cause = error.chain(), "the sinks are cleared and all rows copied again");
    let ready = make(client, settings, Occasion::SinksLack).await?;
    // Of a slot that is new nothing is noted that they could lack.
    settle(client, settings, &ready.bond, &ready.tables).await?;
    Ok(ready)
}

async fn make(client: &Client, settings: &Settings, occasion: Occasion) -> Result<Ready> {
    let ready = setup::setup(client, settings, occasion).await?;
    for step in &ready.done {
        tracing::info!("{step}");
    }
    Ok(ready)
}

/// Compares the sinks with those that the slot has fed, and writes down what they are now. To be
/// called before the slot moves.
///
/// # Errors
/// `Config` if the vectors in one were made by another model; what the server says.
async fn settle(client: &Client, settings: &Settings, bond: &Bond, tables: &[Table]) -> Result<Settled> {
    if settings.fed.is_empty() && !schema::is_there(client, TABLE).await? {
        return Ok(Settled::AsTheyAre);
    }
    let settled = settle_in(client, settings, bond, tables).await;
    match settled {
        // Nothing is lost but the comparison.
        Err(error) if sqlstate(&error) == Some("42501") => {
            let help = error.advice().unwrap_or_default();
            tracing::warn!(help, cause = error.chain(), "the sinks are not compared with those that were fed before");
            Ok(Settled::AsTheyAre)
        }
        settled => settled,
    }
}

async fn settle_in(client: &Client, settings: &Settings, bond: &Bond, tables: &[Table]) -> Result<Settled> {
    schema::ensure(client, settings, TABLE, CREATE).await?;
    let noted = read(client, settings, bond).await?;
    let all_rows_come = all_rows_come(client, settings, tables).await?;
    if let Err(Verdict { lacks, error }) = judge(settings, bond, &noted) {
        if !all_rows_come {
            return if lacks { Ok(Settled::Lacking(error)) } else { Err(error) };
        }
        tracing::info!(cause = error.chain(), "all rows are copied once more, so the sinks are taken as they are");
    }
    let is_new = |fed: &Fed| noted.iter().all(|noted| noted.sink != fed.sink);
    if all_rows_come || settings.fed.iter().any(is_new) {
        bond::accept(client, &settings.slot).await?;
    }
    let unwritable = |error| failed(format!("cannot write to `{TABLE}`"), error);
    let (mut sinks, mut marks, mut models) = (Vec::new(), Vec::new(), Vec::new());
    for fed in &settings.fed {
        let words = fed.marks.as_deref().unwrap_or(&NO_MARK);
        let known = noted.iter().find(|noted| noted.sink == fed.sink && words.contains(&noted.mark));
        let Some(mark) = known.map(|noted| &noted.mark).or(words.first()) else { continue };
        sinks.push(fed.sink.as_str());
        marks.push(mark.as_str());
        models.push(fed.models.join("\n"));
    }
    client
        .execute(
            "WITH gone AS (DELETE FROM pgstream.sinks WHERE slot = $1 AND sink <> ALL ($3::text[]))
             INSERT INTO pgstream.sinks AS s (slot, incarnation, sink, mark, models)
             SELECT $1, $2, t.sink, t.mark, coalesce(string_to_array(nullif(t.models, ''), E'\\n'), '{}')
             FROM unnest($3::text[], $4::text[], $5::text[]) AS t (sink, mark, models)
             ON CONFLICT (slot, sink) DO UPDATE SET incarnation = excluded.incarnation, mark = excluded.mark,
                 models = excluded.models, changed_at = now()",
            &[&settings.slot, &bond.incarnation, &sinks, &marks, &models],
        )
        .await
        .map(|_| Settled::AsTheyAre)
        .map_err(unwritable)
}

/// Compares, and changes nothing.
pub(super) async fn check(client: &Client, settings: &Settings, bond: &Bond, tables: &[Table]) -> Result<()> {
    if !schema::is_there(client, TABLE).await? {
        return Ok(());
    }
    let noted = match read(client, settings, bond).await {
        // `run` warns of it.
        Err(error) if sqlstate(&error) == Some("42501") => return Ok(()),
        noted => noted?,
    };
    match judge(settings, bond, &noted) {
        Err(_) if all_rows_come(client, settings, tables).await? => Ok(()),
        Err(Verdict { lacks: true, error }) if settings.on_slot_lost == OnSlotLost::Resnapshot => {
            tracing::warn!(cause = error.chain(), "the next start clears the sinks and copies all rows again");
            Ok(())
        }
        judged => judged.map_err(|verdict| verdict.error),
    }
}

/// Takes all sinks of the slot as they are from now on.
pub(super) async fn forget(client: &Client, slot: &str) -> Result<()> {
    if !schema::is_there(client, TABLE).await? {
        return Ok(());
    }
    let forgotten = client.execute("DELETE FROM pgstream.sinks WHERE slot = $1", &[&slot]).await;
    forgotten.map(drop).map_err(|error| failed(format!("cannot write to `{TABLE}`"), error))
}

async fn read(client: &Client, settings: &Settings, bond: &Bond) -> Result<Vec<Noted>> {
    let sql = "SELECT sink, mark, models FROM pgstream.sinks WHERE slot = $1 AND incarnation = $2";
    let rows = client.query(sql, &[&settings.slot, &bond.incarnation]).await;
    let rows = rows.map_err(|error| failed(format!("cannot read `{TABLE}`"), error))?;
    rows.iter().map(|row| Ok(Noted { sink: row.read(0)?, mark: row.read(1)?, models: row.read(2)? })).collect()
}

/// The reason why a sink cannot be taken as it is.
struct Verdict {
    /// It lacks rows; otherwise what it holds is wrong.
    lacks: bool,
    error: Error,
}

fn judge(settings: &Settings, bond: &Bond, noted: &[Noted]) -> Result<(), Verdict> {
    let lacks = |error| Verdict { lacks: true, error };
    // The slot is new, or of a version that wrote nothing down; or all rows come after the sinks are cleared.
    if noted.is_empty() || bond.clear_sinks {
        return Ok(());
    }
    for fed in &settings.fed {
        match noted.iter().find(|noted| noted.sink == fed.sink) {
            // A file may be read for what comes from now on.
            None if fed.marks.is_none() => {}
            None if settings.copies_first => return Err(lacks(newcomer(fed))),
            None => {
                tracing::info!(sink = fed.sink, "the sink is new to the pipeline: it gets what changes from now on")
            }
            Some(noted) if fed.is_other_than(std::slice::from_ref(&noted.mark)) => return Err(lacks(made_anew(fed))),
            Some(noted) if !fed.goes_with(&noted.models) => {
                return Err(Verdict { lacks: false, error: other_model(fed, noted) });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

async fn all_rows_come(client: &Client, settings: &Settings, tables: &[Table]) -> Result<bool> {
    if !schema::is_there(client, "pgstream.copies").await? {
        return Ok(false);
    }
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let row = client.query_one(ALL_ROWS_COME, &[&settings.slot, &oids]).await;
    let copies: i64 = row.map_err(|error| failed("cannot read `pgstream.copies`", error))?.read(0)?;
    Ok(usize::try_from(copies).is_ok_and(|copies| copies >= oids.len()))
}

const ACCEPT: &str = "`pgstream-host setup <pipeline file> --accept-sinks`";

const BRING: &str = "`pgstream-host backfill <pipeline file> --detach` and then `run` copies all rows once more; \
`pgstream-host resnapshot <pipeline file>` clears all sinks of the pipeline first";

fn made_anew(fed: &Fed) -> Error {
    let what = format!("sink `{}` is not the one that the pipeline has filled", fed.sink);
    Error::new(Fault::Environment, what)
        .because("what it writes to was made anew, or is another one: rows from before are not in it, and do not come by themselves")
        .help(format!("{BRING}. If all rows are in it: {ACCEPT}"))
}

fn newcomer(fed: &Fed) -> Error {
    let what = format!("sink `{}` is new to the pipeline, which has copied all rows to the others already", fed.sink);
    Error::new(Fault::Environment, what)
        .because("rows from before are not in it, and do not come by themselves")
        .help(format!("{BRING}. If they are in it, or not wanted: {ACCEPT}"))
}

fn other_model(fed: &Fed, noted: &Noted) -> Error {
    fed.other_model(&noted.models).help(format!(
        "vectors of two models cannot be compared. {BRING}. If it is the same model under another name: {ACCEPT}"
    ))
}

//! The publication: which tables' changes the server sends. Ours is marked by its comment, and only
//! ours is changed.

use tokio_postgres::Client;

use super::bond::Bond;
use super::loss::Loss;
use super::settings::{Settings, literal, quoted};
use super::tables::Table;
use crate::error::{Error, Fault, Result};
use crate::postgres::{ReadRow, failed, first_column, is_trusted};
use crate::printable::printable;

const UNREADABLE: &str = "cannot read the publication";
/// A comment that begins so is ours, and ends with the pipeline's name.
const MARK: &str = "pgstream-host: pipeline ";
const OPTIONS: &str = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true";
/// Of Postgres 18 and later.
const GENERATED: &str = ", publish_generated_columns = stored";

/// A publication as it stands on the server.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    comment: Option<String>,
    complete: bool,
    /// Stored generated columns are published.
    generated: bool,
    all_tables: bool,
    /// OIDs of what is published, and of what was put into it by name.
    tables: Vec<u32>,
    named: Vec<u32>,
    /// Schemas that were put into it.
    schemas: Vec<String>,
}

/// The content that a publication is to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) tables: &'a [Table],
    /// Stored generated columns, too.
    pub(super) generated: bool,
}

impl Publication {
    pub(super) async fn find(client: &Client, name: &str) -> Result<Option<Self>> {
        // Anybody who may make publications can give his own our comment.
        let sql = format!(
            "SELECT CASE WHEN {} THEN obj_description(p.oid, 'pg_publication') END,
                    pubinsert AND pubupdate AND pubdelete AND pubtruncate AND pubviaroot,
                    coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 's', puballtables,
                    ARRAY(SELECT prrelid FROM pg_publication_rel WHERE prpubid = p.oid), p.oid,
                    to_regclass('pg_catalog.pg_publication_namespace') IS NOT NULL
             FROM pg_publication p WHERE pubname = $1",
            is_trusted("pubowner")
        );
        let row = client.query_opt(&sql, &[&name]).await.map_err(|error| failed(UNREADABLE, error))?;
        let Some(row) = row else { return Ok(None) };
        let tables = client
            .query(
                "SELECT c.oid FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname
                 JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename WHERE p.pubname = $1",
                &[&name],
            )
            .await
            .map_err(|error| failed(UNREADABLE, error))?;
        let tables: Vec<u32> = first_column(&tables)?;
        let schemas = match row.read(6)? {
            true => {
                let sql =
                    "SELECT n.nspname::text FROM pg_publication_namespace p JOIN pg_namespace n ON n.oid = p.pnnspid
                           WHERE p.pnpubid = $1";
                client.query(sql, &[&row.read::<_, u32>(5)?]).await.map_err(|error| failed(UNREADABLE, error))?
            }
            false => Vec::new(), // before Postgres 15
        };
        Ok(Some(Self {
            comment: row.read(0)?,
            complete: row.read(1)?,
            generated: row.read(2)?,
            all_tables: row.read(3)?,
            named: row.read(4)?,
            schemas: first_column(&schemas)?,
            tables,
        }))
    }

    /// The pipeline for which we made it.
    fn owner(&self) -> Option<&str> {
        self.comment.as_deref()?.strip_prefix(MARK)
    }

    /// True if stored generated columns are sent with the others.
    pub(super) fn sends_generated(&self) -> bool {
        self.generated
    }

    /// True if we made it for this pipeline.
    pub(super) fn is_ours(&self, settings: &Settings) -> bool {
        self.owner() == Some(settings.pipeline.as_str())
    }

    /// # Errors
    /// `Config` if we made it for another pipeline: each would give it its own tables.
    pub(super) fn check_owner(&self, settings: &Settings) -> Result<()> {
        match self.owner() {
            Some(owner) if owner != settings.pipeline => {
                let name = &settings.publication;
                let mark = literal(&format!("{MARK}{}", settings.pipeline));
                Err(Error::new(Fault::Config, format!("publication `{name}` is that of pipeline `{owner}`")).help(format!(
                    "give the pipeline another `name`, or name another `slot` and `publication` in the source; if `{}` was \
                     the name of this pipeline before: COMMENT ON PUBLICATION {} IS {mark};",
                    printable(owner),
                    quoted(name)
                )))
            }
            _ => Ok(()),
        }
    }

    /// Tells if all is published that is wanted, and no other table if the publication is ours. One
    /// of somebody else may hold other tables, too: their changes are not read.
    pub(super) fn fits(&self, settings: &Settings, wanted: Wanted<'_>) -> bool {
        let Wanted { tables, generated } = wanted;
        let more = self.is_ours(settings) && self.tables.len() > tables.len();
        self.suits(generated) && !more && tables.iter().all(|table| self.tables.contains(&table.oid))
    }

    fn suits(&self, generated: bool) -> bool {
        self.complete && (self.generated || !generated)
    }

    /// Returns a loss if the publication no longer sends all changes of these tables, which were to
    /// be published: somebody has taken some of them out since, or has altered its options.
    pub(super) async fn loss(&self, client: &Client, name: &str, tables: &[u32]) -> Result<Option<Loss>> {
        // A table that was dropped has no changes any more. Nor is one amiss that was dropped between the two questions.
        let there = existing(client, tables).await?;
        let intact = self.complete && there.iter().all(|oid| self.tables.contains(oid));
        Ok((!intact).then(|| Loss::publication_changed(name)))
    }

    /// SQL that gives a publication of somebody else what it lacks, and takes nothing away.
    /// Postgres refuses other forms, depending on what the publication is for.
    fn mend(&self, name: &str, wanted: Wanted<'_>) -> Vec<String> {
        let held = |table: &Table| {
            self.all_tables
                || self.named.contains(&table.oid)
                || self.schemas.contains(&table.schema)
                || self.tables.contains(&table.oid)
        };
        let missing: Vec<Table> = wanted.tables.iter().filter(|table| !held(table)).cloned().collect();
        let mut lines = Vec::new();
        if !missing.is_empty() {
            lines.push(format!("ALTER PUBLICATION {} ADD TABLE {};", quoted(name), list(&missing)));
        }
        if !self.suits(wanted.generated) {
            lines.push(set_options(name, wanted.generated || self.generated));
        }
        if lines.is_empty() {
            // It publishes a partition's changes as those of the partitioned table.
            lines.push("name the partitioned table in `tables`, not its partitions".to_owned());
        }
        lines
    }
}

/// Those of these OIDs whose tables are there.
async fn existing(client: &Client, oids: &[u32]) -> Result<Vec<u32>> {
    let there = client.query("SELECT oid FROM pg_class WHERE oid = ANY ($1)", &[&oids]).await;
    first_column(&there.map_err(|error| failed(UNREADABLE, error))?)
}

/// Checks that a publication could be made, or that the one that is there can be used.
pub(super) fn check(
    found: Option<&Publication>,
    may_create: bool,
    settings: &Settings,
    wanted: Wanted<'_>,
) -> Result<()> {
    let name = &settings.publication;
    match found {
        Some(found) if found.is_ours(settings) || found.fits(settings, wanted) => Ok(()),
        Some(found) => {
            let error = format!(
                "publication `{name}` does not publish all that the source needs, and was not made by pgstream-host"
            );
            let mend = found.mend(name, wanted).join("\n");
            Err(Error::new(Fault::Config, error).help(format!("{mend}\nor name another `publication` in the source")))
        }
        None if !may_create || wanted.tables.iter().any(|table| !table.owned) => {
            let what = format!("user `{}` may not create publication `{name}`", settings.url.user);
            Err(Error::new(Fault::Environment, what)
                .because("it takes the right CREATE on the database, and to own every table of it")
                .help(format!("let the tables' owner run, before the slot is made:\n{}", create(name, wanted))))
        }
        None => Ok(()),
    }
}

/// Makes the publication, or gives ours the tables of the source, in the transaction of the caller.
/// Says what it did.
pub(super) async fn ensure(client: &Client, settings: &Settings, wanted: Wanted<'_>) -> Result<String> {
    let name = &settings.publication;
    match Publication::find(client, name).await? {
        Some(found) if found.fits(settings, wanted) => Ok(format!("publication `{name}` is there")),
        Some(found) => {
            // What is published beyond need may be in the sinks by now, and is not taken back.
            let wanted = Wanted { generated: wanted.generated || found.generated, ..wanted };
            client
                .batch_execute(&alter(name, wanted).join(" "))
                .await
                .map_err(|error| failed(format!("cannot alter publication `{name}`"), error))?;
            Ok(format!("gave publication `{name}` the tables of the source"))
        }
        None => {
            let comment = literal(&format!("{MARK}{}", settings.pipeline));
            let sql = format!("{} COMMENT ON PUBLICATION {} IS {comment};", create(name, wanted), quoted(name));
            client
                .batch_execute(&sql)
                .await
                .map_err(|error| failed(format!("cannot create publication `{name}`"), error))?;
            Ok(format!("created publication `{name}`"))
        }
    }
}

/// Publishes stored generated columns from now on, if the publication is ours. Answers whether it
/// is.
pub(super) async fn publish_generated(client: &Client, settings: &Settings) -> Result<bool> {
    let name = &settings.publication;
    match Publication::find(client, name).await? {
        Some(found) if found.is_ours(settings) => {
            let altered = client.batch_execute(&set_options(name, true)).await;
            altered.map(|()| true).map_err(|error| failed(format!("cannot alter publication `{name}`"), error))
        }
        _ => Ok(false),
    }
}

/// Drops the publication `name` if it is ours. Says what it did.
pub(super) async fn drop(client: &Client, settings: &Settings, name: &str) -> Result<String> {
    match Publication::find(client, name).await? {
        None => Ok(format!("publication `{name}` is not there")),
        Some(found) if !found.is_ours(settings) => {
            Ok(format!("left publication `{name}`, which pgstream-host did not make"))
        }
        Some(_) => {
            let sql = format!("DROP PUBLICATION {}", quoted(name));
            client
                .batch_execute(&sql)
                .await
                .map_err(|error| failed(format!("cannot drop publication `{name}`"), error))?;
            Ok(format!("dropped publication `{name}`"))
        }
    }
}

/// The state of the publication, compared with the tables of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    AsStreamed,
    /// Another process of the pipeline has set it up with other tables. Nothing is lost, but all is
    /// to be set up again.
    Otherwise,
}

/// Checks before and during each stream that what is streamed is still published, and still what
/// the source names: Postgres 18 only warns of the former, and knows nothing of the latter.
///
/// # Errors
/// A `Loss`, if somebody else has taken tables out of the publication, or dropped it, or put
/// another table in a table's place.
pub(super) async fn verify(client: &Client, settings: &Settings, tables: &[Table]) -> Result<Published> {
    let name = &settings.publication;
    let gone = || Loss::publication_gone(name).error();
    let ours: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    // In this order: what is published and what is noted of it change at once.
    let found = Publication::find(client, name).await?.ok_or_else(gone)?;
    let loss = found.loss(client, name, &ours).await?;
    let bond = Bond::find(client, &settings.slot).await?;
    if let Some(noted) = bond.as_ref().and_then(Bond::published)
        && !same(noted, &ours)
    // also where only a table was dropped: who set up again has told the stream to look
    {
        let found = Publication::find(client, name).await?.ok_or_else(gone)?;
        return match found.loss(client, name, noted).await? {
            None => Ok(Published::Otherwise),
            Some(loss) => Err(loss.error()),
        };
    }
    match loss {
        Some(loss) => Err(loss.error()),
        None => swapped(client, tables).await?.map_or(Ok(Published::AsStreamed), |loss| Err(loss.error())),
    }
}

fn same(a: &[u32], b: &[u32]) -> bool {
    a.len() == b.len() && a.iter().all(|oid| b.contains(oid))
}

/// Returns a loss if another table has the name of one of these now: rows written under the name
/// are not sent.
async fn swapped(client: &Client, tables: &[Table]) -> Result<Option<Loss>> {
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let sql = "SELECT t.schema || '.' || t.name, t.oid, c.oid
               FROM unnest($1::oid[], $2::text[], $3::text[]) AS t(oid, schema, name)
               JOIN pg_namespace n ON n.nspname = t.schema
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name AND c.relkind IN ('r', 'p')
               WHERE c.oid <> ALL ($1) ORDER BY 1 LIMIT 1";
    let row = client.query_opt(sql, &[&oids, &schemas, &names]).await.map_err(|error| failed(UNREADABLE, error))?;
    row.map(|row| Ok(Loss::swapped(row.read(0)?, row.read(1)?, row.read(2)?))).transpose()
}

fn create(name: &str, wanted: Wanted<'_>) -> String {
    let options = options(wanted.generated);
    format!("CREATE PUBLICATION {} FOR TABLE {} WITH ({options});", quoted(name), list(wanted.tables))
}

fn alter(name: &str, wanted: Wanted<'_>) -> Vec<String> {
    let tables = format!("ALTER PUBLICATION {} SET TABLE {};", quoted(name), list(wanted.tables));
    vec![tables, set_options(name, wanted.generated)]
}

fn set_options(name: &str, generated: bool) -> String {
    format!("ALTER PUBLICATION {} SET ({});", quoted(name), options(generated))
}

fn options(generated: bool) -> String {
    format!("{OPTIONS}{}", if generated { GENERATED } else { "" })
}

/// `ONLY`, because a table that inherits is another one, with rows and a replica identity of its
/// own.
fn list(tables: &[Table]) -> String {
    tables.iter().map(|table| format!("ONLY {}", table.quoted())).collect::<Vec<_>>().join(", ")
}

//! The publication: which tables' changes the server sends. Ours is marked by its comment, and only ours is changed.

use tokio_postgres::Client;

use super::bond::Bond;
use super::loss::Loss;
use super::settings::{Settings, literal, quoted};
use super::tables::Table;
use crate::error::{Error, Fault, Result};
use crate::postgres::{failed, is_trusted};

const UNREADABLE: &str = "cannot read the publication";
/// A comment that begins so is ours, and ends with the pipeline's name.
const MARK: &str = "pgstream-host: pipeline ";
const OPTIONS: &str = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true";

/// A publication as it stands on the server.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    comment: Option<String>,
    complete: bool,
    /// OIDs, sorted.
    tables: Vec<u32>,
}

impl Publication {
    pub(super) async fn find(client: &Client, name: &str) -> Result<Option<Self>> {
        // Anybody who may make publications can give his own our comment.
        let sql = format!(
            "SELECT CASE WHEN {} THEN obj_description(oid, 'pg_publication') END,
                    pubinsert AND pubupdate AND pubdelete AND pubtruncate AND pubviaroot
             FROM pg_publication WHERE pubname = $1",
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
        let mut tables: Vec<u32> = tables.iter().map(|row| row.get(0)).collect();
        tables.sort();
        Ok(Some(Self { comment: row.get(0), complete: row.get(1), tables }))
    }

    /// The pipeline for which we made it.
    fn owner(&self) -> Option<&str> {
        self.comment.as_deref()?.strip_prefix(MARK)
    }

    /// Whether we made it for this pipeline.
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
                    "give the pipeline another `name`, or name another `slot` and `publication` in the source; if `{owner}` was \
                     the name of this pipeline before: COMMENT ON PUBLICATION {} IS {mark};",
                    quoted(name)
                )))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn fits(&self, tables: &[Table]) -> bool {
        let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
        self.complete && self.publishes(&oids)
    }

    fn publishes(&self, tables: &[u32]) -> bool {
        let mut wanted = tables.to_vec();
        wanted.sort_unstable();
        self.tables == wanted
    }

    /// What was lost, if these are the tables that we had put into it: somebody else has changed it since.
    pub(super) async fn loss(&self, client: &Client, name: &str, tables: &[u32]) -> Result<Option<Loss>> {
        let there = client.query("SELECT oid FROM pg_class WHERE oid = ANY ($1)", &[&tables]).await;
        // A table that was dropped has no changes any more.
        let there: Vec<u32> = there.map_err(|error| failed(UNREADABLE, error))?.iter().map(|row| row.get(0)).collect();
        // Nor is one amiss that was dropped between the two questions.
        let intact = self.complete
            && there.iter().all(|oid| self.tables.contains(oid))
            && self.tables.iter().all(|oid| tables.contains(oid));
        Ok((!intact).then(|| Loss::publication_changed(name)))
    }
}

/// Checks that a publication could be made, or that the one that is there can be used.
pub(super) fn check(
    found: Option<&Publication>,
    may_create: bool,
    settings: &Settings,
    tables: &[Table],
) -> Result<()> {
    let name = &settings.publication;
    match found {
        Some(found) if found.is_ours(settings) || found.fits(tables) => Ok(()),
        Some(_) => {
            let error = format!(
                "publication `{name}` does not publish just the tables of the source, and was not made by pgstream-host"
            );
            Err(Error::new(Fault::Config, error)
                .help(format!("{}\nor name another `publication` in the source", alter(name, tables).join("\n"))))
        }
        None if !may_create || tables.iter().any(|table| !table.owned) => {
            let what = format!("user `{}` may not create publication `{name}`", settings.url.user);
            Err(Error::new(Fault::Environment, what)
                .because("it takes the right CREATE on the database, and to own every table of it")
                .help(format!("let the tables' owner run, before the slot is made:\n{}", create(name, tables))))
        }
        None => Ok(()),
    }
}

/// Makes the publication, or gives ours the tables of the source, in the transaction of the caller. Says what it did.
pub(super) async fn ensure(client: &Client, settings: &Settings, tables: &[Table]) -> Result<String> {
    let name = &settings.publication;
    match Publication::find(client, name).await? {
        Some(found) if found.fits(tables) => Ok(format!("publication `{name}` is there")),
        Some(_) => {
            client
                .batch_execute(&alter(name, tables).join(" "))
                .await
                .map_err(|error| failed(format!("cannot alter publication `{name}`"), error))?;
            Ok(format!("gave publication `{name}` the tables of the source"))
        }
        None => {
            let comment = literal(&format!("{MARK}{}", settings.pipeline));
            let sql = format!("{} COMMENT ON PUBLICATION {} IS {comment};", create(name, tables), quoted(name));
            client
                .batch_execute(&sql)
                .await
                .map_err(|error| failed(format!("cannot create publication `{name}`"), error))?;
            Ok(format!("created publication `{name}`"))
        }
    }
}

/// Drops the publication if it is ours. Says what it did.
pub(super) async fn drop(client: &Client, settings: &Settings) -> Result<String> {
    let name = &settings.publication;
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

/// What of a stream's tables is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    AsStreamed,
    /// Another process of the pipeline has set it up with other tables. Nothing is lost, but all is to be set up again.
    Otherwise,
}

/// Checks before and during each stream that what is streamed is still published: Postgres 18 only warns.
///
/// # Errors
/// A `Loss`, if somebody else has taken tables out of the publication, or dropped it.
pub(super) async fn verify(client: &Client, settings: &Settings, tables: &[Table]) -> Result<Published> {
    let name = &settings.publication;
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let Some(found) = Publication::find(client, name).await? else { return Err(Loss::publication_gone(name).error()) };
    let Some(loss) = found.loss(client, name, &oids).await? else { return Ok(Published::AsStreamed) };
    let bond = Bond::find(client, &settings.slot).await?;
    match bond.as_ref().and_then(Bond::published) {
        Some(noted) if found.loss(client, name, noted).await?.is_none() => Ok(Published::Otherwise),
        _ => Err(loss.error()),
    }
}

fn create(name: &str, tables: &[Table]) -> String {
    format!("CREATE PUBLICATION {} FOR TABLE {} WITH ({OPTIONS});", quoted(name), list(tables))
}

fn alter(name: &str, tables: &[Table]) -> Vec<String> {
    let name = quoted(name);
    vec![
        format!("ALTER PUBLICATION {name} SET TABLE {};", list(tables)),
        format!("ALTER PUBLICATION {name} SET ({OPTIONS});"),
    ]
}

/// `ONLY`, because a table that inherits is another one, with rows and a replica identity of its own.
fn list(tables: &[Table]) -> String {
    tables.iter().map(|table| format!("ONLY {}", table.quoted())).collect::<Vec<_>>().join(", ")
}

//! The publication: which tables' changes the server sends. Ours is marked by its comment, and only ours is changed.

use tokio_postgres::Client;

use super::settings::{Settings, literal, quoted};
use super::tables::Table;
use crate::error::{Error, Fault, Result};
use crate::postgres::failed;

/// What to do when changes went past us.
pub(super) const LOST: &str = "changes made meanwhile never reach the pipeline. Begin anew: `pgstream-host teardown`, then \
`pgstream-host setup`, and fill the sinks again from the tables";

const UNREADABLE: &str = "cannot read the publication";
const MARK: &str = "pgstream-host: ";
const OPTIONS: &str = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true";

/// A publication as it stands on the server.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    comment: Option<String>,
    complete: bool,
    /// `schema.table`, sorted.
    tables: Vec<String>,
}

impl Publication {
    pub(super) async fn find(client: &Client, name: &str) -> Result<Option<Self>> {
        let row = client
            .query_opt(
                "SELECT obj_description(oid, 'pg_publication'), pubinsert AND pubupdate AND pubdelete AND pubtruncate AND pubviaroot
                 FROM pg_publication WHERE pubname = $1",
                &[&name],
            )
            .await
            .map_err(|error| failed(UNREADABLE, error))?;
        let Some(row) = row else { return Ok(None) };
        let tables = client
            .query("SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = $1", &[&name])
            .await
            .map_err(|error| failed(UNREADABLE, error))?;
        let mut tables: Vec<String> = tables.iter().map(|row| row.get(0)).collect();
        tables.sort();
        Ok(Some(Self { comment: row.get(0), complete: row.get(1), tables }))
    }

    /// Whether we made it.
    pub(super) fn is_ours(&self) -> bool {
        self.comment.as_deref().is_some_and(|comment| comment.starts_with(MARK))
    }

    /// Whether a slot was made for it.
    pub(super) fn had_slot(&self, slot: &str) -> bool {
        self.is_ours() && self.comment.as_deref().is_some_and(|comment| comment.ends_with(&marked(slot)))
    }

    pub(super) fn fits(&self, tables: &[Table]) -> bool {
        let mut wanted: Vec<String> = tables.iter().map(Table::to_string).collect();
        wanted.sort();
        self.complete && self.tables == wanted
    }
}

fn marked(slot: &str) -> String {
    format!(", slot {slot}")
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
        Some(found) if found.is_ours() || found.fits(tables) => Ok(()),
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

/// Makes the publication, or gives ours the tables of the source. Says what it did.
pub(super) async fn ensure(client: &Client, settings: &Settings, tables: &[Table]) -> Result<String> {
    let name = &settings.publication;
    match Publication::find(client, name).await? {
        Some(found) if found.fits(tables) => Ok(format!("publication `{name}` is there")),
        Some(_) => {
            let sql = format!("BEGIN; {} COMMIT;", alter(name, tables).join(" "));
            client
                .batch_execute(&sql)
                .await
                .map_err(|error| failed(format!("cannot alter publication `{name}`"), error))?;
            Ok(format!("gave publication `{name}` the tables of the source"))
        }
        None => {
            let comment = literal(&format!("{MARK}pipeline {}", settings.pipeline));
            let sql = format!(
                "BEGIN; {} COMMENT ON PUBLICATION {} IS {comment}; COMMIT;",
                create(name, tables),
                quoted(name)
            );
            client
                .batch_execute(&sql)
                .await
                .map_err(|error| failed(format!("cannot create publication `{name}`"), error))?;
            Ok(format!("created publication `{name}`"))
        }
    }
}

/// Notes on our publication that its slot was made, so that a slot that vanishes is not taken for one never made.
pub(super) async fn note_slot(client: &Client, settings: &Settings) -> Result<()> {
    let name = &settings.publication;
    if !Publication::find(client, name).await?.is_some_and(|found| found.is_ours()) {
        return Ok(());
    }
    let comment = literal(&format!("{MARK}pipeline {}{}", settings.pipeline, marked(&settings.slot)));
    let sql = format!("COMMENT ON PUBLICATION {} IS {comment}", quoted(name));
    client.batch_execute(&sql).await.map_err(|error| failed(format!("cannot comment on publication `{name}`"), error))
}

/// Drops the publication if it is ours. Says what it did.
pub(super) async fn drop(client: &Client, name: &str) -> Result<String> {
    match Publication::find(client, name).await? {
        None => Ok(format!("publication `{name}` is not there")),
        Some(found) if !found.is_ours() => Ok(format!("left publication `{name}`, which pgstream-host did not make")),
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

/// Checks before each stream that what is to be streamed is still published: Postgres 18 only warns.
pub(super) async fn verify(client: &Client, settings: &Settings, tables: &[Table]) -> Result<()> {
    match Publication::find(client, &settings.publication).await? {
        Some(found) if found.fits(tables) => Ok(()),
        Some(_) => Err(Error::new(
            Fault::Environment,
            format!("publication `{}` was changed while the pipeline ran", settings.publication),
        )
        .help(LOST)),
        None => Err(gone(settings)),
    }
}

/// The publication is missing although there is a slot.
pub(super) fn gone(settings: &Settings) -> Error {
    let what = format!("publication `{}` is gone, though slot `{}` is there", settings.publication, settings.slot);
    Error::new(Fault::Environment, what).help(LOST)
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

fn list(tables: &[Table]) -> String {
    tables.iter().map(Table::quoted).collect::<Vec<_>>().join(", ")
}

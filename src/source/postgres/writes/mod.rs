//! `Writes`: the proof that Postgres goes on to accept UPDATE and DELETE once tables are published,
//! partition by partition, and that what it then sends tells which row changed. Asked before
//! anything is published, and again while the pipeline runs.

mod advice;
mod catalogue;
#[cfg(test)]
mod tests;

use tokio_postgres::Client;

use self::advice::Advice;
use self::catalogue::{Flaw, GENERATED, Identity, Member, Rule};
use super::settings::{Settings, quoted};
use super::tables::Table;
use crate::error::{Error, Fault, Result};
use crate::postgres::{ReadRow, failed};

/// Tables with their partitions, as the catalogue has them.
#[derive(Debug)]
pub(super) struct Writes {
    version: i32,
    members: Vec<Member>,
}

/// As what our publication is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// As we are about to make it.
    AsMade,
    /// As it stands on the server.
    AsItIs,
}

impl Writes {
    /// Reads the catalogue. Tables that are gone are left out.
    pub(super) async fn look(client: &Client, tables: &[Table]) -> Result<Self> {
        let row = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await;
        let version = row.map_err(|error| failed("cannot ask the server for its version", error))?.read(0)?;
        Ok(Self { version, members: catalogue::members(client, tables, version).await? })
    }

    /// Tells if writes are only accepted once stored generated columns are published, as Postgres
    /// 18 and later can.
    pub(super) fn need_generated(&self) -> bool {
        let rule = Rule::default();
        self.version >= GENERATED
            && self
                .members
                .iter()
                .filter(|member| member.has_rows())
                .any(|member| matches!(member.flaw(member.identity(), &rule, self.version), Some(Flaw::Stored(_))))
    }

    /// Tells if our publication, as it stands, leaves out a stored generated column, so that writes
    /// are refused.
    pub(super) fn lack_generated(&self, settings: &Settings) -> bool {
        let own = |member: &Member| self.own_rule(settings, Judged::AsItIs, member);
        let refused = |member: &Member| member.flaw(member.identity(), &own(member), self.version);
        self.members.iter().any(|member| member.has_rows() && matches!(refused(member), Some(Flaw::Stored(_))))
    }

    /// Checks that rows can be told apart, and that Postgres accepts writes.
    ///
    /// # Errors
    /// `Environment` with what to type.
    pub(super) fn check(&self, settings: &Settings, judged: Judged) -> Result<()> {
        self.members.chunk_by(|a, b| a.root == b.root).try_for_each(|tree| self.check_tree(settings, judged, tree))
    }

    /// Says which partitions bring no changes, though all is in order.
    pub(super) fn warn_of_silent_partitions(&self) {
        for member in self.members.iter().filter(|member| member.kind == "f") {
            tracing::warn!(
                partition = member.name,
                "a partition is a foreign table: its rows are copied, but Postgres publishes no changes of them"
            );
        }
    }

    fn check_tree(&self, settings: &Settings, judged: Judged, tree: &[Member]) -> Result<()> {
        let Some(root) = tree.first() else { return Ok(()) };
        let own = |member: &Member| self.own_rule(settings, judged, member);
        let full_helps = !settings.copies_first || root.primary_name.is_some();
        let (publication, version) = (settings.publication.as_str(), self.version);
        let advice = Advice { members: tree, version, own: &own, publication, full_helps };
        if root.identity() == Identity::Nothing {
            let what = if root.primary.is_some() {
                "publishes no key of changed rows (its replica identity)"
            } else {
                "has no primary key"
            };
            let what = format!("table `{}` {what}, so updates and deletes cannot be followed", root.name);
            return Err(refusal(what, &advice));
        }
        if let Some(column) = root.unpublished_key(self.version) {
            return Err(unpublished(root, column));
        }
        if settings.copies_first && root.identity() == Identity::Full && root.primary_name.is_none() {
            return Err(keyless(&advice, root));
        }
        for member in tree.iter().filter(|member| !member.is_root() && member.has_rows()) {
            check_partition(member, root, &advice)?;
        }
        for member in tree.iter().filter(|member| member.has_rows()) {
            if let Some(flaw) = member.flaw(member.identity(), &own(member), self.version) {
                return Err(refused_writes(member, &flaw, &advice, judged));
            }
        }
        Ok(())
    }

    /// Returns the rule of our publication for a member: as it stands, if it is judged so and there
    /// is one; else as we are about to make it.
    fn own_rule(&self, settings: &Settings, judged: Judged, member: &Member) -> Rule {
        let found = member.rules.iter().find(|rule| rule.publication == settings.publication);
        let made = || Rule { publication: settings.publication.clone(), stored: true, list: None, filter: Vec::new() };
        found.filter(|_| judged == Judged::AsItIs).cloned().unwrap_or_else(made)
    }
}

/// A partition's changes come as its root's, so what is logged of its rows must hold the root's
/// key.
fn check_partition(member: &Member, root: &Member, advice: &Advice<'_>) -> Result<()> {
    if member.persistence == "u" {
        let what = format!(
            "partition `{}` of `{}` is an unlogged table, whose changes Postgres does not publish",
            member.name, root.name
        );
        return Err(Error::new(Fault::Environment, what).help(format!("ALTER TABLE {} SET LOGGED;", member.sql)));
    }
    let whole = match (root.identity(), member.identity()) {
        (_, Identity::Nothing) => {
            let what = format!(
                "partition `{}` of `{}` has no replica identity, so Postgres would refuse UPDATE and DELETE once it is published",
                member.name, root.name
            );
            return Err(refusal(what, advice));
        }
        (_, Identity::Full) => true,
        // The server calls an old row whole that is not.
        (Identity::Full, _) => false,
        (Identity::Key(wanted), Identity::Key(logged)) => wanted.iter().all(|column| logged.contains(column)),
        (Identity::Nothing, Identity::Key(_)) => false,
    };
    if whole {
        return Ok(());
    }
    let what = format!(
        "the replica identity of partition `{}` is not that of `{}`, so updates and deletes cannot be followed",
        member.name, root.name
    );
    Err(refusal(what, advice))
}

fn refused_writes(member: &Member, flaw: &Flaw, advice: &Advice<'_>, judged: Judged) -> Error {
    let publication = advice.publication;
    let because = match flaw {
        Flaw::Nothing => "it has no replica identity".to_owned(),
        Flaw::Stored(column) => {
            format!(
                "its replica identity holds the generated column `{column}`, which publication `{publication}` leaves out"
            )
        }
        Flaw::Virtual(column) => {
            format!("its replica identity holds the virtual column `{column}`, which Postgres cannot publish")
        }
        Flaw::List => format!("the list of columns in publication `{publication}` lacks some of its replica identity"),
        Flaw::Filter(column) => {
            format!(
                "the row filter of publication `{publication}` looks at `{column}`, which is not of its replica identity"
            )
        }
    };
    let would = if judged == Judged::AsMade { "would refuse" } else { "refuses" };
    let what = format!("Postgres {would} UPDATE and DELETE on table `{}` if it is published", member.name);
    let error = Error::new(Fault::Environment, what).because(because);
    if matches!(flaw, Flaw::Stored(_)) {
        let name = quoted(publication);
        return error.help(format!("ALTER PUBLICATION {name} SET (publish_generated_columns = stored);"));
    }
    helped(error, advice)
}

fn refusal(what: String, advice: &Advice<'_>) -> Error {
    helped(Error::new(Fault::Environment, what), advice)
}

fn helped(error: Error, advice: &Advice<'_>) -> Error {
    match advice.text() {
        Some(sql) => error.help(sql),
        None => error.help(
            "no replica identity suits all publications of the table and its partitions: change the filters and lists of columns \
             there (SELECT * FROM pg_publication_tables), or drop the virtual columns, or leave the table out of `tables`",
        ),
    }
}

/// Rows whose key is not sent cannot be told apart.
fn unpublished(root: &Member, column: &str) -> Error {
    let what = format!(
        "the key of table `{}` holds the generated column `{column}`, which Postgres sends from version 18 on",
        root.name
    );
    let index = match &root.candidate {
        Some((name, _)) => format!("ALTER TABLE {} REPLICA IDENTITY USING INDEX {};", root.sql, quoted(name)),
        None => format!(
            "let a unique index of other columns, all NOT NULL, be the identity: \
             ALTER TABLE {} REPLICA IDENTITY USING INDEX <its name>;",
            root.sql
        ),
    };
    Error::new(Fault::Environment, what).help(format!("{index}\nor leave out the table in `tables`"))
}

/// A table without a key cannot be copied, though its changes can be followed.
fn keyless(advice: &Advice<'_>, root: &Member) -> Error {
    let error = Error::new(
        Fault::Environment,
        format!("table `{}` has no primary key, so its rows cannot be copied in parts", root.name),
    );
    let without = "leave out the rows that are there already: `snapshot: never` in the source";
    match advice.key() {
        Some(sql) => error.help(format!("{sql}\nor {without}")),
        None => error.help(without),
    }
}

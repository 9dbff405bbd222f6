//! `Member` and `Rule`: what the catalogue says of tables, their partitions and the publications
//! that hold them, as far as it decides over UPDATE and DELETE; and when Postgres refuses those.

use std::collections::HashMap;

use tokio_postgres::{Client, Row};

use super::super::settings::quoted;
use super::super::tables::Table;
use crate::error::Result;
use crate::postgres::{ReadRow, failed};

/// Row filters, lists of columns, and publications of schemas came with Postgres 15.
const FILTERS: i32 = 150_000;
/// Postgres 18 refuses writes for generated columns of the identity that are not published.
pub(super) const GENERATED: i32 = 180_000;

/// A table of the source, or a partition of one, at any level.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    /// The table of the source.
    pub(super) root: u32,
    pub(super) oid: u32,
    /// As people write it.
    pub(super) name: String,
    /// As SQL has it.
    pub(super) sql: String,
    pub(super) kind: String,
    pub(super) persistence: String,
    /// `pg_class.relreplident`.
    pub(super) replident: String,
    /// Columns of the primary key, if it can be an identity.
    pub(super) primary: Option<Vec<String>>,
    /// Columns of the index that is marked as identity, if it can be one.
    pub(super) marked: Option<Vec<String>>,
    /// Name of the primary key's constraint, whether it can be an identity or not.
    pub(super) primary_name: Option<String>,
    /// An index that could be marked, and its columns.
    pub(super) candidate: Option<(String, Vec<String>)>,
    /// Of a partition: the index that belongs to the one marked in the root.
    pub(super) follows: Option<String>,
    /// Stored generated columns.
    pub(super) stored: Vec<String>,
    /// Virtual ones.
    pub(super) virtuals: Vec<String>,
    /// By what it is partitioned, None for an expression.
    pub(super) partitioned_by: Vec<Option<String>>,
    /// Names of all columns.
    pub(super) columns: Vec<String>,
    /// The rules of the publications that send updates or deletes of it; empty before Postgres 15.
    pub(super) rules: Vec<Rule>,
}

/// The rule of a publication for one of the tables whose updates or deletes it sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) publication: String,
    /// Stored generated columns are published.
    pub(super) stored: bool,
    /// The columns that are published, if they are listed.
    pub(super) list: Option<Vec<String>>,
    /// The columns on which the row filter looks.
    pub(super) filter: Vec<String>,
}

/// The part of the old row that the server logs when a row is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity<'a> {
    Nothing,
    Key(&'a [String]),
    Full,
}

/// The reason why the server refuses UPDATE or DELETE of a table that is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It has no identity.
    Nothing,
    /// This stored generated column of the identity is not published.
    Stored(String),
    /// This virtual generated column of the identity cannot be published.
    Virtual(String),
    /// The publication's list of columns lacks one of the identity.
    List,
    /// The publication's row filter looks at this column, which is not of the identity.
    Filter(String),
}

impl Member {
    /// Tells if it holds rows, so that writes to it are judged.
    pub(super) fn has_rows(&self) -> bool {
        self.kind == "r"
    }

    pub(super) fn is_root(&self) -> bool {
        self.oid == self.root
    }

    pub(super) fn identity(&self) -> Identity<'_> {
        match self.replident.as_str() {
            "f" => Identity::Full,
            "d" => self.primary.as_deref().map_or(Identity::Nothing, Identity::Key),
            "i" => self.marked.as_deref().map_or(Identity::Nothing, Identity::Key),
            _ => Identity::Nothing,
        }
    }

    /// A generated column of the key by which rows are told apart, where the server does not send
    /// it.
    pub(super) fn unpublished_key(&self, version: i32) -> Option<&str> {
        let key = match self.identity() {
            Identity::Key(columns) => columns,
            Identity::Full => self.primary.as_deref().unwrap_or_default(),
            Identity::Nothing => &[],
        };
        let unsent = |column: &&String| version < GENERATED && self.stored.contains(column);
        key.iter().find(unsent).map(String::as_str)
    }

    /// Returns the reason why the server would refuse writes if this were its identity; None if it
    /// accepts them. The rules are those of `CheckCmdReplicaIdentity` and
    /// `RelationBuildPublicationDesc`.
    pub(super) fn flaw(&self, identity: Identity<'_>, rule: &Rule, version: i32) -> Option<Flaw> {
        let generated = |among: &[String], of: &[String]| of.iter().find(|column| among.contains(column)).cloned();
        let (columns, list) = match (identity, &rule.list) {
            (Identity::Nothing, _) => return Some(Flaw::Nothing),
            (Identity::Full, Some(_)) => return Some(Flaw::List),
            (Identity::Full, None) => (self.columns.as_slice(), None),
            (Identity::Key(columns), list) => (columns, list.as_ref()),
        };
        if let Some(list) = list {
            if columns.iter().any(|column| !list.contains(column)) {
                return Some(Flaw::List);
            }
        } else if version >= GENERATED {
            if let Some(column) = generated(columns, &self.virtuals) {
                return Some(Flaw::Virtual(column));
            }
            if let Some(column) = generated(columns, &self.stored).filter(|_| !rule.stored) {
                return Some(Flaw::Stored(column));
            }
        }
        rule.filter.iter().find(|column| !columns.contains(column)).cloned().map(Flaw::Filter)
    }
}

/// The columns of an index of `c`, in their order, if it can be an identity and meets a condition.
fn key_sql(condition: &str) -> String {
    format!(
        "(SELECT array_agg(a.attname::text ORDER BY k.n) FROM pg_index i CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) AS k(n)
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n]
          WHERE i.indrelid = c.oid AND i.indisvalid AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AND {condition})"
    )
}

fn members_sql() -> String {
    let generated = |kind: char| {
        format!(
            "ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = '{kind}' AND NOT a.attisdropped)"
        )
    };
    format!(
        "SELECT m.root, c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relreplident::text,
                {primary}, {marked},
                (SELECT k.conname::text FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p'),
                candidate.name, candidate.columns,
                (SELECT ic.relname::text FROM pg_index ri CROSS JOIN LATERAL pg_partition_tree(ri.indexrelid) AS t
                 JOIN pg_index li ON li.indexrelid = t.relid AND li.indrelid = c.oid JOIN pg_class ic ON ic.oid = li.indexrelid
                 WHERE ri.indrelid = m.root AND ri.indisreplident AND c.oid <> m.root LIMIT 1),
                {stored}, {virtuals},
                ARRAY(SELECT a.attname::text FROM pg_partitioned_table p CROSS JOIN LATERAL generate_series(0, p.partnatts - 1) AS k(n)
                      LEFT JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[k.n]
                      WHERE p.partrelid = c.oid ORDER BY k.n),
                ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
         FROM (SELECT r.oid, r.oid FROM unnest($1::oid[]) AS r(oid)
               UNION SELECT r.oid, t.relid::oid FROM unnest($1::oid[]) AS r(oid) CROSS JOIN LATERAL pg_partition_tree(r.oid) AS t
              ) AS m(root, oid)
         JOIN pg_class c ON c.oid = m.oid JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN LATERAL (
             SELECT ic.relname::text AS name, ARRAY(SELECT a.attname::text FROM generate_series(0, i.indnkeyatts - 1) AS k(n)
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n] ORDER BY k.n) AS columns
             FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
             WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND NOT i.indisprimary
               AND i.indpred IS NULL AND i.indexprs IS NULL
               AND NOT EXISTS (SELECT FROM generate_series(0, i.indnkeyatts - 1) AS k(n) JOIN pg_attribute a ON a.attrelid = i.indrelid
                   AND a.attnum = i.indkey[k.n] WHERE NOT a.attnotnull OR a.attgenerated <> '')
             ORDER BY i.indnkeyatts, ic.relname LIMIT 1
         ) AS candidate ON true
         ORDER BY m.root, c.oid <> m.root, n.nspname, c.relname",
        primary = key_sql("i.indisprimary"),
        marked = key_sql("i.indisreplident"),
        stored = generated('s'),
        virtuals = generated('v'),
    )
}

/// One row for each publication that sends updates or deletes of one of the tables with these OIDs.
/// A filter and a list count where the publication would publish the change as: with
/// `publish_via_partition_root` the topmost ancestor that it holds. Through JSON, because
/// `pubgencols` came with Postgres 18. A filter's columns are those that its tree names.
const RULES: &str = "
    SELECT m.oid, p.pubname::text, coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 's',
           CASE WHEN pr.prattrs IS NOT NULL THEN ARRAY(SELECT a.attname::text FROM pg_attribute a
               WHERE a.attrelid = pr.prrelid AND a.attnum = ANY (pr.prattrs::int2[])) END,
           ARRAY(SELECT DISTINCT a.attname::text FROM regexp_matches(pr.prqual::text, ':varattno (\\d+)', 'g') AS v(found)
               JOIN pg_attribute a ON a.attrelid = pr.prrelid AND a.attnum = v.found[1]::int2)
    FROM unnest($1::oid[]) AS m(oid) JOIN pg_class c ON c.oid = m.oid CROSS JOIN pg_publication p
    LEFT JOIN LATERAL (
        SELECT t.relid::oid AS oid FROM pg_partition_ancestors(m.oid) WITH ORDINALITY AS t(relid, n) JOIN pg_class tc ON tc.oid = t.relid
        WHERE t.relid <> m.oid AND (EXISTS (SELECT FROM pg_publication_rel x WHERE x.prpubid = p.oid AND x.prrelid = t.relid)
            OR EXISTS (SELECT FROM pg_publication_namespace x WHERE x.pnpubid = p.oid AND x.pnnspid = tc.relnamespace))
        ORDER BY t.n DESC LIMIT 1
    ) AS topmost ON true
    LEFT JOIN pg_publication_rel pr
        ON pr.prpubid = p.oid AND pr.prrelid = CASE WHEN p.pubviaroot THEN coalesce(topmost.oid, m.oid) ELSE m.oid END
    WHERE (p.pubupdate OR p.pubdelete) AND (p.puballtables OR topmost.oid IS NOT NULL
        OR EXISTS (SELECT FROM pg_publication_rel x WHERE x.prpubid = p.oid AND x.prrelid = m.oid)
        OR EXISTS (SELECT FROM pg_publication_namespace x WHERE x.pnpubid = p.oid AND x.pnnspid = c.relnamespace))
    ORDER BY 1, 2";

/// The tables and all their partitions, each table before its partitions.
pub(super) async fn members(client: &Client, tables: &[Table], version: i32) -> Result<Vec<Member>> {
    let unreadable = |error| failed("cannot read the catalogue", error);
    let roots: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let rows = client.query(&members_sql(), &[&roots]).await.map_err(unreadable)?;
    let mut members: Vec<Member> = rows.iter().map(member).collect::<Result<_>>()?;
    if version >= FILTERS {
        let oids: Vec<u32> = members.iter().map(|member| member.oid).collect();
        let mut rules: HashMap<u32, Vec<Rule>> = HashMap::new();
        for row in client.query(RULES, &[&oids]).await.map_err(unreadable)? {
            let rule =
                Rule { publication: row.read(1)?, stored: row.read(2)?, list: row.read(3)?, filter: row.read(4)? };
            rules.entry(row.read(0)?).or_default().push(rule);
        }
        for member in &mut members {
            member.rules = rules.remove(&member.oid).unwrap_or_default();
        }
    }
    Ok(members)
}

fn member(row: &Row) -> Result<Member> {
    let (schema, name): (&str, &str) = (row.read(2)?, row.read(3)?);
    let candidate: Option<String> = row.read(10)?;
    let nullable: Option<Vec<String>> = row.read(11)?;
    Ok(Member {
        root: row.read(0)?,
        oid: row.read(1)?,
        name: format!("{schema}.{name}"),
        sql: format!("{}.{}", quoted(schema), quoted(name)),
        kind: row.read(4)?,
        persistence: row.read(5)?,
        replident: row.read(6)?,
        primary: row.read(7)?,
        marked: row.read(8)?,
        primary_name: row.read(9)?,
        candidate: candidate.map(|name| (name, nullable.unwrap_or_default())),
        follows: row.read(12)?,
        stored: row.read(13)?,
        virtuals: row.read(14)?,
        partitioned_by: row.read(15)?,
        columns: row.read(16)?,
        rules: Vec::new(),
    })
}

//! `Settings`: what the pipeline file says of the source, checked as far as that needs no server.

use std::sync::Arc;
use std::time::Duration;

use super::{OnSlotLost, PostgresSettings, Snapshot, Toast};
use crate::config::{Secret, default_slot, split};
use crate::error::{Error, Fault, Result};
use crate::meter::SourceMeter;
pub(super) use crate::postgres::quoted;
use crate::postgres::{Room, Url};
use crate::source::Fed;

/// Names, tables, login and limits of one source.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) url: Url,
    /// The login of the sessions that read tables, if it is another one.
    reader: Option<Url>,
    /// The name that `pg_stat_activity` and `pg_stat_replication` show.
    pub(super) application_name: String,
    pub(super) pipeline: String,
    pub(super) slot: String,
    pub(super) publication: String,
    pub(super) tables: Vec<Pattern>,
    pub(super) limits: Limits,
    /// Rows that are there already are copied before their changes count.
    pub(super) copies_first: bool,
    /// The consequence when changes were lost.
    pub(super) on_slot_lost: OnSlotLost,
    /// A standby that is promoted is to bring the slot along.
    pub(super) failover: bool,
    /// The time between two messages that are written into the log, so that there is something to confirm.
    pub(super) heartbeat: Option<Duration>,
    /// Values that the server did not send are read from the table.
    pub(super) rereads: bool,
    /// The sinks that can be told from others in their place.
    pub(super) fed: Vec<Fed>,
    /// The counts of the source.
    pub(super) meter: Arc<SourceMeter>,
}

/// When a batch closes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) events: usize,
    pub(super) bytes: usize,
    pub(super) linger: Duration,
    /// Of one row. A longer one ends the pipeline.
    pub(super) row: usize,
    /// Events that lack values which are to be read from the table: those are all in memory at once, however large they are.
    pub(super) gaps: usize,
}

impl Limits {
    /// Of events that must be completed, whatever the settings say.
    pub(super) const GAPS: usize = 32;

    /// Bytes of rows that are kept of one answer, where their number is not bounded otherwise.
    pub(super) fn answer(&self) -> usize {
        self.row.saturating_mul(4).max(Room::CATALOGUE.answer)
    }

    /// Bounds what the server may send. How many rows of an answer are kept is for who asks to say.
    pub(super) fn room(&self) -> Room {
        Room { row: self.row, answer: usize::MAX, help: "raise `max_row` of the source" }
    }
}

/// `schema.table`, where `*` in the table's name stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) schema: String,
    pub(super) table: String,
}

impl Settings {
    pub(super) fn new(pipeline: &str, config: &PostgresSettings) -> Result<Self> {
        let derived = default_slot(pipeline);
        let slot = config.slot.clone().unwrap_or_else(|| derived.clone());
        let publication = config.publication.clone().unwrap_or(derived);
        if !is_slot_name(&slot) {
            return Err(wrong(format!("`{slot}` cannot be the name of a replication slot"))
                .help("a slot's name has 1 to 63 of the characters a-z, 0-9 and `_`: set `slot` in the source"));
        }
        if publication.is_empty() || publication.len() > 63 || publication.contains('\0') {
            return Err(wrong("the publication's name must have 1 to 63 bytes").help("set `publication` in the source"));
        }
        if config.tables.is_empty() {
            return Err(wrong("the source names no tables").help("write `tables: [public.documents]`"));
        }
        let url = Url::parse(&config.url, config.password_file.clone())?.beneath(config.folder.clone());
        let reader = config.read_url.as_ref().map(|read| reader(&url, read, config)).transpose()?;
        let rereads = config.toast == Toast::Reread;
        Ok(Self {
            url: url.trusting(&config.trusted_owners),
            reader,
            application_name: format!("pgstream-host {pipeline}"),
            pipeline: pipeline.to_owned(),
            slot,
            publication,
            tables: config.tables.iter().map(|text| Pattern::parse(text)).collect::<Result<_>>()?,
            limits: Limits {
                events: config.batch.max_events.max(1),
                bytes: usize::try_from(config.batch.max_bytes.0).unwrap_or(usize::MAX),
                linger: config.batch.linger.0,
                row: usize::try_from(config.max_row.0).unwrap_or(usize::MAX),
                gaps: if rereads { Limits::GAPS } else { usize::MAX },
            },
            copies_first: config.snapshot == Snapshot::Initial,
            on_slot_lost: config.on_slot_lost,
            failover: config.failover,
            rereads,
            heartbeat: Some(config.heartbeat.0).filter(|period| !period.is_zero()),
            fed: Vec::new(),
            meter: Arc::default(),
        })
    }
}

impl Settings {
    /// The same for sessions that read tables, with their login.
    pub(super) fn reading(&self) -> Self {
        let url = self.reader.clone().unwrap_or_else(|| self.url.clone());
        Self { url, ..self.clone() }
    }

    /// Tells if tables are read with another login than the pipeline's own, which then may write what the other may not.
    pub(super) fn reads_apart(&self) -> bool {
        self.reader.is_some()
    }
}

/// The login that reads. What belongs to the pipeline's own role is nothing foreign to it.
fn reader(url: &Url, read: &Secret, config: &PostgresSettings) -> Result<Url> {
    let trusted: Vec<String> = config.trusted_owners.iter().chain([&url.user]).cloned().collect();
    let reader = Url::parse(read, config.read_password_file.clone())?.beneath(config.folder.clone()).trusting(&trusted);
    if (&reader.address, &reader.database) != (&url.address, &url.database) {
        return Err(wrong("`read_url` leads to another database than `url`")
            .help("write the same host, port and database in both, with another user"));
    }
    Ok(reader)
}

fn is_slot_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed)
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let named = split(text).filter(|(schema, _)| !schema.contains('*'));
        let (schema, table) = named.ok_or_else(|| {
            wrong(format!("`{text}` does not name tables")).help(
                "write `schema.table`, or `schema.prefix_*` for all tables whose name begins so; a name with a dot stands in \
                 quotes of its own, as `'public.\"my.table\"'`",
            )
        })?;
        Ok(Self { schema, table })
    }

    /// Tells if it names one table.
    pub(super) fn is_exact(&self) -> bool {
        !self.table.contains('*')
    }

    /// The table part for SQL's LIKE, in which `_` and `%` have a meaning that they do not have here.
    pub(super) fn like(&self) -> String {
        let mut like = String::with_capacity(self.table.len() + 8);
        for character in self.table.chars() {
            match character {
                '*' => like.push('%'),
                '\\' | '%' | '_' => like.extend(['\\', character]),
                other => like.push(other),
            }
        }
        like
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Fault::Config, what)
}

/// `text` as an SQL string, whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    if escaped.contains('\\') { format!("E'{}'", escaped.replace('\\', "\\\\")) } else { format!("'{escaped}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_say() {
        let pattern = |text| Pattern::parse(text).unwrap();
        assert_eq!(pattern("docs").to_string(), "public.docs");
        assert_eq!(pattern("app.chunk_*").like(), "chunk\\_%");
        assert_eq!(pattern("app.50%\\").like(), "50\\%\\\\");
        assert_eq!(pattern("public.\"my.docs\"").table, "my.docs");
        assert!(pattern("a.b").is_exact() && !pattern("a.*").is_exact());
        for text in ["", ".", "a.", ".b", "a.b.c", "*.b", "p*.b"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn texts_are_quoted_for_sql() {
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal("a\\b"), "E'a\\\\b'");
    }
}

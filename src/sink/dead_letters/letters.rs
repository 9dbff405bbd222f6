//! `Letters`: the dead letters of a pipeline as people ask for them.

use serde_json::{Value, json};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::settings::DeadLettersSettings;
use super::table::{COUNT, TABLE};
use crate::error::{Error, Fault, Result};
use crate::postgres::{ReadRow, failed, has_table, sqlstate};

/// The table, in an open session. Works beside a running pipeline, and makes nothing.
pub struct Letters {
    pub(super) client: Client,
    pub(super) pipeline: String,
}

/// A choice of letters. Every condition that is given must hold; without any, all letters are
/// meant.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Their numbers.
    pub ids: Option<Vec<i64>>,
    /// The table, as `schema.table`.
    pub table: Option<String>,
    /// The code, such as `trap`.
    pub code: Option<String>,
    /// The transform.
    pub transform: Option<String>,
    /// Set aside at this time or later, as Postgres reads a `timestamptz`.
    pub since: Option<String>,
    /// Only letters with a higher number.
    pub after: Option<i64>,
    /// As many as that, at most.
    pub limit: Option<u32>,
}

/// A letter without its event, whose values stay where they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// Its number.
    pub id: i64,
    /// The time at which it was set aside, such as `2026-01-31T12:00:00Z`.
    pub at: String,
    /// The event's position in the stream, such as `0/16B3748#3`.
    pub position: String,
    /// Whose rejected event it is.
    pub transform: String,
    /// SHA-256 of the component that was the handler then.
    pub handler: String,
    /// The sink that refused it, if it was not the handler.
    pub sink: Option<String>,
    /// The kind of failure.
    pub code: String,
    /// The reason of the last refusal.
    pub reason: String,
    /// `schema.table`.
    pub table: String,
    /// The number of refusals: one, and one more with each replay.
    pub attempts: i32,
    /// The copy that brings its row back, while one is under way.
    pub replay: Option<i64>,
}

/// The row of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Number of the letter.
    pub id: i64,
    /// `schema.table`.
    pub table: String,
    /// The key of the row, as a JSON object; `{}` for a truncate.
    pub key: String,
}

/// A letter with what a person needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// All but the event.
    pub letter: Letter,
    /// The key of its row, as a JSON object; `{}` for a truncate.
    pub key: String,
    /// The event in its JSON form.
    pub event: String,
}

impl Letter {
    /// Its form in JSON, which holds no value of its row.
    pub fn to_json(&self) -> Value {
        let Self { id, at, position, transform, handler, sink, code, reason, table, attempts, replay } = self;
        json!({
            "id": id, "at": at, "position": position, "table": table, "transform": transform, "handler": handler,
            "sink": sink, "code": code, "reason": reason, "attempts": attempts, "replaying": replay.is_some(),
        })
    }
}

impl Stored {
    /// Its form in JSON. Key and event are as they stand: a JSON library would round their numbers.
    pub fn to_json(&self) -> String {
        let head = self.letter.to_json().to_string();
        format!("{},\"key\":{},\"event\":{}}}", head.trim_end_matches('}'), self.key, self.event)
    }
}

const COLUMNS: &str = "id, to_char(parked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), lsn::text, ordinal, \
                       transform, handler, sink, code, reason, table_name, attempts, replay";

pub(super) const WHERE: &str =
    "pipeline = $1 AND ($2::bigint[] IS NULL OR id = ANY ($2)) AND ($3::text IS NULL OR table_name = $3)
    AND ($4::text IS NULL OR code = $4) AND ($5::text IS NULL OR transform = $5)
    AND ($6::text IS NULL OR parked_at >= $6::timestamptz) AND ($7::bigint IS NULL OR id > $7)";

impl Letters {
    /// Connects to the database of the sink `settings` of `pipeline`.
    ///
    /// # Errors
    /// As for a pipeline that opens the sink.
    pub async fn open(pipeline: &str, settings: &DeadLettersSettings) -> Result<Self> {
        let client = super::connect(&super::url(settings)?).await?;
        Ok(Self { client, pipeline: pipeline.to_owned() })
    }

    /// The letters, the oldest first.
    ///
    /// # Errors
    /// Those of the server and of the connection; `Config` if the server cannot read the time.
    pub async fn find(&self, filter: &Filter) -> Result<Vec<Letter>> {
        let limit = filter.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        let sql = format!("SELECT {COLUMNS} FROM {TABLE} WHERE {WHERE} ORDER BY id{limit}");
        self.query(&sql, filter).await?.iter().map(letter).collect()
    }

    /// One letter, whole.
    ///
    /// # Errors
    /// `Config` if there is none with this number.
    pub async fn get(&self, id: i64) -> Result<Stored> {
        let sql = format!("SELECT {COLUMNS}, row_key, event FROM {TABLE} WHERE {WHERE}");
        let filter = Filter { ids: Some(vec![id]), ..Filter::default() };
        let rows = self.query(&sql, &filter).await?;
        let row = rows.first().ok_or_else(|| self.missing(&[id]))?;
        Ok(Stored { letter: letter(row)?, key: row.read(12)?, event: row.read(13)? })
    }

    /// The rows of the letters, without those that are on their way already.
    ///
    /// # Errors
    /// As for [`find`](Self::find).
    pub async fn wanted(&self, filter: &Filter) -> Result<Vec<Wanted>> {
        let sql = format!("SELECT id, table_name, row_key FROM {TABLE} WHERE {WHERE} AND replay IS NULL ORDER BY id");
        let rows = self.query(&sql, filter).await?;
        rows.iter().map(|row| Ok(Wanted { id: row.read(0)?, table: row.read(1)?, key: row.read(2)? })).collect()
    }

    /// Removes letters for good. Answers how many there were.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn drop(&self, filter: &Filter) -> Result<u64> {
        Ok(self.query(&format!("DELETE FROM {TABLE} WHERE {WHERE} RETURNING id"), filter).await?.len() as u64)
    }

    /// The number of letters, as far as it is not above `most`; else one more.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn count(&self, most: u64) -> Result<u64> {
        counted(&self.client, &self.pipeline, most).await
    }

    /// The error for numbers that no letter has.
    pub fn missing(&self, ids: &[i64]) -> Error {
        let ids: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
        let what = format!("pipeline `{}` has no dead letter {}", self.pipeline, ids.join(", "));
        Error::new(Fault::Config, what).help("`pgstream-host dlq list <file>` shows those that there are")
    }

    pub(super) async fn query(&self, sql: &str, filter: &Filter) -> Result<Vec<Row>> {
        if !has_table(&self.client, TABLE).await? {
            return Ok(Vec::new());
        }
        let Filter { ids, table, code, transform, since, after, limit: _ } = filter;
        let parameters: [&(dyn ToSql + Sync); 7] = [&self.pipeline, ids, table, code, transform, since, after];
        self.client.query(sql, &parameters).await.map_err(|error| {
            let error = failed(format!("cannot read `{TABLE}`"), error);
            match sqlstate(&error) {
                Some("22007" | "22008" | "22009") => Error::new(Fault::Config, "`--since` is not a time")
                    .help("write `--since 2h`, `--since 2026-01-31` or `--since '2026-01-31 12:00'`"),
                _ => error,
            }
        })
    }
}

/// Counts the letters of each of these pipelines, beside which stands the number of letters that it
/// may keep, in their order. No count is larger than that number and one.
///
/// # Errors
/// As for a pipeline that opens the sink.
pub async fn count(settings: &DeadLettersSettings, pipelines: &[(&str, u64)]) -> Result<Vec<u64>> {
    let client = super::connect(&super::url(settings)?).await?;
    let mut counts = Vec::with_capacity(pipelines.len());
    for (pipeline, most) in pipelines {
        counts.push(counted(&client, pipeline, *most).await?);
    }
    Ok(counts)
}

async fn counted(client: &Client, pipeline: &str, most: u64) -> Result<u64> {
    if !has_table(client, TABLE).await? {
        return Ok(0);
    }
    let most = i64::try_from(most).unwrap_or(i64::MAX - 1);
    let row = client.query_one(COUNT, &[&pipeline, &most]).await;
    let row = row.map_err(|error| failed(format!("cannot read `{TABLE}`"), error))?;
    Ok(u64::try_from(row.read::<_, i64>(0)?).unwrap_or(0))
}

fn letter(row: &Row) -> Result<Letter> {
    let sink: String = row.read(6)?;
    Ok(Letter {
        id: row.read(0)?,
        at: row.read(1)?,
        position: format!("{}#{}", row.read::<_, &str>(2)?, row.read::<_, i64>(3)?),
        transform: row.read(4)?,
        handler: row.read(5)?,
        sink: Some(sink).filter(|sink| !sink.is_empty()),
        code: row.read(7)?,
        reason: row.read(8)?,
        table: row.read(9)?,
        attempts: row.read(10)?,
        replay: row.read(11)?,
    })
}

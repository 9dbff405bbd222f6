//! The nearest rows to a vector, for a person at a prompt.

use async_trait::async_trait;
use tokio_postgres::{Client, Row};

use super::columns::{Column, Kind, List, quoted, title};
use super::session::{Session, Target};
use super::table::Table;
use super::{PgvectorSettings, target};
use crate::config::model::Distance;
use crate::error::{Error, Fault, Result};
use crate::postgres::{ReadRow, failed};
use crate::sink::{Hit, Query, Searcher};

/// pgvector's bounds of `hnsw.ef_search`, and its default.
const MAX_EF_SEARCH: usize = 1000;
const DEFAULT_EF_SEARCH: usize = 40;

#[async_trait]
impl Searcher for PgvectorSettings {
    /// The nearest rows of the table that the settings name. Makes nothing: neither the table nor a
    /// record of a position.
    async fn search(&self, query: &Query<'_>) -> Result<Vec<Hit>> {
        let target = Target { wanted: None, ..target(self)? };
        let Some(mut session) = Session::look(&target).await? else { return Ok(Vec::new()) };
        search_table(&mut session.client, &session.table, query).await
    }
}

async fn search_table(client: &mut Client, table: &Table, query: &Query<'_>) -> Result<Vec<Hit>> {
    let column = searchable(table, query)?;
    let distance = column.distance.unwrap_or_default();
    let text = format!("[{}]", query.values.iter().map(f32::to_string).collect::<Vec<_>>().join(","));
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let failed = |error| failed(format!("cannot search table `{}`", table.name), error);

    // An HNSW index answers no more rows than it keeps candidates, and fewer where many vectors are alike. Then only a scan is
    // complete, which the session's settings are against.
    let (sql, mut rows) = (sql(table, column, distance), Vec::new());
    let transaction = client.transaction().await.map_err(failed)?;
    if query.limit <= MAX_EF_SEARCH {
        let breadth = format!("SET LOCAL hnsw.ef_search = {}", query.limit.max(DEFAULT_EF_SEARCH));
        transaction.batch_execute(&breadth).await.map_err(failed)?;
        rows = transaction.query(&sql, &[&text, &limit]).await.map_err(failed)?;
    }
    if rows.len() < query.limit {
        let scan = "SET LOCAL enable_seqscan = on; SET LOCAL enable_indexscan = off";
        transaction.batch_execute(scan).await.map_err(failed)?;
        rows = transaction.query(&sql, &[&text, &limit]).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    rows.iter().map(|row| hit(row, distance)).collect()
}

fn searchable<'a>(table: &'a Table, query: &Query<'_>) -> Result<&'a Column> {
    let title = title(query.vector);
    let wrong = |what: String| Error::new(Fault::Config, what).at(format!("table `{}`", table.name));
    let column = table.columns.iter().find(|column| column.vector == query.vector);
    let column = column
        .ok_or_else(|| wrong(format!("the table has no {title}")).help(format!("it has {}", List(&table.columns))))?;
    if column.kind == Kind::Sparse {
        return Err(wrong(format!("{title} is sparse and cannot be searched with a dense one"))
            .help(format!("search a dense vector: the table has {}", List(&table.columns))));
    }
    let got = query.values.len();
    match column.dimension {
        Some(dimension) if dimension != got => {
            Err(wrong(format!("the query has {got} numbers, column `{}` takes {dimension}", column.name))
                .help("search with the embedder that made the stored vectors"))
        }
        _ => Ok(column),
    }
}

fn sql(table: &Table, column: &Column, distance: Distance) -> String {
    let Table { name, extension, .. } = table;
    let operator = match distance {
        Distance::Cosine => "<=>",
        Distance::Dot => "<#>",
        Distance::Euclid => "<->",
    };
    let operator = format!("OPERATOR({extension}.{operator})");
    let (vector, kind) = (format!("t.{}", quoted(&column.name)), column.kind.type_name());
    let exact = format!("{vector} {operator} $1::text::{extension}.{kind}");
    // The very expression of the index, or the index is not used.
    let order = match column.dimension {
        Some(dimension) if column.half_index => {
            let half = format!("{extension}.halfvec({dimension})");
            format!("{vector}::{half} {operator} $1::text::{half}")
        }
        _ => exact.clone(),
    };
    format!(
        "SELECT t.id::text AS id, t.payload::text AS payload, ({exact})::float8 AS distance \
         FROM {name} AS t WHERE {vector} IS NOT NULL ORDER BY {order} LIMIT $2"
    )
}

fn hit(row: &Row, distance: Distance) -> Result<Hit> {
    let payload: Option<&str> = row.read("payload")?;
    let payload = payload
        .map_or(Ok(None), serde_json::from_str)
        .map_err(|error| Error::new(Fault::Data, "a stored payload cannot be read as a JSON object").because(error))?;
    let far: f64 = row.read("distance")?;
    let score = match distance {
        Distance::Cosine if far.is_nan() => 0.0, // no angle with a vector of zeros
        Distance::Cosine => 1.0 - far,
        Distance::Dot | Distance::Euclid => -far,
    };
    Ok(Hit { id: row.read("id")?, score: score as f32, payload: payload.unwrap_or_default() })
}

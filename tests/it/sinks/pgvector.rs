//! The `pgvector` sink against a real Postgres 18: the contract, then what only this sink promises.

use async_trait::async_trait;
use pgstream_host::command::Embedding;
use pgstream_host::config::Secret;
use pgstream_host::config::model::{self, Create, SinkBatch};
use pgstream_host::error::Result;
use pgstream_host::sink::Sink;
use pgstream_host::sink::pgvector::PgvectorSink;
use serde_json::{Map, Value};
use tokio_postgres::Client;

use super::contract::{Points, Store, Stored, contract};
use crate::support::{Database, fresh_database};

contract!(Table);

/// A table in a database of its own.
struct Table {
    database: Database,
    create: Option<Create>,
}

#[async_trait]
impl Store for Table {
    async fn make(create: Create) -> Self {
        Self { database: fresh_database().await, create: Some(create) }
    }

    async fn open(&self) -> Result<Box<dyn Sink>> {
        let sink = PgvectorSink::open("documents", "search", &settings(&self.database, self.create.clone())).await?;
        Ok(Box::new(sink))
    }

    async fn dump(&self) -> Points {
        dump(&self.database.client).await
    }
}

fn settings(database: &Database, create: Option<Create>) -> model::PgvectorSink {
    model::PgvectorSink {
        inputs: Vec::new(),
        url: Secret::new(&database.url),
        password_file: None,
        table: "points".into(),
        create,
        batch: SinkBatch::default(),
    }
}

async fn dump(client: &Client) -> Points {
    let rows =
        client.query("SELECT (to_jsonb(points) - 'words')::text AS row, words::text FROM points", &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            let columns: Map<String, Value> = serde_json::from_str(row.get("row")).unwrap();
            let dense = |name: &str| -> Option<Embedding> {
                Some(Embedding::Dense(serde_json::from_str(columns[name].as_str()?).unwrap()))
            };
            let words = row.get::<_, Option<&str>>("words").map(sparse);
            let vectors = [("", dense("embedding")), ("title", dense("title")), ("words", words)];
            let vectors = vectors.into_iter().filter_map(|(name, found)| Some((name.to_owned(), found?))).collect();
            let group = columns["group_id"].as_str().map(str::to_owned);
            let payload = columns["payload"].as_object().unwrap().clone();
            (columns["id"].as_str().unwrap().to_owned(), Stored { group, vectors, payload })
        })
        .collect()
}

/// `{1:0.5,9:2}/10`, which counts from one.
fn sparse(text: &str) -> Embedding {
    let elements = text.trim_start_matches('{').split_once('}').unwrap().0;
    let (indices, values) = elements
        .split(',')
        .map(|element| element.split_once(':').unwrap())
        .map(|(index, value)| (index.parse::<u32>().unwrap() - 1, value.parse::<f32>().unwrap()))
        .unzip();
    Embedding::Sparse { indices, values }
}

//! Names of tables, columns, functions, triggers, schemas and roles in what people are told to type.

use pgstream_host::error::Error;
use pgstream_host::printable::acts;
use pgstream_host::sink::pgvector::PgvectorSink;
use pgstream_host::source::postgres;
use pgstream_host::source::postgres::{PostgresSettings as Config, Snapshot};

use super::sql::vectors;
use crate::source::{config, pipeline};
use crate::support::fresh_database;

/// Ends a line of advice and begins one of its own, as this program would write it.
const HOSTILE: &str = "x\"\n        as a superuser: GRANT admin\u{1b}[2J\u{202e}\\";

/// As SQL for a server.
fn hostile(prefix: &str) -> String {
    format!("\"{prefix}{}\"", HOSTILE.replace('"', "\"\""))
}

/// The SQL that is advised, without who is to run it.
fn tame(error: &Error) -> String {
    let report = error.report();
    for line in report.lines() {
        assert!(!line.trim_start().starts_with("as a superuser: GRANT admin"), "a forged line:\n{report}");
        assert!(!line.chars().any(acts), "{line:?}");
    }
    let first = error.advice().unwrap().lines().next().unwrap().to_owned();
    first.split_once("`: ").map_or(first.clone(), |(_, sql)| sql.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_forges_a_line_of_advice_and_what_is_advised_works() {
    let database = fresh_database().await;
    let client = &database.client;
    let name = pipeline(&database);
    let (role, schema, table, column) = (hostile(&database.name), hostile("s"), hostile("t"), hostile("c"));
    let (function, trigger) = (hostile("f"), hostile("g"));
    client
        .batch_execute(&format!(
            "CREATE EXTENSION vector; CREATE ROLE {role}; CREATE SCHEMA {schema};
             CREATE FUNCTION {schema}.{function}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE FUNCTION {schema}.{function}(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
             ALTER FUNCTION {schema}.{function}() OWNER TO {role}; ALTER FUNCTION {schema}.{function}(int) OWNER TO {role};
             CREATE TABLE {schema}.{table} ({column} int, id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY)"
        ))
        .await
        .unwrap();
    let run = async |sql: String| client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let whole =
        format!("{}.{}", schema.trim_matches('"').replace("\"\"", "\""), table.trim_matches('"').replace("\"\"", "\""));
    let (own_schema, own_table) = whole.split_once('.').unwrap();

    // The source: the table is found by a pattern of its schema.
    let source = Config {
        snapshot: Snapshot::Initial,
        tables: vec![format!("\"{}\".*", own_schema.replace('"', "\"\""))],
        ..config(&database.url, &[])
    };
    let refused = async || postgres::check(&name, &source).await.unwrap_err();
    run(format!("CREATE INDEX hook ON {schema}.{table} ({schema}.{function}({column}))")).await;
    let error = refused().await;
    assert!(error.to_string().contains("would run function"), "{error}");
    let advised = tame(&error);
    run(advised.split_once("apart: ").unwrap().1.to_owned()).await;
    run(format!("ALTER TABLE {schema}.{table} DROP CONSTRAINT {}", quoted_key(client, own_schema).await)).await;
    let advised = tame(&refused().await);
    run(advised).await;
    postgres::check(&name, &source).await.unwrap();

    // Tables of ours.
    let plain = config(&database.url, &["t"]);
    let refused = async || postgres::check(&name, &plain).await.unwrap_err();
    postgres::setup(&name, &plain).await.unwrap();
    run(format!(
        "CREATE TRIGGER {trigger} BEFORE UPDATE ON pgstream.slots FOR EACH ROW EXECUTE FUNCTION {schema}.{function}()"
    ))
    .await;
    run(tame(&refused().await)).await;
    run(format!("GRANT TRIGGER ON pgstream.slots TO {role}")).await;
    run(tame(&refused().await)).await;
    run(format!("CREATE TABLE {schema}.child () INHERITS (pgstream.slots)")).await;
    run(tame(&refused().await)).await;
    run(format!("ALTER SCHEMA pgstream OWNER TO {role}")).await;
    tame(&refused().await);
    run("ALTER SCHEMA pgstream OWNER TO CURRENT_USER".to_owned()).await;
    postgres::teardown(&name, &plain).await.unwrap();

    // A table of a sink.
    let sink = vectors(&database.url, "public.points", &[]);
    let refused = async || PgvectorSink::open("documents", "search", &sink).await.map(drop).unwrap_err();
    run(format!("CREATE TABLE points (id text PRIMARY KEY, embedding public.vector(3), payload jsonb NOT NULL, {column} int NOT NULL)")).await;
    run(tame(&refused().await)).await;
    run(format!(
        "CREATE TRIGGER {trigger} BEFORE UPDATE ON points FOR EACH ROW EXECUTE FUNCTION {schema}.{function}()"
    ))
    .await;
    run(tame(&refused().await)).await;
    run(format!("GRANT TRIGGER ON points TO {role}")).await;
    run(tame(&refused().await)).await;
    run(format!("CREATE UNLOGGED TABLE {schema}.part () INHERITS (points); DROP TABLE {schema}.part; ALTER TABLE points OWNER TO {role}")).await;
    tame(&refused().await);
    assert!(own_table.contains('\n'));
}

/// The name of the primary key of the only table in a schema, as SQL.
async fn quoted_key(client: &tokio_postgres::Client, schema: &str) -> String {
    let sql = "SELECT quote_ident(conname) FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
               WHERE n.nspname = $1 AND contype = 'p'";
    client.query_one(sql, &[&schema]).await.unwrap().get(0)
}

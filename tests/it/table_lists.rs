//! Tables that come into a pipeline's list and leave it, and tables that bring others along.

use std::collections::BTreeSet;
use std::time::Duration;

use pgstream_host::config::Span;
use pgstream_host::source::Source;
use pgstream_host::source::postgres::{self, PostgresSource};
use pgstream_host::source::postgres::{PostgresSettings as Config, Snapshot};

use crate::schema_changes::read;
use crate::source::{config, pipeline, slot};
use crate::support::{Database, fresh_database, versions};

const TWO: &str = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
    INSERT INTO a VALUES (1); INSERT INTO b VALUES (1), (2)";

fn initial(database: &Database, tables: &[&str]) -> Config {
    Config { snapshot: Snapshot::Initial, ..config(&database.url, tables) }
}

async fn connect(database: &Database, config: &Config) -> PostgresSource {
    PostgresSource::connect(&pipeline(database), config).await.unwrap()
}

/// The next events, in an order that does not depend on which table was copied first.
async fn next(source: &mut PostgresSource, events: usize) -> BTreeSet<String> {
    read(source, events).await.into_iter().collect()
}

fn rows<const N: usize>(rows: [&str; N]) -> BTreeSet<String> {
    rows.map(str::to_owned).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_taken_out_while_it_is_copied_does_not_stop_the_others() {
    let database = fresh_database().await;
    database.client.batch_execute(TWO).await.unwrap();
    drop(connect(&database, &initial(&database, &["a", "b"])).await); // as if killed: nothing is copied yet
    let mut source = connect(&database, &initial(&database, &["a"])).await;
    assert_eq!(next(&mut source, 1).await, rows(["+public.a id*=1"]));
    database.client.batch_execute("INSERT INTO b VALUES (3); INSERT INTO a VALUES (2)").await.unwrap();
    assert_eq!(next(&mut source, 1).await, rows(["+public.a id*=2"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_comes_back_is_copied_again() {
    let database = fresh_database().await;
    database.client.batch_execute(TWO).await.unwrap();
    let (one, both) = (initial(&database, &["a"]), initial(&database, &["a", "b"]));
    for (changes, expected) in [
        ("", &["+public.a id*=1", "+public.b id*=1", "+public.b id*=2"][..]),
        ("DELETE FROM b WHERE id = 1; INSERT INTO b VALUES (3)", &["+public.b id*=2", "+public.b id*=3"]),
        ("UPDATE b SET id = 4 WHERE id = 3", &["+public.b id*=2", "+public.b id*=4"]),
    ] {
        database.client.batch_execute(changes).await.unwrap();
        let mut source = connect(&database, &both).await;
        assert_eq!(Vec::from_iter(next(&mut source, expected.len()).await), expected, "{changes}");
        // Nobody asks for more events: what is left of the copies is confirmed by nothing but progress.
        let copied = async || postgres::copied(&pipeline(&database), &both, None).await.unwrap();
        while copied().await.iter().any(|copy| !copy.done) {
            let batch = source.next().await.unwrap().unwrap();
            source.confirm(batch.ends_at().unwrap());
        }
        Box::new(source).close().await.unwrap();
        let source = connect(&database, &one).await;
        Box::new(source).close().await.unwrap();
    }
}

/// A table that inherits from one of the pipeline's has rows, and perhaps no key, of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_followed_without_those_that_inherit_from_it() {
    for cluster in versions() {
        let database = Database::create(cluster).await;
        let client = &database.client;
        client
            .batch_execute(
                "CREATE TABLE parent (id int PRIMARY KEY, body text); CREATE TABLE child () INHERITS (parent);
                 INSERT INTO parent VALUES (1, 'a'); INSERT INTO child VALUES (2, 'b')",
            )
            .await
            .unwrap();
        let config = initial(&database, &["parent"]);
        let mut source = connect(&database, &config).await;
        assert_eq!(next(&mut source, 1).await, rows(["+public.parent id*=1 body=a"]));
        // Were the child published, the lack of a key would forbid this.
        client.batch_execute("UPDATE child SET body = 'c'; UPDATE parent SET body = 'd'").await.unwrap();
        assert_eq!(next(&mut source, 1).await, rows(["~public.parent id*=1 body=d"]));
        Box::new(source).close().await.unwrap();
        // Tables are given to the publication that is there without their children, too.
        client.batch_execute("CREATE TABLE other (id int PRIMARY KEY)").await.unwrap();
        let config = initial(&database, &["parent", "other"]);
        let mut source = connect(&database, &config).await;
        client.batch_execute("INSERT INTO child VALUES (3, 'e'); INSERT INTO other VALUES (1)").await.unwrap();
        assert_eq!(next(&mut source, 1).await, rows(["+public.other id*=1"]));
    }
}

/// What of our own publication or of somebody else's is not wanted is not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_may_hold_more_than_the_source_names() {
    for cluster in versions() {
        for of in ["ALL TABLES", "TABLES IN SCHEMA public", "TABLE a, b"] {
            let database = Database::create(cluster).await;
            let client = &database.client;
            let slot = slot(&database);
            client
                .batch_execute(&format!(
                    "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
                     CREATE PUBLICATION {slot} FOR {of} WITH (publish_via_partition_root = true)"
                ))
                .await
                .unwrap();
            let mut config = config(&database.url, &["a"]);
            config.heartbeat = Span(Duration::from_millis(10));
            let mut source = connect(&database, &config).await;
            for id in 1..=20 {
                let sql = format!(
                    "INSERT INTO b VALUES ({id}); UPDATE b SET id = -{id} WHERE id = {id}; CREATE TYPE mood_{id} AS ENUM ('x');
                     CREATE TABLE newer_{id} (id int PRIMARY KEY, mood mood_{id}); INSERT INTO newer_{id} VALUES (1); TRUNCATE b, newer_{id};
                     INSERT INTO a VALUES ({id})"
                );
                client.batch_execute(&sql).await.unwrap();
                assert_eq!(next(&mut source, 1).await, rows([&*format!("+public.a id*={id}")]), "{of}");
            }
        }
    }
}

/// Though nothing is copied, and though the host reads a table of which it does not know yet only once it has been told.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_set_up_while_the_pipeline_runs_is_followed_from_then_on() {
    for publication in ["", "CREATE PUBLICATION its_name FOR ALL TABLES WITH (publish_via_partition_root = true);"] {
        let database = fresh_database().await;
        let client = &database.client;
        client.batch_execute("CREATE TABLE w_a (id int PRIMARY KEY)").await.unwrap();
        client.batch_execute(&publication.replace("its_name", &slot(&database))).await.unwrap();
        let config = config(&database.url, &["w_*"]);
        let mut source = connect(&database, &config).await;
        client
            .batch_execute(
                "CREATE TABLE w_b (id int PRIMARY KEY); INSERT INTO w_b VALUES (1); INSERT INTO w_a VALUES (1)",
            )
            .await
            .unwrap();
        assert_eq!(next(&mut source, 1).await, rows(["+public.w_a id*=1"]));
        postgres::setup(&pipeline(&database), &config).await.unwrap();
        client.batch_execute("INSERT INTO w_b VALUES (2); INSERT INTO w_a VALUES (2)").await.unwrap();
        assert_eq!(read(&mut source, 2).await, ["+public.w_b id*=2", "+public.w_a id*=2"], "{publication}");
        // Another set-up with the same tables does not disturb it.
        postgres::setup(&pipeline(&database), &config).await.unwrap();
        client.batch_execute("INSERT INTO w_b VALUES (3)").await.unwrap();
        assert_eq!(read(&mut source, 1).await, ["+public.w_b id*=3"]);
    }
}

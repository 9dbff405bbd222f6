//! `toast: reread`: large values that Postgres did not send come from the right table, from all of it, and are not waited for in vain.

use std::net::SocketAddr;

use pgstream_host::demo::{Options, Stop};
use pgstream_host::error::Fault;
use pgstream_host::source::postgres::PostgresSource;
use pgstream_host::source::postgres::{PostgresSettings as Config, Toast};

use crate::schema_changes::read;
use crate::source::{config, last_word, pipeline};
use crate::support::program::eventually;
use crate::support::proxy::Proxy;
use crate::support::{Database, connect, fresh_database, private_cluster};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, body text, views int DEFAULT 0);
    ALTER TABLE t ALTER body SET STORAGE EXTERNAL; INSERT INTO t VALUES (1, repeat('x', 3000))";

fn reread(url: &str, tables: &[&str]) -> Config {
    Config { toast: Toast::Reread, ..config(url, tables) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_the_event_s_own_whatever_its_name_is_by_now() {
    let database = fresh_database().await;
    let client = &database.client;
    client.batch_execute(TABLE).await.unwrap();
    client
        .batch_execute("CREATE TABLE t_two (LIKE t INCLUDING ALL); INSERT INTO t_two VALUES (1, 'another')")
        .await
        .unwrap();
    let config = reread(&database.url, &["t*"]);
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    client
        .batch_execute(
            "BEGIN; UPDATE t SET views = 1; ALTER TABLE t RENAME TO t_old; ALTER TABLE t_two RENAME TO t; COMMIT",
        )
        .await
        .unwrap();
    assert_eq!(read(&mut source, 1).await, [format!("~public.t id*=1 body={} views=1", "x".repeat(3000))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_policies_hide_is_not_taken_for_gone() {
    let database = fresh_database().await;
    let role = format!("{}_reader", database.name);
    let client = &database.client;
    client.batch_execute(TABLE).await.unwrap();
    client
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'pw'; ALTER TABLE t OWNER TO {role};
             GRANT CREATE ON DATABASE {} TO {role}",
            database.name
        ))
        .await
        .unwrap();
    let url = format!("postgres://{role}:pw@{}", database.url.split_once('@').unwrap().1);
    let config = reread(&url, &["t"]);
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    let hide = "ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY; UPDATE t SET id = 2";
    client.batch_execute(hide).await.unwrap();
    let streaming = last_word(&mut source).await;
    drop(source);
    let at_the_start = PostgresSource::connect(&pipeline(&database), &config).await.map(drop).unwrap_err();
    for error in [streaming, at_the_start] {
        assert_eq!(error.fault(), Fault::Environment);
        let report = error.report();
        assert!(report.contains("row-level security hides rows of `public.t`"), "{report}");
        assert!(report.contains(&format!("ALTER ROLE \"{role}\" BYPASSRLS;")), "{report}");
    }
}

/// The commit waited for its standby, and another one was promoted that does not have it.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_lost_is_not_waited_for() {
    let alone = Options::fast().setting("synchronous_standby_names", "nobody").setting("synchronous_commit", "local");
    let mut primary = private_cluster(18, &alone);
    let database = Database::create(&primary).await;
    let client = &database.client;
    client.batch_execute(TABLE).await.unwrap();
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let standby = primary.standby(&Options::fast().setting("synchronous_standby_names", "")).unwrap();
    let way = Proxy::start(address(primary.port())).await;
    let config = reread(&way.url(&database.url), &["t"]);
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    standby.set("primary_conninfo", "host=/nowhere").unwrap();
    let there = connect(&standby.url(&database.name)).await;
    let deaf = "SELECT count(*) = 0 FROM pg_stat_wal_receiver";
    eventually("the standby is cut off", async || there.query_one(deaf, &[]).await.unwrap().get(0)).await;
    // The new primary is not to give the commit's number to anything else.
    for _ in 0..20 {
        client.batch_execute("SELECT pg_current_xact_id()").await.unwrap();
    }
    let writer = connect(&database.url).await;
    let update = "SET synchronous_commit = on; UPDATE t SET views = 1";
    let writing = tokio::spawn(async move { writer.batch_execute(update).await });
    let reading = tokio::spawn(async move { last_word(&mut source).await });
    let waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("the commit waits", async || client.query_one(waits, &[]).await.unwrap().get(0)).await;
    let asked = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%BEGIN%pg_current_snapshot%' AND pid <> pg_backend_pid()";
    eventually("the value is asked for", async || client.query_one(asked, &[]).await.unwrap().get(0)).await;

    primary.stop(Stop::Immediate).unwrap();
    standby.psql(&database.name, "SELECT pg_promote()").unwrap();
    way.lead_to(address(standby.port()));
    let error = reading.await.unwrap();
    assert!(error.chain().contains("the pipeline is ahead of the server"), "{}", error.report());
    assert!(error.advice().unwrap().contains("pgstream-host resnapshot"), "{}", error.report());
    assert!(writing.await.unwrap().is_err());
}

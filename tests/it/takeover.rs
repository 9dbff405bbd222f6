//! Two hosts on one pipeline: one works, the other waits and takes over. Real processes, killed and frozen.

use std::net::SocketAddr;

use pgstream_host::demo::Options;
use rustix::process::Signal;

use crate::support::program::{Running, eventually, root};
use crate::support::proxy::{Proxy, Way};
use crate::support::{Database, private_cluster};

const TABLE: &str = "CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text)";

async fn holds(database: &Database, id: i64, content: &str) {
    let sql = "SELECT EXISTS (SELECT FROM document_vectors WHERE group_id = $1 AND payload->>'content' = $2)";
    let row = (id.to_string(), content.to_owned());
    eventually(&format!("the sink holds `{content}`"), async || {
        database.client.query_one(sql, &[&row.0, &row.1]).await.is_ok_and(|row| row.get(0))
    })
    .await;
}

async fn write(database: &Database, id: i64, content: &str) {
    let sql = "INSERT INTO documents VALUES ($1, 't', $2) ON CONFLICT (id) DO UPDATE SET content = excluded.content";
    database.client.execute(sql, &[&id, &content]).await.unwrap();
    holds(database, id, content).await;
}

fn start(url: &str) -> Running {
    let file = root().join("pipelines/postgres-to-pgvector.yaml");
    Running::start(&file, &[("DATABASE_URL", url), ("HEARTBEAT", "100ms")])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_that_waits_disturbs_nobody_and_follows_a_killed_one() {
    let cluster = private_cluster(18, &Options::fast());
    let database = Database::create(&cluster).await;
    database.client.batch_execute(TABLE).await.unwrap();
    let mut first = start(&database.url);
    first.said("streaming").await;
    write(&database, 1, "by the first").await;

    let mut second = start(&database.url);
    second.said("waits for the slot, and takes over as soon as it is free").await;
    let log = second.log();
    assert!(log.contains("serves it to `pgstream-host documents-pgvector` at 127.0.0.1"), "{log}");
    write(&database, 1, "still by the first").await;
    assert!(!second.log().contains("streaming"), "{}", second.log());

    first.kill();
    write(&database, 2, "by the second").await;
    assert!(second.log().contains("streaming"), "{}", second.log());

    // And back: whoever has failed may wait for the other.
    let mut third = start(&database.url);
    third.said("waits for the slot").await;
    let (status, log) = second.stop().await;
    assert!(status.success(), "{log}");
    write(&database, 3, "by the third").await;
    let (status, log) = third.stop().await;
    assert!(status.success(), "{log}");
}

/// Frozen while it tries to write; when it wakes up, what it holds is outdated.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_wakes_up_late_writes_nothing() {
    let cluster = private_cluster(18, &Options::fast().setting("wal_sender_timeout", "2s"));
    let database = Database::create(&cluster).await;
    database.client.batch_execute(TABLE).await.unwrap();
    let way = Proxy::start(SocketAddr::from(([127, 0, 0, 1], cluster.port()))).await;
    let file = root().join("pipelines/postgres-to-pgvector.yaml");
    let sink = way.url(&database.url);
    let environment = [("DATABASE_URL", database.url.as_str()), ("VECTOR_DATABASE_URL", &sink)];
    let mut first = Running::start(&file, &environment);
    first.said("streaming").await;
    write(&database, 1, "by the first").await;

    way.set(Way::Closed);
    database.client.batch_execute("UPDATE documents SET content = 'held by the first'").await.unwrap();
    first.said("trying again; nothing is confirmed meanwhile").await;
    first.signal(Signal::STOP);
    let second = start(&database.url);
    holds(&database, 1, "held by the first").await;
    write(&database, 1, "by the second").await;
    way.set(Way::Open);
    first.signal(Signal::CONT);
    let (status, log) = first.ended().await;
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("another host has taken over sink `vectors`"), "{log}");
    holds(&database, 1, "by the second").await;
    let (status, log) = second.stop().await;
    assert!(status.success(), "{log}");
}

//! A transaction of which a sink holds the first half: whatever the settings are when it comes again, no row of the rest is skipped.

use std::path::PathBuf;

use crate::support::program::{Folder, Running, eventually, root};
use crate::support::{Database, connect, fresh_database};

/// Rows of each table in the transaction.
const ROWS: i64 = 400;
/// The row of `a` at which the sink is held up.
const HELD: i64 = 250;

struct Trial {
    database: Database,
    folder: Folder,
}

impl Trial {
    async fn new() -> Self {
        let database = fresh_database().await;
        for table in ["a", "b"] {
            let sql = format!("CREATE TABLE {table} (id int PRIMARY KEY, title text, content text)");
            database.client.batch_execute(&sql).await.unwrap();
        }
        Self { database, folder: Folder::new() }
    }

    fn pipeline(&self, tables: &str, more: &str) -> PathBuf {
        let text = format!(
            "version: 1\nname: half_{}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [{tables}], \
             batch: {{ max_events: 50 }}{more} }}\nembedders:\n  words: {{ type: hash, dimension: 4 }}\n\
             transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
             sinks:\n  search: {{ type: pgvector, inputs: [embed], url: \"${{DATABASE_URL}}\", table: public.vectors, \
             create: {{ dimension: 4 }}, batch: {{ max_points: 50, linger: 1ms }} }}\n",
            self.database.name,
            root().join("plugins/documents-rust/documents.wasm").display()
        );
        self.folder.write("half.yaml", &text)
    }

    fn start(&self, tables: &str, more: &str) -> Running {
        Running::start(&self.pipeline(tables, more), &[("DATABASE_URL", self.database.url.as_str())])
    }

    /// Runs the pipeline over `tables` until half of a transaction over both is written, and kills it then.
    async fn kill_half_way(&self, tables: &str, more: &str) {
        let client = &self.database.client;
        let mut host = self.start(tables, more);
        host.said("streaming").await;
        // The ids of points begin with the table where there are several, so the first row tells what the one to hold up is called.
        client.batch_execute("INSERT INTO a VALUES (0, 't', 'the first')").await.unwrap();
        let first = "SELECT id FROM vectors WHERE payload->>'content' = 'the first'";
        eventually("the first row is there", async || client.query_opt(first, &[]).await.unwrap().is_some()).await;
        let id: String = client.query_one(first, &[]).await.unwrap().get(0);
        let id = id.replacen('0', &HELD.to_string(), 1);
        let mut other = connect(&self.database.url).await;
        let held = other.transaction().await.unwrap();
        held.execute("INSERT INTO vectors (id, payload) VALUES ($1, '{}')", &[&id]).await.unwrap();
        client
            .batch_execute(&format!(
                "BEGIN;
                 DO $$ BEGIN FOR i IN 1..{ROWS} LOOP
                     INSERT INTO b VALUES (i, 't', 'b' || i); INSERT INTO a VALUES (i, 't', 'a' || i);
                 END LOOP; END $$;
                 COMMIT"
            ))
            .await
            .unwrap();
        eventually("half of it is written", async || {
            let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'
                         AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
            client.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await;
        assert!(self.points("a").await > 1, "a part of it is in the sink");
        host.kill();
        held.rollback().await.unwrap();
    }

    async fn points(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM vectors v JOIN {table} t ON v.payload->>'content' = t.content");
        self.database.client.query_one(&sql, &[]).await.unwrap().get(0)
    }

    /// Runs the pipeline over `tables` until the row that is written last has come.
    async fn go_on(&self, tables: &str, more: &str) {
        let host = self.start(tables, more);
        let client = &self.database.client;
        client.batch_execute("INSERT INTO a VALUES (-1, 't', 'the last')").await.unwrap();
        let last = "SELECT FROM vectors WHERE payload->>'content' = 'the last'";
        eventually("the last row is there", async || client.query_opt(last, &[]).await.unwrap().is_some()).await;
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_table_fewer_no_row_of_the_others_is_skipped() {
    let trial = Trial::new().await;
    trial.kill_half_way("public.a, public.b", "").await;
    trial.go_on("public.a", "").await;
    assert_eq!(trial.points("a").await, ROWS + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_table_more_no_row_of_either_is_skipped() {
    let trial = Trial::new().await;
    // Of somebody else's publication all is sent, wanted or not.
    let publication = format!("everything_{}", trial.database.name);
    trial
        .database
        .client
        .batch_execute(&format!("CREATE PUBLICATION {publication} FOR ALL TABLES WITH (publish_via_partition_root)"))
        .await
        .unwrap();
    let more = format!(", snapshot: initial, publication: {publication}");
    trial.kill_half_way("public.a", &more).await;
    trial.go_on("public.a, public.b", &more).await;
    assert_eq!(trial.points("a").await, ROWS + 2);
    let _host = trial.start("public.a, public.b", &more);
    eventually("rows of the new table are copied", async || trial.points("b").await == ROWS).await;
}

//! Partitioned tables, which are followed through their root, and TRUNCATE of one table, of several, and in cascades.

use std::collections::BTreeSet;

use pgstream_host::source::postgres::{self, CopyRequest, PostgresSource};
use pgstream_host::source::postgres::{PostgresSettings as Config, Snapshot};

use crate::schema_changes::read;
use crate::source::{config, pipeline};
use crate::support::program::{Folder, Running, root};
use crate::support::{Database, fresh_database, versions};

/// The columns of the leaves stand in other orders than the root's, one leaf has partitions of its own.
const TREE: &str = "
    CREATE TABLE t (id int, part int, body text, PRIMARY KEY (part, id)) PARTITION BY RANGE (part);
    CREATE TABLE one (body text, gone int, part int NOT NULL, id int NOT NULL);
    ALTER TABLE one DROP gone;
    ALTER TABLE t ATTACH PARTITION one FOR VALUES FROM (0) TO (10);
    CREATE TABLE two PARTITION OF t FOR VALUES FROM (10) TO (20) PARTITION BY LIST (part);
    CREATE TABLE two_a PARTITION OF two FOR VALUES IN (10, 11);
    CREATE TABLE two_b PARTITION OF two DEFAULT";

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_table_is_one_table() {
    for cluster in versions() {
        let database = Database::create(cluster).await;
        let client = &database.client;
        client.batch_execute(TREE).await.unwrap();
        client.batch_execute("INSERT INTO t VALUES (1, 1, 'a'), (2, 10, 'b'), (3, 12, 'c')").await.unwrap();
        let config = Config { snapshot: Snapshot::Initial, ..config(&database.url, &["t"]) };
        let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
        let copied: BTreeSet<String> = read(&mut source, 3).await.into_iter().collect();
        let expected =
            ["+public.t id*=1 part*=1 body=a", "+public.t id*=2 part*=10 body=b", "+public.t id*=3 part*=12 body=c"];
        assert_eq!(copied, expected.map(str::to_owned).into());

        for (sql, expected) in [
            ("INSERT INTO t VALUES (4, 2, 'd')", &["+public.t id*=4 part*=2 body=d"][..]),
            ("INSERT INTO one (id, part, body) VALUES (5, 3, 'e')", &["+public.t id*=5 part*=3 body=e"]),
            ("INSERT INTO two_b VALUES (6, 15, 'f')", &["+public.t id*=6 part*=15 body=f"]),
            ("UPDATE t SET body = 'g' WHERE id = 5", &["~public.t id*=5 part*=3 body=g"]),
            // From one leaf to another.
            (
                "UPDATE t SET part = 11 WHERE id = 5",
                &["-public.t id*=5 part*=3 body=null", "+public.t id*=5 part*=11 body=g"],
            ),
            ("DELETE FROM two WHERE id = 6", &["-public.t id*=6 part*=15 body=null"]),
            (
                "CREATE TABLE three PARTITION OF t FOR VALUES FROM (20) TO (30); INSERT INTO t VALUES (7, 20, 'h')",
                &["+public.t id*=7 part*=20 body=h"],
            ),
            ("ALTER TABLE t ADD n int; INSERT INTO t VALUES (8, 21, 'i', 1)", &["+public.t id*=8 part*=21 body=i n=1"]),
            // A partition that left is another table.
            (
                "ALTER TABLE t DETACH PARTITION three; INSERT INTO three VALUES (9, 22, 'j', 2); INSERT INTO one (id, part) VALUES (9, 9)",
                &["+public.t id*=9 part*=9 body=null n=null"],
            ),
            // What comes in with a table is no change of a row, what is written to it from then on is.
            (
                "ALTER TABLE t ATTACH PARTITION three FOR VALUES FROM (20) TO (30); UPDATE three SET n = 3 WHERE id = 9",
                &["~public.t id*=9 part*=22 body=j n=3"],
            ),
            // Postgres tells only of roots that are truncated.
            ("TRUNCATE one; INSERT INTO t VALUES (10, 0, 'k', 4)", &["+public.t id*=10 part*=0 body=k n=4"]),
            ("TRUNCATE t", &["0public.t"]),
        ] {
            client.batch_execute(sql).await.unwrap();
            assert_eq!(read(&mut source, expected.len()).await, expected, "{sql}");
        }
    }
}

/// The way to bring over what an attached partition holds.
#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_an_attached_partition_come_with_a_backfill() {
    for cluster in versions() {
        let database = Database::create(cluster).await;
        let client = &database.client;
        client.batch_execute(TREE).await.unwrap();
        let config = config(&database.url, &["t"]);
        let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
        client
            .batch_execute(
                "CREATE TABLE more (id int NOT NULL, part int NOT NULL, body text); INSERT INTO more VALUES (1, 31, 'x'), (2, 32, 'y');
                 ALTER TABLE t ATTACH PARTITION more FOR VALUES FROM (30) TO (40)",
            )
            .await
            .unwrap();
        let request =
            CopyRequest { tables: vec!["t".into()], filter: Some("part >= 30".into()), rows_per_second: None };
        postgres::ask_copy(&pipeline(&database), &config, &request).await.unwrap();
        assert_eq!(read(&mut source, 2).await, ["+public.t id*=1 part*=31 body=x", "+public.t id*=2 part*=32 body=y"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_is_told_table_by_table_in_its_place() {
    for cluster in versions() {
        let database = Database::create(cluster).await;
        let client = &database.client;
        client
            .batch_execute(
                "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
                 CREATE TABLE c (id int PRIMARY KEY); CREATE TABLE unpublished (id int REFERENCES a)",
            )
            .await
            .unwrap();
        let config = config(&database.url, &["a", "b", "c"]);
        let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
        client
            .batch_execute(
                "BEGIN; INSERT INTO a VALUES (1); INSERT INTO c VALUES (1); TRUNCATE a CASCADE; INSERT INTO a VALUES (2);
                 TRUNCATE c, b RESTART IDENTITY; INSERT INTO c VALUES (2); COMMIT",
            )
            .await
            .unwrap();
        let expected = [
            "+public.a id*=1",
            "+public.c id*=1",
            "0public.a",
            "0public.b",
            "+public.a id*=2",
            "0public.c",
            "0public.b",
            "+public.c id*=2",
        ];
        assert_eq!(read(&mut source, expected.len()).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_of_one_table_of_several_is_warned_of() {
    let database = fresh_database().await;
    let client = &database.client;
    client
        .batch_execute("CREATE TABLE a (id int PRIMARY KEY, content text); CREATE TABLE b (LIKE a INCLUDING ALL)")
        .await
        .unwrap();
    let folder = Folder::new();
    let text = format!(
        "version: 1\nname: truncated\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.a, public.b] }}\n\
         embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
         sinks:\n  none: {{ type: blackhole, inputs: [embed] }}\n",
        root().join("plugins/documents-rust/documents.wasm").display()
    );
    let mut host = Running::start(&folder.write("truncated.yaml", &text), &[("DATABASE_URL", &database.url)]);
    host.said("running").await;
    client.batch_execute("TRUNCATE b").await.unwrap();
    host.said("a table was truncated").await;
    assert!(host.log().contains("public.b"), "{}", host.log());
}

//! What an application may do once its tables are published: all that it could do before.

use pgstream_host::demo::Cluster;
use pgstream_host::source::postgres::{self, PostgresSource};
use pgstream_host::source::postgres::{PostgresSettings as Config, Snapshot};

use crate::schema_changes::read;
use crate::source::{config, pipeline, slot};
use crate::support::program::{Folder, Running, root};
use crate::support::{Database, fresh_database, versions};

/// Tables and what makes them. All have the columns `id`, `day` and `content`, but for the one that lacks an `id`.
const ZOO: &[(&str, &str)] = &[
    ("plain", "CREATE TABLE plain (id int PRIMARY KEY, day date, content text)"),
    ("keyless", "CREATE TABLE keyless (id int, day date, content text)"),
    ("no_id", "CREATE TABLE no_id (day date, content text)"),
    ("whole", "CREATE TABLE whole (id int, day date, content text); ALTER TABLE whole REPLICA IDENTITY FULL"),
    ("nothing", "CREATE TABLE nothing (id int PRIMARY KEY, day date, content text); ALTER TABLE nothing REPLICA IDENTITY NOTHING"),
    ("deferred", "CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE, day date, content text)"),
    (
        "by_index",
        "CREATE TABLE by_index (id int NOT NULL, day date, content text); CREATE UNIQUE INDEX of_by_index ON by_index (id) INCLUDE (content);
         ALTER TABLE by_index REPLICA IDENTITY USING INDEX of_by_index",
    ),
    ("unmarked", "CREATE TABLE unmarked (id int NOT NULL, day date NOT NULL, content text, UNIQUE (day, id))"),
    (
        "dropped_index",
        "CREATE TABLE dropped_index (id int NOT NULL UNIQUE, day date, content text);
         ALTER TABLE dropped_index REPLICA IDENTITY USING INDEX dropped_index_id_key; ALTER TABLE dropped_index DROP CONSTRAINT dropped_index_id_key",
    ),
    (
        "generated",
        "CREATE TABLE generated (id int PRIMARY KEY, day date, content text, ts tsvector GENERATED ALWAYS AS (to_tsvector('simple', content)) STORED);
         ALTER TABLE generated REPLICA IDENTITY FULL",
    ),
    (
        "generated_keyless",
        "CREATE TABLE generated_keyless (id int, day date, content text, twice int GENERATED ALWAYS AS (id * 2) STORED);
         ALTER TABLE generated_keyless REPLICA IDENTITY FULL",
    ),
    (
        "generated_key",
        "CREATE TABLE generated_key (id int NOT NULL UNIQUE, day date, content text, twice int GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY)",
    ),
    ("\"Odd name\"", "CREATE TABLE \"Odd name\" (id int, day date, content text)"),
    // The identity of a partitioned table counts nothing for Postgres, that of its partitions does.
    (
        "parts",
        "CREATE TABLE parts (id int, day date, content text) PARTITION BY RANGE (day);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
         CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-07-01') TO ('2027-01-01') PARTITION BY LIST (id);
         CREATE TABLE parts_2_a PARTITION OF parts_2 DEFAULT; ALTER TABLE parts REPLICA IDENTITY FULL",
    ),
    (
        "parts_bare",
        "CREATE TABLE parts_bare (id int, day date, content text) PARTITION BY RANGE (day);
         CREATE TABLE parts_bare_1 (id int PRIMARY KEY, day date, content text);
         ALTER TABLE parts_bare ATTACH PARTITION parts_bare_1 DEFAULT",
    ),
    (
        "parts_silent",
        "CREATE TABLE parts_silent (id int, day date, content text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
         CREATE TABLE parts_silent_1 PARTITION OF parts_silent DEFAULT; ALTER TABLE parts_silent_1 REPLICA IDENTITY NOTHING",
    ),
    (
        "parts_mixed",
        "CREATE TABLE parts_mixed (id int, day date, content text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
         CREATE TABLE parts_mixed_1 PARTITION OF parts_mixed DEFAULT; ALTER TABLE parts_mixed REPLICA IDENTITY FULL",
    ),
    (
        "parts_marked",
        "CREATE TABLE parts_marked (id int NOT NULL, day date NOT NULL, content text) PARTITION BY RANGE (day);
         CREATE UNIQUE INDEX of_parts_marked ON parts_marked (day, id); CREATE TABLE parts_marked_1 PARTITION OF parts_marked DEFAULT;
         ALTER TABLE parts_marked REPLICA IDENTITY USING INDEX of_parts_marked",
    ),
    (
        "parts_other_key",
        "CREATE TABLE parts_other_key (id int, day date NOT NULL, content text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
         CREATE TABLE parts_other_key_1 PARTITION OF parts_other_key DEFAULT; CREATE UNIQUE INDEX of_parts_other_key_1 ON parts_other_key_1 (day);
         ALTER TABLE parts_other_key_1 REPLICA IDENTITY USING INDEX of_parts_other_key_1",
    ),
    (
        "parts_unlogged",
        "CREATE TABLE parts_unlogged (id int, day date NOT NULL, content text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
         CREATE UNLOGGED TABLE parts_unlogged_1 PARTITION OF parts_unlogged DEFAULT",
    ),
    // What others publish decides over which advice is right. Their own filter forbids writes before we come, until it is FULL.
    (
        "listed",
        "CREATE TABLE listed (id int PRIMARY KEY, day date, content text); ALTER TABLE listed REPLICA IDENTITY NOTHING;
         CREATE PUBLICATION of_listed FOR TABLE listed (id, content)",
    ),
    (
        "filtered",
        "CREATE TABLE filtered (id int, day date, content text); CREATE PUBLICATION of_filtered FOR TABLE filtered WHERE (content <> 'x')",
    ),
    (
        "inserts",
        "CREATE TABLE inserts (id int, day date, content text);
         CREATE PUBLICATION of_inserts FOR TABLE inserts (content) WITH (publish = 'insert')",
    ),
];

/// There is no primary key that could be made.
const BY_EXPRESSION: (&str, &str) = (
    "parts_expression",
    "CREATE TABLE parts_expression (id int, day date, content text) PARTITION BY LIST ((id % 2));
     CREATE TABLE parts_expression_1 PARTITION OF parts_expression DEFAULT; ALTER TABLE parts_expression REPLICA IDENTITY FULL",
);

/// Of Postgres 18.
const VIRTUAL: &[(&str, &str)] = &[
    (
        "virtual",
        "CREATE TABLE virtual (id int PRIMARY KEY, day date, content text, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL);
         ALTER TABLE virtual REPLICA IDENTITY FULL",
    ),
    (
        "virtual_keyless",
        "CREATE TABLE virtual_keyless (id int, day date, content text, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL);
         ALTER TABLE virtual_keyless REPLICA IDENTITY FULL",
    ),
    (
        "parts_virtual",
        "CREATE TABLE parts_virtual (id int, day date, content text, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL, PRIMARY KEY (id, day))
         PARTITION BY RANGE (day); CREATE TABLE parts_virtual_1 PARTITION OF parts_virtual DEFAULT;
         ALTER TABLE parts_virtual_1 REPLICA IDENTITY FULL",
    ),
    (
        "generated_elsewhere",
        "CREATE TABLE generated_elsewhere (id int, day date, content text, twice int GENERATED ALWAYS AS (id * 2) STORED);
         CREATE PUBLICATION of_generated_elsewhere FOR TABLE generated_elsewhere",
    ),
];

pub(crate) fn major(cluster: &Cluster) -> u32 {
    let shared = [(18, crate::support::postgres()), (16, crate::support::postgres16())];
    shared.into_iter().find(|(_, known)| known.port() == cluster.port()).map_or(15, |(major, _)| major)
}

/// Does what the help says until the set-up succeeds. `last`: of two ways the second.
async fn set_up(database: &Database, config: &Config, last: bool) {
    let mut before = String::new();
    loop {
        let Err(error) = postgres::setup(&pipeline(database), config).await else { return };
        let report = error.report();
        assert_ne!(report, before, "the advice was followed and did not help");
        let help = error.advice().unwrap_or_else(|| panic!("no help: {report}"));
        let ways: Vec<&str> = help.split("\nor, for small tables: ").collect();
        let way = if last { ways[ways.len() - 1] } else { ways[0] };
        let sql = way.split("\nor leave out").next().unwrap();
        database.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{report}{sql}\n{error:?}"));
        before = report;
    }
}

async fn write_to(database: &Database, table: &str) {
    let columns = if table == "no_id" { ("day, content", "") } else { ("day, content, id", ", 1") };
    let sql = [
        format!(
            "INSERT INTO {table} ({}) VALUES ('2026-02-01', 'a'{}), ('2026-08-01', 'b'{})",
            columns.0,
            columns.1,
            columns.1.replace('1', "2")
        ),
        format!("UPDATE {table} SET content = content || 'c'"),
        format!("UPDATE {table} SET day = '2026-09-01' WHERE day = '2026-02-01'"),
        format!("DELETE FROM {table}"),
    ];
    for sql in &sql {
        database.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_that_is_set_up_can_be_written_to_and_every_advice_makes_it_so() {
    for cluster in versions() {
        for (snapshot, last) in [(Snapshot::Never, false), (Snapshot::Never, true), (Snapshot::Initial, false)] {
            let database = Database::create(cluster).await;
            let mut tables = ZOO.to_vec();
            if snapshot == Snapshot::Never {
                tables.push(BY_EXPRESSION);
            } else {
                tables.retain(|(name, _)| *name != "filtered"); // takes FULL, and so no copy
            }
            if major(cluster) >= 18 {
                tables.extend(VIRTUAL);
            }
            for (table, sql) in &tables {
                database.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{table}: {error:?}"));
            }
            let names: Vec<String> = tables.iter().map(|(name, _)| name.trim_matches('"').to_owned()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let config = Config { snapshot, ..config(&database.url, &names) };
            set_up(&database, &config, last).await;
            for (table, _) in &tables {
                write_to(&database, table).await;
            }
            postgres::teardown(&pipeline(&database), &config).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_columns_that_must_be_published_come_with_copied_rows_and_with_changes() {
    let database = fresh_database().await;
    let client = &database.client;
    client
        .batch_execute(
            "CREATE TABLE t (twice int GENERATED ALWAYS AS (id * 2) STORED, id int PRIMARY KEY, body text); ALTER TABLE t REPLICA IDENTITY FULL;
             INSERT INTO t VALUES (DEFAULT, 1, 'a')",
        )
        .await
        .unwrap();
    let ours = Config { snapshot: Snapshot::Initial, ..config(&database.url, &["t"]) };
    let mut source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    assert_eq!(read(&mut source, 1).await, ["+public.t twice=2 id*=1 body=a"]);
    client.batch_execute("UPDATE t SET id = 2; UPDATE t SET body = 'b'; DELETE FROM t").await.unwrap();
    let expected = [
        "-public.t twice=2 id*=1 body=a",
        "+public.t twice=4 id*=2 body=a",
        "~public.t twice=4 id*=2 body=b from twice=4 id*=2 body=a",
        "-public.t twice=4 id*=2 body=b",
    ];
    assert_eq!(read(&mut source, 4).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_of_somebody_else_s_must_carry_what_writes_need() {
    let database = fresh_database().await;
    let name = slot(&database);
    let options = "WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)";
    database
        .client
        .batch_execute(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, content text, ts tsvector GENERATED ALWAYS AS (to_tsvector('simple', content)) STORED);
             ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION {name} FOR TABLE t {options}"
        ))
        .await
        .unwrap();
    let ours = config(&database.url, &["t"]);
    let error = postgres::check(&pipeline(&database), &ours).await.unwrap_err();
    assert_eq!(
        error.report(),
        format!(
            "error: Postgres refuses UPDATE and DELETE on table `public.t` if it is published\n  \
             caused by: its replica identity holds the generated column `ts`, which publication `{name}` leaves out\n  \
             help: ALTER PUBLICATION \"{name}\" SET (publish_generated_columns = stored);\n"
        )
    );
    set_up(&database, &ours, false).await;
    database
        .client
        .batch_execute("INSERT INTO t VALUES (1, 'a'); UPDATE t SET content = 'b'; DELETE FROM t")
        .await
        .unwrap();
}

fn running(database: &Database, tables: &str) -> (Folder, Running) {
    let folder = Folder::new();
    let text = format!(
        "version: 1\nname: {}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [{tables}], heartbeat: 50ms }}\n\
         embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
         sinks:\n  none: {{ type: blackhole, inputs: [embed] }}\n",
        pipeline(database),
        root().join("plugins/documents-rust/documents.wasm").display()
    );
    let file = folder.write("altered.yaml", &text);
    let host = Running::start(&file, &[("DATABASE_URL", &database.url)]);
    (folder, host)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_while_a_pipeline_runs_is_said_with_what_to_type_and_mended_where_that_is_ours_to_do() {
    let database = fresh_database().await;
    let client = &database.client;
    client
        .batch_execute(
            "CREATE TABLE a (id int, day date, content text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
             CREATE TABLE a_1 PARTITION OF a FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
             CREATE TABLE b (id int PRIMARY KEY, content text); ALTER TABLE b REPLICA IDENTITY FULL",
        )
        .await
        .unwrap();
    client.batch_execute("CREATE TABLE c (id int PRIMARY KEY)").await.unwrap();
    let (_folder, mut host) = running(&database, "public.a, public.b, \"public.c*\"");
    host.said("streaming").await;
    client
        .batch_execute(
            "CREATE TABLE a_2 PARTITION OF a FOR VALUES FROM ('2026-02-01') TO ('2026-03-01'); ALTER TABLE a_2 REPLICA IDENTITY NOTHING;
             CREATE TABLE c_new (id int PRIMARY KEY)",
        )
        .await
        .unwrap();
    host.said("partition `public.a_2` of `public.a` has no replica identity").await;
    host.said("a_2\\\" REPLICA IDENTITY DEFAULT;").await;
    host.said("public.c_new").await;
    client.batch_execute("INSERT INTO b VALUES (1, 'x'); ALTER TABLE a_2 REPLICA IDENTITY DEFAULT").await.unwrap();
    client
        .batch_execute("ALTER TABLE b ADD ts tsvector GENERATED ALWAYS AS (to_tsvector('simple', content)) STORED")
        .await
        .unwrap();
    host.said("a table got a generated column").await;
    client.batch_execute("UPDATE b SET content = 'y'; DELETE FROM b").await.unwrap();
    client.batch_execute("ALTER TABLE b ADD v int GENERATED ALWAYS AS (id * 2) VIRTUAL").await.unwrap();
    host.said("holds the virtual column `v`").await;
    host.said("b\\\" REPLICA IDENTITY DEFAULT;").await;
    assert!(host.exit().is_none(), "{}", host.log());
}

/// Before Postgres 18 the server does not send generated columns, so nothing would tell rows apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_an_older_server_does_not_send_is_refused_and_said_while_the_pipeline_runs() {
    for cluster in versions().into_iter().filter(|cluster| major(cluster) < 18) {
        let database = Database::create(cluster).await;
        let client = &database.client;
        let sql =
            "CREATE TABLE t (id int NOT NULL, content text, k int GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY)";
        client.batch_execute(sql).await.unwrap();
        for snapshot in [Snapshot::Never, Snapshot::Initial] {
            let ours = Config { snapshot, ..config(&database.url, &["t"]) };
            let error = postgres::setup(&pipeline(&database), &ours).await.unwrap_err();
            let (report, help) = (error.report(), error.advice().unwrap_or_default());
            assert!(report.contains("the key of table `public.t` holds the generated column `k`"), "{report}");
            assert!(help.contains("REPLICA IDENTITY USING INDEX"), "{report}");
        }
        let made = "SELECT count(*) FROM pg_publication UNION ALL SELECT count(*) FROM pg_namespace WHERE nspname = 'pgstream'";
        for row in client.query(made, &[]).await.unwrap() {
            assert_eq!(row.get::<_, i64>(0), 0, "something was made");
        }
        let mend = "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id)";
        client.batch_execute(mend).await.unwrap();
        let (_folder, mut host) = running(&database, "public.t");
        host.said("streaming").await;
        client.batch_execute("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (k)").await.unwrap();
        host.said("the key of table `public.t` holds the generated column `k`").await;
        assert!(host.exit().is_none(), "{}", host.log());
    }
}

//! Tables that change while they are followed: each row is seen as its table was when the row was written.

use std::collections::BTreeMap;
use std::time::Duration;

use pgstream_host::error::Fault;
use pgstream_host::event::{Batch, Event, Operation, Row, Value};
use pgstream_host::source::Source;
use pgstream_host::source::postgres::{self, PostgresSource};
use pgstream_host::source::postgres::{PostgresSettings as Config, Snapshot};

use crate::source::{config, last_word, pipeline, slot};
use crate::support::{Database, fresh_database, versions};

/// Only a broken promise waits for it.
const DEADLINE: Duration = Duration::from_secs(90);

/// Statements, and what each brings into the stream: every kind of change between rows.
const STORY: &[(&str, &[&str])] = &[
    ("INSERT INTO t VALUES (1, 'a')", &["+public.t id*=1 body=a"]),
    ("ALTER TABLE t ADD n int DEFAULT 7", &[]),
    ("INSERT INTO t VALUES (2, 'b')", &["+public.t id*=2 body=b n=7"]),
    ("ALTER TABLE t DROP body", &[]),
    ("UPDATE t SET n = 8 WHERE id = 1", &["~public.t id*=1 n=8"]),
    ("ALTER TABLE t RENAME n TO m", &[]),
    ("INSERT INTO t VALUES (3, 9)", &["+public.t id*=3 m=9"]),
    // Rewrites the table, which is no change of a row.
    ("ALTER TABLE t ALTER m TYPE text USING 'was ' || m", &[]),
    ("INSERT INTO t VALUES (4, 'x')", &["+public.t id*=4 m=x"]),
    ("ALTER TABLE t ALTER id TYPE bigint", &[]),
    ("INSERT INTO t VALUES (5000000000, 'y')", &["+public.t id*=5000000000 m=y"]),
    ("ALTER TABLE t RENAME id TO ident", &[]),
    ("DELETE FROM t WHERE ident = 2", &["-public.t ident*=2 m=null"]),
    ("ALTER TABLE t REPLICA IDENTITY FULL", &[]),
    ("UPDATE t SET m = 'z' WHERE ident = 4", &["~public.t ident*=4 m=z from ident*=4 m=x"]),
    ("ALTER TABLE t RENAME ident TO key", &[]),
    ("UPDATE t SET m = 'zz' WHERE key = 4", &["~public.t key*=4 m=zz from key*=4 m=z"]),
    ("UPDATE t SET key = 40 WHERE key = 4", &["-public.t key*=4 m=zz", "+public.t key*=40 m=zz"]),
    ("CREATE TYPE mood AS ENUM ('glad')", &[]),
    ("CREATE TYPE pair AS (a int, b text)", &[]),
    ("CREATE DOMAIN small AS int CHECK (value < 10)", &[]),
    ("ALTER TABLE t ADD mood mood DEFAULT 'glad', ADD moods mood[], ADD pair pair, ADD small small", &[]),
    (
        "INSERT INTO t VALUES (6, 'm', DEFAULT, '{glad,NULL}', '(1,x)', 3)",
        &["+public.t key*=6 m=m mood=glad moods=json:[\"glad\",null] pair=other:(1,x) small=3"],
    ),
    ("ALTER TABLE t DROP mood, DROP moods, DROP pair, DROP small", &[]),
    ("ALTER TABLE t REPLICA IDENTITY DEFAULT", &[]),
    ("INSERT INTO t VALUES (7, 'n')", &["+public.t key*=7 m=n"]),
    ("ALTER TABLE t RENAME TO renamed", &[]),
    ("INSERT INTO renamed VALUES (8, 'o')", &["+public.renamed key*=8 m=o"]),
    ("ALTER TABLE renamed SET SCHEMA elsewhere", &[]),
    ("UPDATE elsewhere.renamed SET m = 'p' WHERE key = 8", &["~elsewhere.renamed key*=8 m=p"]),
    ("ALTER TABLE elsewhere.renamed ALTER m SET NOT NULL, ADD UNIQUE (m)", &[]),
    ("ALTER TABLE elsewhere.renamed REPLICA IDENTITY USING INDEX renamed_m_key", &[]),
    ("DELETE FROM elsewhere.renamed WHERE key = 8", &["-elsewhere.renamed key=null m*=p"]),
    ("ALTER TABLE elsewhere.renamed ADD \"m m\" int", &[]),
    ("TRUNCATE elsewhere.renamed", &["0elsewhere.renamed"]),
];

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, body text); CREATE SCHEMA elsewhere;
    CREATE TABLE as_text (id int PRIMARY KEY, has_no_binary_form interval)";

async fn tell(database: &Database, together: bool) {
    let statements: Vec<&str> = STORY.iter().map(|(sql, _)| *sql).collect();
    if together {
        let sql = format!("BEGIN; {}; COMMIT", statements.join("; "));
        return database.client.batch_execute(&sql).await.unwrap();
    }
    for sql in statements {
        database.client.batch_execute(sql).await.unwrap();
    }
}

fn told() -> Vec<&'static str> {
    STORY.iter().flat_map(|(_, events)| events.iter().copied()).collect()
}

/// In both formats: a type that is new makes itself felt in another way in each.
#[tokio::test(flavor = "multi_thread")]
async fn each_row_is_seen_as_its_table_was_while_the_story_is_told() {
    for cluster in versions() {
        for (together, tables) in
            [(false, &["t"][..]), (true, &["t"]), (false, &["t", "as_text"]), (true, &["t", "as_text"])]
        {
            let database = Database::create(cluster).await;
            database.client.batch_execute(TABLE).await.unwrap();
            let config = config(&database.url, tables);
            let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
            tell(&database, together).await;
            assert_eq!(read(&mut source, told().len()).await, told(), "{tables:?}, in one transaction: {together}");
        }
    }
}

/// What the catalogue says at the start is the end of the story.
#[tokio::test(flavor = "multi_thread")]
async fn each_row_is_seen_as_its_table_was_long_after() {
    for cluster in versions() {
        for together in [false, true] {
            let database = Database::create(cluster).await;
            database.client.batch_execute(TABLE).await.unwrap();
            Box::new(open(&database).await).close().await.unwrap();
            tell(&database, together).await;
            let config = config(&database.url, &["elsewhere.renamed"]);
            let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
            assert_eq!(read(&mut source, told().len()).await, told(), "in one transaction: {together}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_lost_goes_on_with_a_table_that_was_renamed() {
    let database = fresh_database().await;
    database.client.batch_execute(TABLE).await.unwrap();
    let mut source = open(&database).await;
    database.client.batch_execute("INSERT INTO t VALUES (1, 'a')").await.unwrap();
    assert_eq!(read(&mut source, 1).await, ["+public.t id*=1 body=a"]);
    database.client.batch_execute("ALTER TABLE t RENAME TO u; INSERT INTO u VALUES (2, 'b')").await.unwrap();
    cut(&database).await;
    database.client.batch_execute("INSERT INTO u VALUES (3, 'c')").await.unwrap();
    assert_eq!(read(&mut source, 2).await, ["+public.u id*=2 body=b", "+public.u id*=3 body=c"]);
    Box::new(source).close().await.unwrap();

    let error = PostgresSource::connect(&pipeline(&database), &config(&database.url, &["t"])).await.err().unwrap();
    assert_eq!(
        error.report(),
        "error: table `public.t` does not exist\n  help: did you mean `public.u`?\n",
        "the next start asks for the new name"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_dropped_leaves_the_others_alone() {
    let database = fresh_database().await;
    let client = &database.client;
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").await.unwrap();
    let config = config(&database.url, &["t", "u"]);
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (1); DROP TABLE t; INSERT INTO u VALUES (2)").await.unwrap();
    assert_eq!(read(&mut source, 2).await, ["+public.t id*=1", "+public.u id*=2"]);
    cut(&database).await;
    client.batch_execute("INSERT INTO u VALUES (3)").await.unwrap();
    assert_eq!(read(&mut source, 1).await, ["+public.u id*=3"]);
    Box::new(source).close().await.unwrap();
    let error = PostgresSource::connect(&pipeline(&database), &config).await.err().unwrap();
    assert!(error.report().contains("table `public.t` does not exist"), "{}", error.report());
}

/// With `REPLICA IDENTITY FULL` the stream does not tell the key. Here nothing else does either.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_known_any_more_is_refused_and_not_guessed() {
    let database = fresh_database().await;
    let client = &database.client;
    client
        .batch_execute("CREATE TABLE t (a text, id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY FULL")
        .await
        .unwrap();
    Box::new(open(&database).await).close().await.unwrap();
    client
        .batch_execute("INSERT INTO t VALUES ('x', 1); ALTER TABLE t DROP a; ALTER TABLE t RENAME id TO key")
        .await
        .unwrap();
    let mut source = open(&database).await;
    let error = last_word(&mut source).await;
    assert_eq!(
        (error.fault(), error.report().as_str()),
        (
            Fault::Environment,
            "error: the log tells of a table as it was before its key changed\n  \
             caused by: the primary key of `public.t` is not among its columns a, id\n  \
             help: give the key's columns their former names until the pipeline has read what was written before\n"
        )
    );
    // The advice works.
    drop(source);
    client.batch_execute("ALTER TABLE t RENAME key TO id").await.unwrap();
    let mut source = open(&database).await;
    assert_eq!(read(&mut source, 1).await, ["+public.t a=x id*=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_may_change_while_it_is_copied() {
    const ROWS: i64 = 30_000;
    for cluster in versions() {
        let database = Database::create(cluster).await;
        let client = &database.client;
        client
            .batch_execute(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, a text, b int); INSERT INTO t SELECT i, 'row', i FROM generate_series(1, {ROWS}) i"
            ))
            .await
            .unwrap();
        let config = Config { snapshot: Snapshot::Initial, ..config(&database.url, &["t"]) };
        let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
        let changes = [
            // First, because a query goes on as it was: only its answers are other ones.
            "ALTER TABLE t ALTER b TYPE text USING 'b' || b",
            "ALTER TABLE t RENAME a TO aa",
            "ALTER TABLE t ADD c int DEFAULT 5",
            "ALTER TABLE t RENAME id TO ident",
            "ALTER TABLE t RENAME TO u",
            "ALTER TABLE u DROP aa",
        ];
        let mut changes = changes.into_iter();
        let (mut rows, mut shapes) = (BTreeMap::new(), Vec::new());
        let reading = async {
            loop {
                let batch = source.next().await.unwrap().unwrap();
                for event in batch.events() {
                    let Some(Value::Int(id)) = batch.row(event).get(0) else { panic!("no id") };
                    let text = describe(&batch, event);
                    let shape: Vec<&str> = text.split(' ').map(|word| word.split('=').next().unwrap()).collect();
                    if shapes.last() != Some(&shape.join(" ")) {
                        shapes.push(shape.join(" "));
                    }
                    rows.insert(id, text);
                }
                if let Some(end) = batch.ends_at() {
                    source.confirm(end);
                }
                // One after the other, each after some more rows.
                if !batch.events().is_empty()
                    && let Some(change) = changes.next()
                {
                    client.batch_execute(change).await.unwrap();
                }
                if rows.len() as i64 == ROWS {
                    let copies = postgres::copied(&pipeline(&database), &config_of(&database), None).await.unwrap();
                    assert!(copies.iter().all(|copy| copy.error.is_none()), "{copies:?}");
                    if copies.iter().all(|copy| copy.done) {
                        return;
                    }
                }
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.expect("the copy ends in time");
        // Each row is the table's, with the columns that it had at some time.
        for (id, text) in &rows {
            let of =
                |name: &str| text.split(' ').find_map(|word| word.strip_prefix(&format!("{name}="))).map(str::to_owned);
            assert_eq!(of("id*").or(of("ident*")), Some(id.to_string()), "{text}");
            assert!([Some(id.to_string()), Some(format!("b{id}"))].contains(&of("b")), "{text}");
        }
        assert_eq!(shapes.first().unwrap(), "+public.t id* a b");
        assert_eq!(shapes.last().unwrap(), "+public.u ident* b c", "{shapes:?}");
    }
}

fn config_of(database: &Database) -> Config {
    Config { snapshot: Snapshot::Initial, ..config(&database.url, &["u"]) }
}

async fn open(database: &Database) -> PostgresSource {
    PostgresSource::connect(&pipeline(database), &config(&database.url, &["t"])).await.unwrap()
}

pub(crate) async fn read(source: &mut PostgresSource, events: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < events {
        let batch = tokio::time::timeout(DEADLINE, source.next()).await.expect("a batch in time").unwrap().unwrap();
        seen.extend(batch.events().iter().map(|event| describe(&batch, event)));
        if let Some(end) = batch.ends_at() {
            source.confirm(end);
        }
    }
    seen
}

/// Kills the walsender of the database's slot.
async fn cut(database: &Database) {
    let sql = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1";
    database.client.execute(sql, &[&slot(database)]).await.unwrap();
}

/// Operation, table and `column=value`, with a `*` after the key's columns.
pub(crate) fn describe(batch: &Batch, event: &Event) -> String {
    let columns = &batch.relation(event).columns;
    let row = |row: Row<'_>| {
        columns.iter().zip(row.iter()).fold(String::new(), |text, (column, value)| {
            let mark = if column.key { "*" } else { "" };
            let value = match value {
                Value::Null => "null".to_owned(),
                Value::Int(number) => number.to_string(),
                Value::Text(text) => text.to_owned(),
                Value::Json(text) => format!("json:{text}"),
                Value::Other(text) => format!("other:{text}"),
                other => format!("{other:?}"),
            };
            text + &format!(" {}{mark}={value}", column.name)
        })
    };
    let operation = match event.operation {
        Operation::Insert => "+",
        Operation::Update => "~",
        Operation::Delete => "-",
        Operation::Truncate => "0",
    };
    let old = batch.old_row(event).map(|old| format!(" from{}", row(old))).unwrap_or_default();
    format!("{operation}{}{}{old}", batch.relation(event), row(batch.row(event)))
}

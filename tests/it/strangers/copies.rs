//! Code of others that waits for a read of their tables to run it: domains, casts, views in the
//! place of tables, indexes.

use std::collections::BTreeMap;
use std::time::Duration;

use pgstream_host::demo::Cluster;
use pgstream_host::error::Error;
use pgstream_host::event::{Operation, Value, json};
use pgstream_host::source::Source;
use pgstream_host::source::postgres::{self, CopyRequest, PostgresSource, WantedRow};
use pgstream_host::source::postgres::{PostgresSettings as Config, Snapshot, Toast};

use crate::schema_changes::read;
use crate::source::{config, pipeline};
use crate::support::program::eventually;
use crate::support::{Database, connect, fresh_database, versions};

/// Only a broken promise waits for it.
const DEADLINE: Duration = Duration::from_secs(90);

/// A database whose schema `app` belongs to a role that nobody should trust, and a session of that
/// role.
struct Target {
    database: Database,
    stranger: tokio_postgres::Client,
    name: String,
}

impl Target {
    /// `app.trap()` leaves a file in the server's folder if it runs with the rights of a superuser.
    async fn new(cluster: &Cluster) -> Self {
        let database = Database::create(cluster).await;
        let role = format!("{}_stranger", database.name);
        let trap = "CREATE FUNCTION app.spring() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
                        IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
                            EXECUTE pg_catalog.format('COPY (SELECT 1) TO %L', pg_catalog.concat(
                                pg_catalog.current_setting('data_directory'), '/caught_', pg_catalog.current_database()));
                        END IF;
                        RETURN true;
                    END $$;
                    CREATE FUNCTION app.trap() RETURNS boolean LANGUAGE plpgsql IMMUTABLE
                    AS $$ BEGIN RETURN app.spring(); END $$";
        let sql = format!("CREATE ROLE {role}; CREATE SCHEMA app AUTHORIZATION {role}");
        database.client.batch_execute(&sql).await.unwrap();
        let stranger = connect(&database.url).await;
        stranger.batch_execute(&format!("SET SESSION AUTHORIZATION {role}; {trap}")).await.unwrap();
        let name = pipeline(&database);
        Self { database, stranger, name }
    }

    async fn run(&self, sql: &str) {
        self.stranger.batch_execute(sql).await.unwrap();
    }

    fn config(&self, tables: &[&str]) -> Config {
        Config { snapshot: Snapshot::Initial, ..config(&self.database.url, tables) }
    }

    async fn was_trapped(&self) -> bool {
        let sql = "SELECT pg_read_file('caught_' || current_database(), 0, 100, true) IS NOT NULL";
        self.database.client.query_one(sql, &[]).await.unwrap().get(0)
    }
}

/// Reads and confirms until the copies with these numbers, or all, have ended. Answers the copied
/// rows by their key, and why copies failed.
async fn copied(source: &mut PostgresSource, target: &Target, config: &Config, numbers: Option<&[i64]>) -> Copied {
    let mut copied = Copied::default();
    let mut look = tokio::time::interval(Duration::from_millis(50));
    let reading = async {
        loop {
            tokio::select! {
                batch = source.next() => {
                    let batch = batch.unwrap().unwrap();
                    for event in batch.events().iter().filter(|event| event.snapshot) {
                        let row = batch.row(event).iter().map(|value| text(&value)).collect::<Vec<_>>().join(",");
                        if event.operation == Operation::Insert {
                            copied.rows.insert(json::key(&batch, event), row);
                        }
                    }
                    if let Some(end) = batch.ends_at() {
                        source.confirm(end);
                    }
                }
                _ = look.tick() => {
                    let copies = postgres::copied(&target.name, config, numbers).await.unwrap();
                    if copies.iter().all(|copy| copy.done || copy.error.is_some()) {
                        copied.errors = copies.into_iter().filter_map(|copy| copy.error).collect();
                        return;
                    }
                }
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("the copies end in time");
    copied
}

#[derive(Debug, Default)]
struct Copied {
    rows: BTreeMap<String, String>,
    errors: Vec<String>,
}

fn text(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) | Value::Other(text) => (*text).to_owned(),
        Value::Int(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// Keys whose type, or the type's casts, call the trap.
const KEYS: &str = "
    CREATE FUNCTION app.check_text(text) RETURNS boolean LANGUAGE sql AS 'SELECT app.trap()';
    CREATE DOMAIN app.kind AS text CHECK (app.check_text(VALUE));
    CREATE DOMAIN app.kind_of_kind AS app.kind;
    CREATE TYPE app.mood AS ENUM ('calm', 'cross');
    CREATE FUNCTION app.mood_to_text(app.mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM app.trap(); RETURN 'x'; END $$;
    CREATE CAST (app.mood AS text) WITH FUNCTION app.mood_to_text(app.mood) AS ASSIGNMENT;
    CREATE TABLE app.items (id app.kind, part app.kind_of_kind, mood app.mood, note app.kind[], body text, n int,
                            PRIMARY KEY (id, part, mood));
    INSERT INTO app.items SELECT 'k' || g, 'p', 'calm', ARRAY['a', 'b'], repeat('x', 3000), g FROM generate_series(1, 6000) g;
    ALTER TABLE app.items ALTER body SET STORAGE EXTERNAL";

#[tokio::test(flavor = "multi_thread")]
async fn no_check_of_a_key_s_domain_and_no_cast_of_its_type_runs() {
    for cluster in versions() {
        let target = Target::new(cluster).await;
        target.run(KEYS).await;
        let config = Config { toast: Toast::Reread, ..target.config(&["app.items"]) };
        let mut source = PostgresSource::connect(&target.name, &config).await.unwrap();
        // Chunk after chunk, by the key of the last row.
        let all = copied(&mut source, &target, &config, None).await;
        assert_eq!((all.rows.len(), all.errors), (6000, Vec::new()));
        // Rows by their keys, there and gone.
        let keys = [r#"{"id":"k7","part":"p","mood":"calm"}"#, r#"{"id":"none","part":"p","mood":"cross"}"#];
        let rows: Vec<WantedRow<'_>> = keys.iter().map(|key| WantedRow { table: "app.items", key }).collect();
        let asked = postgres::ask_rows(&target.name, &config, &rows).await.unwrap();
        let numbers: Vec<i64> = asked.copies.iter().map(|(number, _)| *number).collect();
        let some = copied(&mut source, &target, &config, Some(&numbers)).await;
        assert_eq!((some.rows.len(), some.errors), (1, Vec::new()));
        // Rows that match a condition: people's comparisons look for casts.
        let filter = Some("mood = 'calm' AND id = 'k9' AND mood IN ('calm', 'cross') AND n + 0 = 9".to_owned());
        let request = CopyRequest { filter, ..CopyRequest::default() };
        let (numbers, _) = postgres::ask_copy(&target.name, &config, &request).await.unwrap();
        let filtered = copied(&mut source, &target, &config, Some(&numbers)).await;
        assert_eq!((filtered.rows.len(), filtered.errors), (1, Vec::new()));
        // A large value that an UPDATE left alone.
        target.run("UPDATE app.items SET n = 0 WHERE id = 'k11'").await;
        let reading = async {
            loop {
                let batch = source.next().await.unwrap().unwrap();
                if let Some(event) = batch.events().iter().find(|event| event.operation == Operation::Update) {
                    return batch.row(event).get(4).map(|value| text(&value));
                }
            }
        };
        let body = tokio::time::timeout(DEADLINE, reading).await.unwrap();
        assert_eq!(body.map(|body| body.len()), Some(3000));
        assert!(!target.was_trapped().await, "code of the table's owner ran with our rights");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_in_the_place_of_a_table_is_not_read() {
    for cluster in versions() {
        let target = Target::new(cluster).await;
        target
            .run(
                "CREATE TABLE app.t (id int PRIMARY KEY, title text);
                    INSERT INTO app.t SELECT g, 'row ' || g FROM generate_series(1, 300) g",
            )
            .await;
        let config = config(&target.database.url, &["app.t"]);
        let mut source = PostgresSource::connect(&target.name, &config).await.unwrap();
        let request = CopyRequest { rows_per_second: Some(100), ..CopyRequest::default() };
        let (numbers, _) = postgres::ask_copy(&target.name, &config, &request).await.unwrap();
        let first =
            async { while !source.next().await.unwrap().unwrap().events().iter().any(|event| event.snapshot) {} };
        tokio::time::timeout(DEADLINE, first).await.unwrap();
        target
            .run("BEGIN; ALTER TABLE app.t RENAME TO old; CREATE VIEW app.t AS SELECT * FROM app.old WHERE app.trap(); COMMIT")
            .await;
        let rest = copied(&mut source, &target, &config, Some(&numbers)).await;
        assert_eq!(rest.errors, Vec::<String>::new());
        assert_eq!(rest.rows.get(r#"{"id":300}"#).map(String::as_str), Some("300,row 300"), "the table goes on");
        assert!(!target.was_trapped().await, "the view was read");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_takes_the_place_of_another_is_not_read() {
    let target = Target::new(crate::support::postgres()).await;
    let database = &target.database;
    target
        .run(
            "CREATE TABLE app.t (id int PRIMARY KEY, title text);
                INSERT INTO app.t SELECT g, 'row ' || g FROM generate_series(1, 300) g",
        )
        .await;
    database
        .client
        .batch_execute("CREATE SCHEMA other; CREATE TABLE other.t (LIKE app.t INCLUDING ALL); INSERT INTO other.t VALUES (300, 'no')")
        .await
        .unwrap();
    let config = config(&database.url, &["app.t"]);
    let mut source = PostgresSource::connect(&target.name, &config).await.unwrap();
    let request = CopyRequest { rows_per_second: Some(100), ..CopyRequest::default() };
    let (numbers, _) = postgres::ask_copy(&target.name, &config, &request).await.unwrap();
    let first = async { while !source.next().await.unwrap().unwrap().events().iter().any(|event| event.snapshot) {} };
    tokio::time::timeout(DEADLINE, first).await.unwrap();
    let swap = "BEGIN; ALTER SCHEMA app RENAME TO was; ALTER SCHEMA other RENAME TO app; COMMIT";
    database.client.batch_execute(swap).await.unwrap();
    let mut reading = Vec::new();
    let look = async {
        while !reading.iter().any(|row: &String| row.starts_with("300,")) {
            let batch = source.next().await.unwrap().unwrap();
            let copied = batch.events().iter().filter(|event| event.snapshot);
            reading.extend(
                copied.map(|event| batch.row(event).iter().map(|value| text(&value)).collect::<Vec<_>>().join(",")),
            );
            if let Some(end) = batch.ends_at() {
                source.confirm(end);
            }
        }
    };
    tokio::time::timeout(DEADLINE, look).await.unwrap();
    assert!(reading.contains(&"300,row 300".to_owned()), "{:?}", reading.last());
    drop(numbers);
}

/// What the server's planner would run as soon as it looks at the table.
const PLANNED: [&str; 5] = [
    "CREATE INDEX ON app.t ((id > 0 AND app.trap()))",
    "CREATE INDEX ON app.t (title) WHERE app.trap()",
    "CREATE FUNCTION app.wrapped(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT app.trap() AND $1 > 0';
     CREATE INDEX ON app.t (app.wrapped(id))",
    "CREATE STATISTICS app.s ON (id > 0 AND app.trap()), title FROM app.t",
    "CREATE FUNCTION app.or_trap(boolean, boolean) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN app.trap(); END';
     CREATE OPERATOR app.|| (LEFTARG = boolean, RIGHTARG = boolean, FUNCTION = app.or_trap);
     CREATE INDEX ON app.t ((true OPERATOR(app.||) false))",
];

async fn refused(target: &Target, config: &Config) -> Error {
    let checked = postgres::check(&target.name, config).await.unwrap_err();
    let error = PostgresSource::connect(&target.name, config).await.map(drop).unwrap_err();
    assert_eq!(checked.report(), error.report());
    let sql = "SELECT EXISTS (SELECT FROM pg_publication) OR EXISTS (SELECT FROM pg_replication_slots
               WHERE database = current_database())";
    let made: bool = target.database.client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(!made, "nothing is made");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_indexes_make_the_planner_run_others_code_is_refused_before_anything_is_made() {
    for cluster in versions() {
        for attack in PLANNED {
            let target = Target::new(cluster).await;
            target.run("CREATE TABLE app.t (id int PRIMARY KEY, title text)").await;
            target.run(attack).await;
            let report = refused(&target, &target.config(&["app.t"])).await.report();
            assert!(report.contains("reading `app.t` would run function `app."), "{report}");
            assert!(!target.was_trapped().await, "{attack}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_calls_a_function_for_its_columns_is_no_reason_to_refuse() {
    let target = Target::new(crate::support::postgres()).await;
    target
        .run("CREATE TABLE app.t (id int PRIMARY KEY, title text CHECK (app.trap())); INSERT INTO app.t VALUES (1, 'One');
              CREATE FUNCTION app.plain(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN lower($1); END';
              CREATE FUNCTION app.whole(text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS 'SELECT lower($1)';
              CREATE INDEX ON app.t (app.plain(title)); CREATE INDEX ON app.t ((app.whole(title) || 'x')) WHERE id > 0")
        .await;
    let config = target.config(&["app.t"]);
    let mut source = PostgresSource::connect(&target.name, &config).await.unwrap();
    let all = copied(&mut source, &target, &config, None).await;
    assert_eq!((all.rows.len(), all.errors), (1, Vec::new()));
    assert!(!target.was_trapped().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_comes_while_a_copy_runs_stops_it() {
    let target = Target::new(crate::support::postgres()).await;
    target
        .run(
            "CREATE TABLE app.t (id int PRIMARY KEY, title text);
                INSERT INTO app.t SELECT g, 'row ' || g FROM generate_series(1, 300) g",
        )
        .await;
    let config = config(&target.database.url, &["app.t"]);
    let mut source = PostgresSource::connect(&target.name, &config).await.unwrap();
    let request = CopyRequest { rows_per_second: Some(100), ..CopyRequest::default() };
    let (numbers, _) = postgres::ask_copy(&target.name, &config, &request).await.unwrap();
    let first = async { while !source.next().await.unwrap().unwrap().events().iter().any(|event| event.snapshot) {} };
    tokio::time::timeout(DEADLINE, first).await.unwrap();
    // Within a read there are milliseconds between the look at the indexes and the plan, as docs/security.md says.
    let paused = "SELECT bool_and(state = 'idle') FROM pg_stat_activity
                  WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let client = &target.database.client;
    eventually("the copy pauses", async || client.query_one(paused, &[]).await.unwrap().get(0)).await;
    target.run("CREATE INDEX ON app.t (title) WHERE app.trap()").await;
    let rest = copied(&mut source, &target, &config, Some(&numbers)).await;
    assert!(rest.errors.iter().any(|error| error.contains("would run function `app.trap()`")), "{:?}", rest.errors);
    assert!(!target.was_trapped().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_come_while_a_copy_runs_are_an_error_and_do_not_run() {
    let database = fresh_database().await;
    let role = format!("{}_reader", database.name);
    let client = &database.client;
    client
        .batch_execute(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, title text); INSERT INTO t SELECT g, 'row' FROM generate_series(1, 300) g;
             CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'pw'; GRANT SELECT ON t TO {role};
             GRANT CREATE ON DATABASE {} TO {role};
             CREATE PUBLICATION chosen FOR TABLE ONLY t WITH (publish_via_partition_root = true)",
            database.name
        ))
        .await
        .unwrap();
    let url = format!("postgres://{role}:pw@{}", database.url.split_once('@').unwrap().1);
    let config = Config { publication: Some("chosen".to_owned()), ..config(&url, &["t"]) };
    let name = pipeline(&database);
    let mut source = PostgresSource::connect(&name, &config).await.unwrap();
    let request = CopyRequest { rows_per_second: Some(100), ..CopyRequest::default() };
    let (numbers, _) = postgres::ask_copy(&name, &config, &request).await.unwrap();
    let first = async { while !source.next().await.unwrap().unwrap().events().iter().any(|event| event.snapshot) {} };
    tokio::time::timeout(DEADLINE, first).await.unwrap();
    client
        .batch_execute("CREATE POLICY own ON t USING (1 / (id - id) = 1); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
        .await
        .unwrap();
    let target = Target { database, stranger: connect(&url).await, name };
    let rest = copied(&mut source, &target, &config, Some(&numbers)).await;
    assert!(
        rest.errors.iter().any(|error| error.contains("row-level security hides rows of `public.t`")),
        "{:?}",
        rest.errors
    );
}

/// Between any two statements of a copy, and within them: the owner of a type puts a domain with a check in its place, and back.
#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_takes_the_place_of_another_while_rows_are_read_runs_no_check() {
    for cluster in versions() {
        let target = Target::new(cluster).await;
        target
            .run(
                "CREATE TYPE app.mood AS ENUM ('calm', 'cross');
                 CREATE TABLE app.t (mood app.mood, id int, body text, PRIMARY KEY (mood, id));
                 ALTER TABLE app.t ALTER body SET STORAGE EXTERNAL;
                 INSERT INTO app.t SELECT 'calm', g, repeat('x', 3000) FROM generate_series(1, 400) g",
            )
            .await;
        let config = Config { toast: Toast::Reread, ..config(&target.database.url, &["app.t"]) };
        let mut source = PostgresSource::connect(&target.name, &config).await.unwrap();
        let swapping = connect(&target.database.url).await;
        let role = format!("{}_stranger", target.database.name);
        // As quick as the server is: what is asked before a read and what is read find different types.
        let swap = "ALTER TYPE app.mood RENAME TO was; CREATE DOMAIN app.mood AS text CHECK (app.trap()); COMMIT;
                    BEGIN; DROP DOMAIN app.mood; ALTER TYPE app.was RENAME TO mood; COMMIT";
        let begin = format!("SET SESSION AUTHORIZATION {role}; SET synchronous_commit = off");
        swapping.batch_execute(&begin).await.unwrap();
        let swaps = tokio::spawn(async move {
            loop {
                swapping.batch_execute(&format!("BEGIN; {swap}")).await.unwrap();
            }
        });
        let request = CopyRequest { rows_per_second: Some(100), ..CopyRequest::default() };
        let (numbers, _) = postgres::ask_copy(&target.name, &config, &request).await.unwrap();
        let rest = copied(&mut source, &target, &config, Some(&numbers)).await;
        assert_eq!((rest.rows.len(), rest.errors), (400, Vec::new()));
        // Rows by their keys, there and gone, and large values that an UPDATE left alone.
        let keys = [r#"{"mood":"calm","id":7}"#, r#"{"mood":"cross","id":7}"#];
        let rows: Vec<WantedRow<'_>> = keys.iter().map(|key| WantedRow { table: "app.t", key }).collect();
        let asked = postgres::ask_rows(&target.name, &config, &rows).await.unwrap();
        let numbers: Vec<i64> = asked.copies.iter().map(|(number, _)| *number).collect();
        let some = copied(&mut source, &target, &config, Some(&numbers)).await;
        assert_eq!((some.rows.len(), some.errors), (1, Vec::new()));
        for id in 9..19 {
            let update = format!("UPDATE app.t SET id = {id} + 1000 WHERE id = {id}");
            target.database.client.batch_execute(&update).await.unwrap();
            let moved = read(&mut source, 2).await.pop().unwrap();
            assert_eq!(moved, format!("+app.t mood*=calm id*={} body={}", id + 1000, "x".repeat(3000)));
        }
        swaps.abort();
        assert!(!target.was_trapped().await, "a check of the stranger's domain ran with our rights");
    }
}

/// An operator has no other name than that with its schema: whoever owns that could put another one there.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_an_extension_whose_schema_a_stranger_owns_is_refused() {
    let mut tried = 0;
    for cluster in versions() {
        let target = Target::new(cluster).await;
        let there = "SELECT FROM pg_available_extensions WHERE name = 'citext'";
        if target.database.client.query_opt(there, &[]).await.unwrap().is_some() {
            refuses_extensions_of(&target).await;
            tried += 1;
        }
    }
    assert!(tried > 0, "no server has citext");
}

async fn refuses_extensions_of(target: &Target) {
    let client = &target.database.client;
    let role = format!("{}_stranger", target.database.name);
    client
        .batch_execute(
            "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE TABLE app.t (id ext.citext PRIMARY KEY, title text);
             INSERT INTO app.t SELECT 'k' || g, 'row' FROM generate_series(1, 6000) g",
        )
        .await
        .unwrap();
    let config = target.config(&["app.t"]);
    for hand_over in [
        format!("ALTER SCHEMA ext OWNER TO {role}"),
        format!("ALTER TYPE ext.citext OWNER TO {role}"),
        format!("ALTER OPERATOR ext.> (ext.citext, ext.citext) OWNER TO {role}"),
    ] {
        client.batch_execute(&hand_over).await.unwrap();
        let error = postgres::check(&target.name, &config).await.unwrap_err();
        let refused = "the key of `app.t` has column `id`, whose type another user defines, or could replace";
        assert_eq!(error.to_string(), refused, "{hand_over}");
        let trusting = Config { trusted_owners: vec![role.clone()], ..config.clone() };
        postgres::check(&target.name, &trusting).await.unwrap();
        client.batch_execute(&hand_over.replace(&role, "CURRENT_USER")).await.unwrap();
    }
    // The database's owner has made its surroundings.
    let owner = format!("ALTER DATABASE {} OWNER TO {role}; ALTER SCHEMA ext OWNER TO {role}", target.database.name);
    client.batch_execute(&owner).await.unwrap();
    let mut source = PostgresSource::connect(&target.name, &config).await.unwrap();
    let all = copied(&mut source, target, &config, None).await;
    assert_eq!((all.rows.len(), all.errors), (6000, Vec::new()));
}

/// An application's own wrapper in an index is its role's, which the settings may name.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_in_an_index_is_no_reason_to_refuse_if_its_owner_is_trusted() {
    for cluster in versions() {
        let target = Target::new(cluster).await;
        target
            .run(
                "CREATE TABLE app.t (id int PRIMARY KEY, title text); INSERT INTO app.t SELECT g, 'row' FROM generate_series(1, 300) g;
                 CREATE FUNCTION app.plain(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
                 CREATE INDEX ON app.t (app.plain(title))",
            )
            .await;
        let role = format!("{}_stranger", target.database.name);
        let report = refused(&target, &target.config(&["app.t"])).await.report();
        assert!(report.contains(&format!("trusted_owners: [\"{role}\"]")), "{report}");
        let config = Config { trusted_owners: vec![role], toast: Toast::Reread, ..target.config(&["app.t"]) };
        let mut source = PostgresSource::connect(&target.name, &config).await.unwrap();
        let all = copied(&mut source, &target, &config, None).await;
        assert_eq!((all.rows.len(), all.errors), (300, Vec::new()));
    }
}

/// Members of `pg_write_all_data` may write to all tables, also to the one whose conditions and keys are SQL that we run.
#[tokio::test(flavor = "multi_thread")]
async fn sql_that_a_stranger_writes_into_the_ledger_of_copies_is_not_run() {
    for cluster in versions() {
        let target = Target::new(cluster).await;
        target.run("CREATE TABLE app.t (id int PRIMARY KEY, title text); INSERT INTO app.t VALUES (1, 'one')").await;
        let role = format!("{}_stranger", target.database.name);
        let config = config(&target.database.url, &["app.t"]);
        postgres::setup(&target.name, &config).await.unwrap();
        // One that is asked for by us, and waits.
        let request = CopyRequest { filter: Some("id = 1".to_owned()), ..CopyRequest::default() };
        let (ours, _) = postgres::ask_copy(&target.name, &config, &request).await.unwrap();
        let client = &target.database.client;
        client
            .batch_execute(&format!("GRANT pg_write_all_data TO {role}; GRANT SELECT ON pgstream.copies TO {role}"))
            .await
            .unwrap();
        let write = async |columns: &str, values: &str| {
            let sql = format!(
                "INSERT INTO pgstream.copies (slot, relation, table_name, first, {columns})
                 SELECT 'pgstream_{}', 'app.t'::regclass, 'app.t', false, {values} RETURNING id",
                target.database.name
            );
            target.stranger.query_one(&sql, &[]).await.map(|row| row.get::<_, i64>(0))
        };
        let filter = write("filter", "'app.trap()'").await.unwrap();
        let keys = write("keys", r#"ARRAY['{"id":"(SELECT app.trap()::int)"}']"#).await.unwrap();
        // In the name of somebody else, or into a row of somebody else.
        for error in [
            write("filter, written_by", "'app.trap()', 'postgres'").await.map(drop).unwrap_err(),
            write("filter, written_by", "'app.trap()', NULL").await.map(drop).unwrap_err(),
            target
                .stranger
                .batch_execute("UPDATE pgstream.copies SET filter = 'app.trap()' WHERE filter = 'id = 1'")
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.code().map(|code| code.code()), Some("23514"), "{error:?}");
        }
        let mut source = PostgresSource::connect(&target.name, &config).await.unwrap();
        let all = copied(&mut source, &target, &config, Some(&[ours[0], filter, keys])).await;
        assert!(!target.was_trapped().await, "the stranger's SQL ran with our rights");
        assert_eq!(all.rows.len(), 1, "what we asked for is brought");
        let refused = format!("the copy of table `app.t` was written down by `{role}`, and its SQL is not run");
        assert_eq!(all.errors.iter().filter(|error| error.starts_with(&refused)).count(), 2, "{:?}", all.errors);
    }
}

/// A table of an earlier version cannot say who wrote. What waits there is asked for again; all else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_an_earlier_version_is_brought_up_to_date_and_its_old_sql_is_not_run() {
    let target = Target::new(crate::support::postgres()).await;
    let client = &target.database.client;
    target.run("CREATE TABLE app.t (id int PRIMARY KEY, title text); INSERT INTO app.t VALUES (1, 'one')").await;
    let config = target.config(&["app.t"]);
    postgres::setup(&target.name, &config).await.unwrap();
    let sql = format!(
        "ALTER TABLE pgstream.copies DROP COLUMN written_by;
         INSERT INTO pgstream.copies (slot, relation, table_name, first, filter)
         SELECT 'pgstream_{}', 'app.t'::regclass, 'app.t', false, 'true'",
        target.database.name
    );
    client.batch_execute(&sql).await.unwrap();
    let mut source = PostgresSource::connect(&target.name, &config).await.unwrap();
    let all = copied(&mut source, &target, &config, None).await;
    assert_eq!(all.rows.len(), 1, "the first copy is made");
    assert!(
        all.errors[0].starts_with("the copy of table `app.t` was written down by somebody who is not known"),
        "{:?}",
        all.errors
    );
}

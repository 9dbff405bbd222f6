//! Code of others that waits for a statement of ours to run it: search paths, and tables that bear our names.

use std::process::Output;

use pgstream_host::config::Secret;
use pgstream_host::config::model;
use pgstream_host::error::Error;
use pgstream_host::postgres::{self as sessions, Url};
use pgstream_host::sink::Sink;
use pgstream_host::sink::dead_letters::{DeadLetters, DeadLettersSettings};
use pgstream_host::sink::pgvector::{PgvectorSettings, PgvectorSink};
use pgstream_host::source::postgres;
use pgstream_host::source::postgres::{PostgresSettings, Snapshot};

use crate::source::{config, pipeline, slot};
use crate::support::program::{Folder, Running, eventually, pgstream, root};
use crate::support::{Database, connect, fresh_database, postgres as postgres18, versions};

/// Somebody who may log in, and make schemas in the database and objects in `public`, as everybody could up to Postgres 14.
pub(super) struct Stranger {
    pub(super) role: String,
    pub(super) client: tokio_postgres::Client,
}

impl Stranger {
    pub(super) async fn of(database: &Database) -> Self {
        let role = format!("{}_atk", database.name);
        let sql = format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'p'; GRANT CREATE ON DATABASE {} TO {role}; GRANT CREATE ON SCHEMA public TO {role};
             CREATE TABLE public.called (by text); GRANT ALL ON public.called TO PUBLIC;",
            database.name
        );
        database.client.batch_execute(&sql).await.unwrap();
        let stranger = Self { client: connect(&url_of(database, &role)).await, role };
        stranger.sql(EVIL).await;
        stranger
    }

    pub(super) async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// Notes whose rights it was run with, if they are not the stranger's own.
const EVIL: &str = "
    CREATE FUNCTION public.note() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        IF session_user::text NOT LIKE '%\\_atk' THEN INSERT INTO public.called VALUES (session_user); END IF; END $$;
    CREATE FUNCTION public.evil() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note(); RETURN 'x'; END $$;
    CREATE FUNCTION public.evil_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note(); RETURN new; END $$;
    CREATE FUNCTION public.evil_text(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM public.note(); RETURN $1; END $$;
    CREATE FUNCTION public.evil_check(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note(); RETURN true; END $$;
    CREATE DOMAIN public.evil_domain AS text CHECK (public.evil_check(VALUE));";

pub(super) fn url_of(database: &Database, role: &str) -> String {
    format!("postgres://{role}:p@{}", database.url.split_once('@').unwrap().1)
}

pub(super) async fn called(database: &Database) -> i64 {
    database.client.query_one("SELECT count(*) FROM public.called", &[]).await.unwrap().get(0)
}

/// The program, on one pipeline file.
pub(super) struct Program {
    pub(super) folder: Folder,
    pub(super) url: String,
}

impl Program {
    pub(super) fn new(url: String, yaml: &str) -> Self {
        let folder = Folder::new();
        folder.write("pipeline.yaml", yaml);
        Self { folder, url }
    }

    pub(super) fn output(&self, command: &[&str], more: &[&str]) -> Output {
        let file = self.folder.path("pipeline.yaml");
        let arguments = command.iter().copied().chain([file.to_str().unwrap()]).chain(more.iter().copied());
        pgstream(arguments).env("DATABASE_URL", &self.url).output().unwrap()
    }

    pub(super) fn does(&self, command: &[&str], more: &[&str]) -> String {
        let output = self.output(command, more);
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{command:?} {more:?}: {}{}", said(&output.stdout), said(&output.stderr));
        said(&output.stdout)
    }
}

/// Everything that the program says to a server means the server's own: no name is looked for where others may put something.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_finds_functions_operators_types_and_tables_that_others_put_in_their_place() {
    for (cluster, superuser) in versions().into_iter().flat_map(|cluster| [(cluster, true), (cluster, false)]) {
        let database = Database::create(cluster).await;
        let (client, name) = (&database.client, &database.name);
        let vectors = client.query_one("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'", &[]).await;
        let vectors = vectors.unwrap().get::<_, i64>(0) == 1;
        if vectors {
            client.batch_execute("CREATE EXTENSION vector").await.unwrap();
        }
        let host = format!("{name}_pipeline");
        let path = "search_path = public, pg_catalog";
        client
            .batch_execute(
                "CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text);
                 ALTER TABLE documents ALTER content SET STORAGE EXTERNAL;
                 INSERT INTO documents SELECT i, 'row', repeat('words and more ', 300) FROM generate_series(1, 20) i;
                 INSERT INTO documents VALUES (99, 'last', 'words');",
            )
            .await
            .unwrap();
        let url = database.smallest_role(&["public.documents"]).await;
        client
            .batch_execute(&format!(
                "ALTER ROLE {host} {}; ALTER ROLE {host} SET {path}; ALTER DATABASE {name} SET {path}; ALTER ROLE {host} IN DATABASE {name} SET {path};",
                if superuser { "SUPERUSER" } else { "NOSUPERUSER" }
            ))
            .await
            .unwrap();
        client.batch_execute(include_str!("sql/shadows.sql")).await.unwrap();
        let search = if vectors {
            "{ type: pgvector, inputs: [embed], url: \"${DATABASE_URL}\", table: vectors, create: { dimension: 16 } }"
        } else {
            "{ type: blackhole, inputs: [embed] }"
        };
        let yaml = format!(
            "version: 1\nname: {}\nsources:\n  db:\n    {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [\"public.doc*\"], \
             snapshot: initial, toast: reread, heartbeat: 50ms, on_slot_lost: resnapshot }}\n\
             embedders:\n  words: {{ type: hash, dimension: 16 }}\n\
             transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words], limits: {{ output: 64KiB }} }}\n\
             sinks:\n  search: {search}\n  parked: {{ type: dead-letters, inputs: [embed.rejected] }}\n",
            pipeline(&database),
            root().join("plugins/documents-rust/documents.wasm").display()
        );
        let url = format!("{}?options=-c%20search_path%3Dpublic%2Cpg_catalog", url);
        let program = Program::new(url, &yaml);

        program.does(&["validate", "--connect"], &[]);
        program.does(&["setup"], &[]);
        program.does(&["validate", "--connect"], &[]);
        let file = program.folder.path("pipeline.yaml");
        let mut running = Running::start(&file, &[("DATABASE_URL", &program.url)]);
        running.said("all rows of the table are copied").await;
        program.does(&["backfill"], &["--where", "id > 0", "--table", "public.documents"]);
        program.does(&["backfill"], &["--status"]);
        // A gap that is read from the table, and a row that is set aside and brought back.
        client.batch_execute("UPDATE documents SET title = 'new' WHERE id < 4").await.unwrap();
        client.batch_execute("INSERT INTO documents VALUES (100, 'large', repeat('x ', 200000))").await.unwrap();
        eventually("a letter is parked", async || program.does(&["dlq", "list"], &["--json"]).lines().count() == 1)
            .await;
        let letter = program.does(&["dlq", "list"], &["--json", "--since", "1h"]);
        let id = serde_json::from_str::<serde_json::Value>(&letter).unwrap()["id"].to_string();
        program.does(&["dlq", "show"], &[&id]);
        client.batch_execute("UPDATE documents SET content = 'small' WHERE id = 100").await.unwrap();
        program.does(&["dlq", "replay"], &["--all"]);
        program.does(&["dlq", "drop"], &["--code", "trap"]);
        if vectors {
            assert!(program.does(&["search"], &["words and more"]).contains("words"));
        }
        let tapping =
            pgstream(["tap", file.to_str().unwrap(), "--count", "1"]).env("DATABASE_URL", &program.url).spawn();
        let mut tapping = tapping.unwrap();
        eventually("the tap ends", async || {
            client.batch_execute("UPDATE documents SET title = 'tapped' WHERE id = 1").await.unwrap();
            tapping.try_wait().unwrap().is_some()
        })
        .await;
        assert!(tapping.wait().unwrap().success());
        let (status, log) = running.stop().await;
        assert!(status.success(), "{log}");
        program.does(&["resnapshot"], &[]);
        program.does(&["teardown"], &[]);

        assert!(!log.contains("cannot"), "{log}");
        assert!(!cluster.log().contains(&format!("shadow in {name}")), "{}", cluster.log());
        client.batch_execute(&format!("ALTER DATABASE {name} RESET ALL")).await.unwrap();
    }
}

/// The attacks of the last test work: with another path each statement would have found them.
#[tokio::test(flavor = "multi_thread")]
async fn the_shadows_are_found_where_a_path_leads_to_them() {
    let database = fresh_database().await;
    database.client.batch_execute(include_str!("sql/shadows.sql")).await.unwrap();
    let hit = format!("shadow in {}", database.name);
    let session = connect(&database.url).await;
    session.batch_execute("SET search_path = public, pg_catalog").await.unwrap();
    for sql in [
        "SELECT 1 + 1",
        "SELECT 'a'::text",
        "SELECT * FROM pg_class",
        "SELECT lower('A')",
        "SELECT 'a'::name || 'b'::name",
    ] {
        let error = session.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.as_db_error().map(|error| error.message()), Some(hit.as_str()), "{sql}");
    }
}

/// What the program would read or write, made by somebody else: nothing of it runs, and each is refused with whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_ours_that_somebody_else_made_is_refused_before_anything_of_it_is_touched() {
    for cluster in versions() {
        let database = Database::create(cluster).await;
        database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
        let stranger = Stranger::of(&database).await;
        let role = &stranger.role;
        let source = config(&database.url, &["t"]);
        let name = pipeline(&database);
        let slots = "public.evil() AS slot, 'x'::text AS incarnation, 'x'::text AS system_identifier, 1::bigint AS timeline,
                     1::oid AS database, '{}'::oid[] AS tables, true AS made, false AS clear_sinks, NULL::pg_lsn AS left_at,
                     1::bigint AS turn, now() AS changed_at";
        for made in [
            String::new(),
            format!("CREATE VIEW pgstream.slots AS SELECT {slots}"),
            format!("CREATE MATERIALIZED VIEW pgstream.slots AS SELECT {slots}"),
            format!(
                "CREATE TABLE pgstream.slots AS SELECT {slots};
                 CREATE TRIGGER t BEFORE INSERT OR UPDATE ON pgstream.slots FOR EACH ROW EXECUTE FUNCTION public.evil_trigger()"
            ),
        ] {
            stranger.sql(&format!("CREATE SCHEMA pgstream; GRANT ALL ON SCHEMA pgstream TO PUBLIC; {made}")).await;
            stranger.sql("GRANT ALL ON ALL TABLES IN SCHEMA pgstream TO PUBLIC").await;
            let refused = format!("schema `pgstream` belongs to `{role}`, who is not the role of `url`");
            let check = postgres::check(&name, &source).await.unwrap_err();
            assert_eq!(check.to_string(), refused, "{made}");
            assert!(check.report().contains(&format!("trusted_owners: [\"{role}\"]")), "{}", check.report());
            for error in [
                postgres::setup(&name, &source).await.map(drop).unwrap_err(),
                postgres::teardown(&name, &source).await.map(drop).unwrap_err(),
                postgres::copied(&name, &source, None).await.map(drop).unwrap_err(),
                DeadLetters::open(&name, &letters(&database.url, &[])).await.map(drop).unwrap_err(),
            ] {
                assert_eq!(error.to_string(), refused, "{made}");
            }
            stranger.sql("DROP SCHEMA pgstream CASCADE").await;
        }
        assert_eq!(called(&database).await, 0);
        // Whom the settings name is trusted, and what is no table is refused all the same.
        stranger.sql(&format!("CREATE SCHEMA pgstream; CREATE VIEW pgstream.slots AS SELECT {slots}")).await;
        let trusting = PostgresSettings { trusted_owners: vec![role.clone()], ..source };
        let error = postgres::check(&name, &trusting).await.unwrap_err();
        assert_eq!(error.to_string(), "`pgstream.slots` is a view, and not the table of pgstream-host");
        stranger.sql("DROP VIEW pgstream.slots").await;
        postgres::setup(&name, &trusting).await.unwrap();
        postgres::teardown(&name, &trusting).await.unwrap();
        assert_eq!(called(&database).await, 0);
    }
}

/// In a schema that is ours, tables of others, and tables of ours on which somebody has hung code.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_hangs_on_a_table_of_ours_that_is_not_ours() {
    for cluster in versions() {
        let database = Database::create(cluster).await;
        let client = &database.client;
        client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
        let stranger = Stranger::of(&database).await;
        let role = &stranger.role;
        let (name, source) = (pipeline(&database), config(&database.url, &["t"]));
        postgres::setup(&name, &source).await.unwrap();
        client.batch_execute(&format!("GRANT USAGE, CREATE ON SCHEMA pgstream TO {role}")).await.unwrap();
        let refusal = async || postgres::check(&name, &source).await.unwrap_err();

        for table in ["copies", "positions", "dead_letters"] {
            stranger.sql(&format!("CREATE TABLE pgstream.{table} (id public.evil_domain DEFAULT public.evil())")).await;
            let text = refusal().await.to_string();
            assert_eq!(text, format!("table `pgstream.{table}` belongs to `{role}`, who is not the role of `url`"));
            stranger.sql(&format!("DROP TABLE pgstream.{table}")).await;
        }
        for (hang, take_down, what) in [
            (
                "CREATE TRIGGER hook BEFORE UPDATE ON pgstream.slots FOR EACH ROW EXECUTE FUNCTION public.evil_trigger()".to_owned(),
                "DROP TRIGGER hook ON pgstream.slots",
                format!("has a trigger `hook`, which runs public.evil_trigger() of `{role}`"),
            ),
            (
                "CREATE RULE hook AS ON UPDATE TO pgstream.slots DO ALSO SELECT public.evil()".to_owned(),
                "DROP RULE hook ON pgstream.slots",
                "has a rule `hook`".to_owned(),
            ),
            (
                "CREATE POLICY hook ON pgstream.slots USING (public.evil() = 'x')".to_owned(),
                "DROP POLICY hook ON pgstream.slots",
                "has a policy `hook`".to_owned(),
            ),
            (
                "ALTER TABLE pgstream.slots ENABLE ROW LEVEL SECURITY".to_owned(),
                "ALTER TABLE pgstream.slots DISABLE ROW LEVEL SECURITY",
                "has row-level security".to_owned(),
            ),
            (
                "ALTER TABLE pgstream.slots SET UNLOGGED".to_owned(),
                "ALTER TABLE pgstream.slots SET LOGGED",
                "is not logged, and empty after a crash".to_owned(),
            ),
            (
                "ALTER TABLE pgstream.slots ALTER incarnation SET DEFAULT public.evil()".to_owned(),
                "ALTER TABLE pgstream.slots ALTER incarnation DROP DEFAULT",
                "uses function public.evil()".to_owned(),
            ),
            (
                "ALTER TABLE pgstream.slots ADD CONSTRAINT hook CHECK (public.evil_check(slot))".to_owned(),
                "ALTER TABLE pgstream.slots DROP CONSTRAINT hook",
                "uses function public.evil_check(text)".to_owned(),
            ),
            (
                "CREATE INDEX hook ON pgstream.slots (public.evil_text(slot))".to_owned(),
                "DROP INDEX pgstream.hook",
                "uses function public.evil_text(text)".to_owned(),
            ),
            (
                "ALTER TABLE pgstream.slots ADD hook text GENERATED ALWAYS AS (public.evil_text(slot)) STORED".to_owned(),
                "ALTER TABLE pgstream.slots DROP hook",
                "uses function public.evil_text(text)".to_owned(),
            ),
            (
                "ALTER TABLE pgstream.slots ADD hook public.evil_domain".to_owned(),
                "ALTER TABLE pgstream.slots DROP hook",
                "uses type public.evil_domain".to_owned(),
            ),
            (
                "CREATE TABLE public.child () INHERITS (pgstream.slots)".to_owned(),
                "DROP TABLE public.child",
                "has `public.child` for a child".to_owned(),
            ),
            (
                format!(
                    "GRANT REFERENCES ON pgstream.slots TO {role}; CREATE TABLE public.follower (slot text REFERENCES pgstream.slots);
                     ALTER TABLE public.follower OWNER TO {role}; REVOKE REFERENCES ON pgstream.slots FROM {role}"
                ),
                "DROP TABLE public.follower",
                format!("is referred to by `public.follower` of `{role}`"),
            ),
            (
                format!("GRANT TRIGGER ON pgstream.slots TO {role}"),
                "REVOKE TRIGGER ON pgstream.slots FROM ROLE",
                format!("may be given triggers or foreign keys by `{role}`"),
            ),
        ] {
            client.batch_execute(&hang).await.unwrap();
            client.batch_execute("DELETE FROM public.called").await.unwrap();
            assert_eq!(refusal().await.to_string(), format!("table `pgstream.slots` {what}"), "{hang}");
            assert_eq!(called(&database).await, 0, "{hang}");
            client.batch_execute(&take_down.replace("ROLE", role)).await.unwrap();
        }
        postgres::check(&name, &source).await.unwrap();

        // Conditions of copies are SQL, which who runs the pipeline runs.
        let copies = PostgresSettings { snapshot: Snapshot::Initial, ..source.clone() };
        postgres::setup(&name, &copies).await.unwrap();
        client.batch_execute(&format!("GRANT INSERT (filter) ON pgstream.copies TO {role}")).await.unwrap();
        let error = refusal().await;
        assert_eq!(error.to_string(), format!("table `pgstream.copies` may be written to by `{role}`"));
        client.batch_execute(error.advice().unwrap().split_once(": ").unwrap().1).await.unwrap();
        postgres::teardown(&name, &copies).await.unwrap();
    }
}

/// A session that has looked closely looks again only where something was made, given away or granted meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_has_looked_at_is_looked_at_again_once_it_is_another_s() {
    let database = fresh_database().await;
    let client = &database.client;
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let stranger = Stranger::of(&database).await;
    let role = &stranger.role;
    // What a role or a database says that it has looked at counts for nothing.
    let claim = "(SELECT string_agg(concat_ws(' ', s.oid, s.xmin, c.oid, c.xmin), ',' ORDER BY c.oid)
                  FROM pg_namespace s LEFT JOIN pg_class c ON c.relnamespace = s.oid AND c.relkind = 'r' WHERE s.nspname = 'pgstream')";
    client
        .batch_execute(&format!(
            "CREATE SCHEMA pgstream; GRANT ALL ON SCHEMA pgstream TO {role}; SET ROLE {role};
             CREATE TABLE pgstream.slots (); RESET ROLE;
             DO $$ BEGIN EXECUTE format('ALTER DATABASE {} SET pgstream.looked = %L', {claim}); END $$",
            database.name
        ))
        .await
        .unwrap();
    let url = Url::parse(&Secret::new(database.url.as_str()), None).unwrap();
    let of_his = |what: &str| format!("{what} belongs to `{role}`, who is not the role of `url`");
    let error = sessions::connect(&url, "test").await.unwrap_err();
    assert_eq!(error.to_string(), of_his("table `pgstream.slots`"));
    client
        .batch_execute(&format!("DROP TABLE pgstream.slots; REVOKE ALL ON SCHEMA pgstream FROM {role}"))
        .await
        .unwrap();
    let session = sessions::connect(&url, "test").await.unwrap();
    let there = async || sessions::has_table(&session, "pgstream.slots").await;
    assert!(!there().await.unwrap());
    let name = pipeline(&database);
    postgres::setup(&name, &config(&database.url, &["t"])).await.unwrap();
    assert!(there().await.unwrap(), "what another session of ours made is seen");
    for (done, undone, what) in [
        (
            format!("ALTER TABLE pgstream.slots OWNER TO {role}"),
            "ALTER TABLE pgstream.slots OWNER TO CURRENT_USER".to_owned(),
            of_his("table `pgstream.slots`"),
        ),
        (
            format!("ALTER SCHEMA pgstream OWNER TO {role}"),
            "ALTER SCHEMA pgstream OWNER TO CURRENT_USER".to_owned(),
            of_his("schema `pgstream`"),
        ),
        (
            format!("GRANT TRIGGER ON pgstream.slots TO {role}"),
            format!("REVOKE TRIGGER ON pgstream.slots FROM {role}"),
            format!("table `pgstream.slots` may be given triggers or foreign keys by `{role}`"),
        ),
        (
            format!(
                "ALTER TABLE pgstream.slots RENAME TO kept; GRANT ALL ON SCHEMA pgstream TO {role}; SET ROLE {role};
                 CREATE TABLE pgstream.slots (); RESET ROLE"
            ),
            "DROP TABLE pgstream.slots; ALTER TABLE pgstream.kept RENAME TO slots".to_owned(),
            of_his("table `pgstream.slots`"),
        ),
    ] {
        client.batch_execute(&done).await.unwrap();
        for look in 1..=2 {
            let error = there().await.unwrap_err();
            assert_eq!(error.to_string(), what, "{done}, look {look}");
        }
        client.batch_execute(&undone).await.unwrap();
        assert!(there().await.unwrap(), "after {undone}");
    }
    client.batch_execute("DROP TABLE pgstream.slots").await.unwrap();
    assert!(!there().await.unwrap());
}

/// Whoever may make publications can make one of our name, with our comment on it. It is his all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_of_a_stranger_is_not_ours_whatever_its_comment_says() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let stranger = Stranger::of(&database).await;
    let (name, slot) = (pipeline(&database), slot(&database));
    stranger
        .sql(&format!(
            "CREATE TABLE public.his (id int PRIMARY KEY); CREATE PUBLICATION {slot} FOR TABLE public.his;
             COMMENT ON PUBLICATION {slot} IS 'pgstream-host: pipeline {name}'"
        ))
        .await;
    let source = config(&database.url, &["t"]);
    let error = postgres::setup(&name, &source).await.unwrap_err();
    let refused = "does not publish all that the source needs, and was not made by pgstream-host";
    assert!(error.to_string().ends_with(refused), "{error}");
    let done = postgres::teardown(&name, &source).await.unwrap();
    assert!(done.contains(&format!("left publication `{slot}`, which pgstream-host did not make")), "{done:?}");
}

/// There is one door to an SQL session, and it pins the path; the demo's private server has one of its own, which does, too.
#[test]
fn every_session_is_opened_where_its_path_is_pinned() {
    let mut doors = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&entry) else { continue };
            if ["connect_raw(", "tokio_postgres::connect(", "startup_message(parameters"]
                .iter()
                .any(|door| text.contains(door))
            {
                assert!(text.contains("PIN") || text.contains("SET search_path = pg_catalog, pg_temp"), "{entry:?}");
                doors.push(entry.strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    doors.sort();
    assert_eq!(doors, ["src/demo/stage.rs", "src/postgres/client.rs", "src/source/postgres/connection.rs"]);
}

/// A role that may do more than a pipeline needs is more to lose.
#[tokio::test(flavor = "multi_thread")]
async fn validate_warns_of_rights_that_are_not_needed_and_the_smallest_role_has_none() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE documents (id int PRIMARY KEY, content text)").await.unwrap();
    let url = database.smallest_role(&["public.documents"]).await;
    let yaml = format!(
        "version: 1\nname: {}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents] }}\n\
         embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\nsinks:\n  out: {{ type: blackhole, inputs: [embed] }}\n",
        pipeline(&database),
        root().join("plugins/documents-rust/documents.wasm").display()
    );
    let program = Program::new(url, &yaml);
    let warned = || String::from_utf8(program.output(&["validate", "--connect"], &[]).stderr).unwrap();
    let log = warned();
    assert!(!log.contains("WARN"), "{log}");
    let role = format!("{}_pipeline", database.name);
    for (give, what) in [
        ("CREATEDB CREATEROLE", "it may make roles (CREATEROLE), may make databases (CREATEDB)"),
        ("SUPERUSER", "it is a superuser"),
    ] {
        database.client.batch_execute(&format!("ALTER ROLE {role} {give}")).await.unwrap();
        let log = warned();
        assert!(log.contains(what) && log.contains("docs/postgres.md"), "{log}");
        assert!(!log.contains("error"), "{log}");
    }
    let member = format!("ALTER ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE; GRANT pg_read_server_files TO {role}");
    database.client.batch_execute(&member).await.unwrap();
    assert!(warned().contains("it is a member of `pg_read_server_files`"), "{}", warned());
}

/// What reads tables logs in as somebody who may do nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn tables_are_read_with_a_login_of_their_own_where_the_settings_name_one() {
    let database = fresh_database().await;
    let (client, name) = (&database.client, pipeline(&database));
    client
        .batch_execute(
            "CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text);
             ALTER TABLE documents ALTER content SET STORAGE EXTERNAL;
             INSERT INTO documents SELECT i, 'row', repeat('words and more ', 300) FROM generate_series(1, 20) i",
        )
        .await
        .unwrap();
    let url = database.smallest_role(&["public.documents"]).await;
    let (role, reader) = (format!("{}_pipeline", database.name), format!("{}_reader", database.name));
    let apart = format!(
        "CREATE ROLE {reader} LOGIN PASSWORD 'p'; GRANT USAGE ON SCHEMA public TO {reader};
         GRANT SELECT ON public.documents TO {reader}; REVOKE SELECT ON public.documents FROM {role}"
    );
    client.batch_execute(&apart).await.unwrap();
    let yaml = format!(
        "version: 1\nname: {name}\nsources:\n  db:\n    {{ type: postgres, url: \"${{DATABASE_URL}}\", read_url: \"{}\", \
         tables: [public.documents], snapshot: initial, toast: reread, heartbeat: 50ms, on_slot_lost: resnapshot }}\n\
         embedders:\n  words: {{ type: hash, dimension: 16 }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words], limits: {{ output: 64KiB }} }}\n\
         sinks:\n  search: {{ type: pgvector, inputs: [embed], url: \"${{DATABASE_URL}}\", table: vectors, create: {{ dimension: 16 }} }}\n  \
         parked: {{ type: dead-letters, inputs: [embed.rejected] }}\n",
        url_of(&database, &reader),
        root().join("plugins/documents-rust/documents.wasm").display()
    );
    let program = Program::new(url, &yaml);
    program.does(&["validate", "--connect"], &[]);
    let file = program.folder.path("pipeline.yaml");
    let mut running = Running::start(&file, &[("DATABASE_URL", &program.url)]);
    running.said("all rows of the table are copied").await;
    client.batch_execute("UPDATE documents SET title = 'new' WHERE id = 3").await.unwrap();
    let new = "SELECT count(*) FROM vectors WHERE payload->>'title' = 'new' AND payload->>'content' LIKE 'words%'";
    eventually("a gap is filled", async || client.query_one(new, &[]).await.unwrap().get::<_, i64>(0) > 0).await;
    client.batch_execute("INSERT INTO documents VALUES (100, 'large', repeat('x ', 200000))").await.unwrap();
    eventually("a letter is parked", async || program.does(&["dlq", "list"], &["--json"]).lines().count() == 1).await;
    client.batch_execute("UPDATE documents SET content = 'small' WHERE id = 100").await.unwrap();
    program.does(&["dlq", "replay"], &["--all"]);
    assert_eq!(program.does(&["dlq", "list"], &[]), "no dead letters\n");
    let (status, log) = running.stop().await;
    assert!(status.success(), "{log}");
    program.does(&["resnapshot"], &[]);
    let mut running = Running::start(&file, &[("DATABASE_URL", &program.url)]);
    running.said("all rows of the table are copied").await;
    running.stop().await;

    let elsewhere = PostgresSettings {
        read_url: Some(Secret::new("postgres://r@127.0.0.1:1/other")),
        ..config(&program.url, &["t"])
    };
    let error = postgres::setup(&name, &elsewhere).await.unwrap_err();
    assert_eq!(error.to_string(), "`read_url` leads to another database than `url`");
    program.does(&["teardown"], &[]);
}

pub(crate) fn letters(url: &str, trusted: &[&str]) -> DeadLettersSettings {
    DeadLettersSettings {
        inputs: vec!["embed.rejected".into()],
        url: Some(Secret::new(url)),
        password_file: None,
        trusted_owners: trusted.iter().map(|&role| role.to_owned()).collect(),
        folder: None,
        max_letters: 10,
    }
}

pub(super) fn vectors(url: &str, table: &str, trusted: &[&str]) -> PgvectorSettings {
    PgvectorSettings {
        inputs: vec!["embed".into()],
        url: Secret::new(url),
        password_file: None,
        trusted_owners: trusted.iter().map(|&role| role.to_owned()).collect(),
        folder: None,
        table: table.into(),
        create: None,
        batch: model::SinkBatch::default(),
    }
}

/// Whoever owns a table has his triggers run by who writes to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_a_stranger_is_no_sink_unless_the_settings_name_him() {
    let database = fresh_database().await;
    let client = &database.client;
    client.batch_execute("CREATE EXTENSION vector").await.unwrap();
    let stranger = Stranger::of(&database).await;
    let role = &stranger.role;
    stranger
        .sql(
            "CREATE TABLE public.points (id text PRIMARY KEY, embedding vector(3), payload jsonb NOT NULL);
             CREATE TRIGGER hook BEFORE INSERT OR UPDATE OR DELETE ON public.points FOR EACH STATEMENT EXECUTE FUNCTION public.evil_trigger()",
        )
        .await;
    let refused = async |settings: &PgvectorSettings| -> Error {
        PgvectorSink::open("documents", "search", settings).await.unwrap_err()
    };
    for table in ["points", "public.points"] {
        let error = refused(&vectors(&database.url, table, &[])).await;
        let owner = format!(
            "table `public.points` belongs to `{role}`, who is neither the role of `url` nor the owner of the database"
        );
        assert_eq!(error.to_string(), owner);
    }
    PgvectorSink::open("documents", "search", &vectors(&database.url, "points", &[role])).await.unwrap();
    client.batch_execute("ALTER TABLE points OWNER TO CURRENT_USER").await.unwrap();
    let error = refused(&vectors(&database.url, "points", &[])).await;
    assert!(error.to_string().starts_with("table `public.points` has a trigger `hook`, which runs"), "{error}");
    client.batch_execute("DROP TRIGGER hook ON points").await.unwrap();
    PgvectorSink::open("documents", "search", &vectors(&database.url, "points", &[])).await.unwrap();

    // A schema of his around it: he could put another table in its place.
    client
        .batch_execute(&format!("CREATE SCHEMA his AUTHORIZATION {role}; ALTER TABLE points SET SCHEMA his"))
        .await
        .unwrap();
    let error = refused(&vectors(&database.url, "his.points", &[])).await;
    assert!(error.to_string().starts_with("the schema of table `his.points` belongs to"), "{error}");

    // The extension's types are what the statements name.
    client
        .batch_execute("ALTER TABLE his.points SET SCHEMA public; ALTER EXTENSION vector SET SCHEMA his")
        .await
        .unwrap();
    let error = refused(&vectors(&database.url, "points", &[])).await;
    assert!(error.to_string().starts_with("schema \"his\" of the extension `vector` belongs to"), "{error}");
    assert_eq!(called(&database).await, 0);
}

/// A name without a schema leads where it leads in psql with the same URL.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_schema_is_looked_for_as_the_role_s_own_settings_say() {
    let database = fresh_database().await;
    let client = &database.client;
    let points = "(id text PRIMARY KEY, embedding public.vector(3), payload jsonb NOT NULL)";
    client
        .batch_execute(&format!(
            "CREATE EXTENSION vector; CREATE SCHEMA \"Ä p\"; CREATE SCHEMA other; CREATE TABLE \"Ä p\".points {points};
             CREATE TABLE other.points {points}; CREATE TABLE public.points {points}"
        ))
        .await
        .unwrap();
    let opened = async |options: &str| -> String {
        let url = format!("{}{options}", database.url);
        let mut sink = PgvectorSink::open("documents", "search", &vectors(&url, "points", &[])).await.unwrap();
        let name = format!("place/{options}");
        sink.resume(&name).await.unwrap();
        let sql = "SELECT relation::regclass::text FROM pgstream.positions WHERE origin = $1 ORDER BY updated_at DESC LIMIT 1";
        client.query_one(sql, &[&name]).await.unwrap().get(0)
    };
    assert_eq!(opened("").await, "points");
    assert_eq!(opened("?options=-c%20search_path%3Dnone%2Cother%2Cpublic").await, "other.points");
    assert_eq!(opened("?options=-c%20search_path%3D%22%C3%84%5C%20p%22%2Cother").await, "\"Ä p\".points");
    client.batch_execute(&format!("ALTER DATABASE {} SET search_path = other", database.name)).await.unwrap();
    assert_eq!(opened("").await, "other.points");
    let url = format!("{}?options=-c%20search_path%3Dnone", database.url);
    let error = PgvectorSink::open("documents", "search", &vectors(&url, "points", &[])).await.unwrap_err();
    assert_eq!(error.to_string(), "it is not known in which schema table \"points\" is");
}

/// A lock that anybody may take stops nobody.
#[tokio::test(flavor = "multi_thread")]
async fn who_holds_every_advisory_lock_of_ours_is_in_nobody_s_way() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY); CREATE EXTENSION vector").await.unwrap();
    let stranger = Stranger::of(&database).await;
    let sql = format!(
        "SELECT pg_advisory_lock(1885827956, hashtext('{}')), pg_advisory_lock(8099569398772624997), pg_advisory_lock(8099569398821773677)",
        slot(&database)
    );
    stranger.sql(&sql).await;
    let (name, source) = (pipeline(&database), config(&database.url, &["t"]));
    postgres::setup(&name, &source).await.unwrap();
    DeadLetters::open(&name, &letters(&database.url, &[])).await.unwrap();
    let create = model::Create { dimension: Some(3), ..serde_json::from_str("{}").unwrap() };
    let points = PgvectorSettings { create: Some(create), ..vectors(&database.url, "points", &[]) };
    let mut sink = PgvectorSink::open(&name, "search", &points).await.unwrap();
    sink.resume("origin").await.unwrap();
    let asked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(database.client.query_one(asked, &[]).await.unwrap().get::<_, i64>(0), 3, "nobody else asks for one");
    postgres::teardown(&name, &source).await.unwrap();
}

/// The lock that counts can be taken only by who may write to our tables, and a tables' lock only by who may write to that table;
/// who holds it is named.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_the_way_of_a_setup_is_named_with_what_to_type() {
    let database = Database::create(postgres18()).await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let stranger = Stranger::of(&database).await;
    let yaml = format!(
        "version: 1\nname: {}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.t] }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {} }}\nsinks:\n  out: {{ type: blackhole, inputs: [embed] }}\n",
        pipeline(&database),
        root().join("plugins/documents-rust/documents.wasm").display()
    );
    let program = Program::new(database.url.clone(), &yaml);
    program.does(&["setup"], &[]);
    let lock = "BEGIN; LOCK TABLE pgstream.slots IN SHARE UPDATE EXCLUSIVE MODE";
    assert!(stranger.client.batch_execute(lock).await.is_err(), "a stranger may not");
    stranger.client.batch_execute("ROLLBACK").await.unwrap();
    let url = format!("{}?application_name=forgotten", database.url);
    let peer = connect(&url).await;
    let pid: i32 = peer.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    peer.batch_execute(lock).await.unwrap();
    let mut waiting =
        Running::start_with(&["setup"], &program.folder.path("pipeline.yaml"), &[("DATABASE_URL", &program.url)]);
    waiting.said(&format!("session {pid} of `postgres` (`forgotten`, from 127.0.0.1) holds the lock")).await;
    assert!(waiting.log().contains(&format!("SELECT pg_terminate_backend({pid})")), "{}", waiting.log());
    peer.batch_execute("COMMIT").await.unwrap();
    let (status, log) = waiting.ended().await;
    assert!(status.success(), "{log}");
    program.does(&["teardown"], &[]);
}

/// What is made waits for nobody without a word: neither for a lock on a table of an earlier version, nor for somebody who has
/// begun to make a schema of our name.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_the_way_of_what_is_made_is_named() {
    let (one, other) = (fresh_database().await, fresh_database().await);
    let yaml = |database: &Database| {
        format!(
            "version: 1\nname: {}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.t] }}\n\
             transforms:\n  embed: {{ type: wasm, inputs: [db], component: {} }}\nsinks:\n  out: {{ type: blackhole, inputs: [embed] }}\n",
            pipeline(database),
            root().join("plugins/documents-rust/documents.wasm").display()
        )
    };
    for database in [&one, &other] {
        database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    }
    let old = Program::new(one.url.clone(), &yaml(&one));
    old.does(&["setup"], &[]);
    one.client.batch_execute("ALTER TABLE pgstream.slots DROP names").await.unwrap();
    let peer = connect(&one.url).await;
    peer.batch_execute("BEGIN; LOCK TABLE pgstream.slots IN ACCESS SHARE MODE").await.unwrap();
    let stranger = Stranger::of(&other).await;
    stranger.sql("BEGIN; CREATE SCHEMA pgstream").await;
    let new = Program::new(other.url.clone(), &yaml(&other));
    let setup = |program: &Program| {
        Running::start_with(&["setup"], &program.folder.path("pipeline.yaml"), &[("DATABASE_URL", &program.url)])
    };
    let (mut altering, mut making) = (setup(&old), setup(&new));
    for (waiting, client, role) in
        [(&mut altering, &peer, "postgres"), (&mut making, &stranger.client, stranger.role.as_str())]
    {
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        waiting.said(&format!("session {pid} of `{role}`")).await;
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    for (mut waiting, program) in [(altering, &old), (making, &new)] {
        let (status, log) = waiting.ended().await;
        assert!(status.success(), "{log}");
        program.does(&["teardown"], &[]);
    }
}

/// What `ALTER DEFAULT PRIVILEGES` gives to all is no reason to refuse what we have made ourselves.
#[tokio::test(flavor = "multi_thread")]
async fn default_privileges_give_nobody_a_right_to_hang_code_on_what_we_make() {
    let database = fresh_database().await;
    let (client, name) = (&database.client, pipeline(&database));
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY); CREATE EXTENSION vector; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
        )
        .await
        .unwrap();
    let source = PostgresSettings { snapshot: Snapshot::Initial, ..config(&database.url, &["t"]) };
    postgres::setup(&name, &source).await.unwrap();
    DeadLetters::open(&name, &letters(&database.url, &[])).await.unwrap();
    let create = model::Create { dimension: Some(3), ..serde_json::from_str("{}").unwrap() };
    PgvectorSink::open(
        &name,
        "search",
        &PgvectorSettings { create: Some(create), ..vectors(&database.url, "points", &[]) },
    )
    .await
    .unwrap();
    let given = "SELECT string_agg(DISTINCT privilege_type, ',' ORDER BY privilege_type) FROM pg_class c, aclexplode(c.relacl)
                 WHERE grantee = 0 AND privilege_type <> 'MAINTAIN' AND c.relnamespace = $1::text::regnamespace AND c.relkind = 'r'";
    for (schema, left) in [("pgstream", "SELECT"), ("public", "DELETE,INSERT,SELECT,TRUNCATE,UPDATE")] {
        let sql = if schema == "public" { format!("{given} AND c.relname = 'points'") } else { given.to_owned() };
        let left_now: Option<String> = client.query_one(&sql, &[&schema]).await.unwrap().get(0);
        assert_eq!(left_now.as_deref(), Some(left), "{schema}");
    }
    postgres::teardown(&name, &source).await.unwrap();
}

/// The comparison of sinks needs a table. A role that may not make it loses the comparison, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_note_its_sinks_is_told_so_and_goes_on() {
    let database = fresh_database().await;
    let (client, name) = (&database.client, pipeline(&database));
    client.batch_execute("CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text)").await.unwrap();
    let url = database.smallest_role(&["public.documents"]).await;
    let role = format!("{}_pipeline", database.name);
    let yaml = format!(
        "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents], snapshot: initial }}\n\
         embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
         sinks:\n  search: {{ type: pgvector, inputs: [embed], url: \"${{DATABASE_URL}}\", table: vectors, create: {{ dimension: 8 }} }}\n",
        root().join("plugins/documents-rust/documents.wasm").display()
    );
    let program = Program::new(url, &yaml);
    let start = || Running::start(&program.folder.path("pipeline.yaml"), &[("DATABASE_URL", &program.url)]);
    let mut running = start();
    running.said("all rows of the table are copied").await;
    running.stop().await;
    client
        .batch_execute(&format!(
            "DROP TABLE pgstream.sinks; ALTER SCHEMA pgstream OWNER TO CURRENT_USER; GRANT USAGE ON SCHEMA pgstream TO {role}"
        ))
        .await
        .unwrap();
    program.does(&["validate", "--connect"], &[]);
    let mut running = start();
    running.said("the sinks are not compared with those that were fed before").await;
    let grant = format!("GRANT USAGE, CREATE ON SCHEMA pgstream TO \\\"{role}\\\"");
    assert!(running.log().replace('"', "\\\"").contains(&grant) || running.log().contains(&grant), "{}", running.log());
    running.said("running").await;
    let (status, log) = running.stop().await;
    assert!(status.success(), "{log}");
    // What is advised is enough.
    client.batch_execute(&format!("GRANT USAGE, CREATE ON SCHEMA pgstream TO {role}")).await.unwrap();
    let mut running = start();
    running.said("running").await;
    let (_, log) = running.stop().await;
    assert!(!log.contains("are not compared"), "{log}");
    program.does(&["teardown"], &[]);
}

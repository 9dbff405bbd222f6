//! Hooks on the tables of sinks: what hangs there and would run a stranger's code with our rights.

use pgstream_host::error::Error;
use pgstream_host::sink::pgvector::PgvectorSink;

use super::sql::{Stranger, called, vectors};
use crate::support::{Database, fresh_database};

async fn opened(database: &Database, trusted: &[&str]) -> Result<PgvectorSink, Error> {
    PgvectorSink::open("documents", "search", &vectors(&database.url, "public.points", trusted)).await
}

/// A table of the role's own, with what somebody else has hung on it, or could.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_hangs_on_a_sink_s_table_that_runs_what_a_stranger_wrote() {
    let database = fresh_database().await;
    let client = &database.client;
    let stranger = Stranger::of(&database).await;
    let role = stranger.role.as_str();
    client
        .batch_execute(
            "CREATE EXTENSION vector;
             CREATE TABLE points (id text PRIMARY KEY, embedding public.vector(3), payload jsonb NOT NULL, note text)",
        )
        .await
        .unwrap();
    stranger
        .sql(
            "CREATE FUNCTION public.evil_same(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note(); RETURN true; END $$",
        )
        .await;
    opened(&database, &[]).await.unwrap();
    let of_his = |what: &str| format!("table `public.points` {what} of `{role}`");
    // How it is hung up, how it is taken down (by what is advised, if nothing stands here), and what is said.
    let cases = [
        (
            "CREATE TRIGGER hook BEFORE INSERT ON points FOR EACH ROW EXECUTE FUNCTION public.evil_trigger()".to_owned(),
            "",
            of_his("has a trigger `hook`, which runs public.evil_trigger()"),
        ),
        (
            "CREATE TRIGGER hook BEFORE INSERT ON points FOR EACH ROW WHEN (public.evil_check(NEW.id)) EXECUTE FUNCTION suppress_redundant_updates_trigger()".to_owned(),
            "DROP TRIGGER hook ON points",
            of_his("uses function public.evil_check(text)"),
        ),
        (
            "CREATE RULE hook AS ON DELETE TO points DO ALSO SELECT public.evil()".to_owned(),
            "DROP RULE hook ON points",
            of_his("uses function public.evil()"),
        ),
        (
            "CREATE POLICY hook ON points USING (public.evil() = 'x')".to_owned(),
            "DROP POLICY hook ON points",
            of_his("uses function public.evil()"),
        ),
        (
            "ALTER TABLE points ALTER note SET DEFAULT public.evil()".to_owned(),
            "ALTER TABLE points ALTER note DROP DEFAULT",
            of_his("uses function public.evil()"),
        ),
        (
            "ALTER TABLE points ADD CONSTRAINT hook CHECK (public.evil_check(note))".to_owned(),
            "ALTER TABLE points DROP CONSTRAINT hook",
            of_his("uses function public.evil_check(text)"),
        ),
        (
            "CREATE INDEX hook ON points (public.evil_text(note))".to_owned(),
            "DROP INDEX hook",
            of_his("uses function public.evil_text(text)"),
        ),
        (
            "ALTER TABLE points ADD hook text GENERATED ALWAYS AS (public.evil_text(note)) STORED".to_owned(),
            "ALTER TABLE points DROP hook",
            of_his("uses function public.evil_text(text)"),
        ),
        (
            "CREATE STATISTICS hook ON (public.evil_text(note)), id FROM points".to_owned(),
            "DROP STATISTICS hook",
            of_his("uses function public.evil_text(text)"),
        ),
        (
            "ALTER TABLE points ADD hook public.evil_domain".to_owned(),
            "ALTER TABLE points DROP hook",
            of_his("uses function public.evil_check(text)"),
        ),
        (
            "CREATE DOMAIN public.own AS text CHECK (public.evil_check(VALUE)); ALTER TABLE points ADD hook public.own".to_owned(),
            "ALTER TABLE points DROP hook; DROP DOMAIN public.own",
            of_his("uses function public.evil_check(text)"),
        ),
        (
            "CREATE OPERATOR public.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = public.evil_same);
             ALTER TABLE points ADD CONSTRAINT hook CHECK (note OPERATOR(public.===) note)".to_owned(),
            "ALTER TABLE points DROP CONSTRAINT hook; DROP OPERATOR public.=== (text, text)",
            of_his("uses operator public.===(text,text)"),
        ),
        (
            format!("GRANT TRIGGER, REFERENCES ON points TO {role}"),
            "",
            format!("table `public.points` may be given triggers or foreign keys by `{role}`"),
        ),
        (
            "GRANT REFERENCES (id) ON points TO PUBLIC".to_owned(),
            "",
            "table `public.points` may be given triggers or foreign keys by everybody".to_owned(),
        ),
        (
            format!(
                "CREATE TABLE follower (id text REFERENCES points ON DELETE CASCADE); ALTER TABLE follower OWNER TO {role}"
            ),
            "",
            of_his("is referred to by `public.follower`"),
        ),
        (
            format!("CREATE TABLE child () INHERITS (points); ALTER TABLE child OWNER TO {role}"),
            "DROP TABLE child",
            format!("table `public.child` belongs to `{role}`, who is neither the role of `url` nor the owner of the database"),
        ),
        (
            "CREATE TABLE child () INHERITS (points);
             CREATE TRIGGER hook BEFORE UPDATE ON child FOR EACH ROW EXECUTE FUNCTION public.evil_trigger()".to_owned(),
            "DROP TABLE child",
            format!("table `public.child` has a trigger `hook`, which runs public.evil_trigger() of `{role}`"),
        ),
    ];
    for (hang, take_down, what) in cases {
        client.batch_execute(&hang).await.unwrap();
        client.batch_execute("DELETE FROM public.called").await.unwrap();
        let error = opened(&database, &[]).await.unwrap_err();
        assert_eq!(error.to_string(), what, "{hang}");
        let advice = error.advice().unwrap().to_owned();
        if what.ends_with("everybody") {
            assert!(!advice.contains("trusted_owners"), "{advice}");
        } else {
            assert!(advice.contains(&format!("trusted_owners: [\"{role}\"]")), "{advice}");
            opened(&database, &[role]).await.unwrap();
        }
        assert_eq!(called(&database).await, 0, "{hang}");
        let remedy = match take_down {
            "" => advice.lines().next().unwrap().split_once(": ").unwrap().1,
            sql => sql,
        };
        client.batch_execute(remedy).await.unwrap_or_else(|error| panic!("{remedy}: {error}"));
        opened(&database, &[]).await.unwrap_or_else(|error| panic!("after {remedy}: {error:?}"));
        client.batch_execute("DROP TABLE IF EXISTS follower").await.unwrap();
    }
}

/// What the role itself, a superuser or an extension has made may hang there: people's own triggers go on to run.
#[tokio::test(flavor = "multi_thread")]
async fn what_people_hang_on_their_own_tables_stays_theirs_to_decide() {
    let database = fresh_database().await;
    let client = &database.client;
    client
        .batch_execute(&format!(
            "CREATE EXTENSION vector; CREATE ROLE {0}_app LOGIN PASSWORD 'p'; GRANT CREATE ON DATABASE {0} TO {0}_app; CREATE TYPE mood AS ENUM ('calm');
             CREATE FUNCTION public.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := ''stamped''; RETURN NEW; END';
             CREATE DOMAIN public.short AS text CHECK (length(VALUE) < 9);
             CREATE TABLE points (id text PRIMARY KEY, embedding public.vector(3), payload jsonb NOT NULL, note public.short, mood mood,
                                  made timestamptz DEFAULT now());
             CREATE TRIGGER stamp BEFORE INSERT ON points FOR EACH ROW EXECUTE FUNCTION public.stamp();
             CREATE INDEX ON points USING hnsw (embedding public.vector_cosine_ops);
             CREATE TABLE follower (id text REFERENCES points); ALTER TABLE points OWNER TO {0}_app",
            database.name
        ))
        .await
        .unwrap();
    let url = format!("postgres://{}_app:p@{}", database.name, database.url.split_once('@').unwrap().1);
    PgvectorSink::open("documents", "search", &vectors(&url, "public.points", &[])).await.unwrap();
}

/// What a write reaches beyond the table: what is below and above it, and what refers to any of that.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_hangs_on_a_relative_of_a_sink_s_table_that_runs_what_a_stranger_wrote() {
    let database = fresh_database().await;
    let client = &database.client;
    let stranger = Stranger::of(&database).await;
    let role = stranger.role.as_str();
    client
        .batch_execute(
            "CREATE EXTENSION vector;
             CREATE TABLE points (id text PRIMARY KEY, embedding public.vector(3), payload jsonb NOT NULL, note text) PARTITION BY HASH (id);
             CREATE TABLE leaf PARTITION OF points FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             CREATE TABLE branch PARTITION OF points FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY HASH (id);
             CREATE TABLE twig PARTITION OF branch FOR VALUES WITH (MODULUS 1, REMAINDER 0);
             CREATE TABLE follower (id text PRIMARY KEY REFERENCES leaf ON DELETE CASCADE ON UPDATE CASCADE);
             CREATE TABLE last (id text REFERENCES follower ON DELETE CASCADE ON UPDATE CASCADE)",
        )
        .await
        .unwrap();
    opened(&database, &[]).await.unwrap();
    let trigger = "CREATE TRIGGER hook BEFORE DELETE ON TABLE FOR EACH ROW EXECUTE FUNCTION public.evil_trigger()";
    for table in ["leaf", "twig", "follower", "last"] {
        client.batch_execute(&trigger.replace("TABLE", table)).await.unwrap();
        let error = opened(&database, &[]).await.unwrap_err();
        let expected =
            format!("table `public.{table}` has a trigger `hook`, which runs public.evil_trigger() of `{role}`");
        assert_eq!(error.to_string(), expected);
        let remedy = error.advice().unwrap().lines().next().unwrap().split_once(": ").unwrap().1.to_owned();
        client.batch_execute(&remedy).await.unwrap_or_else(|error| panic!("{remedy}: {error}"));
        client.batch_execute(&format!("ALTER TABLE {table} OWNER TO {role}")).await.unwrap();
        let error = opened(&database, &[]).await.unwrap_err();
        let his = match table {
            "follower" => format!("table `public.leaf` is referred to by `public.follower` of `{role}`"),
            "last" => format!("table `public.follower` is referred to by `public.last` of `{role}`"),
            _ => format!("table `public.{table}` belongs to `{role}`, "),
        };
        assert!(error.to_string().starts_with(&his), "{table}: {error}");
        client.batch_execute(&format!("ALTER TABLE {table} OWNER TO CURRENT_USER")).await.unwrap();
        opened(&database, &[]).await.unwrap();
    }
    // A domain of his within types of ours: its check runs when a default is worked out.
    for (made, default, gone) in [
        ("", "ADD hook public.evil_domain[] DEFAULT ARRAY[current_user::text]::public.evil_domain[]", ""),
        (
            "CREATE TYPE pair AS (a int, b public.evil_domain);",
            "ADD hook pair DEFAULT ROW(1, current_user::text)::pair",
            "DROP TYPE pair",
        ),
        (
            "CREATE DOMAIN outer_domain AS public.evil_domain[];",
            "ADD hook outer_domain DEFAULT ARRAY[current_user::text]::outer_domain",
            "DROP DOMAIN outer_domain",
        ),
    ] {
        client.batch_execute(&format!("{made} ALTER TABLE points {default}; DELETE FROM public.called")).await.unwrap();
        let error = opened(&database, &[]).await.unwrap_err();
        assert!(
            error.to_string().ends_with(&format!("uses function public.evil_check(text) of `{role}`")),
            "{default}: {error}"
        );
        assert_eq!(called(&database).await, 0, "{default}");
        client.batch_execute(&format!("ALTER TABLE points DROP hook; {gone}")).await.unwrap();
        opened(&database, &[]).await.unwrap();
    }
}

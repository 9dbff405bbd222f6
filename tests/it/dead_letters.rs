//! Dead letters in a database: parked once whatever is killed, one refused row beside 999 others, and brought back.

use std::path::{Path, PathBuf};
use std::process::Output;

use pgstream_host::sink::dead_letters::count as count_letters;
use qdrant_client::Qdrant;
use qdrant_client::qdrant::ScrollPointsBuilder;
use serde_json::Value as Json;
use tokio_postgres::Client;

use crate::embedder::Server;
use crate::guests::guest;
use crate::source::pipeline;
use crate::support::program::{Folder, Running, eventually, pgstream, root};
use crate::support::qdrant_server::QdrantServer;
use crate::support::{Database, fresh_database};

const TABLE: &str = "CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text)";
const VECTORS: &str = "  search: { type: pgvector, inputs: [embed], url: \"${DATABASE_URL}\", table: public.vectors, create: { dimension: 16 } }\n";
const PARKED: &str = "  parked: { type: dead-letters, inputs: [embed.rejected] }\n";

const NOWHERE: &str = "  nowhere: { type: blackhole, inputs: [embed] }\n";

/// A pipeline over the table `documents`, as the smallest role that can run it.
struct Rig {
    database: Database,
    url: String,
    folder: Folder,
}

impl Rig {
    async fn new() -> Self {
        let database = fresh_database().await;
        database.client.batch_execute(TABLE).await.unwrap();
        let url = database.smallest_role(&["public.documents"]).await;
        Self { database, url, folder: Folder::new() }
    }

    /// Writes the pipeline file with this handler, settings of the transform, and these sinks.
    fn file(&self, component: PathBuf, transform: &str, sinks: &str) -> PathBuf {
        let text = format!(
            "version: 1\nname: {}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents] }}\n\
             embedders:\n  words: {{ type: hash, dimension: 16 }}\n\
             transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words]{transform} }}\nsinks:\n{sinks}",
            pipeline(&self.database),
            component.display()
        );
        self.folder.write("letters.yaml", &text)
    }

    async fn run(&self, file: &Path) -> Running {
        let mut host = Running::start(file, &[("DATABASE_URL", &self.url)]);
        host.said("running").await;
        host
    }

    async fn sql(&self, sql: &str) {
        self.database.client.batch_execute(sql).await.unwrap();
    }

    /// Runs `pgstream-host dlq`; the file stands behind the first argument.
    fn dlq(&self, arguments: &[&str]) -> Output {
        let file = self.folder.path("letters.yaml");
        let (first, others) = arguments.split_first().unwrap();
        let arguments = ["dlq", first, file.to_str().unwrap()].into_iter().chain(others.iter().copied());
        pgstream(arguments).env("DATABASE_URL", &self.url).output().unwrap()
    }

    /// What `dlq` prints, if all is well.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.dlq(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn letters(&self) -> Vec<Json> {
        self.said(&["list", "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn parked(&self, letters: i64) {
        eventually("the letters are parked", async || {
            let there = "SELECT to_regclass('pgstream.dead_letters') IS NOT NULL";
            let there: bool = self.database.client.query_one(there, &[]).await.unwrap().get(0);
            there && count(&self.database.client, "pgstream.dead_letters").await == letters
        })
        .await;
    }

    /// Waits until everything that was committed before is confirmed.
    async fn quiet(&self) {
        let now: String =
            self.database.client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
        let sql = format!(
            "SELECT coalesce(bool_and(confirmed_flush_lsn >= '{now}'), false) FROM pg_replication_slots WHERE database = current_database()"
        );
        // Something to stream, so that the stream moves on.
        self.sql("SELECT pg_logical_emit_message(true, 'test', '')").await;
        eventually("all is confirmed", async || {
            self.database.client.query_one(&sql, &[]).await.unwrap().get::<_, bool>(0)
        })
        .await;
    }

    /// Waits until the sink holds what the handler makes of the table.
    async fn agrees(&self) {
        let table = "SELECT id::text, title, content FROM documents ORDER BY documents.id";
        let sink = "SELECT group_id, payload->>'title', payload->>'content' FROM vectors ORDER BY group_id::bigint";
        eventually("table and sink agree", async || {
            rows(&self.database.client, table).await == rows(&self.database.client, sink).await
        })
        .await;
    }
}

fn documents() -> PathBuf {
    root().join("plugins/documents-rust/documents.wasm")
}

async fn count(client: &Client, table: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
}

async fn rows(client: &Client, sql: &str) -> Vec<[Option<String>; 3]> {
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| [row.get(0), row.get(1), row.get(2)]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_parked_once_although_the_host_dies_before_it_is_confirmed() {
    let Some(evil) = guest("evil") else { return };
    let rig = Rig::new().await;
    let file = rig.file(evil, "", &(VECTORS.to_owned() + PARKED));
    let mut host = rig.run(&file).await;
    // The other sink has to wait, and so nothing can be confirmed.
    let mut other = crate::support::connect(&rig.database.url).await;
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE vectors IN EXCLUSIVE MODE").await.unwrap();
    rig.sql("INSERT INTO documents VALUES (1, 'panic', ''), (2, 'payload {\"n\":1}', ''), (3, 'reject as it is', '')")
        .await;
    rig.parked(2).await;
    let before = rig.letters();
    host.kill();
    lock.rollback().await.unwrap();

    let host = rig.run(&file).await;
    eventually("the batch came again", async || count(&rig.database.client, "vectors").await == 1).await;
    rig.quiet().await;
    assert_eq!(rig.letters(), before);
    let codes: Vec<&str> = before.iter().map(|letter| letter["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["trap", "rejected"]);
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_text_the_embedder_refuses_is_parked_alone() {
    let provider = Server::refusing("too long").await;
    let rig = Rig::new().await;
    let file = rig.file(documents(), "", &(VECTORS.replace("16", "3") + PARKED));
    let text = std::fs::read_to_string(&file).unwrap();
    let asked = format!("{{ type: openai, url: \"{}\", model: test }}", provider.url());
    std::fs::write(&file, text.replace("{ type: hash, dimension: 16 }", &asked)).unwrap();
    let host = rig.run(&file).await;
    rig.sql("INSERT INTO documents VALUES (500, 'old', 'old text')").await;
    rig.agrees().await;
    rig.sql(
        "BEGIN; INSERT INTO documents SELECT i, 'row ' || i, 'text ' || i FROM generate_series(1, 1000) i WHERE i <> 500;
         UPDATE documents SET content = 'too long' WHERE id = 500; COMMIT",
    )
    .await;
    rig.parked(1).await;
    rig.quiet().await;
    assert_eq!(count(&rig.database.client, "vectors").await, 1000, "and the document keeps the chunks that it had");
    let letter = &rig.letters()[0];
    assert_eq!(letter["code"], "text");
    assert!(
        letter["reason"].as_str().unwrap().starts_with("a text cannot be embedded: the server answered 400"),
        "{letter}"
    );
    rig.sql("UPDATE documents SET content = 'short' WHERE id = 500").await;
    rig.agrees().await;
    assert_eq!(rig.said(&["replay", "--all"]), "1 dead letter settled: the sinks hold what their rows are now\n");
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_constraint_refuses_is_parked_alone_and_comes_back() {
    let rig = Rig::new().await;
    let file = rig.file(documents(), "", &(VECTORS.to_owned() + PARKED));
    let host = rig.run(&file).await;
    rig.sql("ALTER TABLE vectors ADD CONSTRAINT short CHECK (length(payload->>'title') < 100)").await;
    rig.sql("INSERT INTO documents VALUES (500, 'old', 'old text')").await;
    rig.agrees().await;
    rig.sql(
        "BEGIN; INSERT INTO documents SELECT i, 'row ' || i, 'text ' || i FROM generate_series(1, 1000) i WHERE i <> 500;
         UPDATE documents SET title = repeat('long ', 100), content = 'new text' WHERE id = 500; COMMIT",
    )
    .await;
    rig.parked(1).await;
    eventually("all others arrive", async || count(&rig.database.client, "vectors").await == 1000).await;
    rig.quiet().await;
    let sink = "SELECT group_id, payload->>'title', payload->>'content' FROM vectors WHERE group_id = '500'";
    let old = [Some("500".to_owned()), Some("old".to_owned()), Some("old text".to_owned())];
    assert_eq!(rows(&rig.database.client, sink).await, [old], "what was there before stays whole");

    let letters = rig.letters();
    let letter = &letters[0];
    assert_eq!((letters.len(), &letter["code"], &letter["sink"]), (1, &"sink".into(), &"search".into()));
    let reason = "cannot write to table `public.vectors`: a constraint of the table is violated (SQLSTATE 23514)";
    assert_eq!((letter["reason"].as_str(), letter["table"].as_str()), (Some(reason), Some("public.documents")));
    assert!(!host.log().contains("long long"), "{}", host.log());

    // Refused again: the letter stays, and counts.
    let id = letter["id"].as_i64().unwrap().to_string();
    let output = rig.dlq(&["replay", &id]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("refused again, with the new reason: {id}")));
    let letters = rig.letters();
    assert_eq!((letters.len(), &letters[0]["attempts"], &letters[0]["id"]), (1, &2.into(), &letter["id"]));

    rig.sql("ALTER TABLE vectors DROP CONSTRAINT short").await;
    assert_eq!(rig.said(&["replay", "--all"]), "1 dead letter settled: the sinks hold what their rows are now\n");
    assert_eq!(rig.said(&["list"]), "no dead letters\n");
    rig.agrees().await;
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_a_qdrant_server_refuses_is_parked_alone_and_comes_back() {
    let rig = Rig::new().await;
    let server = QdrantServer::limited(None, 1 << 20);
    let sinks = format!(
        "  search: {{ type: qdrant, inputs: [embed], url: \"{}\", collection: docs, create: {{ dimension: 16 }} }}\n{PARKED}",
        server.url()
    );
    let file = rig.file(documents(), "", &sinks);
    let host = rig.run(&file).await;
    let client = Qdrant::from_url(&server.url()).skip_compatibility_check().build().unwrap();
    let titles = async || {
        let scroll = ScrollPointsBuilder::new("docs").limit(10_000).with_payload(true);
        let points = client.scroll(scroll).await.unwrap().result;
        let title = |payload: &std::collections::HashMap<String, qdrant_client::qdrant::Value>| {
            payload["title"].as_str().unwrap().clone()
        };
        points.iter().map(|point| title(&point.payload)).collect::<Vec<_>>()
    };
    rig.sql("INSERT INTO documents VALUES (500, 'old', repeat('Some words of an old text. ', 400))").await;
    eventually("the old row is there, in several chunks", async || titles().await.len() > 1).await;
    let chunks = titles().await.len();
    rig.sql(
        "BEGIN; INSERT INTO documents SELECT i, 'row', 'text ' || i FROM generate_series(1, 1000) i WHERE i <> 500;
         UPDATE documents SET title = repeat('x', 1500000), content = 'new text' WHERE id = 500; COMMIT",
    )
    .await;
    rig.parked(1).await;
    eventually("all others arrive", async || titles().await.len() == 999 + chunks).await;
    let old = titles().await.into_iter().filter(|title| title == "old").count();
    assert_eq!(old, chunks, "what was there before stays whole");
    let letter = &rig.letters()[0];
    assert_eq!((&letter["code"], &letter["sink"]), (&"sink".into(), &"search".into()));
    assert!(letter["reason"].as_str().unwrap().contains("larger than Qdrant"), "{letter}");

    // The row is mended, and so comes through by itself; the letter is settled by a replay.
    rig.sql("UPDATE documents SET title = 'short' WHERE id = 500").await;
    eventually("the mended row is there", async || titles().await.contains(&"short".to_owned())).await;
    assert_eq!(rig.said(&["replay", "--all"]), "1 dead letter settled: the sinks hold what their rows are now\n");
    let mut found = titles().await;
    found.sort_unstable();
    found.dedup();
    assert_eq!((found.as_slice(), titles().await.len()), (&["row".to_owned(), "short".to_owned()][..], 1000));
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_back_through_the_mended_handler_as_they_are_now() {
    let Some(evil) = guest("evil") else { return };
    let rig = Rig::new().await;
    let elsewhere = fresh_database().await;
    let sinks = format!(
        "{VECTORS}  commands: {{ type: file, inputs: [embed], path: {} }}\n  \
         parked: {{ type: dead-letters, inputs: [embed.rejected], url: \"{}\" }}\n",
        rig.folder.path("commands.jsonl").display(),
        elsewhere.url
    );
    let file = rig.file(evil, ", rejections: { max: 4, per: 1000 }", &sinks);
    let host = rig.run(&file).await;
    rig.sql("INSERT INTO documents SELECT i, 'panic', 'text ' || i FROM generate_series(1, 4) i").await;
    eventually("all are parked", async || count(&elsewhere.client, "pgstream.dead_letters").await == 4).await;
    assert_eq!(count(&rig.database.client, "vectors").await, 0);

    // A replay through the handler that is still broken: four more refusals, which were asked for and do not count.
    let output = rig.dlq(&["replay", "--all"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let attempts: Vec<_> = rig.letters().iter().map(|letter| letter["attempts"].as_i64().unwrap()).collect();
    assert_eq!(attempts, [2, 2, 2, 2]);
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");

    // Asked for while nobody runs the pipeline; whoever runs it next brings the rows, and the next command settles them.
    rig.sql("UPDATE documents SET content = 'changed' WHERE id = 2; DELETE FROM documents WHERE id = 3").await;
    assert!(rig.said(&["replay", "--all", "--detach"]).contains("on their way"));
    assert_eq!(rig.letters().len(), 4, "none goes before its row is durable");
    rig.file(documents(), "", &sinks);
    let host = rig.run(&file).await;
    eventually("the replays are settled", async || rig.letters().is_empty()).await;
    rig.agrees().await;
    let commands = std::fs::read_to_string(rig.folder.path("commands.jsonl")).unwrap();
    let of = |group: &str| {
        let lines = commands.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        lines.filter(|line| line["group"] == group).map(|line| line["action"].as_str().unwrap().to_owned()).collect()
    };
    let (unchanged, gone): (Vec<String>, Vec<String>) = (of("1"), of("3"));
    assert_eq!(unchanged, ["replace"], "only the replay brings it");
    assert_eq!(gone, ["delete_group", "delete_group"], "once by the stream, once by the replay");
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_shown_filtered_and_dropped() {
    let Some(evil) = guest("evil") else { return };
    let rig = Rig::new().await;
    let file = rig.file(evil, "", &(NOWHERE.to_owned() + PARKED));
    assert_eq!(rig.said(&["list"]), "no dead letters\n", "before the pipeline ever ran");
    let host = rig.run(&file).await;
    rig.sql(
        "INSERT INTO documents VALUES (1, 'panic', 'private'), (2, 'reject too \u{1b}[31mred', ''), (3, 'exit', '')",
    )
    .await;
    rig.parked(3).await;

    // The limit of one pipeline is not that of another one in the same database.
    let (settings, name) = (crate::strangers::letters(&rig.url, &[]), pipeline(&rig.database));
    let counts = async |most: u64| count_letters(&settings, &[("nobody", 1), (&name, most)]).await.unwrap();
    assert_eq!((counts(1).await, counts(100).await), (vec![0, 2], vec![0, 3]), "no further than one beyond the limit");

    let list = rig.said(&["list"]);
    let head = list.lines().next().unwrap();
    assert_eq!(
        head.split_whitespace().collect::<Vec<_>>(),
        "ID SET ASIDE TABLE REFUSED BY CODE TIMES REASON".split(' ').collect::<Vec<_>>()
    );
    assert!(list.contains("public.documents  handler embed  trap ") && !list.contains("private"), "{list}");
    assert!(!list.contains('\u{1b}'), "{list:?}");

    let ids = |arguments: &[&str]| -> Vec<i64> {
        let arguments: Vec<&str> = ["list", "--json"].into_iter().chain(arguments.iter().copied()).collect();
        let lines = rig.said(&arguments);
        lines.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()["id"].as_i64().unwrap()).collect()
    };
    let all = ids(&[]);
    assert_eq!(ids(&["--code", "trap"]), [all[0], all[2]]);
    assert_eq!(ids(&["--table", "documents", "--transform", "embed", "--since", "1h"]), all);
    assert!(ids(&["--table", "others"]).is_empty() && ids(&["--since", "2100-01-01"]).is_empty());
    let output = rig.dlq(&["list", "--since", "yesterdayish"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("`--since` is not a time"), "{output:?}");

    let first = all[0].to_string();
    let shown = rig.said(&["show", &first]);
    for part in [
        "insert of `public.documents` at ",
        "handler embed, code `trap`",
        "boom",
        "(still the same)",
        "{\"id\":1}",
        "private",
    ] {
        assert!(shown.contains(part), "`{part}` is missing in {shown}");
    }
    assert!(shown.contains(&format!("dlq replay {} {first}", file.display())), "{shown}");
    let whole: Json = serde_json::from_str(&rig.said(&["show", &first, "--json"])).unwrap();
    assert_eq!((&whole["id"], &whole["event"]["row"]["content"]), (&all[0].into(), &"private".into()));
    assert_eq!(whole["key"], serde_json::json!({ "id": 1 }));

    let output = rig.dlq(&["show", "999999"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("has no dead letter `999999`"), "{output:?}");
    let output = rig.dlq(&["drop", &first, "999999"]);
    assert_eq!((output.status.code(), ids(&[]).len()), (Some(2), 3), "nothing is dropped if a number is wrong");
    let output = rig.dlq(&["drop"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no letter is named"), "{output:?}");
    assert_eq!(rig.said(&["drop", &first]), "1 dead letter dropped\n");
    assert_eq!(rig.said(&["drop", "--code", "trap"]), "1 dead letter dropped\n");
    assert_eq!(ids(&[]), [all[1]]);
    assert_eq!(rig.said(&["drop", "--all", "--json"]), "{\"dropped\":1}\n");

    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

/// The letters lie in another database than their rows.
#[tokio::test(flavor = "multi_thread")]
async fn letters_are_there_while_the_source_is_not_and_earlier_replays_are_told_of() {
    let rig = Rig::new().await;
    let letters = PARKED.replace(" }", &format!(", url: \"{}\" }}", rig.url));
    let file = rig.file(documents(), "", &(VECTORS.to_owned() + &letters));
    let host = rig.run(&file).await;
    rig.sql("ALTER TABLE vectors ADD CONSTRAINT short CHECK (length(payload->>'title') < 100)").await;
    rig.sql("INSERT INTO documents VALUES (1, repeat('long ', 100), 'text')").await;
    rig.parked(1).await;
    host.stop().await;
    rig.said(&["replay", "--all", "--detach"]);

    let list = |url: &str| {
        let output = pgstream(["dlq", "list", file.to_str().unwrap()]).env("DATABASE_URL", url).output().unwrap();
        let (out, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{log}");
        (out.into_owned(), log.into_owned())
    };
    let (listed, log) = list("postgres://nobody:x@127.0.0.1:1/nowhere");
    assert!(listed.contains("(its row is on its way)"), "{listed}");
    assert!(log.contains("what became of earlier replays cannot be said"), "{log}");

    rig.sql("ALTER TABLE vectors DROP CONSTRAINT short").await;
    let host = rig.run(&file).await;
    let (mut listed, mut log) = (String::new(), String::new());
    eventually("the replay is settled", async || {
        (listed, log) = list(&rig.url);
        listed == "no dead letters\n"
    })
    .await;
    assert!(log.contains("of earlier replays 1 dead letter settled"), "{log}");
    rig.agrees().await;
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_cannot_be_replayed_and_the_answer_names_backfill() {
    let rig = Rig::new().await;
    let file = rig.file(documents(), "", &(VECTORS.to_owned() + PARKED));
    let host = rig.run(&file).await;
    // A sink that refuses to be emptied.
    rig.sql("INSERT INTO documents VALUES (1, 'one', 'text')").await;
    rig.agrees().await;
    rig.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a secret'; END $$;
         CREATE TRIGGER refuse BEFORE DELETE ON vectors FOR EACH ROW EXECUTE FUNCTION refuse();
         TRUNCATE documents",
    )
    .await;
    rig.parked(1).await;
    let output = rig.dlq(&["replay", "--all"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("it is a truncate") && text.contains("backfill <file> --table public.documents"), "{text}");
    assert_eq!((output.status.code(), rig.letters().len()), (Some(1), 1));
    let id = rig.letters()[0]["id"].to_string();
    let shown = rig.said(&["show", &id]);
    assert!(
        shown.contains("A truncate cannot be replayed") && shown.contains("a function raised an exception"),
        "{shown}"
    );
    assert!(!host.log().contains("a secret"), "{}", host.log());
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_letters_than_may_be_kept_stop_the_pipeline_and_none_is_lost() {
    let Some(evil) = guest("evil") else { return };
    let rig = Rig::new().await;
    let parked = NOWHERE.to_owned() + &PARKED.replace(" }", ", max_letters: 2 }");
    let file = rig.file(evil.clone(), "", &parked);
    let mut host = rig.run(&file).await;
    rig.sql("INSERT INTO documents VALUES (1, 'panic', ''), (2, 'panic', '')").await;
    rig.parked(2).await;
    rig.sql("INSERT INTO documents VALUES (3, 'panic', '')").await;
    let (status, log) = host.ended().await;
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains(" has 2 dead letters, and may keep no more"), "{log}");
    assert!(log.contains("pgstream-host dlq list") && log.contains("max_letters"), "{log}");

    let first = rig.letters()[0]["id"].to_string();
    rig.said(&["drop", &first]);
    let host = rig.run(&file).await;
    rig.parked(2).await;
    let keys = "SELECT row_key, '', '' FROM pgstream.dead_letters ORDER BY id";
    let kept: Vec<_> = rows(&rig.database.client, keys).await.into_iter().map(|[key, ..]| key.unwrap()).collect();
    assert_eq!(kept, ["{\"id\":2}", "{\"id\":3}"]);
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test]
async fn a_pipeline_without_a_keeper_is_told_what_to_add() {
    let rig = Rig::new().await;
    rig.file(documents(), "", VECTORS);
    let output = rig.dlq(&["list"]);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint.contains("has no sink of type `dead-letters`"), "{complaint}");
    assert!(complaint.contains("rejected: { type: dead-letters, inputs: [embed.rejected] }"), "{complaint}");
}

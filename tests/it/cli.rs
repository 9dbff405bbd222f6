//! The program as a user meets it: commands, exit codes, the shape of its errors.

use std::process::{Output, Stdio};

use pgstream_host::components::REGISTRY;
use pgstream_host::config;
use serde_json::Value as Json;

use crate::support::program::{Folder, Running, eventually, pgstream, root};
use crate::support::{Database, connect, documents};

#[test]
fn schema_and_completions_are_printed() {
    let schema = pgstream(["schema"]).output().unwrap();
    assert_eq!(serde_json::from_slice::<Json>(&schema.stdout).unwrap(), config::schema(&REGISTRY));
    for shell in ["bash", "zsh", "fish"] {
        let script = pgstream(["completions", shell]).output().unwrap();
        assert!(script.status.success() && text(&script.stdout).contains("validate"), "{shell}");
    }
}

#[test]
fn a_wrong_file_is_exit_code_2_and_every_problem_has_its_line() {
    let folder = Folder::new();
    let file = folder.write("wrong.yaml", "version: 1\nname: x\nsorces: {}\n");
    for command in ["validate", "run", "setup", "teardown"] {
        let output = pgstream([command]).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = text(&output.stderr);
        assert!(said.contains("wrong.yaml:3:1") && said.contains("did you mean `sources`?"), "{command}: {said}");
    }
    let output = pgstream(["validate", "--json"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert!(!json["files"][0]["problems"].as_array().unwrap().is_empty(), "{json}");
}

#[test]
fn a_file_that_does_not_exist_is_exit_code_2() {
    let output = pgstream(["run", "no-such-file.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no-such-file.yaml"));
}

#[test]
fn two_pipelines_of_one_name_are_refused() {
    let folder = Folder::new();
    let slot =
        "the pipelines `shop-docs` and `shop_docs` would both read slot `pgstream_shop_docs` at `localhost:5432`";
    for (one, other, expected) in
        [("twin", "twin", "two of the files name their pipeline `twin`"), ("shop-docs", "shop_docs", slot)]
    {
        folder.write("a.yaml", &pipeline(one, ""));
        folder.write("b.yaml", &pipeline(other, ""));
        for command in ["run", "validate"] {
            let mut command = pgstream([command]);
            let output = command.arg(folder.path("")).env("DATABASE_URL", "postgres://nobody@localhost/x").output();
            let output = output.unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(expected), "{said}");
        }
    }
}

#[test]
fn a_url_that_cannot_be_read_is_found_without_a_server() {
    let folder = Folder::new();
    let file = folder.write("url.yaml", &pipeline("url", ""));
    for url in ["postgres://me:hunter2@localhost/shop?sslmod=require", "postgres://me:hunter2@loc alhost:99999/shop"] {
        let output = pgstream(["validate"]).arg(&file).env("DATABASE_URL", url).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{url}: {said}");
        assert!(said.contains("source `db`") && said.contains("sink `vectors`"), "{url}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_filter_of_the_log_that_cannot_be_read_is_exit_code_2() {
    let output = pgstream(["schema"]).env("PGSTREAM_LOG", "pgstream_host=loud").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`PGSTREAM_LOG` cannot be read"), "{}", text(&output.stderr));
    let output = pgstream(["schema"]).env("PGSTREAM_LOG", "verbose").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "a word that is no level would silence everything");
    let said = text(&output.stderr);
    assert!(said.contains("`verbose` is no level") && said.contains("`debug`, `trace`"), "{said}");
    for good in ["", "debug", "INFO", "warn,pgstream_host=debug", "pgstream_host::source=trace"] {
        assert!(pgstream(["schema"]).env("PGSTREAM_LOG", good).output().unwrap().status.success(), "{good}");
    }
}

#[test]
fn a_pipeline_that_would_feed_itself_is_refused() {
    let folder = Folder::new();
    let file = folder.write("loop.yaml", &pipeline("loop", "").replace("public.documents", "\"public.*\""));
    let output = pgstream(["run"]).arg(&file).env("DATABASE_URL", "postgres://nobody@localhost/x").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("sink `vectors` writes the table `vectors`, which source `db` reads"), "{said}");

    let sink = "inputs: [embed]\n    url: \"${DATABASE_URL}\"";
    let looped = pipeline("loop", "").replace("public.documents", "\"public.*\"");
    for other in ["postgresql://me:secret@LOCALHOST:5432/x?sslmode=prefer", "postgres:///x?user=me&host=localhost"] {
        folder.write("loop.yaml", &looped.replace(sink, &format!("inputs: [embed]\n    url: \"{other}\"")));
        let mut command = pgstream(["validate"]);
        let output = command.arg(&file).env("DATABASE_URL", "postgres://nobody@localhost/x").output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{other}: {said}");
        assert!(said.contains("sink `vectors` writes the table `vectors`, which source `db` reads"), "{said}");
    }
}

#[test]
fn a_database_that_cannot_be_reached_is_exit_code_3() {
    let folder = Folder::new();
    let file = folder.write("away.yaml", &pipeline("away", ""));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("postgres://me:hunter2@127.0.0.1:{port}/shop");
    for arguments in [&["run"][..], &["validate", "--connect"]] {
        let output = pgstream(arguments.iter().copied()).arg(&file).env("DATABASE_URL", &url).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(&format!("cannot reach the database server at `127.0.0.1:{port}`")), "{said}");
        assert!(said.contains("help: "), "{said}");
        assert!(!said.contains("hunter2"), "no password in an error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_can_be_repeated_and_teardown_leaves_nothing() {
    let database = documents().await;
    let folder = Folder::new();
    let file = folder.write("slot.yaml", &pipeline("slot", ""));
    let command = |name| ok(pgstream([name]).arg(&file).env("DATABASE_URL", &database.url).output().unwrap());
    assert_eq!(command("setup"), "created publication `pgstream_slot`\ncreated slot `pgstream_slot`\n");
    command("setup");
    assert_eq!(count(&database, "pg_replication_slots WHERE slot_name = 'pgstream_slot'").await, 1);
    let said = command("teardown");
    assert!(
        said.starts_with("dropped slot `pgstream_slot`\ndropped publication `pgstream_slot`\nleft: table `vectors`"),
        "{said}"
    );
    command("teardown");
    assert_eq!(count(&database, "pg_replication_slots WHERE slot_name = 'pgstream_slot'").await, 0);
    assert_eq!(count(&database, "pg_publication WHERE pubname = 'pgstream_slot'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_connect_checks_everything_and_makes_nothing_on_the_source() {
    let database = documents().await;
    let folder = Folder::new();
    let file = folder.write("check.yaml", &pipeline("check", ""));
    let output = pgstream(["validate", "--connect"]).arg(&file).env("DATABASE_URL", &database.url).output().unwrap();
    assert!(ok(output).contains("(the file and everything it names)"));
    assert_eq!(count(&database, "pg_replication_slots WHERE slot_name = 'pgstream_check'").await, 0);
    assert_eq!(count(&database, "pg_publication").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_connect_works_beside_the_pipeline_that_runs_and_leaves_files_alone() {
    let database = documents().await;
    let folder = Folder::new();
    let (out, environment) = (folder.path("out.jsonl"), [("DATABASE_URL", database.url.as_str())]);
    let sink = format!("  copy: {{ type: file, inputs: [embed], path: {} }}\n", out.display());
    let file = folder.write("beside.yaml", &(pipeline("beside", "") + &sink));
    let validate = || pgstream(["validate", "--connect"]).arg(&file).envs(environment).output().unwrap();
    ok(validate());
    assert!(!out.exists(), "a check makes no file");

    std::fs::write(&out, "somebody's text, without an end").unwrap();
    for refused in [validate(), pgstream(["run"]).arg(&file).envs(environment).output().unwrap()] {
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("ends in a line that no sink of this program has begun"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "somebody's text, without an end");

    std::fs::remove_file(&out).unwrap();
    let mut host = Running::start(&file, &environment);
    host.said("streaming").await;
    ok(validate());
    assert!(host.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_cannot_go_on_stops_the_pipeline_and_confirms_nothing() {
    let database = documents().await;
    let folder = Folder::new();
    let file = folder.write("stop.yaml", &pipeline("stop", "    config: { text_column: contents }\n"));
    let mut host = Running::start(&file, &[("DATABASE_URL", &database.url)]);
    host.said("running").await;
    let flush = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'pgstream_stop'";
    database.client.batch_execute("INSERT INTO documents VALUES (1, 'a', 'b')").await.unwrap();
    let inserted = "SELECT pg_current_wal_insert_lsn() > $1::text::pg_lsn";
    let (status, log) = host.ended().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("error: pipeline `stop` stopped\n"), "{log}");
    assert!(log.contains("`public.documents` has no column `contents`"), "{log}");
    assert!(log.contains("  where: "), "{log}");
    let flushed: String = database.client.query_one(flush, &[]).await.unwrap().get(0);
    let behind: bool = database.client.query_one(inserted, &[&flushed]).await.unwrap().get(0);
    assert!(behind, "the insert is not confirmed");
    let fixed = folder.write("stop.yaml", &pipeline("stop", ""));
    let mut host = Running::start(&fixed, &[("DATABASE_URL", &database.url)]);
    host.said("running").await;
    eventually("the row arrives after the fix", async || count(&database, "vectors").await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_events_go_to_the_sink_that_takes_them_and_the_rest_goes_on() {
    let database = documents().await;
    database.client.batch_execute("ALTER TABLE documents ALTER content SET STORAGE EXTERNAL").await.unwrap();
    let folder = Folder::new();
    let parked = folder.path("rejected.jsonl");
    let sink = format!("  parked: {{ type: file, inputs: [embed.rejected], path: {} }}\n", parked.display());
    let file = folder.write("park.yaml", &(pipeline("park", "") + &sink));
    let mut host = Running::start(&file, &[("DATABASE_URL", &database.url)]);
    host.said("running").await;
    let large = "INSERT INTO documents SELECT 1, 'large', string_agg(md5(g::text), ' ') FROM generate_series(1, 500) g";
    database.client.batch_execute(large).await.unwrap();
    // The text is not sent with the change of the key, and so the handler cannot embed it.
    database.client.batch_execute("UPDATE documents SET id = 2").await.unwrap();
    database.client.batch_execute("INSERT INTO documents VALUES (3, 'small', 'text')").await.unwrap();
    eventually("the last row arrives", async || count(&database, "vectors WHERE group_id = '3'").await == 1).await;
    let line: Json = serde_json::from_str(std::fs::read_to_string(&parked).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(line["transform"], "embed");
    assert_eq!(line["event"]["row"]["content"], serde_json::json!({ "unchanged": true }));
    assert!(line["reason"].as_str().unwrap().contains("REPLICA IDENTITY FULL"), "{line}");
    assert_eq!(count(&database, "vectors WHERE group_id = '1'").await, 0, "the old key is gone all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_program_at_once() {
    let database = documents().await;
    let folder = Folder::new();
    let file = folder.write("stuck.yaml", &pipeline("stuck", ""));
    let mut host = Running::start(&file, &[("DATABASE_URL", &database.url)]);
    host.said("running").await;
    // A lock on the sink's table: what was received cannot become durable, and the first stop waits for it.
    let locker = connect(&database.url).await;
    locker.batch_execute("BEGIN; LOCK TABLE vectors").await.unwrap();
    database.client.batch_execute("INSERT INTO documents VALUES (1, 'a', 'b')").await.unwrap();
    let waiting = "pg_locks WHERE NOT granted";
    eventually("the sink waits for the lock", async || count(&database, waiting).await > 0).await;
    host.signal(rustix::process::Signal::TERM);
    host.said("stopping").await;
    host.signal(rustix::process::Signal::INT);
    let (status, log) = host.ended().await;
    assert_eq!(status.code(), Some(130), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_goes_away_stops_the_program_in_order() {
    let database = documents().await;
    let folder = Folder::new();
    let file = folder.write("hangup.yaml", &pipeline("hangup", ""));
    let said = folder.path("log");
    let program =
        format!("exec '{}' run '{}' 2>'{}'", env!("CARGO_BIN_EXE_pgstream-host"), file.display(), said.display());
    let mut terminal = std::process::Command::new("script");
    terminal.args(["-q", "-c", &program, "/dev/null"]).env("DATABASE_URL", &database.url).current_dir(root());
    let mut terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let log = || std::fs::read_to_string(&said).unwrap_or_default();
    eventually("it runs", async || log().contains("running")).await;
    database.client.batch_execute("INSERT INTO documents VALUES (1, 'a', 'b')").await.unwrap();
    eventually("the row arrives", async || count(&database, "vectors").await == 1).await;
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    eventually("it stops", async || log().contains("stopping")).await;
    let active = "pg_replication_slots WHERE database = current_database() AND active";
    eventually("it lets go of its slot", async || count(&database, active).await == 0).await;
    assert!(!log().contains("reload"), "{}", log());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_for_machines_are_json_lines() {
    let database = documents().await;
    let folder = Folder::new();
    let file = folder.write("json.yaml", &pipeline("json", ""));
    let mut host = Running::start_with(&["--log-format", "json", "run"], &file, &[("DATABASE_URL", &database.url)]);
    host.said("\"running\"").await;
    let (status, log) = host.stop().await;
    assert!(status.success());
    for line in log.lines() {
        let json: Json = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(json["level"].is_string() && json["message"].is_string(), "{line}");
        if json["message"] == "streaming" {
            assert_eq!(json["pipeline"], "json", "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_a_pipeline_is_json_for_machines_too() {
    let database = documents().await;
    let folder = Folder::new();
    let file = folder.write("ends.yaml", &pipeline("ends", "    config: { text_column: contents }\n"));
    let environment = [("DATABASE_URL", database.url.as_str())];
    let mut host = Running::start_with(&["--log-format", "json", "run"], &file, &environment);
    host.said("\"streaming\"").await;
    database.client.batch_execute("INSERT INTO documents VALUES (1, 'a', 'b')").await.unwrap();
    let (_, log) = host.ended().await;
    let lines: Vec<Json> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let last = lines.last().unwrap();
    assert_eq!((last["level"].as_str(), last["pipeline"].as_str()), (Some("ERROR"), Some("ends")), "{last}");
    assert_eq!(last["message"], "pipeline `ends` stopped");
    assert!(last["error"].as_str().unwrap().contains("has no column `contents`") && last["help"].is_string(), "{last}");
    let wrong = folder.write("wrong.yaml", "version: 1\nname: x\nsorces: {}\n");
    let said = text(&pgstream(["--log-format", "json", "run"]).arg(&wrong).output().unwrap().stderr);
    for line in said.lines() {
        let json: Json = serde_json::from_str(line).expect(line);
        assert!(json["line"].is_number() && json["message"].is_string(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teardown_says_what_it_leaves_and_purges_what_is_asked_for() {
    let database = documents().await;
    let folder = Folder::new();
    let letters = "  letters: { type: dead-letters, inputs: [embed.rejected] }\n";
    let file = folder.write("down.yaml", &(pipeline("down", "") + letters));
    let mut host = Running::start(&file, &[("DATABASE_URL", &database.url)]);
    host.said("streaming").await;
    database.client.batch_execute("INSERT INTO documents VALUES (1, 'a', 'b')").await.unwrap();
    eventually("the row arrives", async || count(&database, "vectors").await == 1).await;
    host.stop().await;
    let down = |more: &[&str]| {
        ok(pgstream(["teardown"]).args(more).arg(&file).env("DATABASE_URL", &database.url).output().unwrap())
    };
    let said = down(&[]);
    assert!(said.contains("left: table `vectors` of sink `vectors`; to remove it: DROP TABLE vectors;"), "{said}");
    assert!(said.contains("left: the pipeline's dead letters") && said.contains("teardown --purge"), "{said}");
    assert_eq!(count(&database, "pgstream.positions").await, 1);
    assert_eq!(count(&database, "pgstream.sinks").await, 0);
    let said = down(&["--purge"]);
    assert!(said.contains("the position of sink `vectors` is removed") && said.contains("0 dead letters"), "{said}");
    assert_eq!(count(&database, "pgstream.positions").await, 0);
}

#[test]
fn a_search_for_no_points_is_refused() {
    let output = pgstream(["search", "x.yaml", "text", "--limit", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--limit"), "{}", text(&output.stderr));
}

/// A text is embedded before a sink is asked, so that the embedder needs no network here.
#[test]
fn a_search_of_what_keeps_no_vectors_says_which_sinks_do_and_makes_nothing() {
    let folder = Folder::new();
    folder.write("handler.wasm", "");
    let search = |more: &str, arguments: &[&str]| {
        let file = format!(
            "version: 1\nname: sought\nsources: {{ db: {{ type: postgres, url: postgres://localhost/x, tables: [public.t] }} }}
embedders: {{ words: {{ type: hash, dimension: 3 }} }}
transforms: {{ embed: {{ type: wasm, inputs: [db], component: handler.wasm, embedders: [words] }} }}
sinks:
  lines: {{ type: file, inputs: [embed], path: {} }}
  screen: {{ type: stdout, inputs: [embed] }}
  nothing: {{ type: blackhole, inputs: [embed] }}
{more}",
            folder.path("lines.jsonl").display()
        );
        let file = folder.write("sought.yaml", &file);
        let output = pgstream(["search"]).arg(&file).arg("tent").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        text(&output.stderr).to_owned()
    };
    let edge = |name: &str| {
        let path = folder.path(name);
        format!(
            "  {name}: {{ type: qdrant-edge, inputs: [embed], path: {}, create: {{ dimension: 3 }} }}\n",
            path.display()
        )
    };
    let none = search("", &[]);
    assert!(none.contains("pipeline `sought` has no sink that can be searched"), "{none}");
    for (name, kind) in [("lines", "file"), ("screen", "stdout"), ("nothing", "blackhole")] {
        let named = search("", &["--sink", name]);
        assert!(named.contains(&format!("a `{kind}` sink cannot be searched")), "{named}");
        assert!(named.contains("it takes one that keeps vectors"), "{named}");
        let other = search(&edge("near"), &["--sink", name]);
        assert!(other.contains("write `--sink near`"), "{other}");
    }
    let several = search(&format!("{}{}", edge("near"), edge("far")), &[]);
    assert!(several.contains("choose one with `--sink`: near, far"), "{several}");
    let made = ["lines.jsonl", "near", "far"].map(|name| folder.path(name).exists());
    assert_eq!(made, [false; 3], "a search makes nothing");
}

/// A pipeline from `documents` to `vectors` in the same database; `transform` is more of the transform's YAML.
fn pipeline(name: &str, transform: &str) -> String {
    let component = root().join("plugins/documents-rust/documents.wasm");
    format!(
        r#"version: 1
name: {name}
sources:
  db: {{ type: postgres, url: "${{DATABASE_URL}}", tables: [public.documents] }}
embedders:
  words: {{ type: hash, dimension: 16 }}
transforms:
  embed:
    type: wasm
    inputs: [db]
    component: {}
    embedders: [words]
{transform}sinks:
  vectors:
    type: pgvector
    inputs: [embed]
    url: "${{DATABASE_URL}}"
    table: vectors
    create: {{ dimension: 16 }}
"#,
        component.display()
    )
}

async fn count(database: &Database, what: &str) -> i64 {
    database.client.query_one(&format!("SELECT count(*) FROM {what}"), &[]).await.unwrap().get(0)
}

fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

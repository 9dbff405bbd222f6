//! Names and texts of others on the way to a terminal or a log.

use std::process::Output;

use pgstream_host::printable::acts;

use crate::guests::guest;
use crate::source::pipeline;
use crate::support::program::{Folder, Running, eventually, pgstream};
use crate::support::{Database, versions};

/// Clears the screen, sets a title, turns the writing direction around, and begins a line of its own.
const HOSTILE: &str = "x\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{202e}\nERROR forged";

/// Fails if something in what a program said acts on a terminal, or stands at the beginning of a line that is not the program's.
fn tame(what: &str, said: &str) {
    for line in said.lines() {
        let acting: Vec<char> = line.chars().filter(|c| acts(*c)).collect();
        assert!(acting.is_empty(), "{what} lets {acting:?} through: {line:?}");
        assert!(!line.trim_start().starts_with("ERROR forged"), "{what} prints a forged line:\n{said}");
    }
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_and_no_text_of_a_stranger_acts_on_the_terminal() {
    let Some(evil) = guest("evil") else { return };
    for cluster in versions() {
        let database = Database::create(cluster).await;
        let table = format!("app.\"{HOSTILE}\"");
        let what = format!("{HOSTILE}2");
        database
            .client
            .batch_execute(&format!(
                "CREATE SCHEMA app; CREATE TABLE app.other (id int PRIMARY KEY); \
                 CREATE TABLE {table} (\"{HOSTILE}\" int PRIMARY KEY, \"{what}\" text)"
            ))
            .await
            .unwrap();
        let folder = Folder::new();
        let text = format!(
            "version: 1\nname: {}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [\"app.*\"] }}\n\
             transforms:\n  embed: {{ type: wasm, inputs: [db], component: {} }}\nsinks:\n  \
             nowhere: {{ type: blackhole, inputs: [embed] }}\n  \
             parked: {{ type: dead-letters, inputs: [embed.rejected] }}\n",
            pipeline(&database),
            evil.display()
        );
        let file = folder.write("hostile.yaml", &text);
        let file = file.to_str().unwrap();
        let environment = [("DATABASE_URL", database.url.as_str())];
        let said = |arguments: &[&str]| {
            let output = pgstream(arguments.iter().copied()).envs(environment).output().unwrap();
            let said = both(&output);
            tame(&format!("{arguments:?}"), &said);
            said
        };

        said(&["validate", "--connect", file]);
        said(&["setup", file]);
        let mut host = Running::start(file.as_ref(), &environment);
        host.said("running").await;
        let rows = [format!("reject {HOSTILE}"), format!("say {HOSTILE}"), "panic".to_owned()];
        for (id, row) in rows.iter().enumerate() {
            database
                .client
                .execute(&format!("INSERT INTO {table} VALUES ($1, $2)"), &[&(id as i32), row])
                .await
                .unwrap();
        }
        eventually("the letters are parked", async || {
            let there = "SELECT to_regclass('pgstream.dead_letters') IS NOT NULL";
            let there: bool = database.client.query_one(there, &[]).await.unwrap().get(0);
            let count = "SELECT count(*) FROM pgstream.dead_letters";
            there && database.client.query_one(count, &[]).await.unwrap().get::<_, i64>(0) == 2
        })
        .await;
        let listed = said(&["dlq", "list", file]);
        assert!(listed.contains("app.x") && listed.lines().count() >= 3, "{listed}");
        for json in [&["--json"][..], &[]] {
            for command in [&["dlq", "list", file][..], &["dlq", "show", file, "1"], &["backfill", file, "--status"]] {
                said(&[command, json].concat());
            }
        }
        said(&["backfill", file, "--detach"]);
        let nobody = format!("app.{HOSTILE}3");
        said(&["backfill", file, "--table", &nobody]);
        said(&["dlq", "replay", file, "1"]);
        said(&["dlq", "drop", file, "1"]);
        // What `tap` shows on a terminal is tried where it is made; here it is JSON.
        let mut tap = Running::start_with(&["tap", "--count", "1"], file.as_ref(), &environment);
        tap.said("events are shown").await;
        database
            .client
            .execute(&format!("INSERT INTO {table} VALUES (9, $1)"), &[&format!("say {HOSTILE}")])
            .await
            .unwrap();
        tame("tap", &tap.ended().await.1);
        truncated(&database, &table, &mut host).await;
        let (_, log) = host.stop().await;
        tame("run", &log);
        assert!(log.contains("forged"), "the handler's words are in the log:\n{log}");

        let mut host = Running::start_with(&["run", "--log-format", "json"], file.as_ref(), &environment);
        host.said("running").await;
        truncated(&database, &table, &mut host).await;
        let (_, log) = host.stop().await;
        tame("run --log-format json", &log);
        let line = log.lines().find(|line| line.contains("a table was truncated")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["table"], format!("app.{HOSTILE}"), "to a machine it is told as it is");

        said(&["resnapshot", file]);
        database.client.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
        said(&["teardown", file]);
    }
}

/// Truncates the table, and waits for the line with its name.
async fn truncated(database: &Database, table: &str, host: &mut Running) {
    database.client.batch_execute(&format!("TRUNCATE {table}")).await.unwrap();
    host.said("a table was truncated").await;
}

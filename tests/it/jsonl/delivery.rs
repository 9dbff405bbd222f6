//! Nothing of a file is lost, whatever happens to the program and to the file; and what cannot be read is said with its line.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::{Command, Stdio};

use super::{groups, insert, pipeline, run};
use crate::support::program::{Folder, Running, eventually, pgstream, root};

fn append(folder: &Folder, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(folder.path("events.jsonl")).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|id| id.to_string()).collect()
}

/// The first time that each group was written: after a kill some come again.
fn firsts(folder: &Folder) -> Vec<String> {
    let mut seen = Vec::new();
    for group in groups(&folder.path("points.jsonl")) {
        if !seen.contains(&group) {
            seen.push(group);
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_to_its_end_once_and_the_pipeline_ends() {
    let folder = Folder::new();
    append(&folder, "\u{feff}"); // as some editors begin a file
    append(&folder, &(0..30).map(insert).collect::<String>());
    append(&folder, insert(30).trim_end());
    let file = pipeline(&folder, ", follow: false, batch: { max_events: 7 }");
    let (code, said) = run(&file);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(groups(&folder.path("points.jsonl")), numbers(0..31), "also a last line without a line break");
    let (code, said) = run(&file);
    assert_eq!((code, groups(&folder.path("points.jsonl")).len()), (Some(0), 31), "{said}");
    append(&folder, &format!("\n{}", insert(31)));
    assert_eq!(run(&file).0, Some(0));
    assert_eq!(groups(&folder.path("points.jsonl")), numbers(0..32));

    let resnapshot = pgstream(["resnapshot"]).arg(&file).output().unwrap();
    assert!(String::from_utf8_lossy(&resnapshot.stdout).contains("from its beginning"), "{resnapshot:?}");
    assert_eq!(run(&file).0, Some(0));
    assert_eq!(groups(&folder.path("points.jsonl")).len(), 64);
    let torn_down = pgstream(["teardown"]).arg(&file).output().unwrap();
    assert!(torn_down.status.success() && !folder.path("events.jsonl.replay.position").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kills_at_any_moment_every_line_of_a_growing_file_has_arrived_in_order() {
    let folder = Folder::new();
    append(&folder, "");
    let file = pipeline(&folder, ", batch: { max_events: 20 }");
    let mut host = Running::start(&file, &[]);
    let mut written = 0;
    for kill in 0..4 {
        let until = written + 150 + kill * 17;
        append(&folder, &(written..until).map(insert).collect::<String>());
        written = until;
        // Somewhere on the way.
        let half = written - 80;
        eventually("some lines have arrived", async || firsts(&folder).len() > half).await;
        host.kill();
        // Half a line waits for its end.
        let line = insert(written);
        append(&folder, &line[..20]);
        host = Running::start(&file, &[]);
        host.said("reading on").await;
        append(&folder, &line[20..]);
        written += 1;
    }
    eventually("all have arrived", async || firsts(&folder).len() == written).await;
    assert_eq!(firsts(&folder), numbers(0..written));
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
    assert!(!folder.path("bad.jsonl").exists() || fs::read(folder.path("bad.jsonl")).unwrap().is_empty());
    let kept = fs::read_to_string(folder.path("events.jsonl.replay.position")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["offset"], fs::metadata(folder.path("events.jsonl")).unwrap().len(), "{kept}");
    assert_eq!(kept["line"], written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_moved_away_is_finished_and_the_new_one_follows_also_across_a_restart() {
    let folder = Folder::new();
    append(&folder, &(0..10).map(insert).collect::<String>());
    let file = pipeline(&folder, "");
    let host = Running::start(&file, &[]);
    eventually("the first lines are there", async || firsts(&folder).len() == 10).await;
    let mut old = OpenOptions::new().append(true).open(folder.path("events.jsonl")).unwrap();
    fs::rename(folder.path("events.jsonl"), folder.path("events.jsonl.1")).unwrap();
    File::create(folder.path("events.jsonl")).unwrap();
    // Its writer has not noticed yet.
    old.write_all((10..12).map(insert).collect::<String>().as_bytes()).unwrap();
    eventually("the rest of the old file", async || firsts(&folder).len() == 12).await;
    append(&folder, &(12..15).map(insert).collect::<String>());
    eventually("the new file", async || firsts(&folder).len() == 15).await;
    host.stop().await;

    // Once more, while nobody reads.
    append(&folder, &(15..17).map(insert).collect::<String>());
    fs::rename(folder.path("events.jsonl"), folder.path("events.jsonl.0")).unwrap();
    append(&folder, &(17..20).map(insert).collect::<String>());
    let mut host = Running::start(&file, &[]);
    host.said("its rest comes first").await;
    eventually("all of it", async || firsts(&folder).len() == 20).await;
    assert_eq!(groups(&folder.path("points.jsonl")), numbers(0..20), "in order, and nothing twice");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_cut_off_or_replaced_is_noticed() {
    let folder = Folder::new();
    append(&folder, &(0..5).map(insert).collect::<String>());
    let file = pipeline(&folder, "");
    let mut host = Running::start(&file, &[]);
    eventually("the lines are there", async || firsts(&folder).len() == 5).await;
    fs::write(folder.path("events.jsonl"), insert(9)).unwrap();
    let (status, log) = host.ended().await;
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("cut off") && log.contains("pgstream-host resnapshot"), "{log}");
    let (code, said) = run(&file);
    assert!(code == Some(3) && said.contains("is not the one that was read before"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_are_dead_letters_or_stop_the_pipeline_with_their_file_and_line() {
    let folder = Folder::new();
    append(&folder, &format!("{}{{\"operation\":\"ins\n{}", insert(0), insert(1)));
    append(&folder, &insert(2).replace("\"id\":2,", "\"id\":\"hunter2\","));
    append(&folder, &format!("{}{}", insert(3), insert(4).replace("text 4", &"x".repeat(3000))));
    let file = pipeline(&folder, ", follow: false, max_row: 2KiB");
    let (code, said) = run(&file);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(groups(&folder.path("points.jsonl")), ["0", "1", "3"]);
    let bad = fs::read_to_string(folder.path("bad.jsonl")).unwrap();
    let letters: Vec<serde_json::Value> = bad.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reasons: Vec<&str> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert!(reasons[0].contains("events.jsonl:2: "), "{reasons:?}");
    assert!(reasons[1].contains("events.jsonl:4: `row.id`: the column is `int8`"), "{reasons:?}");
    assert!(reasons[2].contains("events.jsonl:6: the line is longer than"), "{reasons:?}");
    assert_eq!((reasons.len(), letters[0]["code"].as_str()), (3, Some("line")));
    assert!(letters[1]["event"]["line"].as_str().unwrap().contains("hunter2"), "the letter has the line");
    assert!(!reasons[1].contains("hunter2") && !said.contains("hunter2"), "no message has a value");

    let stopping = pipeline(&folder, ", follow: false, on_bad_line: stop");
    assert!(pgstream(["resnapshot"]).arg(&stopping).output().unwrap().status.success());
    let (code, said) = run(&stopping);
    assert!(code == Some(1) && said.contains("events.jsonl:2") && said.contains("on_bad_line: reject"), "{said}");

    let text = fs::read_to_string(&stopping).unwrap().replace(", on_bad_line: stop", "");
    let nobody = text.lines().filter(|line| !line.contains("embed.rejected")).collect::<Vec<_>>().join("\n");
    let (code, said) = run(&folder.write("nobody.yaml", &nobody));
    assert!(code == Some(1) && said.contains("no sink takes `embed.rejected`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_line_at_the_end_of_a_file_that_does_not_grow_is_said() {
    let folder = Folder::new();
    append(&folder, &format!("{}{}", insert(0), &insert(1)[..30]));
    let (code, said) = run(&pipeline(&folder, ", follow: false"));
    assert!(code == Some(1) && said.contains("ends in the middle of line 2"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_read_to_its_end_and_cannot_be_administered() {
    let folder = Folder::new();
    let text = fs::read_to_string(pipeline(&folder, "")).unwrap();
    let file = folder.write("stdin.yaml", &text.replace(&folder.path("events.jsonl").display().to_string(), "\"-\""));
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgstream-host"));
    command
        .arg("run")
        .arg(&file)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all((0..50).map(insert).collect::<String>().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("its place is not kept"));
    assert_eq!(groups(&folder.path("points.jsonl")), numbers(0..50));
    for (command, sentence) in [
        ("resnapshot", "this source has no slot: standard input"),
        ("backfill", "this source has no rows to copy"),
        ("tap", "this source cannot be tapped"),
    ] {
        let output = pgstream([command]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(sentence), "{command}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_and_a_sink_that_is_read_are_refused() {
    let folder = Folder::new();
    append(&folder, &insert(0));
    let file = pipeline(&folder, "");
    let host = Running::start(&file, &[]);
    eventually("it reads", async || firsts(&folder).len() == 1).await;
    let text = fs::read_to_string(&file).unwrap();
    let second = text.replace("points.jsonl", "others.jsonl").replace("bad.jsonl", "others-bad.jsonl");
    let (code, said) = run(&folder.write("second.yaml", &second));
    assert!(code == Some(3) && said.contains("another process runs the pipeline"), "{said}");
    host.stop().await;
    let text = text.replace("points.jsonl", "events.jsonl");
    let (code, said) = run(&folder.write("loop.yaml", &text));
    assert!(code == Some(2) && said.contains("which source `events` reads"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kills_a_table_of_vectors_holds_what_the_file_says_last() {
    let (folder, database) = (Folder::new(), crate::support::fresh_database().await);
    let text = fs::read_to_string(pipeline(&folder, ", batch: { max_events: 25 }")).unwrap();
    let sink =
        "type: pgvector, inputs: [embed], url: \"${DATABASE_URL}\", table: public.vectors, create: { dimension: 8 }";
    let lines = text
        .lines()
        .map(|line| if line.starts_with("  out:") { format!("  out: {{ {sink} }}") } else { line.to_owned() });
    let text = lines.collect::<Vec<_>>().join("\n");
    let file = folder.write("vectors.yaml", &text);
    let environment = [("DATABASE_URL", database.url.as_str())];
    append(&folder, "");
    let mut host = Running::start(&file, &environment);
    let mut expected = std::collections::BTreeMap::new();
    for round in 0..4_usize {
        let mut lines = String::new();
        for id in 0..200 {
            let content = format!("text {id} of round {round}");
            let gone = (id + round) % 7 == 0;
            let line = insert(id).replace(&format!("text {id}"), &content);
            lines += &if gone { line.replace("insert", "delete") } else { line };
            if gone {
                expected.remove(&id.to_string())
            } else {
                expected.insert(id.to_string(), content)
            };
        }
        append(&folder, &lines);
        let there = "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'vectors')";
        eventually("the table is there", async || database.client.query_one(there, &[]).await.unwrap().get(0)).await;
        let some = format!("SELECT EXISTS (SELECT FROM vectors WHERE payload::text LIKE '%of round {round}%')");
        eventually("some rows are there", async || database.client.query_one(&some, &[]).await.unwrap().get(0)).await;
        host.kill();
        host = Running::start(&file, &environment);
    }
    let rows = async || -> std::collections::BTreeMap<String, String> {
        let rows = database.client.query("SELECT group_id, payload->>'content' FROM vectors", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get::<_, Option<String>>(1).unwrap_or_default())).collect()
    };
    eventually("the table is what the file says", async || rows().await == expected).await;
    // The one before may have written all of it, while this one did not yet listen to signals.
    host.said("running").await;
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_another_model_are_not_mixed_with_those_that_are_there() {
    let folder = Folder::new();
    append(&folder, &(0..3).map(insert).collect::<String>());
    let file = pipeline(&folder, ", follow: false");
    assert_eq!(run(&file).0, Some(0));
    let text = fs::read_to_string(&file).unwrap();
    let other = folder.write("other.yaml", &text.replace("dimension: 8", "dimension: 16"));
    let (code, said) = run(&other);
    assert!(code == Some(2) && said.contains("the vectors in sink `out` were made by another model"), "{said}");
    assert!(said.contains("resnapshot") && said.contains("--accept-sinks"), "{said}");
    let accepted = pgstream(["setup", "--accept-sinks"]).arg(&other).output().unwrap();
    assert!(accepted.status.success(), "{accepted:?}");
    assert_eq!(run(&other).0, Some(0));
    assert_eq!(run(&file).0, Some(2), "it is remembered from then on");
}

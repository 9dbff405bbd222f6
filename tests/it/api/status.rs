//! `pgstream-host status`: asked of a host that runs, of the database when none does, and when there is nobody to ask.

use serde_json::Value as Json;

use super::{Home, get, listens, own};
use crate::source::pipeline;
use crate::support::documents;
use crate::support::program::{Folder, Running, eventually, root};

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_told_of_while_it_runs_and_when_it_does_not() {
    let (database, folder, home) = (documents().await, Folder::new(), Home::new());
    let name = pipeline(&database);
    let component = root().join("plugins/documents-rust/documents.wasm");
    let file = folder.write(
        "docs.yaml",
        &format!(
            "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents] }}\n\
             embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
             transforms:\n  chunk: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
             sinks:\n  out: {{ type: blackhole, inputs: [chunk] }}\n",
            component.display()
        ),
    );
    let file = file.to_str().unwrap();
    let status = |arguments: &[&str]| {
        let mut command = home.command(["status"].into_iter().chain(arguments.iter().copied()));
        let output = command.env("DATABASE_URL", &database.url).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap(), said, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, _, error) = status(&[]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("no host of this user runs") && error.contains("status pipeline.yaml"), "{error}");
    let (code, said, error) = status(&[file, "--json"]);
    assert_eq!(code, 1, "{error}");
    let json: Json = serde_json::from_str(&said).unwrap();
    assert_eq!((&json["fine"], &json["pipelines"][0]["state"]), (&false.into(), &"absent".into()));

    let mut command = home.command(["run", "--api", "127.0.0.1:0", file]);
    command.env("DATABASE_URL", &database.url);
    let mut host = Running::spawn(command);
    let address = listens(&mut host).await;
    host.said("streaming").await;
    database.client.batch_execute("INSERT INTO documents VALUES (1, 'Tents', 'Dry it.')").await.unwrap();
    eventually("all is well", async || {
        let (code, said, _) = status(&["--json"]);
        let json: Json = serde_json::from_str(&said).unwrap_or_default();
        let told = &json["pipelines"][0];
        code == 0 && told["state"] == "streaming" && told["events"] == 1 && told["lag"]["bytes"] == 0
    })
    .await;
    let (code, said, error) = status(&[file]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(said.starts_with(&format!("{name}: streaming since ")) && said.contains("1 events, 0 rejected"), "{said}");
    let whole = own(&home.socket(), &format!("/api/v1/pipelines/{name}")).await;
    let json = whole.json();
    assert_eq!((&json["transforms"][0]["events"], &json["sinks"][0]["name"]), (&1.into(), &"out".into()));
    assert_eq!(json["slot"]["active"], true);
    let secret = database.url.split(':').nth(2).unwrap().split('@').next().unwrap();
    assert!(!whole.body.contains("postgres://") && !whole.body.contains("Dry it"), "{}", whole.body);
    assert!(secret.len() < 4 || !whole.body.contains(secret), "{}", whole.body);
    let stranger = get(address, "/ready", "").await;
    assert_eq!(stranger.json(), serde_json::json!({ "ready": true }), "no name for a stranger");
    assert!(own(&home.socket(), "/ready").await.json()["pipelines"][&name] == "streaming");

    let (ended, log) = host.stop().await;
    assert!(ended.success(), "{log}");
    let (code, said, error) = status(&[file]);
    assert_eq!(code, 1, "{error}");
    assert!(said.contains("nobody runs it, and Postgres keeps the log for its slot"), "{said}");
    assert!(said.contains("begun 1 times, left in order at "), "{said}");
    let (code, said, _) = status(&[file, "--json"]);
    let json: Json = serde_json::from_str(&said).unwrap();
    let told = &json["pipelines"][0];
    assert_eq!((code, &told["state"], &told["told_by"]), (1, &"idle".into(), &"database".into()));
    assert_eq!(told["noted"]["left_at"], told["slot"]["confirmed"]);
    assert!(told["slot"]["retained_bytes"].as_u64().is_some() && told["slot"]["active"] == false);
}

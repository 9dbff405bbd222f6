//! `run --host`, followed as `docs/tenants.md` says: one tenant's pipeline runs, the other's is refused with the reason.

use serde_json::Value as Json;

use crate::support::fresh_database;
use crate::support::program::{Folder, Running, eventually, pgstream, root};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_pipeline_is_told_of_and_the_others_run() {
    let database = fresh_database().await;
    let rows = "CREATE TABLE documents (id int PRIMARY KEY, title text, content text);
                INSERT INTO documents VALUES (1, 'Tents', 'Dry it.')";
    database.client.batch_execute(rows).await.unwrap();
    let address = database.url.rsplit('@').next().unwrap().split('/').next().unwrap();
    let folder = Folder::new();
    let grants = format!("sinks: [file], servers: [\"{address}\"], env: [\"ACME_*\"], embedders: {{ words: {{}} }}");
    let host = folder.write(
        "host.yaml",
        &format!(
            "version: 1\nembedders:\n  words: {{ type: hash, dimension: 8 }}\ntenants:\n  acme: {{ folder: acme, {grants} }}\n  \
             umbrella: {{ folder: umbrella, {grants} }}\n"
        ),
    );
    for (tenant, variable) in [("acme", "ACME_URL"), ("umbrella", "SECRET_URL")] {
        std::fs::create_dir(folder.path(tenant)).unwrap();
        let component = root().join("plugins/documents-rust/documents.wasm");
        std::fs::copy(component, folder.path(&format!("{tenant}/handler.wasm"))).unwrap();
        let pipeline = format!(
            "version: 1\nname: docs\ntenant: {tenant}\nsources:\n  db: {{ type: postgres, url: \"${{{variable}}}\", tables: [public.documents], snapshot: initial }}\n\
             transforms:\n  chunk: {{ type: wasm, inputs: [db], component: handler.wasm, embedders: [words] }}\n\
             sinks:\n  out: {{ type: file, inputs: [chunk], path: out.jsonl }}\n"
        );
        folder.write(&format!("{tenant}/docs.yaml"), &pipeline);
    }
    let environment = [("ACME_URL", database.url.as_str()), ("SECRET_URL", database.url.as_str())];
    let everything = folder.path("");

    let mut validate = pgstream(["validate", "--host", host.to_str().unwrap(), everything.to_str().unwrap()]);
    let checked = validate.envs(environment).output().unwrap();
    assert_eq!(checked.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "ok: acme-docs (within what its tenant is granted)\n");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(said.matches("error:").count(), 1, "the host file itself is no pipeline: {said}");
    assert!(said.contains("SECRET_URL"), "{said}");

    let mut validate = pgstream(["validate", "--json", "--host", host.to_str().unwrap(), everything.to_str().unwrap()]);
    let checked = validate.envs(environment).output().unwrap();
    assert_eq!((checked.status.code(), checked.stderr.as_slice()), (Some(2), &b""[..]));
    let json: Json = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(
        (&json["ok"], &json["files"][0]["ok"], &json["files"][1]["ok"]),
        (&false.into(), &true.into(), &false.into())
    );
    assert!(json["files"][1]["problems"].to_string().contains("SECRET_URL"), "{json}");

    let mut running = Running::start_with(&["run", "--host", host.to_str().unwrap()], &everything, &environment);
    running.said("running").await;
    assert!(running.log().contains("SECRET_URL"), "what is refused is told of: {}", running.log());
    eventually("the row of the tenant that runs is written", async || {
        std::fs::read_to_string(folder.path("acme/out.jsonl")).is_ok_and(|lines| lines.contains("Dry it."))
    })
    .await;
    let slots = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()";
    let slots = database.client.query(slots, &[]).await.unwrap();
    assert_eq!(slots.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["pgstream_acme_docs"]);
    let (status, log) = running.stop().await;
    assert_eq!(status.code(), Some(2), "the refusal is told at the end, too: {log}");
    assert!(!folder.path("umbrella/out.jsonl").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_server_never_answers_holds_nobody_up_and_can_be_stopped() {
    let database = fresh_database().await;
    let rows = "CREATE TABLE documents (id int PRIMARY KEY, title text, content text);
                INSERT INTO documents VALUES (1, 'Tents', 'Dry it.')";
    database.client.batch_execute(rows).await.unwrap();
    let address = database.url.rsplit('@').next().unwrap().split('/').next().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = silent.local_addr().unwrap();
    let folder = Folder::new();
    let host = folder.write(
        "host.yaml",
        &format!(
            "version: 1\nembedders:\n  words: {{ type: hash, dimension: 8 }}\ntenants:\n  \
             acme: {{ folder: acme, sinks: [file], servers: [\"{address}\"], embedders: {{ words: {{}} }} }}\n  \
             umbrella: {{ folder: umbrella, sinks: [file], servers: [\"{dead}\"], embedders: {{ words: {{}} }} }}\n"
        ),
    );
    let never = format!("postgres://me:secret@{dead}/shop?connect_timeout=0");
    for (tenant, url) in [("acme", database.url.as_str()), ("umbrella", never.as_str())] {
        std::fs::create_dir(folder.path(tenant)).unwrap();
        let component = root().join("plugins/documents-rust/documents.wasm");
        std::fs::copy(component, folder.path(&format!("{tenant}/handler.wasm"))).unwrap();
        let pipeline = format!(
            "version: 1\nname: quiet\ntenant: {tenant}\nsources:\n  db: {{ type: postgres, url: \"{url}\", tables: [public.documents], snapshot: initial }}\n\
             transforms:\n  chunk: {{ type: wasm, inputs: [db], component: handler.wasm, embedders: [words] }}\n\
             sinks:\n  out: {{ type: file, inputs: [chunk], path: out.jsonl }}\n"
        );
        folder.write(&format!("{tenant}/docs.yaml"), &pipeline);
    }
    let running = Running::start_with(&["run", "--host", host.to_str().unwrap()], &folder.path(""), &[]);
    eventually("the row of the other tenant is written", async || {
        std::fs::read_to_string(folder.path("acme/out.jsonl")).is_ok_and(|lines| lines.contains("Dry it."))
    })
    .await;
    let (status, log) = running.stop().await;
    assert!(status.success(), "{log}");
}

//! Commands about one pipeline of a tenant: they find it by the name and the grants that it runs with, and by no other.

use std::process::Output;

use crate::guests::guest;
use crate::support::program::{Folder, Running, eventually, pgstream};
use crate::support::{Database, fresh_database};

/// A host file, and a pipeline of its tenant whose handler crashes on request.
struct Rig {
    database: Database,
    folder: Folder,
}

impl Rig {
    async fn new(handler: std::path::PathBuf) -> Self {
        let (database, folder) = (fresh_database().await, Folder::new());
        // Without a schema a tenant's table is one of `public`, whatever comes first for its role.
        let sql = format!(
            "CREATE TABLE documents (id int PRIMARY KEY, title text, content text); CREATE SCHEMA decoy;
             ALTER DATABASE {} SET search_path = decoy, public",
            database.name
        );
        database.client.batch_execute(&sql).await.unwrap();
        let address = database.url.rsplit('@').next().unwrap().split('/').next().unwrap();
        folder.write(
            "host.yaml",
            &format!(
                "version: 1\nembedders:\n  words: {{ type: hash, dimension: 8 }}\ntenants:\n  acme:\n    folder: acme\n    \
                 sinks: [pgvector, dead-letters]\n    servers: [\"{address}\"]\n    env: [ACME_URL]\n    embedders: {{ words: {{}} }}\n"
            ),
        );
        std::fs::create_dir(folder.path("acme")).unwrap();
        std::fs::copy(handler, folder.path("acme/handler.wasm")).unwrap();
        folder.write(
            "acme/docs.yaml",
            "version: 1\nname: letters\ntenant: acme\nsources:\n  db: { type: postgres, url: \"${ACME_URL}\", tables: [public.documents] }\n\
             transforms:\n  chunk: { type: wasm, inputs: [db], component: handler.wasm, embedders: [words] }\n\
             sinks:\n  out: { type: pgvector, inputs: [chunk], url: \"${ACME_URL}\", table: acme_points, create: { dimension: 8 } }\n  \
             parked: { type: dead-letters, inputs: [chunk.rejected] }\n",
        );
        Self { database, folder }
    }

    /// Runs a command about the pipeline; its words up to the file, and those after it.
    fn typed(&self, before: &[&str], after: &[&str], host: bool) -> Output {
        let (file, hosts) = (self.folder.path("acme/docs.yaml"), self.folder.path("host.yaml"));
        let mut command = pgstream(before.iter().copied());
        command.arg(file).args(after).env("ACME_URL", &self.database.url);
        if host {
            command.arg("--host").arg(hosts);
        }
        command.output().unwrap()
    }

    /// What a command prints, if all is well.
    fn said(&self, before: &[&str], after: &[&str]) -> String {
        let output = self.typed(before, after, true);
        assert!(output.status.success(), "{before:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(&self) -> Running {
        let (host, environment) = (self.folder.path("host.yaml"), [("ACME_URL", self.database.url.as_str())]);
        Running::start_with(&["run", "--host", host.to_str().unwrap()], &self.folder.path("acme"), &environment)
    }

    async fn slots(&self) -> Vec<String> {
        let slots = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database() ORDER BY 1";
        self.database.client.query(slots, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_finds_the_pipeline_that_runs() {
    let Some(evil) = guest("evil") else { return };
    let rig = Rig::new(evil).await;
    let made = rig.said(&["setup"], &[]);
    assert!(made.contains("created slot `pgstream_acme_letters`"), "{made}");
    let mut host = rig.run();
    host.said("running").await;
    rig.database
        .client
        .batch_execute("INSERT INTO documents VALUES (1, 'panic', ''), (2, 'payload {\"n\":1}', '')")
        .await
        .unwrap();
    eventually("the letter is listed", async || {
        let output = rig.typed(&["dlq", "list"], &["--json"], true);
        String::from_utf8_lossy(&output.stdout).contains("\"trap\"")
    })
    .await;
    let letter: serde_json::Value = serde_json::from_str(&rig.said(&["dlq", "list"], &["--json"])).unwrap();
    let id = letter["id"].to_string();
    let shown = rig.said(&["dlq", "show"], &[&id]);
    let (file, hosts) = (rig.folder.path("acme/docs.yaml"), rig.folder.path("host.yaml"));
    let typed = format!("dlq replay {} --host {} {id}", file.display(), hosts.display());
    assert!(shown.contains(&typed), "{shown}");
    assert!(rig.said(&["backfill"], &["--where", "id = 2"]).starts_with("public.documents: 1 rows copied"));
    assert!(!rig.said(&["search"], &["anything"]).is_empty());
    rig.database.client.query_one("SELECT count(*) FROM public.acme_points", &[]).await.unwrap();
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
    rig.said(&["resnapshot"], &[]);
    assert_eq!(rig.slots().await, ["pgstream_acme_letters"]);
    assert_eq!(rig.said(&["dlq", "drop"], &["--all", "--json"]), "{\"dropped\":1}\n");
    rig.said(&["teardown"], &[]);
    assert!(rig.slots().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_host_file_a_tenant_s_pipeline_is_refused() {
    let Some(evil) = guest("evil") else { return };
    let rig = Rig::new(evil).await;
    let commands: [(&[&str], &[&str]); 11] = [
        (&["run"], &[]),
        (&["validate"], &[]),
        (&["validate", "--connect"], &[]),
        (&["setup"], &[]),
        (&["teardown"], &[]),
        (&["resnapshot"], &[]),
        (&["backfill"], &[]),
        (&["tap"], &[]),
        (&["search"], &["words"]),
        (&["dlq", "list"], &[]),
        (&["dlq", "replay"], &["--all"]),
    ];
    for (before, after) in commands {
        let output = rig.typed(before, after, false);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{before:?}: {said}");
        assert!(said.contains("is one of tenant `acme`") && said.contains("`--host host.yaml`"), "{before:?}: {said}");
    }
    let output = rig.typed(&["validate", "--json"], &[], false);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["files"][0]["errors"][0]["message"].as_str().unwrap().contains("is one of tenant `acme`"), "{json}");
    assert!(rig.slots().await.is_empty());
}

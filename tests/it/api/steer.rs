//! A pipeline is paused, resumed and started again: over HTTP with a token that may, and from the command line.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value as Json, json};

use super::{Answer, Home, get, listens, raw};
use crate::source::pipeline;
use crate::support::documents;
use crate::support::program::{Folder, Running, eventually, root};

pub(super) const ACTS: &str = "acts-acts-acts-acts-acts-acts-acts-acts";
pub(super) const READS: &str = "reads-reads-reads-reads-reads-reads-re";
const TENANT: &str = "tenant-tenant-tenant-tenant-tenant-tenant";

/// A file with a token that only its owner can read.
pub(super) fn token(folder: &Folder, name: &str, text: &str) {
    let file = folder.write(name, text);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Asks with POST, and with these further headers.
pub(super) async fn post(address: SocketAddr, path: &str, token: &str, headers: &str, body: &str) -> Answer {
    let kind = if headers.contains("Content-Type") { "" } else { "Content-Type: application/json\r\n" };
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{kind}{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    raw(address, request.as_bytes()).await
}

/// A host of one tenant `acme` with one pipeline `acme-<name>` that copies nothing and writes nowhere.
pub(super) struct Rig {
    pub(super) folder: Folder,
    pub(super) home: Home,
    pub(super) database: crate::support::Database,
    pub(super) name: String,
    pub(super) host: Running,
    pub(super) address: SocketAddr,
}

impl Rig {
    pub(super) async fn new() -> Self {
        let (database, folder, home) = (documents().await, Folder::new(), Home::new());
        token(&folder, "acts.token", ACTS);
        token(&folder, "reads.token", READS);
        token(&folder, "tenant.token", TENANT);
        std::fs::create_dir(folder.path("acme")).unwrap();
        std::fs::create_dir(folder.path("other")).unwrap();
        let handler = root().join("plugins/documents-rust/documents.wasm");
        std::fs::copy(handler, folder.path("acme/handler.wasm")).unwrap();
        let server = database.url.split('@').nth(1).unwrap().split('/').next().unwrap();
        let grants =
            format!("sinks: [blackhole], servers: [\"{server}\"], embedders: {{ words: {{}} }}, env: [DATABASE_URL]");
        let file = folder.write(
            "host.yaml",
            &format!(
                "version: 1\napi:\n  listen: 127.0.0.1:0\n  tokens:\n  \
                 - {{ name: ops, file: acts.token, may: [read, act] }}\n  \
                 - {{ name: watch, file: reads.token, may: [read] }}\n  \
                 - {{ name: other, file: tenant.token, may: [read, act], tenant: other }}\n\
                 embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
                 tenants:\n  acme: {{ folder: acme, {grants} }}\n  other: {{ folder: other, {grants} }}\n"
            ),
        );
        let short = pipeline(&database);
        folder.write("acme/docs.yaml", &pipeline_file(&short, ""));
        let mut command = home.command(["run", "--host", file.to_str().unwrap()]);
        command.arg(folder.path("")).env("DATABASE_URL", &database.url);
        let mut host = Running::spawn(command);
        let address = listens(&mut host).await;
        let rig = Self { name: format!("acme-{short}"), folder, home, database, host, address };
        rig.comes_to("streaming").await;
        rig
    }

    pub(super) async fn told(&self) -> Json {
        let path = format!("/api/v1/pipelines/{}", self.name);
        get(self.address, &path, &format!("Authorization: Bearer {READS}\r\n")).await.json()
    }

    pub(super) async fn comes_to(&self, state: &str) {
        eventually(&format!("the pipeline is {state}"), async || self.told().await["state"] == state).await;
    }

    async fn order(&self, verb: &str, body: &str) -> Answer {
        post(self.address, &format!("/api/v1/pipelines/{}/{verb}", self.name), ACTS, "", body).await
    }

    /// Tells whether somebody reads the slot; none if there is no slot.
    async fn slot(&self) -> Option<bool> {
        let sql = "SELECT active FROM pg_replication_slots WHERE database = current_database() AND NOT temporary";
        self.database.client.query_opt(sql, &[]).await.unwrap().map(|row| row.get(0))
    }

    pub(super) fn cli(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.home.command(arguments.iter().copied()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

pub(super) fn pipeline_file(name: &str, config: &str) -> String {
    format!(
        "version: 1\nname: {name}\ntenant: acme\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents] }}\n\
         transforms:\n  chunk: {{ type: wasm, inputs: [db], component: handler.wasm, embedders: [words]{config} }}\n\
         sinks:\n  out: {{ type: blackhole, inputs: [chunk] }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_is_paused_keeps_its_slot_and_goes_on_where_it_was() {
    let rig = Rig::new().await;
    let insert = async |id: i32| {
        let row = format!("INSERT INTO documents VALUES ({id}, 'Tents', 'Dry it.')");
        rig.database.client.batch_execute(&row).await.unwrap();
    };
    insert(1).await;
    eventually("the row has come", async || rig.told().await["events"] == 1).await;
    let answer = rig.order("pause", "{\"reason\": \"the store moves\"}").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let told = rig.told().await;
    assert_eq!((&told["state"], &told["by"]), (&"paused".into(), &"token `ops`".into()), "{told}");
    assert_eq!((&told["reason"], &told["connected"]), (&"the store moves".into(), &false.into()));
    eventually("the slot is there, and nobody reads it", async || rig.slot().await == Some(false)).await;
    let since = told["since"].clone();
    insert(2).await;

    // It stays so, whoever asks once more, and whatever is reloaded. New settings wait for it.
    assert_eq!(rig.order("pause", "{}").await.status, 200);
    let reload = async || post(rig.address, "/api/v1/reload", ACTS, "", "{}").await.json();
    assert_eq!(reload().await["pipelines"][0]["action"], "unchanged");
    rig.folder.write("acme/docs.yaml", &pipeline_file(rig.name.trim_start_matches("acme-"), ", workers: 2"));
    assert_eq!(reload().await["pipelines"][0]["action"], "adopted");
    let told = rig.told().await;
    assert_eq!((&told["state"], &told["since"], &told["generation"]), (&"paused".into(), &since, &2.into()), "{told}");
    assert_eq!(rig.order("restart", "{}").await.status, 409, "somebody wants it to rest");
    let (code, said, _) = rig.cli(&["status"]);
    assert!(code == 1 && said.contains("paused by token `ops`: the store moves"), "{said}");

    let answer = rig.order("resume", "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    rig.comes_to("streaming").await;
    eventually("the row of meanwhile has come", async || rig.told().await["events"] == 2).await;
    let told = rig.told().await;
    assert!(told["by"].is_null() && told["reason"].is_null(), "{told}");
    assert_eq!(rig.order("resume", "{}").await.status, 200, "it runs already");

    let answer = rig.order("restart", "{}").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    rig.comes_to("streaming").await;
    insert(3).await;
    eventually("it goes on", async || rig.told().await["events"] == 3).await;

    // The host ends in order although nothing of it runs.
    assert_eq!(rig.order("pause", "{}").await.status, 200);
    let (status, log) = rig.host.stop().await;
    assert!(status.success() && log.contains("paused; its slot stays"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_steers_through_the_socket_and_through_an_address() {
    let rig = Rig::new().await;
    let name = rig.name.as_str();
    let (code, said, error) = rig.cli(&["pause", name, "--reason", "to look"]);
    assert_eq!(code, 0, "{error}");
    assert!(said.contains("paused by the host's own user") && said.contains("Postgres keeps the log"), "{said}");
    let (address, tokens) = (rig.address.to_string(), [rig.folder.path("acts.token"), rig.folder.path("reads.token")]);
    let [acts, reads] = tokens.each_ref().map(|file| file.to_str().unwrap());
    let reach = |token| ["--api", address.as_str(), "--token-file", token];
    let with = |verb: &'static str, token| rig.cli(&[&[verb, name, "--json"][..], &reach(token)[..]].concat());
    let (code, said, error) = with("resume", acts);
    let told: Json = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &told["name"]), (0, &name.into()), "{error}");
    let (code, _, error) = with("pause", reads);
    assert!(code == 2 && error.contains("may not do that"), "{code}: {error}");
    let (code, said, error) = rig.cli(&[&["status"][..], &reach(reads)[..]].concat());
    assert!(code == 0 && said.starts_with(name), "{code}: {said}{error}");
    let (code, _, error) = rig.cli(&["pause", "nothing-like-it"]);
    assert!(code == 2 && error.contains("`nothing-like-it`") && error.contains(name), "{code}: {error}");
    let (code, _, error) = rig.cli(&["restart", name, "--api", "127.0.0.1:1"]);
    assert!(code == 3 && error.contains("no host answers at 127.0.0.1:1"), "{code}: {error}");
    let (code, _, error) = rig.cli(&["pause", name, "--socket", "/nonexistent/api.sock"]);
    assert!(code == 3 && error.contains("no host of this user runs"), "{code}: {error}");

    // One that has failed: its handler is no component any more. Another one keeps the host from ending.
    rig.folder.write("acme/two.yaml", &pipeline_file(&format!("{}-two", name.trim_start_matches("acme-")), ""));
    let (code, _, error) = rig.cli(&["reload"]);
    assert_eq!(code, 0, "{error}");
    rig.folder.write("acme/handler.wasm", "no component");
    assert_eq!(rig.cli(&["restart", name]).0, 0);
    rig.comes_to("failed").await;
    let (code, _, error) = rig.cli(&["pause", name]);
    assert!(
        code == 1 && error.contains("has failed and cannot be paused") && error.contains("restart"),
        "{code}: {error}"
    );
    assert_eq!(rig.cli(&["resume", name]).0, 1);
    std::fs::copy(root().join("plugins/documents-rust/documents.wasm"), rig.folder.path("acme/handler.wasm")).unwrap();
    let (code, _, error) = rig.cli(&["restart", name]);
    assert_eq!(code, 0, "{error}");
    rig.comes_to("streaming").await;
    rig.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_anything_who_may_not() {
    let rig = Rig::new().await;
    let path = |verb: &str| format!("/api/v1/pipelines/{}/{verb}", rig.name);
    let everything = ["pause", "resume", "restart", "letters/replay", "letters/drop"].map(path);
    for path in everything.iter().map(String::as_str).chain(["/api/v1/reload"]) {
        for (token, headers, body, status) in [
            ("nobody-nobody-nobody-nobody-nobody", "", "{}", 401),
            (READS, "", "{}", 403),
            // A form of another page, and a page that was opened elsewhere.
            (ACTS, "Content-Type: text/plain\r\n", "{}", 415),
            (ACTS, "Sec-Fetch-Site: cross-site\r\n", "{}", 403),
            (ACTS, "Origin: http://evil.example\r\n", "{}", 403),
            (ACTS, "", "{\"unknown\": 1}", 400),
            (ACTS, "", "nonsense", 400),
            (ACTS, "", &format!("{{\"reason\": \"{}\"}}", "x".repeat(80 << 10)), 413),
        ] {
            let answer = post(rig.address, path, token, headers, body).await;
            assert_eq!(answer.status, status, "{path} {headers} {}: {}", &body[..body.len().min(20)], answer.body);
            let error = &answer.json()["error"];
            assert!(error["message"].is_string() && error["help"].is_string(), "{error}");
        }
        // One of another tenant does not even learn that it is there.
        let status = post(rig.address, path, TENANT, "", "{}").await.status;
        assert_eq!(status, if path.ends_with("reload") { 403 } else { 404 }, "{path}");
        assert_eq!(get(rig.address, path, &format!("Authorization: Bearer {ACTS}\r\n")).await.status, 405, "{path}");
    }
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let letter = get(rig.address, &path("letters/1"), &bearer(ACTS)).await;
    assert_eq!(letter.status, 403, "values of rows take a right of their own");
    assert_eq!(get(rig.address, &path("letters"), &bearer(TENANT)).await.status, 404);
    let answer = get(rig.address, &path("letters"), &bearer(READS)).await;
    assert!(answer.status == 400 && answer.body.contains("dead-letters"), "it keeps none: {}", answer.body);
    let told = rig.told().await;
    assert_eq!((&told["state"], &told["generation"], &told["restarts"]), (&"streaming".into(), &1.into(), &0.into()));
    rig.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_planned_known_by_its_hash_and_answered() {
    let rig = Rig::new().await;
    let reload = async |body: Json| post(rig.address, "/api/v1/reload", ACTS, "", &body.to_string()).await;
    let metrics =
        async |result: &str| super::metrics(rig.address).await.of("config_reloads_total", &[("result", result)]);
    let write = |config: &str| {
        rig.folder.write("acme/docs.yaml", &pipeline_file(rig.name.trim_start_matches("acme-"), config));
    };
    let plan = reload(json!({ "plan": true })).await.json();
    assert_eq!((&plan["planned"], &plan["pipelines"][0]["action"]), (&true.into(), &"unchanged".into()), "{plan}");
    write(", workers: 2");
    let plan = reload(json!({ "plan": true })).await.json();
    let step = &plan["pipelines"][0];
    assert_eq!((&step["action"], &step["changes"]), (&"swap".into(), &json!(["transforms.chunk"])), "{plan}");
    assert_eq!(reload(json!({ "plan": true })).await.json()["hash"], plan["hash"], "the same is known again");
    assert_eq!(rig.told().await["generation"], 1, "a plan changes nothing");
    assert_eq!((metrics("applied").await, metrics("unchanged").await), (Some(0.0), Some(0.0)), "and is no reload");
    write(", workers: 3");
    let stale = reload(json!({ "hash": plan["hash"] })).await;
    assert_eq!((stale.status, rig.told().await["generation"].clone()), (409, 1.into()), "{}", stale.body);
    let (code, said, error) = rig.cli(&["reload", "--plan", "--json"]);
    let plan: Json = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{code}: {said}{error}"));
    let hash = plan["hash"].as_str().unwrap();
    let (code, said, error) = rig.cli(&["reload", "--hash", hash]);
    assert!(code == 0 && said.contains("its handlers were swapped"), "{code}: {said}{error}");
    assert_eq!(rig.told().await["generation"], 2);
    assert_eq!(rig.cli(&["reload", "--hash", hash]).0, 1, "it was another plan");
    assert_eq!((metrics("applied").await, metrics("refused").await), (Some(1.0), Some(0.0)));

    write(", wrokers: 3");
    let plan = reload(json!({ "plan": true })).await.json();
    assert_eq!(plan["pipelines"][0]["action"], "refuse", "{plan}");
    let (code, said, error) = rig.cli(&["reload"]);
    assert!(code == 2 && said.contains("refused") && said.contains("wrokers"), "{code}: {said}{error}");
    let page = super::metrics(rig.address).await;
    assert_eq!(page.of("config_last_reload_successful", &[]), Some(0.0));
    assert_eq!(page.of("config_reloads_total", &[("result", "refused")]), Some(1.0));
    write("");
    assert_eq!(reload(json!({})).await.json()["pipelines"][0]["action"], "swapped");
    assert_eq!(super::metrics(rig.address).await.of("config_last_reload_successful", &[]), Some(1.0));
    std::fs::remove_file(rig.folder.path("acme/docs.yaml")).unwrap();
    let plan = reload(json!({ "plan": true })).await;
    assert!(plan.status == 422 && plan.body.contains("no pipeline file"), "{}", plan.body);
    rig.host.stop().await;
}

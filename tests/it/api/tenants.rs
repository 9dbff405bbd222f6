//! A tenant's token shows that tenant's pipelines, and nothing of others or of the host.

use std::os::unix::fs::PermissionsExt;

use super::exposition::Exposition;
use super::{Home, get, listens};
use crate::support::program::{Folder, Running, eventually, root};

const TOKEN: &str = "acme-acme-acme-acme-acme-acme-acme-acme";

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own_and_no_more() {
    let (folder, home) = (Folder::new(), Home::new());
    let token = folder.write("acme.token", TOKEN);
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    // Their database is not there: what cannot start is told of, too.
    let grants = "sinks: [blackhole], servers: [\"127.0.0.1:1\"], embedders: { words: {} }";
    let host = folder.write(
        "host.yaml",
        &format!(
            "version: 1\napi:\n  listen: 127.0.0.1:0\n  tokens: [{{ name: acme, file: acme.token, may: [read], tenant: acme }}]\n\
             embedders:\n  words: {{ type: hash, dimension: 8 }}\ntenants:\n  acme: {{ folder: acme, weight: 3, {grants} }}\n  \
             umbrella: {{ folder: umbrella, {grants} }}\n"
        ),
    );
    for tenant in ["acme", "umbrella"] {
        std::fs::create_dir(folder.path(tenant)).unwrap();
        std::fs::copy(
            root().join("plugins/documents-rust/documents.wasm"),
            folder.path(&format!("{tenant}/handler.wasm")),
        )
        .unwrap();
        let pipeline = format!(
            "version: 1\nname: docs\ntenant: {tenant}\nsources:\n  db: {{ type: postgres, url: \"postgres://me:s3cr3t@127.0.0.1:1/shop\", tables: [public.documents] }}\n\
             transforms:\n  chunk: {{ type: wasm, inputs: [db], component: handler.wasm, embedders: [words] }}\n\
             sinks:\n  out: {{ type: blackhole, inputs: [chunk] }}\n"
        );
        folder.write(&format!("{tenant}/docs.yaml"), &pipeline);
    }
    let mut command = home.command(["run", "--host", host.to_str().unwrap()]);
    command.arg(folder.path(""));
    let mut running = Running::spawn(command);
    let address = listens(&mut running).await;
    eventually("both were tried", async || get(address, "/ready", "").await.status == 200).await;
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let mut told = get(address, "/api/v1/status", &bearer).await;
    eventually("the reason is told", async || {
        told = get(address, "/api/v1/status", &bearer).await;
        told.json()["pipelines"][0]["state"] == "retrying"
    })
    .await;
    let json = told.json();
    let pipelines = json["pipelines"].as_array().unwrap();
    assert_eq!(pipelines.iter().map(|told| told["name"].as_str().unwrap()).collect::<Vec<_>>(), ["acme-docs"]);
    assert!(pipelines[0]["last_error"]["message"].as_str().unwrap().contains("127.0.0.1:1"), "{json}");
    assert!(!told.body.contains("s3cr3t") && !told.body.contains("umbrella"), "{json}");
    assert_eq!(get(address, "/api/v1/pipelines/acme-docs", &bearer).await.status, 200);
    assert_eq!(get(address, "/api/v1/pipelines/umbrella-docs", &bearer).await.status, 404);
    for query in ["", "?tenant=umbrella"] {
        let page = get(address, &format!("/metrics{query}"), &bearer).await;
        let page = Exposition::read(&page.body, false);
        assert_eq!(page.values("tenant").into_iter().collect::<Vec<_>>(), ["acme"], "{query}");
        assert_eq!(page.of("tenant_weight", &[]), Some(3.0));
        assert_eq!(page.of("pipeline_up", &[]), Some(0.0));
        assert_eq!(page.get("process_threads", &[]), None, "the process is not the tenant's");
    }
    let whole = Exposition::read(&get(address, "/metrics", "").await.body, false);
    assert_eq!(whole.values("tenant").len(), 2, "whoever is on this machine sees the whole page");
    running.stop().await;
}

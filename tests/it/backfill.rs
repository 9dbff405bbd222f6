//! The command `backfill`: what it says of copies that nobody can make any more.

use crate::source::{config, pipeline};
use crate::support::fresh_database;
use crate::support::program::{Folder, Running, eventually, root};
use pgstream_host::source::postgres;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_vanished_is_no_success() {
    let (database, folder) = (fresh_database().await, Folder::new());
    let client = &database.client;
    client.batch_execute("CREATE TABLE documents (id int PRIMARY KEY, title text, content text)").await.unwrap();
    let name = pipeline(&database);
    let text = format!(
        "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents] }}\n\
         embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
         sinks:\n  none: {{ type: blackhole, inputs: [embed] }}\n",
        root().join("plugins/documents-rust/documents.wasm").display()
    );
    let file = folder.write("pipeline.yaml", &text);
    let source = config(&database.url, &["documents"]);
    postgres::setup(&name, &source).await.unwrap();
    // Nobody runs the pipeline, so the command waits.
    let mut command = Running::start_with(&["backfill"], &file, &[("DATABASE_URL", &database.url)]);
    eventually("the copy is asked for", async || {
        postgres::copied(&name, &source, None).await.unwrap().iter().any(|copy| !copy.done)
    })
    .await;
    postgres::teardown(&name, &source).await.unwrap();
    let (status, log) = command.ended().await;
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("1 of 1 copies that were asked for are gone"), "{log}");
}

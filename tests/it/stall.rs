//! What a pipeline says while nothing becomes durable: how old the oldest commit is, and what is waited for.

use serde_json::Value as Json;

use crate::support::program::{Folder, Running, eventually, root};
use crate::support::{connect, documents};

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_sink_is_named_and_the_lag_grows_until_it_goes_on() {
    let (database, folder) = (documents().await, Folder::new());
    let component = root().join("plugins/documents-rust/documents.wasm");
    let file = folder.write(
        "stall.yaml",
        &format!(
            "version: 1\nname: stall\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents] }}\n\
             embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
             transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
             sinks:\n  search: {{ type: pgvector, inputs: [embed], url: \"${{DATABASE_URL}}\", table: vectors, create: {{ dimension: 8 }} }}\n",
            component.display()
        ),
    );
    let mut host =
        Running::start_with(&["--log-format", "json", "run"], &file, &[("DATABASE_URL", database.url.as_str())]);
    host.said("\"streaming\"").await;
    let locker = connect(&database.url).await;
    locker.batch_execute("BEGIN; LOCK TABLE vectors").await.unwrap();
    database.client.batch_execute("INSERT INTO documents VALUES (1, 'a', 'b')").await.unwrap();
    host.said("what was received is not durable yet").await;
    // Of one look after the other.
    let lags = |log: &str| -> Vec<(f64, String)> {
        let lines = log.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        let lag = |line: Json| Some((line["lag_seconds"].as_f64()?, line["waits_for"].as_str()?.to_owned()));
        lines.filter_map(lag).collect()
    };
    eventually("the lag is said twice", async || lags(&host.log()).len() >= 2).await;
    let said = lags(&host.log());
    assert!(said.is_sorted_by(|one, next| one.0 < next.0), "{said:?}");
    assert!(said.iter().all(|(_, what)| what.contains("a write into sink `search` for ")), "{said:?}");
    locker.batch_execute("COMMIT").await.unwrap();
    host.said("what was waited for is durable").await;
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
    for line in log.lines() {
        let json: Json = serde_json::from_str(line).unwrap();
        if json["message"] == "progress" || json["message"] == "streaming" {
            assert_eq!(json["pipeline"], "stall", "{line}");
        }
    }
}

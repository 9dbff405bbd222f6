//! Dead letters over the API: counted, listed without values, shown with them, replayed and dropped.

use std::path::Path;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{Answer, Home, listens, metrics, own};
use crate::guests::guest;
use crate::source::pipeline;
use crate::support::fresh_database;
use crate::support::program::{Folder, Running, eventually};

/// Asks through the Unix socket to do something.
pub(super) async fn order(socket: &Path, path: &str, body: &Json) -> Answer {
    let body = body.to_string();
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let head = "Host: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let request = format!("POST {path} HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    Answer::parse(&answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_counted_listed_shown_replayed_and_dropped() {
    let Some(evil) = guest("evil") else { return };
    let (database, folder, home) = (fresh_database().await, Folder::new(), Home::new());
    let sql = async |sql: &str| database.client.batch_execute(sql).await.unwrap();
    sql("CREATE TABLE documents (id int PRIMARY KEY, title text, content text)").await;
    let name = pipeline(&database);
    let file = folder.write(
        "letters.yaml",
        &format!(
            "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents], heartbeat: 1s }}\n\
             transforms:\n  evil: {{ type: wasm, inputs: [db], component: {} }}\n\
             sinks:\n  out: {{ type: blackhole, inputs: [evil] }}\n  \
             parked: {{ type: dead-letters, inputs: [evil.rejected], max_letters: 7 }}\n",
            evil.display()
        ),
    );
    let mut command = home.command(["run", "--api", "127.0.0.1:0"]);
    command.arg(&file).env("DATABASE_URL", &database.url);
    let mut host = Running::spawn(command);
    let address = listens(&mut host).await;
    host.said("streaming").await;
    let at = |rest: &str| format!("/api/v1/pipelines/{name}/letters{rest}");
    let socket = home.socket();
    let listed = async |query: &str| own(&socket, &at(query)).await;
    let value = async |metric: &str, labels: &[(&str, &str)]| {
        let labels: Vec<(&str, &str)> =
            [("pipeline", name.as_str())].into_iter().chain(labels.iter().copied()).collect();
        metrics(address).await.of(metric, &labels)
    };
    assert_eq!(value("dead_letters_limit", &[]).await, Some(7.0));

    sql("INSERT INTO documents VALUES (1, 'reject no', '<script>alert(1)</script>'), (2, 'reject no', 'secret'), (3, 'panic', 'x')")
        .await;
    let count = async || listed("").await.json()["letters"].as_array().map_or(0, Vec::len);
    eventually("the events are set aside", async || count().await == 3).await;
    assert_eq!(value("dead_letters", &[]).await, Some(3.0));
    let all = listed("").await;
    assert!(!all.body.contains("script") && !all.body.contains("secret"), "no value stands in the list: {}", all.body);
    let ids: Vec<i64> =
        all.json()["letters"].as_array().unwrap().iter().map(|letter| letter["id"].as_i64().unwrap()).collect();
    let trap = listed("?code=trap").await.json();
    assert_eq!((trap["letters"].as_array().unwrap().len(), &trap["letters"][0]["code"]), (1, &"trap".into()));
    let page = listed("?limit=1").await.json();
    assert_eq!((&page["more"], &page["letters"][0]["id"]), (&true.into(), &ids[0].into()));
    let rest = listed(&format!("?after={}", ids[0])).await.json();
    assert_eq!((rest["letters"].as_array().unwrap().len(), &rest["more"]), (2, &false.into()));
    assert_eq!(listed("?table=public.documents&since=2h&transform=evil").await.status, 400, "no time for Postgres");
    assert_eq!(listed("?colour=red").await.status, 400);
    let shown = listed(&format!("/{}", ids[0])).await;
    assert!(shown.status == 200 && shown.body.contains("<script>alert(1)</script>"), "{}", shown.body);
    assert!(shown.head.contains("content-type: application/json") && shown.head.contains("nosniff"), "{}", shown.head);
    assert_eq!((listed("/999").await.status, listed("/x").await.status), (404, 404));

    // One row is mended, the other is not: both are brought through once more.
    sql("UPDATE documents SET title = 'payload {}' WHERE id = 1").await;
    for body in [json!({}), json!({ "ids": "1" })] {
        assert_eq!(order(&socket, &at("/replay"), &body).await.status, 400, "no letter is named: {body}");
    }
    let answer = order(&socket, &at("/replay"), &json!({ "ids": ids[..2] })).await;
    assert_eq!((answer.status, &answer.json()["under_way"]), (202, &json!(ids[..2])), "{}", answer.body);
    eventually("one is settled", async || count().await == 2).await;
    eventually("one is refused again", async || {
        let listed = listed("").await.json();
        listed["letters"].as_array().unwrap().iter().any(|letter| letter["id"] == ids[1] && letter["attempts"] == 2)
    })
    .await;
    assert_eq!(value("dead_letters_replayed_total", &[("outcome", "settled")]).await, Some(1.0));
    assert_eq!(value("dead_letters_replayed_total", &[("outcome", "refused")]).await, Some(1.0));
    let answer = order(&socket, &at("/drop"), &json!({ "code": "trap" })).await;
    assert_eq!((answer.status, &answer.json()["dropped"]), (200, &1.into()), "{}", answer.body);
    assert_eq!(value("dead_letters", &[]).await, Some(1.0));
    let answer = order(&socket, &at("/drop"), &json!({ "all": true })).await;
    assert_eq!(answer.json()["dropped"], 1);
    assert_eq!((value("dead_letters", &[]).await, count().await), (Some(0.0), 0));
    let (status, log) = host.stop().await;
    assert!(status.success() && log.contains("dead letters were dropped") && !log.contains("alert(1)"), "{log}");
    assert!(log.contains("a dead letter was shown with its values"), "who looks at values is told of: {log}");
}

//! The `file` sink: lines that survive, and searches that are refused.

use pgstream_host::command::{Action, Command};
use pgstream_host::error::Code;
use pgstream_host::lsn::{Lsn, Position};
use pgstream_host::sink::blackhole::BlackholeSettings;
use pgstream_host::sink::lines::FileSettings;
use pgstream_host::sink::{DeadLetter, Delivery, SinkKind};

use super::contract::held;

#[tokio::test]
async fn commands_and_rejected_events_are_appended_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let config = FileSettings { inputs: Vec::new(), path: path.clone(), folder: None };
    let position = Position { lsn: Lsn(0x16B3748), ordinal: 3 };
    let command = Command { position, action: Action::Delete { id: "a".into() } };
    let letter = DeadLetter {
        position,
        at: 7,
        transform: "embed".into(),
        handler: "5e1f".into(),
        sink: None,
        code: Code::Rejected,
        reason: "no text".into(),
        table: "public.docs".into(),
        key: "{}".into(),
        replayed: false,
        event: r#"{"table":"docs"}"#.into(),
    };

    let mut sink = config.open("documents", "parked").await.unwrap();
    assert_eq!(sink.resume("origin").await.unwrap(), None);
    let delivery = Delivery { commands: vec![&command], rejected: Vec::new(), through: held(position) };
    sink.write(&delivery).await.unwrap();
    sink.write(&Delivery::default()).await.unwrap();
    sink.close().await.unwrap();
    let torn = std::fs::read_to_string(&path).unwrap() + r#"{"position":"0/17"#;
    std::fs::write(&path, torn).unwrap();

    let mut sink = config.open("documents", "parked").await.unwrap();
    sink.write(&Delivery { commands: Vec::new(), rejected: vec![&letter], through: held(position) }).await.unwrap();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        concat!(
            r#"{"position":"0/16B3748#3","action":"delete","id":"a"}"#,
            "\n",
            r#"{"position":"0/16B3748#3","at":7,"pipeline":"documents","transform":"embed","handler":"5e1f","code":"rejected","reason":"no text","table":"public.docs","event":{"table":"docs"}}"#,
            "\n"
        )
    );
    sink.close().await.unwrap();
}

#[tokio::test]
async fn a_blackhole_takes_everything() {
    let config = BlackholeSettings { inputs: Vec::new() };
    let mut sink = config.open("documents", "nowhere").await.unwrap();
    let command = Command { position: Position::default(), action: Action::Clear };
    sink.write(&Delivery { commands: vec![&command], ..Delivery::default() }).await.unwrap();
    sink.close().await.unwrap();
}

//! A guest for tests that does what a handler must not: what exactly, the batch says, as the text of the first event's
//! second column. Some of its behaviours are harmless and show what an instance remembers or is given.

#![cfg(target_family = "wasm")]

use std::cell::Cell;
use std::hint::black_box;

use pgstream_handler::bindings::pgstream::host::types::{
    Action, Batch, Command, Embedding, Failure, Output, Point, Rejection, SparseVector, Value,
};
use pgstream_handler::bindings::{Guest, pgstream::host};

struct Evil;

pgstream_handler::bindings::export!(Evil with_types_in pgstream_handler::bindings);

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

impl Guest for Evil {
    fn handle(batch: Batch) -> Result<Output, Failure> {
        CALLS.set(CALLS.get() + 1);
        let what = batch.events.first().and_then(|event| event.row.get(1));
        let Some(Value::Text(what)) = what else { return Ok(nothing()) };
        let (what, with) = what.split_once(' ').unwrap_or((what, ""));
        match what {
            "nothing" => Ok(nothing()),
            "panic" => panic!("boom\u{1b}[31m"),
            "spin" => loop {
                black_box(());
            },
            "eat-memory" => Ok(eat_memory()),
            "eat-and-survive" => Ok(say(&survive().to_string())),
            "recurse" => Ok(say(&recurse(with.len() as u64).to_string())),
            "exit" => std::process::exit(3),
            "retry" => Err(Failure::Retry(with.into())),
            "stop" => Err(Failure::Stop(with.into())),

            "calls" => Ok(say(&CALLS.get().to_string())),
            "config" => Ok(say(&format!("{:?}", host::config::get(with)))),
            "embed" => host::embeddings::embed(with, &["one".into(), "two".into()])
                .map(|vectors| say(&format!("{} {:?}", vectors.dimension, vectors.data))),
            "embed-flood" => host::embeddings::embed(with, &vec![String::new(); 5000]).map(|_| nothing()),
            "log" => {
                host::log::log(host::log::Level::Info, with);
                Ok(nothing())
            }
            "log-flood" => {
                (0..10_000).for_each(|n| host::log::log(host::log::Level::Info, &format!("line {n}")));
                Ok(nothing())
            }
            "log-huge" => {
                host::log::log(host::log::Level::Info, &"x".repeat(20 << 20));
                Ok(nothing())
            }
            "print" => {
                println!("printed {with}");
                eprintln!("complained {with}");
                Ok(nothing())
            }
            "print-flood" => {
                (0..10_000).for_each(|n| println!("line {n}"));
                Ok(nothing())
            }

            "read-file" => Ok(say(&format!("{:?}", std::fs::read("/etc/hostname").map_err(|error| error.kind())))),
            "write-file" => Ok(say(&format!("{:?}", std::fs::write("made", "").map_err(|error| error.kind())))),
            "list-files" => Ok(say(&format!("{:?}", std::fs::read_dir("/").map(drop).map_err(|error| error.kind())))),
            "connect" => Ok(say(&format!("{:?}", std::net::TcpStream::connect("127.0.0.1:5432").map(drop).is_ok()))),
            "listen" => Ok(say(&format!("{:?}", std::net::TcpListener::bind("127.0.0.1:0").map(drop).is_ok()))),
            "datagram" => Ok(say(&format!("{:?}", std::net::UdpSocket::bind("127.0.0.1:0").map(drop).is_ok()))),
            "resolve" => {
                use std::net::ToSocketAddrs;
                Ok(say(&format!("{:?}", "localhost:80".to_socket_addrs().map(drop).is_ok())))
            }
            "environment" => Ok(say(&format!("{} {}", std::env::vars().count(), std::env::args().count()))),
            "input" => Ok(say(&format!("{:?}", std::io::read_to_string(std::io::stdin()).ok()))),
            "clock" => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
                Ok(say(&(now.subsec_nanos() % 1_000_000).to_string()))
            }
            "sleep" => {
                std::thread::sleep(std::time::Duration::from_secs(3600));
                Ok(say("awake"))
            }
            "thread" => Ok(say(&std::thread::Builder::new().spawn(|| ()).is_ok().to_string())),

            "huge-list" => Ok(commands(vec![Action::Clear; 1 << 18])),
            "huge-text" => Ok(say(&"x".repeat(20 << 20))),
            "bad-index" => {
                Ok(Output { commands: vec![Command { event: 7, action: Action::Clear }], rejections: vec![] })
            }
            "bad-rejection" => Ok(reject(&[9])),
            "reject" => Ok(Output { commands: vec![], rejections: vec![Rejection { event: 0, reason: with.into() }] }),
            "reject-twice" => Ok(reject(&[0, 0])),
            "answer-and-reject" => {
                Ok(Output { commands: vec![Command { event: 0, action: Action::Clear }], ..reject(&[0]) })
            }
            "empty-id" => Ok(commands(vec![Action::Delete(String::new())])),
            "long-id" => Ok(commands(vec![Action::Delete("x".repeat(1025))])),
            "nul-id" => Ok(commands(vec![Action::Patch(("a\0".into(), "{}".into()))])),
            "empty-group" => Ok(commands(vec![Action::Replace((String::new(), vec![]))])),
            "same-ids" => Ok(commands(vec![Action::Replace(("g".into(), vec![point(vec![]), point(vec![])]))])),
            "payload" => Ok(commands(vec![Action::Upsert(Point { payload: with.into(), ..point(vec![]) })])),
            "patch-payload" => Ok(commands(vec![Action::PatchGroup(("g".into(), with.into()))])),
            "nan" => Ok(upsert(vec![("", Embedding::Dense(vec![1.0, f32::NAN]))])),
            "no-numbers" => Ok(upsert(vec![("", Embedding::Dense(vec![]))])),
            "no-text" => Ok(upsert(vec![("title", Embedding::Text(String::new()))])),
            "same-vector" => Ok(upsert(vec![("a", Embedding::Dense(vec![1.0])), ("a", Embedding::Dense(vec![1.0]))])),
            "bad-vector-name" => Ok(upsert(vec![("a\n", Embedding::Dense(vec![1.0]))])),
            "sparse" => Ok(upsert(vec![("s", sparse(&[1, 5], &[0.5, 0.25]))])),
            "sparse-infinite" => Ok(upsert(vec![("s", sparse(&[1], &[f32::INFINITY]))])),
            "sparse-unsorted" => Ok(upsert(vec![("s", sparse(&[5, 5], &[0.5, 0.25]))])),
            "sparse-uneven" => Ok(upsert(vec![("s", sparse(&[5], &[0.5, 0.25]))])),
            "backwards" => {
                let last = batch.events.len() as u32 - 1;
                let commands = (0..=last).rev().flat_map(|event| [("a", event), ("b", event)]);
                let command = |(name, event)| Command { event, action: Action::Delete(format!("{event}{name}")) };
                Ok(Output { commands: commands.map(command).collect(), rejections: vec![] })
            }
            unknown => Err(Failure::Stop(format!("evil does not know how to `{unknown}`"))),
        }
    }
}

fn nothing() -> Output {
    Output { commands: vec![], rejections: vec![] }
}

/// Answers with a word: the id of a point to delete.
fn say(word: &str) -> Output {
    commands(vec![Action::Delete(word.to_owned())])
}

fn commands(actions: Vec<Action>) -> Output {
    let commands = actions.into_iter().map(|action| Command { event: 0, action }).collect();
    Output { commands, rejections: vec![] }
}

fn reject(events: &[u32]) -> Output {
    let rejections = events.iter().map(|&event| Rejection { event, reason: "no".into() }).collect();
    Output { commands: vec![], rejections }
}

fn upsert(embeddings: Vec<(&str, Embedding)>) -> Output {
    commands(vec![Action::Upsert(point(embeddings))])
}

fn point(embeddings: Vec<(&str, Embedding)>) -> Point {
    let embeddings = embeddings.into_iter().map(|(name, embedding)| (name.to_owned(), embedding)).collect();
    Point { id: "p".into(), embeddings, payload: "{}".into() }
}

fn sparse(indices: &[u32], values: &[f32]) -> Embedding {
    Embedding::Sparse(SparseVector { indices: indices.to_vec(), values: values.to_vec() })
}

fn eat_memory() -> Output {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(black_box(vec![1; 1 << 20]));
    }
}

/// How many MiB there were before the host said no.
fn survive() -> usize {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut more: Vec<u8> = Vec::new();
        if more.try_reserve_exact(1 << 20).is_err() {
            return eaten.len();
        }
        eaten.push(black_box(more));
    }
}

#[allow(unconditional_recursion)] // it is what is being tested
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    1 + recurse(frame[3] + 1) + black_box(frame)[7]
}

//! A guest for tests that does what a handler must not: what exactly, each event says, as the text of its second column.
//! Some of its behaviours are harmless and show what an instance remembers or is given.

#![cfg(target_family = "wasm")]

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;

use pgstream_handler::bindings::pgstream::host::types::{
    Action, Batch, Command, Embedding, Failure, Output, Point, Rejection, SparseVector, Value,
};
use pgstream_handler::bindings::{Guest, pgstream::host};

mod answer;

struct Evil;

pgstream_handler::bindings::export!(Evil with_types_in pgstream_handler::bindings);

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

impl Guest for Evil {
    fn handle(batch: Batch) -> Result<Output, Failure> {
        CALLS.set(CALLS.get() + 1);
        let mut output = nothing();
        for (index, event) in (0..).zip(&batch.events) {
            let Some(Value::Text(what)) = event.row.get(1) else { continue };
            let (what, with) = what.split_once(' ').unwrap_or((what, ""));
            let more = Event { index, count: batch.events.len() as u32 }.act(what, with)?;
            output.commands.extend(more.commands);
            output.rejections.extend(more.rejections);
        }
        Ok(output)
    }
}

/// Which event of how many asks for something.
struct Event {
    index: u32,
    count: u32,
}

impl Event {
    fn act(&self, what: &str, with: &str) -> Result<Output, Failure> {
        match what {
            "" => Ok(nothing()),
            "say" => Ok(self.say(with)),
            "nothing" => Ok(nothing()),
            "panic" => panic!("boom\u{1b}[31m"),
            "spin" => loop {
                black_box(());
            },
            "fill-memory" => {
                let mut bytes = vec![0_u8; 32 << 20];
                loop {
                    black_box(&mut bytes).fill(black_box(7));
                }
            }
            "copy-memory" => {
                let mut bytes = vec![0_u8; 32 << 20];
                loop {
                    black_box(&mut bytes).copy_within(..16 << 20, 16 << 20);
                }
            }
            "allocate" => {
                let size = with.parse().unwrap_or(usize::MAX);
                Ok(self.say(&black_box(vec![1_u8; size]).len().to_string()))
            }
            "leak" => {
                std::mem::forget(black_box(vec![1_u8; with.parse().unwrap_or_default()]));
                Ok(self.say("leaked"))
            }
            "panic-later" if CALLS.get() > 1 => panic!("only the first call goes well"),
            "panic-later" => Ok(self.say(with)),
            "panic-in-company" if self.count > 1 => panic!("only alone I work"),
            "panic-in-company" => Ok(self.say(with)),
            "hoard" => Ok(self.hoard(with.parse().unwrap_or_default())),
            "eat-memory" => Ok(eat_memory()),
            "eat-and-survive" => Ok(self.say(&survive().to_string())),
            "recurse" => Ok(self.say(&recurse(with.len() as u64).to_string())),
            "exit" => std::process::exit(3),
            "retry" => Err(Failure::Retry(with.into())),
            "stop" => Err(Failure::Stop(with.into())),

            "calls" => Ok(self.say(&CALLS.get().to_string())),
            "config" => Ok(self.say(&format!("{:?}", host::config::get(with)))),
            "embed" => host::embeddings::embed(with, &["one".into(), "two".into()])
                .map(|vectors| self.say(&format!("{} {:?}", vectors.dimension, vectors.data))),
            "embed-flood" => host::embeddings::embed(with, &vec![String::new(); 5000]).map(|_| nothing()),
            "embed-often" => {
                let (times, texts) = with.split_once(' ').unwrap_or((with, "1"));
                let texts = vec!["text".to_owned(); texts.parse().unwrap_or(1)];
                for _ in 0..times.parse().unwrap_or(u32::MAX) {
                    let _ = host::embeddings::embed("small", &texts);
                }
                Ok(self.say("embedded"))
            }
            "log-for-ever" => loop {
                host::log::log(host::log::Level::Info, "again");
            },
            "config-for-ever" => loop {
                black_box(host::config::get("key"));
            },
            "print-for-ever" => loop {
                println!("again");
            },
            "leak-handles" => {
                let number = with.parse().unwrap_or(u32::MAX);
                (0..number).for_each(|_| std::mem::forget(wasip2::clocks::monotonic_clock::subscribe_duration(0)));
                Ok(self.say("leaked"))
            }
            "random" => {
                let bytes = wasip2::random::random::get_random_bytes(with.parse().unwrap_or(u64::MAX));
                Ok(self.say(&bytes.len().to_string()))
            }
            // What Rust's maps are seeded with.
            "seed" => Ok(self.say(&format!("{:x}", RandomState::new().hash_one(0)))),
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

            "read-file" => Ok(self.say(&format!("{:?}", std::fs::read("/etc/hostname").map_err(|error| error.kind())))),
            "write-file" => Ok(self.say(&format!("{:?}", std::fs::write("made", "").map_err(|error| error.kind())))),
            "list-files" => {
                Ok(self.say(&format!("{:?}", std::fs::read_dir("/").map(drop).map_err(|error| error.kind()))))
            }
            "connect" => {
                Ok(self.say(&format!("{:?}", std::net::TcpStream::connect("127.0.0.1:5432").map(drop).is_ok())))
            }
            "listen" => Ok(self.say(&format!("{:?}", std::net::TcpListener::bind("127.0.0.1:0").map(drop).is_ok()))),
            "datagram" => Ok(self.say(&format!("{:?}", std::net::UdpSocket::bind("127.0.0.1:0").map(drop).is_ok()))),
            "resolve" => {
                use std::net::ToSocketAddrs;
                Ok(self.say(&format!("{:?}", "localhost:80".to_socket_addrs().map(drop).is_ok())))
            }
            "environment" => Ok(self.say(&format!("{} {}", std::env::vars().count(), std::env::args().count()))),
            "input" => Ok(self.say(&format!("{:?}", std::io::read_to_string(std::io::stdin()).ok()))),
            "clock" => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
                Ok(self.say(&(now.subsec_nanos() % 1_000_000).to_string()))
            }
            "sleep" => {
                std::thread::sleep(std::time::Duration::from_secs(3600));
                Ok(self.say("awake"))
            }
            "thread" => Ok(self.say(&std::thread::Builder::new().spawn(|| ()).is_ok().to_string())),

            "huge-list" => Ok(self.commands(vec![Action::Clear; 1 << 18])),
            "huge-text" => Ok(self.say(&"x".repeat(20 << 20))),
            "bad-index" => Ok(Output {
                commands: vec![Command { event: self.count + 6, action: Action::Clear }],
                rejections: vec![],
            }),
            "bad-rejection" => Ok(reject(&[self.count + 8], "no")),
            "reject" => Ok(reject(&[self.index], with)),
            // As a case of `plugins/sdk/breaches.json` has it.
            "answer" => Ok(answer::from(with, self.index)),
            "huge-id" => Ok(self.commands(vec![Action::Delete("x".repeat(10 << 20))])),
            "many-points" => {
                let points =
                    (0..with.parse().unwrap_or(1_000_000)).map(|n| Point { id: n.to_string(), ..point(vec![]) });
                Ok(self.commands(vec![Action::Replace(("g".into(), points.collect()))]))
            }
            "texts" => {
                let text = || vec![("", Embedding::Text("a".into()))];
                let points = (0..with.parse().unwrap_or(1)).map(|n: u32| Point { id: n.to_string(), ..point(text()) });
                Ok(self.commands(vec![Action::Replace(("g".into(), points.collect()))]))
            }
            "many-numbers" => Ok(self.upsert(vec![("", Embedding::Dense(vec![1.0; 8 << 20]))])),
            "nested-json" => {
                let payload = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
                Ok(self.commands(vec![Action::Patch(("p".into(), payload))]))
            }
            "payload" => Ok(self.commands(vec![Action::Upsert(Point { payload: with.into(), ..point(vec![]) })])),
            "nan" => Ok(self.upsert(vec![("", Embedding::Dense(vec![1.0, f32::NAN]))])),
            "sparse" => Ok(self.upsert(vec![("s", sparse(&[1, 5], &[0.5, 0.25]))])),
            "backwards" => {
                let events = (0..self.count).rev().flat_map(|event| [("a", event), ("b", event)]);
                let command = |(name, event)| Command { event, action: Action::Delete(format!("{event}{name}")) };
                Ok(Output { commands: events.map(command).collect(), rejections: vec![] })
            }
            unknown => Err(Failure::Stop(format!("evil does not know how to `{unknown}`"))),
        }
    }

    /// Answers with a word: the id of a point to delete.
    /// Keeps memory for ever, and refuses the event when there is no more, as languages with exceptions do.
    fn hoard(&self, bytes: usize) -> Output {
        let mut more: Vec<u8> = Vec::new();
        if more.try_reserve_exact(bytes).is_err() {
            let rejection = Rejection { event: self.index, reason: "MemoryError: no more".into() };
            return Output { rejections: vec![rejection], ..nothing() };
        }
        std::mem::forget(black_box(more));
        self.say("hoarded")
    }

    fn say(&self, word: &str) -> Output {
        self.commands(vec![Action::Delete(word.to_owned())])
    }

    fn commands(&self, actions: Vec<Action>) -> Output {
        let commands = actions.into_iter().map(|action| Command { event: self.index, action }).collect();
        Output { commands, rejections: vec![] }
    }

    fn upsert(&self, embeddings: Vec<(&str, Embedding)>) -> Output {
        self.commands(vec![Action::Upsert(point(embeddings))])
    }
}

fn nothing() -> Output {
    Output { commands: vec![], rejections: vec![] }
}

fn reject(events: &[u32], reason: &str) -> Output {
    let rejections = events.iter().map(|&event| Rejection { event, reason: reason.into() }).collect();
    Output { commands: vec![], rejections }
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

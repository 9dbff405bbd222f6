//! Components for tests: those of `plugins/`, built from source, and batches to call them with.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use indexmap::IndexMap;
use pgstream_host::config::model::{Limits, Rejections};
use pgstream_host::embedder::Embedder;
use pgstream_host::error::Result;
use pgstream_host::event::{
    Batch, BatchBuilder, Cell, Column, EventHead, Kind, Naming, Operation, Place, Relation, ReplicaIdentity, Value,
};
use pgstream_host::lsn::{Lsn, Position};
use pgstream_host::transform::WasmTransform;
use pgstream_host::transform::{Engine, Transform};

/// The component of `plugins/<name>`, built from its source. None, with a word on why, where the target is missing.
pub(crate) fn guest(name: &str) -> Option<PathBuf> {
    static BUILT: OnceLock<Option<Vec<PathBuf>>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build(&["documents-rust", "echo", "evil", "fetch", "noop", "points"]));
    let file = format!("{}.wasm", name.replace('-', "_"));
    built.as_ref()?.iter().find(|path| path.ends_with(&file)).cloned()
}

fn build(names: &[&str]) -> Option<Vec<PathBuf>> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let sysroot = PathBuf::from(String::from_utf8(sysroot.stdout).ok()?.trim_end());
    if !sysroot.join("lib/rustlib/wasm32-wasip2/lib").is_dir() {
        eprintln!("skipped: `rustup target add wasm32-wasip2` to test with components built from source");
        return None;
    }
    let output = script().args(names).output().unwrap();
    assert!(output.status.success(), "plugins/build.sh failed");
    Some(String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect())
}

/// `plugins/build.sh`, with the cargo that runs the tests.
pub(crate) fn script() -> Command {
    let mut command = Command::new(root().join("plugins/build.sh"));
    command.env("CARGO", std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())).stderr(Stdio::inherit());
    command
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The engine that the tests of this process share; it keeps what it compiled for the next run.
pub(crate) fn engine() -> &'static Engine {
    static SHARED: OnceLock<Engine> = OnceLock::new();
    SHARED.get_or_init(|| Engine::new(Some(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("components"))).unwrap())
}

pub(crate) type Embedders = IndexMap<String, Arc<dyn Embedder>>;

/// Settings as a pipeline file has them that says only where the component is.
pub(crate) fn settings(component: &Path) -> WasmTransform {
    WasmTransform {
        inputs: vec!["shop".into()],
        component: component.to_owned(),
        folder: None,
        config: Default::default(),
        embedders: vec![],
        columns: None,
        workers: 1,
        limits: Limits::default(),
        rejections: Rejections::default(),
        ids: Default::default(),
        allow: Default::default(),
    }
}

/// A transform `embed`, with the shared engine.
pub(crate) fn load(settings: &WasmTransform, embedders: Embedders) -> Result<Transform> {
    Transform::load(&pgstream_host::transform::Tenant::lone(engine()), engine(), "embed", settings, embedders)
}

/// A table `public.things` with the columns `id` and `what`.
pub(crate) fn things() -> Arc<Relation> {
    relation("things", &[("id", "int8", true), ("what", "text", false)])
}

pub(crate) fn relation(table: &str, columns: &[(&str, &str, bool)]) -> Arc<Relation> {
    let column = |&(name, type_name, key): &(&str, &str, bool)| Column {
        name: name.into(),
        type_name: type_name.into(),
        type_oid: 0,
        type_modifier: -1,
        key,
    };
    Arc::new(Relation {
        id: 1,
        schema: "public".into(),
        table: table.into(),
        replica_identity: ReplicaIdentity::Default,
        columns: columns.iter().map(column).collect(),
        naming: Naming::Alone,
    })
}

/// An event for [`batch`]: what happened to which row.
pub(crate) struct Change<'a> {
    pub(crate) relation: Arc<Relation>,
    pub(crate) operation: Operation,
    pub(crate) row: Vec<Value<'a>>,
    pub(crate) old_row: Option<Vec<Value<'a>>>,
}

impl<'a> Change<'a> {
    pub(crate) fn new(relation: &Arc<Relation>, operation: Operation, row: Vec<Value<'a>>) -> Self {
        Self { relation: Arc::clone(relation), operation, row, old_row: None }
    }
}

/// One transaction with these changes, whose commit record lies at 0/16B3748.
pub(crate) fn batch(changes: &[Change<'_>]) -> Arc<Batch> {
    Arc::new(batch_at(0x16B_3748, changes))
}

fn batch_at(lsn: u64, changes: &[Change<'_>]) -> Batch {
    let mut builder = BatchBuilder::default();
    builder.push_frame(Bytes::new());
    for (ordinal, change) in (0..).zip(changes) {
        let row = push_row(&mut builder, &change.row);
        let old_row = change.old_row.as_ref().map(|row| push_row(&mut builder, row));
        let head = EventHead {
            operation: change.operation,
            position: Position { lsn: Lsn(lsn), ordinal },
            commit_time: -1,
            xid: u32::MAX,
            snapshot: false,
            replayed: false,
        };
        builder.push_event(&change.relation, head, row, old_row);
    }
    builder.end_at(Lsn(lsn + 0xB8));
    builder.take()
}

/// A batch of inserts into `things` whose column `what` holds these words.
pub(crate) fn words(words: &[&str]) -> Arc<Batch> {
    Arc::new(words_at(0x16B_3748, words))
}

/// As [`words`], in a transaction whose commit record lies at `lsn`.
pub(crate) fn words_at(lsn: u64, words: &[&str]) -> Batch {
    let things = things();
    let insert = |(id, word)| Change::new(&things, Operation::Insert, vec![Value::Int(id), Value::Text(word)]);
    batch_at(lsn, &(0..).zip(words.iter().copied()).map(insert).collect::<Vec<_>>())
}

fn push_row(builder: &mut BatchBuilder, row: &[Value<'_>]) -> std::ops::Range<u32> {
    let start = builder.row_start();
    for value in row {
        let cell = cell(builder, value);
        builder.push_cell(cell);
    }
    start..builder.row_start()
}

fn cell(builder: &mut BatchBuilder, value: &Value<'_>) -> Cell {
    let mut slice = |kind, bytes: &[u8]| {
        let derived = builder.derived();
        let start = derived.len() as u32;
        derived.extend_from_slice(bytes);
        Cell::Slice { kind, place: Place::Derived, start, len: bytes.len() as u32 }
    };
    match *value {
        Value::Null => Cell::Null,
        Value::Unchanged => Cell::Unchanged,
        Value::Bool(value) => Cell::Bool(value),
        Value::Int(value) => Cell::Int(value),
        Value::Float(value) => Cell::Float(value),
        Value::Timestamp(value) => Cell::Timestamp(value),
        Value::Date(value) => Cell::Date(value),
        Value::Time(value) => Cell::Time(value),
        Value::Numeric(text) => slice(Kind::Numeric, text.as_bytes()),
        Value::Text(text) => slice(Kind::Text, text.as_bytes()),
        Value::Bytes(bytes) => slice(Kind::Bytes, bytes),
        Value::Uuid(text) => slice(Kind::Uuid, text.as_bytes()),
        Value::Json(text) => slice(Kind::Json, text.as_bytes()),
        Value::Other(text) => slice(Kind::Other, text.as_bytes()),
        Value::Vector(values) => {
            let floats = builder.floats();
            let start = floats.len() as u32;
            floats.extend_from_slice(values);
            Cell::Vector { start, len: values.len() as u32 }
        }
    }
}

//! `Engine`: Qdrant's shard in a folder. All of it blocks.
//!
//! Duties that version 0.7 of the crate leaves to its user, and that this file fulfils:
//! - The shard's log is never read again after a crash; only a flush makes writes durable.
//! - A flush panics while an update or the optimizer runs, so the three take turns. Searches need
//!   no turn.
//! - The log never shrinks. Its closed files are only kept for the numbering of operations, to
//!   which the newest one is enough; the others can go while the shard is closed.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use qdrant_edge::{
    Distance as Metric, EdgeConfig, EdgeShard, EdgeSparseVectorParams, EdgeVectorParams, Filter, NamedQuery,
    OperationError, OperationResult, QueryEnum, ScrollRequest, SearchRequest, VectorInternal, WalOptions,
    WithPayloadInterface,
};
use serde_json::{Map, Value};

use super::ground::Ground;
use super::lock::Lock;
use super::operation::{self, Step};
use crate::config::model::Distance;
use crate::error::{Code, Error, Fault, Result};
use crate::sabotage::Breakage;
use crate::sink::spaces::{Space, Spaces};
use crate::sink::{Hit, Query, stored};

/// Size of a file of the shard's log; the crate's own 32 MiB would be most of a small folder.
const LOG_FILE_BYTES: usize = 8 << 20;

/// Closed files of the log at which the shard is opened anew to be rid of them: a quarter of a
/// gibibyte, because opening a large shard takes seconds.
const MAX_LOG_FILES: usize = 32;

/// Points read at once to merge payloads, each of which may be as large as a handler's answer.
const PAGE: usize = 32;

/// Written when the shard is made; without it there is none.
const CONFIG_FILE: &str = "edge_config.json";

/// An open folder.
#[derive(Debug)]
pub(super) struct Engine {
    path: Ground,
    spaces: Spaces,
    /// The turn, which whoever changes the shard must hold.
    turn: Mutex<()>,
    /// None once closed, or if the shard could not be opened anew.
    shard: RwLock<Option<Open>>,
    max_log_files: usize,
}

/// The folder is ours until the shard is closed: a tuple drops in order.
type Open = (EdgeShard, Lock);

impl Engine {
    /// Tells if there is a shard in the folder.
    pub(super) fn exists(path: &Ground) -> bool {
        path.join(CONFIG_FILE).exists()
    }

    /// Opens what is in the folder, which `wanted` is compared with, or makes it.
    pub(super) fn start(path: &Ground, lock: Lock, wanted: Option<&Spaces>) -> Result<Self> {
        Self::start_with(path, lock, wanted, LOG_FILE_BYTES, MAX_LOG_FILES)
    }

    fn start_with(
        path: &Ground,
        lock: Lock,
        wanted: Option<&Spaces>,
        log_file_bytes: usize,
        max_log_files: usize,
    ) -> Result<Self> {
        let shard = match wanted {
            Some(wanted) if !Self::exists(path) => {
                let options = WalOptions { segment_capacity: log_file_bytes, ..WalOptions::default() };
                EdgeShard::new(path.path(), config(wanted, options)).map_err(|error| failed(path, error))?
            }
            _ => load(path)?,
        };
        let spaces = spaces(&shard.config());
        let engine = Self {
            path: path.clone(),
            spaces,
            turn: Mutex::default(),
            shard: RwLock::new(Some((shard, lock))),
            max_log_files,
        };
        wanted.map_or(Ok(()), |wanted| engine.compare(wanted))?;
        if wanted.is_some() && !engine.indexes_groups()? {
            engine.write([Step::Operation(operation::index_groups()?)])?;
        }
        Ok(engine)
    }

    /// Refuses a shard that lacks what is wanted.
    pub(super) fn compare(&self, wanted: &Spaces) -> Result<()> {
        let folder = self.path.display();
        self.spaces.check(wanted, &format!("folder `{folder}`"), &format!("write to a new folder: `path: {folder}-2`"))
    }

    /// The vectors that the shard holds.
    pub(super) fn spaces(&self) -> &Spaces {
        &self.spaces
    }

    /// Carries out steps one after the other, as they come; durable when it returns.
    pub(super) fn write(&self, steps: impl IntoIterator<Item = Step>) -> Result<()> {
        let _turn = self.turn();
        let guard = self.shard();
        let shard = &self.open(&guard)?.0;
        for step in steps {
            match step {
                Step::Operation(operation) => shard.update(operation),
                Step::Merge { filter, patch } => merge(shard, &filter, &patch),
            }
            .map_err(|error| refused(&self.path, error))?;
        }
        if !Breakage::NotFlushed.is_on() {
            shard.flush();
        }
        drop(guard);
        self.shorten_log(self.max_log_files)
    }

    /// Builds and merges what is worth it, such as the graphs of segments that have grown; most
    /// often nothing.
    pub(super) fn optimize(&self) -> Result<bool> {
        let _turn = self.turn();
        let guard = self.shard();
        let shard = &self.open(&guard)?.0;
        let some = shard.optimize().map_err(|error| failed(&self.path, error))?;
        if some {
            shard.flush();
        }
        Ok(some)
    }

    /// The nearest points.
    pub(super) fn search(&self, query: &Query<'_>) -> Result<Vec<Hit>> {
        let distance = self.spaces.searchable(query)?;
        let using = (!query.vector.is_empty()).then(|| query.vector.to_owned());
        let nearest = NamedQuery { query: VectorInternal::Dense(query.values.to_vec()), using };
        let request = SearchRequest {
            query: QueryEnum::Nearest(nearest),
            filter: None,
            params: None,
            limit: query.limit,
            offset: 0,
            with_payload: Some(WithPayloadInterface::Bool(true)),
            with_vector: None,
            score_threshold: None,
        };
        let guard = self.shard();
        let found = self.open(&guard)?.0.search(request).map_err(|error| failed(&self.path, error))?;
        let hits = found.into_iter().map(|point| {
            let score = if distance == Distance::Euclid { -point.score } else { point.score };
            let payload = point.payload.map(|payload| payload.0).unwrap_or_default();
            stored::hit(operation::host_id(point.id), score, payload)
        });
        Ok(hits.collect())
    }

    /// Closes the shard and opens it anew without the old files of its log, once there are `limit`
    /// of them.
    fn shorten_log(&self, limit: usize) -> Result<()> {
        if closed_log_files(&self.path).map_err(|error| unreadable(&self.path, error))?.len() < limit {
            return Ok(());
        }
        let mut open = self.shard.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((shard, lock)) = open.take() {
            drop(shard);
            *open = Some((load(&self.path)?, lock));
        }
        Ok(())
    }

    /// Gives the folder up. Waits for searches and for the optimizer.
    pub(super) fn close(&self) {
        let _turn = self.turn();
        self.shard.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn indexes_groups(&self) -> Result<bool> {
        let key = operation::group_key()?;
        let guard = self.shard();
        Ok(self.open(&guard)?.0.info().payload_schema.contains_key(&key))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self) -> RwLockReadGuard<'_, Option<Open>> {
        self.shard.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn open<'a>(&self, guard: &'a RwLockReadGuard<'_, Option<Open>>) -> Result<&'a Open> {
        guard.as_ref().ok_or_else(|| {
            Error::new(Fault::Environment, format!("folder `{}` was closed", self.path.display()))
                .help("start the pipeline again")
        })
    }
}

/// The points that the filter finds do not change while their payloads are written: no patch
/// touches the group.
fn merge(shard: &EdgeShard, filter: &Filter, patch: &Map<String, Value>) -> OperationResult<()> {
    let mut offset = None;
    loop {
        let request = ScrollRequest {
            offset,
            limit: Some(PAGE),
            filter: Some(filter.clone()),
            with_payload: Some(WithPayloadInterface::Bool(true)),
            ..ScrollRequest::default()
        };
        let (points, next) = shard.scroll(request)?;
        for point in points {
            let mut payload = point.payload.map(|payload| payload.0).unwrap_or_default();
            payload.extend(patch.clone());
            shard.update(operation::overwrite(point.id, payload))?;
        }
        match next {
            Some(_) => offset = next,
            None => return Ok(()),
        }
    }
}

fn load(path: &Ground) -> Result<EdgeShard> {
    // What a killed optimizer left half built.
    match fs::remove_dir_all(path.join("temp_segments")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unreadable(path, error)),
        _ => {}
    }
    let mut files = closed_log_files(path).map_err(|error| unreadable(path, error))?;
    files.pop();
    for (_, file) in files {
        fs::remove_file(file).map_err(|error| unreadable(path, error))?;
    }
    EdgeShard::load(path.path(), None).map_err(|error| failed(path, error))
}

/// The files of the log that are no longer appended to, by the number of their first operation.
fn closed_log_files(path: &Ground) -> io::Result<Vec<(u64, PathBuf)>> {
    let folder = match fs::read_dir(path.join("wal")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        folder => folder?,
    };
    let mut files = Vec::new();
    for entry in folder {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(Ok(first)) = name.to_str().and_then(|name| name.strip_prefix("closed-")).map(str::parse) {
            files.push((first, entry.path()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn config(wanted: &Spaces, log: WalOptions) -> EdgeConfig {
    let mut config = EdgeConfig { wal_options: Some(log), ..EdgeConfig::default() };
    for (name, space) in &wanted.0 {
        match space {
            Space::Dense { dimension, distance } => {
                let metric = match distance {
                    Distance::Cosine => Metric::Cosine,
                    Distance::Dot => Metric::Dot,
                    Distance::Euclid => Metric::Euclid,
                };
                config.vectors.insert(name.clone(), EdgeVectorParams::builder(*dimension, metric).build());
            }
            Space::Sparse => drop(config.sparse_vectors.insert(name.clone(), EdgeSparseVectorParams::default())),
            Space::Other(_) => {}
        }
    }
    config
}

fn spaces(config: &EdgeConfig) -> Spaces {
    let dense = config.vectors.iter().map(|(name, params)| {
        let dense = |distance| Space::Dense { dimension: params.size, distance };
        let space = match params.distance {
            _ if params.multivector_config.is_some() => Space::Other("a multivector".to_owned()),
            Metric::Cosine => dense(Distance::Cosine),
            Metric::Dot => dense(Distance::Dot),
            Metric::Euclid => dense(Distance::Euclid),
            Metric::Manhattan => Space::Other("compared by Manhattan".to_owned()),
        };
        (name.clone(), space)
    });
    Spaces(dense.chain(config.sparse_vectors.keys().map(|name| (name.clone(), Space::Sparse))).collect())
}

fn failed(path: &Ground, error: OperationError) -> Error {
    Error::new(Fault::Environment, format!("the engine in folder `{}` failed", path.display()))
        .because(error)
        .help("look for a full disk or damaged files; nothing of the last delivery was confirmed")
}

/// As [`failed`], for a write. What the engine says of a point carries [`Code::Sink`], because it
/// may concern a single command.
fn refused(path: &Ground, error: OperationError) -> Error {
    match error {
        OperationError::WrongVectorDimension { .. }
        | OperationError::VectorNameNotExists { .. }
        | OperationError::TypeError { .. }
        | OperationError::ValidationError { .. }
        | OperationError::WrongSparse
        | OperationError::WrongMulti => {
            Error::new(Fault::Data, format!("the engine in folder `{}` refuses a point", path.display()))
                .because(error)
                .code(Code::Sink)
        }
        _ => failed(path, error),
    }
}

fn unreadable(path: &Ground, error: io::Error) -> Error {
    Error::new(Fault::Environment, format!("folder `{}` cannot be used", path.display()))
        .because(error)
        .help("the folder must be readable and writable for the host")
}

#[cfg(test)]
mod tests {
    use super::super::lock::Role;
    use super::*;
    use crate::command::{Action, Command, Embedding, Point};
    use crate::lsn::Position;
    use crate::sink::WriteSet;
    use crate::sink::spaces::Space;

    fn spaces(dimension: usize) -> Spaces {
        Spaces([(String::new(), Space::Dense { dimension, distance: Distance::Dot })].into())
    }

    fn lock(path: &Ground) -> Lock {
        Lock::try_take(path, Role::Run).unwrap().unwrap()
    }

    /// Writes points `from..to`, whose first number is their own.
    fn write(engine: &Engine, dimension: usize, from: u64, to: u64) {
        write_further(engine, dimension, from, to, 0);
    }

    /// As `write`, with `by` added to the first number.
    fn write_further(engine: &Engine, dimension: usize, from: u64, to: u64, by: u64) {
        let commands: Vec<Command> = (from..to)
            .map(|n| {
                let mut values: Vec<f32> = (0..dimension).map(|i| ((n * 31 + i as u64 * 17) % 97) as f32).collect();
                values[0] = (n + by) as f32;
                let embeddings = vec![(String::new(), Embedding::Dense(values))];
                let point = Point { id: n.to_string(), embeddings, payload: "{}".to_owned() };
                Command { position: Position::default(), action: Action::Upsert(point) }
            })
            .collect();
        let commands: Vec<&Command> = commands.iter().collect();
        let set = WriteSet::coalesce(&commands);
        engine.write(operation::steps(&set, engine.spaces()).map(Result::unwrap)).unwrap();
    }

    fn nearest(engine: &Engine, dimension: usize, limit: usize) -> Vec<String> {
        let mut values = vec![0.0; dimension];
        values[0] = 1.0;
        let hits = engine.search(&Query { vector: "", values: &values, limit }).unwrap();
        hits.into_iter().map(|hit| hit.id).collect()
    }

    #[test]
    fn the_log_stays_short_and_the_numbering_of_operations_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = &Ground::from(folder.path());
        let start = || Engine::start_with(path, lock(path), Some(&spaces(4)), 16 << 10, 4).unwrap();
        let engine = start();
        for round in 0..20 {
            write(&engine, 4, 0, 400);
            // Overwrites a point: under a number that fell back it would be ignored.
            write_further(&engine, 4, round, round + 1, 1000 * (round + 1));
            assert_eq!(nearest(&engine, 4, 2), [round.to_string(), "399".to_owned()]);
            assert!(closed_log_files(path).unwrap().len() <= 4);
        }
        drop(engine);
        let engine = start();
        write_further(&engine, 4, 7, 8, 100_000);
        assert_eq!(nearest(&engine, 4, 2), ["7", "19"]);
    }

    #[test]
    fn the_optimizer_builds_a_graph_and_searches_still_find_the_nearest() {
        let folder = tempfile::tempdir().unwrap();
        let path = &Ground::from(folder.path());
        let engine = Engine::start(path, lock(path), Some(&spaces(384))).unwrap();
        write(&engine, 384, 0, 100);
        assert!(!engine.optimize().unwrap(), "a small segment is not worth it");
        write(&engine, 384, 100, 8000); // 12 MB, and the engine indexes from 10 MB on
        let indexed = || engine.open(&engine.shard()).unwrap().0.info().indexed_vectors_count;
        assert_eq!(indexed(), 0);
        assert!(engine.optimize().unwrap());
        assert!(indexed() > 0);
        assert_eq!(nearest(&engine, 384, 1), ["7999"]);
        write(&engine, 384, 8000, 8001);
        assert_eq!(nearest(&engine, 384, 1), ["8000"]);
        drop(engine);
        let engine = Engine::start(path, lock(path), None).unwrap();
        assert_eq!(nearest(&engine, 384, 2), ["8000", "7999"]);
    }
}

//! A `WriteSet` as requests: phases that follow one another, of requests that may be in flight together.

use std::collections::HashMap;
use std::mem;

use qdrant_client::Payload as WirePayload;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::{
    DeletePoints, Operation, OverwritePayload, PointStructList, SetPayload,
};
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::vector::Vector as WireVector;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::{
    Condition, DenseVector, Filter, NamedVectors, PointId as WireId, PointStruct, PointsIdsList, PointsSelector,
    PointsUpdateOperation, RetrievedPoint, SparseVector, Vector, Vectors,
};
use serde_json::{Map, Value};

use crate::command::{Embedding, Point};
use crate::error::{Code, Error, Fault, Result};
use crate::lsn::Position;
use crate::sink::point_id::{GROUP_KEY, PointId};
use crate::sink::spaces::Spaces;
use crate::sink::{GroupDelete, PatchRun, WriteSet, stored};

/// Operations that one request carries out one after the other.
pub(super) type Operations = Vec<PointsUpdateOperation>;

/// Requests that may be in flight together.
pub(super) type Phase = Vec<Request>;

/// One request, or several that follow one another.
pub(super) enum Request {
    Update(Operations),
    Merge(Merge),
}

/// Patches that set a key to null, which the server's own patch takes for the wish to remove the key: the payloads of
/// the points that the filter finds have to be read, merged here, and written anew.
pub(super) struct Merge {
    pub(super) filter: Filter,
    by_group: bool,
    /// By the stored id as text, or by group.
    patches: HashMap<String, Map<String, Value>>,
}

impl Merge {
    /// The writes for a page of points that the filter found.
    pub(super) fn operations(&self, points: Vec<RetrievedPoint>) -> Operations {
        points.into_iter().filter_map(|point| self.operation(point)).collect()
    }

    fn operation(&self, point: RetrievedPoint) -> Option<PointsUpdateOperation> {
        let id = point.id?;
        let mut payload = point.payload;
        let patch = if self.by_group {
            let Some(Kind::StringValue(group)) = &payload.get(GROUP_KEY)?.kind else { return None };
            self.patches.get(group)
        } else {
            self.patches.get(&host_id(id.clone())?.to_string())
        };
        payload.extend(patch?.iter().map(|(key, value)| (key.clone(), value.clone().into())));
        let selector = PointsSelectorOneOf::Points(PointsIdsList { ids: vec![id] });
        let points_selector = Some(PointsSelector { points_selector_one_of: Some(selector) });
        Some(operation(Operation::OverwritePayload(OverwritePayload {
            payload,
            points_selector,
            ..Default::default()
        })))
    }
}

/// Points, ids or patches in a request: enough to make the round trip small, few enough to spread over requests.
const MAX_ITEMS: usize = 256;

/// Bytes of a request, roughly. A server refuses messages of more than 32 MiB, whatever stands in them.
const MAX_BYTES: usize = 4 << 20;

/// How deep a payload may nest: each level of JSON takes three of protobuf, of which servers read one hundred.
const MAX_DEPTH: usize = 30;

/// The requests for everything that is to do, with all of it checked.
///
/// Points are written before what they replace is deleted: a server that refuses the points then still has what was there
/// before. The outcome is that of a [`WriteSet`]'s own order, because no point that is written is deleted by id, and those
/// written under a group are spared when the group is deleted.
pub(super) fn phases(set: &WriteSet<'_>, spaces: &Spaces) -> Result<Vec<Phase>> {
    let mut phases = Vec::new();
    if set.clear {
        phases.push(vec![Request::Update(vec![delete(Filter::default())])]);
    }
    phases.push(upserts(set, spaces)?);
    phases.push(delete_groups(&set.delete_groups));
    let delete_ids = |ids: &[&str]| Request::Update(vec![delete(Filter::must([has_id(ids)]))]);
    phases.push(set.delete_ids.chunks(MAX_ITEMS).map(delete_ids).collect());
    for run in &set.patches {
        phases.push(patches(run)?);
    }
    phases.retain(|phase| !phase.is_empty());
    Ok(phases)
}

/// Groups share a request, and so the ids that are to stay. To spare a point of another group of the request changes
/// nothing: it was just written under that group.
fn delete_groups(groups: &[GroupDelete<'_>]) -> Phase {
    let mut phase = Phase::new();
    let (mut names, mut keep) = (Vec::new(), Vec::new());
    let mut request = |names: &mut Vec<String>, keep: &mut Vec<&str>| {
        let groups = Condition::matches(GROUP_KEY, mem::take(names));
        let mut filter = Filter::must([groups]);
        if !keep.is_empty() {
            filter.must_not = vec![has_id(keep)];
        }
        keep.clear();
        phase.push(Request::Update(vec![delete(filter)]));
    };
    for group in groups {
        names.push(group.group.to_owned());
        keep.extend(&group.keep);
        if names.len() + keep.len() >= MAX_ITEMS {
            request(&mut names, &mut keep);
        }
    }
    if !names.is_empty() {
        request(&mut names, &mut keep);
    }
    phase
}

fn upserts(set: &WriteSet<'_>, spaces: &Spaces) -> Result<Phase> {
    let mut chunks = Chunks::default();
    for upsert in &set.upserts {
        spaces.admit(upsert.point, upsert.position)?;
        let payload = stored::payload(upsert)?;
        shallow(&payload, upsert.position)?;
        let point = PointStruct {
            id: Some(wire_id(&upsert.point.id)),
            payload: WirePayload::from(payload).into(),
            vectors: Some(vectors(upsert.point)),
        };
        chunks.push(point, upsert.point.bytes());
    }
    let request =
        |points| Request::Update(vec![operation(Operation::Upsert(PointStructList { points, ..Default::default() }))]);
    Ok(chunks.finish().into_iter().map(request).collect())
}

fn patches(run: &PatchRun<'_>) -> Result<Phase> {
    let by_group = matches!(run, PatchRun::Groups(_));
    let (PatchRun::Ids(patches) | PatchRun::Groups(patches)) = run;
    let mut plain = Chunks::default();
    let mut with_null = Chunks::default();
    for patch in patches {
        let text = patch.payload.text()?;
        let payload = stored::handlers(&text, patch.position)?;
        shallow(&payload, patch.position)?;
        if payload.is_empty() {
            continue;
        }
        if payload.values().any(Value::is_null) {
            with_null.push((patch.target, payload), text.len());
            continue;
        }
        let set = SetPayload {
            payload: WirePayload::from(payload).into(),
            points_selector: Some(by_filter(targets(by_group, &[patch.target]))),
            ..Default::default()
        };
        plain.push(operation(Operation::SetPayload(set)), text.len());
    }
    let merge = |patches: Vec<(&str, Map<String, Value>)>| {
        let names: Vec<&str> = patches.iter().map(|(target, _)| *target).collect();
        let key = |target: &str| if by_group { target.to_owned() } else { PointId::of(target).to_string() };
        let patches = patches.into_iter().map(|(target, payload)| (key(target), payload)).collect();
        Request::Merge(Merge { filter: targets(by_group, &names), by_group, patches })
    };
    let plain = plain.finish().into_iter().map(Request::Update);
    Ok(plain.chain(with_null.finish().into_iter().map(merge)).collect())
}

/// By filter even for ids: a list of them would make a missing point an error.
fn targets(by_group: bool, names: &[&str]) -> Filter {
    Filter::must([if by_group {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Condition::matches(GROUP_KEY, names)
    } else {
        has_id(names)
    }])
}

/// The id of a point that the server sent.
pub(super) fn host_id(id: WireId) -> Option<PointId> {
    match id.point_id_options? {
        PointIdOptions::Num(number) => Some(PointId::Number(number)),
        PointIdOptions::Uuid(text) => uuid::Uuid::try_parse(&text).ok().map(PointId::Uuid),
    }
}

fn wire_id(id: &str) -> WireId {
    let options = match PointId::of(id) {
        PointId::Number(number) => PointIdOptions::Num(number),
        PointId::Uuid(uuid) => PointIdOptions::Uuid(uuid.to_string()),
    };
    WireId { point_id_options: Some(options) }
}

fn vectors(point: &Point) -> Vectors {
    let wire = |embedding: &Embedding| {
        let vector = match embedding {
            Embedding::Dense(data) => WireVector::Dense(DenseVector { data: data.clone() }),
            Embedding::Sparse { indices, values } => {
                WireVector::Sparse(SparseVector { indices: indices.clone(), values: values.clone() })
            }
            Embedding::Text(_) => WireVector::Dense(DenseVector::default()), // refused by `Spaces::admit`
        };
        Vector { vector: Some(vector), ..Default::default() }
    };
    let vectors = point.embeddings.iter().map(|(name, embedding)| (name.clone(), wire(embedding))).collect();
    Vectors { vectors_options: Some(VectorsOptions::Vectors(NamedVectors { vectors })) }
}

fn shallow(payload: &Map<String, Value>, position: Position) -> Result<()> {
    if payload.values().all(|value| fits(value, MAX_DEPTH)) {
        return Ok(());
    }
    Err(Error::new(Fault::Handler, format!("a payload nests deeper than the {MAX_DEPTH} levels that Qdrant reads"))
        .code(Code::Sink)
        .at(format!("event {position}"))
        .help("flatten the payload in the handler, or store what lies deeper as text"))
}

fn fits(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(values) => depth > 0 && values.iter().all(|value| fits(value, depth - 1)),
        Value::Object(members) => depth > 0 && members.values().all(|value| fits(value, depth - 1)),
        _ => true,
    }
}

fn has_id(ids: &[&str]) -> Condition {
    Condition::has_id(ids.iter().map(|id| wire_id(id)))
}

fn delete(filter: Filter) -> PointsUpdateOperation {
    operation(Operation::DeletePoints(DeletePoints { points: Some(by_filter(filter)), ..Default::default() }))
}

fn by_filter(filter: Filter) -> PointsSelector {
    PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Filter(filter)) }
}

fn operation(operation: Operation) -> PointsUpdateOperation {
    PointsUpdateOperation { operation: Some(operation) }
}

/// Gathers items until a request is full.
struct Chunks<T> {
    full: Vec<Vec<T>>,
    open: Vec<T>,
    bytes: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { full: Vec::new(), open: Vec::new(), bytes: 0 }
    }
}

impl<T> Chunks<T> {
    fn push(&mut self, item: T, bytes: usize) {
        if self.open.len() >= MAX_ITEMS || self.bytes + bytes > MAX_BYTES {
            self.close();
        }
        self.open.push(item);
        self.bytes += bytes;
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.full.push(mem::take(&mut self.open));
        }
        self.bytes = 0;
    }

    fn finish(mut self) -> Vec<Vec<T>> {
        self.close();
        self.full
    }
}

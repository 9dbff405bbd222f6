//! A `WriteSet` as requests: phases that follow one another, of requests that may be in flight
//! together.

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
    PointsUpdateOperation, RetrievedPoint, SparseVector, Value as WireValue, Vector, Vectors,
};
use serde_json::{Map, Value};

use crate::command::{Embedding, Point};
use crate::error::{Code, Error, Fault, Result};
use crate::lsn::Position;
use crate::sink::chunks::chunks;
use crate::sink::point_id::{GROUP_KEY, PointId};
use crate::sink::spaces::Spaces;
use crate::sink::{GroupDelete, PatchRun, Upsert, WriteSet, stored};

/// Operations that one request carries out one after the other.
pub(super) type Operations = Vec<PointsUpdateOperation>;

/// Requests that may be in flight together.
pub(super) type Phase<'a> = Vec<Request<'a>>;

/// One request, or several that follow one another.
pub(super) enum Request<'a> {
    /// Points to write. They are made into the server's only when their turn comes, while it works
    /// on those before.
    Upsert(Vec<&'a Upsert<'a>>),
    Update(Operations),
    Merge(Merge),
}

/// Patches that set a key to null, which the server's own patch takes for the wish to remove the
/// key: the payloads of the points that the filter finds have to be read, merged here, and written
/// anew.
pub(super) struct Merge {
    pub(super) filter: Filter,
    by_group: bool,
    /// By the stored id as text, or by group.
    patches: HashMap<String, Map<String, Value>>,
}

impl Merge {
    /// The writes for a page of points that the filter found, in requests that follow one another.
    pub(super) fn requests(&self, points: Vec<RetrievedPoint>) -> impl Iterator<Item = Operations> {
        chunks(points.into_iter().filter_map(|point| self.operation(point)), MAX_ITEMS, MAX_BYTES)
    }

    /// The write of a point, and roughly its bytes.
    fn operation(&self, point: RetrievedPoint) -> Option<(PointsUpdateOperation, usize)> {
        let id = point.id?;
        let mut payload = point.payload;
        let patch = if self.by_group {
            let Some(Kind::StringValue(group)) = &payload.get(GROUP_KEY)?.kind else { return None };
            self.patches.get(group)
        } else {
            self.patches.get(&host_id(id.clone())?.to_string())
        };
        payload.extend(patch?.iter().map(|(key, value)| (key.clone(), value.clone().into())));
        let bytes = fields(&payload);
        let selector = PointsSelectorOneOf::Points(PointsIdsList { ids: vec![id] });
        let points_selector = Some(PointsSelector { points_selector_one_of: Some(selector) });
        let overwrite = OverwritePayload { payload, points_selector, ..Default::default() };
        Some((operation(Operation::OverwritePayload(overwrite)), bytes))
    }
}

/// Roughly the bytes of a payload on the wire.
fn fields(payload: &HashMap<String, WireValue>) -> usize {
    payload.iter().map(|(key, value)| key.len() + bytes(value)).sum()
}

fn bytes(value: &WireValue) -> usize {
    const FRAME: usize = 16; // tags and lengths, or a number
    FRAME
        + match &value.kind {
            Some(Kind::StringValue(text)) => text.len(),
            Some(Kind::ListValue(list)) => list.values.iter().map(bytes).sum(),
            Some(Kind::StructValue(object)) => fields(&object.fields),
            _ => 0,
        }
}

/// Points, ids or patches in a request: enough to make the round trip small, few enough to spread
/// over requests.
const MAX_ITEMS: usize = 256;

/// Bytes of a request, roughly. A server refuses messages of more than 32 MiB, whatever stands in
/// them.
const MAX_BYTES: usize = 4 << 20;

/// The deepest nesting of a payload: each level of JSON takes three of protobuf, of which servers
/// read one hundred.
const MAX_DEPTH: usize = 30;

/// The requests for everything that is to do.
///
/// Points are written before what they replace is deleted: a server that refuses the points then
/// still has what was there before. The outcome is that of a [`WriteSet`]'s own order, because no
/// point that is written is deleted by id, and those written under a group are spared when the
/// group is deleted.
pub(super) fn phases<'a>(set: &'a WriteSet<'a>) -> Result<Vec<Phase<'a>>> {
    let mut phases = Vec::new();
    if set.clear {
        phases.push(vec![Request::Update(vec![delete(Filter::default())])]);
    }
    phases.push(upserts(set));
    phases.push(delete_groups(&set.delete_groups));
    let delete_ids = |ids: &[&str]| Request::Update(vec![delete(Filter::must([has_id(ids)]))]);
    phases.push(set.delete_ids.chunks(MAX_ITEMS).map(delete_ids).collect());
    for run in &set.patches {
        phases.push(patches(run)?);
    }
    phases.retain(|phase| !phase.is_empty());
    Ok(phases)
}

/// Groups share a request, and so the ids that are to stay. To spare a point of another group of
/// the request changes nothing: it was just written under that group.
fn delete_groups(groups: &[GroupDelete<'_>]) -> Phase<'static> {
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

fn upserts<'a>(set: &'a WriteSet<'a>) -> Phase<'a> {
    let upserts = set.upserts.iter().map(|upsert| (upsert, upsert.bytes()));
    chunks(upserts, MAX_ITEMS, MAX_BYTES).map(Request::Upsert).collect()
}

/// The operation that writes these points whole.
pub(super) fn upsert(upserts: &[&Upsert<'_>], spaces: &Spaces) -> Result<PointsUpdateOperation> {
    let point = |upsert: &&Upsert<'_>| {
        spaces.admit(upsert.point, upsert.position)?;
        let payload = stored::payload(upsert)?;
        shallow(&payload, upsert.position)?;
        Ok(PointStruct {
            id: Some(wire_id(&upsert.point.id)),
            payload: WirePayload::from(payload).into(),
            vectors: Some(vectors(upsert.point)),
        })
    };
    let points = upserts.iter().map(point).collect::<Result<_>>()?;
    Ok(operation(Operation::Upsert(PointStructList { points, ..Default::default() })))
}

fn patches(run: &PatchRun<'_>) -> Result<Phase<'static>> {
    let by_group = matches!(run, PatchRun::Groups(_));
    let (PatchRun::Ids(patches) | PatchRun::Groups(patches)) = run;
    let (mut plain, mut with_null) = (Vec::new(), Vec::new());
    for patch in patches {
        let text = patch.payload.text()?;
        let payload = stored::handlers(&text, patch.position)?;
        shallow(&payload, patch.position)?;
        if payload.is_empty() {
            continue;
        }
        if payload.values().any(Value::is_null) {
            with_null.push(((patch.target, payload), text.len()));
            continue;
        }
        let set = SetPayload {
            payload: WirePayload::from(payload).into(),
            points_selector: Some(by_filter(targets(by_group, &[patch.target]))),
            ..Default::default()
        };
        plain.push((operation(Operation::SetPayload(set)), text.len()));
    }
    let merge = |patches: Vec<(&str, Map<String, Value>)>| {
        let names: Vec<&str> = patches.iter().map(|(target, _)| *target).collect();
        let key = |target: &str| if by_group { target.to_owned() } else { PointId::of(target).to_string() };
        let patches = patches.into_iter().map(|(target, payload)| (key(target), payload)).collect();
        Request::Merge(Merge { filter: targets(by_group, &names), by_group, patches })
    };
    let plain = chunks(plain, MAX_ITEMS, MAX_BYTES).map(Request::Update);
    Ok(plain.chain(chunks(with_null, MAX_ITEMS, MAX_BYTES).map(merge)).collect())
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

//! Makes the collection or checks the one that is there, and indexes the key by which groups are
//! found.

use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    CollectionInfo, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, Distance as Metric, FieldType,
    SparseVectorParams, SparseVectorsConfigBuilder, VectorParams, VectorParamsBuilder, VectorParamsMap, VectorsConfig,
};
use tonic::Code;

use super::client::Client;
use super::fault::Peer;
use crate::config::model::Distance;
use crate::error::{Error, Fault, Result};
use crate::sink::point_id::GROUP_KEY;
use crate::sink::spaces::{Space, Spaces};

/// The beginning of the names of those indexes by which a collection is known. Each is on a key
/// that no payload has, so that it costs nothing, every version of the server keeps it, and no
/// search or count sees it.
const MARK: &str = "pgstream_mark_";

/// A collection that is there.
#[derive(Clone)]
pub(super) struct Collection {
    pub(super) spaces: Spaces,
    pub(super) marks: Vec<String>,
}

/// The collection, which exists from now on.
pub(super) async fn ensure(client: &Client, peer: &Peer, wanted: Option<Spaces>) -> Result<Collection> {
    let info = match (find(client, peer).await?, &wanted) {
        (Some(info), _) => info,
        (None, None) => return Err(peer.no_collection()),
        (None, Some(wanted)) => {
            let made = client.create_collection(request(peer.collection(), wanted)).await;
            match (find(client, peer).await?, made) {
                (Some(info), _) => info, // whoever made it
                (None, Err(error)) => return Err(peer.error(error)),
                (None, Ok(_)) => return Err(peer.no_collection()),
            }
        }
    };
    let spaces = fitting(&info, peer, wanted.as_ref())?;
    match info.payload_schema.get(GROUP_KEY).map(|schema| schema.data_type()) {
        None => index(client, peer, GROUP_KEY).await?,
        Some(qdrant_client::qdrant::PayloadSchemaType::Keyword) => {}
        Some(other) => {
            let what = format!("collection `{}` indexes `{GROUP_KEY}` as {}", peer.collection(), other.as_str_name());
            return Err(Error::new(Fault::Environment, what)
                .help(format!("the sink needs a keyword index: delete the index of `{GROUP_KEY}`, it is made anew")));
        }
    }
    let mut marks = marks(&info);
    if marks.is_empty() {
        let mark = format!("{MARK}{:016x}", rand::random::<u64>());
        index(client, peer, &mark).await?;
        marks.push(mark);
    }
    Ok(Collection { spaces, marks })
}

/// The collection as it is, or as it would be made. Makes nothing.
pub(super) async fn look(client: &Client, peer: &Peer, wanted: Option<Spaces>) -> Result<Collection> {
    match (find(client, peer).await?, wanted) {
        (Some(info), wanted) => Ok(Collection { spaces: fitting(&info, peer, wanted.as_ref())?, marks: marks(&info) }),
        (None, Some(spaces)) => Ok(Collection { spaces, marks: Vec::new() }),
        (None, None) => Err(peer.no_collection()),
    }
}

/// Refuses a collection that was made anew since it was opened.
pub(super) async fn stands(client: &Client, peer: &Peer, known: &[String]) -> Result<()> {
    let info = find(client, peer).await?.ok_or_else(|| peer.no_collection())?;
    if marks(&info).iter().any(|mark| known.contains(mark)) {
        return Ok(());
    }
    let what = format!("collection `{}` was deleted and made anew while the sink was using it", peer.collection());
    Err(Error::new(Fault::Environment, what)
        .because("points that were written before count as durable, and do not come again")
        .help("bring them over anew: `pgstream-host resnapshot <pipeline file>`, then start the pipeline"))
}

/// The vectors of the collection, if they are those that `create` asks for.
fn fitting(info: &CollectionInfo, peer: &Peer, wanted: Option<&Spaces>) -> Result<Spaces> {
    let spaces = spaces(info);
    if let Some(wanted) = wanted {
        let there = format!("collection `{}`", peer.collection());
        let mend = format!("write to a new collection: `collection: {}-2`", peer.collection());
        spaces.check(wanted, &there, &mend)?;
    }
    Ok(spaces)
}

fn marks(info: &CollectionInfo) -> Vec<String> {
    info.payload_schema.keys().filter(|key| key.starts_with(MARK)).cloned().collect()
}

async fn index(client: &Client, peer: &Peer, key: &str) -> Result<()> {
    let index = CreateFieldIndexCollectionBuilder::new(peer.collection(), key, FieldType::Keyword);
    client.create_field_index(index.wait(true)).await.map(drop).map_err(|error| peer.error(error))
}

async fn find(client: &Client, peer: &Peer) -> Result<Option<CollectionInfo>> {
    match client.collection_info(peer.collection()).await {
        Ok(response) => Ok(response.result),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(peer.error(status)),
    }
}

fn request(collection: &str, wanted: &Spaces) -> CreateCollectionBuilder {
    let mut request = CreateCollectionBuilder::new(collection);
    let mut dense = VectorParamsMap::default();
    let mut sparse = SparseVectorsConfigBuilder::default();
    let mut some_sparse = false;
    for (name, space) in &wanted.0 {
        match space {
            Space::Dense { dimension, distance } => {
                let params = VectorParamsBuilder::new(*dimension as u64, metric(*distance)).build();
                dense.map.insert(name.clone(), params);
            }
            Space::Sparse => {
                sparse.add_named_vector_params(name.as_str(), SparseVectorParams::default());
                some_sparse = true;
            }
            Space::Other(_) => {}
        }
    }
    if some_sparse {
        request = request.sparse_vectors_config(sparse);
    }
    // A single default vector has a form of its own, which older clients understand too.
    let config = match dense.map.remove("") {
        Some(params) if dense.map.is_empty() => Some(Config::Params(params)),
        Some(params) => {
            dense.map.insert(String::new(), params);
            Some(Config::ParamsMap(dense))
        }
        None if dense.map.is_empty() => None,
        None => Some(Config::ParamsMap(dense)),
    };
    match config {
        Some(config) => request.vectors_config(VectorsConfig { config: Some(config) }),
        None => request,
    }
}

fn spaces(info: &CollectionInfo) -> Spaces {
    let Some(params) = info.config.as_ref().and_then(|config| config.params.as_ref()) else {
        return Spaces::default();
    };
    let mut spaces = Spaces::default();
    match params.vectors_config.as_ref().and_then(|vectors| vectors.config.as_ref()) {
        Some(Config::Params(params)) => drop(spaces.0.insert(String::new(), space(params))),
        Some(Config::ParamsMap(named)) => {
            spaces.0.extend(named.map.iter().map(|(name, params)| (name.clone(), space(params))));
        }
        None => {}
    }
    let sparse = params.sparse_vectors_config.iter().flat_map(|config| config.map.keys());
    spaces.0.extend(sparse.map(|name| (name.clone(), Space::Sparse)));
    spaces
}

fn space(params: &VectorParams) -> Space {
    let distance = match params.distance() {
        Metric::Cosine => Distance::Cosine,
        Metric::Dot => Distance::Dot,
        Metric::Euclid => Distance::Euclid,
        other @ (Metric::Manhattan | Metric::UnknownDistance) => {
            return Space::Other(format!("compared by {}", other.as_str_name()));
        }
    };
    if params.multivector_config.is_some() {
        return Space::Other("a multivector".to_owned());
    }
    Space::Dense { dimension: usize::try_from(params.size).unwrap_or(usize::MAX), distance }
}

fn metric(distance: Distance) -> Metric {
    match distance {
        Distance::Cosine => Metric::Cosine,
        Distance::Dot => Metric::Dot,
        Distance::Euclid => Metric::Euclid,
    }
}

//! Handlers in the host: what they get, what they answer, what they are refused, and what remains of a call that failed.

mod abi;
mod bombs;
mod contract;
pub(crate) mod http;
mod limits;
mod refusals;
mod sandbox;
mod values;
mod workers;

pub(crate) use sandbox::Log;

use pgstream_host::command::Action;
use pgstream_host::error::{Error, Result};
use pgstream_host::transform::WasmTransform;
use pgstream_host::transform::{Output, Transform};

use crate::guests::{Embedders, guest, load, settings, words};

/// `plugins/evil`, with settings that a test may change first. None where guests cannot be built.
fn evil(change: impl FnOnce(&mut WasmTransform)) -> Option<Transform> {
    evil_with(change, Embedders::new())
}

fn evil_with(change: impl FnOnce(&mut WasmTransform), embedders: Embedders) -> Option<Transform> {
    let mut settings = settings(&guest("evil")?);
    change(&mut settings);
    Some(load(&settings, embedders).unwrap())
}

/// Has the guest do what the word says, in a batch of one event.
async fn tell(transform: &Transform, word: &str) -> Result<Output> {
    transform.apply(words(&[word])).await
}

/// The word that the guest answered with.
async fn hear(transform: &Transform, word: &str) -> String {
    match tell(transform, word).await.unwrap().commands.into_iter().next().map(|command| command.action) {
        Some(Action::Delete { id }) => id,
        other => panic!("`{word}` was answered with {other:?}"),
    }
}

async fn fail(transform: &Transform, word: &str) -> Error {
    tell(transform, word).await.err().unwrap_or_else(|| panic!("`{word}` did not fail"))
}

/// The smallest component that is a handler.
pub(crate) fn smallest() -> Vec<u8> {
    abi::Hand::default().component()
}

/// For what ends by itself if nothing is stuck.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(60), what).await.expect("it is stuck")
}

//! Runs what blocks (files, the embedded engine) off the threads that drive replication.

use crate::error::{Error, Fault, Result};

/// The outcome of `work`. A panic in it, of which the engine has some for a failing disk, becomes
/// an error.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work)).await.unwrap_or_else(|error| {
        let words = match error.try_into_panic() {
            Ok(panic) => panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()))
                .unwrap_or_default(),
            Err(cancelled) => cancelled.to_string(),
        };
        let error = Error::new(Fault::Environment, "a write to disk was cut short").help(
            "look for a full or failing disk; nothing of the last delivery was confirmed. \
             If the disk is sound, please report this",
        );
        Err(if words.is_empty() { error } else { error.because(words) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error() {
        let error = run(|| -> Result<()> { panic!("the disk is {}", "full") }).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Environment);
        assert!(error.report().contains("caused by: the disk is full"), "{error:?}");
        assert_eq!(run(|| Ok(1)).await.unwrap(), 1);
    }
}

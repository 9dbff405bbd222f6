//! `Lines`: how many lines a second the log takes about the pipelines of one tenant, whatever they
//! are about.
//!
//! The lines of handlers have a limit of their own. The rest is the host's own words, but others
//! decide how often they are said: a server that sends notices, rows that a handler refuses.
//! Without a limit one tenant could fill the disk of all.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// End of the target of lines that handlers write. They are counted where they are written, and not
/// here.
const VOICE: &str = "::voice";

/// The span of a pipeline, and the field that names it.
const SPAN: &str = "run";
const PIPELINE: &str = "pipeline";

/// Tenants' limits, by the full names of their pipelines.
static LIMITS: LazyLock<Mutex<HashMap<String, Arc<Limit>>>> = LazyLock::new(Mutex::default);

/// Bounds the lines about the pipelines with these full names, all together, to so many a second.
/// If some of them have that bound already, the others join it.
pub(crate) fn limit(pipelines: impl IntoIterator<Item = String>, lines: u32) {
    let (pipelines, mut limits): (Vec<String>, _) = (pipelines.into_iter().collect(), lock(&LIMITS));
    let there = pipelines.iter().find_map(|pipeline| limits.get(pipeline).filter(|limit| limit.lines == lines));
    let limit = there.map_or_else(|| Arc::new(Limit { lines, window: Mutex::default() }), Arc::clone);
    limits.extend(pipelines.into_iter().map(|pipeline| (pipeline, Arc::clone(&limit))));
}

struct Limit {
    lines: u32,
    window: Mutex<Window>,
}

/// The second in which lines are being counted.
#[derive(Default)]
struct Window {
    began: Option<Instant>,
    said: u32,
    dropped: u64,
}

impl Limit {
    /// Counts a line, and tells if it may be said now. The first line of a new window of one second
    /// is also told how many were dropped in the window before; all others are told zero.
    fn ask(&self, now: Instant) -> (bool, u64) {
        let mut window = lock(&self.window);
        let over = window.began.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1));
        let dropped = if over {
            std::mem::replace(&mut *window, Window { began: Some(now), ..Window::default() }).dropped
        } else {
            0
        };
        let granted = window.said < self.lines;
        if granted {
            window.said += 1;
        } else {
            window.dropped += 1;
        }
        (granted, dropped)
    }
}

/// Drops lines beyond the limit of the pipeline in whose span they are said, and says how many.
pub(super) struct Lines;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != SPAN {
            return;
        }
        let mut name = Name::default();
        attributes.record(&mut name);
        let limit = lock(&LIMITS).get(&name.0).cloned();
        if let (Some(limit), Some(span)) = (limit, context.span(id)) {
            span.extensions_mut().insert(limit);
        }
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        if event.metadata().target().ends_with(VOICE) {
            return true;
        }
        let scope = context.event_scope(event).into_iter().flatten();
        let limit = scope.into_iter().find_map(|span| span.extensions().get::<Arc<Limit>>().cloned());
        let Some(limit) = limit else { return true };
        let (granted, dropped) = limit.ask(Instant::now());
        if dropped > 0 {
            let lines = limit.lines;
            tracing::warn!(
                parent: None,
                dropped,
                "{dropped} lines about a tenant's pipelines were dropped: there may be {lines} a second"
            );
        }
        granted
    }
}

/// The name of the pipeline, among the fields of a span.
#[derive(Default)]
struct Name(String);

impl Visit for Name {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == PIPELINE {
            self.0 = format!("{value:?}");
        }
    }
}

/// A panic elsewhere leaves a count at worst a little wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_about_a_tenants_pipelines_are_counted_together_and_those_of_others_are_not() {
        limit(["acme-one".to_owned(), "acme-two".to_owned()], 3);
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber.with(Lines), || {
            for name in ["acme-one", "acme-two", "other"] {
                let span = tracing::error_span!("run", pipeline = %name);
                let _within = tracing::info_span!(parent: &span, "deeper").entered();
                (0..5).for_each(|_| tracing::info!("the server says"));
            }
            tracing::info!("of nobody");
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let of = |name: &str| text.matches(&format!("pipeline={name}")).count();
        assert_eq!((of("acme-one") + of("acme-two"), of("other")), (3, 5), "{text}");
        assert!(text.contains("of nobody"), "{text}");
    }

    #[test]
    fn what_was_dropped_is_owned_up_to_in_the_next_second() {
        let limit = Limit { lines: 2, window: Mutex::default() };
        let began = Instant::now();
        let granted = (0..5).filter(|_| limit.ask(began).0).count();
        assert_eq!(granted, 2);
        assert_eq!(limit.ask(began + Duration::from_secs(1)), (true, 3));
        assert_eq!(limit.ask(began + Duration::from_secs(1)), (true, 0));
    }
}

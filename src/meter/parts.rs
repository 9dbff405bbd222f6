//! The meters of what a source's events pass through: transforms, embedders, sinks; of tenants, and
//! of the engine.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::number::{Counter, Gauge, Histogram, TimeSum};
use crate::error::Code;

/// The reason why an instance of a handler was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartReason {
    /// Its worker began.
    First,
    /// The one before crashed.
    Trap,
    /// The one before went beyond a limit.
    Limit,
    /// An event is to be judged by one that has seen no other.
    Afresh,
}

impl StartReason {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::First, "first"), (Self::Trap, "trap"), (Self::Limit, "limit"), (Self::Afresh, "afresh")];
}

/// The outcome of a handler's HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpOutcome {
    /// It was answered, whatever with.
    Ok,
    /// The handler may not send it.
    Refused,
    /// It could not be sent or answered.
    Failed,
}

impl HttpOutcome {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 3] = [(Self::Ok, "ok"), (Self::Refused, "refused"), (Self::Failed, "failed")];
}

/// All that a transform tells of itself.
#[derive(Debug)]
pub struct TransformMeter {
    /// Its name in the pipeline file.
    pub name: String,
    /// Events that it was given, each once, however often its batch was tried.
    pub events: Counter,
    /// Commands that it answered with.
    pub commands: Counter,
    /// Events that were set aside, in the order of [`Code::ALL`].
    pub rejected: [Counter; Code::ALL.len()],
    /// Calls, by the clock on the wall.
    pub calls: Histogram,
    /// CPU time of its threads.
    pub cpu: TimeSum,
    /// Time in which it wanted to compute, and others did.
    pub cpu_wait: TimeSum,
    /// Time in which batches waited for an instance.
    pub queue_wait: TimeSum,
    /// Linear memory of all instances, in bytes.
    pub memory: Gauge,
    /// The most that one instance had since the pipeline began.
    pub memory_peak: Gauge,
    /// The most that one instance may have; zero before the handler is loaded.
    pub memory_limit: Gauge,
    /// Instances that are there.
    pub instances: Gauge,
    /// Instances that were made, by reason.
    pub starts: [Counter; StartReason::ALL.len()],
    /// HTTP requests, by what became of them.
    pub http: [Counter; HttpOutcome::ALL.len()],
    /// Lines that were not logged, as there were too many.
    pub dropped_lines: Counter,
    hash: Mutex<Option<String>>,
}

impl TransformMeter {
    /// Of the transform that the pipeline file calls `name`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            events: Counter::default(),
            commands: Counter::default(),
            rejected: Default::default(),
            calls: Histogram::new(Histogram::CALLS),
            cpu: TimeSum::default(),
            cpu_wait: TimeSum::default(),
            queue_wait: TimeSum::default(),
            memory: Gauge::default(),
            memory_peak: Gauge::default(),
            memory_limit: Gauge::default(),
            instances: Gauge::default(),
            starts: Default::default(),
            http: Default::default(),
            dropped_lines: Counter::default(),
            hash: Mutex::default(),
        }
    }

    /// An event was set aside.
    pub fn rejects(&self, code: Code) {
        self.rejected.get(code as usize).into_iter().for_each(|counter| counter.add(1));
    }

    /// An HTTP request has ended.
    pub fn requests(&self, outcome: HttpOutcome) {
        self.http.get(outcome as usize).into_iter().for_each(|counter| counter.add(1));
    }

    /// An instance was made.
    pub fn starts(&self, reason: StartReason) {
        self.starts.get(reason as usize).into_iter().for_each(|counter| counter.add(1));
    }

    /// From now on it runs the component with this SHA-256.
    pub fn loaded(&self, hash: &str) {
        *self.hash.lock().unwrap_or_else(PoisonError::into_inner) = Some(hash.to_owned());
    }

    /// SHA-256 of its component in hexadecimal, once it is loaded.
    pub fn hash(&self) -> Option<String> {
        self.hash.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The outcome of a request to an embedding provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Vectors came.
    Ok,
    /// There were too many requests.
    RateLimited,
    /// The provider does not want it.
    Refused,
    /// It could not be sent or answered.
    Failed,
    /// No answer came in time.
    TimedOut,
}

impl RequestOutcome {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Ok, "ok"),
        (Self::RateLimited, "rate_limited"),
        (Self::Refused, "refused"),
        (Self::Failed, "failed"),
        (Self::TimedOut, "timeout"),
    ];
}

/// All that an embedder tells of itself.
#[derive(Debug)]
pub struct EmbedderMeter {
    /// Its name in the file that defines it.
    pub name: String,
    /// Requests by what became of them; each try counts.
    pub requests: [Counter; RequestOutcome::ALL.len()],
    /// Texts that became vectors.
    pub texts: Counter,
    /// Their bytes.
    pub text_bytes: Counter,
    /// Texts whose vectors were remembered.
    pub cache_hits: Counter,
    /// Tokens, as far as the provider says how many it counted.
    pub tokens: Counter,
    /// Requests, each try by itself.
    pub duration: Histogram,
    /// Requests that are under way.
    pub in_flight: Gauge,
    /// In µs: how long the present wait before another try is; zero if there is none.
    pub backoff: Gauge,
    /// The price of a million tokens, and its currency.
    price: Option<(f64, String)>,
}

impl EmbedderMeter {
    /// Of the embedder that a file calls `name`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            requests: Default::default(),
            texts: Counter::default(),
            text_bytes: Counter::default(),
            cache_hits: Counter::default(),
            tokens: Counter::default(),
            duration: Histogram::new(Histogram::CALLS),
            in_flight: Gauge::default(),
            backoff: Gauge::default(),
            price: None,
        }
    }

    /// A million tokens cost that much.
    pub fn priced(self, million_tokens: f64, currency: &str) -> Self {
        Self { price: Some((million_tokens, currency.to_owned())), ..self }
    }

    /// The cost of what was counted, and its currency. None without a price, and if the provider
    /// does not count tokens.
    pub fn cost(&self) -> Option<(f64, &str)> {
        let (price, currency) = self.price.as_ref()?;
        let tokens = Some(self.tokens.get()).filter(|tokens| *tokens > 0)?;
        Some((tokens as f64 / 1e6 * price, currency))
    }

    /// A try has ended.
    pub fn ended(&self, outcome: RequestOutcome) {
        self.requests.get(outcome as usize).into_iter().for_each(|counter| counter.add(1));
    }
}

/// All that a sink tells of itself.
#[derive(Debug)]
pub struct SinkMeter {
    /// Its name in the pipeline file.
    pub name: String,
    /// Points: written whole, deleted, patched. A command about a group or about all counts once.
    pub points: [Counter; 3],
    /// Writes that ended well.
    pub writes: Counter,
    /// Commands and dead letters that they carried.
    pub commands: Counter,
    /// Their bytes, in memory.
    pub bytes: Counter,
    /// Writes, without the waits between tries.
    pub duration: Histogram,
    /// Tries after one that failed in passing.
    pub retries: Counter,
    /// Events whose commands it refused.
    pub refused: Counter,
    /// Writes that are under way.
    pub in_flight: Gauge,
    /// Commands that are handed to it and not durable.
    pub waiting: Gauge,
}

impl SinkMeter {
    /// The words for [`points`](Self::points).
    pub const POINTS: [&'static str; 3] = ["written", "deleted", "patched"];

    /// Of the sink that the pipeline file calls `name`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            points: Default::default(),
            writes: Counter::default(),
            commands: Counter::default(),
            bytes: Counter::default(),
            duration: Histogram::new(Histogram::CALLS),
            retries: Counter::default(),
            refused: Counter::default(),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
        }
    }
}

/// All that the handlers of a tenant use together.
#[derive(Debug, Default)]
pub struct TenantMeter {
    /// CPU time.
    pub cpu: TimeSum,
    /// Time in which they wanted to compute, and others did.
    pub cpu_wait: TimeSum,
}

/// All that handlers of all pipelines share.
#[derive(Debug, Default)]
pub struct EngineMeter {
    /// Handlers that were compiled.
    pub compiled: Counter,
    /// Handlers whose compiled code was there.
    pub cached: Counter,
}

/// The outcome of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// Something was changed, and nothing refused.
    Applied,
    /// Nothing had changed.
    Unchanged,
    /// A file, or what it says, was refused. Others may have been applied.
    Refused,
}

impl ReloadResult {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Applied, "applied"), (Self::Unchanged, "unchanged"), (Self::Refused, "refused")];
}

/// All that became of reading files: the first reading counts as a success, and not as a reload.
#[derive(Debug)]
pub struct ReloadMeter {
    /// Reloads, by what became of them.
    pub results: [Counter; ReloadResult::ALL.len()],
    /// 1 unless the last one was refused.
    pub successful: Gauge,
    at: Mutex<SystemTime>,
}

impl Default for ReloadMeter {
    fn default() -> Self {
        let successful = Gauge::default();
        successful.set(1);
        Self { results: Default::default(), successful, at: Mutex::new(SystemTime::now()) }
    }
}

impl ReloadMeter {
    /// A reload has ended.
    pub fn ended(&self, result: ReloadResult) {
        self.results.get(result as usize).into_iter().for_each(|counter| counter.add(1));
        self.successful.set(u64::from(result != ReloadResult::Refused));
        if result != ReloadResult::Refused {
            *self.at.lock().unwrap_or_else(PoisonError::into_inner) = SystemTime::now();
        }
    }

    /// The time of the last that was not refused.
    pub fn succeeded_at(&self) -> SystemTime {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_told_of_where_both_price_and_tokens_are_known() {
        let free = EmbedderMeter::new("small");
        free.tokens.add(1_000);
        assert_eq!(free.cost(), None);
        let priced = EmbedderMeter::new("small").priced(0.5, "USD");
        assert_eq!(priced.cost(), None, "the provider has not said how many tokens it counted");
        priced.tokens.add(3_000_000);
        assert_eq!(priced.cost(), Some((1.5, "USD")));
    }

    #[test]
    fn a_refused_reload_is_remembered_until_one_goes_well() {
        let meter = ReloadMeter::default();
        let first = meter.succeeded_at();
        assert_eq!(meter.successful.get(), 1, "the files were good when the process began");
        meter.ended(ReloadResult::Refused);
        assert_eq!((meter.successful.get(), meter.succeeded_at()), (0, first));
        meter.ended(ReloadResult::Unchanged);
        assert!(meter.successful.get() == 1 && meter.succeeded_at() > first);
        assert_eq!(meter.results.each_ref().map(Counter::get), [0, 1, 1]);
    }
}

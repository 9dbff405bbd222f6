//! All that the host counts, read from where it is counted, as samples of a page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::page::{Labels, Page, Value};
use super::process;
use crate::embedder::Embedder;
use crate::error::{Code, Fault};
use crate::host::{Host, Owner, Phase, PipelineHandle};
use crate::meter::{
    EmbedderMeter, FlowMeter, HttpOutcome, LetterMeter, Metric, ReconnectReason, ReloadMeter, ReloadResult,
    RequestOutcome, SinkMeter, SourceMeter, StartReason, TransformMeter, metrics,
};

/// Digits of a component's hash that are shown: enough to tell a few from each other.
const HASH_DIGITS: usize = 12;

/// The words for the operations of events, in the order of their counters.
const OPERATIONS: [&str; 4] = ["insert", "update", "delete", "truncate"];

/// All that is known of these pipelines. Of the process itself only if the page is not about one
/// tenant.
pub(super) fn collect(host: &Host, reloads: &ReloadMeter, pipelines: &[PipelineHandle], tenant: Option<&str>) -> Page {
    let mut page = Page::default();
    let mut tenants: BTreeMap<String, (Owner, u64)> = BTreeMap::new();
    for handle in pipelines.iter().filter(|handle| tenant.is_none() || handle.tenant() == tenant) {
        pipeline(&mut page, handle);
        let owner = handle.spec().owner;
        if let Some(name) = owner.name().map(str::to_owned) {
            tenants.entry(name).or_insert((owner, 0)).1 += 1;
        }
    }
    for (name, (owner, pipelines)) in &tenants {
        self::tenant(&mut page, name, owner, *pipelines);
    }
    if tenant.is_none() {
        let (busy, slots) = host.engine().cpu_slots();
        page.add(&metrics::CPU_SLOTS, Vec::new(), Value::Count(slots as u64));
        page.add(&metrics::CPU_SLOTS_BUSY, Vec::new(), Value::Count(busy as u64));
        let meter = host.engine().meter();
        for (word, counter) in [("compiled", &meter.compiled), ("cached", &meter.cached)] {
            page.add(&metrics::HANDLER_COMPILATIONS, vec![("result", word.into())], Value::Count(counter.get()));
        }
        self::reloads(&mut page, reloads);
        let version = vec![("version", Arc::from(env!("CARGO_PKG_VERSION")))];
        page.add(&metrics::BUILD_INFO, version, Value::Count(1));
        process::process(&mut page);
    }
    page
}

/// Adds samples that share labels.
struct Under<'a> {
    page: &'a mut Page,
    labels: Labels,
}

impl Under<'_> {
    fn count(&mut self, metric: &'static Metric, count: u64) {
        self.page.add(metric, self.labels.clone(), Value::Count(count));
    }

    fn known(&mut self, metric: &'static Metric, count: Option<u64>) {
        count.into_iter().for_each(|count| self.count(metric, count));
    }

    fn number(&mut self, metric: &'static Metric, number: f64) {
        self.page.add(metric, self.labels.clone(), Value::Number(number));
    }

    /// One for each word of a label.
    fn each<'w>(
        &mut self,
        metric: &'static Metric,
        label: &'static str,
        counts: impl IntoIterator<Item = (&'w str, u64)>,
    ) {
        for (word, count) in counts {
            let mut labels = self.labels.clone();
            labels.push((label, word.into()));
            self.page.add(metric, labels, Value::Count(count));
        }
    }

    fn with(&mut self, label: &'static str, value: &str) -> Under<'_> {
        let mut labels = self.labels.clone();
        labels.push((label, value.into()));
        Under { page: self.page, labels }
    }
}

fn pipeline(page: &mut Page, handle: &PipelineHandle) {
    let mut labels: Labels = vec![("pipeline", handle.name().into())];
    labels.extend(handle.tenant().map(|tenant| ("tenant", Arc::from(tenant))));
    let mut under = Under { page, labels };
    let (state, meter, status) = (handle.state(), handle.meter(), handle.status());
    under.count(&metrics::PIPELINE_UP, u64::from(!state.state.is_over() && state.state != Phase::Retrying));
    let phases = Phase::ALL.iter().map(|phase| (phase.as_str(), u64::from(*phase == state.state)));
    under.each(&metrics::PIPELINE_STATE, "state", phases);
    let faults = Fault::ALL.iter().zip(&meter.flow.failures).map(|(fault, counter)| (fault.as_str(), counter.get()));
    under.each(&metrics::PIPELINE_FAILURES, "fault", faults);
    let age = status.as_ref().map(|status| status.age()).filter(|age| meter.source.is_connected() || !age.is_zero());
    age.into_iter().for_each(|age| under.number(&metrics::SOURCE_LAG_SECONDS, age.as_secs_f64()));
    source(&mut under, &meter.source);
    flow(&mut under, &meter.flow);
    for transform in &meter.transforms {
        self::transform(under.with("transform", &transform.name), transform);
    }
    for (index, sink) in meter.sinks.iter().enumerate() {
        let trouble =
            status.as_ref().and_then(|status| status.sinks.get(index)).is_some_and(|sink| sink.trouble().is_some());
        self::sink(under.with("sink", &sink.name), sink, trouble);
    }
    letters(&mut under, handle);
    for embedder in handle.own_embedders() {
        self::embedder(&mut under, embedder.as_ref());
    }
}

fn reloads(page: &mut Page, meter: &ReloadMeter) {
    let mut under = Under { page, labels: Vec::new() };
    under.count(&metrics::CONFIG_LAST_RELOAD_SUCCESSFUL, meter.successful.get());
    let at = meter.succeeded_at().duration_since(UNIX_EPOCH).unwrap_or_default();
    under.number(&metrics::CONFIG_LAST_RELOAD_TIMESTAMP_SECONDS, at.as_secs_f64());
    let results = ReloadResult::ALL.iter().zip(&meter.results).map(|((_, word), counter)| (*word, counter.get()));
    under.each(&metrics::CONFIG_RELOADS, "result", results);
}

fn letters(under: &mut Under<'_>, handle: &PipelineHandle) {
    let Some(limit) = handle.letter_limit() else { return };
    let meter = handle.letters();
    under.known(&metrics::DEAD_LETTERS, meter.kept());
    under.count(&metrics::DEAD_LETTERS_LIMIT, limit);
    let outcomes = LetterMeter::OUTCOMES.iter().zip(&meter.replayed).map(|(word, counter)| (*word, counter.get()));
    under.each(&metrics::DEAD_LETTERS_REPLAYED, "outcome", outcomes);
}

fn source(under: &mut Under<'_>, meter: &SourceMeter) {
    let operations = OPERATIONS.iter().zip(&meter.events).map(|(word, counter)| (*word, counter.get()));
    under.each(&metrics::SOURCE_EVENTS, "operation", operations);
    under.count(&metrics::SOURCE_TRANSACTIONS, meter.transactions.get());
    under.count(&metrics::SOURCE_RECEIVED_BYTES, meter.received_bytes.get());
    under.count(&metrics::SOURCE_CONNECTED, u64::from(meter.is_connected()));
    let reasons = ReconnectReason::ALL.iter().zip(&meter.reconnects).map(|((_, word), counter)| (*word, counter.get()));
    under.each(&metrics::SOURCE_RECONNECTS, "reason", reasons);
    under.known(&metrics::SOURCE_LAG_BYTES, meter.lag_bytes());
    let positive = |position: u64| Some(position).filter(|position| *position > 0);
    let connected = meter.is_connected();
    under.known(&metrics::SOURCE_SERVER_LSN, positive(meter.server_lsn.get()).filter(|_| connected));
    under.known(&metrics::SOURCE_CONFIRMED_LSN, positive(meter.confirmed_lsn.get()));
    if let Some(micros) = meter.receive_lag.positive().filter(|_| connected) {
        under.number(&metrics::SOURCE_RECEIVE_LAG_SECONDS, micros as f64 / 1e6);
    }
    let slot = meter.slot();
    if let Some(micros) = meter.clock_offset.get().filter(|_| slot.is_some()) {
        under.number(&metrics::SOURCE_CLOCK_OFFSET_SECONDS, micros as f64 / 1e6);
    }
    under.known(&metrics::SLOT_ACTIVE, meter.slot_active().map(u64::from));
    if let Some(slot) = slot {
        under.known(&metrics::SLOT_WAL_STATUS, slot.status_number());
        under.known(&metrics::SLOT_RETAINED_BYTES, slot.retained);
        under.known(&metrics::SLOT_SAFE_BYTES, slot.safe);
        under.known(&metrics::SLOT_LIMIT_BYTES, slot.limit);
    }
    if let Some(at) = meter.checked_at() {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        under.number(&metrics::SLOT_CHECKED_TIMESTAMP_SECONDS, seconds);
    }
    if let Some(copies) = meter.copy_count() {
        let states = [
            ("waiting", copies.waiting),
            ("running", copies.running),
            ("done", copies.done),
            ("failed", copies.failed),
        ];
        under.each(&metrics::COPY_TABLES, "state", states);
        under.count(&metrics::COPY_ROWS_EXPECTED, copies.rows_expected);
    }
    under.count(&metrics::COPY_ROWS, meter.copied_rows.get());
}

fn flow(under: &mut Under<'_>, meter: &FlowMeter) {
    let latency = Value::Times(meter.delivery.read());
    under.page.add(&metrics::PIPELINE_DELIVERY_LATENCY_SECONDS, under.labels.clone(), latency);
    under.count(&metrics::PIPELINE_IN_FLIGHT_BYTES, meter.in_flight_bytes.get());
    under.count(&metrics::PIPELINE_IN_FLIGHT_BATCHES, meter.in_flight_batches.get());
    under.known(&metrics::PIPELINE_IN_FLIGHT_LIMIT_BYTES, Some(meter.in_flight_limit.get()).filter(|limit| *limit > 0));
    under.number(&metrics::PIPELINE_BLOCKED_SECONDS, meter.blocked.seconds());
}

fn transform(mut under: Under<'_>, meter: &TransformMeter) {
    under.count(&metrics::TRANSFORM_EVENTS, meter.events.get());
    under.count(&metrics::TRANSFORM_COMMANDS, meter.commands.get());
    let codes = Code::ALL.iter().zip(&meter.rejected).map(|(code, counter)| (code.as_str(), counter.get()));
    under.each(&metrics::TRANSFORM_REJECTED_EVENTS, "code", codes);
    let calls = Value::Times(meter.calls.read());
    under.page.add(&metrics::TRANSFORM_CALL_DURATION_SECONDS, under.labels.clone(), calls);
    under.number(&metrics::TRANSFORM_CPU_SECONDS, meter.cpu.seconds());
    under.number(&metrics::TRANSFORM_CPU_WAIT_SECONDS, meter.cpu_wait.seconds());
    under.number(&metrics::TRANSFORM_QUEUE_WAIT_SECONDS, meter.queue_wait.seconds());
    under.count(&metrics::TRANSFORM_MEMORY_BYTES, meter.memory.get());
    under.count(&metrics::TRANSFORM_MEMORY_PEAK_BYTES, meter.memory_peak.get());
    under.known(&metrics::TRANSFORM_MEMORY_LIMIT_BYTES, Some(meter.memory_limit.get()).filter(|limit| *limit > 0));
    under.count(&metrics::TRANSFORM_INSTANCES, meter.instances.get());
    let reasons = StartReason::ALL.iter().zip(&meter.starts).map(|((_, word), counter)| (*word, counter.get()));
    under.each(&metrics::TRANSFORM_INSTANCE_STARTS, "reason", reasons);
    let outcomes = HttpOutcome::ALL.iter().zip(&meter.http).map(|((_, word), counter)| (*word, counter.get()));
    under.each(&metrics::TRANSFORM_HTTP_REQUESTS, "outcome", outcomes);
    under.count(&metrics::TRANSFORM_LOG_LINES_DROPPED, meter.dropped_lines.get());
    if let Some(hash) = meter.hash() {
        let digits = hash.get(..HASH_DIGITS).unwrap_or(&hash);
        under.with("sha256", digits).count(&metrics::TRANSFORM_INFO, 1);
    }
}

fn sink(mut under: Under<'_>, meter: &SinkMeter, trouble: bool) {
    let points = SinkMeter::POINTS.iter().zip(&meter.points).map(|(word, counter)| (*word, counter.get()));
    under.each(&metrics::SINK_POINTS, "operation", points);
    under.count(&metrics::SINK_WRITES, meter.writes.get());
    under.count(&metrics::SINK_COMMANDS, meter.commands.get());
    under.count(&metrics::SINK_WRITE_BYTES, meter.bytes.get());
    let writes = Value::Times(meter.duration.read());
    under.page.add(&metrics::SINK_WRITE_DURATION_SECONDS, under.labels.clone(), writes);
    under.count(&metrics::SINK_RETRIES, meter.retries.get());
    under.count(&metrics::SINK_REFUSED_EVENTS, meter.refused.get());
    under.count(&metrics::SINK_IN_FLIGHT, meter.in_flight.get());
    under.count(&metrics::SINK_WAITING_COMMANDS, meter.waiting.get());
    under.count(&metrics::SINK_IN_TROUBLE, u64::from(trouble));
}

fn embedder(under: &mut Under<'_>, embedder: &dyn Embedder) {
    let Some(meter) = embedder.meter() else { return };
    let mut under = under.with("embedder", &meter.name);
    let EmbedderMeter { requests, texts, text_bytes, cache_hits, tokens, .. } = &*meter;
    let outcomes = RequestOutcome::ALL.iter().zip(requests).map(|((_, word), counter)| (*word, counter.get()));
    under.each(&metrics::EMBEDDER_REQUESTS, "outcome", outcomes);
    under.count(&metrics::EMBEDDER_TEXTS, texts.get());
    under.count(&metrics::EMBEDDER_TEXT_BYTES, text_bytes.get());
    under.count(&metrics::EMBEDDER_CACHE_HITS, cache_hits.get());
    // It is never guessed: many providers do not say.
    under.known(&metrics::EMBEDDER_TOKENS, Some(tokens.get()).filter(|tokens| *tokens > 0));
    if let Some((cost, currency)) = meter.cost() {
        under.with("currency", currency).number(&metrics::EMBEDDER_COST, cost);
    }
    let duration = Value::Times(meter.duration.read());
    under.page.add(&metrics::EMBEDDER_REQUEST_DURATION_SECONDS, under.labels.clone(), duration);
    under.count(&metrics::EMBEDDER_IN_FLIGHT, meter.in_flight.get());
    under.number(&metrics::EMBEDDER_BACKOFF_SECONDS, meter.backoff.get() as f64 / 1e6);
    embedder.budget_used().into_iter().for_each(|used| under.number(&metrics::EMBEDDER_BUDGET_USED_RATIO, used));
}

fn tenant(page: &mut Page, name: &str, owner: &Owner, pipelines: u64) {
    let mut under = Under { page, labels: vec![("tenant", name.into())] };
    if let Some((meter, (held, limit))) = owner.meter().zip(owner.memory()) {
        under.number(&metrics::TENANT_CPU_SECONDS, meter.cpu.seconds());
        under.number(&metrics::TENANT_CPU_WAIT_SECONDS, meter.cpu_wait.seconds());
        under.count(&metrics::TENANT_MEMORY_BYTES, held as u64);
        under.count(&metrics::TENANT_MEMORY_LIMIT_BYTES, limit as u64);
    }
    under.known(&metrics::TENANT_WEIGHT, owner.weight().map(u64::from));
    under.count(&metrics::TENANT_PIPELINES, pipelines);
    for embedder in owner.embedders.values() {
        self::embedder(&mut under, embedder.as_ref());
    }
}

//! `Metric`: the one list of what is measured: names, labels, what they mean, and how they are
//! summed up.

/// The beginning of the names of our own metrics.
const PREFIX: &str = "pgstream_host_";

/// The way in which a metric's numbers move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// They only rise; the name ends in `_total`.
    Counter,
    /// They rise and fall.
    Gauge,
    /// Counts of how long something took.
    Histogram,
}

/// The way in which the numbers of several components or pipelines become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// They are added.
    Sum,
    /// The largest counts.
    Most,
    /// The smallest counts.
    Least,
    /// They say nothing together, and are only there where each stands for itself.
    Apart,
    /// As `Apart`, but each pipeline's stands for itself at any detail.
    Kept,
}

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Without the prefix.
    pub name: &'static str,
    /// The way in which its numbers move.
    pub kind: MetricKind,
    /// The way in which they are summed up.
    pub fold: Fold,
    /// Its own labels, beside `pipeline` and `tenant`.
    pub labels: &'static [&'static str],
    /// The meaning, without a full stop.
    pub help: &'static str,
}

impl Metric {
    /// As it is exposed.
    pub fn full_name(&self) -> String {
        match self.name.starts_with("process_") {
            true => self.name.to_owned(),
            false => format!("{PREFIX}{}", self.name),
        }
    }
}

macro_rules! metrics {
    ($($id:ident $kind:ident $fold:ident $name:literal [$($label:literal)*] $help:literal;)*) => {
        /// Each metric.
        pub(super) mod table {
            use super::{Fold, Metric, MetricKind};
            $(
                #[doc = $help]
                pub static $id: Metric = Metric {
                    name: $name,
                    kind: MetricKind::$kind,
                    fold: Fold::$fold,
                    labels: &[$($label),*],
                    help: $help,
                };
            )*
        }

        /// All metrics, in the order in which they are exposed.
        pub static ALL: &[&Metric] = &[$(&table::$id),*];
    };
}

metrics! {
    SOURCE_EVENTS Counter Sum "source_events_total" ["operation"] "Events received; rows that copies bring are inserts";
    SOURCE_TRANSACTIONS Counter Sum "source_transactions_total" [] "Commits received";
    SOURCE_RECEIVED_BYTES Counter Sum "source_received_bytes_total" [] "Bytes of the replication connection";
    SOURCE_LAG_BYTES Gauge Most "source_lag_bytes" [] "Log of the server that is not confirmed; absent while nothing is streamed";
    SOURCE_LAG_SECONDS Gauge Most "source_lag_seconds" [] "Age of the oldest commit that was received and is not durable in all sinks; 0 if there is none, absent while nothing is streamed and nothing waits";
    SOURCE_RECEIVE_LAG_SECONDS Gauge Most "source_receive_lag_seconds" [] "Age of the last event when the server sent it; 0 once the server has no more";
    SOURCE_SERVER_LSN Gauge Apart "source_server_lsn" [] "End of the server's log as far as it is known";
    SOURCE_CONFIRMED_LSN Gauge Apart "source_confirmed_lsn" [] "Position up to which everything is durable in all sinks";
    SOURCE_CONNECTED Gauge Least "source_connected" [] "1 while changes are streamed";
    SOURCE_RECONNECTS Counter Sum "source_reconnects_total" ["reason"] "Streams that ended and were opened again";
    SOURCE_CLOCK_OFFSET_SECONDS Gauge Apart "source_clock_offset_seconds" [] "Clock of the database server minus the host's";
    SLOT_ACTIVE Gauge Least "slot_active" [] "1 if somebody reads the replication slot, this host or another";
    SLOT_WAL_STATUS Gauge Most "slot_wal_status" [] "What the server says of the log that the slot needs: 0 reserved, 1 extended, 2 unreserved, 3 lost";
    SLOT_RETAINED_BYTES Gauge Most "slot_retained_bytes" [] "Log that the server keeps for the slot";
    SLOT_SAFE_BYTES Gauge Least "slot_safe_bytes" [] "Log that may still be written before the server drops what the slot needs; absent without a limit";
    SLOT_LIMIT_BYTES Gauge Least "slot_limit_bytes" [] "Most log that the server keeps for a slot; absent without a limit";
    SLOT_CHECKED_TIMESTAMP_SECONDS Gauge Least "slot_checked_timestamp_seconds" [] "When the slot was looked at last";
    COPY_TABLES Gauge Sum "copy_tables" ["state"] "Copies of tables";
    COPY_ROWS Counter Sum "copy_rows_total" [] "Rows that copies brought";
    COPY_ROWS_EXPECTED Gauge Sum "copy_rows_expected" [] "About how many rows the copies have, by the server's statistics";
    PIPELINE_UP Gauge Kept "pipeline_up" [] "1 if the pipeline runs, also while it waits for a slot that another host reads";
    PIPELINE_STATE Gauge Sum "pipeline_state" ["state"] "1 for the state that the pipeline is in";
    PIPELINE_FAILURES Counter Sum "pipeline_failures_total" ["fault"] "Ends of the pipeline with an error";
    PIPELINE_DELIVERY_LATENCY_SECONDS Histogram Sum "pipeline_delivery_latency_seconds" [] "From the commit of an event to when all sinks have it; without rows that are copied or replayed";
    PIPELINE_IN_FLIGHT_BYTES Gauge Sum "pipeline_in_flight_bytes" [] "Memory of batches that were received and are not durable";
    PIPELINE_IN_FLIGHT_LIMIT_BYTES Gauge Sum "pipeline_in_flight_limit_bytes" [] "Memory of batches beyond which the source is not read";
    PIPELINE_IN_FLIGHT_BATCHES Gauge Sum "pipeline_in_flight_batches" [] "Batches that were received and are not durable";
    PIPELINE_BLOCKED_SECONDS Counter Sum "pipeline_blocked_seconds_total" [] "Time in which the source was not read for lack of room";
    TRANSFORM_EVENTS Counter Sum "transform_events_total" ["transform"] "Events that a handler was given";
    TRANSFORM_COMMANDS Counter Sum "transform_commands_total" ["transform"] "Commands that a handler answered with";
    TRANSFORM_REJECTED_EVENTS Counter Sum "transform_rejected_events_total" ["transform" "code"] "Events that were set aside";
    TRANSFORM_CALL_DURATION_SECONDS Histogram Apart "transform_call_duration_seconds" ["transform"] "Calls of a handler, one for each batch";
    TRANSFORM_CPU_SECONDS Counter Sum "transform_cpu_seconds_total" ["transform"] "CPU time of a handler";
    TRANSFORM_CPU_WAIT_SECONDS Counter Sum "transform_cpu_wait_seconds_total" ["transform"] "Time in which a handler waited for its turn to compute";
    TRANSFORM_QUEUE_WAIT_SECONDS Counter Sum "transform_queue_wait_seconds_total" ["transform"] "Time in which batches waited for an instance of a handler";
    TRANSFORM_MEMORY_BYTES Gauge Sum "transform_memory_bytes" ["transform"] "Linear memory of all instances of a handler";
    TRANSFORM_MEMORY_PEAK_BYTES Gauge Most "transform_memory_peak_bytes" ["transform"] "Most linear memory that one instance has had";
    TRANSFORM_MEMORY_LIMIT_BYTES Gauge Apart "transform_memory_limit_bytes" ["transform"] "Linear memory that one instance may have";
    TRANSFORM_INSTANCES Gauge Sum "transform_instances" ["transform"] "Instances of a handler";
    TRANSFORM_INSTANCE_STARTS Counter Sum "transform_instance_starts_total" ["transform" "reason"] "Instances that were made";
    TRANSFORM_HTTP_REQUESTS Counter Sum "transform_http_requests_total" ["transform" "outcome"] "HTTP requests of a handler";
    TRANSFORM_LOG_LINES_DROPPED Counter Sum "transform_log_lines_dropped_total" ["transform"] "Lines of a handler that were not logged, as there were too many";
    TRANSFORM_INFO Gauge Apart "transform_info" ["transform" "sha256"] "1 for the component that runs, by the first digits of its SHA-256";
    EMBEDDER_REQUESTS Counter Sum "embedder_requests_total" ["embedder" "outcome"] "Requests to an embedding provider; each try counts";
    EMBEDDER_TEXTS Counter Sum "embedder_texts_total" ["embedder"] "Texts that were embedded";
    EMBEDDER_TEXT_BYTES Counter Sum "embedder_text_bytes_total" ["embedder"] "Bytes of the texts that were embedded";
    EMBEDDER_CACHE_HITS Counter Sum "embedder_cache_hits_total" ["embedder"] "Texts whose vectors were remembered";
    EMBEDDER_TOKENS Counter Sum "embedder_tokens_total" ["embedder"] "Tokens as the provider counts them; absent if it does not say";
    EMBEDDER_COST Counter Sum "embedder_cost_total" ["embedder" "currency"] "Cost of the tokens that the provider counted, at the price that the file states; absent without one";
    EMBEDDER_REQUEST_DURATION_SECONDS Histogram Apart "embedder_request_duration_seconds" ["embedder"] "Requests to an embedding provider, each try by itself";
    EMBEDDER_IN_FLIGHT Gauge Sum "embedder_in_flight" ["embedder"] "Requests to an embedding provider that are under way";
    EMBEDDER_BUDGET_USED_RATIO Gauge Most "embedder_budget_used_ratio" ["embedder"] "Part of a tenant's budget that is used in the present period, of the limit that is nearest";
    EMBEDDER_BACKOFF_SECONDS Gauge Most "embedder_backoff_seconds" ["embedder"] "Present wait before another try; 0 if there is none";
    SINK_POINTS Counter Sum "sink_points_total" ["sink" "operation"] "Points that were written whole, deleted or patched; a command about a group counts once";
    SINK_WRITES Counter Sum "sink_writes_total" ["sink"] "Writes that ended well";
    SINK_COMMANDS Counter Sum "sink_commands_total" ["sink"] "Commands and dead letters that the writes carried";
    SINK_WRITE_BYTES Counter Sum "sink_write_bytes_total" ["sink"] "Their bytes, in memory";
    SINK_WRITE_DURATION_SECONDS Histogram Apart "sink_write_duration_seconds" ["sink"] "Writes, without the waits between tries";
    SINK_RETRIES Counter Sum "sink_retries_total" ["sink"] "Tries after one that failed in passing";
    SINK_REFUSED_EVENTS Counter Sum "sink_refused_events_total" ["sink"] "Events of which a sink refused what a handler made of them";
    SINK_IN_FLIGHT Gauge Sum "sink_in_flight" ["sink"] "Writes that are under way";
    SINK_WAITING_COMMANDS Gauge Sum "sink_waiting_commands" ["sink"] "Commands for a sink that are not durable yet";
    SINK_IN_TROUBLE Gauge Most "sink_in_trouble" ["sink"] "1 while writes fail and are tried again";
    DEAD_LETTERS Gauge Sum "dead_letters" [] "Dead letters that are kept, counted when somebody asks and at most every 30 s; absent while they cannot be";
    DEAD_LETTERS_LIMIT Gauge Sum "dead_letters_limit" [] "Dead letters that may be kept; one more stops the pipeline";
    DEAD_LETTERS_REPLAYED Counter Sum "dead_letters_replayed_total" ["outcome"] "Dead letters that were replayed and of which this host found out what became of them";
    TENANT_CPU_SECONDS Counter Sum "tenant_cpu_seconds_total" [] "CPU time of all handlers of a tenant";
    TENANT_CPU_WAIT_SECONDS Counter Sum "tenant_cpu_wait_seconds_total" [] "Time in which handlers of a tenant waited for their turn to compute";
    TENANT_MEMORY_BYTES Gauge Sum "tenant_memory_bytes" [] "Linear memory of all handlers of a tenant";
    TENANT_MEMORY_LIMIT_BYTES Gauge Sum "tenant_memory_limit_bytes" [] "Linear memory that they may have together";
    TENANT_WEIGHT Gauge Sum "tenant_weight" [] "Part of the CPU time in proportion to that of others";
    TENANT_PIPELINES Gauge Sum "tenant_pipelines" [] "Pipelines of a tenant";
    CPU_SLOTS Gauge Sum "cpu_slots" [] "Handlers that may compute at once";
    CPU_SLOTS_BUSY Gauge Sum "cpu_slots_busy" [] "Handlers that compute now";
    HANDLER_COMPILATIONS Counter Sum "handler_compilations_total" ["result"] "Handlers that were compiled, or whose compiled code was there";
    CONFIG_LAST_RELOAD_SUCCESSFUL Gauge Sum "config_last_reload_successful" [] "1 unless a file was refused when the files were read last";
    CONFIG_LAST_RELOAD_TIMESTAMP_SECONDS Gauge Sum "config_last_reload_timestamp_seconds" [] "When the files were read last and none was refused";
    CONFIG_RELOADS Counter Sum "config_reloads_total" ["result"] "Reloads, by what became of them";
    METRICS_SERIES Gauge Sum "metrics_series" [] "Series of this page, without this one";
    METRICS_DETAIL Gauge Sum "metrics_detail" ["detail"] "1 for the detail of this page";
    BUILD_INFO Gauge Sum "build_info" ["version"] "1 for the version of the host";
    PROCESS_CPU_SECONDS Counter Sum "process_cpu_seconds_total" [] "CPU time of the process";
    PROCESS_RESIDENT_MEMORY_BYTES Gauge Sum "process_resident_memory_bytes" [] "Memory of the process that is in RAM";
    PROCESS_OPEN_FDS Gauge Sum "process_open_fds" [] "Open files and sockets";
    PROCESS_MAX_FDS Gauge Sum "process_max_fds" [] "Files and sockets that may be open";
    PROCESS_THREADS Gauge Sum "process_threads" [] "Threads of the process";
    PROCESS_START_TIME_SECONDS Gauge Sum "process_start_time_seconds" [] "When the process began, in seconds since 1970";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_keep_the_conventions() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len(), "each name once");
        for Metric { name, kind, labels, help, .. } in ALL {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(*kind == MetricKind::Counter, name.ends_with("_total"), "{name}");
            assert!(!help.is_empty() && !help.ends_with('.') && !labels.contains(&"pipeline"), "{name}");
            let units = ["milliseconds", "microseconds", "ms", "us", "ns", "percent", "mb", "kb"];
            assert!(!name.split('_').any(|word| units.contains(&word)), "{name}: base units only");
        }
        assert_eq!(table::SOURCE_EVENTS.full_name(), "pgstream_host_source_events_total");
        assert_eq!(table::PROCESS_THREADS.full_name(), "process_threads");
    }
}

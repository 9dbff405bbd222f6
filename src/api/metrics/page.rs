//! `Page`: samples under their metrics, as fine or as coarse as is wanted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::config::model::MetricsDetail;
use crate::meter::{ALL, Fold, HistogramReading, Metric, MetricKind, metrics};

/// The labels of one series.
pub(super) type Labels = Vec<(&'static str, Arc<str>)>;

/// All that one series says.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Count(u64),
    Number(f64),
    Times(HistogramReading),
}

/// All that is exposed, metric by metric.
#[derive(Debug, Default)]
pub(super) struct Page(BTreeMap<&'static str, Vec<(Labels, Value)>>);

/// Labels that tell parts of a pipeline from each other.
const PARTS: [&str; 7] = ["transform", "sink", "embedder", "code", "reason", "outcome", "fault"];

impl Page {
    /// Adds one series.
    pub(super) fn add(&mut self, metric: &'static Metric, labels: Labels, value: Value) {
        self.0.entry(metric.name).or_default().push((labels, value));
    }

    /// The same with no more series than `detail` has, and with how many those are.
    pub(super) fn folded(mut self, detail: MetricsDetail) -> Self {
        if detail != MetricsDetail::Component {
            for metric in ALL {
                if let Some(samples) = self.0.remove(metric.name) {
                    self.0.insert(metric.name, folded(metric, samples, detail));
                }
            }
        }
        for (each, word) in MetricsDetail::ALL {
            let labels = vec![("detail", Arc::from(word))];
            self.add(&metrics::METRICS_DETAIL, labels, Value::Count(u64::from(each == detail)));
        }
        let series = self.0.values().map(|samples| samples.iter().map(|(_, value)| series(value)).sum::<u64>()).sum();
        self.add(&metrics::METRICS_SERIES, Vec::new(), Value::Count(series));
        self
    }
}

fn series(value: &Value) -> u64 {
    match value {
        Value::Times(reading) => reading.counts.len() as u64 + 2,
        Value::Count(_) | Value::Number(_) => 1,
    }
}

fn folded(metric: &Metric, samples: Vec<(Labels, Value)>, detail: MetricsDetail) -> Vec<(Labels, Value)> {
    let of_tenants = detail == MetricsDetail::Tenant && metric.fold != Fold::Kept;
    let is_dropped = |label: &str| PARTS.contains(&label) || of_tenants && label == "pipeline";
    let mut groups: BTreeMap<Labels, Value> = BTreeMap::new();
    for (labels, value) in samples {
        let kept: Labels = labels.iter().filter(|(label, _)| !is_dropped(label)).cloned().collect();
        if metric.fold == Fold::Apart && kept.len() < labels.len() {
            continue;
        }
        match groups.entry(kept) {
            std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(value)),
            std::collections::btree_map::Entry::Occupied(mut known) => join(metric.fold, known.get_mut(), &value),
        }
    }
    groups.into_iter().collect()
}

fn join(fold: Fold, known: &mut Value, other: &Value) {
    let joined = |one: f64, other: f64| match fold {
        Fold::Most => one.max(other),
        Fold::Least => one.min(other),
        Fold::Sum | Fold::Apart | Fold::Kept => one + other,
    };
    match (known, other) {
        (Value::Times(known), Value::Times(other)) => known.and(other),
        (Value::Count(known), Value::Count(other)) => {
            *known = match fold {
                Fold::Most => (*known).max(*other),
                Fold::Least => (*known).min(*other),
                Fold::Sum | Fold::Apart | Fold::Kept => *known + *other,
            };
        }
        (Value::Number(known), Value::Number(other)) => *known = joined(*known, *other),
        _ => {}
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for metric in ALL {
            let Some(samples) = self.0.get(metric.name).filter(|samples| !samples.is_empty()) else { continue };
            let name = metric.full_name();
            // The encoder adds it, where the format wants it.
            let name = name.strip_suffix("_total").unwrap_or(&name);
            let kind = match metric.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
                MetricKind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(name, metric.help, None, kind)?;
            for (labels, value) in samples {
                let labels: Vec<(&str, Cow<'_, str>)> =
                    labels.iter().map(|(label, value)| (*label, Cow::Borrowed(&**value))).collect();
                let mut series = family.encode_family(&labels)?;
                match (metric.kind, value) {
                    (MetricKind::Counter, Value::Count(count)) => {
                        series.encode_counter::<NoLabelSet, _, u64>(count, None)?;
                    }
                    (MetricKind::Counter, Value::Number(number)) => {
                        series.encode_counter::<NoLabelSet, _, u64>(number, None)?;
                    }
                    (_, Value::Count(count)) => series.encode_gauge(count)?,
                    (_, Value::Number(number)) => series.encode_gauge(number)?,
                    (_, Value::Times(reading)) => {
                        let bounds = reading.bounds.iter().copied().chain([f64::INFINITY]);
                        let buckets: Vec<(f64, u64)> = bounds.zip(reading.counts.iter().copied()).collect();
                        series.encode_histogram::<NoLabelSet>(reading.sum, reading.count(), &buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&'static str, &str)]) -> Labels {
        pairs.iter().map(|(label, value)| (*label, Arc::from(*value))).collect()
    }

    fn count(page: &Page, metric: &Metric) -> Vec<(Labels, u64)> {
        let count = |(labels, value): &(Labels, Value)| match value {
            Value::Count(count) => (labels.clone(), *count),
            other => panic!("{other:?}"),
        };
        page.0.get(metric.name).into_iter().flatten().map(count).collect()
    }

    fn page() -> Page {
        let mut page = Page::default();
        for (pipeline, tenant, sink, writes, lag) in
            [("a-1", "a", "x", 1, 5), ("a-1", "a", "y", 2, 5), ("a-2", "a", "x", 4, 9), ("b-1", "b", "x", 8, 1)]
        {
            let own = [("pipeline", pipeline), ("tenant", tenant), ("sink", sink)];
            page.add(&metrics::SINK_WRITES, labels(&own), Value::Count(writes));
            if sink == "x" {
                page.add(&metrics::SOURCE_LAG_BYTES, labels(&own[..2]), Value::Count(lag));
                page.add(&metrics::PIPELINE_UP, labels(&own[..2]), Value::Count(1));
                page.add(&metrics::SOURCE_SERVER_LSN, labels(&own[..2]), Value::Count(7));
            }
        }
        page
    }

    #[test]
    fn coarser_pages_sum_up_and_take_the_worst() {
        let pipelines = page().folded(MetricsDetail::Pipeline);
        let of = |pipeline, tenant| labels(&[("pipeline", pipeline), ("tenant", tenant)]);
        assert_eq!(
            count(&pipelines, &metrics::SINK_WRITES),
            [(of("a-1", "a"), 3), (of("a-2", "a"), 4), (of("b-1", "b"), 8)]
        );
        assert_eq!(count(&pipelines, &metrics::SOURCE_SERVER_LSN).len(), 3);
        let tenants = page().folded(MetricsDetail::Tenant);
        let of = |tenant| labels(&[("tenant", tenant)]);
        assert_eq!(count(&tenants, &metrics::SINK_WRITES), [(of("a"), 7), (of("b"), 8)]);
        assert_eq!(count(&tenants, &metrics::SOURCE_LAG_BYTES), [(of("a"), 9), (of("b"), 1)]);
        assert_eq!(count(&tenants, &metrics::PIPELINE_UP).len(), 3, "each pipeline still says that it runs");
        assert!(
            count(&tenants, &metrics::SOURCE_SERVER_LSN).is_empty(),
            "positions of two servers say nothing together"
        );
        assert_eq!(count(&tenants, &metrics::METRICS_SERIES), [(Vec::new(), 10)]);
    }
}

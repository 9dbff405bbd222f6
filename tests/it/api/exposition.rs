//! A reader of the text formats of Prometheus, as strict as promtool is: what it does not take is told of.

use std::collections::{BTreeMap, BTreeSet};

/// A page of metrics that was read.
pub(crate) struct Exposition {
    /// Type by the name of the family.
    pub(crate) families: BTreeMap<String, String>,
    /// Value by name and labels, as they stand on the page.
    samples: BTreeMap<(String, Vec<(String, String)>), f64>,
}

impl Exposition {
    /// Reads a page.
    ///
    /// # Panics
    /// On anything that promtool would complain of.
    pub(crate) fn read(text: &str, open_metrics: bool) -> Self {
        let (mut families, mut helped) = (BTreeMap::new(), BTreeSet::new());
        let mut samples = BTreeMap::new();
        let mut closed: BTreeSet<String> = BTreeSet::new();
        let mut family = String::new();
        assert!(text.ends_with('\n'));
        assert_eq!(open_metrics, text.ends_with("# EOF\n"), "OpenMetrics ends so, and the other format does not");
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "help of {name}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(helped.contains(name), "{name} has no help");
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
                closed.extend((!family.is_empty()).then(|| family.clone()));
                family = name.to_owned();
                let ends = name.ends_with("_total");
                assert_eq!(ends, kind == "counter" && !open_metrics, "the name of the counter {name}");
            } else {
                let (name, labels, value) = sample(line);
                let kind = families.get(&family).unwrap_or_else(|| panic!("{line}: no type before"));
                let suffix = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line} is not of {family}"));
                let fits = match (kind.as_str(), open_metrics) {
                    ("counter", true) => suffix == "_total",
                    ("histogram", _) => matches!(suffix, "_bucket" | "_sum" | "_count"),
                    _ => suffix.is_empty(),
                };
                assert!(fits && !closed.contains(&family), "{line} in {family}");
                assert!(value.is_finite() && (kind != "counter" || value >= 0.0), "{line}");
                assert!(samples.insert((name, labels), value).is_none(), "{line} twice");
            }
        }
        let read = Self { families, samples };
        read.check_histograms();
        read
    }

    fn check_histograms(&self) {
        for (name, _) in self.families.iter().filter(|(_, kind)| *kind == "histogram") {
            for ((_, labels), count) in
                self.samples.iter().filter(|((sample, _), _)| *sample == format!("{name}_count"))
            {
                let of = |suffix: &str| format!("{name}{suffix}");
                assert!(self.samples.contains_key(&(of("_sum"), labels.clone())));
                let mut buckets: Vec<(f64, f64)> = Vec::new();
                for ((sample, others), value) in &self.samples {
                    let without: Vec<_> = others.iter().filter(|(label, _)| label != "le").cloned().collect();
                    if *sample == of("_bucket") && without == *labels {
                        let bound = &others.iter().find(|(label, _)| label == "le").unwrap().1;
                        buckets.push((bound.parse().unwrap(), *value));
                    }
                }
                buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
                assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{name}: {buckets:?}");
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{name}");
            }
        }
    }

    /// What the series with these labels, and perhaps more, say together. None if there is none.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |own: &[(String, String)]| {
            labels.iter().all(|(label, value)| own.iter().any(|(key, known)| key == label && known == value))
        };
        let found = self.samples.iter().filter(|((sample, own), _)| sample == name && has(own));
        found.map(|(_, value)| *value).reduce(|one, other| one + other)
    }

    /// As `get`, of a metric of the host.
    pub(crate) fn of(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.get(&format!("pgstream_host_{name}"), labels)
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> usize {
        self.samples.len()
    }

    /// The values of a label, wherever it stands.
    pub(crate) fn values(&self, label: &str) -> BTreeSet<String> {
        let labels = self.samples.keys().flat_map(|(_, labels)| labels);
        labels.filter(|(key, _)| key == label).map(|(_, value)| value.clone()).collect()
    }

    /// The labels that there are.
    pub(crate) fn labels(&self) -> BTreeSet<String> {
        self.samples.keys().flat_map(|(_, labels)| labels).map(|(key, _)| key.clone()).collect()
    }
}

fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}")));
    assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
    let (mut labels, mut rest) = (Vec::new(), rest);
    if let Some(inside) = rest.strip_prefix('{') {
        let mut left = inside;
        while !left.starts_with('}') {
            let (label, after) = left.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            let (mut value, mut chars) = (String::new(), after.char_indices());
            let end = loop {
                match chars.next().unwrap_or_else(|| panic!("{line}")) {
                    (at, '"') => break at,
                    (_, '\\') => match chars.next().unwrap().1 {
                        'n' => value.push('\n'),
                        other => value.push(other),
                    },
                    (_, other) => value.push(other),
                }
            };
            labels.push((label.to_owned(), value));
            left = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
        }
        rest = &left[1..];
    }
    let names: BTreeSet<_> = labels.iter().map(|(label, _)| label).collect();
    assert_eq!(names.len(), labels.len(), "{line}: a label twice");
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    labels.sort();
    (name.to_owned(), labels, value.parse().unwrap_or_else(|_| panic!("{line}: no number")))
}

//! The page on operating a host names each metric that there is, and no other.

use std::collections::BTreeSet;

use pgstream_host::meter::{ALL, MetricKind};

use crate::support::program::root;

#[test]
fn the_table_of_metrics_is_made_from_the_code() {
    let mut table = String::from("| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n");
    for metric in ALL {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        table += &format!("| `{}` | {kind} | {} | {} |\n", metric.full_name(), labels.join(", "), metric.help);
    }
    let page = root().join("docs/operating.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (begin, end) = ("<!-- metrics: made from the code; a test fails when stale -->\n", "<!-- end of metrics -->");
    let (before, rest) = text.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let fresh = format!("{before}{begin}\n{table}\n{end}{after}");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&page, &fresh).unwrap();
    }
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text == fresh, "docs/operating.md differs; look at it, then run again with BLESS=1");
}

#[test]
fn what_the_docs_name_exists() {
    let known: BTreeSet<String> = ALL.iter().map(|metric| metric.full_name()).collect();
    for page in ["docs/operating.md", "README.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named = words.filter(|word| word.starts_with("pgstream_host_"));
        for name in named {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(known.contains(name) || family.is_some_and(|family| known.contains(family)), "{page}: {name}");
        }
    }
}

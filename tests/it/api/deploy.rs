//! What `deploy/` ships fits the code: metrics that exist, each of them shown or known to be left out, alerts that are tested and
//! that a runbook explains.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use pgstream_host::meter::{ALL, MetricKind};
use serde_json::Value as Json;

use crate::support::program::root;

/// Metrics that no panel shows, and why.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("pgstream_host_source_server_lsn", "the lag says more"),
    ("pgstream_host_source_clock_offset_seconds", "latencies are mended by it"),
    ("pgstream_host_slot_checked_timestamp_seconds", "what is old is absent"),
    ("pgstream_host_pipeline_in_flight_batches", "their bytes are shown"),
    ("pgstream_host_transform_log_lines_dropped_total", "for whoever misses lines"),
    ("pgstream_host_embedder_text_bytes_total", "texts and tokens are shown"),
    ("pgstream_host_embedder_in_flight", "requests are shown"),
    ("pgstream_host_sink_in_flight", "writes are shown"),
    ("pgstream_host_tenant_weight", "a setting"),
    ("pgstream_host_tenant_pipelines", "a setting"),
    ("pgstream_host_handler_compilations_total", "of starts alone"),
    ("pgstream_host_config_last_reload_timestamp_seconds", "whether it went well is shown"),
    ("pgstream_host_metrics_series", "of the page itself"),
    ("pgstream_host_metrics_detail", "of the page itself"),
    ("process_threads", "few ask"),
    ("process_start_time_seconds", "few ask"),
];

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Json {
    serde_yaml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The metrics that a text names, each under the name of its family.
fn named(text: &str) -> BTreeSet<String> {
    let histogram = |name: &str| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
        let is = ALL.iter().any(|metric| metric.kind == MetricKind::Histogram && metric.full_name() == family);
        is.then(|| family.to_owned())
    };
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("pgstream_host_") || word.starts_with("process_"));
    names.map(|name| histogram(name).unwrap_or_else(|| name.to_owned())).collect()
}

fn known() -> BTreeSet<String> {
    ALL.iter().map(|metric| metric.full_name()).collect()
}

#[test]
fn each_metric_is_on_a_panel_or_known_to_be_left_out() {
    let dashboard: Json = serde_json::from_str(&read("deploy/grafana/pgstream-host.json")).unwrap();
    assert!(dashboard["id"].is_null() && dashboard["uid"] == "pgstream-host", "it can be provisioned");
    let panels = dashboard["panels"].as_array().unwrap();
    let shown = panels.iter().filter(|panel| panel["type"] != "row");
    let mut names = BTreeSet::new();
    for panel in shown {
        let title = &panel["title"];
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} says no unit");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let found = named(target["expr"].as_str().unwrap());
            assert!(!found.is_empty(), "{title}");
            names.extend(found);
        }
    }
    let known = known();
    assert!(names.is_subset(&known), "there are no {:?}", names.difference(&known));
    let left_out: BTreeSet<String> = NOT_SHOWN.iter().map(|(name, _)| (*name).to_owned()).collect();
    let expected: BTreeSet<String> = known.difference(&left_out).cloned().collect();
    assert_eq!(names, expected, "a metric is on a panel, or in the list of those that are not");
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has a number of its own");
}

#[test]
fn each_alert_is_tested_and_explained() {
    let (alerts, tests) = (yaml("deploy/prometheus/alerts.yaml"), yaml("deploy/prometheus/alerts.test.yaml"));
    let (known, docs) = (known(), read("docs/operating.md"));
    let mut names = BTreeSet::new();
    for rule in alerts["groups"][0]["rules"].as_array().unwrap() {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "{name} stands there twice");
        let found = named(rule["expr"].as_str().unwrap());
        assert!(!found.is_empty() && found.is_subset(&known), "{name}: there are no {:?}", found.difference(&known));
        assert!(["critical", "warning", "info"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        let annotations = &rule["annotations"];
        assert!(annotations["summary"].is_string() && annotations["description"].is_string(), "{name}");
        let anchor = format!("docs/operating.md#{}", name.to_lowercase());
        assert!(annotations["runbook_url"].as_str().unwrap().ends_with(&anchor), "{name}");
        assert!(docs.contains(&format!("\n### {name}\n")), "docs/operating.md has no section `{name}`");
        let of_it = || {
            let all = tests["tests"].as_array().unwrap().iter();
            all.flat_map(|test| test["alert_rule_test"].as_array().unwrap()).filter(|test| test["alertname"] == name)
        };
        let fires = |test: &&Json| test["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
        assert!(of_it().any(|test| fires(&test)), "no test in which {name} fires");
        assert!(of_it().any(|test| !fires(&test)), "no test in which {name} does not fire");
    }
    let sections: BTreeSet<&str> = docs.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let explained: BTreeSet<&str> = sections.into_iter().filter(|name| name.starts_with("PgstreamHost")).collect();
    assert_eq!(explained, names, "each section of the runbook is of an alert");
}

#[test]
fn the_alerts_fire_when_they_are_to() {
    let mut promtool = Command::new("promtool");
    promtool.args(["test", "rules", "alerts.test.yaml"]).current_dir(root().join("deploy/prometheus"));
    let Ok(output) = promtool.stdin(Stdio::null()).output() else {
        assert!(std::env::var_os("CI").is_none(), "CI installs Debian's `prometheus`, which has `promtool`");
        eprintln!("skipped: Debian's package `prometheus` has `promtool`, which runs the tests of the alerts");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

//! Tells pipeline files from other YAML that lies beside them in a folder. What cannot be told is
//! taken for a pipeline, so that a broken one is an error and not left out.

use std::path::Path;

use super::ROOM;
use super::handed::text_found_at;
use super::yaml::{self, Node};

/// Keys that a pipeline has and hardly any other file.
const SECTIONS: [&str; 3] = ["sources", "transforms", "sinks"];
/// Words that people write for them.
const MEANT: [&str; 3] = ["source", "transform", "sink"];

/// Tells if the file at `path` is YAML of another kind than a pipeline: it has no section of one,
/// and no `version: 1` with a `name`. Text that is not YAML is alien, too, unless one of its lines
/// begins a section. A file that is empty or cannot be read is not alien.
pub fn is_alien(path: &Path) -> bool {
    let Ok(text) = text_found_at(path) else { return false };
    match yaml::parse(&text, ROOM) {
        Ok(Some(root)) => !is_pipeline(&root),
        Ok(None) => false,
        // Templates of other programs often are no YAML.
        Err(_) => !text.lines().any(|line| begins_section(line.trim_start_matches('\u{feff}'))),
    }
}

/// Tells if the file at `path` is a host file, which often lies beside pipelines.
pub fn is_host_file(path: &Path) -> bool {
    let root = text_found_at(path).ok().and_then(|text| yaml::parse(&text, ROOM).ok().flatten());
    root.is_some_and(|root| root.get("tenants").is_some())
}

fn is_pipeline(root: &Node) -> bool {
    let has = |key: &&str| root.get(key).is_some();
    let is_first = root.get("version").and_then(Node::text) == Some("1");
    SECTIONS.iter().chain(&MEANT).any(has) || (is_first && has(&"name"))
}

fn begins_section(line: &str) -> bool {
    let key = line.split_once(':').map(|(key, _)| key.trim_matches(['"', '\'']));
    key.is_some_and(|key| SECTIONS.contains(&key) || MEANT.contains(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_left_out_and_broken_pipelines_are_not() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file.yaml");
        for (text, alien) in [
            ("version: 1\nname: a\nsources: {}\n", false),
            ("version: 1\nname: a\nsorces: {}\n", false),
            ("source: {}\n", false),
            ("", false),
            ("version: 1\nname: [\nsources:\n  db: {\n", false),
            ("\u{feff}\"sinks\": {\n", false),
            ("- name: tests\n", true),
            ("services:\n  db: { image: postgres }\n", true),
            ("version: \"3\"\nname: stack\nservices: {}\n", true),
            ("apiVersion: v1\nmetadata: {{ include \"x\" . }}\n{{- if .Values.a }}\n", true),
            ("just text\n", true),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(is_alien(&path), alien, "{text}");
        }
        assert!(!is_alien(&scratch.path().join("gone.yaml")));
    }
}

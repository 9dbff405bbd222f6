//! YAML's merge keys, `<<: *defaults` and `<<: [*a, *b]`: a map takes over the entries of others.

use std::collections::HashSet;
use std::mem;

use super::node::{Entry, Kind, Node};

/// Puts in the place of every merge key the entries that its map does not have itself.
pub(super) fn merge(node: &mut Node) {
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(merge),
        Kind::Map(entries) => {
            entries.iter_mut().for_each(|entry| merge(&mut entry.value));
            if !entries.iter().any(is_merge) {
                return;
            }
            let (merges, own): (Vec<_>, Vec<_>) = mem::take(entries).into_iter().partition(is_merge);
            let mut known: HashSet<String> = own.iter().map(|entry| entry.key.clone()).collect();
            *entries = own;
            for entry in merges.into_iter().flat_map(|merge| into_maps(merge.value)).flatten() {
                if known.insert(entry.key.clone()) {
                    entries.push(entry);
                }
            }
        }
        _ => {}
    }
}

/// Tells if an entry stands for the entries of the map, or of the maps, in its value.
fn is_merge(entry: &Entry) -> bool {
    let maps = match &entry.value.kind {
        Kind::Map(_) => true,
        Kind::List(items) => items.iter().all(Node::is_map),
        _ => false,
    };
    entry.key == "<<" && maps
}

/// The entries of a map, or of each map in a list.
fn into_maps(node: Node) -> Vec<Vec<Entry>> {
    match node.kind {
        Kind::Map(entries) => vec![entries],
        Kind::List(items) => items.into_iter().flat_map(into_maps).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::room::Room;
    use crate::config::yaml::parse;

    #[test]
    fn a_merge_key_brings_what_the_map_does_not_have() {
        let room = Room { nodes: 100, text: 100, brackets: 100 };
        let text =
            "x: &x {a: 1, b: 2}\nz: &z {b: 4, c: 5}\ny: {<<: *x, b: 3}\nw: {<<: [*z, *x], <<: {d: 6}, <<: text}\n";
        let root = parse(text, room).unwrap().unwrap();
        let entries = |key: &str| -> Vec<String> {
            let entries = root.get(key).unwrap().entries().iter();
            entries.map(|entry| format!("{}: {}", entry.key, entry.value.text().unwrap())).collect()
        };
        assert_eq!(entries("y"), ["b: 3", "a: 1"]);
        assert_eq!(entries("w"), ["<<: text", "b: 4", "c: 5", "a: 1", "d: 6"]);
    }
}

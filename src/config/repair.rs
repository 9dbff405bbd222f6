//! Changes to a tree of nodes after a mistake was found in it, so that reading can go on.

use std::collections::HashSet;

use super::yaml::{Entry, Id, Kind, Node, Scalar};

/// The value numbered `id`.
pub(super) fn find(node: &Node, id: Id) -> Option<&Node> {
    if node.id == id {
        return Some(node);
    }
    let mut children = node.items().iter().chain(node.entries().iter().map(|entry| &entry.value));
    children.find_map(|child| find(child, id))
}

fn find_mut(node: &mut Node, id: Id) -> Option<&mut Node> {
    if node.id == id {
        return Some(node);
    }
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().find_map(|item| find_mut(item, id)),
        Kind::Map(entries) => entries.iter_mut().find_map(|entry| find_mut(&mut entry.value, id)),
        _ => None,
    }
}

/// The key of the value numbered `value`.
pub(super) fn key_of(node: &Node, value: Id) -> Option<Id> {
    let own = node.entries().iter().find(|entry| entry.value.id == value).map(|entry| entry.id);
    let mut children = node.items().iter().chain(node.entries().iter().map(|entry| &entry.value));
    own.or_else(|| children.find_map(|child| key_of(child, value)))
}

/// Returns the scalar that a node is, if it is one.
pub(super) fn scalar_of(node: &Node) -> Option<&Scalar> {
    match &node.kind {
        Kind::Scalar(scalar) => Some(scalar),
        _ => None,
    }
}

/// Removes the entries with the key numbered `key`.
pub(super) fn remove_entry(node: &mut Node, key: Id) {
    match &mut node.kind {
        Kind::Map(entries) => {
            entries.retain(|entry| entry.id != key);
            entries.iter_mut().for_each(|entry| remove_entry(&mut entry.value, key));
        }
        Kind::List(items) => items.iter_mut().for_each(|item| remove_entry(item, key)),
        _ => {}
    }
}

/// Removes the entry with this value and answers its key; or the item of a list, which has none.
pub(super) fn remove_value(node: &mut Node, value: Id) -> Option<String> {
    match &mut node.kind {
        Kind::Map(entries) => match entries.iter().position(|entry| entry.value.id == value) {
            Some(index) => Some(entries.remove(index).key),
            None => entries.iter_mut().find_map(|entry| remove_value(&mut entry.value, value)),
        },
        Kind::List(items) => match items.iter().position(|item| item.id == value) {
            Some(index) => {
                items.remove(index);
                Some(String::new())
            }
            None => items.iter_mut().find_map(|item| remove_value(item, value)),
        },
        _ => None,
    }
}

/// Gives the map numbered `map` a field that anything may be expected of.
pub(super) fn insert_hole(node: &mut Node, map: Id, name: &str) {
    // No key of the text has this number, so that the hole's own mistakes are told apart from all others.
    const NOWHERE: Id = Id::MAX;
    match find_mut(node, map) {
        Some(Node { kind: Kind::Map(entries), .. }) => {
            let hole = Node { id: NOWHERE, kind: Kind::Hole };
            entries.push(Entry { id: NOWHERE, key: name.to_owned(), value: hole });
        }
        _ => dig_hole(node, map),
    }
}

/// Puts a hole in the place of the value numbered `at`.
pub(super) fn dig_hole(node: &mut Node, at: Id) {
    match find_mut(node, at) {
        Some(found) => found.kind = Kind::Hole,
        None => node.kind = Kind::Hole,
    }
}

/// Adds the numbers of all holes to `holes`.
pub(super) fn collect_holes(node: &Node, holes: &mut HashSet<Id>) {
    if node.is_hole() {
        holes.insert(node.id);
    }
    node.items().iter().for_each(|item| collect_holes(item, holes));
    node.entries().iter().for_each(|entry| collect_holes(&entry.value, holes));
}

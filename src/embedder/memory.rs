//! `Memory`: the vectors that were made last, by what they were made of.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// SHA-256 digest of a text, by which its vector is remembered.
pub(super) type Key = [u8; 32];

pub(super) fn key(text: &str) -> Key {
    Sha256::digest(text.as_bytes()).into()
}

/// Two generations: what is used moves to the young one, and the old one is forgotten whole. Within
/// a factor of two as good as an exact order of use, without one.
pub(super) struct Memory {
    young: HashMap<Key, Arc<[f32]>>,
    old: HashMap<Key, Arc<[f32]>>,
    young_bytes: usize,
    max_bytes: usize,
}

impl Memory {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, max_bytes }
    }

    /// A vector that is remembered. It stays where it is, so that looking for many forgets none of
    /// them; what is used is to be inserted anew.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<[f32]>> {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
    }

    pub(super) fn insert(&mut self, key: Key, row: Arc<[f32]>) {
        const ENTRY: usize = size_of::<(Key, Arc<[f32]>)>() + 32; // with the map's share and the counters of the Arc
        let bytes = ENTRY + size_of_val(&*row);
        if !self.young.contains_key(&key) && self.young_bytes + bytes > self.max_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if bytes <= self.max_bytes / 2 && self.young.insert(key, row).is_none() {
            self.young_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let row: Arc<[f32]> = Arc::from([0.0; 100]);
        let key = |number: u32| key(&number.to_string());
        let mut memory = Memory::new(100 * 500);
        for number in 0..10_000 {
            memory.insert(key(number), Arc::clone(&row));
            let used = memory.get(&key(0)).unwrap_or_else(|| panic!("in use until {number}"));
            memory.insert(key(0), used);
            assert!(memory.young.len() + memory.old.len() <= 104);
        }
        assert!(memory.get(&key(1)).is_none());
        memory.insert(key(1), Arc::from(vec![0.0; 100_000]));
        assert!(memory.get(&key(1)).is_none(), "larger than all of it");
    }
}

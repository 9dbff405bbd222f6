//! `Cached`: an embedder that remembers what it embedded last, so that a replayed batch is not paid for twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::{Embedder, Vectors};
use crate::error::{Error, Fault, Result};

/// Memory for vectors: 20,000 of 768 numbers, far more than the batches between two confirmations hold.
const MAX_BYTES: usize = 64 << 20;

/// Remembers the vectors of `E`.
pub(super) struct Cached<E> {
    inner: E,
    memory: Mutex<Memory>,
}

impl<E> Cached<E> {
    pub(super) fn new(inner: E) -> Self {
        Self { inner, memory: Mutex::new(Memory::new(MAX_BYTES)) }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        // It only holds whole entries, so that a panic elsewhere cannot have left it half done.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<E: Embedder> Embedder for Cached<E> {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        let keys: Vec<Key> = texts.iter().map(|text| Sha256::digest(text.as_bytes()).into()).collect();
        let mut rows: Vec<Option<Arc<[f32]>>> = {
            let mut memory = self.memory();
            keys.iter().map(|key| memory.get(key)).collect()
        };
        let missing = || rows.iter().zip(texts).filter(|(row, _)| row.is_none()).map(|(_, text)| *text);
        let missing: Vec<&str> = missing().collect();
        if !missing.is_empty() {
            let embedded = self.inner.embed(&missing).await?;
            let mut fresh = embedded.rows().map(Arc::<[f32]>::from);
            let mut memory = self.memory();
            for (row, key) in rows.iter_mut().zip(&keys).filter(|(row, _)| row.is_none()) {
                *row = fresh.next();
                row.iter().for_each(|row| memory.insert(*key, Arc::clone(row)));
            }
        }
        let dimension = rows.iter().flatten().next().map_or(0, |row| row.len());
        let mut data = Vec::with_capacity(dimension * texts.len());
        for row in &rows {
            match row {
                Some(row) if row.len() == dimension => data.extend_from_slice(row),
                _ => return Err(Error::new(Fault::Bug, "an embedder answered vectors of several lengths or too few")),
            }
        }
        Ok(Vectors { dimension, data })
    }
}

type Key = [u8; 32];

/// Two generations: what is used moves to the young one, and the old one is forgotten whole. Within a factor of
/// two as good as an exact order of use, without one.
struct Memory {
    young: HashMap<Key, Arc<[f32]>>,
    old: HashMap<Key, Arc<[f32]>>,
    young_bytes: usize,
    max_bytes: usize,
}

impl Memory {
    fn new(max_bytes: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, max_bytes }
    }

    fn get(&mut self, key: &Key) -> Option<Arc<[f32]>> {
        if let Some(row) = self.young.get(key) {
            return Some(Arc::clone(row));
        }
        let row = self.old.remove(key)?;
        self.insert(*key, Arc::clone(&row));
        Some(row)
    }

    fn insert(&mut self, key: Key, row: Arc<[f32]>) {
        const ENTRY: usize = size_of::<(Key, Arc<[f32]>)>() + 32; // with the map's share and the counters of the Arc
        let bytes = ENTRY + size_of_val(&*row);
        if self.young_bytes + bytes > self.max_bytes / 2 {
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

    /// One number per text: its length. Counts what it was asked.
    #[derive(Default)]
    struct Lengths(Mutex<Vec<String>>);

    #[async_trait]
    impl Embedder for Lengths {
        async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
            self.0.lock().unwrap().extend(texts.iter().map(|text| (*text).to_owned()));
            Ok(Vectors { dimension: 1, data: texts.iter().map(|text| text.len() as f32).collect() })
        }
    }

    #[tokio::test]
    async fn what_was_embedded_is_not_asked_for_again() {
        let cached = Cached::new(Lengths::default());
        assert_eq!(cached.embed(&["a", "bb"]).await.unwrap().data, [1.0, 2.0]);
        assert_eq!(cached.embed(&["ccc", "bb", "a"]).await.unwrap().data, [3.0, 2.0, 1.0]);
        assert!(cached.embed(&[]).await.unwrap().data.is_empty());
        assert_eq!(*cached.inner.0.lock().unwrap(), ["a", "bb", "ccc"]);
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let row: Arc<[f32]> = Arc::from([0.0; 100]);
        let key = |number: u32| Key::from(Sha256::digest(number.to_be_bytes()));
        let mut memory = Memory::new(100 * 500);
        for number in 0..10_000 {
            memory.insert(key(number), Arc::clone(&row));
            assert!(memory.get(&key(0)).is_some(), "in use until {number}");
            assert!(memory.young.len() + memory.old.len() <= 104);
        }
        assert!(memory.get(&key(1)).is_none());
        memory.insert(key(1), Arc::from(vec![0.0; 100_000]));
        assert!(memory.get(&key(1)).is_none(), "larger than all of it");
    }
}

//! What one instance may hold: memory over all its linear memories, tables, and how many of each.

use wasmtime::ResourceLimiter;

/// Core instances of one component. Python's dynamic linking takes about forty; the rest is room.
pub(super) const CORE_INSTANCES: u32 = 200;

/// Linear memories of one component: its own, one per adapter, and room.
pub(super) const MEMORIES: u32 = 8;

/// Tables of one component: one for each of its core instances at most.
pub(super) const TABLES: u32 = CORE_INSTANCES;

/// Elements of one table and of all tables of an instance together: StarlingMonkey takes about 20,000.
pub(super) const TABLE_ELEMENTS: usize = 100_000;

/// Counts what the guest holds and refuses what goes beyond the limit.
#[derive(Debug)]
pub(super) struct Meter {
    limit: usize,
    memory: usize,
    last_growth: usize,
    elements: usize,
    refused: Option<usize>,
}

impl Meter {
    /// A meter for `limit` bytes of linear memory.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, memory: 0, last_growth: 0, elements: 0, refused: None }
    }

    /// The bytes that the guest last asked for in vain since the last call of this. A guest that is refused memory usually
    /// gives up with an `unreachable`, which by itself says nothing.
    pub(super) fn take_refused(&mut self) -> Option<usize> {
        self.refused.take()
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let after = self.memory.saturating_add(growth);
        if after > self.limit {
            self.refused = Some(after);
            return Ok(false);
        }
        (self.memory, self.last_growth) = (after, growth);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory -= std::mem::take(&mut self.last_growth);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let after = self.elements.saturating_add(desired.saturating_sub(current));
        let fits = after <= TABLE_ELEMENTS;
        if fits {
            self.elements = after;
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_of_an_instance_count_together() {
        let mut meter = Meter::new(100);
        assert!(meter.memory_growing(0, 60, None).is_ok_and(|granted| granted));
        assert!(meter.memory_growing(0, 41, None).is_ok_and(|granted| !granted));
        assert_eq!(meter.take_refused(), Some(101));
        assert!(meter.memory_growing(0, 40, None).is_ok_and(|granted| granted));
        assert_eq!(meter.take_refused(), None);
    }

    #[test]
    fn growth_that_failed_is_given_back() {
        let mut meter = Meter::new(100);
        assert!(meter.memory_growing(0, 100, None).is_ok_and(|granted| granted));
        assert!(meter.memory_grow_failed(wasmtime::Error::msg("no memory")).is_ok());
        assert!(meter.memory_growing(0, 100, None).is_ok_and(|granted| granted));
    }
}

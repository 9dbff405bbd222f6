//! `Meter`: the most that one instance may hold: memory over all its linear memories, tables, and
//! how many of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

use crate::meter::TransformMeter;

/// Core instances of one component. Python's dynamic linking takes about forty; the rest is room.
pub(super) const CORE_INSTANCES: u32 = 200;

/// Linear memories of one component: its own, and an adapter's in JavaScript.
pub(super) const MEMORIES: u32 = 2;

/// Tables of one component. No toolchain makes more than two, however many modules it links.
pub(super) const TABLES: u32 = 4;

/// Elements of one table and of all tables of an instance together: StarlingMonkey takes about
/// 20,000.
pub(super) const TABLE_ELEMENTS: usize = 100_000;

/// The memory of all instances of a tenant together.
#[derive(Debug)]
pub(super) struct Pool {
    tenant: Option<Arc<str>>,
    limit: usize,
    used: AtomicUsize,
}

impl Pool {
    pub(super) fn new(tenant: Option<&str>, limit: usize) -> Self {
        Self { tenant: tenant.map(Arc::from), limit, used: AtomicUsize::new(0) }
    }

    /// All that is held, and what may be.
    pub(super) fn level(&self) -> (usize, usize) {
        (self.used.load(Ordering::Relaxed), self.limit)
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|after| *after <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Memory that a guest asked for in vain.
#[derive(Debug, PartialEq)]
pub(super) enum Refused {
    /// The instance would have held so much.
    Instance { asked: usize },
    /// The instance may have so much, but not in one of its memories or tables.
    Own { asked: usize },
    /// The instance may have so much more, but its tenant has no room for it.
    Tenant { tenant: Arc<str>, limit: usize, more: usize },
}

/// Counts what the guest holds and refuses what goes beyond a limit.
#[derive(Debug)]
pub(super) struct Meter {
    limit: usize,
    pool: Arc<Pool>,
    handler: Arc<TransformMeter>,
    memory: usize,
    last_growth: usize,
    elements: usize,
    refused: Option<Refused>,
}

impl Meter {
    /// A meter for `limit` bytes of linear memory of an instance of `handler`, taken out of `pool`.
    pub(super) fn new(limit: usize, pool: Arc<Pool>, handler: Arc<TransformMeter>) -> Self {
        handler.instances.more(1);
        Self { limit, pool, handler, memory: 0, last_growth: 0, elements: 0, refused: None }
    }

    /// Takes the last thing that the guest asked for in vain since it was last taken. A guest that
    /// is refused memory usually gives up with an `unreachable`, which by itself says nothing.
    pub(super) fn take_refused(&mut self) -> Option<Refused> {
        self.refused.take()
    }
}

impl Meter {
    /// Returns the last thing that the guest asked for in vain since the last call of
    /// `take_refused`.
    pub(super) fn refused(&self) -> Option<&Refused> {
        self.refused.as_ref()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.pool.give_back(self.memory);
        self.handler.memory.less(self.memory as u64);
        self.handler.instances.less(1);
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let after = self.memory.saturating_add(growth);
        if after > self.limit {
            self.refused = Some(Refused::Instance { asked: after });
            return Ok(false);
        }
        if !self.pool.take(growth) {
            let tenant = self.pool.tenant.clone().unwrap_or_default();
            self.refused = Some(Refused::Tenant { tenant, limit: self.pool.limit, more: growth });
            return Ok(false);
        }
        (self.memory, self.last_growth) = (after, growth);
        self.handler.memory.more(growth as u64);
        self.handler.memory_peak.raise(after as u64);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        let growth = std::mem::take(&mut self.last_growth);
        self.refused = Some(Refused::Own { asked: self.memory });
        self.memory -= growth;
        self.pool.give_back(growth);
        self.handler.memory.less(growth as u64);
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

    fn meter(limit: usize) -> Meter {
        meter_of(limit, &Arc::new(Pool::new(None, usize::MAX)))
    }

    fn meter_of(limit: usize, pool: &Arc<Pool>) -> Meter {
        Meter::new(limit, Arc::clone(pool), Arc::new(TransformMeter::new("embed")))
    }

    #[test]
    fn all_instances_of_a_tenant_count_together_until_they_are_dropped() {
        let pool = Arc::new(Pool::new(Some("acme"), 100));
        let mut one = meter_of(80, &pool);
        let mut other = meter_of(80, &pool);
        assert!(one.memory_growing(0, 70, None).is_ok_and(|granted| granted));
        assert!(other.memory_growing(0, 31, None).is_ok_and(|granted| !granted));
        assert_eq!(other.take_refused(), Some(Refused::Tenant { tenant: "acme".into(), limit: 100, more: 31 }));
        assert!(other.memory_growing(0, 30, None).is_ok_and(|granted| granted));
        drop(one);
        assert!(other.memory_growing(30, 80, None).is_ok_and(|granted| granted));
        drop(other);
        assert_eq!(pool.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_memories_of_an_instance_count_together() {
        let mut meter = meter(100);
        assert!(meter.memory_growing(0, 60, None).is_ok_and(|granted| granted));
        assert!(meter.memory_growing(0, 41, None).is_ok_and(|granted| !granted));
        assert_eq!(meter.take_refused(), Some(Refused::Instance { asked: 101 }));
        assert!(meter.memory_growing(0, 40, None).is_ok_and(|granted| granted));
        assert_eq!(meter.take_refused(), None);
    }

    #[test]
    fn growth_that_failed_is_given_back() {
        let mut meter = meter(100);
        assert!(meter.memory_growing(0, 100, None).is_ok_and(|granted| granted));
        assert!(meter.memory_grow_failed(wasmtime::Error::msg("no memory")).is_ok());
        assert_eq!(meter.handler.memory.get(), 0);
        assert!(meter.memory_growing(0, 100, None).is_ok_and(|granted| granted));
    }
}

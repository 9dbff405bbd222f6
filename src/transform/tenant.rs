//! `Tenant`: what the handlers of one owner share: CPU time, memory, log lines.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::cpu::Share;
use super::engine::Engine;
use super::limits::Pool;
use super::voice::Quota;
use crate::meter::TenantMeter;

/// The most that a tenant may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Its part of the CPU time, in proportion to the weights of others that want to compute.
    pub weight: u32,
    /// Bytes of linear memory of all its instances together.
    pub memory: usize,
    /// Lines per second that all its handlers together may log.
    pub log_lines: u32,
    /// HTTP requests that all its handlers together may have under way, each of which holds a
    /// socket.
    pub requests: usize,
}

impl Default for Allowance {
    /// Returns the allowance of a tenant for which the host file names no other.
    fn default() -> Self {
        Self { weight: 1, memory: 512 << 20, log_lines: 100, requests: 64 }
    }
}

/// An owner of handlers. Clones are the same tenant.
#[derive(Clone)]
pub struct Tenant {
    pub(super) share: Arc<Share>,
    pub(super) memory: Arc<Pool>,
    pub(super) quota: Arc<Quota>,
    pub(super) requests: Arc<Semaphore>,
    pub(super) meter: Arc<TenantMeter>,
}

impl Tenant {
    /// A tenant of `engine` by the name that errors use.
    pub fn new(engine: &Engine, name: &str, allowance: &Allowance) -> Self {
        Self {
            share: Arc::new(engine.share(allowance.weight)),
            memory: Arc::new(Pool::new(Some(name), allowance.memory)),
            quota: Arc::new(Quota::new(allowance.log_lines)),
            requests: Arc::new(Semaphore::new(allowance.requests)),
            meter: Arc::default(),
        }
    }

    /// All that its handlers have used.
    pub fn meter(&self) -> &Arc<TenantMeter> {
        &self.meter
    }

    /// Linear memory that its handlers hold now, and that they may have together; in bytes.
    pub fn memory(&self) -> (usize, usize) {
        self.memory.level()
    }

    /// A handler on its own: weighs as much as any other, and has no limit but its own.
    pub fn lone(engine: &Engine) -> Self {
        Self {
            share: Arc::new(engine.share(1)),
            memory: Arc::new(Pool::new(None, usize::MAX)),
            quota: Arc::default(),
            requests: Arc::new(Semaphore::new(Allowance::default().requests)),
            meter: Arc::default(),
        }
    }
}

//! `Blackhole`: takes everything and keeps nothing but the count.

use async_trait::async_trait;

use super::lines::Lines;
use super::{Delivery, Held, Hit, Query, Sink};
use crate::error::Result;

/// A sink that costs nothing, to measure what lies before it.
#[derive(Debug, Default)]
pub struct Blackhole {
    commands: u64,
    rejected: u64,
}

#[async_trait]
impl Sink for Blackhole {
    async fn resume(&mut self, _origin: &str) -> Result<Option<Held>> {
        Ok(None)
    }

    async fn write(&mut self, delivery: &Delivery<'_>) -> Result<()> {
        self.commands += delivery.commands.len() as u64;
        self.rejected += delivery.rejected.len() as u64;
        Ok(())
    }

    async fn search(&mut self, _query: &Query<'_>) -> Result<Vec<Hit>> {
        Err(Lines::unsearchable("blackhole"))
    }

    async fn close(self: Box<Self>) -> Result<()> {
        tracing::info!(commands = self.commands, rejected = self.rejected, "blackhole closed");
        Ok(())
    }
}

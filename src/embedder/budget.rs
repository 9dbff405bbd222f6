//! `Budgeted`: an embedder that embeds so much in a period, and then asks to be tried again in the next one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;

use super::{Embedder, Vectors};
use crate::config::model::Budget;
use crate::error::{Error, Fault, Result};

/// Counts what `E` is asked.
pub(super) struct Budgeted<E> {
    inner: E,
    name: String,
    budget: Budget,
    spent: Mutex<Spent>,
}

#[derive(Default)]
struct Spent {
    began: Option<Instant>,
    texts: u64,
    bytes: u64,
}

impl<E> Budgeted<E> {
    pub(super) fn new(name: &str, inner: E, budget: &Budget) -> Self {
        Self { inner, name: name.to_owned(), budget: budget.clone(), spent: Mutex::default() }
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spend(&self, texts: u64, bytes: u64, now: Instant) -> Result<()> {
        let name = &self.name;
        let limits = (self.budget.texts.unwrap_or(u64::MAX), self.budget.bytes.map_or(u64::MAX, |bytes| bytes.0));
        if texts > limits.0 || bytes > limits.1 {
            let what = format!(
                "one batch needs {texts} texts of {bytes} bytes, more than the whole budget for embedder `{name}`"
            );
            return Err(
                Error::new(Fault::Config, what).help("raise the budget in the host file, or lower `batch.max_events`")
            );
        }
        let mut spent = self.spent();
        if spent.began.is_none_or(|began| now.duration_since(began) >= self.budget.per.0) {
            *spent = Spent { began: Some(now), texts: 0, bytes: 0 };
        }
        let after = (spent.texts.saturating_add(texts), spent.bytes.saturating_add(bytes));
        if after.0 > limits.0 || after.1 > limits.1 {
            let left = spent
                .began
                .map_or(self.budget.per.0, |began| self.budget.per.0.saturating_sub(now.duration_since(began)));
            let what = format!(
                "the budget for embedder `{name}` is spent; the next period begins in {} s",
                left.as_secs() + 1
            );
            return Err(Error::new(Fault::Transient, what)
                .help("it goes on by itself then; or raise the budget in the host file"));
        }
        (spent.texts, spent.bytes) = after;
        Ok(())
    }
}

#[async_trait]
impl<E: Embedder> Embedder for Budgeted<E> {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        let (count, bytes) = (texts.len() as u64, texts.iter().map(|text| text.len() as u64).sum());
        self.spend(count, bytes, Instant::now())?;
        let embedded = self.inner.embed(texts).await;
        if embedded.is_err() {
            let mut spent = self.spent();
            spent.texts = spent.texts.saturating_sub(count);
            spent.bytes = spent.bytes.saturating_sub(bytes);
        }
        embedded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Size, Span};
    use std::time::Duration;

    #[test]
    fn what_is_spent_comes_back_with_the_next_period() {
        let budget = Budget { texts: Some(10), bytes: Some(Size(100)), per: Span(Duration::from_secs(60)) };
        let budgeted = Budgeted::new("small", (), &budget);
        let now = Instant::now();
        assert!(budgeted.spend(8, 10, now).is_ok());
        assert_eq!(budgeted.spend(3, 10, now).unwrap_err().fault(), Fault::Transient);
        assert!(budgeted.spend(2, 90, now).is_ok());
        assert_eq!(budgeted.spend(1, 0, now + Duration::from_secs(59)).unwrap_err().fault(), Fault::Transient);
        assert!(budgeted.spend(10, 100, now + Duration::from_secs(60)).is_ok());
        assert_eq!(budgeted.spend(11, 0, now).unwrap_err().fault(), Fault::Config, "no period is enough");
    }
}

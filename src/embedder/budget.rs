//! `Account`: what an embedder may embed in a period; beyond it, it asks to be tried again in the
//! next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;

use super::{Embedder, Vectors};
use crate::config::model::Budget;
use crate::error::{Error, Fault, Result};
use crate::meter::EmbedderMeter;

/// A budget, and what is spent of it.
pub struct Account {
    name: String,
    budget: Budget,
    spent: Mutex<Spent>,
}

#[derive(Default)]
struct Spent {
    began: Option<Instant>,
    amount: Amount,
}

#[derive(Clone, Copy, Default)]
struct Amount {
    texts: u64,
    bytes: u64,
    requests: u64,
}

impl Amount {
    fn of(texts: &[&str]) -> Self {
        let bytes = texts.iter().map(|text| text.len() as u64).sum();
        Self { texts: texts.len() as u64, bytes, requests: u64::from(!texts.is_empty()) }
    }

    fn plus(self, more: Self) -> Self {
        Self {
            texts: self.texts.saturating_add(more.texts),
            bytes: self.bytes.saturating_add(more.bytes),
            requests: self.requests.saturating_add(more.requests),
        }
    }

    fn less(self, part: Self) -> Self {
        Self {
            texts: self.texts.saturating_sub(part.texts),
            bytes: self.bytes.saturating_sub(part.bytes),
            requests: self.requests.saturating_sub(part.requests),
        }
    }

    fn exceeds(self, budget: &Budget) -> bool {
        budget.texts.is_some_and(|most| self.texts > most)
            || budget.bytes.is_some_and(|most| self.bytes > most.0)
            || self.requests > budget.most_requests()
    }
}

impl Account {
    pub(super) fn new(name: &str, budget: &Budget) -> Self {
        Self { name: name.to_owned(), budget: budget.clone(), spent: Mutex::default() }
    }

    /// Sets aside what all these requests need, or nothing.
    pub(super) fn charge(&self, requests: &[&[&str]]) -> Result<Vec<Charge<'_>>> {
        let amounts: Vec<Amount> = requests.iter().map(|texts| Amount::of(texts)).collect();
        let sum = amounts.iter().copied().fold(Amount::default(), Amount::plus);
        let period = self.spend(sum, Instant::now())?;
        Ok(amounts.into_iter().map(|amount| Charge { account: self, amount, period }).collect())
    }

    /// The part of the budget that is used in the present period, of the limit that is nearest.
    pub(super) fn used(&self) -> f64 {
        let (spent, per) = (self.spent(), self.budget.per.0);
        if spent.began.is_none_or(|began| began.elapsed() >= per) {
            return 0.0;
        }
        let Amount { texts, bytes, requests } = spent.amount;
        let limits = [
            (texts, self.budget.texts),
            (bytes, self.budget.bytes.map(|most| most.0)),
            (requests, Some(self.budget.most_requests())),
        ];
        let parts = limits.into_iter().filter_map(|(used, most)| Some(used as f64 / most?.max(1) as f64));
        parts.fold(0.0, f64::max)
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers when the period began of which it is spent.
    fn spend(&self, amount: Amount, now: Instant) -> Result<Instant> {
        let name = &self.name;
        if amount.exceeds(&self.budget) {
            let Amount { texts, bytes, requests } = amount;
            let what = format!(
                "one batch needs {texts} texts of {bytes} bytes in {requests} requests, more than the whole budget for embedder `{name}`"
            );
            return Err(
                Error::new(Fault::Config, what).help("raise the budget in the host file, or lower `batch.max_events`")
            );
        }
        let per = self.budget.per.0;
        let mut spent = self.spent();
        let began = match spent.began.filter(|began| now.duration_since(*began) < per) {
            Some(began) => began,
            None => {
                *spent = Spent { began: Some(now), amount: Amount::default() };
                now
            }
        };
        let after = spent.amount.plus(amount);
        if after.exceeds(&self.budget) {
            let left = per.saturating_sub(now.duration_since(began));
            let what = format!(
                "the budget for embedder `{name}` is spent; the next period begins in {} s",
                left.as_secs() + 1
            );
            return Err(Error::new(Fault::Transient, what)
                .after(left)
                .help("it goes on by itself then; or raise the budget in the host file"));
        }
        spent.amount = after;
        Ok(began)
    }

    /// Gives back an amount that was spent in `period`. If another period has begun, the amount is
    /// forgotten.
    fn give_back(&self, amount: Amount, period: Instant) {
        let mut spent = self.spent();
        if spent.began == Some(period) {
            spent.amount = spent.amount.less(amount);
        }
    }
}

/// Amount set aside for a request that is not sent yet. Given back if the request is never sent.
pub(super) struct Charge<'a> {
    account: &'a Account,
    amount: Amount,
    period: Instant,
}

impl<'a> Charge<'a> {
    /// The request is sent: it is paid for, unless it turns out to be for nothing.
    pub(super) fn spend(mut self) -> Receipt<'a> {
        Receipt { account: self.account, amount: std::mem::take(&mut self.amount), period: self.period }
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.account.give_back(self.amount, self.period);
    }
}

/// Cost of a request that was sent.
pub(super) struct Receipt<'a> {
    account: &'a Account,
    amount: Amount,
    period: Instant,
}

impl Receipt<'_> {
    /// It brought nothing and costs nothing. That it was made counts nonetheless: a server's
    /// patience is spent, too.
    pub(super) fn give_back(self) {
        self.account.give_back(Amount { requests: 0, ..self.amount }, self.period);
    }
}

/// Counts what `E`, which costs nobody money, is asked.
pub(super) struct Budgeted<E> {
    inner: E,
    account: Account,
}

impl<E> Budgeted<E> {
    pub(super) fn new(inner: E, account: Account) -> Self {
        Self { inner, account }
    }
}

#[async_trait]
impl<E: Embedder> Embedder for Budgeted<E> {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        self.account.spend(Amount::of(texts), Instant::now())?;
        self.inner.embed(texts).await
    }

    fn model(&self) -> String {
        self.inner.model()
    }

    fn meter(&self) -> Option<Arc<EmbedderMeter>> {
        self.inner.meter()
    }

    fn budget_used(&self) -> Option<f64> {
        Some(self.account.used())
    }

    async fn probe(&self) -> Result<()> {
        self.inner.probe().await
    }

    async fn dimension(&self) -> Result<usize> {
        self.inner.dimension().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Size, Span};
    use std::time::Duration;

    #[test]
    fn what_is_spent_comes_back_with_the_next_period() {
        let per = Span(Duration::from_secs(60));
        let budget = Budget { texts: Some(10), bytes: Some(Size(100)), requests: None, per };
        let account = Account::new("small", &budget);
        let began = Instant::now();
        let spend = |texts, bytes, seconds| {
            let spent = account.spend(Amount { texts, bytes, requests: 1 }, began + Duration::from_secs(seconds));
            spent.map(drop).map_err(|error| error.fault())
        };
        assert_eq!(spend(8, 10, 0), Ok(()));
        assert_eq!(spend(3, 10, 0), Err(Fault::Transient));
        assert_eq!(spend(2, 90, 0), Ok(()));
        assert_eq!(spend(1, 0, 59), Err(Fault::Transient));
        assert_eq!(spend(10, 100, 60), Ok(()));
        assert_eq!(spend(11, 0, 60), Err(Fault::Config), "no period is enough");
    }

    #[test]
    fn requests_count_also_when_they_are_refused() {
        let of = |texts, bytes: Option<u64>, requests| {
            let per = Span(Duration::from_secs(60));
            Account::new("small", &Budget { texts, bytes: bytes.map(Size), requests, per })
        };
        for (account, most) in
            [(of(Some(9), None, Some(3)), 3), (of(Some(4), None, None), 4), (of(None, Some(5), None), 5)]
        {
            for request in 0..most {
                let charges = account.charge(&[&["x"]]).unwrap_or_else(|error| panic!("{request}: {error:?}"));
                charges.into_iter().for_each(|charge| charge.spend().give_back());
            }
            assert_eq!(account.charge(&[&["x"]]).map(drop).map_err(|error| error.fault()), Err(Fault::Transient));
        }
        let account = of(Some(1), None, None);
        drop(account.charge(&[&["never sent"]]).unwrap());
        assert!(account.charge(&[&["sent"]]).is_ok(), "what is not sent is no request");
    }

    #[test]
    fn what_comes_back_late_is_not_of_the_next_period() {
        let budget = Budget { texts: Some(10), bytes: None, requests: None, per: Span(Duration::from_secs(60)) };
        let account = Account::new("small", &budget);
        let (began, all) = (Instant::now(), Amount { texts: 10, bytes: 0, requests: 1 });
        let first = account.spend(all, began).unwrap();
        let second = account.spend(all, began + Duration::from_secs(60)).unwrap();
        account.give_back(all, first);
        assert_eq!(account.spent().amount.texts, 10);
        account.give_back(all, second);
        assert_eq!(account.spent().amount.texts, 0);
    }
}

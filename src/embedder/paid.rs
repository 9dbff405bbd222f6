//! `Paid`: an embedder whose provider costs money: for no text twice, and within a budget.
//!
//! Each answer is remembered when it arrives, and counts from then on, whatever becomes of the
//! other requests of its call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use indexmap::IndexMap;
use tokio_util::sync::CancellationToken;

use super::budget::{Account, Charge, Receipt};
use super::memory::{Key, Memory, key};
use super::{ANY_TEXT, Embedder, Vectors};
use crate::error::{Error, Fault, Result};
use crate::meter::EmbedderMeter;

/// Memory for vectors, of which half is sure: the last 5,000 of 1536 numbers, the last 10,000 of
/// 768. Of a call that fails after more than that, the rest is asked for again.
const MAX_BYTES: usize = 64 << 20;

/// A provider that is asked in requests of bounded size.
#[async_trait]
pub(super) trait Provider: Send + Sync {
    /// Cuts `texts` into requests, in their order.
    fn requests<'s, 't>(&self, texts: &'s [&'t str]) -> Vec<&'s [&'t str]>;

    /// Returns the largest number of requests under way at once.
    fn at_once(&self) -> usize;

    /// One request, repeated while that is worth it and not `enough`.
    async fn request(&self, texts: &[&str], enough: &CancellationToken) -> Result<Vectors, Unanswered>;

    /// Length of the vectors, as far as it is known without asking.
    fn known_dimension(&self) -> Option<usize>;

    /// As [`Embedder::model`].
    fn model(&self) -> String;

    /// The counts of it.
    fn meter(&self) -> &Arc<EmbedderMeter>;

    /// As [`Embedder::probe`].
    async fn probe(&self) -> Result<()>;
}

/// A request that brought no vectors.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) error: Error,
    /// True if the provider may have embedded the texts, so that they are to be paid for.
    pub(super) billed: bool,
}

/// Asks `P` for what it does not remember.
pub(super) struct Paid<P> {
    provider: P,
    memory: Mutex<Memory>,
    account: Option<Account>,
}

impl<P: Provider> Paid<P> {
    pub(super) fn new(provider: P, account: Option<Account>) -> Self {
        Self { provider, memory: Mutex::new(Memory::new(MAX_BYTES)), account }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // It only holds whole entries, so that a panic elsewhere cannot have left it half done.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of the vectors that are remembered.
    fn recall(&self, keys: &[Key]) -> HashMap<Key, Arc<[f32]>> {
        let mut memory = self.memory();
        let found: HashMap<_, _> = keys.iter().filter_map(|key| Some((*key, memory.get(key)?))).collect();
        found.iter().for_each(|(key, row)| memory.insert(*key, Arc::clone(row)));
        found
    }

    /// The vectors of texts that are not remembered, in their order. After a failure nothing more
    /// is sent than what is under way, or in line for it; that is waited for.
    async fn buy(&self, texts: &[&str]) -> Result<Vec<Arc<[f32]>>> {
        let requests = self.provider.requests(texts);
        let charges = self.account.as_ref().map(|account| account.charge(&requests)).transpose()?;
        let charges = charges.into_iter().flatten().map(Some).chain(std::iter::repeat_with(|| None));
        let enough = CancellationToken::new();
        let asked: Vec<_> =
            requests.iter().zip(charges).map(|(texts, charge)| self.ask(texts, charge, &enough)).collect();
        let mut answers = stream::iter(asked).buffered(self.provider.at_once());
        let (mut bought, mut failure) = (Vec::with_capacity(texts.len()), None::<Error>);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(rows) => bought.extend(rows),
                // What does not pass says more than what was given up meanwhile.
                Err(error) if failure.as_ref().is_none_or(|known| known.fault() == Fault::Transient) => {
                    failure = error.or(failure);
                }
                Err(_) => {}
            }
        }
        failure.map_or(Ok(bought), Err)
    }

    /// One request. None as the error if it was not sent any more.
    async fn ask(
        &self,
        texts: &[&str],
        charge: Option<Charge<'_>>,
        enough: &CancellationToken,
    ) -> Result<Vec<Arc<[f32]>>, Option<Error>> {
        if enough.is_cancelled() {
            return Err(None);
        }
        let receipt = charge.map(Charge::spend);
        match self.provider.request(texts, enough).await {
            Ok(vectors) => {
                let rows: Vec<Arc<[f32]>> = vectors.rows().map(Arc::from).collect();
                let mut memory = self.memory();
                texts.iter().zip(&rows).for_each(|(text, row)| memory.insert(key(text), Arc::clone(row)));
                Ok(rows)
            }
            Err(Unanswered { error, billed }) => {
                enough.cancel();
                receipt.filter(|_| !billed).into_iter().for_each(Receipt::give_back);
                Err(Some(error))
            }
        }
    }
}

#[async_trait]
impl<P: Provider> Embedder for Paid<P> {
    fn model(&self) -> String {
        self.provider.model()
    }

    fn meter(&self) -> Option<Arc<EmbedderMeter>> {
        Some(Arc::clone(self.provider.meter()))
    }

    fn budget_used(&self) -> Option<f64> {
        self.account.as_ref().map(Account::used)
    }

    async fn probe(&self) -> Result<()> {
        let charges = self.account.as_ref().map(|account| account.charge(&[&[ANY_TEXT]])).transpose()?;
        let receipts: Vec<Receipt<'_>> = charges.into_iter().flatten().map(Charge::spend).collect();
        let probed = self.provider.probe().await;
        if probed.is_err() {
            receipts.into_iter().for_each(Receipt::give_back);
        }
        probed
    }

    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        let keys: Vec<Key> = texts.iter().map(|text| key(text)).collect();
        let mut rows = self.recall(&keys);
        let missing: IndexMap<Key, &str> =
            keys.iter().copied().zip(texts.iter().copied()).filter(|(key, _)| !rows.contains_key(key)).collect();
        self.provider.meter().cache_hits.add(rows.len() as u64);
        if !missing.is_empty() {
            let (missing, texts): (Vec<Key>, Vec<&str>) = missing.into_iter().unzip();
            rows.extend(missing.into_iter().zip(self.buy(&texts).await?));
        }
        let dimension = rows.values().next().map_or(0, |row| row.len());
        let mut data = Vec::with_capacity(dimension * texts.len());
        for key in &keys {
            match rows.get(key) {
                Some(row) if row.len() == dimension => data.extend_from_slice(row),
                _ => return Err(Error::new(Fault::Bug, "an embedder answered vectors of several lengths or too few")),
            }
        }
        Ok(Vectors { dimension, data })
    }

    async fn dimension(&self) -> Result<usize> {
        match self.provider.known_dimension() {
            Some(known) => Ok(known),
            None => Ok(self.embed(&[ANY_TEXT]).await?.dimension),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Budget;
    use crate::config::{Size, Span};
    use std::collections::BTreeSet;
    use std::time::Duration;

    /// One number per text: its length. Sends two texts in a request, one request at a time, and
    /// refuses what it does not like.
    #[derive(Default)]
    struct Lengths {
        asked: Mutex<Vec<String>>,
        refused: Mutex<BTreeSet<&'static str>>,
        bills_refusals: bool,
        meter: Meter,
    }

    struct Meter(Arc<EmbedderMeter>);

    impl Default for Meter {
        fn default() -> Self {
            Self(Arc::new(EmbedderMeter::new("small")))
        }
    }

    #[async_trait]
    impl Provider for Lengths {
        fn requests<'s, 't>(&self, texts: &'s [&'t str]) -> Vec<&'s [&'t str]> {
            texts.chunks(2).collect()
        }

        fn at_once(&self) -> usize {
            1
        }

        async fn request(&self, texts: &[&str], _: &CancellationToken) -> Result<Vectors, Unanswered> {
            self.asked.lock().unwrap().extend(texts.iter().map(|text| (*text).to_owned()));
            if texts.iter().any(|text| self.refused.lock().unwrap().contains(text)) {
                return Err(Unanswered { error: Error::new(Fault::Data, "refused"), billed: self.bills_refusals });
            }
            Ok(Vectors { dimension: 1, data: texts.iter().map(|text| text.len() as f32).collect() })
        }

        fn known_dimension(&self) -> Option<usize> {
            None
        }

        fn model(&self) -> String {
            String::new()
        }

        fn meter(&self) -> &Arc<EmbedderMeter> {
            &self.meter.0
        }

        async fn probe(&self) -> Result<()> {
            Ok(())
        }
    }

    fn asked(paid: &Paid<Lengths>) -> Vec<String> {
        std::mem::take(&mut paid.provider.asked.lock().unwrap())
    }

    fn refusing(text: &'static str, texts: Option<u64>, bills_refusals: bool) -> Paid<Lengths> {
        let provider = Lengths { refused: Mutex::new([text].into()), bills_refusals, ..Lengths::default() };
        let per = Span(Duration::from_secs(3600));
        let account =
            texts.map(|texts| Account::new("small", &Budget { texts: Some(texts), bytes: None, requests: None, per }));
        Paid::new(provider, account)
    }

    #[tokio::test]
    async fn what_was_embedded_is_not_asked_for_again() {
        let paid = Paid::new(Lengths::default(), None);
        assert_eq!(paid.embed(&["a", "bb", "a"]).await.unwrap().data, [1.0, 2.0, 1.0]);
        assert_eq!(paid.embed(&["ccc", "bb", "a"]).await.unwrap().data, [3.0, 2.0, 1.0]);
        assert!(paid.embed(&[]).await.unwrap().data.is_empty());
        assert_eq!(asked(&paid), ["a", "bb", "ccc"]);
    }

    #[tokio::test]
    async fn what_was_answered_before_a_failure_is_kept_and_no_more_is_sent() {
        let paid = refusing("bad", None, false);
        let texts = ["a", "b", "c", "d", "bad", "e", "f", "g"];
        assert_eq!(paid.embed(&texts).await.unwrap_err().to_string(), "refused");
        assert_eq!(asked(&paid), ["a", "b", "c", "d", "bad", "e"]);
        paid.provider.refused.lock().unwrap().clear();
        paid.embed(&texts).await.unwrap();
        assert_eq!(asked(&paid), ["bad", "e", "f", "g"]);
    }

    #[tokio::test]
    async fn what_was_answered_stays_charged_and_what_was_not_sent_is_given_back() {
        for (bills_refusals, left) in [(false, 6), (true, 4)] {
            let paid = refusing("bad", Some(8), bills_refusals);
            paid.embed(&["a", "b", "bad", "c", "d", "e", "f", "g"]).await.unwrap_err();
            let texts: Vec<String> = (0..=left).map(|number| number.to_string()).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let error = paid.embed(&texts).await.unwrap_err();
            assert_eq!(error.fault(), Fault::Transient);
            assert!(error.pause().is_some_and(|pause| pause > Duration::from_secs(3500)), "{:?}", error.pause());
            paid.embed(&texts[1..]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_goes_away_pays_for_what_was_sent() {
        let account = Account::new(
            "small",
            &Budget { texts: Some(8), bytes: Some(Size(80)), requests: Some(80), per: Span(Duration::from_secs(60)) },
        );
        let requests = [&["a", "b"][..], &["c"], &["d", "e"]];
        let mut charges = account.charge(&requests).unwrap().into_iter();
        let sent = charges.next().map(Charge::spend);
        drop((sent, charges));
        assert!(account.charge(&[&["1", "2", "3", "4", "5", "6", "7"]]).is_err());
        assert!(account.charge(&[&["1", "2", "3", "4", "5", "6"]]).is_ok());
    }
}

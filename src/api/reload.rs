//! `ReloadOrder`: a reload that somebody asks for through the API. Whoever reads the files takes
//! orders, one at a time.

use tokio::sync::{mpsc, oneshot};

use crate::host::{CarriedOut, ReloadPlan, ReloadProblem};

/// Orders that may wait. One more is refused.
const WAITING: usize = 8;

/// A reload that is asked for.
pub struct ReloadOrder {
    /// Nothing is to be done; it is to be said what would be.
    pub plan: bool,
    /// The plan that is to be carried out, and no other one.
    pub hash: Option<String>,
    /// Whoever asks, for the log.
    pub by: String,
    answer: oneshot::Sender<ReloadAnswer>,
}

/// The answer to an order.
pub enum ReloadAnswer {
    /// That would be done.
    Planned(ReloadPlan),
    /// It was done.
    Done {
        /// The hash of the plan.
        hash: String,
        /// All that became of the pipelines.
        done: Vec<CarriedOut>,
    },
    /// Nothing was done: the plan is another one by now, with this hash.
    Stale {
        /// The hash of the plan as it is now.
        hash: String,
    },
    /// Nothing was done: the files cannot be read together.
    Refused(Vec<ReloadProblem>),
}

impl ReloadOrder {
    pub(super) fn new(plan: bool, hash: Option<String>, by: String) -> (Self, oneshot::Receiver<ReloadAnswer>) {
        let (answer, answered) = oneshot::channel();
        (Self { plan, hash, by, answer }, answered)
    }

    /// Answers it. Whoever asked may have gone away.
    pub fn answer(self, answer: ReloadAnswer) {
        let _ = self.answer.send(answer);
    }
}

/// The way of orders to whoever reads the files.
pub fn reload_orders() -> (mpsc::Sender<ReloadOrder>, mpsc::Receiver<ReloadOrder>) {
    mpsc::channel(WAITING)
}

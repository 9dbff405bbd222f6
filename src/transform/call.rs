//! `Call`: the call that a guest is busy with, and the reasons for which the host ends one.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::Result;

/// The call that an instance is busy with.
pub(super) struct Call<A> {
    /// The caller's runtime, which does the waiting.
    pub(super) runtime: Handle,
    /// The way of the answer; closed when nobody waits for it any more.
    pub(super) reply: oneshot::Sender<Result<A>>,
}

/// The reason why the host ended a call. Carried through the guest's frames as the cause of the trap.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("the call ran {ran:?}")]
    Deadline { ran: Duration },
    #[error("the call waited {limit:?}")]
    Patience { limit: Duration },
    #[error("nobody waits for the answer any more")]
    Abandoned,
}

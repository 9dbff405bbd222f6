//! The turn: one process at a time looks what a pipeline has on the server, and makes what is
//! missing.
//!
//! It is a lock on `pgstream.slots`, which only those can take who may write there. An advisory
//! lock would be simpler, and anybody who may log in could take it and keep it.

use tokio_postgres::Client;

use super::blockers;
use super::settings::Settings;
use crate::error::Result;
use crate::postgres::{ReadRow, failed};

/// The lock is not in the way of those who read and write rows. It ends with the transaction, which
/// holds no id before it writes: the making of a slot elsewhere does not wait for it. What is
/// waited for longer has a name by then, and is another's concern.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '60s'; LOCK TABLE pgstream.slots IN SHARE UPDATE EXCLUSIVE MODE";

/// Does `work` in one transaction, when no other process does such work. Says who is in the way.
///
/// # Errors
/// `Transient`, with who holds what is waited for, if that takes too long.
pub(super) async fn take<T>(client: &Client, settings: &Settings, work: impl Future<Output = Result<T>>) -> Result<T> {
    let failed = |error| failed("cannot note the pipeline's state", error);
    let run = async |sql: &str| client.batch_execute(sql).await.map_err(failed);
    let ours = client.query_one("SELECT pg_backend_pid()", &[]).await.map_err(failed)?.read(0)?;
    let done = async {
        run(BEGIN).await?;
        let done = work.await?;
        run("COMMIT").await?;
        Ok(done)
    };
    let done = blockers::name(settings, ours, done).await;
    if done.is_err() {
        // A session that is lost has taken the transaction with it.
        let _ = run("ROLLBACK").await;
    }
    done
}

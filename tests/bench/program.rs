//! The program itself, as a process of its own whose memory and time are its own.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pgstream_host::host::cache_folder;
use pgstream_host::transform::Engine;
use rustix::process::{Pid, Signal, kill_process};

use crate::flow::{self, Flow};
use crate::handler::{failed, load};
use crate::machine::Process;
use crate::rig::Rig;

/// How long the program may take for what it is waited for.
const PATIENCE: Duration = Duration::from_secs(900);
const LOOK: Duration = Duration::from_millis(100);

/// `pgstream-host run`, which ends with its owner.
pub(crate) struct Program {
    child: Child,
    slot: String,
    _folder: tempfile::TempDir,
}

impl Program {
    /// Starts the program on a table. Its handler is compiled before: what a compiler leaves behind is not the memory of a
    /// pipeline.
    pub(crate) fn start(rig: &Rig, table: &str, flow: &Flow<'_>) -> Result<Self> {
        drop(load(&Engine::new(cache_folder().as_deref()).map_err(failed)?, flow.handler, 1)?);
        let slot = rig.slot(table)?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("bench.yaml");
        std::fs::write(&file, flow::pipeline(&rig.url, table, &slot, flow))?;
        let child = Command::new(env!("CARGO_BIN_EXE_pgstream-host"))
            .args(["run".as_ref(), file.as_os_str()])
            .env("PGSTREAM_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .context("pgstream-host")?;
        Ok(Self { child, slot, _folder: folder })
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Waits until Postgres may forget everything up to where the log is now; answers how many bytes the program had in
    /// memory meanwhile, look by look.
    pub(crate) async fn catch_up(&mut self, rig: &Rig) -> Result<Vec<f64>> {
        let end = rig.sql("SELECT pg_current_wal_insert_lsn()")?;
        let sql = format!(
            "SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = '{}'",
            self.slot
        );
        let (client, began, mut memory) = (rig.client().await?, Instant::now(), Vec::new());
        while !client.query_one(&sql, &[]).await?.get::<_, bool>(0) {
            ensure!(self.child.try_wait()?.is_none(), "pgstream-host has ended");
            ensure!(began.elapsed() < PATIENCE, "pgstream-host does not get through the log");
            memory.push(self.process().resident()? as f64);
            // Moves the log on, so that the server reports what lies behind the last row.
            client.query("SELECT pg_log_standby_snapshot()", &[]).await?;
            tokio::time::sleep(LOOK).await;
        }
        memory.push(self.process().resident()? as f64);
        Ok(memory)
    }

    /// Ends the program in order.
    pub(crate) fn stop(mut self, rig: &Rig) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "pgstream-host ended with {status}");
        rig.drop_slot(&self.slot)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

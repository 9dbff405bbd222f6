//! Steering: a pipeline is paused, resumed and started again, as somebody asks for it while the
//! host runs.

use super::handle::PipelineHandle;
use super::state::{Pause, Phase};
use super::supervisor::Supervisor;
use crate::error::{Error, Fault, Result};

impl Supervisor {
    /// Brings a pipeline to rest: it takes in nothing new, finishes what it has received, and lets
    /// its slot go, which stays with its position. Returns when nothing of it runs. One that is
    /// paused already stays so, and says who has paused it first.
    ///
    /// # Errors
    /// `Config` if the host has no such pipeline, or it has ended; what it ended with if it failed
    /// meanwhile.
    pub async fn pause(&self, name: &str, pause: Pause) -> Result<PipelineHandle> {
        let handle = self.of_name(name)?;
        let _turn = handle.0.turn.lock().await;
        match handle.state().state {
            Phase::Paused => return Ok(handle.clone()),
            Phase::Failed | Phase::Stopped => return Err(has_ended(&handle, "paused")),
            _ if self.ends() => return Err(host_ends()),
            _ => {}
        }
        let by = pause.by.clone();
        handle.wishes(pause);
        self.end_run(&handle).await;
        if !handle.is_paused() {
            return Err(if self.ends() { host_ends() } else { has_ended(&handle, "paused") });
        }
        tracing::info!(pipeline = name, by, "paused; its slot stays, and Postgres keeps the log for it");
        Ok(handle.clone())
    }

    /// Lets a pipeline that is paused go on where it was. One that runs is left alone.
    ///
    /// # Errors
    /// `Config` if the host has no such pipeline, or it has ended.
    pub async fn resume(&self, name: &str, by: &str) -> Result<PipelineHandle> {
        let handle = self.of_name(name)?;
        let _turn = handle.0.turn.lock().await;
        match handle.state().state {
            Phase::Paused if self.ends() => return Err(host_ends()),
            Phase::Paused => {
                self.begin_again(&handle);
                tracing::info!(pipeline = name, by, "resumed");
            }
            Phase::Failed | Phase::Stopped => return Err(has_ended(&handle, "resumed")),
            _ => {}
        }
        Ok(handle.clone())
    }

    /// Stops a pipeline in order and starts it with the settings that it has; also one that has
    /// failed.
    ///
    /// # Errors
    /// `Config` if the host has no such pipeline, or it is paused.
    pub async fn restart(&self, name: &str, by: &str) -> Result<PipelineHandle> {
        let handle = self.of_name(name)?;
        let _turn = handle.0.turn.lock().await;
        if handle.is_paused() {
            let by = handle.state().by.unwrap_or_default();
            let what = format!("pipeline `{name}` is paused, by {by}");
            return Err(Error::new(Fault::Config, what).help(format!("pgstream-host resume {name}")));
        }
        // Between the one and the other nothing runs, and yet it is not the end.
        let _not_over = self.not_over();
        self.end_run(&handle).await;
        if self.ends() {
            return Err(host_ends());
        }
        self.begin_again(&handle);
        tracing::info!(pipeline = name, by, "started again, as somebody asked for");
        Ok(handle.clone())
    }

    fn of_name(&self, name: &str) -> Result<PipelineHandle> {
        self.get(name).ok_or_else(|| {
            let what = format!("this host runs no pipeline `{name}`");
            Error::new(Fault::Config, what).help("`pgstream-host status` lists those that it runs")
        })
    }
}

fn has_ended(handle: &PipelineHandle, what: &str) -> Error {
    let (name, state) = (handle.name(), handle.state());
    let why = state.last_error.filter(|_| state.state == Phase::Failed).map(|error| error.message);
    let error =
        Error::new(Fault::Config, format!("pipeline `{name}` has {} and cannot be {what}", state.state.as_str()));
    let error = error.help(format!("`pgstream-host restart {name}` starts it once what it failed of is mended"));
    match why {
        Some(why) => error.because(why),
        None => error,
    }
}

fn host_ends() -> Error {
    Error::new(Fault::Config, "the host is about to end").help("start it again: what it ran goes on then")
}

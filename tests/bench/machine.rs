//! What the figures were measured on, and what else it was doing.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value as Json, json};

/// The machine, the build and the server.
pub(crate) fn describe(postgres: Option<&str>) -> Json {
    let line = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let value =
            text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':').map(|(_, value)| value.trim()));
        value.map(str::to_owned)
    };
    json!({
        "cpu": line("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": line("/proc/meminfo", "MemTotal"),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
        "postgres": postgres,
        "profile": profile(),
        "commit": commit(),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// How many programs wanted to run in the last minute, on average; a build right before counts, too.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Cargo puts what it builds into a folder that is named after the profile, except for `dev` and `bench`.
fn profile() -> String {
    let exe = std::env::current_exe().ok();
    let folder = exe.as_deref().and_then(Path::parent).and_then(Path::parent).and_then(Path::file_name);
    let folder = folder.map_or("unknown".into(), |folder| folder.to_string_lossy());
    let checks = if cfg!(debug_assertions) { ", with debug assertions" } else { "" };
    format!("{}{checks}", if folder == "debug" { "dev" } else { &folder })
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|files| !files.is_empty());
    Some(format!("{}{}", git(&["rev-parse", "--short", "HEAD"])?, if changed { ", with changes" } else { "" }))
}

/// A process, as `/proc` shows it.
pub(crate) struct Process(pub(crate) u32);

impl Process {
    pub(crate) fn current() -> Self {
        Self(std::process::id())
    }

    /// Bytes in memory now.
    pub(crate) fn resident(&self) -> Result<usize> {
        self.memory("VmRSS:")
    }

    /// The most bytes in memory since the last [`forget_peak`](Self::forget_peak).
    pub(crate) fn peak(&self) -> Result<usize> {
        self.memory("VmHWM:")
    }

    pub(crate) fn forget_peak(&self) -> Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").context("cannot reset the peak of a process's memory")
    }

    fn memory(&self, key: &str) -> Result<usize> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.0)).context("memory is only measured on Linux")?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line in `status`")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
    }

    /// Times that a thread went to sleep and was woken, over all threads that live now, but the one that measures.
    pub(crate) fn wakes(&self) -> Result<u64> {
        let (mut wakes, own) = (0, self.0.to_string());
        for task in fs::read_dir(format!("/proc/{own}/task")).context("wake-ups are only counted on Linux")? {
            let task = task?;
            if task.file_name() == own.as_str() {
                continue; // the first thread looks again and again if all rows are there
            }
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue }; // it has ended
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            wakes += count.map_or(Ok(0), |count| count.trim().parse::<u64>())?;
        }
        Ok(wakes)
    }

    /// CPU time used so far, in seconds, in user space and in the kernel.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.0)).context("CPU time is only measured on Linux")?;
        // The name, in brackets, may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).context("`stat`");
        let per_second = Command::new("getconf").arg("CLK_TCK").output().context("getconf")?;
        let per_second: f64 = String::from_utf8(per_second.stdout)?.trim().parse()?;
        Ok((ticks(11)? + ticks(12)?) as f64 / per_second)
    }
}

//! `Folder`: a private, temporary folder that goes when it is dropped, or when this process is
//! gone.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::process::{Owner, command, environment, not_runnable};
use crate::error::Result;

/// Waits on a pipe that only this process holds. When it closes, because the folder was dropped or
/// because the process has ended, by SIGKILL or otherwise, a server with its data in the folder
/// stops, and the folder goes. `$1` is `pg_ctl`, `$2` the folder.
const WATCHDOG: &str = r#"
cat >/dev/null
[ -e "$2/data/postmaster.pid" ] && "$1" stop --silent --mode immediate --pgdata "$2/data"
rm -rf "$2"
"#;

pub(super) struct Folder {
    path: PathBuf,
    watchdog: Option<Child>,
}

impl Folder {
    /// Makes a folder that only its owner can enter. A Postgres whose data lies in its `data` is
    /// stopped by the `pg_ctl` in `bin` before the folder goes.
    pub(super) fn make(bin: &Path, owner: Option<Owner>) -> Result<Self> {
        // Resolved, because a relative TMPDIR would mean another folder to the server.
        let parent = std::env::temp_dir().canonicalize().unwrap_or_else(|_| PathBuf::from("/tmp"));
        let path = parent.join(format!("pgstream-{:016x}", rand::random::<u64>()));
        let made = fs::DirBuilder::new().mode(0o700).create(&path).and_then(|()| Owner::take(owner, &path));
        made.map_err(|cause| {
            environment(format!("could not make `{}`", path.display()))
                .because(cause)
                .help("set TMPDIR to a folder that may be written")
        })?;

        let mut shell = command("sh".into(), Path::new("/"), owner);
        shell.args(["-c", WATCHDOG, "sh"]).arg(bin.join("pg_ctl")).arg(&path);
        let watchdog = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let watchdog = watchdog.map_err(|cause| {
            let _ = fs::remove_dir(&path);
            not_runnable(Path::new("sh"), cause)
        })?;
        Ok(Self { path, watchdog: Some(watchdog) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            drop(watchdog.stdin.take());
            let _ = watchdog.wait();
        }
    }
}

//! `Scratch`, a folder that goes when it is dropped, and `cache`, one that stays for the next
//! build.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::unwritable;
use crate::error::{Error, Fault, Result};

/// A folder for one build that only this user can enter; it goes when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn make() -> Result<Self> {
        // Resolved, because the tools run in other folders.
        let parent = std::env::temp_dir().canonicalize().unwrap_or_else(|_| PathBuf::from("/tmp"));
        let path = parent.join(format!("pgstream-build-{:016x}", rand::random::<u64>()));
        private(&path).map_err(|error| unwritable(&path, error).help("set TMPDIR to a folder that may be written"))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A folder in the user's cache for tools that a build fetches, made if need be. `name` holds their
/// versions, because several builds share it and nobody empties it: `componentize-py-0.25.1`.
///
/// Whoever fills it does so in a [`Scratch`] of the same file system or marks it as complete: a
/// build may be cut off.
pub(super) fn cache(name: &str) -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let base = base.ok_or_else(|| {
        Error::new(Fault::Environment, "there is no folder to keep the tools of a build in")
            .help("set HOME or XDG_CACHE_HOME")
    })?;
    kept(&base, name)
}

/// The folder of a tool below `base`. What lies in it is run, so nobody else may have made it, or
/// may write in it.
fn kept(base: &Path, name: &str) -> Result<PathBuf> {
    let ours = base.join("pgstream-host");
    let path = ours.join("tools").join(name);
    private(&path)
        .map_err(|error| unwritable(&path, error).help("set XDG_CACHE_HOME to a folder that may be written"))?;
    for folder in [ours.as_path(), &ours.join("tools"), &path] {
        let about = folder.symlink_metadata().map_err(|error| unwritable(folder, error))?;
        if !about.is_dir() || about.uid() != rustix::process::geteuid().as_raw() || about.mode() & 0o022 != 0 {
            let what = format!("the folder `{}`, whose tools are run, is open to other users", folder.display());
            return Err(Error::new(Fault::Environment, what)
                .because("it is a link, belongs to another user, or others may write in it")
                .help("remove it, so that it is made anew; or set XDG_CACHE_HOME to a folder of your own"));
        }
    }
    Ok(path)
}

fn private(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn tools_of_others_are_not_run() {
        let base = tempfile::tempdir().unwrap();
        let tools = kept(base.path(), "a-tool").unwrap();
        assert_eq!(kept(base.path(), "a-tool").unwrap(), tools);
        let refused = |why: &str| {
            let error = kept(base.path(), "a-tool").expect_err(why);
            assert_eq!(error.fault(), Fault::Environment);
        };
        std::fs::set_permissions(&tools, std::fs::Permissions::from_mode(0o777)).unwrap();
        refused("others may write in it");
        let elsewhere = base.path().join("elsewhere");
        std::fs::rename(&tools, &elsewhere).unwrap();
        symlink(&elsewhere, &tools).unwrap();
        refused("it is a link");
        std::fs::remove_file(&tools).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(tools.parent().unwrap(), Some(65534), None).unwrap();
            refused("it belongs to another user");
        }
    }
}

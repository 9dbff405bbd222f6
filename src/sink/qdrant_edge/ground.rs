//! `Ground`: the folder that the engine works in. A stranger's is held: what is opened in it later
//! lies in it, wherever paths lead by then.
//!
//! The engine opens its files by path, so it gets one that begins with the open folder itself.
//! Below that nobody but the host may change anything: the folder is the host's own and closed to
//! others, and holds no links when it is opened.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Display, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, mkdirat};
use rustix::io::Errno;

use super::QdrantEdgeSettings;
use crate::config::folder_beneath;
use crate::error::{Error, Fault, Result};

/// A folder of points.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// The path by which files in it are opened.
    path: PathBuf,
    /// The path by which it is named to people, and by other processes.
    shown: PathBuf,
    /// The folder that `path` begins with.
    _held: Option<Arc<File>>,
}

impl Ground {
    /// The folder that `settings` name, made if it is missing.
    pub(super) fn make(settings: &QdrantEdgeSettings) -> Result<Self> {
        let made = match &settings.folder {
            None => fs::create_dir_all(&settings.path),
            Some(owners) => make_beneath(&settings.path, owners),
        };
        made.map_err(|error| {
            Error::new(Fault::Environment, format!("folder `{}` cannot be made", settings.path.display()))
                .because(error)
                .help("its parent must be writable for the host; or change the sink's `path`")
        })?;
        Self::find(settings)
    }

    /// The folder that `settings` name, if it is there; else only its name.
    pub(super) fn find(settings: &QdrantEdgeSettings) -> Result<Self> {
        let Some(owners) = &settings.folder else { return Ok(Self::from(settings.path.as_path())) };
        match hold(&settings.path, owners) {
            Ok(held) => Ok(held),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::from(settings.path.as_path())),
            Err(error) => {
                let what = format!("folder `{}` is not taken for a tenant's points", settings.path.display());
                Err(Error::new(Fault::Environment, what).because(error).help(
                    "let the host make it, in the tenant's folder: nobody else may write in it. Move away what is there",
                ))
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it, to be opened.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file in what lies at the folder's name now.
    pub(super) fn named(&self, name: &str) -> PathBuf {
        self.shown.join(name)
    }

    pub(super) fn display(&self) -> Display<'_> {
        self.shown.display()
    }
}

impl From<&Path> for Ground {
    /// A folder of the host's own user.
    fn from(path: &Path) -> Self {
        Self { path: path.to_owned(), shown: path.to_owned(), _held: None }
    }
}

/// Makes the folders of `path` that are missing, closed to all others.
fn make_beneath(path: &Path, owners: &Path) -> io::Result<()> {
    let inner = path.strip_prefix(owners).map_err(|_| io::Error::other("it does not lie in the tenant's folder"))?;
    let mut there = owners.to_owned();
    for step in inner.components() {
        let Component::Normal(name) = step else { return Err(io::ErrorKind::InvalidInput.into()) };
        let around = folder_beneath(&there, Some(owners))?;
        match mkdirat(&around, name, Mode::RWXU) {
            Ok(()) => around.sync_all()?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        there.push(name);
    }
    Ok(())
}

/// Opens the folder, closes it to others and looks it over.
fn hold(path: &Path, owners: &Path) -> io::Result<Ground> {
    let held = folder_beneath(path, Some(owners))?;
    let about = held.metadata()?;
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if about.mode() & 0o077 != 0 {
        held.set_permissions(Permissions::from_mode(0o700))?;
    }
    let by_number = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    let same = |named: fs::Metadata| named.ino() == about.ino() && named.dev() == about.dev();
    let named = if cfg!(target_os = "linux") { by_number } else { path.canonicalize()? };
    if !fs::metadata(&named).is_ok_and(same) {
        return Err(io::Error::other("without `/proc` an open folder has no name"));
    }
    look_over(&named, about.uid())?;
    Ok(Ground { path: named, shown: path.to_owned(), _held: Some(Arc::new(held)) })
}

/// Refuses what leads elsewhere, or what somebody else could write. The pipeline that holds the
/// folder may work meanwhile.
fn look_over(folder: &Path, user: u32) -> io::Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(folder) {
        Err(error) if gone(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let about = match entry.metadata() {
            Err(error) if gone(&error) => continue,
            about => about?, // of a link itself
        };
        let kind = about.file_type();
        let name = entry.file_name();
        let refuse = |why: &str| Err(io::Error::other(format!("`{}` in it {why}", name.display())));
        if about.uid() != user {
            return refuse("belongs to another user");
        } else if kind.is_dir() {
            look_over(&entry.path(), user)?;
        } else if !kind.is_socket() && (!kind.is_file() || about.nlink() > 1) {
            return refuse("is a link, or no plain file");
        }
    }
    Ok(())
}

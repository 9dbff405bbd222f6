//! Files that a pipeline file names: opened beneath the folder of their owner, whatever lies at the
//! path by now.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

/// Reads a file of at most `most` bytes. With a `folder`, whose owner is not trusted, the path may
/// not lead out of it, by no link either. Blocks as files do, but not on a pipe: only plain files
/// are read.
///
/// # Errors
/// As of opening and reading; `InvalidInput` for anything but a plain file of that size within the
/// folder.
pub fn read(path: &Path, folder: Option<&Path>, most: u64) -> io::Result<Vec<u8>> {
    let file = open_beneath(path, folder, OFlags::RDONLY)?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(refusal(format!("it is larger than the {most} bytes that are read of it")));
    }
    Ok(bytes)
}

/// Opens a plain file, as [`read`] does; with `CREATE` it is made if it is missing.
///
/// # Errors
/// As of [`read`].
pub fn open_beneath(path: &Path, folder: Option<&Path>, flags: OFlags) -> io::Result<File> {
    let file = opened(path, folder, flags)?;
    if !file.metadata()?.is_file() {
        return Err(refusal("it is not a plain file"));
    }
    Ok(file)
}

/// Opens a folder, as [`open_beneath`] does a file. What is done with it later is done with this
/// one, whatever lies at the path by then.
///
/// # Errors
/// As of [`read`]; `NotADirectory` for anything but a folder.
pub fn folder_beneath(path: &Path, folder: Option<&Path>) -> io::Result<File> {
    opened(path, folder, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn opened(path: &Path, folder: Option<&Path>, flags: OFlags) -> io::Result<File> {
    // A pipe without a writer would block its reader.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(0o666);
    Ok(File::from(match folder {
        None => open(path, flags, mode)?,
        Some(folder) => {
            // Another name of the folder, perhaps. It need not be so any more when it is opened.
            let real = if path.starts_with(folder) { path.to_owned() } else { path.canonicalize()? };
            let inner = real.strip_prefix(folder).map_err(|_| refusal(ELSEWHERE))?;
            let root = open(folder, FOLDER | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let mode = if flags.contains(OFlags::CREATE) { mode } else { Mode::empty() };
            // The folder itself has no name beneath itself.
            let inner = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
            beneath(&root, inner, flags, mode)?
        }
    }))
}

/// Opens a folder only to look beneath it.
#[cfg(target_os = "linux")]
const FOLDER: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const FOLDER: OFlags = OFlags::RDONLY;

const ELSEWHERE: &str = "it leads out of the tenant's folder";

#[cfg(target_os = "linux")]
fn beneath(root: &OwnedFd, inner: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    loop {
        match openat2(root, inner, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
            // A file was moved meanwhile: the kernel could not tell.
            Err(Errno::AGAIN) => {}
            Err(Errno::XDEV | Errno::LOOP) => return Err(refusal(ELSEWHERE)),
            // Kernels before 5.6, and sandboxes that do not know the call.
            Err(Errno::NOSYS | Errno::PERM) => return step_by_step(root, inner, flags, mode),
            result => return Ok(result?),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn beneath(root: &OwnedFd, inner: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    step_by_step(root, inner, flags, mode)
}

/// Follows no link at all: to tell where one leads takes the kernel.
fn step_by_step(root: &OwnedFd, inner: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let mut steps = Vec::new();
    for step in inner.components() {
        match step {
            Component::Normal(step) => steps.push(step),
            Component::CurDir => {}
            _ => return Err(refusal(ELSEWHERE)),
        }
    }
    let Some((last, folders)) = steps.split_last() else { return Err(refusal("it is not a plain file")) };
    let link = |error: Errno| match error {
        Errno::LOOP | Errno::NOTDIR => {
            refusal("a part of the path is a link, which cannot be followed safely on this system")
        }
        error => error.into(),
    };
    let mut at = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    for folder in folders {
        let flags = FOLDER | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = openat(&at, *folder, flags, Mode::empty()).map_err(link)?;
    }
    openat(&at, *last, flags | OFlags::NOFOLLOW, mode).map_err(link)
}

fn refusal(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Place {
        _all: tempfile::TempDir,
        folder: std::path::PathBuf,
    }

    fn place() -> Place {
        let all = tempfile::tempdir().unwrap();
        let root = all.path().canonicalize().unwrap();
        let folder = root.join("acme");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(root.join("other"), "not theirs").unwrap();
        std::fs::write(folder.join("sub/own"), "theirs").unwrap();
        symlink("../../other", folder.join("sub/out")).unwrap();
        symlink(root.join("other"), folder.join("absolute")).unwrap();
        symlink("sub/own", folder.join("in")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        symlink("/proc/self/root", folder.join("magic")).unwrap();
        Place { _all: all, folder }
    }

    #[test]
    fn nothing_outside_the_folder_is_opened_however_the_path_leads_there() {
        let Place { folder, .. } = &place();
        let text =
            |path: &str| read(&folder.join(path), Some(folder), 100).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(text("sub/own").unwrap(), "theirs");
        assert_eq!(text("in").unwrap(), "theirs", "a link that stays within is one of theirs");
        for path in
            ["sub/out", "absolute", "up/other", "../other", "magic/etc/passwd", "/etc/passwd", "sub/../../other"]
        {
            assert_eq!(text(path).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path}");
        }
        let named = folder.parent().unwrap().join("alias");
        symlink(folder, &named).unwrap();
        assert!(read(&named.join("sub/own"), Some(folder), 100).is_ok(), "by another name of the folder");
        let root = open(folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let slow = |path: &str| step_by_step(&root, Path::new(path), OFlags::RDONLY, Mode::empty()).is_ok();
        assert!(slow("sub/own") && slow("./sub/own"));
        for path in ["sub/out", "absolute", "up/other", "../other", "magic/etc/passwd", "in", ""] {
            assert!(!slow(path), "{path}");
        }
    }

    #[test]
    fn only_plain_files_of_a_bounded_size_are_read_and_none_is_waited_for() {
        let Place { folder, .. } = &place();
        let pipe = folder.join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        std::fs::write(folder.join("large"), [0; 101]).unwrap();
        for owner in [None, Some(folder.as_path())] {
            for (path, why) in
                [("pipe", "not a plain file"), ("sub", "not a plain file"), ("large", "larger than the 100")]
            {
                let error = read(&folder.join(path), owner, 100).unwrap_err();
                assert!(error.to_string().contains(why), "{path}: {error}");
            }
            assert!(read(&folder.join("large"), owner, 101).is_ok());
        }
        assert!(read(Path::new("/dev/zero"), None, 100).unwrap_err().to_string().contains("not a plain file"));
    }
}

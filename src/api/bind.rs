//! The places where the API listens: a TCP address that was asked for, and the Unix socket of the
//! host's own user.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use crate::config::model;
use crate::error::{Error, Fault, Result};

/// Of the socket, in its folder.
const SOCKET: &str = "api.sock";
/// The folder that systemd makes for the unit of the package.
const SYSTEM_FOLDER: &str = "/run/pgstream-host";

/// A Unix socket that listens, and whose file goes when this is dropped.
#[derive(Debug)]
pub(super) struct OwnSocket {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens at `address`.
///
/// # Errors
/// `Config` if others can reach it and nobody has a token, `Environment` if the port is taken.
pub(super) async fn tcp(address: SocketAddr, has_tokens: bool) -> Result<TcpListener> {
    if !address.ip().is_loopback() && !has_tokens {
        let what = format!("the API would listen at {address}, where others can reach it, and nobody needs a token");
        return Err(Error::new(Fault::Config, what).help(format!(
            "listen at 127.0.0.1:{}, or make a token and name it:\n\
             (umask 077; head -c 32 /dev/urandom | base64 > token)\n\
             in the host file `api: {{ listen: \"{address}\", tokens: [{{ name: ops, file: token, may: [read] }}] }}`, \
             or `--api-token token`",
            address.port()
        )));
    }
    TcpListener::bind(address).await.map_err(|cause| {
        let (what, help) = match cause.kind() {
            io::ErrorKind::AddrInUse => (
                format!("the API cannot listen at {address}: the port is taken"),
                format!("see who has it: `ss -ltnp 'sport = :{}'`; or choose another port", address.port()),
            ),
            io::ErrorKind::AddrNotAvailable => (
                format!("the API cannot listen at {address}: this machine has no such address"),
                "listen at 127.0.0.1, or at an address that `ip address` shows".to_owned(),
            ),
            _ => (
                format!("the API cannot listen at {address}"),
                "choose another address or port for `api.listen` or `--api`".to_owned(),
            ),
        };
        Error::new(Fault::Environment, what).because(cause).help(help)
    })
}

/// Listens at the Unix socket of the host's own user. None if there is no place for it.
///
/// # Errors
/// `Environment` if there is a place, and it cannot be used.
pub(super) fn unix(settings: &model::Api) -> Result<Option<OwnSocket>> {
    let path = match &settings.socket {
        Some(path) => path.clone(),
        None => {
            let Some(folder) = folders().into_iter().next() else { return Ok(None) };
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|cause| unusable(&folder, cause))?;
            folder.join(SOCKET)
        }
    };
    match listen(&path) {
        // Another host of this user has it: each is found by its own.
        Err(cause) if cause.kind() == io::ErrorKind::AddrInUse && settings.socket.is_none() => {
            let own = path.with_file_name(format!("api-{}.sock", std::process::id()));
            listen(&own).map(Some).map_err(|cause| unusable(&own, cause))
        }
        listening => listening.map(Some).map_err(|cause| unusable(&path, cause)),
    }
}

fn listen(path: &Path) -> io::Result<OwnSocket> {
    // A socket that nobody listens at is what a host left that was killed. To connect to any other file is refused as well.
    let is_socket = path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket());
    let is_dead = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err_and(is_dead) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let socket = OwnSocket { listener, path: path.to_owned() };
    // Until then nobody else is let in either: whoever connects is asked who they are.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

fn unusable(path: &Path, cause: io::Error) -> Error {
    Error::new(Fault::Environment, format!("the API's socket `{}` cannot be made", path.display()))
        .because(cause)
        .help("name another place: `api: { socket: /run/user/1000/pgstream.sock }` in the host file, or set `XDG_RUNTIME_DIR`")
}

/// The folders where sockets of this user's hosts may be, the one where they are made first.
fn folders() -> Vec<PathBuf> {
    let of = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd may name several, with a colon between them.
    let runtime = std::env::var("RUNTIME_DIRECTORY").ok();
    let runtime =
        runtime.and_then(|folders| folders.split(':').next().map(PathBuf::from)).filter(|path| path.is_absolute());
    runtime.into_iter().chain(of("XDG_RUNTIME_DIR").map(|folder| folder.join("pgstream-host"))).collect()
}

/// The sockets at which hosts of this user may be asked.
pub fn sockets() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders().into_iter().chain([PathBuf::from(SYSTEM_FOLDER)]) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        found.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "sock")));
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_owners_and_a_dead_one_makes_room() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("own.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a host that was killed leaves it");
        let settings = model::Api { socket: Some(path.clone()), ..model::Api::default() };
        let socket = unix(&settings).unwrap().unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let error = unix(&settings).unwrap_err();
        assert_eq!(error.fault(), Fault::Environment, "somebody listens there");
        drop(socket);
        assert!(!path.exists());
        std::fs::write(&path, "a file of somebody's").unwrap();
        assert!(unix(&settings).is_err() && path.exists(), "what is no socket is left alone");
    }
}

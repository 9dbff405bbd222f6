//! The Postgres that the demo starts: the one that was named, the one that `make setup` fetched, or
//! the system's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::environment;
use crate::error::Result;

/// Folders into which `make setup` puts Postgres, for ordinary users and for root.
const FETCHED: [&str; 2] = ["target/postgres", "/var/cache/pgstream-host"];

/// The folder that holds `postgres` and `initdb`: `named`, else `variable` (PGSTREAM_POSTGRES_BIN),
/// else what was fetched, else what `pg_config` on the PATH tells.
pub(super) fn find(named: Option<&Path>, variable: Option<OsString>) -> Result<PathBuf> {
    let wished = named.map(Path::to_owned).or_else(|| variable.map(PathBuf::from));
    if let Some(wished) = wished {
        return bin_of(&wished).ok_or_else(|| {
            environment(format!("there is no Postgres in `{}`", wished.display()))
                .help("name the folder that holds `postgres` and `initdb`, such as /usr/lib/postgresql/18/bin")
        });
    }
    let fetched = FETCHED.iter().flat_map(|folder| versions(Path::new(folder)));
    let found = fetched.chain(pg_config()).find_map(|folder| bin_of(&folder));
    found.ok_or_else(|| {
        environment("no Postgres was found to start").help(
            "`make setup` fetches one, or name your own: `pgstream-host demo --postgres /usr/lib/postgresql/18/bin`",
        )
    })
}

/// Absolute, because the server does not start in our working directory.
fn bin_of(folder: &Path) -> Option<PathBuf> {
    let candidates = [folder.to_owned(), folder.join("bin")];
    let bin = candidates.into_iter().find(|bin| bin.join("postgres").exists() && bin.join("initdb").exists())?;
    bin.canonicalize().ok()
}

/// Lists the builds of Postgres 18 that the script has unpacked, the last by name first.
fn versions(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path().join("18")).filter(|path| path.exists()).collect();
    found.sort();
    found.reverse();
    found
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_wins_and_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for program in ["postgres", "initdb"] {
            std::fs::write(bin.join(program), "").unwrap();
        }
        let found = find(Some(folder.path()), Some("/nonexistent".into())).unwrap();
        assert_eq!(found, bin.canonicalize().unwrap());
        assert_eq!(find(None, Some(bin.clone().into())).unwrap(), bin.canonicalize().unwrap());

        std::fs::remove_file(bin.join("initdb")).unwrap();
        let error = find(Some(&bin), None).unwrap_err();
        assert_eq!(error.to_string(), format!("there is no Postgres in `{}`", bin.display()));
        assert_eq!(error.fault().exit_code(), 3);
    }
}

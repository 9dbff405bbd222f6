//! `Caller`: who asks, known by a token or by the Unix socket, and what they may ask.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::model::{ApiRight, ApiToken};
use crate::error::{Error, Fault, Result};

/// The shortest token: 32 characters of base64 are 192 bits.
const SHORTEST: usize = 32;
/// The longest file that is read for one.
const LONGEST: u64 = 4096;

/// Somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The host's own user, through the Unix socket: may all.
    Owner,
    /// Somebody with a token.
    Known { name: String, rights: Vec<ApiRight>, tenant: Option<String> },
    /// Nobody knows.
    Stranger,
}

impl Caller {
    /// Tells whether they may do that.
    pub(super) fn may(&self, right: ApiRight) -> bool {
        match self {
            Self::Owner => true,
            Self::Known { rights, .. } => {
                rights.contains(&right) || right == ApiRight::Metrics && rights.contains(&ApiRight::Read)
            }
            Self::Stranger => false,
        }
    }

    /// Their name, for people.
    pub(super) fn who(&self) -> String {
        match self {
            Self::Owner => "the host's own user".to_owned(),
            Self::Known { name, .. } => format!("token `{name}`"),
            Self::Stranger => "a stranger".to_owned(),
        }
    }

    /// The tenant whose pipelines are all that they see.
    pub(super) fn tenant(&self) -> Option<&str> {
        match self {
            Self::Known { tenant, .. } => tenant.as_deref(),
            _ => None,
        }
    }
}

/// The tokens, as far as it takes to know them.
#[derive(Debug, Default)]
pub(super) struct Tokens(Vec<Token>);

#[derive(Debug)]
struct Token {
    digest: [u8; 32],
    caller: Caller,
}

impl Tokens {
    /// Reads the files of tokens.
    ///
    /// # Errors
    /// `Config` or `Environment` if one cannot be read, others can read it, or it holds no token.
    pub(super) fn read(settings: &[ApiToken]) -> Result<Self> {
        let read = |token: &ApiToken| {
            let digest = digest(&token.file).map_err(|error| error.at(format!("token `{}`", token.name)))?;
            let (name, rights, tenant) = (token.name.clone(), token.may.clone(), token.tenant.clone());
            Ok(Token { digest, caller: Caller::Known { name, rights, tenant } })
        };
        let tokens: Vec<Token> = settings.iter().map(read).collect::<Result<_>>()?;
        for (index, token) in tokens.iter().enumerate() {
            if tokens.iter().take(index).any(|other| other.digest == token.digest) {
                let name = settings.get(index).map_or("", |token| token.name.as_str());
                return Err(Error::new(Fault::Config, format!("token `{name}` is the same as another one"))
                    .help("make one for each: what it may would depend on the order of the file"));
            }
        }
        Ok(Self(tokens))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The caller who has this token. All are compared, whichever it is.
    pub(super) fn caller(&self, token: &str) -> Caller {
        let asked: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut caller = Caller::Stranger;
        for token in &self.0 {
            if bool::from(token.digest.ct_eq(&asked)) {
                caller = token.caller.clone();
            }
        }
        caller
    }
}

fn digest(file: &Path) -> Result<[u8; 32]> {
    let unreadable = |cause: std::io::Error| {
        Error::new(Fault::Environment, format!("the token file `{}` cannot be read", file.display()))
            .because(cause)
            .help("make it: `(umask 077; head -c 32 /dev/urandom | base64 > FILE)`; the host's user must be able to read it")
    };
    let about = file.metadata().map_err(unreadable)?;
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        let what = format!("others can read the token file `{}` (its mode is {mode:03o})", file.display());
        return Err(Error::new(Fault::Config, what).help(format!("chmod o= {}", file.display())));
    }
    let wrong = |why: &str| {
        Error::new(Fault::Config, format!("the token file `{}` holds no token: {why}", file.display()))
            .help("a token is one line of at least 32 printable characters: `(umask 077; head -c 32 /dev/urandom | base64 > FILE)`")
    };
    if about.len() > LONGEST {
        return Err(wrong("it is too long"));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let token = text.trim();
    if token.len() < SHORTEST {
        return Err(wrong("it is too short"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("it has blanks, or characters that no header may hold"));
    }
    Ok(Sha256::digest(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(file: &Path, may: &[ApiRight]) -> ApiToken {
        ApiToken { name: "ops".into(), file: file.to_owned(), may: may.to_vec(), tenant: None }
    }

    fn write(file: &Path, text: &str, mode: u32) {
        std::fs::write(file, text).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_token_is_known_by_its_file_and_by_nothing_near_it() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("token");
        let text = "0123456789abcdef0123456789abcdef";
        write(&file, &format!("{text}\n"), 0o640);
        let tokens = Tokens::read(&[token(&file, &[ApiRight::Read])]).unwrap();
        let caller = tokens.caller(text);
        assert!(caller.may(ApiRight::Read) && caller.may(ApiRight::Metrics) && !caller.may(ApiRight::Act));
        for other in ["", "0123456789abcdef0123456789abcdee", &text[1..], &format!("{text}\n")] {
            assert_eq!(tokens.caller(other), Caller::Stranger, "{other}");
        }
        assert!(!format!("{tokens:?}").contains(text));
        let twice = [token(&file, &[ApiRight::Read]), token(&file, &[ApiRight::Act])];
        assert_eq!(Tokens::read(&twice).unwrap_err().fault(), Fault::Config);
    }

    #[test]
    fn files_that_others_can_read_or_that_hold_no_token_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("token");
        let fault = || Tokens::read(&[token(&file, &[])]).map(drop).map_err(|error| error.fault());
        assert_eq!(fault(), Err(Fault::Environment), "it is not there");
        let good = "x".repeat(40);
        for (text, mode) in [
            (good.as_str(), 0o644),
            ("short", 0o600),
            ("a b ".repeat(20).as_str(), 0o600),
            ("x".repeat(5000).as_str(), 0o600),
        ] {
            write(&file, text, mode);
            assert_eq!(fault(), Err(Fault::Config), "{mode:o}");
        }
        write(&file, &good, 0o600);
        assert_eq!(fault(), Ok(()));
    }
}

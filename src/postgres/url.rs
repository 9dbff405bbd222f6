//! `Url`: a Postgres server and a login, from `postgres://…` with libpq's parameter names.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dialect::{self, FORM};
use crate::config::{Secret, read_beneath};
use crate::error::{Error, Fault, Result};

/// The time that reaching the server and logging in may take together, unless `connect_timeout`
/// says otherwise; libpq would wait for ever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that it may take, whatever the URL says, even if that is zero, libpq's word for
/// ever.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

/// Bytes of a password, at most.
const PASSWORD_BYTES: u64 = 64 << 10;

/// The parameters that are understood, for the error that names an unknown one.
const PARAMETERS: &[&str] = &[
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "user",
];

/// A server, a database and a login. `Debug` shows no password.
#[derive(Clone, Debug)]
pub struct Url {
    /// The address at which the server listens.
    pub address: Address,
    /// The role to log in as.
    pub user: String,
    /// The database.
    pub database: String,
    /// The name that `pg_stat_activity` shows, if the URL gives one.
    pub application_name: Option<String>,
    /// Command-line options for the server's session, such as `-c search_path=app`; some hosters
    /// route by it.
    pub options: Option<String>,
    /// The time that reaching the server and logging in may take together.
    pub connect_timeout: Duration,
    /// The encryption of the connection, and how strict it is.
    pub ssl: Ssl,
    /// The binding of SCRAM to the TLS connection: it must, may or must not be used.
    pub channel_binding: ChannelBinding,
    /// True if neither the URL nor a file gives a password, so that one in the host's own
    /// environment would be used.
    pub borrows_password: bool,
    /// Roles that may own what we write to, beside our own: they could run code with our rights.
    pub trusted_owners: Vec<String>,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    /// The folder of the files that a tenant's URL names.
    folder: Option<PathBuf>,
}

/// The address at which a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host name or IP address, and port.
    Tcp(String, u16),
    /// The folder of a Unix-domain socket, and the port that is part of the socket's name.
    Unix(PathBuf, u16),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(folder, port) => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
        }
    }
}

/// libpq's `sslmode`, from no encryption to a checked certificate and host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never encrypt.
    Disable,
    /// Encrypt only if the server insists.
    Allow,
    /// Encrypt if the server can.
    Prefer,
    /// Encrypt; any certificate will do, unless `sslrootcert` is given.
    Require,
    /// Encrypt, and check the certificate's chain.
    VerifyCa,
    /// Encrypt, and check the certificate's chain and the host name.
    VerifyFull,
}

/// The settings of the URL for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssl {
    /// The mode, which says how strict it is.
    pub mode: SslMode,
    /// The certificates that the server's must descend from.
    pub root: Option<Root>,
    /// Our certificate and its key, both PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Starts with TLS at once instead of asking for it (Postgres 17 and later).
    pub direct: bool,
}

/// libpq's `sslrootcert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// The operating system's certificates.
    System,
    /// A PEM file.
    File(PathBuf),
}

/// libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Bind if the server offers it.
    Prefer,
    /// Refuse a server that does not.
    Require,
}

impl Url {
    /// Reads `url`. With a `password_file` the password comes from there, read again at each
    /// connection; otherwise from the URL, otherwise from `PGPASSWORD`.
    ///
    /// Errors are `Config`; they never repeat the URL, which may hold a password.
    pub fn parse(url: &Secret, password_file: Option<PathBuf>) -> Result<Self> {
        let rest = dialect::strip(url.expose())?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        // What follows an `@` may be what is left of a password, and would be taken for a host, a database or a parameter.
        if authority.matches('@').count() > 1 || path.contains(['@', '/', ':']) || query.contains('@') {
            return Err(wrong("the database URL cannot be read beyond its login").help(
                "write special characters of the password in percent-encoding: `@` as `%40`, `/` as `%2F`, `:` as `%3A`, \
                 `?` as `%3F`",
            ));
        }
        let (host, port) = split_port(place)?;
        let mut parameters = Parameters {
            host: decode(host)?,
            port: port.to_owned(),
            user: decode(user)?,
            password: password.map(decode).transpose()?,
            database: decode(path)?,
            ..Parameters::default()
        };
        for (index, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.set(&decode(name)?, decode(value)?, index + 1)?;
        }
        parameters.finish(password_file)
    }

    /// The same, with these roles trusted to own what we write to.
    #[must_use]
    pub fn trusting(self, owners: &[String]) -> Self {
        Self { trusted_owners: owners.to_vec(), ..self }
    }

    /// The same URL of a tenant: no file that it names is read outside of this folder.
    #[must_use]
    pub fn beneath(self, folder: Option<PathBuf>) -> Self {
        Self { folder, ..self }
    }

    /// The folder of the files that it may name, if that is bounded.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The password, read from its file if it has one.
    pub(crate) async fn password(&self) -> Result<Option<Secret>> {
        let Some(path) = &self.password_file else {
            return Ok(self.password.clone());
        };
        let (file, folder) = (path.clone(), self.folder.clone());
        let read = tokio::task::spawn_blocking(move || read_beneath(&file, folder.as_deref(), PASSWORD_BYTES)).await;
        let text = read.map_err(io::Error::other).flatten().and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
        });
        let text = text.map_err(|error| {
            Error::new(Fault::Environment, format!("cannot read the password file `{}`", path.display()))
                .because(error)
                .help("correct `password_file`, or let the host's user read the file")
        })?;
        Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))))
    }
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Fault::Config, what)
}

fn split_port(place: &str) -> Result<(&str, &str)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) =
            rest.split_once(']').ok_or_else(|| wrong("the database URL lacks a `]` after its IPv6 address"))?;
        return Ok((host, rest.strip_prefix(':').unwrap_or(rest)));
    }
    Ok(place.split_once(':').unwrap_or((place, "")))
}

/// The raw texts, before defaults and checks that need several of them.
#[derive(Default)]
struct Parameters {
    host: String,
    port: String,
    user: String,
    password: Option<String>,
    database: String,
    application_name: Option<String>,
    options: Option<String>,
    connect_timeout: Option<Duration>,
    mode: Option<SslMode>,
    root: Option<Root>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    direct: bool,
    channel_binding: Option<ChannelBinding>,
}

impl Parameters {
    /// Takes the parameter that stands at this `place` of the query.
    fn set(&mut self, name: &str, value: String, place: usize) -> Result<()> {
        match name {
            "host" => self.host = value,
            "port" => self.port = value,
            "user" => self.user = value,
            "password" => self.password = Some(value),
            "dbname" => self.database = value,
            "application_name" => self.application_name = Some(value),
            "options" => self.options = Some(value),
            "connect_timeout" => {
                let seconds: u64 = value.parse().map_err(|_| unreadable(name, &["a number of seconds"]))?;
                let asked = Some(Duration::from_secs(seconds)).filter(|asked| !asked.is_zero());
                self.connect_timeout = Some(asked.unwrap_or(LONGEST_TIMEOUT).min(LONGEST_TIMEOUT));
            }
            // What node-postgres calls it.
            "sslmode" if dialect::same_word("no-verify", &value) => self.mode = Some(SslMode::Require),
            "sslmode" => self.mode = Some(choose(name, &value, SSL_MODES)?),
            "sslrootcert" => {
                self.root = Some(if value == "system" { Root::System } else { Root::File(value.into()) });
            }
            "sslcert" => self.certificate = Some(value.into()),
            "sslkey" => self.key = Some(value.into()),
            "sslnegotiation" => self.direct = choose(name, &value, &[("postgres", false), ("direct", true)])?,
            "channel_binding" => self.channel_binding = Some(choose(name, &value, BINDINGS)?),
            // What only chooses among hosts or forms of encryption that we do not have changes nothing for us.
            "target_session_attrs" => choose(name, &value, &[("any", ()), ("read-write", ()), ("primary", ())])?,
            "gssencmode" => choose(name, &value, &[("disable", ()), ("prefer", ())])?,
            "ApplicationName" => self.application_name = Some(value),
            _ => dialect::foreign(name, &value, place, PARAMETERS)?,
        }
        Ok(())
    }

    fn finish(self, password_file: Option<PathBuf>) -> Result<Url> {
        let port = match self.port.as_str() {
            "" => 5432,
            text => text
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| wrong("the port in the database URL is not a number from 1 to 65535").help(FORM))?,
        };
        if self.user.is_empty() {
            return Err(wrong("the database URL names no user").help(FORM));
        }
        check_host(&self.host)?;
        let address = match self.host.as_str() {
            "" => Address::Tcp("localhost".into(), port),
            host if host.starts_with('/') => Address::Unix(host.into(), port),
            host => Address::Tcp(host.to_owned(), port),
        };
        let system = self.root == Some(Root::System);
        let mode = self.mode.unwrap_or(if system { SslMode::VerifyFull } else { SslMode::Prefer });
        if system && mode < SslMode::VerifyFull {
            return Err(wrong(
                "`sslrootcert=system` with a weak `sslmode`: anybody can get a certificate from a public authority",
            )
            .help("write `sslmode=verify-full`"));
        }
        if mode == SslMode::VerifyCa && self.root.is_none() {
            return Err(wrong("`sslmode=verify-ca` without `sslrootcert`").help(
                "add `sslrootcert=<PEM file>`, or write `sslmode=verify-full` to trust the system's certificates",
            ));
        }
        if self.direct && mode < SslMode::Require {
            return Err(
                wrong("`sslnegotiation=direct` with a weak `sslmode`").help("write `sslmode=require` or stronger")
            );
        }
        let identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(wrong("of `sslcert` and `sslkey` only one is given").help("give both, or none")),
        };
        let borrows_password = self.password.is_none() && password_file.is_none();
        let password = self.password.or_else(|| std::env::var("PGPASSWORD").ok()).filter(|text| !text.is_empty());
        Ok(Url {
            address,
            database: if self.database.is_empty() { self.user.clone() } else { self.database },
            user: self.user,
            application_name: self.application_name,
            options: self.options,
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            ssl: Ssl { mode, root: self.root, identity, direct: self.direct },
            channel_binding: self.channel_binding.unwrap_or(ChannelBinding::Prefer),
            borrows_password,
            trusted_owners: Vec::new(),
            password: password.map(Secret::new),
            password_file,
            folder: None,
        })
    }
}

const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

const BINDINGS: &[(&str, ChannelBinding)] =
    &[("disable", ChannelBinding::Disable), ("prefer", ChannelBinding::Prefer), ("require", ChannelBinding::Require)];

fn choose<T: Copy>(name: &str, value: &str, choices: &[(&str, T)]) -> Result<T> {
    let chosen = choices.iter().find(|(text, _)| dialect::same_word(text, value)).map(|(_, choice)| *choice);
    chosen.ok_or_else(|| unreadable(name, &choices.iter().map(|(text, _)| *text).collect::<Vec<_>>()))
}

/// The value is not repeated: it may be the rest of a password.
fn unreadable(name: &str, choices: &[&str]) -> Error {
    wrong(format!("`{name}` in the database URL has a value that is not understood"))
        .help(format!("write one of: {}", choices.join(", ")))
}

/// A host is shown in errors and compared with grants, so it is nothing else: a name, an address,
/// or the folder of a socket.
fn check_host(host: &str) -> Result<()> {
    if host.contains(',') {
        return Err(wrong("the database URL names several hosts").help(
            "name one: the server that can be written to. A replication slot lives on one server, so another one cannot take its place",
        ));
    }
    // A zone of this machine's may follow an address.
    let address = host.split_once('%').map_or(host, |(address, _)| address).parse::<std::net::Ipv6Addr>().is_ok();
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || address && matches!(c, ':' | '%');
    if host.starts_with('/') || host.chars().all(plain) {
        return Ok(());
    }
    Err(wrong("what the database URL has in the place of its host is none").help(
        "write special characters of the password in percent-encoding, and letters of the host beyond ASCII as `xn--…`",
    ))
}

fn decode(text: &str) -> Result<String> {
    let broken = || wrong("the database URL holds a broken percent-encoding").help("write `%` itself as `%25`");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| (byte as char).to_digit(16));
                let (high, low) = (digit().ok_or_else(broken)?, digit().ok_or_else(broken)?);
                (high << 4 | low) as u8
            }
            byte => byte,
        });
    }
    // A zero byte would end a string of the protocol early and start another parameter.
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or_else(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Url> {
        Url::parse(&Secret::new(url), None)
    }

    #[test]
    fn every_part_is_found_and_decoded() {
        let url = parse("postgresql://app%40x:p%40ss%2Fw@db.example:6543/shop?sslmode=require&application_name=a%20b")
            .unwrap();
        assert_eq!(url.address, Address::Tcp("db.example".into(), 6543));
        assert_eq!((url.user.as_str(), url.database.as_str()), ("app@x", "shop"));
        assert_eq!(url.password.as_ref().map(Secret::expose), Some("p@ss/w"));
        assert_eq!((url.ssl.mode, url.application_name.as_deref()), (SslMode::Require, Some("a b")));
    }

    #[test]
    fn defaults_are_those_of_libpq() {
        let url = parse("postgres://app@/").unwrap();
        assert_eq!(url.address, Address::Tcp("localhost".into(), 5432));
        assert_eq!((url.database.as_str(), url.ssl.mode), ("app", SslMode::Prefer));
        assert_eq!(parse("postgres://app@h?sslrootcert=system").unwrap().ssl.mode, SslMode::VerifyFull);
    }

    #[test]
    fn sockets_and_ipv6_addresses_are_hosts() {
        let unix = Address::Unix("/run/postgresql".into(), 5433);
        assert_eq!(parse("postgres://app@%2Frun%2Fpostgresql:5433/d").unwrap().address, unix);
        assert_eq!(parse("postgres://app@/d?host=/run/postgresql&port=5433").unwrap().address, unix);
        assert_eq!(parse("postgres://app@[::1]:5433/d").unwrap().address, Address::Tcp("::1".into(), 5433));
    }

    #[test]
    fn mistakes_are_named_without_repeating_the_url() {
        for (url, what, help) in [
            ("mysql://u:hunter2@h/d", "the database URL does not begin with `postgres://`", "write `url: postgres://"),
            ("postgres://u:hunter2@a,b/d", "the database URL names several hosts", "name one"),
            ("postgres://h/d", "the database URL names no user", "write `url: postgres://"),
            ("postgres://u:hun@ter2@h/d", "the database URL cannot be read beyond its login", "`@` as `%40`"),
            ("postgres://u:hun?ter2@h/d", "the database URL cannot be read beyond its login", "`?` as `%3F`"),
            ("postgres://u:hun/ter2@h/d", "the database URL cannot be read beyond its login", "`/` as `%2F`"),
            ("postgres://u:hunter2%@h/d", "the database URL holds a broken percent-encoding", "`%25`"),
            ("postgres://u:hunter2%00@h/d", "the database URL holds a broken percent-encoding", "`%25`"),
            ("postgres://u:hunter2@h:0/d", "the port in the database URL is not a number from 1 to 65535", "5432"),
            (
                "postgres://u@h/d?sslmod=require",
                "parameter 1 after the `?` of the database URL is unknown",
                "did you mean `sslmode`?",
            ),
            (
                "postgres://u@h/d?sslmode=require&Winter-2026",
                "parameter 2 after the `?` of the database URL is unknown",
                "known are: application_name",
            ),
            (
                "postgres://u@h/d?sslmode=on",
                "`sslmode` in the database URL has a value that is not understood",
                "disable, allow, prefer",
            ),
            (
                "postgres://u@h/d?sslmode=verify-ca",
                "`sslmode=verify-ca` without `sslrootcert`",
                "sslrootcert=<PEM file>",
            ),
            ("postgres://u@h/d?sslcert=a", "of `sslcert` and `sslkey` only one is given", "give both"),
            (
                "postgres://u@h/d?sslnegotiation=direct",
                "`sslnegotiation=direct` with a weak `sslmode`",
                "sslmode=require",
            ),
            (
                "postgres://u@h/d?connect_timeout=x",
                "`connect_timeout` in the database URL has a value that is not understood",
                "seconds",
            ),
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!((error.fault(), error.to_string().as_str()), (Fault::Config, what), "{url}");
            assert!(error.advice().unwrap_or_default().contains(help), "{url}: {:?}", error.advice());
            assert!(!error.report().contains("hun"), "{url}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", parse("postgres://u:hunter2@h/d").unwrap()).contains("hunter2"));
    }

    #[tokio::test]
    async fn a_password_file_is_read_again_at_each_connection() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let url = Url::parse(&Secret::new("postgres://u:old@h/d"), Some(file.path().into())).unwrap();
        for password in ["first", "second with blank "] {
            std::fs::write(file.path(), format!("{password}\r\n")).unwrap();
            assert_eq!(url.password().await.unwrap().unwrap().expose(), password);
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "postgres://.*") {
            let _ = parse(&text);
        }
    }
}

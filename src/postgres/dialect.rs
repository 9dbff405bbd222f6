//! Database URLs as frameworks and other drivers write them: what means the same here, what changes
//! nothing, and what is refused with what to write instead.

use crate::error::{Error, Fault, Result};

/// The URL without what came along from a shell, a file or a framework: quotes, line breaks, the
/// driver's name in the scheme. Answers what stands behind `://`.
pub(super) fn strip(text: &str) -> Result<&str> {
    let trimmed = text.trim();
    let unquoted = ['"', '\'', '`'].into_iter().find_map(|quote| trimmed.strip_prefix(quote)?.strip_suffix(quote));
    let text = unquoted.unwrap_or(trimmed).trim();
    let text = text.strip_prefix("jdbc:").unwrap_or(text);
    let Some((scheme, rest)) = text.split_once("://") else {
        let keywords = ["host=", "dbname=", "user="].iter().any(|keyword| text.contains(keyword));
        let what = if keywords {
            "the database URL is written as keywords and values"
        } else if text.is_empty() {
            "the database URL is empty"
        } else {
            NOT_OURS
        };
        return Err(wrong(what).help(FORM));
    };
    let (kind, driver) = scheme.split_once('+').unwrap_or((scheme, ""));
    let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let ours = ["postgres", "postgresql", "pgsql", "psql", "postgis"].contains(&kind.to_ascii_lowercase().as_str());
    if ours && word(driver) {
        return Ok(rest);
    }
    if let Some((_, scheme)) = scheme.split_once('=')
        && scheme.trim_start_matches(['"', '\'']).starts_with("postgres")
    {
        return Err(
            wrong("the database URL begins with the name of a variable").help("write only what stands behind the `=`")
        );
    }
    Err(wrong(NOT_OURS).help(FORM))
}

const NOT_OURS: &str = "the database URL does not begin with `postgres://`";

pub(super) const FORM: &str = "write `url: postgres://user:password@host:5432/database?sslmode=verify-full`";

/// Parameters that are for a pool, a cache or a session of others, and change nothing of where we
/// connect to and how safely. Names are compared without regard to case, `_` and `-`.
const IGNORED: &[&str] = &[
    // Tables are named with their schema here, whatever the search path says.
    "currentschema",
    "schema",
    "searchpath",
    // Pools.
    "checkouttimeout",
    "connectionlimit",
    "connmaxage",
    "connhealthchecks",
    "idletimeout",
    "idletimeoutmillis",
    "max",
    "maxconns",
    "minconns",
    "maxoverflow",
    "pool",
    "poolmaxconnidletime",
    "poolmaxconnlifetime",
    "poolmaxconns",
    "poolminconns",
    "poolhealthcheckperiod",
    "poolrecycle",
    "poolsize",
    "pooltimeout",
    "reapingfrequency",
    // Statements and sessions, of which we say ourselves what they need.
    "asyncfallback",
    "binaryparameters",
    "binarytransfer",
    "clientencoding",
    "defaultqueryexecmode",
    "defaultrowfetchsize",
    "descriptioncachecapacity",
    "encoding",
    "fallbackapplicationname",
    "preferquerymode",
    "preparedstatementcachesize",
    "preparedstatements",
    "preparethreshold",
    "reconnect",
    "replication",
    "rewritebatchedinserts",
    "sockettimeout",
    "statementcachecapacity",
    "statementcachesize",
    "statementtimeout",
    "stringtype",
    "supa",
    "uselibpqcompat",
    // Sockets: a dead server is noticed anyway.
    "keepalives",
    "keepalivescount",
    "keepalivesidle",
    "keepalivesinterval",
    "logintimeout",
    "sslcompression",
    "sslsni",
    "tcpkeepalive",
    "tcpusertimeout",
    "loadbalancehosts",
];

/// Parameters of others that would mean something, and what to write for them.
const REFUSED: &[(&str, &str)] = &[
    ("hostaddr", "write the address in the place of the host"),
    ("krbsrvname", "GSSAPI is not supported: log in with a password or a certificate"),
    ("passfile", "name a file with nothing but the password: `password_file`"),
    ("require_auth", "write `channel_binding=require`, or use a certificate"),
    ("requirepeer", "write `sslmode=verify-full`"),
    ("service", "write host, database and user into `url`"),
    ("servicefile", "write host, database and user into `url`"),
    (
        "ssl",
        "write `sslmode=require`, or `sslmode=verify-full` to check the server's certificate, or `sslmode=disable`",
    ),
    ("ssl_max_protocol_version", "leave it out: TLS 1.2 and 1.3 are spoken"),
    ("ssl_min_protocol_version", "leave it out: TLS 1.2 and 1.3 are spoken"),
    ("sslaccept", "write `sslmode=require` to accept any certificate, `sslmode=verify-full` for a strict check"),
    ("sslcertmode", "leave out `sslcert` and `sslkey` to show no certificate"),
    ("sslcrl", "lists of revoked certificates are not supported"),
    ("sslcrldir", "lists of revoked certificates are not supported"),
    ("sslfactory", "write `sslmode=require`, or `sslmode=verify-full` to check the server's certificate"),
    ("sslidentity", "give certificate and key as PEM files: `sslcert=…&sslkey=…`"),
    ("sslpassword", "give a key without a passphrase: `sslkey=<PEM file>`"),
];

/// Judges a parameter that is none of ours: it changes nothing, or is an error that names it only
/// if it is a known one. An unknown name may be part of a password.
pub(super) fn foreign(name: &str, value: &str, place: usize, known: &[&str]) -> Result<()> {
    let plain: String = name.chars().filter(|c| !matches!(c, '_' | '-')).collect::<String>().to_ascii_lowercase();
    if IGNORED.contains(&plain.as_str()) {
        return Ok(());
    }
    if plain == "pgbouncer" {
        if matches!(value, "false" | "0" | "") {
            return Ok(());
        }
        return Err(wrong("`pgbouncer` in the database URL says that it leads to a pooler").help(
            "replication needs the direct endpoint of the database server (frameworks call it `DIRECT_URL`): write that, \
             without `pgbouncer`",
        ));
    }
    if let Some((name, help)) = REFUSED.iter().find(|(known, _)| known.replace('_', "") == plain) {
        return Err(wrong(format!("`{name}` in the database URL is not supported here")).help(*help));
    }
    let error = wrong(format!("parameter {place} after the `?` of the database URL is unknown"));
    Err(match known.iter().find(|known| strsim::damerau_levenshtein(known, name) <= 2) {
        Some(near) => error
            .help(format!("did you mean `{near}`? If it belongs to the password: write `?` as `%3F`, `&` as `%26`")),
        None => error.help(format!(
            "known are: {}. If it belongs to the password: write `?` as `%3F`, `&` as `%26`",
            known.join(", ")
        )),
    })
}

/// A word as this program writes it: other drivers write `Verify-Full`, `verify_full` or
/// `VerifyFull`.
pub(super) fn same_word(ours: &str, theirs: &str) -> bool {
    let plain = |text: &str| text.chars().filter(|c| !matches!(c, '_' | '-')).collect::<String>().to_ascii_lowercase();
    plain(ours) == plain(theirs)
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Fault::Config, what)
}

#[cfg(test)]
mod tests {
    use crate::config::Secret;
    use crate::postgres::{Address, SslMode, Url};

    #[test]
    fn urls_of_frameworks_mean_what_they_mean_there() {
        for text in [
            "postgres://app:pw@db:6543/shop?schema=public&connection_limit=5&pool_timeout=10",
            "postgresql://app:pw@db:6543/shop?pool=5&prepared_statements=false&encoding=unicode",
            "postgresql+psycopg2://app:pw@db:6543/shop?client_encoding=utf8",
            "postgres+asyncpg://app:pw@db:6543/shop?prepared_statement_cache_size=0",
            "postgresql+psycopg://app:pw@db:6543/shop?options=-c%20search_path%3Dapp",
            "jdbc:postgresql://db:6543/shop?user=app&password=pw&currentSchema=app&ApplicationName=x&tcpKeepAlive=true",
            "jdbc:postgresql://db:6543/shop?user=app&password=pw&sslmode=VerifyFull&prepareThreshold=0",
            "\"postgres://app:pw@db:6543/shop\"",
            "'postgres://app:pw@db:6543/shop'",
            "postgres://app:pw@db:6543/shop\n",
            "  postgres://app:pw@db:6543/shop?sslmode=no-verify&uselibpqcompat=true\r\n",
            "postgis://app:pw@db:6543/shop?conn_max_age=600&pgbouncer=false",
            "postgres://app:pw@db:6543/shop?pool_max_conns=10&pool_max_conn_lifetime=1h30m&keepalives=1&keepalives_idle=30",
        ] {
            let url = Url::parse(&Secret::new(text), None).unwrap_or_else(|error| panic!("{text}: {}", error.report()));
            assert_eq!(url.address, Address::Tcp("db".into(), 6543), "{text}");
            assert_eq!((url.user.as_str(), url.database.as_str()), ("app", "shop"), "{text}");
            let mode = match text {
                text if text.contains("VerifyFull") => SslMode::VerifyFull,
                text if text.contains("no-verify") => SslMode::Require,
                _ => SslMode::Prefer,
            };
            assert_eq!(url.ssl.mode, mode, "{text}");
        }
    }

    #[test]
    fn what_would_change_the_meaning_is_refused_with_what_to_write() {
        for (text, what, help) in [
            ("postgres://app:pw@db/shop?pgbouncer=true", "leads to a pooler", "DIRECT_URL"),
            (
                "postgres://app:pw@db/shop?ssl=true",
                "`ssl` in the database URL is not supported here",
                "sslmode=require",
            ),
            ("postgres://app:pw@db/shop?sslaccept=strict", "`sslaccept` in", "sslmode=verify-full"),
            ("postgres://app:pw@db/shop?hostaddr=10.0.0.1", "`hostaddr` in", "in the place of the host"),
            ("postgres://app:pw@db/shop?sslmode=true", "`sslmode` in the database URL has a value", "verify-full"),
            ("host=db user=app password=pw", "written as keywords and values", "postgres://user"),
            ("DATABASE_URL=postgres://app:pw@db/shop", "begins with the name of a variable", "behind the `=`"),
            ("jdbc:postgresql:shop", "does not begin with `postgres://`", "postgres://user"),
            ("jdbc:mysql://db/shop", "does not begin with `postgres://`", "postgres://user"),
            ("postgresql+psycopg2:/x//app:pw@db", "does not begin with", "postgres://user"),
            ("", "is empty", "postgres://user"),
        ] {
            let error = Url::parse(&Secret::new(text), None).unwrap_err();
            assert!(error.to_string().contains(what), "{text}: {error}");
            assert!(error.advice().unwrap().contains(help), "{text}: {:?}", error.advice());
        }
    }
}

//! Tables of which every event would cause the next one: those that a sink of the pipeline writes,
//! and those of our own state.

use super::PostgresSettings;
use crate::config::qualified;
use crate::postgres::{Address, Url};
use crate::source::{ReadBack, Written};

/// The pattern by which the source reads what a sink writes.
pub(super) fn of_sink(source: &PostgresSettings, written: &Written<'_>) -> Option<ReadBack> {
    let Written::Table { database: written, name } = written else { return None };
    let table = qualified(name);
    let pattern = source.tables.iter().find(|pattern| matches(&qualified(pattern), &table))?;
    // A source that cannot be read is told of by who opens it.
    let read = Url::parse(&source.url, source.password_file.clone()).ok()?;
    let same = written.database == read.database && same_server(&written.address, &read.address);
    let help = "every vector written would come back as an event: name the tables one by one, or narrow the pattern";
    same.then(|| ReadBack { setting: "tables", value: pattern.clone(), help })
}

/// The pattern by which the source reads the tables of our state.
pub(super) fn of_state(source: &PostgresSettings) -> Option<ReadBack> {
    let pattern = source.tables.iter().find(|pattern| qualified(pattern).starts_with("pgstream."))?;
    let help = "each change of it would be an event, whose handling changes it again: leave it out";
    Some(ReadBack { setting: "tables", value: pattern.clone(), help })
}

/// Tells if two addresses lead to one server, as far as that can be told without asking. All names
/// of this machine count as one, but two Unix sockets must have the same path and port.
fn same_server(one: &Address, other: &Address) -> bool {
    let place = |address: &Address| match address {
        Address::Tcp(host, port) => {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            let ours = host == "localhost" || host.parse().is_ok_and(|it: std::net::IpAddr| it.is_loopback());
            (if ours { String::new() } else { host }, *port)
        }
        Address::Unix(_, port) => (String::new(), *port),
    };
    match (one, other) {
        (Address::Unix(..), Address::Unix(..)) => one == other,
        _ => place(one) == place(other),
    }
}

/// Tells if `name` matches `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            let ends = name.char_indices().map(|(end, _)| end).chain([name.len()]);
            ends.into_iter().any(|end| name.get(end..).is_some_and(|tail| matches(rest, tail)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name) in [("a", "a"), ("a*", "a"), ("a*", "abc"), ("*c", "abc"), ("a*c*e", "abcde"), ("*", "")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("a*", "ba"), ("a*c", "abcd"), ("a*c*e", "ace_")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn one_server_has_many_names() {
        let tcp = |host: &str, port| Address::Tcp(host.to_owned(), port);
        let socket = Address::Unix("/run/postgresql".into(), 5432);
        for other in [tcp("localhost", 5432), tcp("127.0.0.1", 5432), tcp("::1", 5432), socket] {
            assert!(same_server(&tcp("LocalHost", 5432), &other), "{other}");
        }
        for other in [tcp("db.example", 5432), tcp("localhost", 5433)] {
            assert!(!same_server(&tcp("localhost", 5432), &other), "{other}");
        }
    }
}

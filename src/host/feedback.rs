//! Feedback: a source that reads what its own pipeline writes would never come to rest.

use crate::config::{model, qualified};
use crate::error::{Error, Fault, Result};
use crate::postgres::{Address, Url};

/// Refuses tables of which every event would cause the next one: those in which this program keeps its state, and those that
/// a sink of the pipeline writes.
pub(super) fn refuse(settings: &model::Pipeline) -> Result<()> {
    let (source_name, model::Source::Postgres(source)) = &settings.source;
    if let Some(pattern) = source.tables.iter().find(|pattern| qualified(pattern).starts_with("pgstream.")) {
        let what = format!("source `{source_name}` reads `{pattern}`, where this program keeps its own state");
        return Err(Error::new(Fault::Config, what)
            .at(format!("`sources.{source_name}.tables`"))
            .help("each change of it would be an event, whose handling changes it again: leave it out"));
    }
    let Ok(read) = Url::parse(&source.url, source.password_file.clone()) else { return Ok(()) };
    for (name, sink) in &settings.sinks {
        let model::Sink::Pgvector(sink) = sink else { continue };
        let table = qualified(&sink.table);
        let Some(pattern) = source.tables.iter().find(|pattern| matches(&qualified(pattern), &table)) else { continue };
        let Ok(written) = Url::parse(&sink.url, sink.password_file.clone()) else { continue };
        if written.database == read.database && same_server(&written.address, &read.address) {
            let what = format!("sink `{name}` writes the table `{}`, which source `{source_name}` reads", sink.table);
            return Err(Error::new(Fault::Config, what)
                .at(format!("`{pattern}` in `sources.{source_name}.tables`"))
                .help("every vector written would come back as an event: name the tables one by one, or narrow the pattern"));
        }
    }
    Ok(())
}

/// Whether two addresses are one server's, as far as that can be told without asking. Of this machine all names are one.
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

/// Whether `name` is what `pattern` says, with `*` for any characters.
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

//! The server's rules, version by version.

use super::catalogue::{Flaw, Identity, Member, Rule};

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn table() -> Member {
    Member {
        kind: "r".into(),
        replident: "d".into(),
        primary: Some(texts(&["id"])),
        columns: texts(&["id", "content", "ts", "v"]),
        stored: texts(&["ts"]),
        virtuals: texts(&["v"]),
        ..Member::default()
    }
}

/// As `CheckCmdReplicaIdentity` has it; `tests/it/writes.rs` asks the servers themselves.
#[test]
fn what_the_server_refuses_depends_on_its_version() {
    let plain = Rule::default();
    let list = |columns: &[&str]| Rule { list: Some(texts(columns)), ..Rule::default() };
    let filter = |columns: &[&str]| Rule { filter: texts(columns), ..Rule::default() };
    let key = texts(&["id"]);
    let key = Identity::Key(&key);
    let stored = Member { virtuals: Vec::new(), ..table() };
    let sends_stored = Rule { stored: true, ..Rule::default() };
    for (member, identity, rule, version, flaw) in [
        (table(), Identity::Nothing, &plain, 140_000, Some(Flaw::Nothing)),
        (table(), key, &plain, 180_000, None),
        (table(), Identity::Full, &plain, 170_000, None),
        (table(), Identity::Full, &sends_stored, 180_000, Some(Flaw::Virtual("v".into()))),
        (stored.clone(), Identity::Full, &plain, 180_000, Some(Flaw::Stored("ts".into()))),
        (stored, Identity::Full, &sends_stored, 180_000, None),
        (table(), Identity::Full, &list(&["id", "content", "ts", "v"]), 150_000, Some(Flaw::List)),
        (table(), key, &list(&["content"]), 150_000, Some(Flaw::List)),
        (table(), key, &list(&["content", "id"]), 150_000, None),
        (table(), key, &filter(&["content"]), 150_000, Some(Flaw::Filter("content".into()))),
        (table(), key, &filter(&["id"]), 150_000, None),
        (table(), Identity::Full, &filter(&["content"]), 150_000, None),
    ] {
        assert_eq!(member.flaw(identity, rule, version), flaw, "{identity:?} {rule:?} {version}");
    }
}

#[test]
fn a_generated_column_tells_rows_apart_only_where_it_is_sent() {
    let by = |replident: &str, key: &[&str]| Member {
        replident: replident.into(),
        primary: Some(texts(key)),
        stored: texts(&["twice"]),
        ..table()
    };
    for (member, version, column) in [
        (by("d", &["id", "twice"]), 170_000, Some("twice")),
        (by("f", &["twice"]), 170_000, Some("twice")),
        (by("d", &["twice"]), 180_000, None),
        (by("d", &["id"]), 150_000, None),
        (by("f", &["id"]), 150_000, None),
    ] {
        assert_eq!(member.unpublished_key(version), column, "{member:?} {version}");
    }
}

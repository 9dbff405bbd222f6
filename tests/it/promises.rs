//! The promises of docs/security.md: each test that the page names is there, so that none of them loses its test in silence.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::program::root;

/// What the page names where a test is.
#[derive(Debug)]
enum Named<'a> {
    /// A module of `tests/it` or `src`, or a test in one of `tests/it`, which may be cut short.
    Test,
    /// A test, which may be cut short, in the file or folder below `src/`.
    Unit(&'a str, &'a str),
    /// A file below `src/` that holds tests.
    Units(&'a str),
}

/// All tests that are named on the page. A name that begins with `…` is in the module of the one before.
fn named(page: &str) -> Vec<(String, Named<'_>)> {
    let mut found = Vec::new();
    let mut module = "";
    for line in page.lines() {
        let parts: Vec<&str> = line.split('`').collect();
        for (index, word) in parts.iter().enumerate().filter(|(index, _)| index % 2 == 1) {
            let between = parts.get(index + 1).copied().unwrap_or_default();
            let place = parts.get(index + 2).filter(|_| between == " in ").filter(|place| place.starts_with("src/"));
            let is_name =
                |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:…".contains(c));
            if let Some(place) = place {
                found.push(((*word).to_owned(), Named::Unit(word, place)));
            } else if word.starts_with("src/") && parts[index - 1].contains("unit test") {
                found.push(((*word).to_owned(), Named::Units(word)));
            } else if is_name(word) && word.contains("::") {
                module = word.rsplit_once("::").unwrap().0;
                found.push(((*word).to_owned(), Named::Test));
            } else if is_name(word) && word.starts_with('…') {
                found.push((format!("{module}::{}", word.trim_start_matches('…')), Named::Test));
            }
        }
    }
    found
}

/// All of a file, or of the files below a folder.
fn text_below(path: &Path) -> String {
    if path.is_dir() {
        let mut inside: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        inside.sort();
        return inside.iter().map(|path| text_below(path)).collect();
    }
    fs::read_to_string(path).unwrap_or_default()
}

/// Whether a test of that name, or of one that begins so, is in the text.
fn has_test(text: &str, name: &str) -> bool {
    let sought = match name.strip_suffix('…') {
        Some(beginning) => format!("fn {beginning}"),
        None => format!("fn {name}("),
    };
    let is_test = |at: usize| {
        let before: Vec<&str> = text[..at].lines().rev().take(4).collect();
        before.iter().any(|line| line.contains("#[test]") || line.contains("#[tokio::test"))
    };
    text.match_indices(&sought).any(|(at, _)| is_test(at))
}

fn is_there(path: &str, root: &Path) -> bool {
    let below = |path: &str| {
        let stem = root.join("tests/it").join(path.replace("::", "/"));
        [stem.with_extension("rs"), stem.join("mod.rs")].into_iter().find(|file| file.is_file())
    };
    let in_module = |(module, test): (&str, &str)| {
        below(module).is_some_and(|file| has_test(&fs::read_to_string(file).unwrap(), test))
    };
    let holds_tests =
        |file: PathBuf| text_below(&file).contains("#[test]") || text_below(&file).contains("#[tokio::test");
    // A module of `src` is named as its unit tests are.
    let in_src = root.join("src").join(path.replace("::", "/")).with_extension("rs");
    path.rsplit_once("::").is_some_and(in_module) || below(path).or(Some(in_src)).is_some_and(holds_tests)
}

/// Names of the page for which there is no test.
fn missing(page: &str) -> Vec<String> {
    let root = root();
    let is_found = |name: &str, named: &Named<'_>| match named {
        Named::Test => is_there(name, root),
        Named::Unit(test, place) => has_test(&text_below(&root.join(place)), test),
        Named::Units(place) => text_below(&root.join(place)).contains("#[test]"),
    };
    named(page).into_iter().filter(|(name, named)| !is_found(name, named)).map(|(name, _)| name).collect()
}

#[test]
fn each_test_that_the_page_on_security_names_is_there() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    assert!(named(&page).len() > 90, "the page names its tests");
    let missing = missing(&page);
    assert!(missing.is_empty(), "docs/security.md names tests that are not there: {missing:#?}");
}

#[test]
fn a_test_that_is_gone_is_missed_however_it_is_named() {
    let page = "| a | b | `promises::each_test_that…`, `…a_test_that_is_gone_is_missed_however_it_is_named`, `strangers::hooks` |
        | a | unit tests in `src/lsn.rs` | `tools_of_others_are_not_run` in `src/toolchain` |
        | a | unit test in `src/error` | `a_compiler_that_is_gone` in `src/toolchain` | `promises::named`, `strangers::nothing`, `…gone…` |";
    assert_eq!(
        missing(page),
        ["src/error", "a_compiler_that_is_gone", "promises::named", "strangers::nothing", "strangers::gone…"]
    );
}

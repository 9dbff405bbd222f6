//! Circles between files: two files of `src` that need each other can only be read together. Parent and child may.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, expand, rust_files, starts_path};

/// Files that need each other, each knot by itself. The list may only shrink: what is opened is taken out.
const KNOTS: &[&[&str]] = &[
    &[
        "source/postgres/auth",
        "source/postgres/blockers",
        "source/postgres/bond",
        "source/postgres/connection",
        "source/postgres/copy",
        "source/postgres/fed",
        "source/postgres/footing",
        "source/postgres/naming",
        "source/postgres/publication",
        "source/postgres/schema",
        "source/postgres/setup",
        "source/postgres/slot",
        "source/postgres/tables",
        "source/postgres/turn",
        "source/postgres/writes",
    ],
    &["source/postgres/copy/reader", "source/postgres/copy/rows", "source/postgres/copy/select"],
    &["event/json/columns", "event/json/read", "event/json/value"],
    &["sink/pgvector/create", "sink/pgvector/place", "sink/pgvector/session"],
    &["host/handle", "host/keeper", "host/supervisor"],
    &["postgres/hooks", "postgres/ours"],
];

#[test]
fn no_files_need_each_other_but_those_of_the_list() {
    let files: Vec<File> = rust_files().into_iter().filter(File::is_production).collect();
    let mut listed: BTreeSet<Vec<String>> =
        KNOTS.iter().map(|knot| knot.iter().map(|&file| file.to_owned()).collect()).collect();
    let found = knots(&files);
    let new: Vec<_> = found.iter().filter(|knot| !listed.remove(*knot)).collect();
    assert!(new.is_empty() && listed.is_empty(), "new or larger: {new:#?}\nopened, take out of the list: {listed:#?}");
}

type Module = Vec<String>;

/// Knots of files, by their modules, each sorted.
fn knots(files: &[File]) -> BTreeSet<Vec<String>> {
    let graph = Graph::of(files);
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        graph.modules.iter().map(|module| (module, graph.reached(module))).collect();
    let together = |one: &Module, other: &Module| reached[one].contains(other) && reached[other].contains(one);
    let knot = |module: &Module| -> Vec<String> {
        graph.modules.iter().filter(|other| together(module, other)).map(|other| other.join("/")).collect()
    };
    graph.modules.iter().map(knot).filter(|knot| knot.len() > 1).collect()
}

/// Which file needs which, parents and children left out.
struct Graph {
    modules: BTreeSet<Module>,
    needs: BTreeMap<Module, BTreeSet<Module>>,
}

impl Graph {
    fn of(files: &[File]) -> Self {
        let named = |file: &File| file.module().into_iter().map(str::to_owned).collect::<Module>();
        let modules: BTreeSet<Module> = files.iter().map(named).collect();
        let mut paths: BTreeMap<Module, Vec<Module>> = BTreeMap::new();
        let mut handed_on: BTreeMap<Module, BTreeMap<String, Module>> = BTreeMap::new();
        for file in files {
            let own = named(file);
            for (path, is_public) in all_paths(file) {
                let Some(path) = from_the_root(&own, &path, &modules) else { continue };
                if let Some(name) = path.last().filter(|_| is_public) {
                    handed_on.entry(own.clone()).or_default().insert(name.clone(), path.clone());
                }
                paths.entry(own.clone()).or_default().push(path);
            }
        }
        let mut needs: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
        for (own, paths) in &paths {
            let targets = paths.iter().filter_map(|path| home(path, &modules, &handed_on, 0));
            let others = targets.filter(|target| !target.starts_with(own) && !own.starts_with(target));
            needs.insert(own.clone(), others.collect());
        }
        Self { modules, needs }
    }

    /// All that a file needs, and that those need.
    fn reached<'g>(&'g self, from: &'g Module) -> BTreeSet<&'g Module> {
        let mut reached = BTreeSet::new();
        let mut todo = vec![from];
        while let Some(module) = todo.pop() {
            for next in self.needs.get(module).into_iter().flatten() {
                if reached.insert(next) {
                    todo.push(next);
                }
            }
        }
        reached.insert(from);
        reached
    }
}

/// The paths that a file names, as they stand there, and whether others see them as its own.
fn all_paths(file: &File) -> Vec<(Module, bool)> {
    let code = file.code();
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut uses = String::new();
    for line in code.lines() {
        let line = line.trim();
        let begins = line.starts_with("use ") || (line.starts_with("pub") && line.contains(" use "));
        if begins || !uses.is_empty() {
            uses.push_str(line);
            uses.push(' ');
            if line.ends_with(';') {
                let (before, tree) = uses.split_once("use ").unwrap_or_default();
                let is_public = !before.is_empty();
                found.extend(expand(&mut tree.chars().peekable()).into_iter().map(|path| (path, is_public)));
                uses.clear();
            }
        } else {
            rest.push_str(line);
            rest.push('\n');
        }
    }
    for (at, _) in rest.match_indices("::") {
        let start = rest[..at].rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |before| before + 1);
        if starts_path(&rest, start) && rest[start..at].starts_with(char::is_lowercase) {
            found.extend(expand(&mut rest[start..].chars().peekable()).into_iter().map(|path| (path, false)));
        }
    }
    found
}

/// The path from the root of the crate. None for what is of another crate.
fn from_the_root(own: &Module, path: &[String], modules: &BTreeSet<Module>) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([own, rest].concat()),
        "super" => {
            let levels = path.iter().take_while(|part| *part == "super").count();
            let base = own.get(..own.len().checked_sub(levels)?)?;
            Some([base, &path[levels..]].concat())
        }
        _ => {
            let child = [own.as_slice(), std::slice::from_ref(first)].concat();
            modules.contains(&child).then(|| [own.as_slice(), path].concat())
        }
    }
}

/// The file that a path leads to, past the names that parents hand on.
fn home(
    path: &Module,
    modules: &BTreeSet<Module>,
    handed_on: &BTreeMap<Module, BTreeMap<String, Module>>,
    depth: usize,
) -> Option<Module> {
    let length = (0..=path.len()).rev().find(|length| modules.contains(&path[..*length]))?;
    let module = path[..length].to_vec();
    let next = path.get(length).and_then(|name| handed_on.get(&module)?.get(name));
    match next.filter(|next| *next != path && depth < 6) {
        Some(next) => home(&[next.as_slice(), &path[length + 1..]].concat(), modules, handed_on, depth + 1),
        None => Some(module),
    }
}

#[test]
fn a_knot_is_found_also_through_a_parent_that_hands_names_on() {
    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    let parent = file("src/a/mod.rs", "mod one;\nmod two;\npub use one::One;\npub use two::{Other, Two};");
    let two = file("src/a/two.rs", "use super::{\n    One,\n};");
    let knotted = [parent, file("src/a/one.rs", "fn f() -> crate::a::Two {}"), two];
    assert_eq!(knots(&knotted), BTreeSet::from([vec!["a/one".to_owned(), "a/two".to_owned()]]));
    let apart = |one: &str| {
        let [parent, _, two] = &knotted;
        let copy = |it: &File| file(&it.path, &it.text);
        knots(&[copy(parent), file("src/a/one.rs", one), copy(two)]).is_empty()
    };
    assert!(apart("use super::Unknown;") && apart("// use super::Two;") && apart("use std::fmt;"));
    assert!(apart("#[cfg(test)]\nmod tests {\n    use super::super::Two;\n}"));
}

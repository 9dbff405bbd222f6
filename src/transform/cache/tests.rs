//! Tests that a component is loaded from the cache only if this host put it there.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use std::path::PathBuf;

use super::*;

/// A component that differs by its number.
fn component(number: u32) -> Vec<u8> {
    wat::parse_str(format!("(component (core module (func (export \"f\") (result i32) i32.const {number})))")).unwrap()
}

fn open(folder: &Path) -> Cache {
    Cache::open(folder, 1 << 30).unwrap()
}

fn engine() -> Engine {
    Engine::default()
}

impl Cache {
    fn compiled(&self, engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        self.compiled_by(engine, bytes, || Component::from_binary(engine, bytes))
    }

    fn entries(&self) -> Vec<String> {
        let mut entries: Vec<_> = self.folder.entries().unwrap().into_iter().map(|entry| entry.name).collect();
        entries.sort();
        entries
    }
}

/// The only entry and what it holds.
fn entry(folder: &Path, cache: &Cache) -> (PathBuf, Vec<u8>) {
    let [name] = &cache.entries()[..] else { panic!("not one entry") };
    let path = folder.join(name);
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

/// Tells if the component is found in the cache. Compiles nothing.
fn is_kept(cache: &Cache, engine: &Engine, bytes: &[u8]) -> bool {
    let identity = Identity::new(engine, bytes);
    cache.read(&Folder::entry(&identity.name()), &identity).is_some()
}

#[test]
fn what_was_compiled_is_found_again() {
    let (scratch, engine) = (tempfile::tempdir().unwrap(), engine());
    open(scratch.path()).compiled(&engine, &component(1)).unwrap();
    let again = open(scratch.path());
    assert!(is_kept(&again, &engine, &component(1)));
    assert!(!is_kept(&again, &engine, &component(2)));
    again.compiled(&engine, &component(1)).unwrap();
    assert_eq!(again.entries().len(), 1);
}

#[test]
fn an_entry_with_any_bit_changed_is_removed_and_made_again() {
    let (scratch, engine) = (tempfile::tempdir().unwrap(), engine());
    let cache = open(scratch.path());
    cache.compiled(&engine, &component(1)).unwrap();
    let (path, good) = entry(scratch.path(), &cache);
    let places = [0, MAGIC.len(), MAGIC.len() + HASH, good.len() / 2, good.len() - 1];
    for place in places {
        let mut bad = good.clone();
        bad[place] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert!(!is_kept(&cache, &engine, &component(1)), "byte {place}");
        assert!(!path.exists(), "byte {place}: it is removed");
        cache.compiled(&engine, &component(1)).unwrap();
        assert!(is_kept(&cache, &engine, &component(1)), "byte {place}: it is made again");
    }
}

#[test]
fn an_entry_that_is_cut_off_or_longer_is_not_taken() {
    let (scratch, engine) = (tempfile::tempdir().unwrap(), engine());
    let cache = open(scratch.path());
    cache.compiled(&engine, &component(1)).unwrap();
    let (path, good) = entry(scratch.path(), &cache);
    for length in [0, 7, MAGIC.len() + HASH - 1, MAGIC.len() + HASH, good.len() - 1] {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(!is_kept(&cache, &engine, &component(1)), "{length} bytes");
    }
    std::fs::write(&path, [&good[..], b"x"].concat()).unwrap();
    assert!(!is_kept(&cache, &engine, &component(1)));
}

#[test]
fn an_entry_does_not_stand_for_another_component() {
    let (scratch, engine) = (tempfile::tempdir().unwrap(), engine());
    let cache = open(scratch.path());
    cache.compiled(&engine, &component(1)).unwrap();
    let (path, _) = entry(scratch.path(), &cache);
    let other = Identity::new(&engine, &component(2));
    std::fs::rename(path, scratch.path().join(Folder::entry(&other.name()))).unwrap();
    assert!(!is_kept(&cache, &engine, &component(2)));
}

#[test]
fn an_entry_of_an_engine_with_other_settings_is_not_taken() {
    let scratch = tempfile::tempdir().unwrap();
    let cache = open(scratch.path());
    cache.compiled(&engine(), &component(1)).unwrap();
    let (path, _) = entry(scratch.path(), &cache);
    let other = Engine::new(wasmtime::Config::new().epoch_interruption(true)).unwrap();
    let identity = Identity::new(&other, &component(1));
    assert!(!is_kept(&cache, &other, &component(1)));
    std::fs::rename(path, scratch.path().join(Folder::entry(&identity.name()))).unwrap();
    assert!(!is_kept(&cache, &other, &component(1)), "not under the other's name either");
}

#[test]
fn an_entry_from_another_folder_is_not_taken() {
    let (here, there, engine) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), engine());
    let (ours, theirs) = (open(here.path()), open(there.path()));
    theirs.compiled(&engine, &component(1)).unwrap();
    let (path, _) = entry(there.path(), &theirs);
    std::fs::copy(&path, here.path().join(path.file_name().unwrap())).unwrap();
    assert!(!is_kept(&ours, &engine, &component(1)));
}

#[test]
fn a_key_that_others_can_read_or_that_is_a_link_is_replaced() {
    let (scratch, engine) = (tempfile::tempdir().unwrap(), engine());
    let key = scratch.path().join("key");
    open(scratch.path()).compiled(&engine, &component(1)).unwrap();
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!is_kept(&open(scratch.path()), &engine, &component(1)), "somebody else may know the key");

    open(scratch.path()).compiled(&engine, &component(1)).unwrap();
    std::fs::rename(&key, scratch.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &key).unwrap();
    assert!(!is_kept(&open(scratch.path()), &engine, &component(1)));
}

#[test]
fn another_folder_in_its_place_is_not_touched() {
    let (scratch, engine) = (tempfile::tempdir().unwrap(), engine());
    let place = |name: &str| scratch.path().join(name);
    let cache = open(&place("cache"));
    // Whoever owns the folder above may do this at any time, with a key that he knows.
    let theirs = open(&place("theirs"));
    theirs.compiled(&engine, &component(1)).unwrap();
    let planted = entry(&place("theirs"), &theirs);
    std::fs::rename(place("cache"), place("moved")).unwrap();
    std::fs::rename(place("theirs"), place("cache")).unwrap();
    assert!(!is_kept(&cache, &engine, &component(1)));
    assert_eq!(cache.folder.key().unwrap(), cache.key);
    cache.compiled(&engine, &component(2)).unwrap();
    assert_eq!(std::fs::read_dir(place("cache")).unwrap().count(), 2, "their key and their entry");
    assert_eq!(entry(&place("cache"), &theirs).1, planted.1);
    assert_eq!(entry(&place("moved"), &cache).0.parent().unwrap(), place("moved"));
}

#[test]
fn links_and_pipes_in_it_are_neither_followed_nor_waited_for() {
    let (scratch, engine) = (tempfile::tempdir().unwrap(), engine());
    let cache = open(scratch.path());
    cache.compiled(&engine, &component(1)).unwrap();
    let (path, good) = entry(scratch.path(), &cache);
    let elsewhere = scratch.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(!is_kept(&cache, &engine, &component(1)));
    std::fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    assert!(!is_kept(&cache, &engine, &component(1)));
    cache.compiled(&engine, &component(1)).unwrap();
    assert!(is_kept(&cache, &engine, &component(1)));
    assert_eq!(std::fs::read(&elsewhere).unwrap(), good);
}

#[test]
fn a_folder_of_another_user_is_refused() {
    let root = Path::new("/usr");
    if rustix::process::geteuid().is_root() {
        // As root every folder can be had: hand one to somebody else.
        let scratch = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(scratch.path(), Some(65534), None).unwrap();
        assert!(Cache::open(scratch.path(), 1 << 30).is_err());
    } else {
        assert!(Cache::open(root, 1 << 30).is_err());
    }
}

#[test]
fn two_at_once_agree_on_the_key_and_disturb_nobody() {
    let (scratch, engine) = (tempfile::tempdir().unwrap(), engine());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                (0..4).for_each(|number| _ = open(scratch.path()).compiled(&engine, &component(number)).unwrap())
            });
        }
    });
    let cache = open(scratch.path());
    assert_eq!(cache.entries().len(), 4);
    assert!((0..4).all(|number| is_kept(&cache, &engine, &component(number))));
    let left = std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 5, "four entries and the key, nothing unfinished");
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let (scratch, engine) = (tempfile::tempdir().unwrap(), engine());
    let cache = open(scratch.path());
    let age = |number: u32, seconds: u64| {
        let path = scratch.path().join(Folder::entry(&Identity::new(&engine, &component(number)).name()));
        let then = SystemTime::now() - Duration::from_secs(seconds);
        std::fs::File::open(&path).unwrap().set_modified(then).unwrap();
        path.metadata().unwrap().len()
    };
    (0..3).for_each(|number| _ = cache.compiled(&engine, &component(number)).unwrap());
    let size = age(0, 300);
    age(1, 200);
    age(2, 100);
    assert!(is_kept(&cache, &engine, &component(0)), "and used now");
    let small = Cache::open(scratch.path(), size * 7 / 2).unwrap();
    small.compiled(&engine, &component(3)).unwrap();
    let kept: Vec<bool> = (0..4).map(|number| is_kept(&small, &engine, &component(number))).collect();
    assert_eq!(kept, [true, false, true, true]);

    let tiny = Cache::open(scratch.path(), 100).unwrap();
    tiny.compiled(&engine, &component(9)).unwrap();
    assert!(!is_kept(&tiny, &engine, &component(9)), "larger than all of the cache: not kept");
}

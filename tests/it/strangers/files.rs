//! Files that a tenant's pipeline names, exchanged for links after they were looked at.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use pgstream_host::command::{Action, Command};
use pgstream_host::components::REGISTRY;
use pgstream_host::config::model::{Create, Distance, SinkBatch};
use pgstream_host::config::{Secret, parse_host};
use pgstream_host::error::{Error, Fault, Result};
use pgstream_host::host::{Refusal, Tenants};
use pgstream_host::lsn::{Lsn, Position};
use pgstream_host::postgres::{Url, connect};
use pgstream_host::sink::lines::FileSettings;
use pgstream_host::sink::qdrant_edge::QdrantEdgeSettings;
use pgstream_host::sink::{Delivery, Look, Query, Searcher, Sink, SinkKind};
use pgstream_host::transform::{Compiler, Transform, WasmTransform};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::guests::{Embedders, engine, settings};
use crate::sinks::contract::{held, point};
use crate::transform::smallest;

/// A server that asks for a password, and keeps what it is told.
async fn curious() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, told) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let length = near.read_u32().await.unwrap_or(4);
                near.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
                // AuthenticationMD5Password
                near.write_all(b"R\0\0\0\x0c\0\0\0\x05salt").await.unwrap();
                let mut answer = [0; 1000];
                let length = near.read(&mut answer).await.unwrap_or(0);
                kept.lock().unwrap().extend_from_slice(&answer[..length]);
            });
        }
    });
    (port, told)
}

struct Place {
    _all: tempfile::TempDir,
    folder: PathBuf,
    secret: PathBuf,
}

/// A tenant's folder, and beside it something that is not the tenant's.
fn place() -> Place {
    let all = tempfile::tempdir().unwrap();
    let root = all.path().canonicalize().unwrap();
    let (folder, secret) = (root.join("acme"), root.join("secret"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&secret, "the host's own secret").unwrap();
    Place { _all: all, folder, secret }
}

async fn log_in(url: &str, password: Option<&Path>, folder: &Path) -> Error {
    let url = Url::parse(&Secret::new(url), password.map(Path::to_owned)).unwrap().beneath(Some(folder.to_owned()));
    connect(&url, "test").await.expect_err("the server lets nobody in")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_file_that_became_a_link_out_of_the_folder_is_not_read() {
    let Place { folder, secret, .. } = &place();
    let (port, told) = curious().await;
    let url = format!("postgres://app@127.0.0.1:{port}/shop?sslmode=disable&connect_timeout=20");
    let file = folder.join("password");
    std::fs::write(&file, "the tenant's own").unwrap();
    let error = log_in(&url, Some(&file), folder).await;
    assert!(!error.report().contains("password file"), "{}", error.report());
    assert!(told.lock().unwrap().starts_with(b"p"), "what is there as it should be is read and sent");
    told.lock().unwrap().clear();

    std::fs::remove_file(&file).unwrap();
    symlink(secret, &file).unwrap();
    let error = log_in(&url, Some(&file), folder).await;
    assert_eq!(error.fault(), Fault::Environment);
    assert!(error.report().contains("it leads out of the tenant's folder"), "{}", error.report());

    // Nor through a folder that became one.
    std::fs::create_dir(folder.join("deep")).unwrap();
    std::fs::write(folder.join("deep/secret"), "the tenant's own").unwrap();
    std::fs::remove_dir_all(folder.join("deep")).unwrap();
    symlink(secret.parent().unwrap(), folder.join("deep")).unwrap();
    let error = log_in(&url, Some(&folder.join("deep/secret")), folder).await;
    assert!(error.report().contains("it leads out of the tenant's folder"), "{}", error.report());
    assert!(told.lock().unwrap().is_empty(), "nothing was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_became_links_or_pipes_are_not_read() {
    let Place { folder, secret, .. } = &place();
    let (link, pipe) = (folder.join("link.pem"), folder.join("pipe.pem"));
    symlink(secret, &link).unwrap();
    pipe_at(&pipe);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            // Yes to TLS.
            let _ = near.read_exact(&mut [0; 8]).await;
            let _ = near.write_all(b"S").await;
        }
    });
    let url = format!("postgres://app:x@127.0.0.1:{port}/shop?sslmode=require&connect_timeout=20");
    for (file, why) in [(&link, "it leads out of the tenant's folder"), (&pipe, "it is not a plain file")] {
        let file = file.display();
        for parameters in [format!("sslrootcert={file}"), format!("sslcert={file}&sslkey={file}")] {
            let error = log_in(&format!("{url}&{parameters}"), None, folder).await;
            assert_eq!(error.fault(), Fault::Config, "{}", error.report());
            assert!(error.report().contains(why), "{parameters}: {}", error.report());
        }
    }
}

/// A pipe that nobody reads or writes: whoever waits for that waits for ever.
fn pipe_at(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

/// What is put in place of a file: why it is refused, and how it is put there.
type Swap<'a> = (&'static str, Box<dyn Fn(&Path) + 'a>);

/// `secret` is not the tenant's.
fn swaps(secret: &Path) -> Vec<Swap<'_>> {
    let link = |to| -> Swap<'_> {
        ("it leads out of the tenant's folder", Box::new(move |path: &Path| symlink(to, path).unwrap()))
    };
    let pipe: Swap<'_> = ("it is not a plain file", Box::new(pipe_at));
    vec![link(secret), link(Path::new("/dev/null")), link(Path::new("/proc/self/environ")), pipe]
}

async fn write_line(sink: &mut Box<dyn Sink>) -> Result<()> {
    let position = Position { lsn: Lsn(7), ordinal: 0 };
    let command = Command { position, action: Action::Delete { id: "a".into() } };
    sink.write(&Delivery { commands: vec![&command], rejected: Vec::new(), through: held(position) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_do_not_follow_what_is_put_in_place_of_their_file() {
    let Place { folder, secret, .. } = &place();
    let (sub, path) = (folder.join("sub"), folder.join("sub/out.jsonl"));
    std::fs::create_dir(&sub).unwrap();
    let settings = FileSettings { inputs: Vec::new(), path: path.clone(), folder: Some(folder.clone()) };
    let mut sink = settings.open("documents", "out").await.unwrap();
    write_line(&mut sink).await.unwrap();
    let other_name =
        ("it has another name besides", Box::new(|path: &Path| std::fs::hard_link(secret, path).unwrap()) as _);
    for (why, put) in swaps(secret).into_iter().chain([other_name]) {
        std::fs::remove_file(&path).unwrap();
        put(&path);
        let open = settings.open("documents", "out").await.map(drop);
        let look = settings.look().await.map(|_: Look| ());
        for refused in [write_line(&mut sink).await, open, look] {
            let error = refused.expect_err("it was written");
            assert_eq!(error.fault(), Fault::Environment);
            assert!(error.report().contains(why), "{}", error.report());
        }
    }
    // The same one folder up.
    std::fs::remove_dir_all(&sub).unwrap();
    symlink(folder.parent().unwrap(), &sub).unwrap();
    let error = write_line(&mut sink).await.unwrap_err();
    assert!(error.report().contains("it leads out of the tenant's folder"), "{}", error.report());
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "the host's own secret");
    assert!(!folder.parent().unwrap().join("out.jsonl").exists());
    // What stays within is the tenant's to arrange, and what was right again is written.
    std::fs::remove_file(&sub).unwrap();
    std::fs::create_dir(&sub).unwrap();
    std::fs::write(folder.join("real.jsonl"), "").unwrap();
    symlink("../real.jsonl", &path).unwrap();
    write_line(&mut sink).await.unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("real.jsonl")).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn a_component_that_became_a_link_or_a_pipe_is_not_read() {
    let Place { folder, secret, .. } = &place();
    let path = folder.join("handler.wasm");
    std::fs::write(&path, smallest()).unwrap();
    let settings = WasmTransform { folder: Some(folder.clone()), ..settings(&path) };
    let load = || {
        Transform::load(
            &pgstream_host::transform::Tenant::lone(engine()),
            engine(),
            "embed",
            &settings,
            Embedders::new(),
        )
        .map(drop)
    };
    load().unwrap();
    std::fs::write(secret, smallest()).unwrap(); // it would do
    for (why, put) in swaps(secret) {
        std::fs::remove_file(&path).unwrap();
        put(&path);
        let error = load().expect_err("it was loaded");
        assert_eq!(error.fault(), Fault::Config);
        assert!(error.report().contains(why), "{}", error.report());
        assert!(pgstream_host::transform::hash_of(&settings).is_err());
    }
}

#[test]
fn a_pipeline_file_that_is_a_link_or_a_pipe_is_not_read() {
    let Place { folder, secret, .. } = &place();
    let host = "version: 1\ntenants:\n  acme: { folder: acme, sinks: [file] }\n";
    let host = parse_host(&REGISTRY, "host.yaml", host, &|_| None).unwrap();
    let at = folder.parent().unwrap().join("host.yaml");
    let (_, mut tenants) = Tenants::open(&at, &host, None, Compiler::in_process()).unwrap();
    // Of what is wrong with a file its lines are shown.
    std::fs::write(secret, "tenant: acme\nhunter2: {}\nhunter2: {}\n").unwrap();
    let path = folder.join("pipeline.yaml");
    for (why, put) in swaps(secret) {
        put(&path);
        let Err(Refusal::File(problems)) = tenants.admit(&path) else { panic!("it was read: {why}") };
        let said = problems.render(false);
        assert!(said.contains(&format!("cannot read the pipeline file: {why}")), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        std::fs::remove_file(&path).unwrap();
    }
    // By another name of its own file it is read.
    std::fs::write(folder.join("real.yaml"), "tenant: acme\nhunter2: {}\n").unwrap();
    symlink("real.yaml", &path).unwrap();
    let outside = folder.parent().unwrap().join("alias.yaml");
    symlink(&path, &outside).unwrap();
    for path in [&path, &outside] {
        let Err(Refusal::File(problems)) = tenants.admit(path) else { panic!("it lacks everything") };
        assert!(problems.render(false).contains("hunter2"));
    }
}

fn points(folder: &Path) -> QdrantEdgeSettings {
    QdrantEdgeSettings {
        inputs: Vec::new(),
        path: folder.join("deep/points"),
        folder: Some(folder.to_owned()),
        create: Create { dimension: Some(4), distance: Distance::Dot, vectors: Default::default(), sparse: Vec::new() },
        batch: SinkBatch::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn points_stay_in_the_folder_that_was_opened_whatever_takes_its_place() {
    let Place { folder, secret, .. } = &place();
    let settings = points(folder);
    let mut sink = settings.open("documents", "out").await.unwrap();
    let write = async |sink: &mut Box<dyn Sink>, id: &str| {
        let position = Position { lsn: Lsn(7), ordinal: 0 };
        let command = Command { position, action: Action::Upsert(point(id, 1, "{}")) };
        sink.write(&Delivery { commands: vec![&command], rejected: Vec::new(), through: held(position) }).await
    };
    write(&mut sink, "a").await.unwrap();
    let found = async || {
        let query = Query { vector: "", values: &[1.0, 0.0, 0.0, 0.0], limit: 9 };
        settings.search(&query).await
    };
    assert_eq!(found().await.unwrap().len(), 1, "from the running pipeline");
    for path in [&settings.path, &folder.join("deep")] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700, "closed to others");
    }

    // A folder of the host's own takes the place: nothing is written into it, and the sink says that it lost its own.
    let (theirs, moved) = (secret.parent().unwrap().join("theirs"), folder.join("moved"));
    std::fs::create_dir(&theirs).unwrap();
    std::fs::rename(&settings.path, &moved).unwrap();
    symlink(&theirs, &settings.path).unwrap();
    let error = write(&mut sink, "b").await.unwrap_err();
    assert!(error.report().contains("was removed or replaced while the sink was using it"), "{}", error.report());
    sink.close().await.unwrap();
    assert_eq!(std::fs::read_dir(&theirs).unwrap().count(), 0);
    let refused = |error: Error, why: &str| {
        assert_eq!(error.fault(), Fault::Environment);
        assert!(error.report().contains(why), "{}", error.report());
    };
    let open = async || settings.open("documents", "out").await.map(drop);
    refused(open().await.unwrap_err(), "it leads out of the tenant's folder");
    refused(found().await.unwrap_err(), "it leads out of the tenant's folder");
    assert_eq!(std::fs::read_dir(&theirs).unwrap().count(), 0);

    // Nor is what lies ready in it followed: the lock and the mark are files that are written at once.
    std::fs::remove_file(&settings.path).unwrap();
    std::fs::rename(&moved, &settings.path).unwrap();
    open().await.unwrap();
    for name in ["lock", "pgstream_mark", "segments/link"] {
        let file = settings.path.join(name);
        let _ = std::fs::remove_file(&file);
        symlink(secret, &file).unwrap();
        refused(open().await.unwrap_err(), "is a link, or no plain file");
        std::fs::remove_file(&file).unwrap();
    }
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "the host's own secret");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&settings.path, Some(65534), None).unwrap();
        refused(open().await.unwrap_err(), "it belongs to another user");
    }
}

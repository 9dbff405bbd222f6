//! Components that are within all limits of size, and made to keep a compiler busy.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pgstream_host::components::REGISTRY;
use pgstream_host::config;
use pgstream_host::error::{Error, Fault};
use pgstream_host::host::{Admitted, Host, Tenants};
use pgstream_host::transform::inspect::inspect;
use pgstream_host::transform::{Compiler, Engine, Resources, Transform};

use crate::guests::{Embedders, settings, words};
use crate::support::program::eventually;
use crate::transform::smallest;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pgstream-host");

/// A component of `functions`, each with so many loops, one in the other, and so many variables that all of them change.
fn bomb(loops: usize, variables: usize, functions: usize) -> Vec<u8> {
    let number = |mut value: usize| {
        let mut bytes = Vec::new();
        loop {
            let byte = (value & 127) as u8;
            value >>= 7;
            if value == 0 {
                bytes.push(byte);
                return bytes;
            }
            bytes.push(byte | 128);
        }
    };
    let with_length = |bytes: Vec<u8>| [number(bytes.len()), bytes].concat();
    let section = |id: u8, bytes: Vec<u8>| [vec![id], with_length(bytes)].concat();
    let mut body = [number(1), number(variables), vec![0x7f]].concat();
    body.extend([0x03, 0x40].repeat(loops));
    for variable in 0..variables {
        let variable = number(variable);
        body.extend([&[0x20][..], &variable, &[0x41, 1, 0x6a, 0x21], &variable].concat());
    }
    body.extend([0x20, 0, 0x0d, 0, 0x0b].repeat(loops));
    body.push(0x0b);
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, vec![1, 0x60, 0, 0]),
        section(3, [number(functions), vec![0; functions]].concat()),
        section(10, [number(functions), with_length(body).repeat(functions)].concat()),
    ];
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, module.concat())].concat()
}

/// One that no count tells from an honest component.
fn sly() -> Vec<u8> {
    bomb(50, 1000, 100)
}

fn file(component: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), component).unwrap();
    file
}

fn engine(memory: u64, time: Duration) -> Engine {
    let compiler = Compiler::program(PROGRAM).within(memory, time);
    Engine::with(&Resources { compiler, ..Resources::default() }).unwrap()
}

fn load(engine: &Engine, component: &[u8]) -> Result<Transform, Error> {
    Transform::load(
        &pgstream_host::transform::Tenant::lone(engine),
        engine,
        "embed",
        &settings(file(component).path()),
        Embedders::new(),
    )
}

#[tokio::test]
async fn what_takes_the_compiler_too_much_is_refused_with_the_limit_and_what_to_type() {
    let engine = engine(256 << 20, Duration::from_secs(1));
    for (component, why) in [
        (
            bomb(200, 1000, 1),
            "it has a function whose loops times its variables are 200000, at most 100000 are compiled",
        ),
        (sly(), "compiling it takes more than "),
    ] {
        let error = load(&engine, &component).err().expect("it was loaded");
        assert_eq!(error.fault(), Fault::Config, "{error:?}");
        assert!(error.report().contains(&format!("caused by: {why}")), "{error:?}");
        let error = inspect(&engine, file(&component).path()).expect_err("it was compiled");
        assert!(error.report().contains(&format!("caused by: {why}")), "{error:?}");
    }
    // Memory and time, each where the other is plenty.
    let hurried = self::engine(8 << 30, Duration::from_secs(1));
    let report = load(&hurried, &sly()).err().unwrap().report();
    assert!(report.contains("compiling it takes more than 1s of CPU time\n"), "{report}");
    assert!(report.contains("`compile: { time: 2s }` in a host file"), "{report}");
    let narrow = self::engine(128 << 20, Duration::from_secs(600));
    let report = load(&narrow, &sly()).err().unwrap().report();
    assert!(report.contains("compiling it takes more than 128 MiB of memory\n"), "{report}");
    assert!(report.contains("`compile: { memory: 256MiB }` in a host file"), "{report}");
    // What is honest is compiled within the same limits, and is what it would be otherwise.
    let handler = load(&engine, &smallest()).unwrap();
    handler.apply(words(&["a word"])).await.unwrap();
    let error = load(&engine, b"\0asm\x0d\0\x01\0nonsense").err().unwrap();
    assert!(error.report().contains("caused by: it does not compile: "), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_start_while_another_ones_components_keep_the_compiler_busy() {
    let scratch = tempfile::tempdir().unwrap();
    let place = |path: &str| scratch.path().canonicalize().unwrap().join(path);
    let host = "
version: 1
compile: { memory: 8GiB, time: 3s }
tenants:
  acme: { folder: acme, sinks: [file], servers: ['127.0.0.1:1'] }
  umbrella: { folder: umbrella, sinks: [file], servers: ['127.0.0.1:1'] }
";
    let settings = config::parse_host(&REGISTRY, "host.yaml", host, &|_| None).unwrap();
    for (tenant, component) in [("acme", sly()), ("umbrella", smallest())] {
        std::fs::create_dir(place(tenant)).unwrap();
        std::fs::write(place(tenant).join("handler.wasm"), component).unwrap();
    }
    let compiler = Compiler::program(PROGRAM);
    let (host, mut tenants) = Tenants::open(&place("host.yaml"), &settings, None, compiler).unwrap();
    let mut admit = |tenant: &str, name: &str| {
        let file = place(tenant).join(format!("{name}.yaml"));
        let text = format!(
            "version: 1\nname: {name}\ntenant: {tenant}\nsources:\n  db: {{ type: postgres, url: 'postgres://a:b@127.0.0.1:1/shop', tables: [public.documents] }}\n\
             transforms:\n  embed: {{ type: wasm, inputs: [db], component: handler.wasm }}\nsinks:\n  out: {{ type: file, inputs: [embed], path: {name}.jsonl }}\n"
        );
        std::fs::write(&file, text).unwrap();
        tenants.admit(&file).unwrap_or_else(|_| panic!("{name} is refused"))
    };
    let busy: Vec<Admitted> = ["one", "two", "three"].map(|name| admit("acme", name)).into();
    let honest = admit("umbrella", "docs");

    let busy: Vec<_> = busy.into_iter().map(|pipeline| tokio::spawn(opened(host.clone(), pipeline))).collect();
    // As many as the machine has cores, if nobody kept them from it.
    eventually("its compiler works", async || !compilers(std::process::id()).is_empty()).await;
    let error = opened(host, honest).await;
    // Its handler is ready: what it lacks is a server.
    assert!(error.report().contains("127.0.0.1:1"), "{error:?}");
    assert!(busy.iter().any(|opening| !opening.is_finished()), "it was waited for");
    for opening in busy {
        let report = opening.await.unwrap().report();
        assert!(report.contains("compiling it takes more than 3s of CPU time"), "{report}");
    }
}

/// Why the pipeline does not open.
async fn opened(host: Host, Admitted { settings, owner }: Admitted) -> Error {
    host.open(&settings, &owner).await.err().expect("there is no server")
}

/// The compilers that a process has started.
fn compilers(process: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let born = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    let children: String = threads.flatten().map(born).collect();
    let children = children.split_whitespace().map(|id| id.parse().unwrap());
    children.filter(|child| of(*child, "cmdline").contains("compile-component")).collect()
}

#[tokio::test]
async fn the_compiler_has_nothing_of_the_hosts_and_ends_with_it() {
    let (component, cache) = (file(&sly()), tempfile::tempdir().unwrap());
    let left_open = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&left_open, rustix::io::FdFlags::empty()).unwrap();
    let mut host = Command::new(PROGRAM)
        .args(["inspect".as_ref(), component.path()] as [&Path; 2])
        .env("XDG_CACHE_HOME", cache.path())
        .env("DATABASE_URL", "postgres://me:s3cret@localhost/shop")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut compiler = None;
    eventually("the compiler has begun", async || {
        compiler = compilers(host.id()).first().copied();
        // The last thing that it does before it reads.
        compiler.is_some_and(|id| of(id, "status").contains("Seccomp:\t2"))
    })
    .await;
    let compiler = compiler.unwrap();
    // In force before it reads a byte of the component.
    let status = of(compiler, "status");
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    if !rustix::process::geteuid().is_root() {
        assert!(
            std::fs::read(format!("/proc/{compiler}/environ")).is_err(),
            "nobody looks into it, whoever its user is"
        );
    } else {
        let environment = of(compiler, "environ");
        let only = environment.starts_with("RAYON_NUM_THREADS=") && environment.matches('\0').count() == 1;
        assert!(only, "{environment:?}");
        // Three pipes, and nothing of what whoever runs the tests has left open for every child.
        let open: Vec<_> = std::fs::read_dir(format!("/proc/{compiler}/fd")).unwrap().flatten().collect();
        assert_eq!(open.len(), 3);
        for open in open {
            let leads_to = std::fs::read_link(open.path()).unwrap();
            assert!(leads_to.to_string_lossy().starts_with("pipe:"), "{open:?} leads to {leads_to:?}");
        }
    }
    assert!(!of(compiler, "cmdline").contains(&*component.path().to_string_lossy()));

    host.kill().unwrap();
    host.wait().unwrap();
    eventually("the compiler is gone", async || {
        // Somebody else may have to bury it.
        let state = of(compiler, "stat");
        state.is_empty() || state.contains(") Z ")
    })
    .await;
}

fn of(process: u32, what: &str) -> String {
    std::fs::read_to_string(format!("/proc/{process}/{what}")).unwrap_or_default()
}

//! What a pipeline file of a stranger may reach: nothing but what the host file grants its tenant.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use pgstream_host::components::REGISTRY;
use pgstream_host::config;
use pgstream_host::host::{Admitted, Host, Owner, Refusal, Tenants};
use pgstream_host::sink::dead_letters::DeadLettersSettings;
use pgstream_host::sink::lines::FileSettings;
use pgstream_host::source::jsonl::JsonlSettings;
use pgstream_host::source::postgres::PostgresSettings;
use pgstream_host::transform::Compiler;
use pgstream_host::transform::WasmTransform;

const HOST: &str = "
version: 1
embedders:
  words: { type: hash, dimension: 8 }
  dear: { type: hash, dimension: 8 }
tenants:
  acme:
    folder: acme
    pipelines: 2
    workers: 3
    sinks: [file, qdrant, pgvector]
    servers: [db.acme.example, 'vectors.acme.example:6334']
    env: [ACME_*]
    http: [api.acme.example]
    embedders: { words: { texts: 100 } }
  other: { folder: other, sinks: [file] }
";

const PIPELINE: &str = "
version: 1
name: documents
tenant: acme
sources:
  db: { type: postgres, url: 'postgres://app:secret@db.acme.example/shop', tables: [public.documents] }
transforms:
  embed: { type: wasm, inputs: [db], component: handler.wasm, embedders: [words] }
sinks:
  out: { type: file, inputs: [embed], path: out.jsonl }
";

/// A folder with a host file, a folder for each of its two tenants, and something that is nobody's.
struct Place {
    scratch: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        for folder in ["acme", "other"] {
            std::fs::create_dir(scratch.path().join(folder)).unwrap();
            std::fs::write(scratch.path().join(folder).join("handler.wasm"), "").unwrap();
        }
        std::fs::write(scratch.path().join("secret.txt"), "secret").unwrap();
        Self { scratch }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.scratch.path().canonicalize().unwrap().join(path)
    }

    fn tenants(&self) -> Tenants {
        self.tenants_of(HOST)
    }

    fn tenants_of(&self, host: &str) -> Tenants {
        self.open(host).1
    }

    fn open(&self, host: &str) -> (Host, Tenants) {
        let host = config::parse_host(&REGISTRY, "host.yaml", host, &|_| None)
            .unwrap_or_else(|it| panic!("{}", it.render(false)));
        Tenants::open(&self.path("host.yaml"), &host, None, Compiler::in_process()).unwrap()
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(path), text).unwrap();
        self.path(path)
    }

    /// What becomes of the pipeline with one part of its text replaced.
    fn admit(&self, from: &str, to: &str) -> Result<Admitted, String> {
        assert!(PIPELINE.contains(from), "{from}");
        admit(&mut self.tenants(), &self.write("acme/pipeline.yaml", &PIPELINE.replace(from, to)))
    }
}

fn admit(tenants: &mut Tenants, file: &Path) -> Result<Admitted, String> {
    tenants.admit(file).map_err(|refusal| match refusal {
        Refusal::File(problems) => problems.render(false),
        Refusal::Grant(error) => error.report(),
    })
}

#[test]
fn what_is_granted_is_run_under_the_tenants_name() {
    let place = Place::new();
    let admitted = place.admit("name: documents", "name: documents").unwrap_or_else(|why| panic!("{why}")).settings;
    assert_eq!(admitted.name, "acme-documents");
    assert_eq!(config::default_slot(&admitted.name), "pgstream_acme_documents");
    let out = admitted.sinks["out"].as_kind::<FileSettings>().unwrap();
    assert_eq!(out.path, place.path("acme/out.jsonl"));
    let source = admitted.source.as_kind::<PostgresSettings>().unwrap();
    assert_eq!(source.folder, Some(place.path("acme")), "files that its URL names are opened beneath it");
    let embed = admitted.transforms["embed"].as_kind::<WasmTransform>().unwrap();
    assert_eq!(embed.component, place.path("acme/handler.wasm"));
}

#[tokio::test]
async fn where_paths_lead_is_looked_at_again_whenever_a_pipeline_starts() {
    let place = Place::new();
    let (host, mut tenants) = place.open(HOST);
    let Admitted { settings, owner } =
        admit(&mut tenants, &place.write("acme/pipeline.yaml", PIPELINE)).unwrap_or_else(|why| panic!("{why}"));
    symlink(place.path("secret.txt"), place.path("acme/out.jsonl")).unwrap();
    let Err(error) = host.open(&settings, &owner).await else { panic!("it writes where it may not") };
    assert!(error.report().contains("`path` leads out of the folder of tenant `acme`"), "{}", error.report());
}

#[test]
fn what_is_not_granted_is_refused_with_the_reason() {
    let place = Place::new();
    symlink(place.path("secret.txt"), place.path("acme/link.jsonl")).unwrap();
    symlink(place.path("other"), place.path("acme/there")).unwrap();
    symlink("nowhere", place.path("acme/dangling")).unwrap();
    let file = "{ type: file, inputs: [embed], path: out.jsonl }";
    let url = "postgres://app:secret@db.acme.example/shop";
    let cases: &[(&str, &str, &str)] = &[
        ("tenant: acme\n", "", "names no tenant"),
        ("tenant: acme", "tenant: nobody", "a tenant that the host file does not know"),
        ("tenant: acme", "tenant: other", "does not lie in that tenant's folder"),
        ("path: out.jsonl", "path: ../secret.txt", "`path` leads out of the folder"),
        ("path: out.jsonl", "path: /etc/made", "`path` leads out of the folder"),
        ("path: out.jsonl", "path: link.jsonl", "`path` leads out of the folder"),
        ("path: out.jsonl", "path: there/made.jsonl", "`path` leads out of the folder"),
        ("path: out.jsonl", "path: dangling", "a symbolic link that leads nowhere"),
        ("component: handler.wasm", "component: there/handler.wasm", "`component` leads out of the folder"),
        (url, "postgres://app:secret@10.0.0.1/shop", "may not connect to `10.0.0.1:5432`"),
        (
            url,
            "postgres://app:secret@db.acme.example/shop?host=other.example",
            "may not connect to `other.example:5432`",
        ),
        (url, "postgres://app:secret@/shop?host=/run/postgresql", "may not connect to `/run/postgresql`"),
        (url, "postgres://app@db.acme.example/shop", "its database URL has no password"),
        (url, "postgres://app:x@db.acme.example/shop?sslrootcert=/etc/hostname", "`url` leads out of the folder"),
        (
            "tables: [public.documents]",
            "tables: [public.documents], password_file: /etc/hostname",
            "`password_file` leads out",
        ),
        (
            "tables: [public.documents]",
            "tables: [public.documents], slot: pgstream_other_documents",
            "could be another tenant's",
        ),
        ("tables: [public.documents]", "tables: [public.documents], publication: theirs", "could be another tenant's"),
        (
            "tables: [public.documents]",
            "tables: [public.documents], batch: { max_bytes: 1GiB }",
            "`batch.max_bytes` is more than",
        ),
        ("tables: [public.documents]", "tables: [public.documents], max_row: 1GiB", "`max_row` is more than the 64MiB"),
        ("url: 'postgres://app:secret@", "url: 'postgres://app:${HOME}@", "environment variable `HOME` is not set"),
        ("embedders: [words]", "embedders: [dear]", "there is no embedder `dear`"),
        (
            "transforms:",
            "embedders: { words: { type: hash, dimension: 4 } }\ntransforms:",
            "embedders are the host's here",
        ),
        ("embedders: [words]", "embedders: [words], limits: { memory: 1GiB }", "`limits.memory` is more than the 64"),
        ("embedders: [words]", "embedders: [words], limits: { deadline: 1m }", "`limits.deadline` is more than"),
        ("embedders: [words]", "embedders: [words], limits: { output: 1GiB }", "`limits.output` is more than"),
        ("embedders: [words]", "embedders: [words], workers: 4", "it wants 4 workers, tenant `acme` has 3 left of 3"),
        ("embedders: [words]", "embedders: [words], allow: { http: [other.example] }", "may not reach `other.example`"),
        (
            "embedders: [words]",
            "embedders: [words], allow: { http: [{ host: api.acme.example, private: [10.0.0.0/8] }] }",
            "`private` addresses",
        ),
        (
            "embedders: [words]",
            "embedders: [words], limits: { http: { requests: 9999 } }",
            "`limits.http.requests` is more than",
        ),
        (file, "{ type: blackhole, inputs: [embed] }", "may not use sinks of type `blackhole`"),
        (
            file,
            "{ type: qdrant, inputs: [embed], url: 'http://vectors.acme.example:6334', collection: theirs }",
            "may be another tenant's",
        ),
        (
            file,
            "{ type: qdrant, inputs: [embed], url: 'http://vectors.acme.example:80', collection: acme_a }",
            "may not connect to",
        ),
        (
            file,
            "{ type: qdrant, inputs: [embed], url: 'http://vectors.acme.example:6334@169.254.169.254', collection: acme_a }",
            "may not connect to `169.254.169.254:80`",
        ),
        (
            file,
            "{ type: pgvector, inputs: [embed], url: 'postgres://a:b@db.acme.example/a', table: acme.theirs }",
            "may be another tenant's",
        ),
    ];
    for (from, to, reason) in cases {
        match place.admit(from, to) {
            Ok(_) => panic!("`{to}` was admitted"),
            Err(why) => {
                assert!(why.contains(reason), "`{to}`: {why}");
                assert!(!why.contains("secret@"), "{why}");
            }
        }
    }
}

#[test]
fn all_that_is_not_granted_is_said_at_once_each_with_its_line() {
    let place = Place::new();
    let text = PIPELINE
        .replace("@db.acme.example/shop'", "@10.0.0.1/shop', slot: theirs, max_row: 1GiB")
        .replace("embedders: [words]", "limits: { memory: 1GiB, http: { requests: 9999 } }, workers: 4")
        .replace("path: out.jsonl }", "path: ../secret.txt }\n  more: { type: blackhole, inputs: [embed] }");
    let why = admit(&mut place.tenants(), &place.write("acme/pipeline.yaml", &text)).err().unwrap();
    for (line, what) in [
        (6, "may not connect to `10.0.0.1:5432`"),
        (6, "`slot: theirs` could be another tenant's"),
        (6, "`max_row` is more than the 64MiB"),
        (7, "it wants 4 workers, tenant `acme` has 3 left of 3"),
        (8, "`limits.memory` is more than the 64MiB"),
        (8, "`limits.http.requests` is more than the 1000"),
        (10, "`path` leads out of the folder of tenant `acme`: a path with `..` is not followed"),
        (11, "may not use sinks of type `blackhole`"),
    ] {
        let problem = why.split("error: ").find(|problem| problem.contains(what));
        let problem = problem.unwrap_or_else(|| panic!("{what} is missing:\n{why}"));
        assert!(problem.contains(&format!("acme/pipeline.yaml:{line}:")) && problem.contains("help: "), "{problem}");
    }
    assert_eq!(why.matches("error: ").count(), 8, "{why}");
    assert!(!why.contains("secret@"), "{why}");
}

#[test]
fn what_was_granted_on_purpose_is_admitted() {
    let place = Place::new();
    let file = "{ type: file, inputs: [embed], path: out.jsonl }";
    let cases = [
        (file, "{ type: qdrant, inputs: [embed], url: 'http://vectors.acme.example:6334', collection: acme_a }"),
        (file, "{ type: pgvector, inputs: [embed], url: 'postgres://a:b@db.acme.example:5433/a', table: app.acme_a }"),
        ("tables: [public.documents]", "tables: [public.documents], slot: pgstream_acme_mine"),
        ("embedders: [words]", "embedders: [words], allow: { http: [api.acme.example] }"),
        ("path: out.jsonl", "path: deep/er/out.jsonl"),
    ];
    for (from, to) in cases.iter().filter(|(from, _)| PIPELINE.contains(from)) {
        place.admit(from, to).unwrap_or_else(|why| panic!("`{to}`: {why}"));
    }
}

#[test]
fn a_server_is_compared_as_the_driver_resolves_it() {
    let place = Place::new();
    let host = |servers: &str| HOST.replace("servers: [db.acme.example, 'vectors.acme.example:6334']", servers);
    let servers = host(
        "servers: ['db.acme.example:5432', 'fd00::1', '[fd00::2]:5433', Web.acme.example, 'plain.acme.example:80', /run/Acme]",
    );
    let admits = |url: &str, sink: &str| {
        let text = PIPELINE.replace("postgres://app:secret@db.acme.example/shop", url).replace(
            "{ type: file, inputs: [embed], path: out.jsonl }",
            &format!("{{ type: qdrant, inputs: [embed], url: '{sink}', collection: acme_a }}"),
        );
        admit(&mut place.tenants_of(&servers), &place.write("acme/pipeline.yaml", &text)).map(drop)
    };
    let (source, sink) = ("postgres://app:x@db.acme.example/shop", "http://plain.acme.example");
    for url in [
        source,
        "postgres://app:x@DB.acme.example.:5432/shop",
        "postgres://app:x@d%62.acme.example/shop",
        "postgres://app:x@other.example:1/shop?host=db.acme.example&port=5432",
        "postgres://app:x@[fd00:0::1]:77/shop",
        "postgres://app:x@[fd00::2]:5433/shop",
        "postgres://app:x@%2Frun%2FAcme/shop",
    ] {
        admits(url, sink).unwrap_or_else(|why| panic!("{url}: {why}"));
    }
    for url in [
        "postgres://app:x@db.acme.example:5433/shop",
        "postgres://app:x@db.acme.example/shop?port=5433",
        "postgres://app:x@db.acme.example/shop?host=10.0.0.1",
        "postgres://app:x@db.acme.example/shop?hostaddr=10.0.0.1",
        "postgres://app:x@other.example:5432/shop?port=5432&host=other.example",
        "postgres://app:x@db.acme.example,10.0.0.1/shop",
        "postgres://app:x@db.acme.example/shop?host=db.acme.example,10.0.0.1",
        "postgres://app:x@/shop?host=db.acme.example:5432",
        "postgres://app:x@/shop",
        "postgres://db.acme.example@10.0.0.1/shop",
        "postgres://app:db.acme.example@10.0.0.1/shop",
        "postgres://app:x@[fd00::2]/shop",
        "postgres://app:x@[::ffff:10.0.0.1]/shop",
        "postgres://app:x@%2Frun%2Facme/shop",
        "postgres://app:x@%2Frun%2FAcme%2F..%2Fother/shop",
        "postgres://app:x@2130706433/shop",
    ] {
        let why = admits(url, sink).expect_err(url);
        assert!(why.contains("may not connect to") || why.contains("database URL"), "{url}: {why}");
    }
    for sink in [
        "http://plain.acme.example:80",
        "http://web.acme.example:6334",
        "https://WEB.acme.example",
        "http://[fd00::1]:6334",
    ] {
        admits(source, sink).unwrap_or_else(|why| panic!("{sink}: {why}"));
    }
    for sink in [
        "https://plain.acme.example",
        "http://plain.acme.example:6334",
        "http://plain.acme.example@10.0.0.1",
        "http://plain.acme.example:80@10.0.0.1:80",
        "http://10.0.0.1/plain.acme.example",
        "http://10.0.0.1#plain.acme.example",
        "http://db.acme.example",
        "http://[fd00::2]:5434",
    ] {
        let why = admits(source, sink).expect_err(sink);
        assert!(why.contains("may not connect to") || why.contains("names no host"), "{sink}: {why}");
    }
}

#[test]
fn one_that_is_refused_does_not_keep_others_from_running() {
    let place = Place::new();
    let mut tenants = place.tenants();
    let named = |name: &str| PIPELINE.replace("name: documents", &format!("name: {name}"));
    let first = place.write("acme/first.yaml", &named("first"));
    let twin = place.write("acme/twin.yaml", &named("first"));
    let second = place.write("acme/second.yaml", &named("second"));
    let third = place.write("acme/third.yaml", &named("third"));
    assert!(admit(&mut tenants, &first).is_ok());
    let why = admit(&mut tenants, &twin).err().unwrap();
    assert!(why.contains("has the name `acme-first` already"), "{why}");
    assert!(admit(&mut tenants, &second).is_ok());
    let why = admit(&mut tenants, &third).err().unwrap();
    assert!(why.contains("already has the 2 pipelines"), "{why}");
}

#[test]
fn a_file_that_wants_to_be_read_for_ever_is_refused() {
    let place = Place::new();
    let aliases = format!("x-a: &a [{}]\nx-b: [{}]\n", "1,".repeat(150_000), "*a,".repeat(150_000));
    let why = place.admit("\nversion", &format!("\n{aliases}version")).err().unwrap();
    assert!(why.contains("the file holds more than 100000 keys and values"), "{why}");
    let unknown: String = (0..5000).map(|n| format!("unknown{n}: 1\n")).collect();
    let why = place.admit("\nversion", &format!("\n{unknown}version")).err().unwrap();
    assert!(why.contains("the search for problems ended with the 50th"), "{why}");
}

#[test]
fn the_hosts_headers_have_the_last_word_in_any_case() {
    let place = Place::new();
    let granted = "http: [{ host: api.acme.example, headers: { Authorization: Bearer s3cret } }]";
    let mut tenants = place.tenants_of(&HOST.replace("http: [api.acme.example]", granted));
    let mut admit = |name: &str, headers: &str| {
        let allow =
            format!("embedders: [words], allow: {{ http: [{{ host: api.acme.example, headers: {headers} }}] }}");
        let text = PIPELINE.replace("embedders: [words]", &allow).replace("name: documents", &format!("name: {name}"));
        admit(&mut tenants, &place.write(&format!("acme/{name}.yaml"), &text))
    };
    let admitted = admit("one", "{ authorization: mine, AUTHORIZATION-2: mine, x-mine: mine }");
    let settings = admitted.unwrap_or_else(|why| panic!("{why}")).settings;
    let embed = settings.transforms["embed"].as_kind::<WasmTransform>().unwrap();
    let headers = embed.allow.http[0].headers.iter().map(|(name, value)| (name.as_str(), value.expose()));
    let expected = [("AUTHORIZATION-2", "mine"), ("Authorization", "Bearer s3cret"), ("x-mine", "mine")];
    assert_eq!(headers.collect::<Vec<_>>(), expected);

    let why = admit("two", "{ authorization: mine, Authorization: mine }").err().unwrap();
    assert!(why.contains("a header is named twice, in upper and in lower case"), "{why}");
    let why = admit("three", "{ X-Forwarded-For: 127.0.0.1 }").err().unwrap();
    assert!(why.contains("the header `X-Forwarded-For` of `api.acme.example` is the host's to set"), "{why}");
}

#[test]
fn sinks_are_counted_over_all_pipelines_of_a_tenant() {
    let place = Place::new();
    let mut tenants = place.tenants_of(&HOST.replace("pipelines: 2", "pipelines: 2\n    outlets: 2"));
    let out = "out: { type: file, inputs: [embed], path: out.jsonl }";
    let two = PIPELINE.replace(out, &format!("{out}\n  more: {{ type: file, inputs: [embed], path: more.jsonl }}"));
    assert!(admit(&mut tenants, &place.write("acme/two.yaml", &two)).is_ok());
    let third = place.write("acme/third.yaml", &PIPELINE.replace("name: documents", "name: third"));
    let why = admit(&mut tenants, &third).err().unwrap();
    assert!(why.contains("it wants 1 sinks, tenant `acme` has 0 left of 2"), "{why}");
    assert!(why.contains("raise `tenants.acme.outlets`"), "{why}");
}

#[test]
fn folders_that_overlap_are_refused() {
    let place = Place::new();
    std::fs::create_dir(place.path("acme/inner")).unwrap();
    let host = HOST.replace("folder: other", "folder: acme/inner");
    let host = config::parse_host(&REGISTRY, "host.yaml", &host, &|_| None).unwrap();
    let error = Tenants::open(&place.path("host.yaml"), &host, None, Compiler::in_process()).err().unwrap();
    assert!(error.report().contains("are one inside the other"), "{}", error.report());
}

#[test]
fn a_pipeline_that_is_refused_uses_nothing_up() {
    let place = Place::new();
    let mut tenants = place.tenants();
    let named = |name: &str, more: &str| {
        PIPELINE
            .replace("name: documents", &format!("name: {name}"))
            .replace("tables: [public.documents]", &format!("tables: [public.documents]{more}"))
    };
    assert!(admit(&mut tenants, &place.write("acme/first.yaml", &named("first", ""))).is_ok());
    let clash = place.write("acme/second.yaml", &named("second", ", slot: pgstream_acme_first"));
    let why = admit(&mut tenants, &clash).err().unwrap();
    assert!(why.contains("reads slot `pgstream_acme_first`"), "{why}");
    let mended = place.write("acme/second.yaml", &named("second", ""));
    admit(&mut tenants, &mended).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_small_grant_of_batches_bounds_what_is_not_said_and_refuses_what_is() {
    let place = Place::new();
    let mut tenants = place.tenants_of(&HOST.replace("pipelines: 2", "pipelines: 2\n    batch: 1MiB"));
    let qdrant = "{ type: qdrant, inputs: [embed], url: 'http://vectors.acme.example:6334', collection: acme_a }";
    let both = PIPELINE.replace("sinks:\n", &format!("sinks:\n  more: {qdrant}\n"));
    let admitted = admit(&mut tenants, &place.write("acme/both.yaml", &both)).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(admitted.settings.sinks["more"].batch().max_bytes.0, 1 << 20);
    let source = admitted.settings.source.as_kind::<PostgresSettings>().unwrap();
    assert_eq!(source.batch.max_bytes.0, 1 << 20);
    let greedy = both.replace("collection: acme_a", "collection: acme_a, batch: { max_bytes: 2MiB }");
    let greedy = place.write("acme/greedy.yaml", &greedy.replace("name: documents", "name: greedy"));
    let why = admit(&mut tenants, &greedy).err().unwrap();
    assert!(why.contains("`batch.max_bytes` is more than the 1MiB"), "{why}");
}

#[test]
fn a_file_of_events_lies_in_the_tenants_folder_and_standard_input_is_nobodys() {
    let place = Place::new();
    symlink(place.path("secret.txt"), place.path("acme/link.jsonl")).unwrap();
    place.write("acme/events.jsonl", "");
    let source = "type: postgres, url: 'postgres://app:secret@db.acme.example/shop', tables: [public.documents]";
    let admitted =
        place.admit(source, "type: jsonl, path: events.jsonl").unwrap_or_else(|why| panic!("{why}")).settings;
    let lines = admitted.source.as_kind::<JsonlSettings>().unwrap();
    assert_eq!((&lines.path, &lines.folder), (&place.path("acme/events.jsonl"), &Some(place.path("acme"))));
    for (path, why) in [
        ("\"-\"", "standard input, which is the host's own"),
        ("../secret.txt", "`path` leads out of the folder"),
        ("link.jsonl", "`path` leads out of the folder"),
        ("/etc/passwd", "`path` leads out of the folder"),
        ("events.jsonl, max_row: 1GiB", "`max_row` is more than"),
    ] {
        let refused = place.admit(source, &format!("type: jsonl, path: {path}"));
        let said = refused.err().unwrap_or_else(|| panic!("{path} is let through"));
        assert!(said.contains(why), "{path}: {said}");
    }
}

/// What dead letters take from the source, they take before the tenant's paths are confined.
#[test]
fn a_password_file_that_dead_letters_have_from_the_source_is_opened_beneath_the_tenants_folder() {
    let place = Place::new();
    place.write("acme/password.txt", "hunter2");
    symlink(place.path("secret.txt"), place.path("acme/link.txt")).unwrap();
    let with = |password_file: &str| {
        let url = "url: 'postgres://app@db.acme.example/shop'";
        let source = format!("{url}, password_file: {password_file}, trusted_owners: [admin]");
        let file = PIPELINE.replace("url: 'postgres://app:secret@db.acme.example/shop'", &source);
        let letters = "  parked: { type: dead-letters, inputs: [embed.rejected] }\n";
        let host = HOST.replace("sinks: [", "sinks: [dead-letters, ");
        admit(&mut place.tenants_of(&host), &place.write("acme/pipeline.yaml", &format!("{file}{letters}")))
    };
    let admitted = with("password.txt").unwrap_or_else(|why| panic!("{why}")).settings;
    let parked = admitted.sinks["parked"].as_kind::<DeadLettersSettings>().unwrap();
    assert_eq!(parked.password_file, Some(place.path("acme/password.txt")));
    assert_eq!((&parked.folder, &parked.trusted_owners[..]), (&Some(place.path("acme")), &["admin".to_owned()][..]));
    let why = with("link.txt").err().unwrap();
    assert_eq!(why.matches("`password_file` leads out of the folder").count(), 2, "of source and sink: {why}");
}

/// CPU share, memory, log lines and requests hang together on what is compared here.
#[test]
fn a_tenant_whose_grants_stay_has_no_second_allowance_after_a_reload() {
    let place = Place::new();
    let (host, mut tenants) = place.open(HOST);
    let file = place.write("acme/pipeline.yaml", PIPELINE);
    let owner = |tenants: &mut Tenants| admit(tenants, &file).unwrap_or_else(|why| panic!("{why}")).owner;
    let before = owner(&mut tenants);
    let again = |text: &str| {
        let settings = config::parse_host(&REGISTRY, "host.yaml", text, &|_| None).unwrap();
        owner(&mut tenants.again(&host, Some((&place.path("host.yaml"), &settings))).unwrap())
    };
    let is_the_same = |other: &Owner| std::ptr::eq(before.meter().unwrap(), other.meter().unwrap());
    assert!(is_the_same(&again(HOST)));
    let elsewhere =
        HOST.replace("other: { folder: other, sinks: [file] }", "other: { folder: other, sinks: [file, stdout] }");
    assert!(elsewhere != HOST && is_the_same(&again(&elsewhere)), "another tenant's grants are not its own");
    assert!(!is_the_same(&again(&HOST.replace("pipelines: 2", "pipelines: 3"))), "other grants are another tenant");
}

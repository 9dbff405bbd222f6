//! The host file: what is said about mistakes, and what its reference says.

use std::path::{Path, PathBuf};

use pgstream_host::components::REGISTRY;
use pgstream_host::config;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn expect(path: &Path, actual: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs; look at it, then run again with BLESS=1", path.display());
}

#[test]
fn broken_host_files_are_answered_word_for_word() {
    let folder = root().join("tests/config/bad-host");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect();
    assert!(files.len() >= 3);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = format!("bad-host/{}", path.file_name().unwrap().to_str().unwrap());
        let problems = config::parse_host(&REGISTRY, &name, &text, &|_| None).expect_err(&name);
        expect(&path.with_extension("err"), &problems.render(false));
    }
}

#[test]
fn the_reference_and_the_schema_of_the_host_file_are_those_of_the_code() {
    let schema = serde_json::to_string_pretty(&config::host_schema(&REGISTRY)).unwrap() + "\n";
    expect(&root().join("docs/host.schema.json"), &schema);
    let page = root().join("docs/tenants.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (begin, end) = ("<!-- settings: made from the code; a test fails when stale -->\n", "<!-- end of settings -->");
    let (before, rest) = text.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    expect(&page, &format!("{before}{begin}\n{}\n{end}{after}", config::host_reference(&REGISTRY)));
}

#[test]
fn the_example_of_the_page_is_a_good_file() {
    let page = std::fs::read_to_string(root().join("docs/tenants.md")).unwrap();
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let file = config::parse_host(&REGISTRY, "host.yaml", example, &|_| Some("secret".into()));
    let file = file.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    assert_eq!((file.tenants["acme"].weight, file.tenants.len()), (4, 2));
}

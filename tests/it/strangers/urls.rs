//! Passwords in URLs, with every character that could end them too early: no part of one is ever shown.

use std::path::Path;

use pgstream_host::components::REGISTRY;
use pgstream_host::config::{self, Secret};
use pgstream_host::host;
use pgstream_host::postgres::Url;
use proptest::prelude::*;

/// What must not be seen anywhere.
const CANARIES: [&str; 3] = ["W1nter", "S3cret", "Zw0lf"];

fn reveals(text: &str) -> bool {
    CANARIES.iter().any(|canary| text.contains(canary))
}

/// All that is ever shown of a URL, read or refused.
fn shown_of(url: &str) -> String {
    match Url::parse(&Secret::new(url), None) {
        Ok(url) => format!("{} {} {:?} {url:?}", url.address, url.database, url.application_name),
        Err(error) => format!("{} {} {error:?}", error.report(), error.chain()),
    }
}

/// All that is said of a pipeline file that holds the URL and a mistake in the same line.
fn said_of_file(source: &str, sink: &str, embedder: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let (source, sink, embedder) = (quoted(source), quoted(sink), quoted(embedder));
    let mut said = String::new();
    for mistake in ["", ", mistkae: 1"] {
        let text = format!(
            "version: 1\nname: canary\nsources:\n  db: {{ type: postgres, url: {source}, tables: [public.t]{mistake} }}\n\
             embedders:\n  e: {{ type: openai, url: {embedder}, model: m{mistake} }}\n\
             transforms:\n  x: {{ type: wasm, inputs: [db], component: x.wasm, embedders: [e] }}\n\
             sinks:\n  q: {{ type: qdrant, inputs: [x], url: {sink}, collection: c{mistake} }}\n  \
             p: {{ type: pgvector, inputs: [x], url: {source}, table: v{mistake} }}\n"
        );
        match config::parse(&REGISTRY, "canary.yaml", &text, Path::new(""), &|_| None) {
            Ok(settings) => host::review(&settings).iter().for_each(|error| said.push_str(&error.report())),
            Err(problems) => said.push_str(&problems.render(false)),
        }
    }
    said
}

fn special() -> impl Strategy<Value = String> {
    prop_oneof![
        "[-:/?#\\[\\]@!$&'()*+,;=%~_.|^`{}<>\"\\\\ ]{0,3}",
        Just("%40".to_owned()),
        Just("?sslmode=".to_owned()),
        Just("://".to_owned()),
        Just("é".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_part_of_a_password_is_shown_however_it_is_written(one in special(), two in special(), end in special()) {
        let [a, b, c] = CANARIES;
        let password = format!("{a}{one}{b}{two}{c}{end}");
        for url in [
            format!("postgres://app:{password}@db:5432/shop"),
            format!("postgresql+psycopg2://app:{password}@db/shop?sslmode=require"),
            format!("postgres://app:{password}@/shop?host=db"),
            format!("postgres://db/shop?user=app&password={password}"),
            format!("jdbc:postgresql://db/shop?user=app&password={password}&ssl=true"),
            format!("\"postgres://app:{password}@db/shop\""),
            format!("app:{password}@db/shop"),
            format!("host=db user=app password={password}"),
        ] {
            let shown = shown_of(&url);
            prop_assert!(!reveals(&shown), "{url}: {shown}");
            let http = format!("https://app:{password}@qdrant:6334");
            let said = said_of_file(&url, &http, &http);
            prop_assert!(!reveals(&said), "{url}: {said}");
        }
    }
}

#[test]
fn a_password_that_breaks_its_url_is_told_from_a_parameter() {
    for url in [
        "postgres://app:W1nter?S3cret-2026@db/shop",
        "postgres://app:W1nter?sslmode=S3cret@db/shop",
        "postgres://app:W1nter?connect_timeout=S3cret&x=Zw0lf@db/shop",
        "postgres://app:W1nter/S3cret?Zw0lf@db/shop",
    ] {
        let shown = shown_of(url);
        assert!(!reveals(&shown) && shown.contains("cannot be read beyond its login"), "{shown}");
        assert!(shown.contains("`?` as `%3F`"), "{shown}");
    }
}

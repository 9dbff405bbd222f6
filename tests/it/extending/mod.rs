//! The recipe for a new kind of component: the examples of docs/extending.md, compiled and listed beside the others.

mod empty;
mod null;

use std::path::Path;
use std::sync::Arc;

use pgstream_host::command::{Action, Command};
use pgstream_host::components::{Kinds, PipelineSettings, REGISTRY};
use pgstream_host::config::{self, Diagnostics, Registry};
use pgstream_host::lsn::Position;
use pgstream_host::meter::SourceMeter;
use pgstream_host::sink::{self, Delivery};
use pgstream_host::source::{self, able};

use empty::EmptySettings;
use null::NullSettings;

/// The list of kinds with two lines more.
fn extended() -> Registry<Kinds> {
    let Registry { sources, embedders, transforms, sinks } = REGISTRY;
    let sources = [sources, &[source::kind::<EmptySettings>()]].concat();
    let sinks = [sinks, &[sink::kind::<NullSettings>()]].concat();
    Registry { sources: sources.leak(), embedders, transforms, sinks: sinks.leak() }
}

/// A pipeline whose source and sink have these settings.
fn parse_both(source: &str, sink: &str) -> Result<PipelineSettings, Diagnostics> {
    let file = format!(
        "version: 1
name: extended
sources: {{ db: {{ {source} }} }}
transforms: {{ embed: {{ type: wasm, inputs: [db], component: handler.wasm }} }}
sinks: {{ nowhere: {{ {sink} }} }}
"
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    config::parse(&extended(), "extended.yaml", &file, &folder, &|_| None)
}

/// A pipeline whose one sink has these settings.
fn parse(sink: &str) -> Result<PipelineSettings, Diagnostics> {
    parse_both("type: postgres, url: postgres://localhost/shop, tables: [public.docs]", sink)
}

fn problem(settings: &str) -> String {
    parse(settings).map(drop).expect_err(settings).render(false)
}

/// The text of an example as it would stand in `src`.
fn as_in_src(example: &str) -> String {
    let inside = example.replace("pgstream_host::", "crate::").replace("pub(super) ", "pub ");
    let (head, rest) = inside.split_once("use async_trait::async_trait;\n").unwrap();
    let (uses, body) = rest.split_once("\n\n").unwrap();
    let uses: Vec<&str> = uses.split_inclusive(';').map(|line| line.trim_start_matches('\n')).collect();
    let (own, others): (Vec<&str>, Vec<&str>) = uses.into_iter().partition(|line| line.contains("crate::"));
    format!("{head}use async_trait::async_trait;\n{}\n\n{}\n\n{body}", others.join("\n"), own.join("\n"))
}

#[test]
fn the_page_about_extending_holds_the_very_texts_that_are_compiled_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/extending.md")).unwrap();
    for example in [include_str!("null.rs"), include_str!("empty.rs")] {
        let inside = as_in_src(example);
        assert!(page.contains(&format!("```rust\n{inside}```\n")), "docs/extending.md should hold:\n{inside}");
    }
}

#[tokio::test]
async fn a_kind_of_sink_is_a_file_and_a_line_in_the_list() {
    let settings = parse("type: \"null\", inputs: [embed], farewell: bye").unwrap_or_else(|it| panic!("{it}"));
    let nowhere = &settings.sinks["nowhere"];
    assert_eq!(nowhere.kind(), "null");
    assert_eq!(nowhere.as_kind::<NullSettings>().unwrap().farewell.as_deref(), Some("bye"));
    assert_eq!(settings.clone(), settings, "settings of a kind are compared and copied as all others");

    let mut sink = nowhere.open("extended", "nowhere").await.unwrap();
    let command = Command { position: Position::default(), action: Action::Clear };
    sink.write(&Delivery { commands: vec![&command], ..Delivery::default() }).await.unwrap();
    sink.close().await.unwrap();
}

#[test]
fn mistakes_in_the_settings_of_a_new_kind_have_their_place_and_help() {
    let misspelt = problem("type: \"null\", inputs: [embed], farwell: bye");
    assert!(misspelt.contains("extended.yaml:5:52") && misspelt.contains("did you mean `farewell`?"), "{misspelt}");
    let long = problem("type: \"null\", inputs: [embed], farewell: \"a\\nb\"");
    assert!(long.contains("`farewell` has several lines") && long.contains("extended.yaml:5:"), "{long}");
    let kind = problem("type: nul, inputs: [embed]");
    assert!(kind.contains("did you mean `null`?"), "{kind}");
    let letters = problem("type: \"null\", inputs: [embed, embed.rejected]");
    assert!(letters.contains("a sink of type `null` cannot take rejected events"), "{letters}");
}

#[test]
fn a_new_kind_stands_in_schema_and_reference() {
    let before = (config::schema(&REGISTRY).to_string(), config::reference(&REGISTRY));
    let (schema, reference) = (config::schema(&extended()).to_string(), config::reference(&extended()));
    assert!(!before.0.contains("farewell") && schema.contains("farewell"));
    assert!(!before.1.contains("`type: null`") && reference.contains("#### `type: null`"));
    assert!(reference.contains("| `farewell` | text |  | A line for the log when the sink closes. |"), "{reference}");
}

#[tokio::test]
async fn a_kind_of_source_is_a_file_and_a_line_in_the_list() {
    let sink = "type: blackhole, inputs: [embed]";
    let settings = parse_both("type: empty, origin: nowhere", sink).unwrap_or_else(|it| panic!("{it}"));
    assert_eq!((settings.source_name.as_str(), settings.source.kind()), ("db", "empty"));
    assert_eq!(settings.source.as_kind::<EmptySettings>().unwrap().origin, "nowhere");
    assert_eq!(settings.clone(), settings, "settings of a kind are compared and copied as all others");
    let other = parse_both("type: empty, origin: elsewhere", sink).unwrap_or_else(|it| panic!("{it}"));
    assert_ne!(settings, other, "and told from others");

    let mut source = settings.source.open("extended", Vec::new(), Arc::new(SourceMeter::default())).await.unwrap();
    assert!(source.next().await.unwrap().is_none());
    assert_eq!(source.origin(), "nowhere");
    source.close().await.unwrap();
    let why = able("db", &*settings.source, settings.source.rows()).err().unwrap().report();
    assert!(why.contains("an empty source has no rows") && why.contains("source `db`, of type `empty`"), "{why}");
}

#[test]
fn mistakes_in_the_settings_of_a_new_source_have_their_place_and_help() {
    let problem = |source: &str| {
        let read = parse_both(source, "type: blackhole, inputs: [embed]");
        read.map(drop).expect_err(source).render(false)
    };
    let misspelt = problem("type: empty, orgin: nowhere");
    assert!(misspelt.contains("extended.yaml:3:31") && misspelt.contains("did you mean `origin`?"), "{misspelt}");
    let nothing = problem("type: empty, origin: ''");
    assert!(nothing.contains("`origin` is empty") && nothing.contains("extended.yaml:3:"), "{nothing}");
    let kind = problem("type: emty, origin: nowhere");
    assert!(kind.contains("did you mean `empty`?"), "{kind}");
    let written = serde_json::to_string(&config::schema(&extended())).unwrap();
    assert!(written.contains("The name under which sinks store positions."), "it stands in the schema");
}

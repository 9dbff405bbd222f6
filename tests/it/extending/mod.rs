//! The recipe for a new kind of component: the example of docs/extending.md, compiled and listed beside the others.

mod null;

use std::path::Path;

use pgstream_host::command::{Action, Command};
use pgstream_host::components::{Kinds, PipelineSettings, REGISTRY};
use pgstream_host::config::{self, Diagnostics, Registry};
use pgstream_host::lsn::Position;
use pgstream_host::sink::{self, Delivery};

use null::NullSettings;

/// The list of kinds with one line more.
fn extended() -> Registry<Kinds> {
    let sinks = [REGISTRY.sinks, &[sink::kind::<NullSettings>()]].concat();
    let Registry { sources, embedders, transforms, .. } = REGISTRY;
    Registry { sources, embedders, transforms, sinks: sinks.leak() }
}

/// A pipeline whose one sink has these settings.
fn parse(settings: &str) -> Result<PipelineSettings, Diagnostics> {
    let file = format!(
        "version: 1
name: extended
sources: {{ db: {{ type: postgres, url: postgres://localhost/shop, tables: [public.docs] }} }}
transforms: {{ embed: {{ type: wasm, inputs: [db], component: handler.wasm }} }}
sinks: {{ nowhere: {{ {settings} }} }}
"
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    config::parse(&extended(), "extended.yaml", &file, &folder, &|_| None)
}

fn problem(settings: &str) -> String {
    parse(settings).map(drop).expect_err(settings).render(false)
}

#[test]
fn the_page_about_extending_holds_the_very_text_that_is_compiled_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/extending.md")).unwrap();
    let inside = include_str!("null.rs").replace("pgstream_host::", "crate::").replace("pub(super) ", "pub ");
    let (head, rest) = inside.split_once("use async_trait::async_trait;\n").unwrap();
    let (uses, body) = rest.split_once("\n\n").unwrap();
    let (own, others): (Vec<&str>, Vec<&str>) = uses.lines().partition(|line| line.contains("crate::"));
    let inside = format!("{head}use async_trait::async_trait;\n{}\n\n{}\n\n{body}", others.join("\n"), own.join("\n"));
    assert!(page.contains(&format!("```rust\n{inside}```\n")), "docs/extending.md should hold:\n{inside}");
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

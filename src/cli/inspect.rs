//! `pgstream-host inspect`: what a component is and what it may do, in words.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{complain, print, print_json};
use crate::error::Result;
use crate::host::Host;
use crate::screen::Screen;
use crate::transform::inspect::{Given, Inspection, inspect};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The component.
    #[arg(value_name = "FILE")]
    component: PathBuf,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let host = Host::of_this_program()?;
    let found = inspect(host.engine(), &arguments.component)?;
    if arguments.json {
        print_json(format_args!("{:#}", describe(&found)))?;
    } else {
        print(tell(&found, &arguments.component.display().to_string()))?;
    }
    let Some(refusal) = &found.refusal else { return Ok(ExitCode::SUCCESS) };
    complain(refusal);
    Ok(ExitCode::from(refusal.fault().exit_code()))
}

fn tell(found: &Inspection, file: &str) -> Screen {
    let mut screen = Screen::new();
    let size = |bytes: u64| bytesize::ByteSize(bytes).display().iec().to_string();
    let language = found.language.as_ref().map_or(String::new(), |language| format!(" in {language}"));
    let kind = if found.refusal.is_some() { "a component" } else { "a handler" };
    screen.line(format_args!("{file} is {kind}{language}."));
    screen.line("");
    let mut line = |name: &str, value: &str| screen.line(format_args!("  {name:<11}{value}"));
    line("size", &format!("{}, as machine code {}", size(found.bytes as u64), size(found.compiled as u64)));
    let modules = if found.modules == 1 { "1 module".to_owned() } else { format!("{} modules", found.modules) };
    line("memory", &format!("starts with {}", size(found.memory)));
    line("made of", &modules);
    line(
        "world",
        &found.world.as_ref().map_or("none of ours".to_owned(), |version| format!("pgstream:host {version}")),
    );
    let tools: Vec<String> =
        found.tools.iter().map(|(name, version)| format!("{name} {version}").trim_end().to_owned()).collect();
    if !tools.is_empty() {
        line("made with", &tools.join(", "));
    }

    for (can, title) in [(true, "It can"), (false, "It cannot")] {
        screen.line("");
        screen.line(title);
        for ability in found.abilities().into_iter().filter(|ability| ability.can == can) {
            screen.line(format_args!("  {:<22}{}", ability.what, ability.why));
        }
    }
    screen.line("");
    screen.line("It imports");
    let width = found.imports.iter().map(|import| import.name.chars().count()).max().unwrap_or_default().min(50);
    for import in &found.imports {
        screen.line(format_args!("  {:<width$}  {}", import.name, import.words));
    }
    if found.imports.is_empty() {
        screen.line("  nothing");
    }
    screen
}

fn describe(found: &Inspection) -> serde_json::Value {
    let abilities = |can| -> Vec<_> {
        let which = found.abilities().into_iter().filter(|ability| ability.can == can);
        which.map(|ability| json!({ "what": ability.what, "why": ability.why })).collect()
    };
    let given = |given| match given {
        Given::Always => "always",
        Given::Empty => "empty",
        Given::Granted => "by grant",
        Given::Refused => "never",
    };
    json!({
        "runs": found.refusal.is_none(),
        "refusal": found.refusal.as_ref().map(|error| json!({ "message": error.chain(), "help": error.advice() })),
        "language": found.language,
        "world": found.world,
        "bytes": found.bytes,
        "compiled_bytes": found.compiled,
        "memory_bytes": found.memory,
        "modules": found.modules,
        "tools": found.tools.iter().map(|(name, version)| json!({ "name": name, "version": version })).collect::<Vec<_>>(),
        "can": abilities(true),
        "cannot": abilities(false),
        "imports": found.imports.iter().map(|import| {
            json!({ "name": import.name, "given": given(import.given), "words": import.words })
        }).collect::<Vec<_>>(),
    })
}

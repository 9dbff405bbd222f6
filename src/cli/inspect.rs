//! `pgstream-host inspect`: what a component is and what it may do, in words.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{complain, print};
use crate::error::Result;
use crate::host::Host;
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
    let host = Host::new()?;
    let found = inspect(host.engine(), &arguments.component)?;
    if arguments.json {
        print(&format!("{:#}\n", describe(&found)))?;
    } else {
        print(&tell(&found, &arguments.component.display().to_string()))?;
    }
    let Some(refusal) = &found.refusal else { return Ok(ExitCode::SUCCESS) };
    complain(refusal);
    Ok(ExitCode::from(refusal.fault().exit_code()))
}

fn tell(found: &Inspection, file: &str) -> String {
    let mut text = String::new();
    let size = |bytes: u64| bytesize::ByteSize(bytes).display().iec().to_string();
    let language = found.language.as_ref().map_or(String::new(), |language| format!(" in {language}"));
    let kind = if found.refusal.is_some() { "a component" } else { "a handler" };
    let _ = writeln!(text, "{file} is {kind}{language}.\n");
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<11}{value}");
    };
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
        let _ = writeln!(text, "\n{title}");
        for ability in found.abilities().into_iter().filter(|ability| ability.can == can) {
            let _ = writeln!(text, "  {:<22}{}", ability.what, ability.why);
        }
    }
    let _ = writeln!(text, "\nIt imports");
    let width = found.imports.iter().map(|import| import.name.chars().count()).max().unwrap_or_default().min(50);
    for import in &found.imports {
        let _ = writeln!(text, "  {:<width$}  {}", import.name, import.words);
    }
    if found.imports.is_empty() {
        text.push_str("  nothing\n");
    }
    text
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

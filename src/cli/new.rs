//! `pgstream-host new`: a handler project that builds at once.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{StringValueParser, TypedValueParser};
use serde_json::json;

use super::{print_json, print_lines};
use crate::error::{Error, Fault, Result};
use crate::toolchain::{self, Language};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The folder to make; its last part is the handler's name.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The language of the handler: rust, go, js, ts or python.
    #[arg(long, value_name = "LANGUAGE", value_parser = languages())]
    lang: Language,
    /// Another name than the folder's.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

fn languages() -> impl TypedValueParser<Value = Language> {
    StringValueParser::new().try_map(|name| {
        Language::named(&name).ok_or_else(|| {
            let names = Language::ALL.map(Language::name).join(", ");
            format!(
                "there is no template for it, only for {names}. Other languages do as well if they make WebAssembly components: \
                 `new` with one of these, and its `wit/` is the contract to write against"
            )
        })
    })
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let folder = &arguments.folder;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => named(folder)?,
    };
    toolchain::create(folder, &name, arguments.lang)?;
    if arguments.json {
        let made = json!({ "folder": folder, "name": name, "language": arguments.lang.name() });
        return print_json(format_args!("{made:#}"));
    }
    let shown = folder.display();
    print_lines([
        &format!("made `{shown}`, a handler in {}. Next:", arguments.lang),
        "",
        &format!("  cd {shown}"),
        "  pgstream-host build",
        "  pgstream-host test",
        "",
        "Then read its README.md.",
    ])
}

/// The last part of the folder's path; of `.` the current folder's name.
fn named(folder: &std::path::Path) -> Result<String> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let name = folder.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    name.ok_or_else(|| {
        Error::new(Fault::Config, format!("`{}` has no name to take for the handler", folder.display()))
            .help("name it: `--name my-handler`")
    })
}

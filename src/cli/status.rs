//! `pgstream-host status`: how pipelines are doing, as the running host says, or else as the database knows.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::files::pipeline_files;
use super::pipelines::open_host;
use super::reach::Reach;
use super::{print_json, print_lines, show};
use crate::api;
use crate::components::{PipelineSettings, REGISTRY};
use crate::config::{self, Size};
use crate::error::Result;
use crate::host::{Refusal, Tenants};
use crate::source::{Copied, SlotStanding, Standing, able};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Pipeline files, or folders of them. Without any, all pipelines of the hosts that run.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The host file, for pipelines of tenants: they go by the names that they have there.
    #[arg(long, value_name = "HOST.YAML")]
    host: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Says that something needs somebody.
const NOT_FINE: u8 = 1;

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let wanted = match wanted(&arguments)? {
        Ok(wanted) => wanted,
        Err(code) => return Ok(code),
    };
    let places = arguments.reach.places(|| sockets(&arguments))?;
    let answers = arguments.reach.ask_all(&places, "/api/v1/status").await;
    let running: Vec<Value> = answers.into_iter().map(|(_, status)| status).collect();
    if running.is_empty() && wanted.is_empty() {
        return Err(arguments.reach.nobody());
    }
    let told = |name: Option<&str>| -> Vec<Value> {
        let all = running.iter().filter_map(|host| host.get("pipelines")?.as_array()).flatten();
        all.filter(|told| name.is_none_or(|name| told["name"] == name)).cloned().collect()
    };
    let mut pipelines = Vec::new();
    for settings in &wanted {
        let told = told(Some(&settings.name));
        match told.is_empty() {
            true => pipelines.push(of_the_database(settings).await?),
            false => pipelines.extend(told),
        }
    }
    if wanted.is_empty() {
        pipelines.extend(told(None));
    }
    let fine = pipelines.iter().all(is_fine);
    if arguments.json {
        let hosts: Vec<Value> = running
            .iter()
            .map(|host| json!({ "pid": host["pid"], "version": host["version"], "since": host["since"], "draining": host["draining"] }))
            .collect();
        print_json(json!({ "fine": fine, "hosts": hosts, "pipelines": pipelines }))?;
    } else {
        print_lines(pipelines.iter().flat_map(lines))?;
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::from(NOT_FINE) })
}

/// The pipelines that files name. An exit code if one is wrong, which has been said then.
fn wanted(arguments: &Arguments) -> Result<std::result::Result<Vec<PipelineSettings>, ExitCode>> {
    let mut tenants = match arguments.host.as_deref().map(open_host).transpose()? {
        Some(Ok((_, tenants))) => tenants,
        Some(Err(diagnostics)) => return Ok(Err(show(&diagnostics))),
        None => Tenants::without_host_file(),
    };
    let mut wanted = Vec::new();
    for file in pipeline_files(&arguments.files, 0)? {
        match tenants.admit(&file) {
            Ok(admitted) => wanted.push(admitted.settings),
            Err(Refusal::File(diagnostics)) => return Ok(Err(show(&diagnostics))),
            Err(Refusal::Grant(error)) => return Err(error),
        }
    }
    Ok(Ok(wanted))
}

fn sockets(arguments: &Arguments) -> Vec<PathBuf> {
    let of_file = || {
        let file = arguments.host.as_deref()?;
        Some(file.parent()?.join(config::load_host(&REGISTRY, file).ok()?.api.socket?))
    };
    of_file().map_or_else(api::sockets, |socket| vec![socket])
}

/// All that the database knows of a pipeline that no host here runs.
async fn of_the_database(settings: &PipelineSettings) -> Result<Value> {
    let source = &*settings.source;
    let place = able(&settings.source_name, source, source.slot())?;
    let Standing { slot_name, slot, noted, copies } = place.standing(&settings.name).await?;
    let state = match &slot {
        None => "absent",
        Some(SlotStanding { lost: Some(_), .. }) => "lost",
        Some(SlotStanding { active: true, .. }) => "elsewhere",
        Some(_) => "idle",
    };
    let slot = slot.map(|slot| {
        let reading = slot.reading;
        json!({
            "name": slot_name, "active": slot.active, "reader": slot.reader, "lost": slot.lost,
            "wal_status": reading.wal_status, "retained_bytes": reading.retained, "safe_bytes": reading.safe,
            "limit_bytes": reading.limit, "server": slot.server.to_string(),
            "lag_bytes": slot.confirmed.map(|confirmed| slot.server.bytes_since(confirmed)),
            "confirmed": slot.confirmed.map(|confirmed| confirmed.to_string()),
        })
    });
    let noted = noted.map(|noted| {
        let left_at = noted.left_at.map(|lsn| lsn.to_string());
        json!({ "turn": noted.turn, "left_at": left_at, "clears_sinks": noted.clears_sinks })
    });
    let open = |copy: &&Copied| !copy.done && copy.error.is_none();
    let copies = json!({
        "open": copies.iter().filter(open).count(),
        "done": copies.iter().filter(|copy| copy.done).count(),
        "failed": copies.iter().filter(|copy| copy.error.is_some()).count(),
    });
    Ok(json!({
        "name": settings.name, "tenant": settings.tenant, "state": state, "told_by": "database", "slot": slot,
        "noted": noted, "copies": copies,
    }))
}

/// Tells whether nobody needs to do anything about the pipeline.
fn is_fine(told: &Value) -> bool {
    let state = told["state"].as_str().unwrap_or_default();
    let runs = matches!(state, "starting" | "waiting" | "copying" | "streaming" | "draining" | "elsewhere");
    let sinks = told["sinks"].as_array().map_or(&[][..], Vec::as_slice);
    let room = !matches!(told["slot"]["wal_status"].as_str(), Some("unreserved" | "lost"));
    runs && room && sinks.iter().all(|sink| sink["trouble"].is_null()) && told["waits_for"].is_null()
}

/// A pipeline for people.
fn lines(told: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let (name, slot) = (text(&told["name"]), &told["slot"]);
    let mut lines = Vec::new();
    if told["told_by"] == "database" {
        let slot_name = text(&slot["name"]);
        lines.push(match told["state"].as_str() {
            Some("absent") => format!("{name}: nobody runs it, and it has no slot: it begins anew when it is run"),
            Some("lost") => format!("{name}: the server has given its slot up: {}", text(&slot["lost"])),
            Some("elsewhere") => format!("{name}: another host runs it ({})", text(&slot["reader"])),
            _ => format!("{name}: nobody runs it, and Postgres keeps the log for its slot `{slot_name}`"),
        });
        if !slot.is_null() {
            let lag = slot["lag_bytes"].as_u64().map_or("an unknown part".to_owned(), size);
            let confirmed = text(&slot["confirmed"]);
            lines.push(format!(
                "  confirmed up to {confirmed}, {lag} of log behind the server at {}",
                text(&slot["server"])
            ));
        }
        match &told["noted"] {
            Value::Null => lines.push("  nothing is noted of it in `pgstream.slots`".to_owned()),
            noted => {
                let left = noted["left_at"].as_str();
                let left = left.map_or("not ended in order since".to_owned(), |at| format!("left in order at {at}"));
                lines.push(format!("  begun {} times, {left}", noted["turn"]));
                if noted["clears_sinks"] == true {
                    lines.push("  the next run clears the sinks and copies all rows".to_owned());
                }
            }
        }
    } else {
        let lag = &told["lag"];
        let (bytes, seconds) = (lag["bytes"].as_u64().map(size), lag["seconds"].as_f64());
        let known: Vec<String> = bytes.into_iter().chain(seconds.map(|lag| format!("{lag:.1} s"))).collect();
        let lag = if known.is_empty() { "unknown".to_owned() } else { known.join(", ") };
        lines.push(format!(
            "{name}: {} since {}; lag {lag}; {} events, {} rejected",
            text(&told["state"]),
            text(&told["since"]),
            told["events"],
            told["rejected"]
        ));
        if let Some(by) = told["by"].as_str() {
            let reason = told["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
            lines.push(format!("  paused by {by}{reason}; to go on: pgstream-host resume {name}"));
        }
        if let Some(waits) = told["waits_for"].as_str() {
            lines.push(format!("  waits for {waits}"));
        }
        for sink in told["sinks"].as_array().into_iter().flatten() {
            let (sink, trouble) = (text(&sink["name"]), &sink["trouble"]);
            if !trouble.is_null() {
                lines.push(format!(
                    "  sink {sink} is in trouble since {}: {}",
                    text(&trouble["since"]),
                    text(&trouble["message"])
                ));
            }
        }
        let error = &told["last_error"];
        if !error.is_null() {
            lines.push(format!("  last error, at {}: {}", text(&error["at"]), text(&error["message"])));
            lines.extend(error["help"].as_str().map(|help| format!("  help: {help}")));
        }
    }
    if let Some(kept) = slot["retained_bytes"].as_u64() {
        let room = slot["safe_bytes"].as_u64();
        let room = room.map_or("no limit is set".to_owned(), |room| format!("room for {} more", size(room)));
        lines.push(format!("  slot: {}, {} of log are kept, {room}", text(&slot["wal_status"]), size(kept)));
    }
    let copies = &told["copies"];
    let open = ["open", "waiting", "running"].iter().filter_map(|state| copies[*state].as_u64()).sum::<u64>();
    let failed = copies["failed"].as_u64().unwrap_or(0);
    if open + failed > 0 {
        lines.push(format!("  copies: {open} open, {failed} failed"));
    }
    lines
}

/// "16 MiB" and alike, rounded down.
fn size(bytes: u64) -> String {
    let unit = [40u32, 30, 20, 10].into_iter().find(|bits| bytes >> bits > 0);
    Size(unit.map_or(bytes, |bits| bytes >> bits << bits)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_somebody_is_not_fine() {
        let told = |state: &str, trouble: Value, wal_status: &str| {
            is_fine(&json!({ "state": state, "sinks": [{ "trouble": trouble }], "slot": { "wal_status": wal_status } }))
        };
        assert!(told("streaming", Value::Null, "reserved"));
        assert!(!told("streaming", json!({ "message": "down" }), "reserved"));
        assert!(!told("streaming", Value::Null, "unreserved"));
        for state in ["failed", "retrying", "paused", "idle", "lost", "absent"] {
            assert!(!told(state, Value::Null, "reserved"), "{state}");
        }
        assert_eq!(size((5 << 30) + 17), "5GiB");
        assert_eq!(size(12), "12B");
    }
}

//! All that the system says of this process, from `/proc`. What it does not say is left out.

use std::time::{SystemTime, UNIX_EPOCH};

use super::page::{Page, Value};
use crate::meter::metrics;

/// Adds what is known of the process.
pub(super) fn process(page: &mut Page) {
    let mut add =
        |metric, value: Option<Value>| value.into_iter().for_each(|value| page.add(metric, Vec::new(), value));
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program stands in brackets, and may have blanks and brackets in it.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
    let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
    let cpu = field(14).zip(field(15)).map(|(user, system)| Value::Number((user + system) as f64 / ticks));
    add(&metrics::PROCESS_CPU_SECONDS, cpu);
    add(&metrics::PROCESS_THREADS, field(20).map(Value::Count));
    let pages = rustix::param::page_size() as u64;
    add(&metrics::PROCESS_RESIDENT_MEMORY_BYTES, field(24).map(|resident| Value::Count(resident * pages)));
    let began = boot_time().zip(field(22)).map(|(boot, began)| Value::Number(boot as f64 + began as f64 / ticks));
    add(&metrics::PROCESS_START_TIME_SECONDS, began);
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|entries| Value::Count(entries.count() as u64));
    add(&metrics::PROCESS_OPEN_FDS, open);
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    add(&metrics::PROCESS_MAX_FDS, most.map(Value::Count));
}

/// The time when the machine began to run, in seconds since 1970.
fn boot_time() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    // A clock that was set back since would let the process begin in the future.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs());
    (boot <= now).then_some(boot)
}

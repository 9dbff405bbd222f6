//! `Mark`: the messages that we write into the log, between the changes that they are to be told
//! apart from.

use tokio_postgres::Client;

use crate::decode::LogicalMessage;
use crate::error::Result;
use crate::postgres::failed;

/// Prefix of our messages in the log.
pub(in super::super) const PREFIX: &str = "pgstream";

/// The content of a message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A query is about to read a chunk of the table with this OID.
    Low { chunk: u64, table: u32 },
    /// The query has read it.
    High { chunk: u64 },
    /// The rows of all tables are to go.
    Clear { number: u64 },
    /// There is a new request in the ledger.
    Asked,
    /// The pipeline was set up with other tables, whose changes are sent from here on.
    SetUp,
}

impl Mark {
    pub(super) fn text(self) -> String {
        match self {
            Mark::Low { chunk, table } => format!("low {chunk:016x} {table}"),
            Mark::High { chunk } => format!("high {chunk:016x}"),
            Mark::Clear { number } => format!("clear {number:016x}"),
            Mark::Asked => "asked".to_owned(),
            Mark::SetUp => "set-up".to_owned(),
        }
    }

    pub(super) fn parse(content: &[u8]) -> Option<Self> {
        let words: Vec<&str> = std::str::from_utf8(content).ok()?.split(' ').collect();
        let number = |word| u64::from_str_radix(word, 16).ok();
        match words[..] {
            ["low", chunk, table] => Some(Mark::Low { chunk: number(chunk)?, table: table.parse().ok()? }),
            ["high", chunk] => Some(Mark::High { chunk: number(chunk)? }),
            ["clear", digits] => Some(Mark::Clear { number: number(digits)? }),
            ["asked"] => Some(Mark::Asked),
            ["set-up"] => Some(Mark::SetUp),
            _ => None,
        }
    }
}

/// Writes into the log that the pipeline was set up with other tables, in the transaction of the
/// caller.
pub(in super::super) async fn say_set_up(client: &Client) -> Result<()> {
    let said = client.execute("SELECT pg_logical_emit_message(true, $1, $2)", &[&PREFIX, &Mark::SetUp.text()]).await;
    said.map(drop).map_err(|error| failed("cannot write into the log", error))
}

/// Tells if a message says that the pipeline was set up with other tables.
pub(in super::super) fn says_set_up(message: &LogicalMessage) -> bool {
    message.prefix == PREFIX && message.transactional && Mark::parse(&message.content) == Some(Mark::SetUp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for mark in [
            Mark::Low { chunk: u64::MAX, table: 7 },
            Mark::High { chunk: 0 },
            Mark::Clear { number: 9 },
            Mark::Asked,
            Mark::SetUp,
        ] {
            assert_eq!(Mark::parse(mark.text().as_bytes()), Some(mark));
        }
        for text in ["", "low 1", "low 1 x", "high", "high g", "asked twice"] {
            assert_eq!(Mark::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Mark::parse(b"\xff"), None);
    }
}

//! `Mark`: the messages that we write into the log, between the changes that they are to be told apart from.

/// Prefix of our messages in the log.
pub(in super::super) const PREFIX: &str = "pgstream";

/// What a message of ours says.
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
}

impl Mark {
    pub(super) fn text(self) -> String {
        match self {
            Mark::Low { chunk, table } => format!("low {chunk:016x} {table}"),
            Mark::High { chunk } => format!("high {chunk:016x}"),
            Mark::Clear { number } => format!("clear {number:016x}"),
            Mark::Asked => "asked".to_owned(),
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
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for mark in
            [Mark::Low { chunk: u64::MAX, table: 7 }, Mark::High { chunk: 0 }, Mark::Clear { number: 9 }, Mark::Asked]
        {
            assert_eq!(Mark::parse(mark.text().as_bytes()), Some(mark));
        }
        for text in ["", "low 1", "low 1 x", "high", "high g", "asked twice"] {
            assert_eq!(Mark::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Mark::parse(b"\xff"), None);
    }
}

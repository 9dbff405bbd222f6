//! `ToldTypes`: the types that a server names when it describes a statement.
//!
//! Of a type that the driver does not know by itself it asks the server, type within type within
//! type, for as long as the server names another one: without end, on one stack. Statements of ours
//! take and answer Postgres' own types alone (others are cast to text in SQL), so that it never has
//! to ask.

use tokio_postgres::types::Type;

use crate::error::{Error, Fault};

/// Bytes of a column's description behind its name, and where among them the type stands.
const BEHIND_NAME: u8 = 18;
const TYPE: std::ops::Range<u8> = 6..10;

/// Reads descriptions as their bytes pass.
#[derive(Default)]
pub(super) struct ToldTypes {
    reading: Reading,
    /// The parameters of a statement were described, so that its columns come next. The answer to a
    /// query that was not prepared is described without; the driver does not ask what its types
    /// are.
    prepares: bool,
    oid: u32,
}

/// The place within a description.
#[derive(Clone, Copy, Default)]
enum Reading {
    /// The message describes nothing.
    #[default]
    Nothing,
    /// Bytes of the number of parameters or columns that are still to come.
    Count { left: u8, columns: bool },
    /// Bytes of a parameter's type that have come.
    Parameter(u8),
    /// The name of a column.
    Name,
    /// Bytes behind a column's name that have come.
    Behind(u8),
}

impl ToldTypes {
    /// A message with this tag begins.
    pub(super) fn begin(&mut self, tag: u8) {
        self.reading = match tag {
            b't' => {
                self.prepares = true;
                Reading::Count { left: 2, columns: false }
            }
            b'T' if std::mem::take(&mut self.prepares) => Reading::Count { left: 2, columns: true },
            _ => Reading::Nothing,
        };
        if tag == b'Z' {
            self.prepares = false;
        }
    }

    /// Reads a part of the message's body.
    pub(super) fn read(&mut self, body: &[u8]) -> Result<(), Error> {
        if matches!(self.reading, Reading::Nothing) {
            return Ok(());
        }
        body.iter().try_for_each(|byte| self.step(*byte))
    }

    fn step(&mut self, byte: u8) -> Result<(), Error> {
        self.reading = match self.reading {
            Reading::Nothing => Reading::Nothing,
            Reading::Count { left: 2.., columns } => Reading::Count { left: 1, columns },
            Reading::Count { columns: true, .. } => Reading::Name,
            Reading::Count { columns: false, .. } => Reading::Parameter(0),
            Reading::Parameter(had) => {
                self.oid = self.oid << 8 | u32::from(byte);
                if had == 3 {
                    self.check()?;
                }
                Reading::Parameter((had + 1) % 4)
            }
            Reading::Name if byte == 0 => Reading::Behind(0),
            Reading::Name => Reading::Name,
            Reading::Behind(had) => {
                if TYPE.contains(&had) {
                    self.oid = self.oid << 8 | u32::from(byte);
                }
                match had + 1 {
                    end if end == TYPE.end => {
                        self.check()?;
                        Reading::Behind(end)
                    }
                    BEHIND_NAME => Reading::Name,
                    had => Reading::Behind(had),
                }
            }
        };
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        if Type::from_oid(self.oid).is_some() {
            return Ok(());
        }
        let what = format!("the server describes a statement with a type of its own (OID {})", self.oid);
        Err(Error::new(Fault::Environment, what)
            .because("statements of pgstream-host take and answer Postgres' own types alone")
            .help(super::TRUST))
    }
}

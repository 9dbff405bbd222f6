//! `Intake`: how much of what a server says is let in, by what the protocol needs at that point.

mod told_types;

use std::hash::{BuildHasher, Hasher, RandomState};

use rustc_hash::FxHashSet;

use self::told_types::ToldTypes;
use crate::error::{Error, Fault};

/// All messages from the first to the one that ends the login. A real server needs about a
/// kilobyte.
const LOGIN: usize = 256 << 10;
/// One of them.
const LOGIN_MESSAGE: usize = 64 << 10;
/// A demand of the login: libpq takes 2,000 bytes.
const DEMAND: usize = 8 << 10;
/// Messages of a few fixed fields and a word.
const SHORT: usize = 1 << 10;
/// A changed setting of the session.
const PARAMETER: usize = 16 << 10;
/// Settings that have ever been told, by name: the driver keeps their last values.
const PARAMETERS: usize = 256;
/// The columns of an answer: 1,664 at most, each with a name of 63 bytes.
const COLUMNS: usize = 1 << 20;
/// An error or a remark, which may quote a value.
const REMARK: usize = 4 << 20;
/// Remarks until the answer is complete.
const REMARKS: usize = 16 << 20;
/// The cost of a message beside its bytes once a driver has read it.
const OVERHEAD: usize = 64;
/// Postgres cannot build a longer message (`MaxAllocSize`), so a longer one is not Postgres'.
const LONGEST: usize = 1 << 30;

/// Tag and length; the demands of a login have their kind behind it.
const HEADER: usize = 5;
const HEADER_AND_KIND: usize = HEADER + 4;
/// AuthenticationCleartextPassword.
const CLEAR_TEXT: [u8; 4] = 3u32.to_be_bytes();

/// Bytes that rows may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// One row.
    pub(crate) row: usize,
    /// All that answer one query.
    pub(crate) answer: usize,
    /// The advice for whoever needs more.
    pub(crate) help: &'static str,
}

impl Room {
    /// For what stands in the catalogue and in tables of ours.
    pub(crate) const CATALOGUE: Self = Self { row: 64 << 20, answer: 64 << 20, help: TRUST };
}

const TRUST: &str = "check that `url` leads to a Postgres server, and to one that you trust";

/// Counts a server's messages as their bytes pass, and refuses one that is too long before a driver
/// makes room for it.
pub(crate) struct Intake {
    /// True if nobody between us and the server can read along.
    private: bool,
    room: Room,
    /// True while CopyBothResponse is awaited.
    streams: bool,
    phase: Phase,
    /// The beginning of the message that comes next, as far as it has come.
    head: [u8; HEADER_AND_KIND],
    had: usize,
    /// Bytes of the message under way that are still to come.
    left: usize,
    /// Bytes of the login, or of rows of the answer under way.
    taken: usize,
    /// Bytes of remarks since the last answer was complete.
    remarks: usize,
    parameters: Parameters,
    types: ToldTypes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Login,
    Session,
    Streaming,
}

/// A message that is not let in, and how many of the bytes looked at last come before it.
pub(crate) struct Refusal {
    pub(crate) good: usize,
    pub(crate) error: Error,
}

impl Intake {
    pub(crate) fn new(private: bool) -> Self {
        Self {
            private,
            room: Room::CATALOGUE,
            streams: false,
            phase: Phase::Login,
            head: [0; HEADER_AND_KIND],
            had: 0,
            left: 0,
            taken: 0,
            remarks: 0,
            parameters: Parameters::default(),
            types: ToldTypes::default(),
        }
    }

    /// From now on rows may have so many bytes.
    pub(crate) fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    /// The next answer may be a stream, which has no end; who reads it bounds what it keeps.
    pub(crate) fn let_stream(&mut self) {
        self.streams = true;
    }

    /// The number of bytes at the end of what has passed belong to a message that is not judged
    /// yet.
    pub(crate) fn unjudged(&self) -> usize {
        self.had
    }

    /// Looks at bytes that follow those before.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut rest = bytes;
        // Where the message under way begins, as far as these bytes have it.
        let mut begun = 0;
        while !rest.is_empty() {
            if self.left > 0 {
                let (body, next) = rest.split_at(self.left.min(rest.len()));
                self.parameters.read(body);
                self.types.read(body).map_err(|error| Refusal { good: begun, error })?;
                self.left -= body.len();
                rest = next;
                continue;
            }
            let begins = (bytes.len() - rest.len()).saturating_sub(self.had);
            while self.had < self.wanted() {
                let (Some((byte, next)), Some(place)) = (rest.split_first(), self.head.get_mut(self.had)) else {
                    return Ok(());
                };
                *place = *byte;
                self.had += 1;
                rest = next;
            }
            let judged = self.judge();
            self.had = 0;
            judged.map_err(|error| Refusal { good: begins, error })?;
            begun = begins;
        }
        Ok(())
    }

    /// As much of the message that comes next as must be there to judge it.
    fn wanted(&self) -> usize {
        match self.head {
            [b'R', _, _, a, b, ..] if self.had >= HEADER && (a, b) >= (0, 8) => HEADER_AND_KIND,
            _ => HEADER,
        }
    }

    /// Judges the message whose head is there, and counts it.
    fn judge(&mut self) -> Result<(), Error> {
        let [tag, a, b, c, d, kind @ ..] = self.head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length < 4 {
            let what = format!("the server's message with the tag 0x{tag:02X} claims a length of {length} bytes");
            return Err(Error::new(Fault::Environment, what).help(TRUST));
        }
        if tag == b'R' && self.had == HEADER_AND_KIND && kind == CLEAR_TEXT && !self.private {
            return Err(clear_text());
        }
        let most = self.most(tag);
        if length > most {
            return Err(self.too_long(tag, length, most));
        }
        self.count(tag, length)?;
        self.left = length + 1 - self.had;
        self.parameters.begin(tag);
        self.types.begin(tag);
        match tag {
            b'Z' => {
                self.phase = Phase::Session;
                (self.taken, self.remarks) = (0, 0);
            }
            b'W' if self.streams => self.phase = Phase::Streaming,
            _ => {}
        }
        Ok(())
    }

    /// The longest that a message of this kind may be now.
    fn most(&self, tag: u8) -> usize {
        match (self.phase, tag) {
            (_, b'R') => DEMAND,
            (_, b'Z' | b'K') => SHORT,
            (_, b'S') => PARAMETER,
            (Phase::Login, _) => LOGIN_MESSAGE,
            // What it is about is seen by who cuts the stream into messages, and decides how much of it is kept.
            (Phase::Streaming, b'd') => LONGEST,
            (_, b'D' | b'd') => self.room.row,
            (_, b'E' | b'N') => REMARK,
            (_, b'T' | b't') => COLUMNS,
            (_, b'A' | b'G' | b'H' | b'W') => LOGIN_MESSAGE,
            _ => SHORT,
        }
    }

    fn count(&mut self, tag: u8, length: usize) -> Result<(), Error> {
        let (taken, most, help) = match (self.phase, tag) {
            (Phase::Login, _) => (&mut self.taken, LOGIN, TRUST),
            (_, b'D') => (&mut self.taken, self.room.answer, self.room.help),
            // Of what a stream says nothing is kept.
            (Phase::Session, b'E' | b'N' | b'A') => (&mut self.remarks, REMARKS, TRUST),
            _ => return self.parameters.check(),
        };
        *taken = taken.saturating_add(length).saturating_add(OVERHEAD);
        if *taken <= most {
            return self.parameters.check();
        }
        let what = match (self.phase, tag) {
            (Phase::Login, _) => "to the login",
            (_, b'D') => "to one query",
            _ => "in remarks to one query",
        };
        let what = format!("the server's answer {what} is longer than the {most} bytes that it may have");
        Err(Error::new(Fault::Environment, what).help(help))
    }

    fn too_long(&self, tag: u8, length: usize, most: usize) -> Error {
        let (name, help) = match tag {
            b'D' if self.phase != Phase::Login => ("a row", self.room.help),
            b'S' => ("a setting", TRUST),
            b'R' => ("a demand", TRUST),
            b'E' => ("an error", TRUST),
            b'N' => ("a remark", TRUST),
            _ => ("a message", TRUST),
        };
        let when = if self.phase == Phase::Login { "during the login" } else { "at this point" };
        let what = format!(
            "the server sends {name} (tag 0x{tag:02X}) of {length} bytes, and {most} is the most that it may have {when}"
        );
        Error::new(Fault::Environment, what).help(help)
    }
}

/// The settings that a server has told of, each counted once.
#[derive(Default)]
struct Parameters {
    hashing: RandomState,
    seen: FxHashSet<u64>,
    /// The name that is being read.
    name: Option<<RandomState as BuildHasher>::Hasher>,
}

impl Parameters {
    fn begin(&mut self, tag: u8) {
        self.name = (tag == b'S').then(|| self.hashing.build_hasher());
    }

    fn read(&mut self, body: &[u8]) {
        let Some(name) = &mut self.name else { return };
        for byte in body {
            if *byte == 0 {
                self.seen.insert(name.finish());
                self.name = None;
                return;
            }
            name.write_u8(*byte);
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.seen.len() <= PARAMETERS {
            return Ok(());
        }
        let what = format!("the server tells of more than {PARAMETERS} settings");
        Err(Error::new(Fault::Environment, what).help(TRUST))
    }
}

/// The refusal to send a password that others could read.
pub(crate) fn clear_text() -> Error {
    Error::new(Fault::Environment, "the server wants the password in clear text over an unencrypted connection")
        .help("write `?sslmode=require` in `url`, or let the server use `scram-sha-256` in pg_hba.conf")
}

#[cfg(test)]
mod tests;

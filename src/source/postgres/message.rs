//! `Said`: what the server says on a replication connection, read and checked. Pure: the fuzzer
//! reads it, too.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{ErrorFields, Message};

use super::frames::Frame;
use crate::error::{Error, Fault, Result};
use crate::lsn::Lsn;
use crate::postgres::ServerError;

/// 1970-01-01 to 2000-01-01, Postgres' epoch, in µs.
pub(super) const EPOCH: i64 = 946_684_800_000_000;

/// A message of the server while it streams.
#[derive(Debug)]
pub(super) enum Said {
    /// A message of the output plugin.
    /// `sent` is when the server sent it, in µs since 1970-01-01 UTC.
    Data { payload: Bytes, sent: i64 },
    /// The server has nothing for us before `end`, and may want to be answered at once.
    Keepalive { end: Lsn, answer: bool },
    /// The stream ends with an error.
    Error(ServerError),
    /// A remark.
    Notice(ServerError),
    /// The stream ends, as when the server shuts down.
    End,
    /// Nothing that matters here.
    Nothing,
}

impl Said {
    /// Reads a message.
    ///
    /// # Errors
    /// `Environment`: it is not one of a server that streams.
    pub(super) fn read(frame: Frame) -> Result<Self> {
        match frame.tag {
            b'd' => Self::copy_data(frame.body),
            b'E' => server_error(frame).map(Self::Error),
            b'N' => notice(frame).map(Self::Notice),
            // ParameterStatus: somebody reloaded the server's configuration.
            b'S' => Ok(Self::Nothing),
            // CopyDone, CommandComplete: the server shuts down.
            b'c' | b'C' => Ok(Self::End),
            tag => Err(unexpected(tag)),
        }
    }

    fn copy_data(mut body: Bytes) -> Result<Self> {
        match body.try_get_u8() {
            Ok(b'w') if body.len() >= 24 => {
                // The LSNs of the header are those of single records, zero for some: not positions. Then when it was sent.
                body.advance(16);
                let sent = body.get_i64().saturating_add(EPOCH);
                Ok(Self::Data { payload: body, sent })
            }
            Ok(b'k') if body.len() == 17 => {
                let end = Lsn(body.get_u64());
                body.advance(8);
                Ok(Self::Keepalive { end, answer: body.get_u8() != 0 })
            }
            _ => Err(unexpected(b'd')),
        }
    }
}

pub(super) fn unexpected(tag: u8) -> Error {
    Error::new(Fault::Environment, format!("the server sent an unexpected message with the tag 0x{tag:02X}"))
        .help("check that `url` leads to a Postgres server")
}

/// Lets the protocol crate read a message that it knows.
pub(super) fn parse(frame: Frame) -> Result<Message> {
    let mut bytes = BytesMut::with_capacity(frame.body.len() + 5);
    bytes.put_u8(frame.tag);
    bytes.put_u32(frame.body.len() as u32 + 4);
    bytes.put_slice(&frame.body);
    let parsed = Message::parse(&mut bytes);
    parsed.map_err(garbled)?.ok_or_else(|| garbled(io::ErrorKind::InvalidData.into()))
}

pub(super) fn garbled(error: io::Error) -> Error {
    Error::new(Fault::Environment, "the server sent a message that cannot be read").because(error)
}

/// Reads an ErrorResponse.
pub(super) fn server_error(frame: Frame) -> Result<ServerError> {
    match parse(frame)? {
        Message::ErrorResponse(body) => fields(body.fields()),
        _ => Err(unexpected(b'E')),
    }
}

/// Reads a NoticeResponse.
pub(super) fn notice(frame: Frame) -> Result<ServerError> {
    match parse(frame)? {
        Message::NoticeResponse(body) => fields(body.fields()),
        _ => Err(unexpected(b'N')),
    }
}

fn fields(mut fields: ErrorFields<'_>) -> Result<ServerError> {
    let (mut code, mut message, mut hint) = (String::new(), String::new(), None);
    while let Some(field) = fields.next().map_err(garbled)? {
        let text = String::from_utf8_lossy(field.value_bytes());
        match field.type_() {
            b'C' => code = text.into_owned(),
            b'M' => message = text.into_owned(),
            b'H' => hint = Some(text.into_owned()),
            _ => {}
        }
    }
    Ok(ServerError::new(&code, &message, hint.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::super::fuzzed;

    /// The corpus from which the fuzzer starts passes without the fuzzer, too.
    #[test]
    fn the_corpus_is_read_without_a_panic() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus/replication");
        let files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() > 1);
        for file in files {
            fuzzed::check(&std::fs::read(&file).unwrap());
        }
    }
}

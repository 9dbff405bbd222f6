//! `Frames`: the server's messages cut out of the byte stream without a copy, and not longer than they may be.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What one read may bring. A whole chunk is freed only when no event points into it any more.
const CHUNK: usize = 256 << 10;
/// Below this much room a new chunk is begun; smaller reads would cost more calls than the tail is worth.
const ROOM: usize = 16 << 10;
/// Postgres cannot build a longer message (`MaxAllocSize`), so a longer one is not Postgres'.
const MAX_MESSAGE: usize = 1 << 30;
/// Tag and length.
const HEADER: usize = 5;

/// One message: its tag and what follows its length.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) tag: u8,
    pub(super) body: Bytes,
}

/// Reads messages from `input`.
#[derive(Debug)]
pub(super) struct Frames<R> {
    input: R,
    buffer: BytesMut,
}

impl<R> Frames<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: BytesMut::new() }
    }

    pub(super) fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// Exchanges the reader for what `change` makes of it; bytes read already stay.
    pub(super) fn map<S>(self, change: impl FnOnce(R) -> S) -> Frames<S> {
        Frames { input: change(self.input), buffer: self.buffer }
    }

    /// The next message, if all of it has been read.
    pub(super) fn take(&mut self) -> io::Result<Option<Frame>> {
        let Some((tag, length)) = self.header()? else { return Ok(None) };
        if self.buffer.len() < length {
            return Ok(None);
        }
        let mut body = self.buffer.split_to(length).freeze();
        body.advance(HEADER);
        Ok(Some(Frame { tag, body }))
    }

    /// Tag and whole length of the message that comes next.
    fn header(&self) -> io::Result<Option<(u8, usize)>> {
        let Some(&[tag, a, b, c, d]) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(4..=MAX_MESSAGE).contains(&length) {
            let text = format!("message with the tag 0x{tag:02X} claims a length of {length} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Some((tag, length + 1)))
    }
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Reads some bytes; `UnexpectedEof` at the end of the stream. Safe to cancel.
    pub(super) async fn fill(&mut self) -> io::Result<()> {
        let missing = self.header()?.map_or(0, |(_, length)| length.saturating_sub(self.buffer.len()));
        let room = self.buffer.capacity() - self.buffer.len();
        if room < ROOM.max(missing.min(CHUNK)) {
            // Grows with what has really arrived, not with what a length field claims.
            self.buffer.reserve(missing.min(self.buffer.len()).max(CHUNK));
        }
        match self.input.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next message. Safe to cancel.
    pub(super) async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[tokio::test]
    async fn messages_come_out_whole_wherever_the_stream_is_split() {
        let sent = [message(b'W', &[0, 0, 0]), message(b'd', b"row"), message(b'c', b"")].concat();
        for at in 0..=sent.len() {
            let input = AsyncReadExt::chain(&sent[..at], &sent[at..]);
            let mut frames = Frames::new(input);
            for (tag, body) in [(b'W', &[0, 0, 0][..]), (b'd', b"row"), (b'c', b"")] {
                let frame = frames.next().await.unwrap();
                assert_eq!((frame.tag, &frame.body[..]), (tag, body), "split at {at}");
            }
            assert_eq!(frames.next().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn a_message_longer_than_a_chunk_arrives() {
        let body = vec![7; 3 * CHUNK + 1];
        let sent = message(b'd', &body);
        assert_eq!(Frames::new(&sent[..]).next().await.unwrap().body, body);
    }

    #[tokio::test]
    async fn a_length_is_not_believed() {
        for length in [0, 3, (MAX_MESSAGE + 1) as u32, u32::MAX] {
            let mut sent = vec![b'd'];
            sent.extend(length.to_be_bytes());
            let error = Frames::new(&sent[..]).next().await.unwrap_err();
            assert_eq!(error.to_string(), format!("message with the tag 0x64 claims a length of {length} bytes"));
        }
        let mut sent = vec![b'd'];
        sent.extend((MAX_MESSAGE as u32).to_be_bytes());
        let mut frames = Frames::new(&sent[..]);
        frames.fill().await.unwrap();
        assert_eq!(frames.fill().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(frames.buffer.capacity() <= 2 * CHUNK, "memory must not be taken on a claim");
    }
}

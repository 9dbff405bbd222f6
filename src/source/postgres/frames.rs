//! `Frames`: the server's messages cut out of the byte stream without a copy, and not longer than
//! they may be. What others wrote into the log is passed over while it is read.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The fewest bytes for which a new chunk has room; one read may fill it. A whole chunk is freed
/// only when no event points into it any more.
const CHUNK: usize = 256 << 10;
/// Below this much room a new chunk is begun; smaller reads would cost more calls than the tail is
/// worth.
const ROOM: usize = 16 << 10;
/// Postgres cannot build a longer message (`MaxAllocSize`), so a longer one is not Postgres'.
const MAX_MESSAGE: usize = 1 << 30;
/// Tag and length.
const HEADER: usize = 5;
/// Bytes below which a message is not looked into before all of it is there. Our own messages in
/// the log are shorter.
const SHORT: usize = 1 << 10;
/// Bytes of what is neither a row nor somebody's message: the largest describe tables.
const LONG: usize = 4 << 20;
/// CopyData's header, the three numbers of XLogData, and tag and OID of a row.
const PEEK: usize = HEADER + 1 + 24 + 1 + 4;

/// The kind of a long message.
enum Peek {
    Wanted,
    /// Somebody wrote it into the log.
    Foreign,
    /// Too little of it is there.
    Unknown,
}

/// One message: its tag and what follows its length.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) tag: u8,
    pub(super) body: Bytes,
}

/// A message of a stream that is longer than it may be; inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("the server's message has {length} bytes, the most is {most}")]
pub(super) struct TooLong {
    pub(super) length: usize,
    pub(super) most: usize,
    /// OID of the table whose row it is.
    pub(super) relation: Option<u32>,
}

/// Reads messages from `input`.
#[derive(Debug)]
pub(super) struct Frames<R> {
    input: R,
    buffer: BytesMut,
    /// Bytes of a row of the stream.
    most: usize,
    /// Bytes that come next and are of no use.
    skipping: usize,
}

impl<R> Frames<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: BytesMut::new(), most: MAX_MESSAGE, skipping: 0 }
    }

    /// Rows of the stream may have so many bytes.
    pub(super) fn within(self, most: usize) -> Self {
        Self { most, ..self }
    }

    pub(super) fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// Exchanges the reader for what `change` makes of it; bytes read already stay.
    pub(super) fn map<S>(self, change: impl FnOnce(R) -> S) -> Frames<S> {
        let Self { input, buffer, most, skipping } = self;
        Frames { input: change(input), buffer, most, skipping }
    }

    /// The next message, if all of it has been read.
    pub(super) fn take(&mut self) -> io::Result<Option<Frame>> {
        let (tag, length) = loop {
            self.skip();
            let Some((tag, length)) = self.header()? else { return Ok(None) };
            if tag == b'd' && length > SHORT {
                match self.peek(length)? {
                    Peek::Wanted => {}
                    Peek::Unknown => return Ok(None),
                    Peek::Foreign => {
                        self.skipping = length;
                        continue;
                    }
                }
            }
            if self.buffer.len() < length {
                return Ok(None);
            }
            break (tag, length);
        };
        let mut body = self.buffer.split_to(length).freeze();
        body.advance(HEADER);
        Ok(Some(Frame { tag, body }))
    }

    /// Lets go of what is of no use.
    fn skip(&mut self) {
        let there = self.skipping.min(self.buffer.len());
        self.buffer.advance(there);
        self.skipping -= there;
    }

    /// Looks into a long message of a stream before it is there.
    fn peek(&self, length: usize) -> io::Result<Peek> {
        let Some([_, _, _, _, _, kind, rest @ ..]) = self.buffer.first_chunk::<PEEK>() else {
            return Ok(Peek::Unknown);
        };
        let [.., tag, a, b, c, d] = *rest;
        let (most, relation) = match (*kind, tag) {
            (b'w', b'M') => return Ok(Peek::Foreign),
            (b'w', b'I' | b'U' | b'D') => (self.most, Some(u32::from_be_bytes([a, b, c, d]))),
            _ => (LONG.min(self.most), None),
        };
        if length <= most.saturating_add(PEEK) {
            return Ok(Peek::Wanted);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, TooLong { length, most, relation }))
    }

    /// Tag and whole length of the message that comes next.
    fn header(&self) -> io::Result<Option<(u8, usize)>> {
        if self.skipping > 0 {
            return Ok(None);
        }
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
    /// Reads some bytes, and answers how many; `UnexpectedEof` at the end of the stream. Safe to
    /// cancel.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        let missing = self.header()?.map_or(0, |(_, length)| length.saturating_sub(self.buffer.len()));
        let room = self.buffer.capacity() - self.buffer.len();
        if room < ROOM.max(missing.min(CHUNK)) {
            // Grows with what has really arrived, not with what a length field claims.
            self.buffer.reserve(missing.min(self.buffer.len()).max(CHUNK));
        }
        match self.input.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
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
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;

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
    async fn what_others_wrote_into_the_log_is_never_kept() {
        let data = |tag: u8, length: usize| {
            let body = [&b"w"[..], &[0; 24], &[tag], &7u32.to_be_bytes(), &vec![b'x'; length]].concat();
            message(b'd', &body)
        };
        let long = 40 * CHUNK;
        for at_once in [1, 7, CHUNK, usize::MAX] {
            let long = if at_once < 8 { SHORT } else { long };
            let sent = [data(b'M', long), data(b'I', 9), data(b'M', long), data(b'M', 3), data(b'U', 5)].concat();
            let mut frames = Frames::new(Slow { rest: &sent, at_once });
            let (mut lengths, mut most) = (Vec::new(), 0);
            loop {
                if let Some(frame) = frames.take().unwrap() {
                    lengths.push(frame.body.len() - 30);
                } else if frames.fill().await.is_err() {
                    break;
                }
                most = most.max(frames.buffer.capacity());
            }
            assert_eq!(lengths, [9, 3, 5]);
            assert!(most <= 2 * CHUNK, "{most} bytes were taken for what is thrown away");
        }
    }

    #[tokio::test]
    async fn a_row_that_is_too_long_is_refused_with_its_table_before_it_is_read() {
        let head = |tag: u8, length: u32| {
            let mut sent = vec![b'd'];
            sent.extend(length.to_be_bytes());
            [&sent[..], b"w", &[0; 24], &[tag], &7u32.to_be_bytes()].concat()
        };
        for (tag, most, relation) in [(b'I', 8 << 20, Some(7)), (b'D', 8 << 20, Some(7)), (b'R', LONG, None)] {
            let sent = head(tag, 500 << 20);
            let error = Frames::new(&sent[..]).within(8 << 20).next().await.unwrap_err();
            let error = error.downcast::<TooLong>().unwrap();
            assert_eq!((error.length, error.most, error.relation), ((500 << 20) + 1, most, relation));
        }
    }

    /// Brings so many bytes at once.
    struct Slow<'a> {
        rest: &'a [u8],
        at_once: usize,
    }

    impl AsyncRead for Slow<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let (piece, rest) = self.rest.split_at(self.at_once.min(self.rest.len()).min(buf.remaining()));
            buf.put_slice(piece);
            self.rest = rest;
            Poll::Ready(Ok(()))
        }
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

//! Any bytes as what a server streams: messages or an error, the same wherever the reads are split, never a panic.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::frames::{Frame, Frames};
use super::message::Said;
use crate::decode::{Catalog, Decoder};
use crate::event::BatchBuilder;

/// More than a read brings, and more than a message of the input claims without having it.
const MEMORY: usize = 4 << 20;

pub(super) fn check(input: &[u8]) {
    let [split, stream @ ..] = input else { return };
    let whole = read(stream, usize::MAX);
    let parts = read(stream, usize::from(*split) + 1);
    assert_eq!(whole, parts, "messages do not depend on how the bytes arrive");
}

/// Reads to the end or the first error, `at_once` bytes at a time. Answers what there was.
fn read(stream: &[u8], at_once: usize) -> Vec<String> {
    let mut frames = Frames::new(Pieces { rest: stream, at_once });
    let (mut decoder, mut batch) = (Decoder::new(Catalog::default()), BatchBuilder::default());
    let mut read = Vec::new();
    while let Some(frame) = next(&mut frames, &mut read) {
        match Said::read(frame) {
            Ok(Said::Data { payload, .. }) => {
                assert!(payload.len() <= stream.len());
                let decoded = decoder.decode(payload, &mut batch);
                read.push(format!("{} {}", decoded.is_ok(), batch.len()));
                if decoded.is_err() {
                    break; // the decoder must not be used after that
                }
            }
            Ok(Said::Keepalive { end, answer }) => read.push(format!("keepalive {end} {answer}")),
            Ok(Said::Error(error) | Said::Notice(error)) => read.push(error.to_string()),
            Ok(Said::End | Said::Nothing) => read.push("nothing".to_owned()),
            Err(error) => read.push(error.report()),
        }
    }
    assert!(batch.bytes() <= 200_000 * (stream.len() + 1) + MEMORY);
    read
}

fn next<R: AsyncRead + Unpin>(frames: &mut Frames<R>, read: &mut Vec<String>) -> Option<Frame> {
    let mut future = std::pin::pin!(frames.next());
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(frame)) => Some(frame),
        Poll::Ready(Err(error)) => {
            read.push(error.to_string());
            None
        }
        Poll::Pending => None,
    }
}

/// Bytes that are always there, but not all at once.
struct Pieces<'a> {
    rest: &'a [u8],
    at_once: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let length = self.rest.len().min(self.at_once).min(buffer.remaining());
        let (piece, rest) = self.rest.split_at(length);
        buffer.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

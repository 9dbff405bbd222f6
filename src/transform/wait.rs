//! `wasi:io` for handlers: waiting for an answer or an alarm takes the caller's time, not the guest's, and ends with the call.
//!
//! What can block is overridden; all else is wasmtime's own.

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::p2::bindings::io as waiting;
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult};

use super::imports::State;

/// Links `wasi:io/poll` and `wasi:io/streams` in the place of those that are linked.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    poll::add_to_linker::<State, Waiting>(linker, |state| Patient(state))?;
    streams::add_to_linker::<State, Waiting>(linker, |state| Patient(state))
}

struct Waiting;

impl HasData for Waiting {
    type Data<'a> = Patient<'a>;
}

/// The state of an instance that may have to wait.
struct Patient<'a>(&'a mut State);

impl poll::Host for Patient<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.0.wait_for(async move |table| waiting::poll::Host::poll(table, pollables).await)?
    }
}

impl poll::HostPollable for Patient<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.0.wait_for(async move |table| waiting::poll::HostPollable::ready(table, pollable).await)?
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.0.wait_for(async move |table| waiting::poll::HostPollable::block(table, pollable).await)?
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        waiting::poll::HostPollable::drop(self.0.table(), pollable)
    }
}

impl streams::Host for Patient<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        streams::Host::convert_stream_error(self.0.table(), error)
    }
}

type Output = Resource<DynOutputStream>;
type Input = Resource<DynInputStream>;

impl streams::HostOutputStream for Patient<'_> {
    fn drop(&mut self, stream: Output) -> wasmtime::Result<()> {
        self.0.wait_for(async move |table| waiting::streams::HostOutputStream::drop(table, stream).await)?
    }

    fn check_write(&mut self, stream: Output) -> StreamResult<u64> {
        streams::HostOutputStream::check_write(self.0.table(), stream)
    }

    fn write(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> {
        streams::HostOutputStream::write(self.0.table(), stream, bytes)
    }

    fn blocking_write_and_flush(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> {
        use waiting::streams::HostOutputStream as Stream;
        self.0.stream(async move |table| Stream::blocking_write_and_flush(table, stream, bytes).await)
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Output, len: u64) -> StreamResult<()> {
        use waiting::streams::HostOutputStream as Stream;
        self.0.stream(async move |table| Stream::blocking_write_zeroes_and_flush(table, stream, len).await)
    }

    fn subscribe(&mut self, stream: Output) -> wasmtime::Result<Resource<DynPollable>> {
        streams::HostOutputStream::subscribe(self.0.table(), stream)
    }

    fn write_zeroes(&mut self, stream: Output, len: u64) -> StreamResult<()> {
        streams::HostOutputStream::write_zeroes(self.0.table(), stream, len)
    }

    fn flush(&mut self, stream: Output) -> StreamResult<()> {
        streams::HostOutputStream::flush(self.0.table(), stream)
    }

    fn blocking_flush(&mut self, stream: Output) -> StreamResult<()> {
        self.0.stream(async move |table| waiting::streams::HostOutputStream::blocking_flush(table, stream).await)
    }

    fn splice(&mut self, to: Output, from: Input, len: u64) -> StreamResult<u64> {
        streams::HostOutputStream::splice(self.0.table(), to, from, len)
    }

    fn blocking_splice(&mut self, to: Output, from: Input, len: u64) -> StreamResult<u64> {
        self.0
            .stream(async move |table| waiting::streams::HostOutputStream::blocking_splice(table, to, from, len).await)
    }
}

impl streams::HostInputStream for Patient<'_> {
    fn drop(&mut self, stream: Input) -> wasmtime::Result<()> {
        self.0.wait_for(async move |table| waiting::streams::HostInputStream::drop(table, stream).await)?
    }

    fn read(&mut self, stream: Input, len: u64) -> StreamResult<Vec<u8>> {
        streams::HostInputStream::read(self.0.table(), stream, len)
    }

    fn blocking_read(&mut self, stream: Input, len: u64) -> StreamResult<Vec<u8>> {
        self.0.stream(async move |table| waiting::streams::HostInputStream::blocking_read(table, stream, len).await)
    }

    fn skip(&mut self, stream: Input, len: u64) -> StreamResult<u64> {
        streams::HostInputStream::skip(self.0.table(), stream, len)
    }

    fn blocking_skip(&mut self, stream: Input, len: u64) -> StreamResult<u64> {
        self.0.stream(async move |table| waiting::streams::HostInputStream::blocking_skip(table, stream, len).await)
    }

    fn subscribe(&mut self, stream: Input) -> wasmtime::Result<Resource<DynPollable>> {
        streams::HostInputStream::subscribe(self.0.table(), stream)
    }
}

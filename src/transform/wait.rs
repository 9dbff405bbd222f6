//! `wasi:io` for guests: waiting for an answer or an alarm takes the caller's time, not the
//! guest's, and ends with the call.
//!
//! Calls that can block are overridden; all else is wasmtime's own.

use std::marker::PhantomData;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::p2::bindings::io as waiting;
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult};

use super::guest::{Guest, GuestState};

/// Links `wasi:io/poll` and `wasi:io/streams` in the place of those that are linked.
pub(super) fn link<S: Guest>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    poll::add_to_linker::<S, Waiting<S::Answer>>(linker, |state| Patient(state.guest()))?;
    streams::add_to_linker::<S, Waiting<S::Answer>>(linker, |state| Patient(state.guest()))
}

struct Waiting<A>(PhantomData<A>);

impl<A: Send + 'static> HasData for Waiting<A> {
    type Data<'a> = Patient<'a, A>;
}

/// The state of an instance that may have to wait.
struct Patient<'a, A>(&'a mut GuestState<A>);

impl<A: Send + 'static> poll::Host for Patient<'_, A> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.0.wait_for(async move |table| waiting::poll::Host::poll(table, pollables).await)?
    }
}

impl<A: Send + 'static> poll::HostPollable for Patient<'_, A> {
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

impl<A: Send + 'static> streams::Host for Patient<'_, A> {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        streams::Host::convert_stream_error(self.0.table(), error)
    }
}

type Output = Resource<DynOutputStream>;
type Input = Resource<DynInputStream>;

impl<A: Send + 'static> streams::HostOutputStream for Patient<'_, A> {
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

impl<A: Send + 'static> streams::HostInputStream for Patient<'_, A> {
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

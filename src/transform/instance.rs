//! One instance of a handler: calls it, ends calls that go beyond a limit, and says in words why a
//! call failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::Func;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, format_err};
use wasmtime_wasi::I32Exit;

use super::Output;
use super::bindings::{self, pgstream::host::types as wit};
use super::call::{Call, Stop};
use super::engine::GUEST_STACK;
use super::guest::confine;
use super::imports::{EmbedExcess, Shared, State};
use super::lift::lifted;
use super::limits::Refused;
use super::lower::{Lowered, lowered};
use super::place::Place;
use super::voice::Voice;
use super::words::{presentable, size};
use crate::error::{Code, Error, Fault, Result};
use crate::event::Batch;
use crate::meter::StartReason;

/// Bytes of a sentence that a guest gives for a failure.
const FAILURE_BYTES: usize = 1024;

/// All that is needed to make instances of a handler.
pub(super) struct Maker {
    pub(super) component: bindings::HandlerPre<State>,
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Bounds,
}

/// The limits of an instance, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) memory: usize,
    pub(super) output: usize,
}

/// A handler that can be called. Useless after a trap, and after it ran out of memory.
pub(super) struct Instance {
    store: Store<State>,
    handle: Func,
    /// True if it was called before.
    used: bool,
}

impl Maker {
    /// A new instance. Runs what the component does when it starts, under the limits of a call.
    pub(super) fn make(&self, voice: &Voice) -> Result<Instance> {
        let state = State::new(Arc::clone(&self.shared), voice.clone(), self.limits.memory);
        let mut store = Store::new(self.component.engine(), state);
        confine(&mut store, self.limits.output);
        let begun = store.data_mut().guest.take_turn().map_err(wasmtime::Error::new);
        let instantiated = begun
            .and_then(|()| self.component.instance_pre().instantiate(&mut store))
            .and_then(|made| made.get_func(&mut store, "handle").ok_or_else(|| format_err!("it has no `handle`")));
        store.data_mut().guest.give_up_turn();
        let error = match instantiated {
            Ok(handle) => return Ok(Instance { store, handle, used: false }),
            Err(error) => error,
        };
        let cause = if error.is::<PoolConcurrencyLimitError>() {
            Error::new(Fault::Environment, "this process has no room for another instance")
                .because(error)
                .help("use fewer `workers`, or run fewer pipelines in one host")
        } else {
            self.explain(error, store.data_mut())
        };
        // The wider headline drops the code: no event is to blame for a component that does not start.
        Err(cause.within(format!("handler `{}` did not start", self.shared.rights.name)))
    }

    /// One call. The reason if the instance is to be dropped, which is after any trap, and once it
    /// was refused memory: JavaScript and Python turn that into an exception, and would reject
    /// whatever comes next. The answer goes to the caller.
    pub(super) fn call(
        &self,
        mut instance: Instance,
        batch: &Batch,
        call: Call<Output>,
    ) -> std::result::Result<Instance, StartReason> {
        let began = Instant::now();
        let Instance { store, handle, used } = &mut instance;
        let used = std::mem::replace(used, true);
        let runtime = call.runtime.clone();
        // What a request leaves to do in the background is done by the caller's runtime.
        let entered = runtime.enter();
        store.data_mut().begin(call, batch);
        store.set_epoch_deadline(1);
        let begun = store.data_mut().guest.take_turn().map_err(wasmtime::Error::new);
        let answer = begun.and_then(|()| lowered(batch, &self.shared.columns, |batch| called(store, handle, batch)));
        drop(entered);
        let state = store.data_mut();
        state.guest.http.end();
        state.guest.voice.finish();
        let refused = state.guest.meter.refused();
        let spent = answer.is_err() || refused.is_some();
        let of_its_own = refused.is_some_and(|refused| !matches!(refused, Refused::Tenant { .. }));
        let result = match answer {
            // What a new instance makes of it without refusing anything is an answer: it got by with what it had.
            Ok(answer) if spent && (gives_up(&answer) || used && of_its_own) => {
                if let Some(said) = words_of(&answer) {
                    state.guest.voice.remember(said);
                }
                let error = wasmtime::Error::msg("it ran out of memory");
                Err(self.explain(error, state).at(Place::batch(batch)))
            }
            Ok(Ok(answer)) => lifted(answer, batch, &self.shared.rights.name),
            Ok(Err(failure)) => Err(self.failed(failure, state).at(Place::batch(batch))),
            Err(error) => Err(self.explain(error, state).at(Place::batch(batch))),
        };
        state.guest.give_up_turn();
        self.shared.rights.meter.calls.observe(began.elapsed(), 1);
        let crashed = matches!(result.as_ref().err().and_then(Error::misdeed), Some(Code::Trap | Code::Contract));
        if let Some(call) = state.guest.call.take() {
            let _ = call.reply.send(result); // the caller may be gone, which is its right
        }
        match spent {
            false => Ok(instance),
            true if crashed => Err(StartReason::Trap),
            true => Err(StartReason::Limit),
        }
    }

    /// A handler's own decision.
    fn failed(&self, failure: wit::Failure, state: &mut State) -> Error {
        let name = &self.shared.rights.name;
        let (fault, headline, text) = match failure {
            wit::Failure::Retry(text) => (Fault::Transient, format!("handler `{name}` asks for a retry"), text),
            wit::Failure::Stop(text) => (Fault::Handler, format!("handler `{name}` stopped the pipeline"), text),
        };
        if let Some(error) = state.take_embed_failure(&text) {
            return error.within(headline);
        }
        let said = std::io::Error::other(format!("it says: {}", presentable(&text, FAILURE_BYTES)));
        if let Some(refusal) = state.guest.http.take_refusal() {
            return over(refusal, headline, fault, said);
        }
        Error::new(fault, headline)
            .because(said)
            .help("nothing was confirmed; the batch is replayed once the cause that the handler names is gone")
    }

    /// A trap in words: which limit, or what the guest said before it crashed.
    fn explain(&self, error: wasmtime::Error, state: &mut State) -> Error {
        let name = &self.shared.rights.name;
        let said = state.guest.voice.take_last_words();
        let refused = state.guest.meter.take_refused();
        let refusal = state.guest.http.take_refusal();
        let limit = |key: &str| {
            format!(
                "nothing was confirmed; the batch is replayed after a fix. Raise `transforms.{name}.limits.{key}` or fix the handler"
            )
        };
        let failed = move |code: Option<Code>, what: &str, why: String, help: String| {
            let why = Error::new(Fault::Handler, why);
            let why = match &said {
                Some(words) => why.because(std::io::Error::other(format!("the handler said: {words}"))),
                None => why,
            };
            let headline = format!("handler `{name}` {what}");
            let error = match refusal {
                Some(refusal) => over(refusal, headline, Fault::Handler, why),
                None => Error::new(Fault::Handler, headline).because(why).help(help),
            };
            code.into_iter().fold(error, Error::code)
        };
        let fix = "nothing was confirmed; the batch is replayed after a fix of the handler";

        if let Some(stop) = error.downcast_ref::<Stop>() {
            return match stop {
                Stop::Deadline { ran } => {
                    let why =
                        format!("the call ran {}, the limit is {}", time(*ran), time(self.shared.rights.deadline));
                    failed(Some(Code::Deadline), "exceeded its deadline", why, limit("deadline"))
                }
                Stop::Patience { limit: waited } => {
                    let why = format!("it waited {} for answers and alarms, which is the limit", time(*waited));
                    failed(Some(Code::Wait), "waited too long", why, limit("http.wait"))
                }
                Stop::Abandoned => Error::new(Fault::Handler, format!("handler `{name}` was interrupted"))
                    .because(std::io::Error::other(stop.to_string())),
            };
        }
        if let Some(excess) = error.downcast_ref::<EmbedExcess>() {
            let help = format!("{fix}: embed many texts at once, or answer with `embedding.text`");
            return failed(Some(Code::Embed), "asked for too many embeddings", excess.to_string(), help);
        }
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return failed(
                Some(Code::Trap),
                "called `exit`",
                format!("with status {}", exit.0),
                format!("{fix}: return an error instead"),
            );
        }
        match refused {
            Some(Refused::Instance { asked }) => {
                let why = format!("it asked for {}, the limit is {}", size(asked), size(self.limits.memory));
                return failed(Some(Code::Memory), "ran out of memory", why, limit("memory"));
            }
            Some(Refused::Own { asked }) => {
                let why = format!("it asked for {}, more than its component says that it may have", size(asked));
                let help = format!("{fix}: build it with a larger maximum of memory, or with none");
                return failed(Some(Code::Memory), "ran out of memory", why, help);
            }
            Some(Refused::Tenant { tenant, limit, more }) => {
                let why = format!(
                    "it asked for {} more, all handlers of tenant `{tenant}` together may have {}",
                    size(more),
                    size(limit)
                );
                let help = format!("raise `tenants.{tenant}.memory` in the host file, or use fewer `workers`");
                // Others of the tenant may be to blame, and may have less of it after a while.
                return failed(None, "ran out of memory", why, help).blame(Fault::Environment);
            }
            None => {}
        }
        let cause = error.root_cause().to_string();
        if let Some(trap) = error.downcast_ref::<Trap>() {
            if *trap == Trap::StackOverflow {
                let why = format!("its calls need more than {} of stack", size(GUEST_STACK));
                return failed(
                    Some(Code::Trap),
                    "overflowed its stack",
                    why,
                    format!("{fix}: look for endless recursion"),
                );
            }
            return failed(Some(Code::Trap), "crashed", cause, fix.to_owned());
        }
        // The type of this error is private to wasmtime; its text is pinned by a test.
        if cause.starts_with("too much data is being copied") {
            let why = format!("what it hands over is larger than {}", size(self.limits.output));
            return failed(Some(Code::Output), "answered too much", why, limit("output"));
        }
        failed(Some(Code::Contract), "could not be called", presentable(&cause, FAILURE_BYTES), fix.to_owned())
    }
}

/// Calls the handler and returns its answer.
fn called(
    store: &mut Store<State>,
    handle: &Func,
    batch: Lowered<'_>,
) -> wasmtime::Result<std::result::Result<wit::Output, wit::Failure>> {
    let handle = handle.typed::<(Lowered<'_>,), (std::result::Result<wit::Output, wit::Failure>,)>(&*store)?;
    handle.call(store, (batch,)).map(|(answer,)| answer)
}

/// Tells if an answer leaves work undone.
fn gives_up(answer: &std::result::Result<wit::Output, wit::Failure>) -> bool {
    answer.as_ref().map_or(true, |output| !output.rejections.is_empty())
}

/// Returns the words of an answer about work that is left undone.
fn words_of(answer: &std::result::Result<wit::Output, wit::Failure>) -> Option<&str> {
    match answer {
        Ok(output) => output.rejections.first().map(|rejection| rejection.reason.as_str()),
        Err(wit::Failure::Retry(said) | wit::Failure::Stop(said)) => Some(said),
    }
}

/// The failure of a call in which a request was refused before, which says more than the guest can
/// know.
fn over(
    refusal: Error,
    headline: String,
    fault: Fault,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let help = refusal.advice().map(str::to_owned);
    let error = Error::new(fault, headline).because(refusal.because(why));
    match help {
        Some(help) => error.help(help),
        None => error,
    }
}

/// "1.02 s", "250 ms".
fn time(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        return format!("{} ms", span.as_millis());
    }
    let text = format!("{:.2}", span.as_secs_f64());
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(time(Duration::from_millis(1020)), "1.02 s");
        assert_eq!(time(Duration::from_secs(1)), "1 s");
        assert_eq!(time(Duration::from_millis(250)), "250 ms");
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(size(3 << 19), "1.5 MiB");
        assert_eq!(size(600 << 10), "600 KiB");
    }
}

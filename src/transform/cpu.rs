//! CPU time, shared by weight: a guest's thread computes only while it holds one of a fixed number
//! of slots.
//!
//! At each tick a thread that computes is charged for what it used, and hands its slot over if a
//! tenant that has spent less waits. It gives the slot up while it waits for something outside.
//! Waiting here costs the guest nothing: its deadline counts the thread's own CPU time.

mod queue;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

use self::queue::{Id, Queue};
use super::call::{Call, Stop};
use crate::error::{Error, Fault, Result};

/// The time after which a running guest is charged, looks at its clock, and makes room. Deadlines
/// are overrun by this at most, and whoever wants to compute waits this long at most for one that
/// just goes on. Only a host that computes ticks.
pub(super) const TICK: Duration = Duration::from_millis(2);

/// The slots of a process. Clones share them.
#[derive(Clone)]
pub(super) struct Cpu(Arc<Slots>);

struct Slots {
    queue: Mutex<Queue<oneshot::Sender<()>>>,
    /// The thread that ticks while somebody computes, and sleeps otherwise.
    ticker: OnceLock<Thread>,
}

impl Cpu {
    /// `slots` threads compute at once. `tick` is called every [`TICK`] while one does, from a
    /// thread of its own: on a tokio thread a spinning guest could keep it from coming. The thread
    /// ends with the last clone.
    pub(super) fn start(slots: usize, tick: impl Fn() + Send + 'static) -> Result<Self> {
        let slots = Arc::new(Slots { queue: Mutex::new(Queue::new(slots)), ticker: OnceLock::new() });
        let weak = Arc::downgrade(&slots);
        let started = std::thread::Builder::new().name("handler-ticker".into()).spawn(move || run(&weak, tick));
        let started =
            started.map_err(|error| Error::new(Fault::Environment, "no thread for the deadlines").because(error))?;
        let _ = slots.ticker.set(started.thread().clone()); // it is set once, here
        Ok(Self(slots))
    }

    /// A new share of `weight`.
    pub(super) fn share(&self, weight: u32) -> Share {
        let id = self.0.queue().open(weight);
        Share { cpu: self.clone(), id }
    }

    /// The number of guests that compute now, and of those that can.
    pub(super) fn level(&self) -> (usize, usize) {
        self.0.queue().level()
    }

    /// Returns the number of guests that wait for a slot.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.0.queue().waiting()
    }
}

impl Slots {
    fn queue(&self) -> MutexGuard<'_, Queue<oneshot::Sender<()>>> {
        // Nothing that changes it can panic half way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_ticker(&self) {
        if let Some(ticker) = self.ticker.get() {
            ticker.unpark();
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.wake_ticker(); // so that it finds out
    }
}

fn run(slots: &Weak<Slots>, tick: impl Fn()) {
    while let Some(held) = slots.upgrade() {
        let busy = held.queue().is_busy();
        drop(held);
        if busy {
            tick();
        } else {
            std::thread::park(); // woken by who computes first; a wake-up that came before counts
        }
        std::thread::sleep(TICK);
    }
}

/// A tenant's share of the slots: as much as its weight is of all weights that want to compute.
pub(super) struct Share {
    cpu: Cpu,
    id: Id,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.cpu.0.queue().close(self.id);
    }
}

/// A guest's thread and the slot that it holds, if it does.
pub(super) struct Turn {
    share: Arc<Share>,
    /// Up to which thread time it is charged; none without a slot.
    charged: Option<Duration>,
    spent: Spent,
}

/// All that a guest has used since it was last asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// CPU time.
    pub(super) ran: Duration,
    /// Time in which it wanted to compute, and others did.
    pub(super) waited: Duration,
}

impl Turn {
    pub(super) fn new(share: Arc<Share>) -> Self {
        Self { share, charged: None, spent: Spent::default() }
    }

    /// All that the guest has used since the last call of this.
    pub(super) fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    /// Waits for a slot, until nobody waits for the call any more.
    pub(super) fn take<A>(&mut self, call: Option<&mut Call<A>>) -> Result<(), Stop> {
        if self.charged.is_some() {
            return Ok(());
        }
        let mut queue = self.share.cpu.0.queue();
        let was_idle = !queue.is_busy();
        if queue.enter(self.share.id) {
            drop(queue);
            if was_idle {
                self.share.cpu.0.wake_ticker();
            }
        } else {
            let (grant, granted) = oneshot::channel();
            let ticket = queue.wait(self.share.id, grant);
            drop(queue);
            self.wait(ticket, granted, call)?;
        }
        self.charged = Some(thread_time());
        Ok(())
    }

    /// At a tick: pays for what was computed and makes room for whom it is due.
    pub(super) fn tick<A>(&mut self, call: Option<&mut Call<A>>) -> Result<(), Stop> {
        let Some(charged) = self.charged else { return Ok(()) };
        let now = thread_time();
        let id = self.share.id;
        let mut queue = self.share.cpu.0.queue();
        let ran = now.saturating_sub(charged);
        queue.charge(id, ran);
        self.spent.ran += ran;
        self.charged = Some(now);
        if queue.goes_on(id) {
            return Ok(());
        }
        let (grant, granted) = oneshot::channel();
        let ticket = queue.wait(id, grant);
        let next = queue.leave();
        drop(queue);
        self.charged = None;
        call_in(next);
        self.wait(ticket, granted, call)?;
        self.charged = Some(thread_time());
        Ok(())
    }

    /// Pays, and leaves the slot to others.
    pub(super) fn give_up(&mut self) {
        let Some(charged) = self.charged.take() else { return };
        let ran = thread_time().saturating_sub(charged);
        self.spent.ran += ran;
        let mut queue = self.share.cpu.0.queue();
        queue.charge(self.share.id, ran);
        let next = queue.leave();
        drop(queue);
        call_in(next);
    }

    fn wait<A>(&mut self, ticket: u64, granted: oneshot::Receiver<()>, call: Option<&mut Call<A>>) -> Result<(), Stop> {
        let began = Instant::now();
        let abandoned = match call {
            Some(Call { runtime, reply }) => {
                let either =
                    async { matches!(select(granted, std::pin::pin!(reply.closed())).await, Either::Right(_)) };
                runtime.block_on(either)
            }
            None => {
                let _ = granted.blocking_recv(); // the sender stays in the queue until it is used
                false
            }
        };
        self.spent.waited += began.elapsed();
        if !abandoned {
            return Ok(());
        }
        let mut queue = self.share.cpu.0.queue();
        if !queue.cancel(self.share.id, ticket) {
            let next = queue.leave();
            drop(queue);
            call_in(next);
        }
        Err(Stop::Abandoned)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Calls who waited. One that has gone away meanwhile finds the slot in its name and leaves it.
fn call_in(next: Option<oneshot::Sender<()>>) {
    if let Some(next) = next {
        let _ = next.send(());
    }
}

/// CPU time of the current thread.
pub(super) fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.max(0) as u64, now.tv_nsec.clamp(0, 999_999_999) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn ticks() -> (Cpu, Arc<AtomicUsize>) {
        let ticks = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ticks);
        (Cpu::start(1, move || _ = count.fetch_add(1, Ordering::SeqCst)).unwrap(), ticks)
    }

    #[test]
    fn it_ticks_only_while_somebody_computes() {
        let (cpu, ticks) = ticks();
        let mut turn = Turn::new(Arc::new(cpu.share(1)));
        for _ in 0..2 {
            turn.take::<()>(None).unwrap();
            let before = ticks.load(Ordering::SeqCst);
            until("no tick", || ticks.load(Ordering::SeqCst) > before + 2);
            turn.give_up();
            // The ticker looks once more; from then on it sleeps. A thousand looks of ours are many of its ticks.
            let mut last = ticks.load(Ordering::SeqCst);
            until("it goes on ticking", || {
                std::thread::sleep(10 * TICK);
                let now = ticks.load(Ordering::SeqCst);
                std::mem::replace(&mut last, now) == now
            });
        }
    }

    #[test]
    fn the_ticker_ends_with_the_last_share() {
        let (cpu, ticks) = ticks();
        let share = cpu.share(1);
        drop(cpu);
        assert_eq!(Arc::strong_count(&ticks), 2);
        drop(share);
        until("the ticker goes on", || Arc::strong_count(&ticks) == 1);
    }

    #[test]
    fn a_slot_goes_to_who_waits_and_back() {
        let (cpu, _) = ticks();
        let mut turn = Turn::new(Arc::new(cpu.share(1)));
        turn.take::<()>(None).unwrap();
        let other = Arc::new(cpu.share(1));
        let (report, reports) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let mut turn = Turn::new(other);
            turn.take::<()>(None).unwrap();
            report.send("computes").unwrap();
            turn.give_up();
        });
        until("it does not wait", || cpu.waiting() == 1);
        assert!(reports.try_recv().is_err());
        turn.tick::<()>(None).unwrap(); // hands over, and comes back after the other is done
        assert_eq!(reports.try_recv(), Ok("computes"));
        thread.join().unwrap();
    }

    #[test]
    fn a_call_that_is_given_up_waits_no_longer_and_holds_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (cpu, _) = ticks();
        let mut turn = Turn::new(Arc::new(cpu.share(1)));
        turn.take::<()>(None).unwrap();
        let (reply, answer) = oneshot::channel::<Result<()>>();
        let mut call = Call { runtime: runtime.handle().clone(), reply };
        let other = Arc::new(cpu.share(1));
        let thread = std::thread::spawn(move || Turn::new(other).take(Some(&mut call)).is_err());
        until("it does not wait", || cpu.waiting() == 1);
        drop(answer);
        assert!(thread.join().unwrap());
        assert_eq!(cpu.waiting(), 0);
        turn.give_up();
        turn.take::<()>(None).unwrap();
    }
}

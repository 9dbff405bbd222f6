//! The promises of the queue, over random tenants and a clock that is only counted.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{Id, Queue, Ticket};

const QUANTUM: Duration = Duration::from_millis(2);

/// A tenant: its weight, its threads, and for how many quanta each of them computes and then
/// sleeps.
#[derive(Clone, Debug)]
struct Habit {
    weight: u32,
    threads: usize,
    computes: u32,
    sleeps: u32,
}

/// Always wants to compute, on as many threads as there can be slots.
fn greedy(weight: u32) -> Habit {
    Habit { weight, threads: 4, computes: u32::MAX, sleeps: 0 }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    Compute { left: u32 },
    Wait { left: u32, since: u32 },
    Sleep { left: u32 },
}

struct Machine {
    queue: Queue<usize>,
    slots: usize,
    threads: Vec<(Id, Habit, Doing)>,
    /// Quanta that each tenant was given.
    given: BTreeMap<Id, u32>,
    tickets: BTreeMap<usize, Ticket>,
    longest_wait: u32,
    clock: u32,
}

impl Machine {
    fn new(slots: usize, habits: &[Habit]) -> Self {
        let mut queue = Queue::new(slots);
        let mut threads = Vec::new();
        for habit in habits {
            let id = queue.open(habit.weight);
            // They begin one after the other, as they would.
            threads.extend((0..habit.threads).map(|n| (id, habit.clone(), Doing::Sleep { left: n as u32 })));
        }
        let (given, tickets) = (BTreeMap::new(), BTreeMap::new());
        Self { queue, slots, threads, given, tickets, longest_wait: 0, clock: 0 }
    }

    fn wait(&mut self, thread: usize, left: u32) {
        let ticket = self.queue.wait(self.threads[thread].0, thread);
        self.tickets.insert(thread, ticket);
        self.threads[thread].2 = Doing::Wait { left, since: self.clock };
    }

    fn seat(&mut self, called: Option<usize>) {
        let Some(thread) = called else { return };
        let Doing::Wait { left, since } = self.threads[thread].2 else { panic!("{thread} did not wait") };
        self.longest_wait = self.longest_wait.max(self.clock - since);
        self.tickets.remove(&thread);
        self.threads[thread].2 = Doing::Compute { left };
    }

    fn step(&mut self) {
        self.clock += 1;
        for thread in 0..self.threads.len() {
            let (id, habit, doing) = self.threads[thread].clone();
            match doing {
                Doing::Sleep { left: 1.. } => self.rest(thread, doing),
                Doing::Sleep { left: 0 } if self.queue.enter(id) => {
                    self.threads[thread].2 = Doing::Compute { left: habit.computes };
                }
                Doing::Sleep { left: 0 } => self.wait(thread, habit.computes),
                Doing::Wait { .. } | Doing::Compute { .. } => {}
            }
        }
        let computing: Vec<usize> =
            (0..self.threads.len()).filter(|n| matches!(self.threads[*n].2, Doing::Compute { .. })).collect();
        assert!(computing.len() <= self.slots, "more compute than there are slots");
        assert_eq!(self.queue.is_busy(), !computing.is_empty());
        if self.queue.waiting() > 0 {
            assert_eq!(computing.len(), self.slots, "a slot is idle while somebody waits");
        }
        for thread in computing {
            let (id, habit, doing) = self.threads[thread].clone();
            let Doing::Compute { left } = doing else { unreachable!() };
            self.queue.charge(id, QUANTUM);
            *self.given.entry(id).or_default() += 1;
            if left <= 1 {
                self.threads[thread].2 = Doing::Sleep { left: habit.sleeps };
                let next = self.queue.leave();
                self.seat(next);
            } else if !self.queue.goes_on(id) {
                self.wait(thread, left - 1);
                let next = self.queue.leave();
                self.seat(next);
            } else {
                self.threads[thread].2 = Doing::Compute { left: left - 1 };
            }
        }
    }

    fn rest(&mut self, thread: usize, doing: Doing) {
        if let Doing::Sleep { left } = doing {
            self.threads[thread].2 = Doing::Sleep { left: left - 1 };
        }
    }

    fn run(&mut self, steps: u32) {
        (0..steps).for_each(|_| self.step());
    }

    fn given(&self, id: Id) -> f64 {
        self.given.get(&id).copied().unwrap_or(0).into()
    }
}

fn habits() -> impl Strategy<Value = Vec<Habit>> {
    let habit = (1u32..8, 1usize..5, 1u32..40, 0u32..40);
    let habit = habit.prop_map(|(weight, threads, computes, sleeps)| Habit { weight, threads, computes, sleeps });
    proptest::collection::vec(habit, 0..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the others do: who always wants to compute gets what it is entitled to, but for a
    /// few quanta.
    #[test]
    fn a_tenant_gets_its_share_whatever_the_others_do(slots in 1usize..5, weight in 1u32..8, others in habits()) {
        let mut all = vec![greedy(weight)];
        all.extend(others);
        let mut machine = Machine::new(slots, &all);
        let steps = 4000;
        machine.run(steps);
        let weights: u32 = all.iter().map(|habit| habit.weight).sum();
        let fair = f64::from(steps) * slots as f64 * f64::from(weight) / f64::from(weights);
        prop_assert!(machine.given(0) >= 0.97 * fair - 20.0, "{} of {fair}", machine.given(0));
    }

    /// Tenants that all want to compute get CPU time as their weights are.
    #[test]
    fn greedy_tenants_share_by_weight(slots in 1usize..5, weights in proptest::collection::vec(1u32..10, 1..8)) {
        let all: Vec<Habit> = weights.iter().copied().map(greedy).collect();
        let mut machine = Machine::new(slots, &all);
        machine.run(4000);
        let total: u32 = weights.iter().sum();
        for (id, weight) in weights.iter().enumerate() {
            let fair = 4000.0 * slots as f64 * f64::from(*weight) / f64::from(total);
            let given = machine.given(id);
            prop_assert!((given - fair).abs() <= 0.03 * fair + 20.0, "{id}: {given} of {fair}");
        }
    }

    /// Nobody waits for longer than a round over all threads that want to compute, by weight.
    #[test]
    fn nobody_starves(slots in 1usize..5, others in habits()) {
        let mut all = vec![greedy(7), greedy(1)];
        all.extend(others);
        let mut machine = Machine::new(slots, &all);
        machine.run(4000);
        for thread in 0..machine.threads.len() {
            if let Doing::Wait { since, .. } = machine.threads[thread].2 {
                machine.longest_wait = machine.longest_wait.max(machine.clock - since);
            }
        }
        let weights: u32 = all.iter().map(|habit| habit.weight).sum();
        let round = 2 * 5 * weights + 20;
        prop_assert!(machine.longest_wait <= round, "{} quanta, a round is {round}", machine.longest_wait);
    }
}

#[test]
fn who_sleeps_saves_nothing_up() {
    let sleeper = Habit { weight: 1, threads: 1, computes: u32::MAX, sleeps: 0 };
    let mut machine = Machine::new(1, &[greedy(1), sleeper]);
    machine.threads.iter_mut().filter(|thread| thread.0 == 1).for_each(|thread| thread.2 = Doing::Sleep { left: 1000 });
    machine.run(1000);
    assert_eq!((machine.given(0), machine.given(1)), (1000.0, 0.0));
    machine.run(100);
    assert!((49.0..=51.0).contains(&machine.given(1)), "{} of 100, not all of them", machine.given(1));
}

// One thread cannot use more than one slot, however large its tenant's weight: nobody is made to pay for that later.
#[test]
fn who_cannot_use_its_share_saves_nothing_up() {
    let lone = Habit { weight: 8, threads: 1, computes: u32::MAX, sleeps: 0 };
    let late = Habit { weight: 1, threads: 1, computes: u32::MAX, sleeps: 0 };
    let mut machine = Machine::new(2, &[lone, late.clone(), late]);
    machine.threads[2].2 = Doing::Sleep { left: 1000 };
    machine.run(2000);
    assert!(machine.given(0) >= 1990.0);
    assert!((1490.0..=1510.0).contains(&machine.given(1)), "{}", machine.given(1));
    assert!((490.0..=510.0).contains(&machine.given(2)), "{}", machine.given(2));
}

// Who computes little is served at the next tick, however many others compute all the time.
#[test]
fn a_short_call_does_not_wait_for_long_ones() {
    let mut queue = Queue::new(1);
    let long: Vec<Id> = (0..9).map(|_| queue.open(1)).collect();
    assert!(queue.enter(long[0]));
    long[1..].iter().for_each(|id| _ = queue.wait(*id, *id));
    let mut computing = long[0];
    for _ in 0..1000 {
        queue.charge(computing, QUANTUM);
        assert!(!queue.goes_on(computing));
        queue.wait(computing, computing);
        computing = queue.leave().unwrap();
    }
    let brief = queue.open(1);
    for _ in 0..5 {
        assert!(!queue.enter(brief));
        queue.wait(brief, brief);
        let mut turns = 0;
        while computing != brief {
            queue.charge(computing, QUANTUM);
            assert!(!queue.goes_on(computing));
            queue.wait(computing, computing);
            computing = queue.leave().unwrap();
            turns += 1;
        }
        assert!(turns <= 10, "{turns}");
        queue.charge(brief, QUANTUM / 20);
        computing = queue.leave().unwrap();
    }
}

#[test]
fn who_stops_waiting_leaves_no_trace() {
    let mut queue = Queue::new(1);
    let (one, other) = (queue.open(1), queue.open(1));
    assert!(queue.enter(one) && !queue.enter(other));
    let ticket = queue.wait(other, "first");
    queue.wait(other, "second");
    assert!(queue.cancel(other, ticket));
    assert!(!queue.cancel(other, ticket), "it is gone");
    assert_eq!(queue.leave(), Some("second"));
    assert_eq!(queue.leave(), None);
    assert!(!queue.is_busy());
}

#[test]
fn numbers_of_closed_accounts_are_used_again_and_start_afresh() {
    let mut queue: Queue<()> = Queue::new(1);
    let one = queue.open(1);
    assert!(queue.enter(one));
    queue.charge(one, Duration::from_secs(5));
    queue.leave();
    queue.close(one);
    let other = queue.open(3);
    assert_eq!(one, other);
    assert!(queue.enter(other));
}

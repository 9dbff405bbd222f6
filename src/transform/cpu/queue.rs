//! `Queue`: the order of those who compute, by fair queueing by weight over virtual time. It is
//! pure, so that its promises are tested without a clock.
//!
//! Each account has spent so much CPU time divided by its weight. A free slot goes to the waiting
//! account that has spent least. The queue's own time is what the account that was picked last had
//! spent then; an account of which nothing waits lacks nothing, so it is brought up to that time,
//! less a quantum, when it asks again: who sleeps, or cannot use all that it is entitled to, saves
//! nothing up, and who sleeps for a moment loses nothing. (Start-time fair queueing, by tenants
//! instead of packets.)

use std::cmp::max;
use std::collections::VecDeque;
use std::time::Duration;

use super::TICK;

/// Virtual time: nanoseconds by [`SCALE`] over weight.
type Spent = u128;

/// Keeps fractions of a nanosecond for the largest weights.
const SCALE: Spent = 1 << 10;

/// Number of an account; another account gets it once the first is closed.
pub(super) type Id = usize;

/// Place in the order of arrival.
pub(super) type Ticket = u64;

/// `slots` things that compute, and those that wait to. `T` is how one that waits is called.
#[derive(Debug)]
pub(super) struct Queue<T> {
    free: usize,
    now: Spent,
    /// The price of a tick for the lightest account: accounts are apart by that much even if all
    /// goes well.
    quantum: Spent,
    accounts: Vec<Account<T>>,
    closed: Vec<Id>,
    computing: usize,
    waiting: usize,
    next: Ticket,
}

#[derive(Debug)]
struct Account<T> {
    weight: u32,
    spent: Spent,
    waiting: VecDeque<(Ticket, T)>,
}

impl<T> Queue<T> {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            free: slots.max(1),
            now: 0,
            quantum: 0,
            accounts: Vec::new(),
            closed: Vec::new(),
            computing: 0,
            waiting: 0,
            next: 0,
        }
    }

    /// Tells if anything computes.
    pub(super) fn is_busy(&self) -> bool {
        self.computing > 0
    }

    /// The number of those that compute, and of those that can.
    pub(super) fn level(&self) -> (usize, usize) {
        (self.computing, self.computing + self.free)
    }

    /// Returns the number of those that wait for a slot.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// A new account, which begins with what those have spent who are served now.
    pub(super) fn open(&mut self, weight: u32) -> Id {
        let account = Account { weight: weight.max(1), spent: self.now, waiting: VecDeque::new() };
        let id = self.closed.pop().unwrap_or(self.accounts.len());
        match self.accounts.get_mut(id) {
            Some(place) => *place = account,
            None => self.accounts.push(account),
        }
        self.weigh();
        id
    }

    /// Gives the number back. Nothing of the account may wait or compute any more.
    pub(super) fn close(&mut self, id: Id) {
        self.closed.push(id);
        self.weigh();
    }

    fn weigh(&mut self) {
        let open = self.accounts.iter().enumerate().filter(|(id, _)| !self.closed.contains(id));
        let lightest = open.map(|(_, account)| account.weight).min().unwrap_or(1);
        self.quantum = cost(TICK, lightest);
    }

    /// Takes a slot if one is free. None waits while one is free, so nobody is overtaken.
    pub(super) fn enter(&mut self, id: Id) -> bool {
        self.catch_up(id);
        if self.free == 0 {
            return false;
        }
        self.seat(id);
        true
    }

    /// Waits for a slot, after `enter` had none.
    pub(super) fn wait(&mut self, id: Id, call: T) -> Ticket {
        self.catch_up(id);
        let ticket = self.next;
        self.next += 1;
        if let Some(account) = self.accounts.get_mut(id) {
            account.waiting.push_back((ticket, call));
            self.waiting += 1;
        }
        ticket
    }

    /// Waits no longer. False if the slot was given meanwhile: then it is there to be left.
    pub(super) fn cancel(&mut self, id: Id, ticket: Ticket) -> bool {
        let Some(account) = self.accounts.get_mut(id) else { return false };
        let before = account.waiting.len();
        account.waiting.retain(|(other, _)| *other != ticket);
        let found = account.waiting.len() < before;
        self.waiting -= usize::from(found);
        found
    }

    /// Notes CPU time that the account has used.
    pub(super) fn charge(&mut self, id: Id, ran: Duration) {
        if let Some(account) = self.accounts.get_mut(id) {
            account.spent += cost(ran, account.weight);
        }
        self.catch_up(id);
    }

    /// Leaves a slot; who gets it is to be called.
    pub(super) fn leave(&mut self) -> Option<T> {
        self.computing = self.computing.saturating_sub(1);
        self.free += 1;
        self.pick()
    }

    /// Tells if one that computes for this account may go on. It may not if somebody waits who has
    /// spent no more. Those of one account take turns.
    pub(super) fn goes_on(&mut self, id: Id) -> bool {
        let own = self.accounts.get(id).map_or(0, |account| account.spent);
        let first = self.first().and_then(|first| self.accounts.get(first));
        let goes_on = first.is_none_or(|first| own < first.spent);
        if goes_on {
            self.now = max(self.now, own); // as if it had been picked again
        }
        goes_on
    }

    fn pick(&mut self) -> Option<T> {
        let id = self.first()?;
        let (_, call) = self.accounts.get_mut(id)?.waiting.pop_front()?;
        self.waiting -= 1;
        self.seat(id);
        Some(call)
    }

    /// The waiting account that has spent least; of several, where somebody waits longest.
    fn first(&self) -> Option<Id> {
        if self.waiting == 0 {
            return None;
        }
        let waiting = self.accounts.iter().enumerate().filter_map(|(id, account)| {
            let (ticket, _) = account.waiting.front()?;
            Some((account.spent, *ticket, id))
        });
        waiting.min().map(|(_, _, id)| id)
    }

    fn seat(&mut self, id: Id) {
        self.free = self.free.saturating_sub(1);
        self.computing += 1;
        self.now = max(self.now, self.accounts.get(id).map_or(0, |account| account.spent));
    }

    fn catch_up(&mut self, id: Id) {
        let earliest = self.now.saturating_sub(self.quantum);
        if let Some(account) = self.accounts.get_mut(id).filter(|account| account.waiting.is_empty()) {
            account.spent = max(account.spent, earliest);
        }
    }
}

fn cost(ran: Duration, weight: u32) -> Spent {
    ran.as_nanos() * SCALE / Spent::from(weight)
}

#[cfg(test)]
mod tests;

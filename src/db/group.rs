//! Where callers meet who wait for the same slow thing: one leads, the others get its answers.
//!
//! The first caller becomes leader and takes everything that waits; while it is at work the next
//! group gathers; whoever of these wakes first leads it, after a glance round for the callers of the
//! group before. Each item is led exactly once, and its answer goes to the caller that brought it.
//!
//! Invariants: one leader at a time; a caller is asleep only while somebody leads; answers are in
//! place, and the lead is given up, before anybody is woken. The last two hold also when the leader
//! panics: then its group gets the answer for that case (P18).
//!
//! Threads: any. Knows nothing of logs: `commit` gives it batches, models give it numbers.

use crate::base::sync::{Condvar, Mutex, thread};
use std::collections::HashMap;

/// So often a leader lets others run before it leads without some of those it met last. Model
/// checkers try every order of these, so there they are few.
const YIELDS_MAX: usize = if cfg!(any(loom, shuttle)) { 2 } else { 128 };

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Group<T, A> {
    state: Mutex<GroupState<T, A>>,
    led: Condvar,
}

#[derive(Debug)]
struct GroupState<T, A> {
    waiting: Vec<(u64, T)>,
    leading: bool,
    /// How many callers the last group and those that waited behind it were.
    company: usize,
    next_ticket: u64,
    answers: HashMap<u64, A>,
}

impl<T, A> Default for Group<T, A> {
    fn default() -> Self {
        Group {
            state: Mutex::new(GroupState {
                waiting: Vec::new(),
                leading: false,
                company: 0,
                next_ticket: 0,
                answers: HashMap::new(),
            }),
            led: Condvar::new(),
        }
    }
}

impl<T, A> Group<T, A> {
    /// Brings `item` and waits for its answer. If this caller becomes leader it calls `lead` with
    /// all items of the group, which gives their answers in the same order; `orphaned` answers for
    /// what has none, because `lead` panicked.
    pub(crate) fn join(
        &self,
        item: T,
        lead: impl Fn(&[T]) -> Vec<A>,
        orphaned: impl Fn() -> A,
    ) -> A {
        let mut state = self.state.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push((ticket, item));
        loop {
            if let Some(answer) = state.answers.remove(&ticket) {
                return answer;
            }
            if state.leading {
                self.led.wait(&mut state);
                continue;
            }
            state.leading = true;
            // Those of the last group were answered a moment ago, and mostly come with their next
            // item at once: without them groups of one and of all others would take turns.
            for _ in 0..YIELDS_MAX {
                if state.company <= state.waiting.len() {
                    break;
                }
                drop(state);
                thread::yield_now();
                state = self.state.lock();
            }
            let (tickets, items): (Vec<_>, Vec<_>) =
                std::mem::take(&mut state.waiting).into_iter().unzip();
            drop(state);
            let mut led = Lead {
                group: self,
                tickets,
                answers: Vec::new(),
                orphaned: &orphaned,
            };
            led.answers = lead(&items);
            drop(led);
            state = self.state.lock();
        }
    }
}

/// Answers every member and gives up the lead, also when the leader panics: followers must not
/// wait for ever.
struct Lead<'a, T, A, F: Fn() -> A> {
    group: &'a Group<T, A>,
    tickets: Vec<u64>,
    answers: Vec<A>,
    orphaned: &'a F,
}

impl<T, A, F: Fn() -> A> Drop for Lead<'_, T, A, F> {
    fn drop(&mut self) {
        let mut answers = self.answers.drain(..);
        let tickets = self.tickets.iter();
        let answered: Vec<(u64, A)> = tickets
            .map(|&ticket| (ticket, answers.next().unwrap_or_else(self.orphaned)))
            .collect();
        let mut state = self.group.state.lock();
        state.company = self.tickets.len() + state.waiting.len();
        state.answers.extend(answered);
        state.leading = false;
        self.group.led.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[test]
    fn every_caller_gets_its_own_answer() {
        let group = Group::<u64, u64>::default();
        let double = |items: &[u64]| items.iter().map(|n| n * 2).collect();
        thread::scope(|scope| {
            for n in 0..8 {
                let group = &group;
                scope.spawn(move || {
                    for i in 0..200 {
                        let item = n * 1000 + i;
                        assert_eq!(group.join(item, double, || 0), item * 2);
                    }
                });
            }
        });
    }

    /// Four callers that come back at once meet in nearly every group; one alone waits for nobody.
    #[test]
    fn callers_that_come_back_at_once_form_one_group() {
        let groups = |callers: u64, rounds: u64| {
            let group = Group::<u64, u64>::default();
            let led = AtomicU64::new(0);
            let lead = |items: &[u64]| {
                led.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_micros(200));
                items.to_vec()
            };
            thread::scope(|scope| {
                for n in 0..callers {
                    let (group, lead) = (&group, &lead);
                    scope.spawn(move || {
                        (0..rounds).for_each(|_| assert_eq!(group.join(n, lead, || 0), n))
                    });
                }
            });
            led.into_inner()
        };
        assert_eq!(groups(1, 100), 100);
        // Groups of one and of three in turn would be 200. A busy machine may keep callers away.
        let least = (0..10).map(|_| groups(4, 100)).min();
        assert!(
            least.is_some_and(|led| (100..160).contains(&led)),
            "{least:?} groups for 400 items of 4 callers"
        );
    }

    #[test]
    fn a_leader_that_panics_leaves_an_answer_and_no_lead() {
        let group = Group::<u64, Option<u64>>::default();
        let dies = std::panic::AssertUnwindSafe(|| {
            group.join(1, |_| panic!("the leader dies"), || None);
        });
        assert!(std::panic::catch_unwind(dies).is_err());
        let lives = |items: &[u64]| items.iter().copied().map(Some).collect();
        assert_eq!(group.join(2, lives, || None), Some(2));
    }
}

//! The hand-off of a commit group's lead.

use super::{fails, holds};
use crate::base::sync::{Arc, Condvar, Mutex, thread};
use crate::db::group::Group;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Lead<'a> = &'a dyn Fn(&[u64]) -> Vec<u64>;

trait Meeting: Default + Send + Sync + 'static {
    fn join(&self, item: u64, lead: Lead<'_>) -> u64;
}

impl Meeting for Group<u64, u64> {
    fn join(&self, item: u64, lead: Lead<'_>) -> u64 {
        Group::join(self, item, lead, || 0)
    }
}

/// Three callers at once: one leader at a time, each item led once, its answer for its caller.
fn three_callers<M: Meeting>() {
    let group = Arc::new(M::default());
    let leading = Arc::new(AtomicBool::new(false));
    let led = Arc::new(AtomicU64::new(0));
    let call = {
        let (group, leading, led) = (group, leading, Arc::clone(&led));
        move |item: u64| {
            let lead = |items: &[u64]| {
                assert!(!leading.swap(true, Ordering::Relaxed), "two leaders");
                led.fetch_add(items.len() as u64, Ordering::Relaxed);
                leading.store(false, Ordering::Relaxed);
                items.iter().map(|item| item * 10).collect()
            };
            assert_eq!(group.join(item, &lead), item * 10);
        }
    };
    let others: Vec<_> = [1, 2]
        .into_iter()
        .map(|item| {
            let call = call.clone();
            thread::spawn(move || call(item))
        })
        .collect();
    call(3);
    for other in others {
        other.join().expect("a caller returns");
    }
    assert_eq!(led.load(Ordering::Relaxed), 3, "each item is led once");
}

/// The group with a mistake in how the lead ends.
#[derive(Default)]
struct Twin<const MISTAKE: u8> {
    state: Mutex<TwinState>,
    led: Condvar,
}

#[derive(Default)]
struct TwinState {
    waiting: Vec<u64>,
    leading: bool,
    answers: HashMap<u64, u64>,
}

/// Wakes the others before the answers are in place and the lead is given up.
const WAKES_EARLY: u8 = 0;
/// Leaves what it leads among those that wait.
const LEADS_TWICE: u8 = 1;

impl<const MISTAKE: u8> Meeting for Twin<MISTAKE> {
    fn join(&self, item: u64, lead: Lead<'_>) -> u64 {
        let mut state = self.state.lock();
        state.waiting.push(item);
        loop {
            if let Some(answer) = state.answers.remove(&item) {
                return answer;
            }
            if state.leading {
                self.led.wait(&mut state);
                continue;
            }
            state.leading = true;
            let items = match MISTAKE {
                LEADS_TWICE => state.waiting.clone(),
                _ => std::mem::take(&mut state.waiting),
            };
            drop(state);
            let answers = lead(&items);
            if MISTAKE == WAKES_EARLY {
                self.led.notify_all();
            }
            state = self.state.lock();
            state.answers.extend(items.iter().copied().zip(answers));
            state.leading = false;
            if MISTAKE == LEADS_TWICE {
                self.led.notify_all();
            }
        }
    }
}

#[test]
fn models_group_commit_hands_off_its_lead() {
    holds(
        "group commit, three callers",
        three_callers::<Group<u64, u64>>,
    );
    fails(
        "a leader that wakes early",
        three_callers::<Twin<WAKES_EARLY>>,
    );
    fails("an item led twice", three_callers::<Twin<LEADS_TWICE>>);
}

/// Two callers, and the first leader panics: nobody waits for ever, and the group goes on.
fn a_leader_panics() {
    let group = Arc::new(Group::<u64, Option<u64>>::default());
    let panics = Arc::new(AtomicBool::new(true));
    let call = move |item: u64| {
        let lead = |items: &[u64]| {
            if panics.swap(false, Ordering::Relaxed) {
                // Without the hook: thousands of orders would print it.
                std::panic::resume_unwind(Box::new("a leader dies"));
            }
            items.iter().copied().map(Some).collect()
        };
        let joined = catch_unwind(AssertUnwindSafe(|| group.join(item, lead, || None)));
        if let Ok(Some(answer)) = joined {
            assert_eq!(answer, item);
        }
        assert_eq!(group.join(item + 10, lead, || None), Some(item + 10));
    };
    let other = call.clone();
    let other = thread::spawn(move || other(1));
    call(2);
    other.join().expect("the other returns");
}

#[test]
fn models_group_commit_outlives_its_leader() {
    holds("group commit, the leader panics", a_leader_panics);
}

//! Closing against the background, a failure told to all who wait, and the writers' pace.

use super::{fails, holds};
use crate::base::error::{Error, Result};
use crate::base::sync::{Arc, thread};
use crate::db::board::Board;
use crate::db::health::Health;
use crate::db::stall::Stall;
use crate::fs::Env;
use crate::tree::Pressure;
use loom::sync::atomic::{AtomicU64, Ordering};

/// What is wrong in a twin.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    /// The flag is raised, but nobody is told.
    ClosesSilently,
    /// The background is told to look before the work is there.
    NotifiesEarly,
    /// Whoever waits is woken before the cause is in place.
    WakesEarly,
    /// The pressure is read before the update begins.
    ReadsEarly,
}

/// A worker, a writer that asks for a flush and waits for it, and a close at any moment.
fn closed_at_any_moment(mistake: Mistake) {
    let board = Arc::new(Board::new(1, Env::os()));
    let health = Arc::new(Health::default());
    let (due, flushed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let worker = {
        let (board, due, flushed) = (Arc::clone(&board), Arc::clone(&due), Arc::clone(&flushed));
        thread::spawn(move || {
            board.work(|| {
                let found = due.swap(0, Ordering::AcqRel) == 1;
                if found {
                    flushed.store(1, Ordering::Release);
                    board.notify_done();
                }
                found
            });
        })
    };
    let waiter = {
        let (board, health) = (Arc::clone(&board), Arc::clone(&health));
        thread::spawn(move || -> Result<()> {
            if mistake == Mistake::NotifiesEarly {
                board.notify();
            }
            due.store(1, Ordering::Release);
            if mistake != Mistake::NotifiesEarly {
                board.notify();
            }
            board.wait_until(|| {
                health.check()?;
                Ok(flushed.load(Ordering::Acquire) == 1)
            })
        })
    };
    if mistake == Mistake::NotifiesEarly {
        // Nobody closes: the notice alone must be enough.
        assert!(waiter.join().expect("the waiter returns").is_ok());
        board.stop();
    } else {
        assert!(health.close());
        if mistake != Mistake::ClosesSilently {
            board.stop();
        }
        // Done or closed, but back.
        let _ = waiter.join().expect("the waiter returns");
    }
    worker.join().expect("the worker returns");
}

#[test]
fn models_closing_ends_the_background_and_all_who_wait() {
    holds("close against worker and waiter", || {
        closed_at_any_moment(Mistake::None)
    });
    for mistake in [Mistake::ClosesSilently, Mistake::NotifiesEarly] {
        fails(&format!("{mistake:?}"), move || {
            closed_at_any_moment(mistake)
        });
    }
}

fn pressure(immutables: u64) -> Pressure {
    Pressure {
        immutables: immutables as usize,
        immutables_max: 4,
        active_is_full: true,
        compaction: 0.0,
    }
}

/// A writer is held up and another waits for a flush; the background fails, and both hear of it.
fn the_background_fails(mistake: Mistake) {
    let (board, health) = (
        Arc::new(Board::new(1, Env::os())),
        Arc::new(Health::default()),
    );
    let stall = Arc::new(Stall::new(Env::os()));
    stall.begin_update().finish([("k", pressure(4))], 0.0);
    let held_up = {
        let (stall, health) = (Arc::clone(&stall), Arc::clone(&health));
        thread::spawn(move || stall.admit(1, &health))
    };
    let waiter = {
        let (board, health) = (Arc::clone(&board), Arc::clone(&health));
        thread::spawn(move || board.wait_until(|| health.check().map(|()| false)))
    };
    let wake = || {
        stall.wake();
        board.notify_done();
    };
    if mistake == Mistake::WakesEarly {
        wake();
    }
    health.fail(Error::corruption("the cause"));
    if mistake != Mistake::WakesEarly {
        wake();
    }
    for told in [held_up, waiter] {
        let error = told.join().expect("it returns").expect_err("it is told");
        assert!(error.to_string().contains("the cause"), "{error}");
    }
}

#[test]
fn models_a_failure_reaches_everybody_who_waits() {
    holds("poison broadcast", || the_background_fails(Mistake::None));
    fails("WakesEarly", || the_background_fails(Mistake::WakesEarly));
}

/// A rotation and a flush set the writers' pace at the same time; then a writer comes. The last
/// update has seen both, so the writer is not held up by memtables that are flushed.
fn two_updates_of_the_pace(mistake: Mistake) {
    let stall = Arc::new(Stall::new(Env::os()));
    let health = Health::default();
    let waiting = Arc::new(AtomicU64::new(3));
    let update = {
        let (stall, waiting) = (Arc::clone(&stall), Arc::clone(&waiting));
        move |change: i64| {
            waiting.fetch_add(change as u64, Ordering::AcqRel);
            let early = pressure(waiting.load(Ordering::Acquire));
            let begun = stall.begin_update();
            let now = match mistake {
                Mistake::ReadsEarly => early,
                _ => pressure(waiting.load(Ordering::Acquire)),
            };
            begun.finish([("k", now)], 0.0);
        }
    };
    let rotation = update.clone();
    let rotation = thread::spawn(move || rotation(1));
    update(-3);
    rotation.join().expect("the rotation returns");
    assert!(stall.why().is_none(), "one memtable waits: that is usual");
    assert!(stall.admit(1, &health).is_ok());
}

#[test]
fn models_the_writers_pace_is_never_set_from_an_old_reading() {
    holds("two updates of the stall", || {
        two_updates_of_the_pace(Mistake::None)
    });
    fails("ReadsEarly", || {
        two_updates_of_the_pace(Mistake::ReadsEarly)
    });
}

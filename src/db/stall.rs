//! Back-pressure: a curve, not a cliff.
//!
//! After each rotation, flush and compaction the background's debt is read from the trees. Below
//! one half nothing happens. Above, every written byte owes a delay that grows with the square of
//! the debt; delays are slept in pieces of at most 1 ms, outside every lock. At a debt of one (as
//! many memtables waiting as are allowed) writers wait for a flush to end.
//! After bLSM's continuous admission (Sears and Ramakrishnan, 2012).

use super::health::Health;
use crate::base::error::Result;
use crate::base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::base::sync::{Condvar, Mutex, MutexGuard};
use crate::fs::Env;
use crate::tree::Pressure;
use std::time::Duration;

/// Why writers are being slowed down; see `Db::why_stalled`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WhyStalled {
    /// The keyspace whose upkeep is behind.
    pub keyspace: String,
    /// What is behind.
    pub cause: StallCause,
    /// How far: from 0.5, where delays begin, to 1.0, where writers wait.
    pub debt: f64,
    /// The delay that each mebibyte written pays.
    pub delay_per_mebibyte: Duration,
    /// True when writers wait for a flush to end.
    pub waiting: bool,
}

/// What is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StallCause {
    /// Memtables wait to be flushed.
    Flush,
    /// Level 0 has too many runs, or levels are over their size.
    Compaction,
    /// All memtables together use up their half of the memory budget.
    Memory,
}

/// Drain rate assumed before any flush was measured, bytes a second.
const DRAIN_RATE_AT_START: f64 = 200e6;
/// Owed delay is slept once it is this long: shorter sleeps cost more than they take.
const SLEEP_LEAST: u64 = 100_000;
/// Longest single sleep.
const SLEEP_MOST: u64 = 1_000_000;

/// So long a deletion waits on a full disk for a memtable.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Stall {
    env: Env,
    /// Delay for each KiB written; 0 when nothing is behind.
    nanos_per_kib: AtomicU64,
    waiting: AtomicBool,
    owed_nanos: AtomicU64,
    stalls: AtomicU64,
    stalled_nanos: AtomicU64,
    why: Mutex<(Option<WhyStalled>, f64)>,
    drained: Condvar,
}

impl Stall {
    pub(crate) fn new(env: Env) -> Self {
        Stall {
            env,
            nanos_per_kib: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            owed_nanos: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            stalled_nanos: AtomicU64::new(0),
            why: Mutex::new((None, DRAIN_RATE_AT_START)),
            drained: Condvar::new(),
        }
    }

    /// Delays a write of `bytes` as the debt asks. Called before any lock is taken.
    #[inline]
    pub(crate) fn admit(&self, bytes: usize, health: &Health) -> Result<()> {
        // Relaxed: a stale value delays one write too little or too much.
        if self.nanos_per_kib.load(Ordering::Relaxed) == 0 && !self.waiting.load(Ordering::Relaxed)
        {
            return Ok(());
        }
        self.delay(bytes, health)
    }

    #[cold]
    fn delay(&self, bytes: usize, health: &Health) -> Result<()> {
        let start = self.env.now();
        let mut slept = false;
        let nanos = (bytes as u64).saturating_mul(self.nanos_per_kib.load(Ordering::Relaxed)) >> 10;
        let owed = self
            .owed_nanos
            .fetch_add(nanos, Ordering::Relaxed)
            .saturating_add(nanos);
        if owed >= SLEEP_LEAST {
            // Whoever brings the sum over the mark pays it for all.
            self.owed_nanos
                .fetch_sub(owed.min(SLEEP_MOST), Ordering::Relaxed);
            self.env.sleep(Duration::from_nanos(owed.min(SLEEP_MOST)));
            slept = true;
        }
        if self.waiting.load(Ordering::Acquire) {
            let mut why = self.why.lock();
            while self.waiting.load(Ordering::Acquire) {
                if let Err(refusal) = health.check() {
                    // On a full disk the reserve may be enough for the flush: a few tries of it.
                    let waited = self.env.elapsed(start);
                    if !health.lacks_only_space() || PATIENCE <= waited {
                        return Err(refusal);
                    }
                }
                self.env
                    .wait(&self.drained, &mut why, Duration::from_millis(50));
                slept = true;
            }
        }
        if slept {
            self.stalls.fetch_add(1, Ordering::Relaxed);
            let nanos = self.env.elapsed(start).as_nanos() as u64;
            self.stalled_nanos.fetch_add(nanos, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes in what a flush has drained.
    pub(crate) fn measured(&self, bytes: u64, took: Duration) {
        let seconds = took.as_secs_f64();
        if bytes > 1 << 20 && seconds > 0.0 {
            let mut why = self.why.lock();
            why.1 += 0.3 * (bytes as f64 / seconds - why.1);
        }
    }

    /// Begins an update. Pressures must be read *after* this: then whoever updates last has seen
    /// every change before it, and no reading from before a flush can undo what the flush set.
    pub(crate) fn begin_update(&self) -> StallUpdate<'_> {
        StallUpdate {
            stall: self,
            why: self.why.lock(),
        }
    }

    /// Lets every waiting writer look at the health again. Under the lock, so that none is between
    /// its look and its sleep.
    pub(crate) fn wake(&self) {
        let _why = self.why.lock();
        self.drained.notify_all();
    }

    pub(crate) fn why(&self) -> Option<WhyStalled> {
        self.why.lock().0.clone()
    }

    /// How many writes were held up, and for how long in all.
    pub(crate) fn totals(&self) -> (u64, Duration) {
        let nanos = self.stalled_nanos.load(Ordering::Relaxed);
        (
            self.stalls.load(Ordering::Relaxed),
            Duration::from_nanos(nanos),
        )
    }
}

/// The one update that is going on.
#[derive(Debug)]
pub(crate) struct StallUpdate<'a> {
    stall: &'a Stall,
    why: MutexGuard<'a, (Option<WhyStalled>, f64)>,
}

impl StallUpdate<'_> {
    /// Sets the delay from the worst of all trees' pressures and the share of the memtables'
    /// memory that is in use.
    pub(crate) fn finish(self, worst: Option<(&str, Pressure)>, memory_share: f64) {
        let StallUpdate { stall, mut why } = self;
        let mut debt = 0.0;
        let mut cause = StallCause::Flush;
        let mut name = "";
        if let Some((keyspace, pressure)) = worst {
            name = keyspace;
            (debt, cause) = debt_of(&pressure);
        }
        if memory_share > 1.0 && debt < 1.0 {
            (debt, cause) = (1.0, StallCause::Memory);
        }
        let waiting = debt >= 1.0 && cause != StallCause::Compaction;
        let over = ((debt - 0.5) / 0.5).clamp(0.0, 1.0);
        let nanos_per_byte = 1e9 / why.1.max(1e6) * over * over;
        stall
            .nanos_per_kib
            .store((nanos_per_byte * 1024.0) as u64, Ordering::Relaxed);
        if over == 0.0 {
            stall.owed_nanos.store(0, Ordering::Relaxed);
        }
        // Pairs with the Acquire in `delay`.
        stall.waiting.store(waiting, Ordering::Release);
        why.0 = (over > 0.0).then(|| WhyStalled {
            keyspace: name.to_owned(),
            cause,
            debt,
            delay_per_mebibyte: Duration::from_nanos((nanos_per_byte * 1048576.0) as u64),
            waiting,
        });
        if !waiting {
            stall.drained.notify_all();
        }
    }
}

/// The debt of one tree, and what causes it.
pub(crate) fn debt_of(pressure: &Pressure) -> (f64, StallCause) {
    // One waiting memtable is the normal state of a busy store: it counts as nothing.
    let most = pressure.immutables_max.saturating_sub(1).max(1);
    let flush = if pressure.immutables >= pressure.immutables_max {
        1.0
    } else {
        pressure.immutables.saturating_sub(1) as f64 / most as f64
    };
    if flush >= pressure.compaction {
        (flush, StallCause::Flush)
    } else {
        (pressure.compaction, StallCause::Compaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressure(immutables: usize, compaction: f64) -> Pressure {
        Pressure {
            immutables,
            immutables_max: 4,
            compaction,
        }
    }

    #[test]
    fn the_delay_grows_with_the_debt_and_ends_with_it() {
        let stall = Stall::new(Env::os());
        let mut before = 0;
        for debt in [0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0] {
            stall
                .begin_update()
                .finish(Some(("k", pressure(0, debt))), 0.0);
            let now = stall.nanos_per_kib.load(Ordering::Relaxed);
            assert!(before <= now, "{debt}");
            assert_eq!(now > 0, debt > 0.5, "{debt}");
            assert_eq!(stall.why().is_some(), debt > 0.5);
            before = now;
        }
        stall.begin_update().finish(None, 0.0);
        assert_eq!(stall.why(), None);
    }

    #[test]
    fn writers_wait_only_for_flushes_and_say_so() {
        let stall = Stall::new(Env::os());
        stall
            .begin_update()
            .finish(Some(("orders", pressure(4, 0.2))), 0.0);
        let why = stall.why().unwrap();
        assert_eq!(
            (why.keyspace.as_str(), why.cause),
            ("orders", StallCause::Flush)
        );
        assert!(why.waiting);
        stall
            .begin_update()
            .finish(Some(("orders", pressure(1, 3.0))), 0.0);
        let why = stall.why().unwrap();
        assert_eq!((why.cause, why.waiting), (StallCause::Compaction, false));
    }

    #[test]
    fn a_waiting_writer_sees_the_background_fail() {
        let stall = Stall::new(Env::os());
        let health = Health::default();
        stall
            .begin_update()
            .finish(Some(("k", pressure(4, 0.0))), 0.0);
        health.fail(crate::base::error::Error::corruption("gone"));
        assert!(stall.admit(1, &health).is_err());
    }
}

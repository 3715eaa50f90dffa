//! Back-pressure: a pace, not a cliff.
//!
//! After each rotation, flush and compaction the background's debt is read from the trees. Below
//! one half nothing happens. Above, every written byte is given a time that grows with the square of
//! the debt, and at a debt of one is what the background takes for a byte, as measured: a flush,
//! where memtables wait, so that one fills no faster than one is flushed, and nobody has to wait for
//! a whole flush; where runs and levels pile up, what compactions take for it from level 0 to the
//! last level. Who is ahead of the pace by a millisecond sleeps until its time has come, outside
//! every lock. Only when a memtable is full and as many wait as are allowed do writers wait for a
//! flush to end.
//! After bLSM's continuous admission (Sears and Ramakrishnan, 2012).

use super::health::Health;
use crate::base::error::Result;
use crate::base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::base::sync::{Condvar, Mutex, MutexGuard};
use crate::fs::{Env, Instant};
use crate::tree::Pressure;
use std::cmp::Ordering::Equal;
use std::time::Duration;

/// Why writers are being slowed down; see `Db::why_stalled`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WhyStalled {
    /// The keyspace whose upkeep is behind.
    pub keyspace: String,
    /// What is behind.
    pub cause: StallCause,
    /// How far: from 0.5, above which writers are held to a pace, to 1.0, where that is the pace of
    /// flushes or compactions; more when compactions are further behind.
    pub debt: f64,
    /// The time that each mebibyte written is given: writers that need less sleep for the rest.
    pub time_per_mebibyte: Duration,
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
    /// The memtables together use up the memory budget.
    Memory,
}

impl StallCause {
    /// A word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            StallCause::Flush => "flush",
            StallCause::Compaction => "compaction",
            StallCause::Memory => "memory",
        }
    }
}

/// What a flush takes for a byte before any was measured, in nanoseconds.
const FLUSH_NANOS_AT_START: f64 = 5.0;
/// A debt of compactions counts up to here: then writers have a fiftieth of the background's pace.
const DEBT_MOST: f64 = 4.0;
/// The background is assumed to do at least a megabyte a second.
const NANOS_MOST: f64 = 1000.0;
/// What is left of the weight of earlier compactions with each one of level 0: enough of them count
/// that a merge into the last level, which comes after several, is spread over all of these.
const COMPACTIONS_KEPT: f64 = 0.85;
/// So many bytes are given their time at once.
const PIECE_BYTES: u64 = 16 << 10;
/// Writers this far ahead of their pace sleep: rarely and well, rather than often and too long.
const AHEAD_LEAST: Duration = Duration::from_millis(1);
/// Longest single sleep, after which the pace is looked at again.
const SLEEP_MOST: Duration = Duration::from_millis(2);
/// A single write is given no more time than this, however large it is.
const TIME_MOST: Duration = Duration::from_secs(1);

/// So long a deletion waits on a full disk for a memtable.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Stall {
    env: Env,
    /// Time for each KiB written; 0 when nothing is behind.
    nanos_per_kib: AtomicU64,
    waiting: AtomicBool,
    /// Bytes admitted that were given no time yet.
    counted: AtomicU64,
    stalls: AtomicU64,
    stalled_nanos: AtomicU64,
    state: Mutex<State>,
    drained: Condvar,
}

#[derive(Debug)]
struct State {
    why: Option<WhyStalled>,
    /// When everything admitted so far has had its time.
    admitted_until: Instant,
    /// What a flush takes for a byte of its memtable, a moving average.
    flush_nanos: f64,
    /// Bytes of a memtable that is flushed, a moving average.
    flush_bytes: f64,
    compactions: Compactions,
}

/// What compactions take for a run of level 0, the way down to the last level included.
#[derive(Debug, Default)]
struct Compactions {
    /// Of those since the last one of level 0, which will be its share.
    nanos_since: f64,
    /// Sums in which earlier ones count less and less.
    nanos: f64,
    runs: f64,
}

impl State {
    /// What the background takes for a byte written, where that is behind.
    fn nanos_per_byte(&self, behind: StallCause) -> f64 {
        let Compactions { nanos, runs, .. } = self.compactions;
        let known = behind == StallCause::Compaction && runs > 0.0 && self.flush_bytes > 0.0;
        match known {
            true => (nanos / runs / self.flush_bytes).clamp(self.flush_nanos, NANOS_MOST),
            false => self.flush_nanos,
        }
    }
}

impl Stall {
    pub(crate) fn new(env: Env) -> Self {
        let admitted_until = env.now();
        Stall {
            env,
            nanos_per_kib: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            counted: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            stalled_nanos: AtomicU64::new(0),
            state: Mutex::new(State {
                why: None,
                admitted_until,
                flush_nanos: FLUSH_NANOS_AT_START,
                flush_bytes: 0.0,
                compactions: Compactions::default(),
            }),
            drained: Condvar::new(),
        }
    }

    /// Holds a write of `bytes` to the pace that the debt asks for. Called before any lock is taken.
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
        let until = self.pass(bytes);
        if until.is_none() && !self.waiting.load(Ordering::Relaxed) {
            return Ok(());
        }
        let start = self.env.now();
        let mut slept = false;
        while let Some(until) = until
            && self.nanos_per_kib.load(Ordering::Relaxed) != 0
            && health.check().is_ok()
        {
            let ahead = until.saturating_duration_since(self.env.now());
            if ahead < AHEAD_LEAST {
                break;
            }
            self.env.sleep(ahead.min(SLEEP_MOST));
            slept = true;
        }
        if self.waiting.load(Ordering::Acquire) {
            let mut state = self.state.lock();
            while self.waiting.load(Ordering::Acquire) {
                if let Err(refusal) = health.check() {
                    // On a full disk the reserve may be enough for the flush: a few tries of it.
                    let waited = self.env.elapsed(start);
                    if !health.lacks_only_space() || PATIENCE <= waited {
                        return Err(refusal);
                    }
                }
                self.env
                    .wait(&self.drained, &mut state, Duration::from_millis(50));
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

    /// Takes the time for `bytes` out of what is to come; when it will have passed. Small writes
    /// are counted together, because a look at the clock is a tenth of a put; `None` until it is due.
    fn pass(&self, bytes: usize) -> Option<Instant> {
        // Relaxed, as all of the pace: only the sum counts, and it loses nothing.
        let counted = self.counted.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if counted < PIECE_BYTES {
            return None;
        }
        let bytes = self.counted.swap(0, Ordering::Relaxed);
        let pace = self.nanos_per_kib.load(Ordering::Relaxed);
        let time = Duration::from_nanos(bytes.saturating_mul(pace) >> 10).min(TIME_MOST);
        let mut state = self.state.lock();
        // Writers that were slower keep no more of that than a sleep may be too long.
        let now = self.env.now();
        let least = now.checked_sub(SLEEP_MOST).unwrap_or(now);
        state.admitted_until = state.admitted_until.max(least) + time;
        Some(state.admitted_until)
    }

    /// Takes in how long the flush of a memtable of `bytes` took.
    pub(crate) fn flushed(&self, bytes: u64, took: Duration) {
        if bytes > 1 << 20 {
            let nanos = took.as_nanos() as f64 / bytes as f64;
            let mut state = self.state.lock();
            state.flush_nanos += 0.3 * (nanos.min(NANOS_MOST) - state.flush_nanos);
            let first = state.flush_bytes == 0.0;
            let weight = if first { 1.0 } else { 0.3 };
            state.flush_bytes += weight * (bytes as f64 - state.flush_bytes);
        }
    }

    /// Takes in that a compaction that was due took so long, where so many may run at once, and how
    /// many runs of level 0 it merged: none in a level below.
    pub(crate) fn compacted(&self, level0_runs: usize, took: Duration, at_once: usize) {
        let mut state = self.state.lock();
        let sums = &mut state.compactions;
        sums.nanos_since += took.as_nanos() as f64 / at_once as f64;
        if level0_runs > 0 {
            sums.nanos = sums.nanos * COMPACTIONS_KEPT + sums.nanos_since;
            sums.runs = sums.runs * COMPACTIONS_KEPT + level0_runs as f64;
            sums.nanos_since = 0.0;
        }
    }

    /// Begins an update. Pressures must be read *after* this: then whoever updates last has seen
    /// every change before it, and no reading from before a flush can undo what the flush set.
    pub(crate) fn begin_update(&self) -> StallUpdate<'_> {
        StallUpdate {
            stall: self,
            state: self.state.lock(),
        }
    }

    /// Lets every waiting writer look at the health again. Under the lock, so that none is between
    /// its look and its sleep.
    pub(crate) fn wake(&self) {
        let _state = self.state.lock();
        self.drained.notify_all();
    }

    pub(crate) fn why(&self) -> Option<WhyStalled> {
        self.state.lock().why.clone()
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
    state: MutexGuard<'a, State>,
}

impl StallUpdate<'_> {
    /// Sets the pace from the pressures of all trees and the share of the memtables' memory that is
    /// in use.
    pub(crate) fn finish<'n>(
        self,
        pressures: impl IntoIterator<Item = (&'n str, Pressure)>,
        memory_share: f64,
    ) {
        let StallUpdate { stall, mut state } = self;
        // Whoever has no room for another write comes first, however far behind others are.
        let order = |(_, p): &(_, Pressure)| (p.is_full(), debt_of(p).0);
        let worst = pressures
            .into_iter()
            .max_by(|a, b| order(a).partial_cmp(&order(b)).unwrap_or(Equal));
        let (name, pressure) = worst.unwrap_or_default();
        let (mut debt, mut cause) = debt_of(&pressure);
        let mut waiting = pressure.is_full();
        if memory_share > 1.0 && !waiting {
            (debt, cause, waiting) = (debt.max(1.0), StallCause::Memory, true);
        }
        let over = ((debt.min(DEBT_MOST) - 0.5) / 0.5).max(0.0);
        let nanos_per_byte = state.nanos_per_byte(cause) * over * over;
        stall
            .nanos_per_kib
            .store((nanos_per_byte * 1024.0) as u64, Ordering::Relaxed);
        // Pairs with the Acquire in `delay`.
        stall.waiting.store(waiting, Ordering::Release);
        state.why = (over > 0.0).then(|| WhyStalled {
            keyspace: name.to_owned(),
            cause,
            debt,
            time_per_mebibyte: Duration::from_nanos((nanos_per_byte * 1048576.0) as u64),
            waiting,
        });
        if !waiting {
            stall.drained.notify_all();
        }
    }
}

/// The debt of one tree, and what causes it.
fn debt_of(pressure: &Pressure) -> (f64, StallCause) {
    // One waiting memtable is the normal state of a busy store: no pace comes of it, unless one is
    // all that may wait.
    let flush = match (pressure.immutables, pressure.immutables_max) {
        (0, _) => 0.0,
        (waiting, most) if most <= waiting => 1.0,
        (waiting, most) => 0.5 + 0.5 * (waiting - 1) as f64 / (most - 1) as f64,
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
    use crate::fs::Fs;
    use crate::fs::sim::SimFs;
    use std::path::Path;

    fn pressure(immutables: usize, compaction: f64) -> Pressure {
        Pressure {
            immutables,
            immutables_max: 4,
            active_is_full: immutables >= 4,
            compaction,
        }
    }

    #[test]
    fn the_pace_falls_as_the_debt_grows_and_ends_with_it() {
        let stall = Stall::new(Env::os());
        let mut before = 0;
        for debt in [0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 3.0, 9.0] {
            stall.begin_update().finish([("k", pressure(0, debt))], 0.0);
            let now = stall.nanos_per_kib.load(Ordering::Relaxed);
            assert!(before <= now, "{debt}");
            assert_eq!(now > 0, debt > 0.5, "{debt}");
            assert_eq!(stall.why().is_some(), debt > 0.5);
            before = now;
        }
        stall.begin_update().finish([], 0.0);
        assert_eq!(stall.why(), None);
    }

    #[test]
    fn writers_wait_only_for_flushes_and_say_so() {
        let stall = Stall::new(Env::os());
        stall
            .begin_update()
            .finish([("orders", pressure(4, 0.2))], 0.0);
        let why = stall.why().unwrap();
        assert_eq!(
            (why.keyspace.as_str(), why.cause),
            ("orders", StallCause::Flush)
        );
        assert!(why.waiting);
        stall
            .begin_update()
            .finish([("orders", pressure(1, 3.0))], 0.0);
        let why = stall.why().unwrap();
        assert_eq!((why.cause, why.waiting), (StallCause::Compaction, false));
    }

    #[test]
    fn a_tree_without_room_is_not_hidden_by_one_that_is_further_behind() {
        let stall = Stall::new(Env::os());
        let behind = pressure(0, 3.0);
        stall.begin_update().finish(
            [
                ("behind", behind),
                ("full", pressure(4, 0.0)),
                ("b", behind),
            ],
            0.0,
        );
        let why = stall.why().unwrap();
        assert_eq!((why.keyspace.as_str(), why.waiting), ("full", true));
    }

    /// As many wait as may, and one that is not full takes more writes: nobody waits yet.
    #[test]
    fn writers_fill_the_last_memtable_at_the_pace_of_flushes() {
        let sim = SimFs::new(1);
        let env = Fs::sim(&sim, Path::new("/db")).env();
        let (stall, health) = (Stall::new(env.clone()), Health::default());
        stall.flushed(64 << 20, Duration::from_millis(640));
        let last = Pressure {
            active_is_full: false,
            ..pressure(4, 0.0)
        };
        stall.begin_update().finish([("k", last)], 0.0);
        let start = env.now();
        for _ in 0..640 {
            stall.admit(100 << 10, &health).unwrap();
        }
        let why = stall.why().unwrap();
        assert!(!why.waiting);
        // One large batch is held to it as many small ones are.
        stall.admit(64_000 << 10, &health).unwrap();
        let (given, taken) = (
            why.time_per_mebibyte * (2 * 64_000) / 1024,
            env.elapsed(start),
        );
        let wrong = given.abs_diff(taken);
        assert!(wrong < Duration::from_millis(5), "{given:?}, {taken:?}");
        assert!(given > Duration::from_millis(600), "5 to 10 ns a byte");
    }

    /// Where compactions take ten times as long as flushes, their pace is what a debt of one asks for.
    #[test]
    fn writers_are_held_to_the_pace_of_what_is_behind() {
        let stall = Stall::new(Env::os());
        let pace = |immutables, compaction| {
            let pressures = [("k", pressure(immutables, compaction))];
            stall.begin_update().finish(pressures, 0.0);
            (stall.why().unwrap().time_per_mebibyte.as_secs_f64() * 1e3).round()
        };
        for _ in 0..40 {
            stall.flushed(64 << 20, Duration::from_millis(640));
        }
        assert_eq!(
            (pace(4, 0.0), pace(0, 1.0)),
            (10.0, 10.0),
            "no compaction yet"
        );
        for _ in 0..40 {
            // Four runs to level 1 in 5.6 s; what that costs further down is two times 10 s.
            stall.compacted(4, Duration::from_millis(5_600), 1);
            stall.compacted(0, Duration::from_secs(10), 1);
            stall.compacted(0, Duration::from_secs(20), 2);
        }
        assert_eq!((pace(4, 0.0), pace(0, 1.0)), (10.0, 100.0));
        // Runs that are only moved cost nothing: then it is the pace of flushes again.
        for _ in 0..40 {
            stall.compacted(4, Duration::ZERO, 1);
        }
        assert_eq!(pace(0, 1.0), 10.0);
    }

    #[test]
    fn a_waiting_writer_sees_the_background_fail() {
        let stall = Stall::new(Env::os());
        let health = Health::default();
        stall.begin_update().finish([("k", pressure(4, 0.0))], 0.0);
        health.fail(crate::base::error::Error::corruption("gone"));
        assert!(stall.admit(1, &health).is_err());
    }
}

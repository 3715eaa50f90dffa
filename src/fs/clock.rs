//! The database's clock: what expiry is measured by.
//!
//! It begins at open with the wall clock, or with its *mark* where that is later, and goes on with the
//! monotonic clock. The mark is a time that the clock had before, which the manifest keeps. So it
//! never goes back: a wall clock that is set while the database is open changes nothing, and one
//! that was set back before an open brings no value back that a reader has found expired.
//!
//! Nobody asks what time it is while nothing expires: `reading` is `None` then.
//! Threads: any. Not here: who writes the mark (`version`), what an expired entry is (`read`).

use super::env::{Env, Instant};
use crate::base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::base::types::Time;
use std::time::Duration;

/// A mark is owed no sooner than so long after the last one: each costs a sync of the manifest.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// See the module's text.
#[derive(Debug)]
pub struct Clock {
    env: Env,
    opened: Instant,
    start: Time,
    /// Something that expires was written, some time.
    is_used: AtomicBool,
    /// The latest expiry that a reader was told of.
    told: AtomicU64,
    mark: AtomicU64,
}

impl Default for Clock {
    /// The real clock, of a database in which nothing expires.
    fn default() -> Self {
        Clock::new(Env::os(), None)
    }
}

impl Clock {
    /// Begins now, and not before `mark`; without one nothing has expired yet.
    pub fn new(env: Env, mark: Option<Time>) -> Clock {
        let mark_or_none = mark.unwrap_or_default();
        Clock {
            opened: env.now(),
            start: mark_or_none.max(Time(env.wall_ms())),
            is_used: AtomicBool::new(mark.is_some()),
            told: AtomicU64::new(0),
            mark: AtomicU64::new(mark_or_none.0),
            env,
        }
    }

    /// What time it is.
    pub fn now(&self) -> Time {
        let since = self.env.elapsed(self.opened).as_millis();
        Time(self.start.0.saturating_add(since as u64))
    }

    /// What time it is, once something may expire.
    #[inline]
    pub fn reading(&self) -> Option<Time> {
        // Relaxed: who sees an entry that expires was told of it by the number that made it visible.
        match self.is_used.load(Ordering::Relaxed) {
            false => None,
            true => Some(self.now()),
        }
    }

    /// From now on something may expire. Called before it is visible.
    pub fn begin_use(&self) {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// True when what expires at `expiry` has expired at `time`. The reader who asks will act on it,
    /// so a later life of the database must not deny it.
    #[inline]
    pub fn has_expired(&self, expiry: Time, time: Time) -> bool {
        let has_expired = expiry <= time;
        if has_expired && self.told.load(Ordering::Relaxed) < expiry.0 {
            // Relaxed: a wish for a mark, which `owed` may find a moment later.
            self.told.fetch_max(expiry.0, Ordering::Relaxed);
        }
        has_expired
    }

    /// True when a mark should be written: a reader was told of an expiry behind the last one.
    pub fn owes_mark(&self) -> bool {
        let mark = self.mark.load(Ordering::Relaxed);
        let every = MARK_EVERY.as_millis() as u64;
        mark < self.told.load(Ordering::Relaxed) && mark.saturating_add(every) <= self.now().0
    }

    /// A mark is durable.
    pub fn marked(&self, mark: Time) {
        self.mark.fetch_max(mark.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Fs;
    use crate::fs::sim::SimFs;
    use std::path::Path;
    use std::time::SystemTime;

    fn machine() -> (SimFs, Env) {
        let sim = SimFs::new(7);
        let env = Fs::sim(&sim, Path::new("/db")).env();
        (sim, env)
    }

    #[test]
    fn it_goes_on_whatever_becomes_of_the_wall_clock() {
        let (sim, env) = machine();
        let clock = Clock::new(env.clone(), None);
        let start = clock.now();
        assert_eq!(start, Time(env.wall_ms()));
        sim.set_wall(SystemTime::UNIX_EPOCH);
        sim.advance(Duration::from_millis(1500));
        assert_eq!(clock.now(), Time(start.0 + 1500));
    }

    #[test]
    fn it_begins_with_the_later_of_wall_clock_and_mark() {
        let (sim, env) = machine();
        let now = env.wall_ms();
        let at = |mark| Clock::new(env.clone(), Some(Time(mark))).now();
        assert_eq!((at(now - 5), at(now + 5)), (Time(now), Time(now + 5)));
        sim.set_wall(SystemTime::UNIX_EPOCH);
        assert_eq!(at(now), Time(now));
    }

    #[test]
    fn nobody_asks_for_the_time_before_something_expires() {
        let clock = Clock::new(machine().1, None);
        assert_eq!(clock.reading(), None);
        clock.begin_use();
        assert_eq!(clock.reading(), Some(clock.now()));
        let marked = Clock::new(machine().1, Some(Time(1)));
        assert!(marked.reading().is_some(), "it was used before");
    }

    #[test]
    fn a_mark_is_owed_for_what_a_reader_was_told_and_once_a_second() {
        let (sim, env) = machine();
        let clock = Clock::new(env, None);
        let now = clock.now();
        assert!(!clock.has_expired(Time(now.0 + 1), now) && !clock.owes_mark());
        assert!(clock.has_expired(now, now) && clock.owes_mark());
        clock.marked(now);
        assert!(!clock.owes_mark());
        sim.advance(Duration::from_millis(999));
        assert!(clock.has_expired(Time(now.0 + 9), clock.now()));
        assert!(!clock.owes_mark(), "too soon");
        sim.advance(Duration::from_millis(1));
        assert!(clock.owes_mark());
    }
}

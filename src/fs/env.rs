//! The clock beside the disk: what time it is, and waiting.
//!
//! The real clock is the standard library's, called directly. A simulated machine has a clock of
//! its own that stands still: tests move it with `SimFs::advance`, and a sleep, or a wait that
//! nobody ended, moves it by its length. So two runs of one seed see the same times. (Only a disk that was
//! slowed down, `SimFs::slow_down`, runs in real time.)
//!
//! The only file of the crate, beside the simulator's clock, that asks `std::time` for the time.
//! The wall clock may jump by years either way; nothing but expiry and reports may depend on it.
//! Not here: random numbers (`Fs::random`) and starting threads (`base::sync`).
//!
//! Threads: everything may be called from any thread.

#[cfg(any(test, feature = "sim"))]
use super::sim::SimFs;
use crate::base::sync::{Condvar, MutexGuard, thread};
use std::time::Duration;
pub use std::time::{Instant, SystemTime};

/// The clock of the real machine or of a simulated one. Clone is cheap.
#[derive(Clone, Debug, Default)]
pub struct Env(Clock);

#[derive(Clone, Debug, Default)]
enum Clock {
    #[default]
    Os,
    #[cfg(any(test, feature = "sim"))]
    Sim(SimFs),
}

impl Env {
    /// The real clock.
    pub fn os() -> Env {
        Env::default()
    }

    #[cfg(any(test, feature = "sim"))]
    pub(super) fn sim(sim: &SimFs) -> Env {
        Env(Clock::Sim(sim.clone()))
    }

    /// The monotonic clock: never goes back.
    #[inline]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Clock::Os => Instant::now(),
            #[cfg(any(test, feature = "sim"))]
            Clock::Sim(sim) => sim.now(),
        }
    }

    /// How long ago that was.
    #[inline]
    pub fn elapsed(&self, since: Instant) -> Duration {
        self.now().saturating_duration_since(since)
    }

    /// The wall clock: may jump.
    #[inline]
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            Clock::Os => SystemTime::now(),
            #[cfg(any(test, feature = "sim"))]
            Clock::Sim(sim) => sim.wall(),
        }
    }

    /// The wall clock in milliseconds since 1970: for reports.
    pub fn wall_ms(&self) -> u64 {
        let since_1970 = self.wall().duration_since(SystemTime::UNIX_EPOCH);
        since_1970.map_or(0, |since| since.as_millis() as u64)
    }

    /// Waits so long on the real machine; takes no time to speak of on a simulated one.
    pub fn sleep(&self, length: Duration) {
        match &self.0 {
            Clock::Os => thread::sleep(length),
            #[cfg(any(test, feature = "sim"))]
            Clock::Sim(sim) if sim.is_in_real_time() => thread::sleep(length),
            #[cfg(any(test, feature = "sim"))]
            Clock::Sim(sim) => {
                sim.advance(length);
                thread::yield_now(); // whoever is waited for may be on another thread
            }
        }
    }

    /// Waits until the condition variable is notified, or at most so long. Real waiting on a
    /// simulated machine too, because the one who notifies is a real thread.
    pub fn wait<T>(&self, condition: &Condvar, guard: &mut MutexGuard<'_, T>, most: Duration) {
        match &self.0 {
            Clock::Os => {
                condition.wait_for(guard, most);
            }
            #[cfg(any(test, feature = "sim"))]
            Clock::Sim(sim) => {
                if condition.wait_for(guard, most).timed_out() && !sim.is_in_real_time() {
                    sim.advance(most);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sync::Mutex;
    use crate::fs::Fs;
    use std::path::Path;

    #[test]
    fn a_simulated_clock_stands_still_until_it_is_moved() {
        let sim = SimFs::new(7);
        let env = Fs::sim(&sim, Path::new("/db")).env();
        let (start, wall) = (env.now(), env.wall());
        assert_eq!((env.now(), env.wall()), (start, wall));
        sim.advance(Duration::from_secs(3));
        env.sleep(Duration::from_secs(4));
        assert_eq!(env.elapsed(start), Duration::from_secs(7));
        assert_eq!(env.wall(), wall + Duration::from_secs(7));
        sim.set_wall(SystemTime::UNIX_EPOCH);
        assert_eq!(env.wall(), SystemTime::UNIX_EPOCH);
        assert_eq!(env.elapsed(start), Duration::from_secs(7), "does not jump");
        let next = Fs::sim(&sim.kill(), Path::new("/db")).env();
        assert_eq!(
            (next.now(), next.wall()),
            (env.now(), env.wall()),
            "goes on"
        );
        let other = Fs::sim(&SimFs::new(7), Path::new("/db")).env();
        assert_eq!(
            (other.now(), other.wall()),
            (start, wall),
            "of the same seed"
        );
    }

    #[test]
    fn a_wait_that_nobody_ends_takes_its_time() {
        let env = Env::sim(&SimFs::new(7));
        let start = env.now();
        let (mutex, condition) = (Mutex::new(()), Condvar::new());
        env.wait(&condition, &mut mutex.lock(), Duration::from_millis(1));
        assert_eq!(env.elapsed(start), Duration::from_millis(1));
    }

    #[test]
    fn the_real_clock_goes_on_by_itself() {
        let env = Env::os();
        let start = env.now();
        env.sleep(Duration::from_millis(1));
        assert!(env.elapsed(start) >= Duration::from_millis(1));
        assert!(env.wall() > SystemTime::UNIX_EPOCH);
    }
}

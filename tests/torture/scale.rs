//! How much of a suite is run, and the line it prints at its end.

use std::time::Instant;

/// How much is run; `TORTURE` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Seconds for each suite: part of the ordinary tests.
    Smoke,
    /// What continuous integration can afford.
    Ci,
    /// The counts that DESIGN.md promises, by hand or at night.
    Full,
}

impl Scale {
    /// The scale that the environment asks for.
    pub(crate) fn now() -> Scale {
        match std::env::var("TORTURE").as_deref() {
            Err(_) | Ok("" | "smoke") => Scale::Smoke,
            Ok("ci") => Scale::Ci,
            Ok("full") => Scale::Full,
            Ok(other) => panic!("TORTURE={other}: say smoke, ci or full"),
        }
    }

    /// One value for each scale.
    pub(crate) fn pick<T>(self, smoke: T, ci: T, full: T) -> T {
        match self {
            Scale::Smoke => smoke,
            Scale::Ci => ci,
            Scale::Full => full,
        }
    }
}

/// The one case that is to be run instead of all, if there is one.
pub(crate) fn only() -> Option<String> {
    std::env::var("TORTURE_CASE").ok()
}

/// The count of one suite. [`Tally::finish`] prints it and fails below the floor.
#[derive(Debug)]
pub(crate) struct Tally {
    suite: &'static str,
    unit: &'static str,
    floor: u64,
    count: u64,
    started: Instant,
}

impl Tally {
    /// Starts the clock. `floors` are for smoke, CI and full.
    pub(crate) fn new(suite: &'static str, unit: &'static str, floors: [u64; 3]) -> Tally {
        let [smoke, ci, full] = floors;
        Tally {
            suite,
            unit,
            floor: Scale::now().pick(smoke, ci, full),
            count: 0,
            started: Instant::now(),
        }
    }

    /// So many more were tried.
    pub(crate) fn add(&mut self, n: u64) {
        self.count += n;
    }

    /// How many were tried so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Prints the suite's line; `how` is the command that runs this suite alone.
    ///
    /// # Panics
    /// Below the floor, unless a single case was asked for.
    pub(crate) fn finish(self, how: &str) {
        println!(
            "suite | {} | {} {} | at least {} | {} s | {how}",
            self.suite,
            self.count,
            self.unit,
            self.floor,
            self.started.elapsed().as_secs()
        );
        assert!(
            only().is_some() || self.floor <= self.count,
            "{}: {} {} are too few",
            self.suite,
            self.count,
            self.unit
        );
    }
}

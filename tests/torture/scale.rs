//! How much of a suite is run, and the line it prints at its end.

use std::ops::Range;
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

/// The share of a suite that is run: `TORTURE_PART=3/20` is the fourth of twenty; all, when unset.
/// For the full scale: the others are too small to be shared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    index: u64,
    of: u64,
}

impl Part {
    /// The share that the environment asks for.
    pub(crate) fn now() -> Part {
        let Ok(text) = std::env::var("TORTURE_PART") else {
            return Part { index: 0, of: 1 };
        };
        let numbers = text.split_once('/').map(|(i, of)| (i.parse(), of.parse()));
        match numbers {
            Some((Ok(index), Ok(of))) if index < of => Part { index, of },
            _ => panic!("TORTURE_PART={text}: say which of how many, as 0/20 to 19/20"),
        }
    }

    /// This share of `0..total`. The shares together are all of it, and none overlap.
    pub(crate) fn range(self, total: u64) -> Range<u64> {
        let bound = |i: u64| (u128::from(total) * u128::from(i) / u128::from(self.of)) as u64;
        bound(self.index)..bound(self.index + 1)
    }

    /// Those of `0..total` that are this share's, where neighbours are alike: one in so many.
    pub(crate) fn stride(self, total: u64) -> impl Iterator<Item = u64> {
        (self.index..total).step_by(self.of as usize)
    }

    /// How many of `total` are this share's; at least its fair part.
    pub(crate) fn of(self, total: u64) -> u64 {
        total.div_ceil(self.of)
    }

    /// True for the first share, and for all of it: what is done once is done here.
    pub(crate) fn is_first(self) -> bool {
        self.index == 0
    }

    /// The first of its seeds, where a suite takes one after another until it has enough.
    pub(crate) fn first_seed(self) -> u64 {
        1 + self.index * 1_000_000
    }
}

/// The one case that is to be run instead of all, if there is one.
pub(crate) fn only() -> Option<String> {
    std::env::var("TORTURE_CASE").ok()
}

/// How often that case is run, for suites whose seed does not say how threads meet.
pub(crate) fn repeats() -> u64 {
    let asked = std::env::var("TORTURE_REPEAT").map_or(Ok(1), |n| n.parse());
    asked.expect("TORTURE_REPEAT is a number")
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
            floor: Part::now().of(Scale::now().pick(smoke, ci, full)),
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

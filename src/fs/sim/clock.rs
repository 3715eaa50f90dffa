//! The clock of a simulated machine: two numbers that only tests and waits change; and the pace of a disk
//! that was slowed down, which is in real time.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Wall time when a machine of seed 0 is made: in November 2023. Others start some days later.
const WALL_AT_START: Duration = Duration::from_secs(1_700_000_000);

/// Survives the machine: its successors go on from there.
#[derive(Clone, Copy, Debug)]
pub(super) struct SimClock {
    since_start: Duration,
    wall: SystemTime,
}

impl SimClock {
    pub(super) fn new(seed: u64) -> SimClock {
        SimClock {
            since_start: Duration::ZERO,
            wall: SystemTime::UNIX_EPOCH + WALL_AT_START + Duration::from_secs(seed % (1 << 20)),
        }
    }

    pub(super) fn now(&self) -> Instant {
        // All machines of a process start at the same instant, whichever that is.
        static START: OnceLock<Instant> = OnceLock::new();
        *START.get_or_init(Instant::now) + self.since_start
    }

    pub(super) fn wall(&self) -> SystemTime {
        self.wall
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.since_start += by;
        self.wall += by;
    }

    pub(super) fn set_wall(&mut self, wall: SystemTime) {
        self.wall = wall;
    }
}

impl Default for SimClock {
    fn default() -> SimClock {
        SimClock::new(0)
    }
}

/// How fast bytes are written, in real time: one after the other, as a disk does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    free_at: Instant,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Pace {
        Pace {
            bytes_per_second,
            free_at: Instant::now(),
        }
    }

    /// Takes so many bytes; how long that takes from now on.
    pub(super) fn take(&mut self, bytes: u64) -> Duration {
        let share = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let now = Instant::now();
        self.free_at = self.free_at.max(now) + share;
        self.free_at - now
    }
}

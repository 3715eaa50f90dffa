//! A fill of ten write buffers and more, with the time of every single put.
//!
//! Rows: the mean, percentiles and the longest put, and the mean within the slowest second (or
//! tenth of the run, if that is shorter), which is what a stall looks like to whoever waits.

use super::{ENTRY_BYTES, Figure, Scale, Volume};
use crate::data::{Order, value};
use crate::engine::{Engine, Result};
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

pub const NAME: &str = "sustained fill";
const BUFFERS: u64 = 10;

/// Puts of one run.
pub fn puts(scale: &Scale) -> u64 {
    3 * scale.keys
}

/// The write buffer that these puts fill ten times: 64 MiB from 1.9 million keys on.
pub fn buffer_bytes(scale: &Scale) -> u64 {
    (puts(scale) * ENTRY_BYTES / BUFFERS).clamp(64 << 10, 64 << 20)
}

/// Times of single puts in nanoseconds, and of every 1,000th since the start.
struct Course {
    latencies: Histogram<u64>,
    marks: Vec<Duration>,
    elapsed: Duration,
}

const MARK_EVERY: u64 = 1_000;

/// Timed only; the caller checks a sample.
pub fn run<E: Engine>(engine: &E, scale: &Scale) -> Result<Vec<Figure>> {
    let puts = puts(scale);
    let course = fill(engine, puts)?;
    let latency = |row: &str, quantile: f64| {
        let nanos = course.latencies.value_at_quantile(quantile);
        Figure::new(&format!("{NAME}: {row}"), 1, Duration::from_nanos(nanos))
    };
    let longest = Duration::from_nanos(course.latencies.max());
    let (operations, slowest) = course.slowest_second();
    Ok(vec![
        Figure::new(NAME, puts, course.elapsed).with_volume(Volume::once(puts * ENTRY_BYTES)),
        latency("p50", 0.5),
        latency("p99", 0.99),
        latency("p99.9", 0.999),
        Figure::new(&format!("{NAME}: longest"), 1, longest),
        Figure::new(&format!("{NAME}: slowest second"), operations, slowest),
    ])
}

fn fill<E: Engine>(engine: &E, puts: u64) -> Result<Course> {
    // One nanosecond to a minute in three digits; longer ones count as a minute.
    let mut latencies = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    let mut marks = Vec::with_capacity((puts / MARK_EVERY) as usize + 1);
    marks.push(Duration::ZERO);
    let start = Instant::now();
    let mut before = start;
    for i in 0..puts {
        engine.put(&Order::Scrambled.key(i), &value(i, 0), false)?;
        // The end of one put is the start of the next: one look at the clock for each.
        let now = Instant::now();
        latencies.saturating_record((now - before).as_nanos() as u64);
        before = now;
        if (i + 1).is_multiple_of(MARK_EVERY) {
            marks.push(now - start);
        }
    }
    Ok(Course {
        latencies,
        marks,
        elapsed: before - start,
    })
}

impl Course {
    /// The fewest puts in a window of a second, in steps of `MARK_EVERY`, and the time they took.
    fn slowest_second(&self) -> (u64, Duration) {
        let window = Duration::from_secs(1).min(self.elapsed / 10);
        let mut worst = (self.latencies.len().max(1), self.elapsed);
        let mut from = 0;
        for (to, mark) in self.marks.iter().enumerate() {
            // The shortest stretch up to `mark` that is no shorter than the window.
            while from < to && self.marks[from + 1] + window <= *mark {
                from += 1;
            }
            let took = *mark - self.marks[from];
            let puts = (to - from) as u64 * MARK_EVERY;
            if window <= took && slower((puts, took), worst) {
                worst = (puts, took);
            }
        }
        worst
    }
}

fn slower((puts, took): (u64, Duration), than: (u64, Duration)) -> bool {
    took.as_nanos() * u128::from(than.0) > than.1.as_nanos() * u128::from(puts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_second_is_where_the_stall_is() {
        // 100 marks of 100 ms each, but for one that took 2 s.
        let mut latencies = Histogram::new(3).unwrap();
        let mut now = Duration::ZERO;
        let mut marks = Vec::new();
        for mark in 0..100 {
            now += Duration::from_millis(if mark == 50 { 2_000 } else { 100 });
            marks.push(now);
            latencies.record_n(1, MARK_EVERY).unwrap();
        }
        let course = Course {
            latencies,
            marks,
            elapsed: now,
        };
        let found = course.slowest_second();
        assert_eq!(found, (MARK_EVERY, Duration::from_secs(2)));
    }

    #[test]
    fn ten_buffers_are_filled_at_every_scale() {
        for keys in [20_000, 200_000, 2_000_000, 4_000_000] {
            let scale = Scale {
                keys,
                synced_writes: 1,
                memory_mib: None,
            };
            let buffers = puts(&scale) * ENTRY_BYTES / buffer_bytes(&scale);
            assert!(10 <= buffers, "{keys}: {buffers}");
        }
    }
}

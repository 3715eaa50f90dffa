//! Admission on a slow disk: writers are held to its pace, and never to its cliffs.

use crate::support::ROOT;
use alluvium::fs::sim::SimFs;
use alluvium::{CompactionStyle, Db, KeyspaceOptions, Options, StallCause};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A disk that takes 24 MB a second.
const BYTES_PER_SECOND: u64 = 24 << 20;
const VALUE: [u8; 1000] = [7; 1000];

fn open(style: CompactionStyle) -> (SimFs, Db) {
    let sim = SimFs::new(1);
    sim.slow_down(BYTES_PER_SECOND);
    let keyspace = KeyspaceOptions::new()
        .write_buffer_bytes(2 << 20)
        .table_bytes(1 << 20)
        .level0_runs(2)
        .compaction(style);
    let options = Options::new()
        .memory_bytes(64 << 20)
        .log_segment_bytes(8 << 20)
        .default_keyspace(keyspace);
    let db = options.open_sim(&sim, ROOT).unwrap();
    (sim, db)
}

/// What a stretch of writing was like.
#[derive(Debug)]
struct Course {
    /// Writes in each quarter of a second.
    quarters: Vec<u32>,
    longest: Duration,
    /// 999 of 1,000 writes took no longer.
    p999: Duration,
    /// Time in writes that took a fortieth of a second and more.
    in_cliffs: Duration,
}

/// Writes as fast as it may for so long.
fn write_for(db: &Db, length: Duration) -> Course {
    let (start, mut times, mut n) = (Instant::now(), Vec::new(), 0u32);
    let mut quarters = vec![0; (length.as_millis() / 250) as usize];
    loop {
        let began = start.elapsed();
        if length <= began {
            break;
        }
        // Scattered, so that compactions have something to merge.
        let key = n.wrapping_mul(0x9e37_79b1) % 30_000;
        db.put(key.to_be_bytes(), VALUE).unwrap();
        times.push(start.elapsed() - began);
        let last = quarters.len() - 1;
        quarters[((start.elapsed().as_millis() / 250) as usize).min(last)] += 1;
        n += 1;
    }
    let is_cliff = |time: &&Duration| Duration::from_millis(25) <= **time;
    let in_cliffs = times.iter().filter(is_cliff).sum();
    times.sort_unstable();
    Course {
        quarters,
        longest: times[times.len() - 1],
        p999: times[times.len() * 999 / 1000],
        in_cliffs,
    }
}

/// What a slow disk must not do to writers, whatever is noisy beside this test.
fn check(course: &Course, db: &Db, style: CompactionStyle) {
    let what = format!("{style:?}: {course:?}");
    println!("{what}");
    assert!(course.longest < Duration::from_millis(500), "{what}");
    assert!(course.p999 < Duration::from_millis(60), "{what}");
    // Without a pace for flushes it is a third of the time and up to all of it.
    let quarter = Duration::from_millis(250) * course.quarters.len() as u32 / 4;
    assert!(course.in_cliffs < quarter, "{what}");
    let mean = course.quarters.iter().sum::<u32>() / course.quarters.len() as u32;
    let halves = course
        .quarters
        .chunks(2)
        .map(|pair| pair.iter().sum::<u32>());
    let slowest = halves.min().unwrap();
    assert!(mean / 12 < slowest, "a half second of {slowest}; {what}");
    // They were held up, so that the background is not left behind.
    let stats = db.stats();
    assert!(Duration::from_millis(200) < stats.stall.total, "{what}");
    let runs = stats.keyspaces[0].levels[0].runs.len();
    assert!(runs < 16, "{runs} runs; {what}");
}

#[test]
fn on_a_slow_disk_writers_are_held_to_its_pace_and_meet_no_cliff() {
    for style in CompactionStyle::ALL {
        let (_sim, db) = open(style);
        write_for(&db, Duration::from_millis(1500));
        let course = write_for(&db, Duration::from_secs(3));
        check(&course, &db, style);
        db.close().unwrap();
    }
}

#[test]
fn beside_reads_scans_and_other_keyspaces_it_is_as_smooth() {
    let (_sim, db) = open(CompactionStyle::Lazy);
    let other = db.keyspace("other", KeyspaceOptions::new().write_buffer_bytes(1 << 20));
    let (other, has_ended) = (other.unwrap(), AtomicBool::new(false));
    let mut whys = Vec::new();
    let course = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0u32;
            while !has_ended.load(Ordering::Relaxed) {
                n = n.wrapping_add(0x9e37_79b1);
                db.get((n % 30_000).to_be_bytes()).unwrap();
                if n.is_multiple_of(64) {
                    let from = (n % 30_000).to_be_bytes();
                    assert!(db.range(from..).take(50).all(|entry| entry.is_ok()));
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        scope.spawn(|| {
            let mut n = 0u32;
            while !has_ended.load(Ordering::Relaxed) {
                n += 1;
                other.put((n % 5_000).to_be_bytes(), VALUE).unwrap();
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        let watcher = scope.spawn(|| {
            let mut whys = Vec::new();
            while !has_ended.load(Ordering::Relaxed) {
                whys.extend(db.why_stalled());
                std::thread::sleep(Duration::from_millis(5));
            }
            whys
        });
        write_for(&db, Duration::from_millis(1500));
        let course = write_for(&db, Duration::from_secs(4));
        has_ended.store(true, Ordering::Relaxed);
        whys = watcher.join().unwrap();
        course
    });
    check(&course, &db, CompactionStyle::Lazy);
    // It says why, while it is so.
    assert!(!whys.is_empty());
    for why in &whys {
        assert!(["default", "other"].contains(&why.keyspace.as_str()));
        assert!(why.cause != StallCause::Memory, "there is enough of it");
        assert!(0.5 <= why.debt || why.waiting, "{why:?}");
    }
    assert!(whys.iter().any(|why| !why.time_per_mebibyte.is_zero()));
}

//! Many keyspaces in one database: what each costs to make, to keep, to open and to flush.
//!
//! Four processes in a row, so that each opening is a real one: made and closed; opened empty and
//! written to in turn; opened with the records in the log, and flushed; opened with a table in each,
//! and one keyspace written to until the log would be pinned by the others.

use super::Result;
use super::store::{Figure, Setting, Shape, check, put, settle};
use super::system::{memory, processor_time, threads};
use alluvium::{Db, Keyspace};
use std::time::{Duration, Instant};

/// Puts of each keyspace.
const PUTS: u64 = 100;
pub(crate) const IDLE: Duration = Duration::from_secs(5);
/// What the one busy keyspace takes: ten log segments of the default size.
pub(crate) const CROWD_BYTES: u64 = 640 << 20;
const LONG_VALUE_BYTES: usize = 4 << 10;

fn name(number: u64) -> String {
    format!("keyspace-{number:06}")
}

/// Index of a keyspace's `n`-th key.
fn index(keyspace: usize, n: u64) -> u64 {
    (keyspace as u64) << 20 | n
}

/// The names of this process's rows begin with `when`.
struct Stage<'a> {
    setting: &'a Setting,
    when: &'static str,
    figures: Vec<Figure>,
}

impl<'a> Stage<'a> {
    fn new(setting: &'a Setting, when: &'static str) -> Self {
        Stage {
            setting,
            when,
            figures: Vec::new(),
        }
    }

    fn note(&mut self, what: &str, value: f64) {
        let name = format!("{}: {what}", self.when);
        self.figures.push(Figure::new(&name, value));
    }

    fn each(&mut self, what: &str, elapsed: Duration) {
        let micros = elapsed.as_secs_f64() * 1e6 / self.setting.keyspaces as f64;
        self.note(what, micros);
    }

    /// The database opened, timed, with what it takes and does when nobody asks.
    fn open(&mut self, records: u64) -> Result<(Db, Vec<Keyspace>)> {
        let before = memory()?;
        let clock = Instant::now();
        let db = self.setting.open()?;
        let opened = clock.elapsed();
        self.note("open, ms", opened.as_secs_f64() * 1e3);
        let clock = Instant::now();
        let options = self.setting.keyspace_options();
        let keyspaces = (0..self.setting.keyspaces).map(|n| db.keyspace(name(n), options.clone()));
        let keyspaces: alluvium::Result<Vec<Keyspace>> = keyspaces.collect();
        let keyspaces = keyspaces?;
        self.each("handle of each, µs", clock.elapsed());
        // Fewer where memory was short and some keyspaces were flushed.
        let replayed = db.open_report().operations;
        if records < replayed {
            return Err(format!("{replayed} records came from the log, expected {records}").into());
        }
        self.note("records replayed", replayed as f64);
        self.idle(before)?;
        Ok((db, keyspaces))
    }

    fn idle(&mut self, memory_before: u64) -> Result<()> {
        let taken = memory()?.saturating_sub(memory_before);
        self.note(
            "memory of each, KiB",
            taken as f64 / 1024.0 / self.setting.keyspaces as f64,
        );
        // What opening has left to do is done first.
        std::thread::sleep(self.setting.idle / 2);
        let before = processor_time()?;
        std::thread::sleep(self.setting.idle);
        let spent = processor_time()?.saturating_sub(before);
        self.note(
            "processor time of 5 idle seconds, ms",
            spent.as_secs_f64() * 1e3,
        );
        self.note("threads", threads()? as f64);
        Ok(())
    }

    fn check(&mut self, keyspaces: &[Keyspace]) -> Result<()> {
        let clock = Instant::now();
        for (k, keyspace) in keyspaces.iter().enumerate() {
            check(keyspace, index(k, 0), 0)?;
        }
        self.each("first get of each, µs", clock.elapsed());
        for (k, keyspace) in keyspaces.iter().enumerate() {
            (0..PUTS).try_for_each(|n| check(keyspace, index(k, n), 0))?;
        }
        Ok(())
    }
}

/// The role `MakeKeyspaces`.
pub(crate) fn make(setting: &Setting) -> Result<Vec<Figure>> {
    let mut stage = Stage::new(setting, "made");
    let db = setting.open()?;
    let before = memory()?;
    let options = setting.keyspace_options();
    let tenth = setting.keyspaces.div_ceil(10);
    let mut keyspaces = Vec::new();
    let mut marks = vec![Instant::now()];
    for n in 0..setting.keyspaces {
        keyspaces.push(db.keyspace(name(n), options.clone())?);
        if (n + 1) % tenth == 0 || n + 1 == setting.keyspaces {
            marks.push(Instant::now());
        }
    }
    let between = |first: usize, last: usize| marks[last].duration_since(marks[first]);
    stage.each("each, µs", between(0, marks.len() - 1));
    let micros = |elapsed: Duration| elapsed.as_secs_f64() * 1e6 / tenth as f64;
    stage.note("each of the first tenth, µs", micros(between(0, 1)));
    if setting.keyspaces.is_multiple_of(tenth) {
        let last = micros(between(marks.len() - 2, marks.len() - 1));
        stage.note("each of the last tenth, µs", last);
    }
    stage.idle(before)?;
    let clock = Instant::now();
    db.close()?;
    stage.note("close, ms", clock.elapsed().as_secs_f64() * 1e3);
    Ok(stage.figures)
}

/// The role `WriteKeyspaces`.
pub(crate) fn write(setting: &Setting) -> Result<Vec<Figure>> {
    let mut stage = Stage::new(setting, "empty");
    let (db, keyspaces) = stage.open(0)?;
    stage.when = "written";
    let before = memory()?;
    let puts = PUTS * setting.keyspaces;
    let clock = Instant::now();
    for n in 0..PUTS {
        for (k, keyspace) in keyspaces.iter().enumerate() {
            put(keyspace, index(k, n), 0)?;
        }
    }
    let elapsed = clock.elapsed();
    stage.note("put in turn, ns", elapsed.as_nanos() as f64 / puts as f64);
    stage.idle(before)?;
    stage.note("log segments", db.stats().log.segments as f64);
    stage.check(&keyspaces)?;
    db.close()?;
    Ok(stage.figures)
}

/// The role `FlushKeyspaces`.
pub(crate) fn flush(setting: &Setting) -> Result<Vec<Figure>> {
    let mut stage = Stage::new(setting, "records in the log");
    let (db, keyspaces) = stage.open(PUTS * setting.keyspaces)?;
    stage.check(&keyspaces)?;
    let clock = Instant::now();
    db.flush()?;
    stage.note("flush of all, ms", clock.elapsed().as_secs_f64() * 1e3);
    settle(&db)?;
    stage.note("log segments after it", db.stats().log.segments as f64);
    stage.check(&keyspaces)?;
    let clock = Instant::now();
    db.close()?;
    stage.note("close, ms", clock.elapsed().as_secs_f64() * 1e3);
    Ok(stage.figures)
}

/// The role `CrowdKeyspaces`.
pub(crate) fn crowd(setting: &Setting) -> Result<Vec<Figure>> {
    let mut stage = Stage::new(setting, "a table in each");
    let (db, keyspaces) = stage.open(0)?;
    stage.check(&keyspaces)?;
    for (k, keyspace) in keyspaces.iter().enumerate() {
        put(keyspace, index(k, PUTS), 0)?;
    }
    stage.when = "one is busy";
    let long = vec![7; LONG_VALUE_BYTES];
    let puts = setting.crowd_bytes / LONG_VALUE_BYTES as u64;
    let mut segments = 0;
    let clock = Instant::now();
    for n in 0..puts {
        db.put(n.to_be_bytes(), &long)?;
        if n % 1_000 == 0 {
            segments = segments.max(db.stats().log.segments);
        }
    }
    stage.note(
        "its put of 4 KiB, ns",
        clock.elapsed().as_nanos() as f64 / puts as f64,
    );
    let held = db.stats().stall.total.as_secs_f64() / clock.elapsed().as_secs_f64();
    stage.note("share of the time that it was held up", held);
    stage.note("log segments, most", segments as f64);
    let clock = Instant::now();
    db.flush()?;
    stage.note("flush of all, ms", clock.elapsed().as_secs_f64() * 1e3);
    // The last flush gives segments back after it was waited for.
    settle(&db)?;
    let stats = db.stats();
    stage.note("log segments after it", stats.log.segments as f64);
    stage.note("tables", Shape::of(&stats).tables as f64);
    for (k, keyspace) in keyspaces.iter().enumerate() {
        check(keyspace, index(k, PUTS), 0)?;
    }
    stage.check(&keyspaces)?;
    db.close()?;
    Ok(stage.figures)
}

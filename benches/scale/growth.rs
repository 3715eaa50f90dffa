//! One store of N keys: filled, left alone, read, overwritten, closed, opened again.

use super::data::{self, ENTRY_BYTES, Key};
use super::mix::Random;
use super::store::{
    Figure, Setting, Shape, Written, check, check_absent, index_and_filter_bytes, overwritten, put,
    reads, settle, walk,
};
use super::system::{Peak, memory, page_faults};
use super::{Result, names};
use alluvium::{Db, ReadStats};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const GETS_MAX: u64 = 1_000_000;
const BUSY_GETS: u64 = 100_000;
const GROUP: usize = 100;
const STEPS: u64 = 10;
const OPENS: usize = 5;
const SAMPLE: u64 = 1_000;
/// What a child prints when its log is as it shall be.
pub(crate) const LOG_IS_LEFT: &str = "log is left";

/// The role `Grow`.
pub(crate) fn grow(setting: &Setting) -> Result<Vec<Figure>> {
    let peak = Peak::start();
    let db = setting.open()?;
    let mut store = Store {
        db,
        keys: setting.keys,
        figures: Vec::new(),
    };
    store.fill()?;
    store.rest(&peak)?;
    let greatest = store.scan()?;
    store.read(&greatest)?;
    store.overwrite()?;
    let (index, filter) = index_and_filter_bytes(&setting.directory)?;
    store.note(names::INDEX, index as f64 / setting.keys as f64);
    store.note(names::FILTER, filter as f64 / setting.keys as f64);
    store
        .figures
        .push(Figure::mib("memory, peak, MiB", peak.bytes()));
    let clock = Instant::now();
    store.db.close()?;
    store
        .figures
        .push(Figure::millis("close, ms", clock.elapsed()));
    Ok(store.figures)
}

struct Store {
    db: Db,
    keys: u64,
    figures: Vec<Figure>,
}

impl Store {
    fn note(&mut self, name: &str, value: f64) {
        self.figures.push(Figure::new(name, value));
    }

    fn time(&mut self, name: &str, operations: u64, elapsed: Duration) {
        self.figures.push(Figure::nanos(name, operations, elapsed));
    }

    fn gets(&self) -> u64 {
        self.keys.min(GETS_MAX)
    }

    fn per_byte(&self, bytes: u64) -> f64 {
        bytes as f64 / (self.keys * ENTRY_BYTES) as f64
    }

    fn fill(&mut self) -> Result<()> {
        let tenth = self.keys / 10;
        let clock = Instant::now();
        (0..self.keys - tenth).try_for_each(|index| put(&self.db, index, 0))?;
        let most = clock.elapsed();
        (self.keys - tenth..self.keys).try_for_each(|index| put(&self.db, index, 0))?;
        let whole = clock.elapsed();
        let stats = self.db.stats();
        let busy_gets = self.keys.min(BUSY_GETS);
        let found = self.get_at_random(busy_gets, 0)?.1;

        self.time(names::FILL, self.keys, whole);
        self.time("fill: the last tenth, ns", tenth, whole - most);
        let held = stats.stall.total.as_secs_f64() / whole.as_secs_f64();
        self.note("fill: share of the time that writers were held up", held);
        self.describe_writes("fill", &Written::of(&stats));
        let shape = Shape::of(&stats);
        self.note(names::FILL_LEVELS, shape.levels as f64);
        self.note(names::FILL_RUNS, shape.runs as f64);
        self.note(names::FILL_SPACE, self.per_byte(shape.bytes));
        let in_vain = found.filter_false_positives as f64 / found.gets as f64;
        self.note("fill: tables searched in vain by a get", in_vain);
        Ok(())
    }

    fn describe_writes(&mut self, when: &str, written: &Written) {
        self.note(
            &format!("{when}: logged ÷ put"),
            self.per_byte(written.logged),
        );
        let flushed = self.per_byte(written.flushed);
        self.note(&format!("{when}: flushed ÷ put"), flushed);
        let compacted = self.per_byte(written.compacted);
        self.note(&format!("{when}: compacted ÷ put"), compacted);
        self.note(&format!("{when}: written ÷ put"), written.each(self.keys));
    }

    fn rest(&mut self, peak: &Peak) -> Result<()> {
        let clock = Instant::now();
        settle(&self.db)?;
        self.note("at rest: after, s", clock.elapsed().as_secs_f64());
        let stats = self.db.stats();
        self.describe_writes("at rest", &Written::of(&stats));
        let shape = Shape::of(&stats);
        self.note(names::REST_RUNS, shape.runs as f64);
        self.note(names::REST_TABLES, shape.tables as f64);
        self.note(names::REST_SPACE, self.per_byte(shape.bytes));
        self.figures
            .push(Figure::mib("fill: memory, peak, MiB", peak.bytes()));
        self.figures
            .push(Figure::mib("at rest: memory, MiB", memory()?));
        Ok(())
    }

    /// Every key, which also maps the files' pages; gives the greatest.
    fn scan(&mut self) -> Result<Key> {
        let clock = Instant::now();
        let greatest = self.walk_all(|_| 0)?;
        self.time(names::SCAN, self.keys, clock.elapsed());
        Ok(greatest)
    }

    fn walk_all(&self, generation: impl Fn(u64) -> u64) -> Result<Key> {
        let mut cursor = self.db.cursor();
        cursor.first()?;
        match walk(&mut cursor, u64::MAX, generation)? {
            (count, Some(greatest)) if count == self.keys => Ok(greatest),
            (count, _) => Err(format!("{count} entries of {} were scanned", self.keys).into()),
        }
    }

    fn get_at_random(&self, gets: u64, seed: u64) -> Result<(Duration, ReadStats)> {
        let before = reads(&self.db);
        let mut random = Random::new(seed);
        let clock = Instant::now();
        for _ in 0..gets {
            check(&self.db, random.below(self.keys), 0)?;
        }
        Ok((clock.elapsed(), difference(&reads(&self.db), &before)))
    }

    fn read(&mut self, greatest: &Key) -> Result<()> {
        let gets = self.gets();
        let faults = page_faults()?;
        let (elapsed, counts) = self.get_at_random(gets, 1)?;
        let faults = page_faults()? - faults;
        self.time(names::GET, gets, elapsed);
        self.note("get: page faults", faults as f64 / gets as f64);
        self.note(names::SEARCHED, counts.tables_per_get());

        let before = reads(&self.db);
        let mut random = Random::new(2);
        let clock = Instant::now();
        for _ in 0..gets {
            check_absent(&self.db, self.keys + random.below(self.keys))?;
        }
        self.time(names::MISS, gets, clock.elapsed());
        let counts = difference(&reads(&self.db), &before);
        self.note(names::MISS_SEARCHED, counts.tables_per_get());

        let elapsed = self.get_many(gets)?;
        self.time(names::GET_MANY, gets, elapsed);
        let elapsed = self.seek(gets / 10, greatest)?;
        self.time(names::SEEK, gets / 10, elapsed);
        Ok(())
    }

    fn get_many(&self, gets: u64) -> Result<Duration> {
        let mut random = Random::new(3);
        let clock = Instant::now();
        for _ in 0..gets / GROUP as u64 {
            let indexes: [u64; GROUP] = std::array::from_fn(|_| random.below(self.keys));
            let values = self.db.get_many(indexes.map(data::key))?;
            for (index, value) in indexes.iter().zip(&values) {
                if value.as_deref() != Some(&data::value(*index, 0)) {
                    return Err(format!("index {index} in a group: a wrong value").into());
                }
            }
        }
        Ok(clock.elapsed())
    }

    fn seek(&self, seeks: u64, greatest: &Key) -> Result<Duration> {
        let mut random = Random::new(4);
        let clock = Instant::now();
        for _ in 0..seeks {
            let index = random.below(self.keys);
            let mut cursor = self.db.cursor();
            cursor.seek(data::key(index))?;
            if cursor.key().and_then(data::index) != Some(index) {
                return Err(format!("index {index} was not found by a seek").into());
            }
            let (count, last) = walk(&mut cursor, STEPS, |_| 0)?;
            if count < STEPS && last.as_ref() != Some(greatest) {
                return Err(format!("{count} entries from index {index}, expected 10").into());
            }
        }
        Ok(clock.elapsed())
    }

    fn overwrite(&mut self) -> Result<()> {
        let before = Written::of(&self.db.stats());
        let mut indexes = (0..self.keys).filter(|&index| overwritten(index) == 1);
        let puts = indexes.clone().count() as u64;
        let clock = Instant::now();
        indexes.try_for_each(|index| put(&self.db, index, overwritten(index)))?;
        self.time("overwrite, ns", puts, clock.elapsed());
        let busy = Shape::of(&self.db.stats());
        self.note(
            "overwrite: tables ÷ live, at its end",
            self.per_byte(busy.bytes),
        );
        settle(&self.db)?;
        let stats = self.db.stats();
        let written = Written::of(&stats).since(&before);
        self.note(
            "overwrite: written ÷ put, until at rest",
            written.each(puts),
        );
        let calm = Shape::of(&stats);
        self.note(
            "overwrite: tables ÷ live, at rest",
            self.per_byte(calm.bytes),
        );
        self.walk_all(overwritten).map(|_| ())
    }
}

fn difference(after: &ReadStats, before: &ReadStats) -> ReadStats {
    let mut counts = after.clone();
    counts.gets -= before.gets;
    counts.tables_probed -= before.tables_probed;
    counts.filter_false_positives -= before.filter_false_positives;
    counts
}

/// The role `OpenClosed`. An open waits for the disk a few times, so the middle one of several is
/// told, and the first get of the same one.
pub(crate) fn open_closed(setting: &Setting) -> Result<Vec<Figure>> {
    let mut opened = Vec::new();
    for _ in 0..OPENS {
        let (db, times) = open(setting, 0)?;
        opened.push(times);
        db.close()?;
    }
    opened.sort();
    Ok(opening("a close", opened[OPENS / 2]))
}

/// The role `OpenKilled`.
pub(crate) fn open_killed(setting: &Setting) -> Result<Vec<Figure>> {
    let records = setting.log_records();
    let (db, times) = open(setting, records)?;
    (setting.keys..setting.keys + records).try_for_each(|index| check(&db, index, 0))?;
    db.close()?;
    Ok(opening("a kill", times))
}

fn opening(after: &str, (opened, got): (Duration, Duration)) -> Vec<Figure> {
    vec![
        Figure::millis(&format!("open after {after}, ms"), opened),
        Figure::new(
            &format!("open after {after}: first get, µs"),
            got.as_secs_f64() * 1e6,
        ),
    ]
}

/// The time to open, and that of the first get after it; a sample of the store is checked.
fn open(setting: &Setting, log_records: u64) -> Result<(Db, (Duration, Duration))> {
    let clock = Instant::now();
    let db = setting.open()?;
    let opened = clock.elapsed();
    let clock = Instant::now();
    check(&db, 7, overwritten(7))?;
    let got = clock.elapsed();
    let replayed = db.open_report().operations;
    if replayed != log_records {
        return Err(format!("{replayed} records came from the log, expected {log_records}").into());
    }
    let mut random = Random::new(5);
    for _ in 0..SAMPLE {
        let index = random.below(setting.keys);
        check(&db, index, overwritten(index))?;
    }
    Ok((db, (opened, got)))
}

/// The role `LeaveLog`: new keys that only the log holds. Should nobody kill this process, it ends
/// when its standard input does.
pub(crate) fn leave_log(setting: &Setting) -> Result<Vec<Figure>> {
    let _db = fill_log(setting)?;
    writeln!(std::io::stdout(), "{LOG_IS_LEFT}")?;
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Err("this process was to be killed and was not".into())
}

pub(crate) fn fill_log(setting: &Setting) -> Result<Db> {
    let db = setting.open()?;
    let mut new = setting.keys..setting.keys + setting.log_records();
    new.try_for_each(|index| put(&db, index, 0))?;
    Ok(db)
}

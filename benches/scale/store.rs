//! A store through its public face: opened, settled, described, checked.

use super::Result;
use super::data::{self, ENTRY_BYTES, Key, Value};
use alluvium::{Cursor, Db, Keyspace, KeyspaceOptions, Options, ReadStats, Stats, defaults};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A tree is at rest when so long nothing was due and nothing was done: the idle rule merges what
/// is left a second after the last write.
const CALM: Duration = Duration::from_secs(2);
const CALM_LIMIT: Duration = Duration::from_secs(1_800);

/// A row of the table: a name and a number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
}

impl Figure {
    pub(crate) fn new(name: &str, value: f64) -> Figure {
        let name = name.to_string();
        Figure { name, value }
    }

    /// Nanoseconds for each of so many operations.
    pub(crate) fn nanos(name: &str, operations: u64, elapsed: Duration) -> Figure {
        Figure::new(name, elapsed.as_nanos() as f64 / operations.max(1) as f64)
    }

    pub(crate) fn millis(name: &str, elapsed: Duration) -> Figure {
        Figure::new(name, elapsed.as_secs_f64() * 1e3)
    }

    pub(crate) fn mib(name: &str, bytes: u64) -> Figure {
        Figure::new(name, bytes as f64 / f64::from(1 << 20))
    }
}

/// What one process measures.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) keys: u64,
    pub(crate) keyspaces: u64,
    pub(crate) buffer_bytes: u64,
    /// So long keyspaces are left alone.
    pub(crate) idle: Duration,
    /// What one keyspace takes beside many others.
    pub(crate) crowd_bytes: u64,
    pub(crate) directory: PathBuf,
}

impl Setting {
    pub(crate) fn keyspace_options(&self) -> KeyspaceOptions {
        KeyspaceOptions::new()
            .write_buffer_bytes(self.buffer_bytes)
            .table_bytes(self.buffer_bytes)
    }

    pub(crate) fn open(&self) -> Result<Db> {
        let options = Options::new().default_keyspace(self.keyspace_options());
        Ok(options.open(&self.directory)?)
    }

    /// As many records as fit into a write buffer, with what it adds to each (24 bytes), and into a
    /// log segment with what that adds (40): left in the log by a process that is killed.
    pub(crate) fn log_records(&self) -> u64 {
        const RECORD_BYTES: u64 = 80;
        self.buffer_bytes.min(defaults::LOG_SEGMENT_BYTES) / RECORD_BYTES
    }
}

/// The generation of an index that the overwriting has passed.
pub(crate) fn overwritten(index: u64) -> u64 {
    u64::from(index % 10 == 3)
}

pub(crate) fn put(keyspace: &Keyspace, index: u64, generation: u64) -> Result<()> {
    Ok(keyspace.put(data::key(index), data::value(index, generation))?)
}

pub(crate) fn check(keyspace: &Keyspace, index: u64, generation: u64) -> Result<()> {
    let expected = data::value(index, generation);
    let right = |found: Option<&[u8]>| found.is_some_and(|bytes| bytes == expected);
    if keyspace.get_with(data::key(index), right)? {
        return Ok(());
    }
    Err(format!("index {index}: not the value of generation {generation}").into())
}

pub(crate) fn check_absent(keyspace: &Keyspace, index: u64) -> Result<()> {
    if keyspace.get_with(data::key(index), |found| found.is_none())? {
        return Ok(());
    }
    Err(format!("index {index} was never written and was found").into())
}

/// Takes up to `limit` entries from where the cursor stands; each must have the value that
/// `generation` says, and a greater key than the one before. Gives their count and the last key.
pub(crate) fn walk(
    cursor: &mut Cursor,
    limit: u64,
    generation: impl Fn(u64) -> u64,
) -> Result<(u64, Option<Key>)> {
    let mut count = 0;
    let mut last: Option<Key> = None;
    while count < limit
        && let Some((key, bytes)) = cursor.entry()
    {
        let index = data::index(key).ok_or_else(|| format!("{key:?} is no key of ours"))?;
        let key: Key = key.try_into()?;
        let expected: Value = data::value(index, generation(index));
        if bytes != expected || last.is_some_and(|last| key <= last) {
            return Err(format!("index {index} is out of order or has a wrong value").into());
        }
        last = Some(key);
        count += 1;
        cursor.next()?;
    }
    Ok((count, last))
}

/// Flushes, and waits until background work and the idle rule have nothing left to do.
pub(crate) fn settle(db: &Db) -> Result<()> {
    db.flush()?;
    let deadline = Instant::now() + CALM_LIMIT;
    let mut calm_since = Instant::now();
    let mut done = db.stats().compactions;
    while calm_since.elapsed() < CALM {
        if deadline < Instant::now() {
            return Err(format!("not at rest after {} s", CALM_LIMIT.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(10));
        let stats = db.stats();
        if stats.pending_jobs != 0 || stats.compactions != done {
            calm_since = Instant::now();
            done = stats.compactions;
        }
    }
    Ok(())
}

/// Bytes that the engine says it has written, by what for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) logged: u64,
    pub(crate) flushed: u64,
    pub(crate) compacted: u64,
}

impl Written {
    pub(crate) fn of(stats: &Stats) -> Written {
        Written {
            logged: stats.log.appended_bytes,
            flushed: stats.flush_bytes_written,
            compacted: stats.compaction_bytes_written,
        }
    }

    pub(crate) fn since(&self, before: &Written) -> Written {
        Written {
            logged: self.logged - before.logged,
            flushed: self.flushed - before.flushed,
            compacted: self.compacted - before.compacted,
        }
    }

    /// For each byte of keys and values of so many puts.
    pub(crate) fn each(&self, puts: u64) -> f64 {
        (self.logged + self.flushed + self.compacted) as f64 / (puts * ENTRY_BYTES) as f64
    }
}

/// What the trees of a database consist of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) levels: u64,
    pub(crate) runs: u64,
    pub(crate) tables: u64,
    pub(crate) bytes: u64,
}

impl Shape {
    /// Levels that hold a table are counted, in the keyspace that has most.
    pub(crate) fn of(stats: &Stats) -> Shape {
        let mut shape = Shape::default();
        for keyspace in &stats.keyspaces {
            let levels = keyspace.levels.iter().filter(|level| 0 < level.files());
            shape.levels = shape.levels.max(levels.count() as u64);
            for level in &keyspace.levels {
                shape.runs += level.runs.len() as u64;
                shape.tables += level.files();
                shape.bytes += level.bytes();
            }
        }
        shape
    }
}

/// Reads of the default keyspace.
pub(crate) fn reads(db: &Db) -> ReadStats {
    let stats = db.stats();
    let mut keyspaces = stats.keyspaces.into_iter();
    let default = keyspaces.find(|keyspace| keyspace.name == db.name());
    default.map(|keyspace| keyspace.reads).unwrap_or_default()
}

/// Bytes of the indexes and of the filters of all tables, from the files: see "Table" in DESIGN.md.
pub(crate) fn index_and_filter_bytes(directory: &Path) -> Result<(u64, u64)> {
    let mut sums = (0, 0);
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "tbl") {
            let (index, filter) = sections(&File::open(path)?)?;
            sums = (sums.0 + index, sums.1 + filter);
        }
    }
    Ok(sums)
}

fn sections(file: &File) -> Result<(u64, u64)> {
    const FOOTER_BYTES: u64 = 72;
    const ROW_BYTES: usize = 28;
    const INDEX: u32 = 1;
    const FILTER: u32 = 2;
    let mut footer = [0; 12];
    file.read_exact_at(&mut footer, file.metadata()?.len() - FOOTER_BYTES)?;
    let offset = u64::from_le_bytes(footer[..8].try_into()?);
    let length = u32::from_le_bytes(footer[8..].try_into()?);
    let mut rows = vec![0; length as usize];
    file.read_exact_at(&mut rows, offset)?;
    let (mut index, mut filter) = (0, 0);
    for row in rows.chunks_exact(ROW_BYTES) {
        let bytes = u64::from_le_bytes(row[12..20].try_into()?);
        match u32::from_le_bytes(row[..4].try_into()?) {
            INDEX => index += bytes,
            FILTER => filter += bytes,
            _ => {}
        }
    }
    Ok((index, filter))
}

//! The hot calls, each a fixed number of times on a store that is the same every time, for
//! `.ci/instructions` to count their instructions under callgrind.
//!
//! `instructions list` prints the calls' names; `instructions NAME` runs one and prints how many
//! operations it did. Without a name all run, so that `cargo bench --bench instructions` checks
//! them. 16-byte keys in scattered order, 100-byte values; what is read is summed up and compared.
//!
//! Only what runs inside [`counted`] counts, and only on its own thread. So a put is counted beside
//! the engine's threads, as users have them, without their part. Stores that are flushed, compacted
//! or read have none: a flush runs inside the call that asks for it, and no compaction changes the
//! tables between two readings.

use alluvium::{Cursor, Db, KeyspaceStats, Options, Result, WriteBatch, WriteOptions};
use std::collections::HashSet;
use std::hint::black_box;
use std::path::{Path, PathBuf};

/// A call's name, and what runs it in an empty directory; returns how many operations it counted.
type Call = (&'static str, fn(&Path) -> Result<u64>);

const CALLS: [Call; 12] = [
    ("put", put),
    ("batch-100", batch),
    ("get-memtable", get_memtable),
    ("get-table", get_table),
    ("get-missing", get_missing),
    ("get-many-100", get_many),
    ("seek-10", seek),
    ("scan-forward", scan_forward),
    ("scan-reverse", scan_reverse),
    ("flush", flush),
    ("compaction", compaction),
    ("replay", replay),
];

/// Entries of a store: enough that what happens once for each call of the program vanishes.
const KEYS: u64 = 60_000;
/// The bottom run holds half of them, and three runs of level 0 a sixth each, which is one run
/// short of what calls for a compaction.
const RUNS: [std::ops::Range<u64>; 4] = [
    0..KEYS / 2,
    KEYS / 2..KEYS / 3 * 2,
    KEYS / 3 * 2..KEYS / 6 * 5,
    KEYS / 6 * 5..KEYS,
];

type Key = [u8; 16];
type Value = [u8; 100];

/// The part that is counted: `.ci/instructions` knows this function by its name.
#[inline(never)]
fn counted<T>(work: impl FnOnce() -> T) -> T {
    // The value passes through here after the work, so that no tail call leaves this function early.
    black_box(work())
}

/// Scattered over the whole space of keys, whatever the order of `n`.
fn key(n: u64) -> Key {
    let a = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    let a = a.wrapping_mul(0xd6e8_feb8_6659_fd93);
    (u128::from(a) << 64 | u128::from(n)).to_be_bytes()
}

fn value(n: u64) -> Value {
    let mut value = [b'v'; 100];
    value[..8].copy_from_slice(&n.to_le_bytes());
    value
}

/// The number that [`value`] made the bytes of.
fn number(value: &[u8]) -> u64 {
    let (head, _) = value.split_first_chunk().expect("at least 8 bytes");
    u64::from_le_bytes(*head)
}

/// The sum of all numbers below `KEYS`: what every complete reading finds.
const SUM: u64 = KEYS * (KEYS - 1) / 2;

/// Every number below `KEYS`, in an order that goes from run to run: the step shares no divisor
/// with `KEYS`.
fn numbers() -> impl Iterator<Item = u64> {
    (0..KEYS).map(|i| i * 7_919 % KEYS)
}

/// What to ask for, made before it is counted.
fn keys() -> Vec<Key> {
    numbers().map(key).collect()
}

fn put(dir: &Path) -> Result<u64> {
    let db = with_a_full_predecessor(dir)?;
    let entries: Vec<(Key, Value)> = numbers().map(|n| (key(n), value(n))).collect();
    counted(|| {
        let mut entries = entries.iter();
        entries.try_for_each(|(key, value)| db.put(key, value))
    })?;
    assert_all_went_into_one_memtable(&db);
    db.close()?;
    Ok(KEYS)
}

/// A put in a batch of 100, its share of making the batch included.
fn batch(dir: &Path) -> Result<u64> {
    let db = with_a_full_predecessor(dir)?;
    let entries: Vec<(Key, Value)> = numbers().map(|n| (key(n), value(n))).collect();
    counted(|| {
        let mut batch = WriteBatch::new();
        entries.chunks(100).try_for_each(|entries| {
            batch.clear();
            for (key, value) in entries {
                batch.put(&db, key, value);
            }
            db.write(&batch, WriteOptions::new()).map(|_| ())
        })
    })?;
    assert_all_went_into_one_memtable(&db);
    db.close()?;
    Ok(KEYS)
}

/// A store whose memtable is empty and, because the one before it held as much, has an index of the
/// right size from the start. When an index grows depends on the seed of its hashes, and who makes the
/// larger table on which thread is first: together 4 % of a put.
fn with_a_full_predecessor(dir: &Path) -> Result<Db> {
    let db = Db::open(dir)?;
    fill(&db, 0..KEYS)?;
    db.flush()?;
    Ok(db)
}

fn assert_all_went_into_one_memtable(db: &Db) {
    assert_eq!(db.seqno().get(), 2 * KEYS);
    assert_eq!(entries_of_runs(db), [KEYS]);
    assert_eq!(default_keyspace(db).immutable_memtables, 0);
}

fn get_memtable(dir: &Path) -> Result<u64> {
    let db = quiet(dir)?;
    fill(&db, 0..KEYS)?;
    assert_in_memory(&db);
    get_all(&db)?;
    db.close()?;
    Ok(KEYS)
}

fn get_table(dir: &Path) -> Result<u64> {
    let db = tables(dir)?;
    get_all(&db)?;
    db.close()?;
    Ok(KEYS)
}

fn get_all(db: &Db) -> Result<()> {
    let keys = keys();
    let sum = counted(|| {
        keys.iter().try_fold(0, |sum, key| {
            let value = db.get(key)?;
            Ok::<_, alluvium::Error>(sum + value.as_deref().map_or(0, number))
        })
    })?;
    assert_eq!(sum, SUM);
    Ok(())
}

/// A key that no table has, inside the range of all of them.
fn get_missing(dir: &Path) -> Result<u64> {
    let db = tables(dir)?;
    let keys: Vec<Key> = (KEYS..2 * KEYS).map(key).collect();
    let found = counted(|| {
        keys.iter().try_fold(0, |found, key| {
            Ok::<_, alluvium::Error>(found + u64::from(db.get(key)?.is_some()))
        })
    })?;
    assert_eq!(found, 0);
    db.close()?;
    Ok(KEYS)
}

/// A key of a `get_many` of 100.
fn get_many(dir: &Path) -> Result<u64> {
    let db = tables(dir)?;
    let keys = keys();
    let sum = counted(|| {
        keys.chunks(100).try_fold(0, |sum, keys| {
            let values = db.get_many(keys)?;
            let numbers = values.iter().flatten().map(|value| number(value));
            Ok::<_, alluvium::Error>(sum + numbers.sum::<u64>())
        })
    })?;
    assert_eq!(sum, SUM);
    db.close()?;
    Ok(KEYS)
}

/// A new cursor, its seek to a key that is there, and ten entries from there on.
fn seek(dir: &Path) -> Result<u64> {
    let db = tables(dir)?;
    let seeks = KEYS / 10;
    let mut ordered: Vec<(Key, u64)> = (0..KEYS).map(|n| (key(n), n)).collect();
    ordered.sort_unstable();
    let starts: Vec<usize> = numbers()
        .map(|n| n as usize)
        .filter(|start| start + 10 <= ordered.len())
        .take(seeks as usize)
        .collect();
    let sum = counted(|| {
        starts.iter().try_fold(0, |sum, &start| {
            let mut cursor = db.cursor();
            cursor.seek(ordered[start].0)?;
            let mut ten = 0;
            for _ in 0..10 {
                ten += cursor.entry().map_or(0, |(_, value)| number(value));
                cursor.next()?;
            }
            Ok::<_, alluvium::Error>(sum + ten)
        })
    })?;
    let expected = starts
        .iter()
        .flat_map(|&start| &ordered[start..start + 10])
        .map(|(_, n)| n)
        .sum::<u64>();
    assert_eq!(sum, expected);
    db.close()?;
    Ok(seeks)
}

fn scan_forward(dir: &Path) -> Result<u64> {
    scan(dir, Cursor::first, Cursor::next)
}

fn scan_reverse(dir: &Path) -> Result<u64> {
    scan(dir, Cursor::last, Cursor::prev)
}

/// A step from one entry to the next, in either direction.
fn scan(
    dir: &Path,
    begin: impl Fn(&mut Cursor) -> Result<()>,
    step: impl Fn(&mut Cursor) -> Result<()>,
) -> Result<u64> {
    let db = tables(dir)?;
    let sum = counted(|| {
        let (mut cursor, mut sum) = (db.cursor(), 0);
        begin(&mut cursor)?;
        while let Some((_, value)) = cursor.entry() {
            sum += number(value);
            step(&mut cursor)?;
        }
        Ok::<_, alluvium::Error>(sum)
    })?;
    assert_eq!(sum, SUM);
    db.close()?;
    Ok(KEYS)
}

/// An entry of a memtable that is written to a table.
fn flush(dir: &Path) -> Result<u64> {
    let db = quiet(dir)?;
    fill(&db, 0..KEYS)?;
    counted(|| db.flush())?;
    assert_eq!(entries_of_runs(&db), [KEYS]);
    db.close()?;
    Ok(KEYS)
}

/// An entry of a merge of four runs into one.
fn compaction(dir: &Path) -> Result<u64> {
    let db = tables(dir)?;
    counted(|| db.compact())?;
    assert_eq!(entries_of_runs(&db), [KEYS]);
    db.close()?;
    Ok(KEYS)
}

/// A record of one put, when a store is opened whose log was synced and whose tables have none of it.
/// Fewer than elsewhere, because with these the index stays within its second size under every seed.
fn replay(dir: &Path) -> Result<u64> {
    const RECORDS: u64 = KEYS / 6;
    let db = Db::open(dir)?;
    (0..RECORDS).try_for_each(|n| db.put(key(n), value(n)))?;
    // A close would empty the log, and what is not synced would be flushed by the open.
    db.sync()?;
    drop(db);
    let db = counted(|| Db::open(dir))?;
    assert_eq!(db.open_report().batches, RECORDS);
    assert_in_memory(&db);
    db.close()?;
    Ok(RECORDS)
}

/// A store without threads of its own.
fn quiet(dir: &Path) -> Result<Db> {
    Options::new().background_threads(0).open(dir)
}

/// A store whose entries are all in tables, four sorted runs.
fn tables(dir: &Path) -> Result<Db> {
    let db = quiet(dir)?;
    for (i, run) in RUNS.into_iter().enumerate() {
        fill(&db, run)?;
        match i {
            0 => db.compact()?,
            _ => db.flush()?,
        }
    }
    let sixth = KEYS / 6;
    assert_eq!(entries_of_runs(&db), [sixth, sixth, sixth, KEYS / 2]);
    Ok(db)
}

/// In batches, because a write without background threads looks for work afterwards.
fn fill(db: &Db, numbers: std::ops::Range<u64>) -> Result<()> {
    let numbers: Vec<u64> = numbers.collect();
    numbers.chunks(1_000).try_for_each(|numbers| {
        let mut batch = WriteBatch::new();
        for &n in numbers {
            batch.put(db, key(n), value(n));
        }
        db.write(&batch, WriteOptions::new()).map(|_| ())
    })
}

fn default_keyspace(db: &Db) -> KeyspaceStats {
    let mut keyspaces = db.stats().keyspaces;
    assert_eq!(keyspaces.len(), 1);
    keyspaces.remove(0)
}

/// How many entries each sorted run has, newest first.
fn entries_of_runs(db: &Db) -> Vec<u64> {
    let levels = default_keyspace(db).levels;
    let runs = levels.iter().flat_map(|level| &level.runs);
    runs.map(|run| run.tables.iter().map(|table| table.entries).sum())
        .collect()
}

/// All that was written is in the first memtable still.
fn assert_in_memory(db: &Db) {
    assert_eq!(entries_of_runs(db), []);
    assert_eq!(default_keyspace(db).immutable_memtables, 0);
}

fn run((name, call): Call) -> Result<()> {
    let dir = directory(name);
    let operations = call(&dir)?;
    Db::destroy(&dir)?;
    println!("{name}\t{operations}");
    Ok(())
}

/// In the target folder, which is on a disk where the temporary one may be in memory: a log is
/// mapped only on a disk.
fn directory(name: &str) -> PathBuf {
    let unique = format!("instructions-{name}-{}", std::process::id());
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique)
}

fn main() -> Result<()> {
    // `cargo bench` adds a flag of its own.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    if arguments == ["list"] {
        CALLS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    let known: HashSet<&str> = CALLS.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = arguments.iter().find(|name| !known.contains(name.as_str())) {
        eprintln!("no call is named {unknown}");
        std::process::exit(2);
    }
    CALLS
        .into_iter()
        .filter(|(name, _)| arguments.is_empty() || arguments.iter().any(|wanted| wanted == name))
        .try_for_each(run)
}

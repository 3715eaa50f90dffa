//! What a store must offer to take part, and the settings all of them get.
//!
//! Generic methods rather than trait objects: no engine pays for a call through a pointer.

#[cfg(feature = "alluvium")]
pub mod alluvium;
pub mod fjall;
pub mod lmdb;
pub mod redb;
pub mod rocksdb;
pub mod sled;

use crate::data::{Key, Value};
use std::path::Path;
use std::time::Duration;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Names as `--engine` takes them, in the order of the table.
pub const NAMES: &[&str] = &[
    #[cfg(feature = "alluvium")]
    "alluvium",
    "rocksdb",
    "fjall",
    "redb",
    "lmdb",
    "sled",
];

/// Something to do with an engine whose type follows from a name.
pub trait Work {
    fn run<E: Engine>(self) -> Result<()>;
}

/// Does it with the engine of that name.
pub fn with(name: &str, work: impl Work) -> Result<()> {
    match name {
        #[cfg(feature = "alluvium")]
        "alluvium" => work.run::<alluvium::Alluvium>(),
        "rocksdb" => work.run::<rocksdb::RocksDb>(),
        "fjall" => work.run::<fjall::Fjall>(),
        "redb" => work.run::<redb::Redb>(),
        "lmdb" => work.run::<lmdb::Lmdb>(),
        "sled" => work.run::<sled::Sled>(),
        _ => Err(format!("there is no engine named {name}").into()),
    }
}

/// Sorted entries go in batches of so many where there is no better way.
const SORTED_BATCH: usize = 1_000;

/// The same for everyone: see `--help` for how each engine spells it.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub write_buffer_bytes: u64,
    pub write_buffers_max: u64,
    pub cache_bytes: u64,
    pub filter_bits: u32,
    pub background_threads: usize,
    /// The store does not fit into the memory that the process may have, page cache counted.
    pub memory_is_limited: bool,
    /// Values are counters, to which merges add.
    pub counters: bool,
    /// Transactions are made.
    pub transactions: bool,
    /// Values expire this long after they are put.
    pub ttl: Option<Duration>,
}

/// Where a scan starts, and with it the way it goes.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    First,
    Last,
    At(&'a [u8]),
}

/// A store under test.
pub trait Engine: Sized + Send + Sync {
    /// Whether an unsynced write that was acknowledged outlives the process. Where it does not,
    /// `settle` is what makes writes do so.
    const SURVIVES_DEATH: bool = true;

    /// Whether it has merge operators.
    const MERGES: bool = false;

    /// Whether it deletes a range of keys by one write.
    const DELETES_RANGES: bool = false;

    /// Whether a value expires by itself.
    const EXPIRES: bool = false;

    /// Whether it has transactions that read what they write.
    const TRANSACTS: bool = false;

    /// The longest key it takes.
    const KEY_BYTES_MAX: usize = usize::MAX;

    fn open(directory: &Path, settings: &Settings) -> Result<Self>;

    /// Acknowledged when it survives the death of the process (see `SURVIVES_DEATH`), or with
    /// `synced` of the machine.
    fn put(&self, key: &[u8], value: &[u8], synced: bool) -> Result<()>;

    fn put_batch<V: AsRef<[u8]>>(&self, entries: &[(Key, V)]) -> Result<()>;

    /// Takes entries in the order of their keys, of which the store has none: durable at the end.
    fn load_sorted(&self, entries: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        let mut batch = Vec::new();
        for entry in entries {
            batch.push(entry);
            if batch.len() == SORTED_BATCH {
                self.put_batch(&batch)?;
                batch.clear();
            }
        }
        self.put_batch(&batch)?;
        self.settle()
    }

    fn delete(&self, key: &[u8]) -> Result<()>;

    /// Adds to a counter, 8 bytes in little-endian order, by a merge.
    fn add(&self, _key: &[u8], _amount: i64) -> Result<()> {
        Err("it has no merge operators".into())
    }

    /// Deletes the keys `from..to` by one write.
    fn delete_range(&self, _from: &[u8], _to: &[u8]) -> Result<()> {
        Err("it cannot delete ranges".into())
    }

    /// Takes from one account and gives to another, 8 bytes in little-endian order each, in a
    /// transaction that reads both; done again when somebody else was faster.
    fn transfer(&self, _from: &[u8], _to: &[u8], _amount: u64) -> Result<()> {
        Err("it has no transactions".into())
    }

    /// Hands the value to `read` in the cheapest way the engine has.
    fn get<T>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> T) -> Result<T>;

    /// Hands each value to `read` with the place of its key, in the order asked. Engines that have
    /// a cheaper way than so many gets take it.
    fn get_many(&self, keys: &[Key], mut read: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        for (i, key) in keys.iter().enumerate() {
            self.get(key, |value| read(i, value))?;
        }
        Ok(())
    }

    /// A new iterator, moved over at most `limit` entries; how many there were.
    fn scan(&self, start: Start<'_>, limit: u64, each: impl FnMut(&[u8], &[u8])) -> Result<u64>;

    /// Memtables to tables, and background work done or 10 s gone by.
    fn settle(&self) -> Result<()>;

    /// Non-empty levels and compactions so far, where the engine tells.
    fn shape(&self) -> Option<Shape> {
        None
    }

    fn close(self) -> Result<()>;
}

/// The sum of counters.
fn sum<'a>(counters: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut sum = 0i64;
    for counter in counters {
        sum = sum.wrapping_add(i64::from_le_bytes(counter.try_into().ok()?));
    }
    Some(sum.to_le_bytes().to_vec())
}

/// Two accounts after a transfer.
fn moved(from: Option<&[u8]>, to: Option<&[u8]>, amount: u64) -> Result<([u8; 8], [u8; 8])> {
    let balance = |found: Option<&[u8]>| -> Result<u64> {
        let bytes = found.ok_or("an account is missing")?.try_into()?;
        Ok(u64::from_le_bytes(bytes))
    };
    let (from, to) = (balance(from)?, balance(to)?);
    Ok((
        from.wrapping_sub(amount).to_le_bytes(),
        to.wrapping_add(amount).to_le_bytes(),
    ))
}

/// Hands the first `limit` entries to `each`; how many there were.
fn walk<T, F>(
    entries: impl Iterator<Item = std::result::Result<T, F>>,
    limit: u64,
    mut each: impl FnMut(T),
) -> Result<u64>
where
    F: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut count = 0;
    for entry in entries.take(limit as usize) {
        each(entry.map_err(Into::into)?);
        count += 1;
    }
    Ok(count)
}

/// What the tree looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub levels: usize,
    pub compactions: u64,
}

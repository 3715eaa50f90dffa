//! RocksDB, set up as someone who knows it would.

use super::{Engine, Result, Settings, Start, moved, sum};
use crate::data::{Key, Value};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DataBlockIndexType,
    FlushOptions, IngestExternalFileOptions, OptimisticTransactionDB, Options, SstFileWriter,
    WaitForCompactOptions, WriteBatch, WriteOptions,
};
use std::path::{Path, PathBuf};

const FAMILY: &str = "default";

/// Transactions need a database that is opened for them, which the other workloads do not pay for.
pub enum RocksDb {
    Plain(DB, Files),
    Transactions(OptimisticTransactionDB),
}

/// How files are made that are taken over.
pub struct Files {
    options: Options,
    directory: PathBuf,
    bytes: u64,
}

impl RocksDb {
    fn plain(&self) -> Result<&DB> {
        match self {
            RocksDb::Plain(db, _) => Ok(db),
            RocksDb::Transactions(_) => Err("it was opened for transactions".into()),
        }
    }
}

/// The same call of either.
macro_rules! either {
    ($self:expr, $db:ident => $call:expr) => {
        match $self {
            RocksDb::Plain($db, _) => $call,
            RocksDb::Transactions($db) => $call,
        }
    };
}

impl Engine for RocksDb {
    const MERGES: bool = true;
    const DELETES_RANGES: bool = true;
    const EXPIRES: bool = true;
    const TRANSACTS: bool = true;

    fn open(directory: &Path, settings: &Settings) -> Result<Self> {
        let options = options(settings);
        // Named, so that there is a handle of it: batched reads ask for one.
        let family = ColumnFamilyDescriptor::new(FAMILY, options.clone());
        if settings.transactions {
            let db = OptimisticTransactionDB::open_cf_descriptors(&options, directory, [family])?;
            return Ok(RocksDb::Transactions(db));
        }
        let db = match settings.ttl {
            None => DB::open_cf_descriptors(&options, directory, [family])?,
            Some(ttl) => DB::open_cf_descriptors_with_ttl(&options, directory, [family], ttl)?,
        };
        let files = Files {
            options,
            directory: directory.to_path_buf(),
            bytes: settings.write_buffer_bytes,
        };
        Ok(RocksDb::Plain(db, files))
    }

    fn put(&self, key: &[u8], value: &[u8], synced: bool) -> Result<()> {
        if synced {
            let mut options = WriteOptions::default();
            options.set_sync(true);
            either!(self, db => db.put_opt(key, value, &options))?;
        } else {
            either!(self, db => db.put(key, value))?;
        }
        Ok(())
    }

    fn put_batch<V: AsRef<[u8]>>(&self, entries: &[(Key, V)]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in entries {
            batch.put(key, value.as_ref());
        }
        Ok(self.plain()?.write(batch)?)
    }

    fn load_sorted(&self, mut entries: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        let RocksDb::Plain(db, files) = self else {
            return Err("it was opened for transactions".into());
        };
        let mut made = Vec::new();
        let mut next = entries.next();
        while next.is_some() {
            let path = files.directory.join(format!("load-{}.sst", made.len()));
            let mut writer = SstFileWriter::create(&files.options);
            writer.open(&path)?;
            while let Some((key, value)) = next.take() {
                writer.put(key, value)?;
                if files.bytes <= writer.file_size() {
                    break;
                }
                next = entries.next();
            }
            writer.finish()?;
            made.push(path);
            next = next.or_else(|| entries.next());
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        Ok(db.ingest_external_file_opts(&options, made)?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.plain()?.delete(key)?)
    }

    fn delete_range(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let family = self
            .plain()?
            .cf_handle(FAMILY)
            .ok_or("no default column family")?;
        Ok(self.plain()?.delete_range_cf(&family, from, to)?)
    }

    fn transfer(&self, from: &[u8], to: &[u8], amount: u64) -> Result<()> {
        let RocksDb::Transactions(db) = self else {
            return Err("it was not opened for transactions".into());
        };
        loop {
            let tx = db.transaction();
            // What a plain get reads is not checked at the commit.
            let taken = tx.get_for_update(from, true)?;
            let given = tx.get_for_update(to, true)?;
            let (taken, given) = moved(taken.as_deref(), given.as_deref(), amount)?;
            tx.put(from, taken)?;
            tx.put(to, given)?;
            match tx.commit() {
                Err(error) if is_conflict(&error) => {}
                done => return Ok(done?),
            }
        }
    }

    fn add(&self, key: &[u8], amount: i64) -> Result<()> {
        Ok(self.plain()?.merge(key, amount.to_le_bytes())?)
    }

    fn get<T>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> T) -> Result<T> {
        either!(self, db => Ok(read(db.get_pinned(key)?.as_deref())))
    }

    fn get_many(&self, keys: &[Key], mut read: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        let family = self
            .plain()?
            .cf_handle(FAMILY)
            .ok_or("no default column family")?;
        let values = self.plain()?.batched_multi_get_cf(&family, keys, false);
        for (i, value) in values.into_iter().enumerate() {
            read(i, value?.as_deref());
        }
        Ok(())
    }

    fn scan(
        &self,
        start: Start<'_>,
        limit: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let mut cursor = self.plain()?.raw_iterator();
        match start {
            Start::First => cursor.seek_to_first(),
            Start::Last => cursor.seek_to_last(),
            Start::At(key) => cursor.seek(key),
        }
        let back = matches!(start, Start::Last);
        let mut count = 0;
        while count < limit
            && let Some((key, value)) = cursor.item()
        {
            each(key, value);
            count += 1;
            if back {
                cursor.prev();
            } else {
                cursor.next();
            }
        }
        cursor.status()?;
        Ok(count)
    }

    fn settle(&self) -> Result<()> {
        let mut flush = FlushOptions::default();
        flush.set_wait(true);
        either!(self, db => db.flush_opt(&flush))?;
        let mut wait = WaitForCompactOptions::default();
        wait.set_timeout(10_000_000); // microseconds
        match either!(self, db => db.wait_for_compact(&wait)) {
            Err(error) if error.kind() == rocksdb::ErrorKind::TimedOut => Ok(()),
            answer => Ok(answer?),
        }
    }

    fn close(self) -> Result<()> {
        Ok(()) // Closed, and the last records written, when the handle is dropped.
    }
}

/// Somebody else was faster, or what was written meanwhile is not in memory any more to tell.
fn is_conflict(error: &rocksdb::Error) -> bool {
    matches!(
        error.kind(),
        rocksdb::ErrorKind::Busy | rocksdb::ErrorKind::TryAgain
    )
}

fn options(settings: &Settings) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(settings.cache_bytes as usize));
    table.set_bloom_filter(f64::from(settings.filter_bits), false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_format_version(6);

    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(settings.write_buffer_bytes as usize);
    options.set_max_write_buffer_number(settings.write_buffers_max as i32);
    options.set_target_file_size_base(settings.write_buffer_bytes);
    options.set_max_bytes_for_level_base(4 * settings.write_buffer_bytes);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_max_background_jobs(settings.background_threads as i32);
    options.set_allow_concurrent_memtable_write(true);
    options.set_allow_mmap_reads(false);
    options.set_bytes_per_sync(1 << 20);
    if settings.counters {
        options.set_merge_operator_associative(c"counter", |_, base, operands| {
            sum(base.into_iter().chain(operands))
        });
    }
    options
}

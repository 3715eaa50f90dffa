//! RocksDB, set up as someone who knows it would.

use super::{Engine, Result, Settings, Start, sum};
use crate::data::Key;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DataBlockIndexType, FlushOptions, Options,
    WaitForCompactOptions, WriteBatch, WriteOptions,
};
use std::path::Path;

const FAMILY: &str = "default";

pub struct RocksDb(DB);

impl Engine for RocksDb {
    const MERGES: bool = true;
    const DELETES_RANGES: bool = true;

    fn open(directory: &Path, settings: &Settings) -> Result<Self> {
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
        // Named, so that there is a handle of it: batched reads ask for one.
        let families = [(FAMILY, options.clone())];
        Ok(RocksDb(DB::open_cf_with_opts(
            &options, directory, families,
        )?))
    }

    fn put(&self, key: &[u8], value: &[u8], synced: bool) -> Result<()> {
        if synced {
            let mut options = WriteOptions::default();
            options.set_sync(true);
            self.0.put_opt(key, value, &options)?;
        } else {
            self.0.put(key, value)?;
        }
        Ok(())
    }

    fn put_batch<V: AsRef<[u8]>>(&self, entries: &[(Key, V)]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in entries {
            batch.put(key, value.as_ref());
        }
        Ok(self.0.write(batch)?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.0.delete(key)?)
    }

    fn delete_range(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let family = self.0.cf_handle(FAMILY).ok_or("no default column family")?;
        Ok(self.0.delete_range_cf(&family, from, to)?)
    }

    fn add(&self, key: &[u8], amount: i64) -> Result<()> {
        Ok(self.0.merge(key, amount.to_le_bytes())?)
    }

    fn get<T>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> T) -> Result<T> {
        Ok(read(self.0.get_pinned(key)?.as_deref()))
    }

    fn get_many(&self, keys: &[Key], mut read: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        let family = self.0.cf_handle(FAMILY).ok_or("no default column family")?;
        let values = self.0.batched_multi_get_cf(&family, keys, false);
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
        let mut cursor = self.0.raw_iterator();
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
        self.0.flush_opt(&flush)?;
        let mut wait = WaitForCompactOptions::default();
        wait.set_timeout(10_000_000); // microseconds
        match self.0.wait_for_compact(&wait) {
            Err(error) if error.kind() == rocksdb::ErrorKind::TimedOut => Ok(()),
            answer => Ok(answer?),
        }
    }

    fn close(self) -> Result<()> {
        Ok(()) // Closed, and the last records written, when the handle is dropped.
    }
}

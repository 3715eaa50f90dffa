//! alluvium through its public face.

use super::{Engine, Result, Settings, Shape, Start, moved};
use crate::data::{Key, Value};
use alluvium::{Db, Durability, ErrorKind, KeyspaceOptions, Options, WriteBatch, WriteOptions};
use std::path::Path;
use std::time::{Duration, Instant};

pub struct Alluvium(Db);

impl Engine for Alluvium {
    const MERGES: bool = true;
    const DELETES_RANGES: bool = true;
    const EXPIRES: bool = true;
    const TRANSACTS: bool = true;

    fn open(directory: &Path, settings: &Settings) -> Result<Self> {
        let mut keyspace = KeyspaceOptions::new()
            .write_buffer_bytes(settings.write_buffer_bytes)
            .immutables_max(settings.write_buffers_max as u32 - 1)
            .table_bytes(settings.write_buffer_bytes)
            .filter_bits_per_key(settings.filter_bits)
            .ttl(settings.ttl);
        if settings.counters {
            keyspace = keyspace.merge_operator(alluvium::merge::COUNTER);
        }
        let memory =
            settings.cache_bytes + settings.write_buffers_max * settings.write_buffer_bytes;
        let mut options = Options::new()
            .memory_bytes(memory)
            .background_threads(settings.background_threads)
            .default_keyspace(keyspace);
        if settings.memory_is_limited {
            // A log segment lies in the page cache, where one of the default size would push out
            // everything else.
            options = options.log_segment_bytes(settings.write_buffer_bytes);
        }
        Ok(Alluvium(options.open(directory)?))
    }

    fn put(&self, key: &[u8], value: &[u8], synced: bool) -> Result<()> {
        if synced {
            let options = WriteOptions::new().durability(Durability::Synced);
            self.0.put_with(key, value, options)?;
        } else {
            self.0.put(key, value)?;
        }
        Ok(())
    }

    fn put_batch<V: AsRef<[u8]>>(&self, entries: &[(Key, V)]) -> Result<()> {
        let mut batch = WriteBatch::new();
        for (key, value) in entries {
            batch.put(&self.0, key, value.as_ref());
        }
        self.0.write(&batch, WriteOptions::default())?;
        Ok(())
    }

    fn load_sorted(&self, entries: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        let mut load = self.0.ingestion()?;
        load.add(&self.0, entries)?;
        load.commit()?;
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.0.delete(key)?)
    }

    fn delete_range(&self, from: &[u8], to: &[u8]) -> Result<()> {
        Ok(self.0.delete_range(from..to)?)
    }

    fn transfer(&self, from: &[u8], to: &[u8], amount: u64) -> Result<()> {
        loop {
            let mut tx = self.0.begin();
            let (taken, given) = (tx.get(&self.0, from)?, tx.get(&self.0, to)?);
            let (taken, given) = moved(taken.as_deref(), given.as_deref(), amount)?;
            tx.put(&self.0, from, taken);
            tx.put(&self.0, to, given);
            match tx.commit() {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                done => return Ok(done.map(drop)?),
            }
        }
    }

    fn add(&self, key: &[u8], amount: i64) -> Result<()> {
        Ok(self.0.merge(key, amount.to_le_bytes())?)
    }

    fn get<T>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> T) -> Result<T> {
        Ok(self.0.get_with(key, read)?)
    }

    fn get_many(&self, keys: &[Key], mut read: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        for (i, value) in self.0.get_many(keys)?.iter().enumerate() {
            read(i, value.as_deref());
        }
        Ok(())
    }

    fn scan(
        &self,
        start: Start<'_>,
        limit: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let mut cursor = self.0.cursor();
        match start {
            Start::First => cursor.first()?,
            Start::Last => cursor.last()?,
            Start::At(key) => cursor.seek(key)?,
        }
        let back = matches!(start, Start::Last);
        let mut count = 0;
        while count < limit
            && let Some((key, value)) = cursor.entry()
        {
            each(key, value);
            count += 1;
            if back {
                cursor.prev()?;
            } else {
                cursor.next()?;
            }
        }
        Ok(count)
    }

    fn settle(&self) -> Result<()> {
        self.0.flush()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        // Between two jobs of one merge nothing is pending for a moment.
        let mut calm = 0;
        while calm < 3 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            calm = match self.0.stats().pending_jobs {
                0 => calm + 1,
                _ => 0,
            };
        }
        Ok(())
    }

    fn shape(&self) -> Option<Shape> {
        let stats = self.0.stats();
        let levels = stats.keyspaces.iter().flat_map(|k| &k.levels);
        Some(Shape {
            levels: levels.filter(|level| level.files() > 0).count(),
            compactions: stats.compactions,
        })
    }

    fn close(self) -> Result<()> {
        Ok(self.0.close()?)
    }
}

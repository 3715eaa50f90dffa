//! fjall: one keyspace, its defaults where the common settings do not say otherwise.

use super::{Engine, Result, Settings, Start, walk};
use crate::data::Key;
use fjall::config::{BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{
    CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, UserKey,
    UserValue,
};
use std::path::Path;
use std::time::{Duration, Instant};

pub struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

impl Engine for Fjall {
    fn open(directory: &Path, settings: &Settings) -> Result<Self> {
        let database = Database::builder(directory)
            .cache_size(settings.cache_bytes)
            .journal_compression(CompressionType::None)
            .worker_threads(settings.background_threads)
            .open()?;
        let bits = BloomConstructionPolicy::BitsPerKey(settings.filter_bits as f32);
        let keyspace = database.keyspace("default", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(settings.write_buffer_bytes)
                .data_block_compression_policy(CompressionPolicy::disabled())
                .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(bits)))
        })?;
        Ok(Fjall { database, keyspace })
    }

    fn put(&self, key: &[u8], value: &[u8], synced: bool) -> Result<()> {
        self.keyspace.insert(key, value)?;
        if synced {
            self.database.persist(PersistMode::SyncAll)?;
        }
        Ok(())
    }

    fn put_batch<V: AsRef<[u8]>>(&self, entries: &[(Key, V)]) -> Result<()> {
        let mut batch = self.database.batch();
        for (key, value) in entries {
            batch.insert(&self.keyspace, &key[..], value.as_ref());
        }
        Ok(batch.commit()?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.keyspace.remove(key)?)
    }

    fn get<T>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> T) -> Result<T> {
        Ok(read(self.keyspace.get(key)?.as_deref()))
    }

    fn scan(
        &self,
        start: Start<'_>,
        limit: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let each = |(key, value): (UserKey, UserValue)| each(&key, &value);
        let read = Guard::into_inner;
        match start {
            Start::First => walk(self.keyspace.iter().map(read), limit, each),
            Start::Last => walk(self.keyspace.iter().rev().map(read), limit, each),
            Start::At(key) => walk(self.keyspace.range(key..).map(read), limit, each),
        }
    }

    fn settle(&self) -> Result<()> {
        self.keyspace.rotate_memtable_and_wait()?;
        // A compaction is queued a moment after the flush that calls for it: idle means idle for
        // a while.
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut idle = 0;
        while idle < 10 && Instant::now() < deadline {
            let busy =
                self.database.active_compactions() > 0 || self.database.outstanding_flushes() > 0;
            idle = if busy { 0 } else { idle + 1 };
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.database.persist(PersistMode::Buffer)?)
    }
}

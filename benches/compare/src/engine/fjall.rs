//! fjall: one keyspace, its defaults where the common settings do not say otherwise.

use super::{Engine, Result, Settings, Start, moved, walk};
use crate::data::{Key, Value};
use fjall::config::{BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{
    CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, OptimisticTxDatabase,
    PersistMode, Readable, UserKey, UserValue,
};
use std::path::Path;
use std::time::{Duration, Instant};

pub struct Fjall {
    /// Used for transactions alone; the other two are what is in it.
    transactions: OptimisticTxDatabase,
    database: Database,
    keyspace: Keyspace,
}

impl Engine for Fjall {
    const TRANSACTS: bool = true;

    fn open(directory: &Path, settings: &Settings) -> Result<Self> {
        let transactions = OptimisticTxDatabase::builder(directory)
            .cache_size(settings.cache_bytes)
            .journal_compression(CompressionType::None)
            .worker_threads(settings.background_threads)
            .open()?;
        let database = transactions.inner().clone();
        let bits = BloomConstructionPolicy::BitsPerKey(settings.filter_bits as f32);
        let keyspace = database.keyspace("default", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(settings.write_buffer_bytes)
                .data_block_compression_policy(CompressionPolicy::disabled())
                .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(bits)))
        })?;
        Ok(Fjall {
            transactions,
            database,
            keyspace,
        })
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

    fn load_sorted(&self, entries: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        let mut load = self.keyspace.start_ingestion()?;
        for (key, value) in entries {
            load.write(&key[..], &value[..])?;
        }
        Ok(load.finish()?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.keyspace.remove(key)?)
    }

    fn transfer(&self, from: &[u8], to: &[u8], amount: u64) -> Result<()> {
        loop {
            let mut tx = self.transactions.write_tx()?;
            let (taken, given) = (tx.get(&self.keyspace, from)?, tx.get(&self.keyspace, to)?);
            let (taken, given) = moved(taken.as_deref(), given.as_deref(), amount)?;
            tx.insert(&self.keyspace, from, taken);
            tx.insert(&self.keyspace, to, given);
            if tx.commit()?.is_ok() {
                return Ok(());
            }
        }
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

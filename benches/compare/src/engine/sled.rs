//! sled 0.34, in its mode for throughput.
//!
//! An unsynced write lies in a buffer of the process until half a second or half a mebibyte has
//! gathered (its default): the death of the process loses what is in it, so sled promises less
//! here than the others do. A synced write is followed by `flush`.

use super::{Engine, Result, Settings, Start, moved, sum, walk};
use crate::data::Key;
use sled::transaction::ConflictableTransactionError;
use sled::{Batch, Config, Db, IVec, Mode};
use std::path::Path;

pub struct Sled(Db);

impl Engine for Sled {
    const SURVIVES_DEATH: bool = false;
    const MERGES: bool = true;
    const TRANSACTS: bool = true;

    fn open(directory: &Path, settings: &Settings) -> Result<Self> {
        let config = Config::new()
            .path(directory)
            .mode(Mode::HighThroughput)
            .cache_capacity(settings.cache_bytes);
        let db = config.open()?;
        if settings.counters {
            db.set_merge_operator(|_: &[u8], base: Option<&[u8]>, operand: &[u8]| {
                sum(base.into_iter().chain([operand]))
            });
        }
        Ok(Sled(db))
    }

    fn put(&self, key: &[u8], value: &[u8], synced: bool) -> Result<()> {
        self.0.insert(key, value)?;
        if synced {
            self.0.flush()?;
        }
        Ok(())
    }

    fn put_batch<V: AsRef<[u8]>>(&self, entries: &[(Key, V)]) -> Result<()> {
        let mut batch = Batch::default();
        for (key, value) in entries {
            batch.insert(&key[..], value.as_ref());
        }
        Ok(self.0.apply_batch(batch)?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.0.remove(key)?;
        Ok(())
    }

    fn add(&self, key: &[u8], amount: i64) -> Result<()> {
        self.0.merge(key, amount.to_le_bytes())?;
        Ok(())
    }

    fn transfer(&self, from: &[u8], to: &[u8], amount: u64) -> Result<()> {
        let done = self.0.transaction(|tx| {
            let (taken, given) = (tx.get(from)?, tx.get(to)?);
            let (taken, given) = moved(taken.as_deref(), given.as_deref(), amount)
                .map_err(|error| ConflictableTransactionError::Abort(error.to_string()))?;
            tx.insert(from, &taken)?;
            tx.insert(to, &given)?;
            Ok(())
        });
        done.map_err(|error| format!("{error:?}").into())
    }

    fn get<T>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> T) -> Result<T> {
        Ok(read(self.0.get(key)?.as_deref()))
    }

    fn scan(
        &self,
        start: Start<'_>,
        limit: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let each = |(key, value): (IVec, IVec)| each(&key, &value);
        match start {
            Start::First => walk(self.0.iter(), limit, each),
            Start::Last => walk(self.0.iter().rev(), limit, each),
            Start::At(key) => walk(self.0.range(key..), limit, each),
        }
    }

    fn settle(&self) -> Result<()> {
        self.0.flush()?; // Its log is its store: nothing else waits to be written.
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.settle() // The threads end when the handle is dropped.
    }
}

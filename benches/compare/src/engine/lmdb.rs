//! LMDB through heed: a copy-on-write tree in one mapped file, every write a transaction.
//!
//! Opened with `WRITEMAP` and `NOSYNC`: a commit stores into the shared mapping, which outlives
//! the process and not the machine, as an unsynced write of the others does. A synced write is
//! followed by `mdb_env_sync`.

use super::{Engine, Result, Settings, Start, moved, walk};
use crate::data::{Key, Value};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags};
use std::ops::Bound;
use std::path::Path;

/// Address space, not memory: far more than any run here stores.
const MAP_BYTES: usize = 64 << 30;

pub struct Lmdb {
    env: Env,
    database: Database<'static, Bytes, Bytes>,
}

impl Engine for Lmdb {
    const TRANSACTS: bool = true;
    const KEY_BYTES_MAX: usize = 511; // As it is compiled unless one says otherwise.

    fn open(directory: &Path, _: &Settings) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let flags = EnvFlags::WRITE_MAP
            | EnvFlags::NO_SYNC
            | EnvFlags::NO_READ_AHEAD
            | EnvFlags::NO_MEM_INIT;
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES).max_readers(64);
        // SAFETY: the flags trade away safety against the death of the machine, which is what is
        // compared here; nobody else opens or writes files in this directory.
        let env = unsafe { options.flags(flags).open(directory)? };
        let writing = env.write_txn()?;
        let created = env.create_databases_and_commit(writing, |opener, writing| {
            let database = opener.create_database(writing, None)?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(database))
        })?;
        let database = created
            .commit()
            .ok_or("LMDB did not commit its own creation")?;
        Ok(Lmdb { env, database })
    }

    fn put(&self, key: &[u8], value: &[u8], synced: bool) -> Result<()> {
        let mut writing = self.env.write_txn()?;
        self.database.put(&mut writing, key, value)?;
        writing.commit()?;
        if synced {
            self.env.force_sync()?;
        }
        Ok(())
    }

    fn put_batch<V: AsRef<[u8]>>(&self, entries: &[(Key, V)]) -> Result<()> {
        let mut writing = self.env.write_txn()?;
        for (key, value) in entries {
            self.database.put(&mut writing, key, value.as_ref())?;
        }
        Ok(writing.commit()?)
    }

    fn load_sorted(&self, entries: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        let mut writing = self.env.write_txn()?;
        for (key, value) in entries {
            let at_the_end = PutFlags::APPEND;
            (self.database).put_with_flags(&mut writing, at_the_end, &key, &value)?;
        }
        writing.commit()?;
        Ok(self.env.force_sync()?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let mut writing = self.env.write_txn()?;
        self.database.delete(&mut writing, key)?;
        Ok(writing.commit()?)
    }

    fn transfer(&self, from: &[u8], to: &[u8], amount: u64) -> Result<()> {
        let mut writing = self.env.write_txn()?;
        let taken = self.database.get(&writing, from)?;
        let given = self.database.get(&writing, to)?;
        let (taken, given) = moved(taken, given, amount)?;
        self.database.put(&mut writing, from, &taken)?;
        self.database.put(&mut writing, to, &given)?;
        Ok(writing.commit()?)
    }

    fn get<T>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> T) -> Result<T> {
        let reading = self.env.read_txn()?;
        Ok(read(self.database.get(&reading, key)?))
    }

    fn get_many(&self, keys: &[Key], mut read: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        let reading = self.env.read_txn()?;
        for (i, key) in keys.iter().enumerate() {
            read(i, self.database.get(&reading, key)?);
        }
        Ok(())
    }

    fn scan(
        &self,
        start: Start<'_>,
        limit: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let reading = self.env.read_txn()?;
        let each = |(key, value)| each(key, value);
        match start {
            Start::First => walk(self.database.iter(&reading)?, limit, each),
            Start::Last => walk(self.database.rev_iter(&reading)?, limit, each),
            Start::At(key) => {
                let range = (Bound::Included(key), Bound::Unbounded);
                walk(self.database.range(&reading, &range)?, limit, each)
            }
        }
    }

    fn settle(&self) -> Result<()> {
        Ok(self.env.force_sync()?) // There is no background work.
    }

    fn close(self) -> Result<()> {
        let closing = self.env.prepare_for_closing();
        closing.wait();
        Ok(())
    }
}

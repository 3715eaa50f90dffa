//! redb: a copy-on-write tree in one file, every write a transaction.
//!
//! An unsynced commit has `Durability::None`, which redb keeps in its own memory until a durable
//! commit follows: it does not survive the death of the process, so redb promises less here than
//! the others do. A synced write commits with `Durability::Immediate`.

use super::{Engine, Result, Settings, Start, moved, walk};
use crate::data::{Key, Value};
use redb::{
    AccessGuard, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use std::path::Path;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("default");

type Entry<'a> = (
    AccessGuard<'a, &'static [u8]>,
    AccessGuard<'a, &'static [u8]>,
);

pub struct Redb(Database);

impl Redb {
    fn writing(&self, synced: bool) -> Result<WriteTransaction> {
        let mut writing = self.0.begin_write()?;
        writing.set_durability(if synced {
            Durability::Immediate
        } else {
            Durability::None
        })?;
        Ok(writing)
    }
}

impl Engine for Redb {
    const SURVIVES_DEATH: bool = false;
    const TRANSACTS: bool = true;

    fn open(directory: &Path, settings: &Settings) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let database = Database::builder()
            .set_cache_size(settings.cache_bytes as usize)
            .create(directory.join("redb"))?;
        let engine = Redb(database);
        let writing = engine.writing(true)?;
        writing.open_table(TABLE)?;
        writing.commit()?;
        Ok(engine)
    }

    fn put(&self, key: &[u8], value: &[u8], synced: bool) -> Result<()> {
        let writing = self.writing(synced)?;
        writing.open_table(TABLE)?.insert(key, value)?;
        Ok(writing.commit()?)
    }

    fn put_batch<V: AsRef<[u8]>>(&self, entries: &[(Key, V)]) -> Result<()> {
        let writing = self.writing(false)?;
        let mut table = writing.open_table(TABLE)?;
        for (key, value) in entries {
            table.insert(&key[..], value.as_ref())?;
        }
        drop(table);
        Ok(writing.commit()?)
    }

    fn load_sorted(&self, entries: impl Iterator<Item = (Key, Value)>) -> Result<()> {
        let writing = self.writing(true)?;
        let mut table = writing.open_table(TABLE)?;
        for (key, value) in entries {
            table.insert(&key[..], &value[..])?;
        }
        drop(table);
        Ok(writing.commit()?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let writing = self.writing(false)?;
        writing.open_table(TABLE)?.remove(key)?;
        Ok(writing.commit()?)
    }

    fn transfer(&self, from: &[u8], to: &[u8], amount: u64) -> Result<()> {
        let writing = self.writing(false)?;
        let mut table = writing.open_table(TABLE)?;
        let (taken, given) = {
            let (taken, given) = (table.get(from)?, table.get(to)?);
            let bytes = |found: &Option<AccessGuard<'_, &[u8]>>| {
                found.as_ref().map(|guard| guard.value().to_vec())
            };
            let (taken, given) = (bytes(&taken), bytes(&given));
            moved(taken.as_deref(), given.as_deref(), amount)?
        };
        table.insert(from, &taken[..])?;
        table.insert(to, &given[..])?;
        drop(table);
        Ok(writing.commit()?)
    }

    fn get<T>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> T) -> Result<T> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let found = table.get(key)?;
        Ok(read(found.as_ref().map(|guard| guard.value())))
    }

    fn get_many(&self, keys: &[Key], mut read: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        for (i, key) in keys.iter().enumerate() {
            let found = table.get(&key[..])?;
            read(i, found.as_ref().map(|guard| guard.value()));
        }
        Ok(())
    }

    fn scan(
        &self,
        start: Start<'_>,
        limit: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let each = |(key, value): Entry<'_>| each(key.value(), value.value());
        match start {
            Start::First => walk(table.range::<&[u8]>(..)?, limit, each),
            Start::Last => walk(table.range::<&[u8]>(..)?.rev(), limit, each),
            Start::At(key) => walk(table.range(key..)?, limit, each),
        }
    }

    fn settle(&self) -> Result<()> {
        // A durable commit makes those before it durable. There is no background work.
        Ok(self.writing(true)?.commit()?)
    }

    fn close(self) -> Result<()> {
        Ok(self.0.close()?)
    }
}

//! What a transaction has written so far: the last value of each key, and how to take it back.
//!
//! Invariant: `undo` holds what every write since the oldest savepoint replaced, oldest first;
//! without a savepoint it is empty.

use crate::base::batch::WriteBatch;
use crate::base::error::{Error, Result};
use crate::base::slice::Slice;
use crate::base::sync::plain::AtomicU64;
use crate::base::types::KeyspaceId;
use crate::read::Bounds;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;

/// A point in a transaction; see [`Transaction::savepoint`](super::Transaction::savepoint).
#[derive(Debug)]
pub struct Savepoint {
    number: u64,
}

/// Numbers of savepoints, so that one is not taken for another transaction's.
static NEXT_SAVEPOINT: AtomicU64 = AtomicU64::new(0);

/// A key that was written: its value, or `None` when it was removed.
pub(super) type Written = (Vec<u8>, Option<Slice>);

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Writes {
    keyspaces: BTreeMap<KeyspaceId, BTreeMap<Vec<u8>, Option<Slice>>>,
    /// Number, and how long `undo` was.
    savepoints: Vec<(u64, usize)>,
    undo: Vec<Undo>,
}

#[derive(Debug)]
struct Undo {
    keyspace: KeyspaceId,
    key: Vec<u8>,
    /// `None`: the key was not written before.
    before: Option<Option<Slice>>,
}

impl Writes {
    /// How many keys were written.
    pub(super) fn len(&self) -> usize {
        self.keyspaces.values().map(BTreeMap::len).sum()
    }

    /// What was written to `key`, if anything was.
    pub(super) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Option<&Slice>> {
        let value = self.keyspaces.get(&keyspace)?.get(key)?;
        Some(value.as_ref())
    }

    /// What was written within `bounds`, in order.
    pub(super) fn within(&self, keyspace: KeyspaceId, bounds: &Bounds) -> VecDeque<Written> {
        let keys = self.keyspaces.get(&keyspace);
        // A `BTreeMap` panics when it is asked for a range that is inverted.
        let Some(keys) = keys.filter(|_| !bounds.is_inverted()) else {
            return VecDeque::new();
        };
        keys.range::<[u8], _>((bounds.lower(), bounds.upper()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Sets `key` to `value`, or removes it.
    pub(super) fn set(&mut self, keyspace: KeyspaceId, key: &[u8], value: Option<Slice>) {
        let keys = self.keyspaces.entry(keyspace).or_default();
        let before = keys.insert(key.to_vec(), value);
        if !self.savepoints.is_empty() {
            self.undo.push(Undo {
                keyspace,
                key: key.to_vec(),
                before,
            });
        }
    }

    /// A point to go back to.
    pub(super) fn savepoint(&mut self) -> Savepoint {
        // Relaxed: it only has to be another number each time.
        let number = NEXT_SAVEPOINT.fetch_add(1, Ordering::Relaxed);
        self.savepoints.push((number, self.undo.len()));
        Savepoint { number }
    }

    /// Takes back what was written since `savepoint`.
    pub(super) fn rollback_to(&mut self, savepoint: &Savepoint) -> Result<()> {
        let known = |(number, _): &(u64, usize)| *number == savepoint.number;
        let Some(place) = self.savepoints.iter().position(known) else {
            return Err(
                Error::invalid("the savepoint is not one of this transaction")
                    .advice("It was forgotten when an earlier one was rolled back to."),
            );
        };
        let (_, kept) = self.savepoints[place];
        self.savepoints.truncate(place + 1);
        for undo in self.undo.drain(kept..).rev() {
            let keys = self.keyspaces.entry(undo.keyspace).or_default();
            match undo.before {
                Some(value) => keys.insert(undo.key, value),
                None => keys.remove(&undo.key),
            };
        }
        Ok(())
    }

    /// All of it as one batch.
    pub(super) fn batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for (&keyspace, keys) in &self.keyspaces {
            for (key, value) in keys {
                match value {
                    Some(value) => batch.push_put(keyspace, key, value),
                    None => batch.push_delete(keyspace, key),
                }
            }
        }
        batch
    }
}

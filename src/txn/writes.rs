//! What a transaction has written so far to each key, and how to take it back.
//!
//! Invariant: `undo` holds what every write since the oldest savepoint replaced, oldest first;
//! without a savepoint it is empty.

use crate::base::batch::WriteBatch;
use crate::base::error::{Error, Result};
use crate::base::hooks::Folding;
use crate::base::ranges::{HalfOpen, Pieces};
use crate::base::slice::Slice;
use crate::base::sync::Arc;
use crate::base::sync::plain::AtomicU64;
use crate::base::types::{KeyspaceId, SeqNo, Time};
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

/// A value that was put.
#[derive(Clone, Debug)]
pub(super) struct OwnValue {
    pub(super) value: Slice,
    /// When it expires for others, if it does.
    pub(super) expiry: Option<Time>,
}

/// What was written to a key.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    /// Its value, or that it has none; `None`: that of the database.
    value: Option<Option<OwnValue>>,
    /// Merged into that, oldest first.
    operands: Vec<Slice>,
}

impl Own {
    /// True when the value follows from what was written alone.
    pub(super) fn is_whole(&self) -> bool {
        self.value.is_some()
    }

    /// The value, over the one that the database has.
    pub(super) fn over(
        &self,
        key: &[u8],
        stored: Option<&[u8]>,
        folding: &Folding,
    ) -> Result<Option<Slice>> {
        if let (Some(value), true) = (&self.value, self.operands.is_empty()) {
            return Ok(value.as_ref().map(|own| own.value.clone()));
        }
        let base = match &self.value {
            Some(value) => value.as_ref().map(|own| own.value.as_bytes()),
            None => stored,
        };
        let operands: Vec<&[u8]> = self.operands.iter().map(Slice::as_bytes).collect();
        let value = folding.value(key, base, &operands)?;
        Ok(Some(Slice::from(value)))
    }
}

/// A key that was written.
pub(super) type Written = (Vec<u8>, Own);

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Writes {
    keyspaces: BTreeMap<KeyspaceId, OfKeyspace>,
    /// Number, and how long `undo` was.
    savepoints: Vec<(u64, usize)>,
    undo: Vec<Undo>,
}

#[derive(Debug, Default)]
struct OfKeyspace {
    keys: BTreeMap<Vec<u8>, Own>,
    /// Ranges that were deleted, all at [`DELETED_AT`]; what was written to their keys later is in
    /// `keys`.
    deleted: Arc<Pieces>,
}

/// A transaction's own deletions have no order: what came later is a key's own.
const DELETED_AT: SeqNo = SeqNo::MAX;

#[derive(Debug)]
struct Undo {
    keyspace: KeyspaceId,
    before: Before,
}

/// What a write has replaced.
#[derive(Debug)]
enum Before {
    Unwritten(Vec<u8>),
    Written(Vec<u8>, Own),
    /// Written, and one operand shorter: so a long row of merges costs no more than it has.
    WithoutLastOperand(Vec<u8>),
    Deleted(Arc<Pieces>),
}

impl Writes {
    /// How many keys were written.
    pub(super) fn len(&self) -> usize {
        self.keyspaces.values().map(|own| own.keys.len()).sum()
    }

    /// What was written to `key`, if anything was.
    pub(super) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<&Own> {
        self.keyspaces.get(&keyspace)?.keys.get(key)
    }

    /// Ranges of which only what was written later is there.
    pub(super) fn deleted(&self, keyspace: KeyspaceId) -> Arc<Pieces> {
        let own = self.keyspaces.get(&keyspace);
        own.map_or_else(Arc::default, |own| Arc::clone(&own.deleted))
    }

    /// What was written within `bounds`, in order.
    pub(super) fn within(&self, keyspace: KeyspaceId, bounds: &Bounds) -> VecDeque<Written> {
        let keys = self.keyspaces.get(&keyspace).map(|own| &own.keys);
        // A `BTreeMap` panics when it is asked for a range that is inverted.
        let Some(keys) = keys.filter(|_| !bounds.is_inverted()) else {
            return VecDeque::new();
        };
        keys.range::<[u8], _>((bounds.lower(), bounds.upper()))
            .map(|(key, own)| (key.clone(), own.clone()))
            .collect()
    }

    /// Sets `key` to `value`, or removes it.
    pub(super) fn set(&mut self, keyspace: KeyspaceId, key: &[u8], value: Option<OwnValue>) {
        let keys = &mut self.keyspaces.entry(keyspace).or_default().keys;
        let own = Own {
            value: Some(value),
            operands: Vec::new(),
        };
        let before = match keys.insert(key.to_vec(), own) {
            Some(own) => Before::Written(key.to_vec(), own),
            None => Before::Unwritten(key.to_vec()),
        };
        self.note(keyspace, before);
    }

    /// Removes every key of `range`.
    pub(super) fn delete_range(&mut self, keyspace: KeyspaceId, range: HalfOpen) {
        let own = self.keyspaces.entry(keyspace).or_default();
        let (lower, upper) = range.bounds();
        let within = (lower.map(<[u8]>::to_vec), upper.map(<[u8]>::to_vec));
        let replaced: Vec<Written> = own.keys.extract_if(within, |_, _| true).collect();
        let deleted = own.deleted.merged(&Pieces::of([(range, DELETED_AT)]));
        let before = std::mem::replace(&mut own.deleted, Arc::new(deleted));
        for (key, own) in replaced {
            self.note(keyspace, Before::Written(key, own));
        }
        self.note(keyspace, Before::Deleted(before));
    }

    /// Merges `operand` into the value of `key`.
    pub(super) fn merge(&mut self, keyspace: KeyspaceId, key: &[u8], operand: Slice) {
        let keys = &mut self.keyspaces.entry(keyspace).or_default().keys;
        let before = match keys.get_mut(key) {
            Some(own) => {
                own.operands.push(operand);
                Before::WithoutLastOperand(key.to_vec())
            }
            None => {
                let operands = vec![operand];
                let own = Own {
                    operands,
                    ..Own::default()
                };
                keys.insert(key.to_vec(), own);
                Before::Unwritten(key.to_vec())
            }
        };
        self.note(keyspace, before);
    }

    fn note(&mut self, keyspace: KeyspaceId, before: Before) {
        if !self.savepoints.is_empty() {
            self.undo.push(Undo { keyspace, before });
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
            let OfKeyspace { keys, deleted } = self.keyspaces.entry(undo.keyspace).or_default();
            match undo.before {
                Before::Written(key, own) => drop(keys.insert(key, own)),
                Before::Unwritten(key) => drop(keys.remove(&key)),
                Before::WithoutLastOperand(key) => {
                    keys.get_mut(&key).and_then(|own| own.operands.pop());
                }
                Before::Deleted(before) => *deleted = before,
            }
        }
        Ok(())
    }

    /// All of it as one batch.
    pub(super) fn batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for (&keyspace, own) in &self.keyspaces {
            for piece in own.deleted.iter() {
                batch.push_delete_range(keyspace, &piece.range);
            }
            for (key, own) in &own.keys {
                match &own.value {
                    Some(Some(own)) => {
                        batch.push_put_until(keyspace, key, &own.value, own.expiry);
                    }
                    Some(None) => batch.push_delete(keyspace, key),
                    None => {}
                }
                for operand in &own.operands {
                    batch.push_merge(keyspace, key, operand);
                }
            }
        }
        batch
    }
}

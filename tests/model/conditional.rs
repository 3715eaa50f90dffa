//! Writes that depend on what is there: swaps, updates and transactions.

use super::keys::{KEYS, Value, key};
use super::op::{Kind, Op, Random};
use super::reads::check_value;
use super::scans::{Turn, check_iter};
use super::world::World;
use super::writes::{bounds_of, short_ranks};
use alluvium::{Durability, ErrorKind, Result, Savepoint, Transaction, WriteOptions};
use std::collections::BTreeMap;

/// What a transaction has written, by keyspace and rank.
type Own = BTreeMap<(usize, u8), Option<Value>>;

impl World {
    pub(super) fn conditional(&mut self, op: &Op) -> Result<()> {
        match op.kind {
            Kind::Swap | Kind::SwapRefused | Kind::PutIfAbsent => self.swap(op),
            Kind::Update => self.update(op),
            _ => self.transact(op),
        }
    }

    /// A new value, or in one of four cases none.
    fn next_value(&mut self, op: &Op) -> Option<Value> {
        let len = usize::from(op.len) % 48;
        (!op.seed.is_multiple_of(4)).then(|| self.oracle.value(len))
    }

    fn swap(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        let there = self.oracle.get(n, op.a);
        let old = bytes_of(there);
        if op.kind == Kind::SwapRefused {
            let wrong: Option<&[u8]> = there.is_none().then_some(b"not there");
            let swapped = self.handle(n).compare_and_swap(key(op.a), wrong, None);
            return self.refused(swapped, ErrorKind::Conflict);
        }
        let next = match op.kind {
            Kind::PutIfAbsent => Some(self.oracle.value(usize::from(op.len) % 48)),
            _ => self.next_value(op),
        };
        let new = bytes_of(next);
        if op.kind == Kind::PutIfAbsent && there.is_some() {
            let put = self
                .handle(n)
                .put_if_absent(key(op.a), new.unwrap_or_default());
            return self.refused(put, ErrorKind::Conflict);
        }
        self.oracle.begin();
        if there.is_some() || next.is_some() {
            self.oracle.record(n, op.a, next);
        }
        let space = self.handle(n);
        let swapped = match op.kind {
            Kind::PutIfAbsent => space.put_if_absent(key(op.a), new.unwrap_or_default()),
            _ => space.compare_and_swap(key(op.a), old.as_deref(), new.as_deref()),
        };
        self.written(op.kind, swapped)
    }

    fn update(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        let there = self.oracle.get(n, op.a);
        let next = self.next_value(op);
        let new = bytes_of(next);
        self.oracle.begin();
        if there.is_some() || next.is_some() {
            self.oracle.record(n, op.a, next);
        }
        let updated = self.handle(n).update(key(op.a), |found| {
            check_value(found, there, op.a);
            new.clone()
        });
        if let Ok(value) = &updated {
            assert_eq!(
                value.as_deref(),
                new.as_deref(),
                "it gives what is there now"
            );
        }
        self.written(op.kind, updated)
    }

    /// Some reads and writes, and then a commit, a conflict, or nothing.
    fn transact(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        let mut random = op.details();
        let mut tx = self.db().begin();
        let mut own = Own::new();
        let mut savepoints: Vec<(Savepoint, Own)> = Vec::new();
        for _ in 0..1 + op.len % 12 {
            self.transact_step(op, &mut random, &mut tx, &mut own, &mut savepoints)?;
        }
        if op.kind == Kind::TransactDrop {
            return Ok(());
        }
        if op.kind == Kind::TransactConflict {
            let mut other = self.db().begin();
            check_value(
                other.get(self.handle(n), key(op.a))?.as_deref(),
                self.oracle.get(n, op.a),
                op.a,
            );
            other.put(self.handle(n), key(op.b), b"not to be seen");
            let put = Op {
                kind: Kind::Put,
                ..*op
            };
            self.put(&put)?;
            return self.refused(other.commit(), ErrorKind::Conflict);
        }
        self.oracle.begin();
        for ((n, rank), value) in own {
            self.oracle.record(n, rank, value);
        }
        let synced = WriteOptions::new().durability(Durability::Synced);
        let committed = match op.kind {
            Kind::TransactSynced => tx.commit_with(synced),
            _ => tx.commit(),
        };
        self.written(op.kind, committed)
    }

    fn transact_step(
        &mut self,
        op: &Op,
        random: &mut Random,
        tx: &mut Transaction,
        own: &mut Own,
        savepoints: &mut Vec<(Savepoint, Own)>,
    ) -> Result<()> {
        let alive: Vec<usize> = (0..self.spaces.len())
            .filter(|n| self.spaces[*n].is_some())
            .collect();
        let n = random.pick(&alive);
        let rank =
            op.a.wrapping_add(random.below(1 + usize::from(op.b) % 32) as u8);
        match random.below(13) {
            12 => {
                let ranks = short_ranks(rank, random.byte(), random.byte());
                match bounds_of(&ranks) {
                    (from, Some(to)) => tx.delete_range(self.handle(n), from..to),
                    (from, None) => tx.delete_range(self.handle(n), from..),
                }
                let there = self.oracle.entries(n, u32::MAX, ranks.clone()).into_iter();
                own.extend(there.map(|(rank, _)| ((n, rank), None)));
                for ((space, rank), value) in own.iter_mut() {
                    if *space == n && ranks.contains(&usize::from(*rank)) {
                        *value = None;
                    }
                }
            }
            10..12 if self.takes_merges(n) => {
                let there = self.oracle.get(n, rank);
                let before = own.get(&(n, rank)).copied().unwrap_or(there);
                let map = self.oracle.map(random.next() as u16);
                tx.merge(self.handle(n), key(rank), map.encode());
                own.insert((n, rank), Some(Value::merge(before, map)));
            }
            0..3 => {
                let value = self.oracle.value(random.below(48));
                value.fill(&mut self.scratch);
                tx.put(self.handle(n), key(rank), &self.scratch);
                own.insert((n, rank), Some(value));
            }
            3..5 => {
                tx.delete(self.handle(n), key(rank));
                own.insert((n, rank), None);
            }
            5..7 => {
                let there = self.oracle.get(n, rank);
                let expected = own.get(&(n, rank)).copied().unwrap_or(there);
                let found = tx.get(self.handle(n), key(rank))?;
                check_value(found.as_deref(), expected, rank);
            }
            7 => savepoints.push((tx.savepoint(), own.clone())),
            8 => {
                if !savepoints.is_empty() {
                    savepoints.truncate(1 + random.below(savepoints.len()));
                    let (savepoint, then) = &savepoints[savepoints.len() - 1];
                    tx.rollback_to(savepoint)?;
                    own.clone_from(then);
                }
            }
            _ => {
                let last = rank.saturating_add(random.below(40) as u8);
                let ranks = usize::from(rank)..(usize::from(last) + 1).min(KEYS);
                let there = self.oracle.entries(n, u32::MAX, ranks);
                let mut merged: BTreeMap<u8, Option<Value>> =
                    there.into_iter().map(|(k, v)| (k, Some(v))).collect();
                let written = own.range((n, rank)..=(n, last));
                merged.extend(written.map(|((_, k), value)| (*k, *value)));
                let expected: Vec<(u8, Value)> = merged
                    .into_iter()
                    .filter_map(|(k, value)| Some((k, value?)))
                    .collect();
                let iter = tx.range(self.handle(n), key(rank)..=key(last));
                check_iter(iter, &expected, Turn::Mixed(random.clone()))?;
            }
        }
        Ok(())
    }
}

fn bytes_of(value: Option<Value>) -> Option<Vec<u8>> {
    value.map(|value| {
        let mut bytes = Vec::new();
        value.fill(&mut bytes);
        bytes
    })
}

//! What must be there: every keyspace as a map of versions, and what a power loss may take.
//!
//! ```text
//! base      the contents at the last sync
//! journal   the changes since then, in write order, each with the version of its batch
//! maps      (key, version) -> value: base plus journal, and older versions while one is pinned
//! ```
//! A version is the number of a batch here, not the engine's. What has expired is deleted by a batch
//! of its own when time goes on, which is no write of the engine's: at a restart an expired value
//! and none are the same. A keyspace that was dropped takes
//! its changes with it: a drop is durable when it returns. Knows nothing of the engine.

use super::keys::{KEYS, NEVER, Value};
use super::operator::Map;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

/// What was found in one keyspace: bytes by the rank of their key.
pub(crate) type Found = BTreeMap<u8, Vec<u8>>;

type Contents = Box<[Option<Value>; KEYS]>;

#[derive(Debug)]
struct Space {
    /// Which keyspace of that name this is; `None` when there is none.
    life: Option<u32>,
    map: BTreeMap<(u8, Reverse<u32>), Option<Value>>,
    base: Contents,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    version: u32,
    space: usize,
    life: u32,
    key: u8,
    value: Option<Value>,
}

/// The model of a database.
#[derive(Debug)]
pub(crate) struct Oracle {
    spaces: Vec<Space>,
    version: u32,
    /// The newest version that was acknowledged.
    acknowledged: u32,
    /// The newest version that survives a power loss for certain.
    synced: u32,
    journal: Vec<Change>,
    pins: Vec<u32>,
    lives: u32,
    writes: u32,
    /// The time now, in milliseconds.
    now: u64,
}

impl Oracle {
    /// A database with no keyspace yet, and room for so many.
    pub(crate) fn new(spaces: usize) -> Oracle {
        let space = |_| Space {
            life: None,
            map: BTreeMap::new(),
            base: Box::new([None; KEYS]),
        };
        Oracle {
            spaces: (0..spaces).map(space).collect(),
            version: 0,
            acknowledged: 0,
            synced: 0,
            journal: Vec::new(),
            pins: Vec::new(),
            lives: 0,
            writes: 0,
            now: 0,
        }
    }

    /// A value that no write had before.
    pub(crate) fn value(&mut self, len: usize) -> Value {
        self.writes += 1;
        Value {
            len: len as u32,
            write: self.writes,
            merged: None,
            expiry: NEVER,
        }
    }

    /// A value that no write had before, and that expires so many milliseconds from now.
    pub(crate) fn value_until(&mut self, len: usize, millis: u64) -> Value {
        let expiry = self.now + millis;
        Value {
            expiry,
            ..self.value(len)
        }
    }

    /// It is so late now.
    pub(crate) fn go_on(&mut self, now: u64) {
        self.now = now;
        let mut expired = Vec::new();
        for space in 0..self.spaces.len() {
            let all = self.all(space).into_iter();
            let gone = all.filter(|(_, value)| value.expiry <= now);
            expired.extend(gone.map(|(key, _)| (space, key)));
        }
        if !expired.is_empty() {
            let is_all_acknowledged = self.acknowledged == self.version;
            self.begin();
            for (space, key) in expired {
                self.record(space, key, None);
            }
            if is_all_acknowledged {
                self.acknowledge();
            }
        }
    }

    /// An operand that no merge had before.
    pub(crate) fn map(&mut self, seed: u16) -> Map {
        self.writes += 1;
        Map {
            factor: u64::from(seed) | 1,
            summand: u64::from(self.writes),
        }
    }

    /// So late is it now.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Which keyspace of that name there is.
    pub(crate) fn life(&self, space: usize) -> Option<u32> {
        self.spaces[space].life
    }

    /// True when there is such a keyspace.
    pub(crate) fn is_alive(&self, space: usize) -> bool {
        self.spaces[space].life.is_some()
    }

    /// A keyspace was made.
    pub(crate) fn create(&mut self, space: usize) {
        self.lives += 1;
        self.spaces[space].life = Some(self.lives);
    }

    /// A keyspace was dropped, with everything in it.
    pub(crate) fn drop_space(&mut self, space: usize) {
        let gone = &mut self.spaces[space];
        gone.life = None;
        gone.map.clear();
        gone.base.fill(None);
        self.journal.retain(|change| change.space != space);
    }

    /// Starts a batch.
    pub(crate) fn begin(&mut self) {
        self.version += 1;
    }

    /// Adds a change to the batch.
    pub(crate) fn record(&mut self, space: usize, key: u8, value: Option<Value>) {
        let version = self.version;
        let Space { life, map, .. } = &mut self.spaces[space];
        self.journal.push(Change {
            version,
            space,
            life: life.expect("only what is there is written to"),
            key,
            value,
        });
        let before = versions(map, key, u32::MAX).next().map(|(at, _)| at);
        if let Some(before) = before
            && !self.pins.iter().any(|pin| (before..version).contains(pin))
        {
            map.remove(&(key, Reverse(before)));
        }
        if value.is_some() || !self.pins.is_empty() {
            map.insert((key, Reverse(version)), value);
        }
    }

    /// Adds a merge to the batch.
    pub(crate) fn record_merge(&mut self, space: usize, key: u8, map: Map) {
        let merged = Value::merge(self.get(space, key), map);
        self.record(space, key, Some(merged));
    }

    /// Adds the deletion of a range of keys to the batch.
    pub(crate) fn record_range(&mut self, space: usize, ranks: Range<usize>) {
        for (key, _) in self.entries(space, u32::MAX, ranks) {
            self.record(space, key, None);
        }
    }

    /// The batch was acknowledged, or nothing was in it.
    pub(crate) fn acknowledge(&mut self) {
        self.acknowledged = self.version;
    }

    /// Everything acknowledged survives from now on.
    pub(crate) fn sync(&mut self) {
        self.synced = self.acknowledged;
        let (synced, spaces) = (self.synced, &mut self.spaces);
        self.journal.retain(|change| {
            let is_kept = synced < change.version;
            if !is_kept {
                spaces[change.space].base[usize::from(change.key)] = change.value;
            }
            is_kept
        });
    }

    /// The version now, kept until [`Oracle::unpin`].
    pub(crate) fn pin(&mut self) -> u32 {
        self.pins.push(self.version);
        self.version
    }

    /// A version that was pinned is asked for no more.
    pub(crate) fn unpin(&mut self, version: u32) {
        if let Some(i) = self.pins.iter().position(|pin| *pin == version) {
            self.pins.swap_remove(i);
        }
        if self.pins.is_empty() {
            for space in &mut self.spaces {
                let mut last = None;
                space.map.retain(|(key, _), value| {
                    let is_newest = last.replace(*key) != Some(*key);
                    is_newest && value.is_some()
                });
            }
        }
    }

    /// The value of a key now.
    pub(crate) fn get(&self, space: usize, key: u8) -> Option<Value> {
        self.get_at(space, key, u32::MAX)
    }

    /// The value that a key had at a version.
    pub(crate) fn get_at(&self, space: usize, key: u8, version: u32) -> Option<Value> {
        let mut found = versions(&self.spaces[space].map, key, version);
        found.next().and_then(|(_, value)| value)
    }

    /// The entries at a version whose keys are of these ranks.
    pub(crate) fn entries(
        &self,
        space: usize,
        version: u32,
        ranks: Range<usize>,
    ) -> Vec<(u8, Value)> {
        if ranks.is_empty() {
            return Vec::new();
        }
        let first = (ranks.start as u8, Reverse(u32::MAX));
        let last = ((ranks.end - 1) as u8, Reverse(0));
        let mut entries = Vec::new();
        let mut decided = None;
        for ((key, Reverse(at)), value) in self.spaces[space].map.range(first..=last) {
            if *at <= version && decided.replace(*key) != Some(*key) {
                entries.extend(value.map(|value| (*key, value)));
            }
        }
        entries
    }

    /// All entries now.
    pub(crate) fn all(&self, space: usize) -> Vec<(u8, Value)> {
        self.entries(space, u32::MAX, 0..KEYS)
    }

    /// Takes what was found after a restart, one entry for each keyspace, as what is there from
    /// now on. It has to be what some number of batches left, with every one in it that had to
    /// survive; what is `durable` cannot be lost any more.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn settle(
        &mut self,
        found: &[Found],
        required: Required,
        durable: bool,
    ) -> Result<(), String> {
        let least = match required {
            Required::Synced => self.synced,
            Required::Acknowledged => self.acknowledged,
        };
        let chosen = self.prefix(found, least)?;
        self.journal.retain(|change| change.version <= chosen);
        self.acknowledged = self.version;
        self.pins.clear();
        if durable {
            self.sync();
        }
        for space in &mut self.spaces {
            space.map.clear();
            let kept = (0u8..=u8::MAX).zip(space.base.iter());
            let kept = kept.filter_map(|(key, value)| Some(((key, Reverse(0)), Some((*value)?))));
            space.map.extend(kept);
        }
        for change in &self.journal {
            let map = &mut self.spaces[change.space].map;
            let before = versions(map, change.key, u32::MAX).next();
            if let Some((before, _)) = before {
                map.remove(&(change.key, Reverse(before)));
            }
            if change.value.is_some() {
                map.insert((change.key, Reverse(change.version)), change.value);
            }
        }
        self.go_on(self.now);
        Ok(())
    }

    /// The newest version from `least` on at which the contents were those found.
    fn prefix(&self, found: &[Found], least: u32) -> Result<u32, String> {
        let mut state: Vec<Contents> = self.spaces.iter().map(|s| s.base.clone()).collect();
        let is_found = |space: usize, key: u8, value: Option<Value>| {
            let value = value.filter(|value| self.now < value.expiry);
            match found[space].get(&key) {
                Some(bytes) => value.is_some_and(|value| value.is(bytes)),
                None => value.is_none(),
            }
        };
        let mut wrong: usize = (0..self.spaces.len())
            .map(|space| {
                let keys = (0u8..=u8::MAX).zip(state[space].iter());
                keys.filter(|(key, value)| !is_found(space, *key, **value))
                    .count()
            })
            .sum();
        // Batches without a change, between the last sync and the first change, leave no trace.
        let first = self.journal.first();
        let end = first.map_or(self.version, |change| change.version - 1);
        let mut chosen = (wrong == 0 && least <= end).then_some(end);
        let mut nearest = (wrong, self.synced);
        for (i, change) in self.journal.iter().enumerate() {
            let (space, key) = (change.space, change.key);
            assert_eq!(self.spaces[space].life, Some(change.life));
            let value = &mut state[space][usize::from(key)];
            wrong -= usize::from(!is_found(space, key, *value));
            *value = change.value;
            wrong += usize::from(!is_found(space, key, *value));
            let next = self.journal.get(i + 1);
            if next.is_some_and(|next| next.version == change.version) {
                continue;
            }
            // Batches without a change for a keyspace that is still there leave no trace.
            let end = next.map_or(self.version, |next| next.version - 1);
            if wrong == 0 && least <= end {
                chosen = Some(end);
            }
            if wrong < nearest.0 {
                nearest = (wrong, change.version);
            }
        }
        chosen.ok_or_else(|| {
            format!(
                "what is there is no prefix of the batches up to {} with the first {least} in it; \
                 the nearest is that of {} with {} keys wrong",
                self.version, nearest.1, nearest.0
            )
        })
    }
}

/// What a restart must not lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Required {
    Synced,
    Acknowledged,
}

/// The versions of a key from `version` down, newest first.
fn versions(
    map: &BTreeMap<(u8, Reverse<u32>), Option<Value>>,
    key: u8,
    version: u32,
) -> impl Iterator<Item = (u32, Option<Value>)> {
    map.range((key, Reverse(version))..=(key, Reverse(0)))
        .map(|((_, Reverse(at)), value)| (*at, *value))
}

/// Found by the fuzz target `model`: the oracle took an empty batch for a lost one.
#[test]
fn an_empty_batch_before_one_that_failed_is_not_missed() {
    let mut oracle = Oracle::new(1);
    oracle.create(0);
    oracle.sync();
    oracle.begin();
    oracle.acknowledge();
    oracle.begin();
    let value = oracle.value(3);
    oracle.record(0, 7, Some(value));
    let nothing = [Found::new()];
    assert_eq!(
        oracle.settle(&nothing, Required::Acknowledged, false),
        Ok(())
    );
}

//! Writes, upkeep and keyspaces: what changes something.
//!
//! The oracle hears of a write before the engine does: if the power goes in the middle, the write
//! may be there or not.

use super::keys::{KEYS, key};
use super::op::{Kind, Op, Random};
use super::world::{NAMES, World};
use alluvium::{
    Durability, ErrorKind, KeyspaceOptions, KeyspaceStats, Result, SeqNo, WriteBatch, WriteOptions,
};
use std::ops::Range;
use std::time::Duration;

/// A key is at most this long.
const KEY_BYTES_MAX: usize = 64 << 10;

/// What is loaded into a keyspace.
type Part = (usize, Vec<(&'static [u8], Vec<u8>)>);

impl World {
    pub(super) fn put(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        let len = match op.kind {
            Kind::PutLarge => 512 + usize::from(op.len) * 10,
            Kind::PutEmpty => 0,
            _ => usize::from(op.len) % 48,
        };
        let mut options = WriteOptions::new();
        let value = match op.kind {
            Kind::PutExpiring if !self.takes_merges(n) => {
                let millis = self.millis(op.seed.into());
                options = options.ttl(Duration::from_millis(millis));
                self.oracle.value_until(len, millis)
            }
            _ => self.oracle.value(len),
        };
        value.fill(&mut self.scratch);
        self.oracle.begin();
        self.oracle.record(n, op.a, Some(value));
        let (space, bytes) = (self.handle(n), &self.scratch);
        let written = match durability(op.kind) {
            None if op.kind == Kind::PutExpiring => space.put_with(key(op.a), bytes, options),
            None => space.put(key(op.a), bytes),
            Some(it) => space.put_with(key(op.a), bytes, WriteOptions::new().durability(it)),
        };
        self.written(op.kind, written)
    }

    /// How long a value lives: in the simulator some seconds and a half, so that none expires in the
    /// millisecond of a read; elsewhere, where time goes on by itself, longer than any test.
    fn millis(&self, seed: u64) -> u64 {
        match self.sim() {
            Some(_) => seed % 20 * 1000 + 500,
            None => 1 << 40,
        }
    }

    pub(super) fn delete(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        self.oracle.begin();
        self.oracle.record(n, op.a, None);
        let written = match durability(op.kind) {
            None => self.handle(n).delete(key(op.a)),
            Some(it) => {
                let options = WriteOptions::new().durability(it);
                self.handle(n).delete_with(key(op.a), options)
            }
        };
        self.written(op.kind, written)
    }

    pub(super) fn merge(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        let map = self.oracle.map(op.seed);
        if !self.takes_merges(n) {
            let merged = self.handle(n).merge(key(op.a), map.encode());
            return self.refused(merged, ErrorKind::InvalidArgument);
        }
        self.oracle.begin();
        self.oracle.record_merge(n, op.a, map);
        let (space, operand) = (self.handle(n), map.encode());
        let written = match durability(op.kind) {
            None => space.merge(key(op.a), operand),
            Some(it) => {
                let options = WriteOptions::new().durability(it);
                space.merge_with(key(op.a), operand, options)
            }
        };
        self.written(op.kind, written)
    }

    pub(super) fn delete_range(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        let ranks = short_ranks(op.a, op.b, op.len);
        self.oracle.begin();
        self.oracle.record_range(n, ranks.clone());
        let options = match durability(op.kind) {
            None => WriteOptions::new(),
            Some(it) => WriteOptions::new().durability(it),
        };
        let space = self.handle(n);
        let deleted = match bounds_of(&ranks) {
            (from, None) if op.seed.is_multiple_of(2) => space.delete_range_with(from.., options),
            (from, None) => space.delete_range_with(from..=key(u8::MAX), options),
            (from, Some(to)) if op.seed.is_multiple_of(2) || ranks.is_empty() => {
                space.delete_range_with(from..to, options)
            }
            (from, Some(_)) => {
                let last = key((ranks.end - 1) as u8);
                space.delete_range_with(from..=last, options)
            }
        };
        self.written(op.kind, deleted)
    }

    pub(super) fn batch(&mut self, op: &Op) -> Result<()> {
        self.space(op)?;
        let mut random = op.details();
        let alive: Vec<usize> = (0..self.spaces.len())
            .filter(|n| self.spaces[*n].is_some())
            .collect();
        let count = match op.kind {
            Kind::BatchEmpty | Kind::BatchEmptySynced => 0,
            Kind::BatchBig => 20,
            _ => 1 + usize::from(op.len) % 24,
        };
        let mut batch = WriteBatch::new();
        self.oracle.begin();
        for _ in 0..count {
            let n = random.pick(&alive);
            let rank = match op.kind {
                Kind::BatchOneKey | Kind::BatchMerge => op.a,
                _ => {
                    op.a.wrapping_add(random.below(1 + usize::from(op.b) % 32) as u8)
                }
            };
            let merges = match op.kind {
                Kind::BatchMerge => 7,
                _ => 2,
            };
            let what = random.below(10);
            if op.kind == Kind::BatchRange && what.is_multiple_of(3) {
                let ranks = short_ranks(rank, random.byte(), random.byte());
                // An empty one would be no operation.
                let ranks = ranks.start..ranks.end.max(ranks.start + 1);
                let (from, to) = bounds_of(&ranks);
                match to {
                    Some(to) => batch.delete_range(self.handle(n), from..to),
                    None => batch.delete_range(self.handle(n), from..),
                }
                self.oracle.record_range(n, ranks);
            } else if what < merges && self.takes_merges(n) {
                let map = self.oracle.map(random.next() as u16);
                batch.merge(self.handle(n), key(rank), map.encode());
                self.oracle.record_merge(n, rank, map);
            } else if op.kind == Kind::BatchExpiring && what < 5 && !self.takes_merges(n) {
                let millis = self.millis(random.next());
                let value = self.oracle.value_until(random.below(40), millis);
                value.fill(&mut self.scratch);
                let ttl = Duration::from_millis(millis);
                batch.put_with_ttl(self.handle(n), key(rank), &self.scratch, ttl);
                self.oracle.record(n, rank, Some(value));
            } else if what < 7 {
                let value = self.oracle.value(batch_value_bytes(op.kind, &mut random));
                value.fill(&mut self.scratch);
                batch.put(self.handle(n), key(rank), &self.scratch);
                self.oracle.record(n, rank, Some(value));
            } else {
                batch.delete(self.handle(n), key(rank));
                self.oracle.record(n, rank, None);
            }
        }
        assert_eq!((batch.len(), batch.is_empty()), (count, count == 0));
        let options = match durability(op.kind) {
            None => WriteOptions::new(),
            Some(it) => WriteOptions::new().durability(it),
        };
        let written = self.db().write(&batch, options);
        if let Ok(seqno) = written
            && !self.is_crashed()
            && 0 < count
        {
            assert!(
                self.newest < seqno,
                "P6: {seqno} is not above {}",
                self.newest
            );
            self.newest = seqno;
            assert!(seqno <= self.db().seqno(), "acknowledged, so visible");
        }
        self.written(op.kind, written)
    }

    pub(super) fn load(&mut self, op: &Op) -> Result<()> {
        self.space(op)?;
        let mut random = op.details();
        let mut parts = Vec::new();
        self.oracle.begin();
        for n in (0..self.spaces.len()).filter(|n| self.spaces[*n].is_some()) {
            let last = op.a.saturating_add(random.byte() % 64);
            let step = 1 + random.below(9);
            let ranks = (op.a..=last).step_by(step);
            let mut pairs = Vec::new();
            for rank in ranks.filter(|_| op.b % 4 != n as u8) {
                let value = self.oracle.value(random.below(60));
                value.fill(&mut self.scratch);
                pairs.push((key(rank), self.scratch.clone()));
                self.oracle.record(n, rank, Some(value));
            }
            // In two parts, of which each may be empty.
            let rest = pairs.split_off(pairs.len() / 2 * (random.below(3)));
            parts.extend([(n, pairs), (n, rest)]);
        }
        let loaded = self.load_parts(&parts);
        if let Ok(seqno) = loaded
            && !self.is_crashed()
        {
            assert_eq!(seqno, self.db().seqno());
            self.newest = self.newest.max(seqno);
        }
        self.written(op.kind, loaded)
    }

    fn load_parts(&self, parts: &[Part]) -> Result<SeqNo> {
        let mut load = self.db().ingestion()?;
        for (n, pairs) in parts {
            let count = load.add(self.handle(*n), pairs.iter().map(|(k, v)| (k, v)))?;
            assert_eq!(count, pairs.len() as u64);
        }
        load.commit()
    }

    /// A write came back. Behind a crash nothing counts: a store through a mapping cannot fail.
    pub(super) fn written<T>(&mut self, kind: Kind, result: Result<T>) -> Result<()> {
        result?;
        if !self.is_crashed() {
            self.oracle.acknowledge();
            if durability(kind) == Some(Durability::Synced) {
                self.oracle.sync();
            }
        }
        Ok(())
    }

    /// Too large: refused whole, and nothing of it is ever seen.
    pub(super) fn too_large(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        let mut batch = WriteBatch::new();
        batch.put(self.handle(n), key(op.a), b"not to be seen");
        if op.kind == Kind::KeyTooLarge {
            let long = vec![b'k'; KEY_BYTES_MAX + 1 + usize::from(op.len)];
            self.refused(self.handle(n).put(&long, b"v"), ErrorKind::TooLarge)?;
            batch.delete(self.handle(n), &long);
        } else {
            let much = vec![0; self.settings.memory_bytes as usize / 4];
            batch.put(self.handle(n), key(op.b), &much);
        }
        let written = self.db().write(&batch, WriteOptions::new());
        self.refused(written, ErrorKind::TooLarge)
    }

    pub(super) fn upkeep(&mut self, op: &Op) -> Result<()> {
        match op.kind {
            Kind::Flush => {
                self.db().flush()?;
                self.now_synced();
            }
            Kind::Sync => {
                self.db().sync()?;
                self.now_synced();
            }
            Kind::Compact => {
                let n = self.space(op)?;
                self.handle(n).compact()?;
                self.check_compacted(n);
            }
            Kind::CompactRange => {
                let n = self.space(op)?;
                let (from, to) = (key(op.a), key(op.b));
                match op.len % 4 {
                    0 => self.handle(n).compact_range(from..to)?,
                    1 => self.handle(n).compact_range(from..=to)?,
                    2 => self.handle(n).compact_range(from..)?,
                    _ => self.handle(n).compact_range(..to)?,
                }
            }
            Kind::Verify => {
                let report = self.db().verify()?;
                let is_excused = self.is_crashed() || self.has_fault_struck();
                assert!(
                    report.problems.is_empty() || is_excused,
                    "{:?}",
                    report.problems
                );
            }
            Kind::Explain => {
                let n = self.space(op)?;
                self.explain(n, op.a)?;
            }
            _ => self.check_stats(),
        }
        Ok(())
    }

    fn explain(&self, n: usize, rank: u8) -> Result<()> {
        let (space, db) = (self.handle(n), self.db());
        let report = space.explain_get(key(rank))?;
        let found = space.get(key(rank))?;
        // On the disk time goes on between the two, and a value may expire.
        if self.sim().is_some() {
            let found = found.map(|value| value.len() as u64);
            assert_eq!(report.value_bytes, found, "{report}");
        }
        let space = db.why_space()?;
        let tables = space.keyspaces.iter().map(|it| it.tables.bytes);
        assert!(tables.sum::<u64>() <= space.bytes() && !space.to_string().is_empty());
        // An iterator that has ended lets go; one that is read from both ends counts twice.
        let least = self.snapshots.len() + self.cursors.len();
        let most = least + 2 * self.iters.len();
        let readers = db.oldest_pin().map_or(0, |pin| pin.readers) as usize;
        assert!((least..=most).contains(&readers), "{readers}");
        Ok(())
    }

    fn now_synced(&mut self) {
        if !self.is_crashed() {
            self.oracle.sync();
        }
    }

    /// After a compaction that no reader holds back, only what is there is left.
    fn check_compacted(&self, n: usize) {
        let is_quiet = self.settings.threads == 0
            && self.snapshots.is_empty()
            && self.iters.is_empty()
            && self.cursors.is_empty();
        if !is_quiet || self.is_crashed() || self.has_fault_struck() {
            return;
        }
        let stats = self.db().stats();
        let stats = stats.keyspaces.iter().find(|stats| stats.name == NAMES[n]);
        let stats = stats.expect("every keyspace has figures");
        let sum = |of: fn(&alluvium::LevelStats) -> u64| stats.levels.iter().map(of).sum::<u64>();
        let runs = sum(|level| level.runs.len() as u64);
        assert!(runs <= 1, "a compacted keyspace has {runs} runs");
        let left = self.oracle.all(n).len() as u64;
        assert_eq!(
            (
                sum(alluvium::LevelStats::entries),
                sum(alluvium::LevelStats::tombstones)
            ),
            (left, 0),
            "entries and tombstones of a compacted keyspace"
        );
    }

    fn check_stats(&mut self) {
        let stats = self.db().stats();
        let names: Vec<&str> = stats.keyspaces.iter().map(|it| &it.name[..]).collect();
        let mut expected = self.names();
        expected.sort();
        if self.in_flight.is_none() {
            assert_eq!(names, expected);
        }
        stats.keyspaces.iter().for_each(check_levels);
        assert!(stats.write_amplification().is_finite());
        assert!(!stats.levels_picture(60).is_empty());
        // A loss of power takes visible numbers back; between two of them they only rise.
        let visible = self.db().seqno();
        assert!(self.visible <= visible, "{visible} after {}", self.visible);
        self.visible = visible;
        assert_eq!(self.db().open_report(), self.db().open_report());
    }

    /// The names of the keyspaces that are there.
    pub(super) fn names(&self) -> Vec<String> {
        let alive = (0..self.spaces.len()).filter(|n| self.oracle.is_alive(*n));
        alive.map(|n| NAMES[n].to_owned()).collect()
    }

    pub(super) fn keyspace(&mut self, op: &Op) -> Result<()> {
        let n = usize::from(op.space) % self.spaces.len();
        match op.kind {
            Kind::KeyspaceOpen => {
                let n = self.space(op)?;
                let again = self.db().keyspace(NAMES[n], KeyspaceOptions::new())?;
                assert_eq!(again.name(), NAMES[n]);
                self.spaces[n] = Some(again);
                Ok(())
            }
            Kind::KeyspaceChange => {
                let n = self.space(op)?;
                let other = self.settings.other_keyspace(n, op.details().next());
                self.spaces[n] = Some(self.db().keyspace(NAMES[n], other)?);
                Ok(())
            }
            Kind::KeyspaceList => {
                let (found, mut expected) = (self.db().keyspaces(), self.names());
                expected.sort();
                assert!(found == expected || self.is_crashed(), "{found:?}");
                Ok(())
            }
            Kind::KeyspaceDrop if n != 0 => self.drop_keyspace(op),
            _ => self.check_refusals(op),
        }
    }

    fn drop_keyspace(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        self.in_flight = Some(n);
        self.db().drop_keyspace(NAMES[n])?;
        if self.is_crashed() {
            return Ok(());
        }
        self.in_flight = None;
        self.oracle.drop_space(n);
        let gone = self.spaces[n].take().expect("made before it is dropped");
        let again = self.db().drop_keyspace(NAMES[n]);
        self.refused(again, ErrorKind::NotFound)?;
        self.refused(gone.get(key(op.a)), ErrorKind::NotFound)?;
        self.refused(gone.put(key(op.a), b"v"), ErrorKind::NotFound)?;
        self.refused(gone.delete(key(op.b)), ErrorKind::NotFound)?;
        self.refused(gone.compact(), ErrorKind::NotFound)?;
        let first = gone.iter().next().expect("the error is the first item");
        self.refused(first, ErrorKind::NotFound)?;
        let mut batch = WriteBatch::new();
        batch.put(self.handle(0), key(op.a), b"not to be seen");
        batch.delete(&gone, key(op.a));
        let written = self.db().write(&batch, WriteOptions::new());
        self.refused(written, ErrorKind::NotFound)?;
        for (snapshot, _) in &self.snapshots {
            let found = snapshot.keyspace(&gone).get(key(op.a));
            self.refused(found, ErrorKind::NotFound)?;
        }
        Ok(())
    }

    fn check_refusals(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        let db = self.db();
        let invalid = ErrorKind::InvalidArgument;
        self.refused(db.drop_keyspace("default"), invalid)?;
        self.refused(db.drop_keyspace("nobody"), ErrorKind::NotFound)?;
        for name in ["", "line\nbreak", &"x".repeat(256)] {
            self.refused(db.keyspace(name, KeyspaceOptions::new()), invalid)?;
        }
        let other = KeyspaceOptions::new().block_bytes(self.settings.blocks[n] * 2);
        self.refused(db.keyspace(NAMES[n], other), invalid)?;
        let none = KeyspaceOptions::new().size_ratio(1);
        self.refused(db.keyspace(NAMES[n], none), invalid)
    }
}

fn durability(kind: Kind) -> Option<Durability> {
    match kind {
        Kind::PutSynced
        | Kind::DeleteSynced
        | Kind::MergeSynced
        | Kind::DeleteRangeSynced
        | Kind::BatchSynced
        | Kind::BatchEmptySynced
        | Kind::TransactSynced
        | Kind::Load => Some(Durability::Synced),
        Kind::PutLogged => Some(Durability::Logged),
        _ => None,
    }
}

/// Ranks from `a` on: in one of sixteen cases up to `b`, or all of them, and else a few.
pub(super) fn short_ranks(a: u8, b: u8, len: u8) -> Range<usize> {
    let a = usize::from(a);
    match len % 32 {
        0 => a..KEYS,
        1 => a..usize::from(b).max(a),
        few => a..(a + usize::from(few) / 2).min(KEYS),
    }
}

/// The first key of these ranks, and the first behind them if there is one.
pub(super) fn bounds_of(ranks: &Range<usize>) -> (&'static [u8], Option<&'static [u8]>) {
    let start = key(ranks.start as u8);
    (start, (ranks.end < KEYS).then(|| key(ranks.end as u8)))
}

fn batch_value_bytes(kind: Kind, random: &mut Random) -> usize {
    match (kind, random.below(20)) {
        (Kind::BatchBig, _) => 1500 + random.below(800),
        (_, 0) => 500 + random.below(1000),
        _ => random.below(40),
    }
}

/// Tables of a run ascend and do not overlap, and no file is in two places.
fn check_levels(stats: &KeyspaceStats) {
    let mut files = Vec::new();
    for run in stats.levels.iter().flat_map(|level| &level.runs) {
        assert!(!run.tables.is_empty(), "a run without tables");
        for table in &run.tables {
            assert!(table.smallest <= table.largest && table.tombstones <= table.entries);
            assert!(0 < table.entries && 0 < table.bytes);
            files.push(table.file);
        }
        let ascends = |pair: &[alluvium::TableStats]| pair[0].largest <= pair[1].smallest;
        assert!(run.tables.windows(2).all(ascends), "{run:?}");
    }
    let count = files.len();
    files.sort_unstable();
    files.dedup();
    assert_eq!(count, files.len(), "a file in two places");
}

//! Bugs of cursors, filters, blocks and caches.

use super::*;
use std::ops::Bound;

/// A cursor beside what a sorted list of keys says.
pub(super) struct Walk<'d> {
    db: &'d Db,
    bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    cursor: alluvium::Cursor,
    keys: Vec<Vec<u8>>,
    at: Place,
    trace: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    BeforeStart,
    On(usize),
    PastEnd,
}

impl<'d> Walk<'d> {
    /// Over all of `db`, which holds exactly `keys`.
    pub(super) fn over(db: &'d Db, keys: &[impl AsRef<[u8]>]) -> Walk<'d> {
        Walk::within(db, keys, (Bound::Unbounded, Bound::Unbounded))
    }

    /// Over a part of `db`.
    fn within(
        db: &'d Db,
        keys: &[impl AsRef<[u8]>],
        bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> Walk<'d> {
        let above = |key: &[u8]| match &bounds.0 {
            Bound::Unbounded => true,
            Bound::Included(from) => from.as_slice() <= key,
            Bound::Excluded(from) => from.as_slice() < key,
        };
        let below = |key: &[u8]| match &bounds.1 {
            Bound::Unbounded => true,
            Bound::Included(to) => key <= to.as_slice(),
            Bound::Excluded(to) => key < to.as_slice(),
        };
        let keys = keys.iter().map(|key| key.as_ref().to_vec());
        Walk {
            db,
            cursor: db.cursor_over(bounds.clone()),
            keys: keys.filter(|key| above(key) && below(key)).collect(),
            bounds,
            at: Place::Nowhere,
            trace: String::new(),
        }
    }

    /// From the beginning, with a new cursor.
    pub(super) fn again(&self) -> Walk<'d> {
        Walk::within(self.db, &self.keys, self.bounds.clone())
    }

    pub(super) fn step(&mut self, forward: bool) {
        if forward {
            self.cursor.next().unwrap();
        } else {
            self.cursor.prev().unwrap();
        }
        let last = self.keys.len().checked_sub(1);
        self.at = match (self.at, forward, last) {
            (Place::On(i), true, Some(last)) if i < last => Place::On(i + 1),
            (Place::On(i), false, _) if 0 < i => Place::On(i - 1),
            (Place::Nowhere | Place::BeforeStart, true, Some(_)) => Place::On(0),
            (Place::Nowhere | Place::PastEnd, false, Some(last)) => Place::On(last),
            (_, true, _) => Place::PastEnd,
            (_, false, _) => Place::BeforeStart,
        };
        self.trace.push(if forward { '>' } else { '<' });
        self.check();
    }

    pub(super) fn seek(&mut self, key: &[u8]) {
        self.cursor.seek(key).unwrap();
        let i = self.keys.partition_point(|k| k.as_slice() < key);
        self.at = match i < self.keys.len() {
            true => Place::On(i),
            false => Place::PastEnd,
        };
        self.trace += &format!(" seek {} ", key.escape_ascii());
        self.check();
    }

    fn seek_for_prev(&mut self, key: &[u8]) {
        self.cursor.seek_for_prev(key).unwrap();
        let i = self.keys.partition_point(|k| k.as_slice() <= key);
        self.at = match i.checked_sub(1) {
            Some(i) => Place::On(i),
            None => Place::BeforeStart,
        };
        self.trace += &format!(" seek_for_prev {} ", key.escape_ascii());
        self.check();
    }

    fn check(&self) {
        let wanted = match self.at {
            Place::On(i) => Some(self.keys[i].as_slice()),
            _ => None,
        };
        assert_eq!(
            self.cursor.key().map(|k| k.escape_ascii().to_string()),
            wanted.map(|k| k.escape_ascii().to_string()),
            "after{} within {:?}",
            self.trace,
            self.bounds
        );
    }
}

/// Numbers that look random, the same ones for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005) | 1;
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_406);
        (self.0 >> 33) % n
    }
}

/// The places where the blocks of a table begin: a flipped bit is reported there.
fn blocks_of(sim: &SimFs, table: &str) -> Vec<u64> {
    let bytes = sim.bytes(Path::new(ROOT), table).unwrap();
    let mut starts = Vec::new();
    for at in (0..bytes.len()).step_by(256) {
        let damaged = sim.kill();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        damaged.plant(Path::new(ROOT), table, &flipped);
        let db = open(&damaged, &options());
        let problem = db.verify().unwrap().problems.pop();
        let start = problem.and_then(|problem| problem.offset());
        starts.extend(start.filter(|start| start % 256 == 0 && start.abs_diff(at as u64) < 4096));
    }
    starts.dedup();
    starts
}

/// A closed database of 60 keys in one table of several blocks, and that table's name.
fn one_table(seed: u64) -> (SimFs, String) {
    let sim = SimFs::new(seed);
    let db = open(&sim, &options());
    for n in 0..60 {
        db.put(format!("k{n:02}"), [b'v'; 60]).unwrap();
    }
    db.flush().unwrap();
    let file = db.stats().keyspaces[0].levels[0].runs[0].tables[0].file;
    db.close().unwrap();
    (sim, format!("{file:06}.tbl"))
}

/// redb 4.3: an iterator went on behind an error and left entries out.
#[test]
fn bug_58_after_an_error_a_cursor_repeats_it_and_an_iterator_ends() {
    let (sim, table) = one_table(58);
    let blocks = blocks_of(&sim, &table);
    assert!(4 < blocks.len(), "{blocks:?}");
    let mut bytes = sim.bytes(Path::new(ROOT), &table).unwrap();
    bytes[blocks[2] as usize + 20] ^= 1;
    sim.plant(Path::new(ROOT), &table, &bytes);
    let db = open(&sim, &options());
    let mut cursor = db.cursor();
    cursor.first().unwrap();
    let mut seen = 1;
    let error = loop {
        match cursor.next() {
            Ok(()) => seen += 1,
            Err(error) => break error,
        }
    };
    assert!(0 < seen && seen < 60, "{seen}");
    for _ in 0..3 {
        assert_eq!(cursor.next().unwrap_err().to_string(), error.to_string());
        assert_eq!(cursor.prev().unwrap_err().to_string(), error.to_string());
        assert_eq!(cursor.key(), None);
    }
    cursor.seek("k59").unwrap();
    assert_eq!(cursor.key(), Some(&b"k59"[..]), "a seek makes it new");
    cursor.prev().unwrap();
    assert_eq!(cursor.key(), Some(&b"k58"[..]));
    for forward in [true, false] {
        let mut iter = db.iter();
        let mut step = || match forward {
            true => iter.next(),
            false => iter.next_back(),
        };
        let good = std::iter::from_fn(&mut step)
            .take_while(Result::is_ok)
            .count();
        assert!(0 < good && good < 60);
        assert!(step().is_none() && step().is_none(), "told once, then over");
    }
}

/// RocksDB #5907, #8137, #12872: a backward seek missed keys where filters and prefixes came
/// together.
#[test]
fn bug_59_every_backward_seek_finds_its_key_whatever_filters_and_bounds_there_are() {
    let mut numbers = Numbers(59);
    for (filter_bits, value) in [(0, 4), (1, 90), (12, 90), (12, 500)] {
        let sim = SimFs::new(59);
        let options = options().default_keyspace(quiet().filter_bits_per_key(filter_bits));
        let db = open(&sim, &options);
        let mut key = || {
            let len = numbers.below(5) as usize;
            let letters = (0..len).map(|_| b'a' + numbers.below(3) as u8);
            letters.collect::<Vec<u8>>()
        };
        let mut keys = std::collections::BTreeSet::new();
        for round in 0..3 {
            for _ in 0..25 {
                let key = key();
                db.put(&key, vec![b'v'; value]).unwrap();
                keys.insert(key);
            }
            if round < 2 {
                db.flush().unwrap();
            }
        }
        let keys: Vec<_> = keys.into_iter().collect();
        let mut probes = keys.clone();
        probes.extend(keys.iter().map(|k| [k, &b"\0"[..]].concat()));
        probes.extend(keys.iter().map(|k| [k, &b"zz"[..]].concat()));
        for prefix in ["", "a", "bb", "c"] {
            let from = Bound::Included(prefix.as_bytes().to_vec());
            let to = match prefix {
                "" => Bound::Unbounded,
                _ => Bound::Excluded([prefix.as_bytes(), b"~"].concat()),
            };
            let mut walk = Walk::within(&db, &keys, (from, to));
            for probe in &probes {
                walk.trace.clear();
                walk.seek_for_prev(probe);
            }
        }
    }
}

/// lsm-tree 1bcca8b1: the filter was missing when a table ended exactly where a part of it was
/// full.
#[test]
fn bug_60_tables_of_every_number_of_keys_deny_none_of_them() {
    for count in 1..=110u32 {
        let sim = SimFs::new(60);
        let db = open(&sim, &options());
        let keys: Vec<_> = (0..count).map(|n| format!("{n:03}")).collect();
        for key in &keys {
            db.put(key, "value").unwrap();
        }
        db.flush().unwrap();
        let found = db.get_many(&keys).unwrap();
        assert!(found.iter().all(Option::is_some), "{count} keys");
        for key in &keys {
            assert!(db.contains_key(key).unwrap(), "{key} of {count}");
        }
        let reads = &db.stats().keyspaces[0].reads;
        assert_eq!(reads.filter_negatives, 0, "{count} keys");
    }
}

/// TidesDB 6674b76, surrealkv #262, lsm-tree #211: an index of shortened keys overshot among keys
/// with much in common.
#[test]
fn bug_61_with_a_key_a_block_and_long_prefixes_every_key_and_gap_is_found() {
    for prefix in ["", "p", "a prefix that is longer than sixteen bytes"] {
        let sim = SimFs::new(61);
        let db = open(&sim, &options());
        let mut keys = Vec::new();
        for a in ["", "\0", "\0\0", "a", "a\0", "ab", "b", "\u{7f}"] {
            for b in ["", "\0", "a", "b"] {
                keys.push([prefix.as_bytes(), a.as_bytes(), b"|", b.as_bytes()].concat());
            }
        }
        keys.push([prefix.as_bytes(), b"\xff"].concat());
        keys.push([prefix.as_bytes(), b"\xff\xff"].concat());
        keys.sort();
        keys.dedup();
        for key in &keys {
            db.put(key, [b'v'; 2000]).unwrap();
        }
        db.flush().unwrap();
        let mut walk = Walk::over(&db, &keys);
        for key in &keys {
            assert!(db.get(key).unwrap().is_some(), "{}", key.escape_ascii());
            let shorter = &key[..key.len() - 1];
            for gap in [key.clone(), [key, &b"\0"[..]].concat(), shorter.to_vec()] {
                let there = keys.binary_search(&gap).is_ok();
                assert_eq!(db.contains_key(&gap).unwrap(), there);
                walk.trace.clear();
                walk.seek(&gap);
                walk.step(false);
                walk.seek_for_prev(&gap);
                walk.step(true);
            }
        }
    }
}

/// RocksDB #7405, surrealkv #277: a cached block was taken for one of another file.
#[test]
fn bug_62_a_warm_cache_never_gives_blocks_of_another_table() {
    for codec in [alluvium::Compression::None, alluvium::Compression::Lz4] {
        let sim = SimFs::new(62);
        let options = options()
            .read_mode(ReadMode::Pread)
            .default_keyspace(quiet().compression(vec![codec]));
        let db = open(&sim, &options);
        let mut old = Vec::new();
        for round in 0..6u8 {
            for n in 0..60 {
                db.put(format!("k{n:02}"), [b'0' + round; 70]).unwrap();
            }
            db.compact().unwrap();
            // The tables of earlier rounds live on in these, with the same keys at the same
            // offsets, and in the same cache.
            old.push((round, db.iter()));
            for n in 0..60 {
                let value = db.get(format!("k{n:02}")).unwrap().unwrap();
                assert_eq!(value, [b'0' + round; 70], "{codec:?} round {round}");
            }
            for (then, iter) in &mut old {
                for entry in iter.take(5) {
                    assert_eq!(entry.unwrap().1, [b'0' + *then; 70], "{codec:?} {then}");
                }
            }
        }
        let stats = db.stats();
        assert!(0 < stats.cache_hits && 0 < stats.cache_misses, "{stats}");
    }
}

/// RocksDB 6.5, 7.10, surrealkv #367, badger #2108: turning round, bounds and seeking again gave
/// wrong entries or left some out.
#[test]
fn bug_64_any_walk_of_steps_and_seeks_within_any_bounds_is_that_of_a_sorted_list() {
    for seed in 0..12 {
        let mut numbers = Numbers(seed);
        let sim = SimFs::new(64);
        let db = open(&sim, &options());
        let mut living = std::collections::BTreeSet::new();
        for step in 0..400 {
            let key = format!("{:02}", numbers.below(60)).into_bytes();
            if numbers.below(3) == 0 {
                db.delete(&key).unwrap();
                living.remove(&key);
            } else {
                db.put(&key, step.to_string()).unwrap();
                living.insert(key);
            }
            match numbers.below(60) {
                0 => db.flush().unwrap(),
                1 => db.compact().unwrap(),
                _ => {}
            }
        }
        let keys: Vec<_> = living.into_iter().collect();
        let bound = |numbers: &mut Numbers| {
            let key = format!("{:02}", numbers.below(64)).into_bytes();
            match numbers.below(4) {
                0 => Bound::Unbounded,
                1 => Bound::Excluded(key),
                _ => Bound::Included(key),
            }
        };
        for _ in 0..60 {
            let bounds = (bound(&mut numbers), bound(&mut numbers));
            let mut walk = Walk::within(&db, &keys, bounds);
            for _ in 0..30 {
                let key = format!("{:02}", numbers.below(64)).into_bytes();
                let outside = walk.keys.first().is_none_or(|first| key < *first)
                    || walk.keys.last().is_none_or(|last| *last < key);
                match numbers.below(8) {
                    // Seeks outside of the bounds stop at them: shown by its own specification.
                    0 if !outside => walk.seek(&key),
                    1 if !outside => walk.seek_for_prev(&key),
                    2..5 => walk.step(false),
                    _ => walk.step(true),
                }
            }
        }
    }
}

/// RocksDB 8.6: blocks that had changed places, each whole in itself, passed their checksums.
#[test]
fn bug_67_two_blocks_that_changed_places_are_both_refused() {
    let (sim, table) = one_table(67);
    let root = Path::new(ROOT);
    let blocks = blocks_of(&sim, &table);
    let size = blocks[1] - blocks[0];
    assert_eq!(
        blocks[2] - blocks[1],
        size,
        "blocks of one size: {blocks:?}"
    );
    let bytes = sim.bytes(root, &table).unwrap();
    let unreadable = |bytes: &[u8]| {
        let damaged = sim.kill();
        damaged.plant(root, &table, bytes);
        let db = open(&damaged, &options());
        let keys = (0..60).map(|n| format!("k{n:02}"));
        let bad = keys.filter(|key| match db.get(key) {
            Ok(value) => {
                assert_eq!(value.unwrap(), [b'v'; 60], "{key}");
                false
            }
            Err(error) => error.kind() == ErrorKind::Corruption,
        });
        bad.collect::<Vec<_>>()
    };
    let flipped = |block: usize| {
        let mut bytes = bytes.clone();
        bytes[blocks[block] as usize + 20] ^= 1;
        unreadable(&bytes)
    };
    let mut swapped = bytes.clone();
    let (front, back) = swapped.split_at_mut(blocks[1] as usize);
    front[blocks[0] as usize..].swap_with_slice(&mut back[..size as usize]);
    assert_eq!(unreadable(&swapped), [flipped(0), flipped(1)].concat());
}

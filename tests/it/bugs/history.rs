//! Bugs of versions, deletions and the order of runs.

use super::*;
use alluvium::CompactionStyle;
use alluvium::Compression;
use alluvium::base::checksum::KeyHasher;
use alluvium::base::cursor::Cursor;
use alluvium::base::types::{FileId, Tag, ValueKind};
use alluvium::filter::Decision;
use alluvium::fs::FileName;
use alluvium::memtable::{Memtable, MemtableOptions, Pool};
use alluvium::table::{BirthIdentity, BlockCache, Builder, BuilderOptions, Table, TableContext};
use alluvium::{SeqNo, Verify};
use std::collections::BTreeMap;
use std::sync::Arc;

const STYLES: [CompactionStyle; 4] = CompactionStyle::ALL;

fn tombstones(db: &Db) -> u64 {
    let levels = &db.stats().keyspaces[0].levels;
    levels.iter().map(|level| level.tombstones()).sum()
}

/// Pebble (cockroach PR 70965): a compaction that only drops deletions, and what they hide, took
/// what a snapshot needed. Here these are deletions of single keys.
#[test]
fn bug_03_a_compaction_that_only_drops_deletions_keeps_what_a_snapshot_sees() {
    let sim = SimFs::new(3);
    let db = open(&sim, &options());
    for n in 0..40 {
        db.put(format!("k{n:02}"), "v").unwrap();
    }
    let before = db.snapshot();
    for n in 0..30 {
        db.delete(format!("k{n:02}")).unwrap();
    }
    let after = db.snapshot();
    db.compact().unwrap();
    db.put("look", "for work").unwrap();
    assert_eq!(tombstones(&db), 30, "they lie in the last level and wait");
    assert_eq!(before.iter().count(), 40);
    assert_eq!(after.iter().count(), 10);
    drop(before);
    db.put("look", "again").unwrap();
    assert_eq!(tombstones(&db), 0, "the table was rewritten for their sake");
    assert_eq!(after.iter().count(), 10);
    assert_eq!(after.get("k29").unwrap(), None);
}

/// RocksDB 6.0.0, 6.9.0: a damaged block of range deletions brought deleted keys back. Here it is
/// the table of a deletion of a single key: its block, its filter, its index.
#[test]
fn bug_08_no_flipped_bit_in_the_table_of_a_deletion_brings_the_key_back() {
    let sim = SimFs::new(8);
    let db = open(&sim, &options());
    db.put("k", "old").unwrap();
    db.flush().unwrap();
    db.delete("k").unwrap();
    db.put("other", "1").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let root = Path::new(ROOT);
    let names = Fs::sim(&sim, root).list().unwrap().into_iter();
    let tables = names.map(|e| e.name).filter(|n| n.ends_with(".tbl"));
    let newest = tables.max().unwrap();
    let bytes = sim.bytes(root, &newest).unwrap();
    let mut refused = 0;
    for at in 0..bytes.len() {
        let damaged = sim.kill();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        damaged.plant(root, &newest, &flipped);
        let db = open(&damaged, &options());
        match db.get("k") {
            Ok(found) => assert_eq!(found, None, "byte {at}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption, "byte {at}");
                refused += 1;
            }
        }
        for entry in db.iter().flatten() {
            assert_eq!(entry.0, b"other", "byte {at}");
        }
    }
    assert!(100 < refused, "{refused} reads met the damage");
}

/// RocksDB 7.3: a compaction filter removed keys that were written with deletions of two kinds, and
/// these were mixed up. Here the two are deletions of a key and of a range.
#[test]
fn bug_15_what_a_filter_removes_and_deletions_of_each_kind_agree() {
    for (seed, style) in (1u64..).zip(STYLES) {
        let gone = |_: &[u8], value: &[u8]| match value.starts_with(b"gone") {
            true => Decision::Remove,
            false => Decision::Keep,
        };
        let keyspace = busy().compaction(style).compaction_filter("gone");
        let options = options()
            .default_keyspace(keyspace)
            .compaction_filter("gone", gone);
        let mut sim = SimFs::new(15);
        let mut db = open(&sim, &options);
        let mut truth = BTreeMap::new();
        let mut state = seed;
        let mut random = move |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let key = |n: u64| format!("k{n:03}");
        for step in 0..6_000u64 {
            let n = random(100);
            match random(10) {
                0 => {
                    db.delete(key(n)).unwrap();
                    truth.remove(&key(n));
                }
                1 if step % 5 == 0 => {
                    let end = n + random(9);
                    db.delete_range(key(n)..key(end)).unwrap();
                    (n..end).for_each(|n| drop(truth.remove(&key(n))));
                }
                kind => {
                    let word = if kind < 6 { "gone" } else { "stays" };
                    let value = format!("{word} {step:040}");
                    db.put(key(n), &value).unwrap();
                    truth.insert(key(n), value);
                }
            }
            if step % 2_000 == 1_999 {
                (sim, db) = killed(&sim, db, &options);
            }
            if step % 97 != 0 {
                continue;
            }
            // Before a compaction has asked, what is to go may be there, and as it was written last.
            let n = random(100);
            let found = db.get(key(n)).unwrap();
            let wanted = truth.get(&key(n)).map(String::as_bytes);
            let may_be_gone = wanted.is_some_and(|value| value.starts_with(b"gone"));
            assert!(
                found.as_deref() == wanted || may_be_gone && found.is_none(),
                "{style:?}, step {step}, seed {seed}: {found:?}, not {wanted:?}"
            );
        }
        db.compact().unwrap();
        truth.retain(|_, value| value.starts_with("stays"));
        let left = db.iter().map(|entry| {
            let (key, value) = entry.unwrap();
            (key.to_vec(), value.to_vec())
        });
        let wanted = truth
            .into_iter()
            .map(|(k, v)| (k.into_bytes(), v.into_bytes()));
        assert!(left.eq(wanted), "{style:?}, seed {seed}");
        drop(db);
        drop(sim);
    }
}

/// badger #1587: a compaction that was split lost the deletion of a key that only its topmost
/// table held.
#[test]
fn bug_10_a_deletion_meets_its_key_wherever_the_output_is_cut() {
    for style in STYLES {
        let sim = SimFs::new(10);
        let cut = quiet().table_bytes(1 << 10).compaction(style);
        let db = open(&sim, &options().default_keyspace(cut));
        for key in ["a", "b", "c", "d"] {
            db.put(key, [b'v'; 1200]).unwrap();
        }
        db.compact().unwrap();
        let last = db.stats().keyspaces[0].levels.last().unwrap().files();
        assert_eq!(last, 4, "{style:?}: a table for each key");
        db.delete("c").unwrap();
        db.flush().unwrap();
        db.compact().unwrap();
        let keys: Vec<_> = db.iter().map(|e| e.unwrap().0.to_vec()).collect();
        assert_eq!(keys, [b"a", b"b", b"d"], "{style:?}");
        assert_eq!(db.get("c").unwrap(), None, "{style:?}");
        assert_eq!(db.verify().unwrap().entries, 3, "{style:?}");
    }
}

/// RocksDB #6799: two compactions at a time picked the same inputs, and old versions came back.
#[test]
fn bug_11_compactions_side_by_side_never_share_a_table_nor_mix_up_versions() {
    for style in STYLES {
        let sim = SimFs::new(11);
        let options = options()
            .background_threads(4)
            .default_keyspace(busy().compaction(style));
        let db = open(&sim, &options);
        // Each job takes its time, also on a machine that is busy: others begin meanwhile.
        sim.on_call(|_, _| std::thread::sleep(Duration::from_micros(100)));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for part in ["0".."5", "5".."9"] {
                let (db, stop) = (&db, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        db.compact_range(part.clone()).unwrap();
                    }
                });
            }
            for round in 0..6u32 {
                for n in 0..300u32 {
                    let key = format!("{:03}", n * 7 % 300 * 3);
                    db.put(key, format!("{round:<60}")).unwrap();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        wait_until(&db, "no job is due", |db| db.stats().pending_jobs == 0);
        assert!(matches!(db.state(), State::Ok), "{:?}", db.state());
        let stats = db.stats();
        assert!(10 < stats.compactions, "{stats}");
        for run in stats.keyspaces[0].levels.iter().flat_map(|l| &l.runs) {
            let apart = |pair: &[alluvium::TableStats]| pair[0].largest < pair[1].smallest;
            assert!(run.tables.windows(2).all(apart), "{style:?}: {stats}");
        }
        assert_eq!(db.iter().count(), 300);
        for entry in db.iter() {
            let (key, value) = entry.unwrap();
            assert!(value.starts_with(b"5 "), "{style:?}: {key:?} is old");
            assert_eq!(db.get(&key).unwrap().unwrap(), value, "{style:?}");
        }
    }
}

/// lsm-tree 42fd6e5e: a point read stopped at the first run that held the key, although a newer
/// one had been moved behind it.
#[test]
fn bug_12_whatever_order_runs_come_in_the_newest_version_is_read() {
    let ranges = [('a', 'c'), ('a', 'z'), ('m', 'p')];
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        for (style, settled) in STYLES.into_iter().flat_map(|s| [(s, false), (s, true)]) {
            let mut sim = SimFs::new(12);
            let mut db = open(&sim, &options());
            let mut expected = BTreeMap::new();
            for (age, range) in order.iter().enumerate() {
                let (from, to) = ranges[*range];
                for key in from..=to {
                    db.put(key.to_string(), age.to_string()).unwrap();
                    expected.insert(key.to_string(), age.to_string());
                }
                db.flush().unwrap();
                if settled && age == 0 {
                    db.compact().unwrap();
                }
            }
            let check = |db: &Db, when: &str| {
                let what = format!("{order:?} {style:?} {settled} {when}");
                for (key, value) in &expected {
                    let found = db.get(key).unwrap().unwrap();
                    assert_eq!(found, value.as_bytes(), "{what}: {key}");
                }
                let many = db.get_many(expected.keys()).unwrap();
                let many = many.iter().map(|v| v.as_deref().unwrap());
                assert!(many.eq(expected.values().map(String::as_bytes)), "{what}");
                let scanned = db.iter().map(|e| e.unwrap().1.to_vec());
                assert!(
                    scanned.eq(expected.values().map(|v| v.clone().into_bytes())),
                    "{what}"
                );
            };
            check(&db, "flushed");
            // Now two runs are too many: lone tables are moved down, others merged.
            let eager = KeyspaceOptions::new()
                .level0_runs(1)
                .tier_runs(1)
                .compaction(style);
            (sim, db) = killed(&sim, db, &options().default_keyspace(eager));
            check(&db, "rearranged");
            assert!(0 < db.stats().compactions, "{order:?} {style:?}");
            db.compact().unwrap();
            check(&db, "compacted");
            drop((sim, db));
        }
    }
}

/// TidesDB 069ac8b: the bit that tells one kind of entry from another was lost in a copy.
#[test]
fn bug_14_the_kind_of_every_entry_survives_memtable_table_and_both_directions() {
    let kinds = [
        ValueKind::Put,
        ValueKind::Delete,
        ValueKind::Merge,
        ValueKind::PutExpiring,
        ValueKind::PutBlob,
    ];
    // Distances of sequence numbers, for each width that a block stores them in.
    for (distance, codec) in [
        (0, Compression::None),
        (1, Compression::None),
        (1 << 30, Compression::None),
        (1, Compression::Lz4),
    ] {
        let entry = |n: u64| {
            let tag = Tag::new(
                SeqNo::new(5 + n * distance),
                kinds[n as usize % kinds.len()],
            );
            (format!("key {n:03}").into_bytes(), tag)
        };
        let entries: Vec<_> = (0..200).map(entry).collect();
        let hasher = KeyHasher::new(1);
        let memtable = MemtableOptions {
            capacity_bytes: 1 << 20,
            hasher,
            common_prefix: Vec::new(),
            index_slots: 0,
        };
        let memtable = Arc::new(Memtable::new(memtable, &Pool::new(0)));
        let sim = SimFs::new(14);
        let fs = Fs::sim(&sim, Path::new(ROOT));
        fs.make_root().unwrap();
        let name = FileName::Table(FileId(7));
        let identity = BirthIdentity {
            database: 1,
            file: FileId(7),
            hash_seed: 1,
        };
        let builder = BuilderOptions {
            identity,
            block_bytes: 256,
            filter_bits_per_key: 10,
            compression: codec,
        };
        let mut builder = Builder::new(fs.create_new(name).unwrap(), builder);
        for (key, tag) in &entries {
            memtable.insert(key, hasher.hash(key), *tag, key);
            builder.add(key, *tag, key).unwrap();
        }
        let summary = builder.finish().unwrap();
        assert_eq!(summary.tombstones, 40);
        let context = Arc::new(TableContext {
            read_mode: ReadMode::Mmap,
            verify: Verify::FirstTouch,
            cache: BlockCache::new(1 << 20),
        });
        let file = fs.open_read(name).unwrap();
        let table = Arc::new(Table::open(file, identity, summary.bytes, false, &context).unwrap());
        for (key, tag) in &entries {
            let hash = hasher.hash(key);
            assert_eq!(memtable.get(key, hash, SeqNo::MAX).unwrap().tag, *tag);
            let found = table.get(key, hash, SeqNo::MAX).unwrap().unwrap();
            assert_eq!(found.tag, *tag, "{key:?}");
        }
        fn walk(mut cursor: impl Cursor) -> [Vec<(Vec<u8>, Tag)>; 2] {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            cursor.first().unwrap();
            while cursor.valid() {
                up.push((cursor.key().to_vec(), cursor.tag()));
                cursor.next().unwrap();
            }
            cursor.last().unwrap();
            while cursor.valid() {
                down.push((cursor.key().to_vec(), cursor.tag()));
                cursor.prev().unwrap();
            }
            down.reverse();
            [up, down]
        }
        let wanted = [entries.clone(), entries];
        assert_eq!(walk(memtable.cursor()), wanted);
        assert_eq!(walk(memtable.drain_cursor()), wanted);
        assert_eq!(walk(table.cursor()), wanted, "{distance} {codec:?}");
        assert_eq!(walk(table.compaction_cursor()), wanted);
    }
}

/// fjall 04d7f9a, lsm-tree a29f4ba5: the number at which a database went on after an opening
/// ignored what its tables held. There it took an ingestion; here it must hold for any tables.
#[test]
fn bug_19_reopened_twice_from_tables_alone_the_next_write_is_the_newest() {
    let options = options();
    let mut sim = SimFs::new(19);
    let mut db = open(&sim, &options);
    for round in 0..4u32 {
        db.put("k", format!("old {round}")).unwrap();
        db.flush().unwrap();
        db.compact().unwrap();
        let last = db.seqno();
        for _ in 0..2 {
            (sim, db) = killed(&sim, db, &options);
            assert!(last <= db.seqno(), "{last} was in a table, {}", db.seqno());
            assert_eq!(text(&db), format!("k=old {round}"));
        }
        let before = db.snapshot();
        db.put("k", format!("new {round}")).unwrap();
        assert!(last < db.seqno());
        let new = format!("new {round}");
        assert_eq!(db.get("k").unwrap().unwrap(), new.as_bytes());
        assert_eq!(text(&db), format!("k={new}"));
        let old = before.get("k").unwrap().unwrap();
        assert_eq!(old, format!("old {round}").as_bytes());
    }
    drop(sim);
}

/// RocksDB 6.10, 6.11: reads went wrong where one key begins another, and where the direction
/// turned among them.
#[test]
fn bug_20_keys_that_begin_each_other_are_told_apart_in_both_directions() {
    let sim = SimFs::new(20);
    let db = open(&sim, &options());
    let keys = ["", "a", "a\0", "aa", "ab", "abc", "abcd", "abd", "b"];
    // Older versions in a table, the newest of some in a second one, of others in the memtable.
    for (layer, step) in [(0, 1), (1, 2), (2, 3)] {
        for key in keys.iter().step_by(step) {
            db.put(key, layer.to_string()).unwrap();
        }
        if layer < 2 {
            db.flush().unwrap();
        }
    }
    for key in keys {
        let mut walk = reads::Walk::over(&db, &keys);
        walk.seek(key.as_bytes());
        // All walks of six steps from here.
        for steps in 0..64u32 {
            let mut walk = walk.again();
            walk.seek(key.as_bytes());
            for bit in 0..6 {
                walk.step(steps >> bit & 1 == 1);
            }
        }
        let newest = (0..3).rev().find(|layer| {
            let at = keys.iter().position(|k| *k == key).unwrap();
            at.is_multiple_of(layer + 1)
        });
        let found = db.get(key).unwrap().unwrap();
        assert_eq!(found, newest.unwrap().to_string().as_bytes(), "{key:?}");
    }
}

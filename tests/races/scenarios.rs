//! Fifteen scenarios with everything on: workers, the log's helper, writers, readers.
//!
//! Each is small, so that many schedules fit into a second: memtables of a few entries, four to
//! twelve writes a client. What is asserted holds at every moment of every schedule.

use crate::schedules::explore;
use alluvium::base::sync::{Arc, thread};
use alluvium::fs::Fs;
use alluvium::fs::sim::{CallKind, Family, Fault, FaultRule, FileClass, SimFs};
use alluvium::{
    Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, Options, Slice, State, WriteBatch,
    WriteOptions, merge,
};
use std::path::Path;
use std::time::Duration;

fn keyspace() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .write_buffer_bytes(1 << 10)
        .immutables_max(2)
        .block_bytes(256)
        .table_bytes(1 << 10)
        .level0_runs(2)
        .tier_runs(2)
        .size_ratio(2)
}

fn options(threads: usize) -> Options {
    Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(4 << 10)
        .background_threads(threads)
        .default_keyspace(keyspace())
}

fn open(sim: &SimFs, threads: usize) -> Db {
    let fs = Fs::sim(sim, Path::new("/db"));
    options(threads).open_in(fs).expect("the database opens")
}

fn key(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// A value that fills a quarter of a memtable and tells its number.
fn value(n: u32) -> Vec<u8> {
    let mut bytes = vec![n as u8; 240];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    bytes
}

fn number(slice: &Slice) -> u32 {
    u32::from_be_bytes(slice[..4].try_into().expect("a value has four bytes"))
}

fn get(keyspace: &Keyspace, n: u32) -> Option<u32> {
    let found = keyspace.get(key(n)).expect("a get succeeds");
    found.as_ref().map(number)
}

fn join<T>(handle: thread::JoinHandle<T>) -> T {
    handle.join().expect("the thread returns")
}

fn synced() -> WriteOptions {
    WriteOptions::new().durability(Durability::Synced)
}

/// Back by itself; the clock goes on meanwhile.
fn wait_until_ok(sim: &SimFs, db: &Db) {
    for _ in 0..1_000 {
        if matches!(db.state(), State::Ok) {
            return;
        }
        sim.advance(Duration::from_millis(100));
        thread::yield_now();
    }
    panic!("not mended: {}", db.state());
}

/// Nothing but the live set is there, and all of it reads well.
fn close_and_check(sim: &SimFs, db: Db, present: &[(u32, u32)]) {
    db.close().expect("the database closes");
    let db = open(sim, 0);
    for &(k, v) in present {
        assert_eq!(get(&db, k), Some(v), "key {k} after reopening");
    }
    let report = db.verify().expect("verification runs");
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    db.close().expect("the database closes again");
}

/// Writers against rotation, flush and compaction.
fn writers(sim: &SimFs, _: u64) {
    let db = open(sim, 2);
    let clients: Vec<_> = (0..2)
        .map(|client| {
            let db = db.clone();
            thread::spawn(move || {
                for n in 0..6 {
                    let k = client * 10 + n % 3;
                    db.put(key(k), value(n)).expect("a put succeeds");
                    assert_eq!(get(&db, k), Some(n), "a client reads what it wrote");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(join);
    let last = [(0, 3), (1, 4), (2, 5), (10, 3), (11, 4), (12, 5)];
    close_and_check(sim, db, &last);
}

/// A close at any moment of a writer's life: acknowledged writes are there, others are refused.
fn close_against_writers(sim: &SimFs, _: u64) {
    let db = open(sim, 1);
    let writer = {
        let db = db.clone();
        thread::spawn(move || {
            let mut done = 0;
            for n in 0..8 {
                match db.put(key(n), value(n)) {
                    Ok(()) => done += 1,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                        break;
                    }
                }
            }
            done
        })
    };
    let flusher = {
        let db = db.clone();
        thread::spawn(move || {
            if let Err(error) = db.flush() {
                assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
            }
        })
    };
    db.close().expect("the first close succeeds");
    let done = join(writer);
    join(flusher);
    let db = open(sim, 0);
    for n in 0..done {
        assert_eq!(get(&db, n), Some(n), "acknowledged before the close");
    }
}

/// A snapshot keeps what it sees while compactions drop everything else.
fn snapshots_against_compaction(sim: &SimFs, _: u64) {
    let db = open(sim, 1);
    db.put(key(1), value(0)).expect("a put succeeds");
    let writer = {
        let db = db.clone();
        thread::spawn(move || {
            for n in 1..6 {
                db.put(key(1), value(n)).expect("a put succeeds");
                db.delete(key(2)).expect("a delete succeeds");
            }
        })
    };
    let reader = {
        let db = db.clone();
        thread::spawn(move || {
            for _ in 0..2 {
                let snapshot = db.snapshot();
                let read = || {
                    let found = snapshot.get(key(1)).expect("a read of a snapshot succeeds");
                    found
                        .as_ref()
                        .map(number)
                        .expect("the key was never deleted")
                };
                let first = read();
                thread::yield_now();
                assert_eq!(read(), first, "a snapshot does not move");
                assert!(snapshot.get(key(2)).expect("it reads").is_none());
            }
        })
    };
    db.compact().expect("a compaction succeeds");
    join(writer);
    join(reader);
    close_and_check(sim, db, &[(1, 5)]);
}

/// An iterator reads files that are replaced and removed under it.
fn iterators_against_removal(sim: &SimFs, _: u64) {
    let db = open(sim, 1);
    for n in 0..6 {
        db.put(key(n), value(n)).expect("a put succeeds");
    }
    let iterator = {
        let db = db.clone();
        thread::spawn(move || {
            let keys: Vec<u32> = db
                .iter()
                .map(|entry| number(&entry.expect("an entry reads").1))
                .collect();
            // Written in order and deleted in order: what is seen has no gap.
            let first = keys.first().copied().unwrap_or(6);
            assert_eq!(keys, (first..6).collect::<Vec<_>>());
        })
    };
    let deleter = {
        let db = db.clone();
        thread::spawn(move || {
            for n in 0..3 {
                db.delete(key(n)).expect("a delete succeeds");
            }
            db.compact().expect("a compaction succeeds");
        })
    };
    join(iterator);
    join(deleter);
    close_and_check(sim, db, &[(3, 3), (4, 4), (5, 5)]);
}

/// A keyspace is dropped while somebody writes to it, and a batch spans it and another.
fn drop_keyspace_against_writes(sim: &SimFs, _: u64) {
    let db = open(sim, 1);
    let other = db.keyspace("other", keyspace()).expect("it is made");
    let writer = {
        let (db, other) = (db.clone(), other.clone());
        thread::spawn(move || {
            for n in 0..6 {
                let mut batch = WriteBatch::new();
                batch.put(&db, key(n), value(n));
                batch.put(&other, key(n), value(n));
                match db.write(&batch, WriteOptions::new()) {
                    Ok(_) => assert_eq!(get(&db, n), Some(n), "its half is there"),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                        assert_eq!(get(&db, n), None, "a refused batch leaves nothing");
                    }
                }
            }
        })
    };
    db.drop_keyspace("other").expect("it is dropped");
    drop(other);
    let again = db.keyspace("other", keyspace()).expect("it is made anew");
    assert!(again.iter().next().is_none(), "a new keyspace is empty");
    join(writer);
    drop(again);
    close_and_check(sim, db, &[]);
}

/// Synced writers share syncs; each acknowledged one survives the power loss that follows.
fn sync_groups(sim: &SimFs, _: u64) {
    let db = open(sim, 1);
    let writers: Vec<_> = (0..3)
        .map(|client| {
            let db = db.clone();
            thread::spawn(move || {
                for n in 0..2 {
                    let k = client * 10 + n;
                    db.put_with(key(k), value(k), synced())
                        .expect("a synced put succeeds");
                    assert_eq!(get(&db, k), Some(k));
                }
            })
        })
        .collect();
    writers.into_iter().for_each(join);
    let images: Vec<_> = sim.images(&Family::ALL[..2]).collect();
    drop(db);
    for image in images {
        let db = open(&image.sim, 0);
        for k in [0, 1, 10, 11, 20, 21] {
            assert_eq!(get(&db, k), Some(k), "synced, in image {}", image.id);
        }
    }
}

/// The disk fills up under writers and is freed again: writes resume, nothing acknowledged is lost.
fn full_disk(sim: &SimFs, seed: u64) {
    let db = open(sim, 1);
    let no_room = FaultRule::new(Fault::Enospc).kinds(&[CallKind::Create]);
    sim.fail(no_room.class(FileClass::Table).nth(seed % 2).sticky());
    let writer = {
        let db = db.clone();
        thread::spawn(move || {
            let mut acknowledged = Vec::new();
            for n in 0..8 {
                match db.put(key(n), value(n)) {
                    Ok(()) => acknowledged.push((n, n)),
                    Err(error) => {
                        let kinds = [ErrorKind::NoSpace, ErrorKind::ReadOnly];
                        assert!(kinds.contains(&error.kind()), "{error}");
                        thread::yield_now();
                    }
                }
            }
            acknowledged
        })
    };
    let acknowledged = join(writer);
    sim.heal();
    wait_until_ok(sim, &db);
    db.put(key(100), value(100)).expect("writes resume");
    let mut present = acknowledged;
    present.push((100, 100));
    close_and_check(sim, db, &present);
}

/// The last handle goes while the background works; the directory can be opened at once.
fn reopen(sim: &SimFs, _: u64) {
    for round in 0..3 {
        let db = open(sim, 1);
        for n in 0..4 {
            let k = round * 10 + n;
            db.put(key(k), value(k)).expect("a put succeeds");
        }
        let clone = db.clone();
        let other = thread::spawn(move || drop(clone));
        drop(db);
        join(other);
    }
    let db = open(sim, 0);
    for k in [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23] {
        assert_eq!(get(&db, k), Some(k));
    }
}

/// Batches over two keyspaces are seen whole by snapshots, whatever is flushed in between.
fn batches_are_whole(sim: &SimFs, _: u64) {
    let db = open(sim, 1);
    let other = db.keyspace("other", keyspace()).expect("it is made");
    let writer = {
        let (db, other) = (db.clone(), other.clone());
        thread::spawn(move || {
            for n in 0..6 {
                let mut batch = WriteBatch::new();
                batch.put(&db, key(1), value(n));
                batch.put(&other, key(1), value(n));
                db.write(&batch, WriteOptions::new())
                    .expect("a batch succeeds");
            }
        })
    };
    let mut last = None;
    for _ in 0..4 {
        let snapshot = db.snapshot();
        let here = snapshot.get(key(1)).expect("it reads");
        let there = snapshot.keyspace(&other).get(key(1)).expect("it reads");
        let here = here.as_ref().map(number);
        assert_eq!(here, there.as_ref().map(number), "half a batch");
        assert!(last <= here, "snapshots never go back");
        last = here;
    }
    join(writer);
    drop(other);
    close_and_check(sim, db, &[(1, 5)]);
}

/// A manual flush and a manual compaction beside those of the background.
fn upkeep_by_hand(sim: &SimFs, _: u64) {
    let db = open(sim, 2);
    for n in 0..4 {
        db.put(key(n), value(n)).expect("a put succeeds");
    }
    let compactor = {
        let db = db.clone();
        thread::spawn(move || db.compact().expect("a compaction succeeds"))
    };
    let writer = {
        let db = db.clone();
        thread::spawn(move || {
            for n in 4..8 {
                db.put(key(n), value(n)).expect("a put succeeds");
            }
        })
    };
    db.flush().expect("a flush succeeds");
    for n in 0..4 {
        assert_eq!(get(&db, n), Some(n));
    }
    join(compactor);
    join(writer);
    let present: Vec<_> = (0..8).map(|n| (n, n)).collect();
    close_and_check(sim, db, &present);
}

/// What a dead process wrote and never synced is there at once; and whatever is synced or flushed beside
/// it survives a power loss only together with it, in whichever keyspace it is.
fn inherited_writes(sim: &SimFs, _: u64) {
    let db = open(sim, 0);
    let other = db.keyspace("other", keyspace()).expect("it is made");
    db.put(key(0), value(0)).expect("a put succeeds");
    other.put(key(1), value(1)).expect("a put succeeds");
    let sim = sim.kill();
    drop((db, other));
    let db = open(&sim, 1);
    let whole = |sim: &SimFs, newer: u32| {
        for image in sim.images(&Family::ALL[..2]) {
            let db = open(&image.sim, 0);
            let other = db.keyspace("other", keyspace()).expect("it is there");
            let found = [get(&db, 0), get(&other, 1), get(&db, newer)];
            assert_eq!(found, [Some(0), Some(1), Some(newer)], "in {}", image.id);
        }
    };
    let synced = {
        let (db, sim) = (db.clone(), sim.clone());
        thread::spawn(move || {
            let put = db.put_with(key(2), value(2), synced());
            put.expect("a synced put succeeds");
            whole(&sim, 2);
        })
    };
    assert_eq!(get(&db, 0), Some(0), "there at once");
    db.put(key(3), value(3)).expect("a put succeeds");
    db.flush().expect("a flush succeeds");
    whole(&sim, 3);
    join(synced);
    close_and_check(&sim, db, &[(0, 0), (2, 2), (3, 3)]);
}

/// Syncs of the log fail under a group: its members are told, reads go on, and writes resume by
/// themselves in another segment once the disk works again.
fn failed_sync(sim: &SimFs, _: u64) {
    let db = open(sim, 1);
    db.put(key(0), value(0)).expect("a put succeeds");
    let no_sync = FaultRule::new(Fault::Eio).kinds(&[CallKind::Sync]);
    sim.fail(no_sync.class(FileClass::Log).sticky());
    let writers: Vec<_> = (1..3)
        .map(|k| {
            let db = db.clone();
            thread::spawn(move || db.put_with(key(k), value(k), synced()).is_ok())
        })
        .collect();
    let acknowledged: Vec<bool> = writers.into_iter().map(join).collect();
    assert!(
        !acknowledged.contains(&true),
        "a sync that failed acknowledges nobody"
    );
    assert_eq!(get(&db, 0), Some(0), "reads go on");
    sim.heal();
    wait_until_ok(sim, &db);
    db.put_with(key(9), value(9), synced())
        .expect("writes resume in a new segment");
    close_and_check(sim, db, &[(0, 0), (9, 9)]);
}

/// Segments of the log are rotated, struck off and used again while groups are synced.
fn log_rotation(sim: &SimFs, _: u64) {
    let db = open(sim, 1);
    let clients: Vec<_> = (0..2)
        .map(|client| {
            let db = Arc::new(db.clone());
            thread::spawn(move || {
                for n in 0..10 {
                    let options = match n % 3 {
                        0 => synced(),
                        _ => WriteOptions::new(),
                    };
                    db.put_with(key(client * 100 + n % 4), value(n), options)
                        .expect("a put succeeds");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(join);
    close_and_check(
        sim,
        db,
        &[(0, 8), (1, 9), (2, 6), (3, 7), (100, 8), (101, 9)],
    );
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[test]
            fn shuttle() {
                super::explore(stringify!($name), super::$name);
            }
        }
    )*};
}

/// Increments by transactions, updates and swaps while memtables are flushed: none is lost, and no
/// transaction sees two keys that are always written together differ.
fn transactions(sim: &SimFs, _: u64) {
    let db = open(sim, 1);
    let clients: Vec<_> = (0..2)
        .map(|client| {
            let db = db.clone();
            thread::spawn(move || {
                for n in 0..3 {
                    db.transaction(|tx| {
                        let mut pair = tx.range(&db, key(0)..=key(1));
                        let next = pair
                            .next()
                            .map_or(0, |entry| number(&entry.expect("read").1));
                        let twin = pair
                            .next()
                            .map_or(0, |entry| number(&entry.expect("read").1));
                        assert_eq!(next, twin, "one instant");
                        tx.put(&db, key(0), value(next + 1));
                        tx.put(&db, key(1), value(next + 1));
                        Ok(())
                    })
                    .expect("a transaction succeeds");
                    db.put(key(10 + client), value(n)).expect("a put succeeds");
                    let more = |found: Option<&[u8]>| {
                        let seen = found.map_or(0, |bytes| number(&Slice::from(bytes)));
                        Some(value(seen + 1))
                    };
                    db.update(key(2), more).expect("an update succeeds");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(join);
    close_and_check(sim, db, &[(0, 6), (1, 6), (2, 6), (10, 2), (11, 2)]);
}

/// Counters that are added to while their operands are put together in flushes and compactions: a
/// reader sees each addition once, whichever way it reads, and never one less than before.
fn merges(sim: &SimFs, _: u64) {
    let db = open(sim, 1);
    let options = keyspace().merge_operator(merge::COUNTER);
    let counts = db.keyspace("counts", options).expect("a new keyspace");
    let count = |value: Slice| i64::from_le_bytes(value[..].try_into().expect("8 bytes"));
    let writers: Vec<_> = (0..2)
        .map(|client| {
            let counts = counts.clone();
            thread::spawn(move || {
                for n in 0..4 {
                    let one = 1i64.to_le_bytes();
                    counts.merge("a", one).expect("a merge succeeds");
                    counts.put(key(client), value(n)).expect("a put succeeds");
                }
            })
        })
        .collect();
    let reader = {
        let (db, counts) = (db.clone(), counts.clone());
        thread::spawn(move || {
            let mut before = 0;
            for _ in 0..6 {
                let now = db.snapshot();
                let there = now.keyspace(&counts);
                let found = there.get("a").expect("a get succeeds").map_or(0, count);
                let entry = there.prefix("a").next_back();
                let entry = entry.map_or(0, |entry| count(entry.expect("a scan succeeds").1));
                assert_eq!(found, entry, "one instant");
                assert!(before <= found && found <= 8, "{found} after {before}");
                before = found;
                drop(now);
                let newer = counts.get("a").expect("a get succeeds").map_or(0, count);
                assert!(before <= newer && newer <= 8, "{newer} after {before}");
            }
        })
    };
    writers.into_iter().for_each(join);
    join(reader);
    let found = counts.get("a").expect("a get succeeds").map(count);
    assert_eq!(found, Some(8));
    drop(counts);
    db.close().expect("it closes");
    let db = open(sim, 1);
    let counts = db.keyspace("counts", KeyspaceOptions::new());
    let found = counts.expect("it is there").get("a");
    assert_eq!(found.expect("a get succeeds").map(count), Some(8));
    db.close().expect("it closes");
}

scenarios! {
    writers,
    close_against_writers,
    snapshots_against_compaction,
    iterators_against_removal,
    drop_keyspace_against_writes,
    sync_groups,
    full_disk,
    reopen,
    batches_are_whole,
    upkeep_by_hand,
    failed_sync,
    log_rotation,
    inherited_writes,
    transactions,
    merges,
}

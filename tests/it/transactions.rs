//! Transactions: what commits together, what conflicts, and what does not.

use crate::support::{Disk, ROOT, TempDir};
use alluvium::fs::Fs;
use alluvium::fs::sim::{Family, SimFs};
use alluvium::{
    Db, Durability, ErrorKind, KeyspaceOptions, Options, Result, Transaction, WriteOptions,
    defaults::TRANSACTION_TRIES,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Barrier;

fn options() -> Options {
    Options::new()
        .memory_bytes(8 << 20)
        .log_segment_bytes(64 << 10)
        .background_threads(0)
        .default_keyspace(KeyspaceOptions::new().block_bytes(256))
}

fn open(sim: &SimFs) -> Db {
    options().open_in(Fs::sim(sim, Path::new(ROOT))).unwrap()
}

/// A database with these entries, `key=value` each.
fn with(entries: &str) -> Db {
    let db = open(&SimFs::new(1));
    for entry in entries.split_whitespace() {
        let (key, value) = entry.split_once('=').unwrap();
        db.put(key, value).unwrap();
    }
    db
}

fn pairs(entries: impl Iterator<Item = Result<(alluvium::Slice, alluvium::Slice)>>) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let pairs = entries.map(|entry| {
        let (key, value) = entry.unwrap();
        format!("{}={}", text(&key), text(&value))
    });
    pairs.collect::<Vec<_>>().join(" ")
}

fn all(db: &Db) -> String {
    pairs(db.iter())
}

/// Whether a transaction that does `reads` and then writes somewhere conflicts with `other`.
fn conflicts(
    entries: &str,
    reads: impl FnOnce(&Db, &mut Transaction),
    other: impl FnOnce(&Db),
) -> bool {
    let db = with(entries);
    let mut tx = db.begin();
    reads(&db, &mut tx);
    tx.put(&db, "elsewhere", "written");
    other(&db);
    match tx.commit() {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.is_retryable(), "run again it may succeed");
            assert_eq!(db.get("elsewhere").unwrap(), None, "nothing was written");
            true
        }
    }
}

#[test]
fn a_transaction_sees_its_own_writes_and_others_only_after_the_commit() {
    let db = with("a=1 b=2");
    let mut tx = db.begin();
    tx.put(&db, "a", "mine");
    tx.delete(&db, "b");
    assert_eq!(tx.get(&db, "a").unwrap().unwrap(), b"mine");
    assert_eq!(tx.get(&db, "b").unwrap(), None);
    assert!(!tx.contains_key(&db, "b").unwrap());
    assert_eq!(all(&db), "a=1 b=2", "nobody else sees them");
    let seqno = tx.commit().unwrap();
    assert_eq!(all(&db), "a=mine");
    assert_eq!(db.seqno(), seqno);
}

#[test]
fn a_transaction_reads_one_instant() {
    let db = with("a=1 b=1");
    let tx = db.begin();
    db.put("b", "2").unwrap();
    assert_eq!(tx.get(&db, "a").unwrap().unwrap(), b"1");
    assert_eq!(tx.get(&db, "b").unwrap().unwrap(), b"1");
    assert_eq!(pairs(tx.iter(&db)), "a=1 b=1");
}

#[test]
fn one_that_is_dropped_never_happened() {
    let db = with("a=1");
    let mut tx = db.begin();
    tx.put(&db, "a", "2");
    drop(tx);
    assert_eq!(all(&db), "a=1");
}

#[test]
fn what_only_reads_never_conflicts_and_happened_at_its_snapshot() {
    let db = with("a=1");
    let tx = db.begin();
    let at = tx.seqno();
    tx.get(&db, "a").unwrap();
    db.put("a", "2").unwrap();
    assert_eq!(tx.commit().unwrap(), at);
}

#[test]
fn a_key_that_was_read_must_be_as_it_was() {
    let reads_a = |db: &Db, tx: &mut Transaction| drop(tx.get(db, "a").unwrap());
    assert!(conflicts("a=1", reads_a, |db| db.put("a", "2").unwrap()));
    assert!(
        conflicts("a=1", reads_a, |db| db.put("a", "1").unwrap()),
        "the same again"
    );
    assert!(conflicts("a=1", reads_a, |db| db.delete("a").unwrap()));
    assert!(
        conflicts("", reads_a, |db| db.put("a", "1").unwrap()),
        "an absent one"
    );
    assert!(!conflicts("a=1", reads_a, |db| db.put("b", "2").unwrap()));
    assert!(!conflicts("a=1", reads_a, |_| ()));
}

#[test]
fn keys_that_are_written_and_not_read_conflict_with_nothing() {
    let writes_a = |db: &Db, tx: &mut Transaction| {
        tx.put(db, "a", "mine");
        // Its own: that is no read of the database.
        assert!(tx.contains_key(db, "a").unwrap());
    };
    assert!(!conflicts("a=1", writes_a, |db| db.put("a", "2").unwrap()));
}

/// Two doctors are on call, and each leaves because the other one stays.
#[test]
fn of_two_that_each_read_what_the_other_writes_one_commits() {
    let db = with("alice=on bob=on");
    let leave = |who: &str| {
        let mut tx = db.begin();
        let on_call = tx
            .iter(&db)
            .filter(|e| e.as_ref().unwrap().1 == b"on")
            .count();
        assert_eq!(on_call, 2);
        tx.put(&db, who, "off");
        tx
    };
    let (alice, bob) = (leave("alice"), leave("bob"));
    alice.commit().unwrap();
    let error = bob.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.to_string(),
        "the transaction read the key 'alice', which was written since.\nNothing was written. Run \
         the transaction again."
    );
    assert_eq!(all(&db), "alice=off bob=on");
}

/// slatedb #1710, surrealkv PR 178: a range was tracked up to its last entry, not up to its end.
#[test]
fn bug_74_a_range_that_was_read_must_have_no_other_entries_up_to_its_end() {
    let reads = |db: &Db, tx: &mut Transaction| {
        assert_eq!(tx.range(db, "b".."d").count(), 1);
    };
    let with_put = |key: &'static str| conflicts("c=1", reads, move |db| db.put(key, "x").unwrap());
    assert!(with_put("b"), "a phantom at its start");
    assert!(with_put("bb"));
    assert!(with_put("cc"));
    assert!(!with_put("a") && !with_put("d"), "outside of it");
    assert!(conflicts("c=1", reads, |db| db.delete("c").unwrap()));
}

#[test]
fn only_what_an_iterator_has_shown_counts_as_read() {
    let first_two = |db: &Db, tx: &mut Transaction| {
        assert_eq!(tx.iter(db).take(2).count(), 2);
    };
    let with_put = |key: &'static str| {
        conflicts("b=1 d=1 f=1 h=1", first_two, move |db| {
            db.put(key, "x").unwrap()
        })
    };
    assert!(with_put("a") && with_put("c") && with_put("d"));
    assert!(!with_put("e") && !with_put("f") && !with_put("i"));

    let last_one = |db: &Db, tx: &mut Transaction| drop(tx.iter(db).next_back().unwrap());
    let with_put = |key: &'static str| {
        conflicts("b=1 d=1 f=1 h=1", last_one, move |db| {
            db.put(key, "x").unwrap()
        })
    };
    assert!(with_put("h") && with_put("i"));
    assert!(!with_put("g") && !with_put("a"));
}

/// The entry in hand at one end was read, and tells the caller nothing before it is given.
#[test]
fn an_iterator_that_lives_on_still_says_what_it_has_shown() {
    let db = with("b=1 d=1 f=1");
    let mut tx = db.begin();
    let mut iter = tx.iter(&db);
    iter.next().unwrap().unwrap();
    tx.put(&db, "elsewhere", "x");
    db.put("a", "new").unwrap();
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(pairs(iter), "d=1 f=1", "it owns what it needs");
}

/// surrealkv #378, #385; RocksDB #10724: a conflict was looked for in memtables alone.
#[test]
fn bug_75_a_conflict_is_one_also_when_it_was_flushed_and_compacted() {
    let flushed = |db: &Db| {
        db.put("a", "2").unwrap();
        db.flush().unwrap();
    };
    let compacted = |db: &Db| {
        flushed(db);
        db.put("b", "3").unwrap();
        db.flush().unwrap();
        db.compact().unwrap();
    };
    let deleted = |db: &Db| {
        db.delete("a").unwrap();
        db.flush().unwrap();
        db.compact().unwrap();
        db.compact().unwrap();
    };
    let key = |db: &Db, tx: &mut Transaction| drop(tx.get(db, "a").unwrap());
    let range = |db: &Db, tx: &mut Transaction| assert_eq!(tx.range(db, ..="a").count(), 1);
    for other in [&flushed as &dyn Fn(&Db), &compacted, &deleted] {
        assert!(conflicts("a=1", key, other));
        assert!(conflicts("a=1", range, other));
    }
    let unrelated = |db: &Db| {
        db.put("b", "2").unwrap();
        db.compact().unwrap();
    };
    assert!(!conflicts("a=1", key, unrelated));
    assert!(!conflicts("a=1", range, unrelated));
}

/// redb 3.1.3, 4.0: a guard wrote after its transaction had committed. Here nothing that outlives one
/// can write; that a commit takes the transaction with it stands in its docs as a test.
#[test]
fn bug_76_what_outlives_a_transaction_only_reads() {
    let db = with("a=1 b=2");
    let mut tx = db.begin();
    let value = tx.get(&db, "a").unwrap().unwrap();
    tx.put(&db, "c", "3");
    let iter = tx.iter(&db);
    tx.commit().unwrap();
    db.delete("a").unwrap();
    assert_eq!(value, b"1");
    assert_eq!(pairs(iter), "a=1 b=2 c=3", "its own instant");
    assert_eq!(all(&db), "b=2 c=3");
}

#[test]
fn a_transaction_is_atomic_over_keyspaces() {
    let db = with("a=1");
    let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
    let mut tx = db.begin();
    assert_eq!(tx.get(&orders, "a").unwrap(), None);
    tx.put(&orders, "a", "order");
    tx.delete(&db, "a");
    tx.commit().unwrap();
    assert_eq!(all(&db), "");
    assert_eq!(pairs(orders.iter()), "a=order");

    let mut tx = db.begin();
    tx.get(&orders, "a").unwrap();
    tx.put(&db, "b", "x");
    orders.put("a", "other").unwrap();
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_rollback_to_a_savepoint_takes_back_what_came_after_it() {
    let db = with("a=1 b=1");
    let mut tx = db.begin();
    tx.put(&db, "a", "2");
    let first = tx.savepoint();
    tx.put(&db, "a", "3");
    tx.put(&db, "c", "3");
    let second = tx.savepoint();
    tx.delete(&db, "b");
    tx.put(&db, "c", "4");
    assert_eq!(pairs(tx.iter(&db)), "a=3 c=4");
    tx.rollback_to(&second).unwrap();
    assert_eq!(pairs(tx.iter(&db)), "a=3 b=1 c=3");
    tx.delete(&db, "b");
    tx.rollback_to(&second).unwrap();
    assert_eq!(
        pairs(tx.iter(&db)),
        "a=3 b=1 c=3",
        "it can be gone back to again"
    );
    tx.rollback_to(&first).unwrap();
    assert_eq!(pairs(tx.iter(&db)), "a=2 b=1");
    let error = tx.rollback_to(&second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "it was forgotten");
    tx.commit().unwrap();
    assert_eq!(all(&db), "a=2 b=1");
}

#[test]
fn a_savepoint_of_another_transaction_is_refused() {
    let db = with("");
    let (mut one, mut other) = (db.begin(), db.begin());
    let savepoint = one.savepoint();
    other.savepoint();
    let error = other.rollback_to(&savepoint).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn an_iterator_sees_the_writes_before_it_and_none_after() {
    let db = with("b=1 d=1");
    let mut tx = db.begin();
    tx.put(&db, "a", "mine");
    let iter = tx.iter(&db);
    tx.put(&db, "c", "later");
    tx.delete(&db, "d");
    assert_eq!(pairs(iter), "a=mine b=1 d=1");
    assert_eq!(pairs(tx.iter(&db).rev()), "c=later b=1 a=mine");
}

#[test]
fn a_transaction_is_run_again_until_nobody_is_faster() {
    let db = with("n=0");
    let mut tries = 0;
    db.transaction(|tx| {
        let found = tx.get(&db, "n")?.unwrap();
        tries += 1;
        if tries < 5 {
            db.put("n", tries.to_string())?;
        }
        tx.put(&db, "seen", &found);
        Ok(())
    })
    .unwrap();
    assert_eq!(tries, 5);
    assert_eq!(all(&db), "n=4 seen=4");
}

#[test]
fn a_transaction_that_always_conflicts_ends() {
    let db = with("n=0");
    let mut tries = 0;
    let done: Result<()> = db.transaction(|tx| {
        tries += 1;
        tx.get(&db, "n")?;
        tx.put(&db, "seen", "x");
        db.put("n", "other")
    });
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(tries, TRANSACTION_TRIES);
    assert_eq!(db.get("seen").unwrap(), None);
}

#[test]
fn an_error_of_the_closure_ends_it_and_nothing_is_written() {
    let db = with("a=1");
    let mut tries = 0;
    let done: Result<()> = db.transaction(|tx| {
        tries += 1;
        tx.put(&db, "b", "2");
        // Not one of this transaction: the same call would find the same.
        db.compare_and_swap("a", Some(b"2"), Some(b"3"))
    });
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!((tries, all(&db).as_str()), (1, "a=1"));
}

#[test]
fn limits_foreign_keyspaces_and_dropped_ones_are_told_at_the_commit() {
    let db = with("a=1");
    // Another seed: in the simulator a database is told from others by it.
    let other = open(&SimFs::new(2));
    other.put("a", "2").unwrap();
    let mut tx = db.begin();
    tx.put(&db, vec![b'k'; (64 << 10) + 1], "");
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::TooLarge);

    let mut tx = db.begin();
    let read = tx.get(&other, "a").unwrap_err();
    assert_eq!(read.kind(), ErrorKind::InvalidArgument);
    let scanned = tx.iter(&other).next().unwrap().unwrap_err();
    assert_eq!(scanned.kind(), ErrorKind::InvalidArgument);
    tx.put(&db, "b", "2");
    tx.put(&other, "b", "2");
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::InvalidArgument);

    for reads in [false, true] {
        let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
        let mut tx = db.begin();
        match reads {
            true => assert_eq!(tx.get(&orders, "a").unwrap(), None),
            false => tx.put(&orders, "a", "1"),
        }
        tx.put(&db, "b", "2");
        db.drop_keyspace("orders").unwrap();
        let kind = tx.commit().map_err(|error| error.kind());
        assert_eq!(kind.unwrap_err(), ErrorKind::NotFound, "reads: {reads}");
    }
    assert_eq!((all(&db).as_str(), all(&other).as_str()), ("a=1", "a=2"));
}

#[test]
fn after_a_close_a_transaction_gives_closed() {
    let db = with("a=1");
    let mut tx = db.begin();
    let handle = db.clone();
    tx.put(&handle, "a", "2");
    db.close().unwrap();
    assert_eq!(tx.get(&handle, "b").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Closed);
    let idle = handle.begin();
    assert_eq!(idle.commit().unwrap_err().kind(), ErrorKind::Closed);
    let swapped = handle.compare_and_swap("a", None, Some(b"2"));
    assert_eq!(swapped.unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_synced_commit_survives_the_loss_of_power_whole() {
    let sim = SimFs::new(3);
    let db = open(&sim);
    let mut tx = db.begin();
    tx.get(&db, "a").unwrap();
    tx.put(&db, "a", "1");
    tx.put(&db, "b", "1");
    let synced = WriteOptions::new().durability(Durability::Synced);
    tx.commit_with(synced).unwrap();
    db.transaction(|tx| {
        tx.put(&db, "a", "2");
        tx.put(&db, "b", "2");
        Ok(())
    })
    .unwrap();
    let power_lost = sim.images(&[Family::Nothing]).next().unwrap().sim;
    drop(db);
    let found = all(&open(&power_lost));
    assert!(["a=1 b=1", "a=2 b=2"].contains(&found.as_str()), "{found}");
}

/// Counters by `update`, by `transaction` and by hand-made swaps, all on few keys, while memtables
/// are flushed and tables merged: no increment is lost.
#[test]
fn no_increment_of_many_threads_is_lost() {
    const THREADS: u32 = 4;
    const EACH: u32 = 200;
    for disk in [Disk::simulated(5), Disk::real(TempDir::new("increments"))] {
        let small = KeyspaceOptions::new()
            .write_buffer_bytes(2 << 10)
            .block_bytes(256)
            .table_bytes(4 << 10)
            .level0_runs(2)
            .tier_runs(2);
        let options = Options::new()
            .memory_bytes(8 << 20)
            .log_segment_bytes(16 << 10)
            .background_threads(2)
            .default_keyspace(small);
        let db = disk.open(options).unwrap();
        let count = |bytes: Option<&[u8]>| {
            bytes.map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()))
        };
        let start = Barrier::new(THREADS as usize);
        std::thread::scope(|scope| {
            for n in 0..THREADS {
                let (db, start) = (&db, &start);
                scope.spawn(move || {
                    start.wait();
                    for i in 0..EACH {
                        db.put(format!("other {n} {i}"), [7; 64]).unwrap();
                        db.update("updated", |v| Some((count(v) + 1).to_be_bytes().to_vec()))
                            .unwrap();
                        db.transaction(|tx| {
                            let seen = count(tx.get(db, "counted")?.as_deref());
                            tx.put(db, "counted", (seen + 1).to_be_bytes());
                            Ok(())
                        })
                        .unwrap();
                        loop {
                            let old = db.get("swapped").unwrap();
                            let new = (count(old.as_deref()) + 1).to_be_bytes();
                            match db.compare_and_swap("swapped", old.as_deref(), Some(&new)) {
                                Ok(()) => break,
                                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                            }
                        }
                    }
                });
            }
        });
        for key in ["updated", "counted", "swapped"] {
            let found = db.get(key).unwrap();
            assert_eq!(count(found.as_deref()), THREADS * EACH, "{key}");
        }
        db.close().unwrap();
    }
}

/// More is written beside a transaction than anybody wants to remember.
#[test]
fn a_commit_is_right_however_much_is_written_beside_it() {
    let db = with("a=1");
    let long = |n: u32| [vec![b'k'; 60 << 10], n.to_be_bytes().to_vec()].concat();
    for overwrites in [false, true] {
        let done: Result<()> = db.update("a", |_| Some(b"2".to_vec())).map(drop);
        done.unwrap();
        let mut tx = db.begin();
        tx.get(&db, "a").unwrap();
        tx.put(&db, "b", "x");
        for n in 0..100 {
            db.put(long(n), "").unwrap();
        }
        if overwrites {
            db.put("a", "3").unwrap();
        }
        db.flush().unwrap();
        assert_eq!(tx.commit().is_err(), overwrites);
    }
}

proptest! {
    /// The twin: a map with the writes applied.
    #[test]
    fn an_iterator_from_both_ends_gives_the_writes_over_the_entries(
        stored in proptest::collection::btree_map(0u8..24, 0u8..9, 0..12),
        writes in proptest::collection::vec((0u8..24, proptest::option::of(0u8..9)), 0..12),
        (from, to) in (0u8..26, 0u8..26),
        ends in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let db = open(&SimFs::new(1));
        for (key, value) in &stored {
            db.put([*key], [*value]).unwrap();
        }
        let mut tx = db.begin();
        let mut model: BTreeMap<u8, u8> = stored;
        for (key, value) in writes {
            match value {
                Some(value) => {
                    tx.put(&db, [key], [value]);
                    model.insert(key, value);
                }
                None => {
                    tx.delete(&db, [key]);
                    model.remove(&key);
                }
            }
        }
        let mut expected: Vec<(u8, u8)> = model.into_iter().collect();
        expected.retain(|(key, _)| from <= *key && *key < to);
        let (mut front, mut back) = (Vec::new(), Vec::new());
        let mut iter = tx.range(&db, [from]..[to]);
        for front_end in ends {
            let next = if front_end { iter.next() } else { iter.next_back() };
            let Some(entry) = next else { break };
            let (key, value) = entry.unwrap();
            if front_end { &mut front } else { &mut back }.push((key[0], value[0]));
        }
        back.reverse();
        front.append(&mut back);
        prop_assert_eq!(front, expected);
        prop_assert!(iter.next().is_none() && iter.next_back().is_none());
    }
}

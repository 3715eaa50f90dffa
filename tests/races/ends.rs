//! P17 and P18: whatever goes first, nothing is left behind and nothing is taken away too early.
//!
//! The tests of this file look at the threads of the whole process, so they take turns.

use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::{Cursor, Db, ErrorKind, Iter, Keyspace, KeyspaceOptions, Options, Slice, Snapshot};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|failed| failed.into_inner())
}

fn options() -> Options {
    let keyspace = KeyspaceOptions::new()
        .write_buffer_bytes(4 << 10)
        .block_bytes(256)
        .table_bytes(4 << 10)
        .level0_runs(2);
    Options::new()
        .memory_bytes(4 << 20)
        .log_segment_bytes(16 << 10)
        .background_threads(2)
        .default_keyspace(keyspace)
}

fn fs(sim: &SimFs) -> Fs {
    Fs::sim(sim, Path::new("/db"))
}

/// Names of the engine's threads in this process, which the system keeps.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the system lists threads");
    let names = tasks.filter_map(|task| {
        // A thread may end while it is listed.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    names.filter(|name| name.starts_with("alluvium-")).collect()
}

/// A thread that was waited for is still listed while the system takes it apart, some
/// microseconds: one that is there after a second was left behind.
fn check_no_thread(order: usize) {
    let start = Instant::now();
    while !threads().is_empty() {
        let left = threads();
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "order {order}: {left:?}"
        );
        std::thread::yield_now();
    }
}

fn tables(sim: &SimFs) -> Vec<String> {
    let entries = fs(sim).list().expect("the directory lists").into_iter();
    let names = entries.map(|entry| entry.name);
    names.filter(|name| name.ends_with(".tbl")).collect()
}

/// Everything that a user can hold of a database.
enum Thing {
    Db(Db),
    Keyspace(Keyspace),
    Snapshot(Snapshot),
    Iter(Box<Iter>),
    Cursor(Box<Cursor>),
    Slice(Slice),
}

impl Thing {
    /// True when it keeps the directory.
    fn keeps(&self) -> bool {
        matches!(self, Thing::Db(_) | Thing::Keyspace(_) | Thing::Snapshot(_))
    }

    /// Uses it, so that what it needs must still be there. `open`: some handle keeps the database.
    /// Without one an iterator or cursor says that it was closed, and a slice stays as it is.
    fn use_up(self, open: bool) {
        match self {
            Thing::Db(db) => assert_eq!(db.get("k1").unwrap().unwrap(), value(1)),
            Thing::Keyspace(keyspace) => assert!(keyspace.get("other").unwrap().is_some()),
            Thing::Snapshot(snapshot) => {
                assert_eq!(snapshot.get("k2").unwrap().unwrap(), value(2));
            }
            Thing::Iter(iter) if open => {
                let read: Vec<_> = iter.map(|entry| entry.unwrap().1).collect();
                assert_eq!(read.len(), 20);
            }
            Thing::Iter(mut iter) => {
                let error = iter.next().unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Closed);
                assert!(iter.next().is_none(), "it ends after its error");
            }
            Thing::Cursor(mut cursor) if open => {
                cursor.first().unwrap();
                assert_eq!(cursor.key(), Some(&b"k0"[..]));
            }
            Thing::Cursor(mut cursor) => {
                assert_eq!(cursor.first().unwrap_err().kind(), ErrorKind::Closed);
            }
            Thing::Slice(slice) => assert_eq!(slice, value(3)),
        }
    }
}

/// Long enough to be pinned in the table rather than copied.
fn value(n: u8) -> Vec<u8> {
    vec![n; 600]
}

fn things(sim: &SimFs) -> Vec<Thing> {
    let db = options().open_in(fs(sim)).unwrap();
    let other = db.keyspace("other", KeyspaceOptions::new()).unwrap();
    other.put("other", "here").unwrap();
    for n in 0..20 {
        db.put(format!("k{n}"), value(n)).unwrap();
    }
    db.flush().unwrap();
    vec![
        Thing::Keyspace(other),
        Thing::Snapshot(db.snapshot()),
        Thing::Iter(Box::new(db.iter())),
        Thing::Cursor(Box::new(db.cursor())),
        Thing::Slice(db.get("k3").unwrap().unwrap()),
        Thing::Db(db),
    ]
}

/// The `n`th permutation of `len` things, as positions to take from what is left.
fn permutation(mut n: usize, len: usize) -> Vec<usize> {
    let choices = (1..=len).rev();
    choices
        .map(|left| {
            let at = n % left;
            n /= left;
            at
        })
        .collect()
}

#[test]
fn things_go_in_any_of_720_orders_and_leave_no_thread_and_no_lock() {
    let _turn = turn();
    for n in 0..720 {
        let sim = SimFs::new(n as u64);
        let mut left = things(&sim);
        for at in permutation(n, left.len()) {
            let open = left.iter().any(Thing::keeps);
            left.remove(at).use_up(open);
            let kept = left.iter().any(Thing::keeps);
            let again = options().background_threads(0).open_in(fs(&sim));
            match again {
                Ok(_) => assert!(!kept, "order {n}: the lock is gone too early"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Locked, "order {n}: {error}");
                    assert!(kept, "order {n}: the lock is left behind");
                }
            }
            if !kept {
                check_no_thread(n);
            }
        }
    }
}

#[test]
fn a_close_after_any_of_the_things_leaves_no_thread_and_no_lock() {
    let _turn = turn();
    for n in 0..120 {
        for close_after in 0..6 {
            let sim = SimFs::new(n as u64);
            let mut left = things(&sim);
            let Some(Thing::Db(db)) = left.pop() else {
                panic!("the database is the last thing");
            };
            let order = permutation(n, left.len());
            for at in &order[..close_after] {
                left.remove(*at).use_up(true);
            }
            db.close().unwrap();
            check_no_thread(n);
            let again = options().background_threads(0).open_in(fs(&sim)).unwrap();
            // What is left of the closed one says so, or reads what it owns; and goes.
            for thing in left {
                match thing {
                    Thing::Snapshot(old) => {
                        assert_eq!(old.get("k2").unwrap_err().kind(), ErrorKind::Closed);
                    }
                    Thing::Keyspace(old) => {
                        assert_eq!(old.put("a", "b").unwrap_err().kind(), ErrorKind::Closed);
                    }
                    slice @ Thing::Slice(_) => slice.use_up(false),
                    other => drop(other),
                }
            }
            assert_eq!(again.get("k4").unwrap().unwrap(), value(4));
        }
    }
}

#[test]
fn files_stay_while_read_and_go_within_a_second_after() {
    let _turn = turn();
    type Hold = fn(&Db) -> Thing;
    let holds: [Hold; 3] = [
        |db| Thing::Iter(Box::new(db.iter())),
        |db| Thing::Cursor(Box::new(db.cursor())),
        |db| Thing::Iter(Box::new(db.snapshot().iter())),
    ];
    for (n, hold) in holds.into_iter().enumerate() {
        let sim = SimFs::new(n as u64);
        let db = options().open_in(fs(&sim)).unwrap();
        for n in 0..20 {
            db.put(format!("k{n}"), value(n)).unwrap();
        }
        db.compact().unwrap();
        let held = hold(&db);
        let before = tables(&sim);
        assert!(!before.is_empty());
        for n in 0..20 {
            db.put(format!("k{n}"), value(n + 100)).unwrap();
        }
        db.compact().unwrap();
        // Any moment of the helper's round.
        std::thread::sleep(Duration::from_millis(170 * n as u64));
        let now = tables(&sim);
        let stay = before.iter().all(|name| now.contains(name));
        assert!(stay, "{before:?} are read, {now:?} are there");
        held.use_up(true);
        let start = Instant::now();
        while tables(&sim).iter().any(|name| before.contains(name)) {
            assert!(start.elapsed() < Duration::from_secs(1), "files stay");
            std::thread::sleep(Duration::from_millis(5));
        }
        db.close().unwrap();
    }
}

#[test]
fn a_user_callback_that_panics_holds_nothing() {
    let _turn = turn();
    let sim = SimFs::new(1);
    let db = options().open_in(fs(&sim)).unwrap();
    db.put("k", value(7)).unwrap();
    let snapshot = db.snapshot();
    for flushed in [false, true] {
        if flushed {
            db.flush().unwrap();
        }
        let here = AssertUnwindSafe(|| db.get_with("k", |_| panic!("the user's own")));
        assert!(catch_unwind(here).is_err());
        let keyspace = snapshot.keyspace(&db);
        let there = AssertUnwindSafe(|| keyspace.get_with("k", |_| panic!("the user's own")));
        assert!(catch_unwind(there).is_err());
        // Writes, flushes, compactions and reads go on: no lock is held, nothing is pinned.
        db.put("k", value(7)).unwrap();
        db.compact().unwrap();
        assert_eq!(db.get("k").unwrap().unwrap(), value(7));
    }
    drop(snapshot);
    db.close().unwrap();
    check_no_thread(0);
}

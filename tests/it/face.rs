//! The public face at its edges: what a user meets on the first day.

use crate::support::{Disk, ROOT, TempDir};
use alluvium::fs::Fs;
use alluvium::fs::sim::{Family, SimFs};
use alluvium::{
    Db, Durability, ErrorKind, KeyspaceOptions, Options, Slice, State, WriteBatch, WriteOptions,
};

fn fresh(name: &str) -> (TempDir, Db) {
    let dir = TempDir::new(name);
    let db = Db::open(dir.path()).unwrap();
    (dir, db)
}

#[test]
fn a_value_written_is_read_back_after_reopening() {
    let (dir, db) = fresh("reopen");
    db.put("k", "v").unwrap();
    db.put("empty", "").unwrap();
    db.put("", "the empty key").unwrap();
    db.close().unwrap();
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), b"v");
    assert_eq!(
        db.get("empty").unwrap().unwrap(),
        b"",
        "an empty value is a value"
    );
    assert_eq!(db.get("").unwrap().unwrap(), b"the empty key");
    assert_eq!(db.get("absent").unwrap(), None);
}

#[test]
fn the_directory_has_one_opener() {
    let (dir, db) = fresh("lock");
    let second = Db::open(dir.path()).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Locked);
    let again = Db::open(dir.path()).unwrap_err();
    assert_eq!(
        again.kind(),
        ErrorKind::Locked,
        "a refused open does not weaken the lock (bug 79)"
    );
    drop(db);
    Db::open(dir.path()).unwrap();
}

#[test]
fn every_handle_gives_closed_after_close_and_slices_stay_valid() {
    let (_dir, db) = fresh("close");
    let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
    db.put("k", vec![7; 4000]).unwrap();
    db.flush().unwrap();
    let slice: Slice = db.get("k").unwrap().unwrap();
    let snapshot = db.snapshot();
    let mut iter = db.iter();
    let mut cursor = db.cursor();
    let clone = db.clone();
    db.close().unwrap();
    let closed = ErrorKind::Closed;
    assert_eq!(clone.get("k").unwrap_err().kind(), closed);
    assert_eq!(clone.put("k", "v").unwrap_err().kind(), closed);
    assert_eq!(orders.get("k").unwrap_err().kind(), closed);
    assert_eq!(snapshot.get("k").unwrap_err().kind(), closed);
    assert_eq!(clone.iter().next().unwrap().unwrap_err().kind(), closed);
    assert_eq!(iter.next().unwrap().unwrap_err().kind(), closed);
    assert!(iter.next().is_none());
    assert_eq!(cursor.first().unwrap_err().kind(), closed);
    assert_eq!(clone.close().unwrap_err().kind(), closed);
    assert_eq!(slice, vec![7; 4000]);
}

#[test]
fn dropping_in_any_order_is_safe() {
    let (dir, db) = fresh("drop-order");
    for n in 0..2000u32 {
        db.put(n.to_be_bytes(), vec![1; 100]).unwrap();
    }
    db.flush().unwrap();
    let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
    let snapshot = db.snapshot();
    let mut iter = db.iter();
    drop(db);
    assert!(
        Db::open(dir.path()).is_err(),
        "a keyspace handle keeps it open"
    );
    orders.put("k", "v").unwrap();
    drop(orders);
    assert_eq!(
        snapshot.get(1u32.to_be_bytes()).unwrap().unwrap().len(),
        100
    );
    drop(snapshot);
    let again = Db::open(dir.path()).unwrap();
    assert!(iter.next().is_some(), "an iterator owns what it needs");
    drop(again);
}

#[test]
fn limits_are_refused_before_anything_is_written() {
    let (_dir, db) = fresh("limits");
    let before = db.seqno();
    let error = db.put(vec![0; (64 << 10) + 1], "v").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(
        error.to_string().contains("65536") && error.to_string().contains("65537"),
        "{error}"
    );
    db.put(vec![0; 64 << 10], "v").unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&db, "a", "1");
    batch.put(&db, vec![0; (64 << 10) + 1], "v");
    assert_eq!(
        db.write(&batch, WriteOptions::new()).unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    assert_eq!(db.get("a").unwrap(), None, "a batch is whole or absent");
    assert_eq!(db.seqno().get(), before.get() + 1);
}

#[test]
fn a_large_batch_gets_a_log_segment_of_its_own() {
    let dir = TempDir::new("large");
    let options = || Options::new().log_segment_bytes(64 << 10);
    let db = options().open(dir.path()).unwrap();
    db.put("before", "1").unwrap();
    let mut batch = WriteBatch::new();
    for n in 0..40u32 {
        batch.put(&db, n.to_be_bytes(), vec![n as u8; 50_000]);
    }
    db.write(&batch, WriteOptions::new().durability(Durability::Synced))
        .unwrap();
    db.put("after", "2").unwrap();
    drop(db);
    let db = options().open(dir.path()).unwrap();
    assert_eq!(db.get("before").unwrap().unwrap(), b"1");
    assert_eq!(db.get("after").unwrap().unwrap(), b"2");
    for n in 0..40u32 {
        assert_eq!(
            db.get(n.to_be_bytes()).unwrap().unwrap(),
            vec![n as u8; 50_000]
        );
    }
}

#[test]
fn keyspaces_are_listed_refused_and_dropped_by_name() {
    let (dir, db) = fresh("keyspaces");
    for name in ["", "a\0b", &"x".repeat(256)] {
        let error = db.keyspace(name, KeyspaceOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "bug 54");
    }
    let orders = db
        .keyspace("orders", KeyspaceOptions::new().block_bytes(1024))
        .unwrap();
    orders.put("k", "v").unwrap();
    assert_eq!(db.keyspaces(), ["default", "orders"]);
    let error = db
        .keyspace("orders", KeyspaceOptions::new().block_bytes(512))
        .unwrap_err();
    assert!(error.to_string().contains("block_bytes"), "{error}");
    assert!(db.drop_keyspace("default").is_err());
    assert_eq!(
        db.drop_keyspace("none").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let snapshot = db.snapshot();
    db.drop_keyspace("orders").unwrap();
    assert_eq!(orders.get("k").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        orders.put("k", "v").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let again = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
    assert_eq!(
        again.get("k").unwrap(),
        None,
        "a dropped keyspace never comes back (bug 33)"
    );
    again.put("k", "new").unwrap();
    assert_eq!(
        snapshot.keyspace(&again).get("k").unwrap(),
        None,
        "made after the snapshot"
    );
    drop((snapshot, orders, again));
    db.close().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
    assert_eq!(orders.get("k").unwrap().unwrap(), b"new");
}

#[test]
fn a_batch_for_another_database_is_refused() {
    let (_one, first) = fresh("first");
    let (_two, second) = fresh("second");
    let mut batch = WriteBatch::new();
    batch.put(&first, "k", "v");
    let error = second.write(&batch, WriteOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    batch.put(&second, "k", "v");
    assert!(
        first.write(&batch, WriteOptions::new()).is_err(),
        "nor one that names two"
    );
}

#[test]
fn options_out_of_range_and_missing_databases_are_errors_by_name() {
    let dir = TempDir::new("options");
    let error = Options::new()
        .background_threads(1000)
        .open(dir.path())
        .unwrap_err();
    assert!(error.to_string().contains("background_threads"), "{error}");
    let error = Options::new()
        .create_if_missing(false)
        .open(dir.path())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!dir.path().exists(), "a refused open leaves nothing behind");
    Db::open(dir.path()).unwrap().close().unwrap();
    assert!(
        Options::new()
            .error_if_exists(true)
            .open(dir.path())
            .is_err()
    );
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    Db::destroy(dir.path()).unwrap();
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        left.contains(&"notes.txt".into()),
        "files that are not ours stay"
    );
    std::fs::remove_file(dir.path().join("notes.txt")).unwrap();
    Db::destroy(dir.path()).unwrap();
    assert!(!dir.path().exists());
}

#[test]
fn sixteen_writers_share_syncs() {
    let (_dir, db) = fresh("group");
    let before = db.stats().log.syncs;
    std::thread::scope(|scope| {
        for thread in 0..16u32 {
            let db = &db;
            scope.spawn(move || {
                for n in 0..50u32 {
                    let key = [thread.to_be_bytes(), n.to_be_bytes()].concat();
                    let synced = WriteOptions::new().durability(Durability::Synced);
                    db.put_with(key, "v", synced).unwrap();
                }
            });
        }
    });
    assert_eq!(db.iter().count(), 800);
    let syncs = db.stats().log.syncs - before;
    assert!(syncs < 800, "{syncs} syncs for 800 writes");
}

#[test]
fn readers_see_whole_batches_while_writers_write_flush_and_compact() {
    let dir = TempDir::new("atomic");
    let small = KeyspaceOptions::new()
        .write_buffer_bytes(32 << 10)
        .table_bytes(16 << 10);
    let db = Options::new()
        .default_keyspace(small.clone())
        .open(dir.path())
        .unwrap();
    let other = db.keyspace("other", small).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let snapshot = db.snapshot();
                    let a = snapshot.get("counter").unwrap();
                    let b = snapshot.keyspace(&other).get("counter").unwrap();
                    assert_eq!(a.as_deref(), b.as_deref());
                    let sum: usize = snapshot.prefix("part").map(|e| e.unwrap().1.len()).sum();
                    assert_eq!(sum % 100, 0, "parts of one batch always add up");
                }
            });
        }
        for n in 0..20_000u32 {
            let mut batch = WriteBatch::new();
            batch.put(&db, "counter", n.to_be_bytes());
            batch.put(&other, "counter", n.to_be_bytes());
            let left = (n % 100) as usize;
            batch.put(&db, "part1", vec![0; left]);
            batch.put(&db, "part2", vec![0; 100 - left]);
            db.write(&batch, WriteOptions::new()).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(db.stats().flushes > 0);
    assert!(matches!(db.state(), State::Ok));
}

#[test]
fn files_go_when_nothing_reads_them_and_not_before() {
    let dir = TempDir::new("pins");
    let db = Db::open(dir.path()).unwrap();
    let tables = || {
        let disk = std::fs::read_dir(dir.path()).unwrap();
        disk.filter(|e| {
            e.as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|x| x == "tbl")
        })
        .count()
    };
    for round in 0..4u32 {
        for n in 0..1000u32 {
            db.put(n.to_be_bytes(), round.to_be_bytes()).unwrap();
        }
        db.flush().unwrap();
    }
    let mut iter = db.iter();
    let first = iter.next().unwrap().unwrap();
    assert_eq!(first.1, 3u32.to_be_bytes());
    db.compact().unwrap();
    assert!(1 < tables(), "an open iterator keeps replaced files");
    assert_eq!(iter.count(), 999);
    db.put("one", "more").unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    let levels = db.stats().keyspaces[0]
        .levels
        .iter()
        .map(|l| l.files())
        .sum::<u64>();
    assert_eq!(tables() as u64, levels, "P17");
}

#[test]
fn an_idle_keyspace_does_not_keep_the_log_of_the_others() {
    for threads in [0, 2] {
        let disk = Disk::simulated(2);
        let small = KeyspaceOptions::new().write_buffer_bytes(8 << 10);
        let options = Options::new()
            .memory_bytes(1 << 20)
            .log_segment_bytes(16 << 10)
            .background_threads(threads)
            .default_keyspace(small.clone());
        let db = disk.open(options).unwrap();
        let idle = db.keyspace("idle", small).unwrap();
        idle.put("one", "write").unwrap();
        for n in 0..4000u32 {
            db.put(n.to_be_bytes(), vec![1; 200]).unwrap();
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while db.stats().log.segments > 10 && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let segments = db.stats().log.segments;
        assert!(segments <= 10, "{segments} segments with {threads} threads");
        assert_eq!(idle.get("one").unwrap().unwrap(), b"write");
    }
}

#[test]
fn the_simulator_and_the_disk_open_the_same_way() {
    for disk in [Disk::simulated(1), Disk::real(TempDir::new("same"))] {
        let db = disk.open(Options::new()).unwrap();
        db.put("k", "v").unwrap();
        db.close().unwrap();
        let db = disk.open(Options::new()).unwrap();
        assert_eq!(db.get("k").unwrap().unwrap(), b"v");
        assert_eq!(db.open_report().batches, 1);
        db.close().unwrap();
        disk.check_tidy();
    }
}

/// P1 says "together with everything written before it", also of a batch that holds nothing.
#[test]
fn an_empty_synced_batch_makes_what_came_before_durable() {
    let sim = SimFs::new(1);
    let open = |sim: &SimFs| {
        let fs = Fs::sim(sim, ROOT.as_ref());
        Options::new().background_threads(0).open_in(fs).unwrap()
    };
    let db = open(&sim);
    db.put("k", "logged").unwrap();
    let lost = sim.images(&[Family::Nothing]).next().unwrap();
    assert_eq!(open(&lost.sim).get("k").unwrap(), None, "not durable yet");
    let synced = WriteOptions::new().durability(Durability::Synced);
    db.write(WriteBatch::new(), synced).unwrap();
    let kept = sim.images(&[Family::Nothing]).next().unwrap();
    assert_eq!(open(&kept.sim).get("k").unwrap().unwrap(), b"logged");
}

//! Bugs of reads, flush, compaction and closing.

use super::*;

/// RocksDB 8.7: an I/O error at the first block of a file was taken for its end.
#[test]
fn bug_56_a_failed_read_is_an_error_of_scan_and_compaction_and_loses_nothing() {
    let options = options().read_mode(ReadMode::Pread);
    // From the first footer to the last block: each read of the scan, and of the compaction; with
    // all that follow, or alone: then only this one tells of the failure.
    for (nth, lasts) in (0..).flat_map(|nth| [(nth, true), (nth, false)]) {
        let sim = SimFs::new(56);
        let db = open(&sim, &options);
        for round in 0..3 {
            for n in 0..20 {
                db.put(format!("k{n:02}"), vec![b'0' + round; 100]).unwrap();
            }
            db.flush().unwrap();
        }
        let (sim, db) = killed(&sim, db, &options); // with cold caches
        let rule = || {
            let rule = FaultRule::new(Fault::Eio)
                .kinds(&[CallKind::Read])
                .class(FileClass::Table)
                .nth(nth);
            if lasts { rule.sticky() } else { rule }
        };
        sim.fail(rule());
        let mut iter = db.iter();
        let failed = iter.by_ref().any(|entry| entry.is_err());
        let scan_hit = 0 < sim.faults_hit();
        assert_eq!(failed, scan_hit, "read {nth} of the scan");
        assert!(iter.next().is_none(), "after an error it is over");
        sim.heal();
        let hit_before = sim.faults_hit();
        sim.fail(rule());
        let compacted = db.compact();
        let compaction_hit = hit_before < sim.faults_hit();
        // A failure that passes is met by a second try.
        if lasts || !compaction_hit {
            assert_eq!(compacted.is_err(), compaction_hit, "read {nth}");
        }
        sim.heal();
        let (_sim, db) = killed(&sim, db, &options);
        assert_eq!(db.iter().count(), 20);
        assert!(db.iter().all(|entry| entry.unwrap().1[0] == b'2'));
        if !scan_hit && !compaction_hit {
            assert!(12 < nth, "three tables take more than {nth} reads");
            return;
        }
    }
}

/// RocksDB 6.8: reads of many keys went on after an I/O error and gave older values.
#[test]
fn bug_57_no_read_gives_an_older_value_in_place_of_an_error() {
    let options = options().read_mode(ReadMode::Pread);
    let mut errors = 0;
    for nth in 0..40 {
        let sim = SimFs::new(57);
        let db = open(&sim, &options);
        let keys: Vec<String> = (0..10).map(|n| format!("k{n}")).collect();
        for value in ["old", "new"] {
            for key in &keys {
                db.put(key, value).unwrap();
            }
            db.flush().unwrap();
        }
        let (sim, db) = killed(&sim, db, &options);
        sim.fail(
            FaultRule::new(Fault::Eio)
                .kinds(&[CallKind::Read])
                .class(FileClass::Table)
                .nth(nth),
        );
        match db.get_many(&keys) {
            Err(_) => errors += 1,
            Ok(found) => assert!(found.iter().all(|value| value.as_deref() == Some(b"new"))),
        }
        for key in &keys {
            match db.get(key) {
                Err(_) => errors += 1,
                Ok(value) => assert_eq!(value.unwrap(), b"new"),
            }
        }
    }
    assert!(0 < errors, "some read failed");
}

/// RocksDB #380 of surrealkv's kind: a step back over many tombstones used a stack frame for each.
#[test]
fn bug_65_a_step_over_many_tombstones_needs_no_stack() {
    let sim = SimFs::new(65);
    let db = open(&sim, &options());
    db.put("a", "1").unwrap();
    db.put("z", "1").unwrap();
    let mut batch = WriteBatch::new();
    for n in 0..100_000u32 {
        batch.delete(&db, format!("k{n:06}"));
    }
    db.write(&batch, WriteOptions::new()).unwrap();
    let walk = |db: Db| {
        let work = move || {
            let mut cursor = db.cursor();
            cursor.last().unwrap();
            cursor.prev().unwrap();
            assert_eq!(cursor.key(), Some(&b"a"[..]));
            cursor.next().unwrap();
            assert_eq!(cursor.key(), Some(&b"z"[..]));
        };
        let small = std::thread::Builder::new().stack_size(128 << 10);
        small.spawn(work).unwrap().join().unwrap();
    };
    walk(db.clone());
    db.flush().unwrap();
    walk(db.clone());
}

/// redb 3.0.1: an inverted range was read as an unbounded one.
#[test]
fn bug_66_an_inverted_range_is_empty_everywhere() {
    let sim = SimFs::new(66);
    let db = open(&sim, &options().default_keyspace(busy()));
    for n in 0..200 {
        db.put(format!("k{n:03}"), [1; 60]).unwrap();
    }
    let snapshot = db.snapshot();
    assert_eq!(db.range("k150".."k050").count(), 0);
    assert_eq!(db.range("k150"..="k050").rev().count(), 0);
    assert_eq!(snapshot.range("z".."a").count(), 0);
    let mut cursor = db.cursor_over("k150".."k050");
    cursor.first().unwrap();
    assert!(!cursor.is_valid());
    cursor.seek("k100").unwrap();
    assert!(!cursor.is_valid());
    // A compaction of nothing does nothing.
    db.flush().unwrap();
    db.compact_range("k150".."k050").unwrap();
    assert_eq!(db.iter().count(), 200);
}

/// RocksDB 6.12: an iterator made while a memtable became a table saw neither of the two.
#[test]
fn bug_68_an_iterator_made_during_a_flush_sees_everything() {
    let dir = TempDir::new("bug-68");
    let db = options().background_threads(1).open(dir.path()).unwrap();
    let keys = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..300u64 {
                db.put(n.to_be_bytes(), "v").unwrap();
                keys.store(n + 1, Ordering::Release);
                if n % 3 == 0 {
                    db.flush().unwrap();
                }
                if n % 50 == 0 {
                    db.compact().unwrap();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            let least = keys.load(Ordering::Acquire);
            let found = db.iter().count() as u64;
            assert!(least <= found, "{found} of at least {least}");
        }
    });
}

/// RocksDB 7.9: a failed flush was tried again behind later ones, and updates came in a wrong order.
#[test]
fn bug_69_memtables_that_waited_for_a_failed_flush_reach_the_tables_in_their_order() {
    let options = options()
        .background_threads(1)
        .default_keyspace(busy().immutables_max(64).level0_runs(64));
    let mut most = 0;
    for attempt in 0..200 {
        let sim = SimFs::new(69);
        let db = open(&sim, &options);
        sim.fail(
            FaultRule::new(Fault::Enospc)
                .kinds(&[CallKind::Sync])
                .class(FileClass::Table)
                .sticky(),
        );
        // Each put fills a memtable, until the first flush has failed and writes are stopped. The
        // 65th would stay where it is while 64 wait.
        let mut last = 0;
        while last < 64
            && db
                .put("k", [&u32::to_be_bytes(last + 1)[..], &[9; 8000]].concat())
                .is_ok()
        {
            last += 1;
        }
        let waiting = db.stats().keyspaces[0].immutable_memtables;
        most = most.max(waiting);
        if waiting < 3 || last == 64 {
            continue;
        }
        sim.heal();
        let newest = |db: &Db| db.get("k").unwrap().unwrap()[..4].to_vec();
        assert_eq!(newest(&db), last.to_be_bytes());
        wait_until(&db, "the memtables are flushed", |db| {
            db.stats().keyspaces[0].immutable_memtables == 0
        });
        assert_eq!(newest(&db), last.to_be_bytes(), "attempt {attempt}");
        for image in sim.images(&[Family::Nothing, Family::Everything]) {
            let db = open(&image.sim, &options);
            assert_eq!(newest(&db), last.to_be_bytes(), "{}", image.id);
        }
        return;
    }
    panic!("three memtables never waited at a time, at most {most}");
}

/// RocksDB 6.29: a flush reported success although it had failed.
#[test]
fn bug_70_a_flush_that_fails_at_any_call_says_so_and_can_be_repeated() {
    let mut failed = 0;
    for nth in 0..16 {
        for class in [FileClass::Table, FileClass::Manifest, FileClass::Dir] {
            let sim = SimFs::new(70);
            let db = open(&sim, &options());
            db.put("a", "1").unwrap();
            db.flush().unwrap();
            db.put("a", "2").unwrap();
            let mutating = [
                CallKind::Create,
                CallKind::Write,
                CallKind::Sync,
                CallKind::SyncDir,
                CallKind::Resize,
            ];
            sim.fail(
                FaultRule::new(Fault::Eio)
                    .kinds(&mutating)
                    .class(class)
                    .nth(nth)
                    .sticky(),
            );
            let result = db.flush();
            let hit = 0 < sim.faults_hit();
            sim.heal();
            let what = format!("call {nth} of {class:?}");
            if result.is_ok() {
                // What it said is true: nothing of the log is needed.
                for image in sim.images(&[Family::Nothing]) {
                    assert_eq!(text(&open(&image.sim, &options())), "a=2", "{what}");
                }
            }
            failed += u32::from(hit && result.is_err());
            assert_eq!(text(&db), "a=2", "{what}");
            let (_sim, db) = killed(&sim, db, &options());
            assert_eq!(text(&db), "a=2", "{what}");
            db.flush().unwrap();
        }
    }
    assert!(3 < failed, "{failed} flushes failed");
    // One write of several fails, and all calls behind it succeed: the file has its whole length.
    for nth in 0..2 {
        let sim = SimFs::new(70);
        let db = open(&sim, &options());
        for key in ["a", "b", "c"] {
            db.put(key, vec![key.as_bytes()[0]; 1 << 20]).unwrap();
        }
        let rule = FaultRule::new(Fault::Eio).kinds(&[CallKind::Write]);
        sim.fail(rule.class(FileClass::Table).nth(nth));
        if db.flush().is_err() {
            db.flush().unwrap();
        }
        assert_eq!(sim.faults_hit(), 1, "the table takes two writes");
        let (_sim, db) = killed(&sim, db, &options());
        for key in ["a", "b", "c"] {
            let value = db.get(key).unwrap().unwrap();
            assert!(value.iter().all(|byte| [*byte] == key.as_bytes()), "{key}");
            assert_eq!(value.len(), 1 << 20, "write {nth}");
        }
        assert!(db.verify().unwrap().problems.is_empty(), "write {nth}");
    }
}

/// TidesDB 9c24ebe, RocksDB #11764: work that came up during a running job was never started.
#[test]
fn bug_71_after_the_last_write_the_background_comes_to_rest() {
    let dir = TempDir::new("bug-71");
    let db = options()
        .background_threads(2)
        .default_keyspace(busy())
        .open(dir.path())
        .unwrap();
    for n in 0..5000u32 {
        db.put(n.wrapping_mul(2_654_435_761).to_be_bytes(), [1; 40])
            .unwrap();
    }
    wait_until(&db, "no job is due", |db| db.stats().pending_jobs == 0);
    let stats = db.stats();
    assert!(stats.keyspaces[0].immutable_memtables == 0, "{stats}");
    assert!(0 < stats.compactions, "{stats}");
    assert_eq!(db.iter().count(), 5000);
}

/// TidesDB 0aff0dd, lsm-tree #317: memtables grew without bound while the flush was slow.
#[test]
fn bug_73_memtables_stay_within_the_memory_budget() {
    let dir = TempDir::new("bug-73");
    let budget = 2 << 20;
    let db = options()
        .memory_bytes(budget)
        .background_threads(1)
        .default_keyspace(quiet().write_buffer_bytes(128 << 10))
        .open(dir.path())
        .unwrap();
    let most = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let (db, most) = (&db, &most);
            scope.spawn(move || {
                for n in 0..400u32 {
                    let key = [thread.to_be_bytes(), n.to_be_bytes()].concat();
                    db.put(key, [5; 2000]).unwrap();
                    if n % 20 == 0 {
                        let now = db.stats().keyspaces[0].memtable_bytes;
                        most.fetch_max(now, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let most = most.into_inner();
    assert!(most <= budget, "{most} bytes of memtables");
    assert_eq!(db.iter().count(), 3200);
}

/// redb 2.1.2: after a failed write a clean close marked the file as good.
#[test]
fn bug_77_a_close_after_a_failed_write_reports_it_and_hides_nothing() {
    for (kind, class) in [
        (CallKind::Write, FileClass::Log),
        (CallKind::Sync, FileClass::Log),
        (CallKind::Sync, FileClass::Manifest),
        (CallKind::Write, FileClass::Table),
    ] {
        let options = options().log_mode(LogMode::Write);
        let sim = SimFs::new(77);
        let db = open(&sim, &options);
        db.put_with("a", "1", synced()).unwrap();
        sim.fail(FaultRule::new(Fault::Eio).kinds(&[kind]).class(class));
        let outcomes = [db.put_with("b", "2", synced()), db.flush()];
        assert_eq!(sim.faults_hit(), 1, "{kind:?} {class:?}");
        let acknowledged = outcomes[0].is_ok();
        let visible = text(&db);
        let closed = db.close();
        for image in sim.images(&[Family::Nothing, Family::Everything]) {
            let db = open(&image.sim, &options);
            let found = text(&db);
            let what = format!("{kind:?} {class:?} {}: {found}", image.id);
            assert!(found.starts_with("a=1"), "{what}");
            assert!(!acknowledged || found == "a=1 b=2", "{what}");
            assert!(closed.is_err() || found == visible, "{what}");
            assert!(db.verify().unwrap().problems.is_empty(), "{what}");
        }
    }
}

/// RocksDB #1780: the lock went when a second open in the same process was refused.
#[test]
fn bug_79_a_refused_open_leaves_the_lock_and_the_files_as_they_were() {
    let dir = TempDir::new("bug-79");
    let db = options().open(dir.path()).unwrap();
    db.put("k", "v").unwrap();
    for _ in 0..3 {
        let refused = options().open(dir.path()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Locked);
        db.put("k", "v").unwrap();
        db.flush().unwrap();
    }
    db.close().unwrap();
    let db = options().open(dir.path()).unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), b"v");
}

/// RocksDB 6.0.0: a stalled write, an ingestion and a compaction waited for each other. Here it is
/// everything else that waits: writers, flushes, compactions by hand, keyspaces made and dropped.
#[test]
fn bug_72_under_a_full_stall_with_one_worker_nobody_waits_for_ever() {
    let (done, finished) = std::sync::mpsc::channel();
    // On a thread of its own: a deadlock must fail this test and not hold it up.
    std::thread::spawn(move || {
        let options = options()
            .background_threads(1)
            .default_keyspace(busy().immutables_max(1));
        let sim = SimFs::new(72);
        let db = open(&sim, &options);
        let running = AtomicU64::new(4);
        std::thread::scope(|scope| {
            let (db, running) = (&db, &running);
            for thread in 0..4u32 {
                scope.spawn(move || {
                    for n in 0..300u32 {
                        let key = [thread.to_be_bytes(), n.to_be_bytes()].concat();
                        db.put(key, [3; 200]).unwrap();
                    }
                    running.fetch_sub(1, Ordering::Relaxed);
                });
            }
            let works: [fn(&Db); 4] = [
                |db| db.compact().unwrap(),
                |db| db.flush().unwrap(),
                |db| db.sync().unwrap(),
                |db| {
                    let passing = db.keyspace("passing", busy()).unwrap();
                    passing.put("k", [4; 5000]).unwrap();
                    db.drop_keyspace("passing").unwrap();
                },
            ];
            for work in works {
                scope.spawn(move || {
                    while 0 < running.load(Ordering::Relaxed) {
                        work(db);
                    }
                });
            }
        });
        assert_eq!(db.iter().count(), 1200);
        db.close().unwrap();
        done.send(()).unwrap();
    });
    let result = finished.recv_timeout(Duration::from_secs(60));
    assert!(
        result.is_ok(),
        "{result:?}: somebody still waits, or failed"
    );
}

/// RocksDB #8370: the free space was that of the superuser, and ordinary writes failed before it
/// was used up.
#[test]
fn bug_80_free_space_is_what_an_ordinary_user_may_write() {
    let dir = TempDir::new("bug-80");
    let fs = Fs::os(dir.path());
    fs.make_root().unwrap();
    let reserved = |of: fn(&rustix::fs::StatVfs) -> u64| {
        let stat = rustix::fs::statvfs(dir.path()).unwrap();
        of(&stat) * stat.f_frsize
    };
    // Others write to the same disk meanwhile: the answer lies between a look before and one after.
    let lies_between = |_: &u32| {
        let (before, found) = (reserved(|s| s.f_bavail), fs.free_space().unwrap());
        let after = reserved(|s| s.f_bavail);
        before.min(after) <= found && found <= before.max(after)
    };
    assert!((0..1000).any(|n| lies_between(&n)));
}

/// sled #1452, RocksDB #9356: what was called a sync only started the writing.
#[test]
fn bug_81_only_a_real_sync_makes_a_write_durable() {
    let sim = SimFs::new(81);
    let db = open(&sim, &options().log_mode(LogMode::Write));
    let calls = |act: &dyn Fn()| {
        let before = sim.call_count() as usize;
        act();
        let script = sim.script();
        let lines = script.lines().skip(before).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    let write = calls(&|| db.put_with("k", "v", synced()).unwrap());
    let last = |calls: &[String], what: &str| calls.iter().rposition(|call| call.contains(what));
    let log = (
        last(&write, "Write").unwrap(),
        last(&write, "Sync").unwrap(),
    );
    assert!(log.0 < log.1 && write[log.1].contains(".log "), "{write:?}");
    let flush = calls(&|| db.flush().unwrap());
    let table = |what: &str| {
        let is = |call: &String| call.contains(what) && call.contains(".tbl");
        flush.iter().rposition(is)
    };
    assert!(
        table("Write").unwrap() < table("Sync").unwrap(),
        "{flush:?}"
    );
    // Starting the write-back of a range is a hint: after it everything can still be lost.
    let fs = Fs::sim(&sim, Path::new(ROOT));
    let name = alluvium::fs::FileName::Table(alluvium::base::types::FileId(900));
    let file = fs.create_new(name).unwrap();
    fs.sync_dir().unwrap();
    file.write_all_at(b"hint", 0).unwrap();
    file.start_write_back(0, 4);
    let kept = |sim: &SimFs| {
        let mut images = sim.images(&[Family::Nothing]);
        let image = images.next().unwrap().sim;
        image.bytes(Path::new(ROOT), &name.to_string()).unwrap()
    };
    assert_eq!(kept(&sim), b"");
    file.sync_data().unwrap();
    assert_eq!(kept(&sim), b"hint");
}

/// TidesDB c8c737b: memory that was used again showed one thread what another had put there.
#[test]
fn bug_82_readers_of_an_old_memtable_never_see_what_its_memory_is_used_for_next() {
    let options = options()
        .background_threads(1)
        .default_keyspace(quiet().write_buffer_bytes(16 << 10).level0_runs(8));
    let sim = SimFs::new(82);
    let db = open(&sim, &options);
    let stop = AtomicBool::new(false);
    let walks = AtomicU64::new(0);
    let value = |key: &[u8], round: u32| [&round.to_be_bytes()[..], &key.repeat(20)].concat();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // Slowly, over a snapshot whose memtables are flushed and recycled meanwhile.
                    let mut rounds = std::collections::BTreeSet::new();
                    for entry in db.iter() {
                        let (key, found) = entry.unwrap();
                        let round = u32::from_be_bytes(found[..4].try_into().unwrap());
                        assert_eq!(found, value(&key, round), "{key:?} of round {round}");
                        rounds.insert(round);
                        std::thread::yield_now();
                    }
                    assert!(rounds.len() <= 2, "an instant is in one round: {rounds:?}");
                    walks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut round = 0u32;
        while round < 120 || walks.load(Ordering::Relaxed) < 4 {
            for n in 0..100u32 {
                let key = n.to_be_bytes();
                db.put(key, value(&key, round)).unwrap();
            }
            round += 1;
            assert!(round < 100_000, "readers come to the end of their walks");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let stats = db.stats();
    assert!(40 < stats.flushes, "{stats}");
}

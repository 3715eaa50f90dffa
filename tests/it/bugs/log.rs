//! Bugs of log and recovery.

use super::*;

/// RocksDB #6351 and 9.2: records of a recycled log's earlier life were replayed.
#[test]
fn bug_23_a_recycled_log_never_gives_old_records_whatever_the_options_of_each_open() {
    let mut sim = SimFs::new(23);
    let small = |n: usize| {
        let mode = [LogMode::Mapped, LogMode::Write][n % 2];
        let bytes = [4 << 10, 8 << 10][n / 2 % 2];
        options().log_mode(mode).log_segment_bytes(bytes)
    };
    let mut db = open(&sim, &small(0));
    // Shorter records than those of the earlier life, and as long ones: then one of those begins
    // right behind the last record of the later life.
    for (round, len) in (0..12).flat_map(|round| [(round, 3), (round, 900)]) {
        // A long life, flushed, so that its segments are free; then a short one over it.
        for n in 0..12 {
            db.put(format!("k{n:02}"), [b'a' + round as u8; 900])
                .unwrap();
        }
        db.flush().unwrap();
        for n in 0..round {
            db.put(format!("k{n:02}"), vec![b'N'; len]).unwrap();
        }
        (sim, db) = killed(&sim, db, &small(round + 1));
        for n in 0..12 {
            let value = db.get(format!("k{n:02}")).unwrap().unwrap();
            let is_new = n < round;
            assert_eq!(value.len(), if is_new { len } else { 900 }, "{round} {n}");
            assert_eq!(value[0] == b'N', is_new, "{round} {n}");
        }
        assert_eq!(db.open_report().torn, None, "round {round}");
    }
}

/// pebble f3bd33448: a log that a recovery had read was recycled before its writes were flushed.
#[test]
fn bug_24_a_replayed_log_is_kept_until_its_writes_are_flushed() {
    let mut sim = SimFs::new(24);
    let small = options().log_segment_bytes(4 << 10);
    let mut db = open(&sim, &small);
    for n in 0..30 {
        db.put(format!("k{n:02}"), vec![b'v'; 500]).unwrap();
        if n % 5 == 4 {
            (sim, db) = killed(&sim, db, &small);
        }
        assert_eq!(db.iter().count(), n + 1);
    }
    db.flush().unwrap();
    let (_sim, db) = killed(&sim, db, &small);
    assert_eq!(db.iter().count(), 30);
}

/// pebble 5c776d69d: a crash in the middle of an open made the older log's torn tail "corruption".
#[test]
fn bug_25_a_crash_at_any_call_of_an_open_leaves_a_directory_that_opens() {
    let options = options().log_mode(LogMode::Write);
    let sim = SimFs::new(25);
    let db = open(&sim, &options);
    db.put("a", "1").unwrap();
    db.sync().unwrap();
    db.put("b", vec![b'x'; 3000]).unwrap();
    let torn: Vec<SimFs> = sim.images(&[Family::Torn]).map(|i| i.sim).collect();
    assert!(3 < torn.len());
    for image in torn {
        let calls = {
            let trial = image.kill();
            drop(open(&trial, &options));
            trial.call_count()
        };
        for call in 0..calls {
            let sim = image.kill();
            sim.crash_at(call);
            drop(options.clone().open_in(Fs::sim(&sim, Path::new(ROOT))));
            for after in sim.images(&[Family::Nothing, Family::Everything]) {
                let db = open(&after.sim, &options);
                assert_eq!(db.get("a").unwrap().unwrap(), b"1", "call {call}");
            }
        }
    }
}

/// LevelDB #193: the newer log was on the disk, the older one was not.
#[test]
fn bug_26_over_a_log_switch_a_power_loss_leaves_a_prefix() {
    let options = options().log_segment_bytes(4 << 10);
    let sim = SimFs::new(26);
    let db = open(&sim, &options);
    for n in 0..24 {
        db.put(format!("k{n:02}"), vec![b'v'; 700]).unwrap();
    }
    let mut lengths = std::collections::BTreeSet::new();
    for image in sim.images(&Family::ALL).take(400) {
        let db = open(&image.sim, &options);
        let keys: Vec<_> = db.iter().map(|entry| entry.unwrap().0.to_vec()).collect();
        let prefix: Vec<_> = (0..keys.len())
            .map(|n| format!("k{n:02}").into_bytes())
            .collect();
        assert_eq!(keys, prefix, "{}", image.id);
        lengths.insert(keys.len());
    }
    assert!(2 < lengths.len(), "the images differ: {lengths:?}");
}

/// RocksDB 5.10: a failed log write was reported to the leader of the group only.
#[test]
fn bug_28_when_the_sync_of_a_group_fails_every_writer_of_it_is_told() {
    let mut grouped = 0;
    for attempt in 0..60 {
        let sim = SimFs::new(28);
        let options = options().background_threads(1);
        let db = open(&sim, &options);
        db.put_with("before", "1", synced()).unwrap();
        let syncs = db.stats().log.syncs;
        sim.fail(
            FaultRule::new(Fault::SyncCleanNew)
                .kinds(&[CallKind::Sync])
                .class(FileClass::Log)
                .nth(attempt % 4)
                .sticky(),
        );
        // Nor can the log be repaired by tables, which would make good what was not synced.
        sim.fail(
            FaultRule::new(Fault::Eio)
                .kinds(&[CallKind::Create])
                .class(FileClass::Table)
                .sticky(),
        );
        // A disk that takes its time: meanwhile the others form a group.
        sim.on_call(|_, _| std::thread::sleep(Duration::from_millis(1)));
        let start = Barrier::new(8);
        let told = std::thread::scope(|scope| {
            let writers = [0, 1, 2, 3, 4, 5, 6, 7].map(|n| {
                let (db, start) = (&db, &start);
                scope.spawn(move || {
                    start.wait();
                    db.put_with(format!("k{n}"), "v", synced()).is_ok()
                })
            });
            writers.map(|writer| writer.join().unwrap())
        });
        let syncs = db.stats().log.syncs - syncs;
        grouped += u32::from(0 < sim.faults_hit() && syncs < 8);
        if 0 < sim.faults_hit() {
            assert!(told.contains(&false), "attempt {attempt}: {told:?}");
            // The log can be repaired from memory later: that failure is nobody's end.
            assert!(!matches!(db.state(), State::Fatal(_)), "{:?}", db.state());
            assert_eq!(db.get("before").unwrap().unwrap(), b"1", "reads go on");
        }
        for image in sim.images(&[Family::Nothing]) {
            let db = open(&image.sim, &options);
            for (n, told) in told.iter().enumerate() {
                let is_there = db.get(format!("k{n}")).unwrap().is_some();
                assert!(
                    !told || is_there,
                    "attempt {attempt}: k{n} was acknowledged"
                );
            }
        }
    }
    assert!(10 < grouped, "{grouped} groups failed");
}

/// fjall #304: a batch whose log write had failed went into the memtable all the same.
#[test]
fn bug_29_a_batch_whose_log_write_failed_is_nowhere() {
    for fault in [Fault::Eio, Fault::Enospc] {
        let options = options().log_mode(LogMode::Write);
        let sim = SimFs::new(29);
        let db = open(&sim, &options);
        db.put("a", "1").unwrap();
        let before = db.seqno();
        sim.fail(
            FaultRule::new(fault)
                .kinds(&[CallKind::Write])
                .class(FileClass::Log)
                .sticky(),
        );
        let mut batch = WriteBatch::new();
        batch.put(&db, "b", "2");
        batch.put(&db, "a", "2");
        db.write(&batch, WriteOptions::new()).unwrap_err();
        assert_eq!(text(&db), "a=1");
        assert_eq!(db.seqno(), before);
        sim.heal();
        let (_sim, db) = killed(&sim, db, &options);
        assert_eq!(text(&db), "a=1", "{fault:?}");
    }
}

/// RocksDB #12873, #14313: numbers were used again or went back after a failed write.
#[test]
fn bug_30_after_a_failed_write_numbers_go_on_and_never_back() {
    let options = options().log_mode(LogMode::Write);
    for nth in 0..4 {
        let mut sim = SimFs::new(30);
        let mut db = open(&sim, &options);
        db.put("a", "1").unwrap();
        sim.fail(
            FaultRule::new(Fault::Eio)
                .kinds(&[CallKind::Write])
                .class(FileClass::Log)
                .nth(nth),
        );
        let mut last = db.seqno();
        let mut written = vec!["a".to_owned()];
        for n in 0..6 {
            let key = format!("b{n}");
            let result = db.put(&key, "v");
            if result.is_ok() {
                assert!(last < db.seqno());
                written.push(key);
            }
            last = db.seqno();
        }
        assert!(4 < written.len(), "writes resume after one failed call");
        (sim, db) = killed(&sim, db, &options);
        let keys: Vec<_> = db.iter().map(|entry| entry.unwrap().0.to_vec()).collect();
        let expected: Vec<_> = written.iter().map(|key| key.as_bytes().to_vec()).collect();
        assert_eq!(keys, expected, "the {nth}th write failed");
        assert!(last <= db.seqno());
        db.put("z", "1").unwrap();
        assert!(last < db.seqno());
        drop(sim);
    }
}

/// TidesDB #591: a short write left a hole, at which the recovery stopped.
#[test]
fn bug_31_short_writes_leave_no_hole_in_the_log() {
    let options = options().log_mode(LogMode::Write);
    let sim = SimFs::new(31);
    let db = open(&sim, &options);
    sim.fail(
        FaultRule::new(Fault::Short)
            .kinds(&[CallKind::Write])
            .class(FileClass::Log)
            .sticky(),
    );
    for n in 0..40 {
        db.put(format!("k{n:02}"), vec![b'v'; 300]).unwrap();
    }
    assert!(40 < sim.faults_hit());
    let (_sim, db) = killed(&sim, db, &options);
    assert_eq!(db.iter().count(), 40);
    assert_eq!(db.open_report().torn, None);
}

/// fjall #311: damage in the middle of the log was taken for its torn tail.
#[test]
fn bug_32_a_flipped_bit_in_the_middle_of_the_log_is_refused_by_file_and_offset() {
    let options = options().log_mode(LogMode::Write);
    let sim = SimFs::new(32);
    let db = open(&sim, &options);
    for n in 0..8 {
        db.put(format!("k{n}"), "value").unwrap();
    }
    let name = "000002.log";
    let (end, sim) = (db.stats().log.bytes as usize, {
        let next = sim.kill();
        sim.crash_at(sim.call_count());
        drop(db);
        next
    });
    let bytes = sim.bytes(Path::new(ROOT), name).unwrap();
    // Behind the segment's header, before the last record: every byte.
    for at in 77..end - 48 {
        let damaged = sim.kill();
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        damaged.plant(Path::new(ROOT), name, &flipped);
        let error = options
            .clone()
            .open_in(Fs::sim(&damaged, Path::new(ROOT)))
            .expect_err(&format!("byte {at}"));
        assert_eq!(error.kind(), ErrorKind::Corruption, "byte {at}");
        assert!(error.file().unwrap().ends_with(name), "byte {at}: {error}");
        let offset = error.offset().unwrap() as usize;
        assert!(offset <= at && at < offset + 48, "byte {at}: {error}");
    }
}

/// fjall #241: a keyspace that was cleared or dropped came back with the replay of the log.
#[test]
fn bug_33_a_keyspace_dropped_and_made_again_stays_empty() {
    for (flushed, reopened) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut sim = SimFs::new(33);
        let mut db = open(&sim, &options());
        for round in 0..3 {
            let orders = db.keyspace("orders", quiet()).unwrap();
            let what = format!("round {round}, {flushed}, {reopened}");
            assert_eq!(orders.iter().count(), 0, "{what}");
            orders.put("k", "v").unwrap();
            if flushed {
                db.flush().unwrap();
                orders.put("k2", "v").unwrap();
            }
            // Keeps the log, and with it the writes of the keyspace that goes.
            db.put("held", "v").unwrap();
            drop(orders);
            db.drop_keyspace("orders").unwrap();
            if reopened {
                (sim, db) = killed(&sim, db, &options());
                assert_eq!(db.keyspaces(), ["default"], "{what}");
            }
            db.keyspace("orders", quiet()).unwrap();
            (sim, db) = killed(&sim, db, &options());
        }
    }
}

/// fjall #257, #112: sealed memtables of several keyspaces were not all recovered and flushed.
#[test]
fn bug_34_many_waiting_memtables_of_two_keyspaces_are_all_recovered() {
    let mut sim = SimFs::new(34);
    let options = options()
        .log_segment_bytes(8 << 10)
        .default_keyspace(busy().immutables_max(64));
    let db = open(&sim, &options);
    let orders = db.keyspace("orders", busy().immutables_max(64)).unwrap();
    // No table can be made, so that memtables wait.
    sim.fail(
        FaultRule::new(Fault::Enospc)
            .kinds(&[CallKind::Create])
            .class(FileClass::Table)
            .sticky(),
    );
    let mut written = 0;
    let mut most_waiting = 0;
    for n in 0..200u32 {
        let mut batch = WriteBatch::new();
        batch.put(&db, n.to_be_bytes(), [1; 100]);
        batch.put(&orders, n.to_be_bytes(), [2; 100]);
        if db.write(&batch, WriteOptions::new()).is_err() {
            break;
        }
        written = n + 1;
        let waiting = |k: &alluvium::KeyspaceStats| k.immutable_memtables;
        most_waiting = most_waiting.max(db.stats().keyspaces.iter().map(waiting).sum());
    }
    assert!(0 < most_waiting && 0 < written);
    drop(orders);
    let (next, db) = killed(&sim, db, &options);
    sim = next;
    let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
    assert_eq!(db.iter().count(), written as usize);
    assert_eq!(orders.iter().count(), written as usize);
    for n in written..written + 200 {
        db.put(n.to_be_bytes(), [3; 100]).unwrap();
    }
    db.flush().unwrap();
    drop(orders);
    let (_sim, db) = killed(&sim, db, &options);
    let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
    assert_eq!(db.iter().count(), written as usize + 200);
    assert_eq!(orders.iter().count(), written as usize);
}

/// badger #1847, RocksDB 7.7: a sync beside other writers missed what had been acknowledged.
#[test]
fn bug_36_what_was_acknowledged_before_a_sync_survives_a_power_loss() {
    let options = options().log_segment_bytes(8 << 10).background_threads(1);
    let sim = SimFs::new(36);
    let db = open(&sim, &options);
    let acknowledged = [const { AtomicU64::new(0) }; 4];
    let stop = AtomicBool::new(false);
    let mut before = [0; 4];
    std::thread::scope(|scope| {
        for (thread, done) in acknowledged.iter().enumerate() {
            let (db, stop) = (&db, &stop);
            scope.spawn(move || {
                for n in 0..2000u64 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    db.put(format!("{thread}/{n:05}"), [9; 40]).unwrap();
                    done.store(n + 1, Ordering::Release);
                }
            });
        }
        for _ in 0..20 {
            // A third of a segment, so that some syncs find that another was begun since the last.
            let now = || [0, 1, 2, 3].map(|t: usize| acknowledged[t].load(Ordering::Acquire));
            let least = (before.iter().sum::<u64>() + 30).min(8000);
            wait_until(&db, "the writers go on", |_| {
                least <= now().iter().sum::<u64>()
            });
            before = now();
            db.sync().unwrap();
            for image in sim.images(&[Family::Nothing]) {
                let db = open(&image.sim, &options);
                for (thread, least) in before.iter().enumerate() {
                    let found = db.prefix(format!("{thread}/")).count() as u64;
                    assert!(*least <= found, "{least} of thread {thread}, found {found}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// The same in a small world, where nothing is left to threads: three segments, and one sync.
#[test]
fn a_sync_makes_the_segments_before_the_active_one_durable_too() {
    let sim = SimFs::new(37);
    let options = options().log_segment_bytes(4 << 10);
    let db = open(&sim, &options);
    for n in 0..12 {
        db.put(format!("k{n:02}"), [b'v'; 900]).unwrap();
    }
    let stats = db.stats();
    assert!(3 <= stats.log.segments && stats.flushes == 0, "{stats}");
    db.sync().unwrap();
    for image in sim.images(&[Family::Nothing]) {
        assert_eq!(open(&image.sim, &options).iter().count(), 12);
    }
}

/// A bug of our own: a spare segment prepared while a writer started a later one was used behind
/// it, so that numbers went back along the chain of segments.
#[test]
fn segments_ascend_although_spares_are_made_beside_the_writer() {
    let options = options()
        .log_segment_bytes(4 << 10)
        .background_threads(1)
        .default_keyspace(quiet().write_buffer_bytes(64 << 10));
    let sim = SimFs::new(100);
    let db = open(&sim, &options);
    for n in 0..1500u32 {
        db.put(n.to_be_bytes(), [7; 1700]).unwrap();
    }
    assert!(matches!(db.state(), State::Ok), "{:?}", db.state());
    let (_sim, db) = killed(&sim, db, &options);
    assert_eq!(db.iter().count(), 1500);
}

/// LevelDB #251: of a long record the middle page had never reached the disk, and it was accepted.
#[test]
fn bug_27_a_record_with_a_hole_in_its_middle_is_absent_whole() {
    for mode in [LogMode::Mapped, LogMode::Write] {
        let options = options().log_mode(mode);
        let sim = SimFs::new(27);
        let db = open(&sim, &options);
        db.put_with("a", "1", synced()).unwrap();
        let mut batch = WriteBatch::new();
        batch.put(&db, "first", vec![b'x'; 9000]);
        batch.put(&db, "second", vec![b'y'; 9000]);
        db.write(&batch, WriteOptions::new()).unwrap();
        let end = db.stats().log.bytes as usize;
        let after = sim.kill();
        sim.crash_at(sim.call_count());
        drop(db);
        let name = "000002.log";
        let bytes = after.bytes(Path::new(ROOT), name).unwrap();
        assert!(18_000 < end && end < bytes.len());
        for page in 1..end / 4096 {
            let machine = after.kill();
            let mut holed = bytes.clone();
            holed[page * 4096..(page + 1) * 4096].fill(0);
            machine.plant(Path::new(ROOT), name, &holed);
            let db = open(&machine, &options);
            assert_eq!(text(&db), "a=1", "page {page}, {mode:?}");
            assert!(db.open_report().torn.is_some(), "page {page}, {mode:?}");
        }
    }
}

/// RocksDB 6.8, redb 4.2: a second crash, inside the recovery from the first, made the database
/// unreadable or took back what was committed.
#[test]
fn bug_35_crashes_inside_recoveries_change_nothing_however_deep() {
    let options = options().log_segment_bytes(4 << 10);
    let sim = SimFs::new(35);
    let db = open(&sim, &options);
    let orders = db.keyspace("orders", busy()).unwrap();
    for n in 0..24 {
        db.put(format!("k{n:02}"), vec![b'v'; 400]).unwrap();
        orders.put(format!("o{n:02}"), vec![b'w'; 400]).unwrap();
        if n == 10 {
            db.flush().unwrap();
        }
    }
    db.sync().unwrap();
    let check = |machine: &SimFs, what: &str| {
        let db = open(machine, &options);
        let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
        assert_eq!(db.iter().count(), 24, "{what}");
        assert_eq!(orders.iter().count(), 24, "{what}");
    };
    let crashed_at = |machine: &SimFs, call: u64| {
        let next = machine.kill();
        next.crash_at(call);
        drop(options.clone().open_in(Fs::sim(&next, Path::new(ROOT))));
        next
    };
    let calls = |machine: &SimFs| {
        let trial = machine.kill();
        drop(open(&trial, &options));
        trial.call_count()
    };
    let first = sim.kill();
    sim.crash_at(sim.call_count());
    drop((orders, db));
    for call in 0..calls(&first) {
        let crashed = crashed_at(&first, call);
        for (n, image) in crashed
            .images(&[Family::Nothing, Family::Everything])
            .enumerate()
        {
            check(&image.sim.kill(), &format!("call {call}, {}", image.id));
            for again in (0..calls(&image.sim)).skip(n).step_by(7) {
                let twice = crashed_at(&image.sim, again);
                for image in twice.images(&[Family::Nothing]) {
                    check(&image.sim, &format!("call {call}, then {again}"));
                }
            }
        }
    }
}

/// RocksDB 10.9: a log was removed by the age that the wall clock gave it, and the clock went back.
#[test]
fn bug_38_no_file_of_the_engine_asks_what_time_it_is() {
    fn scan(folder: &Path, seen: &mut u32) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                scan(&path, seen);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                // The file system's own room hands the clock on, and the simulator's is there.
                let is_door = path.components().any(|part| part.as_os_str() == "fs");
                let times = [".modified()", ".created()", "SystemTime", "UNIX_EPOCH"];
                for clock in &times[..if is_door { 2 } else { 4 }] {
                    assert!(!source.contains(clock), "{clock} in {}", path.display());
                }
                *seen += 1;
            }
        }
    }
    let mut seen = 0;
    for room in ["fs", "wal", "table", "version", "compaction", "tree", "db"] {
        scan(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room),
            &mut seen,
        );
    }
    assert!(40 < seen, "{seen} files");
}

/// badger #1917: an update was announced before it was logged, and a crash took it back.
#[test]
fn bug_39_whatever_a_reader_has_seen_is_in_the_log() {
    // Flushed now and then, so that the log to replay stays short.
    let options = options().default_keyspace(quiet().write_buffer_bytes(64 << 10));
    let sim = SimFs::new(39);
    let db = open(&sim, &options);
    db.put("n", 0u64.to_be_bytes()).unwrap();
    let number = |db: &Db| {
        let value = db.get("n").unwrap().unwrap();
        u64::from_be_bytes(value.as_bytes().try_into().unwrap())
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                db.put("n", n.to_be_bytes()).unwrap();
            }
        });
        for _ in 0..60 {
            let seen = number(&db);
            // The process dies right after the reader has passed on what it saw.
            let after = sim.kill();
            let kept = number(&open(&after, &options));
            assert!(seen <= kept, "{seen} was seen, {kept} is left");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

//! Bugs of manifest, files and directories.

use super::*;
use alluvium::base::types::FileId;
use alluvium::fs::FileName;
use std::collections::BTreeSet;

/// RocksDB #10573, LevelDB #189: names of new files were not durable when they were relied on.
#[test]
fn bug_41_a_new_database_survives_a_power_loss_at_any_call() {
    let options = options();
    let calls = {
        let sim = SimFs::new(41);
        let db = open(&sim, &options);
        db.put_with("k", "v", synced()).unwrap();
        db.flush().unwrap();
        sim.call_count()
    };
    for call in 0..=calls {
        let sim = SimFs::new(41);
        sim.crash_at(call);
        let mut is_synced = false;
        if let Ok(db) = options.clone().open_in(Fs::sim(&sim, Path::new(ROOT))) {
            is_synced = db.put_with("k", "v", synced()).is_ok() && !sim.is_crashed();
            drop(db.flush());
        }
        for image in sim.images(&[Family::Nothing, Family::DataOrNames, Family::Removals]) {
            let db = open(&image.sim, &options);
            assert!(
                !is_synced || db.get("k").unwrap().is_some(),
                "call {call}, {}",
                image.id
            );
        }
    }
}

/// RocksDB #6316: after a manifest write without space, edits followed a broken record.
#[test]
fn bug_43_a_full_disk_at_any_manifest_write_leaves_a_database_that_goes_on() {
    for nth in 0..12 {
        let mut sim = SimFs::new(43);
        let mut db = open(&sim, &options());
        db.put("a", "1").unwrap();
        let rule = FaultRule::new(Fault::Enospc)
            .class(FileClass::Manifest)
            .nth(nth)
            .sticky();
        sim.fail(rule);
        for n in 0..3 {
            drop(db.put(format!("b{n}"), "1"));
            drop(db.flush());
        }
        let acknowledged = text(&db);
        sim.heal();
        (sim, db) = killed(&sim, db, &options());
        assert_eq!(text(&db), acknowledged, "manifest call {nth}");
        db.put("c", "1").unwrap();
        db.flush().unwrap();
        let (_sim, db) = killed(&sim, db, &options());
        assert_eq!(text(&db), format!("{acknowledged} c=1"), "call {nth}");
        assert!(db.verify().unwrap().problems.is_empty());
    }
}

/// RocksDB #4990: the sync of an edit was reported as failed, but the edit was on the disk; its
/// files were deleted.
#[test]
fn bug_44_an_edit_whose_sync_failed_may_come_back_and_finds_its_files() {
    for fault in [Fault::Eio, Fault::SyncCleanNew] {
        for nth in 0..8 {
            let sim = SimFs::new(44);
            let db = open(&sim, &options());
            db.put_with("a", "1", synced()).unwrap();
            sim.fail(
                FaultRule::new(fault)
                    .kinds(&[CallKind::Sync])
                    .class(FileClass::Manifest)
                    .nth(nth),
            );
            for n in 0..4 {
                drop(db.put_with(format!("b{n}"), "1", synced()));
                drop(db.flush());
            }
            // Its edit is the last: nothing that comes later makes up for it.
            drop(db.compact());
            let acknowledged = text(&db);
            for image in sim.images(&[
                Family::Nothing,
                Family::Everything,
                Family::Prefixes,
                Family::Removals,
            ]) {
                let what = format!("{fault:?} at manifest sync {nth}, {}", image.id);
                let db = open(&image.sim, &options());
                assert!(text(&db).starts_with("a=1"), "{what}");
                if acknowledged == "a=1 b0=1 b1=1 b2=1 b3=1" {
                    assert_eq!(text(&db), acknowledged, "{what}");
                }
                let now = text(&db);
                db.put("z", "1").unwrap();
                db.flush().unwrap();
                db.compact().unwrap();
                let (_sim, db) = killed(&image.sim, db, &options());
                assert_eq!(text(&db), format!("{now} z=1"), "{what}");
                assert!(db.verify().unwrap().problems.is_empty(), "{what}");
            }
        }
    }
}

/// badger #1625, surrealkv #390: a table was named before its bytes were durable.
#[test]
fn bug_49_tables_are_durable_when_flush_and_compaction_return() {
    let sim = SimFs::new(49);
    let db = open(&sim, &options());
    let check = |entries: u64| {
        for image in sim.images(&[Family::Nothing, Family::SizeOnly, Family::DataOrNames]) {
            let db = open(&image.sim, &options());
            let report = db.verify().unwrap();
            assert!(report.problems.is_empty(), "{:?}", report.problems);
            assert_eq!(report.entries, entries, "{}", image.id);
        }
    };
    db.put("a", "1").unwrap();
    db.flush().unwrap();
    check(1);
    db.put("a", "2").unwrap();
    db.flush().unwrap();
    check(2);
    db.compact().unwrap();
    check(1);
}

/// RocksDB #14881, #11865: files that were in use were deleted by a second instance, or by the
/// clean-up after a sibling's failure.
#[test]
fn bug_50_neither_a_refused_open_nor_a_failed_flush_removes_a_live_file() {
    let sim = SimFs::new(50);
    let db = open(&sim, &options());
    let orders = db.keyspace("orders", quiet()).unwrap();
    for nth in 0..6 {
        db.put(format!("k{nth}"), "v").unwrap();
        orders.put(format!("k{nth}"), "v").unwrap();
        let second = options().open_in(Fs::sim(&sim, Path::new(ROOT)));
        assert_eq!(second.unwrap_err().kind(), ErrorKind::Locked);
        // A table's call fails once; the other keyspace's flush goes through.
        sim.fail(
            FaultRule::new(Fault::Enospc)
                .class(FileClass::Table)
                .nth(nth),
        );
        drop(db.flush());
        sim.heal();
        sim.advance(Duration::from_secs(1));
        wait_until(&db, "writes are taken again", |db| {
            db.put("probe", "1").is_ok()
        });
        db.flush().unwrap();
        let report = db.verify().unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(orders.iter().count(), nth as usize + 1);
        assert_eq!(db.prefix("k").count(), nth as usize + 1);
    }
}

/// RocksDB 7.6: when a column family was dropped the directory's handle was closed, and from then
/// on no name was made durable, without a word.
#[test]
fn bug_42_after_a_keyspace_is_dropped_names_are_made_durable_as_before() {
    let sim = SimFs::new(42);
    let db = open(&sim, &options());
    let dir_syncs = |act: &dyn Fn()| {
        let count = || {
            sim.script()
                .lines()
                .filter(|l| l.contains("SyncDir"))
                .count()
        };
        let before = count();
        act();
        count() - before
    };
    let flush = || {
        db.put("k", "v").unwrap();
        db.flush().unwrap();
    };
    let compact = || db.compact().unwrap();
    let make = || drop(db.keyspace("orders", quiet()).unwrap());
    make();
    flush();
    let before = [dir_syncs(&flush), dir_syncs(&compact)];
    assert!(before.iter().all(|&n| 0 < n), "{before:?}");
    for _ in 0..2 {
        db.drop_keyspace("orders").unwrap();
        let after = [dir_syncs(&flush), dir_syncs(&compact)];
        assert_eq!(before, after);
        make();
    }
}

/// RocksDB 6.21: a rename was reported as failed and had happened, and the manifest that CURRENT
/// then named was gone.
#[test]
fn bug_45_a_rename_that_happened_although_it_failed_finds_its_manifest() {
    let sim = SimFs::new(45);
    let db = open(&sim, &options());
    db.put("a", "1").unwrap();
    db.flush().unwrap();
    // An append to the manifest fails, and then the switch to a new one.
    let manifest = FaultRule::new(Fault::Eio).class(FileClass::Manifest);
    sim.fail(manifest.kinds(&[CallKind::Write]));
    sim.fail(
        FaultRule::new(Fault::Eio)
            .kinds(&[CallKind::Rename])
            .sticky(),
    );
    db.put("b", "2").unwrap();
    db.flush().unwrap_err();
    assert!(2 <= sim.faults_hit(), "the append, and each switch");
    let next = sim.kill();
    sim.crash_at(sim.call_count());
    drop(db);
    let fs = Fs::sim(&next, Path::new(ROOT));
    let names = fs.list().unwrap().into_iter();
    let temps = names
        .filter_map(|entry| FileName::parse(&entry.name))
        .filter(|name| matches!(name, FileName::Temp(_)));
    let happened: Vec<_> = temps.map(Some).chain([None]).collect();
    assert!(2 <= happened.len(), "a switch was under way");
    for happened in happened {
        let machine = next.kill();
        let fs = Fs::sim(&machine, Path::new(ROOT));
        if let Some(temp) = happened {
            fs.rename(temp, FileName::Current).unwrap();
            fs.sync_dir().unwrap();
        }
        let db = open(&machine, &options());
        assert_eq!(text(&db), "a=1 b=2", "{happened:?}");
        db.put("c", "3").unwrap();
        db.flush().unwrap();
        let (_sim, db) = killed(&machine, db, &options());
        assert_eq!(text(&db), "a=1 b=2 c=3", "{happened:?}");
        assert!(db.verify().unwrap().problems.is_empty());
    }
}

/// pebble #984, RocksDB #7621: an edit that a recovery had not seen appeared later, and the numbers
/// of its files had been given a second time.
#[test]
fn bug_46_no_number_is_given_twice_whatever_a_power_loss_hid() {
    let numbers = |sim: &SimFs| -> BTreeSet<u64> {
        let script = sim.script();
        let created = script
            .lines()
            .filter_map(|line| line.split_once(" Create /db/"));
        let names = created.filter_map(|(_, rest)| rest.split_whitespace().next());
        let ids = names.filter_map(|name| FileName::parse(name).and_then(FileName::id));
        let ids: BTreeSet<u64> = ids.map(|FileId(id)| id).collect();
        assert!(!ids.is_empty() || !script.contains("Create"), "{script}");
        ids
    };
    let work = |db: &Db| {
        let mut last = db.seqno();
        for n in 0..3 {
            // The second is not synced: a power loss takes it, and its number stays used.
            for options in [synced(), WriteOptions::new()] {
                let mut batch = WriteBatch::new();
                batch.put(db, format!("k{n}"), "v");
                if let Ok(seqno) = db.write(&batch, options) {
                    assert!(last < seqno);
                    last = seqno;
                }
            }
            drop(db.flush());
        }
        drop(db.compact());
        last
    };
    let start = SimFs::new(46);
    let db = open(&start, &options());
    db.put_with("a", "1", synced()).unwrap();
    db.close().unwrap();
    let whole = start.kill();
    let db = open(&whole, &options());
    work(&db);
    drop(db);
    for call in (0..whole.call_count()).step_by(2) {
        let sim = start.kill();
        sim.crash_at(call);
        let Ok(db) = options().open_in(Fs::sim(&sim, Path::new(ROOT))) else {
            continue;
        };
        let last = work(&db);
        let used = numbers(&sim);
        for image in sim.images(&[Family::Nothing, Family::DataOrNames, Family::Everything]) {
            let db = open(&image.sim, &options());
            let mut batch = WriteBatch::new();
            batch.put(&db, "b", "2");
            let next = db.write(&batch, WriteOptions::new()).unwrap();
            assert!(
                last < next,
                "{last} may name a write, {next} does: {}",
                image.id
            );
            work(&db);
            let again: Vec<_> = numbers(&image.sim).intersection(&used).copied().collect();
            assert!(again.is_empty(), "{again:?} given twice: {}", image.id);
        }
    }
}

/// badger #1756, #2198: compactions side by side left a manifest that could not be read back.
#[test]
fn bug_47_edits_from_many_threads_leave_a_manifest_that_reads_at_every_moment() {
    let options = options().background_threads(3).default_keyspace(busy());
    let sim = SimFs::new(47);
    let db = open(&sim, &options);
    let stop = AtomicBool::new(false);
    // The simulator remembers every call: on a slow machine unbounded work outgrows the looking.
    let breathe = || std::thread::sleep(Duration::from_micros(200));
    std::thread::scope(|scope| {
        let (db, stop) = (&db, &stop);
        scope.spawn(move || {
            let orders = db.keyspace("orders", busy()).unwrap();
            for n in 0u32.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let mut batch = WriteBatch::new();
                batch.put(db, (n * 7 % 200).to_be_bytes(), [1; 90]);
                batch.put(&orders, (n % 150).to_be_bytes(), [2; 90]);
                db.write(&batch, WriteOptions::new()).unwrap();
                breathe();
            }
        });
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                db.keyspace("passing", busy())
                    .unwrap()
                    .put("k", "v")
                    .unwrap();
                db.drop_keyspace("passing").unwrap();
                breathe();
            }
        });
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                db.compact().unwrap();
                breathe();
            }
        });
        for moment in 0..25 {
            std::thread::sleep(Duration::from_millis(4));
            let db = open(&sim.kill(), &options.clone().background_threads(0));
            let report = db.verify().unwrap();
            assert!(
                report.problems.is_empty(),
                "{moment}: {:?}",
                report.problems
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(matches!(db.state(), State::Ok), "{:?}", db.state());
    assert!(5 < db.stats().compactions);
}

/// pebble a5dcd57f0, RocksDB 10.9: a field of an edit was lost between writing and reading it.
#[test]
fn bug_48_the_manifest_gives_back_every_table_of_every_level_and_keyspace() {
    let mut sim = SimFs::new(48);
    let mut db = open(&sim, &options());
    let orders = db.keyspace("orders", quiet().table_bytes(1 << 10)).unwrap();
    for n in 0..60 {
        orders.put(format!("o{n:02}"), vec![b'v'; 90]).unwrap();
        db.put(format!("\0\u{ff}{n}"), "v").unwrap();
    }
    orders.compact().unwrap();
    for n in 0..20 {
        orders.delete(format!("o{n:02}")).unwrap();
    }
    db.flush().unwrap();
    orders.put("o30", "new").unwrap();
    db.flush().unwrap();
    let levels = |db: &Db| {
        let stats = db.stats().keyspaces.into_iter();
        stats
            .map(|k| format!("{} {:#?}\n", k.name, k.levels))
            .collect::<String>()
    };
    let written = levels(&db);
    assert_eq!(db.keyspaces(), ["default", "orders"]);
    let tables = written.matches("file:").count();
    assert!(6 < tables, "{written}");
    drop(orders);
    // From the edits first, then from the snapshot that each opening writes of them.
    for opening in 0..3 {
        (sim, db) = killed(&sim, db, &options());
        assert_eq!(levels(&db), written, "opening {opening}");
    }
    drop(sim);
}

/// redb PR 1276: a header pointed past the end of its file, because the file's new size had not
/// RocksDB #12731, #12882, Pebble e8604b94d: a checkpoint linked a log that was not synced, named a
/// manifest that was not there, or showed no one instant.
#[test]
fn bug_51_a_checkpoint_survives_the_power_loss_that_follows_it() {
    let options = options()
        .log_segment_bytes(4 << 10)
        .default_keyspace(busy());
    let sim = SimFs::new(51);
    let db = open(&sim, &options);
    let orders = db.keyspace("orders", busy()).unwrap();
    let mut written = 0u32;
    for round in 0..6 {
        // Memtables, log segments and manifests turn over in between; nothing is synced.
        for n in written..written + 97 {
            let mut batch = WriteBatch::new();
            batch.put(&db, n.to_be_bytes(), [1; 60]);
            batch.put(&orders, n.to_be_bytes(), [2; 30]);
            db.write(&batch, WriteOptions::new()).unwrap();
        }
        written += 97;
        let path = format!("/copy-{round}");
        db.checkpoint(&path).unwrap();
        db.put(u32::MAX.to_be_bytes(), format!("behind {round}"))
            .unwrap();
        db.delete(u32::MAX.to_be_bytes()).unwrap();
        for image in sim.images(&Family::ALL) {
            let fs = Fs::sim(&image.sim, Path::new(&path));
            let copy = options
                .clone()
                .create_if_missing(false)
                .open_in(fs)
                .unwrap();
            let orders = copy.keyspace("orders", busy()).unwrap();
            for keyspace in [&*copy, &orders] {
                let keys = keyspace.iter().map(|entry| entry.unwrap().0.to_vec());
                let expected = (0..written).map(|n| n.to_be_bytes().to_vec());
                assert!(
                    keys.eq(expected),
                    "{} of {written}, {}",
                    keyspace.iter().count(),
                    image.id
                );
            }
        }
    }
    assert!(10 < db.stats().flushes);
}

/// been made durable before it.
#[test]
fn bug_52_no_file_is_shorter_than_what_points_into_it_after_a_power_loss() {
    let work = |db: &Db| {
        for n in 0..2 {
            drop(db.put_with(format!("k{n}"), [b'v'; 300], synced()));
            drop(db.flush());
        }
        drop(db.compact());
    };
    let calls = {
        let sim = SimFs::new(52);
        work(&open(&sim, &options()));
        sim.call_count()
    };
    let first = {
        let sim = SimFs::new(52);
        let _db = open(&sim, &options());
        sim.call_count()
    };
    for call in first..=calls {
        for sync_fails in [false, true] {
            let sim = SimFs::new(52);
            let db = open(&sim, &options());
            if sync_fails {
                let rule = FaultRule::new(Fault::SyncCleanNew).class(FileClass::Table);
                sim.fail(rule);
            }
            sim.crash_at(call);
            work(&db);
            for image in sim.images(&[Family::SizeOnly, Family::OneLost, Family::DataOrNames]) {
                let db = open(&image.sim, &options());
                let problems = db.verify().unwrap().problems;
                assert!(problems.is_empty(), "{}: {problems:?}", image.id);
            }
        }
    }
}

/// redb #516, badger #2296: offsets above 4 GiB and 1 TiB overflowed.
#[test]
fn bug_53_bytes_around_4_gib_and_4_tib_are_where_they_belong() {
    let dir = TempDir::new("bug-53");
    let fs = Fs::os(dir.path());
    fs.make_root().unwrap();
    let file = fs.create_new(FileName::Table(FileId(1))).unwrap();
    // Other bytes at each: an offset that lost its upper half would find those of 4 GiB.
    for (at, around) in [(1u64 << 32, b"around"), (1 << 42, b"beyond")] {
        // A file of holes: it takes a few blocks.
        file.write_all_at(around, at - 3).unwrap();
        assert_eq!(file.len().unwrap(), at + 3);
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at - 5).unwrap();
        assert_eq!(bytes[..2], [0, 0], "{at}");
        assert_eq!(bytes[2..], around[..], "{at}");
    }
    let region = file.map((1 << 32) + 3).unwrap();
    assert_eq!(region.block((1 << 32) - 3, 6).unwrap(), b"around");
    assert_eq!(region.block(0, 3).unwrap(), b"\0\0\0");
    region.block(1 << 32, 4).unwrap_err();
    region.block(u64::MAX - 1, 4).unwrap_err();
    // The log's offsets have 32 bits: a longer segment is refused by name.
    let refused = options().log_segment_bytes(1 << 32).open(dir.path());
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("log_segment_bytes"), "{refused}");
}

/// RocksDB #14732: a column family without a name, or with one that was there, was accepted and
/// lost.
#[test]
fn bug_54_odd_names_of_keyspaces_are_refused_or_kept() {
    let mut sim = SimFs::new(54);
    let mut db = open(&sim, &options());
    let long = "x".repeat(255);
    let kept = ["a", "A", "ü/..", " ", "000001.tbl", long.as_str()];
    for name in kept {
        db.keyspace(name, quiet())
            .unwrap()
            .put("name", name)
            .unwrap();
    }
    for name in ["", "a\0b", "\n", &"x".repeat(256)] {
        let refused = db.keyspace(name, quiet()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{name:?}");
    }
    for _ in 0..2 {
        // A name that is there gives the same keyspace, never a second one.
        for name in kept {
            let keyspace = db.keyspace(name, KeyspaceOptions::new()).unwrap();
            assert_eq!(keyspace.get("name").unwrap().unwrap(), name.as_bytes());
        }
        assert_eq!(db.keyspaces().len(), kept.len() + 1);
        (sim, db) = killed(&sim, db, &options());
    }
    drop(sim);
}

/// RocksDB 9.11, 9.8: changed settings were taken back, or kept in part, when a column family was
/// made at the same time.
#[test]
fn bug_55_changed_options_last_although_keyspaces_are_made_beside_the_change() {
    let mut sim = SimFs::new(55);
    let mut db = open(&sim, &options());
    let changed = options().default_keyspace(KeyspaceOptions::new().write_buffer_bytes(4 << 10));
    (sim, db) = killed(&sim, db, &changed);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let db = &db;
            scope.spawn(move || {
                let own = quiet().block_bytes(512 << n);
                db.keyspace(format!("k{n}"), own).unwrap()
            });
        }
    });
    let unset = options().default_keyspace(KeyspaceOptions::new());
    for opening in 0..3 {
        (sim, db) = killed(&sim, db, &unset);
        let before = db.stats().flushes;
        for n in 0..60u32 {
            db.put(n.to_be_bytes(), [opening; 100]).unwrap();
        }
        let flushes = db.stats().flushes - before;
        assert!(0 < flushes, "4 KiB are full (opening {opening})");
        for n in 0..4 {
            let name = format!("k{n}");
            db.keyspace(&name, KeyspaceOptions::new().block_bytes(512 << n))
                .unwrap();
            let other = KeyspaceOptions::new().block_bytes(256);
            let refused = db.keyspace(&name, other).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{name}");
        }
    }
    drop(sim);
}

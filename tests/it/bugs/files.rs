//! Bugs of manifest, files and directories.

use super::*;

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

/// RocksDB #4990, pebble #984: the sync of an edit was reported as failed, but the edit was on the
/// disk; its files were deleted, or their numbers used again.
#[test]
fn bug_44_46_an_edit_whose_sync_failed_may_come_back_and_finds_its_files() {
    for fault in [Fault::Eio, Fault::SyncCleanNew] {
        for nth in 0..6 {
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
            let acknowledged = text(&db);
            for image in sim.images(&[Family::Nothing, Family::Everything, Family::Prefixes]) {
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

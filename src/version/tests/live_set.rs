//! The set while it runs: what an edit may do, when tables die, damage found at open.

use super::world::{
    MAIN, ROOT, check_opened, context, create, creation, describe, edit_of, fs_on, recover, step,
    table,
};
use crate::base::error::ErrorKind;
use crate::base::sync::{Arc, thread};
use crate::base::types::{FileId, KeyspaceId, SeqNo};
use crate::fs::FileName;
use crate::fs::sim::SimFs;
use crate::version::{KeyspaceEdit, VersionEdit, VersionSet};
use std::path::Path;

fn with_main(sim: &SimFs) -> VersionSet {
    let set = create(sim).unwrap();
    set.install(creation(MAIN, "default")).unwrap();
    set
}

fn adding(set: &VersionSet, level: u8, key: &str) -> (FileId, VersionEdit) {
    let file = set.allocate_file().unwrap();
    let added = table(set, file, level, set.allocate_order(), key);
    (
        file,
        edit_of(KeyspaceEdit {
            id: MAIN,
            added: vec![added],
            ..KeyspaceEdit::default()
        }),
    )
}

fn removing(level: u8, file: FileId) -> VersionEdit {
    edit_of(KeyspaceEdit {
        id: MAIN,
        removed: vec![(level, file)],
        ..KeyspaceEdit::default()
    })
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let sim = SimFs::new(1);
    let set = with_main(&sim);
    let (file, add) = adding(&set, 0, "b");
    set.install(add.clone()).unwrap();
    let marks = |floor: u64, through: u64| {
        edit_of(KeyspaceEdit {
            id: MAIN,
            log_floor: Some(FileId(floor)),
            flushed_through: Some(SeqNo::new(through)),
            ..KeyspaceEdit::default()
        })
    };
    set.install(marks(5, 9)).unwrap();
    let mut same_run = add.clone();
    same_run.keyspaces[0].added[0].meta.file = set.allocate_file().unwrap();
    let mut ungiven = add.clone();
    ungiven.keyspaces[0].added[0].meta.file = FileId(1 << 40);
    let mut changed = removing(0, file);
    changed.keyspaces[0].added = add.keyspaces[0].added.clone();
    changed.keyspaces[0].added[0].meta.summary.entries += 1;
    let twice = VersionEdit {
        keyspaces: vec![KeyspaceEdit::default(), KeyspaceEdit::default()],
        ..VersionEdit::default()
    };
    let log = FileId(0);
    let cases = [
        ("live already", add),
        ("overlap", same_run),
        ("never given", ungiven),
        ("changes while it moves", changed),
        ("not at level 1", removing(1, file)),
        ("not at level 0", removing(0, FileId(99))),
        ("goes back", marks(4, 9)),
        ("goes back", marks(5, 8)),
        ("named twice", twice),
        (
            "does not exist",
            edit_of(KeyspaceEdit {
                id: KeyspaceId(7),
                ..KeyspaceEdit::default()
            }),
        ),
        ("is there already", creation(MAIN, "again")),
        (
            "`default` is there already",
            creation(KeyspaceId(3), "default"),
        ),
        (
            "not there",
            VersionEdit {
                logs_removed: vec![log],
                ..VersionEdit::default()
            },
        ),
        (
            "not new",
            VersionEdit {
                logs_added: vec![log, log],
                ..VersionEdit::default()
            },
        ),
    ];
    let (calls, text) = (sim.call_count(), describe(&set));
    for (why, edit) in cases {
        let error = set.install(edit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(why), "{error}: expected `{why}`");
    }
    assert_eq!((sim.call_count(), describe(&set)), (calls, text));
}

/// Bug 54.
#[test]
fn names_of_keyspaces_are_checked() {
    let set = create(&SimFs::new(1)).unwrap();
    for name in ["", "a\0b", "line\n", &"x".repeat(256)] {
        let error = set.install(creation(MAIN, name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name:?}");
    }
    for (id, name) in (0..).zip(["a/b", "näme ✓", &"x".repeat(255)]) {
        set.install(creation(KeyspaceId(id), name)).unwrap();
    }
    assert_eq!(set.allocate_keyspace(), KeyspaceId(3), "above those in use");
}

/// P17: a removed table dies when the last who can reach it lets go, and is reported once.
#[test]
fn a_removed_table_is_dead_when_nobody_holds_it() {
    let sim = SimFs::new(1);
    let set = with_main(&sim);
    let (file, add) = adding(&set, 0, "a");
    set.install(add).unwrap();
    let version = set.version(MAIN).unwrap();
    set.install(removing(0, file)).unwrap();
    assert!(
        set.is_live_table(file) && set.take_dead().is_empty(),
        "a reader holds it"
    );
    drop(version);
    assert!(!set.is_live_table(file));
    assert_eq!(set.take_dead(), [file]);
    assert_eq!(set.take_dead(), []);
}

#[test]
fn a_moved_table_keeps_its_entry_and_a_dropped_keyspace_frees_its_tables() {
    let sim = SimFs::new(1);
    let set = with_main(&sim);
    let (file, add) = adding(&set, 0, "a");
    set.install(add.clone()).unwrap();
    let entry = |level| Arc::clone(&set.version(MAIN).unwrap().level(level)[0].tables[0]);
    let before = entry(0);
    let mut moving = removing(0, file);
    moving.keyspaces[0].added = add.keyspaces[0].added.clone();
    moving.keyspaces[0].added[0].level = 3;
    set.install(moving).unwrap();
    assert!(Arc::ptr_eq(&before, &entry(3)));
    drop(before);
    assert_eq!(set.take_dead(), []);
    let mut again = creation(KeyspaceId(9), "default");
    again.keyspaces.push(KeyspaceEdit {
        id: MAIN,
        dropped: true,
        ..KeyspaceEdit::default()
    });
    set.install(again).unwrap();
    assert_eq!(set.take_dead(), [file]);
    assert!(set.version(MAIN).is_none());
    let read = recover(&sim.kill()).unwrap().unwrap();
    assert_eq!(
        read.keyspaces()[0].id,
        KeyspaceId(9),
        "the name was free again in one edit"
    );
}

#[test]
fn a_missing_table_is_an_error_each_time_and_nothing_of_it_is_kept() {
    let sim = SimFs::new(1);
    let set = with_main(&sim);
    set.install(adding(&set, 0, "a").1).unwrap();
    let version = set.version(MAIN).unwrap();
    for _ in 0..2 {
        let error = version.level(0)[0].tables[0].table().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert!(
            error.file().is_some_and(|f| f.ends_with("000002.tbl")),
            "{error}"
        );
    }
}

/// Bug 47: edits from many threads, each read again.
#[test]
fn parallel_edits_are_all_there_afterwards() {
    let sim = SimFs::new(1);
    let set = with_main(&sim);
    set.roll_over_from(4 << 10);
    thread::scope(|scope| {
        for worker in 0..4 {
            let set = &set;
            scope.spawn(move || {
                for n in 0..25 {
                    let (file, add) = adding(set, 0, &format!("{worker}-{n}"));
                    set.install(add).unwrap();
                    if n % 2 == 0 {
                        set.install(removing(0, file)).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(set.version(MAIN).unwrap().runs(), 4 * 12);
    assert_eq!(set.take_dead().len(), 4 * 13);
    assert_eq!(
        describe(&recover(&sim.kill()).unwrap().unwrap()),
        describe(&set)
    );
}

/// What is removed again leaves nothing behind, however often.
#[test]
fn a_manifest_that_has_grown_too_long_is_written_anew() {
    let sim = SimFs::new(1);
    let set = with_main(&sim);
    set.roll_over_from(4 << 10);
    let mut manifests = vec![set.manifest()];
    for n in 0..100 {
        let (file, add) = adding(&set, 0, &format!("{n}"));
        set.install(add).unwrap();
        set.install(removing(0, file)).unwrap();
        if manifests.last() != Some(&set.manifest()) {
            manifests.push(set.manifest());
        }
        let name = FileName::Manifest(set.manifest());
        let stored = fs_on(&sim).open_read(name).unwrap().len().unwrap();
        assert_eq!(set.manifest_bytes(), stored);
        assert!(stored < 5 << 10, "{stored} bytes after {n}");
    }
    assert!(2 < manifests.len(), "{manifests:?}");
}

#[test]
fn reading_only_writes_nothing_and_refuses_changes() {
    let sim = SimFs::new(1);
    let set = with_main(&sim);
    let (text, calls) = (describe(&set), sim.call_count());
    let found = VersionSet::find(&fs_on(&sim), &context()).unwrap();
    let reader = found.unwrap().read_only();
    assert_eq!(
        (describe(&reader), reader.manifest()),
        (text, set.manifest())
    );
    assert_eq!(
        reader.install(VersionEdit::default()).unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    assert_eq!(
        reader.allocate_file().unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    drop(reader);
    assert_eq!(sim.call_count(), calls);
}

#[test]
fn a_directory_without_a_number_left_is_read_and_not_written() {
    let sim = SimFs::new(1);
    drop(with_main(&sim));
    let fs = fs_on(&sim);
    let huge = FileName::Table(FileId(u64::MAX));
    drop(fs.create_new(huge).unwrap());
    let error = recover(&sim).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("move it away"), "{error}");
    assert!(VersionSet::find(&fs, &context()).unwrap().is_some());
    fs.remove(huge).unwrap();
    assert!(recover(&sim).unwrap().is_some());
}

#[test]
fn a_directory_without_a_database_is_none_and_a_lost_current_is_an_error() {
    let sim = SimFs::new(1);
    assert!(recover(&sim).unwrap().is_none(), "no directory");
    let set = with_main(&sim);
    let fs = fs_on(&sim);
    assert!(
        VersionSet::create(&fs, &context()).is_err(),
        "there is one already"
    );
    drop(set);
    fs.remove(FileName::Current).unwrap();
    assert!(
        recover(&sim).unwrap().is_none(),
        "a creation that was interrupted"
    );
    sim.plant(Path::new(ROOT), "000009.log", b"writes");
    let error = recover(&sim).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains("CURRENT is missing"), "{error}");
    assert!(
        VersionSet::create(&fs, &context()).is_err(),
        "nothing is made over it"
    );
}

/// P8, P11: every flipped bit of CURRENT and of a sealed manifest is found, and nothing is written.
#[test]
fn damage_is_found_and_the_directory_left_as_it_was() {
    let sim = SimFs::new(1);
    let set = with_main(&sim);
    step(&fs_on(&sim), &set, 1, &mut |_| {}).unwrap();
    set.close().unwrap();
    let manifest = FileName::Manifest(set.manifest()).to_string();
    for name in [manifest.as_str(), "CURRENT"] {
        let bytes = sim.bytes(Path::new(ROOT), name).unwrap();
        for at in 0..bytes.len() {
            let damaged = sim.kill();
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            damaged.plant(Path::new(ROOT), name, &bytes);
            let error = recover(&damaged).expect_err(&format!("{name}, byte {at}"));
            assert_eq!(
                error.kind(),
                ErrorKind::Corruption,
                "{name}, byte {at}: {error}"
            );
            assert_eq!(damaged.call_count(), 0, "nothing is written");
        }
    }
    fs_on(&sim)
        .remove(FileName::Manifest(set.manifest()))
        .unwrap();
    let error = recover(&sim).unwrap_err();
    assert!(
        error.to_string().contains("manifest that is missing"),
        "{error}"
    );
}

#[test]
fn an_edit_after_close_goes_to_a_new_manifest() {
    let sim = SimFs::new(1);
    let set = with_main(&sim);
    let sealed = set.manifest();
    set.close().unwrap();
    set.install(adding(&set, 0, "a").1).unwrap();
    assert!(sealed < set.manifest() && !set.poisoned());
    check_opened_tables_aside(&sim, &set);
}

fn check_opened_tables_aside(sim: &SimFs, set: &VersionSet) {
    set.install(edit_of(KeyspaceEdit {
        id: MAIN,
        dropped: true,
        ..KeyspaceEdit::default()
    }))
    .unwrap();
    check_opened(&fs_on(sim), set);
}

//! Backups: several points in time, what they share once; each whole or not there, whatever happens.

mod crash;

use crate::support::{ROOT, TempDir, quiet_options};
use alluvium::fs::sim::{Fault, FaultRule, SimFs};
use alluvium::fs::{FileName, Fs};
use alluvium::{
    BackupDirectory, BackupReport, CheckpointOptions, Db, ErrorKind, KeyspaceOptions, Options,
    State,
};
use crash::scene;
use std::collections::BTreeMap;
use std::path::Path;

const BACKUPS: &str = "/backups";
const RESTORED: &str = "/restored";

/// Nothing is merged by itself.
fn quiet() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .block_bytes(256)
        .table_bytes(4 << 10)
        .level0_runs(64)
        .tier_runs(64)
}

fn options() -> Options {
    quiet_options(quiet()).log_segment_bytes(16 << 10)
}

fn open(sim: &SimFs, root: &str) -> Db {
    options().open_in(Fs::sim(sim, Path::new(root))).unwrap()
}

fn backups(sim: &SimFs) -> BackupDirectory {
    BackupDirectory::open_in(Fs::sim(sim, Path::new(BACKUPS))).unwrap()
}

fn fill(db: &Db, from: u32, to: u32) {
    let orders = db.keyspace("orders", quiet()).unwrap();
    for n in from..to {
        db.put(n.to_be_bytes(), [1; 50]).unwrap();
        orders.put(n.to_be_bytes(), [2; 20]).unwrap();
    }
}

/// Everything, by keyspace and key.
type Contents = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fn all(db: &Db) -> Contents {
    let mut all = BTreeMap::new();
    for name in db.keyspaces() {
        let keyspace = db.keyspace(&name, KeyspaceOptions::new()).unwrap();
        for entry in keyspace.iter() {
            let (key, value) = entry.unwrap();
            all.insert((name.clone(), key.to_vec()), value.to_vec());
        }
    }
    all
}

fn ids(backups: &BackupDirectory) -> Vec<u64> {
    let list = backups.list().unwrap().into_iter();
    list.map(|info| info.unwrap().id).collect()
}

/// Name and size of each file.
fn files(sim: &SimFs) -> BTreeMap<String, u64> {
    let entries = Fs::sim(sim, Path::new(BACKUPS)).list().unwrap();
    entries.into_iter().map(|e| (e.name, e.len)).collect()
}

fn tables(sim: &SimFs) -> usize {
    let files = files(sim).into_keys();
    files.filter(|name| name.ends_with(".tbl")).count()
}

/// What a restored point holds.
fn restored(sim: &SimFs, backups: &BackupDirectory, id: u64) -> alluvium::Result<Db> {
    backups.restore(id, RESTORED)?;
    Ok(open(sim, RESTORED))
}

fn destroy_restored(sim: &SimFs, db: Db) {
    drop(db);
    let fs = Fs::sim(sim, Path::new(RESTORED));
    for entry in fs.list().unwrap() {
        match FileName::parse(&entry.name).unwrap() {
            FileName::Lock => {}
            name => fs.remove(name).unwrap(),
        }
    }
}

#[test]
fn each_point_in_time_is_restored_as_it_was() {
    let sim = SimFs::new(1);
    let db = open(&sim, ROOT);
    let backups = backups(&sim);
    let mut kept = Vec::new();
    for round in 0..4 {
        fill(&db, round * 30, round * 30 + 60);
        db.delete(round.to_be_bytes()).unwrap();
        if round == 2 {
            db.compact().unwrap();
            db.keyspace(format!("made-{round}"), quiet()).unwrap();
        }
        let report = backups.create(&db).unwrap();
        assert_eq!(report.backup.seqno, db.seqno());
        kept.push((report.backup, all(&db), db.keyspaces()));
    }
    assert_eq!(ids(&backups), [1, 2, 3, 4]);
    for (info, expected, keyspaces) in &kept {
        assert_eq!(&info.keyspaces, keyspaces);
        let found = backups.verify(info.id).unwrap();
        assert_eq!((found.files, found.bytes), (info.tables, info.bytes));
        assert!(found.problems.is_empty());
        let copy = restored(&sim, &backups, info.id).unwrap();
        assert_eq!(&all(&copy), expected);
        assert_eq!(&copy.keyspaces(), keyspaces);
        assert_eq!(copy.seqno(), info.seqno);
        copy.put("own", "1").unwrap();
        copy.compact().unwrap();
        assert!(copy.verify().unwrap().problems.is_empty());
        destroy_restored(&sim, copy);
    }
    let error = backups.restore(9, "/none").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// The second backup after a small change writes as much as changed, and not what was there.
#[test]
fn a_second_backup_writes_only_what_is_new() {
    let sim = SimFs::new(2);
    let db = open(&sim, ROOT);
    fill(&db, 0, 2000);
    db.compact().unwrap();
    let backups = backups(&sim);
    let on_disk = || files(&sim).values().sum::<u64>();
    let first = backups.create(&db).unwrap();
    assert_eq!(first.tables_written, first.backup.tables);
    assert_eq!(on_disk(), first.bytes_written);
    assert!(100_000 < first.bytes_written);
    let before = db.stats().flush_bytes_written;
    fill(&db, 5000, 5010);
    let second = backups.create(&db).unwrap();
    let new = db.stats().flush_bytes_written - before;
    let record = files(&sim)["000002.point"];
    assert_eq!(second.tables_written, 2, "one for each keyspace");
    assert_eq!(
        second.bytes_written,
        new + record,
        "the flushed tables, and the record"
    );
    assert_eq!(on_disk(), first.bytes_written + second.bytes_written);
    let third = backups.create(&db).unwrap();
    assert_eq!(
        (third.tables_written, third.backup.tables),
        (0, second.backup.tables)
    );
    let copy = restored(&sim, &backups, 3).unwrap();
    assert_eq!(all(&copy), all(&db));
    // It took over the tables' births: they are known again, also as those of another database.
    let of_copy = backups.create(&copy).unwrap();
    assert_eq!(of_copy.tables_written, 0);
    assert_eq!(of_copy.backup.tables, third.backup.tables);
}

#[test]
fn a_point_that_is_removed_takes_no_table_that_another_needs() {
    let sim = SimFs::new(3);
    let db = open(&sim, ROOT);
    let backups = backups(&sim);
    let mut kept = BTreeMap::new();
    for round in 0..5 {
        fill(&db, round * 40, round * 40 + 40);
        if round == 3 {
            db.compact().unwrap();
        }
        let id = backups.create(&db).unwrap().backup.id;
        kept.insert(id, all(&db));
    }
    let check = |kept: &BTreeMap<u64, _>| {
        for (&id, expected) in kept {
            assert!(backups.verify(id).unwrap().problems.is_empty());
            let copy = restored(&sim, &backups, id).unwrap();
            assert_eq!(&all(&copy), expected, "{id}");
            destroy_restored(&sim, copy);
        }
    };
    let before = tables(&sim);
    backups.remove(2).unwrap();
    kept.remove(&2);
    assert_eq!(tables(&sim), before, "3 has all tables of 2");
    check(&kept);
    backups.remove(3).unwrap();
    kept.remove(&3);
    assert!(tables(&sim) < before, "4 was merged anew, and 1 has less");
    check(&kept);
    assert_eq!(backups.keep_newest(1).unwrap(), [1, 4]);
    kept.retain(|&id, _| id == 5);
    check(&kept);
    assert_eq!(backups.remove(4).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(backups.keep_newest(0).unwrap(), [5]);
    assert_eq!(
        files(&sim).into_keys().collect::<Vec<_>>(),
        ["BACKUPS", "LOCK"]
    );
}

#[test]
fn a_backup_has_the_keyspaces_that_were_asked_for() {
    let sim = SimFs::new(4);
    let db = open(&sim, ROOT);
    fill(&db, 0, 10);
    let backups = backups(&sim);
    let only = CheckpointOptions::new().keyspaces(["orders"]);
    let report = backups.create_with(&db, only).unwrap();
    assert_eq!(report.backup.keyspaces, ["default", "orders"]);
    let copy = restored(&sim, &backups, 1).unwrap();
    assert_eq!(copy.iter().count(), 0);
    assert_eq!(all(&copy).len(), 10);
    let nobody = CheckpointOptions::new().keyspaces(["nobody"]);
    let error = backups.create_with(&db, nobody).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// A source that cannot flush is backed up with what only memory holds; such tables are never taken
/// for others that it writes later.
#[test]
fn a_source_whose_disk_is_full_is_backed_up() {
    let sim = SimFs::new(5);
    let db = open(&sim, ROOT);
    fill(&db, 0, 50);
    sim.fail(FaultRule::new(Fault::Enospc).sticky());
    while db.put([9; 8], [9; 50]).is_ok() {}
    let elsewhere = SimFs::new(6);
    let backups = backups(&elsewhere);
    let mut kept = Vec::new();
    for _ in 0..2 {
        backups.create(&db).unwrap();
        kept.push(all(&db));
    }
    assert!(matches!(db.state(), State::ReadOnly(_)));
    sim.heal();
    db.put("resumed", "yes").unwrap();
    fill(&db, 100, 110);
    backups.create(&db).unwrap();
    kept.push(all(&db));
    for (id, expected) in (1..).zip(kept) {
        let copy = restored(&elsewhere, &backups, id).unwrap();
        assert_eq!(all(&copy), expected);
        destroy_restored(&elsewhere, copy);
    }
}

#[test]
fn any_flipped_bit_is_found_by_verify_and_stops_a_restore() {
    let sim = SimFs::new(7);
    let db = open(&sim, ROOT);
    fill(&db, 0, 30);
    let directory = backups(&sim);
    directory.create(&db).unwrap();
    drop((db, directory));
    let root = Path::new(BACKUPS);
    for (name, len) in files(&sim) {
        for at in (0..len).step_by(37) {
            let mut bytes = sim.bytes(root, &name).unwrap();
            bytes[at as usize] ^= 1 << (at % 8);
            let next = sim.kill();
            next.plant(root, &name, &bytes);
            let directory = backups(&next);
            let path = root.join(&name);
            let damage = if name.ends_with(".point") {
                let error = directory.list().unwrap().remove(0).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corruption, "{name} {at}: {error}");
                directory.verify(1).unwrap_err()
            } else {
                directory.verify(1).unwrap().problems.remove(0)
            };
            assert_eq!(
                damage.kind(),
                ErrorKind::Corruption,
                "{name} {at}: {damage}"
            );
            assert_eq!(damage.file(), Some(&*path));
            assert!(damage.offset().unwrap() <= at, "{name} {at}: {damage}");
            let refused = directory.restore(1, RESTORED).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Corruption, "{name} {at}");
            assert_eq!(refused.file(), Some(&*path));
            let target = Fs::sim(&next, Path::new(RESTORED));
            assert!(!target.root_exists().unwrap(), "no database is left");
        }
    }
}

#[test]
fn missing_swapped_and_short_files_are_damage_of_the_points_that_need_them() {
    let sim = SimFs::new(8);
    let db = open(&sim, ROOT);
    let directory = backups(&sim);
    fill(&db, 0, 30);
    directory.create(&db).unwrap();
    fill(&db, 30, 60);
    directory.create(&db).unwrap();
    let expected = all(&db);
    drop((db, directory));
    let root = Path::new(BACKUPS);
    let names: Vec<String> = files(&sim).into_keys().collect();
    let stored: Vec<&String> = names.iter().filter(|n| n.ends_with(".tbl")).collect();
    for name in &stored {
        let (gone, short, swapped) = (sim.kill(), sim.kill(), sim.kill());
        let bytes = sim.bytes(root, name).unwrap();
        let fs = Fs::sim(&gone, root);
        fs.remove(FileName::parse_in_backups(name).unwrap())
            .unwrap();
        short.plant(root, name, &bytes[..bytes.len() - 1]);
        let other = stored.iter().find(|other| other != &name).unwrap();
        swapped.plant(root, name, &sim.bytes(root, other).unwrap());
        for sim in [gone, short, swapped] {
            let directory = backups(&sim);
            let problems = directory.verify(2).unwrap().problems;
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(problems[0].kind(), ErrorKind::Corruption);
            assert!(directory.restore(2, RESTORED).is_err());
        }
    }
    // A record under another's name is not believed, and neither is anything lost by it.
    let next = sim.kill();
    next.plant(
        root,
        "000002.point",
        &sim.bytes(root, "000001.point").unwrap(),
    );
    let directory = backups(&next);
    let list = directory.list().unwrap();
    assert!(list[0].is_ok());
    assert_eq!(list[1].as_ref().unwrap_err().kind(), ErrorKind::Corruption);
    let db = open(&next, ROOT);
    assert_eq!(directory.create(&db).unwrap().backup.id, 3);
    assert_eq!(
        tables(&next),
        tables(&sim),
        "while one cannot be read, all stay"
    );
    let copy = restored(&next, &directory, 3).unwrap();
    assert_eq!(all(&copy), expected);
    directory.remove(2).unwrap();
    assert!(directory.verify(1).unwrap().problems.is_empty());
}

#[test]
fn only_one_at_a_time_and_only_a_directory_of_backups() {
    let dir = TempDir::new("backups");
    let path = dir.path().join("backups");
    let db = options().open(dir.path().join("db")).unwrap();
    let directory = BackupDirectory::open(&path).unwrap();
    let second = BackupDirectory::open(&path).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Locked);
    directory.create(&db).unwrap();
    drop(directory);
    let opened = options().open(&path).unwrap_err();
    assert_eq!(opened.kind(), ErrorKind::InvalidArgument);
    assert!(
        opened.to_string().contains("directory of backups"),
        "{opened}"
    );
    let of_db = BackupDirectory::open(dir.path().join("db")).unwrap_err();
    assert_eq!(of_db.kind(), ErrorKind::InvalidArgument);
    let directory = BackupDirectory::open(&path).unwrap();
    assert_eq!(ids(&directory), [1]);
    db.clone().close().unwrap();
    assert_eq!(directory.create(&db).unwrap_err().kind(), ErrorKind::Closed);
}

/// Each call fails once, and from then on: an error or a whole point, earlier points untouched, and
/// a later backup that is whole and leaves no orphan.
#[test]
fn a_backup_whose_disk_fails_or_is_full_leaves_the_earlier_points_whole() {
    for (fault, sticky) in [
        (Fault::Eio, false),
        (Fault::Enospc, true),
        (Fault::SyncCleanOld, false),
        (Fault::Short, false),
    ] {
        let mut failed = 0;
        for nth in 0.. {
            let scene = scene(12);
            let elsewhere = SimFs::new(13);
            let directory = backups(&elsewhere);
            let before: BackupReport = directory.create(&scene.db).unwrap();
            let expected = all(&scene.db);
            fill(&scene.db, 60, 62);
            let rule = FaultRule::new(fault).nth(nth);
            elsewhere.fail(if sticky { rule.sticky() } else { rule });
            let made = directory.create(&scene.db);
            let hit = 0 < elsewhere.faults_hit();
            elsewhere.heal();
            failed += usize::from(made.is_err());
            assert!(matches!(scene.db.state(), State::Ok), "{fault:?} {nth}");
            assert!(directory.verify(1).unwrap().problems.is_empty());
            let copy = restored(&elsewhere, &directory, before.backup.id).unwrap();
            assert!(all(&copy) == expected, "{fault:?} {nth}");
            destroy_restored(&elsewhere, copy);
            let last = directory.create(&scene.db).unwrap();
            directory.keep_newest(1).unwrap();
            assert!(
                directory
                    .verify(last.backup.id)
                    .unwrap()
                    .problems
                    .is_empty()
            );
            assert_eq!(files(&elsewhere).len(), 3 + last.backup.tables as usize);
            if !hit {
                break;
            }
        }
        assert!(fault == Fault::Short || 2 < failed, "{fault:?}: {failed}");
    }
}

/// Full in the midst of a table: what was copied in vain gives its space back.
#[test]
fn a_backup_that_does_not_fit_gives_its_space_back() {
    let scene = scene(14);
    let elsewhere = SimFs::new(15);
    let directory = backups(&elsewhere);
    elsewhere.set_free(Some(6 << 10));
    let error = directory.create(&scene.db).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert_eq!(tables(&elsewhere), 0, "{:?}", files(&elsewhere));
    elsewhere.set_free(None);
    directory.create(&scene.db).unwrap();
}

/// A table of the source that has rotted is not stored as if it were whole; what an earlier point has
/// of it still is.
#[test]
fn damage_of_the_source_is_no_backup() {
    let sim = SimFs::new(17);
    let db = open(&sim, ROOT);
    fill(&db, 0, 30);
    db.flush().unwrap();
    drop(db);
    let fs = Fs::sim(&sim, Path::new(ROOT));
    let tables = fs.list().unwrap().into_iter();
    let mut tables = tables.filter_map(|entry| match FileName::parse(&entry.name) {
        Some(name @ FileName::Table(_)) => Some(name),
        _ => None,
    });
    let table = tables.next().unwrap();
    let (before, directory) = (sim.kill(), backups(&sim));
    fs.open_write(table)
        .unwrap()
        .write_all_at(b"rot", 10)
        .unwrap();
    let error = directory.create(&open(&sim, ROOT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert_eq!(
        (error.file(), error.offset()),
        (Some(&*fs.path(table)), Some(0))
    );
    assert_eq!(
        files(&sim).into_keys().collect::<Vec<_>>(),
        ["BACKUPS", "LOCK"]
    );
    let directory = backups(&before);
    directory.create(&open(&before, ROOT)).unwrap();
    let fs = Fs::sim(&before, Path::new(ROOT));
    fs.open_write(table)
        .unwrap()
        .write_all_at(b"rot", 10)
        .unwrap();
    let second = directory.create(&open(&before, ROOT)).unwrap();
    assert_eq!(second.tables_written, 0);
    assert!(directory.verify(2).unwrap().problems.is_empty());
}

/// What rots in the source afterwards does not reach the backup.
#[test]
fn a_backup_shares_no_file_with_its_source() {
    let sim = SimFs::new(16);
    let db = open(&sim, ROOT);
    fill(&db, 0, 30);
    let directory = backups(&sim);
    directory.create(&db).unwrap();
    let expected = all(&db);
    drop(db);
    let fs = Fs::sim(&sim, Path::new(ROOT));
    for entry in fs.list().unwrap() {
        if let Some(name @ FileName::Table(_)) = FileName::parse(&entry.name) {
            fs.open_write(name)
                .unwrap()
                .write_all_at(b"rot", 10)
                .unwrap();
        }
    }
    assert!(directory.verify(1).unwrap().problems.is_empty());
    let copy = restored(&sim, &directory, 1).unwrap();
    assert_eq!(all(&copy), expected);
    let db = open(&sim, ROOT);
    assert!(!db.verify().unwrap().problems.is_empty());
}

/// An unusable record must not take the place of one that can be restored.
#[test]
fn a_damaged_point_is_not_one_of_the_newest_that_are_kept() {
    let sim = SimFs::new(31);
    let db = open(&sim, "/db");
    let backups = backups(&sim);
    for n in 0..3 {
        fill(&db, n * 10, n * 10 + 10);
        backups.create(&db).unwrap();
    }
    sim.plant(Path::new(BACKUPS), "000003.point", b"no record");
    assert_eq!(backups.keep_newest(1).unwrap(), [1]);
    let report = backups.verify(2).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    drop(restored(&sim, &backups, 2).unwrap());
    backups.remove(3).unwrap();
    assert_eq!(ids(&backups), [2]);
}

/// What a backup is in the middle of looks like an orphan: whoever removes has to wait for it.
#[test]
fn a_removal_beside_a_backup_takes_none_of_its_tables() {
    let sim = SimFs::new(32);
    let db = open(&sim, "/db");
    let backups = backups(&sim);
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| {
            for _ in 0..200 {
                backups.keep_newest(1).unwrap();
            }
        });
        let mut n = 0;
        while n < 5 || !removing.is_finished() {
            fill(&db, n * 10, n * 10 + 10);
            backups.create(&db).unwrap();
            n += 1;
        }
        removing.join().unwrap();
    });
    for id in ids(&backups) {
        let report = backups.verify(id).unwrap();
        assert!(report.problems.is_empty(), "{id}: {report:?}");
    }
}

#[test]
fn a_record_with_the_last_number_is_told_of_and_not_counted_beyond() {
    let sim = SimFs::new(33);
    let db = open(&sim, "/db");
    let backups = backups(&sim);
    let name = format!("{}.point", u64::MAX);
    sim.plant(Path::new(BACKUPS), &name, b"no record");
    let error = backups.create(&db).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert_eq!(error.file(), Some(&*Path::new(BACKUPS).join(&name)));
}

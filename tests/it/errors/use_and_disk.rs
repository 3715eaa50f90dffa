//! Errors of arguments, of the disk's state and of handles, as users meet them.

use super::{open, options, says, says_in, small, store};
use crate::support::{ROOT, TempDir};
use alluvium::fs::Fs;
use alluvium::fs::sim::{CallKind, Fault, FaultRule, FileClass, SimFs};
use alluvium::{
    BackupDirectory, Durability, ErrorKind, KeyspaceOptions, Options, WriteBatch, WriteOptions,
};
use std::path::Path;

#[test]
fn a_database_that_is_open_already() {
    let sim = SimFs::new(1);
    let _first = open(&sim).unwrap();
    says(
        open(&sim),
        ErrorKind::Locked,
        "the database is open elsewhere in /db/LOCK.\n\
         Close it there first. A database has one opener at a time, in this process or another.",
    );
}

#[test]
fn a_database_that_is_not_there() {
    let sim = SimFs::new(1);
    let none = options()
        .create_if_missing(false)
        .open_in(Fs::sim(&sim, Path::new(ROOT)));
    says(
        none,
        ErrorKind::NotFound,
        "there is no database in /db.\n\
         Open it with `create_if_missing` to make one.",
    );
    let none = options().repair_in(Fs::sim(&sim, Path::new(ROOT)));
    says(
        none,
        ErrorKind::NotFound,
        "there is no database in /db.\n\
         Open it with `create_if_missing` to make one.",
    );
}

#[test]
fn a_database_that_is_there_and_must_not_be() {
    let there = options()
        .error_if_exists(true)
        .open_in(Fs::sim(&store(), Path::new(ROOT)));
    says(
        there,
        ErrorKind::InvalidArgument,
        "the directory holds a database already in /db.\n\
         Leave `error_if_exists` out to open it.",
    );
}

#[test]
fn a_full_disk() {
    let sim = store();
    let db = open(&sim).unwrap();
    sim.fail(FaultRule::new(Fault::Enospc).class(FileClass::Log).sticky());
    says(
        db.put("key", "value"),
        ErrorKind::NoSpace,
        "write failed: No space left on device (os error 28) in /db/001027.log at offset 77.\n\
         Nothing was written, and this write will never appear. Writes resume by themselves once the log goes on in a new file.",
    );
}

#[test]
fn a_log_that_cannot_be_synced() {
    let sim = store();
    let db = open(&sim).unwrap();
    sim.fail(
        FaultRule::new(Fault::Eio)
            .kinds(&[CallKind::Sync])
            .class(FileClass::Log),
    );
    let synced = WriteOptions::new().durability(Durability::Synced);
    says(
        db.put_with("key", "value", synced),
        ErrorKind::Io,
        "fdatasync failed: Input/output error (os error 5) in /db/001027.log.\n\
         The write is logged and visible, but not synced: after a power cut it is there whole or not at all.",
    );
}

#[test]
fn a_key_a_value_and_a_batch_that_are_too_large() {
    let db = open(&SimFs::new(1)).unwrap();
    says(
        db.put(vec![b'k'; 70_000], "v"),
        ErrorKind::TooLarge,
        "the key is too large: 70000 bytes, expected at most 65536 bytes.\n\
         Nothing was written.",
    );
    says(
        db.put("k", vec![b'v'; 300_000]),
        ErrorKind::TooLarge,
        "the batch is too large: 300011 bytes, expected at most a quarter of memory_bytes (1048576).\n\
         Nothing was written.",
    );
    let mut batch = WriteBatch::new();
    for n in 0..40 {
        batch.put(&db, [n], vec![b'v'; 10_000]);
    }
    says(
        db.write(&batch, WriteOptions::new()),
        ErrorKind::TooLarge,
        "the batch is too large: 400244 bytes, expected at most a quarter of memory_bytes (1048576).\n\
         Nothing was written.",
    );
}

#[test]
fn a_batch_of_another_database() {
    let (one, other) = (open(&SimFs::new(1)).unwrap(), open(&SimFs::new(2)).unwrap());
    let mut batch = WriteBatch::new();
    batch.put(&one, "k", "v");
    says(
        other.write(&batch, WriteOptions::new()),
        ErrorKind::InvalidArgument,
        "the batch names keyspaces of another database.\n\
         Nothing was written.",
    );
    batch.put(&other, "k", "v");
    says(
        one.write(&batch, WriteOptions::new()),
        ErrorKind::InvalidArgument,
        "the batch names keyspaces of two databases.\n\
         Nothing was written. Use one batch a database.",
    );
}

#[test]
fn options_that_make_no_sense() {
    let open = |options: Options| options.open_in(Fs::sim(&SimFs::new(1), Path::new(ROOT)));
    says(
        open(options().memory_bytes(7)),
        ErrorKind::InvalidArgument,
        "option memory_bytes is out of range: 7, expected 65536 to 1125899906842624.",
    );
    let odd = KeyspaceOptions::new().block_bytes(300);
    says(
        open(options().default_keyspace(odd)),
        ErrorKind::InvalidArgument,
        "option block_bytes is out of range: 300, expected a power of two.",
    );
}

#[test]
fn an_option_that_shapes_files_and_differs() {
    let other = options().default_keyspace(small().block_bytes(512));
    says(
        other.open_in(Fs::sim(&store(), Path::new(ROOT))),
        ErrorKind::InvalidArgument,
        "option block_bytes of keyspace 'default' cannot change: 512, expected 256.\n\
         Leave it unset to take the stored value.",
    );
}

#[test]
fn names_that_no_keyspace_can_have() {
    let db = open(&SimFs::new(1)).unwrap();
    says(
        db.keyspace("", small()),
        ErrorKind::InvalidArgument,
        "the name of the keyspace is empty.",
    );
    says(
        db.keyspace("x".repeat(300), small()),
        ErrorKind::InvalidArgument,
        "the name of the keyspace is too long: 300, expected at most 255 bytes.",
    );
    says(
        db.keyspace("a\nb", small()),
        ErrorKind::InvalidArgument,
        "the name of the keyspace has a control character: \"a\\nb\".",
    );
    says(
        db.drop_keyspace("default"),
        ErrorKind::InvalidArgument,
        "the default keyspace cannot be dropped.",
    );
}

#[test]
fn a_keyspace_that_was_dropped() {
    let db = open(&SimFs::new(1)).unwrap();
    let orders = db.keyspace("orders", small()).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&orders, "k", "v");
    db.drop_keyspace("orders").unwrap();
    says(
        orders.get("k"),
        ErrorKind::NotFound,
        "the keyspace 'orders' was dropped.\n\
         Open a keyspace of that name again to get a new, empty one.",
    );
    says(
        orders.put("k", "v"),
        ErrorKind::NotFound,
        "the keyspace 'orders' was dropped.\n\
         Open a keyspace of that name again to get a new, empty one.",
    );
    says(
        db.write(&batch, WriteOptions::new()),
        ErrorKind::NotFound,
        "no keyspace has the number 1.\n\
         It was dropped after the batch was filled. Nothing was written.",
    );
    says(
        db.drop_keyspace("orders"),
        ErrorKind::NotFound,
        "there is no keyspace 'orders'.",
    );
}

#[test]
fn a_handle_that_was_closed() {
    let db = open(&SimFs::new(1)).unwrap();
    let handle = db.clone();
    db.close().unwrap();
    says(
        handle.get("k"),
        ErrorKind::Closed,
        "the database was closed.\n\
         Open it again.",
    );
    says(
        handle.put("k", "v"),
        ErrorKind::Closed,
        "the database was closed.\n\
         Open it again.",
    );
    says(
        handle.close(),
        ErrorKind::Closed,
        "the database was closed already.",
    );
}

#[test]
fn what_is_no_regular_file_on_the_real_disk() {
    let dir = TempDir::new("errors-link");
    options().open(dir.path()).unwrap().close().unwrap();
    let current = dir.path().join("CURRENT");
    std::fs::rename(&current, dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &current).unwrap();
    let error = options().open(dir.path()).unwrap_err();
    assert_eq!(error.file(), Some(&*current));
    says_in(
        &dir,
        error,
        ErrorKind::Io,
        "open failed: Too many levels of symbolic links (os error 40) in /db/CURRENT.",
    );
    std::fs::remove_file(&current).unwrap();
    std::fs::create_dir(&current).unwrap();
    let error = options().open(dir.path()).unwrap_err();
    says_in(
        &dir,
        error,
        ErrorKind::Io,
        "open failed: not a regular file in /db/CURRENT.",
    );
}

#[test]
fn a_copy_that_is_not_finished() {
    let sim = SimFs::new(1);
    sim.plant(Path::new(ROOT), "UNFINISHED", b"");
    sim.plant(Path::new(ROOT), "000007.tbl", b"half");
    let message = "a checkpoint or a restore into this directory has not ended: there is no database in /db.\n\
                   Make it again: a new one may go into the same directory.";
    says(open(&sim), ErrorKind::Unfinished, message);
    let repaired = options().repair_in(Fs::sim(&sim, Path::new(ROOT)));
    says(repaired, ErrorKind::Unfinished, message);
}

#[test]
fn a_directory_for_a_copy_that_is_not_empty() {
    let sim = store();
    let db = open(&sim).unwrap();
    sim.plant(Path::new("/other"), "notes.txt", b"mine");
    says(
        db.checkpoint("/other"),
        ErrorKind::InvalidArgument,
        "the directory is not empty in /other: 'notes.txt' in it, expected a new or an empty directory.\n\
         Nothing was changed. Name another directory, or empty this one.",
    );
}

#[test]
fn a_directory_of_backups_and_one_that_is_none() {
    let sim = SimFs::new(1);
    let backups = || BackupDirectory::open_in(Fs::sim(&sim, Path::new(ROOT)));
    let first = backups().unwrap();
    says(
        backups(),
        ErrorKind::Locked,
        "the directory of backups is open elsewhere in /db.\n\
         Wait until it is done there, in this process or another.",
    );
    says(
        first.verify(7),
        ErrorKind::NotFound,
        "there is no backup 7 in /db.",
    );
    drop(first);
    says(
        open(&sim),
        ErrorKind::InvalidArgument,
        "this is a directory of backups, not a database in /db.\n\
         Restore one of its points in time to another directory, and open that.",
    );
    let database = BackupDirectory::open_in(Fs::sim(&store(), Path::new(ROOT)));
    says(
        database,
        ErrorKind::InvalidArgument,
        "this is not a directory of backups in /db: '000001.manifest' in it, expected BACKUPS in it, or nothing.\n\
         Nothing was changed. Name another directory.",
    );
}

#[test]
fn a_record_of_a_backup_that_is_damaged() {
    let sim = SimFs::new(1);
    let backups = BackupDirectory::open_in(Fs::sim(&sim, Path::new(ROOT))).unwrap();
    sim.plant(Path::new(ROOT), "000001.point", b"alluvbak????");
    let damaged = backups.list().unwrap().remove(0);
    says(
        damaged,
        ErrorKind::Corruption,
        "damaged record of a backup in /db/000001.point at offset 0: checksum 3f3f3f3f, expected checksum 997a9cb9.\n\
         Other points in time are not touched by it; remove this one.",
    );
}

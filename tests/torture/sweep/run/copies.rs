//! Checkpoints and backups under faults: what is reported as made is there, what is not is no
//! database, and earlier points in time stay whole.

use super::{Contents, Run, contents, expect_same};
use alluvium::fs::sim::{CallKind, Fault, FaultRule, FileClass, SimFs};
use alluvium::fs::{FileName, Fs};
use alluvium::{BackupDirectory, CheckpointReport, Db, Error, ErrorKind, Result};
use std::path::Path;

const BACKUPS: &str = "/backups";

impl Run<'_> {
    fn at(&self, path: &str) -> Fs {
        Fs::sim(self.sim, Path::new(path))
    }

    /// Somebody was cut off while he made a copy there.
    pub fn leave_a_copy_unfinished(&self, path: &str) {
        self.sim.plant(Path::new(path), "UNFINISHED", b"");
        self.sim.plant(Path::new(path), "000099.tbl", b"half of it");
    }

    pub fn checkpoint(&self, path: &str) {
        let Some(db) = &self.db else { return };
        let made = db.checkpoint(path);
        self.check_copy(path, made, &self.history.now);
    }

    /// On the same disk without its faults: `made` tells whether the copy is there.
    fn check_copy(&self, path: &str, made: Result<CheckpointReport>, expected: &Contents) {
        if self.is_dead() {
            return;
        }
        let what = format!("{}: the copy {path}", self.what);
        let opened = self.open_copy(path);
        match (made, opened) {
            (Ok(_), Ok(copy)) => expect_same(&contents(&copy, &what), expected, &what),
            (Ok(_), Err(error)) => panic!("{what} was made: {error}"),
            // The very last sync failed, and so did the removal.
            (Err(error), Ok(copy)) => {
                self.expect_disk(&error);
                expect_same(&contents(&copy, &what), expected, &what);
            }
            (Err(error), Err(refused)) => {
                self.expect_disk(&error);
                let kinds = [ErrorKind::Unfinished, ErrorKind::NotFound];
                assert!(kinds.contains(&refused.kind()), "{what}: {refused}");
            }
        }
    }

    fn open_copy(&self, path: &str) -> Result<Db> {
        let fs = Fs::sim(&self.sim.kill(), Path::new(path));
        let options = self.options.clone().create_if_missing(false);
        options.open_in(fs)
    }

    /// Adds a point in time; gives its number when that is known.
    pub fn backup(&self) -> Option<u64> {
        let db = self.db.as_ref()?;
        let backups = self.tried(BackupDirectory::open_in(self.at(BACKUPS)))?;
        let made = self.tried(backups.create(db));
        self.check_points();
        made.map(|report| report.backup.id)
    }

    /// As `backup`, of a source that cannot flush: the record of its manifest fails, and so does the
    /// making of a new one.
    pub fn backup_from_memory(&self) {
        let fails = |kind| {
            let rule = FaultRule::new(Fault::Eio).class(FileClass::Manifest);
            self.sim.fail(rule.kinds(&[kind]));
        };
        fails(CallKind::Write);
        fails(CallKind::Create);
        self.backup();
    }

    /// What is listed is whole, on the same disk without its faults.
    fn check_points(&self) {
        if self.is_dead() {
            return;
        }
        let what = self.what;
        let good = self.sim.kill();
        let backups = BackupDirectory::open_in(Fs::sim(&good, Path::new(BACKUPS)));
        let backups = backups.unwrap_or_else(|e| panic!("{what}: {e}"));
        for info in backups.list().unwrap_or_else(|e| panic!("{what}: {e}")) {
            let id = info.unwrap_or_else(|e| panic!("{what}: {e}")).id;
            let found = backups.verify(id);
            let found = found.unwrap_or_else(|e| panic!("{what}: {id}: {e}"));
            assert!(found.problems.is_empty(), "{what}: {id}: {found:?}");
        }
    }

    /// Looks through the points in time, and makes a database of one that held `expected`.
    pub fn restore(&self, id: Option<u64>, path: &str, expected: &Contents) {
        let Some(backups) = self.tried(BackupDirectory::open_in(self.at(BACKUPS))) else {
            return;
        };
        for info in self.tried(backups.list()).unwrap_or_default() {
            if let Some(info) = self.tried(info)
                && let Some(report) = self.tried(backups.verify(info.id))
            {
                report.problems.iter().for_each(|p| self.expect_disk(p));
            }
        }
        if let Some(id) = id {
            self.check_copy(path, backups.restore(id, path), expected);
        }
    }

    pub fn remove_backups(&self, one: Option<u64>) {
        if let Some(backups) = self.tried(BackupDirectory::open_in(self.at(BACKUPS))) {
            if let Some(id) = one {
                self.tried(backups.remove(id));
                self.check_points();
            }
            self.tried(backups.keep_newest(1));
            self.check_points();
        }
    }

    /// A bit of every stored table has flipped: restoring what has one is refused, and leaves nothing.
    pub fn restore_of_damage(&self, path: &str) {
        if self.is_dead() {
            return;
        }
        let root = Path::new(BACKUPS);
        for name in stored(&self.sim.kill()) {
            let mut bytes = self.sim.bytes(root, &name).expect("it is there");
            bytes[5] ^= 1;
            self.sim.plant(root, &name, &bytes);
        }
        let Some(backups) = self.tried(BackupDirectory::open_in(self.at(BACKUPS))) else {
            return;
        };
        for info in self.tried(backups.list()).unwrap_or_default() {
            // When every write failed there is a point without a table, and nothing to damage.
            let Some(id) = self.tried(info).filter(|i| i.tables > 0).map(|i| i.id) else {
                continue;
            };
            let refused = backups.restore(id, path);
            let is_found = |error: &Error| error.kind() == ErrorKind::Corruption;
            match refused {
                Err(error) if is_found(&error) => {}
                other => drop(self.tried(other)),
            }
            let refused = self.open_copy(path).err().map(|error| error.kind());
            let kinds = [ErrorKind::Unfinished, ErrorKind::NotFound];
            let is_none = refused.is_some_and(|kind| kinds.contains(&kind));
            assert!(self.is_dead() || is_none, "{}: {refused:?}", self.what);
        }
    }

    fn tried<T>(&self, answer: Result<T>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(error) => {
                if !self.is_dead() {
                    self.expect_disk(&error);
                }
                None
            }
        }
    }
}

/// The names of the tables among the backups.
fn stored(sim: &SimFs) -> Vec<String> {
    let fs = Fs::sim(sim, Path::new(BACKUPS));
    let entries = fs.list().unwrap_or_default().into_iter();
    let names = entries.map(|entry| entry.name);
    let is_stored =
        |name: &String| matches!(FileName::parse_in_backups(name), Some(FileName::Stored(_)));
    names.filter(is_stored).collect()
}

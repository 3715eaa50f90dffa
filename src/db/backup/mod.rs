//! A directory of backups: several points in time of one database or of more, what they share once.
//!
//! ```text
//! BACKUPS                                      says what the directory is
//! 000001.point  000002.point                   each a record that lists its tables (point.rs)
//! 00000000000000f1-000007-4096-1d2c3b4a.tbl    a table: birth, size, checksum (store.rs)
//! ```
//! A point in time is there when its record has its name, which it gets when all its tables are
//! durable; before that there are orphans only, and earlier points are not touched. Removing
//! one takes the record away, durably, and then the tables that no other record names. Nothing is
//! a hard link of the database's files: what rots there must not rot here.
//!
//! The tables that hold what only memory held at that instant are of this point alone: they are born
//! in a database of their own, so that none is ever taken for one of the source's.
//!
//! Invariants: B1 a record that is there has all its tables, whole; B2 a table goes only when no
//! record that may come back names it. Threads: the callers', one at a time; the directory's lock is
//! held for as long as it is open, so two processes never change it at once.

mod point;
mod store;

pub use point::recode_point;

use super::Db;
use super::checkpoint::moment::{self, Moment};
use super::checkpoint::target::Target;
use super::checkpoint::{CheckpointOptions, CheckpointReport, carry};
use super::core::Core;
use super::sweep::remove_if_there;
use super::upkeep::VerifyReport;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::{ReadMode, Verify};
use crate::base::sync::{Arc, Mutex};
use crate::base::types::{FileId, SeqNo};
use crate::fs::{DirLock, FileName, Fs};
use crate::table::{BlockCache, TableContext};
use crate::version::{FileMeta, TableEntry};
use point::Point;
use std::collections::BTreeMap;
use std::path::Path;
use store::{Store, TEMP};

/// A directory of backups, open. Another process, or a second [`BackupDirectory::open`] in this one,
/// is refused until it is dropped.
///
/// ```
/// use alluvium::{BackupDirectory, Db};
/// # let dir = std::env::temp_dir().join(format!("alluvium-doc-bd-{}", std::process::id()));
/// # let (path, restored) = (dir.join("db"), dir.join("restored"));
/// let db = Db::open(&path)?;
/// let backups = BackupDirectory::open(dir.join("backups"))?; // best on another disk
/// db.put("k", "monday")?;
/// let monday = backups.create(&db)?;
/// db.put("k", "tuesday")?;
/// backups.create(&db)?; // copies only what is new
/// assert!(backups.verify(monday.backup.id)?.problems.is_empty());
/// backups.restore(monday.backup.id, &restored)?;
/// assert_eq!(Db::open(&restored)?.get("k")?.unwrap(), b"monday");
/// backups.keep_newest(1)?;
/// # db.close()?; let _ = std::fs::remove_dir_all(dir);
/// # Ok::<(), alluvium::Error>(())
/// ```
#[derive(Debug)]
pub struct BackupDirectory {
    fs: Fs,
    /// Held by each call that makes, removes or reads tables: what one is in the middle of looks like
    /// an orphan to another (B1).
    turn: Mutex<()>,
    _lock: DirLock,
}

/// One point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupInfo {
    /// Its number in the directory: later ones have higher ones.
    pub id: u64,
    /// When it was made, in milliseconds since 1970 by the wall clock: nothing depends on it.
    pub made_ms: u64,
    /// The number of the newest write in it.
    pub seqno: SeqNo,
    /// Its keyspaces, sorted.
    pub keyspaces: Vec<String>,
    /// Its tables.
    pub tables: u64,
    /// Bytes of its tables, those that other points share among them.
    pub bytes: u64,
}

/// What making a backup took.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// What was made.
    pub backup: BackupInfo,
    /// Tables that no earlier point had.
    pub tables_written: u64,
    /// Bytes written, those of the record among them.
    pub bytes_written: u64,
}

impl BackupDirectory {
    /// Opens the directory of backups at `path`, making it if there is none.
    ///
    /// # Errors
    /// `InvalidArgument` for a directory that is not empty and not of backups; `Locked` when it is
    /// open already; `Io`.
    pub fn open(path: impl AsRef<Path>) -> Result<BackupDirectory> {
        BackupDirectory::open_in(Fs::os(path.as_ref()))
    }

    /// Opens it on any file system: the real disk, or the simulator's.
    ///
    /// # Errors
    /// As [`BackupDirectory::open`].
    #[doc(hidden)]
    pub fn open_in(fs: Fs) -> Result<BackupDirectory> {
        if fs.root_exists()? {
            look_whose(&fs)?;
        }
        fs.make_root()?;
        let lock = fs.lock().map_err(|error| match error.kind() {
            ErrorKind::Locked => Error::new(
                ErrorKind::Locked,
                "the directory of backups is open elsewhere",
            )
            .at(fs.root())
            .advice("Wait until it is done there, in this process or another."),
            _ => error,
        })?;
        if !look_whose(&fs)? {
            fs.create_new(FileName::Backups)?;
            fs.sync_dir()?;
        }
        Ok(BackupDirectory {
            fs,
            turn: Mutex::new(()),
            _lock: lock,
        })
    }

    /// Adds a point in time: all of `db` at one instant, as [`Db::checkpoint`] takes it. Tables that an
    /// earlier point has are not copied again, nor read.
    ///
    /// When it returns, the point is durable. After an error or a crash the earlier ones are as they
    /// were, and what was begun is removed, at the latest by the next `create`.
    ///
    /// A table is known by its birth: the database and the number under which it was written. A
    /// database whose whole directory was put back from an older copy, by other means than
    /// [`restore`](BackupDirectory::restore), gives numbers again: start a new directory of backups
    /// for it.
    ///
    /// # Errors
    /// `Corruption` with file and offset when a table that is to be copied is damaged: what was read
    /// back would not be what was written. `NoSpace`, `Io`; `Closed` when the database was closed.
    pub fn create(&self, db: &Db) -> Result<BackupReport> {
        self.create_with(db, CheckpointOptions::new())
    }

    /// As [`BackupDirectory::create`], of the keyspaces that `options` name.
    ///
    /// # Errors
    /// As [`BackupDirectory::create`]; `NotFound` for a keyspace that is not there.
    pub fn create_with(&self, db: &Db, options: CheckpointOptions) -> Result<BackupReport> {
        let core = db.engine();
        core.flush_for_copy(&options)?;
        let turn = self.turn.lock();
        let created = self.write(core, core.take_moment(&options)?);
        if created.is_err() {
            // What was copied in vain may be what filled the disk. The error is the one to report.
            let _ = self.sweep(&[]);
        }
        drop(turn);
        if core.board.is_inline() {
            core.run_pending();
        }
        created
    }

    fn write(&self, core: &Core, mut moment: Moment) -> Result<BackupReport> {
        let tables: Vec<Arc<TableEntry>> = moment.tables().cloned().collect();
        self.sweep(&tables)?;
        let (mut tables_written, mut bytes_written) = (0, 0);
        let mut count = |meta: &FileMeta| {
            tables_written += 1;
            bytes_written += meta.summary.bytes;
        };
        let mut store = Store::read(&self.fs)?;
        let mut checksums = BTreeMap::new();
        for table in &tables {
            core.health.check_open()?;
            let (meta, source) = (table.meta(), carry::open(core, table)?);
            let stored = match store.find(meta, &source)? {
                Some(stored) => stored,
                None => {
                    count(meta);
                    store.add(table, &source)?
                }
            };
            checksums.insert(meta.file, stored.checksum);
        }
        let own = self.fs.random().max(1);
        for meta in moment.write_memtables(core, &self.fs, own)? {
            count(&meta);
            checksums.insert(meta.file, store.adopt(&meta)?.checksum);
        }
        let picture = moment.picture(core.versions.database());
        let point = Point {
            number: self.next_number()?,
            made_ms: core.fs.env().wall_ms(),
            checksums: point::metas(&picture)
                .filter_map(|meta| checksums.get(&meta.file).copied())
                .collect(),
            picture,
        };
        bytes_written += self.publish(&point)?;
        Ok(BackupReport {
            backup: info_of(&point),
            tables_written,
            bytes_written,
        })
    }

    /// Gives a record its name, after everything that it names is durable (B1); gives its size.
    fn publish(&self, point: &Point) -> Result<u64> {
        let bytes = point.encode();
        remove_if_there(&self.fs, TEMP)?;
        let file = self.fs.create_new(TEMP)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        // The names of the tables first: the record must never outlive them.
        self.fs.sync_dir()?;
        self.fs.rename(TEMP, FileName::Point(point.number))?;
        self.fs.sync_dir()?;
        Ok(bytes.len() as u64)
    }

    /// All points in time, oldest first. In the place of one whose record cannot be read stands why.
    ///
    /// # Errors
    /// `Io`, when the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Result<BackupInfo>>> {
        let infos = |number| self.point(number).map(|point| info_of(&point));
        Ok(self.numbers()?.into_iter().map(infos).collect())
    }

    /// Reads every table of a point in time and compares its checksum.
    ///
    /// # Errors
    /// Only when it could not run, also that the record is damaged; what it finds is in the report:
    /// each problem is `Corruption` with file and offset.
    pub fn verify(&self, id: u64) -> Result<VerifyReport> {
        let _turn = self.turn.lock();
        let point = self.point(FileId(id))?;
        let mut report = VerifyReport::default();
        for (meta, table) in point.tables() {
            report.files += 1;
            report.entries += meta.summary.entries;
            report.bytes += table.bytes;
            let found = store::open(&self.fs, table).and_then(|file| store::checksum(&file));
            match found.and_then(|found| store::compare(&self.fs, meta, table, found)) {
                Err(damage) if damage.kind() == ErrorKind::Corruption => {
                    report.problems.push(damage);
                }
                other => other?,
            }
        }
        Ok(report)
    }

    /// Makes a database in the directory `path` of a point in time; `path` is taken as by
    /// [`Db::checkpoint`]. Every table is copied, its checksum compared, and each of its blocks is
    /// read back and checked before the directory counts as a database.
    ///
    /// The database is a new one: it and the one that was backed up may be open side by side, and
    /// both be backed up into this directory.
    ///
    /// # Errors
    /// `NotFound` when there is no such point; `Corruption` with file and offset when one of its
    /// files is damaged; `InvalidArgument` when `path` is not empty; `NoSpace`, `Io`. There is no
    /// database at `path` then.
    pub fn restore(&self, id: u64, path: impl AsRef<Path>) -> Result<CheckpointReport> {
        self.restore_in(id, &self.fs.at(path.as_ref()))
    }

    /// Restores to any file system: the same, or another machine's in the simulator.
    ///
    /// # Errors
    /// As [`BackupDirectory::restore`].
    #[doc(hidden)]
    pub fn restore_in(&self, id: u64, to: &Fs) -> Result<CheckpointReport> {
        let _turn = self.turn.lock();
        let point = self.point(FileId(id))?;
        let target = Target::begin(to)?;
        for (meta, table) in point.tables() {
            let name = FileName::Table(meta.file);
            let found = carry::copy(&store::open(&self.fs, table)?, to, name)?;
            store::compare(&self.fs, meta, table, found)?;
            carry::verify(to, name, meta)?;
        }
        let mut report = CheckpointReport::default();
        moment::describe(&point.picture, &mut report);
        report.bytes_written = report.bytes;
        let mut picture = point.picture;
        picture.database = to.random().max(1);
        let context = Arc::new(TableContext {
            read_mode: ReadMode::Pread,
            verify: Verify::EveryRead,
            cache: BlockCache::new(1 << 20),
        });
        target.finish(&context, picture)?;
        Ok(report)
    }

    /// Removes a point in time, and the tables that no other one shares; a point whose record is
    /// damaged, too. While any record is damaged, all tables stay.
    ///
    /// # Errors
    /// `NotFound` when there is no such point; `Io`: it may be gone already, and its tables are
    /// removed by the next `create` or `remove`.
    pub fn remove(&self, id: u64) -> Result<()> {
        let _turn = self.turn.lock();
        if !self.numbers()?.contains(&FileId(id)) {
            return Err(no_such_point(&self.fs, id));
        }
        self.fs.remove(FileName::Point(FileId(id)))?;
        self.sweep(&[])
    }

    /// Removes all points in time that are older than the newest `count`, and gives the numbers of
    /// those removed. One whose record is damaged is none of the `count`: it stays if it is newer.
    ///
    /// # Errors
    /// As [`BackupDirectory::remove`].
    pub fn keep_newest(&self, count: usize) -> Result<Vec<u64>> {
        let _turn = self.turn.lock();
        let (mut kept, mut removed) = (0, Vec::new());
        for number in self.numbers()?.into_iter().rev() {
            if kept == count {
                removed.push(number);
                continue;
            }
            match self.point(number) {
                Ok(_) => kept += 1,
                Err(error) if is_unreadable(&error) => {}
                Err(error) => return Err(error),
            }
        }
        for &number in removed.iter().rev() {
            self.fs.remove(FileName::Point(number))?;
        }
        self.sweep(&[])?;
        Ok(removed.into_iter().rev().map(|number| number.0).collect())
    }

    fn next_number(&self) -> Result<FileId> {
        let Some(last) = self.numbers()?.last().copied() else {
            return Ok(FileId(1));
        };
        let next = last.0.checked_add(1).map(FileId);
        next.ok_or_else(|| {
            Error::corruption("record of a backup with the last number that there is")
                .at(self.fs.path(FileName::Point(last)))
                .advice("No backup made it: remove it.")
        })
    }

    /// The numbers of all records, ascending.
    fn numbers(&self) -> Result<Vec<FileId>> {
        let entries = self.fs.list()?;
        let names = entries.iter().map(|e| FileName::parse_in_backups(&e.name));
        let mut numbers: Vec<FileId> = names
            .filter_map(|name| match name {
                Some(FileName::Point(number)) => Some(number),
                _ => None,
            })
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn point(&self, number: FileId) -> Result<Point> {
        let name = FileName::Point(number);
        let file = self
            .fs
            .open_read(name)
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => no_such_point(&self.fs, number.0),
                _ => error,
            })?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let point = Point::decode(&bytes).and_then(|point| match point.number == number {
            true => Ok(point),
            false => Err(Error::corruption("record of a backup under another name")
                .expected(number, point.number)),
        });
        point.map_err(|error| {
            let error = error.at(file.path()).offset_at(0);
            error.or_advice("Other points in time are not touched by it; remove this one.")
        })
    }

    /// See [`Store::sweep`]. While a record cannot be read, who knows what it names?
    fn sweep(&self, wanted: &[Arc<TableEntry>]) -> Result<()> {
        let points = self.numbers()?.into_iter().map(|n| self.point(n));
        let mut store = Store::read(&self.fs)?;
        match points.collect::<Result<Vec<Point>>>() {
            Ok(points) => store.sweep(Some(&points), wanted),
            Err(error) if is_unreadable(&error) => store.sweep(None, wanted),
            Err(error) => Err(error),
        }
    }
}

/// True when a record is there and says nothing: damaged, or of a newer format.
fn is_unreadable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported)
}

/// True for a directory of backups, false for an empty one.
///
/// # Errors
/// `InvalidArgument` for any other.
fn look_whose(fs: &Fs) -> Result<bool> {
    let entries = fs.list()?;
    let is = |entry: &crate::fs::DirEntry, name: FileName| entry.name == name.to_string();
    if entries.iter().any(|entry| is(entry, FileName::Backups)) {
        return Ok(true);
    }
    match entries.iter().find(|entry| !is(entry, FileName::Lock)) {
        None => Ok(false),
        Some(other) => Err(Error::invalid("this is not a directory of backups")
            .at(fs.root())
            .expected(
                "BACKUPS in it, or nothing",
                format!("'{}' in it", other.name),
            )
            .advice("Nothing was changed. Name another directory.")),
    }
}

#[cold]
fn no_such_point(fs: &Fs, id: u64) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no backup {id}")).at(fs.root())
}

fn info_of(point: &Point) -> BackupInfo {
    let mut report = CheckpointReport::default();
    moment::describe(&point.picture, &mut report);
    BackupInfo {
        id: point.number.0,
        made_ms: point.made_ms,
        seqno: report.seqno,
        keyspaces: report.keyspaces,
        tables: report.tables,
        bytes: report.bytes,
    }
}

//! One table of the live set: what the manifest says of it, and the open file once asked for.
//!
//! A [`TableEntry`] is shared by every version that names the table, also when an edit moves it to
//! another level. When an edit removes the table for good, the set marks the entry obsolete after
//! that edit is durable; whoever then drops the last reference (a version, an iterator, a job)
//! puts the number on the shelf's dead list, and the owner of the directory takes it from there
//! (P17). Nothing here removes a file, and nothing calls up.
//!
//! Threads: any. `table` is one load once the table is open; opening is done by one thread at a
//! time for each table. Not here: who lives at which level (`version`), when that changes (`set`).

use crate::base::error::{Error, ErrorKind, REPAIR_TABLE, Result};
use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::base::sync::{Arc, Mutex};
use crate::base::types::FileId;
use crate::fs::{FileName, Fs};
use crate::table::{BirthIdentity, Table, TableContext, TableSummary};
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::OnceLock;

/// What the manifest says of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// The file's number now.
    pub file: FileId,
    /// Who it was at birth (R9): the number differs in checkpoints and after an ingest.
    pub identity: BirthIdentity,
    /// What it holds.
    pub summary: TableSummary,
}

/// Where the tables of one database live, and which of them are still held by somebody.
#[derive(Debug)]
pub(super) struct Shelf {
    fs: Fs,
    context: Arc<TableContext>,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// Files with a living entry.
    held: HashSet<FileId>,
    /// Files that a failed edit may have named in a manifest that can still be read.
    doubtful: BTreeSet<FileId>,
    /// Log segments that a failed edit may have registered there.
    doubtful_logs: HashSet<FileId>,
    /// Files that nothing can reach any more, until they are taken.
    dead: Vec<FileId>,
}

impl Shelf {
    pub(super) fn new(fs: &Fs, context: &Arc<TableContext>) -> Arc<Shelf> {
        Arc::new(Shelf {
            fs: fs.clone(),
            context: Arc::clone(context),
            books: Mutex::default(),
        })
    }

    /// The dead files; each is given once.
    pub(super) fn take_dead(&self) -> Vec<FileId> {
        std::mem::take(&mut self.books.lock().dead)
    }

    /// Counts files without an entry among the dead.
    pub(super) fn give_up(&self, files: impl IntoIterator<Item = FileId>) {
        self.books.lock().dead.extend(files);
    }

    /// True while somebody holds the table, or a manifest that can still be read may name it.
    pub(super) fn holds(&self, file: FileId) -> bool {
        let books = self.books.lock();
        books.held.contains(&file) || books.doubtful.contains(&file)
    }

    /// Keeps files that a failed edit wanted to add: it may be on the disk all the same (bug 44).
    pub(super) fn doubt(&self, files: impl IntoIterator<Item = FileId>, logs: &[FileId]) {
        let mut books = self.books.lock();
        books.doubtful.extend(files);
        books.doubtful_logs.extend(logs);
    }

    /// True for a log segment that a manifest which can still be read may name.
    pub(super) fn holds_log(&self, log: FileId) -> bool {
        self.books.lock().doubtful_logs.contains(&log)
    }

    /// A new manifest replaced the doubtful ones: what it does not name is dead.
    pub(super) fn settle(&self) {
        let mut books = self.books.lock();
        books.doubtful_logs.clear();
        let doubtful = std::mem::take(&mut books.doubtful);
        let dead: Vec<FileId> = doubtful
            .into_iter()
            .filter(|file| !books.held.contains(file))
            .collect();
        books.dead.extend(dead);
    }
}

/// A table of the live set: its facts, and the open table once somebody asked for it.
/// Dropping the last reference of one that an edit removed puts its number on the dead list.
pub struct TableEntry {
    meta: FileMeta,
    fresh: bool,
    open: OnceLock<Arc<Table>>,
    opening: Mutex<()>,
    obsolete: AtomicBool,
    /// `None` for a table without a home: a sketch, or one that was opened elsewhere.
    shelf: Option<Arc<Shelf>>,
}

impl TableEntry {
    /// An entry that opens `meta.file` from the shelf's directory when asked.
    pub(super) fn on_shelf(meta: FileMeta, fresh: bool, shelf: &Arc<Shelf>) -> Arc<TableEntry> {
        shelf.books.lock().held.insert(meta.file);
        Self::make(meta, fresh, OnceLock::new(), Some(Arc::clone(shelf)))
    }

    /// An entry of a table that is open already and that no manifest names.
    pub fn from_table(meta: FileMeta, table: Arc<Table>) -> Arc<TableEntry> {
        Self::make(meta, false, OnceLock::from(table), None)
    }

    /// An entry without a file, for specifications of what never reads.
    pub(super) fn sketched(meta: FileMeta) -> Arc<TableEntry> {
        Self::make(meta, false, OnceLock::new(), None)
    }

    fn make(
        meta: FileMeta,
        fresh: bool,
        open: OnceLock<Arc<Table>>,
        shelf: Option<Arc<Shelf>>,
    ) -> Arc<TableEntry> {
        Arc::new(TableEntry {
            meta,
            fresh,
            open,
            opening: Mutex::new(()),
            obsolete: AtomicBool::new(false),
            shelf,
        })
    }

    /// The facts.
    #[inline]
    pub fn meta(&self) -> &FileMeta {
        &self.meta
    }

    /// The open table; opens it at first use. One load when it is open.
    ///
    /// # Errors
    /// What opening says: `Corruption` when the file is missing or not the one meant. Nothing of a
    /// failure is kept, the next call tries again.
    #[inline]
    pub fn table(&self) -> Result<&Arc<Table>> {
        match self.open.get() {
            Some(table) => Ok(table),
            None => self.open_now(),
        }
    }

    #[cold]
    fn open_now(&self) -> Result<&Arc<Table>> {
        let _one_opener = self.opening.lock();
        if let Some(table) = self.open.get() {
            return Ok(table);
        }
        let Some(shelf) = &self.shelf else {
            return Err(Error::invalid("a sketched table has no file"));
        };
        let name = FileName::Table(self.meta.file);
        let file = shelf.fs.open_read(name).map_err(|error| {
            if error.kind() != ErrorKind::NotFound {
                return error;
            }
            Error::corruption("table that is missing")
                .at(shelf.fs.path(name))
                .expected("the file, because the manifest lists it", "none")
                .advice(REPAIR_TABLE)
                .caused_by(error)
        })?;
        let table = Table::open(
            file,
            self.meta.identity,
            self.meta.summary.bytes,
            self.fresh,
            &shelf.context,
        )?;
        Ok(self.open.get_or_init(|| Arc::new(table)))
    }

    /// The edit that removed it is durable: the last reference reports it dead.
    pub(super) fn retire(&self) {
        // Relaxed: `drop` has the entry to itself; the counter of the Arc orders it after this.
        self.obsolete.store(true, Ordering::Relaxed);
    }
}

impl Drop for TableEntry {
    fn drop(&mut self) {
        let Some(shelf) = &self.shelf else { return };
        let mut books = shelf.books.lock();
        books.held.remove(&self.meta.file);
        if *self.obsolete.get_mut() {
            books.dead.push(self.meta.file);
        }
    }
}

impl fmt::Debug for TableEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.open.get().is_some() {
            ", open"
        } else {
            ""
        };
        write!(f, "table {}{open}", self.meta.file)
    }
}

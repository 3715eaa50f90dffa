//! One table of the live set: what the manifest says of it, and the open file once asked for.
//!
//! A [`TableEntry`] is shared by every version that names the table, also when an edit moves it to
//! another level. When an edit removes the table for good, the set marks the entry obsolete after
//! that edit is durable; whoever then drops the last reference (a version, an iterator, a job)
//! puts the number on the dead list (`holdings`), and the owner of the directory takes it from there
//! (P17). Nothing here removes a file, and nothing calls up.
//!
//! Threads: any. `table` is one load once the table is open; opening is done by one thread at a
//! time for each table. Not here: who lives at which level (`version`), when that changes (`set`).

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::holdings::{Holding, Holdings};
use crate::base::error::{Error, ErrorKind, REPAIR_TABLE, Result};
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::sync::{Arc, Mutex};
use crate::base::types::{FileId, SeqNo};
use crate::fs::{FileName, Fs};
use crate::table::{BirthIdentity, Table, TableContext, TableSummary};
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
    /// Nothing is in it that a range deleted up to this number removed.
    pub deleted_through: SeqNo,
}

impl FileMeta {
    /// True when it may hold something that a deletion at `seqno` of keys among its own removes.
    pub fn may_miss(&self, seqno: SeqNo) -> bool {
        self.summary.seqnos.0 < seqno && self.deleted_through < seqno
    }
}

/// Where the tables of one database live, and which of them are still held by somebody.
#[derive(Debug)]
pub(super) struct Shelf {
    fs: Fs,
    context: Arc<TableContext>,
    pub(super) holdings: Arc<Holdings>,
}

impl Shelf {
    pub(super) fn new(fs: &Fs, context: &Arc<TableContext>) -> Arc<Shelf> {
        Arc::new(Shelf {
            fs: fs.clone(),
            context: Arc::clone(context),
            holdings: Arc::default(),
        })
    }
}

/// A table of the live set: its facts, and the open table once somebody asked for it.
/// Dropping the last reference of one that an edit removed puts its number on the dead list. The
/// open table goes before its holding: a file is dead only when nothing has it open.
pub struct TableEntry {
    meta: FileMeta,
    fresh: bool,
    open: OnceLock<Arc<Table>>,
    opening: Mutex<()>,
    /// See [`TableEntry::bytes_unmerged`].
    bytes_unmerged: AtomicU64,
    /// `None` for a table without a home: a sketch, or one that was opened elsewhere.
    home: Option<(Arc<Shelf>, Holding)>,
}

impl TableEntry {
    /// An entry that opens `meta.file` from the shelf's directory when asked.
    pub(super) fn on_shelf(meta: FileMeta, fresh: bool, shelf: &Arc<Shelf>) -> Arc<TableEntry> {
        let holding = Holding::new(&shelf.holdings, meta.file);
        let home = Some((Arc::clone(shelf), holding));
        Self::make(meta, fresh, OnceLock::new(), home)
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
        home: Option<(Arc<Shelf>, Holding)>,
    ) -> Arc<TableEntry> {
        Arc::new(TableEntry {
            bytes_unmerged: AtomicU64::new(meta.summary.bytes),
            meta,
            fresh,
            open,
            opening: Mutex::new(()),
            home,
        })
    }

    /// True when the table has a sequence number above `since`.
    pub fn holds_newer(&self, since: SeqNo) -> bool {
        since < self.meta.summary.seqnos.1
    }

    /// The facts.
    #[inline]
    pub fn meta(&self) -> &FileMeta {
        &self.meta
    }

    /// Its bytes, less what a compaction that is running has merged of them already: what is left to
    /// do, which falls while the job goes on and not all at once at its end.
    #[inline]
    pub fn bytes_unmerged(&self) -> u64 {
        // Relaxed, and so the store: an estimate for the writers' pace.
        self.bytes_unmerged.load(Ordering::Relaxed)
    }

    /// A running compaction has `share` of its input before it; 1 when it has failed.
    pub fn set_unmerged(&self, share: f64) {
        let bytes = self.meta.summary.bytes as f64 * share;
        self.bytes_unmerged.store(bytes as u64, Ordering::Relaxed);
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
        let Some((shelf, _)) = &self.home else {
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
        if let Some((_, holding)) = &self.home {
            holding.retire();
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

//! Which files somebody still holds, and which are dead: the books behind removal (P17).
//!
//! A file is held while its one [`Holding`] lives, wherever that is shared. When the edit that
//! removed it is durable the holding is retired; its end then puts the number on the dead list, and
//! whoever owns the directory takes it from there, once. A file that a failed edit may have named
//! on the disk is doubtful, and kept until a new manifest settles it (bug 44).
//!
//! Threads: any. Knows nothing of tables: a holding is a number and the right to it.

use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::base::sync::{Arc, Mutex};
use crate::base::types::FileId;
use std::collections::BTreeSet;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Holdings(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    /// Files with a living holding.
    held: BTreeSet<FileId>,
    /// Files that a failed edit may have named in a manifest that can still be read.
    doubtful: BTreeSet<FileId>,
    /// Log segments that a failed edit may have registered there.
    doubtful_logs: BTreeSet<FileId>,
    /// Files that nothing can reach any more, until they are taken.
    dead: Vec<FileId>,
}

impl Holdings {
    /// The dead files; each is given once.
    pub(crate) fn take_dead(&self) -> Vec<FileId> {
        std::mem::take(&mut self.0.lock().dead)
    }

    /// Counts files without a holding among the dead.
    pub(crate) fn give_up(&self, files: impl IntoIterator<Item = FileId>) {
        self.0.lock().dead.extend(files);
    }

    /// True while somebody holds the file, or a manifest that can still be read may name it.
    pub(crate) fn holds(&self, file: FileId) -> bool {
        let books = self.0.lock();
        books.held.contains(&file) || books.doubtful.contains(&file)
    }

    /// Keeps files that a failed edit wanted to add: it may be on the disk all the same (bug 44).
    pub(crate) fn doubt(&self, files: impl IntoIterator<Item = FileId>, logs: &[FileId]) {
        let mut books = self.0.lock();
        books.doubtful.extend(files);
        books.doubtful_logs.extend(logs);
    }

    /// True for a log segment that a manifest which can still be read may name.
    pub(crate) fn holds_log(&self, log: FileId) -> bool {
        self.0.lock().doubtful_logs.contains(&log)
    }

    /// A new manifest replaced the doubtful ones: what it does not name is dead.
    pub(crate) fn settle(&self) {
        let mut books = self.0.lock();
        books.doubtful_logs.clear();
        let doubtful = std::mem::take(&mut books.doubtful);
        let dead: Vec<FileId> = doubtful.difference(&books.held).copied().collect();
        books.dead.extend(dead);
    }
}

/// The one holding of a file, shared by whoever reaches it.
#[derive(Debug)]
pub(crate) struct Holding {
    file: FileId,
    obsolete: AtomicBool,
    holdings: Arc<Holdings>,
}

impl Holding {
    pub(crate) fn new(holdings: &Arc<Holdings>, file: FileId) -> Self {
        holdings.0.lock().held.insert(file);
        Holding {
            file,
            obsolete: AtomicBool::new(false),
            holdings: Arc::clone(holdings),
        }
    }

    /// Its end reports the file dead. Called by somebody who holds it.
    pub(crate) fn retire(&self) {
        // Relaxed: `drop` has it to itself; the counter of the Arc orders that after this.
        self.obsolete.store(true, Ordering::Relaxed);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut books = self.holdings.0.lock();
        books.held.remove(&self.file);
        if self.obsolete.load(Ordering::Relaxed) {
            books.dead.push(self.file);
        }
    }
}

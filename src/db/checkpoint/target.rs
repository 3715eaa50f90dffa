//! A directory in which a database is being made from another one's tables.
//!
//! From its first table to its last name it has the mark UNFINISHED, which is durable before anything
//! else is in it; while there is no CURRENT, opening it is refused for that. CURRENT is renamed last,
//! when everything is durable, and makes it a database at once; then the mark goes. One that a crash
//! or an error left unfinished is begun anew by the next who wants it.
//!
//! Threads: one; the directory's lock is held.

use crate::base::error::{Error, Result};
use crate::base::sync::Arc;
use crate::db::sweep::remove_if_there;
use crate::fs::{DirLock, FileName, Fs};
use crate::table::TableContext;
use crate::version::{Rebuild, VersionSet};

/// Dropped before [`Target::finish`], it removes what it has made.
#[derive(Debug)]
pub(crate) struct Target {
    fs: Fs,
    lock: Option<DirLock>,
    /// There was no directory before.
    is_new: bool,
    is_whole: bool,
}

impl Target {
    /// Takes the directory, which is not there, empty, or an unfinished copy, and marks it.
    ///
    /// # Errors
    /// `InvalidArgument` when something else is in it, `Locked`, what the file system says.
    pub(crate) fn begin(fs: &Fs) -> Result<Target> {
        let is_new = !fs.root_exists()?;
        if !is_new {
            // Before the lock, which would leave a LOCK in a directory of somebody else's.
            look_for_room(fs)?;
        }
        fs.make_root()?;
        let lock = fs.lock()?;
        // Somebody may have been faster.
        let is_unfinished = look_for_room(fs)?;
        let target = Target {
            fs: fs.clone(),
            lock: Some(lock),
            is_new,
            is_whole: false,
        };
        if is_unfinished {
            target.clear()?;
        } else {
            fs.create_new(FileName::Unfinished)?;
        }
        // The mark has no bytes. Without its name a table beside it would look like a lost CURRENT.
        fs.sync_dir()?;
        Ok(target)
    }

    /// Makes it the database that `picture` says. All tables are synced, but their names are not.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn finish(mut self, context: &Arc<TableContext>, picture: Rebuild) -> Result<()> {
        // This syncs the directory before CURRENT is renamed, and again after it (K2, R8).
        VersionSet::rebuild(&self.fs, context, picture)?.close()?;
        self.is_whole = true;
        // It is a database, and durable, whatever becomes of the mark: the next open removes it.
        let _ = self.unmark();
        Ok(())
    }

    fn unmark(&self) -> Result<()> {
        remove_if_there(&self.fs, FileName::Unfinished)?;
        self.fs.sync_dir()
    }

    /// Removes everything of ours but LOCK and the mark.
    fn clear(&self) -> Result<()> {
        // CURRENT first, and for good: without tables it would be a damaged database.
        remove_if_there(&self.fs, FileName::Current)?;
        self.fs.sync_dir()?;
        for entry in self.fs.list()? {
            match FileName::parse(&entry.name) {
                None | Some(FileName::Lock | FileName::Unfinished) => {}
                Some(name) => remove_if_there(&self.fs, name)?,
            }
        }
        self.fs.sync_dir()
    }

    fn abandon(&mut self) -> Result<()> {
        self.clear()?;
        self.unmark()?;
        if self.is_new {
            // LOCK goes with its directory, while it is held (P21).
            self.fs.remove_root()?;
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.is_whole {
            // Why it is given up is the error to report; what stays is marked.
            let _ = self.abandon();
        }
        self.lock.take();
    }
}

/// True for an unfinished copy.
///
/// # Errors
/// `InvalidArgument` when there is anything else.
fn look_for_room(fs: &Fs) -> Result<bool> {
    let entries = fs.list()?;
    let has = |name: FileName| entries.iter().any(|entry| entry.name == name.to_string());
    if has(FileName::Unfinished) && !has(FileName::Current) {
        return Ok(true);
    }
    match entries
        .iter()
        .find(|e| e.name != FileName::Lock.to_string())
    {
        None => Ok(false),
        Some(other) => Err(Error::invalid("the directory is not empty")
            .at(fs.root())
            .expected(
                "a new or an empty directory",
                format!("'{}' in it", other.name),
            )
            .advice("Nothing was changed. Name another directory, or empty this one.")),
    }
}

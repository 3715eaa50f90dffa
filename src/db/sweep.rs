//! Removal of files: tables that nothing can reach, what a failed job or log segment left, and at
//! open whatever a crash left behind.
//!
//! A file that could not be removed, or that a doubtful manifest may still name, stays on a list
//! and is tried again with the next sweep, so that nothing is left when a fault has passed (P14).

use super::core::Core;
use super::reserve::Reserve;
use crate::base::error::{ErrorKind, Result};
use crate::base::sync::Mutex;
use crate::base::types::FileId;
use crate::fs::{FileName, Fs};
use crate::version::VersionSet;

/// Files to remove as soon as that can be done.
#[derive(Debug, Default)]
pub(crate) struct Leftovers(Mutex<Vec<FileName>>);

impl Leftovers {
    /// To be removed with the next sweep.
    pub(crate) fn add(&self, name: FileName) {
        self.0.lock().push(name);
    }

    /// Removes what can be removed.
    ///
    /// # Errors
    /// The first failure; that file and all others were tried, and stay on the list.
    pub(crate) fn sweep(&self, fs: &Fs, versions: &VersionSet) -> Result<()> {
        let names = std::mem::take(&mut *self.0.lock());
        let mut left = Vec::new();
        let mut failure = None;
        for name in names {
            let in_doubt = match name {
                FileName::Table(file) => versions.is_live_table(file),
                FileName::Log(file) => versions.is_live_log(file),
                _ => false,
            };
            if in_doubt {
                left.push(name);
            } else if let Err(error) = remove_if_there(fs, name) {
                failure.get_or_insert(error);
                left.push(name);
            }
        }
        if !left.is_empty() {
            self.0.lock().append(&mut left);
        }
        failure.map_or(Ok(()), Err)
    }
}

impl Core {
    /// Removes the tables whose last reference went away (P17), and leftovers.
    pub(crate) fn sweep_dead(&self) -> Result<()> {
        for file in self.versions.take_dead() {
            self.leftovers.add(FileName::Table(file));
        }
        self.leftovers.sweep(&self.fs, &self.versions)
    }

    /// As [`Core::sweep_dead`], and replaced manifests too.
    pub(crate) fn tidy(&self) -> Result<()> {
        self.sweep_dead()?;
        self.versions.remove_stale()
    }
}

/// Removes files of ours that the manifest does not name (P5). Names that are not ours stay, and
/// so does a reserve of the right size.
pub(crate) fn sweep_orphans(
    fs: &Fs,
    versions: &VersionSet,
    logs: &[FileId],
    reserve: &Reserve,
) -> Result<u64> {
    let mut removed = 0;
    for entry in fs.list()? {
        let orphan = match FileName::parse(&entry.name) {
            None | Some(FileName::Lock | FileName::Current) => continue,
            Some(FileName::Ballast) => (!reserve.adopt(entry.len)).then_some(FileName::Ballast),
            Some(name @ FileName::Table(file)) => (!versions.is_live_table(file)).then_some(name),
            Some(name @ FileName::Log(file)) => (!logs.contains(&file)).then_some(name),
            Some(name @ FileName::Manifest(file)) => (file != versions.manifest()).then_some(name),
            // Beside a CURRENT the mark of a copy is left over: it is whole.
            Some(name @ (FileName::Temp(_) | FileName::Unfinished)) => Some(name),
            Some(FileName::Backups | FileName::Point(_) | FileName::Stored(_)) => continue,
        };
        if let Some(name) = orphan {
            remove_if_there(fs, name)?;
            removed += 1;
        }
    }
    if removed > 0 {
        fs.sync_dir()?;
    }
    Ok(removed)
}

/// Removes a file; one that is not there is removed already.
pub(super) fn remove_if_there(fs: &Fs, name: FileName) -> Result<()> {
    match fs.remove(name) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

//! Removal of files: tables that nothing can reach, and at open whatever a crash left behind.

use super::core::Core;
use crate::base::error::{ErrorKind, Result};
use crate::base::types::FileId;
use crate::fs::{FileName, Fs};
use crate::version::VersionSet;

impl Core {
    /// Removes the tables whose last reference went away (P17).
    pub(crate) fn sweep_dead(&self) -> Result<()> {
        for file in self.versions.take_dead() {
            remove_if_there(&self.fs, FileName::Table(file))?;
        }
        Ok(())
    }
}

/// Removes files of ours that the manifest does not name (P5). Names that are not ours stay.
pub(crate) fn sweep_orphans(fs: &Fs, versions: &VersionSet, logs: &[FileId]) -> Result<u64> {
    let mut removed = 0;
    for entry in fs.list()? {
        let orphan = match FileName::parse(&entry.name) {
            None | Some(FileName::Lock | FileName::Current) => continue,
            Some(name @ FileName::Table(file)) => (!versions.is_live_table(file)).then_some(name),
            Some(name @ FileName::Log(file)) => (!logs.contains(&file)).then_some(name),
            Some(name @ FileName::Manifest(file)) => (file != versions.manifest()).then_some(name),
            Some(name @ FileName::Temp(_)) => Some(name),
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

fn remove_if_there(fs: &Fs, name: FileName) -> Result<()> {
    match fs.remove(name) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

//! Files of the set that were of no use: given up by a job, or replaced and not removed yet.

use super::set::VersionSet;
use crate::base::error::{ErrorKind, Result};
use crate::base::types::FileId;

impl VersionSet {
    /// Tables that a job made and nobody installed: they are dead. One that a failed edit may have
    /// named counts as live ([`Self::is_live_table`]) until a new manifest has settled that.
    pub fn give_up(&self, files: impl IntoIterator<Item = FileId>) {
        self.shelf.holdings.give_up(files);
    }

    /// Tries again to remove manifests that were replaced, and remains of switches that failed.
    ///
    /// # Errors
    /// What removing the first of them gave; they are kept in mind and stay on the disk.
    pub fn remove_stale(&self) -> Result<()> {
        let mut writing = self.writing.lock();
        if self.poisoned() {
            // Any of them may be the one that a power cut brings back.
            return Ok(());
        }
        let mut failure = None;
        writing.stale.retain(|&name| match self.fs.remove(name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                failure.get_or_insert(error);
                true
            }
            _ => false,
        });
        failure.map_or(Ok(()), Err)
    }
}

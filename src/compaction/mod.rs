//! Pure choice (version → job), then plain labour (job → files and edit).
//!
//! ```text
//! policy::pick(&Version, &Busy, …) ⇐ Job          no files are touched
//! execute(&Job, &Workshop)         ⇐ Outcome      read::Merge → drop_rules → split → Builders
//! flush(&[Memtable], &Workshop)    ⇐ Outcome      the same, from memory to level 0
//! ```
//! Nothing is installed here: an [`Outcome`] carries the edit that makes its files the truth. The
//! caller reserves a job in [`Busy`] before it runs and releases it after its edit is installed.
//!
//! Invariants: C1 a job that fails leaves its inputs as they are and removes what it made (P9);
//! C2 an entry goes only where a newer version hides it from every snapshot, or where it is a
//! deletion with nothing older beneath (`drop_rules`; what has expired for everybody is one,
//! `expired`); C3 all versions of a user key are in one
//! table of a run (`split`); C4 every entry of the inputs was seen, counted against the manifest.
//! Threads: jobs run side by side as far as `Busy` lets them. Not here: when to ask (tree), where
//! the edit goes (version), which files are dead.

mod drop_rules;
mod executor;
mod expired;
mod filtering;
mod fold;
mod job;
pub mod policy;
mod split;
#[cfg(test)]
mod tests;

use crate::base::error::Result;
use crate::base::hooks::Folding;
use crate::base::options::KeyspaceOptions;
use crate::base::sync::atomic::AtomicBool;
use crate::base::types::{FileId, KeyspaceId, SeqNo, Time};
use crate::fs::Fs;
use crate::table::BirthIdentity;
use crate::version::KeyspaceEdit;
use std::fmt;

pub use executor::{execute, flush, load};
pub use filtering::Filtering;
pub use job::{Busy, Job, Reason};

/// What labour needs from outside.
pub struct Workshop<'a> {
    /// Where files are made.
    pub fs: &'a Fs,
    /// Gives numbers for new files.
    pub allocate_file: &'a dyn Fn() -> Result<FileId>,
    /// Gives the order of a new run.
    pub allocate_order: &'a dyn Fn() -> u64,
    /// Database and hash seed for new identities (the file number is filled in).
    pub identity: BirthIdentity,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// Its options.
    pub options: &'a KeyspaceOptions,
    /// What its merges mean.
    pub folding: Folding,
    /// Live snapshots ascending, the last is what is visible now. Empty: nothing is dropped.
    pub snapshots: &'a [SeqNo],
    /// What expires up to then has expired for all of them; `None`: nothing has.
    pub expired: Option<Time>,
    /// The keyspace's filter, and what it may be asked about.
    pub filtering: Option<Filtering>,
    /// Set when the job should give up (close).
    pub stop: &'a AtomicBool,
    /// Called every thousand entries or mebibyte, with the bytes written since the last time: lets a
    /// flush go first, and waits where there is a limit on writing.
    pub breathe: &'a dyn Fn(u64),
    /// Called whenever a compaction has merged a few percent more of its inputs and has told their
    /// entries so.
    pub progressed: &'a dyn Fn(),
}

impl fmt::Debug for Workshop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workshop")
            .field("keyspace", &self.keyspace)
            .field("snapshots", &self.snapshots)
            .finish_non_exhaustive()
    }
}

/// What a job made: the edit that makes it the truth, and figures.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Added and removed tables. Nothing is installed yet; files and directory are synced.
    pub edit: KeyspaceEdit,
    /// Bytes read from inputs.
    pub bytes_read: u64,
    /// Bytes of outputs.
    pub bytes_written: u64,
    /// Entries dropped.
    pub entries_dropped: u64,
    /// Values that the filter removed or changed.
    pub filtered: u64,
}

//! Pure choice (version -> job), then plain labour (job -> files and edit).
//! SKELETON: owned by the compaction room.

use crate::base::error::Result;
use crate::base::options::KeyspaceOptions;
use crate::base::sync::{Arc, atomic::AtomicBool};
use crate::base::types::{FileId, KeyspaceId, SeqNo};
use crate::fs::Fs;
use crate::memtable::Memtable;
use crate::table::BirthIdentity;
use crate::version::{AddedTable, KeyspaceEdit, TableEntry, Version};
use std::collections::HashSet;

/// Why a job is done; shown in stats and traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Too many runs in a level.
    Runs,
    /// Level too large.
    Size,
    /// Many tombstones.
    Tombstones,
    /// Asked for.
    Manual,
    /// Nothing else to do.
    Idle,
}

/// A compaction to be done: a pure value.
#[derive(Clone, Debug)]
pub struct Job {
    /// Why.
    pub reason: Reason,
    /// Inputs, newest first: level, run order, tables ascending.
    pub inputs: Vec<(u8, u64, Vec<Arc<TableEntry>>)>,
    /// Level of the outputs.
    pub output_level: u8,
    /// Run the outputs join; `None` makes a new, newest run of that level.
    pub output_order: Option<u64>,
    /// Inputs only change their level: no bytes are read.
    pub trivial_move: bool,
    /// Keys at which outputs are cut (boundaries of the tables below).
    pub cuts: Vec<Vec<u8>>,
    /// Tables not in the job that may hold older versions of its keys: a tombstone is dropped only
    /// where none of them overlaps its key.
    pub below: Vec<Arc<TableEntry>>,
}

/// Tables that running jobs use.
pub type Busy = HashSet<FileId>;

pub mod policy {
    //! SKELETON
    use super::*;
    /// The most urgent job, if one is due. Pure: same arguments, same answer.
    pub fn pick(
        _version: &Version,
        _busy: &Busy,
        _options: &KeyspaceOptions,
        _idle: bool,
    ) -> Option<Job> {
        unimplemented!()
    }
    /// How far behind compaction is: 0.0 nothing to do, 1.0 writers should wait.
    pub fn debt(_version: &Version, _options: &KeyspaceOptions) -> f64 {
        unimplemented!()
    }
    /// The next job of a manual compaction of a user-key range (inclusive bounds, `None` open) to the last level; `None` when done.
    pub fn pick_manual(
        _version: &Version,
        _busy: &Busy,
        _options: &KeyspaceOptions,
        _from: Option<&[u8]>,
        _to: Option<&[u8]>,
    ) -> Option<Job> {
        unimplemented!()
    }
}

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
    /// Live snapshots ascending, the last is what is visible now.
    pub snapshots: &'a [SeqNo],
    /// Set when the job should give up (close).
    pub stop: &'a AtomicBool,
    /// Called once per output block or so: lets a flush go first.
    pub breathe: &'a dyn Fn(),
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
}

/// Does a job. On error the outputs made so far are removed again.
pub fn execute(_job: &Job, _workshop: &Workshop<'_>) -> Result<Outcome> {
    unimplemented!()
}

/// Writes memtables (newest first, none takes writes any more) as one new run of level 0, dropping versions nobody can see.
pub fn flush(_memtables: &[Arc<Memtable>], _workshop: &Workshop<'_>) -> Result<Outcome> {
    unimplemented!()
}

#[allow(dead_code)]
fn _keep(_: Vec<AddedTable>) {}

//! Jobs as values, and the book of those that are running.
//!
//! A [`Job`] names its inputs newest first and says where their merge goes. [`Busy`] remembers
//! what running jobs use: the files they read, and the *passage* each takes through the levels. A
//! job from level `i` to level `o` passes the floors `i + 1 ..= o` (floor `l` lies on top of level
//! `l`); one that stays in its level passes that level's own floor. Two jobs whose passages share
//! a floor and a key never run at once (J2), so nobody overtakes an older version of a key, and
//! two new tables of one run never overlap. A job that makes a new run passes with every key,
//! because the order of its run has to be newest of its level when it is installed.
//!
//! Invariants: J1 input files of running jobs are disjoint; J2 as above.
//! Threads: plain data; the owner locks. Not here: which job is due (`policy`), the work
//! (`executor`).

use crate::base::ranges::Pieces;
use crate::base::sync::Arc;
use crate::base::types::{FileId, SeqNo};
use crate::version::TableEntry;
use std::collections::HashSet;
use std::fmt;

/// Why a job is done; shown in stats and traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Too many runs in a level.
    Runs,
    /// Level too large.
    Size,
    /// Many tombstones.
    Tombstones,
    /// Much of it has expired.
    Expired,
    /// All its keys are deleted with ranges.
    Deleted,
    /// More is kept than the keyspace is to keep, and it is the oldest.
    Oldest,
    /// Asked for.
    Manual,
    /// Nothing else to do.
    Idle,
}

impl Reason {
    /// A word for it.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Runs => "runs",
            Reason::Size => "size",
            Reason::Tombstones => "tombstones",
            Reason::Expired => "expired",
            Reason::Deleted => "deleted",
            Reason::Oldest => "oldest",
            Reason::Manual => "manual",
            Reason::Idle => "idle",
        }
    }
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
    /// Inputs only go. No bytes are read: all their keys are deleted with ranges, for everybody, or
    /// they are to be forgotten ([`Job::forgets_from`]).
    pub drops: bool,
    /// Keys at which outputs are cut (boundaries of the tables below), ascending.
    pub cuts: Vec<Vec<u8>>,
    /// Tables not in the job that may hold older versions of its keys: a tombstone is dropped only
    /// where none of them overlaps its key.
    pub below: Vec<Arc<TableEntry>>,
    /// Ranges deleted over all levels when the job was chosen.
    pub deleted: Arc<Pieces>,
}

impl Job {
    /// All input tables.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableEntry>> {
        self.inputs.iter().flat_map(|(_, _, tables)| tables)
    }

    /// Bytes of all input files.
    pub fn bytes(&self) -> u64 {
        self.tables()
            .fold(0, |sum, t| sum.saturating_add(t.meta().summary.bytes))
    }

    /// The first number of what the keyspace is to forget: the job may be installed only while nobody
    /// reads there or later.
    pub fn forgets_from(&self) -> Option<SeqNo> {
        if self.reason != Reason::Oldest {
            return None;
        }
        self.tables().map(|t| t.meta().summary.seqnos.0).min()
    }

    /// Smallest and largest user key of the inputs; `None` for a job without inputs.
    pub fn hull(&self) -> Option<(&[u8], &[u8])> {
        let smallest = self.tables().map(|t| t.meta().summary.smallest.as_slice());
        let largest = self.tables().map(|t| t.meta().summary.largest.as_slice());
        Some((smallest.min()?, largest.max()?))
    }

    fn passage(&self) -> Passage {
        let top = self.inputs.iter().map(|(level, ..)| *level).min();
        let keys = self.output_order.and_then(|_| self.hull());
        Passage {
            floors: (
                top.unwrap_or(self.output_level)
                    .saturating_add(1)
                    .min(self.output_level),
                self.output_level,
            ),
            keys: keys.map(|(from, to)| (from.to_vec(), to.to_vec())),
        }
    }
}

/// `merge L0.3[a-m] L1.1[a-b c-d] -> L1.1 (runs)`, as specifications and traces show it.
impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.drops, self.trivial_move) {
            (true, _) => "drop",
            (_, true) => "move",
            _ => "merge",
        })?;
        for (level, order, tables) in &self.inputs {
            write!(f, " L{level}.{order}[")?;
            for (i, table) in tables.iter().enumerate() {
                let summary = &table.meta().summary;
                write!(
                    f,
                    "{}{}-{}",
                    if i == 0 { "" } else { " " },
                    summary.smallest.escape_ascii(),
                    summary.largest.escape_ascii()
                )?;
            }
            f.write_str("]")?;
        }
        if self.drops {
            return write!(f, " ({:?})", self.reason);
        }
        write!(f, " -> L{}.", self.output_level)?;
        match self.output_order {
            Some(order) => write!(f, "{order}")?,
            None => f.write_str("new")?,
        }
        if !self.cuts.is_empty() {
            f.write_str(" cut at")?;
            for cut in &self.cuts {
                write!(f, " {}", cut.escape_ascii())?;
            }
        }
        if !self.below.is_empty() {
            write!(f, " above {}", self.below.len())?;
        }
        write!(f, " ({:?})", self.reason)
    }
}

/// What running jobs use.
#[derive(Clone, Debug, Default)]
pub struct Busy {
    files: HashSet<FileId>,
    passages: Vec<Passage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Passage {
    /// First and last floor passed.
    floors: (u8, u8),
    /// `None`: every key.
    keys: Option<(Vec<u8>, Vec<u8>)>,
}

impl Passage {
    fn meets(&self, other: &Passage) -> bool {
        let floors = self.floors.0 <= other.floors.1 && other.floors.0 <= self.floors.1;
        let keys = match (&self.keys, &other.keys) {
            (Some(a), Some(b)) => a.0 <= b.1 && b.0 <= a.1,
            _ => true,
        };
        floors && keys
    }
}

impl Busy {
    /// True when no job runs.
    pub fn is_empty(&self) -> bool {
        self.passages.is_empty()
    }

    /// True while a running job reads the file.
    pub fn reads(&self, file: FileId) -> bool {
        self.files.contains(&file)
    }

    /// True when `job` may run beside those that are running.
    pub fn admits(&self, job: &Job) -> bool {
        if self.is_empty() {
            return true;
        }
        let passage = job.passage();
        !job.tables().any(|t| self.reads(t.meta().file))
            && !self.passages.iter().any(|p| p.meets(&passage))
    }

    /// Notes that `job` runs from now on.
    pub fn reserve(&mut self, job: &Job) {
        assert!(
            self.admits(job),
            "J1, J2: a job overlaps one that is running"
        );
        self.files.extend(job.tables().map(|t| t.meta().file));
        self.passages.push(job.passage());
    }

    /// Notes that `job`, which was reserved, has ended, well or badly.
    pub fn release(&mut self, job: &Job) {
        for table in job.tables() {
            self.files.remove(&table.meta().file);
        }
        let passage = job.passage();
        if let Some(i) = self.passages.iter().position(|p| *p == passage) {
            self.passages.swap_remove(i);
        }
    }
}

//! A point read step by step: what it asks, in order, and what it is told.
//!
//! The questions of `get`, asked one at a time and written down. It ends where that ends: at the newest
//! visible version of the key, or, where that is an operand of a merge, at the first that is none. Not
//! here: how a report is asked for (`db`).

use super::get::{get, hash_for};
use super::snapshot::At;
use super::view::View;
use crate::base::error::Result;
use crate::base::types::{FileId, SeqNo, Tag, ValueKind};
use crate::version::SortedRun;
use std::fmt;

/// What a get asks and is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetReport {
    /// The key.
    pub key: Vec<u8>,
    /// Writes up to this one are seen.
    pub at: SeqNo,
    /// The places that are asked, newest first.
    pub steps: Vec<GetStep>,
    /// The key lies in a range that was deleted; versions older than this are gone.
    pub deleted_at: Option<SeqNo>,
    /// Bytes of the value that the get gives; `None`: there is none.
    pub value_bytes: Option<u64>,
}

/// One place, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetStep {
    /// What is asked.
    pub place: GetPlace,
    /// What it says.
    pub answer: GetAnswer,
}

/// What a get asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GetPlace {
    /// The memtable that takes writes.
    Memtable,
    /// A memtable that waits for its flush.
    Waiting,
    /// A run of tables.
    Run {
        /// Level.
        level: u8,
        /// Order among the runs of the level; higher is newer.
        order: u64,
        /// The file number of the one table that may hold the key, if there is one.
        file: Option<u64>,
    },
}

/// What a place says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GetAnswer {
    /// No table of the run reaches over the key: two comparisons of integers.
    OutOfRange,
    /// The filter rules the key out: one cache line was read.
    FilteredOut,
    /// It has no visible version of the key. A table was read for that, and its filter was wrong or is
    /// not kept.
    Nothing,
    /// The newest version there that is visible.
    Version {
        /// Its number.
        seqno: SeqNo,
        /// What it is.
        kind: VersionKind,
        /// Bytes of its value, or of its operand.
        bytes: u64,
    },
}

/// What a version of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VersionKind {
    /// A value.
    Value,
    /// A value that expires, or has.
    Expiring,
    /// A deletion.
    Deletion,
    /// An operand of a merge: what is older is needed, too.
    Operand,
}

/// See `Keyspace::explain_get`.
///
/// # Errors
/// Those of the tables that must be asked.
pub fn explain_get(view: &View, key: &[u8], at: At) -> Result<GetReport> {
    let mut steps = Vec::new();
    let hash = view.hasher.hash(key);
    let memtables = view.memtables().enumerate().map(|(i, memtable)| {
        let place = if i == 0 {
            GetPlace::Memtable
        } else {
            GetPlace::Waiting
        };
        let found = memtable.get(key, hash, at.seqno);
        let answer = found.map_or(GetAnswer::Nothing, |found| version(found.tag, found.value));
        Ok(GetStep { place, answer })
    });
    let levels = (0u8..).zip(&view.version.levels);
    let runs = levels.flat_map(|(level, runs)| runs.iter().map(move |run| (level, run)));
    let runs = runs.map(|(level, run)| ask_run(view, level, run, key, at.seqno));
    for step in memtables.chain(runs) {
        let step = step?;
        steps.push(step);
        if is_last(&step.answer) {
            break;
        }
    }
    let deleted_at = view.deletion_of(key, at.seqno);
    let value = get(view, key, at)?;
    Ok(GetReport {
        key: key.to_vec(),
        at: at.seqno,
        steps,
        deleted_at: (deleted_at != SeqNo::ZERO).then_some(deleted_at),
        value_bytes: value.bytes().map(|value| value.len() as u64),
    })
}

fn ask_run(view: &View, level: u8, run: &SortedRun, key: &[u8], at: SeqNo) -> Result<GetStep> {
    let entry = run.find(key);
    let place = GetPlace::Run {
        level,
        order: run.order,
        file: entry.map(|entry| entry.meta().file.0),
    };
    let answer = match entry {
        None => GetAnswer::OutOfRange,
        Some(entry) => {
            let table = entry.table()?;
            let hash = hash_for(view, table, key, view.hasher.hash(key));
            match table.may_contain(hash) {
                false => GetAnswer::FilteredOut,
                true => match table.get(key, hash, at)? {
                    None => GetAnswer::Nothing,
                    Some(found) => version(found.tag, found.bytes()),
                },
            }
        }
    };
    Ok(GetStep { place, answer })
}

fn version(tag: Tag, value: &[u8]) -> GetAnswer {
    GetAnswer::Version {
        seqno: tag.seqno(),
        kind: match tag.kind() {
            ValueKind::PutExpiring => VersionKind::Expiring,
            ValueKind::Delete => VersionKind::Deletion,
            ValueKind::Merge => VersionKind::Operand,
            _ => VersionKind::Value,
        },
        bytes: value.len() as u64,
    }
}

/// True for a version that needs nothing older.
fn is_last(answer: &GetAnswer) -> bool {
    match answer {
        GetAnswer::Version { kind, .. } => *kind != VersionKind::Operand,
        _ => false,
    }
}

impl fmt::Display for GetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "get \"{}\" at {}",
            self.key.escape_ascii(),
            self.at.get()
        )?;
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        if let Some(seqno) = self.deleted_at {
            writeln!(
                f,
                "  what is older than {} was deleted with a range",
                seqno.get()
            )?;
        }
        match self.value_bytes {
            Some(bytes) => write!(f, "a value of {bytes} bytes"),
            None => f.write_str("no value"),
        }
    }
}

impl fmt::Display for GetStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            GetPlace::Memtable => f.write_str("memtable")?,
            GetPlace::Waiting => f.write_str("memtable that waits for its flush")?,
            GetPlace::Run { level, order, file } => {
                write!(f, "level {level}, run {order}")?;
                if let Some(file) = file {
                    write!(f, ", table {}", FileId(file))?;
                }
            }
        }
        match self.answer {
            GetAnswer::OutOfRange => f.write_str(": no table reaches over it"),
            GetAnswer::FilteredOut => f.write_str(": the filter rules it out"),
            GetAnswer::Nothing => f.write_str(": nothing"),
            GetAnswer::Version { seqno, kind, bytes } => {
                let kind = match kind {
                    VersionKind::Value => "value",
                    VersionKind::Expiring => "value that expires",
                    VersionKind::Deletion => "deletion",
                    VersionKind::Operand => "operand",
                };
                write!(f, ": {kind} of {bytes} bytes, number {}", seqno.get())
            }
        }
    }
}

//! One moment's files of one keyspace: levels of sorted runs.
//!
//! Level `l` is newer than level `l + 1`; within a level runs stand newest first (larger order
//! first). A version never changes: an edit makes the next one, which shares every run that the
//! edit leaves alone.
//!
//! Invariants (checked whenever a version is made): V1 no empty run; V2 the last level has a run;
//! V3 orders descend within a level; V4 the tables of a run ascend and do not overlap (see `run`); V5
//! a deletion of a range is here as long as a table may hold something that it deletes.
//!
//! Deleted ranges belong to no table: they lie over all of them, whatever becomes of the tables. So
//! nothing is cut at the bounds of tables and nothing carried along by compactions; a read asks one
//! list, and a deletion is gone with the last table that it matters to.
//! Threads: immutable, shared as `Arc<Version>`. Not here: which file is whose (`ledger`), disk.

use super::edit::KeyspaceEdit;
use super::file_meta::{FileMeta, TableEntry};
use super::run::SortedRun;
use crate::base::error::{Error, Result};
use crate::base::ranges::{HalfOpen, Pieces};
use crate::base::sync::Arc;
use crate::base::types::SeqNo;
use std::collections::BTreeMap;

/// Levels a keyspace may have. With a ratio of 2 and 64 KiB at the top this holds 2^47 bytes.
pub const LEVELS_MAX: usize = 32;

/// One moment's files of one keyspace. Level `l` is newer than level `l + 1`; within a level runs
/// stand newest first. Immutable, shared.
#[derive(Clone, Debug, Default)]
pub struct Version {
    /// Never has empty runs; trailing empty levels are cut off.
    pub levels: Vec<Vec<SortedRun>>,
    /// Ranges deleted over all levels.
    pub deleted: Arc<Pieces>,
}

impl Version {
    /// Makes a version of tables in any order, each with its level and run order.
    ///
    /// # Errors
    /// `InvalidArgument` when a level is too deep or tables of one run overlap.
    pub fn of(tables: impl IntoIterator<Item = (u8, u64, Arc<TableEntry>)>) -> Result<Version> {
        let mut changed: BTreeMap<(u8, u64), Vec<Arc<TableEntry>>> = BTreeMap::new();
        for (level, order, table) in tables {
            changed.entry((level, order)).or_default().push(table);
        }
        Version::default().with_runs(changed)
    }

    /// The version after `edit`, and the entries that the edit removed for good. `make` gives the
    /// entry of a table that is new; one that moves keeps the entry it has.
    ///
    /// # Errors
    /// `InvalidArgument` when a removed table is not at its level, a moved one changes its facts,
    /// a level is too deep, or tables of one run would overlap.
    pub(super) fn edited(
        &self,
        edit: &KeyspaceEdit,
        mut make: impl FnMut(&FileMeta, bool) -> Arc<TableEntry>,
    ) -> Result<(Version, Vec<Arc<TableEntry>>)> {
        let mut changed: BTreeMap<(u8, u64), Vec<Arc<TableEntry>>> = BTreeMap::new();
        let lift = |changed: &mut BTreeMap<_, Vec<_>>, level: u8, run: &SortedRun| {
            let tables = changed.entry((level, run.order));
            tables.or_insert_with(|| run.tables.to_vec());
        };
        let mut removed = Vec::with_capacity(edit.removed.len());
        for &(level, file) in &edit.removed {
            let (run, table) = self
                .level(level)
                .iter()
                .find_map(|run| Some((run, run.tables.iter().find(|t| t.meta().file == file)?)))
                .ok_or_else(|| {
                    Error::invalid(format!("table {file} is removed from level {level}"))
                        .expected("a table that is there", "none")
                })?;
            removed.push(Arc::clone(table));
            lift(&mut changed, level, run);
            if let Some(tables) = changed.get_mut(&(level, run.order)) {
                tables.retain(|t| t.meta().file != file);
            }
        }
        for added in &edit.added {
            if let Some(run) = self
                .level(added.level)
                .iter()
                .find(|r| r.order == added.order)
            {
                lift(&mut changed, added.level, run);
            }
            let moved = removed
                .iter()
                .position(|t| t.meta().file == added.meta.file);
            let table = match moved {
                Some(index) => removed.swap_remove(index),
                None => make(&added.meta, added.fresh),
            };
            if *table.meta() != added.meta {
                return Err(Error::invalid(format!(
                    "table {} changes while it moves",
                    added.meta.file
                )));
            }
            let tables = changed.entry((added.level, added.order)).or_default();
            tables.push(table);
        }
        let deleted = match edit.deleted.is_empty() {
            true => Arc::clone(&self.deleted),
            false => Arc::new(self.deleted.merged(&edit.deleted)),
        };
        Ok((self.with_runs(changed)?.with_deleted(deleted), removed))
    }

    /// This version with those of `deleted` that matter to a table (V5).
    pub(super) fn with_deleted(self, deleted: Arc<Pieces>) -> Version {
        let matters = |range: &HalfOpen, seqno: SeqNo| {
            let runs = self.levels.iter().flatten();
            let mut tables = runs.flat_map(|run| run.within(range));
            tables.any(|table| table.meta().may_miss(seqno))
        };
        let deleted = match deleted.is_empty() {
            true => deleted,
            false => Arc::new(deleted.filtered(matters)),
        };
        Version { deleted, ..self }
    }

    /// This version with some runs replaced; a run of no tables goes away.
    fn with_runs(&self, changed: BTreeMap<(u8, u64), Vec<Arc<TableEntry>>>) -> Result<Version> {
        let mut levels = self.levels.clone();
        // Backwards: runs are mostly appended then, however many there are (P19).
        for ((level, order), tables) in changed.into_iter().rev() {
            let level = usize::from(level);
            if LEVELS_MAX <= level {
                return Err(Error::invalid("a level is too deep")
                    .expected(format!("at most level {}", LEVELS_MAX - 1), level));
            }
            if levels.len() <= level {
                levels.resize(level + 1, Vec::new());
            }
            let runs = &mut levels[level];
            // Newest first, so orders descend (V3).
            let place = runs.partition_point(|run| run.order > order);
            let there = runs.get(place).is_some_and(|run| run.order == order);
            match (there, tables.is_empty()) {
                (true, true) => drop(runs.remove(place)),
                (true, false) => runs[place] = SortedRun::new(order, tables)?,
                (false, true) => {}
                (false, false) => runs.insert(place, SortedRun::new(order, tables)?),
            }
        }
        while levels.last().is_some_and(Vec::is_empty) {
            levels.pop();
        }
        let deleted = Arc::clone(&self.deleted);
        let version = Version { levels, deleted };
        version.assert_shape();
        Ok(version)
    }

    fn assert_shape(&self) {
        debug_assert!(self.levels.last().is_none_or(|l| !l.is_empty()), "V2");
        for runs in &self.levels {
            debug_assert!(runs.iter().all(|run| !run.tables.is_empty()), "V1");
            debug_assert!(runs.is_sorted_by(|a, b| a.order > b.order), "V3");
        }
    }

    /// The runs of a level, newest first; none for a level that is not there.
    pub fn level(&self, level: u8) -> &[SortedRun] {
        self.levels
            .get(usize::from(level))
            .map_or(&[], Vec::as_slice)
    }

    /// All tables with level and run order: newest level and run first, keys ascending in each.
    pub fn tables(&self) -> impl Iterator<Item = (u8, u64, &Arc<TableEntry>)> {
        (0u8..).zip(&self.levels).flat_map(|(level, runs)| {
            runs.iter().flat_map(move |run| {
                let order = run.order;
                run.tables.iter().map(move |table| (level, order, table))
            })
        })
    }

    /// The tables of a level that may hold a key of `from..=to` (`None`: open), newest run first.
    pub fn overlapping(
        &self,
        level: u8,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
    ) -> Vec<Arc<TableEntry>> {
        let runs = self.level(level).iter();
        runs.flat_map(|run| run.overlapping(from, to))
            .cloned()
            .collect()
    }

    /// Number of runs, which is the most tables a point read may touch.
    pub fn runs(&self) -> usize {
        self.levels.iter().map(Vec::len).sum()
    }

    /// Bytes of the files of a level.
    pub fn level_bytes(&self, level: u8) -> u64 {
        let runs = self.level(level).iter();
        runs.fold(0, |sum, run| sum.saturating_add(run.bytes()))
    }

    /// Bytes of a level that no running compaction has merged yet.
    pub fn level_bytes_unmerged(&self, level: u8) -> u64 {
        let runs = self.level(level).iter();
        runs.fold(0, |sum, run| sum.saturating_add(run.bytes_unmerged()))
    }

    /// Entries of a level, of all kinds and versions.
    pub fn level_entries(&self, level: u8) -> u64 {
        let runs = self.level(level).iter();
        runs.fold(0, |sum, run| sum.saturating_add(run.entries()))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let runs = self.levels.iter().flatten();
        runs.fold(0, |sum, run| sum.saturating_add(run.bytes()))
    }

    /// Entries of all levels.
    pub fn entries(&self) -> u64 {
        let runs = self.levels.iter().flatten();
        runs.fold(0, |sum, run| sum.saturating_add(run.entries()))
    }
}

//! The moves that policies choose from, each a question to the version: can this be done now?
//!
//! A job that merges runs `r0` (newest) … `rk` over a set of keys and puts the result beneath must
//! take *every* table of those runs that overlaps its keys; otherwise an older version would end up
//! above a newer one. [`close`] grows a range of keys until no table of the runs crosses its ends;
//! what it then holds can be replaced by its merge in any one of these runs, or beneath the
//! deepest of them that is part of the closure, because (L1) runs that are newer stay newer, (L2)
//! runs that are older and not part of it lie beneath the place of the result, and (L3) no table
//! left in the closed runs shares a key with it. A busy table in a closure rules the closure out.
//!
//! Everything here is pure and deterministic. Threads: any.

use super::super::job::{Busy, Job, Reason};
use crate::base::options::{CompactionStyle, KeyspaceOptions};
use crate::base::sync::Arc;
use crate::base::types::SeqNo;
use crate::version::{LEVELS_MAX, SortedRun, TableEntry, Version};
use std::collections::HashSet;

/// A slice takes more neighbours while it has fewer bytes than this many tables.
const SLICE_TABLES: u64 = 4;
/// Boundaries of the last level are cuts of the level above once in so many tables' bytes: half a
/// slice, so that a closure holds about as many bytes of the last level as of the one above.
const CUT_TABLES: u64 = 2;
/// Most tables that one move takes: bounds the edit.
const MOVE_TABLES: usize = 64;

/// What a policy stands on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground<'v> {
    pub(super) version: &'v Version,
    pub(super) busy: &'v Busy,
    pub(super) options: &'v KeyspaceOptions,
}

/// A run and the level it is in.
pub(super) type Placed<'v> = (u8, &'v SortedRun);

/// A range of keys that no table of some runs crosses, and those tables, by run.
struct Closure<'v> {
    from: &'v [u8],
    to: &'v [u8],
    parts: Vec<(Placed<'v>, &'v [Arc<TableEntry>])>,
    bytes: u64,
}

/// The smallest closure of `from..=to` over `runs`.
fn close<'v>(runs: &[Placed<'v>], mut from: &'v [u8], mut to: &'v [u8]) -> Closure<'v> {
    loop {
        let before = (from, to);
        for (_, run) in runs {
            let tables = run.overlapping(Some(from), Some(to));
            if let (Some(first), Some(last)) = (tables.first(), tables.last()) {
                from = from.min(smallest(first));
                to = to.max(largest(last));
            }
        }
        if (from, to) == before {
            break;
        }
    }
    let parts: Vec<_> = runs
        .iter()
        .map(|&(level, run)| ((level, run), run.overlapping(Some(from), Some(to))))
        .filter(|(_, tables)| !tables.is_empty())
        .collect();
    let bytes = parts.iter().flat_map(|(_, tables)| *tables);
    let bytes = bytes.fold(0u64, |sum, t| sum.saturating_add(size(t)));
    Closure {
        from,
        to,
        parts,
        bytes,
    }
}

impl Closure<'_> {
    fn tables(&self) -> usize {
        self.parts.iter().map(|(_, tables)| tables.len()).sum()
    }

    fn inputs(&self) -> Vec<(u8, u64, Vec<Arc<TableEntry>>)> {
        let part = |((level, run), tables): &(Placed<'_>, &[Arc<TableEntry>])| {
            (*level, run.order, tables.to_vec())
        };
        self.parts.iter().map(part).collect()
    }
}

impl<'v> Ground<'v> {
    /// The deepest level that holds anything; 0 for an empty tree.
    pub(super) fn deepest(&self) -> u8 {
        self.version.levels.len().saturating_sub(1) as u8
    }

    /// The one run of the deepest level, when that is not level 0.
    pub(super) fn last(&self) -> Option<&'v SortedRun> {
        match self.version.levels.as_slice() {
            [_, .., level] => match level.as_slice() {
                [run] => Some(run),
                _ => None,
            },
            _ => None,
        }
    }

    /// The oldest run, and its level.
    pub(super) fn oldest(&self) -> Option<Placed<'v>> {
        let run = self.version.level(self.deepest()).last()?;
        Some((self.deepest(), run))
    }

    /// The runs of a level but the oldest of all, newest first; of level 0 all of them.
    pub(super) fn tier(&self, level: u8) -> &'v [SortedRun] {
        match self.version.level(level).split_last() {
            Some((_, newer)) if level != 0 && level == self.deepest() => newer,
            _ => self.version.level(level),
        }
    }

    /// So many runs of a level call for a compaction.
    pub(super) fn runs_most(&self, level: u8) -> u32 {
        match level {
            0 => self.options.level0_runs,
            _ => self.options.tier_runs,
        }
    }

    /// The runs of a level, newest first.
    pub(super) fn runs(&self, level: u8) -> Vec<Placed<'v>> {
        let runs = self.version.level(level).iter();
        runs.map(|run| (level, run)).collect()
    }

    /// The runs of all levels, newest first.
    fn all_runs(&self) -> impl DoubleEndedIterator<Item = Placed<'v>> {
        (0..=self.deepest()).flat_map(|level| self.runs(level))
    }

    /// Removes tables of one run of which every key was deleted with a range, where no snapshot is
    /// older than that (`oldest`).
    pub(super) fn drop_deleted(&self, oldest: SeqNo) -> Option<Job> {
        let deleted = &self.version.deleted;
        if deleted.is_empty() {
            return None;
        }
        let is_dead = |table: &&Arc<TableEntry>| {
            let newest = table.meta().summary.seqnos.1;
            let is_busy = self.busy.reads(table.meta().file);
            !is_busy && deleted.covers(smallest(table), largest(table), newest, oldest)
        };
        self.all_runs().find_map(|(level, run)| {
            let tables = run.tables.iter().filter(is_dead).take(MOVE_TABLES);
            let tables: Vec<Arc<TableEntry>> = tables.cloned().collect();
            if tables.is_empty() {
                return None;
            }
            self.drop_tables(Reason::Deleted, (level, run), tables)
        })
    }

    /// Removes tables of a run, unread.
    pub(super) fn drop_tables(
        &self,
        reason: Reason,
        (level, run): Placed<'v>,
        tables: Vec<Arc<TableEntry>>,
    ) -> Option<Job> {
        let inputs = vec![(level, run.order, tables)];
        let job = Job {
            drops: true,
            ..self.job(reason, inputs, level, Some(run.order), false)
        };
        self.busy.admits(&job).then_some(job)
    }

    /// The most bytes that a slice grows to by taking neighbours.
    pub(super) fn slice_bytes(&self) -> u64 {
        self.options.table_bytes.saturating_mul(SLICE_TABLES)
    }

    /// Merges a range of keys of `upper` (newest first) and `target` into `target`'s run, or into
    /// a new run of `level` where there is no target. The range starts at the first table of
    /// `upper` that `wanted` takes and whose closure is free, and takes neighbours up to a slice.
    pub(super) fn slice(
        &self,
        reason: Reason,
        upper: &[Placed<'v>],
        target: Option<&'v SortedRun>,
        level: u8,
        wanted: &dyn Fn(&TableEntry) -> bool,
    ) -> Option<Job> {
        let mut runs = upper.to_vec();
        runs.extend(target.map(|run| (level, run)));
        let mut seeds: Vec<&Arc<TableEntry>> = upper
            .iter()
            .flat_map(|(_, run)| run.tables.iter())
            .filter(|table| wanted(table))
            .collect();
        seeds.sort_by(|a, b| smallest(a).cmp(smallest(b)));
        let mut refused: Option<&[u8]> = None;
        for (i, seed) in seeds.iter().enumerate() {
            if refused.is_some_and(|to| smallest(seed) <= to) {
                continue;
            }
            let mut closure = close(&runs, smallest(seed), largest(seed));
            if !self.is_free(&closure) {
                refused = Some(closure.to);
                continue;
            }
            for next in &seeds[i + 1..] {
                if smallest(next) <= closure.to {
                    continue;
                }
                // A neighbour is worth taking only when nothing lies between that would be
                // rewritten for its sake.
                let other = close(&runs, smallest(next), largest(next));
                let both = close(&runs, closure.from, other.to);
                let adjacent = both.tables() == closure.tables() + other.tables();
                if !adjacent || self.slice_bytes() < both.bytes || !self.is_free(&other) {
                    break;
                }
                closure = both;
            }
            let order = target.map(|run| run.order);
            if let Some(job) = self.admitted(reason, closure.inputs(), level, order, false) {
                return Some(job);
            }
            refused = Some(closure.to);
        }
        None
    }

    /// Merges all that `wanted` takes of a level, closed over the level's runs, into a new run of
    /// the level `to`.
    pub(super) fn whole(
        &self,
        reason: Reason,
        level: u8,
        to: u8,
        wanted: &dyn Fn(&TableEntry) -> bool,
    ) -> Option<Job> {
        let runs = self.runs(level);
        let tables = runs.iter().flat_map(|(_, run)| run.tables.iter());
        let tables: Vec<_> = tables.filter(|table| wanted(table)).collect();
        let from = tables.iter().map(|t| smallest(t)).min()?;
        let until = tables.iter().map(|t| largest(t)).max()?;
        let closure = close(&runs, from, until);
        self.admitted(reason, closure.inputs(), to, None, false)
    }

    /// Merges the oldest runs of a level (newest first) into a new run of the next one.
    pub(super) fn merge(&self, reason: Reason, runs: &[Placed<'v>], to: u8) -> Option<Job> {
        let part = |(level, run): &Placed<'v>| (*level, run.order, run.tables.to_vec());
        self.admitted(reason, runs.iter().map(part).collect(), to, None, false)
    }

    /// Merges a range of keys of the two deepest levels into the oldest run: where most lies above
    /// each byte of it. (The levels above are small beside it: their tables span much of it.)
    pub(super) fn join_oldest(&self, reason: Reason) -> Option<Job> {
        let (deepest, oldest) = self.oldest()?;
        let levels = deepest.saturating_sub(1).max(1)..=deepest;
        let runs: Vec<Placed<'v>> = levels.flat_map(|level| self.runs(level)).collect();
        let (_, upper) = runs.split_last()?;
        let upper = upper.iter().flat_map(|(_, run)| run.tables.iter());
        let mut seeds: Vec<&Arc<TableEntry>> = upper.collect();
        seeds.sort_by(|a, b| smallest(a).cmp(smallest(b)));
        let mut best: Option<(f64, Closure<'v>)> = None;
        let mut seen: Option<&[u8]> = None;
        for seed in seeds {
            if seen.is_some_and(|to| smallest(seed) <= to) {
                continue;
            }
            let closure = close(&runs, smallest(seed), largest(seed));
            seen = Some(closure.to);
            if !self.is_free(&closure) {
                continue;
            }
            let beneath = oldest.overlapping(Some(closure.from), Some(closure.to));
            let beneath = beneath
                .iter()
                .map(|table| size(table))
                .fold(0, u64::saturating_add);
            let above = closure.bytes.saturating_sub(beneath);
            let score = above as f64 / beneath.max(1) as f64;
            // The first key of equals stays first.
            if best.as_ref().is_none_or(|(most, _)| *most < score) {
                best = Some((score, closure));
            }
        }
        let (_, closure) = best?;
        self.admitted(reason, closure.inputs(), deepest, Some(oldest.order), false)
    }

    /// Moves tables of a level down to level `to` without reading them: those that overlap nothing
    /// older of their level and nothing down to `to`, which holds one run or none.
    pub(super) fn sink(&self, reason: Reason, level: u8, to: u8, bytes_min: u64) -> Option<Job> {
        let order = match self.version.level(to) {
            [] => None,
            [run] => Some(run.order),
            _ => return None,
        };
        let runs = self.version.level(level);
        let mut inputs: Vec<(u8, u64, Vec<Arc<TableEntry>>)> = Vec::new();
        let mut count = 0;
        for (i, run) in runs.iter().enumerate() {
            let beneath = || {
                let deeper = (level + 1..=to).flat_map(|l| self.version.level(l));
                runs[i + 1..].iter().chain(deeper)
            };
            let lone = |table: &&Arc<TableEntry>| {
                let (from, to) = (Some(smallest(table)), Some(largest(table)));
                bytes_min <= size(table)
                    && !self.busy.reads(table.meta().file)
                    && beneath().all(|run| run.overlapping(from, to).is_empty())
            };
            let tables = run.tables.iter().filter(lone).take(MOVE_TABLES - count);
            let tables: Vec<_> = tables.cloned().collect();
            count += tables.len();
            if !tables.is_empty() {
                inputs.push((level, run.order, tables));
            }
        }
        self.admitted(reason, inputs, to, order, true)
    }

    /// Merges the runs of a level into its oldest one, slice by slice: for the deepest level when
    /// it has several.
    pub(super) fn collapse(
        &self,
        reason: Reason,
        level: u8,
        wanted: &dyn Fn(&TableEntry) -> bool,
    ) -> Option<Job> {
        let runs = self.runs(level);
        let ((_, oldest), newer) = runs.split_last()?;
        self.slice(reason, newer, Some(*oldest), level, wanted)
    }

    /// Moves the oldest run one level down, which makes room for a level above it.
    pub(super) fn deepen(&self, reason: Reason) -> Option<Job> {
        let (level, run) = self.oldest()?;
        if LEVELS_MAX <= usize::from(level) + 1 {
            return None;
        }
        let inputs = vec![(level, run.order, run.tables.to_vec())];
        self.admitted(reason, inputs, level + 1, None, true)
    }

    /// Rewrites tables of the last level in place, those that `wanted` takes.
    pub(super) fn rewrite(
        &self,
        reason: Reason,
        wanted: &dyn Fn(&TableEntry) -> bool,
    ) -> Option<Job> {
        self.rewrite_in((self.deepest(), self.last()?), reason, wanted)
    }

    /// Rewrites tables in place that may hold what a range deleted for everybody removes (`oldest` is
    /// the oldest snapshot), the deepest first. Rewritten, none does.
    pub(super) fn apply_deleted(&self, oldest: SeqNo) -> Option<Job> {
        let may_miss = |table: &TableEntry| {
            let mut touching = (self.version.deleted).touching(smallest(table), largest(table));
            touching.any(|seqno| seqno <= oldest && table.meta().may_miss(seqno))
        };
        self.rewrite_anywhere(Reason::Deleted, &may_miss)
    }

    /// Rewrites tables of some run in place, those that `wanted` takes, the deepest first.
    pub(super) fn rewrite_anywhere(
        &self,
        reason: Reason,
        wanted: &dyn Fn(&TableEntry) -> bool,
    ) -> Option<Job> {
        let mut runs = self.all_runs().rev();
        runs.find_map(|placed| self.rewrite_in(placed, reason, wanted))
    }

    /// Rewrites tables of a run in place: the first ones that `wanted` takes and that stand side by
    /// side, up to a slice.
    fn rewrite_in(
        &self,
        (level, run): Placed<'v>,
        reason: Reason,
        wanted: &dyn Fn(&TableEntry) -> bool,
    ) -> Option<Job> {
        let free = |table: &Arc<TableEntry>| {
            wanted(table)
                && self.busy.admits(&self.job(
                    reason,
                    vec![(level, run.order, vec![Arc::clone(table)])],
                    level,
                    Some(run.order),
                    false,
                ))
        };
        let start = run.tables.iter().position(free)?;
        let mut bytes = 0u64;
        let tables: Vec<_> = run.tables[start..]
            .iter()
            .take_while(|table| {
                let first = bytes == 0;
                bytes = bytes.saturating_add(size(table));
                first || bytes <= self.slice_bytes() && free(table)
            })
            .cloned()
            .collect();
        let inputs = vec![(level, run.order, tables)];
        self.admitted(reason, inputs, level, Some(run.order), false)
    }

    /// The job, unless one that is running stands in its way.
    pub(super) fn admitted(
        &self,
        reason: Reason,
        inputs: Vec<(u8, u64, Vec<Arc<TableEntry>>)>,
        level: u8,
        order: Option<u64>,
        trivial_move: bool,
    ) -> Option<Job> {
        if inputs.is_empty() {
            return None;
        }
        let mut job = self.job(reason, inputs, level, order, trivial_move);
        if !self.busy.admits(&job) {
            return None;
        }
        if !trivial_move {
            job.below = self.below(&job);
            job.cuts = self.cuts(&job);
        }
        Some(job)
    }

    fn job(
        &self,
        reason: Reason,
        inputs: Vec<(u8, u64, Vec<Arc<TableEntry>>)>,
        output_level: u8,
        output_order: Option<u64>,
        trivial_move: bool,
    ) -> Job {
        Job {
            reason,
            inputs,
            output_level,
            output_order,
            trivial_move,
            cuts: Vec::new(),
            below: Vec::new(),
            deleted: Arc::clone(&self.version.deleted),
            drops: false,
        }
    }

    fn is_free(&self, closure: &Closure<'_>) -> bool {
        let mut tables = closure.parts.iter().flat_map(|(_, tables)| *tables);
        !tables.any(|table| self.busy.reads(table.meta().file))
    }

    /// Tables outside the job and older than its newest input that overlap it.
    fn below(&self, job: &Job) -> Vec<Arc<TableEntry>> {
        let (Some((from, to)), Some((level, order, _))) = (job.hull(), job.inputs.first()) else {
            return Vec::new();
        };
        let inputs: HashSet<_> = job.tables().map(|t| t.meta().file).collect();
        let mut below = Vec::new();
        for (l, runs) in (0u8..).zip(&self.version.levels).skip(usize::from(*level)) {
            for run in runs {
                if *level < l || run.order < *order {
                    let tables = run.overlapping(Some(from), Some(to)).iter();
                    below.extend(tables.filter(|t| !inputs.contains(&t.meta().file)).cloned());
                }
            }
        }
        below
    }

    /// Keys at which the job's outputs are cut: boundaries of the level below its outputs.
    ///
    /// Into the level right above the last: every run gets the same cuts, taken from the last
    /// level alone, whatever its own size is. Slices later close over whole tables that way, and
    /// as slices replace tables of the last level only between two cuts, runs made before and
    /// after agree. Tiers are cut so by the oldest run, wherever they may be joined to it.
    fn cuts(&self, job: &Job) -> Vec<Vec<u8>> {
        let (Some((level, last)), Some((from, to))) = (self.oldest(), job.hull()) else {
            return Vec::new();
        };
        let next = job.output_level + 1;
        let is_cut = match self.options.compaction {
            CompactionStyle::Tiered => {
                level != 0 && level <= next && job.output_order != Some(last.order)
            }
            _ => level == next && self.last().is_some(),
        };
        if !is_cut {
            return Vec::new();
        }
        let spacing = self.options.table_bytes.saturating_mul(CUT_TABLES);
        let mut cuts = Vec::new();
        let mut bytes = 0u64;
        for table in last.tables.iter() {
            let cut = smallest(table);
            if spacing <= bytes {
                bytes = 0;
                if from < cut && cut <= to {
                    cuts.push(cut.to_vec());
                }
            }
            bytes = bytes.saturating_add(size(table));
        }
        cuts
    }
}

pub(super) fn smallest(table: &TableEntry) -> &[u8] {
    &table.meta().summary.smallest
}

pub(super) fn largest(table: &TableEntry) -> &[u8] {
    &table.meta().summary.largest
}

pub(super) fn size(table: &TableEntry) -> u64 {
    table.meta().summary.bytes
}

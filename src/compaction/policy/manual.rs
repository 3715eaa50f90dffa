//! Manual compaction of a range of keys: everything in it goes to the last level.
//!
//! A [`Manual`] is told once what is old: the sequence numbers and file numbers at its start. Its
//! jobs are then chosen from the version alone:
//! 1. a deepest level of several runs becomes one run;
//! 2. the uppermost level with an old entry in the range goes down, as far as nothing lies
//!    between; from right above the last, slice by slice into it;
//! 3. every old file that is left in the last level's range is rewritten once, which drops what
//!    the oldest snapshot has let go of since it was written.
//!
//! Each job takes old entries deeper, or replaces old files by new ones, and neither is undone by
//! flushes (newer entries, ignored above the last level) or by other compactions: it ends.
//! Threads: plain data.

use super::super::job::{Busy, Job, Reason};
use super::select::{Ground, largest, smallest};
use crate::base::options::KeyspaceOptions;
use crate::base::types::{FileId, SeqNo};
use crate::version::{TableEntry, Version};

/// A manual compaction: its range, and what was there when it began.
#[derive(Clone, Debug)]
pub struct Manual {
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    /// Entries up to this one go to the last level.
    through: SeqNo,
    /// Files up to this one are written anew.
    files: FileId,
}

impl Manual {
    /// Compacts `from..=to` (`None`: open) of what `version` holds.
    pub fn new(version: &Version, from: Option<&[u8]>, to: Option<&[u8]>) -> Manual {
        let tables = || version.tables().map(|(_, _, table)| table.meta());
        Manual {
            from: from.map(<[u8]>::to_vec),
            to: to.map(<[u8]>::to_vec),
            through: tables()
                .map(|t| t.summary.seqnos.1)
                .max()
                .unwrap_or_default(),
            files: tables().map(|t| t.file).max().unwrap_or_default(),
        }
    }

    /// True when nothing is left to do. `pick_manual` also says `None` while running jobs stand in
    /// its way.
    pub fn is_done(&self, version: &Version, options: &KeyspaceOptions) -> bool {
        pick_manual(version, &Busy::default(), options, self).is_none()
    }

    fn covers(&self, table: &TableEntry) -> bool {
        let (from, to) = (self.from.as_deref(), self.to.as_deref());
        from.is_none_or(|from| from <= largest(table)) && to.is_none_or(|to| smallest(table) <= to)
    }
}

/// The next job of a manual compaction; `None` when it is done or has to wait.
pub fn pick_manual(
    version: &Version,
    busy: &Busy,
    options: &KeyspaceOptions,
    manual: &Manual,
) -> Option<Job> {
    let ground = Ground {
        version,
        busy,
        options,
    };
    let deepest = ground.deepest();
    let covered = |table: &TableEntry| manual.covers(table);
    let old_entries =
        |table: &TableEntry| covered(table) && table.meta().summary.seqnos.0 <= manual.through;
    let old_file = |table: &TableEntry| covered(table) && table.meta().file <= manual.files;
    let holds = |level: u8, wanted: &dyn Fn(&TableEntry) -> bool| {
        let tables = version
            .level(level)
            .iter()
            .flat_map(|run| run.tables.iter());
        tables.into_iter().any(|table| wanted(table))
    };

    if let Some((_, newer)) = version.level(deepest).split_last()
        && deepest != 0
        && newer
            .iter()
            .flat_map(|run| run.tables.iter())
            .any(|t| covered(t))
    {
        return ground.collapse(Reason::Manual, deepest, &covered);
    }
    let bottom = deepest.max(1);
    match (0..bottom).find(|level| holds(*level, &old_entries)) {
        // Outside the range the deepest level may still have several runs: then this joins them
        // as a new one, which step 1 merges.
        Some(level) if level + 1 == bottom => match ground.last() {
            None if deepest != 0 => ground.whole(Reason::Manual, level, bottom, &old_entries),
            last => {
                let runs = ground.runs(level);
                ground.slice(Reason::Manual, &runs, last, bottom, &old_entries)
            }
        },
        Some(level) => {
            // Straight to the next level that holds anything, or to right above the last.
            let next = (level + 1..bottom - 1).find(|l| !version.level(*l).is_empty());
            ground.whole(
                Reason::Manual,
                level,
                next.unwrap_or(bottom - 1),
                &old_entries,
            )
        }
        None => ground.rewrite(Reason::Manual, &old_file),
    }
}

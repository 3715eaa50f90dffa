//! Upkeep that a caller asks for: flush, compaction of a range, verification, at a pace if need be.

use super::core::Core;
use super::mend::FailOnPanic;
use super::pace::Pace;
use super::space::needs_bytes;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::check_rate;
use crate::base::sync::Arc;
use crate::base::types::SeqNo;
use crate::tree::{ManualStep, Tree};
use crate::version::TableEntry;
use std::time::Duration;

/// A scrub that waits looks up so often whether the database was closed.
const NAP_MAX: Duration = Duration::from_millis(20);

/// What [`Db::verify`](crate::Db::verify) read and found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Tables read.
    pub files: u64,
    /// Entries in them, all versions.
    pub entries: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// What is wrong, the first thing of each table.
    pub problems: Vec<Error>,
}

impl Core {
    /// Flushes every keyspace.
    pub(super) fn flush_all(&self) -> Result<()> {
        let trees: Vec<_> = self.trees.load().by_id.values().cloned().collect();
        self.flush_trees(&trees)
    }

    /// Flushes these keyspaces.
    pub(super) fn flush_trees(&self, trees: &[Arc<Tree>]) -> Result<()> {
        let mut last = SeqNo::ZERO;
        for tree in trees {
            last = self.rotate_now(tree)?;
        }
        trees
            .iter()
            .try_for_each(|tree| self.await_flush(tree, last))
    }

    /// Flushes one keyspace.
    pub(super) fn flush_tree(&self, tree: &Tree) -> Result<()> {
        let last = self.rotate_now(tree)?;
        self.await_flush(tree, last)
    }

    /// Freezes the active memtable; the number of the last write before that.
    fn rotate_now(&self, tree: &Tree) -> Result<SeqNo> {
        self.mend_inline();
        let commit = self.commit.lock();
        self.health.check_making_room()?;
        tree.rotate(commit.segment());
        let last = SeqNo::new(commit.next - 1);
        drop(commit);
        self.update_stall();
        self.board.notify();
        Ok(last)
    }

    /// Waits until tables hold what `tree` had up to `last`: what others write meanwhile may wait.
    fn await_flush(&self, tree: &Tree, last: SeqNo) -> Result<()> {
        if self.board.is_inline() {
            self.run_pending();
        }
        self.board.wait_until(|| {
            if tree.is_dropped() || !tree.has_waiting(last) {
                return Ok(true);
            }
            match self.health.check() {
                Ok(()) => Ok(false),
                // A compaction may be making room; the reserve may be there, or space be back.
                Err(_)
                    if self.health.lacks_only_space()
                        && (self.reserve.is_lent() || self.flush_one(tree)) =>
                {
                    Ok(false)
                }
                Err(refusal) => Err(refusal),
            }
        })?;
        self.health.check_making_room()
    }

    /// Flushes a keyspace and compacts a range of it. On a full disk the compaction is done also
    /// when the flush cannot be: it may make the room that the flush needs (P15).
    pub(super) fn flush_and_compact(
        &self,
        tree: &Arc<Tree>,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
    ) -> Result<()> {
        match self.flush_tree(tree) {
            Err(full) if full.kind() == ErrorKind::NoSpace => {
                self.compact_tree(tree, from, to)?;
                self.flush_tree(tree)
            }
            other => other,
        }?;
        self.compact_tree(tree, from, to)
    }

    /// Compacts the tables of a range down to the last level, on this thread.
    fn compact_tree(&self, tree: &Arc<Tree>, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<()> {
        let _guard = FailOnPanic(self);
        let manual = tree.begin_manual(from, to);
        loop {
            let seen = self.board.done();
            self.health.check_making_room()?;
            tree.check_open()?;
            match tree.next_manual_job(&manual) {
                // Asked for, so it is tried, with the reserve if need be.
                ManualStep::Run(job) => {
                    let promise = self.space.promise(needs_bytes(&job));
                    self.run_compaction(tree, job, promise)?;
                }
                // Tables that it needs are in a running job.
                ManualStep::Wait => self.board.wait_done(seen),
                ManualStep::Done => return Ok(()),
            }
        }
    }

    /// Reads and checks every table.
    pub(super) fn verify(&self) -> Result<VerifyReport> {
        self.health.check_open()?;
        let mut report = VerifyReport::default();
        for tree in self.trees.load_full().by_id.values() {
            let view = tree.view_owned();
            for (_, _, table) in view.version.tables() {
                report.check(table, &|_| self.health.check_open())?;
            }
        }
        Ok(report)
    }

    /// The same at a pace, for hours if need be: so it does not hold on to what is replaced meanwhile.
    pub(super) fn scrub(&self, bytes_per_second: u64) -> Result<VerifyReport> {
        check_rate("bytes_per_second", Some(bytes_per_second))?;
        self.health.check_open()?;
        let pace = Pace::new(Some(bytes_per_second));
        let read = |bytes| {
            pace.spend(self.board.env(), bytes);
            self.await_pace(&pace)
        };
        let mut report = VerifyReport::default();
        for tree in self.trees.load_full().by_id.values() {
            let still_there = |file| {
                let view = tree.view();
                let mut tables = view.version.tables().map(|(_, _, table)| table);
                tables.find(|table| table.meta().file == file).cloned()
            };
            let version = Arc::clone(&tree.view().version);
            let files = version.tables().map(|(_, _, table)| table.meta().file);
            let files: Vec<_> = files.collect();
            drop(version);
            for table in files.into_iter().filter_map(still_there) {
                report.check(&table, &read)?;
            }
        }
        Ok(report)
    }

    fn await_pace(&self, pace: &Pace) -> Result<()> {
        let env = self.board.env();
        loop {
            self.health.check_open()?;
            let ahead = pace.ahead(env);
            if ahead.is_zero() {
                return Ok(());
            }
            env.sleep(ahead.min(NAP_MAX));
        }
    }

    pub(super) fn set_rate_limit(&self, bytes_per_second: Option<u64>) -> Result<()> {
        check_rate("bytes_per_second", bytes_per_second)?;
        self.pace.set_rate(bytes_per_second);
        self.board.notify();
        Ok(())
    }
}

impl VerifyReport {
    /// Counts a table, and adds the first thing that is wrong with it. `read` hears of each block.
    fn check(&mut self, table: &TableEntry, read: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        let summary = &table.meta().summary;
        match table.table().and_then(|table| table.verify_with(read)) {
            Err(closed) if closed.kind() == ErrorKind::Closed => return Err(closed),
            Err(problem) => self.problems.push(problem),
            Ok(()) => {}
        }
        self.files += 1;
        self.entries += summary.entries;
        self.bytes += summary.bytes;
        Ok(())
    }
}

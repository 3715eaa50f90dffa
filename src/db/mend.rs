//! What becomes of a failure in the background, and how the database gets well again.
//!
//! Whatever the background does is settled here: a success ends that part's suspension; a cause
//! that may go away suspends writes and is tried again every second (at once where the reserve
//! could be given up for it); anything else is fatal. Workers try flushes and compactions again
//! themselves; [`Core::mend`] does the rest, in the order in which one needs the other: the
//! manifest, the log, files left over, and last the reserve.
//!
//! **A failed log segment** (an append or a sync failed) is never written to and never synced
//! again (P13, R15). Its records that count are all in memtables, so the repair starts a new
//! segment, whose header cuts the failed one where its good records end, freezes all memtables,
//! writes them to tables, and installs *one* edit that adds the tables of all keyspaces and strikes
//! off every older segment. Before that edit is durable nothing is acknowledged; after it nothing
//! needs the failed bytes. A crash in between finds the old segments, in whatever state they are,
//! and behind them a segment without records: a prefix (P2) with everything synced in it (P1).
//!
//! **Segments of an earlier process** whose records are not known to be durable (I12) are outlived in
//! the same way, right after opening and without anybody being kept waiting: the same edit, before
//! anything is synced or flushed.
//!
//! With no background threads the same runs before and after each call, without the second's wait.

use super::core::Core;
use super::health::Part;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::sync::thread;
use crate::base::types::FileId;
use crate::version::VersionEdit;

impl Core {
    /// Turns the result of background work into the database's health.
    pub(crate) fn settle(&self, part: Part, result: Result<()>) {
        match result {
            Ok(()) => self.health.recovered(part),
            Err(_) if self.board.is_stopped() => {}
            Err(error) => {
                match error.kind() {
                    ErrorKind::NoSpace | ErrorKind::Io => {
                        if self.versions.poisoned() {
                            self.health.suspend(Part::Manifest, error.clone());
                        }
                        // What is made ahead of need is no reason to use up the reserve.
                        let can_wait = matches!(part, Part::Ahead | Part::Reserve);
                        if can_wait || !self.give_up_reserve(part, &error) {
                            self.board.retry_later();
                        }
                        self.health.suspend(part, error);
                    }
                    _ => self.health.fail(error),
                }
                self.stall.wake();
                self.board.notify_done();
                self.board.notify_log();
            }
        }
    }

    /// A log segment failed: writes stop until it is repaired. Gives the cause back.
    ///
    /// Called before the write lock is released or a sync is answered, so that nothing is
    /// acknowledged behind it.
    #[cold]
    pub(crate) fn log_failed(&self, cause: Error) -> Error {
        self.health.suspend(Part::Log, cause.clone());
        self.stall.wake();
        self.board.notify_log();
        cause
    }

    /// Gives up the reserve, or the part of it that is for `part`, when space is what is missing;
    /// true when there was some to give.
    pub(crate) fn give_up_reserve(&self, part: Part, cause: &Error) -> bool {
        let all = !matches!(part, Part::Log | Part::Flush);
        let given = cause.kind() == ErrorKind::NoSpace && self.reserve.give_up(&self.fs, all);
        if given {
            self.health.suspend(Part::Reserve, cause.clone());
        }
        given
    }

    /// Installs an edit for a caller outside of the background.
    pub(crate) fn install(&self, edit: VersionEdit) -> Result<()> {
        self.versions
            .install(edit)
            .inspect_err(|cause| self.notice_poison(cause))
    }

    /// While the manifest could not be written, nothing is acknowledged (P13): writes stop until a
    /// new one was written from memory.
    pub(crate) fn notice_poison(&self, cause: &Error) {
        if self.versions.poisoned() {
            self.settle(Part::Manifest, Err(cause.clone()));
        }
    }

    /// Tries again what has failed, except for flushes and compactions, if it is time to.
    pub(crate) fn mend(&self) {
        if self.health.has_failed() || self.board.must_wait_to_retry() {
            return;
        }
        if self.versions.poisoned() || self.health.ails(Part::Manifest) {
            self.settle(Part::Manifest, self.versions.heal());
        }
        if self.health.ails(Part::Log) && !self.health.ails(Part::Manifest) {
            self.settle(Part::Log, self.outlive_segments());
        }
        self.settle(Part::Files, self.tidy());
        if self.health.is_ok() || self.health.lacks_only_reserve() {
            self.settle(Part::Reserve, self.reserve.restore(&self.fs));
        }
    }

    /// Puts all that memtables hold into tables, so that no segment is needed that failed or that is
    /// not known to be durable; see the module's text.
    pub(super) fn outlive_segments(&self) -> Result<()> {
        // No keyspace comes or goes, and nobody else strikes off segments meanwhile.
        let _admin = self.admin.lock();
        let _retiring = self.log.retiring.lock();
        if !self.log.has_failed_segment() && !self.log.inherits() {
            return Ok(());
        }
        let trees = self.trees.load_full();
        let active = self.leave_failed_segments(&trees)?;
        let mut written = Vec::new();
        for tree in trees.by_id.values() {
            while tree.immutables() > 0 && !tree.is_dropped() {
                if let Some(tables) = self.with_work(tree, |work| tree.write_waiting(work))? {
                    written.push(tables);
                    break;
                }
                if self.board.is_stopped() {
                    return Err(Error::new(ErrorKind::Closed, "the repair was stopped"));
                }
                // Another worker's flush of this keyspace has begun before the failure.
                self.board.wait_done(self.board.done());
            }
        }
        let struck = self.log.sealed_before(active);
        self.versions.install(VersionEdit {
            keyspaces: written.iter().map(|tables| tables.edit()).collect(),
            logs_removed: struck.clone(),
            ..VersionEdit::default()
        })?;
        for tables in written {
            self.count_flush(&tables.finish());
        }
        let failed = self.log.failed_segments();
        self.log.forget(&struck);
        self.log.outlived();
        // Never used again: nobody knows what the disk holds of them.
        for segment in struck {
            self.put_away(segment, failed.contains(&segment));
        }
        self.update_stall();
        self.board.notify_done();
        Ok(())
    }

    /// Moves to a new segment if the active one failed, and freezes all memtables: from here on
    /// they hold every record of the segments before the one that is returned, and no other.
    fn leave_failed_segments(&self, trees: &super::catalog::Trees) -> Result<FileId> {
        let mut commit = self.commit.lock();
        if commit.writer.failure().is_some() {
            let cut = commit.seal();
            self.start_segment(&mut commit, cut, 0)?;
        }
        for tree in trees.by_id.values() {
            tree.rotate(commit.segment());
        }
        Ok(commit.segment())
    }

    /// Inline mode: all work that is due, on this thread; twice, so that what failed only once is
    /// mended before anybody meets it.
    pub(crate) fn run_pending(&self) {
        let _guard = FailOnPanic(self);
        for _ in 0..2 {
            self.release_old_logs();
            self.mend();
            while !self.board.is_stopped() && self.do_one(false) {}
            if !self.health.has_failed() {
                self.settle(Part::Ahead, self.reserve_ahead());
            }
            if !self.health.is_suspended() {
                return;
            }
        }
        self.mend();
    }

    /// In inline mode what ails is tried again before a call that needs it well. Callers hold no
    /// lock: the repair takes them.
    #[inline]
    pub(crate) fn mend_inline(&self) {
        if !self.health.is_ok() && self.board.is_inline() {
            self.run_pending();
        }
    }
}

/// Stops writes for good when the thread panics in its scope (R14).
pub(crate) struct FailOnPanic<'a>(pub(crate) &'a Core);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.panicked();
        }
    }
}

impl Core {
    /// A thread of the database panicked: whatever it was in the middle of stays undone, and
    /// nobody waits for it.
    #[cold]
    pub(crate) fn panicked(&self) {
        let cause = Error::new(ErrorKind::Io, "a thread of the database panicked")
            .at(self.fs.root())
            .advice("Report this with the panic's message: it is a bug of alluvium.");
        self.health.fail(cause);
        self.board.notify_done();
        self.stall.wake();
    }
}

#[cfg(test)]
mod tests {
    use crate::Db;
    use crate::base::options::{KeyspaceOptions, Options};
    use crate::fs::sim::{CallKind, Fault, FaultRule, FileClass, SimFs};

    /// Two keyspaces inherit a write each, and the disk took no table so far. Now it would.
    fn inheriting() -> Db {
        let open = |sim: &SimFs| {
            let options = Options::new().memory_bytes(8 << 20).background_threads(0);
            options.open_sim(sim, "/db").unwrap()
        };
        let sim = SimFs::new(7);
        let db = open(&sim);
        let other = db.keyspace("other", KeyspaceOptions::new()).unwrap();
        db.put("a", "1").unwrap();
        other.put("b", "2").unwrap();
        let sim = sim.kill();
        let no_table = FaultRule::new(Fault::Enospc).kinds(&[CallKind::Create]);
        sim.fail(no_table.class(FileClass::Table).sticky());
        let db = open(&sim);
        sim.heal();
        db
    }

    #[test]
    fn a_sync_puts_into_tables_first_what_is_inherited() {
        let db = inheriting();
        let core = db.engine();
        assert!(core.log.inherits());
        core.sync_log().unwrap();
        assert!(!core.log.inherits(), "I12");
        let trees = core.trees.load_full();
        assert!(trees.by_id.values().all(|tree| !tree.has_unflushed()));
    }

    #[test]
    fn no_keyspace_is_flushed_alone_before_all_that_is_inherited_is() {
        let db = inheriting();
        let core = db.engine();
        for tree in core.trees.load_full().by_id.values() {
            assert!(tree.wants_flush());
            assert!(!core.flush_one(tree), "I12");
        }
        core.outlive_segments().unwrap();
        assert_eq!(core.log.count(), 1, "the segments are gone");
    }
}

//! The background: a few workers for flushes and compactions, and one helper for the log.
//!
//! Workers look for work themselves (flushes first, then the most urgent compaction) and sleep on
//! the board (board.rs) when there is none. With no background threads the same rounds run on the
//! writing thread between writes: slow, and deterministic, which is what the simulator wants.
//!
//! A background failure never disappears: `mend` says what becomes of it. Not here: repairs.

use super::core::Core;
use super::health::{Part, State};
use super::space::{Promise, PutOff};
use super::stall::StallCause;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::listener::Event;
use crate::base::sync::atomic::Ordering;
use crate::base::sync::{Arc, thread};
use crate::compaction::{Job, Reason};
use crate::tree::{Tree, Work};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// The log's helper looks around this often: half of the second in which a file must be gone after
/// its last reader (P17), so that the other half is left for the removal.
const HELPER_NAP: Duration = Duration::from_millis(500);

/// Starts the workers and the log's helper.
///
/// # Errors
/// `Io` when the system gives no thread; those started before have ended then.
pub(crate) fn start(core: &Arc<Core>) -> Result<Vec<thread::JoinHandle<()>>> {
    let mut handles = Vec::new();
    if core.board.is_inline() {
        return Ok(handles);
    }
    let spawn = |name: String, run: fn(&Core)| {
        let own = Arc::clone(core);
        let body = move || guarded(&own, run);
        let path = core.fs.root().to_path_buf();
        let handle = thread::Builder::new().name(name).spawn(body);
        handle.map_err(|e| Error::io("starting a thread", &path, e))
    };
    for n in 0..=core.board.threads() {
        let spawned = match n {
            0 => spawn("alluvium-log".to_owned(), run_log_helper),
            _ => spawn(format!("alluvium-{}", n - 1), run_worker),
        };
        match spawned {
            Ok(handle) => handles.push(handle),
            Err(error) => {
                core.board.stop();
                for handle in handles {
                    // Its panic, if any, was turned into a fatal state.
                    let _ = handle.join();
                }
                return Err(error);
            }
        }
    }
    Ok(handles)
}

/// Runs a thread's body; a panic in it stops writes for good and lets nobody wait (R14).
fn guarded(core: &Core, run: impl FnOnce(&Core)) {
    if catch_unwind(AssertUnwindSafe(|| run(core))).is_err() {
        core.panicked();
    }
}

fn run_worker(core: &Core) {
    core.board
        .work(|| core.do_one(core.board.is_idle(core.visible())));
}

fn run_log_helper(core: &Core) {
    let env = core.board.env();
    let mut synced = env.now();
    while !core.board.is_stopped() {
        let seen = core.board.log_notices();
        // It also sweeps: a reader may have let go of files since the last job ended (P17).
        core.mend();
        core.tell_changes();
        if !core.board.must_wait_to_retry() {
            core.settle(Part::Ahead, core.tend_log());
        }
        core.tree_context.pool.prepare();
        core.release_old_logs();
        core.balance_memory();
        if core.space.put_off().is_some() {
            core.board.notify(); // there may be space for it now
        }
        if core
            .options
            .sync_every
            .is_some_and(|every| env.elapsed(synced) >= every)
        {
            synced = env.now();
            // A failed sync has suspended writes and is mended in the next round.
            let _ = core.sync_log();
        }
        let nap = core.options.sync_every.unwrap_or(HELPER_NAP);
        core.board.sleep_of_log(seen, nap.min(HELPER_NAP));
    }
}

impl Core {
    /// Does the most urgent piece of work there is; false when there is none.
    pub(crate) fn do_one(&self, idle: bool) -> bool {
        self.tell_changes();
        if self.health.has_failed() || self.board.must_wait_to_retry() {
            return false;
        }
        if self.health.ails(Part::Log) || self.health.ails(Part::Manifest) {
            return false; // the repair comes first, and flushes what it must
        }
        if self.log.inherits() {
            self.settle(Part::Log, self.outlive_segments());
            self.settle(Part::Files, self.sweep_dead());
            return !self.log.inherits();
        }
        if self.versions.clock().owes_mark() {
            // A failure is the manifest's, which is mended.
            self.settle(Part::Manifest, self.versions.mark_clock());
        }
        let trees = self.trees.load_full();
        let mut waiting: Vec<_> = trees.by_id.values().filter(|t| t.wants_flush()).collect();
        waiting.sort_by_key(|tree| std::cmp::Reverse(tree.immutables()));
        for tree in waiting {
            if self.flush_one(tree) {
                return true;
            }
        }
        if trees.by_id.values().all(|tree| tree.immutables() == 0) {
            self.health.recovered(Part::Flush);
        }
        if self.board.compactions() >= self.compactions_most() {
            return false;
        }
        let mut candidates: Vec<_> = trees
            .by_id
            .values()
            .map(|tree| (tree.pressure().compaction, tree))
            .collect();
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.id().cmp(&b.1.id())));
        let mut put_off = None;
        for (_, tree) in candidates {
            if let Some(outcome) = self.compact_one(tree, idle, &mut put_off) {
                return outcome.is_ok();
            }
        }
        self.note_put_off(put_off);
        self.health.recovered(Part::Compaction);
        false
    }

    /// Tells the listener whether writes are taken and slowed down, where that has changed.
    fn tell_changes(&self) {
        let listening = &self.options.listening;
        if !listening.is_on() {
            return;
        }
        let mut told = self.told.lock();
        let (state, why) = (self.health.state(), self.stall.why());
        let stopped = match &state {
            State::Ok => None,
            State::ReadOnly(cause) | State::Fatal(cause) => Some(cause),
        };
        if told.is_stopped != stopped.is_some() {
            told.is_stopped = stopped.is_some();
            listening.tell(
                &stopped.map_or(Event::WritesResumed, |cause| Event::WritesStopped { cause }),
            );
        }
        if told.is_slowed != why.is_some() {
            told.is_slowed = why.is_some();
            listening.tell(
                &why.as_ref()
                    .map_or(Event::WritesFree, |why| Event::WritesSlowed {
                        keyspace: &why.keyspace,
                        cause: why.cause.word(),
                    }),
            );
        }
    }

    /// How many compactions may run at once: one thread is for flushes.
    fn compactions_most(&self) -> usize {
        self.board.threads().saturating_sub(1).max(1)
    }

    /// Writes one waiting memtable of `tree`; false when there was none, it failed, or the space that
    /// there is belongs to a compaction.
    pub(crate) fn flush_one(&self, tree: &Tree) -> bool {
        if self.reserve.is_lent() || self.log.inherits() {
            return false;
        }
        let running = self.board.flushing();
        let env = self.board.env();
        let start = env.now();
        let outcome = self.with_work(tree, |work| tree.flush(work));
        drop(running);
        match outcome {
            Ok(Some(outcome)) => {
                let took = env.elapsed(start);
                self.count_flush(&outcome);
                self.stall.flushed(outcome.bytes_read, took);
                self.options.listening.tell(&Event::Flushed {
                    keyspace: tree.name(),
                    bytes_written: outcome.bytes_written,
                    took,
                });
                self.health.recovered(Part::Flush);
                self.after_change(self.retire_logs());
                true
            }
            Ok(None) => false,
            Err(error) => {
                // It waits for the log (I6), which is being repaired.
                if !self.health.ails(Part::Log) {
                    self.settle(Part::Flush, Err(error));
                }
                false
            }
        }
    }

    pub(crate) fn count_flush(&self, outcome: &crate::compaction::Outcome) {
        self.pace.spend(self.board.env(), outcome.bytes_written);
        self.totals.flushes.fetch_add(1, Ordering::Relaxed);
        self.totals
            .flush_bytes_written
            .fetch_add(outcome.bytes_written, Ordering::Relaxed);
    }

    /// Runs the most urgent compaction of `tree`; `None` when none is due, or there is no space for it.
    fn compact_one(
        &self,
        tree: &Tree,
        idle: bool,
        put_off: &mut Option<PutOff>,
    ) -> Option<Result<()>> {
        let (job, promise) = self.next_planned_job(tree, idle, put_off)?;
        let is_due = matches!(job.reason, Reason::Runs | Reason::Size);
        let level0_runs = job.inputs.iter().filter(|(level, ..)| *level == 0).count();
        let (env, running) = (self.board.env(), self.board.compacting());
        let start = env.now();
        let outcome = self.run_compaction(tree, job, promise);
        drop(running);
        if is_due && outcome.is_ok() {
            let took = env.elapsed(start);
            (self.stall).compacted(level0_runs, took, self.compactions_most());
        }
        Some(outcome)
    }

    /// Runs a compaction. Where space is missing for it, it gets the reserve and runs once more, at
    /// once: flushes wait meanwhile, or they would use up what was given up for it (P15).
    pub(crate) fn run_compaction(&self, tree: &Tree, job: Job, promise: Promise<'_>) -> Result<()> {
        let mut lease = None;
        let (start, reason) = (self.board.env().now(), job.reason);
        let outcome = self.with_work(tree, |work| {
            tree.run_job(&job, work, |error| {
                let is_full = error.kind() == ErrorKind::NoSpace;
                if is_full {
                    lease = Some(self.reserve.lend());
                    self.give_up_reserve(Part::Compaction, error);
                }
                is_full
            })
        });
        // Its inputs are dead once it lets go of them.
        drop((job, promise));
        if let Ok(outcome) = &outcome
            && !outcome.edit.removed.is_empty()
        {
            self.options.listening.tell(&Event::Compacted {
                keyspace: tree.name(),
                reason: reason.word(),
                bytes_read: outcome.bytes_read,
                bytes_written: outcome.bytes_written,
                entries_dropped: outcome.entries_dropped,
                took: self.board.env().elapsed(start),
            });
        }
        let counted = self.count_compaction(outcome);
        if lease.take().is_some() {
            self.board.notify_done();
        }
        counted
    }

    /// Counts a finished compaction and tidies up behind it.
    pub(crate) fn count_compaction(
        &self,
        outcome: Result<crate::compaction::Outcome>,
    ) -> Result<()> {
        match outcome {
            Ok(outcome) => {
                let totals = &self.totals;
                totals.compactions.fetch_add(1, Ordering::Relaxed);
                totals
                    .compaction_bytes_read
                    .fetch_add(outcome.bytes_read, Ordering::Relaxed);
                totals
                    .compaction_bytes_written
                    .fetch_add(outcome.bytes_written, Ordering::Relaxed);
                self.health.recovered(Part::Compaction);
                self.after_change(Ok(()));
                Ok(())
            }
            Err(error) => {
                if !self.board.is_stopped() {
                    self.settle(Part::Compaction, Err(error.clone()));
                }
                Err(error)
            }
        }
    }

    /// A bulk load has given tables to some keyspaces.
    pub(crate) fn loaded(&self) {
        self.after_change(self.retire_logs());
        self.board.notify();
        if self.board.is_inline() {
            self.run_pending();
        }
    }

    /// After files changed: dead ones go, writers are told, waiters look again.
    fn after_change(&self, logs: Result<()>) {
        let mut swept = logs.and_then(|()| self.sweep_dead());
        if self.health.ails(Part::Reserve) {
            swept = swept.and_then(|()| self.reserve.refill(&self.fs));
        }
        self.settle(Part::Files, swept);
        self.update_stall();
        self.board.notify_done();
    }

    /// Gives upkeep what it needs from here.
    pub(crate) fn with_work<T>(&self, tree: &Tree, run: impl FnOnce(&Work<'_>) -> T) -> T {
        let work = Work {
            horizon: &|| self.horizon(),
            unless_read: &|from, act| self.snapshots.unless_read(from, act),
            stop: self.board.stopped(),
            breathe: &|bytes| self.take_breath(bytes),
            progressed: &|| self.update_stall(),
            sync_log: &|| self.sync_log_before(tree.id()),
        };
        run(&work)
    }

    /// Inside a compaction that has written `bytes` since the last time: waits until the limit on
    /// writing allows more, and lets flushes go first meanwhile.
    fn take_breath(&self, bytes: u64) {
        let env = self.board.env();
        self.pace.spend(env, bytes);
        loop {
            let seen = self.board.notices();
            self.let_flush_go_first();
            let ahead = self.pace.ahead(env);
            if ahead.is_zero() || self.board.is_inline() || self.board.is_stopped() {
                return;
            }
            self.board.rest(seen, ahead);
        }
    }

    /// Inside a compaction: with a single worker, runs a waiting flush right here; with several,
    /// steps aside for a moment while another worker flushes and writers are being slowed down.
    fn let_flush_go_first(&self) {
        if self.board.threads() <= 1 {
            let trees = self.trees.load_full();
            for tree in trees.by_id.values().filter(|tree| tree.wants_flush()) {
                self.flush_one(tree);
            }
        } else if self.board.flushes() > 0
            && self
                .stall
                .why()
                .is_some_and(|why| why.cause == StallCause::Flush)
        {
            self.board.wait_done(self.board.done());
        }
    }
}

#[cfg(test)]
mod tests;

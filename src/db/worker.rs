//! The background: a few workers for flushes and compactions, and one helper for the log.
//!
//! Workers look for work themselves (flushes first, then the most urgent compaction) and sleep on
//! the board when there is none. With no background threads the same rounds run on the writing
//! thread between writes: slow, and deterministic, which is what the simulator wants.
//!
//! A background failure never disappears: `mend` says what becomes of it. Not here: repairs.

use super::core::Core;
use super::health::Part;
use super::stall::StallCause;
use crate::base::error::{Error, Result};
use crate::base::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::base::sync::{Arc, Condvar, Mutex, thread};
use crate::base::types::SeqNo;
use crate::tree::{Tree, Work};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// With no write for so long, levels are merged down although nothing forces it.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// A failed job is tried again after so long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where workers find out that there is something to do, and others that it was done.
#[derive(Debug)]
pub(crate) struct Board {
    threads: usize,
    stop: AtomicBool,
    /// Flushes running: compactions stand back a little.
    flushes: AtomicUsize,
    /// Compactions running.
    compactions: AtomicUsize,
    state: Mutex<BoardState>,
    work: Condvar,
    done: Condvar,
    log_work: Condvar,
}

#[derive(Debug, Default)]
struct BoardState {
    /// Raised by each notice, so that none is lost between a look and a sleep (bug 71).
    notices: u64,
    log_notices: u64,
    done: u64,
    retry_at: Option<Instant>,
    last_write: Option<(SeqNo, Instant)>,
}

impl Board {
    pub(crate) fn new(threads: usize) -> Self {
        Board {
            threads,
            stop: AtomicBool::new(false),
            flushes: AtomicUsize::new(0),
            compactions: AtomicUsize::new(0),
            state: Mutex::new(BoardState::default()),
            work: Condvar::new(),
            done: Condvar::new(),
            log_work: Condvar::new(),
        }
    }

    /// True when upkeep runs on the writing thread.
    #[inline]
    pub(crate) fn is_inline(&self) -> bool {
        self.threads == 0
    }

    /// There may be something to do.
    pub(crate) fn notify(&self) {
        self.state.lock().notices += 1;
        self.work.notify_all();
    }

    /// The log wants its helper.
    pub(crate) fn notify_log(&self) {
        if !self.is_inline() {
            self.state.lock().log_notices += 1;
            self.log_work.notify_one();
        }
    }

    pub(crate) fn notify_done(&self) {
        let mut state = self.state.lock();
        state.done += 1;
        state.notices += 1;
        drop(state);
        self.done.notify_all();
        self.work.notify_all();
    }

    pub(crate) fn stop(&self) {
        // Pairs with the Acquire loads in the workers' loops and in compactions.
        self.stop.store(true, Ordering::Release);
        self.notify_done();
        self.log_work.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Flushes and compactions running.
    pub(crate) fn running(&self) -> u64 {
        (self.flushes.load(Ordering::Relaxed) + self.compactions.load(Ordering::Relaxed)) as u64
    }

    /// Waits until some job ends, or a little while.
    pub(crate) fn wait_done(&self) {
        let mut state = self.state.lock();
        let before = state.done;
        if state.done == before {
            self.done.wait_for(&mut state, Duration::from_millis(20));
        }
    }

    /// What has failed is tried again in a while; in inline mode with the next call.
    pub(crate) fn retry_later(&self) {
        if !self.is_inline() {
            self.state.lock().retry_at = Some(Instant::now() + RETRY_AFTER);
        }
    }

    pub(crate) fn must_wait_to_retry(&self) -> bool {
        self.state
            .lock()
            .retry_at
            .is_some_and(|at| Instant::now() < at)
    }
}

/// Counts a running job for as long as it lives.
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        // Relaxed: the counts steer priorities, nothing is published through them.
        count.fetch_add(1, Ordering::Relaxed);
        Running(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts the workers and the log's helper.
///
/// # Errors
/// `Io` when the system gives no thread; those started before are stopped by the caller.
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
    handles.push(spawn("alluvium-log".to_owned(), run_log_helper)?);
    for n in 0..core.board.threads {
        match spawn(format!("alluvium-{n}"), run_worker) {
            Ok(handle) => handles.push(handle),
            Err(error) => {
                core.board.stop();
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
    while !core.board.is_stopped() {
        let seen = core.board.state.lock().notices;
        let idle = core.is_idle();
        if core.do_one(idle) {
            continue;
        }
        let mut state = core.board.state.lock();
        if state.notices == seen && !core.board.is_stopped() {
            core.board.work.wait_for(&mut state, IDLE_AFTER);
        }
    }
}

fn run_log_helper(core: &Core) {
    let mut synced = Instant::now();
    while !core.board.is_stopped() {
        let seen = core.board.state.lock().log_notices;
        // It also sweeps: a reader may have let go of files since the last job ended (P17).
        core.mend();
        if !core.board.must_wait_to_retry() {
            core.settle(Part::Ahead, core.tend_log());
        }
        core.release_old_logs();
        core.balance_memory();
        if core
            .options
            .sync_every
            .is_some_and(|every| synced.elapsed() >= every)
        {
            synced = Instant::now();
            // A failed sync has suspended writes and is mended in the next round.
            let _ = core.sync_log();
        }
        let mut state = core.board.state.lock();
        if state.log_notices == seen && !core.board.is_stopped() {
            let nap = core
                .options
                .sync_every
                .unwrap_or(IDLE_AFTER)
                .min(IDLE_AFTER);
            core.board.log_work.wait_for(&mut state, nap);
        }
    }
}

impl Core {
    /// True when nothing was written for a while.
    fn is_idle(&self) -> bool {
        let now = self.visible();
        let mut state = self.board.state.lock();
        match state.last_write {
            Some((then, at)) if then == now => at.elapsed() >= IDLE_AFTER,
            _ => {
                state.last_write = Some((now, Instant::now()));
                false
            }
        }
    }

    /// Does the most urgent piece of work there is; false when there is none.
    pub(crate) fn do_one(&self, idle: bool) -> bool {
        if self.health.has_failed() || self.board.must_wait_to_retry() {
            return false;
        }
        if self.health.ails(Part::Log) || self.health.ails(Part::Manifest) {
            return false; // the repair comes first, and flushes what it must
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
        let most = self.board.threads.saturating_sub(1).max(1);
        if self.board.compactions.load(Ordering::Relaxed) >= most {
            return false;
        }
        let mut candidates: Vec<_> = trees
            .by_id
            .values()
            .map(|tree| (tree.pressure().compaction, tree))
            .collect();
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.id().cmp(&b.1.id())));
        for (_, tree) in candidates {
            if let Some(outcome) = self.compact_one(tree, idle) {
                return outcome.is_ok();
            }
        }
        self.health.recovered(Part::Compaction);
        false
    }

    /// Writes one waiting memtable of `tree`; false when there was none, or it failed.
    pub(crate) fn flush_one(&self, tree: &Tree) -> bool {
        let running = Running::new(&self.board.flushes);
        let start = Instant::now();
        let outcome = self.with_work(tree, |work| tree.flush(work));
        drop(running);
        match outcome {
            Ok(Some(outcome)) => {
                self.count_flush(&outcome);
                self.stall.measured(outcome.bytes_written, start.elapsed());
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
        self.totals.flushes.fetch_add(1, Ordering::Relaxed);
        self.totals
            .flush_bytes_written
            .fetch_add(outcome.bytes_written, Ordering::Relaxed);
    }

    /// Runs the most urgent compaction of `tree`; `None` when none is due.
    fn compact_one(&self, tree: &Tree, idle: bool) -> Option<Result<()>> {
        let oldest = self.oldest_snapshot();
        let job = tree.next_job(oldest, idle)?;
        let running = Running::new(&self.board.compactions);
        let outcome = self.with_work(tree, |work| tree.run_job(&job, work));
        drop((running, job));
        Some(self.count_compaction(outcome))
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

    /// After files changed: dead ones go, writers are told, waiters look again.
    fn after_change(&self, logs: Result<()>) {
        self.settle(Part::Files, logs.and_then(|()| self.sweep_dead()));
        self.update_stall();
        self.board.notify_done();
    }

    /// Gives upkeep what it needs from here.
    pub(crate) fn with_work<T>(&self, tree: &Tree, run: impl FnOnce(&Work<'_>) -> T) -> T {
        let work = Work {
            snapshots: &|| self.live_snapshots(),
            stop: &self.board.stop,
            breathe: &|| self.let_flush_go_first(),
            sync_log: &|| self.sync_log_before(tree.id()),
        };
        run(&work)
    }

    /// Inside a compaction: with a single worker, runs a waiting flush right here; with several,
    /// steps aside for a moment while another worker flushes and writers are being slowed down.
    fn let_flush_go_first(&self) {
        if self.board.threads <= 1 {
            let trees = self.trees.load_full();
            for tree in trees.by_id.values().filter(|tree| tree.wants_flush()) {
                self.flush_one(tree);
            }
        } else if self.board.flushes.load(Ordering::Relaxed) > 0
            && self
                .stall
                .why()
                .is_some_and(|why| why.cause == StallCause::Flush)
        {
            self.board.wait_done();
        }
    }
}

#[cfg(test)]
mod tests;

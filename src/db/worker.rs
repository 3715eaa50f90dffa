//! The background: a few workers for flushes and compactions, and one helper for the log.
//!
//! Workers look for work themselves (flushes first, then the most urgent compaction) and sleep on
//! the board when there is none. With no background threads the same rounds run on the writing
//! thread between writes: slow, and deterministic, which is what the simulator wants.
//!
//! A background failure never disappears: a full disk or an I/O error suspends writes and is tried
//! again every second; anything else, a panic included, stops writes for good.

use super::core::Core;
use super::stall::StallCause;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::base::sync::{Arc, Condvar, Mutex, thread};
use crate::base::types::SeqNo;
use crate::tree::{Tree, Work};
use crate::version::VersionEdit;
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

    fn notify_done(&self) {
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

    fn must_wait_to_retry(&self) -> bool {
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
        let body = move || {
            let result = catch_unwind(AssertUnwindSafe(|| run(&own)));
            if result.is_err() {
                own.health
                    .fail(Error::new(ErrorKind::Io, "a background thread panicked"));
                own.board.notify_done();
                own.stall.wake();
            }
        };
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
        core.settle(core.heal_manifest().and_then(|()| core.tend_log()));
        // A reader may have let go of files since the last job ended (P17).
        core.settle(core.sweep_dead());
        core.release_old_logs();
        core.balance_memory();
        if core
            .options
            .sync_every
            .is_some_and(|every| synced.elapsed() >= every)
        {
            synced = Instant::now();
            // A failed sync has already stopped writes and kept its cause.
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
    fn do_one(&self, idle: bool) -> bool {
        if self.health.has_failed() || self.board.must_wait_to_retry() {
            return false;
        }
        let trees = self.trees.load_full();
        let mut waiting: Vec<_> = trees.by_id.values().filter(|t| t.wants_flush()).collect();
        waiting.sort_by_key(|tree| std::cmp::Reverse(tree.immutables()));
        for tree in waiting {
            if self.flush_one(tree) {
                return true;
            }
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
        candidates
            .into_iter()
            .any(|(_, tree)| self.compact_one(tree, idle))
    }

    fn flush_one(&self, tree: &Tree) -> bool {
        let running = Running::new(&self.board.flushes);
        let start = Instant::now();
        let outcome = self.with_work(tree, |work| tree.flush(work));
        drop(running);
        let flushed = match outcome {
            Ok(Some(outcome)) => {
                self.totals.flushes.fetch_add(1, Ordering::Relaxed);
                let written = outcome.bytes_written;
                self.totals
                    .flush_bytes_written
                    .fetch_add(written, Ordering::Relaxed);
                self.stall.measured(written, start.elapsed());
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.settle(Err(error));
                return false;
            }
        };
        if flushed {
            self.after_change(self.retire_logs());
        }
        flushed
    }

    fn compact_one(&self, tree: &Tree, idle: bool) -> bool {
        let oldest = self.oldest_snapshot();
        let Some(job) = tree.next_job(oldest, idle) else {
            return false;
        };
        let running = Running::new(&self.board.compactions);
        let outcome = self.with_work(tree, |work| tree.run_job(&job, work));
        drop((running, job));
        self.count_compaction(outcome).is_ok()
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
                self.after_change(Ok(()));
                Ok(())
            }
            Err(error) => {
                if !self.board.is_stopped() {
                    self.settle(Err(error.clone()));
                }
                Err(error)
            }
        }
    }

    /// After files changed: dead ones go, writers are told, waiters look again.
    fn after_change(&self, logs: Result<()>) {
        self.settle(logs.and_then(|()| self.sweep_dead()));
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

    /// While the manifest could not be written, nothing is acknowledged (P13): writes a new one
    /// from memory as soon as that can be done.
    fn heal_manifest(&self) -> Result<()> {
        match self.versions.poisoned() {
            true => self.versions.heal(),
            false => Ok(()),
        }
    }

    /// Installs an edit for a caller outside of the background; a manifest that could not be
    /// written suspends writes until the log's helper has healed it.
    pub(crate) fn install(&self, edit: VersionEdit) -> Result<()> {
        self.versions
            .install(edit)
            .inspect_err(|_| self.notice_poison())
    }

    /// See [`Core::install`].
    pub(crate) fn notice_poison(&self) {
        if self.versions.poisoned() {
            self.settle(Err(Error::new(
                ErrorKind::Io,
                "the manifest could not be written",
            )));
            self.board.notify_log();
        }
    }

    /// Turns the result of background work into the database's health.
    pub(crate) fn settle(&self, result: Result<()>) {
        match result {
            Ok(()) => {
                if self.health.is_suspended() && !self.board.must_wait_to_retry() {
                    self.board.state.lock().retry_at = None;
                    self.health.recovered();
                }
            }
            Err(_) if self.board.is_stopped() => {}
            Err(error) => {
                match error.kind() {
                    ErrorKind::NoSpace | ErrorKind::Io => {
                        self.board.state.lock().retry_at = Some(Instant::now() + RETRY_AFTER);
                        self.health.suspend(error);
                    }
                    _ => self.health.fail(error),
                }
                self.stall.wake();
                self.board.notify_done();
            }
        }
    }

    /// Inline mode: all work that is due, on this thread.
    pub(crate) fn run_pending(&self) {
        self.release_old_logs();
        while !self.board.is_stopped() && self.do_one(false) {}
        if !self.health.has_failed() {
            self.settle(self.heal_manifest().and_then(|()| self.reserve_ahead()));
        }
    }
}

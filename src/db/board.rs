//! Where workers find out that there is something to do, and others that it was done.
//!
//! Every notice raises a count under the lock. Who is about to sleep names the count from before it
//! looked for work, and sleeps only while that is still the count: so no notice is lost between a
//! look and a sleep, and none of the sleeps needs its time limit to be right (bug 71).
//!
//! Threads: any.

use crate::base::error::Result;
use crate::base::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::base::sync::{Condvar, Mutex};
use crate::base::types::SeqNo;
use crate::fs::{Env, Instant};
use std::time::Duration;

/// With no write for so long, levels are merged down although nothing forces it.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// A failed job is tried again after so long.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest sleep of who waits for a job: what it waits for may also come about without one.
const DONE_WAIT_MAX: Duration = Duration::from_millis(20);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Board {
    env: Env,
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
    pub(crate) fn new(threads: usize, env: Env) -> Self {
        Board {
            env,
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

    /// A worker's life: does what there is to do, and sleeps when `do_one` finds nothing.
    pub(crate) fn work(&self, do_one: impl Fn() -> bool) {
        while !self.is_stopped() {
            let seen = self.notices();
            if do_one() {
                continue;
            }
            let mut state = self.state.lock();
            if state.notices == seen && !self.is_stopped() {
                self.env.wait(&self.work, &mut state, IDLE_AFTER);
            }
        }
    }

    /// Notices so far, for [`Board::rest`].
    pub(crate) fn notices(&self) -> u64 {
        self.state.lock().notices
    }

    /// In the middle of a job: sleeps at most so long, and not on after the first notice behind `seen`.
    pub(crate) fn rest(&self, seen: u64, limit: Duration) {
        let mut state = self.state.lock();
        if state.notices == seen && !self.is_stopped() {
            self.env.wait(&self.work, &mut state, limit);
        }
    }

    /// Waits until `is_so`, or its error; asked again after each job that ends.
    pub(crate) fn wait_until(&self, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        loop {
            let seen = self.done();
            if is_so()? {
                return Ok(());
            }
            self.wait_done(seen);
        }
    }

    /// Notices of the log so far, for [`Board::sleep_of_log`].
    pub(crate) fn log_notices(&self) -> u64 {
        self.state.lock().log_notices
    }

    /// As [`Board::sleep`], for the log's helper.
    pub(crate) fn sleep_of_log(&self, seen: u64, limit: Duration) {
        let mut state = self.state.lock();
        if state.log_notices == seen && !self.is_stopped() {
            self.env.wait(&self.log_work, &mut state, limit);
        }
    }

    /// Jobs ended so far, for [`Board::wait_done`].
    pub(crate) fn done(&self) -> u64 {
        self.state.lock().done
    }

    /// Waits until a job ends after the first `seen`, or a little while.
    pub(crate) fn wait_done(&self, seen: u64) {
        let mut state = self.state.lock();
        if state.done == seen && !self.is_stopped() {
            self.env.wait(&self.done, &mut state, DONE_WAIT_MAX);
        }
    }

    /// True when nothing was written for a while; `visible` is the last number.
    pub(crate) fn is_idle(&self, visible: SeqNo) -> bool {
        let mut state = self.state.lock();
        match state.last_write {
            Some((then, at)) if then == visible => self.env.elapsed(at) >= IDLE_AFTER,
            _ => {
                state.last_write = Some((visible, self.env.now()));
                false
            }
        }
    }

    /// What has failed is tried again in a while; in inline mode with the next call.
    pub(crate) fn retry_later(&self) {
        if !self.is_inline() {
            self.state.lock().retry_at = Some(self.env.now() + RETRY_AFTER);
        }
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// What jobs look at to give up early.
    pub(crate) fn stopped(&self) -> &AtomicBool {
        &self.stop
    }

    pub(crate) fn flushes(&self) -> usize {
        self.flushes.load(Ordering::Relaxed)
    }

    pub(crate) fn compactions(&self) -> usize {
        self.compactions.load(Ordering::Relaxed)
    }

    pub(crate) fn flushing(&self) -> Running<'_> {
        Running::new(&self.flushes)
    }

    pub(crate) fn compacting(&self) -> Running<'_> {
        Running::new(&self.compactions)
    }

    pub(crate) fn must_wait_to_retry(&self) -> bool {
        let retry_at = self.state.lock().retry_at;
        retry_at.is_some_and(|at| self.env.now() < at)
    }
}

/// Counts a running job for as long as it lives.
pub(crate) struct Running<'a>(&'a AtomicUsize);

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

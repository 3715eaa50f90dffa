//! Flushes and compactions of one tree, run by whichever worker asks.

use super::state::Tree;
use crate::base::error::Result;
use crate::base::sync::Arc;
use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::base::types::{FileId, SeqNo};
use crate::compaction::{self, Job, Outcome, Workshop, policy};
use crate::memtable::Memtable;
use crate::table::BirthIdentity;
use crate::version::{KeyspaceEdit, VersionEdit};

/// What upkeep asks of whoever runs it.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Live snapshots ascending, the last is what is visible now; asked when a job starts.
    pub snapshots: &'a dyn Fn() -> Vec<SeqNo>,
    /// Set when the work should be given up.
    pub stop: &'a AtomicBool,
    /// Called now and then inside a compaction, so that a flush can go first.
    pub breathe: &'a dyn Fn(),
    /// Makes the log durable before a flush that may not run ahead of it (I6).
    pub sync_log: &'a dyn Fn() -> Result<()>,
}

/// Clears a flag when dropped, so that a failed or panicking job frees its place.
struct Release<'a>(&'a AtomicBool);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        // Pairs with the AcqRel swap in `flush`.
        self.0.store(false, Ordering::Release);
    }
}

impl Tree {
    fn workshop<'a>(
        &'a self,
        work: &Work<'a>,
        snapshots: &'a [SeqNo],
        allocate_file: &'a dyn Fn() -> Result<FileId>,
        allocate_order: &'a dyn Fn() -> u64,
    ) -> Workshop<'a> {
        let versions = &self.context.versions;
        Workshop {
            fs: &self.context.fs,
            allocate_file,
            allocate_order,
            identity: BirthIdentity {
                database: versions.database(),
                file: FileId(0),
                hash_seed: versions.hash_seed(),
            },
            keyspace: self.id(),
            options: self.options(),
            snapshots,
            stop: work.stop,
            breathe: work.breathe,
        }
    }

    /// True when a memtable waits and nobody is flushing this tree.
    pub fn wants_flush(&self) -> bool {
        !self.is_dropped() && !self.flushing.load(Ordering::Acquire) && self.immutables() > 0
    }

    /// Writes the oldest waiting memtable to a table and takes it out of the view.
    ///
    /// `Ok(None)`: nothing waits, or another worker is at it. A failed flush leaves everything as
    /// it was: the memtable is still read, and its log is still there.
    pub fn flush(&self, work: &Work<'_>) -> Result<Option<Outcome>> {
        if self.flushing.swap(true, Ordering::AcqRel) {
            return Ok(None);
        }
        let _release = Release(&self.flushing);
        let Some((memtable, floor)) = self.oldest_waiting() else {
            return Ok(None);
        };
        let Some((_, through)) = memtable.seqnos() else {
            self.refresh_view(Some(&memtable));
            return Ok(None);
        };
        let snapshots = (work.snapshots)();
        let versions = &self.context.versions;
        let allocate_file = || versions.allocate_file();
        let allocate_order = || versions.allocate_order();
        // A flush lets nobody go first.
        let urgent = Work {
            breathe: &|| {},
            ..*work
        };
        let workshop = self.workshop(&urgent, &snapshots, &allocate_file, &allocate_order);
        let mut outcome = compaction::flush(std::slice::from_ref(&memtable), &workshop)?;
        (work.sync_log)()?;
        outcome.edit.id = self.id();
        outcome.edit.flushed_through = Some(through);
        outcome.edit.log_floor = Some(floor);
        if !self.install(outcome.edit.clone())? {
            return Ok(None);
        }
        self.raise_flushed_through(through);
        self.refresh_view(Some(&memtable));
        Ok(Some(outcome))
    }

    /// The oldest waiting memtable, and the log floor once it is flushed.
    fn oldest_waiting(&self) -> Option<(Arc<Memtable>, FileId)> {
        let waiting = self.waiting.lock();
        let (memtable, since) = waiting.immutables.front()?;
        let floor = waiting.immutables.get(1).map_or(*since, |(_, next)| *next);
        Some((Arc::clone(memtable), floor))
    }

    /// False when the keyspace was dropped meanwhile: then there is nothing to install, and the
    /// files made are orphans that the next open removes.
    fn install(&self, edit: KeyspaceEdit) -> Result<bool> {
        let edit = VersionEdit {
            keyspaces: vec![edit],
            ..VersionEdit::default()
        };
        match self.context.versions.install(edit) {
            Ok(()) => Ok(true),
            // The manifest knows of a drop before the tree does: see `Core::drop_keyspace`.
            Err(_) if self.is_dropped() || self.context.versions.version(self.id()).is_none() => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The most urgent compaction, reserved for the caller, who must give it to [`Tree::run_job`].
    ///
    /// `oldest`: the oldest live snapshot. `idle`: nobody writes, so levels are merged down.
    pub fn next_job(&self, oldest: SeqNo, idle: bool) -> Option<Job> {
        if self.is_dropped() {
            return None;
        }
        let mut busy = self.busy.lock();
        let version = self.context.versions.version(self.id())?;
        let job = policy::pick(&version, &busy, self.options(), oldest, idle)?;
        busy.reserve(&job);
        Some(job)
    }

    /// Runs a reserved job, installs what it made, and frees its inputs.
    pub fn run_job(&self, job: &Job, work: &Work<'_>) -> Result<Outcome> {
        let result = self.run_reserved(job, work);
        self.busy.lock().release(job);
        result
    }

    fn run_reserved(&self, job: &Job, work: &Work<'_>) -> Result<Outcome> {
        let snapshots = (work.snapshots)();
        let versions = &self.context.versions;
        let allocate_file = || versions.allocate_file();
        let allocate_order = || versions.allocate_order();
        let workshop = self.workshop(work, &snapshots, &allocate_file, &allocate_order);
        let mut outcome = compaction::execute(job, &workshop)?;
        outcome.edit.id = self.id();
        self.install(outcome.edit.clone())?;
        self.refresh_view(None);
        Ok(outcome)
    }
}

impl Tree {
    /// True when a compaction is due, whether or not anything runs.
    pub fn has_job_due(&self, oldest: SeqNo) -> bool {
        let busy = self.busy.lock();
        let version = self.context.versions.version(self.id());
        version.is_some_and(|v| policy::pick(&v, &busy, self.options(), oldest, false).is_some())
    }

    /// Begins a manual compaction of what the tables hold of a range now.
    pub fn begin_manual(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> policy::Manual {
        policy::Manual::new(&self.view_owned().version, from, to)
    }

    /// The next step of a manual compaction; a job in it is reserved for the caller.
    pub fn next_manual_job(&self, manual: &policy::Manual) -> ManualStep {
        let mut busy = self.busy.lock();
        let Some(version) = self.context.versions.version(self.id()) else {
            return ManualStep::Done;
        };
        match policy::pick_manual(&version, &busy, self.options(), manual) {
            Some(job) => {
                busy.reserve(&job);
                ManualStep::Run(job)
            }
            None if manual.is_done(&version, self.options()) => ManualStep::Done,
            None => ManualStep::Wait,
        }
    }
}

/// The next step of a manual compaction.
#[derive(Debug)]
pub enum ManualStep {
    /// Run this.
    Run(Job),
    /// Running jobs stand in its way.
    Wait,
    /// Nothing is left.
    Done,
}

//! Flushes and compactions of one tree, run by whichever worker asks.

use super::state::Tree;
use crate::base::error::{Error, Result};
use crate::base::filter::Filter;
use crate::base::options::KeyspaceOptions;
use crate::base::sync::Arc;
use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::base::types::{FileId, SeqNo};
use crate::compaction::{self, Filtering, Job, Outcome, Workshop, policy};
use crate::memtable::Memtable;
use crate::read::Horizon;
use crate::table::BirthIdentity;
use crate::version::{AddedTable, KeyspaceEdit, VersionEdit, VersionSet};
use std::cell::RefCell;

/// Does what it is given while nobody reads at the number or a later one; `None` when somebody does.
type UnlessRead<'a> = dyn Fn(SeqNo, &mut dyn FnMut() -> Result<()>) -> Option<Result<()>> + 'a;

/// What upkeep asks of whoever runs it.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// What no reader tells apart any more; asked when a job starts.
    pub horizon: &'a dyn Fn() -> Horizon,
    /// What becomes of what nobody reads.
    pub unless_read: &'a UnlessRead<'a>,
    /// Set when the work should be given up.
    pub stop: &'a AtomicBool,
    /// Called now and then inside a compaction, with the bytes written since the last time: a flush
    /// can go first, and a limit on writing be kept to.
    pub breathe: &'a dyn Fn(u64),
    /// Called when a compaction has gone on a little, so that writers may too.
    pub progressed: &'a dyn Fn(),
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

/// The file numbers of one job. Dropped before [`Allocations::keep`], it gives the files up: the
/// job removes them itself, and what it could not remove goes with a later sweep (P14).
struct Allocations<'a> {
    versions: &'a VersionSet,
    files: RefCell<Vec<FileId>>,
}

impl<'a> Allocations<'a> {
    fn new(versions: &'a VersionSet) -> Self {
        Allocations {
            versions,
            files: RefCell::default(),
        }
    }

    fn file(&self) -> Result<FileId> {
        let file = self.versions.allocate_file()?;
        self.files.borrow_mut().push(file);
        Ok(file)
    }

    fn keep(&self) {
        self.files.borrow_mut().clear();
    }
}

impl Drop for Allocations<'_> {
    fn drop(&mut self) {
        self.versions.give_up(self.files.get_mut().drain(..));
    }
}

/// Memtables written to tables that no version names yet. Dropped before [`Written::finish`], it
/// gives the tables up.
pub struct Written<'a> {
    tree: &'a Tree,
    memtables: Vec<Arc<Memtable>>,
    outcome: Outcome,
    through: SeqNo,
    files: Allocations<'a>,
    _release: Release<'a>,
}

impl Written<'_> {
    /// What an edit must say to put the tables in the place of the memtables.
    pub fn edit(&self) -> KeyspaceEdit {
        self.outcome.edit.clone()
    }

    /// That edit was installed.
    pub fn finish(self) -> Outcome {
        self.files.keep();
        self.tree.raise_flushed_through(self.through);
        self.tree.refresh_view(&self.memtables);
        self.outcome
    }
}

/// The place of the one flush of a tree, for a caller who flushes it himself.
pub struct FlushPlace<'a>(Release<'a>);

impl Tree {
    fn workshop<'a>(
        &'a self,
        work: &Work<'a>,
        options: &'a KeyspaceOptions,
        horizon: &'a Horizon,
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
            options,
            folding: self.view().folding.clone(),
            snapshots: &horizon.snapshots,
            expired: horizon.expired,
            filtering: None,
            stop: work.stop,
            breathe: work.breathe,
            progressed: work.progressed,
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
        let Some(release) = self.begin_flush() else {
            return Ok(None);
        };
        let Some((memtable, floor)) = self.views.oldest_waiting() else {
            return Ok(None);
        };
        let Some(written) = self.write(vec![memtable], floor, release, work)? else {
            return Ok(None);
        };
        (work.sync_log)()?;
        if !self.install(written.edit())? {
            return Ok(None);
        }
        Ok(Some(written.finish()))
    }

    /// Writes all waiting memtables to tables, for an edit of the caller's that names them: the
    /// repair of the log, which is one edit over all keyspaces.
    ///
    /// `Ok(None)`: nothing waits, or another worker is at it.
    pub fn write_waiting(&self, work: &Work<'_>) -> Result<Option<Written<'_>>> {
        let Some(release) = self.begin_flush() else {
            return Ok(None);
        };
        let (memtables, floor) = self.views.all_waiting();
        self.write(memtables, floor, release, work)
    }

    /// Takes the place of the one flush; `None`: another worker has it.
    pub fn take_flush_place(&self) -> Option<FlushPlace<'_>> {
        self.begin_flush().map(FlushPlace)
    }

    /// As [`Tree::write_waiting`], by who has the place.
    pub fn write_in<'a>(
        &'a self,
        place: FlushPlace<'a>,
        work: &Work<'_>,
    ) -> Result<Option<Written<'a>>> {
        let (memtables, floor) = self.views.all_waiting();
        self.write(memtables, floor, place.0, work)
    }

    /// Writes entries, in ascending order and each key once, to tables that no version names yet.
    pub fn load<K, V>(
        &self,
        entries: impl Iterator<Item = (K, V)>,
        seqno: SeqNo,
        work: &Work<'_>,
    ) -> Result<Vec<AddedTable>>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let allocations = Allocations::new(&self.context.versions);
        let allocate_file = || allocations.file();
        let (options, horizon) = (self.options(), Horizon::default());
        let workshop = self.workshop(work, &options, &horizon, &allocate_file, &|| 0);
        let expiry = self.expiry(None);
        if expiry.is_some() {
            self.context.clock.begin_use();
        }
        let tables = compaction::load(entries, seqno, expiry, &workshop)?;
        allocations.keep();
        Ok(tables)
    }

    /// Shows readers the tables that an edit of the caller's has added: with them, tables hold
    /// everything up to `through`.
    pub fn show_tables(&self, through: SeqNo) {
        self.raise_flushed_through(through);
        self.refresh_view(&[]);
    }

    fn begin_flush(&self) -> Option<Release<'_>> {
        // Only who took the place may free it: nothing is made, and so dropped, for the others.
        if self.flushing.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(Release(&self.flushing))
    }

    /// Writes memtables, newest first, to tables. `floor`: the oldest log segment that is needed
    /// once they are installed.
    fn write<'a>(
        &'a self,
        memtables: Vec<Arc<Memtable>>,
        floor: FileId,
        release: Release<'a>,
        work: &Work<'_>,
    ) -> Result<Option<Written<'a>>> {
        let Some(through) = memtables
            .iter()
            .filter_map(|m| m.seqnos())
            .map(|s| s.1)
            .max()
        else {
            self.refresh_view(&memtables);
            return Ok(None);
        };
        let horizon = (work.horizon)();
        let versions = &self.context.versions;
        let allocations = Allocations::new(versions);
        let allocate_file = || allocations.file();
        let allocate_order = || versions.allocate_order();
        // A flush lets nobody go first.
        let urgent = Work {
            breathe: &|_| {},
            progressed: &|| {},
            ..*work
        };
        let options = self.options();
        let workshop = self.workshop(&urgent, &options, &horizon, &allocate_file, &allocate_order);
        let mut outcome = compaction::flush(&memtables, &workshop)?;
        outcome.edit.id = self.id();
        outcome.edit.flushed_through = Some(through);
        outcome.edit.log_floor = Some(floor);
        Ok(Some(Written {
            tree: self,
            memtables,
            outcome,
            through,
            files: allocations,
            _release: release,
        }))
    }

    /// False when the keyspace was dropped meanwhile: then there is nothing to install.
    fn install(&self, edit: KeyspaceEdit) -> Result<bool> {
        let edit = VersionEdit {
            keyspaces: vec![edit],
            ..VersionEdit::default()
        };
        match self.context.versions.install(edit) {
            Ok(()) => Ok(true),
            // The manifest knows of a drop before the tree does: see `Core::drop_keyspace`.
            Err(_) if self.context.versions.version(self.id()).is_none() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The most urgent compaction, reserved for the caller, who must give it to [`Tree::run_job`].
    ///
    /// `idle`: nobody writes, so levels are merged down.
    pub fn next_job(&self, horizon: &Horizon, idle: bool) -> Option<Job> {
        if self.is_dropped() {
            return None;
        }
        let mut busy = self.busy.lock();
        let version = self.context.versions.version(self.id())?;
        let job = policy::pick(&version, &busy, &self.options(), horizon, idle)?;
        busy.reserve(&job);
        Some(job)
    }

    /// A reserved job that is not run.
    pub fn give_back(&self, job: &Job) {
        self.busy.lock().release(job);
    }

    /// Runs a reserved job, installs what it made, and frees its inputs. When it fails, and `again`
    /// says so, it is run once more before that.
    pub fn run_job(
        &self,
        job: &Job,
        work: &Work<'_>,
        again: impl FnOnce(&Error) -> bool,
    ) -> Result<Outcome> {
        let result = match self.run_reserved(job, work) {
            Err(error) if again(&error) => self.run_reserved(job, work),
            other => other,
        };
        if result.is_err() {
            job.tables().for_each(|table| table.set_unmerged(1.0));
        }
        self.busy.lock().release(job);
        result
    }

    fn run_reserved(&self, job: &Job, work: &Work<'_>) -> Result<Outcome> {
        let mut filter = self.filter();
        loop {
            match self.run_with(filter.take(), job, work)? {
                Some(outcome) => return Ok(outcome),
                // Somebody began to read what it removes: that stays for now,
                None if job.forgets_from().is_some() => return Ok(Outcome::default()),
                // or it is done once more, and nothing is filtered.
                None => continue,
            }
        }
    }

    /// `None`: what would go is read by somebody, so nothing was installed.
    fn run_with(
        &self,
        filter: Option<Filter>,
        job: &Job,
        work: &Work<'_>,
    ) -> Result<Option<Outcome>> {
        let horizon = (work.horizon)();
        let versions = &self.context.versions;
        let allocations = Allocations::new(versions);
        let allocate_file = || allocations.file();
        let allocate_order = || versions.allocate_order();
        let filtering = filter.and_then(|filter| Filtering::new(filter, &horizon));
        let through = filtering.as_ref().map(Filtering::through);
        let options = self.options();
        let workshop = Workshop {
            filtering,
            ..self.workshop(work, &options, &horizon, &allocate_file, &allocate_order)
        };
        let mut outcome = compaction::execute(job, &workshop)?;
        outcome.edit.id = self.id();
        let mut install = || -> Result<()> {
            if self.install(outcome.edit.clone())? {
                allocations.keep();
            }
            self.refresh_view(&[]);
            Ok(())
        };
        let filtered = through.filter(|_| outcome.filtered != 0);
        let installed = match job.forgets_from().or(filtered) {
            None => Some(install()),
            Some(from) => (work.unless_read)(from, &mut install),
        };
        installed.map(|done| done.map(|()| outcome)).transpose()
    }
}

impl Tree {
    /// True when a compaction is due, whether or not anything runs.
    pub fn has_job_due(&self, horizon: &Horizon) -> bool {
        let busy = self.busy.lock();
        let version = self.context.versions.version(self.id());
        version.is_some_and(|v| policy::pick(&v, &busy, &self.options(), horizon, false).is_some())
    }

    /// Begins a manual compaction of what the tables hold of a range now.
    pub fn begin_manual(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> policy::Manual {
        policy::Manual::new(&self.view_owned().version, from, to)
    }

    /// The next step of a manual compaction; a job in it is reserved for the caller.
    pub fn next_manual_job(&self, manual: &policy::Manual) -> ManualStep {
        let (mut busy, options) = (self.busy.lock(), self.options());
        let Some(version) = self.context.versions.version(self.id()) else {
            return ManualStep::Done;
        };
        match policy::pick_manual(&version, &busy, &options, manual) {
            Some(job) => {
                busy.reserve(&job);
                ManualStep::Run(job)
            }
            None if manual.is_done(&version, &options) => ManualStep::Done,
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

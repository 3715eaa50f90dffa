//! The log's segments: one that takes records, a spare, those still needed, those to use again.
//!
//! A segment is registered in the manifest before its first record (R4). A write never goes on in
//! a segment whose append or sync failed (P13): `mend` repairs that before anything more is
//! acknowledged. `Synced` is acknowledged only when every earlier segment is synced too, or, where
//! an earlier process wrote it, when tables hold what is in it (I12). Segments
//! are removed, recycled under a new number, or kept for those who follow the log, only after the edit
//! that strikes them off is durable; one that failed is removed.

use super::commit::{Commit, SEQNO_RESERVE};
use super::core::Core;
use super::health::Part;
use super::sweep::Leftovers;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::LogMode;
use crate::base::sync::Mutex;
use crate::base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::base::types::{FileId, KeyspaceId};
use crate::fs::{FileName, Fs};
use crate::version::{VersionEdit, VersionSet};
use crate::wal::{Predecessor, Syncer, Unbegun, WriterOptions};

/// The helper is woken each time so many bytes were appended.
pub(crate) const WAKE_EVERY: u64 = 1 << 20;
/// The mapping is populated ahead of the last record for so many rounds of the helper, at the pace
/// of the last one.
const POPULATE_ROUNDS: u64 = 4;
/// And so many bytes at least, and at most.
const POPULATE_AHEAD_MIN: u64 = 4 << 20;
const POPULATE_AHEAD_MAX: u64 = 32 << 20;
/// A spare is prepared once the active segment is so full, in percent.
const SPARE_FROM_PERCENT: u64 = 40;
/// Files kept for use as later segments.
const RECYCLED_MAX: usize = 2;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct LogSpace {
    chain: Mutex<Chain>,
    /// Held while one is made, so that a writer that finds none waits for the helper's, and numbers
    /// ascend along the chain.
    spare: Mutex<Option<Unbegun>>,
    /// Struck off the manifest, of full size, free to be renamed.
    recycled: Mutex<Vec<FileId>>,
    /// Registered, but its first bytes could not be written: struck off before another is begun,
    /// because nobody knows whether its header is there and would be taken for a link of the chain.
    broken: Mutex<Vec<FileId>>,
    /// Held while segments are struck off: two workers must not strike off the same ones.
    pub(super) retiring: Mutex<()>,
    /// Segments of an earlier process have records that are not known to be durable (I12).
    inherits: AtomicBool,
    pub(crate) syncs: AtomicU64,
    /// `syncs`, and the bytes appended, at the helper's last round.
    syncs_seen: AtomicU64,
    appended_seen: AtomicU64,
}

/// Segments from the oldest that is not known to be durable up to the active one.
#[derive(Debug, Default)]
struct Chain {
    unsynced: Vec<Syncer>,
    active: Option<Syncer>,
    /// Sealed and still registered.
    sealed: Vec<FileId>,
}

impl LogSpace {
    /// The first segment after opening; `older` are the registered ones before it, all durable
    /// unless `inherits`.
    pub(crate) fn start(&self, active: Syncer, older: Vec<FileId>, inherits: bool) {
        let mut chain = self.chain.lock();
        chain.active = Some(active);
        chain.sealed = older;
        // Nobody else has the database yet.
        self.inherits.store(inherits, Ordering::Relaxed);
    }

    /// True until tables hold what segments of an earlier process have and may not be durable (I12).
    pub(super) fn inherits(&self) -> bool {
        // Pairs with the Release store in `outlived`.
        self.inherits.load(Ordering::Acquire)
    }

    /// Tables hold all that stands in segments before the active one, durably.
    pub(super) fn outlived(&self) {
        self.inherits.store(false, Ordering::Release);
    }

    /// Registered segments, with the active one.
    pub(crate) fn count(&self) -> u64 {
        self.chain.lock().sealed.len() as u64 + 1
    }

    /// Makes the files of recycled segments go away with the next sweep: for a close.
    pub(crate) fn give_up_recycled(&self, leftovers: &Leftovers) {
        for segment in self.recycled.lock().drain(..) {
            leftovers.add(FileName::Log(segment));
        }
    }

    /// Keeps a file for a later segment; false when enough are kept.
    fn recycle(&self, segment: FileId) -> bool {
        let mut recycled = self.recycled.lock();
        let has_room = recycled.len() < RECYCLED_MAX;
        if has_room {
            recycled.push(segment);
        }
        has_room
    }

    /// True when an append or a sync failed in a segment that is still needed.
    pub(super) fn has_failed_segment(&self) -> bool {
        !self.failed_segments().is_empty()
    }

    pub(super) fn failed_segments(&self) -> Vec<FileId> {
        let chain = self.chain.lock();
        let segments = chain.unsynced.iter().chain(&chain.active);
        let failed = segments.filter(|segment| segment.failure().is_some());
        failed.map(Syncer::segment).collect()
    }

    /// Registered segments before `active`.
    pub(super) fn sealed_before(&self, active: FileId) -> Vec<FileId> {
        let chain = self.chain.lock();
        let sealed = chain.sealed.iter().copied();
        sealed.filter(|&segment| segment < active).collect()
    }

    /// These are struck off.
    pub(super) fn forget(&self, struck: &[FileId]) {
        let mut chain = self.chain.lock();
        chain.sealed.retain(|s| !struck.contains(s));
        chain.unsynced.retain(|s| !struck.contains(&s.segment()));
    }
}

/// Where segments are made.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) fs: &'a Fs,
    pub(crate) versions: &'a VersionSet,
    pub(crate) mode: LogMode,
    /// Takes what a failure leaves in the directory.
    pub(crate) leftovers: &'a Leftovers,
}

/// Makes and registers a segment of `capacity` bytes, from a recycled file if there is one, and
/// strikes off others with the same edit.
pub(crate) fn new_segment(
    site: Site<'_>,
    capacity: u64,
    recycled: Option<FileId>,
    struck: Vec<FileId>,
) -> Result<Unbegun> {
    let made = site.versions.allocate_file().and_then(|segment| {
        let spare = make_file(site, segment, capacity, recycled).and_then(|spare| {
            site.fs.sync_dir()?;
            site.versions.install(VersionEdit {
                logs_added: vec![segment],
                logs_removed: struck,
                ..VersionEdit::default()
            })?;
            Ok(spare)
        });
        // One that a failed edit may have registered is kept until that is settled.
        spare.inspect_err(|_| site.leftovers.add(FileName::Log(segment)))
    });
    made.inspect_err(|_| {
        // A rename that reports failure may have happened or not: the file has one of two names.
        if let Some(old) = recycled {
            site.leftovers.add(FileName::Log(old));
        }
    })
}

fn make_file(
    site: Site<'_>,
    segment: FileId,
    capacity: u64,
    recycled: Option<FileId>,
) -> Result<Unbegun> {
    let (fs, name) = (site.fs, FileName::Log(segment));
    let mut mode = site.mode;
    let file = match recycled {
        Some(old) => {
            fs.rename(FileName::Log(old), name)?;
            fs.open_write(name)?
        }
        None => {
            let file = fs.create_new(name)?;
            match file.preallocate(capacity) {
                Err(error) if error.kind() == ErrorKind::Unsupported => mode = LogMode::Write,
                other => other?,
            }
            file
        }
    };
    if !fs.guarantees_preallocation() {
        mode = LogMode::Write;
    }
    let options = WriterOptions {
        database: site.versions.database(),
        segment,
        mode,
        capacity,
        recycled: recycled.is_some(),
    };
    Unbegun::new(file, options)
}

impl Core {
    /// Ends the active segment and starts another with room for a record of `bytes`.
    #[cold]
    pub(crate) fn rotate_log(&self, commit: &mut Commit, bytes: usize) -> Result<()> {
        let before = commit.seal();
        match commit.writer.failure() {
            Some(cause) => Err(self.log_failed(nothing_written(cause))),
            None => self.start_segment(commit, before, bytes),
        }
    }

    /// Starts a segment behind `before`, with room for a record of `bytes`.
    #[cold]
    pub(super) fn start_segment(
        &self,
        commit: &mut Commit,
        before: Predecessor,
        bytes: usize,
    ) -> Result<()> {
        // A record beyond the usual size gets a segment of its own: fragment headers are a
        // two-thousandth, header and footer are small.
        let least = bytes as u64 + bytes as u64 / 1024 + 4096;
        let usual = self.options.log_segment_bytes;
        let mut place = self.log.spare.lock();
        let spare = match place.take() {
            Some(spare) if least <= usual => spare,
            passed_over => {
                // Numbers ascend along the chain, so a spare that is passed over can never be
                // used: it counts as sealed and goes with the next ones that are struck off.
                let passed_over = passed_over.map(|spare| spare.segment());
                self.log.chain.lock().sealed.extend(passed_over);
                self.make_spare_now(least)?
            }
        };
        drop(place);
        assert!(
            commit.segment() < spare.segment(),
            "R4: numbers ascend along the chain"
        );
        let segment = spare.segment();
        let begun = self
            .strike_broken()
            .and_then(|()| spare.begin(Some(before)));
        let writer = begun.map_err(|cause| {
            self.log.broken.lock().push(segment);
            nothing_written(cause)
        })?;
        let mut chain = self.log.chain.lock();
        if let Some(old) = chain.active.replace(writer.syncer()) {
            chain.sealed.push(old.segment());
            chain.unsynced.push(old);
        }
        drop(chain);
        commit.writer = writer;
        commit.sealed = None;
        commit.wake_at = WAKE_EVERY;
        self.board.notify_log();
        Ok(())
    }

    /// A segment for a record that waits: on a full disk a small one, in the place of the reserve.
    fn make_spare_now(&self, least: u64) -> Result<Unbegun> {
        let made = self.make_spare(least.max(self.options.log_segment_bytes));
        let Err(cause) = &made else { return made };
        let has_reserve = self.give_up_reserve(Part::Log, cause) || self.health.ails(Part::Reserve);
        if cause.kind() != ErrorKind::NoSpace || !has_reserve {
            return made;
        }
        self.make_spare(least.max(self.reserve.bytes() / 4))
    }

    fn make_spare(&self, capacity: u64) -> Result<Unbegun> {
        let usual = capacity == self.options.log_segment_bytes;
        let recycled = if usual {
            self.log.recycled.lock().pop()
        } else {
            None
        };
        let site = Site {
            fs: &self.fs,
            versions: &self.versions,
            mode: self.options.log_mode,
            leftovers: &self.leftovers,
        };
        let broken = std::mem::take(&mut *self.log.broken.lock());
        let made = new_segment(site, capacity, recycled, broken.clone());
        match &made {
            Ok(_) => self.gone(broken),
            Err(cause) => {
                self.log.broken.lock().extend(broken);
                self.notice_poison(cause);
                // At once, because it may hold space; what stays is told by the next sweep.
                let _ = self.leftovers.sweep(&self.fs, &self.versions);
            }
        }
        made.map_err(nothing_written)
    }

    /// Strikes off segments that could not be begun: before one that was registered earlier is
    /// begun in their stead.
    fn strike_broken(&self) -> Result<()> {
        let broken = std::mem::take(&mut *self.log.broken.lock());
        if broken.is_empty() {
            return Ok(());
        }
        let struck = self.install(VersionEdit {
            logs_removed: broken.clone(),
            ..VersionEdit::default()
        });
        match &struck {
            Ok(()) => self.gone(broken),
            Err(_) => self.log.broken.lock().extend(broken),
        }
        struck
    }

    fn gone(&self, segments: Vec<FileId>) {
        for segment in segments {
            self.leftovers.add(FileName::Log(segment));
        }
    }

    /// Makes every record placed so far durable, oldest segment first (P1, P2).
    ///
    /// After a failed sync nothing can be promised of that file any more: it is never synced
    /// again, and nothing is acknowledged until the log is repaired (P13).
    pub(crate) fn sync_log(&self) -> Result<()> {
        if self.log.inherits() {
            self.outlive_segments()
                .map_err(|cause| self.log_failed(cause))?;
        }
        let (unsynced, active) = {
            let chain = self.log.chain.lock();
            (chain.unsynced.clone(), chain.active.clone())
        };
        let result = unsynced.iter().chain(&active).try_for_each(|segment| {
            self.log.syncs.fetch_add(1, Ordering::Relaxed);
            segment.sync()
        });
        if let Err(cause) = result {
            return Err(self.log_failed(cause));
        }
        let done: Vec<_> = unsynced.iter().map(Syncer::segment).collect();
        self.log
            .chain
            .lock()
            .unsynced
            .retain(|s| !done.contains(&s.segment()));
        Ok(())
    }

    /// Before a flush of one keyspace becomes durable: when any other keyspace has writes only in
    /// the log, the log must be durable first, else a power cut could keep the newer write and lose
    /// the older one, or keep one half of a batch over both (I6, P2, P3).
    pub(crate) fn sync_log_before(&self, flushed: KeyspaceId) -> Result<()> {
        let trees = self.trees.load();
        let others = trees.by_id.values().filter(|tree| tree.id() != flushed);
        match others.into_iter().any(|tree| tree.has_unflushed()) {
            true => self.sync_log(),
            false => Ok(()),
        }
    }

    /// Strikes off segments that no memtable needs, and removes or recycles their files.
    pub(crate) fn retire_logs(&self) -> Result<()> {
        let _one_at_a_time = self.log.retiring.lock();
        let floor = {
            let commit = self.commit.lock();
            let trees = self.trees.load();
            let oldest = trees
                .by_id
                .values()
                .filter_map(|tree| tree.oldest_log())
                .min();
            oldest.unwrap_or(commit.segment()).min(commit.segment())
        };
        let retired: Vec<FileId> = self
            .log
            .chain
            .lock()
            .sealed
            .iter()
            .copied()
            .filter(|&s| s < floor)
            .collect();
        if retired.is_empty() {
            return Ok(());
        }
        let failed = self.log.failed_segments();
        self.install(VersionEdit {
            logs_removed: retired.clone(),
            ..VersionEdit::default()
        })?;
        self.log.forget(&retired);
        for segment in retired {
            let has_failed = failed.contains(&segment);
            let is_free = !has_failed && !self.retained.is_on() && self.is_usual_size(segment);
            if !is_free || !self.log.recycle(segment) {
                self.put_away(segment, has_failed);
            }
        }
        self.leftovers.sweep(&self.fs, &self.versions)
    }

    /// Removes a segment that was struck off, or keeps it for those who follow the log.
    pub(super) fn put_away(&self, segment: FileId, has_failed: bool) {
        let gone = match (self.retained.is_on(), has_failed) {
            (false, _) => vec![segment],
            (true, true) => self.retained.give_up(segment),
            (true, false) => (self.retained).keep(&self.fs, self.versions.database(), segment),
        };
        self.gone(gone);
    }

    fn is_usual_size(&self, segment: FileId) -> bool {
        let file = self.fs.open_read(FileName::Log(segment));
        file.and_then(|file| file.len())
            .is_ok_and(|len| len == self.options.log_segment_bytes)
    }

    /// The log helper's round: numbers and pages ahead of the writer, a spare, old segments.
    pub(crate) fn tend_log(&self) -> Result<()> {
        let (end, appended, active) = {
            let commit = self.commit.lock();
            let active = self.log.chain.lock().active.clone();
            (commit.writer.end(), commit.appended_bytes, active)
        };
        // Populated pages are dirty: while groups are synced, every sync would write them out, and
        // so would the close of a log that has no record.
        let syncs = self.log.syncs.load(Ordering::Relaxed);
        let synced_lately = self.log.syncs_seen.swap(syncs, Ordering::Relaxed) != syncs;
        let seen = self.log.appended_seen.swap(appended, Ordering::Relaxed);
        let pace = appended.saturating_sub(seen);
        if let (Some(active), false) = (active, synced_lately || appended == 0) {
            let ahead = pace.saturating_mul(POPULATE_ROUNDS);
            active.populate_ahead(ahead.clamp(POPULATE_AHEAD_MIN, POPULATE_AHEAD_MAX));
        }
        self.reserve_ahead()?;
        let usual = self.options.log_segment_bytes;
        if end < usual / 100 * SPARE_FROM_PERCENT {
            return Ok(());
        }
        let mut place = self.log.spare.lock();
        if place.is_none() {
            let mut spare = self.make_spare(usual)?;
            if !synced_lately {
                spare.populate(POPULATE_AHEAD_MIN);
            }
            *place = Some(spare);
        }
        Ok(())
    }
}

/// A failure in front of a record, which so was not written.
fn nothing_written(cause: Error) -> Error {
    match cause.kind() {
        ErrorKind::NoSpace => cause.advice("Nothing was written. Free space on the disk."),
        _ => cause.advice("Nothing was written. Try again."),
    }
}

const _: () = assert!(
    SEQNO_RESERVE > 1 << 20,
    "a reserve outlasts one round of the helper"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::Options;

    /// Populated pages are dirty, and a close would write them: 10 ms for nothing.
    #[test]
    fn a_log_that_nobody_writes_to_is_not_populated() {
        let dir = std::env::temp_dir().join(format!("alluvium-unpopulated-{}", std::process::id()));
        let options = Options::new().background_threads(0);
        let db = options.open(&dir).unwrap();
        let core = db.engine();
        let populated = || {
            core.tend_log().unwrap();
            let active = core.log.chain.lock().active.clone();
            active.expect("a log is open").populated()
        };
        assert_eq!(populated(), 0);
        db.put("k", "v").unwrap();
        let mapped = core.fs.guarantees_preallocation();
        assert_eq!(POPULATE_AHEAD_MIN < populated(), mapped);
        db.close().unwrap();
        crate::Db::destroy(&dir).unwrap();
    }
}

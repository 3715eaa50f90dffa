//! The log's segments: one that takes records, a spare, those still needed, those to use again.
//!
//! A segment is registered in the manifest before its first record (R4). A write never goes on in
//! a segment whose append or sync failed (P13). `Synced` is acknowledged only when every earlier
//! segment is synced too. Segments are removed, or recycled under a new number, only after the
//! edit that strikes them off is durable.

use super::commit::{Commit, SEQNO_RESERVE};
use super::core::Core;
use crate::base::error::{ErrorKind, Result};
use crate::base::options::LogMode;
use crate::base::sync::Mutex;
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::types::{FileId, KeyspaceId};
use crate::fs::{File, FileName, Fs};
use crate::version::{VersionEdit, VersionSet};
use crate::wal::{Predecessor, Syncer, Writer, WriterOptions};

/// The helper is woken each time so many bytes were appended.
pub(crate) const WAKE_EVERY: u64 = 1 << 20;
/// So many bytes of mapping are populated ahead of the last record.
const POPULATE_AHEAD: u64 = 4 << 20;
/// A spare is prepared once the active segment is so full, in percent.
const SPARE_FROM_PERCENT: u64 = 40;
/// Files kept for use as later segments.
const RECYCLED_MAX: usize = 2;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct LogSpace {
    chain: Mutex<Chain>,
    spare: Mutex<Option<Spare>>,
    /// Struck off the manifest, of full size, free to be renamed.
    recycled: Mutex<Vec<FileId>>,
    /// Held while segments are struck off: two workers must not strike off the same ones.
    retiring: Mutex<()>,
    pub(crate) syncs: AtomicU64,
    /// `syncs` at the helper's last round.
    syncs_seen: AtomicU64,
}

/// Segments from the oldest that is not known to be durable up to the active one.
#[derive(Debug, Default)]
struct Chain {
    unsynced: Vec<Syncer>,
    active: Option<Syncer>,
    /// Sealed and still registered.
    sealed: Vec<FileId>,
}

/// A registered segment without a record.
#[derive(Debug)]
pub(crate) struct Spare {
    segment: FileId,
    file: File,
    capacity: u64,
    mode: LogMode,
}

impl LogSpace {
    /// The first segment after opening; `older` are the registered ones before it, all durable.
    pub(crate) fn start(&self, active: Syncer, older: Vec<FileId>) {
        let mut chain = self.chain.lock();
        chain.active = Some(active);
        chain.sealed = older;
    }

    /// Registered segments, with the active one.
    pub(crate) fn count(&self) -> u64 {
        self.chain.lock().sealed.len() as u64 + 1
    }

    /// Makes the files of recycled segments go away: for a close.
    pub(crate) fn remove_recycled(&self, fs: &Fs) -> Result<()> {
        for segment in self.recycled.lock().drain(..) {
            fs.remove(FileName::Log(segment))?;
        }
        Ok(())
    }

    pub(crate) fn has_spare(&self) -> bool {
        self.spare.lock().is_some()
    }
}

/// Makes and registers a segment of `capacity` bytes, from a recycled file if there is one.
pub(crate) fn new_segment(
    fs: &Fs,
    versions: &VersionSet,
    mode: LogMode,
    capacity: u64,
    recycled: Option<FileId>,
    struck: Vec<FileId>,
) -> Result<Spare> {
    let segment = versions.allocate_file()?;
    let name = FileName::Log(segment);
    let mut mode = mode;
    let reused = match recycled {
        Some(old) => {
            fs.rename(FileName::Log(old), name)?;
            Some(fs.open_write(name)?)
        }
        None => None,
    };
    let file = match reused {
        Some(file) => file,
        None => {
            let file = fs.create_new(name)?;
            match file.preallocate(capacity) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Unsupported => mode = LogMode::Write,
                Err(error) => {
                    drop(file);
                    fs.remove(name)?;
                    return Err(error);
                }
            }
            file
        }
    };
    if !fs.guarantees_preallocation() {
        mode = LogMode::Write;
    }
    fs.sync_dir()?;
    versions.install(VersionEdit {
        logs_added: vec![segment],
        logs_removed: struck,
        ..VersionEdit::default()
    })?;
    Ok(Spare {
        segment,
        file,
        capacity,
        mode,
    })
}

impl Spare {
    /// Writes the segment's header; records may follow.
    pub(crate) fn begin(self, database: u64, before: Option<Predecessor>) -> Result<Writer> {
        let options = WriterOptions {
            database,
            segment: self.segment,
            mode: self.mode,
            capacity: self.capacity,
        };
        Writer::create(self.file, options, before)
    }
}

impl Core {
    /// Ends the active segment and starts another with room for a record of `bytes`.
    #[cold]
    pub(crate) fn rotate_log(&self, commit: &mut Commit, bytes: usize) -> Result<()> {
        let before = commit.seal();
        // A record beyond the usual size gets a segment of its own: fragment headers are a
        // two-thousandth, header and footer are small.
        let least = bytes as u64 + bytes as u64 / 1024 + 4096;
        let usual = self.options.log_segment_bytes;
        let spare = match self.log.spare.lock().take() {
            Some(spare) if least <= usual => Some(spare),
            // Numbers ascend along the chain, so a spare that is passed over can never be used:
            // it counts as sealed and goes with the next ones that are struck off.
            Some(passed_over) => {
                self.log.chain.lock().sealed.push(passed_over.segment);
                None
            }
            None => None,
        };
        let spare = match spare {
            Some(spare) => spare,
            None => self.make_spare(least.max(usual))?,
        };
        assert!(
            commit.segment() < spare.segment,
            "R4: numbers ascend along the chain"
        );
        let writer = spare.begin(self.versions.database(), Some(before))?;
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

    fn make_spare(&self, capacity: u64) -> Result<Spare> {
        let usual = capacity == self.options.log_segment_bytes;
        let recycled = if usual {
            self.log.recycled.lock().pop()
        } else {
            None
        };
        let mode = self.options.log_mode;
        new_segment(
            &self.fs,
            &self.versions,
            mode,
            capacity,
            recycled,
            Vec::new(),
        )
        .inspect_err(|_| self.notice_poison())
    }

    /// Makes every record placed so far durable, oldest segment first (P1, P2).
    ///
    /// After a failed sync nothing can be promised of that file any more: writes stop (P13).
    pub(crate) fn sync_log(&self) -> Result<()> {
        let (unsynced, active) = {
            let chain = self.log.chain.lock();
            (chain.unsynced.clone(), chain.active.clone())
        };
        let result = unsynced.iter().chain(&active).try_for_each(|segment| {
            self.log.syncs.fetch_add(1, Ordering::Relaxed);
            segment.sync()
        });
        if let Err(cause) = result {
            self.health.fail(cause.clone());
            return Err(cause);
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
        self.versions.install(VersionEdit {
            logs_removed: retired.clone(),
            ..VersionEdit::default()
        })?;
        let mut chain = self.log.chain.lock();
        chain.sealed.retain(|s| !retired.contains(s));
        chain.unsynced.retain(|s| !retired.contains(&s.segment()));
        drop(chain);
        for segment in retired {
            let mut recycled = self.log.recycled.lock();
            if recycled.len() < RECYCLED_MAX && self.is_usual_size(segment) {
                recycled.push(segment);
            } else {
                drop(recycled);
                self.fs.remove(FileName::Log(segment))?;
            }
        }
        Ok(())
    }

    fn is_usual_size(&self, segment: FileId) -> bool {
        let file = self.fs.open_read(FileName::Log(segment));
        file.and_then(|file| file.len())
            .is_ok_and(|len| len == self.options.log_segment_bytes)
    }

    /// The log helper's round: numbers and pages ahead of the writer, a spare, old segments.
    pub(crate) fn tend_log(&self) -> Result<()> {
        let (end, active) = {
            let commit = self.commit.lock();
            (commit.writer.end(), self.log.chain.lock().active.clone())
        };
        // Populated pages are dirty: while groups are synced, every sync would write them out.
        let syncs = self.log.syncs.load(Ordering::Relaxed);
        let synced_lately = self.log.syncs_seen.swap(syncs, Ordering::Relaxed) != syncs;
        if let (Some(active), false) = (active, synced_lately) {
            active.populate_ahead(POPULATE_AHEAD);
        }
        self.reserve_ahead()?;
        let usual = self.options.log_segment_bytes;
        if end >= usual / 100 * SPARE_FROM_PERCENT && !self.log.has_spare() {
            let spare = self.make_spare(usual)?;
            // A writer that found no spare may have started a later segment meanwhile: numbers
            // ascend along the chain, so this one then goes with the next that are struck off.
            let commit = self.commit.lock();
            let mut place = self.log.spare.lock();
            if place.is_none() && commit.segment() < spare.segment {
                *place = Some(spare);
            } else {
                self.log.chain.lock().sealed.push(spare.segment);
            }
        }
        Ok(())
    }
}

const _: () = assert!(
    SEQNO_RESERVE > 1 << 20,
    "a reserve outlasts one round of the helper"
);

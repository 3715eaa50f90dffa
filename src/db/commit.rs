//! The one way in for every mutation: number, log, memtables, publication.
//!
//! Under the write lock, in this order: health is checked, the batch gets its sequence numbers,
//! its record is placed in the log, its operations go into the memtables, and the highest number
//! is published. So the order of the log, of the numbers and of visibility are the same (I4), and
//! no acknowledged record lies behind a hole. Encoding, hashing and checksums are done before the
//! lock is taken, syncing and waking after it is released.
//!
//! A `Logged` write takes the lock itself. `Synced` writes join a group: the first becomes its
//! leader, places every waiting record with one write call, publishes them, and syncs once for
//! all; while it syncs, the next group gathers (group.rs).

use super::core::Core;
use super::watch::{Refusal, Watch, Watched};
use crate::base::batch::WriteBatch;
use crate::base::checksum;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Durability;
use crate::base::payload::note_of_load;
use crate::base::reads::ReadSet;
use crate::base::sync::Arc;
use crate::base::types::{FileId, KeyspaceId, SeqNo, ValueKind};
use crate::tree::Tree;
use crate::wal;
use std::cell::RefCell;

/// Sequence numbers reserved in the manifest at a time: 2^24 is one manifest sync in several
/// seconds of the fastest writing, and 2^32 reopenings before 56 bits run out.
pub(crate) const SEQNO_RESERVE: u64 = 1 << 24;

/// Up to where to reserve, to have `more` above `used`: never the largest number, which stands for
/// "after every write".
pub(super) fn reserved_above(used: u64, more: u64) -> SeqNo {
    SeqNo::new(used.saturating_add(more).min(SeqNo::MAX.get() - 1))
}

/// What the write lock guards.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) writer: wal::Writer,
    /// The number of the next operation.
    pub(crate) next: u64,
    /// Numbers up to this one are reserved in the manifest (P6).
    pub(crate) ceiling: u64,
    /// The log's end at which its helper is woken to prepare more.
    pub(crate) wake_at: u64,
    pub(crate) sealed: Option<wal::Predecessor>,
    pub(crate) appended_bytes: u64,
    /// What is written while somebody decides on what he has read.
    pub(super) watched: Watched,
}

impl Commit {
    /// The segment that takes records now.
    pub(crate) fn segment(&self) -> FileId {
        self.writer.segment()
    }

    /// Ends the segment, or says where its valid records end when it cannot be ended.
    pub(crate) fn seal(&mut self) -> wal::Predecessor {
        if let Some(end) = self.sealed {
            return end;
        }
        let end = self.writer.seal().unwrap_or_else(|_| self.writer.cut());
        self.sealed = Some(end);
        end
    }
}

/// The number of a guarded write's last operation, or why it was not written.
pub(super) type Guarded = std::result::Result<SeqNo, Refusal>;

/// A batch made ready outside the lock.
struct Prepared<'a> {
    batch: &'a WriteBatch,
    crc: u32,
    hashes: &'a [u64],
}

/// Index lines of a batch are brought into the cache so many operations ahead.
const PREFETCH_OPERATIONS: usize = 8;

/// A thread keeps its scratch batch up to this size.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

thread_local! {
    /// A batch and its hashes, reused by every write of the thread.
    static SCRATCH: RefCell<(WriteBatch, Vec<u64>)> =
        RefCell::new((WriteBatch::new(), Vec::new()));
}

impl Core {
    /// Writes a batch that `fill` makes, over one keyspace: put, merge and delete.
    #[inline]
    pub(crate) fn write_one(
        &self,
        tree: &Tree,
        durability: Option<Durability>,
        fill: impl FnOnce(&mut WriteBatch),
    ) -> Result<SeqNo> {
        SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => {
                let (batch, hashes) = &mut *scratch;
                batch.clear();
                fill(batch);
                let result = self.write_with(batch, Some(tree), durability, hashes);
                if batch.bytes() > SCRATCH_BYTES_MAX {
                    *batch = WriteBatch::new();
                }
                result
            }
            // A write inside a write: upkeep that runs on the writing thread.
            Err(_) => {
                let mut batch = WriteBatch::new();
                fill(&mut batch);
                self.write_with(&batch, Some(tree), durability, &mut Vec::new())
            }
        })
    }

    /// Writes a batch over any keyspaces.
    pub(crate) fn write_batch(
        &self,
        batch: &WriteBatch,
        durability: Option<Durability>,
    ) -> Result<SeqNo> {
        if batch
            .database()
            .is_some_and(|database| database != self.instance)
        {
            return Err(
                Error::invalid("the batch names keyspaces of another database")
                    .advice("Nothing was written."),
            );
        }
        self.write_with(batch, None, durability, &mut Vec::new())
    }

    #[inline]
    fn write_with(
        &self,
        batch: &WriteBatch,
        only: Option<&Tree>,
        durability: Option<Durability>,
        hashes: &mut Vec<u64>,
    ) -> Result<SeqNo> {
        self.check_batch(batch)?;
        let durability = durability.unwrap_or(self.options.durability);
        if batch.is_empty() {
            self.mend_inline();
            self.health.check()?;
            let seqno = self.visible();
            // It has nothing to make durable but "everything written before it".
            if durability == Durability::Synced {
                self.sync_log()?;
            }
            return Ok(seqno);
        }
        let crc = self.make_ready(batch, hashes)?;
        let prepared = Prepared { batch, crc, hashes };
        let result = match durability {
            Durability::Logged => self.write_logged(&prepared, only),
            Durability::Synced => self.write_synced(batch, hashes, crc),
        };
        if self.board.is_inline() {
            self.run_pending();
        }
        result
    }

    #[inline]
    fn check_batch(&self, batch: &WriteBatch) -> Result<()> {
        batch.check()?;
        if !batch.merged().is_empty() {
            self.check_merges(batch)?;
        }
        if batch.bytes() as u64 <= self.options.memory_bytes / 4 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TooLarge, "the batch is too large")
            .expected(
                format!(
                    "at most a quarter of memory_bytes ({})",
                    self.options.memory_bytes
                ),
                format!("{} bytes", batch.bytes()),
            )
            .advice("Nothing was written."))
    }

    #[cold]
    fn check_merges(&self, batch: &WriteBatch) -> Result<()> {
        for &keyspace in batch.merged() {
            self.tree(keyspace)?.check_takes_merges()?;
        }
        Ok(())
    }

    /// What is done before the lock is taken: waits for room, then hashes; the payload's checksum.
    #[inline]
    fn make_ready(&self, batch: &WriteBatch, hashes: &mut Vec<u64>) -> Result<u32> {
        self.mend_inline();
        self.stall.admit(batch.bytes(), &self.health)?;
        hashes.clear();
        for operation in batch.operations() {
            hashes.push(self.hasher.hash(operation?.key));
        }
        Ok(checksum::crc(batch.encoded()))
    }

    #[inline]
    fn write_logged(&self, prepared: &Prepared<'_>, only: Option<&Tree>) -> Result<SeqNo> {
        if let (Some(tree), Some(&hash)) = (only, prepared.hashes.first()) {
            tree.active().prefetch(hash);
        }
        self.write_under(&mut self.commit.lock(), prepared, only)
    }

    /// Places one batch, applies it and makes it visible; the caller holds the lock.
    #[inline]
    fn write_under(
        &self,
        commit: &mut Commit,
        prepared: &Prepared<'_>,
        only: Option<&Tree>,
    ) -> Result<SeqNo> {
        self.leave_sealed_segment(commit, prepared.batch.bytes())?;
        let last = self.place(commit, prepared, only)?;
        self.apply(commit, prepared, last, only)?;
        self.published.publish(last);
        Ok(last)
    }

    /// Writes `batch`, which is not empty, unless something in `reads` was written since `watch`
    /// began. Not synced, whatever was asked for: the watch should not be kept for so long.
    pub(super) fn write_watched(
        &self,
        watch: &Watch<'_>,
        reads: &ReadSet,
        batch: &WriteBatch,
    ) -> Result<Guarded> {
        self.check_batch(batch)?;
        let mut hashes = Vec::with_capacity(batch.len());
        let crc = self.make_ready(batch, &mut hashes)?;
        let prepared = Prepared {
            batch,
            crc,
            hashes: &hashes,
        };
        let mut commit = self.commit.lock();
        // I10: from here to the publication nobody else writes, or drops a keyspace that was read.
        for (keyspace, _) in reads.keyspaces() {
            self.tree(keyspace)?.check_open()?;
        }
        if let Err(refusal) = commit.watched.check(watch, reads) {
            return Ok(Err(refusal));
        }
        self.write_under(&mut commit, &prepared, None).map(Ok)
    }

    /// Starts a new segment when this one was sealed and no other could be made then; one that
    /// failed is left by the log's repair only. Not in the middle of a group: its records are good
    /// in one segment together, or none is.
    #[inline]
    fn leave_sealed_segment(&self, commit: &mut Commit, next_bytes: usize) -> Result<()> {
        if commit.sealed.is_none() && commit.writer.failure().is_none() {
            return Ok(());
        }
        self.health.check_making_room()?;
        self.rotate_log(commit, next_bytes)
    }

    /// Lets a batch pass that only deletes, while nothing but space is missing (P15).
    #[cold]
    fn admit_deletions(&self, batch: &WriteBatch) -> Result<()> {
        self.health.check_making_room()?;
        for operation in batch.operations() {
            let kind = operation?.kind;
            if !matches!(kind, ValueKind::Delete | ValueKind::DeleteRange) {
                return self.health.check();
            }
        }
        Ok(())
    }

    /// Gives numbers and puts the record into the log. Nothing is visible yet.
    #[inline]
    fn place(
        &self,
        commit: &mut Commit,
        prepared: &Prepared<'_>,
        only: Option<&Tree>,
    ) -> Result<SeqNo> {
        if !self.health.is_ok() {
            self.admit_deletions(prepared.batch)?;
        }
        match only {
            Some(tree) => tree.check_open()?,
            None => {
                let trees = self.trees.load();
                for &id in prepared.batch.keyspaces() {
                    match trees.by_id.get(&id) {
                        Some(tree) => tree.check_open()?,
                        None => self.tree(id)?.check_open()?,
                    }
                }
            }
        }
        let first = commit.next;
        let last = first + prepared.batch.len() as u64 - 1;
        if last > commit.ceiling {
            self.raise_ceiling(commit, last)?;
        }
        let (first, last) = (SeqNo::new(first), SeqNo::new(last));
        self.log_record(commit, first, last, prepared.batch.encoded(), prepared.crc)?;
        if !commit.watched.is_idle() {
            commit.watched.note(prepared.batch);
        }
        if commit.writer.end() >= commit.wake_at {
            commit.wake_at = commit.writer.end() + super::log::WAKE_EVERY;
            self.board.notify_log();
        }
        Ok(last)
    }

    /// Puts a record into the log.
    #[inline]
    fn log_record(
        &self,
        commit: &mut Commit,
        first: SeqNo,
        last: SeqNo,
        payload: &[u8],
        crc: u32,
    ) -> Result<()> {
        if !commit.writer.fits(payload.len()) {
            self.rotate_log(commit, payload.len())?;
        }
        // The numbers are used up also when this fails: they never name two writes (P6).
        commit.next = last.get() + 1;
        if let Err(cause) = commit.writer.append(first, last, payload, crc) {
            return Err(self.append_failed(commit, cause));
        }
        commit.appended_bytes += (payload.len() + wal::format::RECORD_HEADER_BYTES) as u64;
        Ok(())
    }

    /// Puts the note of a bulk load with the number `at` into the log (`base::payload`).
    pub(super) fn note_load(
        &self,
        commit: &mut Commit,
        at: SeqNo,
        trees: &[Arc<Tree>],
    ) -> Result<()> {
        let note = note_of_load(trees.iter().map(|tree| tree.id()));
        self.leave_sealed_segment(commit, note.len())?;
        self.log_record(commit, at, at, &note, checksum::crc(&note))
    }

    /// The record may be there in part, and must never be found: the next segment's header cuts
    /// this one before it (R15).
    #[cold]
    fn append_failed(&self, commit: &mut Commit, cause: Error) -> Error {
        commit.sealed = Some(commit.writer.cut());
        self.log_failed(cause.advice(
            "Nothing was written, and this write will never appear. Writes resume by themselves \
             once the log goes on in a new file.",
        ))
    }

    /// Puts the operations into the memtables, and afterwards rotates those that are full: never in
    /// the middle of a batch, because a flush of its first half could become durable before the
    /// log that holds its second half (I7, P3).
    #[inline]
    fn apply(
        &self,
        commit: &Commit,
        prepared: &Prepared<'_>,
        last: SeqNo,
        only: Option<&Tree>,
    ) -> Result<()> {
        let first = last.get() + 1 - prepared.batch.len() as u64;
        let mut trees = None;
        // The memtable that takes the operation, and its tree unless that is `only`.
        let mut target = only.map(|only| (only.active(), None));
        let mut at = KeyspaceId(u32::MAX);
        let mut only_is_full = false;
        let mut full: Vec<Arc<Tree>> = Vec::new();
        let hashes = prepared.hashes;
        let numbered = prepared.batch.operations().zip(hashes).zip(first..);
        for (i, ((operation, &hash), seqno)) in numbered.enumerate() {
            let operation = operation?;
            if only.is_none() && at != operation.keyspace {
                at = operation.keyspace;
                let trees = trees.get_or_insert_with(|| self.trees.load());
                let tree = trees.by_id.get(&at).cloned();
                target = tree.map(|tree| (tree.active(), Some(tree)));
            }
            // Checked in `place`, under the same lock; a dropped keyspace takes nothing.
            let Some((active, tree)) = &target else {
                continue;
            };
            // For another keyspace's operation this is in vain, and no more than that.
            if let Some(&ahead) = hashes.get(i + PREFETCH_OPERATIONS) {
                active.prefetch(ahead);
            }
            if active.apply(&operation, hash, SeqNo::new(seqno))? {
                match tree {
                    None => only_is_full = true,
                    Some(tree) if full.iter().any(|other| Arc::ptr_eq(other, tree)) => {}
                    Some(tree) => full.push(Arc::clone(tree)),
                }
            }
        }
        drop(target);
        if let (Some(only), true) = (only, only_is_full) {
            self.rotate_tree(commit, only);
        }
        for tree in &full {
            self.rotate_tree(commit, tree);
        }
        Ok(())
    }

    #[cold]
    fn rotate_tree(&self, commit: &Commit, tree: &Tree) {
        if tree.pressure().is_full() {
            // As many wait as may: the next writers wait too, and the first one after that rotates.
            self.update_stall();
        } else if tree.rotate(commit.segment()) {
            self.update_stall();
            self.board.notify();
        }
    }

    #[cold]
    fn raise_ceiling(&self, commit: &mut Commit, least: u64) -> Result<()> {
        let to = reserved_above(least, SEQNO_RESERVE);
        if least >= SeqNo::MAX.get() {
            return Err(
                Error::new(ErrorKind::TooLarge, "all sequence numbers are used up")
                    .advice("Copy the data into a new database."),
            );
        }
        self.versions
            .raise_seqno_ceiling(to)
            .inspect_err(|cause| self.notice_poison(cause))?;
        commit.ceiling = to.get();
        Ok(())
    }

    /// Reserves numbers up to `last`.
    pub(super) fn reserve_through(&self, commit: &mut Commit, last: SeqNo) -> Result<()> {
        match last.get() <= commit.ceiling {
            true => Ok(()),
            false => self.raise_ceiling(commit, last.get()),
        }
    }

    /// Reserves more numbers ahead of need, off the write path.
    pub(crate) fn reserve_ahead(&self) -> Result<()> {
        let (next, ceiling) = {
            let commit = self.commit.lock();
            (commit.next, commit.ceiling)
        };
        if ceiling.saturating_sub(next) < SEQNO_RESERVE / 2 {
            let to = reserved_above(next, 2 * SEQNO_RESERVE);
            self.versions.raise_seqno_ceiling(to)?;
            let mut commit = self.commit.lock();
            commit.ceiling = commit.ceiling.max(to.get());
        }
        Ok(())
    }
}

pub(super) fn visible_but_not_synced(cause: Error) -> Error {
    cause.advice(
        "The write is logged and visible, but not synced: after a power cut it is there whole or \
         not at all.",
    )
}

/// A `Synced` write that waits for its group.
#[derive(Debug)]
pub(crate) struct Member {
    batch: WriteBatch,
    hashes: Vec<u64>,
    crc: u32,
}

impl Core {
    fn write_synced(&self, batch: &WriteBatch, hashes: &[u64], crc: u32) -> Result<SeqNo> {
        let member = Member {
            batch: batch.clone(),
            hashes: hashes.to_vec(),
            crc,
        };
        let orphaned = || {
            let cause = Error::new(ErrorKind::Io, "the leader of a write group panicked");
            self.health.fail(cause.clone());
            Err(cause)
        };
        self.group
            .join(member, |members| self.lead(members), orphaned)
    }

    /// Places, publishes and syncs a group.
    fn lead(&self, members: &[Member]) -> Vec<Result<SeqNo>> {
        let mut answers = self.lead_under_lock(members);
        if answers.iter().any(Result::is_ok)
            && let Err(cause) = self.sync_log()
        {
            for answer in answers.iter_mut().filter(|a| a.is_ok()) {
                *answer = Err(visible_but_not_synced(cause.clone()));
            }
        }
        answers
    }

    fn lead_under_lock(&self, members: &[Member]) -> Vec<Result<SeqNo>> {
        let prepared: Vec<_> = members
            .iter()
            .map(|member| Prepared {
                batch: &member.batch,
                crc: member.crc,
                hashes: &member.hashes,
            })
            .collect();
        let mut answers: Vec<Result<SeqNo>> = Vec::with_capacity(members.len());
        let mut commit = self.commit.lock();
        let mut done = 0;
        while done < prepared.len() {
            let next_bytes = prepared[done].batch.bytes();
            if let Err(cause) = self.leave_sealed_segment(&mut commit, next_bytes) {
                answers.push(Err(cause));
                done += 1;
                continue;
            }
            // One write call for as many records as fit the segment.
            let room = prepared[done..]
                .iter()
                .scan(0, |sum, p| {
                    *sum += p.batch.bytes() + 2 * wal::format::RECORD_HEADER_BYTES;
                    Some(*sum)
                })
                .take_while(|&sum| commit.writer.fits(sum))
                .count();
            let until = done + room.max(1);
            let group = &prepared[done..until];
            done = until;
            if room > 0 {
                commit.writer.begin_group();
            }
            let placed: Vec<_> = group
                .iter()
                .map(|p| self.place(&mut commit, p, None))
                .collect();
            let flushed = if room > 0 {
                commit.writer.flush_group()
            } else {
                Ok(())
            };
            if let Err(cause) = flushed {
                let cause = self.append_failed(&mut commit, cause);
                answers.extend(group.iter().map(|_| Err(cause.clone())));
                continue;
            }
            for (prepared, placed) in group.iter().zip(placed) {
                answers.push(placed.and_then(|last| {
                    self.apply(&commit, prepared, last, None)?;
                    self.published.publish(last);
                    Ok(last)
                }));
            }
        }
        answers
    }
}

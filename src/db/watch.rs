//! Writes that depend on what was read: how they learn that it has been written since.
//!
//! A *watch* begins under the write lock, at the number that is visible then, and from then on the
//! commit notes which keys are written. What its owner read is compared with older writes outside
//! the lock, in memtables and tables alike (a conflict is no less one when it was flushed), and
//! under the lock with the few keys noted since. So a decision is checked without a gap, nobody
//! waits for a table under the lock, and while nobody watches a write pays one branch.
//!
//! Invariants: the noted keys are those of all records placed since the oldest watch began, in their
//! order, unless there were too many: then they are forgotten, a watch that began before says so
//! ([`Refusal::Forgotten`]), and its owner begins another. Starts of watches ascend with their
//! numbers. Threads: [`Watched`] is used under the write lock.

use super::commit::visible_but_not_synced;
use super::core::Core;
use crate::base::batch::WriteBatch;
use crate::base::error::Result;
use crate::base::operation::Operation;
use crate::base::options::Durability;
use crate::base::ranges::HalfOpen;
use crate::base::reads::ReadSet;
use crate::base::types::{KeyspaceId, SeqNo, ValueKind};
use crate::read::{self, Bounds};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// The noted keys take at most this much memory.
const NOTED_BYTES_MAX: usize = 4 << 20;
/// What a noted key takes beside its bytes.
const NOTE_OVERHEAD: usize = 48;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// By the number of the watch: how many keys had been noted when it began.
    starts: BTreeMap<u64, u64>,
    next_watch: u64,
    noted: VecDeque<(KeyspaceId, Note)>,
    /// How many were noted, ever, before the first of `noted`.
    first: u64,
    bytes: usize,
}

/// What was written.
#[derive(Debug)]
enum Note {
    Key(Box<[u8]>),
    Range(HalfOpen),
}

impl Note {
    fn of(operation: &Operation<'_>) -> Note {
        match operation.kind {
            ValueKind::DeleteRange => Note::Range(operation.range()),
            _ => Note::Key(Box::from(operation.key)),
        }
    }

    fn bytes(&self) -> usize {
        NOTE_OVERHEAD
            + match self {
                Note::Key(key) => key.len(),
                Note::Range(range) => range.bytes(),
            }
    }

    /// A key of it that was read.
    fn read_in(&self, keyspace: KeyspaceId, reads: &ReadSet) -> Option<Box<[u8]>> {
        match self {
            Note::Key(key) => reads.contains(keyspace, key).then(|| key.clone()),
            Note::Range(range) => reads.any_within(keyspace, range),
        }
    }
}

/// What became of a guarded write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was written; the number of its last operation.
    Written(SeqNo),
    /// Nothing was written: this key was read, and has been written since.
    Overwritten(Box<[u8]>),
}

/// Why a guarded write does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// This key was read, and has been written since.
    Overwritten(Box<[u8]>),
    /// Nobody knows what was written since the watch began: too much.
    Forgotten,
}

impl Watched {
    /// True when nobody watches.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.starts.is_empty()
    }

    fn begin(&mut self) -> u64 {
        let watch = self.next_watch;
        self.next_watch += 1;
        let start = self.first + self.noted.len() as u64;
        self.starts.insert(watch, start);
        watch
    }

    /// The keys of a record that was placed.
    #[cold]
    pub(super) fn note(&mut self, batch: &WriteBatch) {
        // It was decoded without an error a moment ago.
        for operation in batch.operations().map_while(Result::ok) {
            let note = Note::of(&operation);
            self.bytes += note.bytes();
            self.noted.push_back((operation.keyspace, note));
        }
        if NOTED_BYTES_MAX < self.bytes {
            self.forget(self.noted.len());
        }
    }

    /// More was written than can be noted: who watches begins again.
    pub(super) fn forget_all(&mut self) {
        self.forget(self.noted.len());
        // Watches that began with nothing noted as well.
        self.first += 1;
    }

    /// Refuses a write that depends on `reads` when something of it was noted since `watch` began.
    pub(super) fn check(
        &self,
        watch: &Watch<'_>,
        reads: &ReadSet,
    ) -> std::result::Result<(), Refusal> {
        let start = self.starts.get(&watch.number).copied();
        let passed = start.and_then(|start| start.checked_sub(self.first));
        let Some(passed) = passed else {
            return Err(Refusal::Forgotten);
        };
        let mut since = self.noted.range(passed as usize..);
        match since.find_map(|(keyspace, note)| note.read_in(*keyspace, reads)) {
            Some(key) => Err(Refusal::Overwritten(key)),
            None => Ok(()),
        }
    }

    fn end(&mut self, watch: u64) {
        self.starts.remove(&watch);
        let oldest = self.starts.first_key_value();
        let needed_from = oldest.map_or(u64::MAX, |(_, start)| *start);
        let passed = needed_from.saturating_sub(self.first);
        self.forget(passed.min(self.noted.len() as u64) as usize);
    }

    /// Lets go of the oldest notes.
    fn forget(&mut self, count: usize) {
        self.first += count as u64;
        for (_, note) in self.noted.drain(..count) {
            self.bytes -= note.bytes();
        }
    }
}

/// While it lives, the keys that are written are noted.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    core: &'a Core,
    number: u64,
    at: SeqNo,
}

impl Watch<'_> {
    /// Everything up to here was visible when it began, and nothing else.
    fn at(&self) -> SeqNo {
        self.at
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.core.commit.lock().watched.end(self.number);
    }
}

impl Core {
    /// Begins to watch.
    fn watch(&self) -> Watch<'_> {
        let mut commit = self.commit.lock();
        Watch {
            core: self,
            number: commit.watched.begin(),
            // Under the lock: no record is between its place and its publication.
            at: self.visible(),
        }
    }

    /// Writes `batch`, which is not empty, unless something in `reads`, which was read at `since`,
    /// has been written since.
    ///
    /// The caller keeps `since` registered, so that compactions drop nothing that is newer.
    pub(crate) fn write_unless_overwritten(
        &self,
        reads: &ReadSet,
        since: SeqNo,
        batch: &WriteBatch,
        durability: Option<Durability>,
    ) -> Result<Answer> {
        let mut answer = self.write_guarded(reads, since, batch);
        let durability = durability.unwrap_or(self.options.durability);
        if matches!(answer, Ok(Answer::Written(_))) && durability == Durability::Synced {
            let synced = self.sync_log().map_err(visible_but_not_synced);
            answer = synced.and(answer);
        }
        if self.board.is_inline() {
            self.run_pending();
        }
        answer
    }

    /// The same, not synced; when it returns nobody watches any more.
    fn write_guarded(
        &self,
        reads: &ReadSet,
        mut since: SeqNo,
        batch: &WriteBatch,
    ) -> Result<Answer> {
        loop {
            let watch = self.watch();
            if let Some(key) = self.find_written(reads, since, watch.at())? {
                return Ok(Answer::Overwritten(key));
            }
            match self.write_watched(&watch, reads, batch)? {
                Ok(seqno) => return Ok(Answer::Written(seqno)),
                Err(Refusal::Overwritten(key)) => return Ok(Answer::Overwritten(key)),
                Err(Refusal::Forgotten) => since = watch.at(),
            }
        }
    }

    /// A key in `reads` that was written after `since`, and not after `until`.
    fn find_written(
        &self,
        reads: &ReadSet,
        since: SeqNo,
        until: SeqNo,
    ) -> Result<Option<Box<[u8]>>> {
        if since == until {
            return Ok(None);
        }
        for (keyspace, reads) in reads.keyspaces() {
            let view = self.tree(keyspace)?.view_owned();
            for key in reads.keys() {
                if read::is_written(&view, key, since, until)? {
                    return Ok(Some(Box::from(key)));
                }
            }
            for (from, to) in reads.ranges() {
                let owned = |bound: Bound<&[u8]>| bound.map(<[u8]>::to_vec);
                let bounds = Bounds::new(owned(from), owned(to));
                if let Some(key) = read::written_within(&view, &bounds, since, until)? {
                    return Ok(Some(key.into_boxed_slice()));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::Options;
    use crate::db::Db;
    use crate::fs::Fs;
    use crate::fs::sim::SimFs;
    use std::path::Path;

    fn open() -> Db {
        let fs = Fs::sim(&SimFs::new(1), Path::new("/db"));
        let options = Options::new().memory_bytes(64 << 20).background_threads(0);
        options.open_in(fs).unwrap()
    }

    fn noted(core: &Core) -> (usize, usize) {
        let commit = core.commit.lock();
        (commit.watched.noted.len(), commit.watched.bytes)
    }

    fn reads(key: &str) -> ReadSet {
        let mut reads = ReadSet::default();
        reads.add_key(KeyspaceId::DEFAULT, key.as_bytes());
        reads
    }

    fn check(watch: &Watch<'_>, key: &str) -> std::result::Result<(), Refusal> {
        let commit = watch.core.commit.lock();
        commit.watched.check(watch, &reads(key))
    }

    fn overwritten(key: &str) -> std::result::Result<(), Refusal> {
        Err(Refusal::Overwritten(Box::from(key.as_bytes())))
    }

    #[test]
    fn keys_are_noted_only_while_somebody_watches_and_no_longer_than_needed() {
        let db = open();
        let core = db.engine();
        db.put("a", "").unwrap();
        assert_eq!(noted(core), (0, 0));
        let first = core.watch();
        db.put("b", "").unwrap();
        let second = core.watch();
        db.delete("c").unwrap();
        assert_eq!(
            (check(&first, "a"), check(&first, "b")),
            (Ok(()), overwritten("b"))
        );
        assert_eq!(
            (check(&second, "b"), check(&second, "c")),
            (Ok(()), overwritten("c"))
        );
        assert_eq!(noted(core).0, 2);
        drop(first);
        assert_eq!(noted(core).0, 1);
        assert_eq!(
            (check(&second, "b"), check(&second, "c")),
            (Ok(()), overwritten("c"))
        );
        drop(second);
        assert_eq!(noted(core), (0, 0));
    }

    #[test]
    fn a_deleted_range_is_noted_for_every_key_in_it() {
        let db = open();
        let core = db.engine();
        let watch = core.watch();
        db.delete_range("c".."f").unwrap();
        assert_eq!(check(&watch, "b"), Ok(()));
        for key in ["c", "cc", "e"] {
            assert_eq!(check(&watch, key), overwritten(key));
        }
        assert_eq!(check(&watch, "f"), Ok(()));
        drop(watch);
        assert_eq!(noted(core), (0, 0));
    }

    #[test]
    fn the_younger_watch_may_end_first() {
        let db = open();
        let core = db.engine();
        let (first, second) = (core.watch(), core.watch());
        db.put("a", "").unwrap();
        drop(second);
        assert_eq!(check(&first, "a"), overwritten("a"));
        drop(first);
        assert_eq!(noted(core), (0, 0));
    }

    #[test]
    fn what_is_too_much_to_note_is_forgotten_and_said_to_be() {
        let db = open();
        let core = db.engine();
        let watch = core.watch();
        db.put("a", "").unwrap();
        let long = vec![b'k'; 60 << 10];
        for _ in 0..=NOTED_BYTES_MAX / long.len() {
            db.put(&long, "").unwrap();
        }
        assert_eq!(check(&watch, "a"), Err(Refusal::Forgotten));
        let later = core.watch();
        db.put("b", "").unwrap();
        assert_eq!(
            check(&later, "b"),
            overwritten("b"),
            "one that began after it is told"
        );
        drop(watch);
        drop(later);
        assert_eq!(noted(core), (0, 0));
    }

    #[test]
    fn what_was_written_before_the_watch_is_found_in_the_memtables() {
        let db = open();
        let core = db.engine();
        for overwrites in [false, true] {
            let since = core.visible();
            let _held = core.snapshots.register(|| since);
            db.put(if overwrites { "a" } else { "b" }, "").unwrap();
            let mut batch = WriteBatch::new();
            batch.put(&db, "c", "");
            let answer = core.write_unless_overwritten(&reads("a"), since, &batch, None);
            assert_eq!(matches!(answer, Ok(Answer::Written(_))), !overwrites);
        }
    }
}

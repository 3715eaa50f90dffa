//! The live set of a database: what counts in memory, and the one manifest that tells it.
//!
//! Readers load a shared state without a lock. A change takes the one install lock, is checked,
//! appended to the manifest and synced, and only then published; what it removed is marked obsolete
//! after that. When an append or a sync fails, that manifest is never touched again: a snapshot
//! of the state *with* the change is written to a new manifest and CURRENT is switched (R6). When
//! that fails too, memory stays as it was, the set is `poisoned`, every file that any manifest may
//! name is kept (bug 44), and the next change starts with a new manifest again.
//!
//! Numbers (P6): file and sequence numbers are reserved ahead in the manifest. Keyspace numbers and
//! run orders reach the disk only inside edits, so their ceilings ride in the edits that use them.
//!
//! Invariants: S1 what is published is durable; S2 at most one manifest is written to, and CURRENT
//! names it durably; S3 a number is given once. Lock order: `writing` before `numbers` and the
//! shelf's books. Threads: any; `version` and `keyspace` never wait for a sync.
//! Not here: opening a directory (`recover`), removing tables and logs (they are given to the owner).

use super::edit::{Ceilings, Identity, Record, VersionEdit};
use super::file_meta::{Shelf, TableEntry};
use super::ledger::{KeyspaceState, Ledger, Limits};
use super::manifest::{self, Current, Manifest, SwitchError};
use super::recover::TableEntries;
use super::snapshot::{joined, ridden, snapshot};
use super::version::Version;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::base::sync::{Arc, ArcSwap, Mutex};
use crate::base::types::{FileId, KeyspaceId, SeqNo};
use crate::fs::{Clock, FileName, Fs};

use std::collections::{BTreeMap, BTreeSet};

/// File numbers reserved at a time: making a file costs a sync at least, so one more sync for each
/// 1,024 of them is nothing, and 2^64 numbers bear the loss of 1,023 at each opening.
pub const FILES_AHEAD: u64 = 1 << 10;
/// Sequence numbers reserved at a time, 16.8 million: at 10 million writes a second one more sync
/// every 1.7 s, and 2^56 numbers bear the loss of a reservation at each of 4 billion openings.
pub const SEQNOS_AHEAD: u64 = 1 << 24;
/// A manifest smaller than this is not rolled over.
pub const ROLLOVER_BYTES_MIN: u64 = 1 << 20;
/// Nor one that is not this many times as large as the snapshot it starts with.
pub const ROLLOVER_RATIO: u64 = 4;

/// What is published: shared, immutable.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceState>>,
    pub(super) logs: BTreeSet<FileId>,
}

/// The next numbers to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) file: u64,
    /// First file number that is not reserved.
    pub(super) file_ceiling: u64,
    pub(super) keyspace: u32,
    pub(super) order: u64,
}

/// What the install lock guards.
#[derive(Debug)]
pub(super) struct Writing {
    /// `None` while poisoned or read-only.
    pub(super) manifest: Option<Manifest>,
    pub(super) ledger: Ledger,
    /// The ceilings of the last durable record; never `None` inside.
    pub(super) stored: Ceilings,
    /// Files to remove after the next good switch.
    pub(super) stale: Vec<FileName>,
    pub(super) rollover_at: u64,
    pub(super) rollover_bytes_min: u64,
}

/// The live set of the database and the manifest that tells it. All methods take `&self`.
#[derive(Debug)]
pub struct VersionSet {
    pub(super) fs: Fs,
    pub(super) identity: Identity,
    pub(super) read_only: bool,
    pub(super) shelf: Arc<Shelf>,
    pub(super) state: ArcSwap<State>,
    pub(super) writing: Mutex<Writing>,
    pub(super) numbers: Mutex<Numbers>,
    pub(super) seqno_ceiling: AtomicU64,
    pub(super) poisoned: AtomicBool,
    pub(super) manifest_id: AtomicU64,
    pub(super) manifest_bytes: AtomicU64,
    pub(super) clock: Arc<Clock>,
}

impl VersionSet {
    /// Appends the edit, syncs it, and makes it the truth. On any append or sync error a new
    /// manifest is written from memory and switched to (R6). Cost: one sync.
    ///
    /// # Errors
    /// `InvalidArgument` when the edit cannot be: nothing was written. Any other: the new manifest
    /// could not be written either; then nothing has changed in memory and [`Self::poisoned`] is
    /// set. A power cut may show the edit all the same, so until [`Self::heal`] or another install
    /// succeeds no write may be acknowledged (P13), and no file that the edit names may be removed;
    /// the tables that it would have added belong to the set, and come back by `take_dead`.
    pub fn install(&self, edit: VersionEdit) -> Result<()> {
        let mut writing = self.writing.lock();
        self.writable()?;
        let numbers = *self.numbers.lock();
        let limits = Limits {
            files: numbers.file,
            keyspaces: u32::MAX,
            orders: u64::MAX,
        };
        writing.ledger.check(&edit, limits)?;
        let (next, removed) = self.after(&edit)?;
        let mut record = Record {
            identity: None,
            ceilings: ridden(&writing.stored, &edit),
            edit,
        };
        if let Err(error) = self.commit(&mut writing, &mut record, &next) {
            // Before `next` and its entries go: no moment without somebody holding the files.
            let files = record.edit.keyspaces.iter().flat_map(|k| &k.added);
            let holdings = &self.shelf.holdings;
            holdings.doubt(files.map(|added| added.meta.file), &record.edit.logs_added);
            return Err(error);
        }
        writing.ledger.apply(&record.edit);
        self.skip_used(&writing.stored);
        self.state.store(Arc::new(next));
        for entry in &removed {
            entry.retire();
        }
        self.roll_over_if_due(&mut writing);
        drop(writing);
        // Outside the lock: the last reference of a mapped table unmaps it.
        drop(removed);
        Ok(())
    }

    /// Never gives a number again that an edit brought along without asking for it (S3).
    fn skip_used(&self, stored: &Ceilings) {
        let mut numbers = self.numbers.lock();
        numbers.keyspace = numbers.keyspace.max(stored.keyspaces.unwrap_or(0));
        numbers.order = numbers.order.max(stored.orders.unwrap_or(0));
    }

    fn writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                "the database is open for reading only",
            ));
        }
        Ok(())
    }

    /// The state after `edit`, and the entries that it removes.
    pub(super) fn after(&self, edit: &VersionEdit) -> Result<(State, Vec<Arc<TableEntry>>)> {
        let mut state = State::clone(&self.state.load());
        let mut removed = Vec::new();
        for keyspace in &edit.keyspaces {
            let mut next = match (state.keyspaces.remove(&keyspace.id), &keyspace.created) {
                (Some(before), _) if keyspace.dropped => {
                    removed.extend(before.version.tables().map(|(_, _, t)| Arc::clone(t)));
                    continue;
                }
                (Some(before), _) => KeyspaceState::clone(&before),
                (None, Some((name, options))) => KeyspaceState::new(keyspace.id, name, options),
                (None, None) => return Err(Error::invalid("no such keyspace")),
            };
            next.apply(keyspace);
            let keeps_tables = keyspace.added.is_empty() && keyspace.removed.is_empty();
            if !(keeps_tables && keyspace.deleted.is_empty()) {
                let make =
                    |meta: &_, fresh| TableEntry::on_shelf(Clone::clone(meta), fresh, &self.shelf);
                let (version, gone) = next.version.edited(keyspace, make)?;
                next.version = Arc::new(version);
                removed.extend(gone);
            }
            state.keyspaces.insert(keyspace.id, Arc::new(next));
        }
        state.logs.extend(&edit.logs_added);
        for log in &edit.logs_removed {
            state.logs.remove(log);
        }
        Ok((state, removed))
    }

    /// Makes `record` durable, and the clock's mark with it: in the manifest, or else as part of a new
    /// one that tells `next`.
    fn commit(&self, writing: &mut Writing, record: &mut Record, next: &State) -> Result<()> {
        record.ceilings.clock = self.clock.reading();
        let appended = match &mut writing.manifest {
            Some(manifest) => manifest.append(record),
            None => Err(Error::new(ErrorKind::Io, "the manifest failed before")),
        };
        let stored = joined(&writing.stored, &record.ceilings);
        match appended {
            Ok(()) => {
                self.store(writing, stored);
                self.note(writing);
                Ok(())
            }
            Err(cause) => {
                Self::abandon(writing);
                let written = self.rewrite(writing, next, &stored);
                written.map_err(|error| {
                    self.poison();
                    Error::from(error).caused_by(cause)
                })
            }
        }
    }

    /// These ceilings are durable.
    fn store(&self, writing: &mut Writing, stored: Ceilings) {
        self.clock.marked(stored.clock.unwrap_or_default());
        writing.stored = stored;
    }

    /// Never touches the manifest in use again; it is removed after the next good switch.
    fn abandon(writing: &mut Writing) {
        if let Some(manifest) = writing.manifest.take() {
            writing.stale.push(FileName::Manifest(manifest.id()));
        }
    }

    fn poison(&self) {
        // Pairs with the Acquire in `poisoned`.
        self.poisoned.store(true, Ordering::Release);
    }

    /// Writes `state` to a new manifest and switches to it, then removes what is stale.
    pub(super) fn rewrite(
        &self,
        writing: &mut Writing,
        state: &State,
        stored: &Ceilings,
    ) -> std::result::Result<(), SwitchError> {
        let (id, ceiling) = self
            .take_manifest_number(stored)
            .map_err(SwitchError::Unswitched)?;
        let ceilings = Ceilings {
            files: Some(ceiling),
            clock: stored.clock.max(self.clock.reading()),
            ..*stored
        };
        let snapshot = snapshot(self.identity, ceilings, state);
        let switched = Manifest::create(&self.fs, id, self.identity.database, &snapshot)
            .map_err(SwitchError::Unswitched)
            .and_then(|manifest| {
                let current = Current {
                    manifest: id,
                    database: self.identity.database,
                };
                manifest::switch(&self.fs, current).map(|()| manifest)
            });
        let manifest = match switched {
            Ok(manifest) => manifest,
            Err(error) => {
                let made = [FileName::Temp(id), FileName::Manifest(id)];
                match error {
                    SwitchError::Unswitched(_) => {
                        let left = made.into_iter().filter(|name| !self.removed(*name));
                        writing.stale.extend(left);
                    }
                    SwitchError::Unsure(_) => {
                        writing.stale.extend(made);
                        Self::abandon(writing);
                        self.poison();
                    }
                }
                return Err(error);
            }
        };
        if let Some(old) = writing.manifest.replace(manifest) {
            writing.stale.push(FileName::Manifest(old.id()));
        }
        self.store(writing, ceilings);
        self.numbers.lock().file_ceiling = ceiling;
        self.note(writing);
        let long = self.manifest_bytes().saturating_mul(ROLLOVER_RATIO);
        writing.rollover_at = long.max(writing.rollover_bytes_min);
        self.shelf.holdings.settle();
        // Pairs with the Acquire in `poisoned`.
        self.poisoned.store(false, Ordering::Release);
        writing.stale.retain(|name| !self.removed(*name));
        Ok(())
    }

    /// True when the file is gone now. One that stays is tried again later, at open at the latest.
    fn removed(&self, name: FileName) -> bool {
        match self.fs.remove(name) {
            Ok(()) => true,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }

    /// A number for a manifest, and the ceiling that the manifest reserves behind it.
    fn take_manifest_number(&self, stored: &Ceilings) -> Result<(FileId, u64)> {
        let mut numbers = self.numbers.lock();
        let id = numbers.file;
        let next = id.checked_add(1).ok_or_else(used_up)?;
        let ceiling = next.checked_add(FILES_AHEAD).ok_or_else(used_up)?;
        numbers.file = next;
        Ok((FileId(id), ceiling.max(stored.files.unwrap_or(0))))
    }

    /// Publishes number and size of the manifest.
    fn note(&self, writing: &Writing) {
        if let Some(manifest) = &writing.manifest {
            // Relaxed: figures for people; they order nothing.
            self.manifest_id.store(manifest.id().0, Ordering::Relaxed);
            self.manifest_bytes
                .store(manifest.bytes(), Ordering::Relaxed);
        }
    }

    /// Replaces a manifest that has grown too long. The edits in it are durable whatever happens:
    /// a failure is no error of theirs, and is tried again when it has grown as much again, or (when
    /// it left the set poisoned) by the next install.
    fn roll_over_if_due(&self, writing: &mut Writing) {
        let bytes = self.manifest_bytes();
        if bytes <= writing.rollover_at || writing.manifest.is_none() {
            return;
        }
        let stored = writing.stored;
        if self
            .rewrite(writing, &self.state.load_full(), &stored)
            .is_err()
        {
            writing.rollover_at = bytes.saturating_mul(2);
        }
    }

    /// Appends new ceilings.
    fn raise(&self, writing: &mut Writing, ceilings: Ceilings) -> Result<()> {
        self.writable()?;
        let mut record = Record {
            ceilings,
            ..Record::default()
        };
        let state = self.state.load_full();
        self.commit(writing, &mut record, &state)
    }

    /// True after a failed install, until a new manifest was written.
    pub fn poisoned(&self) -> bool {
        // Pairs with the Release stores in `poison` and `rewrite`.
        self.poisoned.load(Ordering::Acquire)
    }

    /// Writes a new manifest if the set is poisoned: what a retry after a full disk calls.
    ///
    /// # Errors
    /// As [`Self::install`]; the set is poisoned as before then.
    pub fn heal(&self) -> Result<()> {
        let mut writing = self.writing.lock();
        self.writable()?;
        if !self.poisoned() {
            return Ok(());
        }
        let stored = writing.stored;
        Ok(self.rewrite(&mut writing, &self.state.load_full(), &stored)?)
    }

    /// Seals the manifest, so that damage of its last record is found at the next open. An install
    /// afterwards writes a new manifest first.
    ///
    /// # Errors
    /// What writing and syncing say; everything installed is durable all the same.
    pub fn close(&self) -> Result<()> {
        let mut writing = self.writing.lock();
        match &mut writing.manifest {
            Some(manifest) => manifest.seal(),
            None => Ok(()),
        }
    }

    /// A number never given before and never given again, also after a crash. Every
    /// [`FILES_AHEAD`]th call syncs the manifest.
    ///
    /// # Errors
    /// As [`Self::install`], when the reservation cannot be written.
    pub fn allocate_file(&self) -> Result<FileId> {
        loop {
            if let Some(file) = self.reserved_file() {
                return Ok(file);
            }
            let mut writing = self.writing.lock();
            let numbers = *self.numbers.lock();
            if numbers.file < numbers.file_ceiling {
                continue;
            }
            let ceiling = numbers.file.checked_add(FILES_AHEAD).ok_or_else(used_up)?;
            let ceilings = Ceilings {
                files: Some(ceiling),
                ..Ceilings::default()
            };
            self.raise(&mut writing, ceilings)?;
            let mut numbers = self.numbers.lock();
            numbers.file_ceiling = numbers.file_ceiling.max(ceiling);
        }
    }

    fn reserved_file(&self) -> Option<FileId> {
        let mut numbers = self.numbers.lock();
        if numbers.file_ceiling <= numbers.file {
            return None;
        }
        numbers.file += 1;
        Some(FileId(numbers.file - 1))
    }

    /// A keyspace number, never given twice.
    pub fn allocate_keyspace(&self) -> KeyspaceId {
        let mut numbers = self.numbers.lock();
        let id = KeyspaceId(numbers.keyspace);
        numbers.keyspace = numbers.keyspace.saturating_add(1);
        id
    }

    /// A run order above all others.
    pub fn allocate_order(&self) -> u64 {
        let mut numbers = self.numbers.lock();
        let order = numbers.order;
        numbers.order = numbers.order.saturating_add(1);
        order
    }

    /// Sequence numbers up to this one may be used once it was raised in this life of the set; at
    /// open the first free one lies above.
    pub fn seqno_ceiling(&self) -> SeqNo {
        // Pairs with the Release in `raise_seqno_ceiling`: a number in use is reserved on disk.
        SeqNo::new(self.seqno_ceiling.load(Ordering::Acquire))
    }

    /// Raises the ceiling in the manifest to `to` and [`SEQNOS_AHEAD`] more, unless it is there
    /// already. One sync.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub fn raise_seqno_ceiling(&self, to: SeqNo) -> Result<()> {
        let mut writing = self.writing.lock();
        if to <= self.seqno_ceiling() {
            return Ok(());
        }
        let ceiling = to.plus(SEQNOS_AHEAD);
        let ceilings = Ceilings {
            seqnos: Some(ceiling),
            ..Ceilings::default()
        };
        self.raise(&mut writing, ceilings)?;
        // Pairs with the Acquire in `seqno_ceiling`.
        self.seqno_ceiling.store(ceiling.get(), Ordering::Release);
        Ok(())
    }

    /// The database's clock, whose mark goes along with every edit.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// Writes the clock's mark, if anything expires. One sync.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub fn mark_clock(&self) -> Result<()> {
        let mut writing = self.writing.lock();
        match self.clock.reading() {
            Some(_) => self.raise(&mut writing, Ceilings::default()),
            None => Ok(()),
        }
    }

    /// The database's identity.
    pub fn database(&self) -> u64 {
        self.identity.database
    }

    /// The database's seed for the keyed hash.
    pub fn hash_seed(&self) -> u64 {
        self.identity.hash_seed
    }

    /// One keyspace's state now.
    pub fn keyspace(&self, id: KeyspaceId) -> Option<KeyspaceState> {
        self.state
            .load()
            .keyspaces
            .get(&id)
            .map(|k| KeyspaceState::clone(k))
    }

    /// The files of a keyspace now. No lock: one load and two reference counts.
    pub fn version(&self, id: KeyspaceId) -> Option<Arc<Version>> {
        self.state
            .load()
            .keyspaces
            .get(&id)
            .map(|k| Arc::clone(&k.version))
    }

    /// All keyspaces, by number.
    pub fn keyspaces(&self) -> Vec<KeyspaceState> {
        self.state
            .load()
            .keyspaces
            .values()
            .map(|k| KeyspaceState::clone(k))
            .collect()
    }

    /// Every table of every keyspace.
    pub fn tables(&self) -> TableEntries {
        let state = self.state.load();
        let versions = state.keyspaces.values().map(|keyspace| &keyspace.version);
        let tables = versions.flat_map(|version| version.tables());
        let by_number = tables.map(|(_, _, table)| (table.meta().file, Arc::clone(table)));
        by_number.collect()
    }

    /// Registered log segments, ascending.
    pub fn logs(&self) -> Vec<FileId> {
        self.state.load().logs.iter().copied().collect()
    }

    /// Keyspace numbers at and above this one were never given.
    pub fn keyspace_ceiling(&self) -> KeyspaceId {
        KeyspaceId(self.numbers.lock().keyspace)
    }

    /// Tables that nothing can reach any more; each is given once.
    pub fn take_dead(&self) -> Vec<FileId> {
        self.shelf.holdings.take_dead()
    }

    /// True for every table file that a version names, that somebody still holds or that a failed
    /// edit may have named, and for the manifest's own number: none of them may be removed.
    pub fn is_live_table(&self, file: FileId) -> bool {
        self.shelf.holdings.holds(file) || file == self.manifest()
    }

    /// True for every registered log segment, and for one that a failed edit may have registered.
    pub fn is_live_log(&self, file: FileId) -> bool {
        self.state.load().logs.contains(&file) || self.shelf.holdings.holds_log(file)
    }

    /// The manifest in use, or the last one while poisoned.
    pub fn manifest(&self) -> FileId {
        FileId(self.manifest_id.load(Ordering::Relaxed))
    }

    /// Bytes the manifest has.
    pub fn manifest_bytes(&self) -> u64 {
        self.manifest_bytes.load(Ordering::Relaxed)
    }

    /// Rolls manifests over from `bytes` on: a small world for tests.
    #[cfg(test)]
    pub(super) fn roll_over_from(&self, bytes: u64) {
        let mut writing = self.writing.lock();
        writing.rollover_bytes_min = bytes;
        writing.rollover_at = bytes;
    }
}

#[cold]
fn used_up() -> Error {
    Error::new(ErrorKind::Unsupported, "no file number is left")
        .advice("Look for a file with a huge number in the directory, and move it away.")
}

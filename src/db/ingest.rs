//! Bulk load: sorted entries become tables without log and memtable, and count at one instant.
//!
//! ```text
//! begin     a number far above all that writes use now (GAP) is set aside: every entry has it
//! add       entries in ascending order become tables of the keyspace; nothing names them yet
//! commit    memtables are flushed, outside of the lock; then under the write lock
//!           1. the place of the one flush of each keyspace is taken
//!           2. what was written since is flushed: nothing in memory is older than the tables
//!           3. the log takes a note of the load, for those who follow it, and is synced
//!           4. one edit names the flushed tables and, as newest runs, the loaded ones
//!           5. the next write's number goes to behind the load's; that is published
//! ```
//! So the numbers in the tables are those that they have for ever: no read has to replace one, and a
//! repair finds them in their order. A write that is acknowledged before the commit is older than the
//! load, one that begins after it is newer, in every read path alike.
//!
//! One load at a time, because of its number. Writers wait for the commit's flush of what they wrote in
//! the moment before it, and for the syncs of log and manifest.
//! Not here: the tables (`compaction::load`).

use super::core::{Core, Lease};
use super::keyspace::Keyspace;
use crate::base::batch::too_large;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::key::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::base::listener::Event;
use crate::base::sync::Arc;
use crate::base::sync::atomic::Ordering;
use crate::base::types::{FileId, SeqNo};
use crate::tree::{FlushPlace, Tree, Written};
use crate::version::{AddedTable, VersionEdit};

/// So many numbers writes may use while a load is made: at a million writes a second nine hours. Each
/// load uses up as many: two million loads.
const GAP: u64 = 1 << 35;

/// So often are memtables flushed before the write lock is taken, while they have more than so many
/// bytes again: a flush of a mebibyte takes milliseconds, as the syncs do.
const FLUSHES_FIRST: usize = 4;
const LEFT_BYTES: u64 = 1 << 20;

/// Entries that are loaded in bulk, over any keyspaces: [`Db::ingestion`](crate::Db::ingestion).
///
/// Dropped without a [`commit`](Self::commit) it leaves nothing.
#[derive(Debug)]
pub struct Ingestion {
    lease: Arc<Lease>,
    seqno: SeqNo,
    parts: Vec<Part>,
    /// An `add` has failed: nothing is loaded.
    has_failed: bool,
}

/// What is loaded into one keyspace.
#[derive(Debug)]
struct Part {
    tree: Arc<Tree>,
    tables: Vec<AddedTable>,
    last: Vec<u8>,
}

impl Ingestion {
    pub(super) fn begin(lease: &Arc<Lease>) -> Result<Ingestion> {
        let core = &lease.core;
        core.mend_inline();
        core.health.check()?;
        // Pairs with the Release in `drop`.
        if core.loading.swap(true, Ordering::AcqRel) {
            return Err(
                Error::new(ErrorKind::Conflict, "another bulk load is being made")
                    .advice("Commit or drop that one first.")
                    .retryable(),
            );
        }
        let next = core.commit.lock().next;
        Ok(Ingestion {
            lease: Arc::clone(lease),
            seqno: SeqNo::new(next.saturating_add(GAP).min(SeqNo::MAX.get() - 1)),
            parts: Vec::new(),
            has_failed: false,
        })
    }

    fn core(&self) -> &Core {
        &self.lease.core
    }

    /// Writes entries to tables of `keyspace`, in ascending order of their keys, all of them behind those
    /// of an earlier call for the same keyspace; how many there were. Nobody sees them before the
    /// [`commit`](Self::commit).
    ///
    /// They become values as if they were put; in a keyspace with a ttl they expire.
    ///
    /// # Errors
    /// `InvalidArgument` for a key that is not greater than the one before it, and for a keyspace of
    /// another database; `TooLarge` for a key or a value over its limit; `NotFound` for a keyspace that
    /// was dropped; `Closed`, `NoSpace`, `Io`. After any of them nothing is loaded.
    pub fn add<K, V>(
        &mut self,
        keyspace: &Keyspace,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<u64>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        self.check()?;
        // Unless it comes to its end.
        self.has_failed = true;
        let core = &self.lease.core;
        if !Arc::ptr_eq(core, &keyspace.lease.core) {
            return Err(Error::invalid("the keyspace is one of another database"));
        }
        let tree = &keyspace.tree;
        tree.check_open()?;
        let at = match self
            .parts
            .iter()
            .position(|part| part.tree.id() == tree.id())
        {
            Some(at) => at,
            None => {
                self.parts.push(Part {
                    tree: Arc::clone(tree),
                    tables: Vec::new(),
                    last: Vec::new(),
                });
                self.parts.len() - 1
            }
        };
        let part = &mut self.parts[at];
        let mut count = 0;
        let mut fault = None;
        let mut last = (!part.tables.is_empty()).then(|| std::mem::take(&mut part.last));
        let checked = entries.into_iter().map_while(|(key, value)| {
            match check_entry(last.as_deref(), key.as_ref(), value.as_ref()) {
                Ok(()) => {
                    let kept = last.get_or_insert_default();
                    kept.clear();
                    kept.extend_from_slice(key.as_ref());
                    count += 1;
                    Some((key, value))
                }
                Err(error) => {
                    fault = Some(error);
                    None
                }
            }
        });
        let seqno = self.seqno;
        let loaded = core.with_work(tree, |work| tree.load(checked, seqno, work));
        part.last = last.unwrap_or_default();
        part.tables.extend(loaded?);
        if let Some(error) = fault {
            return Err(error);
        }
        self.has_failed = false;
        Ok(count)
    }

    fn check(&self) -> Result<()> {
        self.core().health.check()?;
        match self.has_failed {
            true => Err(
                Error::invalid("an earlier part of the bulk load has failed")
                    .advice("Nothing is loaded. Begin another one."),
            ),
            false => Ok(()),
        }
    }

    /// Makes everything that was added visible, at one instant and durably; the number that it has.
    ///
    /// It takes the place of what was written before to the same keys, whenever the entries were added.
    /// Writers wait meanwhile, for a few syncs.
    ///
    /// # Errors
    /// `InvalidArgument` when an `add` has failed; `Conflict` when 2^35 writes were made meanwhile;
    /// `NotFound` when a keyspace was dropped; `ReadOnly`, `NoSpace`, `Io`, `Closed`. Nothing is loaded
    /// then, except that after a failed sync of the manifest a later open may find all of it.
    pub fn commit(mut self) -> Result<SeqNo> {
        self.check()?;
        self.parts.retain(|part| !part.tables.is_empty());
        let core = Arc::clone(&self.lease.core);
        if self.parts.is_empty() {
            // There is nothing to make durable but what was written before.
            let seqno = core.visible();
            return core.sync_log().map(|()| seqno);
        }
        let trees: Vec<Arc<Tree>> = self
            .parts
            .iter()
            .map(|part| Arc::clone(&part.tree))
            .collect();
        loop {
            let seen = core.board.done();
            core.flush_first(&trees)?;
            // It syncs inherited segments, which nobody may do under the write lock (I12).
            core.sync_log()?;
            match self.commit_under_lock(&core, &trees) {
                Ok(Some(seqno)) => {
                    core.loaded();
                    return Ok(seqno);
                }
                // Another worker flushes one of them.
                Ok(None) => core.board.wait_done(seen),
                Err(error) => {
                    // Memtables may wait for their flush since.
                    core.update_stall();
                    core.board.notify();
                    return Err(error);
                }
            }
        }
    }

    /// `None`: somebody is flushing one of the keyspaces.
    fn commit_under_lock(&mut self, core: &Core, trees: &[Arc<Tree>]) -> Result<Option<SeqNo>> {
        let mut commit = core.commit.lock();
        core.health.check()?;
        if self.seqno.get() < commit.next {
            return Err(Error::new(
                ErrorKind::Conflict,
                "too much was written while the bulk load was made",
            )
            .advice("Nothing is loaded. Make it again."));
        }
        trees.iter().try_for_each(|tree| tree.check_open())?;
        let places: Option<Vec<FlushPlace<'_>>> =
            trees.iter().map(|tree| tree.take_flush_place()).collect();
        let Some(places) = places else {
            return Ok(None);
        };
        let last = self.seqno;
        core.reserve_through(&mut commit, last)?;
        let (mut written, mut edits) = (Vec::new(), Vec::new());
        for ((part, tree), place) in self.parts.iter().zip(trees).zip(places) {
            tree.rotate(commit.segment());
            let flushed = core.with_work(tree, |work| tree.write_in(place, work))?;
            let mut edit = flushed.as_ref().map(Written::edit).unwrap_or_default();
            edit.id = tree.id();
            let order = core.versions.allocate_order();
            let tables = part.tables.iter().cloned();
            edit.added
                .extend(tables.map(|table| AddedTable { order, ..table }));
            // Nothing older is in memory; and the next open sees at least as much.
            edit.flushed_through = Some(last);
            edits.push(edit);
            written.extend(flushed);
        }
        core.note_load(&mut commit, last, trees)?;
        // The load must not outlive what was acknowledged before it, in whatever keyspace (P2, I6); nor
        // its note.
        core.sync_log()?;
        core.install(VersionEdit {
            keyspaces: edits,
            ..VersionEdit::default()
        })?;
        // They are the version's now.
        let loaded: Vec<Part> = self.parts.drain(..).collect();
        for tables in written {
            core.count_flush(&tables.finish());
        }
        trees.iter().for_each(|tree| tree.show_tables(last));
        commit.watched.forget_all();
        core.published.publish(last);
        drop(commit);
        loaded.iter().for_each(|part| core.tell_load(part));
        Ok(Some(last))
    }
}

impl Core {
    fn tell_load(&self, part: &Part) {
        let summaries = part.tables.iter().map(|table| &table.meta.summary);
        self.options.listening.tell(&Event::Loaded {
            keyspace: part.tree.name(),
            entries: summaries.clone().map(|summary| summary.entries).sum(),
            bytes_written: summaries.map(|summary| summary.bytes).sum(),
        });
    }

    /// Flushes these keyspaces until little is left to be flushed under the write lock, or writers are
    /// faster than that.
    fn flush_first(&self, trees: &[Arc<Tree>]) -> Result<()> {
        for _ in 0..FLUSHES_FIRST {
            self.flush_trees(trees)?;
            let left = trees.iter().map(|tree| tree.active_bytes());
            if left.sum::<u64>() <= LEFT_BYTES {
                break;
            }
        }
        Ok(())
    }
}

impl Drop for Ingestion {
    fn drop(&mut self) {
        let parts = self.parts.drain(..);
        let files: Vec<FileId> = parts
            .flat_map(|part| part.tables)
            .map(|table| table.meta.file)
            .collect();
        let core = &self.lease.core;
        core.versions.give_up(files);
        // Pairs with the AcqRel in `begin`.
        core.loading.store(false, Ordering::Release);
        core.board.notify_log(); // which sweeps
    }
}

fn check_entry(last: Option<&[u8]>, key: &[u8], value: &[u8]) -> Result<()> {
    if KEY_BYTES_MAX < key.len() {
        return Err(too_large("key", key.len(), KEY_BYTES_MAX));
    }
    if VALUE_BYTES_MAX < value.len() {
        return Err(too_large("value", value.len(), VALUE_BYTES_MAX));
    }
    match last {
        Some(last) if key <= last => Err(Error::invalid(format!(
            "the entries of a bulk load do not ascend: {:?} comes behind {:?}",
            key.escape_ascii().to_string(),
            last.escape_ascii().to_string()
        ))
        .advice("Nothing is loaded. Sort them, each key once.")),
        _ => Ok(()),
    }
}

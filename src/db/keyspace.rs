//! A keyspace as the user holds it: reads, writes and upkeep of one ordered map.

use super::catalog::{self, Trees};
use super::core::{Core, Lease};
use super::health::Part;
use super::open::store_options;
use super::snapshot::{bounds_of, get_many};
use crate::base::batch::InKeyspace;
use crate::base::error::{Error, Result};
use crate::base::hooks::Folding;
use crate::base::key_range::KeyRange;
use crate::base::options::{KeyspaceOptions, WriteOptions};
use crate::base::ranges::HalfOpen;
use crate::base::slice::Slice;
use crate::base::sync::Arc;
use crate::base::types::{KeyspaceId, Time};
use crate::read::{self, At, GetReport, Iter, RangeCursor};
use crate::tree::Tree;
use crate::version::{KeyspaceEdit, VersionEdit, check_name};
use std::fmt;
use std::ops::Bound;
use std::time::Duration;

/// An ordered map of byte strings inside a database; see the crate's front page.
///
/// A handle is cheap to clone, and keeps the database open. Writes to several keyspaces go
/// through one log and are atomic in a [`WriteBatch`](crate::WriteBatch).
#[derive(Clone)]
pub struct Keyspace {
    pub(super) lease: Arc<Lease>,
    pub(super) tree: Arc<Tree>,
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Keyspace({:?} in {})",
            self.name(),
            self.core().fs.root().display()
        )
    }
}

impl InKeyspace for Keyspace {
    fn target(&self) -> (KeyspaceId, u64) {
        (self.tree.id(), self.core().instance)
    }

    #[inline]
    fn expiry(&self, ttl: Option<Duration>) -> Option<Time> {
        self.tree.expiry(ttl)
    }
}

impl Keyspace {
    pub(super) fn new(lease: Arc<Lease>, tree: Arc<Tree>) -> Self {
        Keyspace { lease, tree }
    }

    #[inline]
    pub(super) fn core(&self) -> &Core {
        &self.lease.core
    }

    /// What its merges mean.
    pub(crate) fn folding(&self) -> Folding {
        self.tree.view().folding.clone()
    }

    /// The name it was opened under.
    pub fn name(&self) -> &str {
        self.tree.name()
    }

    #[inline]
    pub(super) fn check(&self) -> Result<()> {
        self.core().health.check_open()?;
        self.tree.check_open()
    }

    /// The value of `key`, or `None`.
    ///
    /// Short values are copied; long ones point into the table's mapping and keep it alive. Cost:
    /// about half a microsecond when the data is in memory. [`Keyspace::get_with`] copies nothing.
    ///
    /// # Errors
    /// `Corruption` with file and offset when the bytes are damaged: an older value is never given
    /// instead. `Io`; `Closed`; `NotFound` when the keyspace was dropped. Of a key with merges:
    /// `Unsupported` when their operator is not registered, `InvalidArgument` when it refuses them.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.check()?;
        let view = self.tree.view();
        let at = self.core().visible();
        Ok(read::get(&view, key.as_ref(), at.into())?.to_slice())
    }

    /// Calls `read` with the value of `key` in place: no copy, no reference count.
    ///
    /// `read` runs while the value's memory is held: it should be short, and must not write to the
    /// same database when that runs without background threads.
    ///
    /// # Errors
    /// As [`Keyspace::get`]; `read` is not called then.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-gw-{}", std::process::id()));
    /// # let db = alluvium::Db::open(&dir)?;
    /// db.put("k", "value")?;
    /// assert_eq!(db.get_with("k", |bytes| bytes.map(<[u8]>::len))?, Some(5));
    /// # db.close()?; alluvium::Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn get_with<T>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Result<T> {
        self.check()?;
        let view = self.tree.view();
        let at = self.core().visible();
        let found = read::get(&view, key.as_ref(), at.into())?;
        Ok(read(found.bytes()))
    }

    /// The values of many keys at one instant, in the order asked.
    ///
    /// Cheaper than that many [`Keyspace::get`]: the memory of several keys is fetched at a time.
    ///
    /// # Errors
    /// As [`Keyspace::get`], for any of the keys.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Slice>>> {
        self.check()?;
        let view = self.tree.view();
        let visible = self.core().visible();
        let at = At {
            seqno: visible,
            time: self.core().versions.clock().reading(), // one for all of them
        };
        get_many(&view, keys, at)
    }

    /// True when `key` has a value.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get_with(key, |value| value.is_some())
    }

    /// Sets `key` to `value`. `Ok` means that the write survives the death of the process.
    ///
    /// # Errors
    /// `TooLarge` for a key over 64 KiB, a value over 1 GiB, or both over a quarter of the memory
    /// budget; `ReadOnly`, `NoSpace` or `Io` with the cause when writes are not taken: then
    /// nothing was written.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(key, value, WriteOptions::default())
    }

    /// As [`Keyspace::put`], with options of this write.
    ///
    /// # Errors
    /// As [`Keyspace::put`]; a `Synced` write whose sync failed is logged and visible all the same.
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: WriteOptions,
    ) -> Result<()> {
        let (key, value, id) = (key.as_ref(), value.as_ref(), self.tree.id());
        let expiry = self.tree.expiry(options.ttl);
        self.core()
            .write_one(&self.tree, options.durability, |batch| {
                batch.push_put_until(id, key, value, expiry)
            })
            .map(|_| ())
    }

    /// Removes `key`, whether it is there or not.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.delete_with(key, WriteOptions::default())
    }

    /// As [`Keyspace::delete`], with options of this write.
    ///
    /// # Errors
    /// As [`Keyspace::put_with`].
    pub fn delete_with(&self, key: impl AsRef<[u8]>, options: WriteOptions) -> Result<()> {
        options.check_no_ttl()?;
        let (key, id) = (key.as_ref(), self.tree.id());
        self.core()
            .write_one(&self.tree, options.durability, |batch| {
                batch.push_delete(id, key)
            })
            .map(|_| ())
    }

    /// Removes every key of `range`; an inverted range has none.
    ///
    /// Costs one small record in the log and a note in memory, however many keys there are. Reads
    /// pass over them at once, as do scans; the space is given back by compactions, which remove
    /// tables that lie wholly in the range without reading them.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    ///
    /// ```
    /// # use alluvium::Db;
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-dr-{}", std::process::id()));
    /// # let db = Db::open(&dir)?;
    /// for day in ["2026-11-25", "2026-11-26", "2026-11-27"] { db.put(day, "...")?; }
    /// db.delete_range(.."2026-11-27")?;
    /// assert_eq!(db.iter().count(), 1);
    /// # db.close()?; Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn delete_range(&self, range: impl KeyRange) -> Result<()> {
        self.delete_range_with(range, WriteOptions::default())
    }

    /// As [`Keyspace::delete_range`], with options of this write.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn delete_range_with(&self, range: impl KeyRange, options: WriteOptions) -> Result<()> {
        options.check_no_ttl()?;
        let (lower, upper) = range.bounds();
        let (range, id) = (HalfOpen::between(lower, upper), self.tree.id());
        self.core()
            .write_one(&self.tree, options.durability, |batch| {
                if let Some(range) = &range {
                    batch.push_delete_range(id, range);
                }
            })
            .map(|_| ())
    }

    /// Merges `operand` into the value of `key`, as the keyspace's merge operator says, without
    /// reading it: the operands are put together when the key is read, and by the background.
    ///
    /// Costs a put; a read of the key costs more for each operand since the last flush.
    ///
    /// # Errors
    /// `InvalidArgument` when the keyspace has no merge operator; as [`Keyspace::put`]. What the
    /// operator thinks of the operand is told by reads.
    ///
    /// ```
    /// # use alluvium::{Db, KeyspaceOptions, merge};
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-mg-{}", std::process::id()));
    /// # let db = Db::open(&dir)?;
    /// let counts = db.keyspace("counts", KeyspaceOptions::new().merge_operator(merge::COUNTER))?;
    /// counts.merge("visits", 1i64.to_le_bytes())?;
    /// counts.merge("visits", 2i64.to_le_bytes())?;
    /// assert_eq!(counts.get("visits")?.unwrap(), 3i64.to_le_bytes());
    /// # db.close()?; Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.merge_with(key, operand, WriteOptions::default())
    }

    /// As [`Keyspace::merge`], with options of this write.
    ///
    /// # Errors
    /// As [`Keyspace::merge`] and [`Keyspace::put_with`].
    pub fn merge_with(
        &self,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
        options: WriteOptions,
    ) -> Result<()> {
        options.check_no_ttl()?;
        let (key, operand, id) = (key.as_ref(), operand.as_ref(), self.tree.id());
        self.core()
            .write_one(&self.tree, options.durability, |batch| {
                batch.push_merge(id, key, operand)
            })
            .map(|_| ())
    }

    /// The entries of `range` as they are now, in key order, from either end.
    ///
    /// The iterator owns what it needs and sees one instant, for as long as it lives; it keeps
    /// replaced files on the disk meanwhile. Errors come as an item, once, and end it.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-rg-{}", std::process::id()));
    /// # let db = alluvium::Db::open(&dir)?;
    /// for word in ["clay", "sand", "silt"] {
    ///     db.put(word, "")?;
    /// }
    /// let last = db.range("d"..).next_back().unwrap()?;
    /// assert_eq!(last.0, b"silt");
    /// # db.close()?; alluvium::Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn range(&self, range: impl KeyRange) -> Iter {
        self.iterate(bounds_of(&range))
    }

    /// The entries whose keys start with `prefix`, in key order, from either end.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        self.iterate(prefix_bounds(prefix.as_ref()))
    }

    /// All entries in key order, from either end.
    pub fn iter(&self) -> Iter {
        self.range(..)
    }

    fn iterate(&self, bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Iter {
        if let Err(error) = self.check() {
            return Iter::failed(error);
        }
        // The snapshot first: a compaction that starts between the two keeps what it sees (I5).
        let at = self.core().begin_read();
        Iter::new(self.tree.view_owned(), at, bounds)
    }

    /// What a [`get`](Self::get) of `key` asks now, in order, and what it is told: for whoever wonders why
    /// a key is not there, or why a read is slow. Prints as a text.
    ///
    /// Cost: a few such gets. It counts in no statistics but as the one get that it ends with.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-eg-{}", std::process::id()));
    /// # let db = alluvium::Db::open(&dir)?;
    /// db.put("k", "value")?;
    /// db.flush()?;
    /// db.delete("k")?;
    /// let report = db.explain_get("k")?;
    /// assert_eq!(report.value_bytes, None);
    /// assert_eq!(report.steps.len(), 1, "the deletion ends it: the table is not asked");
    /// println!("{report}");
    /// # db.close()?; alluvium::Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn explain_get(&self, key: impl AsRef<[u8]>) -> Result<GetReport> {
        self.check()?;
        let at = self.core().begin_read();
        read::explain_get(&self.tree.view(), key.as_ref(), at.at())
    }

    /// A cursor over all entries at this instant, not yet positioned; it lends what it stands on.
    ///
    /// A step allocates nothing. Errors, also that the keyspace is gone, come from its moves.
    pub fn cursor(&self) -> RangeCursor {
        self.cursor_over(..)
    }

    /// As [`Keyspace::cursor`], kept inside `range`.
    pub fn cursor_over(&self, range: impl KeyRange) -> RangeCursor {
        let at = self.core().begin_read();
        RangeCursor::new(self.tree.view_owned(), at, bounds_of(&range))
    }

    /// Bytes that keys in `range` take up, roughly: those of tables as they are on the disk, to a few
    /// blocks a table, with what is deleted or overwritten in them; those of memtables as if all their
    /// entries were of one size. 0 for an inverted range.
    ///
    /// Cost: a search in the index of each table that reaches over an end of the range, and in each
    /// memtable what a scan costs to begin; nothing is read but indexes.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-as-{}", std::process::id()));
    /// # let db = alluvium::Db::open(&dir)?;
    /// for n in 0..1000u32 {
    ///     db.put(n.to_be_bytes(), [0; 100])?;
    /// }
    /// let half = db.approximate_size(..500u32.to_be_bytes())?;
    /// let all = db.approximate_size(..)?;
    /// assert!(100_000 < all && half.abs_diff(all / 2) < all / 10);
    /// # db.close()?; alluvium::Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Io`, `Corruption` when a table cannot be opened or its index is damaged; `NotFound` for a
    /// dropped keyspace, `Closed`.
    pub fn approximate_size(&self, range: impl KeyRange) -> Result<u64> {
        self.check()?;
        let (from, to) = range.bounds();
        self.tree
            .view_owned()
            .approximate_bytes(bytes_of(from), bytes_of(to))
    }

    /// Rewrites the tables of this keyspace until one sorted run is left: deleted and overwritten
    /// entries that no snapshot sees are gone afterwards. Flushes first; runs on this thread.
    ///
    /// # Errors
    /// `Io`, `NoSpace`, `Corruption`: what was not rewritten is as it was.
    pub fn compact(&self) -> Result<()> {
        self.compact_range(..)
    }

    /// As [`Keyspace::compact`], for the tables that hold keys of `range`.
    ///
    /// # Errors
    /// As [`Keyspace::compact`].
    pub fn compact_range(&self, range: impl KeyRange) -> Result<()> {
        self.check()?;
        let (from, to) = range.bounds();
        self.core()
            .flush_and_compact(&self.tree, bytes_of(from), bytes_of(to))
    }
}

fn bytes_of(bound: Bound<&[u8]>) -> Option<&[u8]> {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key),
        Bound::Unbounded => None,
    }
}

/// From `prefix` to the first key that is greater than every key with it.
pub(crate) fn prefix_bounds(prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return (Bound::Included(prefix.to_vec()), Bound::Excluded(end));
        }
    }
    (Bound::Included(prefix.to_vec()), Bound::Unbounded)
}

impl Core {
    /// Opens a keyspace by name, or makes it.
    pub(super) fn open_keyspace(&self, name: &str, asked: &KeyspaceOptions) -> Result<Arc<Tree>> {
        self.health.check_open()?;
        check_name(name)?;
        asked.check()?;
        self.mend_inline();
        let _admin = self.admin.lock();
        if let Some(tree) = self.trees.load().by_name.get(name) {
            self.change_options(tree, asked)?;
            return Ok(Arc::clone(tree));
        }
        self.health.check()?;
        let id = self.versions.allocate_keyspace();
        let encoded = catalog::encode(asked);
        // What it will hold is in this segment or later: it holds no older one back.
        let log_floor = Some(self.commit.lock().segment());
        self.install(VersionEdit {
            keyspaces: vec![KeyspaceEdit {
                id,
                created: Some((name.to_owned(), encoded)),
                log_floor,
                ..KeyspaceEdit::default()
            }],
            ..VersionEdit::default()
        })?;
        let state = self.versions.keyspace(id).ok_or_else(|| {
            Error::corruption("a keyspace vanished while it was made")
                .advice("Report this: it is a bug of alluvium.")
        })?;
        let options = KeyspaceOptions {
            set: 0,
            ..asked.clone()
        };
        let tree = Tree::open(Arc::clone(&self.tree_context), &state, options);
        let tree = Arc::new(tree);
        self.change_trees(|trees| trees.insert(Arc::clone(&tree)));
        Ok(tree)
    }

    /// Gives an open keyspace what is asked for. What shapes files can be refused.
    fn change_options(&self, tree: &Tree, asked: &KeyspaceOptions) -> Result<()> {
        let Some(state) = self.versions.keyspace(tree.id()) else {
            return tree.check_open();
        };
        let stored = catalog::decode(&state.options)?;
        let resolved = catalog::resolve(tree.name(), stored.clone(), asked)?;
        if resolved == stored {
            return Ok(());
        }
        self.health.check()?;
        let stores = store_options(&self.versions, tree.id(), &resolved);
        stores.inspect_err(|cause| self.notice_poison(cause))?;
        tree.set_options(resolved);
        // Workers, and writers who wait for them, look again.
        self.update_stall();
        self.board.notify();
        self.board.notify_done();
        Ok(())
    }

    /// Drops a keyspace: one edit, whatever its size. Its files go when nothing reads them.
    pub(super) fn drop_keyspace(&self, name: &str) -> Result<()> {
        self.mend_inline();
        // It makes room on a full disk.
        self.health.check_making_room()?;
        if name == catalog::DEFAULT_NAME {
            return Err(Error::invalid("the default keyspace cannot be dropped"));
        }
        let _admin = self.admin.lock();
        let tree = self.trees.load().named(name)?;
        self.install(VersionEdit {
            keyspaces: vec![KeyspaceEdit {
                id: tree.id(),
                dropped: true,
                ..KeyspaceEdit::default()
            }],
            ..VersionEdit::default()
        })?;
        {
            // Under the write lock, so that no batch is between its check and its memtables.
            let _commit = self.commit.lock();
            tree.mark_dropped();
        }
        tree.discard();
        self.change_trees(|trees| trees.remove(&tree));
        drop(tree);
        // The keyspace is gone, whatever becomes of its files now: they are tried again.
        self.settle(
            Part::Files,
            self.sweep_dead().and_then(|()| self.retire_logs()),
        );
        self.update_stall();
        Ok(())
    }

    fn change_trees(&self, change: impl FnOnce(&mut Trees)) {
        let mut trees = Trees::clone(&self.trees.load());
        change(&mut trees);
        self.trees.store(Arc::new(trees));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_first_key_without_it() {
        let end = |prefix: &[u8]| prefix_bounds(prefix).1;
        assert_eq!(end(b"ab"), Bound::Excluded(b"ac".to_vec()));
        assert_eq!(end(b"a\xff\xff"), Bound::Excluded(b"b".to_vec()));
        assert_eq!(end(b"\xff"), Bound::Unbounded);
        assert_eq!(end(b""), Bound::Unbounded);
    }
}

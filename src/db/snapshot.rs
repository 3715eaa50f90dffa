//! One instant over all keyspaces.

use super::core::Lease;
use super::keyspace::{Keyspace, prefix_bounds};
use crate::base::error::Result;
use crate::base::key_range::KeyRange;
use crate::base::slice::Slice;
use crate::base::sync::{Arc, Guard};
use crate::base::types::SeqNo;
use crate::read::{self, At, Iter, RangeCursor, SnapshotGuard, View};
use crate::tree::Tree;
use std::fmt;
use std::ops::Bound;

/// One instant over all keyspaces, for as long as it is held.
///
/// Reads of it see every write acknowledged before it was taken and none after. Cloning is cheap.
/// Versions that it can see stay on the disk until it is dropped. Made by `Db::snapshot`; its own
/// reads are of the default keyspace, those of others go through [`Snapshot::keyspace`].
#[derive(Clone)]
pub struct Snapshot {
    lease: Arc<Lease>,
    at: Arc<SnapshotGuard>,
    default: Arc<Tree>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({})", self.seqno())
    }
}

impl Snapshot {
    pub(super) fn new(lease: Arc<Lease>, default: Arc<Tree>) -> Self {
        let at = lease.core.begin_read();
        Snapshot {
            lease,
            at: Arc::new(at),
            default,
        }
    }

    /// The number of the newest write that it sees.
    pub fn seqno(&self) -> SeqNo {
        self.at.seqno()
    }

    /// The same instant of another keyspace. One made after the snapshot is empty in it.
    pub fn keyspace(&self, keyspace: &Keyspace) -> SnapshotKeyspace {
        self.over(&keyspace.tree)
    }

    fn default_keyspace(&self) -> SnapshotKeyspace {
        self.over(&self.default)
    }

    fn over(&self, tree: &Arc<Tree>) -> SnapshotKeyspace {
        let lease = Some(Arc::clone(&self.lease));
        SnapshotKeyspace::new(lease, Arc::clone(&self.at), Arc::clone(tree))
    }

    /// The value that `key` of the default keyspace had; see [`Keyspace::get`].
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.default_keyspace().get(key)
    }

    /// True when `key` of the default keyspace had a value.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.default_keyspace().contains_key(key)
    }

    /// The entries of `range` of the default keyspace; see [`Keyspace::range`].
    pub fn range(&self, range: impl KeyRange) -> Iter {
        self.default_keyspace().range(range)
    }

    /// The entries of the default keyspace whose keys start with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        self.default_keyspace().prefix(prefix)
    }

    /// All entries of the default keyspace.
    pub fn iter(&self) -> Iter {
        self.default_keyspace().range(..)
    }

    /// A cursor over the default keyspace; see [`Keyspace::cursor`].
    pub fn cursor(&self) -> RangeCursor {
        self.default_keyspace().cursor()
    }
}

/// One keyspace as a [`Snapshot`] or a [`DbReader`](crate::DbReader) sees it.
#[derive(Clone)]
pub struct SnapshotKeyspace {
    /// Keeps the database open; a reader's has none.
    _lease: Option<Arc<Lease>>,
    at: Arc<SnapshotGuard>,
    tree: Arc<Tree>,
}

impl fmt::Debug for SnapshotKeyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SnapshotKeyspace({:?} at {})",
            self.tree.name(),
            self.at.seqno()
        )
    }
}

impl SnapshotKeyspace {
    pub(super) fn new(lease: Option<Arc<Lease>>, at: Arc<SnapshotGuard>, tree: Arc<Tree>) -> Self {
        SnapshotKeyspace {
            _lease: lease,
            at,
            tree,
        }
    }

    /// The view, unless database or keyspace are gone.
    fn view(&self) -> Result<Guard<Arc<View>>> {
        let view = self.tree.view();
        view.check_open()?;
        self.tree.check_open()?;
        Ok(view)
    }

    /// The keyspace's name.
    pub fn name(&self) -> &str {
        self.tree.name()
    }

    /// The number of the newest write that it sees.
    pub fn seqno(&self) -> SeqNo {
        self.at.seqno()
    }

    /// The value that `key` had; see [`Keyspace::get`].
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        Ok(read::get(&*self.view()?, key.as_ref(), self.at.at())?.to_slice())
    }

    /// Calls `read` with the value in place; see [`Keyspace::get_with`].
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get_with<T>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Result<T> {
        let view = self.view()?;
        let found = read::get(&view, key.as_ref(), self.at.at())?;
        Ok(read(found.bytes()))
    }

    /// The values that many keys had, in the order asked; see [`Keyspace::get_many`].
    ///
    /// # Errors
    /// As [`Keyspace::get`], for any of the keys.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Slice>>> {
        get_many(&*self.view()?, keys, self.at.at())
    }

    /// True when `key` had a value.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get_with(key, |value| value.is_some())
    }

    /// The entries of `range`; see [`Keyspace::range`].
    pub fn range(&self, range: impl KeyRange) -> Iter {
        self.iterate(bounds_of(&range))
    }

    /// The entries whose keys start with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        self.iterate(prefix_bounds(prefix.as_ref()))
    }

    /// All entries.
    pub fn iter(&self) -> Iter {
        self.range(..)
    }

    fn iterate(&self, bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Iter {
        match self.view() {
            Ok(view) => Iter::new(Arc::clone(&view), SnapshotGuard::clone(&self.at), bounds),
            Err(error) => Iter::failed(error),
        }
    }

    /// A cursor over all entries; see [`Keyspace::cursor`].
    pub fn cursor(&self) -> RangeCursor {
        self.cursor_over(..)
    }

    /// As [`SnapshotKeyspace::cursor`], kept inside `range`.
    pub fn cursor_over(&self, range: impl KeyRange) -> RangeCursor {
        let guard = SnapshotGuard::clone(&self.at);
        RangeCursor::new(self.tree.view_owned(), guard, bounds_of(&range))
    }
}

/// The values of `keys` in the order asked, at one instant.
pub(super) fn get_many<K: AsRef<[u8]>>(
    view: &View,
    keys: impl IntoIterator<Item = K>,
    at: At,
) -> Result<Vec<Option<Slice>>> {
    let keys: Vec<K> = keys.into_iter().collect();
    let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
    let mut values = vec![None; keys.len()];
    read::get_many(view, &keys, at, &mut |i, found| {
        values[i] = found.to_slice()
    })?;
    Ok(values)
}

/// The bounds of a range as owned bytes.
pub(crate) fn bounds_of(range: &impl KeyRange) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let (start, end) = range.bounds();
    (start.map(<[u8]>::to_vec), end.map(<[u8]>::to_vec))
}

//! The only mutation: a list of operations over keyspaces, written whole or not at all.
//!
//! A batch *is* its encoded form, the payload of one log record (DESIGN.md, "Batch"):
//!
//! ```text
//! count: u32 LE | operation*
//! operation: kind: u8 | keyspace: varint | key: bytes
//!            Put: value: bytes              Delete: nothing
//!            Merge: bytes, which are a span and an operand (operand.rs)
//!            DeleteRange: end: bytes, the first key behind; empty: there is none
//!            PutExpiring: bytes, which are an expiry and a value (expiring.rs)
//!            PutBlob: reference: bytes
//! bytes: length varint, then the bytes
//! ```
//!
//! Operation `i` has sequence number `first + i`, where `first` stands in the record's header.
//! A live write and recovery decode the same bytes and apply them by the same function.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::coding::{put_bytes, put_varint};
use super::error::{Error, ErrorKind, Result};
use super::expiring::{EXPIRING_BYTES_MAX, put_expiring};
use super::key::{BATCH_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use super::key_range::KeyRange;
use super::operand::{OPERAND_BYTES_MAX, put_written};
use super::operation::{Operations, RANGE_END_BYTES_MAX};
use super::ranges::HalfOpen;
use super::types::{KeyspaceId, Time, ValueKind};
use std::time::Duration;

const COUNT_BYTES: usize = 4;

/// Something that names a keyspace of an open database: a `Keyspace`, or a `Db` for its default.
pub trait InKeyspace {
    /// The keyspace's number and the database's identity, which `write` checks.
    #[doc(hidden)]
    fn target(&self) -> (KeyspaceId, u64);

    /// When a value expires that is written now to live for `ttl`, or without one for as long as
    /// the keyspace says; `None`: never.
    #[doc(hidden)]
    fn expiry(&self, ttl: Option<Duration>) -> Option<Time>;
}

impl<T: InKeyspace> InKeyspace for &T {
    fn target(&self) -> (KeyspaceId, u64) {
        (**self).target()
    }

    fn expiry(&self, ttl: Option<Duration>) -> Option<Time> {
        (**self).expiry(ttl)
    }
}

/// Operations over any keyspaces of one database, applied at one instant.
///
/// Later operations win over earlier ones on the same key; merges come on top of them. The batch owns
/// a copy of every key and value; it can be written any number of times, and reused after
/// [`WriteBatch::clear`]. Limits (key 64 KiB, value 1 GiB, batch a quarter of [`Options::memory_bytes`] and at most 1 GiB)
/// are checked when it is written.
///
/// [`Options::memory_bytes`]: crate::Options::memory_bytes
#[derive(Clone, Debug)]
pub struct WriteBatch {
    /// The encoded form.
    bytes: Vec<u8>,
    /// Whose the operations are: in their order, and not twice in a row.
    keyspaces: Vec<KeyspaceId>,
    database: Option<u64>,
    /// The same of those that are merges.
    merged: Vec<KeyspaceId>,
    fault: Option<Fault>,
}

/// A part of a write that is over its limit.
#[cold]
pub(crate) fn too_large(what: &str, found: usize, limit: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("the {what} is too large"))
        .expected(format!("at most {limit} bytes"), format!("{found} bytes"))
        .advice("Nothing was written.")
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    KeyTooLarge(usize),
    ValueTooLarge(usize),
    OperandTooLarge(usize),
    TwoDatabases,
    TooManyOperations,
}

impl Default for WriteBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// An empty batch with room for `bytes` of operations.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(bytes.saturating_add(COUNT_BYTES));
        buffer.extend_from_slice(&[0; COUNT_BYTES]);
        WriteBatch {
            bytes: buffer,
            keyspaces: Vec::new(),
            database: None,
            merged: Vec::new(),
            fault: None,
        }
    }

    /// Sets `key` to `value`. In a keyspace with a [`ttl`](crate::KeyspaceOptions::ttl) it expires
    /// so long after this call.
    pub fn put(
        &mut self,
        keyspace: impl InKeyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) {
        let (id, database) = keyspace.target();
        self.belongs_to(database);
        let expiry = keyspace.expiry(None);
        self.push_put_until(id, key.as_ref(), value.as_ref(), expiry);
    }

    /// Sets `key` to `value`, which expires `ttl` after this call, whenever the batch is written and
    /// however often; see [`WriteOptions::ttl`](crate::WriteOptions::ttl).
    pub fn put_with_ttl(
        &mut self,
        keyspace: impl InKeyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) {
        let (id, database) = keyspace.target();
        self.belongs_to(database);
        let expiry = keyspace.expiry(Some(ttl));
        self.push_put_until(id, key.as_ref(), value.as_ref(), expiry);
    }

    /// Removes `key`.
    pub fn delete(&mut self, keyspace: impl InKeyspace, key: impl AsRef<[u8]>) {
        let (id, database) = keyspace.target();
        self.belongs_to(database);
        self.push_delete(id, key.as_ref());
    }

    /// Merges `operand` into the value of `key`; see [`Keyspace::merge`](crate::Keyspace::merge).
    pub fn merge(
        &mut self,
        keyspace: impl InKeyspace,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
    ) {
        let (id, database) = keyspace.target();
        self.belongs_to(database);
        self.push_merge(id, key.as_ref(), operand.as_ref());
    }

    /// Removes every key of `range`; an inverted range has none. Costs the same however many there
    /// are; see [`Keyspace::delete_range`](crate::Keyspace::delete_range).
    pub fn delete_range(&mut self, keyspace: impl InKeyspace, range: impl KeyRange) {
        let (id, database) = keyspace.target();
        self.belongs_to(database);
        let (lower, upper) = range.bounds();
        if let Some(range) = HalfOpen::between(lower, upper) {
            self.push_delete_range(id, &range);
        }
    }

    /// Forgets every operation and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(COUNT_BYTES);
        self.set_count(0);
        self.keyspaces.clear();
        self.database = None;
        self.merged.clear();
        self.fault = None;
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.count() as usize
    }

    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Size of the encoded form.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(crate) fn push_put(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) {
        if value.len() > VALUE_BYTES_MAX {
            self.fault.get_or_insert(Fault::ValueTooLarge(value.len()));
            return;
        }
        if self.push_key(ValueKind::Put, keyspace, key) {
            put_bytes(&mut self.bytes, value);
        }
    }

    /// As `push_put`, of a value that expires; `None`: never.
    #[inline]
    pub(crate) fn push_put_until(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        value: &[u8],
        expiry: Option<Time>,
    ) {
        match expiry {
            None => self.push_put(keyspace, key, value),
            Some(expiry) => self.push_put_expiring(keyspace, key, value, expiry),
        }
    }

    #[inline(never)]
    fn push_put_expiring(&mut self, id: KeyspaceId, key: &[u8], value: &[u8], expiry: Time) {
        if value.len() > EXPIRING_BYTES_MAX {
            (self.fault).get_or_insert(Fault::ValueTooLarge(value.len()));
        } else if self.push_key(ValueKind::PutExpiring, id, key) {
            put_expiring(&mut self.bytes, expiry, value);
        }
    }

    pub(crate) fn push_merge(&mut self, keyspace: KeyspaceId, key: &[u8], operand: &[u8]) {
        if operand.len() > OPERAND_BYTES_MAX {
            (self.fault).get_or_insert(Fault::OperandTooLarge(operand.len()));
            return;
        }
        if self.push_key(ValueKind::Merge, keyspace, key) {
            put_written(&mut self.bytes, operand);
            if self.merged.last() != Some(&keyspace) {
                self.merged.push(keyspace);
            }
        }
    }

    #[inline]
    pub(crate) fn push_delete(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        self.push_key(ValueKind::Delete, keyspace, key);
    }

    pub(crate) fn push_delete_range(&mut self, keyspace: KeyspaceId, range: &HalfOpen) {
        let end = range.end.as_deref().unwrap_or_default();
        let longest = range.start.len().max(end.len());
        if RANGE_END_BYTES_MAX < longest {
            self.fault.get_or_insert(Fault::KeyTooLarge(longest));
        } else if self.push_start(ValueKind::DeleteRange, keyspace, &range.start) {
            put_bytes(&mut self.bytes, end);
        }
    }

    #[inline]
    fn push_key(&mut self, kind: ValueKind, keyspace: KeyspaceId, key: &[u8]) -> bool {
        if key.len() > KEY_BYTES_MAX {
            self.fault.get_or_insert(Fault::KeyTooLarge(key.len()));
            return false;
        }
        self.push_start(kind, keyspace, key)
    }

    #[inline]
    fn push_start(&mut self, kind: ValueKind, keyspace: KeyspaceId, key: &[u8]) -> bool {
        let Some(count) = self.count().checked_add(1) else {
            self.fault.get_or_insert(Fault::TooManyOperations);
            return false;
        };
        self.set_count(count);
        if self.keyspaces.last() != Some(&keyspace) {
            self.keyspaces.push(keyspace);
        }
        self.bytes.push(kind as u8);
        put_varint(&mut self.bytes, u64::from(keyspace.0));
        put_bytes(&mut self.bytes, key);
        true
    }

    /// What the encoded form begins with.
    #[inline]
    fn count(&self) -> u32 {
        self.bytes
            .first_chunk()
            .map_or(0, |count| u32::from_le_bytes(*count))
    }

    #[inline]
    fn set_count(&mut self, count: u32) {
        if let Some(place) = self.bytes.first_chunk_mut() {
            *place = count.to_le_bytes();
        }
    }

    fn belongs_to(&mut self, database: u64) {
        if *self.database.get_or_insert(database) != database {
            self.fault.get_or_insert(Fault::TwoDatabases);
        }
    }

    /// The database whose keyspaces were named, if any was.
    pub(crate) fn database(&self) -> Option<u64> {
        self.database
    }

    /// Fails when an operation was over its limit; nothing has been written then.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.fault.is_none() && self.bytes.len() <= BATCH_BYTES_MAX {
            return Ok(());
        }
        Err(self.refusal())
    }

    #[cold]
    fn refusal(&self) -> Error {
        match self.fault {
            Some(Fault::KeyTooLarge(n)) => too_large("key", n, KEY_BYTES_MAX),
            Some(Fault::ValueTooLarge(n)) => too_large("value", n, VALUE_BYTES_MAX),
            Some(Fault::OperandTooLarge(n)) => too_large("operand", n, OPERAND_BYTES_MAX),
            Some(Fault::TwoDatabases) => {
                Error::invalid("the batch names keyspaces of two databases")
                    .advice("Nothing was written. Use one batch a database.")
            }
            Some(Fault::TooManyOperations) => {
                Error::new(ErrorKind::TooLarge, "the batch has too many operations")
                    .expected("at most 4294967295 operations", "more")
                    .advice("Nothing was written.")
            }
            None => too_large("batch", self.bytes.len(), BATCH_BYTES_MAX),
        }
    }

    /// The encoded form, which is the payload of a log record.
    #[doc(hidden)]
    #[inline]
    pub fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    /// Every keyspace that an operation names, some more than once.
    #[inline]
    pub(crate) fn keyspaces(&self) -> &[KeyspaceId] {
        &self.keyspaces
    }

    /// Every keyspace that a merge names, some more than once.
    #[inline]
    pub(crate) fn merged(&self) -> &[KeyspaceId] {
        &self.merged
    }

    /// The operations in order.
    #[inline]
    pub(crate) fn operations(&self) -> Operations<'_> {
        let bytes = self.bytes.get(COUNT_BYTES..).unwrap_or_default();
        Operations::of(self.count(), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::expiring::expiry_and_value;

    struct Place(u32, u64);
    impl InKeyspace for Place {
        fn target(&self) -> (KeyspaceId, u64) {
            (KeyspaceId(self.0), self.1)
        }

        fn expiry(&self, ttl: Option<Duration>) -> Option<Time> {
            Time(1000).after(ttl?)
        }
    }

    #[test]
    fn what_was_put_in_is_decoded_in_order() {
        let mut batch = WriteBatch::new();
        batch.put(Place(3, 9), b"k", b"v");
        batch.delete(Place(300, 9), b"gone");
        assert_eq!(batch.keyspaces(), [KeyspaceId(3), KeyspaceId(300)]);
        let all: Vec<_> = Operations::decode(batch.encoded())
            .unwrap()
            .map(|o| o.unwrap())
            .collect();
        assert_eq!(all.len(), 2);
        assert_eq!(
            (all[0].keyspace, all[0].kind),
            (KeyspaceId(3), ValueKind::Put)
        );
        assert_eq!((all[0].key, all[0].value), (&b"k"[..], &b"v"[..]));
        assert_eq!(
            (all[1].keyspace, all[1].kind),
            (KeyspaceId(300), ValueKind::Delete)
        );
        batch.clear();
        assert_eq!(batch.encoded(), [0; COUNT_BYTES]);
    }

    #[test]
    fn ranges_are_half_open_and_an_empty_one_is_no_operation() {
        let mut batch = WriteBatch::new();
        batch.delete_range(Place(3, 9), "a"..="m");
        batch.delete_range(Place(3, 9), "q"..);
        batch.delete_range(Place(3, 9), "m".."a");
        batch.delete_range(Place(3, 9), ..vec![b'k'; KEY_BYTES_MAX]);
        let ranges: Vec<_> = batch.operations().map(|o| o.unwrap().range()).collect();
        let range = |start: &str, end: Option<&[u8]>| HalfOpen {
            start: start.into(),
            end: end.map(<[u8]>::to_vec),
        };
        assert_eq!(ranges[0], range("a", Some(b"m\0")));
        assert_eq!(ranges[1], range("q", None));
        assert_eq!(ranges[2], range("", Some(&[b'k'; KEY_BYTES_MAX])));
        assert_eq!(ranges.len(), 3, "the inverted one is none");
        assert!(batch.check().is_ok());
        batch.delete_range(Place(3, 9), ..vec![b'k'; KEY_BYTES_MAX + 2]);
        assert_eq!(batch.check().unwrap_err().kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn limits_are_kept_in_mind_until_the_write() {
        let mut batch = WriteBatch::new();
        batch.put(Place(0, 1), vec![0; KEY_BYTES_MAX + 1], b"");
        assert_eq!(batch.check().unwrap_err().kind(), ErrorKind::TooLarge);
        batch.clear();
        batch.merge(Place(0, 1), vec![0; KEY_BYTES_MAX + 1], b"");
        assert_eq!(batch.check().unwrap_err().kind(), ErrorKind::TooLarge);
        assert!(batch.is_empty() && batch.merged().is_empty());
        batch.clear();
        batch.put(Place(0, 1), b"a", b"");
        batch.put(Place(0, 2), b"a", b"");
        assert_eq!(
            batch.check().unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
        batch.clear();
        assert!(batch.check().is_ok());
    }

    #[test]
    fn a_value_with_a_ttl_is_written_with_its_expiry() {
        let mut batch = WriteBatch::default();
        batch.put_with_ttl(Place(3, 9), b"k", b"v", Duration::from_millis(77));
        batch.put_with_ttl(Place(3, 9), b"k", b"v", Duration::MAX);
        let all: Vec<_> = batch.operations().map(|o| o.unwrap()).collect();
        assert_eq!(all[0].kind, ValueKind::PutExpiring);
        let parts = expiry_and_value(all[0].value);
        assert_eq!(parts, Some((Time(1077), &b"v"[..])));
        assert_eq!((all[1].kind, all[1].value), (ValueKind::Put, &b"v"[..]));
    }
}

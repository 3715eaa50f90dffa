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
//!            PutExpiring: expiry: u64 LE, value: bytes
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

use super::coding::{Decoder, put_bytes, put_varint};
use super::error::{Error, ErrorKind, Result};
use super::key::{BATCH_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use super::operand::{OPERAND_BYTES_MAX, put_written, span_and_operand};
use super::options::KeyRange;
use super::ranges::HalfOpen;
use super::types::{KeyspaceId, ValueKind};

/// The key behind the longest one may be where a range begins or ends.
const RANGE_END_BYTES_MAX: usize = KEY_BYTES_MAX + 1;
const COUNT_BYTES: usize = 4;

/// Something that names a keyspace of an open database: a `Keyspace`, or a `Db` for its default.
pub trait InKeyspace {
    /// The keyspace's number and the database's identity, which `write` checks.
    #[doc(hidden)]
    fn target(&self) -> (KeyspaceId, u64);
}

impl<T: InKeyspace> InKeyspace for &T {
    fn target(&self) -> (KeyspaceId, u64) {
        (**self).target()
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

    /// Sets `key` to `value`.
    pub fn put(
        &mut self,
        keyspace: impl InKeyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) {
        let (id, database) = keyspace.target();
        self.belongs_to(database);
        self.push_put(id, key.as_ref(), value.as_ref());
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
        let too_large = |what: &str, found: usize, limit: usize| {
            Error::new(ErrorKind::TooLarge, format!("the {what} is too large"))
                .expected(format!("at most {limit} bytes"), format!("{found} bytes"))
                .advice("Nothing was written.")
        };
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
        Operations {
            decoder: Decoder::new(self.bytes.get(COUNT_BYTES..).unwrap_or_default()),
            left: self.count(),
        }
    }
}

/// True for the ends of a range that has keys; an empty end is none.
#[cold]
fn is_range(start: &[u8], end: &[u8]) -> bool {
    let longest = start.len().max(end.len());
    longest <= RANGE_END_BYTES_MAX && (end.is_empty() || start < end)
}

/// One decoded operation, borrowing from the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// The keyspace it changes.
    pub keyspace: KeyspaceId,
    /// What it does.
    pub kind: ValueKind,
    /// The key, or the first key of a range.
    pub key: &'a [u8],
    /// The value, the entry of an operand, end key or blob reference; empty for a deletion.
    pub value: &'a [u8],
    /// Milliseconds since the epoch, for [`ValueKind::PutExpiring`] only.
    pub expiry: u64,
}

impl Operation<'_> {
    /// The keys that it removes, for [`ValueKind::DeleteRange`].
    pub fn range(&self) -> HalfOpen {
        HalfOpen {
            start: self.key.to_vec(),
            end: (!self.value.is_empty()).then(|| self.value.to_vec()),
        }
    }
}

/// Decodes operations one after the other; yields one error and ends where the bytes are wrong.
#[derive(Clone, Debug)]
pub struct Operations<'a> {
    decoder: Decoder<'a>,
    left: u32,
}

impl<'a> Operations<'a> {
    /// Reads the payload of a log record.
    ///
    /// # Errors
    /// `Corruption` when there is no count.
    pub fn decode(payload: &'a [u8]) -> Result<Self> {
        let mut decoder = Decoder::new(payload);
        match decoder.u32() {
            Some(left) => Ok(Operations { decoder, left }),
            None => Err(Error::corruption("batch without a count")),
        }
    }

    /// How many operations are left, as the header says.
    pub fn left(&self) -> u32 {
        self.left
    }

    #[inline]
    fn one(&mut self) -> Option<Operation<'a>> {
        let d = &mut self.decoder;
        let kind = ValueKind::from_byte(d.u8()?)?;
        let keyspace = KeyspaceId(d.varint32()?);
        let key = d.bytes()?;
        let (expiry, value): (u64, &[u8]) = match kind {
            ValueKind::Delete => (0, &[]),
            ValueKind::PutExpiring => (d.u64()?, d.bytes()?),
            ValueKind::Merge => {
                let entry = d.bytes()?;
                span_and_operand(entry)?;
                (0, entry)
            }
            ValueKind::Put | ValueKind::PutBlob | ValueKind::DeleteRange => (0, d.bytes()?),
        };
        let is_of_keys = kind == ValueKind::DeleteRange;
        if is_of_keys || key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            (is_of_keys && is_range(key, value)).then_some(())?;
        }
        Some(Operation {
            keyspace,
            kind,
            key,
            value,
            expiry,
        })
    }
}

impl<'a> Iterator for Operations<'a> {
    type Item = Result<Operation<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let Some(left) = self.left.checked_sub(1) else {
            if self.decoder.is_empty() {
                return None;
            }
            self.decoder = Decoder::new(&[]);
            return Some(Err(Error::corruption(
                "batch with bytes behind its last operation",
            )));
        };
        match self.one() {
            Some(operation) => {
                self.left = left;
                Some(Ok(operation))
            }
            None => {
                self.left = 0;
                self.decoder = Decoder::new(&[]);
                Some(Err(Error::corruption(
                    "batch with an operation that cannot be decoded",
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Place(u32, u64);
    impl InKeyspace for Place {
        fn target(&self) -> (KeyspaceId, u64) {
            (KeyspaceId(self.0), self.1)
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
    fn a_range_that_ends_before_it_begins_is_damage() {
        for (end, is_good) in [(&b"b"[..], true), (b"", true), (b"a", false), (b"A", false)] {
            let mut payload = 1u32.to_le_bytes().to_vec();
            payload.extend_from_slice(&[5, 1, 1, b'a']);
            put_bytes(&mut payload, end);
            let operation = Operations::decode(&payload).unwrap().next().unwrap();
            assert_eq!(operation.is_ok(), is_good, "{end:?}");
        }
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
    fn bytes_behind_the_last_operation_keys_over_the_limit_and_merges_without_a_span_are_damage() {
        let mut batch = WriteBatch::default();
        batch.put(Place(3, 9), b"k", b"v");
        let longer = [batch.encoded(), b"!"].concat();
        let mut decoded = Operations::decode(&longer).unwrap();
        assert!(decoded.next().unwrap().is_ok());
        let error = decoded.next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(decoded.next().is_none(), "once");

        let without_span = [&1u32.to_le_bytes()[..], &[2, 1, 1, b'a', 0]].concat();
        let error = Operations::decode(&without_span).unwrap().next().unwrap();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Corruption);

        let mut huge = [&1u32.to_le_bytes()[..], &[1, 1]].concat();
        crate::base::coding::put_bytes(&mut huge, &vec![b'k'; KEY_BYTES_MAX + 1]);
        huge.push(0);
        let error = Operations::decode(&huge).unwrap().next().unwrap();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Corruption);
    }

    /// Every kind has its place in the format, those that nothing writes yet too.
    #[test]
    fn kinds_of_later_features_decode() {
        let mut payload = 5u32.to_le_bytes().to_vec();
        for kind in [2u8, 4, 5] {
            payload.extend_from_slice(&[kind, 1, 1, b'a', 1, b'b']);
        }
        payload.extend_from_slice(&[3, 1, 1, b'a']);
        payload.extend_from_slice(&77u64.to_le_bytes());
        payload.extend_from_slice(&[1, b'b']);
        payload.extend_from_slice(&[0, 1, 1, b'a']);
        let kinds: Vec<_> = Operations::decode(&payload)
            .unwrap()
            .map(|o| o.unwrap())
            .map(|o| (o.kind, o.expiry))
            .collect();
        assert_eq!(
            kinds,
            [
                (ValueKind::Merge, 0),
                (ValueKind::PutBlob, 0),
                (ValueKind::DeleteRange, 0),
                (ValueKind::PutExpiring, 77),
                (ValueKind::Delete, 0)
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(operations) = Operations::decode(&payload) {
                prop_assert!(operations.take(100).count() < 100);
            }
        }
    }
}

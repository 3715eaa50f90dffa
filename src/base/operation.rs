//! Operations as a batch holds them, read one after the other: the other half of `batch`.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::coding::Decoder;
use super::error::{Error, Result};
use super::expiring::expiry_and_value;
use super::key::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use super::operand::span_and_operand;
use super::ranges::HalfOpen;
use super::types::{KeyspaceId, ValueKind};

/// The key behind the longest one may be where a range begins or ends.
pub(super) const RANGE_END_BYTES_MAX: usize = KEY_BYTES_MAX + 1;

/// True for a value that has the parts that its kind has.
#[cold]
fn is_whole(kind: ValueKind, value: &[u8]) -> bool {
    match kind {
        ValueKind::PutExpiring => expiry_and_value(value).is_some(),
        ValueKind::Merge => span_and_operand(value).is_some(),
        _ => true,
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
    /// The value, the entry of an operand or of a value that expires, end key or blob reference; empty
    /// for a deletion.
    pub value: &'a [u8],
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
    /// So many, which are these bytes.
    #[inline]
    pub(super) fn of(count: u32, bytes: &'a [u8]) -> Self {
        Operations {
            decoder: Decoder::new(bytes),
            left: count,
        }
    }

    /// Without an operation.
    pub(super) fn none() -> Self {
        Self::of(0, &[])
    }

    /// Reads the payload of a log record that holds a batch.
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
        let value: &[u8] = match kind {
            ValueKind::Delete => &[],
            _ => d.bytes()?,
        };
        if !kind.is_plain() {
            is_whole(kind, value).then_some(())?;
        }
        let is_of_keys = kind == ValueKind::DeleteRange;
        if is_of_keys || key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            (is_of_keys && is_range(key, value)).then_some(())?;
        }
        Some(Operation {
            keyspace,
            kind,
            key,
            value,
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
    use crate::base::coding::put_bytes;
    use crate::base::error::ErrorKind;
    use proptest::prelude::*;

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
    fn what_no_batch_holds_is_damage() {
        let longer = [&1u32.to_le_bytes()[..], &[1, 3, 1, b'k', 1, b'v'], b"!"].concat();
        let mut decoded = Operations::decode(&longer).unwrap();
        assert!(decoded.next().unwrap().is_ok());
        let error = decoded.next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(decoded.next().is_none(), "once");

        let without_span = [&1u32.to_le_bytes()[..], &[2, 1, 1, b'a', 0]].concat();
        let error = Operations::decode(&without_span).unwrap().next().unwrap();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Corruption);

        let without_expiry = [&1u32.to_le_bytes()[..], &[3, 1, 1, b'a', 7], &[0; 7]].concat();
        let error = Operations::decode(&without_expiry).unwrap().next().unwrap();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Corruption);

        let mut huge = [&1u32.to_le_bytes()[..], &[1, 1]].concat();
        put_bytes(&mut huge, &vec![b'k'; KEY_BYTES_MAX + 1]);
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
        payload.extend_from_slice(&[3, 1, 1, b'a', 9]);
        payload.extend_from_slice(&77u64.to_le_bytes());
        payload.extend_from_slice(b"b");
        payload.extend_from_slice(&[0, 1, 1, b'a']);
        let kinds: Vec<_> = Operations::decode(&payload)
            .unwrap()
            .map(|o| o.unwrap().kind)
            .collect();
        assert_eq!(
            kinds,
            [
                ValueKind::Merge,
                ValueKind::PutBlob,
                ValueKind::DeleteRange,
                ValueKind::PutExpiring,
                ValueKind::Delete
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

//! Entries of a job's inputs, and those that have expired for everybody as the deletions that they are.
//!
//! A deletion in their place keeps their number: whatever older versions they hid it hides on, and it
//! goes when a deletion would. Not here: for whom something has expired (read's `Horizon`).

use crate::base::cursor::Cursor;
use crate::base::expiring::expiry_and_value;
use crate::base::types::{Tag, Time, ValueKind};

/// Key, number and kind, and value.
pub(super) type Entry<'a> = (&'a [u8], Tag, &'a [u8]);

/// The entry that `cursor` stands on; a deletion when it expired by `expired`.
#[inline]
pub(super) fn entry_of<C: Cursor>(cursor: &C, expired: Option<Time>) -> Entry<'_> {
    let (key, tag, value) = (cursor.key(), cursor.tag(), cursor.value());
    if tag.kind() == ValueKind::PutExpiring && has_expired(value, expired) {
        return (key, Tag::new(tag.seqno(), ValueKind::Delete), &[]);
    }
    (key, tag, value)
}

/// One that cannot be read has not: whoever reads it is told.
#[inline(never)]
fn has_expired(entry: &[u8], expired: Option<Time>) -> bool {
    let expiry = expiry_and_value(entry).map(|(expiry, _)| expiry);
    expiry.is_some_and(|expiry| expired.is_some_and(|expired| expiry <= expired))
}

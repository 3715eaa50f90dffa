//! A cursor to which what has expired for everybody is a deletion.
//!
//! It keeps its number: whatever older versions it hid it hides on, and goes when a deletion would.
//! Not here: for whom it has expired (read's `Horizon`).

use crate::base::cursor::Cursor;
use crate::base::error::Result;
use crate::base::expiring::expiry_and_value;
use crate::base::types::{Tag, Time, ValueKind};

/// The entries of `C`, those that expired by `expired` as deletions.
#[derive(Debug)]
pub(super) struct Expired<'c, C> {
    inner: &'c mut C,
    expired: Option<Time>,
}

impl<'c, C: Cursor> Expired<'c, C> {
    pub(super) fn new(inner: &'c mut C, expired: Option<Time>) -> Expired<'c, C> {
        Expired { inner, expired }
    }

    /// True when the entry has expired. One that cannot be read has not: whoever reads it is told.
    #[inline]
    fn has_expired(&self) -> bool {
        self.inner.tag().kind() == ValueKind::PutExpiring && self.is_over()
    }

    #[inline(never)]
    fn is_over(&self) -> bool {
        let expiry = expiry_and_value(self.inner.value()).map(|(expiry, _)| expiry);
        expiry.is_some_and(|expiry| self.expired.is_some_and(|expired| expiry <= expired))
    }
}

impl<C: Cursor> Cursor for Expired<'_, C> {
    fn first(&mut self) -> Result<()> {
        self.inner.first()
    }

    fn last(&mut self) -> Result<()> {
        self.inner.last()
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.inner.seek(key, tag)
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.inner.seek_for_prev(key, tag)
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.inner.next()
    }

    fn prev(&mut self) -> Result<()> {
        self.inner.prev()
    }

    #[inline]
    fn valid(&self) -> bool {
        self.inner.valid()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.inner.key()
    }

    #[inline]
    fn tag(&self) -> Tag {
        match self.has_expired() {
            false => self.inner.tag(),
            true => Tag::new(self.inner.tag().seqno(), ValueKind::Delete),
        }
    }

    #[inline]
    fn value(&self) -> &[u8] {
        match self.has_expired() {
            false => self.inner.value(),
            true => &[],
        }
    }
}

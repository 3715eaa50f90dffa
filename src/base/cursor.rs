//! The one interface of everything that can be walked in order.

use super::error::Result;
use super::key::head16;
use super::types::{SeqNo, Tag};

/// What is asked of an entry at every step of a walk, as plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    /// [`head16`] of the key.
    pub head: u128,
    /// Sequence number and kind.
    pub tag: Tag,
    /// Bytes of the key.
    pub key_len: u32,
}

/// A position in a sorted sequence of entries, ordered as [`super::key::compare`] says.
///
/// A new cursor is not positioned: `valid()` is false until `first`, `last` or a seek. `key`,
/// `tag`, `value` and `entry` may be called only while `valid()`; their slices live until the next
/// move.
/// After an error the cursor is not valid, and stays so until it is positioned again.
pub trait Cursor {
    /// To the first entry.
    fn first(&mut self) -> Result<()>;
    /// To the last entry.
    fn last(&mut self) -> Result<()>;
    /// To the first entry at or after `(key, tag)`: a later key, or the same key not newer.
    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()>;
    /// To the last entry at or before `(key, tag)`: an earlier key, or the same key not older.
    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()>;
    /// One entry on. Only while `valid()`; past the end the cursor is no longer valid.
    fn next(&mut self) -> Result<()>;
    /// One entry back. Only while `valid()`; before the start the cursor is no longer valid.
    fn prev(&mut self) -> Result<()>;
    /// Forward as far as it is told easily that all entries are older than `before`, up to `end`
    /// (`None`: the end of all) at most. It may not move at all. Only while `valid()`.
    fn pass(&mut self, _end: Option<&[u8]>, _before: SeqNo) -> Result<()> {
        Ok(())
    }
    /// The same backward; `start` is the last key that may be passed.
    fn pass_back(&mut self, _start: &[u8], _before: SeqNo) -> Result<()> {
        Ok(())
    }
    /// True when it can be told at once that no newer version of the current entry's key lies here,
    /// and, in a cursor that goes back through several sequences, no version of it further on. False
    /// says nothing. Only while `valid()`.
    #[inline]
    fn is_newest(&self) -> bool {
        false
    }
    /// True when the cursor stands on an entry.
    fn valid(&self) -> bool;
    /// The user key.
    fn key(&self) -> &[u8];
    /// Sequence number and kind.
    fn tag(&self) -> Tag;
    /// The value; empty for a deletion.
    fn value(&self) -> &[u8];
    /// The entry in numbers; `None` while not `valid()`.
    #[inline(always)]
    fn peek(&self) -> Option<Peek> {
        self.valid().then(|| {
            let key = self.key();
            Peek {
                head: head16(key),
                tag: self.tag(),
                key_len: key.len() as u32,
            }
        })
    }
    /// Key and value.
    #[inline]
    fn entry(&self) -> (&[u8], &[u8]) {
        (self.key(), self.value())
    }
}

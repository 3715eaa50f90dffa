//! The one interface of everything that can be walked in order.

use super::error::Result;
use super::types::{SeqNo, Tag};

/// A position in a sorted sequence of entries, ordered as [`super::key::compare`] says.
///
/// A new cursor is not positioned: `valid()` is false until `first`, `last` or a seek. `key`,
/// `tag` and `value` may be called only while `valid()`; their slices live until the next move.
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
}

//! A get in three stages, so that many keys wait for memory at the same time.
//!
//! ```text
//! place (index) ─asks for the block's head→ approach (fingerprints) ─asks for the entry→ get_at
//! ```
//! Whoever has many keys goes through a stage with all of them before the next. The first two
//! stages only bring lines nearer: what they read is not checked, decides nothing, and is read
//! again by the last.

use super::block::search::{prefetch_head, prefetch_lines};
use super::block::{Layout, fingerprint};
use super::index::Index;
use super::reader::{Access, Table};
use super::sections::Loaded;
use super::value::TableValue;
use crate::base::error::Result;
use crate::base::slice::Pin;
use crate::base::types::{SeqNo, Tag};

/// Lines of an entry: key and value of 100 bytes, wherever the first line begins.
const ENTRY_LINES: usize = 3;

/// A value that is found is read at once, but by the caller, who waits for one line after the other:
/// from this length on they are asked for together (1 KiB: 796 ns a get against 963).
const PREFETCHED_BYTES_MIN: usize = 256;
/// So many of them; the processor sees by itself that the rest is read in order.
const VALUE_LINES: usize = 16;

/// Where a key would be in a table.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The block after the one that it would be in.
    after: usize,
}

impl Table {
    /// The newest version of `key` not newer than `at`. Does not ask the filter.
    ///
    /// # Errors
    /// `Corruption` or `Io`, when the index or the block that may hold the key is unreadable.
    pub fn get(&self, key: &[u8], hash: u64, at: SeqNo) -> Result<Option<TableValue<'_>>> {
        let mut hold = None;
        let index = self.index(&mut hold)?;
        self.find_at(index, self.locate(index, key, at)?, key, hash, at)
    }

    /// First stage of a get among many: finds the block, and asks for its head.
    ///
    /// # Errors
    /// `Corruption` or `Io`, when the index is unreadable.
    pub fn place(&self, key: &[u8], at: SeqNo) -> Result<Place> {
        let mut hold = None;
        let index = self.index(&mut hold)?;
        let place = self.locate(index, key, at)?;
        if let Some(region) = self.region()
            && let Some((offset, _)) = self.span_of(index, place)
        {
            prefetch_head(region.bytes(), offset as usize);
        }
        Ok(place)
    }

    /// Second stage: asks for the entry that is probably the one. What cannot be read now is met
    /// again, with its error, in the last stage.
    pub fn approach(&self, place: Place, hash: u64) {
        let mut hold = None;
        let (Some(region), Ok(index)) = (self.region(), self.index(&mut hold)) else {
            return;
        };
        let block = self
            .span_of(index, place)
            .and_then(|(offset, len)| region.block(offset, len).ok());
        let entry = block.and_then(|block| {
            let start = Layout::parse(block)?.likely(block, fingerprint(hash))?;
            Some((block, start))
        });
        if let Some((block, start)) = entry {
            prefetch_lines(block, start, ENTRY_LINES);
        }
    }

    /// Last stage: the newest version of `key` not newer than `at`.
    ///
    /// # Errors
    /// `Corruption` or `Io`, when the block that may hold the key is unreadable.
    #[inline]
    pub fn get_at(
        &self,
        place: Place,
        key: &[u8],
        hash: u64,
        at: SeqNo,
    ) -> Result<Option<TableValue<'_>>> {
        let mut hold = None;
        let index = self.index(&mut hold)?;
        self.find_at(index, place, key, hash, at)
    }

    #[inline]
    fn find_at(
        &self,
        index: &Loaded<Index>,
        place: Place,
        key: &[u8],
        hash: u64,
        at: SeqNo,
    ) -> Result<Option<TableValue<'_>>> {
        let newest = Tag::newest_at(at);
        if let Some(i) = place.after.checked_sub(1) {
            let found = self.find_in(index, i, key, hash, newest)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        // Versions of one key may span blocks, and the one wanted may be the first of the next.
        if index.decoded.continues(index.section(), place.after, key) {
            return self.find_in(index, place.after, key, hash, newest);
        }
        Ok(None)
    }

    #[inline]
    fn locate(&self, index: &Loaded<Index>, key: &[u8], at: SeqNo) -> Result<Place> {
        let after = index
            .decoded
            .locate(index.section(), key, Tag::newest_at(at));
        match after {
            Some(after) => Ok(Place { after }),
            None => Err(self.bad_index()),
        }
    }

    /// Offset and length of the block, where there is one and they lie in the file.
    #[inline]
    fn span_of(&self, index: &Loaded<Index>, place: Place) -> Option<(u64, usize)> {
        self.span(index, place.after.checked_sub(1)?).ok()
    }

    #[inline]
    fn find_in(
        &self,
        index: &Loaded<Index>,
        i: usize,
        key: &[u8],
        hash: u64,
        newest: Tag,
    ) -> Result<Option<TableValue<'_>>> {
        let block = self.block(index, i, Access::Read)?;
        let body = block.body();
        let found = Layout::parse(body)
            .and_then(|layout| layout.find(body, key, fingerprint(hash), newest))
            .ok_or_else(|| self.bad_block(index, i))?;
        let Some(entry) = found else {
            return Ok(None);
        };
        if PREFETCHED_BYTES_MIN <= entry.value.len() {
            prefetch_lines(entry.value, 0, VALUE_LINES);
        }
        let (tag, value) = (
            entry.tag,
            entry.value_at..entry.value_at + entry.value.len(),
        );
        Ok(Some(TableValue { tag, block, value }))
    }
}

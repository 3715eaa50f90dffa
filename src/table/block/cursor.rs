//! Finding entries in a block: by fingerprint for a get, by head for a seek.
//!
//! Both answer with a position; `None` means that the bytes are not those of a block.

use super::search::equal_bytes;
use super::{Entry, HEADER_BYTES, Layout, head};
use crate::base::key::compare;
use crate::base::types::Tag;
use std::cmp::Ordering;

impl Layout {
    /// The first entry with this key whose tag is not above `newest`.
    ///
    /// Compares 16 fingerprints at once, and keys only where one fits: 1/256 of the others.
    #[inline]
    pub(in crate::table) fn find<'a>(
        &self,
        body: &'a [u8],
        key: &[u8],
        fingerprint: u8,
        newest: Tag,
    ) -> Option<Option<Entry<'a>>> {
        let Some(suffix) = key.strip_prefix(self.prefix(body)) else {
            return Some(None);
        };
        let mut start = 0;
        while start < self.count {
            let mut mask = self.fitting(body, start, fingerprint)?;
            while mask != 0 {
                let i = start + mask.trailing_zeros() as usize;
                let entry = self.entry(body, i)?;
                if entry.suffix == suffix {
                    if entry.tag <= newest {
                        return Some(Some(entry));
                    }
                    // Versions are adjacent, and there may be many: leave the rest to a search.
                    return self.find_version(body, key, suffix, newest);
                }
                mask &= mask - 1;
            }
            start += 16;
        }
        Some(None)
    }

    /// Bit `i` is set where entry `start + i` has this fingerprint, of at most 16 entries.
    #[inline]
    fn fitting(&self, body: &[u8], start: usize, fingerprint: u8) -> Option<u16> {
        let bytes = body.get(HEADER_BYTES + start..)?;
        let mask = match bytes.first_chunk() {
            Some(line) => equal_bytes(line, fingerprint),
            None => {
                let mut line = [0; 16];
                line.get_mut(..bytes.len())?.copy_from_slice(bytes);
                equal_bytes(&line, fingerprint)
            }
        };
        Some(match self.count - start {
            left @ 0..16 => mask & ((1 << left) - 1),
            _ => mask,
        })
    }

    /// Where the first entry with this fingerprint starts: probably what a get will find.
    #[inline]
    pub(in crate::table) fn likely(&self, body: &[u8], fingerprint: u8) -> Option<usize> {
        for start in (0..self.count).step_by(16) {
            let mask = self.fitting(body, start, fingerprint)?;
            if mask != 0 {
                return self.offset(body, start + mask.trailing_zeros() as usize);
            }
        }
        None
    }

    fn find_version<'a>(
        &self,
        body: &'a [u8],
        key: &[u8],
        suffix: &[u8],
        newest: Tag,
    ) -> Option<Option<Entry<'a>>> {
        let i = self.lower_bound(body, key, newest)?;
        if i == self.count {
            return Some(None);
        }
        let entry = self.entry(body, i)?;
        Some((entry.suffix == suffix).then_some(entry))
    }

    /// The first entry at or after `(key, tag)`; `count` when there is none.
    #[inline]
    pub(in crate::table) fn lower_bound(&self, body: &[u8], key: &[u8], tag: Tag) -> Option<usize> {
        let prefix = self.prefix(body);
        let Some(suffix) = key.strip_prefix(prefix) else {
            return Some(if key < prefix { 0 } else { self.count });
        };
        let wanted = head(suffix);
        let (mut low, mut not_above) = (0, 0);
        for stored in self.heads(body) {
            let stored = u16::from_le_bytes(*stored);
            low += usize::from(stored < wanted);
            not_above += usize::from(stored <= wanted);
        }
        let mut high = not_above;
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(body, middle)?;
            if compare(entry.suffix, entry.tag, suffix, tag) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }
}

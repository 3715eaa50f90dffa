//! A data block: entries of one key range behind three small arrays that are searched first.
//!
//! ```text
//! header        count u16 | flags u8 | tag bytes u8 (1, 4 or 8) | prefix length u32 | base seqno u64
//! fingerprints  count × u8     the highest byte of the key's hash
//! heads         count × u16    the first two bytes behind the prefix, as a big-endian number
//! offsets       (count + 1) × (u16, or u32 when wide)    of entries, from the block's start
//! prefix        the bytes that all keys of the block share
//! entry         suffix length (u16, or u32 when wide) | tag | suffix | value
//! tag           (tag - (base seqno << 8)), in as many bytes as the header says
//! ```
//! A value ends where the next entry starts, so it needs no length. Integers are little-endian.
//!
//! Invariants: entries ascend in the order of `base::key`; heads therefore ascend too.
//! [`Layout::parse`] checks that the arrays lie inside the body; entries are checked as they are
//! read, so that hostile bytes give `None` and never a panic (P19). A first touch costs no pass
//! over the entries.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "writes blocks, of entries that it was given"
)]
pub(super) mod builder;
#[expect(
    clippy::arithmetic_side_effects,
    reason = "positions are at most the count, which has 16 bits; bytes are read by `get`"
)]
pub(super) mod cursor;
pub(super) mod probe;
#[expect(unsafe_code, reason = "SSE2, and prefetching takes an address")]
pub(super) mod search;

use crate::base::types::{SeqNo, Tag};

/// Size of the header.
pub(super) const HEADER_BYTES: usize = 16;
/// Flag: offsets and suffix lengths have 4 bytes.
const FLAG_WIDE: u8 = 1;
/// Entries that fit a block's count.
const COUNT_MAX: usize = u16::MAX as usize;

/// The fingerprint of a key with this hash.
#[inline]
pub(super) const fn fingerprint(hash: u64) -> u8 {
    (hash >> 56) as u8
}

/// The first two bytes of a key behind the prefix, zero-filled. Smaller heads, smaller keys;
/// equal heads decide nothing.
#[inline]
fn head(suffix: &[u8]) -> u16 {
    match suffix {
        [] => 0,
        [a] => u16::from(*a) << 8,
        [a, b, ..] => u16::from_be_bytes([*a, *b]),
    }
}

/// Where everything lies in a block's body, as plain numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layout {
    count: usize,
    base: u64,
    heads_at: usize,
    offsets_at: usize,
    prefix_at: usize,
    entries_at: usize,
    wide: bool,
    tag_bytes: u8,
}

/// One entry, borrowing from the block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) suffix: &'a [u8],
    pub(super) tag: Tag,
    pub(super) value: &'a [u8],
    /// The suffix and what lies behind it: a copy of the suffix may take more than it needs.
    pub(super) rest: &'a [u8],
    /// Where the value starts in the body.
    pub(super) value_at: usize,
}

impl Layout {
    /// Reads the header and checks that the arrays and the prefix lie inside `body`.
    #[inline]
    pub(super) fn parse(body: &[u8]) -> Option<Layout> {
        let header = body.first_chunk::<HEADER_BYTES>()?;
        let [c0, c1, flags, tag_bytes, p0, p1, p2, p3, base @ ..] = *header;
        let count = usize::from(u16::from_le_bytes([c0, c1]));
        let prefix_len = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
        let base = u64::from_le_bytes(base);
        let wide = flags & FLAG_WIDE != 0;
        let known = flags & !FLAG_WIDE == 0 && matches!(tag_bytes, 1 | 4 | 8);
        if count == 0 || !known || SeqNo::MAX.get() < base {
            return None;
        }
        let heads_at = HEADER_BYTES.checked_add(count)?;
        let offsets_at = heads_at.checked_add(count.checked_mul(2)?)?;
        let offsets_bytes = count.checked_add(1)?.checked_mul(width(wide))?;
        let prefix_at = offsets_at.checked_add(offsets_bytes)?;
        let entries_at = prefix_at.checked_add(prefix_len)?;
        (entries_at <= body.len()).then_some(Layout {
            count,
            base,
            heads_at,
            offsets_at,
            prefix_at,
            entries_at,
            wide,
            tag_bytes,
        })
    }

    /// Entries in the block: at least 1.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The bytes that all keys of the block share.
    #[inline]
    pub(super) fn prefix<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        body.get(self.prefix_at..self.entries_at).unwrap_or(&[])
    }

    /// The stored fingerprint and head of entry `i`: what `verify` compares with the key.
    pub(super) fn stored_guide(&self, body: &[u8], i: usize) -> Option<(u8, u16)> {
        let fingerprints = body.get(HEADER_BYTES..self.heads_at)?;
        Some((
            *fingerprints.get(i)?,
            u16::from_le_bytes(*self.heads(body).get(i)?),
        ))
    }

    /// What [`Layout::stored_guide`] must say for a key with this hash.
    pub(super) fn guide_of(&self, key: &[u8], hash: u64) -> Option<(u8, u16)> {
        let prefix_len = self.entries_at.checked_sub(self.prefix_at)?;
        let suffix = key.get(prefix_len..)?;
        Some((fingerprint(hash), head(suffix)))
    }

    /// True when entry `i` and the one before it have different keys for certain: equal keys have
    /// equal fingerprints. False for most of the others, and for the first entry and `count`.
    #[inline]
    pub(super) fn begins_key(&self, body: &[u8], i: usize) -> bool {
        let fingerprints = body.get(HEADER_BYTES..self.heads_at).unwrap_or(&[]);
        match (
            i.checked_sub(1).and_then(|i| fingerprints.get(i)),
            fingerprints.get(i),
        ) {
            (Some(before), Some(here)) => before != here,
            _ => false,
        }
    }

    #[inline]
    fn heads<'a>(&self, body: &'a [u8]) -> &'a [[u8; 2]] {
        body.get(self.heads_at..self.offsets_at)
            .unwrap_or(&[])
            .as_chunks()
            .0
    }

    /// Where entry `i` starts in the body; for `count`, where the last one ends.
    #[inline]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "`i` is at most the count, of 16 bits, and `parse` found the offsets in a body"
    )]
    pub(super) fn offset(&self, body: &[u8], i: usize) -> Option<usize> {
        let at = self.offsets_at + i * width(self.wide);
        read_width(body.get(at..)?, self.wide)
    }

    /// Where entry `i < count` starts and ends in the body.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "as in `offset`")]
    fn span(&self, body: &[u8], i: usize) -> Option<(usize, usize)> {
        if self.wide {
            return Some((self.offset(body, i)?, self.offset(body, i + 1)?));
        }
        let [s0, s1, e0, e1] = *body.get(self.offsets_at + 2 * i..)?.first_chunk()?;
        Some((
            u16::from_le_bytes([s0, s1]).into(),
            u16::from_le_bytes([e0, e1]).into(),
        ))
    }

    /// Entry `i < count`; `None` when the bytes are not those of an entry.
    #[inline]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "`i` is below the count, a base has 56 bits, and a value ends at `end`"
    )]
    pub(super) fn entry<'a>(&self, body: &'a [u8], i: usize) -> Option<Entry<'a>> {
        debug_assert!(i < self.count);
        let (start, end) = self.span(body, i)?;
        let bytes = body.get(start..end)?;
        let suffix_len = read_width(bytes, self.wide)?;
        let fields = bytes.get(width(self.wide)..)?;
        let (difference, tag_bytes) = match self.tag_bytes {
            1 => (u64::from(*fields.first()?), 1),
            4 => (u64::from(u32::from_le_bytes(*fields.first_chunk()?)), 4),
            _ => (u64::from_le_bytes(*fields.first_chunk()?), 8),
        };
        let tag = Tag::from_u64((self.base << 8).checked_add(difference)?)?;
        let rest = fields.get(tag_bytes..)?;
        let (suffix, value) = rest.split_at_checked(suffix_len)?;
        Some(Entry {
            suffix,
            tag,
            value,
            rest,
            value_at: end - value.len(),
        })
    }
}

#[inline]
const fn width(wide: bool) -> usize {
    if wide { 4 } else { 2 }
}

#[inline]
fn read_width(bytes: &[u8], wide: bool) -> Option<usize> {
    Some(if wide {
        u32::from_le_bytes(*bytes.first_chunk()?) as usize
    } else {
        usize::from(u16::from_le_bytes(*bytes.first_chunk()?))
    })
}

#[cfg(test)]
mod tests;

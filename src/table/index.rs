//! The index section: where the block starts that may hold a key. Used as it lies in the file.
//!
//! ```text
//! block count u32 | flags u32 | prefix length u32 | zero u32 | separator bytes u64
//! heads       count × u64        8 bytes of a separator behind the prefix, as a big-endian number
//! tops        ceil(count / 64) × u64                        every 64th head
//! offsets     (count + 1) × u64  of blocks in the file; a block ends where the next one starts
//! tags        count × u64        see below
//! ends        count × u64        of separators in the separator bytes
//! prefix | separators without the prefix, one after the other
//! ```
//! The separator of block 0 is its first key. The separator of a later block is the shortest
//! beginning of its first key that is above the last key before it; it never overshoots, because
//! it is a beginning of a key of its own block. Its tag is `u64::MAX`, before every version. Where
//! versions of one key span blocks, the separator is that key and the tag that of the first entry.
//!
//! Invariants: `(separator, tag)` ascends; every entry of a block is at or after its separator
//! and before the next. Checksum and sizes are checked once; what is read afterwards is read with
//! bounds, so hostile bytes give a wrong place, an error, but no panic (P19).

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use crate::base::key::{common_prefix, compare, head8};
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::types::Tag;
use std::ops::Range;

const HEADER_BYTES: usize = 24;
/// Flag: every block is stored plain, so nobody need look at its codec byte.
const FLAG_PLAIN: u32 = 1;
/// One in so many heads is repeated in the tops: 16,384 blocks (64 MiB) have tops of 2 KiB, which
/// stay cached; the group behind one is 8 cache lines.
const GROUP: usize = 64;

/// Collects what the index of a table holds.
#[derive(Debug, Default)]
pub(super) struct IndexBuilder {
    offsets: Vec<u64>,
    tags: Vec<u64>,
    ends: Vec<usize>,
    separators: Vec<u8>,
}

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "writes what it collected itself, in positions below its own count"
)]
impl IndexBuilder {
    /// Blocks so far.
    pub(super) fn count(&self) -> usize {
        self.offsets.len()
    }

    /// Adds the block at `offset` that starts with `(first, tag)`; `last` is the last key of the
    /// block before it.
    pub(super) fn add(&mut self, last: Option<&[u8]>, first: &[u8], tag: Tag, offset: u64) {
        let (separator, tag) = match last {
            None => (first, Tag::MAX),
            Some(last) if last == first => (first, tag),
            Some(last) => (&first[..common_prefix(last, first) + 1], Tag::MAX),
        };
        self.separators.extend_from_slice(separator);
        self.ends.push(self.separators.len());
        self.tags.push(tag.to_u64());
        self.offsets.push(offset);
    }

    fn separator(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.separators[start..self.ends[i]]
    }

    /// Bytes that the section will have, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.separators.len() + self.count() * 33
    }

    /// Appends the section; the last block ends at `end`.
    pub(super) fn finish(&self, end: u64, plain: bool, out: &mut Vec<u8>) {
        let count = self.count();
        let prefix_len = match count {
            0 => 0,
            n => common_prefix(self.separator(0), self.separator(n - 1)),
        };
        let prefix = self.separators.get(..prefix_len).unwrap_or(&[]);
        let separator_bytes = self.separators.len() - count * prefix_len;
        out.extend_from_slice(&(count as u32).to_le_bytes());
        out.extend_from_slice(&if plain { FLAG_PLAIN } else { 0 }.to_le_bytes());
        out.extend_from_slice(&(prefix_len as u32).to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&(separator_bytes as u64).to_le_bytes());
        let head = |i| head8(&self.separator(i)[prefix_len..]);
        let mut put = |n: u64| out.extend_from_slice(&n.to_le_bytes());
        (0..count).for_each(|i| put(head(i)));
        (0..count).step_by(GROUP).for_each(|i| put(head(i)));
        self.offsets.iter().for_each(|&offset| put(offset));
        put(end);
        self.tags.iter().for_each(|&tag| put(tag));
        for (i, &end) in self.ends.iter().enumerate() {
            put((end - (i + 1) * prefix_len) as u64);
        }
        out.extend_from_slice(prefix);
        for i in 0..count {
            out.extend_from_slice(&self.separator(i)[prefix_len..]);
        }
    }
}

/// Where the parts of an index section lie, and which blocks have been verified.
#[derive(Debug)]
pub(super) struct Index {
    count: usize,
    plain: bool,
    tops: Range<usize>,
    heads: Range<usize>,
    offsets: Range<usize>,
    tags: Range<usize>,
    ends: Range<usize>,
    prefix: Range<usize>,
    separators: Range<usize>,
    /// One bit a block. Relaxed, without a partner: the bytes that a bit vouches for never change.
    verified: Box<[AtomicU64]>,
}

impl Index {
    /// Reads the header and checks that the parts fill the section exactly.
    pub(super) fn decode(section: &[u8]) -> Option<Index> {
        let header = section.first_chunk::<HEADER_BYTES>()?;
        let word = |at: usize| Some(u32::from_le_bytes(*header.get(at..)?.first_chunk()?));
        let (count, flags, prefix_len, zero) = (word(0)?, word(4)?, word(8)?, word(12)?);
        let separator_bytes = u64::from_le_bytes(*header.last_chunk()?);
        if flags & !FLAG_PLAIN != 0 || zero != 0 {
            return None;
        }
        let count = count as usize;
        let mut at = HEADER_BYTES;
        let mut part = |len: Option<usize>| {
            let start = at;
            at = start.checked_add(len?)?;
            (at <= section.len()).then_some(start..at)
        };
        let words = |n: usize| n.checked_mul(8);
        let index = Index {
            heads: part(words(count))?,
            tops: part(words(count.div_ceil(GROUP)))?,
            offsets: part(count.checked_add(1).and_then(words))?,
            tags: part(words(count))?,
            ends: part(words(count))?,
            prefix: part(Some(prefix_len as usize))?,
            separators: part(usize::try_from(separator_bytes).ok())?,
            count,
            plain: flags & FLAG_PLAIN != 0,
            // Not larger than the section, which holds 40 bytes for each of these bits.
            verified: (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
        };
        (index.separators.end == section.len()).then_some(index)
    }

    /// Blocks in the table.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// True when every block is stored plain.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// True when block `i` was found good since the table was opened.
    #[inline]
    pub(super) fn is_verified(&self, i: usize) -> bool {
        self.verified
            .get(i / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (i % 64)) != 0)
    }

    /// Remembers that block `i` is good.
    pub(super) fn set_verified(&self, i: usize) {
        if let Some(word) = self.verified.get(i / 64) {
            word.fetch_or(1 << (i % 64), Ordering::Relaxed);
        }
    }

    /// Offset and length of block `i`; `None` when they make no sense.
    #[inline]
    pub(super) fn span(&self, section: &[u8], i: usize) -> Option<(u64, usize)> {
        let offsets = words(section, &self.offsets);
        let [start, end] = *offsets.get(i..)?.first_chunk()?;
        let (start, end) = (u64::from_le_bytes(start), u64::from_le_bytes(end));
        Some((start, usize::try_from(end.checked_sub(start)?).ok()?))
    }

    /// The separator of block `i` behind the prefix, and its tag.
    pub(super) fn separator<'a>(&self, section: &'a [u8], i: usize) -> Option<(&'a [u8], u64)> {
        let ends = words(section, &self.ends);
        let number = |word: &[u8; 8]| usize::try_from(u64::from_le_bytes(*word)).ok();
        let start = match i.checked_sub(1) {
            Some(before) => number(ends.get(before)?)?,
            None => 0,
        };
        let separators = section.get(self.separators.clone())?;
        let separator = separators.get(start..number(ends.get(i)?)?)?;
        let tag = u64::from_le_bytes(*words(section, &self.tags).get(i)?);
        Some((separator, tag))
    }

    /// True when the head of block `i`, and the top if it has one, are those of its separator.
    pub(super) fn is_guided(&self, section: &[u8], i: usize) -> bool {
        let Some((separator, _)) = self.separator(section, i) else {
            return false;
        };
        let head = head8(separator);
        let is_head = |range, at| {
            let stored = words(section, range).get(at);
            stored.is_some_and(|stored| u64::from_le_bytes(*stored) == head)
        };
        is_head(&self.heads, i) && (!i.is_multiple_of(GROUP) || is_head(&self.tops, i / GROUP))
    }

    /// The bytes that all separators share.
    #[inline]
    pub(super) fn prefix<'a>(&self, section: &'a [u8]) -> &'a [u8] {
        section.get(self.prefix.clone()).unwrap_or(&[])
    }

    /// True when block `i` exists and starts with a version of `key` that is not its newest.
    #[inline]
    pub(super) fn continues(&self, section: &[u8], i: usize, key: &[u8]) -> bool {
        let Some(tail) = key.strip_prefix(self.prefix(section)) else {
            return false;
        };
        words(section, &self.heads)
            .get(i)
            .is_some_and(|head| u64::from_le_bytes(*head) == head8(tail))
            && self
                .separator(section, i)
                .is_some_and(|(separator, tag)| separator == tail && tag != u64::MAX)
    }

    /// How many separators are at or before `(key, tag)`: 0 when the entry would come before the
    /// whole table, else it belongs into the block before this number. `None` for bad bytes.
    #[inline]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "positions of blocks, and of groups rounded up: a count has 32 bits, and `decode` \
                  found 40 bytes in the section for each"
    )]
    pub(super) fn locate(&self, section: &[u8], key: &[u8], tag: Tag) -> Option<usize> {
        let prefix = self.prefix(section);
        let Some(tail) = key.strip_prefix(prefix) else {
            return Some(if key < prefix { 0 } else { self.count });
        };
        let wanted = head8(tail);
        let heads = words(section, &self.heads);
        let tops = words(section, &self.tops);
        let below = |head: &[u8; 8]| u64::from_le_bytes(*head) < wanted;
        let group = tops.partition_point(below);
        let start = group.saturating_sub(1) * GROUP;
        let end = (group * GROUP).min(heads.len());
        let low = start + heads.get(start..end)?.partition_point(below);
        let ties = heads.get(low..)?;
        let is_tie = |head: &[u8; 8]| u64::from_le_bytes(*head) == wanted;
        if !ties.first().is_some_and(is_tie) {
            return Some(low);
        }
        let (mut low, mut high) = (low, low + ties.partition_point(is_tie));
        while low < high {
            let middle = low + (high - low) / 2;
            let (separator, bits) = self.separator(section, middle)?;
            if compare(separator, separator_tag(bits)?, tail, tag).is_le() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }
}

/// The tag of a separator from its stored form: before every version, or that of an entry.
#[inline]
pub(super) fn separator_tag(bits: u64) -> Option<Tag> {
    match bits {
        u64::MAX => Some(Tag::MAX),
        bits => Tag::from_u64(bits),
    }
}

#[inline]
fn words<'a>(section: &'a [u8], range: &Range<usize>) -> &'a [[u8; 8]] {
    section.get(range.clone()).unwrap_or(&[]).as_chunks().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::types::{SeqNo, ValueKind};
    use proptest::prelude::*;

    fn tag(seqno: u64) -> Tag {
        Tag::new(SeqNo::new(seqno), ValueKind::Put)
    }

    /// An index whose every block holds one entry.
    fn one_a_block(entries: &[(Vec<u8>, Tag)]) -> Vec<u8> {
        let mut builder = IndexBuilder::default();
        for (i, (key, tag)) in entries.iter().enumerate() {
            let last = i.checked_sub(1).map(|before| &entries[before].0[..]);
            builder.add(last, key, *tag, i as u64 * 100);
        }
        let mut section = Vec::new();
        builder.finish(entries.len() as u64 * 100, true, &mut section);
        section
    }

    #[test]
    fn a_separator_that_lies_outside_guides_nowhere() {
        let entries: Vec<_> = (b'a'..=b'e').map(|key| (vec![key], tag(1))).collect();
        let mut section = one_a_block(&entries);
        let index = Index::decode(&section).unwrap();
        assert!((0..entries.len()).all(|i| index.is_guided(&section, i)));
        section[index.ends.start + 2 * 8..][..8].copy_from_slice(&u64::MAX.to_le_bytes());
        let index = Index::decode(&section).unwrap();
        let guided: Vec<bool> = (0..entries.len())
            .map(|i| index.is_guided(&section, i))
            .collect();
        assert_eq!(guided, [true, true, false, false, true]);
    }

    proptest! {
        /// Bug 61 of other engines: shortened separators that overshoot among keys with a long
        /// common prefix.
        #[test]
        fn every_key_and_every_gap_is_located_with_long_prefixes_and_blocks_of_one_key(
            keys in proptest::collection::btree_set(proptest::collection::vec(0u8..3, 0..14), 1..200),
            versions in 1u64..4,
            prefix in prop::sample::select(vec!["", "p", "a common prefix of many bytes"]),
        ) {
            let entries: Vec<(Vec<u8>, Tag)> = keys
                .iter()
                .flat_map(|key| {
                    let key = [prefix.as_bytes(), key].concat();
                    (1..=versions).rev().map(move |v| (key.clone(), tag(v)))
                })
                .collect();
            let section = one_a_block(&entries);
            let index = Index::decode(&section).unwrap();
            prop_assert_eq!(index.count(), entries.len());
            prop_assert_eq!(index.span(&section, entries.len() - 1).unwrap().1, 100);
            for (i, (key, entry_tag)) in entries.iter().enumerate() {
                prop_assert_eq!(index.locate(&section, key, *entry_tag), Some(i + 1));
                let after = [&key[..], &[0]].concat();
                let mut before = key.clone();
                before.pop();
                for gap in [after, before, b"".to_vec(), b"zz".to_vec()] {
                    for gap_tag in [Tag::MAX, tag(2), Tag::MIN] {
                        let at_or_before = entries
                            .iter()
                            .filter(|(k, t)| compare(k, *t, &gap, gap_tag).is_le())
                            .count();
                        let located = index.locate(&section, &gap, gap_tag).unwrap();
                        // A shortened separator may claim a gap for the block after it, whose
                        // first entry then is the one after the gap; never more.
                        prop_assert!(located == at_or_before || located == at_or_before + 1);
                    }
                }
                let continued = i > 0 && entries[i - 1].0 == *key;
                prop_assert_eq!(index.continues(&section, i, key), continued);
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(
            mut section in proptest::collection::vec(any::<u8>(), 24..300),
            count in 0u32..6,
        ) {
            section[..4].copy_from_slice(&count.to_le_bytes());
            section[4..24].fill(0);
            let used = 24 + count as usize * 32 + 8 + usize::from(count > 0) * 8;
            let rest = section.len().saturating_sub(used) as u64;
            section[16..24].copy_from_slice(&rest.to_le_bytes());
            if let Some(index) = Index::decode(&section) {
                for key in [&b""[..], b"k", b"\xff\xff"] {
                    let _ = index.locate(&section, key, Tag::MAX);
                    let _ = index.continues(&section, 1, key);
                }
                for i in 0..=index.count() {
                    let _ = index.span(&section, i);
                }
            }
        }
    }

    #[test]
    fn a_bit_is_remembered_for_one_block() {
        let entries: Vec<_> = (0..130u8).map(|n| (vec![n], tag(1))).collect();
        let index = Index::decode(&one_a_block(&entries)).unwrap();
        index.set_verified(65);
        let verified: Vec<usize> = (0..131).filter(|&i| index.is_verified(i)).collect();
        assert_eq!(verified, [65]);
    }
}

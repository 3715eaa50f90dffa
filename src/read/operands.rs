//! The operands of one key's merges, gathered from the newest down to what they are merged into.
//!
//! The same may be found in two places: as it was written, and as part of what a flush or a
//! compaction put together. An entry that stands for several says so by its span (base's `operand`),
//! and a put or a deletion stands for everything before it; of two that overlap the one that stands
//! for more is the one that counts.

use super::unsupported;
use crate::base::error::{Error, Result};
use crate::base::expiring::{expiry_and_value, no_expiry, unless_expired};
use crate::base::hooks::Folding;
use crate::base::operand::{entry_of, span_and_operand};
use crate::base::types::{SeqNo, Tag, Time, ValueKind};
use std::ops::Range;

/// Versions of one key, each source's given newest first.
#[derive(Debug, Default)]
pub struct Operands {
    /// Newest first.
    operands: Vec<Operand>,
    /// What they are merged into, once it is known: a put, which may expire, or a deletion.
    base: Option<(Tag, Range<usize>)>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Operand {
    tag: Tag,
    /// The lowest number that it stands for.
    from: SeqNo,
    entry: Range<usize>,
    /// Where the operand itself begins.
    start: usize,
}

impl Operands {
    /// Forgets them all and keeps the memory.
    pub fn clear(&mut self) {
        self.operands.clear();
        self.base = None;
        self.bytes.clear();
    }

    /// Adds the next older version.
    ///
    /// # Errors
    /// `Corruption` when a merge has no span or a value no expiry; `Unsupported` for what a later version
    /// writes.
    pub fn add(&mut self, tag: Tag, value: &[u8]) -> Result<()> {
        if self.is_complete() {
            return Ok(());
        }
        let (from, operand) = match tag.kind() {
            ValueKind::Put | ValueKind::Delete => (SeqNo::ZERO, value),
            ValueKind::PutExpiring => {
                let (_, value) = expiry_and_value(value).ok_or_else(no_expiry)?;
                (SeqNo::ZERO, value)
            }
            ValueKind::Merge => {
                let (span, operand) = span_and_operand(value).ok_or_else(no_entry)?;
                (SeqNo::new(tag.seqno().get().saturating_sub(span)), operand)
            }
            kind => return Err(unsupported(kind)),
        };
        let is_part = |last: &mut Operand| last.tag.seqno() <= tag.seqno() && from <= last.from;
        while self.operands.pop_if(is_part).is_some() {}
        if (self.operands.last()).is_some_and(|last| last.from <= tag.seqno()) {
            return Ok(());
        }
        let entry = self.bytes.len()..self.bytes.len() + value.len();
        let start = entry.end - operand.len();
        self.bytes.extend_from_slice(value);
        match tag.kind() {
            ValueKind::Merge => self.operands.push(Operand {
                tag,
                from,
                entry,
                start,
            }),
            _ => self.base = Some((tag, entry)),
        }
        Ok(())
    }

    /// The same, where `deletion` removed everything before it.
    ///
    /// # Errors
    /// As [`Operands::add`].
    pub fn add_under(&mut self, deletion: Tag, tag: Tag, value: &[u8]) -> Result<()> {
        match tag < deletion {
            true => self.add(deletion, &[]),
            false => self.add(tag, value),
        }
    }

    /// The newest operand; `None` when there is none.
    #[inline]
    pub fn newest(&self) -> Option<Tag> {
        self.operands.first().map(|operand| operand.tag)
    }

    /// True when older versions do not matter.
    pub fn is_complete(&self) -> bool {
        self.base.is_some()
    }

    /// The entries that count, as they were added, newest first.
    pub fn entries(&self) -> impl Iterator<Item = (Tag, &[u8])> {
        let operands = self.operands.iter().map(|o| (o.tag, &o.entry));
        let base = self.base.iter().map(|(tag, entry)| (*tag, entry));
        let bytes = |(tag, entry): (Tag, &Range<usize>)| (tag, &self.bytes[entry.clone()]);
        operands.chain(base).map(bytes)
    }

    /// The operands, as an operator wants them.
    pub fn oldest_first(&self) -> Vec<&[u8]> {
        let operand = |operand: &Operand| &self.bytes[operand.start..operand.entry.end];
        self.operands.iter().rev().map(operand).collect()
    }

    /// The entry of one operand in the place of all; `None` when there are none.
    pub fn entry_for_all(&self, combined: &[u8]) -> Option<(Tag, Vec<u8>)> {
        let (newest, oldest) = (self.operands.first()?, self.operands.last()?);
        let span = newest.tag.seqno().get() - oldest.from.get();
        Some((newest.tag, entry_of(span, combined)))
    }

    /// The value, when there are no older versions that matter; `None` for a deletion without merges.
    /// A value that `has_expired` is a deletion: what was merged into it stays.
    ///
    /// # Errors
    /// Those of [`Folding::value`].
    pub fn value(
        &self,
        folding: &Folding,
        key: &[u8],
        has_expired: impl FnOnce(Time) -> bool,
    ) -> Result<Option<Vec<u8>>> {
        let base = self.base.as_ref();
        let base = base.map(|(tag, entry)| (tag.kind(), &self.bytes[entry.clone()]));
        let base = match base {
            Some((ValueKind::Put, value)) => Some(value),
            Some((ValueKind::PutExpiring, entry)) => unless_expired(entry, has_expired)?,
            _ => None,
        };
        if self.operands.is_empty() {
            return Ok(base.map(<[u8]>::to_vec));
        }
        folding.value(key, base, &self.oldest_first()).map(Some)
    }
}

#[cold]
fn no_entry() -> Error {
    Error::corruption("a merge without a span")
        .advice("Report this: it is a bug of alluvium, or somebody wrote the file on purpose.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hooks::MergeOperators;

    /// `9:c` is an operand, `9-7:abc` one that stands for several, `3=x` a put, `3-` a deletion.
    fn value_of(versions: &str) -> String {
        let mut operands = Operands::default();
        for version in versions.split(' ') {
            let number = |text: &str| text.parse::<u64>().unwrap();
            let tag = |n: u64, kind| Tag::new(SeqNo::new(n), kind);
            let (tag, value) = if let Some((numbers, operand)) = version.split_once(':') {
                let (newest, oldest) = numbers.split_once('-').unwrap_or((numbers, numbers));
                let span = number(newest) - number(oldest);
                let entry = entry_of(span, operand.as_bytes());
                (tag(number(newest), ValueKind::Merge), entry)
            } else if let Some((n, value)) = version.split_once('=') {
                (tag(number(n), ValueKind::Put), value.into())
            } else {
                let n = number(version.trim_end_matches('-'));
                (tag(n, ValueKind::Delete), Vec::new())
            };
            operands.add(tag, &value).unwrap();
        }
        let value = operands.value(&MergeOperators::default().folding("append"), b"k", |_| {
            false
        });
        String::from_utf8(value.unwrap().unwrap_or_else(|| b"nothing".to_vec())).unwrap()
    }

    #[test]
    fn operands_end_at_what_they_are_merged_into() {
        assert_eq!(value_of("9:c 8:b 5=a 4:never 3=never"), "abc");
        assert_eq!(value_of("9:c 8:b 5- 3=never"), "bc");
        assert_eq!(value_of("9:c 8:b"), "bc");
        assert_eq!(value_of("9=a 8:b"), "a");
        assert_eq!(value_of("9- 8:b"), "nothing");
    }

    #[test]
    fn what_is_found_twice_counts_once() {
        assert_eq!(value_of("9:c 8:b 7:a 9:c 8:b 7:a 3=x"), "xabc");
        assert_eq!(value_of("9:c 9:c 8:b 8:b 3=x 3=x"), "xbc", "in order");
    }

    /// A memtable beside the table of its flush, or tables beside the one that they became.
    #[test]
    fn what_stands_for_more_counts() {
        assert_eq!(
            value_of("9:c 8:b 7:a 9-7:abc 3=x"),
            "xabc",
            "source by source"
        );
        assert_eq!(value_of("9:c 9-7:abc 8:b 7:a 3=x"), "xabc", "in order");
        assert_eq!(value_of("9-7:abc 9:c 8:b 7:a 3=x"), "xabc");
        assert_eq!(value_of("12:d 9:c 8:b 7:a 9-7:abc 3=x"), "xabcd");
        assert_eq!(
            value_of("9:c 8:b 9=xbc 8:b 3=x"),
            "xbc",
            "with the base in it"
        );
        assert_eq!(value_of("12:d 9:c 9=xbc 8:b 3=x"), "xbcd");
        assert_eq!(
            value_of("9:c 7:a 9-7:ac 7:a 3:b 3-1:ab"),
            "abac",
            "and so further down"
        );
    }

    /// Whatever is put together, and in how many steps: what it was made of counts no more.
    #[test]
    fn an_operand_in_the_place_of_several_stands_for_all_of_them() {
        let merge = |n, span, operand: &[u8]| {
            let tag = Tag::new(SeqNo::new(n), ValueKind::Merge);
            (tag, entry_of(span, operand))
        };
        let mut operands = Operands::default();
        for (tag, entry) in [merge(9, 0, b"c"), merge(8, 2, b"ab"), merge(4, 0, b"x")] {
            operands.add(tag, &entry).unwrap();
        }
        let all = operands.entry_for_all(b"xabc").unwrap();
        assert_eq!(all, merge(9, 5, b"xabc"), "9 to 4");
        operands.add(all.0, &all.1).unwrap();
        assert_eq!(operands.entries().count(), 1);
        operands.clear();
        assert_eq!(operands.entry_for_all(b""), None);
    }

    #[test]
    fn a_merge_without_a_span_is_damage() {
        let merge = Tag::new(SeqNo::new(9), ValueKind::Merge);
        let error = Operands::default().add(merge, b"").unwrap_err();
        assert_eq!(error.kind(), crate::base::error::ErrorKind::Corruption);
    }
}

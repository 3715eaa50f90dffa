//! Collects entries until they fill a block, then lays them out.
//!
//! The shape of a block (prefix, width of offsets and tags) is known only when its last entry
//! is, so entries wait in one staging buffer: one copy of at most a few cache-warm KiB, and no
//! allocation an entry. The exact size is carried along, so that a block is closed in time.
//!
//! Invariants: entries come in ascending order, so the prefix shared by all is the prefix shared
//! by the first and the last.

use super::{COUNT_MAX, FLAG_WIDE, HEADER_BYTES, fingerprint, head, width};
use crate::base::key::common_prefix;
use crate::base::types::Tag;

/// A block keeps growing beyond its limit while it has fewer entries than this ...
const ENTRIES_WANTED: usize = 8;
/// ... up to this many times the smallest block.
const GROWTH_MAX: usize = 8;

/// One entry to be laid out.
#[derive(Clone, Copy, Debug)]
pub(in crate::table) struct Pending<'a> {
    pub(in crate::table) key: &'a [u8],
    pub(in crate::table) tag: Tag,
    pub(in crate::table) value: &'a [u8],
    pub(in crate::table) hash: u64,
}

/// What decides the size of a block.
#[derive(Clone, Copy, Debug)]
struct Shape {
    count: usize,
    prefix_len: usize,
    /// Bytes of keys and values.
    payload: usize,
    seqno_min: u64,
    seqno_max: u64,
}

impl Shape {
    fn of(entry: &Pending<'_>) -> Shape {
        let seqno = entry.tag.seqno().get();
        Shape {
            count: 1,
            prefix_len: entry.key.len(),
            payload: entry.key.len() + entry.value.len(),
            seqno_min: seqno,
            seqno_max: seqno,
        }
    }

    fn with(&self, first_key: &[u8], entry: &Pending<'_>) -> Shape {
        let seqno = entry.tag.seqno().get();
        let prefix = &first_key[..self.prefix_len];
        Shape {
            count: self.count + 1,
            prefix_len: common_prefix(prefix, entry.key),
            payload: self.payload + entry.key.len() + entry.value.len(),
            seqno_min: self.seqno_min.min(seqno),
            seqno_max: self.seqno_max.max(seqno),
        }
    }

    fn tag_bytes(&self) -> usize {
        match self.seqno_max - self.seqno_min {
            0 => 1,
            1..0x100_0000 => 4,
            _ => 8,
        }
    }

    fn size_with(&self, wide: bool) -> usize {
        let guides = self.count * (1 + 2 + width(wide)) + width(wide);
        let fields = self.count * (width(wide) + self.tag_bytes());
        let keys_and_values = self.payload - self.count * self.prefix_len + self.prefix_len;
        HEADER_BYTES + guides + fields + keys_and_values
    }

    fn is_wide(&self) -> bool {
        usize::from(u16::MAX) < self.size_with(false)
    }

    fn size(&self) -> usize {
        self.size_with(self.is_wide())
    }
}

#[derive(Clone, Copy, Debug)]
struct Staged {
    start: usize,
    key_len: usize,
    value_len: usize,
    tag: Tag,
    hash: u64,
}

/// Collects the entries of one block after the other.
#[derive(Debug)]
pub(in crate::table) struct BlockBuilder {
    unit: usize,
    overhead: usize,
    limit: usize,
    bytes: Vec<u8>,
    entries: Vec<Staged>,
    shape: Option<Shape>,
}

impl BlockBuilder {
    /// Blocks fill multiples of `unit` bytes, of which `overhead` are not for the body.
    pub(in crate::table) fn new(unit: usize, overhead: usize) -> Self {
        BlockBuilder {
            unit,
            overhead,
            limit: unit,
            bytes: Vec::with_capacity(unit * 2),
            entries: Vec::with_capacity(64),
            shape: None,
        }
    }

    /// True when nothing waits.
    pub(in crate::table) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that wait.
    pub(in crate::table) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// True when an entry of this size has a block to itself, and is laid out without staging.
    pub(in crate::table) fn is_outsize(&self, key: &[u8], value: &[u8]) -> bool {
        self.unit * GROWTH_MAX < key.len() + value.len()
    }

    /// Takes the entry, or answers false when the block is full and must be laid out first.
    #[inline]
    pub(in crate::table) fn push(&mut self, entry: &Pending<'_>) -> bool {
        let shape = match (&self.shape, self.entries.first()) {
            (Some(shape), Some(first)) => {
                if shape.count == COUNT_MAX {
                    return false;
                }
                shape.with(&self.bytes[first.start..][..first.key_len], entry)
            }
            _ => Shape::of(entry),
        };
        let needed = shape.size() + self.overhead;
        if self.limit < needed {
            let grown = needed.next_multiple_of(self.unit);
            let few = shape.count <= ENTRIES_WANTED && grown <= self.unit * GROWTH_MAX;
            if shape.count > 1 && !few {
                return false;
            }
            self.limit = grown;
        }
        self.shape = Some(shape);
        self.entries.push(Staged {
            start: self.bytes.len(),
            key_len: entry.key.len(),
            value_len: entry.value.len(),
            tag: entry.tag,
            hash: entry.hash,
        });
        self.bytes.extend_from_slice(entry.key);
        self.bytes.extend_from_slice(entry.value);
        true
    }

    /// The entry that came first, if there is one.
    pub(in crate::table) fn first(&self) -> Option<Pending<'_>> {
        self.entries.first().map(|staged| self.pending(staged))
    }

    fn pending(&self, staged: &Staged) -> Pending<'_> {
        let (key, rest) = self.bytes[staged.start..].split_at(staged.key_len);
        Pending {
            key,
            tag: staged.tag,
            value: &rest[..staged.value_len],
            hash: staged.hash,
        }
    }

    /// Appends the block's body to `out` and starts the next block.
    pub(in crate::table) fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(shape) = self.shape.take() {
            let entries = self.entries.iter().map(|staged| self.pending(staged));
            lay_out(shape, entries, out);
        }
        self.entries.clear();
        self.bytes.clear();
        self.limit = self.unit;
    }
}

/// Appends the body of a block that holds one entry.
pub(in crate::table) fn single(entry: Pending<'_>, out: &mut Vec<u8>) {
    lay_out(Shape::of(&entry), std::iter::once(entry), out);
}

fn lay_out<'a>(
    shape: Shape,
    entries: impl Iterator<Item = Pending<'a>> + Clone,
    out: &mut Vec<u8>,
) {
    let (wide, tag_bytes) = (shape.is_wide(), shape.tag_bytes());
    let start = out.len();
    let size = shape.size();
    out.reserve(size);
    out.extend_from_slice(&(shape.count as u16).to_le_bytes());
    out.push(if wide { FLAG_WIDE } else { 0 });
    out.push(tag_bytes as u8);
    out.extend_from_slice(&(shape.prefix_len as u32).to_le_bytes());
    out.extend_from_slice(&shape.seqno_min.to_le_bytes());
    out.extend(entries.clone().map(|entry| fingerprint(entry.hash)));
    for entry in entries.clone() {
        out.extend_from_slice(&head(&entry.key[shape.prefix_len..]).to_le_bytes());
    }
    let guides = HEADER_BYTES + shape.count * 3 + (shape.count + 1) * width(wide);
    let mut offset = guides + shape.prefix_len;
    put_width(out, offset, wide);
    for entry in entries.clone() {
        let suffix_len = entry.key.len() - shape.prefix_len;
        offset += width(wide) + tag_bytes + suffix_len + entry.value.len();
        put_width(out, offset, wide);
    }
    let base = shape.seqno_min << 8;
    let mut prefix_is_written = false;
    for entry in entries {
        let (prefix, suffix) = entry.key.split_at(shape.prefix_len);
        if !prefix_is_written {
            out.extend_from_slice(prefix);
            prefix_is_written = true;
        }
        put_width(out, suffix.len(), wide);
        let difference = entry.tag.to_u64() - base;
        match tag_bytes {
            1 => out.push(difference as u8),
            4 => out.extend_from_slice(&(difference as u32).to_le_bytes()),
            _ => out.extend_from_slice(&difference.to_le_bytes()),
        }
        out.extend_from_slice(suffix);
        out.extend_from_slice(entry.value);
    }
    debug_assert_eq!(out.len() - start, size, "a block has the size foretold");
}

#[inline]
fn put_width(out: &mut Vec<u8>, n: usize, wide: bool) {
    if wide {
        out.extend_from_slice(&(n as u32).to_le_bytes());
    } else {
        out.extend_from_slice(&(n as u16).to_le_bytes());
    }
}

//! What a lookup gives: a block's body where it lies, and a value in it, lent or as a slice.

use super::cache::CachedBlock;
use crate::base::slice::{Pin, Slice};
use crate::base::sync::Arc;
use crate::base::types::Tag;
use crate::fs::Region;
use std::ops::Range;

/// Values up to this long are copied out of a table; longer ones are pinned in it.
const COPY_BYTES_MAX: usize = 512;

/// The body of a block, where it lies in the file or in memory.
#[derive(Clone, Debug)]
pub(super) enum BlockData<'t> {
    Mapped {
        region: &'t Arc<Region>,
        start: usize,
        body: &'t [u8],
    },
    Cached(Arc<CachedBlock>),
}

impl BlockData<'_> {
    #[inline]
    pub(super) fn body(&self) -> &[u8] {
        match self {
            BlockData::Mapped { body, .. } => body,
            BlockData::Cached(block) => &block.0,
        }
    }
}

/// A value found in a table, valid while the table is borrowed.
#[derive(Debug)]
pub struct TableValue<'t> {
    /// Sequence number and kind.
    pub tag: Tag,
    pub(super) block: BlockData<'t>,
    /// Where in the block's body.
    pub(super) value: Range<usize>,
}

impl TableValue<'_> {
    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.block.body().get(self.value.clone()).unwrap_or(&[])
    }

    /// As a slice of its own: a copy when short (up to 512 bytes), else pinned to the table's memory.
    pub fn to_slice(&self) -> Slice {
        slice_of(&self.block, &self.value)
    }

    /// The same without its first `count` bytes.
    #[must_use]
    pub fn without_first(self, count: usize) -> Self {
        let start = self.value.start.saturating_add(count).min(self.value.end);
        let value = start..self.value.end;
        TableValue { value, ..self }
    }
}

/// `body[value]` as a slice of its own.
pub(super) fn slice_of(block: &BlockData<'_>, value: &Range<usize>) -> Slice {
    let bytes = block.body().get(value.clone()).unwrap_or(&[]);
    if bytes.len() <= COPY_BYTES_MAX {
        return Slice::copy(bytes);
    }
    match block {
        BlockData::Mapped { region, start, .. } => {
            let owner: Arc<dyn Pin> = Arc::clone(region) as _;
            Slice::pinned(owner, start + value.start, bytes.len())
        }
        BlockData::Cached(block) => {
            let owner: Arc<dyn Pin> = Arc::clone(block) as _;
            Slice::pinned(owner, value.start, bytes.len())
        }
    }
}

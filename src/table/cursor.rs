//! Walks a table both ways; a step inside a block costs the same in either direction.
//!
//! ```text
//! position = block i, entry j | key = prefix of the block + suffix of the entry, in one buffer
//! ```
//! Only the suffix is copied at a step; nothing is allocated once the buffer has grown. While a
//! block is walked, the lines ahead and the first ones of the next block are on their way. The
//! kernel is asked to read ahead, 64 KiB first and up to 2 MiB, from the second block of a walk on
//! where blocks are met for the first time, from the eighth on where they are probably in memory:
//! a call to the kernel costs as much as walking a block.
//!
//! Invariants: after an error the cursor is not valid, and `next` and `prev` give the same error
//! until it is positioned again (P10). An unreadable block is an error, never an end (bug 56).
//! Loops, no recursion (bug 65).

use super::block::Layout;
use super::block::search::{LINE_BYTES, prefetch, prefetch_head};
use super::cache::CachedBlock;
use super::index::Index;
use super::reader::{Access, Table, Window};
use super::sections::{Hold, Loaded};
use super::value::{BlockData, slice_of};
use crate::base::cursor::Cursor;
use crate::base::error::{Error, Result};
use crate::base::key::{HEAD16_BYTES, head16};
use crate::base::slice::{Pin, Slice};
use crate::base::sync::Arc;
use crate::base::types::Tag;
use crate::fs::Region;
use crate::fs::region::Advice;
use std::ops::Range;

const READ_AHEAD_MIN: u64 = 64 << 10;
const READ_AHEAD_MAX: u64 = 2 << 20;
/// Blocks walked in one direction before the kernel is asked for more: of blocks that nobody has
/// touched yet, and of others.
const STREAK_COLD: u32 = 2;
const STREAK_WARM: u32 = 8;
/// How far behind the entry shown lines are brought into the cache, and how many at a seek.
const STREAM_BYTES: usize = 768;
const SEEK_LINES: usize = 12;

/// The block a cursor stands in; a mapped one lies in the table's region.
#[derive(Debug)]
enum Held {
    Mapped(Range<usize>),
    Cached(Arc<CachedBlock>),
}

/// Walks a table both ways. 'static, Send. A step allocates nothing.
#[derive(Debug)]
pub struct TableCursor {
    table: Arc<Table>,
    region: Option<Arc<Region>>,
    /// The index, where the table does not keep it.
    hold: Hold<Index>,
    access: Access,
    held: Held,
    layout: Layout,
    /// The block held; `usize::MAX` when none is.
    block: usize,
    entry: usize,
    key: KeyBuffer,
    tag: Tag,
    /// In `memory_of` the block.
    value: Range<usize>,
    valid: bool,
    error: Option<Error>,
    ahead: ReadAhead,
    window: Window,
}

/// What the kernel has been asked for.
#[derive(Debug, Default)]
struct ReadAhead {
    /// Blocks walked in one direction since the last seek.
    streak: u32,
    window: u64,
    asked: Range<u64>,
}

const NO_BLOCK: usize = usize::MAX;

/// A key put together of its block's prefix and its own suffix.
///
/// A processor reads at once what it has just written only where one write covers the whole read,
/// so a key of up to 16 bytes is put together in registers and written whole.
#[derive(Debug)]
struct KeyBuffer {
    /// The key; at least as long as a head.
    buffer: Vec<u8>,
    prefix_len: usize,
    /// `head16` of the prefix.
    prefix_head: u128,
    len: usize,
}

impl KeyBuffer {
    fn new() -> KeyBuffer {
        KeyBuffer {
            buffer: vec![0; HEAD16_BYTES],
            prefix_len: 0,
            prefix_head: 0,
            len: 0,
        }
    }

    fn set_prefix(&mut self, prefix: &[u8]) {
        self.prefix_len = 0;
        self.copy(prefix);
        self.prefix_len = prefix.len();
        self.prefix_head = head16(prefix);
    }

    /// The first `len` bytes of `rest` go behind the prefix.
    #[inline]
    fn set_suffix(&mut self, len: usize, rest: &[u8]) {
        if self.prefix_len < HEAD16_BYTES
            && self.prefix_len + len <= HEAD16_BYTES
            && let Some(from) = rest.first_chunk::<HEAD16_BYTES>()
            && let Some(to) = self.buffer.first_chunk_mut::<HEAD16_BYTES>()
        {
            // What lies behind the suffix is written too, and is not of the key.
            let behind = u128::from_be_bytes(*from) >> (8 * self.prefix_len);
            *to = (self.prefix_head | behind).to_be_bytes();
            self.len = self.prefix_len + len;
            return;
        }
        self.copy(&rest[..len]);
    }

    /// These bytes go behind the prefix.
    fn copy(&mut self, bytes: &[u8]) {
        self.len = self.prefix_len + bytes.len();
        if self.buffer.len() < self.len {
            self.buffer.resize(self.len, 0);
        }
        self.buffer[self.prefix_len..self.len].copy_from_slice(bytes);
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// The body of a block, and where in `memory_of` it begins.
#[inline]
fn placed_body_of<'a>(held: &'a Held, region: &'a Option<Arc<Region>>) -> (usize, &'a [u8]) {
    let memory = memory_of(held, region);
    match held {
        Held::Mapped(range) => (range.start, memory.get(range.clone()).unwrap_or(&[])),
        Held::Cached(_) => (0, memory),
    }
}

/// The body of a block.
#[inline]
fn body_of<'a>(held: &'a Held, region: &'a Option<Arc<Region>>) -> &'a [u8] {
    placed_body_of(held, region).1
}

/// What the body of a block lies in: a whole table, or the body alone.
#[inline]
fn memory_of<'a>(held: &'a Held, region: &'a Option<Arc<Region>>) -> &'a [u8] {
    match (held, region) {
        (Held::Mapped(_), Some(region)) => region.bytes(),
        (Held::Mapped(_), None) => &[],
        (Held::Cached(block), _) => &block.0,
    }
}

impl TableCursor {
    pub(super) fn new(table: &Arc<Table>, access: Access) -> Self {
        TableCursor {
            table: Arc::clone(table),
            region: table.region().cloned(),
            hold: None,
            access,
            held: Held::Mapped(0..0),
            layout: Layout::default(),
            block: NO_BLOCK,
            entry: 0,
            key: KeyBuffer::new(),
            tag: Tag::MIN,
            value: 0..0,
            valid: false,
            error: None,
            ahead: ReadAhead::default(),
            window: Window::default(),
        }
    }

    /// The current value as a slice of its own: a copy when short, else pinned to the table.
    pub fn value_slice(&self) -> Slice {
        debug_assert!(self.valid);
        let block = match (&self.held, &self.region) {
            (Held::Cached(block), _) => BlockData::Cached(Arc::clone(block)),
            (Held::Mapped(_), Some(region)) => BlockData::Mapped {
                region,
                start: 0,
                body: region.bytes(),
            },
            (Held::Mapped(_), None) => return Slice::copy(&[]),
        };
        slice_of(&block, &self.value)
    }

    fn fail<T>(&mut self, error: Error) -> Result<T> {
        self.valid = false;
        self.block = NO_BLOCK;
        self.error = Some(error.clone());
        Err(error)
    }

    /// Forgets position and error: the start of every way to be positioned.
    fn start_over(&mut self) -> Result<usize> {
        self.valid = false;
        self.error = None;
        self.ahead.streak = 0;
        self.ahead.window = 0;
        self.window.forget();
        match self.table.index_for(self.access, &mut self.hold) {
            Ok(index) => Ok(index.decoded.count()),
            Err(error) => self.fail(error),
        }
    }

    /// The index, after `start_over`.
    #[inline]
    fn index(&self) -> Result<&Loaded<Index>> {
        self.table.index_held(&self.hold)
    }

    /// Makes block `i` the one held.
    fn load(&mut self, i: usize) -> Result<()> {
        if self.block == i && self.table.trusts(self.access) {
            return Ok(());
        }
        match self.read_block(i) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(error),
        }
    }

    fn read_block(&mut self, i: usize) -> Result<()> {
        let index = self.table.index_held(&self.hold)?;
        let data = match self.access {
            Access::Read => self.table.block(index, i, Access::Read)?,
            Access::Rewrite => self.table.block_ahead(index, i, &mut self.window)?,
        };
        let body = data.body();
        let layout = Layout::parse(body).ok_or_else(|| self.table.bad_block(index, i))?;
        self.key.set_prefix(layout.prefix(body));
        self.held = match data {
            BlockData::Mapped { start, body, .. } => Held::Mapped(start..start + body.len()),
            BlockData::Cached(block) => Held::Cached(block),
        };
        self.layout = layout;
        self.block = i;
        Ok(())
    }

    /// Puts the cursor on entry `j` of the block held.
    #[inline]
    fn show(&mut self, j: usize) -> Result<()> {
        let (start, body) = placed_body_of(&self.held, &self.region);
        let Some(entry) = self.layout.entry(body, j) else {
            return self.fail_in_block();
        };
        self.key.set_suffix(entry.suffix.len(), entry.rest);
        self.tag = entry.tag;
        let start = start + entry.value_at;
        self.value = start..start + entry.value.len();
        self.entry = j;
        self.valid = true;
        Ok(())
    }

    #[cold]
    fn fail_in_block(&mut self) -> Result<()> {
        let error = match self.index() {
            Ok(index) => self.table.bad_block(index, self.block),
            Err(error) => error,
        };
        self.fail(error)
    }

    /// To the first entry of the block after the one held.
    #[cold]
    fn next_block(&mut self) -> Result<()> {
        self.valid = false;
        let i = self.block.wrapping_add(1);
        match self.index().map(|index| index.decoded.count()) {
            Ok(count) if count <= i => return Ok(()),
            Ok(_) => {}
            Err(error) => return self.fail(error),
        }
        self.load(i)?;
        self.read_ahead(i, true);
        self.show(0)
    }

    /// To the last entry of the block before the one held.
    #[cold]
    fn prev_block(&mut self) -> Result<()> {
        self.valid = false;
        let Some(i) = self.block.checked_sub(1) else {
            return Ok(());
        };
        self.load(i)?;
        self.read_ahead(i, false);
        self.show(self.layout.count() - 1)
    }

    /// Starts what the next block will need: its first lines, and from the second block of a
    /// streak a window of the file.
    fn read_ahead(&mut self, i: usize, forward: bool) {
        let Some(region) = &self.region else {
            return;
        };
        let neighbour = if forward {
            i.wrapping_add(1)
        } else {
            i.wrapping_sub(1)
        };
        let found = self.index().ok().and_then(|index| {
            let span = index.decoded.span(index.section(), neighbour)?;
            Some((span, self.table.has_touched(index, neighbour)))
        });
        let Some(((offset, len), has_touched)) = found else {
            return;
        };
        prefetch_head(region.bytes(), offset as usize);
        let patience = if has_touched {
            STREAK_WARM
        } else {
            STREAK_COLD
        };
        let ahead = &mut self.ahead;
        ahead.streak += 1;
        let end = offset.saturating_add(len as u64);
        if ahead.streak < patience || (ahead.asked.start <= offset && end <= ahead.asked.end) {
            return;
        }
        ahead.window = (ahead.window * 2).clamp(READ_AHEAD_MIN, READ_AHEAD_MAX);
        let size = ahead.window.max(len as u64);
        ahead.asked = if forward {
            offset..offset.saturating_add(size)
        } else {
            end.saturating_sub(size)..end
        };
        region.advise(Advice::WillNeed(ahead.asked.start, size));
    }

    /// Brings the line at `at` of `memory_of` the block held nearer. It may lie in the next block: the
    /// processor's own prefetching stops at the end of a page.
    #[inline]
    fn stream(&self, at: usize) {
        prefetch(memory_of(&self.held, &self.region), at);
    }

    /// The block that holds the last separator at or before `(key, tag)`, and the first entry of
    /// it that is at or after `(key, tag)`, which may be one past its last.
    fn search(&mut self, key: &[u8], tag: Tag) -> Result<Option<usize>> {
        if self.start_over()? == 0 {
            return Ok(None);
        }
        let located = self.index().and_then(|index| {
            let after = index.decoded.locate(index.section(), key, tag);
            after.ok_or_else(|| self.table.bad_index())
        });
        let after = match located {
            Ok(after) => after,
            Err(error) => return self.fail(error),
        };
        self.load(after.saturating_sub(1))?;
        let (body_start, body) = placed_body_of(&self.held, &self.region);
        let found = self.layout.lower_bound(body, key, tag);
        match found.and_then(|j| Some((j, self.layout.offset(body, j)?))) {
            Some((j, start)) => {
                let start = body_start.wrapping_add(start);
                for line in 0..SEEK_LINES {
                    self.stream(start.wrapping_add(line * LINE_BYTES));
                }
                Ok(Some(j))
            }
            None => self.fail_in_block().map(|()| None),
        }
    }
}

impl Cursor for TableCursor {
    fn first(&mut self) -> Result<()> {
        if self.start_over()? == 0 {
            return Ok(());
        }
        self.load(0)?;
        self.show(0)
    }

    fn last(&mut self) -> Result<()> {
        let count = self.start_over()?;
        if count == 0 {
            return Ok(());
        }
        self.load(count - 1)?;
        self.show(self.layout.count() - 1)
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        match self.search(key, tag)? {
            None => Ok(()),
            Some(j) if j < self.layout.count() => self.show(j),
            Some(_) => self.next_block(),
        }
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let Some(j) = self.search(key, tag)? else {
            return Ok(());
        };
        if j < self.layout.count() {
            self.show(j)?;
            if self.tag == tag && self.key.bytes() == key {
                return Ok(());
            }
        }
        match j.checked_sub(1) {
            Some(before) => self.show(before),
            None => self.prev_block(),
        }
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        debug_assert!(self.valid, "next on a cursor that stands nowhere");
        self.stream(self.value.end.wrapping_add(STREAM_BYTES));
        let j = self.entry + 1;
        if j < self.layout.count() {
            self.show(j)
        } else {
            self.next_block()
        }
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        debug_assert!(self.valid, "prev on a cursor that stands nowhere");
        match self.entry.checked_sub(1) {
            Some(j) => self.show(j),
            None => self.prev_block(),
        }
    }

    #[inline]
    fn is_newest(&self) -> bool {
        debug_assert!(self.valid);
        (self.layout).begins_key(body_of(&self.held, &self.region), self.entry)
    }

    #[inline]
    fn valid(&self) -> bool {
        self.valid
    }

    #[inline]
    fn key(&self) -> &[u8] {
        debug_assert!(self.valid);
        self.key.bytes()
    }

    #[inline]
    fn tag(&self) -> Tag {
        debug_assert!(self.valid);
        self.tag
    }

    #[inline]
    fn value(&self) -> &[u8] {
        debug_assert!(self.valid);
        memory_of(&self.held, &self.region)
            .get(self.value.clone())
            .unwrap_or(&[])
    }
}

//! An open table: filter, index and block looked up in the file as it lies there. What a get does
//! with them is in staged.rs.
//!
//! ```text
//! get = index (heads, then one separator if they tie) → block (fingerprints, then one key)
//! ```
//! Opening reads the footer and the section table. Index and filter are checked when they are
//! first used (about 50 µs a MiB, once); a block when it is first touched. Tables that this
//! process wrote start as verified. With `Verify::EveryRead` each read checks its block, and index
//! and filter are copies on the heap: no rot of the file gets past either.
//!
//! Invariants: what is read is checked against the birth identity and its offset first (R9). A
//! damaged filter is not used and costs time only; any other damage is an error that names file
//! and offset, for the keys concerned and no others (P8, P9).
//!
//! Threads: shared freely; the only state that changes is what has been verified or loaded.

use super::block::search::prefetch_head;
use super::cache::{BlockKey, Cached, CachedBlock};
use super::compression::decompress;
use super::cursor::TableCursor;
use super::format::{
    FOOTER_BYTES, Footer, Sections, TRAILER_BYTES, bound_checksum, check_block, checksum_error,
};
use super::index::Index;
use super::sections::{KeptSections, Loaded};
use super::value::BlockData;
use super::{BirthIdentity, TableContext, verify};
use crate::base::checksum::KeyHasher;
use crate::base::error::{Error, REPAIR_TABLE, Result};
use crate::base::options::{ReadMode, Verify};
use crate::base::sync::Arc;
use crate::base::sync::atomic::Ordering;
use crate::base::sync::plain::AtomicU64;
use crate::base::types::Tag;
use crate::fs::region::Advice;
use crate::fs::{File, Region};
use std::path::{Path, PathBuf};

/// Numbers the tables opened by this process; no partner, only the number counts.
static INSTANCES: AtomicU64 = AtomicU64::new(1);

#[derive(Debug)]
pub(super) enum Source {
    Mapped(Arc<Region>),
    Read(File),
}

/// Who reads a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// A get or a scan: trusts what was verified before, and uses the cache.
    Read,
    /// A compaction or `verify`: checks every block, and leaves the cache alone.
    Rewrite,
}

/// How much a rewrite reads by one call. The kernel reads ahead for whoever reads a file in order;
/// but where gets read the same file, it does not, and each block waited for the device: merging
/// 300 MiB took 14 seconds.
const WINDOW_BYTES: u64 = 64 << 10;

/// Bytes of a file that a rewrite has read ahead.
#[derive(Debug, Default)]
pub(super) struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn get(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(at..at.checked_add(len)?)
    }

    /// What was read is not what lies in the file now.
    pub(super) fn forget(&mut self) {
        self.bytes.clear();
    }

    /// Moves to `offset`; after an error it is empty.
    fn fill(&mut self, file: &File, offset: u64, len: u64) -> Result<()> {
        self.start = offset;
        self.bytes.resize(len as usize, 0);
        let read = file.read_exact_at(&mut self.bytes, offset);
        read.inspect_err(|_| self.forget())
    }
}

/// An open table. Shared as `Arc<Table>`.
#[derive(Debug)]
pub struct Table {
    pub(super) source: Source,
    path: PathBuf,
    pub(super) identity: BirthIdentity,
    bytes: u64,
    pub(super) fresh: bool,
    /// This number, and no other opened table's, is in the keys of cached blocks (bug 62).
    instance: u64,
    pub(super) context: Arc<TableContext>,
    pub(super) sections: Sections,
    pub(super) kept: KeptSections,
}

impl Table {
    /// Opens a finished table: footer, identity and size are compared with what the manifest says.
    /// `fresh`: this process wrote it just now, so its blocks start as verified.
    ///
    /// Maps the file and reads its last page: about 20 µs.
    ///
    /// # Errors
    /// `Corruption` when file and manifest differ, `Unsupported` for a table of a later version.
    pub fn open(
        file: File,
        identity: BirthIdentity,
        bytes: u64,
        fresh: bool,
        context: &Arc<TableContext>,
    ) -> Result<Table> {
        let path = file.path().to_path_buf();
        let found = file.len()?;
        let footer_at = bytes.checked_sub(FOOTER_BYTES as u64);
        let (true, Some(footer_at)) = (found == bytes, footer_at) else {
            return Err(Error::corruption("table of the wrong size")
                .at(&path)
                .offset_at(found.min(bytes))
                .expected(format!("{bytes} bytes"), format!("{found} bytes"))
                .advice(REPAIR_TABLE));
        };
        let source = match context.read_mode {
            mode @ (ReadMode::Mmap | ReadMode::MmapProbe) => {
                let region = match mode {
                    ReadMode::MmapProbe => file.map(bytes)?.probed(),
                    _ => file.map(bytes)?,
                };
                // Without this, a cold get reads up to 8 MiB ahead; scans ask for more themselves.
                region.advise(Advice::Random);
                Source::Mapped(Arc::new(region))
            }
            ReadMode::Pread => Source::Read(file),
        };
        let sections = read_sections(&source, &identity, bytes, footer_at)
            .map_err(|error| place(error, &path, footer_at))?;
        Ok(Table {
            source,
            path,
            identity,
            bytes,
            fresh,
            instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
            context: Arc::clone(context),
            sections,
            kept: KeptSections::default(),
        })
    }

    /// The hash its filter wants.
    pub fn hasher(&self) -> KeyHasher {
        KeyHasher::new(self.identity.hash_seed)
    }

    /// Walks it both ways.
    pub fn cursor(self: &Arc<Self>) -> TableCursor {
        TableCursor::new(self, Access::Read)
    }

    /// As `cursor`, for compaction: verifies every block, reads ahead, leaves the cache alone.
    pub fn compaction_cursor(self: &Arc<Self>) -> TableCursor {
        TableCursor::new(self, Access::Rewrite)
    }

    /// Reads and checks everything: each block, the order, the filter, the counts.
    ///
    /// # Errors
    /// The first damage found, with its place.
    pub fn verify(&self) -> Result<()> {
        self.verify_with(&|_| Ok(()))
    }

    /// As `verify`; `read` hears the size of each block that was checked, and its error ends it.
    ///
    /// # Errors
    /// The first damage found, with its place; what `read` gives.
    pub fn verify_with(&self, read: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        verify::verify(self, read)
    }

    /// Bytes of the file between two keys, to a block or two.
    ///
    /// # Errors
    /// What reading the index gives.
    pub fn approximate_bytes(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<u64> {
        let mut hold = None;
        let index = self.index(&mut hold)?;
        let section = index.section();
        let end = index
            .decoded
            .count()
            .checked_sub(1)
            .and_then(|last| index.decoded.span(section, last))
            .map_or(0, |(offset, len)| offset + len as u64);
        let offset_of = |key: &[u8]| {
            let after = index.decoded.locate(section, key, Tag::MAX).unwrap_or(0);
            let i = after.saturating_sub(1);
            index.decoded.span(section, i).map_or(end, |span| span.0)
        };
        let from = from.map_or(0, offset_of);
        let to = to.map_or(end, |key| {
            match index.decoded.locate(section, key, Tag::MAX) {
                Some(after) if after >= index.decoded.count() => end,
                _ => offset_of(key),
            }
        });
        Ok(to.saturating_sub(from))
    }

    /// Size of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What lies at `offset`, among all that the cache holds.
    pub(super) fn cache_key(&self, offset: u64) -> BlockKey {
        BlockKey {
            instance: self.instance,
            offset,
        }
    }

    /// The path it was opened at, for errors.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The mapping, unless the table is read by calls.
    pub(super) fn region(&self) -> Option<&Arc<Region>> {
        match &self.source {
            Source::Mapped(region) => Some(region),
            Source::Read(_) => None,
        }
    }

    /// True when what was verified once, or written just now, is to be trusted.
    #[inline]
    pub(super) fn trusts(&self, access: Access) -> bool {
        access == Access::Read && self.context.verify == Verify::FirstTouch
    }

    /// True when block `i` was written or read by this process: it is then probably in memory.
    pub(super) fn has_touched(&self, index: &Loaded<Index>, i: usize) -> bool {
        self.fresh || index.decoded.is_verified(i)
    }

    /// The body of block `i`, checked as `access` demands.
    #[inline]
    pub(super) fn block(
        &self,
        index: &Loaded<Index>,
        i: usize,
        access: Access,
    ) -> Result<BlockData<'_>> {
        let (offset, len) = self.span(index, i)?;
        if let Source::Mapped(region) = &self.source {
            let stored = region.whole_block(offset, len)?;
            prefetch_head(stored, 0);
            let (body, trailer) = stored
                .split_at_checked(len - TRAILER_BYTES)
                .ok_or_else(|| self.bad_index())?;
            if index.decoded.is_plain() || trailer.first() == Some(&0) {
                let trusted = self.trusts(access) && (self.fresh || index.decoded.is_verified(i));
                if !trusted {
                    self.check_plain(index, i, offset, stored)?;
                }
                return Ok(BlockData::Mapped {
                    region,
                    start: offset as usize,
                    body,
                });
            }
        }
        self.block_in_memory(offset, len, access)
    }

    #[cold]
    fn check_plain(
        &self,
        index: &Loaded<Index>,
        i: usize,
        offset: u64,
        stored: &[u8],
    ) -> Result<()> {
        let codec = check_block(&self.identity, offset, stored)
            .map_err(|error| place(error, &self.path, offset))?;
        if codec != 0 {
            return Err(self.damaged("compressed block in a plain table", offset));
        }
        index.decoded.set_verified(i);
        Ok(())
    }

    /// As `block`, for a rewrite that goes forward: where blocks are read by calls, many at once.
    pub(super) fn block_ahead(
        &self,
        index: &Loaded<Index>,
        i: usize,
        window: &mut Window,
    ) -> Result<BlockData<'_>> {
        if let Source::Read(file) = &self.source {
            let (offset, len) = self.span(index, i)?;
            if window.get(offset, len).is_none() {
                let bytes = WINDOW_BYTES.max(len as u64).min(self.bytes - offset);
                window.fill(file, offset, bytes)?;
            }
            if let Some(stored) = window.get(offset, len) {
                let body = self.body_of(offset, stored.to_vec())?;
                return Ok(BlockData::Cached(Arc::new(CachedBlock(body))));
            }
        }
        self.block(index, i, Access::Rewrite)
    }

    /// The body of a block that was read by a call, checked.
    fn body_of(&self, offset: u64, mut stored: Vec<u8>) -> Result<Vec<u8>> {
        let placed = |error| place(error, &self.path, offset);
        let codec = check_block(&self.identity, offset, &stored).map_err(placed)?;
        stored.truncate(stored.len().saturating_sub(TRAILER_BYTES));
        match codec {
            0 => Ok(stored),
            codec => decompress(codec, &stored).map_err(placed),
        }
    }

    /// A block that is decompressed or read by a call. It is checked whenever it is read.
    fn block_in_memory(&self, offset: u64, len: usize, access: Access) -> Result<BlockData<'_>> {
        let key = self.cache_key(offset);
        if self.trusts(access)
            && let Some(block) = self.context.cache.get(key)
        {
            return Ok(BlockData::Cached(block));
        }
        let placed = |error| place(error, &self.path, offset);
        let body = match &self.source {
            Source::Mapped(region) => {
                let stored = region.block(offset, len)?;
                let codec = check_block(&self.identity, offset, stored).map_err(placed)?;
                let body = stored.get(..len - TRAILER_BYTES).unwrap_or(&[]);
                decompress(codec, body).map_err(placed)?
            }
            Source::Read(file) => {
                let mut stored = vec![0; len];
                file.read_exact_at(&mut stored, offset)?;
                self.body_of(offset, stored)?
            }
        };
        let block = Arc::new(CachedBlock(body));
        if access == Access::Read {
            self.context
                .cache
                .insert(key, Cached::Block(Arc::clone(&block)));
        }
        Ok(BlockData::Cached(block))
    }

    /// Offset and stored length of block `i`, inside the file and longer than a trailer.
    #[inline]
    pub(super) fn span(&self, index: &Loaded<Index>, i: usize) -> Result<(u64, usize)> {
        match index.decoded.span(index.section(), i) {
            Some((offset, len))
                if TRAILER_BYTES < len
                    && offset
                        .checked_add(len as u64)
                        .is_some_and(|end| end <= self.bytes) =>
            {
                Ok((offset, len))
            }
            _ => Err(self.bad_index()),
        }
    }

    #[cold]
    pub(super) fn bad_index(&self) -> Error {
        self.damaged("index that contradicts itself", self.sections.index.offset)
    }

    #[cold]
    pub(super) fn bad_block(&self, index: &Loaded<Index>, i: usize) -> Error {
        let offset = index.decoded.span(index.section(), i).map_or(0, |s| s.0);
        self.damaged("block that contradicts itself", offset)
    }

    /// Damage that no checksum shows.
    #[cold]
    pub(super) fn damaged(&self, what: &str, offset: u64) -> Error {
        Error::corruption(what)
            .at(&self.path)
            .offset_at(offset)
            .advice(REPAIR_TABLE)
    }
}

/// Names file and offset in an error that may lack them.
#[cold]
pub(super) fn place(error: Error, path: &Path, offset: u64) -> Error {
    let offset = error.offset().unwrap_or(offset);
    error.at(path).offset_at(offset).or_advice(REPAIR_TABLE)
}

fn read_sections(
    source: &Source,
    identity: &BirthIdentity,
    bytes: u64,
    footer_at: u64,
) -> Result<Sections> {
    let mut footer = [0; FOOTER_BYTES];
    read_into(source, &mut footer, footer_at)?;
    let footer = Footer::decode(&footer, footer_at)?;
    if footer.identity != *identity || footer.file_bytes != bytes {
        let of = |identity: &BirthIdentity, bytes: u64| {
            format!(
                "database {:016x}, file {}, seed {:016x}, {bytes} bytes",
                identity.database, identity.file, identity.hash_seed
            )
        };
        return Err(Error::corruption("table of another birth")
            .offset_at(footer_at)
            .expected(of(identity, bytes), of(&footer.identity, footer.file_bytes))
            .advice(REPAIR_TABLE));
    }
    // Bounded by the footer's decoding to a few KiB.
    let mut rows = vec![0; footer.sections_len as usize];
    read_into(source, &mut rows, footer.sections_offset)?;
    let found = bound_checksum(identity, footer.sections_offset, &rows);
    if found != footer.sections_checksum {
        return Err(checksum_error(
            "corrupt section table",
            footer.sections_offset,
            footer.sections_checksum,
            found,
        ));
    }
    Sections::decode(&rows, footer.sections_offset)
}

fn read_into(source: &Source, buffer: &mut [u8], offset: u64) -> Result<()> {
    match source {
        Source::Mapped(region) => {
            buffer.copy_from_slice(region.block(offset, buffer.len())?);
            Ok(())
        }
        Source::Read(file) => file.read_exact_at(buffer, offset),
    }
}

//! Writes a table front to back.
//!
//! Finished blocks gather in one buffer that leaves from 2 MiB on, in calls of 2 MiB at multiples
//! of 2 MiB: the kernel then keeps the file in huge pages, and mapped reads miss the TLB less. Long
//! entries of a flush gain little by that and leave in smaller calls, because huge pages can be
//! dear.
//! A thread keeps the buffer for its next table: fresh pages for each took 2 ns an entry, and the
//! holes that such buffers left in the C library's heaps were never filled again (30 MiB of them
//! after some hundred tables of 3.6 MiB). An entry costs two copies in cached memory, a hash for
//! each distinct user key, and no allocation.
//!
//! Invariants: entries come in strictly ascending internal order. Nothing written is read back or
//! changed. After an error the builder writes nothing more (P13): the file is to be removed.
//!
//! Threads: one. Not here: the name of the file, the directory's sync.

use super::block::builder::{BlockBuilder, Pending, single};
use super::compression::compress;
use super::expiring::Expiries;
use super::format::{
    FOOTER_BYTES, Footer, SECTION_ALIGN, SECTION_FILTER, SECTION_INDEX, SECTION_PROPERTIES,
    SECTION_ROW_BYTES, Section, TRAILER_BYTES, bound_checksum,
};
use super::index::IndexBuilder;
use super::properties::Properties;
use super::{BirthIdentity, BuilderOptions, TableSummary, filter};
use crate::base::checksum::KeyHasher;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::key::{KEY_BYTES_MAX, VALUE_BYTES_MAX, compare};
use crate::base::options::Compression;
use crate::base::types::{KeyspaceId, SeqNo, Tag, ValueKind};
use crate::fs::File;
use std::cell::Cell;

/// So much is gathered before it is written. Also size and alignment of the calls that write short
/// entries: what makes huge pages of the page cache.
const PIECE_BYTES: usize = 2 << 20;
/// Size of the calls that write the long entries of a short-lived table, and a bulk load. A huge page is cut from
/// memory that was free in one piece, which the host of a virtual machine often has taken back: 1.5
/// to 2.7 s for each GB until it is there again, where smaller pages come from what was freed last,
/// 0.2 to 0.4 s.
const CALL_BYTES_SMALL: usize = 256 << 10;
/// Entries of so many bytes, on average, are long: reading one takes longer than finding its page.
const LONG_ENTRY_BYTES: u64 = 2 << 10;
/// Hashes up to this many are kept for the next table.
const SPARE_HASHES_MAX: usize = 128 << 10;
/// Blocks that are to be compressed hold so many times the smallest block: a codec needs context.
const COMPRESSED_BLOCKS: usize = 4;

/// By what calls a table is written.
#[derive(Clone, Copy, Debug)]
enum Calls {
    /// Of [`PIECE_BYTES`].
    Large,
    /// See [`Builder::short_lived`].
    SmallIfLong,
    /// See [`Builder::in_small_calls`].
    Small,
}

/// Memory that one table after the other is built in; empty while none is.
#[derive(Debug, Default)]
struct Spare {
    buffer: Vec<u8>,
    hashes: Vec<u64>,
}

thread_local! {
    static SPARE: Cell<Spare> = const {
        Cell::new(Spare {
            buffer: Vec::new(),
            hashes: Vec::new(),
        })
    };
}

/// Bytes on their way into the file.
#[derive(Debug)]
struct Output {
    file: File,
    buffer: Vec<u8>,
    /// A multiple of [`PIECE_BYTES`] until the last call.
    written: u64,
}

impl Output {
    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Appends zeros up to a multiple of `align`.
    fn pad(&mut self, align: usize) {
        let position = self.position();
        let zeros = position.next_multiple_of(align as u64) - position;
        self.buffer.resize(self.buffer.len() + zeros as usize, 0);
    }

    /// Writes the first `len` bytes of the buffer, `call_bytes` at a time.
    fn write(&mut self, len: usize, call_bytes: usize) -> Result<()> {
        let start = self.written;
        for bytes in self.buffer[..len].chunks(call_bytes) {
            self.file.write_all_at(bytes, self.written)?;
            self.written += bytes.len() as u64;
        }
        self.file.start_write_back(start, len as u64);
        self.buffer.drain(..len);
        Ok(())
    }
}

/// Writes a table front to back. Dropped without [`Builder::finish`], it leaves an unfinished
/// file, which no reader accepts.
#[derive(Debug)]
pub struct Builder {
    output: Output,
    options: BuilderOptions,
    hasher: KeyHasher,
    block: BlockBuilder,
    /// The body that is compressed, and what became of it.
    scratch: (Vec<u8>, Vec<u8>),
    index: IndexBuilder,
    /// One for each distinct user key.
    hashes: Vec<u64>,
    properties: Properties,
    expiries: Expiries,
    last: Option<(Tag, u64)>,
    last_key: Vec<u8>,
    /// Last key of the block before the one that is open.
    block_last_key: Option<Vec<u8>>,
    calls: Calls,
    failed: Option<Error>,
}

impl Builder {
    /// Starts in an empty file.
    pub fn new(file: File, options: BuilderOptions) -> Builder {
        let unit = options.block_bytes.max(1) as usize;
        let block = match options.compression {
            Compression::None => BlockBuilder::new(unit, TRAILER_BYTES),
            _ => BlockBuilder::new(unit * COMPRESSED_BLOCKS, 0),
        };
        let mut spare = SPARE.take();
        spare.buffer.reserve_exact(PIECE_BYTES + 16 * unit);
        Builder {
            output: Output {
                file,
                buffer: spare.buffer,
                written: 0,
            },
            hasher: KeyHasher::new(options.identity.hash_seed),
            block,
            scratch: (Vec::new(), Vec::new()),
            index: IndexBuilder::default(),
            hashes: spare.hashes,
            properties: Properties {
                seqno_min: SeqNo::MAX,
                block_bytes: u64::from(options.block_bytes),
                filter_bits_per_key: u64::from(options.filter_bits_per_key),
                codec: options.compression as u64,
                ..Properties::default()
            },
            options,
            expiries: Expiries::default(),
            last: None,
            last_key: Vec::new(),
            block_last_key: None,
            calls: Calls::Large,
            failed: None,
        }
    }

    /// Says in the table for which keyspace it is written: what repair goes by when the manifest is
    /// lost.
    #[must_use]
    pub fn of_keyspace(mut self, keyspace: KeyspaceId) -> Builder {
        self.properties.keyspace = Some(keyspace);
        self
    }

    /// Says that a compaction will soon write the entries again: it matters more that this table is
    /// there quickly than how it is read. Writers wait for flushes.
    #[must_use]
    pub fn short_lived(mut self) -> Builder {
        self.calls = Calls::SmallIfLong;
        self
    }

    /// Says that it matters more that this table is there quickly than how it is read, however long its
    /// entries are: a bulk load writes more than memory takes.
    #[must_use]
    pub fn in_small_calls(mut self) -> Builder {
        self.calls = Calls::Small;
        self
    }

    /// Adds an entry; entries come in strictly ascending internal order (asserted in debug builds).
    ///
    /// # Errors
    /// `TooLarge`, `Unsupported` for a range deletion, and what writing can give; after an error
    /// of writing every further call gives the same.
    pub fn add(&mut self, key: &[u8], tag: Tag, value: &[u8]) -> Result<()> {
        if KEY_BYTES_MAX < key.len() || VALUE_BYTES_MAX < value.len() {
            return Err(
                Error::new(ErrorKind::TooLarge, "the entry is too large for a table").expected(
                    format!("at most {KEY_BYTES_MAX} and {VALUE_BYTES_MAX} bytes"),
                    format!("{} and {}", key.len(), value.len()),
                ),
            );
        }
        if tag.kind() == ValueKind::DeleteRange {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "tables cannot hold range deletions yet",
            ));
        }
        let hash = match self.last {
            Some((last_tag, hash)) if self.last_key == key => {
                debug_assert!(tag < last_tag, "versions come newest first");
                hash
            }
            last => {
                debug_assert!(
                    last.is_none_or(|(last_tag, _)| {
                        compare(&self.last_key, last_tag, key, tag).is_lt()
                    }),
                    "entries come in ascending order"
                );
                let hash = self.hasher.hash(key);
                self.hashes.push(hash);
                hash
            }
        };
        self.take(Pending {
            key,
            tag,
            value,
            hash,
        })
        .inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn take(&mut self, entry: Pending<'_>) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.count(&entry);
        if self.block.is_outsize(entry.key, entry.value) {
            self.end_block()?;
            self.write_block(entry.key, entry.tag, |_, out| single(entry, out))?;
        } else if !self.block.push(&entry) {
            self.end_block()?;
            let taken = self.block.push(&entry);
            debug_assert!(taken, "an empty block takes any entry");
        }
        self.last = Some((entry.tag, entry.hash));
        self.last_key.clear();
        self.last_key.extend_from_slice(entry.key);
        if self.block.is_empty() {
            self.block_last_key = Some(self.last_key.clone());
        }
        Ok(())
    }

    fn count(&mut self, entry: &Pending<'_>) {
        let properties = &mut self.properties;
        if properties.entries == 0 {
            properties.smallest = entry.key.to_vec();
        }
        properties.entries += 1;
        properties.tombstones += u64::from(entry.tag.kind() == ValueKind::Delete);
        properties.key_bytes += entry.key.len() as u64;
        properties.value_bytes += entry.value.len() as u64;
        properties.seqno_min = properties.seqno_min.min(entry.tag.seqno());
        properties.seqno_max = properties.seqno_max.max(entry.tag.seqno());
        self.expiries.note(entry.tag, entry.value);
    }

    /// Lays out the open block, if there is one.
    fn end_block(&mut self) -> Result<()> {
        let Some(first) = self.block.first() else {
            return Ok(());
        };
        let (key, tag) = (first.key.to_vec(), first.tag); // 1 allocation a block
        self.write_block(&key, tag, |block, out| block.finish(out))?;
        let mut last_key = self.block_last_key.take().unwrap_or(key);
        last_key.clear();
        last_key.extend_from_slice(&self.last_key);
        self.block_last_key = Some(last_key);
        Ok(())
    }

    /// Writes the block that `lay_out` appends to the buffer it is given.
    fn write_block(
        &mut self,
        first_key: &[u8],
        first_tag: Tag,
        lay_out: impl FnOnce(&mut BlockBuilder, &mut Vec<u8>),
    ) -> Result<()> {
        let offset = self.output.position();
        let start = self.output.buffer.len();
        self.index
            .add(self.block_last_key.as_deref(), first_key, first_tag, offset);
        let mut codec = Compression::None;
        if self.options.compression == Compression::None {
            lay_out(&mut self.block, &mut self.output.buffer);
            let body = self.output.buffer.len() - start + TRAILER_BYTES;
            let stored = body.next_multiple_of(self.options.block_bytes.max(1) as usize);
            self.output.buffer.resize(start + stored - TRAILER_BYTES, 0);
        } else {
            let (body, compressed) = &mut self.scratch;
            body.clear();
            lay_out(&mut self.block, body);
            let stored = if compress(self.options.compression, body, compressed)? {
                codec = self.options.compression;
                compressed
            } else {
                body
            };
            self.output.buffer.extend_from_slice(stored);
        }
        self.output.buffer.push(codec as u8);
        let checksum = bound_checksum(&self.options.identity, offset, &self.output.buffer[start..]);
        self.output
            .buffer
            .extend_from_slice(&checksum.to_le_bytes());
        self.write_pieces()
    }

    /// Writes whole pieces, once there are any.
    #[inline]
    fn write_pieces(&mut self) -> Result<()> {
        if self.output.buffer.len() < PIECE_BYTES {
            return Ok(());
        }
        let whole = self.output.buffer.len() / PIECE_BYTES * PIECE_BYTES;
        let call_bytes = self.call_bytes();
        self.output.write(whole, call_bytes)?;
        // A large value has made the buffer large: give the memory back.
        self.output.buffer.shrink_to(2 * PIECE_BYTES);
        Ok(())
    }

    /// How much a call writes, by what becomes of the table and how long its entries have been so far.
    fn call_bytes(&self) -> usize {
        let properties = &self.properties;
        let bytes = properties.key_bytes + properties.value_bytes;
        let is_long = properties.entries.saturating_mul(LONG_ENTRY_BYTES) <= bytes;
        match self.calls {
            Calls::Small => CALL_BYTES_SMALL,
            Calls::SmallIfLong if is_long => CALL_BYTES_SMALL,
            _ => PIECE_BYTES,
        }
    }

    /// Bytes written and buffered so far, roughly those of the file if it ended here.
    pub fn bytes(&self) -> u64 {
        let filter = self.hashes.len() as u64 * u64::from(self.options.filter_bits_per_key) / 8;
        let index = self.index.bytes() as u64;
        self.output.position() + self.block.bytes() as u64 + filter + index
    }

    /// Entries added so far.
    pub fn entries(&self) -> u64 {
        self.properties.entries
    }

    /// Writes what is left, the footer, and syncs the file (not the directory).
    ///
    /// # Errors
    /// What writing and syncing can give; the file is then to be removed.
    pub fn finish(mut self) -> Result<TableSummary> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.end_block()?;
        let blocks_end = self.output.position();
        self.properties.blocks = self.index.count() as u64;
        self.properties.largest = std::mem::take(&mut self.last_key);
        self.properties.expiring = std::mem::take(&mut self.expiries).total();
        if self.properties.entries == 0 {
            self.properties.seqno_min = SeqNo::ZERO;
        }
        let mut sections = Vec::new();
        let bits = self.options.filter_bits_per_key;
        if bits > 0 {
            sections.push(self.section(SECTION_FILTER, |builder, out| {
                filter::encode(&builder.hashes, bits, out);
            })?);
        }
        let plain = self.options.compression == Compression::None;
        sections.push(self.section(SECTION_INDEX, |builder, out| {
            builder.index.finish(blocks_end, plain, out);
        })?);
        sections.push(self.section(SECTION_PROPERTIES, |builder, out| {
            builder.properties.encode(out);
        })?);
        self.write_footer(&sections)?;
        let properties = std::mem::take(&mut self.properties);
        Ok(TableSummary {
            bytes: self.output.position(),
            entries: properties.entries,
            tombstones: properties.tombstones,
            raw_bytes: properties.key_bytes + properties.value_bytes,
            smallest: properties.smallest,
            largest: properties.largest,
            seqnos: (properties.seqno_min, properties.seqno_max),
            expiring: properties.expiring,
        })
    }

    fn section(&mut self, id: u32, encode: impl FnOnce(&Builder, &mut Vec<u8>)) -> Result<Section> {
        self.output.pad(SECTION_ALIGN as usize);
        let offset = self.output.position();
        let mut buffer = std::mem::take(&mut self.output.buffer);
        let start = buffer.len();
        encode(self, &mut buffer);
        self.output.buffer = buffer;
        let bytes = &self.output.buffer[start..];
        let section = Section {
            id,
            offset,
            len: bytes.len() as u64,
            checksum: bound_checksum(&self.options.identity, offset, bytes),
        };
        self.write_pieces()?;
        Ok(section)
    }

    fn write_footer(&mut self, sections: &[Section]) -> Result<()> {
        let identity: BirthIdentity = self.options.identity;
        let offset = self.output.position();
        let buffer = &mut self.output.buffer;
        let start = buffer.len();
        for section in sections {
            section.encode(buffer);
        }
        let rows = sections.len() * SECTION_ROW_BYTES;
        let checksum = bound_checksum(&identity, offset, &buffer[start..]);
        let footer = Footer {
            sections_offset: offset,
            sections_len: rows as u32,
            sections_checksum: checksum,
            identity,
            file_bytes: offset + (rows + FOOTER_BYTES) as u64,
        };
        footer.encode(buffer);
        let call_bytes = self.call_bytes();
        self.output.write(self.output.buffer.len(), call_bytes)?;
        debug_assert_eq!(self.output.position(), footer.file_bytes);
        // Data and size in one call: the file is new, so its inode must reach the disk anyway.
        self.output.file.sync_all()
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.hashes.clear();
        self.hashes.shrink_to(SPARE_HASHES_MAX);
        self.output.buffer.clear();
        self.output.buffer.shrink_to(2 * PIECE_BYTES);
        // Not when the thread is ending: then the memory goes too.
        let _ = SPARE.try_with(|spare| {
            spare.set(Spare {
                buffer: std::mem::take(&mut self.output.buffer),
                hashes: std::mem::take(&mut self.hashes),
            });
        });
    }
}

/// What this thread keeps for its next table.
#[cfg(test)]
pub(super) fn spare_bytes() -> usize {
    let spare = SPARE.take();
    let bytes = spare.buffer.capacity() + spare.hashes.capacity() * size_of::<u64>();
    SPARE.set(spare);
    bytes
}

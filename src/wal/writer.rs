//! The writing side: records appended to one segment, and the handle that syncs it.
//!
//! A record is in the page cache when `append` returns (or `flush_group`, for a group): stored
//! through the mapping of preallocated space, or written by one call. The path of a short record
//! in mapped mode makes no system call and allocates nothing.
//!
//! Invariants:
//! - I-wal-1: `good` never moves past a byte that was not handed to the system without error; it
//!   is where the next segment is told to cut (R15).
//! - I-wal-2: `good.end <= written`, and records between the two belong to the open group or to
//!   the append that is running.
//! - I-wal-3: the watermark in a record is not larger than the record's own offset.
//! - I-wal-4: after the first failed write or sync nothing is appended, written or synced (P13).
//!
//! Threads: a [`Writer`] is used under its owner's lock; a [`Syncer`] by anyone, and waits for no
//! writer. Not here: when to sync, rotate or recycle, and what the bytes mean.

use super::Predecessor;
use super::format::{
    FOOTER_BYTES, FRAGMENT_BYTES_MAX, Footer, Header, Kind, RECORD_HEADER_BYTES, SegmentHeader,
    VERSION, segment_bits,
};
use super::reader::RECORD_BYTES_MAX;
use crate::base::checksum;
use crate::base::error::{Error, Result};
use crate::base::options::LogMode;
use crate::base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::base::sync::{Arc, Mutex};
use crate::base::types::{FileId, SeqNo};
use crate::fs::region::Populator;
use crate::fs::{File, LogRegion};

/// Buffered bytes that go out before a long record or group is complete, so that the buffer stays
/// small: a record of 1 GiB does not need another GiB here.
const SPILL_BYTES: usize = 1 << 20;
/// Bytes that one call populates: who maps or unmaps something meanwhile waits for it.
const POPULATE_STEP: usize = 256 << 10;

/// How a segment is written.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// The database, bound into the segment's header.
    pub database: u64,
    /// The segment's number, bound into every record.
    pub segment: FileId,
    /// Mapped stores, or write calls. `Mapped` needs a preallocated file.
    pub mode: LogMode,
    /// Bytes the segment may hold; a growing file (the manifest) says `u32::MAX as u64`.
    pub capacity: u64,
    /// The file had an earlier life, whose bytes may still be in it.
    pub recycled: bool,
}

/// A segment without a header yet: what can be made ready for it ahead of its first record.
#[derive(Debug)]
pub struct Unbegun {
    file: File,
    options: WriterOptions,
    /// Mapped mode only.
    region: Option<LogRegion>,
    /// Up to where the mapping was populated.
    populated: u64,
}

/// Appends records to one segment; used under the caller's lock.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    /// Mapped mode only.
    region: Option<LogRegion>,
    /// Records on their way to a write call. Empty between calls, outside a group.
    buffer: Vec<u8>,
    grouping: bool,
    sealed: bool,
    /// Offset behind the last byte handed to the system.
    written: u64,
    last: SeqNo,
    records: u64,
    /// Offset and number behind the last record (or group) that is wholly in place.
    good: Predecessor,
}

/// What writer and syncers of a segment share.
#[derive(Debug)]
struct Shared {
    file: File,
    segment: FileId,
    capacity: u64,
    /// Offset behind the last good record. Stored by the writer, loaded by syncers.
    published: AtomicU64,
    /// Offset known to be durable. Stored by syncers, loaded by the writer into each record.
    synced: AtomicU64,
    /// Set once, after `failure`.
    poisoned: AtomicBool,
    failure: Mutex<Option<Error>>,
    /// One sync at a time: the kernel reports a lost write to one caller of fdatasync only, so a
    /// second caller must see that one's result before it believes its own.
    syncing: Mutex<()>,
    populator: Option<Populator>,
    populated: AtomicU64,
}

impl Unbegun {
    /// Maps the file, where that is how it will be written. Its name and size are the caller's
    /// business, and it may hold an earlier life of itself.
    ///
    /// # Errors
    /// `InvalidArgument` when `capacity` is above `u32::MAX`; whatever mapping the file gives.
    pub fn new(file: File, options: WriterOptions) -> Result<Unbegun> {
        let capacity = options.capacity;
        if u64::from(u32::MAX) < capacity {
            return Err(Error::invalid("the log segment is too large")
                .at(file.path())
                .expected(format!("at most {} bytes", u32::MAX), capacity));
        }
        let region = match options.mode {
            LogMode::Mapped => Some(file.map_log(capacity)?),
            LogMode::Write => None,
        };
        Ok(Unbegun {
            file,
            options,
            region,
            populated: 0,
        })
    }

    /// The segment's number.
    pub fn segment(&self) -> FileId {
        self.options.segment
    }

    /// Populates the first `bytes` of the mapping, if there is one.
    pub fn populate(&mut self, bytes: u64) {
        if let Some(region) = &self.region {
            let end = bytes.min(self.options.capacity);
            populate(&region.populator(), 0, end);
            self.populated = end;
        }
    }

    /// Writes the segment's header (its first record): database, segment, predecessor.
    ///
    /// # Errors
    /// `InvalidArgument` when the capacity does not hold an empty segment; whatever writing the
    /// file gives.
    pub fn begin(self, before: Option<Predecessor>) -> Result<Writer> {
        let Unbegun {
            file,
            options,
            region,
            populated,
        } = self;
        let WriterOptions {
            database,
            segment,
            capacity,
            recycled,
            ..
        } = options;
        let last = before.map_or(SeqNo::ZERO, |b| b.last_seqno);
        let mut writer = Writer {
            shared: Arc::new(Shared {
                file,
                segment,
                capacity,
                published: AtomicU64::new(0),
                synced: AtomicU64::new(0),
                poisoned: AtomicBool::new(false),
                failure: Mutex::new(None),
                syncing: Mutex::new(()),
                populator: region.as_ref().map(LogRegion::populator),
                populated: AtomicU64::new(populated),
            }),
            // By a write call: the first store into the mapping would wait for as many pages as
            // the kernel reads ahead, 3 ms where that is 8 MiB.
            region: None,
            buffer: Vec::new(),
            grouping: false,
            sealed: false,
            written: 0,
            last,
            records: 0,
            good: Predecessor {
                segment,
                end: 0,
                last_seqno: last,
            },
        };
        let payload = SegmentHeader {
            version: VERSION,
            database,
            segment,
            recycled,
            before,
        }
        .encode();
        if !writer.fits(payload.len()) {
            return Err(writer.refusal(payload.len()));
        }
        writer.append_mark(Kind::Segment, &payload)?;
        writer.region = region;
        Ok(writer)
    }
}

impl Writer {
    /// Maps a segment and begins it at once; see [`Unbegun`].
    ///
    /// # Errors
    /// As [`Unbegun::new`] and [`Unbegun::begin`].
    pub fn create(
        file: File,
        options: WriterOptions,
        before: Option<Predecessor>,
    ) -> Result<Writer> {
        Unbegun::new(file, options)?.begin(before)
    }

    /// The segment's number.
    pub fn segment(&self) -> FileId {
        self.shared.segment
    }

    /// True when a payload of `len` bytes still fits, and the footer after it.
    #[inline]
    pub fn fits(&self, len: usize) -> bool {
        let fragments = len.div_ceil(FRAGMENT_BYTES_MAX).max(1);
        let overhead = (fragments * RECORD_HEADER_BYTES + FOOTER_BYTES) as u64;
        len <= RECORD_BYTES_MAX && self.end() + len as u64 + overhead <= self.shared.capacity
    }

    /// Offset behind the last record, one of an open group included.
    #[inline]
    pub fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Appends one record (split into fragments where it is long). `first`..=`last` are the
    /// sequence numbers it uses. `crc` is the payload's checksum, computed by the caller outside its
    /// lock.
    ///
    /// After an error of a write or sync the writer is poisoned: every later call fails with that
    /// first cause, and `cut()` tells where its valid records end.
    ///
    /// # Errors
    /// `InvalidArgument`, without poisoning, when the record does not fit or the segment is
    /// sealed; the first failure of the file otherwise.
    #[inline]
    pub fn append(&mut self, first: SeqNo, last: SeqNo, payload: &[u8], crc: u32) -> Result<()> {
        debug_assert!(first <= last.plus(1), "the numbers of a record ascend");
        debug_assert_eq!(crc, checksum::crc(payload), "the payload's checksum");
        if !self.is_ready() || !self.fits(payload.len()) {
            return Err(self.refusal(payload.len()));
        }
        if payload.len() <= FRAGMENT_BYTES_MAX {
            self.put(Kind::Full, first, payload, crc)?;
        } else {
            self.append_fragments(first, payload)?;
        }
        self.last = self.last.max(last);
        self.records += 1;
        self.finish()
    }

    /// While set, appended records are kept in a buffer and written by one `pwrite` in
    /// `flush_group` (the group leader's way; a sync is faster behind it than behind mapped
    /// stores). A group over 1 MiB takes one call for each MiB.
    pub fn begin_group(&mut self) {
        debug_assert!(!self.grouping, "groups do not nest");
        self.grouping = true;
    }

    /// Ends the group: one write call. When it fails, no record of the group is behind `cut()`.
    ///
    /// # Errors
    /// The first failure of the file.
    pub fn flush_group(&mut self) -> Result<()> {
        self.grouping = false;
        if self.shared.is_poisoned() {
            return Err(self.refusal(0));
        }
        self.finish()
    }

    /// Writes the footer. Nothing can be appended afterwards.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn seal(&mut self) -> Result<Predecessor> {
        debug_assert!(!self.grouping, "a group is flushed before the seal");
        if !self.is_ready() {
            return Err(self.refusal(0));
        }
        let footer = Footer {
            last_seqno: self.last,
            records: self.records,
        };
        self.append_mark(Kind::Footer, &footer.encode())?;
        self.sealed = true;
        Ok(self.good)
    }

    /// What the next segment must say of this one, sealed or poisoned.
    pub fn cut(&self) -> Predecessor {
        self.good
    }

    /// Why nothing can be appended any more: the first failure of a write or sync.
    pub fn failure(&self) -> Option<Error> {
        self.shared.failure()
    }

    /// A handle to sync the file without the caller's lock.
    pub fn syncer(&self) -> Syncer {
        Syncer(Arc::clone(&self.shared))
    }

    #[inline]
    fn is_ready(&self) -> bool {
        !self.sealed && !self.shared.is_poisoned()
    }

    /// Why nothing more is appended, or not this.
    #[cold]
    fn refusal(&self, len: usize) -> Error {
        if let Some(cause) = self.shared.failure() {
            return cause;
        }
        let path = self.shared.file.path();
        if self.sealed {
            return Error::invalid("the log segment is sealed").at(path);
        }
        Error::invalid("the record does not fit the log segment")
            .at(path)
            .offset_at(self.end())
            .expected(format!("at most {} bytes", self.shared.capacity), len)
    }

    /// Appends a segment header or footer.
    fn append_mark(&mut self, kind: Kind, payload: &[u8]) -> Result<()> {
        self.put(kind, self.last, payload, checksum::crc(payload))?;
        self.finish()
    }

    #[cold]
    fn append_fragments(&mut self, first: SeqNo, payload: &[u8]) -> Result<()> {
        let fragments = payload.len().div_ceil(FRAGMENT_BYTES_MAX);
        for (i, fragment) in payload.chunks(FRAGMENT_BYTES_MAX).enumerate() {
            let kind = match i {
                0 => Kind::First,
                i if i + 1 == fragments => Kind::Last,
                _ => Kind::Middle,
            };
            self.put(kind, first, fragment, checksum::crc(fragment))?;
        }
        Ok(())
    }

    /// Puts one record or fragment into its place: the mapping, or the buffer of the next write.
    #[inline]
    fn put(&mut self, kind: Kind, first: SeqNo, payload: &[u8], crc: u32) -> Result<()> {
        let offset = self.end();
        let header = Header {
            payload_crc: crc,
            len: payload.len() as u32,
            kind,
            segment: segment_bits(self.shared.segment),
            offset: offset as u32,
            // Pairs with the Release in `sync`.
            synced: self.shared.synced.load(Ordering::Acquire) as u32,
            first,
        }
        .encode();
        match &mut self.region {
            Some(region) if !self.grouping => {
                // The payload first: a sector that holds the header then holds what it had to
                // hold of the payload too.
                region.store(offset + RECORD_HEADER_BYTES as u64, payload);
                region.store(offset, &header);
                self.written = offset + (RECORD_HEADER_BYTES + payload.len()) as u64;
                Ok(())
            }
            _ => {
                self.buffer.extend_from_slice(&header);
                self.buffer.extend_from_slice(payload);
                if self.buffer.len() < SPILL_BYTES {
                    return Ok(());
                }
                self.spill()
            }
        }
    }

    /// Makes everything put so far good, unless a group is open.
    #[inline]
    fn finish(&mut self) -> Result<()> {
        if self.grouping {
            return Ok(());
        }
        if !self.buffer.is_empty() {
            self.spill()?;
        }
        debug_assert!(self.good.end <= self.written, "I-wal-2");
        self.good.end = self.written;
        self.good.last_seqno = self.last;
        // Pairs with the Acquire in `sync`: who sees this end sees the bytes before it.
        self.shared.published.store(self.written, Ordering::Release);
        Ok(())
    }

    /// Hands the buffer to the system by one write call.
    fn spill(&mut self) -> Result<()> {
        let outcome = self.shared.file.write_all_at(&self.buffer, self.written);
        if let Err(error) = outcome {
            self.buffer.clear();
            self.written = self.good.end;
            self.last = self.good.last_seqno;
            return Err(self.shared.poison(error));
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Shared {
    #[inline]
    fn is_poisoned(&self) -> bool {
        // Pairs with the Release in `poison`.
        self.poisoned.load(Ordering::Acquire)
    }

    /// The first failure, if there was one.
    fn failure(&self) -> Option<Error> {
        if self.is_poisoned() {
            self.failure.lock().clone()
        } else {
            None
        }
    }

    /// Remembers the first failure, and gives it back.
    #[cold]
    fn poison(&self, error: Error) -> Error {
        let first = self.failure.lock().get_or_insert(error).clone();
        // Pairs with the Acquire in `is_poisoned`.
        self.poisoned.store(true, Ordering::Release);
        first
    }
}

/// Syncs one segment from any thread, and keeps the watermark that rides in each record (R3).
#[derive(Clone, Debug)]
pub struct Syncer(Arc<Shared>);

impl Syncer {
    /// The segment's number.
    pub fn segment(&self) -> FileId {
        self.0.segment
    }

    /// Makes everything appended before this call durable. Callers that wait for each other share
    /// one fdatasync. After one failure, of a write or a sync, every later call fails with it: a
    /// file whose sync failed is never synced again (P13).
    ///
    /// # Errors
    /// The first failure of the file.
    pub fn sync(&self) -> Result<()> {
        let shared = &*self.0;
        // Pairs with the Release in `finish`, as below.
        let wanted = shared.published.load(Ordering::Acquire);
        let _one_at_a_time = shared.syncing.lock();
        if let Some(cause) = shared.failure() {
            return Err(cause);
        }
        if wanted <= self.synced() {
            return Ok(());
        }
        let end = shared.published.load(Ordering::Acquire);
        if let Err(error) = shared.file.sync_data() {
            return Err(shared.poison(error));
        }
        debug_assert!(self.synced() <= end, "a watermark never goes back");
        // Pairs with the Acquire in `put` and in `synced`.
        shared.synced.store(end, Ordering::Release);
        Ok(())
    }

    /// The first failure of a write or sync of this segment.
    pub fn failure(&self) -> Option<Error> {
        self.0.failure()
    }

    /// Offset up to which the file is known to be durable.
    pub fn synced(&self) -> u64 {
        // Pairs with the Release in `sync`.
        self.0.synced.load(Ordering::Acquire)
    }

    /// Up to where the mapping was populated.
    #[cfg(test)]
    pub(crate) fn populated(&self) -> u64 {
        self.0.populated.load(Ordering::Relaxed)
    }

    /// Populates the mapping up to `ahead` bytes beyond the last record (mapped mode; else
    /// nothing). What was populated by an earlier call is left alone.
    pub fn populate_ahead(&self, ahead: u64) {
        let shared = &*self.0;
        let Some(populator) = &shared.populator else {
            return;
        };
        // Relaxed: only a hint for where to start.
        let end = shared.published.load(Ordering::Relaxed);
        let target = end.saturating_add(ahead).min(shared.capacity);
        // Relaxed: the one change of this number gives each caller a range of its own.
        let done = shared.populated.fetch_max(target, Ordering::Relaxed);
        populate(populator, done.max(end), target);
    }
}

/// In steps, because whoever maps or unmaps something waits for one.
fn populate(populator: &Populator, start: u64, end: u64) {
    for offset in (start..end).step_by(POPULATE_STEP) {
        populator.populate(offset, (end - offset).min(POPULATE_STEP as u64));
    }
}

#[cfg(test)]
mod tests;

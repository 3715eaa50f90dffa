//! SKELETON: owned by the wal room.
use super::Predecessor;
use crate::base::error::Result;
use crate::base::options::LogMode;
use crate::base::types::{FileId, SeqNo};
use crate::fs::File;

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
}

/// Appends records to one segment; used under the caller's lock.
#[derive(Debug)]
pub struct Writer(());

impl Writer {
    /// Writes the segment's header (its first record): database, segment, predecessor.
    pub fn create(
        _file: File,
        _options: WriterOptions,
        _before: Option<Predecessor>,
    ) -> Result<Writer> {
        unimplemented!()
    }
    /// The segment's number.
    pub fn segment(&self) -> FileId {
        unimplemented!()
    }
    /// True when a payload of `len` bytes still fits, and the footer after it.
    pub fn fits(&self, _len: usize) -> bool {
        unimplemented!()
    }
    /// Offset behind the last record.
    pub fn end(&self) -> u64 {
        unimplemented!()
    }
    /// Appends one record (split into fragments where it is long). `first`..=`last` are the
    /// sequence numbers it uses. `parts` are its payload, one after the other (first part is at most a few
    /// bytes); `crc` is `base::checksum::crc_parts(parts)`, computed by the caller outside its lock.
    /// After an error the writer is poisoned: every later call fails, and `cut()` tells where its valid records end.
    pub fn append(
        &mut self,
        _first: SeqNo,
        _last: SeqNo,
        _parts: &[&[u8]],
        _crc: u32,
    ) -> Result<()> {
        unimplemented!()
    }
    /// While set, appended records are kept in a buffer and written by one `pwrite` in `flush_group`
    /// (the group leader's way); mapped stores otherwise.
    pub fn begin_group(&mut self) {
        unimplemented!()
    }
    /// Ends the group: one write call.
    pub fn flush_group(&mut self) -> Result<()> {
        unimplemented!()
    }
    /// Writes the footer. Nothing can be appended afterwards.
    pub fn seal(&mut self) -> Result<Predecessor> {
        unimplemented!()
    }
    /// What the next segment must say of this one, sealed or poisoned.
    pub fn cut(&self) -> Predecessor {
        unimplemented!()
    }
    /// A handle to sync the file without the caller's lock.
    pub fn syncer(&self) -> Syncer {
        unimplemented!()
    }
}

/// Syncs one segment from any thread, and keeps the watermark that rides in each record (R3).
#[derive(Clone, Debug)]
pub struct Syncer(());

impl Syncer {
    /// The segment's number.
    pub fn segment(&self) -> FileId {
        unimplemented!()
    }
    /// Makes everything appended before this call durable. After one failure every later call
    /// fails: a file whose sync failed is never synced again (P13).
    pub fn sync(&self) -> Result<()> {
        unimplemented!()
    }
    /// Offset up to which the file is known to be durable.
    pub fn synced(&self) -> u64 {
        unimplemented!()
    }
    /// Populates the mapping up to `ahead` bytes beyond the last record (mapped mode; else nothing).
    pub fn populate_ahead(&self, _ahead: u64) {
        unimplemented!()
    }
}

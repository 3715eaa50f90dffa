//! Manifest files and CURRENT, the file that says which of them counts.
//!
//! A manifest is a log segment of the `wal` room with the manifest's number: first a snapshot, then
//! edits, each synced before it counts. CURRENT is replaced whole, never written in place:
//!
//! ```text
//!  0 u8×8 magic     "ALLUVIUM"
//!  8 u32  format    1
//! 12 u64  manifest  its number
//! 20 u64  database  its identity
//! 28 u32  checksum  crc(bytes 0..28)
//! ```
//!
//! The order of a switch (R8): manifest synced, directory synced, temporary file synced, renamed to
//! CURRENT, directory synced. From the rename on nobody knows which manifest a power cut leaves,
//! until the last sync succeeds: then both are kept, and neither is appended to.
//!
//! Threads: used under the set's lock. Not here: what records mean (`edit`, `ledger`).

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::edit::{FORMAT, Record};
use crate::base::checksum::crc;
use crate::base::coding::Decoder;
use crate::base::error::{Error, ErrorKind, REPAIR, Result};
use crate::base::options::LogMode;
use crate::base::types::{FileId, SeqNo};
use crate::fs::{FileName, Fs};
use crate::wal::{Reader, Syncer, Tail, Writer, WriterOptions};

const CURRENT_MAGIC: &[u8; 8] = b"ALLUVIUM";
/// Bytes of CURRENT.
pub(super) const CURRENT_BYTES: usize = 32;

/// What CURRENT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) manifest: FileId,
    pub(super) database: u64,
}

impl Current {
    pub(super) fn encode(self) -> [u8; CURRENT_BYTES] {
        let mut out = [0; CURRENT_BYTES];
        out[..8].copy_from_slice(CURRENT_MAGIC);
        out[8..12].copy_from_slice(&(FORMAT as u32).to_le_bytes());
        out[12..20].copy_from_slice(&self.manifest.0.to_le_bytes());
        out[20..28].copy_from_slice(&self.database.to_le_bytes());
        let checksum = crc(&out[..28]);
        out[28..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// # Errors
    /// `Corruption` for anything this code does not write; `Unsupported` for a newer format.
    pub(super) fn decode(bytes: &[u8; CURRENT_BYTES]) -> Result<Current> {
        let mut decoder = Decoder::new(bytes);
        let damaged = || Error::corruption("damaged CURRENT");
        let magic = decoder.take(8).ok_or_else(damaged)?;
        let format = decoder.u32().ok_or_else(damaged)?;
        let manifest = FileId(decoder.u64().ok_or_else(damaged)?);
        let database = decoder.u64().ok_or_else(damaged)?;
        let stored = decoder.u32().ok_or_else(damaged)?;
        let computed = crc(&bytes[..28]);
        if stored != computed {
            return Err(damaged().expected(
                format!("checksum {computed:08x}"),
                format!("checksum {stored:08x}"),
            ));
        }
        if magic != CURRENT_MAGIC || format == 0 {
            return Err(damaged());
        }
        if FORMAT < u64::from(format) {
            return Err(
                Error::new(ErrorKind::Unsupported, "database of a newer format")
                    .expected(format!("format {FORMAT}"), format!("format {format}"))
                    .advice("Open it with the version of alluvium that wrote it."),
            );
        }
        Ok(Current { manifest, database })
    }

    /// Reads CURRENT; `None` when there is none.
    pub(super) fn read(fs: &Fs) -> Result<Option<Current>> {
        let file = match fs.open_read(FileName::Current) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = file.len()?;
        if len != CURRENT_BYTES as u64 {
            return Err(Error::corruption("CURRENT of a wrong size")
                .at(file.path())
                .offset_at(len.min(CURRENT_BYTES as u64))
                .expected(format!("{CURRENT_BYTES} bytes"), format!("{len} bytes"))
                .advice(REPAIR));
        }
        let mut bytes = [0; CURRENT_BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        Current::decode(&bytes).map(Some).map_err(|error| {
            let error = error.at(file.path()).offset_at(0);
            match error.kind() {
                ErrorKind::Corruption => error.advice(REPAIR),
                _ => error,
            }
        })
    }
}

/// Decodes CURRENT and encodes it again: what fuzzers and format tests call.
///
/// # Errors
/// `Corruption` or `Unsupported` as decoding says.
#[doc(hidden)]
pub fn recode_current(bytes: &[u8; CURRENT_BYTES]) -> Result<[u8; CURRENT_BYTES]> {
    Current::decode(bytes).map(Current::encode)
}

/// How a switch failed.
pub(super) enum SwitchError {
    /// CURRENT names what it named before, and will after a power cut.
    Unswitched(Error),
    /// CURRENT may name the old manifest or the new one.
    Unsure(Error),
}

impl From<SwitchError> for Error {
    fn from(error: SwitchError) -> Error {
        match error {
            SwitchError::Unswitched(error) | SwitchError::Unsure(error) => error,
        }
    }
}

/// Makes `current.manifest`, which is synced, the one that counts.
pub(super) fn switch(fs: &Fs, current: Current) -> std::result::Result<(), SwitchError> {
    let temp = FileName::Temp(current.manifest);
    let written = || -> Result<()> {
        // The manifest's name first: CURRENT must never outlive it (bug 41).
        fs.sync_dir()?;
        let file = fs.create_new(temp)?;
        file.write_all_at(&current.encode(), 0)?;
        file.sync_all()
    };
    written().map_err(SwitchError::Unswitched)?;
    // A rename that reports failure may have happened (bug 45), and an unsynced one may not last.
    fs.rename(temp, FileName::Current)
        .map_err(SwitchError::Unsure)?;
    fs.sync_dir().map_err(SwitchError::Unsure)
}

/// The manifest that is written to.
#[derive(Debug)]
pub(super) struct Manifest {
    writer: Writer,
    syncer: Syncer,
    records: u64,
}

impl Manifest {
    /// Makes a manifest that starts with `snapshot`, and syncs it (not its name).
    pub(super) fn create(
        fs: &Fs,
        id: FileId,
        database: u64,
        snapshot: &Record,
    ) -> Result<Manifest> {
        debug_assert!(
            snapshot.identity.is_some(),
            "a manifest starts with a snapshot"
        );
        let options = WriterOptions {
            database,
            segment: id,
            mode: LogMode::Write,
            capacity: u64::from(u32::MAX),
            recycled: false,
        };
        let writer = Writer::create(fs.create_new(FileName::Manifest(id))?, options, None)?;
        let syncer = writer.syncer();
        let mut manifest = Manifest {
            writer,
            syncer,
            records: 0,
        };
        manifest.append(snapshot)?;
        Ok(manifest)
    }

    pub(super) fn id(&self) -> FileId {
        self.writer.segment()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.writer.end()
    }

    /// Appends a record and syncs it. After an error the file must not be used again (R6).
    pub(super) fn append(&mut self, record: &Record) -> Result<()> {
        let payload = record.encode();
        // A manifest's records have their places as numbers, from 1 upwards.
        let number = SeqNo::ZERO.plus(self.records).plus(1);
        self.writer
            .append(number, number, &payload, crc(&payload))?;
        self.syncer.sync()?;
        self.records = number.get();
        Ok(())
    }

    /// Writes the footer, which vouches for the last record (R3), and syncs it.
    pub(super) fn seal(&mut self) -> Result<()> {
        self.writer.seal()?;
        self.syncer.sync()
    }
}

/// Where a manifest ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct ManifestEnd {
    /// Behind the last valid record.
    pub(super) records: u64,
    /// The file's size: the same, unless the last record is torn or damaged.
    pub(super) file: u64,
}

/// Gives each record of a manifest, the snapshot first, to `take`.
///
/// # Errors
/// `Corruption` with file and offset for damage below the synced watermark, a missing snapshot or
/// whatever `take` refuses; `Unsupported` for a newer format. A torn tail is none: its edit was
/// never reported as installed.
pub(super) fn read(
    fs: &Fs,
    current: Current,
    mut take: impl FnMut(Record) -> Result<()>,
) -> Result<ManifestEnd> {
    let name = FileName::Manifest(current.manifest);
    let file = fs.open_read(name).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::corruption("CURRENT names a manifest that is missing")
            .at(fs.path(name))
            .advice(REPAIR),
        _ => error,
    })?;
    // Not mapped: somebody may be writing to it.
    let bytes = file.read_region(file.len()?)?;
    let (path, id) = (file.path(), current.manifest);
    let mut reader = Reader::over(bytes, path, current.database, id, None)?;
    let mut snapshot = true;
    while let Some(stored) = reader.next()? {
        let offset = stored.offset;
        let record = Record::decode(&stored.payload).and_then(|record| {
            match record.identity {
                Some(identity) if snapshot && identity.database == current.database => {}
                None if !snapshot => {}
                _ => return Err(Error::corruption("manifest record out of its place")),
            }
            take(record)
        });
        record.map_err(|error| {
            let error = match error.kind() {
                // The bytes were whole, and what they say cannot be.
                ErrorKind::InvalidArgument | ErrorKind::Corruption => {
                    error.with_kind(ErrorKind::Corruption).advice(REPAIR)
                }
                _ => error,
            };
            error.at(file.path()).offset_at(offset)
        })?;
        snapshot = false;
    }
    if snapshot {
        let found = match reader.tail() {
            Tail::Empty => "an empty file",
            Tail::Sealed(_) | Tail::Open { .. } | Tail::Torn { .. } => "none",
        };
        return Err(Error::corruption("manifest without a snapshot")
            .at(file.path())
            .offset_at(reader.end())
            .expected("a snapshot", found)
            .advice(REPAIR));
    }
    Ok(ManifestEnd {
        records: reader.end(),
        file: file.len()?,
    })
}

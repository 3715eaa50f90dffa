//! Tables on their way from one directory to another: linked, or copied and checked.

use crate::base::checksum::RunningCrc;
use crate::base::error::{Error, ErrorKind, REPAIR_TABLE, Result};
use crate::base::options::{ReadMode, Verify};
use crate::base::sync::Arc;
use crate::db::core::Core;
use crate::fs::{File, FileName, Fs};
use crate::table::{BlockCache, Table, TableContext};
use crate::version::{FileMeta, TableEntry};

/// So much is read and written by one call.
const PIECE_BYTES: u64 = 1 << 20;

/// How a table came into the other directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// By a second name of the same file.
    Linked,
    /// By a copy, every checksum of which was read.
    Copied,
}

/// Puts a table of `core` into another directory, under the number that it has.
///
/// # Errors
/// `Corruption` with the place in the source when it is damaged and must be copied; what the file
/// system says.
pub(crate) fn link_or_copy(core: &Core, table: &TableEntry, to: &Fs) -> Result<Carried> {
    core.health.check_open()?;
    let name = FileName::Table(table.meta().file);
    let source = open(core, table)?;
    if core.fs.link(name, to, name)? {
        return Ok(Carried::Linked);
    }
    copy_checked(table, &source, to, name)?;
    Ok(Carried::Copied)
}

/// Opens the file of a table of `core`.
///
/// # Errors
/// `Corruption` when it is missing.
pub(crate) fn open(core: &Core, table: &TableEntry) -> Result<File> {
    let name = FileName::Table(table.meta().file);
    core.fs.open_read(name).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::corruption("table that is missing")
            .at(core.fs.path(name))
            .expected("the file, because the manifest lists it", "none")
            .advice(REPAIR_TABLE)
            .caused_by(error),
        _ => error,
    })
}

/// As [`copy`] of a table, and reads the copy back: damage never gets a fresh checksum (P9).
///
/// # Errors
/// `Corruption` with the place in the source when that is damaged.
pub(crate) fn copy_checked(
    table: &TableEntry,
    source: &File,
    to: &Fs,
    name: FileName,
) -> Result<u32> {
    let checksum = copy(source, to, name)?;
    verify(to, name, table.meta()).map_err(|of_copy| {
        match table.table().and_then(|source| source.verify()) {
            Err(of_source) => of_source,
            Ok(()) => of_copy,
        }
    })?;
    Ok(checksum)
}

/// Copies a file to a new one, and syncs that (not its name); gives the checksum of its bytes.
///
/// # Errors
/// What the file system says.
pub(crate) fn copy(from: &File, to: &Fs, name: FileName) -> Result<u32> {
    let file = to.create_new(name)?;
    let checksum = read(from, |bytes, at| file.write_all_at(bytes, at))?;
    file.sync_all()?;
    Ok(checksum)
}

/// Gives a file piece by piece to `take`, and then its checksum back.
///
/// # Errors
/// What the file system says, and `take`.
pub(crate) fn read(file: &File, mut take: impl FnMut(&[u8], u64) -> Result<()>) -> Result<u32> {
    let len = file.len()?;
    let mut piece = vec![0; len.min(PIECE_BYTES) as usize];
    let mut crc = RunningCrc::default();
    let mut at = 0;
    while at < len {
        let bytes = &mut piece[..(len - at).min(PIECE_BYTES) as usize];
        file.read_exact_at(bytes, at)?;
        crc.update(bytes);
        take(bytes, at)?;
        at += bytes.len() as u64;
    }
    Ok(crc.masked())
}

/// Reads a whole table and checks everything in it.
///
/// # Errors
/// `Corruption` with file and offset.
pub(crate) fn verify(fs: &Fs, name: FileName, meta: &FileMeta) -> Result<()> {
    // By calls: the disk that copies go to may be one that fails.
    let context = Arc::new(TableContext {
        read_mode: ReadMode::Pread,
        verify: Verify::EveryRead,
        cache: BlockCache::new(PIECE_BYTES),
    });
    let file = fs.open_read(name)?;
    let table = Table::open(file, meta.identity, meta.summary.bytes, false, &context)?;
    Arc::new(table).verify()
}

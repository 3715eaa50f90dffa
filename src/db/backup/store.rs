//! The tables of a directory of backups: each once, whatever points in time share it.
//!
//! A table never changes, and its birth identity names it for good (R9, P6). So one that is there
//! under the same identity, with the same size and the same last bytes (footer and section table,
//! whose checksums bind index, filter and counts), is not read again. One that is not there is
//! copied under a temporary name, synced and read back, block by block; then it gets its own, with
//! its checksum. A name so never stands for less than a whole table.
//!
//! Whatever no record names is an orphan: of a backup that was cut off, or of a point that was
//! removed. Orphans go only when it is durable that no record names them, and none at all while a
//! record cannot be read.

use super::point::{Point, stored};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::sync::Arc;
use crate::base::types::FileId;
use crate::db::checkpoint::carry;
use crate::db::sweep::remove_if_there;
use crate::fs::name::StoredTable;
use crate::fs::{File, FileName, Fs};
use crate::version::{FileMeta, TableEntry};
use std::collections::BTreeSet;

/// Footer and section table of a table with three sections take 156 bytes.
const TAIL_BYTES: u64 = 256;
/// The one temporary name that is in use at a time.
pub(super) const TEMP: FileName = FileName::Temp(FileId(0));

/// The stored tables, as their names say.
pub(super) struct Store<'f> {
    fs: &'f Fs,
    there: BTreeSet<StoredTable>,
}

impl<'f> Store<'f> {
    pub(super) fn read(fs: &'f Fs) -> Result<Store<'f>> {
        let entries = fs.list()?;
        let there =
            entries
                .iter()
                .filter_map(|entry| match FileName::parse_in_backups(&entry.name) {
                    Some(FileName::Stored(table)) => Some(table),
                    _ => None,
                });
        Ok(Store {
            fs,
            there: there.collect(),
        })
    }

    /// Those that may be the table of `meta`, by identity and size.
    fn candidates(&self, meta: &FileMeta) -> impl Iterator<Item = StoredTable> {
        let (least, most) = (stored(meta, 0), stored(meta, u32::MAX));
        self.there.range(least..=most).copied()
    }

    /// The stored file that is the table `meta`, which `source` has open.
    pub(super) fn find(&self, meta: &FileMeta, source: &File) -> Result<Option<StoredTable>> {
        let tail = tail_of(source)?;
        for table in self.candidates(meta) {
            let file = self.fs.open_read(FileName::Stored(table))?;
            if file.len()? == table.bytes && tail_of(&file)? == tail {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    /// Copies a table, which `source` has open, and reads the copy back.
    pub(super) fn add(&mut self, table: &TableEntry, source: &File) -> Result<StoredTable> {
        remove_if_there(self.fs, TEMP)?;
        let checksum = carry::copy_checked(table, source, self.fs, TEMP)?;
        self.name(TEMP, stored(table.meta(), checksum))
    }

    /// Takes over a table that was written, and synced, right here.
    pub(super) fn adopt(&mut self, meta: &FileMeta) -> Result<StoredTable> {
        let name = FileName::Table(meta.file);
        let checksum = checksum(&self.fs.open_read(name)?)?;
        self.name(name, stored(meta, checksum))
    }

    fn name(&mut self, from: FileName, table: StoredTable) -> Result<StoredTable> {
        self.fs.rename(from, FileName::Stored(table))?;
        self.there.insert(table);
        Ok(table)
    }

    /// Removes what nobody can need: half-written files, and tables that neither `points` nor one of
    /// `wanted` name. Without `points`, where one cannot be read, no table goes.
    ///
    /// # Errors
    /// What the file system says; nothing was removed before the names of all records were durable.
    pub(super) fn sweep(
        &mut self,
        points: Option<&[Point]>,
        wanted: &[Arc<TableEntry>],
    ) -> Result<()> {
        // A record that was removed must not come back to tables that are gone (B2).
        self.fs.sync_dir()?;
        let mut kept: BTreeSet<StoredTable> = match points {
            Some(points) => points
                .iter()
                .flat_map(|point| point.tables().map(|(_, table)| table))
                .collect(),
            None => self.there.clone(),
        };
        for table in wanted {
            kept.extend(self.candidates(table.meta()));
        }
        let before = self.there.len();
        for entry in self.fs.list()? {
            match FileName::parse_in_backups(&entry.name) {
                Some(FileName::Stored(table)) if !kept.contains(&table) => {
                    remove_if_there(self.fs, FileName::Stored(table))?;
                    self.there.remove(&table);
                }
                Some(name @ (FileName::Temp(_) | FileName::Table(_))) => {
                    remove_if_there(self.fs, name)?;
                }
                _ => {}
            }
        }
        match self.there.len() < before {
            true => self.fs.sync_dir(),
            false => Ok(()),
        }
    }
}

fn tail_of(file: &File) -> Result<Vec<u8>> {
    let len = file.len()?;
    let tail_bytes = len.min(TAIL_BYTES);
    let mut tail = vec![0; tail_bytes as usize];
    file.read_exact_at(&mut tail, len - tail_bytes)?;
    Ok(tail)
}

/// The checksum of all bytes of a file.
///
/// # Errors
/// What the file system says.
pub(super) fn checksum(file: &File) -> Result<u32> {
    carry::read(file, |_, _| Ok(()))
}

/// Opens a stored table.
///
/// # Errors
/// `Corruption` when it is missing or of another size.
pub(super) fn open(fs: &Fs, table: StoredTable) -> Result<File> {
    let name = FileName::Stored(table);
    let file = fs.open_read(name).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::corruption("table of a backup that is missing")
            .at(fs.path(name))
            .caused_by(error),
        _ => error,
    })?;
    let found = file.len()?;
    if found != table.bytes {
        return Err(Error::corruption("table of a backup of the wrong size")
            .at(file.path())
            .offset_at(found.min(table.bytes))
            .expected(format!("{} bytes", table.bytes), format!("{found} bytes")));
    }
    Ok(file)
}

/// Fails when the bytes with checksum `found` are not those that were stored: at the place of the
/// damage, if the table itself can tell.
///
/// # Errors
/// `Corruption` with file and offset.
pub(super) fn compare(fs: &Fs, meta: &FileMeta, table: StoredTable, found: u32) -> Result<()> {
    if found == table.checksum {
        return Ok(());
    }
    let name = FileName::Stored(table);
    match carry::verify(fs, name, meta) {
        Err(damage) if damage.kind() == ErrorKind::Corruption => Err(damage),
        _ => Err(Error::corruption("table of a backup that has changed")
            .at(fs.path(name))
            .offset_at(0)
            .expected(
                format!("checksum {:08x}", table.checksum),
                format!("checksum {found:08x}"),
            )),
    }
}

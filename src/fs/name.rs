//! The names of a database's files: a number and a kind, never a path (P20).
//!
//! ```text
//! LOCK  CURRENT  BALLAST  000007.manifest  000007.log  000007.tbl  000007.tmp
//! UNFINISHED                 a copy that is being made: no database yet
//! BACKUPS  000001.point      in a directory of backups, and the tables that they share:
//! 00000000000000f1-000007-4096-1d2c3b4a.tbl
//! ```
//!
//! Numbers are decimal, padded with zeros to six digits and longer when they need to be.
//! `parse` accepts exactly what `Display` writes, so that `7.log`, `0000007.log` or `000007.LOG`
//! are somebody else's files and stay untouched (P5).

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use crate::base::types::FileId;
use std::fmt;

/// The name of a file of the database: a number and a kind, never a path (P20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// `LOCK`
    Lock,
    /// `CURRENT`
    Current,
    /// `BALLAST`
    Ballast,
    /// `000007.manifest`
    Manifest(FileId),
    /// `000007.log`
    Log(FileId),
    /// `000007.tbl`
    Table(FileId),
    /// `000007.tmp`
    Temp(FileId),
    /// `UNFINISHED`: beside it there is no database while there is no `CURRENT`.
    Unfinished,
    /// `BACKUPS`: the directory holds backups.
    Backups,
    /// `000001.point`: one point in time of a directory of backups.
    Point(FileId),
    /// A table in a directory of backups.
    Stored(StoredTable),
}

/// A table in a directory of backups; its name binds what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredTable {
    /// The database that wrote it.
    pub database: u64,
    /// The number it was written under.
    pub file: FileId,
    /// Size of the file.
    pub bytes: u64,
    /// Checksum of the whole file.
    pub checksum: u32,
}

const DIGITS_MIN: usize = 6;

impl FileName {
    /// The name that `text` is in the directory of a database, or `None` when the engine would
    /// never write it there.
    pub fn parse(text: &str) -> Option<FileName> {
        match text {
            "LOCK" => return Some(FileName::Lock),
            "CURRENT" => return Some(FileName::Current),
            "BALLAST" => return Some(FileName::Ballast),
            "UNFINISHED" => return Some(FileName::Unfinished),
            _ => {}
        }
        let (digits, kind) = text.split_once('.')?;
        let make = match kind {
            "manifest" => FileName::Manifest,
            "log" => FileName::Log,
            "tbl" => FileName::Table,
            "tmp" => FileName::Temp,
            _ => return None,
        };
        parse_number(digits).map(|n| make(FileId(n)))
    }

    /// The name that `text` is in a directory of backups.
    pub fn parse_in_backups(text: &str) -> Option<FileName> {
        match text {
            "LOCK" => return Some(FileName::Lock),
            "BACKUPS" => return Some(FileName::Backups),
            _ => {}
        }
        let (name, kind) = text.split_once('.')?;
        let id = || parse_number(name).map(FileId);
        match kind {
            "point" => id().map(FileName::Point),
            "tmp" => id().map(FileName::Temp),
            "tbl" => id().map(FileName::Table).or_else(|| {
                let stored = FileName::Stored(StoredTable::parse(name)?);
                // One spelling only, as for all names.
                (stored.to_string() == text).then_some(stored)
            }),
            _ => None,
        }
    }

    /// The number in the name, if it has one.
    pub fn id(self) -> Option<FileId> {
        match self {
            FileName::Lock
            | FileName::Current
            | FileName::Ballast
            | FileName::Unfinished
            | FileName::Backups
            | FileName::Stored(_) => None,
            FileName::Manifest(id)
            | FileName::Log(id)
            | FileName::Table(id)
            | FileName::Temp(id)
            | FileName::Point(id) => Some(id),
        }
    }
}

impl FileName {
    /// A name for a damaged file that is kept and no longer ours; `n` from 1 upwards.
    pub fn aside(self, n: u32) -> String {
        match n {
            1 => format!("{self}.damaged"),
            n => format!("{self}.damaged-{n}"),
        }
    }
}

impl StoredTable {
    fn parse(name: &str) -> Option<StoredTable> {
        let mut parts = name.split('-');
        let stored = StoredTable {
            database: u64::from_str_radix(parts.next()?, 16).ok()?,
            file: FileId(parse_number(parts.next()?)?),
            bytes: parts.next()?.parse().ok()?,
            checksum: u32::from_str_radix(parts.next()?, 16).ok()?,
        };
        parts.next().is_none().then_some(stored)
    }
}

fn parse_number(digits: &str) -> Option<u64> {
    let canonical = digits.bytes().all(|b| b.is_ascii_digit())
        && (digits.len() == DIGITS_MIN || (digits.len() > DIGITS_MIN && !digits.starts_with('0')));
    if canonical { digits.parse().ok() } else { None }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileName::Lock => f.write_str("LOCK"),
            FileName::Current => f.write_str("CURRENT"),
            FileName::Ballast => f.write_str("BALLAST"),
            FileName::Manifest(id) => write!(f, "{id}.manifest"),
            FileName::Log(id) => write!(f, "{id}.log"),
            FileName::Table(id) => write!(f, "{id}.tbl"),
            FileName::Temp(id) => write!(f, "{id}.tmp"),
            FileName::Unfinished => f.write_str("UNFINISHED"),
            FileName::Backups => f.write_str("BACKUPS"),
            FileName::Point(id) => write!(f, "{id}.point"),
            FileName::Stored(table) => write!(
                f,
                "{:016x}-{}-{}-{:08x}.tbl",
                table.database, table.file, table.bytes, table.checksum
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_a_number_of_six_or_more_digits_and_a_kind() {
        let cases = [
            (FileName::Lock, "LOCK"),
            (FileName::Ballast, "BALLAST"),
            (FileName::Unfinished, "UNFINISHED"),
            (FileName::Current, "CURRENT"),
            (FileName::Manifest(FileId(7)), "000007.manifest"),
            (FileName::Log(FileId(0)), "000000.log"),
            (FileName::Table(FileId(999_999)), "999999.tbl"),
            (FileName::Table(FileId(1_000_000)), "1000000.tbl"),
            (FileName::Temp(FileId(u64::MAX)), "18446744073709551615.tmp"),
        ];
        for (name, text) in cases {
            assert_eq!(name.to_string(), text);
            assert_eq!(FileName::parse(text), Some(name));
        }
    }

    #[test]
    fn names_that_the_engine_never_writes_are_not_ours() {
        for text in [
            "",
            ".",
            "..",
            "lock",
            "LOCK ",
            "CURRENT.tmp",
            "7.log",
            "00007.log",
            "0000007.log",
            "0999999.log",
            "18446744073709551616.log",
            "+00007.log",
            "-00007.log",
            "00000７.log",
            "000007",
            "000007.",
            "000007.LOG",
            "000007.log.1",
            "000007..log",
            "../000007.log",
            "000007.sst",
            " 000007.log",
            "000007.log\n",
            "000007.log\0",
        ] {
            assert_eq!(FileName::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_names_of_backups_are_known_among_backups_only() {
        let stored = |database, file, bytes, checksum| {
            FileName::Stored(StoredTable {
                database,
                file: FileId(file),
                bytes,
                checksum,
            })
        };
        let cases = [
            (FileName::Backups, "BACKUPS"),
            (FileName::Point(FileId(1)), "000001.point"),
            (
                stored(0xf1, 7, 4096, 0x1d2c_3b4a),
                "00000000000000f1-000007-4096-1d2c3b4a.tbl",
            ),
            (
                stored(u64::MAX, u64::MAX, u64::MAX, 0),
                "ffffffffffffffff-18446744073709551615-18446744073709551615-00000000.tbl",
            ),
        ];
        for (name, text) in cases {
            assert_eq!(name.to_string(), text);
            assert_eq!(FileName::parse_in_backups(text), Some(name));
            assert_eq!(FileName::parse(text), None, "{text}");
        }
        for text in [
            "f1-000007-4096-1d2c3b4a.tbl",
            "00000000000000F1-000007-4096-1d2c3b4a.tbl",
            "00000000000000f1-7-4096-1d2c3b4a.tbl",
            "00000000000000f1-000007-04096-1d2c3b4a.tbl",
            "00000000000000f1-000007-4096-1d2c3b4a-0.tbl",
            "00000000000000f1-000007-4096.tbl",
            "+0000000000000f1-000007-4096-1d2c3b4a.tbl",
            "CURRENT",
            "000007.manifest",
            "1.point",
        ] {
            assert_eq!(FileName::parse_in_backups(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_reads_exactly_what_display_writes(text in "[0-9]{0,21}\\.(log|tbl|tmp|manifest|x)|\\PC*") {
            if let Some(name) = FileName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn every_number_comes_back(n: u64) {
            for name in [FileName::Manifest(FileId(n)), FileName::Log(FileId(n))] {
                prop_assert_eq!(FileName::parse(&name.aside(1)), None);
                prop_assert_eq!(FileName::parse(&name.aside(2)), None);
                prop_assert_eq!(FileName::parse(&name.to_string()), Some(name));
            }
        }
    }
}

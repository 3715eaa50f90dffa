//! Versions as text: one line a run, newest first, as specifications write and read them.
//!
//! ```text
//! L0.9 a-m:64K
//! L0.3 a-b:64K e-e:1K t=10
//! L2.1 a-d:1M n=5000 #17
//! ```
//! A line is a level, the run's order, and its tables: smallest and largest key, file size. Behind
//! a table may stand its tombstones `t=`, its entries `n=` (default: one for each 64 bytes), those that
//! expire and when half of them have `e=30@1000`, and its file number `#` (default: the next one
//! free). Display writes the same, without `n=` and `#`.
//!
//! Not here: files. A sketched table cannot be opened.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::file_meta::{FileMeta, TableEntry};
use super::version::Version;
use crate::base::error::{Error, Result};
use crate::base::types::{FileId, SeqNo, Time};
use crate::table::{BirthIdentity, Expiring, TableSummary};
use std::fmt;

impl Version {
    /// Reads a version from its text. For specifications: its tables have no files.
    ///
    /// # Errors
    /// `InvalidArgument` naming the line that is not understood, or the tables that overlap.
    #[doc(hidden)]
    pub fn parse(text: &str) -> Result<Version> {
        let mut tables: Vec<(u8, u64, FileMeta)> = Vec::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            parse_line(line, &mut tables).ok_or_else(|| {
                Error::invalid(format!("line `{line}` is not a sketch of a run"))
                    .expected("L<level>.<order> <smallest>-<largest>:<size> …", "it")
            })?;
        }
        Version::of(
            tables
                .into_iter()
                .map(|(level, order, meta)| (level, order, TableEntry::sketched(meta))),
        )
    }
}

fn parse_line(line: &str, tables: &mut Vec<(u8, u64, FileMeta)>) -> Option<()> {
    let mut words = line.split_whitespace();
    let (level, order) = words.next()?.strip_prefix('L')?.split_once('.')?;
    let (level, order) = (level.parse().ok()?, order.parse().ok()?);
    let before = tables.len();
    for word in words {
        let last = if before < tables.len() {
            tables.last_mut()
        } else {
            None
        };
        if let Some(count) = word.strip_prefix("t=") {
            let summary = &mut last?.2.summary;
            summary.tombstones = count.parse().ok()?;
            summary.entries = summary.entries.max(summary.tombstones);
        } else if let Some(count) = word.strip_prefix("n=") {
            last?.2.summary.entries = count.parse().ok()?;
        } else if let Some(expiring) = word.strip_prefix("e=") {
            let (entries, half_at) = expiring.split_once('@')?;
            last?.2.summary.expiring = Expiring {
                entries: entries.parse().ok()?,
                half_at: Time(half_at.parse().ok()?),
            };
        } else if let Some(number) = word.strip_prefix('#') {
            let meta = &mut last?.2;
            meta.file = FileId(number.parse().ok()?);
            meta.identity.file = meta.file;
        } else {
            let (keys, size) = word.rsplit_once(':')?;
            let (smallest, largest) = keys.split_once('-')?;
            let newest = tables.iter().map(|t| t.2.file.0).max();
            let next = newest.unwrap_or(0).checked_add(1)?;
            tables.push((
                level,
                order,
                sketch(next, smallest, largest, parse_size(size)?),
            ));
        }
    }
    Some(())
}

fn sketch(file: u64, smallest: &str, largest: &str, bytes: u64) -> FileMeta {
    let file = FileId(file);
    FileMeta {
        file,
        identity: BirthIdentity {
            database: 1,
            file,
            hash_seed: 1,
        },
        summary: TableSummary {
            bytes,
            entries: (bytes / 64).max(1),
            tombstones: 0,
            raw_bytes: bytes,
            smallest: smallest.into(),
            largest: largest.into(),
            seqnos: (SeqNo::new(1), SeqNo::new(1)),
            expiring: Expiring::default(),
        },
        deleted_through: SeqNo::ZERO,
    }
}

const UNITS: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

fn parse_size(text: &str) -> Option<u64> {
    for (letter, unit) in UNITS {
        if let Some(count) = text.strip_suffix(letter) {
            return count.parse::<u64>().ok()?.checked_mul(unit);
        }
    }
    text.parse().ok()
}

struct Size(u64);

impl fmt::Display for Size {
    #[expect(clippy::arithmetic_side_effects, reason = "no unit is 0")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, unit): &(char, u64)| self.0 != 0 && self.0.is_multiple_of(*unit);
        match UNITS.into_iter().find(whole) {
            Some((letter, unit)) => write!(f, "{}{letter}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (level, runs) in self.levels.iter().enumerate() {
            for run in runs {
                write!(f, "L{level}.{}", run.order)?;
                for table in run.tables.iter() {
                    let summary = &table.meta().summary;
                    write!(
                        f,
                        " {}-{}:{}",
                        summary.smallest.escape_ascii(),
                        summary.largest.escape_ascii(),
                        Size(summary.bytes)
                    )?;
                    if summary.tombstones != 0 {
                        write!(f, " t={}", summary.tombstones)?;
                    }
                    let Expiring { entries, half_at } = summary.expiring;
                    if entries != 0 {
                        write!(f, " e={entries}@{}", half_at.0)?;
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

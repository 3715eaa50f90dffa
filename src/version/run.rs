//! A sorted run: tables in key order of which at most one may hold a given key.
//!
//! Besides its tables a run keeps a dense array of 16-byte heads, of the smallest and of the
//! largest key of each, taken behind the prefix that all keys of the run share. A search is a
//! binary search in it; only equal heads need the keys themselves.
//!
//! Invariants (checked when a run is made): at least one table; each table's smallest key is at or
//! before its largest; each table's largest is before the next one's smallest.
//! Threads: immutable, shared. Not here: levels (`version`).

use super::file_meta::TableEntry;
use crate::base::error::{Error, Result};
use crate::base::key::{common_prefix, head16};
use crate::base::ranges::{HalfOpen, is_before};
use crate::base::sync::Arc;

/// Tables in key order whose user-key ranges do not touch: all versions of a key are in one table.
#[derive(Clone, Debug)]
pub struct SortedRun {
    /// Within a level a larger order is newer.
    pub order: u64,
    /// Ascending. Shared, because most edits leave most runs alone.
    pub tables: Arc<[Arc<TableEntry>]>,
    /// What every key of the run starts with.
    prefix: Arc<[u8]>,
    /// As many as tables.
    heads: Arc<[Heads]>,
}

/// Heads of a table's smallest and largest keys, behind the run's prefix.
#[derive(Clone, Copy, Debug)]
struct Heads {
    smallest: u128,
    largest: u128,
}

/// Where a key stands to a run's common prefix.
enum Standing<'k> {
    Before,
    Behind,
    /// The key without the prefix.
    Within(&'k [u8]),
}

impl SortedRun {
    /// Makes a run of `tables`, given in any order.
    ///
    /// # Errors
    /// `InvalidArgument` when there are none, or two of them overlap.
    pub fn new(order: u64, mut tables: Vec<Arc<TableEntry>>) -> Result<SortedRun> {
        tables.sort_by(|a, b| smallest(a).cmp(smallest(b)));
        let (Some(first), Some(last)) = (tables.first(), tables.last()) else {
            return Err(Error::invalid(format!("run {order} has no tables")));
        };
        if let Some(table) = tables.iter().find(|t| largest(t) < smallest(t)) {
            return Err(Error::invalid(format!(
                "table {} ends before it starts",
                table.meta().file
            )));
        }
        if let Some(pair) = tables
            .windows(2)
            .find(|pair| smallest(&pair[1]) <= largest(&pair[0]))
        {
            return Err(Error::invalid(format!(
                "tables {} and {} of run {order} overlap",
                pair[0].meta().file,
                pair[1].meta().file
            )));
        }
        // Whatever lies between two keys starts with what the two share.
        let shared = common_prefix(smallest(first), largest(last));
        let prefix: Arc<[u8]> = smallest(first)[..shared].into();
        Ok(SortedRun {
            order,
            heads: tables
                .iter()
                .map(|t| Heads {
                    smallest: head16(&smallest(t)[shared..]),
                    largest: head16(&largest(t)[shared..]),
                })
                .collect(),
            prefix,
            tables: tables.into(),
        })
    }

    #[inline]
    fn standing<'k>(&self, key: &'k [u8]) -> Standing<'k> {
        if self.prefix.is_empty() {
            return Standing::Within(key);
        }
        match key.strip_prefix(&*self.prefix) {
            Some(rest) => Standing::Within(rest),
            None if key < &*self.prefix => Standing::Before,
            None => Standing::Behind,
        }
    }

    /// The one table that may hold `key`. A binary search of integers; two if heads are equal.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<&Arc<TableEntry>> {
        let Standing::Within(rest) = self.standing(key) else {
            return None;
        };
        let head = head16(rest);
        let index = self.lower_bound_of_head(head);
        let heads = self.heads.get(index)?;
        if heads.smallest < head && head < heads.largest {
            return self.tables.get(index);
        }
        self.find_by_key(head, key)
    }

    /// As `find`, where the heads do not tell.
    #[inline(never)]
    fn find_by_key(&self, head: u128, key: &[u8]) -> Option<&Arc<TableEntry>> {
        let table = self.tables.get(self.lower_bound_within(head, key))?;
        (smallest(table) <= key).then_some(table)
    }

    /// Index of the first table whose largest key is at or after `key` (`tables.len()` if none).
    #[inline]
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        match self.standing(key) {
            Standing::Before => 0,
            Standing::Behind => self.tables.len(),
            Standing::Within(rest) => self.lower_bound_within(head16(rest), key),
        }
    }

    #[inline]
    fn lower_bound_of_head(&self, head: u128) -> usize {
        self.heads.partition_point(|heads| heads.largest < head)
    }

    #[inline]
    fn lower_bound_within(&self, head: u128, key: &[u8]) -> usize {
        let index = self.lower_bound_of_head(head);
        let ties = self.heads[index..].partition_point(|heads| heads.largest == head);
        index + self.tables[index..index + ties].partition_point(|t| largest(t) < key)
    }

    /// The tables that may hold a key of `from..=to`, `None` for an open side.
    pub fn overlapping(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> &[Arc<TableEntry>] {
        let start = from.map_or(0, |from| self.lower_bound(from));
        let behind = &self.tables[start..];
        let count = to.map_or(behind.len(), |to| {
            behind.partition_point(|t| smallest(t) <= to)
        });
        &behind[..count]
    }

    /// The tables that may hold a key of `range`.
    pub fn within(&self, range: &HalfOpen) -> &[Arc<TableEntry>] {
        let behind = &self.tables[self.lower_bound(&range.start)..];
        let end = range.end.as_deref();
        &behind[..behind.partition_point(|table| is_before(smallest(table), end))]
    }

    /// Bytes of all tables that no running compaction has merged yet.
    pub fn bytes_unmerged(&self) -> u64 {
        sum(self.tables.iter().map(|t| t.bytes_unmerged()))
    }

    /// The share of the run that no running compaction has merged yet: 1 for most.
    pub fn share_unmerged(&self) -> f64 {
        self.bytes_unmerged() as f64 / self.bytes().max(1) as f64
    }

    /// Sum of file sizes, in bytes.
    pub fn bytes(&self) -> u64 {
        sum(self.tables.iter().map(|t| t.meta().summary.bytes))
    }

    /// Entries of all kinds and versions.
    pub fn entries(&self) -> u64 {
        sum(self.tables.iter().map(|t| t.meta().summary.entries))
    }

    /// Deletions among the entries.
    pub fn tombstones(&self) -> u64 {
        sum(self.tables.iter().map(|t| t.meta().summary.tombstones))
    }
}

/// The counts come from a file: a hostile one must not overflow the sum.
fn sum(parts: impl Iterator<Item = u64>) -> u64 {
    parts.fold(0, u64::saturating_add)
}

#[inline]
fn smallest(table: &TableEntry) -> &[u8] {
    &table.meta().summary.smallest
}

#[inline]
fn largest(table: &TableEntry) -> &[u8] {
    &table.meta().summary.largest
}

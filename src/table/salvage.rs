//! What can be read of a damaged table, block after block.
//!
//! A block checks by itself: its checksum is bound to the table's identity and to its place. With a
//! good index the blocks are those it lists. Without one they are looked for: they lie one behind
//! the other from the file's start, so the end of each is the first place where its checksum
//! matches. Only entries that ascend are given.
//!
//! Invariants: nothing is given that does not check; memory stays within the file and one block.
//! The search is bounded (P19), however damaged the file is. Not here: what becomes of the entries.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::block::Layout;
use super::compression::decompress;
use super::format::{
    FOOTER_BYTES, Footer, Section, Sections, TRAILER_BYTES, bound_checksum, check_block,
    place_bytes,
};
use super::index::Index;
use super::properties::Properties;
use super::reader::Table;
use super::{BirthIdentity, TableSummary};
use crate::base::checksum::RunningCrc;
use crate::base::error::{Error, REPAIR_TABLE, Result};
use crate::base::key::compare;
use crate::base::options::Compression;
use crate::base::slice::Pin;
use crate::base::types::{KeyspaceId, SeqNo, Tag};
use crate::fs::{File, Region};
use std::ops::Range;

/// Plain blocks begin at multiples of the smallest block there is.
const PLAIN_STEP: usize = 256;
/// The search for blocks reads so many times the file's bytes at most, and this much more.
const SEARCH_FACTOR: u64 = 64;
const SEARCH_BYTES: u64 = 1 << 30;

/// What a table says of itself, as far as its properties can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableFacts {
    /// The keyspace it was written for; `None` for tables of a version that did not say.
    pub keyspace: Option<KeyspaceId>,
    /// Smallest block, in bytes.
    pub block_bytes: u32,
    /// Filter bits for each key.
    pub filter_bits_per_key: u32,
    /// The highest sequence number in it.
    pub seqno_max: SeqNo,
    /// Entries in it.
    pub entries: u64,
}

/// The last key before a lost stretch and the first behind it, where there are such.
pub type Neighbours = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A stretch of a table that cannot be read.
#[derive(Clone, Debug)]
pub struct LostPart {
    /// What it is.
    pub what: &'static str,
    /// Where it lies.
    pub range: Range<u64>,
    /// The last key before it and the first behind it, when it held keys.
    pub keys: Option<Neighbours>,
}

/// What [`salvage`] found beside the entries.
#[derive(Clone, Debug, Default)]
pub struct SalvagedTable {
    /// From its properties, if those can be read.
    pub facts: Option<TableFacts>,
    /// Entries given.
    pub entries: u64,
    /// What was lost, in the order of the file.
    pub lost: Vec<LostPart>,
}

/// The identity in the table's footer.
///
/// # Errors
/// `Corruption` when the file does not end as a table does, `Unsupported` for a newer format.
pub fn stated_identity(file: &File) -> Result<(BirthIdentity, u64)> {
    let len = file.len()?;
    let short = || {
        Error::corruption("file too short for a table")
            .at(file.path())
            .advice(REPAIR_TABLE)
    };
    let at = len.checked_sub(FOOTER_BYTES as u64).ok_or_else(short)?;
    let mut footer = [0; FOOTER_BYTES];
    file.read_exact_at(&mut footer, at)?;
    let footer = Footer::decode(&footer, at).map_err(|error| error.at(file.path()))?;
    Ok((footer.identity, footer.file_bytes))
}

impl Table {
    /// What its properties say.
    ///
    /// # Errors
    /// `Corruption` when they are damaged.
    pub fn facts(&self) -> Result<TableFacts> {
        super::verify::read_properties(self).map(|properties| facts_of(&properties))
    }

    /// What a manifest would say of it, from its properties.
    ///
    /// # Errors
    /// `Corruption` when they are damaged.
    pub fn summary(&self) -> Result<TableSummary> {
        let properties = super::verify::read_properties(self)?;
        Ok(TableSummary {
            bytes: self.bytes(),
            entries: properties.entries,
            tombstones: properties.tombstones,
            raw_bytes: properties.key_bytes.saturating_add(properties.value_bytes),
            smallest: properties.smallest,
            largest: properties.largest,
            seqnos: (properties.seqno_min, properties.seqno_max),
            expiring: properties.expiring,
        })
    }
}

fn facts_of(properties: &Properties) -> TableFacts {
    let small = |n: u64| u32::try_from(n).unwrap_or(0);
    TableFacts {
        keyspace: properties.keyspace,
        block_bytes: small(properties.block_bytes),
        filter_bits_per_key: small(properties.filter_bits_per_key),
        seqno_max: properties.seqno_max,
        entries: properties.entries,
    }
}

/// The bytes of a damaged table, and what is known of them.
struct Damaged<'a> {
    bytes: &'a [u8],
    identity: &'a BirthIdentity,
    sections: Option<Sections>,
}

/// Gives every entry that can be read to `take`, in ascending order. `expected` is how many the
/// table held, where its properties cannot say it: zeros behind the last block are padding only
/// when nothing is missing.
///
/// # Errors
/// What reading the file or `take` gives; damage is no error.
pub fn salvage(
    file: &File,
    identity: &BirthIdentity,
    expected: Option<u64>,
    mut take: impl FnMut(&[u8], Tag, &[u8]) -> Result<()>,
) -> Result<SalvagedTable> {
    let len = file.len()?;
    let region = match len {
        0 => Region::from_vec(Vec::new()),
        _ => file.map(len).or_else(|_| file.read_region(len))?,
    };
    let bytes = region.bytes();
    let table = Damaged {
        bytes,
        identity,
        sections: sections_of(bytes, identity),
    };
    let mut out = SalvagedTable::default();
    let properties = table.properties(&mut out.lost);
    out.facts = properties.as_ref().map(facts_of);
    let mut walk = Walk {
        table: &table,
        take: &mut take,
        last: None,
        gap: None,
        lost: &mut out.lost,
        entries: 0,
        expected: properties.map(|p| p.entries).or(expected),
    };
    match table.spans() {
        Some(spans) => {
            for span in spans {
                walk.block(span)?;
            }
            walk.end_gap(None);
        }
        None => walk.search()?,
    }
    out.entries = walk.entries;
    out.lost.sort_by_key(|part| part.range.start);
    Ok(out)
}

fn sections_of(bytes: &[u8], identity: &BirthIdentity) -> Option<Sections> {
    let at = bytes.len().checked_sub(FOOTER_BYTES)?;
    let footer = Footer::decode(bytes.last_chunk()?, at as u64).ok()?;
    let start = usize::try_from(footer.sections_offset).ok()?;
    let rows = bytes.get(start..at)?;
    let found = bound_checksum(identity, footer.sections_offset, rows);
    if footer.identity != *identity || found != footer.sections_checksum {
        return None;
    }
    Sections::decode(rows, footer.sections_offset).ok()
}

impl<'a> Damaged<'a> {
    fn section(&self, section: &Section) -> Option<&'a [u8]> {
        let start = usize::try_from(section.offset).ok()?;
        let end = start.checked_add(usize::try_from(section.len).ok()?)?;
        let bytes = self.bytes.get(start..end)?;
        let found = bound_checksum(self.identity, section.offset, bytes);
        (found == section.checksum).then_some(bytes)
    }

    fn properties(&self, lost: &mut Vec<LostPart>) -> Option<Properties> {
        let Some(sections) = &self.sections else {
            let end = self.bytes.len() as u64;
            lost.push(LostPart {
                what: "footer or section table",
                range: end.saturating_sub(FOOTER_BYTES as u64)..end,
                keys: None,
            });
            return None;
        };
        let mut broken = |section: &Section, what| {
            lost.push(LostPart {
                what,
                // `Sections::decode` found the sum inside the file.
                range: section.offset..section.offset.saturating_add(section.len),
                keys: None,
            });
        };
        if let Some(filter) = &sections.filter
            && self.section(filter).is_none()
        {
            broken(filter, "filter");
        }
        if self.section(&sections.index).is_none() {
            broken(&sections.index, "index");
        }
        let properties = self.section(&sections.properties);
        let properties = properties.and_then(Properties::decode);
        if properties.is_none() {
            broken(&sections.properties, "properties");
        }
        properties
    }

    /// The blocks, from a good index.
    fn spans(&self) -> Option<Vec<Range<usize>>> {
        let section = self.section(&self.sections.as_ref()?.index)?;
        let index = Index::decode(section)?;
        let span = |i| {
            let (offset, len) = index.span(section, i)?;
            let start = usize::try_from(offset).ok()?;
            Some(start..start.checked_add(len)?)
        };
        (0..index.count()).map(span).collect()
    }

    /// Where the blocks end at the latest.
    fn blocks_end(&self) -> usize {
        let Some(sections) = &self.sections else {
            return self.bytes.len();
        };
        let filter = sections.filter.iter().map(|filter| filter.offset);
        let first = filter.chain([sections.index.offset, sections.properties.offset]);
        first.min().unwrap_or(0) as usize
    }

    /// The body of a block that checks.
    fn body(&self, span: &Range<usize>) -> Option<Vec<u8>> {
        let stored = self.bytes.get(span.clone())?;
        let codec = check_block(self.identity, span.start as u64, stored).ok()?;
        let body = stored.get(..stored.len().checked_sub(TRAILER_BYTES)?)?;
        match codec {
            0 => Some(body.to_vec()),
            codec => decompress(codec, body).ok(),
        }
    }

    /// The end of the block that begins at `start`: the first multiple of `step` behind it where
    /// the checksum matches. `budget` is what may still be read.
    fn end_of_block(
        &self,
        start: usize,
        end: usize,
        step: usize,
        budget: &mut u64,
    ) -> Option<usize> {
        let mut crc = RunningCrc::default();
        crc.update(&place_bytes(self.identity, start as u64));
        let mut covered = start;
        let mut candidate = start.checked_add(step.max(TRAILER_BYTES + 1))?;
        while candidate <= end && 0 < *budget {
            let uncovered = self.bytes.get(covered..candidate)?;
            let (uncovered, stored) = uncovered.split_last_chunk::<4>()?;
            crc.update(uncovered);
            *budget = budget.saturating_sub(uncovered.len() as u64);
            covered = candidate.checked_sub(stored.len())?;
            // The codec first: it rules out nearly all places.
            let codec = *uncovered.last()?;
            if Compression::from_byte(codec).is_some()
                && crc.masked() == u32::from_le_bytes(*stored)
            {
                return Some(candidate);
            }
            candidate = candidate.checked_add(step)?;
        }
        None
    }
}

struct Walk<'w, 'a, F> {
    table: &'w Damaged<'a>,
    take: &'w mut F,
    last: Option<(Vec<u8>, Tag)>,
    /// Unreadable since here.
    gap: Option<Range<usize>>,
    lost: &'w mut Vec<LostPart>,
    entries: u64,
    expected: Option<u64>,
}

impl<F: FnMut(&[u8], Tag, &[u8]) -> Result<()>> Walk<'_, '_, F> {
    /// Gives the entries of a block, or widens the gap.
    fn block(&mut self, span: Range<usize>) -> Result<()> {
        let body = self.table.body(&span);
        let Some((body, layout)) = body.and_then(|b| Layout::parse(&b).map(|l| (b, l))) else {
            let start = self.gap.take().map_or(span.start, |gap| gap.start);
            self.gap = Some(start..span.end);
            return Ok(());
        };
        let prefix = layout.prefix(&body);
        let mut key = Vec::new();
        for i in 0..layout.count() {
            let Some(entry) = layout.entry(&body, i) else {
                let start = self.gap.take().map_or(span.start, |gap| gap.start);
                self.gap = Some(start..span.end);
                return Ok(());
            };
            key.clear();
            key.extend_from_slice(prefix);
            key.extend_from_slice(entry.suffix);
            self.end_gap(Some(&key));
            let ascends =
                |(last, tag): &(Vec<u8>, Tag)| compare(last, *tag, &key, entry.tag).is_lt();
            if self.last.as_ref().is_none_or(ascends) {
                (self.take)(&key, entry.tag, entry.value)?;
                self.entries = self.entries.saturating_add(1); // each has bytes of its own
                self.last = Some((key.clone(), entry.tag));
            }
        }
        Ok(())
    }

    fn end_gap(&mut self, behind: Option<&[u8]>) {
        let Some(gap) = self.gap.take() else { return };
        let before = self.last.as_ref().map(|(key, _)| key.clone());
        self.lost.push(LostPart {
            what: "block",
            range: gap.start as u64..gap.end as u64,
            keys: Some((before, behind.map(<[u8]>::to_vec))),
        });
    }

    /// Looks for the blocks one behind the other.
    fn search(&mut self) -> Result<()> {
        let end = self.table.blocks_end();
        let len = self.table.bytes.len() as u64;
        let mut budget = len
            .saturating_mul(SEARCH_FACTOR)
            .saturating_add(SEARCH_BYTES);
        let found = self.search_by(PLAIN_STEP, end, &mut budget)?;
        if !found {
            self.gap = None;
            self.search_by(1, end, &mut budget)?;
        }
        // With sections zeros up to the end are padding, unless an entry is missing.
        let known = self.table.sections.is_some();
        let is_missing = self.expected.is_some_and(|n| self.entries < n);
        if let Some(gap) = self.gap.take() {
            let padding = self.table.bytes.get(gap.clone()).unwrap_or(&[]);
            if is_missing || !(known && padding.iter().all(|b| *b == 0)) {
                self.gap = Some(gap);
                self.end_gap(None);
            }
        }
        Ok(())
    }

    fn search_by(&mut self, step: usize, end: usize, budget: &mut u64) -> Result<bool> {
        let (mut at, mut found) = (0, false);
        while at < end && 0 < *budget {
            match self.table.end_of_block(at, end, step, budget) {
                Some(block_end) => {
                    self.block(at..block_end)?;
                    found = true;
                    at = block_end;
                }
                None => {
                    let start = self.gap.take().map_or(at, |gap| gap.start);
                    at = at.saturating_add(step);
                    self.gap = Some(start..at.min(end));
                }
            }
        }
        if at < end {
            let start = self.gap.take().map_or(at, |gap| gap.start);
            self.gap = Some(start..end);
        }
        Ok(found)
    }
}

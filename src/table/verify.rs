//! Reads a whole table and compares everything that can be compared; the first damage is the answer.
//!
//! Checks what reading takes on trust: that keys ascend within blocks and across them, that
//! separators, fingerprints, heads and filter agree with the keys, and that the counts are right.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::block::Layout;
use super::expiring::Expiries;
use super::filter::Filter;
use super::index::{Index, separator_tag};
use super::properties::Properties;
use super::reader::{Access, Table};
use super::sections::Loaded;
use crate::base::error::{Error, REPAIR_TABLE, Result};
use crate::base::key::compare;
use crate::base::types::{SeqNo, Tag, ValueKind};

/// See [`Table::verify_with`].
pub(super) fn verify(table: &Table, read: &dyn Fn(u64) -> Result<()>) -> Result<()> {
    let sections = &table.sections;
    let (mut index, mut known) = (None, None);
    let index = table.index_for(Access::Rewrite, &mut index)?;
    if let Some(filter) = &sections.filter {
        table.load(filter, true, "corrupt filter")?;
    }
    let stored = read_properties(table)?;
    let mut walk = Walk::new(table, index, table.filter(&mut known));
    for i in 0..index.decoded.count() {
        read(walk.block(i)?)?;
    }
    walk.found.blocks = index.decoded.count() as u64;
    walk.compare_with(&stored)
}

pub(super) fn read_properties(table: &Table) -> Result<Properties> {
    let section = &table.sections.properties;
    let (region, range) = table.load(section, true, "corrupt properties")?;
    let bytes = region.block(range.start as u64, range.len())?;
    Properties::decode(bytes)
        .ok_or_else(|| table.damaged("properties that cannot be decoded", section.offset))
}

struct Walk<'t> {
    table: &'t Table,
    index: &'t Loaded<Index>,
    filter: Option<&'t Loaded<Filter>>,
    found: Properties,
    expiries: Expiries,
    key: Vec<u8>,
    last: Option<(Vec<u8>, Tag)>,
}

impl<'t> Walk<'t> {
    fn new(table: &'t Table, index: &'t Loaded<Index>, filter: Option<&'t Loaded<Filter>>) -> Self {
        Walk {
            table,
            index,
            filter,
            found: Properties {
                seqno_min: SeqNo::MAX,
                ..Properties::default()
            },
            expiries: Expiries::default(),
            key: Vec::new(),
            last: None,
        }
    }

    /// Checks block `i`, and gives its size.
    fn block(&mut self, i: usize) -> Result<u64> {
        let (table, index) = (self.table, self.index);
        let (offset, len) = table.span(index, i)?;
        let section = index.section();
        let (separator, bits) = index
            .decoded
            .separator(section, i)
            .ok_or_else(|| table.bad_index())?;
        let separator = [index.decoded.prefix(section), separator].concat();
        let before = separator_tag(bits).ok_or_else(|| table.bad_index())?;
        let above_the_last = self
            .last
            .as_ref()
            .is_none_or(|(key, tag)| compare(key, *tag, &separator, before).is_lt());
        if !above_the_last || !index.decoded.is_guided(section, i) {
            return Err(table.bad_index());
        }
        let data = table.block(index, i, Access::Rewrite)?;
        let body = data.body();
        let layout = Layout::parse(body).ok_or_else(|| table.bad_block(index, i))?;
        for j in 0..layout.count() {
            let entry = layout
                .entry(body, j)
                .ok_or_else(|| table.bad_block(index, i))?;
            self.key.clear();
            self.key.extend_from_slice(layout.prefix(body));
            self.key.extend_from_slice(entry.suffix);
            let hash = table.hasher().hash(&self.key);
            if layout.stored_guide(body, j) != layout.guide_of(&self.key, hash) {
                return Err(table.damaged("block whose guides contradict its keys", offset));
            }
            if j == 0 && compare(&separator, before, &self.key, entry.tag).is_gt() {
                return Err(table.bad_index());
            }
            if !self.filter.is_none_or(|f| f.may_contain(hash)) {
                return Err(table.damaged("key that the filter does not know", offset));
            }
            self.entry(entry.tag, entry.value, offset)?;
        }
        Ok(len as u64)
    }

    #[expect(
        clippy::arithmetic_side_effects,
        reason = "sums of bytes that were copied or read one after the other: 2^64 take centuries"
    )]
    fn entry(&mut self, tag: Tag, value: &[u8], offset: u64) -> Result<()> {
        let (last_key, last_tag) = self.last.get_or_insert_with(|| {
            self.found.smallest = self.key.clone();
            (Vec::new(), Tag::MAX)
        });
        let is_first = self.found.entries == 0;
        if !is_first && compare(last_key, *last_tag, &self.key, tag).is_ge() {
            return Err(self.table.damaged("entries out of order", offset));
        }
        last_key.clone_from(&self.key);
        *last_tag = tag;
        let found = &mut self.found;
        found.entries += 1;
        found.tombstones += u64::from(tag.kind() == ValueKind::Delete);
        found.key_bytes += self.key.len() as u64;
        found.value_bytes += value.len() as u64;
        found.seqno_min = found.seqno_min.min(tag.seqno());
        found.seqno_max = found.seqno_max.max(tag.seqno());
        self.expiries.note(tag, value);
        Ok(())
    }

    fn compare_with(mut self, stored: &Properties) -> Result<()> {
        if let Some((key, _)) = self.last {
            self.found.largest = key;
        } else {
            self.found.seqno_min = SeqNo::ZERO;
        }
        self.found.block_bytes = stored.block_bytes;
        self.found.filter_bits_per_key = stored.filter_bits_per_key;
        self.found.codec = stored.codec;
        self.found.keyspace = stored.keyspace;
        self.found.expiring = self.expiries.total();
        if self.found == *stored {
            return Ok(());
        }
        let summary = |p: &Properties| {
            format!(
                "{} entries ({} deletions) in {} blocks, {} + {} bytes, seqnos {} to {}",
                p.entries,
                p.tombstones,
                p.blocks,
                p.key_bytes,
                p.value_bytes,
                p.seqno_min,
                p.seqno_max
            )
        };
        Err(Error::corruption("properties that contradict the entries")
            .at(self.table.path())
            .offset_at(self.table.sections.properties.offset)
            .expected(summary(stored), summary(&self.found))
            .advice(REPAIR_TABLE))
    }
}

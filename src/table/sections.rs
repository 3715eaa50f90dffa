//! Index and filter of an open table, in memory when they are asked for.
//!
//! ```text
//! mapped          used where they lie in the file, kept by the table, checked at the first use
//! Pread           on the heap, in the block cache: evicted like blocks, read and checked again
//! EveryRead       copies on the heap, as with Pread: no rot of the file gets past them
//! ```
//! So what tables hold on the heap stays within the budget of the cache, however many are open. A
//! section too large for a shard of the cache is kept by its table instead. Who uses one holds it
//! meanwhile ([`Hold`]), and is not disturbed by evictions.
//!
//! Invariants: as in reader.rs. A filter that cannot be used is not asked for again.

use super::cache::Cached;
use super::filter::{Filter, FilterLine};
use super::format::{Section, bound_checksum, checksum_error};
use super::index::Index;
use super::reader::{Access, Source, Table, place};
use crate::base::error::Result;
use crate::base::slice::Pin;
use crate::base::sync::{Arc, OnceLock};
use crate::fs::Region;
use std::ops::Range;

/// A section in memory, and what was decoded from it.
#[derive(Debug)]
pub(super) struct Loaded<T> {
    region: Arc<Region>,
    range: Range<usize>,
    pub(super) decoded: T,
}

impl<T> Loaded<T> {
    /// The bytes of the section.
    #[inline]
    pub(super) fn section(&self) -> &[u8] {
        self.region.bytes().get(self.range.clone()).unwrap_or(&[])
    }
}

impl Loaded<Filter> {
    /// False when a key of this hash is surely not in the table.
    #[inline]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        self.decoded.may_contain(self.section(), hash)
    }
}

/// What keeps a section in memory that its table does not keep, for as long as it is used.
pub(super) type Hold<T> = Option<Arc<Loaded<T>>>;

/// The sections that the table itself keeps in memory.
#[derive(Debug, Default)]
pub(super) struct KeptSections {
    index: OnceLock<Loaded<Index>>,
    /// `None` in it: there is no filter to use.
    filter: OnceLock<Option<Loaded<Filter>>>,
}

#[cfg(test)]
impl KeptSections {
    /// True when all of them are mapped, in the cache, or nowhere.
    pub(super) fn is_empty(&self) -> bool {
        self.index.get().is_none() && self.filter.get().is_none()
    }
}

impl Table {
    /// The line of its filter that `hash` belongs to, on its way into the processor's cache from
    /// now on; `None` when the table keeps no filter in memory.
    #[inline]
    pub fn filter_line(&self, hash: u64) -> Option<FilterLine<'_>> {
        let filter = self.kept.filter.get()?.as_ref()?;
        let line = filter.decoded.line(filter.section(), hash)?;
        line.prefetch();
        Some(line)
    }

    /// False when `key` is surely absent. A damaged filter is not used and answers true.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        match self.kept.filter.get() {
            Some(filter) => filter.as_ref().is_none_or(|f| f.may_contain(hash)),
            None => self.may_contain_unkept(hash),
        }
    }

    #[inline(never)]
    fn may_contain_unkept(&self, hash: u64) -> bool {
        self.filter(&mut None).is_none_or(|f| f.may_contain(hash))
    }

    /// The index, loaded and checked if it is not in memory.
    #[inline]
    pub(super) fn index<'t>(&'t self, hold: &'t mut Hold<Index>) -> Result<&'t Loaded<Index>> {
        match self.kept.index.get() {
            Some(index) => Ok(index),
            None => self.find_index(hold),
        }
    }

    #[inline(never)]
    fn find_index<'t>(&'t self, hold: &'t mut Hold<Index>) -> Result<&'t Loaded<Index>> {
        let section = &self.sections.index;
        if !self.is_cached(section) {
            let index = self.read_index()?;
            return Ok(self.kept.index.get_or_init(|| index));
        }
        let (cache, key) = (&self.context.cache, self.cache_key(section.offset));
        if let Some(Cached::Index(index)) = cache.find(key) {
            return Ok(hold.insert(index));
        }
        let index = Arc::new(self.read_index()?);
        cache.insert(key, Cached::Index(Arc::clone(&index)));
        Ok(hold.insert(index))
    }

    /// The index for `access`: a rewrite checks what lies in the file now, and leaves the cache
    /// alone; a read is content with what it holds.
    #[inline]
    pub(super) fn index_for<'t>(
        &'t self,
        access: Access,
        hold: &'t mut Hold<Index>,
    ) -> Result<&'t Loaded<Index>> {
        match access {
            Access::Read if hold.is_none() => self.index(hold),
            Access::Read => self.index_held(hold),
            Access::Rewrite => self.index_for_rewrite(hold),
        }
    }

    #[cold]
    fn index_for_rewrite<'t>(&'t self, hold: &'t mut Hold<Index>) -> Result<&'t Loaded<Index>> {
        if self.is_on_heap() {
            return Ok(hold.insert(Arc::new(self.read_index()?)));
        }
        self.load(&self.sections.index, true, DAMAGED_INDEX)?;
        self.index(hold)
    }

    /// The index that `index` or `index_for` has given before with this hold.
    #[inline]
    pub(super) fn index_held<'t>(&'t self, hold: &'t Hold<Index>) -> Result<&'t Loaded<Index>> {
        let index = self.kept.index.get().or(hold.as_deref());
        index.ok_or_else(|| self.bad_index())
    }

    fn read_index(&self) -> Result<Loaded<Index>> {
        let (region, range) = self.load(&self.sections.index, self.checks(), DAMAGED_INDEX)?;
        let decoded = Index::decode(region.bytes().get(range.clone()).unwrap_or(&[]))
            .ok_or_else(|| self.bad_index())?;
        Ok(Loaded {
            region,
            range,
            decoded,
        })
    }

    /// The filter, loaded and checked if it is not in memory; `None` when there is none to use.
    #[inline]
    pub(super) fn filter<'t>(&'t self, hold: &'t mut Hold<Filter>) -> Option<&'t Loaded<Filter>> {
        match self.kept.filter.get() {
            Some(filter) => filter.as_ref(),
            None => self.find_filter(hold),
        }
    }

    #[inline(never)]
    fn find_filter<'t>(&'t self, hold: &'t mut Hold<Filter>) -> Option<&'t Loaded<Filter>> {
        let cached = self.sections.filter.as_ref().filter(|s| self.is_cached(s));
        let key = cached.map(|section| self.cache_key(section.offset));
        if let Some(key) = key
            && let Some(Cached::Filter(filter)) = self.context.cache.find(key)
        {
            return Some(hold.insert(filter));
        }
        match (self.read_filter(), key) {
            (Some(filter), Some(key)) => {
                let filter = hold.insert(Arc::new(filter));
                let cache = &self.context.cache;
                cache.insert(key, Cached::Filter(Arc::clone(filter)));
                Some(filter)
            }
            (filter, _) => self.kept.filter.get_or_init(|| filter).as_ref(),
        }
    }

    fn read_filter(&self) -> Option<Loaded<Filter>> {
        let section = self.sections.filter.as_ref()?;
        let (region, range) = self.load(section, self.checks(), "corrupt filter").ok()?;
        let decoded = Filter::decode(region.bytes().get(range.clone())?)?;
        Some(Loaded {
            region,
            range,
            decoded,
        })
    }

    /// True when sections are copied out of the file.
    fn is_on_heap(&self) -> bool {
        matches!(self.source, Source::Read(_)) || !self.trusts(Access::Read)
    }

    /// True when the section is held by the cache, not by the table.
    fn is_cached(&self, section: &Section) -> bool {
        self.is_on_heap() && self.context.cache.takes(section.len)
    }

    /// True when sections are checked as they are loaded: all but those of a table that this
    /// process has just written, in the mapping that it is read through from then on.
    fn checks(&self) -> bool {
        self.is_on_heap() || !self.fresh
    }

    /// A section in memory: where it is mapped, or read now.
    pub(super) fn load(
        &self,
        section: &Section,
        check: bool,
        damage: &str,
    ) -> Result<(Arc<Region>, Range<usize>)> {
        let unreadable = |error| place(error, self.path(), section.offset);
        let len = usize::try_from(section.len)
            .map_err(|_| self.damaged("section too large to read", section.offset))?;
        let (region, start) = match &self.source {
            Source::Mapped(region) => {
                let bytes = region.block(section.offset, len).map_err(unreadable)?;
                match self.is_on_heap() {
                    false => (Arc::clone(region), section.offset as usize),
                    true => {
                        let copy = Region::copied(len, |to| {
                            to.copy_from_slice(bytes);
                            Ok(())
                        })?;
                        (Arc::new(copy), 0)
                    }
                }
            }
            Source::Read(file) => {
                let copy = Region::copied(len, |to| file.read_exact_at(to, section.offset))?;
                (Arc::new(copy), 0)
            }
        };
        let range = start..start + len;
        if check {
            let bytes = region.bytes().get(range.clone()).unwrap_or(&[]);
            let found = bound_checksum(&self.identity, section.offset, bytes);
            if found != section.checksum {
                let error = checksum_error(damage, section.offset, section.checksum, found);
                return Err(error.at(self.path()));
            }
        }
        Ok((region, range))
    }
}

impl Drop for Table {
    /// Nobody will ask for its sections again; blocks are small and go as others come.
    fn drop(&mut self) {
        let sections = [Some(&self.sections.index), self.sections.filter.as_ref()];
        for section in sections.into_iter().flatten().filter(|s| self.is_cached(s)) {
            self.context.cache.remove(self.cache_key(section.offset));
        }
    }
}

const DAMAGED_INDEX: &str = "corrupt index";

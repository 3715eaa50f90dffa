//! Point reads: one key, or many in groups.
//!
//! Hash once, prefetch every structure that may be asked, then ask in order, newest first. The
//! first version found that is visible decides; see the invariant in the room's header. An error
//! of a table that must be asked ends the read: an older value is never given instead of it.
//! Tables that stand behind the answer are not needed, so damage in them does not matter.

use super::counters::ReadCounts;
use super::unsupported;
use super::view::View;
use crate::base::error::Result;
use crate::base::slice::Slice;
use crate::base::types::{SeqNo, Tag, ValueKind};
use crate::table::{Table, TableValue};
use crate::version::TableEntry;

/// Tables whose filters are prefetched together.
const AHEAD: usize = 16;

/// Keys that go through the stages of `get_many` together: as many misses in flight as a core has
/// buffers for.
const GROUP: usize = 16;

/// The answer of a point read.
#[derive(Debug)]
pub enum Lookup<'v> {
    /// Never written, or deleted.
    Absent,
    /// In a memtable of the view.
    Memory(&'v [u8]),
    /// In a table of the view.
    Table(TableValue<'v>),
}

impl Lookup<'_> {
    /// The value.
    #[inline]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Lookup::Absent => None,
            Lookup::Memory(bytes) => Some(bytes),
            Lookup::Table(value) => Some(value.bytes()),
        }
    }

    /// The value as a slice of its own: pinned to its table where that is cheaper than a copy.
    #[inline]
    pub fn to_slice(&self) -> Option<Slice> {
        match self {
            Lookup::Absent => None,
            Lookup::Memory(bytes) => Some(Slice::copy(bytes)),
            Lookup::Table(value) => Some(value.to_slice()),
        }
    }
}

/// The newest version of `key` visible at `at`.
///
/// Cost: one hash, one index probe a memtable, one filter line a run, and one block where the key
/// lies.
///
/// # Errors
/// Those of the tables that must be asked, and `Unsupported`.
pub fn get<'v>(view: &'v View, key: &[u8], at: SeqNo) -> Result<Lookup<'v>> {
    let mut counts = ReadCounts {
        gets: 1,
        ..ReadCounts::default()
    };
    let found = find(view, key, at, &mut counts);
    view.counters.add(&counts);
    found
}

#[inline]
fn find<'v>(view: &'v View, key: &[u8], at: SeqNo, counts: &mut ReadCounts) -> Result<Lookup<'v>> {
    let hash = view.hasher.hash(key);
    for memtable in view.memtables() {
        memtable.prefetch(hash);
    }
    let mut runs = view.runs();
    let mut ahead = [None; AHEAD];
    let mut fill = |ahead: &mut [Option<&'v TableEntry>; AHEAD]| {
        let mut len = 0;
        while let Some(slot) = ahead.get_mut(len) {
            let Some(run) = runs.next() else { break };
            if let Some(entry) = run.find(key) {
                prefetch(view, entry, key, hash);
                *slot = Some(&**entry);
                len += 1;
            }
        }
        len
    };
    let mut len = fill(&mut ahead);
    if let Some(answer) = in_memtables(view, key, hash, at, counts)? {
        return Ok(answer);
    }
    while 0 < len {
        for entry in ahead.iter().take(len).flatten() {
            if let Some(answer) = in_table(view, entry.table()?, key, hash, at, counts)? {
                return Ok(answer);
            }
        }
        len = fill(&mut ahead);
    }
    Ok(Lookup::Absent)
}

/// Many keys, in groups of 16 with staged prefetch; `found` is called for each in the order asked.
///
/// # Errors
/// The first error of any key ends it; `found` has then been called for the groups before.
pub fn get_many<'v>(
    view: &'v View,
    keys: &[&[u8]],
    at: SeqNo,
    found: &mut dyn FnMut(usize, Lookup<'v>),
) -> Result<()> {
    let mut counts = ReadCounts::default();
    let mut done = Ok(());
    for (group, keys) in keys.chunks(GROUP).enumerate() {
        counts.gets += keys.len() as u64;
        match find_group(view, keys, at, &mut counts) {
            Ok(answers) => {
                for (i, answer) in answers.into_iter().take(keys.len()).enumerate() {
                    found(group * GROUP + i, answer.unwrap_or(Lookup::Absent));
                }
            }
            Err(error) => {
                done = Err(error);
                break;
            }
        }
    }
    view.counters.add(&counts);
    done
}

/// Up to [`GROUP`] keys; `None` stands for an absent one.
fn find_group<'v>(
    view: &'v View,
    keys: &[&[u8]],
    at: SeqNo,
    counts: &mut ReadCounts,
) -> Result<[Option<Lookup<'v>>; GROUP]> {
    debug_assert!(keys.len() <= GROUP);
    let mut answers = [const { None }; GROUP];
    let mut hashes = [0; GROUP];
    for (hash, key) in hashes.iter_mut().zip(keys) {
        *hash = view.hasher.hash(key);
        for memtable in view.memtables() {
            memtable.prefetch(*hash);
        }
    }
    for ((answer, key), &hash) in answers.iter_mut().zip(keys).zip(&hashes) {
        *answer = in_memtables(view, key, hash, at, counts)?;
    }
    // Run by run, so that a key is asked of an older run only when all newer ones had no answer.
    for run in view.runs() {
        let mut entries = [None; GROUP];
        for (i, key) in keys.iter().enumerate() {
            if answers[i].is_none() {
                entries[i] = run.find(key).map(|entry| &**entry);
                if let Some(entry) = entries[i] {
                    prefetch(view, entry, key, hashes[i]);
                }
            }
        }
        let mut places = [None; GROUP];
        for (i, key) in keys.iter().enumerate() {
            let Some(entry) = entries[i] else { continue };
            let table = &**entry.table()?;
            let hash = hash_for(view, table, key, hashes[i]);
            if passes_filter(table, hash, counts) {
                places[i] = Some((table, hash, table.place(key, at)?));
            }
        }
        for (table, hash, place) in places.iter().flatten() {
            table.approach(*place, *hash);
        }
        for (i, key) in keys.iter().enumerate() {
            if let Some((table, hash, place)) = places[i] {
                answers[i] = judge(table.get_at(place, key, hash, at)?, at, counts)?;
            }
        }
    }
    Ok(answers)
}

/// The newest visible version of `key` in the memtables.
#[inline]
fn in_memtables<'v>(
    view: &'v View,
    key: &[u8],
    hash: u64,
    at: SeqNo,
    counts: &mut ReadCounts,
) -> Result<Option<Lookup<'v>>> {
    for memtable in view.memtables() {
        if let Some(found) = memtable.get(key, hash, at) {
            counts.memtable_hits += 1;
            return decide(found.tag, at, Lookup::Memory(found.value)).map(Some);
        }
    }
    Ok(None)
}

/// The newest visible version of `key` in one table, whose filter is asked first.
#[inline]
fn in_table<'v>(
    view: &View,
    table: &'v Table,
    key: &[u8],
    hash: u64,
    at: SeqNo,
    counts: &mut ReadCounts,
) -> Result<Option<Lookup<'v>>> {
    let hash = hash_for(view, table, key, hash);
    if !passes_filter(table, hash, counts) {
        return Ok(None);
    }
    judge(table.get(key, hash, at)?, at, counts)
}

#[inline]
fn passes_filter(table: &Table, hash: u64, counts: &mut ReadCounts) -> bool {
    let passes = table.may_contain(hash);
    match passes {
        true => counts.tables_probed += 1,
        false => counts.filter_negatives += 1,
    }
    passes
}

/// What a table's answer says, if it has one.
#[inline]
fn judge<'v>(
    found: Option<TableValue<'v>>,
    at: SeqNo,
    counts: &mut ReadCounts,
) -> Result<Option<Lookup<'v>>> {
    match found {
        Some(value) => {
            counts.filter_positives += 1;
            decide(value.tag, at, Lookup::Table(value)).map(Some)
        }
        None => {
            counts.false_positives += 1;
            Ok(None)
        }
    }
}

/// What the version that decides says.
#[inline]
fn decide(tag: Tag, at: SeqNo, value: Lookup<'_>) -> Result<Lookup<'_>> {
    debug_assert!(tag.seqno() <= at, "a read sees nothing newer than itself");
    match tag.kind() {
        ValueKind::Put => Ok(value),
        ValueKind::Delete => Ok(Lookup::Absent),
        kind => Err(unsupported(kind)),
    }
}

/// Prefetches the filter line of a candidate. One that cannot be opened is met again, with its
/// error, if the read comes to it.
#[inline]
fn prefetch(view: &View, entry: &TableEntry, key: &[u8], hash: u64) {
    if let Ok(table) = entry.table() {
        table.prefetch(hash_for(view, table, key, hash));
    }
}

/// The hash that `table`'s filter knows `key` by: an ingested table may come from a database with
/// another seed.
#[inline]
fn hash_for(view: &View, table: &Table, key: &[u8], hash: u64) -> u64 {
    let hasher = table.hasher();
    if hasher == view.hasher {
        hash
    } else {
        hasher.hash(key)
    }
}

//! Point reads: one key, or many in groups.
//!
//! Hash once, prefetch every structure that may be asked, then ask in order, newest first. The
//! first version found that is visible decides; see the invariant in the room's header. An error
//! of a table that must be asked ends the read: an older value is never given instead of it.
//! Tables that stand behind the answer are not needed, so damage in them does not matter.

use super::counters::Shard;
use super::operands::Operands;
use super::snapshot::At;
use super::unsupported;
use super::view::View;
use crate::base::checksum::KeyHasher;
use crate::base::cursor::Cursor;
use crate::base::error::Result;
use crate::base::expiring::{self, EXPIRY_BYTES};
use crate::base::slice::Slice;
use crate::base::sync::Arc;
use crate::base::types::{SeqNo, Tag, ValueKind};
use crate::memtable::{Found, Memtable};
use crate::table::{FilterLine, Table, TableValue};
use crate::version::{SortedRun, TableEntry};

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
    /// Put together from the operands of merges.
    Folded(Vec<u8>),
}

impl Lookup<'_> {
    /// The value.
    #[inline]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Lookup::Absent => None,
            Lookup::Memory(bytes) => Some(bytes),
            Lookup::Table(value) => Some(value.bytes()),
            Lookup::Folded(bytes) => Some(bytes),
        }
    }

    /// The value as a slice of its own: pinned to its table where that is cheaper than a copy.
    #[inline]
    pub fn to_slice(&self) -> Option<Slice> {
        let bytes = match self {
            Lookup::Absent => return None,
            Lookup::Table(value) => return Some(value.to_slice()),
            Lookup::Memory(bytes) => bytes,
            Lookup::Folded(bytes) => &bytes[..],
        };
        Some(Slice::copy(bytes))
    }
}

/// The newest version of `key` visible at `at`.
///
/// Cost: one hash, one index probe a memtable, one filter line a run, and one block where the key
/// lies.
///
/// # Errors
/// Those of the tables that must be asked, and `Unsupported`.
pub fn get<'v>(view: &'v View, key: &[u8], at: At) -> Result<Lookup<'v>> {
    let counts = view.counters.of_thread();
    counts.gets.add(1);
    let hash = view.hasher.hash(key);
    view.memtables()
        .for_each(|memtable| memtable.prefetch(hash));
    let mut runs = view.runs();
    let mut ahead = [None; AHEAD];
    // Fills `ahead` from the runs that are left; returns how many tables there are in it.
    let mut look_ahead = |ahead: &mut [Option<Candidate<'v>>; AHEAD]| {
        let mut len = 0;
        while len < AHEAD
            && let Some(run) = runs.next()
        {
            ahead[len] = Candidate::of(run, view, key, hash);
            len += usize::from(ahead[len].is_some());
        }
        len
    };
    let mut len = look_ahead(&mut ahead);
    if let Some(found) = in_memtables(view, key, hash, at.seqno) {
        counts.memtable_hits.add(1);
        return decide(view, key, found.tag, at, Lookup::Memory(found.value));
    }
    loop {
        for candidate in ahead[..len].iter().flatten() {
            if let Some((table, hash)) = candidate.passing(view, key, hash, counts)?
                && let Some(value) = counted(table.get(key, hash, at.seqno)?, counts)
            {
                return decide(view, key, value.tag, at, Lookup::Table(value));
            }
        }
        if len < AHEAD {
            return Ok(Lookup::Absent);
        }
        len = look_ahead(&mut ahead);
    }
}

/// True when the newest version of `key` that is visible at `until` is newer than `since`.
///
/// Cost: as `get`, but tables without a number above `since` are not asked.
///
/// # Errors
/// Those of the tables that must be asked.
pub fn is_written(view: &View, key: &[u8], since: SeqNo, until: SeqNo) -> Result<bool> {
    if since < view.deletion_of(key, until) {
        return Ok(true);
    }
    let counts = view.counters.of_thread();
    let hash = view.hasher.hash(key);
    if let Some(found) = in_memtables(view, key, hash, until) {
        return Ok(since < found.tag.seqno());
    }
    for run in view.runs() {
        let candidate = Candidate::of(run, view, key, hash);
        let Some(candidate) = candidate.filter(|c| c.entry.holds_newer(since)) else {
            continue;
        };
        if let Some((table, hash)) = candidate.passing(view, key, hash, counts)?
            && let Some(value) = counted(table.get(key, hash, until)?, counts)
        {
            return Ok(since < value.tag.seqno());
        }
    }
    Ok(false)
}

/// Many keys, in groups of 16 with staged prefetch; `found` is called for each in the order asked.
///
/// # Errors
/// The first error of any key ends it; `found` has then been called for the groups before.
pub fn get_many<'v>(
    view: &'v View,
    keys: &[&[u8]],
    at: At,
    found: &mut dyn FnMut(usize, Lookup<'v>),
) -> Result<()> {
    let counts = view.counters.of_thread();
    for (group, keys) in keys.chunks(GROUP).enumerate() {
        counts.gets.add(keys.len() as u64);
        let answers = find_group(view, keys, at, counts)?;
        for (i, answer) in answers.into_iter().take(keys.len()).enumerate() {
            found(group * GROUP + i, answer.unwrap_or(Lookup::Absent));
        }
    }
    Ok(())
}

/// Up to [`GROUP`] keys; `None` stands for an absent one.
fn find_group<'v>(
    view: &'v View,
    keys: &[&[u8]],
    at: At,
    counts: &Shard,
) -> Result<[Option<Lookup<'v>>; GROUP]> {
    debug_assert!(keys.len() <= GROUP);
    let mut answers = [const { None }; GROUP];
    let mut hashes = [0; GROUP];
    for (hash, key) in hashes.iter_mut().zip(keys) {
        *hash = view.hasher.hash(key);
        view.memtables()
            .for_each(|memtable| memtable.prefetch(*hash));
    }
    for ((answer, key), &hash) in answers.iter_mut().zip(keys).zip(&hashes) {
        if let Some(found) = in_memtables(view, key, hash, at.seqno) {
            counts.memtable_hits.add(1);
            let value = Lookup::Memory(found.value);
            *answer = Some(decide(view, key, found.tag, at, value)?);
        }
    }
    // Run by run, so that a key is asked of an older run only when all newer ones had no answer.
    for run in view.runs() {
        let mut candidates = [None; GROUP];
        for (i, key) in keys.iter().enumerate() {
            if answers[i].is_none() {
                candidates[i] = Candidate::of(run, view, key, hashes[i]);
            }
        }
        let mut places = [None; GROUP];
        for (i, key) in keys.iter().enumerate() {
            let Some(candidate) = candidates[i] else {
                continue;
            };
            if let Some((table, hash)) = candidate.passing(view, key, hashes[i], counts)? {
                places[i] = Some((table, hash, table.place(key, at.seqno)?));
            }
        }
        for (table, hash, place) in places.iter().flatten() {
            table.approach(*place, *hash);
        }
        for (i, key) in keys.iter().enumerate() {
            if let Some((table, hash, place)) = places[i]
                && let Some(value) = counted(table.get_at(place, key, hash, at.seqno)?, counts)
            {
                answers[i] = Some(decide(view, key, value.tag, at, Lookup::Table(value))?);
            }
        }
    }
    Ok(answers)
}

/// The newest visible version of `key` in the memtables.
#[inline]
fn in_memtables<'v>(view: &'v View, key: &[u8], hash: u64, at: SeqNo) -> Option<Found<'v>> {
    let in_one = |memtable: &'v Arc<Memtable>| memtable.get(key, hash, at);
    in_one(&view.active).or_else(|| view.immutables.iter().find_map(in_one))
}

/// A table that may hold a key, whose filter has been asked for.
#[derive(Clone, Copy)]
struct Candidate<'v> {
    entry: &'v TableEntry,
    /// `None` where the table keeps no filter, or is not open yet.
    line: Option<FilterLine<'v>>,
}

impl<'v> Candidate<'v> {
    /// The table of `run`. One that cannot be opened is met again, with its error, if the read comes
    /// to it.
    ///
    /// Always inlined, as `passing` is: as calls the two cost a get of four runs 90 instructions.
    #[inline(always)]
    fn of(run: &'v SortedRun, view: &View, key: &[u8], hash: u64) -> Option<Candidate<'v>> {
        let entry = run.find(key)?;
        let line = match entry.table() {
            Ok(table) => table.filter_line(hash_for(view, table, key, hash)),
            Err(_) => None,
        };
        Some(Candidate { entry, line })
    }

    /// The table, and the key's hash in it, unless its filter rules the key out.
    #[inline(always)]
    fn passing(
        &self,
        view: &View,
        key: &[u8],
        hash: u64,
        counts: &Shard,
    ) -> Result<Option<(&'v Table, u64)>> {
        if self.line.is_some_and(|line| !line.may_contain()) {
            counts.filter_negatives.add(1);
            return Ok(None);
        }
        let table = self.entry.table()?;
        let hash = hash_for(view, table, key, hash);
        if self.line.is_none() && !table.may_contain(hash) {
            counts.filter_negatives.add(1);
            return Ok(None);
        }
        counts.tables_probed.add(1);
        Ok(Some((table, hash)))
    }
}

/// What a table found, counted as right or wrong of its filter.
#[inline]
fn counted<'v>(found: Option<TableValue<'v>>, counts: &Shard) -> Option<TableValue<'v>> {
    match found {
        Some(_) => counts.filter_positives.add(1),
        None => counts.false_positives.add(1),
    }
    found
}

/// What the version that decides says.
#[inline(always)]
fn decide<'v>(
    view: &'v View,
    key: &[u8],
    tag: Tag,
    at: At,
    value: Lookup<'v>,
) -> Result<Lookup<'v>> {
    debug_assert!(
        tag.seqno() <= at.seqno,
        "a read sees nothing newer than itself"
    );
    if view.has_deleted() && tag.seqno() < view.deletion_of(key, at.seqno) {
        return Ok(Lookup::Absent);
    }
    match tag.kind() {
        ValueKind::Put => Ok(value),
        ValueKind::Delete => Ok(Lookup::Absent),
        ValueKind::Merge => fold(view, key, at),
        ValueKind::PutExpiring => unless_expired(view, at, value),
        kind => Err(unsupported(kind)),
    }
}

/// Of the entry of a value that expires, the value, if it is not too late for it.
#[inline(never)]
fn unless_expired<'v>(view: &View, at: At, entry: Lookup<'v>) -> Result<Lookup<'v>> {
    let bytes = entry.bytes().unwrap_or_default();
    let value = expiring::unless_expired(bytes, |expiry| view.has_expired(expiry, at))?;
    let is_over = value.is_none();
    Ok(match entry {
        _ if is_over => Lookup::Absent,
        Lookup::Memory(bytes) => Lookup::Memory(&bytes[EXPIRY_BYTES..]),
        Lookup::Table(value) => Lookup::Table(value.without_first(EXPIRY_BYTES)),
        found => found,
    })
}

/// The value of a key whose newest visible version is a merge: every version down to the first that
/// is none is asked for.
///
/// Cost: a step for each operand in a memtable; in a table, where mostly one is left, a get, and a
/// cursor over the others.
#[cold]
fn fold(view: &View, key: &[u8], at: At) -> Result<Lookup<'static>> {
    let mut operands = Operands::default();
    gather(view, key, at.seqno, &mut operands)?;
    let value = operands.value(&view.folding, key, |expiry| view.has_expired(expiry, at))?;
    Ok(value.map_or(Lookup::Absent, Lookup::Folded))
}

fn gather(view: &View, key: &[u8], at: SeqNo, operands: &mut Operands) -> Result<()> {
    let hash = view.hasher.hash(key);
    let deletion = Tag::new(view.deletion_of(key, at), ValueKind::Delete);
    for memtable in view.memtables() {
        if operands.is_complete() {
            return Ok(());
        }
        let mut added = Ok(());
        memtable.versions(key, hash, at, |found| {
            if added.is_ok() {
                added = operands.add_under(deletion, found.tag, found.value);
            }
        });
        added?;
    }
    let counts = view.counters.of_thread();
    for run in view.runs() {
        if operands.is_complete() {
            return Ok(());
        }
        let Some(candidate) = Candidate::of(run, view, key, hash) else {
            continue;
        };
        let Some((table, hash)) = candidate.passing(view, key, hash, counts)? else {
            continue;
        };
        let Some(newest) = table.get(key, hash, at)? else {
            continue;
        };
        operands.add_under(deletion, newest.tag, newest.bytes())?;
        if operands.is_complete() {
            return Ok(()); // mostly, and without a cursor
        }
        let mut older = candidate.entry.table()?.cursor();
        older.seek(key, newest.tag)?;
        while older.valid() && older.key() == key && !operands.is_complete() {
            operands.add_under(deletion, older.tag(), older.value())?;
            older.next()?;
        }
    }
    Ok(())
}

/// The hash that `table`'s filter knows `key` by: an ingested table may come from a database with
/// another seed.
#[inline]
pub(super) fn hash_for(view: &View, table: &Table, key: &[u8], hash: u64) -> u64 {
    let hasher = table.hasher();
    match hasher == view.hasher {
        true => hash,
        false => hash_by(hasher, key),
    }
}

/// Apart, because hashing is long and this seldom happens.
#[cold]
fn hash_by(hasher: KeyHasher, key: &[u8]) -> u64 {
    hasher.hash(key)
}

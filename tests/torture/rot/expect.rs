//! What a damage may lead to, and nothing else: worked out from the layout of the undamaged store.
//!
//! The one exception to "right data or an error" is that of R3: damage to a log behind everything
//! that a later record vouches for looks like a torn write and is cut off. It holds for the bytes
//! of the last records alone, and a flipped bit is excepted only where a torn write may leave the
//! same bytes.

use super::damage::Damaged;
use super::golden::{Golden, History};
use super::layout::{Layout, RECORD_FOOTER, RECORD_FULL, RECORD_SEGMENT, Record, What, u32_at};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The keys before a lost stretch and behind it, where there are such.
pub(crate) type Neighbours = (Option<Vec<u8>>, Option<Vec<u8>>);

const RECORD_HEADER: usize = 32;
const SECTOR: usize = 512;

/// What opening must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Succeeds,
    Fails,
    Either,
}

/// Writes that may be missing because a log was cut.
#[derive(Clone, Debug)]
pub(crate) struct CutAt {
    /// Everything from this number on, where no table holds it.
    pub(crate) number: u64,
    /// What the open report says of it, unless no trace is left.
    pub(crate) report: (String, u64),
    pub(crate) must_report: bool,
}

/// The damage of one table, as far as reading goes.
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    pub(crate) space: usize,
    /// Keys that may be refused lie strictly between these; none: open ended.
    pub(crate) between: Vec<Neighbours>,
    /// The highest number in the table: newer keys are found before it is asked.
    pub(crate) newest: u64,
    /// Entries that cannot be read: key and number.
    pub(crate) lost: BTreeSet<(Vec<u8>, u64)>,
    /// A scan yields at least what is before the first of them, and behind the last.
    pub(crate) scan: (Option<Vec<u8>>, Option<Vec<u8>>),
}

/// What may come of one case.
#[derive(Clone, Debug)]
pub(crate) struct Expect {
    pub(crate) opening: Opening,
    pub(crate) cut: Option<CutAt>,
    pub(crate) unreadable: Vec<Unreadable>,
    /// Numbers of the writes whose bytes were hit: repair cannot have them from there.
    pub(crate) gone: BTreeSet<u64>,
    /// Where errors may point to: the file, and the ranges within it (empty: anywhere).
    pub(crate) places: BTreeMap<String, Vec<Range<usize>>>,
}

impl Expect {
    pub(crate) fn nothing() -> Expect {
        Expect {
            opening: Opening::Succeeds,
            cut: None,
            unreadable: Vec::new(),
            gone: BTreeSet::new(),
            places: BTreeMap::new(),
        }
    }

    /// True when an error at this place names the damage.
    pub(crate) fn names(&self, file: &str, offset: Option<u64>) -> bool {
        let Some(ranges) = self.places.get(file) else {
            return false;
        };
        ranges.is_empty()
            || offset.is_some_and(|at| ranges.iter().any(|r| r.contains(&(at as usize))))
    }
}

/// What may come of `damaged`.
pub(crate) fn expect(golden: &Golden, damaged: &Damaged) -> Expect {
    let mut expect = Expect::nothing();
    for name in damaged.changed.keys() {
        let range = damaged.ranges.get(name);
        let whole = range.is_none();
        let range = range.cloned().unwrap_or(0..golden.files[name].len());
        if damaged.changed.len() == 1 && *name != golden.manifest {
            gone(&golden.layouts[name], &range, &mut expect.gone);
        }
        let after = damaged.changed[name].as_deref();
        if name == "LOCK" {
            continue;
        } else if name == "CURRENT" {
            expect.opening = Opening::Fails;
            expect.places.insert(name.clone(), Vec::new());
            // An earlier CURRENT names an earlier manifest, which is missing.
            for earlier in golden.earlier.keys().filter(|n| n.ends_with("manifest")) {
                expect.places.insert(earlier.clone(), Vec::new());
            }
        } else if name.ends_with(".tbl") {
            table(golden, name, &range, whole, &mut expect);
        } else if *name == golden.manifest || golden.logs.contains(name) {
            log(golden, name, &range, whole, after, &mut expect);
        } else if whole && damaged.changed.len() == 2 {
            // Swapped with one that counts: either may be named.
            expect.places.insert(name.clone(), Vec::new());
        }
    }
    expect
}

/// The writes in the blocks and records that `range` touches.
fn gone(layout: &Layout, range: &Range<usize>, gone: &mut BTreeSet<u64>) {
    for part in layout.touched(range) {
        match &layout.parts[part].what {
            What::Block(entries) => gone.extend(entries.iter().map(|(_, n)| *n)),
            What::Record(record) if record.kind == RECORD_FULL => {
                let count = u64::from(u32_at(&record.payload, 0));
                gone.extend(record.first..record.first + count);
            }
            _ => {}
        }
    }
}

fn table(golden: &Golden, name: &str, range: &Range<usize>, whole: bool, expect: &mut Expect) {
    let layout = &golden.layouts[name];
    let Some(space) = owner(&golden.histories, layout) else {
        return; // left behind by a compaction: not part of the store
    };
    let touched = layout.touched(range);
    let len = golden.files[name].len();
    // One that is too short is refused as a whole: its end is missing.
    let whole = whole
        || range.end == len && layout.parts.len() == touched.end && {
            let footer = layout.parts.last().unwrap();
            range.start < footer.range.end && touched.contains(&(layout.parts.len() - 1))
        };
    let parts = touched.clone().map(|i| &layout.parts[i]);
    let needed = |what: &What| {
        !matches!(
            what,
            What::Padding | What::Filter | What::Properties | What::Free
        )
    };
    let mut ranges: Vec<Range<usize>> = parts
        .clone()
        .filter(|part| whole || needed(&part.what))
        .map(|part| part.range.clone())
        .collect();
    if ranges.is_empty() {
        return;
    }
    if whole {
        ranges.clear();
    }
    expect.places.insert(name.to_owned(), ranges);
    let all: Vec<&Vec<(Vec<u8>, u64)>> = layout.blocks().map(|(_, entries)| entries).collect();
    let newest = all.iter().flat_map(|b| b.iter()).map(|(_, n)| *n).max();
    let mut unreadable = Unreadable {
        space,
        between: Vec::new(),
        newest: newest.unwrap(),
        lost: BTreeSet::new(),
        scan: (None, None),
    };
    let everything = whole
        || parts
            .clone()
            .any(|part| needed(&part.what) && !matches!(part.what, What::Block(_)));
    let first_of = |b: &Vec<(Vec<u8>, u64)>| b.first().unwrap().0.clone();
    let last_of = |b: &Vec<(Vec<u8>, u64)>| b.last().unwrap().0.clone();
    for (i, (part, entries)) in layout.blocks().enumerate() {
        if !everything && !touched.contains(&part) {
            continue;
        }
        unreadable.lost.extend(entries.iter().cloned());
        let before = i.checked_sub(1).map(|i| last_of(all[i]));
        let behind = all.get(i + 1).map(|b| first_of(b));
        if everything {
            continue;
        }
        if unreadable.between.is_empty() {
            unreadable.scan.0.clone_from(&before);
        }
        unreadable.scan.1.clone_from(&behind);
        // Versions of one key may span blocks: then its neighbours' keys are concerned too.
        let before = before.filter(|key| *key != first_of(entries));
        let behind = behind.filter(|key| *key != last_of(entries));
        let first = before.or_else(|| (i == 0).then(|| below(&first_of(entries))).flatten());
        unreadable.between.push((first, behind));
    }
    if everything {
        let (first, last) = (first_of(all[0]), last_of(all[all.len() - 1]));
        unreadable
            .between
            .push((below(&first), Some([&last[..], &[0]].concat())));
    }
    expect.unreadable.push(unreadable);
}

/// A key just below `key`, as far as the keys of the golden stores go.
fn below(key: &[u8]) -> Option<Vec<u8>> {
    let mut below = key.to_vec();
    *below.last_mut()? -= 1;
    below.push(0xff);
    Some(below)
}

/// The keyspace whose writes the table holds.
pub(crate) fn owner(histories: &[History], layout: &Layout) -> Option<usize> {
    let (_, entries) = layout.blocks().next()?;
    let (key, n) = entries.first()?;
    histories
        .iter()
        .position(|h| h.writes.iter().any(|(m, k, _)| m == n && k == key))
}

fn log(
    golden: &Golden,
    name: &str,
    range: &Range<usize>,
    whole: bool,
    after: Option<&[u8]>,
    expect: &mut Expect,
) {
    let layout = &golden.layouts[name];
    let touched = layout.touched(range);
    let first = touched.start;
    if whole {
        expect.opening = Opening::Fails;
        expect.places.insert(name.to_owned(), Vec::new());
        return;
    }
    let Some((hit, what)) = layout.parts.get(first).map(|p| (&p.range, &p.what)) else {
        return;
    };
    let What::Record(record) = what else {
        // Behind the last record. Where a torn one lies, another flip may show as rot.
        let torn = golden.files[name][hit.start..].iter().take(RECORD_HEADER);
        if torn.clone().any(|b| *b != 0) && torn.len() == RECORD_HEADER {
            expect.opening = Opening::Either;
            expect.places.insert(name.to_owned(), vec![hit.clone()]);
        }
        return;
    };
    let ranges = touched.clone().map(|i| layout.parts[i].range.clone());
    expect.places.insert(name.to_owned(), ranges.collect());
    if record.kind == RECORD_FOOTER {
        // It holds nothing: all data is there, whether it is noticed or not.
        expect.opening = Opening::Either;
        return;
    }
    let later: Vec<&Record> = layout.parts[touched.end..]
        .iter()
        .filter_map(|part| match &part.what {
            What::Record(record) => Some(record),
            _ => None,
        })
        .collect();
    let position = golden.logs.iter().position(|log| log == name);
    let next = position.map_or(&[][..], |i| &golden.logs[i + 1..]);
    let mut successors = next.iter().flat_map(|log| golden.layouts[log].records());
    let vouched = later.iter().any(|r| (hit.start as u64) < r.synced)
        || successors.any(|(_, record)| record.synced > 0);
    if vouched {
        expect.opening = Opening::Fails;
        return;
    }
    let is_flip = range.len() == 1 && after.is_some_and(|b| b.len() == golden.files[name].len());
    let flipped = is_flip && {
        let (old, new) = (golden.files[name][range.start], after.unwrap()[range.start]);
        (old ^ new).count_ones() == 1
    };
    let is_rot = flipped && !looks_torn(layout, hit, range.start, after.unwrap());
    expect.opening = if is_rot {
        Opening::Fails
    } else {
        Opening::Either
    };
    if *name == golden.manifest {
        // An edit that is lost may name files that are gone.
        let tables = golden
            .earlier
            .keys()
            .filter(|n| !golden.files.contains_key(*n));
        expect
            .places
            .extend(tables.map(|gone| (gone.clone(), Vec::new())));
        return;
    }
    let identity = hit.start + 11..hit.start + 20;
    let kept = after.and_then(|b| b.get(identity.clone()));
    let must_report = !later.is_empty() || kept == golden.files[name].get(identity);
    let number = match record.kind {
        RECORD_SEGMENT => layout.records().nth(1).map_or(u64::MAX, |(_, r)| r.first),
        _ => record.first,
    };
    expect.cut = Some(CutAt {
        number,
        report: (name.to_owned(), hit.start as u64),
        must_report,
    });
}

/// True when a torn write may leave the bytes that the flip of a bit in byte `at` left: older bytes
/// reach from the flip to an edge of the sector or of what is stored at one go. They are zeros, or
/// anything at all in a segment that is used again, but for the part of a header whose old version
/// never stands alone.
fn looks_torn(layout: &Layout, record: &Range<usize>, at: usize, after: &[u8]) -> bool {
    let payload = record.start + RECORD_HEADER;
    let unit = match at < payload {
        true => record.start..payload,
        false => payload..record.end,
    };
    let sector = at / SECTOR * SECTOR;
    let (start, end) = (unit.start.max(sector), unit.end.min(sector + SECTOR));
    let is_zero = |range: Range<usize>| after[range].iter().all(|b| *b == 0);
    if is_zero(start..at + 1) || is_zero(at..end) {
        return true;
    }
    let free = layout.parts.last().filter(|p| p.what == What::Free);
    let fresh = free.is_none_or(|free| {
        let end = free.range.end.min(free.range.start + SECTOR);
        is_zero(free.range.start..end)
    });
    !fresh && !(4..24).contains(&(at - record.start))
}

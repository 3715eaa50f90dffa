//! What one step costs: a merge of 1 to 8 sources, a source of its own, and what is visible of a
//! merge. Sources are vectors, so the figures are those of the combinators alone. Each pass counts
//! its entries and adds up their keys. Of the passes of a sample the fastest counts, because the
//! machine may have other work.

use alluvium::base::cursor::Cursor;
use alluvium::base::error::Result;
use alluvium::base::key::compare;
use alluvium::base::types::{SeqNo, Tag, ValueKind};
use alluvium::read::{Bounds, Merge, Visible};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::cmp::Ordering;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Few enough to stay in a core's cache: memory is not what is measured here.
const ENTRIES: usize = 8_000;

struct Entry {
    key: [u8; 16],
    tag: Tag,
    value: [u8; 100],
}

struct VecCursor {
    entries: Arc<[Entry]>,
    at: usize,
}

impl VecCursor {
    fn search(&self, key: &[u8], tag: Tag, after: Ordering) -> usize {
        self.entries
            .partition_point(|e| compare(&e.key, e.tag, key, tag) < after)
    }
}

impl Cursor for VecCursor {
    fn first(&mut self) -> Result<()> {
        self.at = 0;
        Ok(())
    }
    fn last(&mut self) -> Result<()> {
        self.at = self.entries.len().wrapping_sub(1);
        Ok(())
    }
    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.at = self.search(key, tag, Ordering::Equal);
        Ok(())
    }
    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.at = self.search(key, tag, Ordering::Greater).wrapping_sub(1);
        Ok(())
    }
    #[inline]
    fn next(&mut self) -> Result<()> {
        self.at += 1;
        Ok(())
    }
    #[inline]
    fn prev(&mut self) -> Result<()> {
        self.at = self.at.wrapping_sub(1);
        Ok(())
    }
    #[inline]
    fn valid(&self) -> bool {
        self.at < self.entries.len()
    }
    #[inline]
    fn key(&self) -> &[u8] {
        &self.entries[self.at].key
    }
    #[inline]
    fn tag(&self) -> Tag {
        self.entries[self.at].tag
    }
    #[inline]
    fn value(&self) -> &[u8] {
        &self.entries[self.at].value
    }
}

/// Keys in order, each given to the source that `source_of` names.
fn sources(n: usize, source_of: impl Fn(u64) -> usize) -> Vec<Arc<[Entry]>> {
    let mut sources: Vec<Vec<Entry>> = (0..n).map(|_| Vec::new()).collect();
    for i in 0..ENTRIES as u64 {
        let mut key = [b'k'; 16];
        key[8..].copy_from_slice(&i.to_be_bytes());
        sources[source_of(i)].push(Entry {
            key,
            tag: Tag::new(SeqNo::new(i + 1), ValueKind::Put),
            value: [i as u8; 100],
        });
    }
    sources.into_iter().map(Arc::from).collect()
}

fn cursors(sources: &[Arc<[Entry]>]) -> Vec<VecCursor> {
    let cursor = |entries: &Arc<[Entry]>| VecCursor {
        entries: Arc::clone(entries),
        at: usize::MAX,
    };
    sources.iter().map(cursor).collect()
}

/// A pseudo-random number of `i`.
fn scatter(i: u64) -> u64 {
    let mut x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 32;
    x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ x >> 29
}

fn walk(cursor: &mut impl Cursor) -> u64 {
    let (mut entries, mut sum) = (0, 0u64);
    cursor.first().expect("vectors do not fail");
    while cursor.valid() {
        sum = sum.wrapping_add(u64::from(cursor.key()[15])) + u64::from(cursor.value()[99]);
        entries += 1;
        cursor.next().expect("vectors do not fail");
    }
    assert_eq!(entries, ENTRIES);
    sum
}

fn walk_back(cursor: &mut impl Cursor) -> u64 {
    let (mut entries, mut sum) = (0, 0u64);
    cursor.last().expect("vectors do not fail");
    while cursor.valid() {
        sum = sum.wrapping_add(u64::from(cursor.key()[15])) + u64::from(cursor.value()[99]);
        entries += 1;
        cursor.prev().expect("vectors do not fail");
    }
    assert_eq!(entries, ENTRIES);
    sum
}

fn walk_visible(visible: &mut Visible<Merge<VecCursor>>, back: bool) -> u64 {
    let (mut entries, mut sum) = (0, 0u64);
    loop {
        let moved = if back { visible.prev() } else { visible.next() };
        moved.expect("vectors do not fail");
        let Some((key, value)) = visible.entry() else {
            break;
        };
        sum = sum.wrapping_add(u64::from(key[15])) + u64::from(value[99]);
        entries += 1;
    }
    assert_eq!(entries, ENTRIES);
    sum
}

/// `passes` times what the fastest of them took.
fn fastest(passes: u64, mut pass: impl FnMut() -> u64) -> Duration {
    let time = |_| {
        let start = Instant::now();
        black_box(pass());
        start.elapsed()
    };
    let fastest = (0..passes).map(time).min().unwrap_or_default();
    fastest.saturating_mul(u32::try_from(passes).unwrap_or(u32::MAX))
}

fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("step");
    group
        .throughput(Throughput::Elements(ENTRIES as u64))
        .sample_size(20);

    let one = sources(1, |_| 0);
    group.bench_function("no merge", |b| {
        let mut cursor = cursors(&one).pop().expect("there is one");
        b.iter_custom(|n| fastest(n, || walk(&mut cursor)));
    });
    for n in [1, 2, 4, 8, 16] {
        let even = sources(n, |i| scatter(i) as usize % n);
        group.bench_function(format!("merge of {n}, even"), |b| {
            let mut merge = Merge::new(cursors(&even));
            b.iter_custom(|n| fastest(n, || walk(&mut merge)));
        });
    }
    // Each source holds eight times what the one before it holds, as levels do.
    let level_of = |i: u64| 3 - (scatter(i) | 1 << 9).trailing_zeros() as usize / 3;
    let levels = sources(4, level_of);
    group.bench_function("merge of 4, levels", |b| {
        let mut merge = Merge::new(cursors(&levels));
        b.iter_custom(|n| fastest(n, || walk(&mut merge)));
    });
    group.bench_function("merge of 4, levels, backward", |b| {
        let mut merge = Merge::new(cursors(&levels));
        b.iter_custom(|n| fastest(n, || walk_back(&mut merge)));
    });
    for (name, sources) in [("1", &one), ("4, levels", &levels)] {
        for back in [false, true] {
            let way = if back { "backward" } else { "forward" };
            group.bench_function(format!("visible of {name}, {way}"), |b| {
                b.iter_custom(|n| {
                    fastest(n, || {
                        let merge = Merge::new(cursors(sources));
                        let mut visible = Visible::new(
                            merge,
                            SeqNo::MAX.into(),
                            Bounds::unbounded(),
                            Default::default(),
                            Default::default(),
                            Default::default(),
                        );
                        walk_visible(&mut visible, back)
                    })
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);

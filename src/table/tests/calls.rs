//! The calls that a table is written by: their size decides what pages the file is kept in.

use super::*;
use crate::fs::sim::{CallKind, SimFs};
use std::path::Path;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Offset and length of each write of a short-lived or lasting table with `count` such values.
fn writes(is_short_lived: bool, count: u64, value: &[u8]) -> Vec<(u64, u64)> {
    writes_of(count, value, |builder| match is_short_lived {
        true => builder.short_lived(),
        false => builder,
    })
}

fn writes_of(
    count: u64,
    value: &[u8],
    of_kind: impl FnOnce(Builder) -> Builder,
) -> Vec<(u64, u64)> {
    let sim = SimFs::new(1);
    let fs = Fs::sim(&sim, Path::new("/db"));
    fs.make_root().unwrap();
    let file = fs.create_new(Place::NAME).unwrap();
    let mut builder = of_kind(Builder::new(file, options(4096, Compression::None)));
    for n in 0..count {
        builder.add(&n.to_be_bytes(), tag(1), value).unwrap();
    }
    let bytes = builder.finish().unwrap().bytes;
    let mut calls = sim.calls();
    calls.retain(|call| call.site.kind == CallKind::Write);
    let mut end = 0;
    for call in &calls {
        assert_eq!(call.offset, end, "front to back, each byte once");
        end += call.len;
    }
    assert_eq!(end, bytes);
    calls.iter().map(|call| (call.offset, call.len)).collect()
}

/// All calls but the last are of this size, and there is more than one.
fn assert_calls_of(size: u64, calls: &[(u64, u64)]) {
    let (last, others) = calls.split_last().unwrap();
    assert!(!others.is_empty() && last.1 <= size, "{calls:?}");
    for (offset, len) in others {
        assert_eq!((offset % size, *len), (0, size), "{calls:?}");
    }
}

#[test]
fn long_entries_of_a_short_lived_table_leave_in_small_calls_and_all_others_in_huge_pages() {
    for is_short_lived in [false, true] {
        assert_calls_of(2 * MIB, &writes(is_short_lived, 100_000, &[1; 50]));
        assert_calls_of(2 * MIB, &writes(is_short_lived, 5_000, &[1; KIB as usize]));
        let size = if is_short_lived { 256 * KIB } else { 2 * MIB };
        assert_calls_of(size, &writes(is_short_lived, 1_200, &[1; 4 * KIB as usize]));
        assert_calls_of(size, &writes(is_short_lived, 100, &[1; 64 * KIB as usize]));
        // Larger than the buffer, and the first of the table.
        assert_calls_of(size, &writes(is_short_lived, 1, &[1; 5 * MIB as usize]));
    }
}

#[test]
fn a_bulk_load_leaves_in_small_calls_however_long_its_entries_are() {
    for (count, bytes) in [(100_000, 50), (5_000, 1_000), (100, 64_000)] {
        let calls = writes_of(count, &vec![1; bytes], Builder::in_small_calls);
        assert_calls_of(256 * KIB, &calls);
    }
}

#[test]
fn a_thread_keeps_one_buffer_however_large_its_tables_were() {
    let kept = || super::builder::spare_bytes() as u64;
    writes(true, 10, &[1; 100]);
    let usual = kept();
    assert!((2 * MIB..3 * MIB).contains(&usual), "{usual}");
    writes(true, 3, &vec![1; 20 * MIB as usize]);
    writes(true, 300_000, b"");
    assert!((usual..=5 * MIB).contains(&kept()), "{}", kept());
}

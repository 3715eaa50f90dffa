//! Reading against a model: what is read is what was written, whichever way it is asked for.

use super::*;
use crate::base::cursor::Cursor;
use crate::base::key::compare;
use proptest::prelude::*;

/// Rows in internal order, no two alike.
fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| compare(&a.0, tag(a.1), &b.0, tag(b.1)));
    rows.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
    rows
}

fn newest_at<'r>(rows: &'r [Row], key: &[u8], at: u64) -> Option<&'r Row> {
    rows.iter().find(|row| row.0 == key && row.1 <= at)
}

fn assert_stands_on(cursor: &TableCursor, row: Option<&Row>) {
    assert_eq!(cursor.valid(), row.is_some(), "valid, at {row:?}");
    if let Some(row) = row {
        assert_eq!((cursor.key(), cursor.tag()), (&row.0[..], row_tag(row)));
        let value = row.2.as_deref().unwrap_or(b"");
        assert_eq!(cursor.value(), value);
        assert_eq!(cursor.value_slice(), value);
    }
}

/// Every key and every gap, at every version, by get and by both seeks; then the whole both ways.
fn check_all(rows: &[Row], table: &Arc<Table>) {
    table.verify().unwrap();
    let mut cursor = table.cursor();
    let mut probes: Vec<Vec<u8>> = vec![b"".to_vec(), vec![0xff; 20]];
    for row in rows {
        let mut before = row.0.clone();
        before.pop();
        probes.extend([row.0.clone(), [&row.0[..], &[0]].concat(), before]);
    }
    probes.sort();
    probes.dedup();
    let mut seqnos: Vec<u64> = rows
        .iter()
        .flat_map(|r| [r.1, r.1.saturating_sub(1)])
        .collect();
    seqnos.extend([0, SeqNo::MAX.get()]);
    seqnos.sort_unstable();
    seqnos.dedup();
    let stride = (seqnos.len() / 6).max(1);
    for probe in &probes {
        for at in seqnos.iter().step_by(stride).copied() {
            let expected = newest_at(rows, probe, at);
            let found = table.get(probe, hash(probe), SeqNo::new(at)).unwrap();
            assert_eq!(found.as_ref().map(|v| v.tag), expected.map(row_tag));
            let place = table.place(probe, SeqNo::new(at)).unwrap();
            table.approach(place, hash(probe));
            let staged = table.get_at(place, probe, hash(probe), SeqNo::new(at));
            let staged = staged.unwrap().map(|v| (v.tag, v.bytes().to_vec()));
            assert_eq!(staged, found.as_ref().map(|v| (v.tag, v.bytes().to_vec())));
            if let (Some(found), Some(row)) = (found, expected) {
                assert!(table.may_contain(hash(probe)));
                let value = row.2.as_deref().unwrap_or(b"");
                assert_eq!(found.bytes(), value);
                assert_eq!(found.to_slice(), value);
            }
            let sought = Tag::newest_at(SeqNo::new(at));
            cursor.seek(probe, sought).unwrap();
            let i = rows.partition_point(|r| compare(&r.0, row_tag(r), probe, sought).is_lt());
            assert_stands_on(&cursor, rows.get(i));
            cursor.seek_for_prev(probe, sought).unwrap();
            let i = rows.partition_point(|r| compare(&r.0, row_tag(r), probe, sought).is_le());
            assert_stands_on(&cursor, i.checked_sub(1).map(|i| &rows[i]));
        }
    }
    for mut cursor in [table.cursor(), table.compaction_cursor()] {
        cursor.first().unwrap();
        for row in rows {
            assert_stands_on(&cursor, Some(row));
            cursor.seek_for_prev(&row.0, row_tag(row)).unwrap();
            assert_stands_on(&cursor, Some(row));
            cursor.next().unwrap();
        }
        assert!(!cursor.valid());
        cursor.last().unwrap();
        for row in rows.iter().rev() {
            assert_stands_on(&cursor, Some(row));
            cursor.prev().unwrap();
        }
        assert!(!cursor.valid());
    }
}

/// Every way a table may be written and read in this build.
fn every_way(rows: &[Row], block_bytes: u32) {
    let place = Place::new();
    for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
        if !codec.is_supported() {
            continue;
        }
        let summary = place.build(options(block_bytes, codec), rows);
        assert_eq!(summary.entries, rows.len() as u64);
        let tombstones = rows.iter().filter(|row| row.2.is_none()).count();
        assert_eq!(summary.tombstones, tombstones as u64);
        let raw = rows
            .iter()
            .map(|r| r.0.len() + r.2.as_ref().map_or(0, Vec::len));
        assert_eq!(summary.raw_bytes, raw.sum::<usize>() as u64);
        if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            assert_eq!((&summary.smallest, &summary.largest), (&first.0, &last.0));
            let lowest = rows.iter().map(|row| row.1).min().unwrap();
            assert_eq!(summary.seqnos.0, SeqNo::new(lowest));
        }
        for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
            let context = context(read_mode, Verify::FirstTouch);
            check_all(rows, &place.open(summary.bytes, &context));
            assert!(context.cache.bytes() <= 1 << 20);
        }
    }
    let summary = place.build(options(block_bytes, Compression::None), rows);
    let context = context(ReadMode::Mmap, Verify::EveryRead);
    check_all(rows, &place.open(summary.bytes, &context));
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let long: &[u8] = &[b'x'; 300];
    prop_oneof![
        proptest::collection::vec(0u8..3, 0..6),
        proptest::collection::vec(any::<u8>(), 0..20),
        proptest::collection::vec(0u8..2, 0..5).prop_map(move |tail| [long, &tail].concat()),
        (0u64..1000).prop_map(|n| format!("key{n:013}").into_bytes()),
    ]
}

fn rows(count: usize) -> impl Strategy<Value = Vec<Row>> {
    let value = prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(Some),
        2 => Just(None),
        1 => (500usize..3000).prop_map(|n| Some(vec![n as u8; n])),
    ];
    let seqno = prop_oneof![0u64..4, 0u64..1000, 0..SeqNo::MAX.get()];
    proptest::collection::vec((key(), seqno, value), 0..count).prop_map(sorted)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_table_answers_as_the_model_does(
        rows in rows(60),
        block_bytes in prop::sample::select(vec![256u32, 512, 4096]),
    ) {
        every_way(&rows, block_bytes);
    }

    /// Bug 64 of other engines: direction switches and re-seeks.
    #[test]
    fn a_random_walk_of_the_cursor_follows_the_model(
        rows in rows(80),
        steps in proptest::collection::vec((0u8..10, key(), 0u64..1001), 1..200),
        codec in prop::sample::select(vec![Compression::None, Compression::Lz4]),
    ) {
        let codec = if codec.is_supported() { codec } else { Compression::None };
        let place = Place::new();
        let summary = place.build(options(256, codec), &rows);
        let table = place.open(summary.bytes, &context(ReadMode::Mmap, Verify::FirstTouch));
        let mut cursor = table.cursor();
        let mut at: Option<usize> = None;
        for (step, key, seqno) in steps {
            let sought = tag(seqno);
            match (step, at) {
                (0, _) => {
                    cursor.first().unwrap();
                    at = (!rows.is_empty()).then_some(0);
                }
                (1, _) => {
                    cursor.last().unwrap();
                    at = rows.len().checked_sub(1);
                }
                (2, _) => {
                    cursor.seek(&key, sought).unwrap();
                    let i = rows.partition_point(|r| compare(&r.0, row_tag(r), &key, sought).is_lt());
                    at = (i < rows.len()).then_some(i);
                }
                (3, _) => {
                    cursor.seek_for_prev(&key, sought).unwrap();
                    let i = rows.partition_point(|r| compare(&r.0, row_tag(r), &key, sought).is_le());
                    at = i.checked_sub(1);
                }
                (4..=6, Some(i)) => {
                    cursor.next().unwrap();
                    at = (i + 1 < rows.len()).then_some(i + 1);
                }
                (_, Some(i)) => {
                    cursor.prev().unwrap();
                    at = i.checked_sub(1);
                }
                (_, None) => {}
            }
            assert_stands_on(&cursor, at.map(|i| &rows[i]));
            if let Some(i) = at && cursor.is_newest() {
                prop_assert!(i == 0 || rows[i - 1].0 != rows[i].0, "a version before entry {i}");
            }
        }
    }
}

#[test]
fn of_most_only_versions_a_cursor_knows_at_once_that_they_are_the_newest() {
    let rows: Vec<Row> = (0..1000u64)
        .map(|n| (n.to_be_bytes().to_vec(), n + 1, Some(vec![b'v'; 100])))
        .collect();
    let place = Place::new();
    let summary = place.build(options(4096, Compression::None), &rows);
    let table = place.open(summary.bytes, &context(ReadMode::Mmap, Verify::FirstTouch));
    let mut cursor = table.cursor();
    let mut known = 0;
    cursor.last().unwrap();
    while cursor.valid() {
        known += usize::from(cursor.is_newest());
        cursor.prev().unwrap();
    }
    // Not of the first one of a block, nor where two fingerprints are equal by chance.
    assert!((900..1000).contains(&known), "{known}");
}

#[test]
fn versions_of_one_key_that_span_blocks_are_each_found() {
    let mut rows: Vec<Row> = (0..400u64)
        .map(|n| {
            (
                b"one".to_vec(),
                n * 3 + 1,
                Some(format!("{n}").into_bytes()),
            )
        })
        .collect();
    rows.push((b"on".to_vec(), 9, Some(vec![1; 40])));
    rows.push((b"one\0".to_vec(), 9, None));
    rows.push((b"two".to_vec(), 5, Some(vec![2; 40])));
    let rows = sorted(rows);
    let place = Place::new();
    let summary = place.build(options(256, Compression::None), &rows);
    assert!(summary.bytes > 20 * 256, "the versions span blocks");
    let table = place.open(summary.bytes, &context(ReadMode::Mmap, Verify::FirstTouch));
    for at in 0..1300 {
        let found = table.get(b"one", hash(b"one"), SeqNo::new(at)).unwrap();
        let expected = newest_at(&rows, b"one", at).map(row_tag);
        assert_eq!(found.map(|value| value.tag), expected, "at {at}");
    }
    every_way(&rows, 256);
}

/// Bug 61 of other engines.
#[test]
fn long_common_prefixes_in_blocks_of_one_key() {
    let prefix = vec![b'p'; 240];
    let rows: Vec<Row> = (0..120u32)
        .map(|n| {
            let tail = (n * 3).to_be_bytes();
            ([&prefix[..], &tail].concat(), 1, Some(vec![n as u8; 250]))
        })
        .collect();
    every_way(&rows, 256);
}

#[test]
fn the_largest_keys_and_large_values() {
    let large = |first: u8, n: usize| [&[first][..], &vec![b'k'; n - 1]].concat();
    let rows = sorted(vec![
        (vec![], 3, Some(vec![])),
        (large(b'a', 64 << 10), 1, Some(vec![9; 10])),
        (large(b'a', (64 << 10) - 1), 1, None),
        (b"b".to_vec(), 2, Some(vec![7; 3 << 20])),
        (b"b".to_vec(), 1, Some(vec![8; 5000])),
        (large(b'c', 64 << 10), 1, Some(vec![6; 100_000])),
        (b"d".to_vec(), 1, Some(vec![1])),
    ]);
    every_way(&rows, 4096);
}

#[test]
fn a_table_of_nothing_is_a_table() {
    every_way(&[], 4096);
}

#[test]
fn entries_over_their_limits_are_refused() {
    let place = Place::new();
    let file = place.0.create_new(Place::NAME).unwrap();
    let mut builder = Builder::new(file, options(4096, Compression::None));
    let key = vec![0; (64 << 10) + 1];
    let kind = |result: Result<()>| result.unwrap_err().kind();
    use crate::base::error::ErrorKind;
    assert_eq!(kind(builder.add(&key, tag(1), b"")), ErrorKind::TooLarge);
    let range = Tag::new(SeqNo::new(1), ValueKind::DeleteRange);
    assert_eq!(kind(builder.add(b"a", range, b"b")), ErrorKind::Unsupported);
    builder.add(b"a", tag(1), b"b").unwrap();
    assert_eq!(builder.finish().unwrap().entries, 1);
}

#[test]
fn a_slice_outlives_the_table_and_the_file() {
    let place = Place::new();
    let rows = vec![(b"k".to_vec(), 1, Some(vec![5; 2000]))];
    for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
        let summary = place.build(options(4096, Compression::None), &rows);
        let table = place.open(summary.bytes, &context(read_mode, Verify::FirstTouch));
        let slice = table
            .get(b"k", hash(b"k"), SeqNo::MAX)
            .unwrap()
            .unwrap()
            .to_slice();
        let mut cursor = table.cursor();
        cursor.first().unwrap();
        let second = cursor.value_slice();
        drop((cursor, table));
        place.0.remove(Place::NAME).unwrap();
        assert_eq!(slice, vec![5; 2000]);
        assert_eq!(second, slice);
    }
}

/// Bug 62 of other engines: the file number and the inode come again, the cached blocks must not.
#[test]
fn a_file_made_again_under_its_number_is_not_read_from_the_old_ones_cache() {
    let place = Place::new();
    let context = context(ReadMode::Pread, Verify::FirstTouch);
    for round in 0..5u8 {
        let rows: Vec<Row> = (0..50u8)
            .map(|n| (vec![n], 1, Some(vec![round; 40])))
            .collect();
        let summary = place.build(options(256, Compression::None), &rows);
        let table = place.open(summary.bytes, &context);
        for row in &rows {
            for _ in 0..2 {
                let found = table
                    .get(&row.0, hash(&row.0), SeqNo::MAX)
                    .unwrap()
                    .unwrap();
                assert_eq!(found.bytes(), vec![round; 40]);
            }
        }
    }
    let (hits, _) = context.cache.hits_and_misses();
    assert!(hits > 5 * 50, "the cache was warm");
}

#[test]
fn compaction_leaves_the_cache_alone() {
    let place = Place::new();
    let rows: Vec<Row> = (0..200u8)
        .map(|n| (vec![n], 1, Some(vec![n; 40])))
        .collect();
    let summary = place.build(options(256, Compression::None), &rows);
    let context = context(ReadMode::Pread, Verify::FirstTouch);
    let table = place.open(summary.bytes, &context);
    let mut cursor = table.compaction_cursor();
    cursor.first().unwrap();
    while cursor.valid() {
        cursor.next().unwrap();
    }
    assert_eq!(context.cache.bytes(), 0);
}

#[test]
fn approximate_bytes_are_right_to_a_few_blocks() {
    let place = Place::new();
    let key = |n: u32| format!("{n:08}").into_bytes();
    let rows: Vec<Row> = (0..2000).map(|n| (key(n), 1, Some(vec![1; 50]))).collect();
    let summary = place.build(options(256, Compression::None), &rows);
    let table = place.open(summary.bytes, &context(ReadMode::Mmap, Verify::FirstTouch));
    let all = table.approximate_bytes(None, None).unwrap();
    assert!(all <= summary.bytes && summary.bytes * 8 / 10 < all);
    let half = table.approximate_bytes(Some(&key(500)), Some(&key(1500)));
    let half = half.unwrap();
    assert!(half.abs_diff(all / 2) < 4 * 256, "{half} of {all}");
    let inverted = table.approximate_bytes(Some(&key(1500)), Some(&key(500)));
    assert_eq!(inverted.unwrap(), 0);
    let tail = table.approximate_bytes(Some(&key(1000)), Some(b"9"));
    let tail = tail.unwrap();
    assert!(tail.abs_diff(all / 2) < 4 * 256);
}

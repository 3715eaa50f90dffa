//! The memtable against a `BTreeMap`, under concurrency, with hostile hashes, and its memory.

use super::index::INDEX_SLOTS_MIN;
use super::*;
use crate::base::cursor::Cursor;
use crate::base::types::ValueKind::{self, Delete, Put};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Acquire, Release};

const HASHER: KeyHasher = KeyHasher::new(7);

fn options() -> MemtableOptions {
    MemtableOptions {
        capacity_bytes: 64 << 20,
        hasher: HASHER,
        common_prefix: Vec::new(),
        index_slots: 0,
    }
}

fn memtable(options: MemtableOptions) -> Arc<Memtable> {
    Arc::new(Memtable::new(options, &Pool::new(0)))
}

fn put(n: u64) -> Tag {
    Tag::new(SeqNo::new(n), Put)
}

type Model = BTreeMap<(Vec<u8>, Reverse<Tag>), Vec<u8>>;
type Row = (Vec<u8>, Tag, Vec<u8>);

fn row(cursor: &impl Cursor) -> Option<Row> {
    (cursor.valid()).then(|| (cursor.key().to_vec(), cursor.tag(), cursor.value().to_vec()))
}

fn rows(cursor: &mut impl Cursor) -> Vec<Row> {
    let mut all = Vec::new();
    cursor.first().unwrap();
    while let Some(row) = row(cursor) {
        all.push(row);
        cursor.next().unwrap();
    }
    all
}

fn model_rows(model: &Model) -> Vec<Row> {
    let rows = model.iter();
    rows.map(|((k, t), v)| (k.clone(), t.0, v.clone()))
        .collect()
}

fn model_get<'m>(model: &'m Model, key: &[u8], at: SeqNo) -> Option<(Tag, &'m [u8])> {
    let from = (key.to_vec(), Reverse(Tag::newest_at(at)));
    let ((k, t), v) = model.range(from..).next()?;
    (k == key).then_some((t.0, v))
}

fn get<'m>(memtable: &'m Memtable, key: &[u8], at: u64) -> Option<(Tag, &'m [u8])> {
    let found = memtable.get(key, HASHER.hash(key), SeqNo::new(at))?;
    Some((found.tag, found.value))
}

/// Few distinct keys, many of them prefixes of others or equal in their first bytes.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![Just(0u8), Just(b'a'), Just(255u8)];
    prop_oneof![
        proptest::collection::vec(byte(), 0..4),
        proptest::collection::vec(byte(), 0..3).prop_map(|end| [b"aaaaaaaaaa", &end[..]].concat()),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Next,
    Prev,
    First,
    Last,
    Seek(Vec<u8>, u64),
    SeekForPrev(Vec<u8>, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Next),
        6 => Just(Step::Prev),
        1 => Just(Step::First),
        1 => Just(Step::Last),
        2 => (key(), 0u64..400).prop_map(|(k, n)| Step::Seek(k, n)),
        2 => (key(), 0u64..400).prop_map(|(k, n)| Step::SeekForPrev(k, n)),
    ]
}

/// Walks cursor and model alike; the model's place is a position in its rows.
fn walk(cursor: &mut impl Cursor, rows: &[Row], steps: &[Step]) -> Result<(), TestCaseError> {
    let place = |row: &Row| (row.0.clone(), Reverse(row.1));
    let mut at: Option<usize> = None;
    for step in steps {
        match step {
            Step::Next | Step::Prev if at.is_none() => continue,
            Step::Next => {
                cursor.next().unwrap();
                at = at.map(|i| i + 1);
            }
            Step::Prev => {
                cursor.prev().unwrap();
                at = at.and_then(|i| i.checked_sub(1));
            }
            Step::First => {
                cursor.first().unwrap();
                at = Some(0);
            }
            Step::Last => {
                cursor.last().unwrap();
                at = rows.len().checked_sub(1);
            }
            Step::Seek(key, n) => {
                cursor.seek(key, put(*n)).unwrap();
                let sought = (key.clone(), Reverse(put(*n)));
                at = Some(rows.partition_point(|row| place(row) < sought));
            }
            Step::SeekForPrev(key, n) => {
                cursor.seek_for_prev(key, put(*n)).unwrap();
                let sought = (key.clone(), Reverse(put(*n)));
                at = rows
                    .partition_point(|row| place(row) <= sought)
                    .checked_sub(1);
            }
        }
        at = at.filter(|&i| i < rows.len());
        prop_assert_eq!(row(cursor), at.map(|i| rows[i].clone()), "after {:?}", step);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    /// Whatever is in the tail and in runs: gets at any time and walks of any kind answer as a
    /// sorted map does.
    #[test]
    fn it_is_a_sorted_map_of_versions(
        writes in proptest::collection::vec((key(), any::<bool>(), 0usize..40, 0u8..30), 1..300),
        steps in proptest::collection::vec(step(), 1..80),
        common_prefix in key(),
    ) {
        let memtable = memtable(MemtableOptions { common_prefix, ..options() });
        let mut model = Model::new();
        for (i, (key, deleted, len, upkeep)) in writes.iter().enumerate() {
            let n = i as u64 + 1;
            let tag = Tag::new(SeqNo::new(n), if *deleted { Delete } else { Put });
            let value = vec![i as u8; if *deleted { 0 } else { *len }];
            memtable.insert(key, HASHER.hash(key), tag, &value);
            model.insert((key.clone(), Reverse(tag)), value);
            match upkeep {
                0..4 => drop(memtable.cursor()),
                4 => drop(memtable.drain_cursor()),
                _ => {}
            }
            let at = SeqNo::new(n * u64::from(*upkeep) / 29);
            let expected = model_get(&model, key, at);
            prop_assert_eq!(get(&memtable, key, at.get()), expected);
            prop_assert_eq!(
                memtable.get_ordered(key, Tag::newest_at(at)).map(|f| (f.tag, f.value)),
                expected
            );
        }
        let all = model_rows(&model);
        walk(&mut memtable.cursor(), &all, &steps)?;
        prop_assert_eq!(rows(&mut memtable.cursor()), &all[..]);
        prop_assert!(memtable.ordered(RUNS_MAX).len() <= RUNS_MAX);
        prop_assert_eq!(rows(&mut memtable.drain_cursor()), &all[..]);
        walk(&mut memtable.drain_cursor(), &all, &steps)?;
        prop_assert_eq!(memtable.entries(), all.len() as u64);
        prop_assert_eq!(memtable.seqnos(), Some((SeqNo::new(1), SeqNo::new(writes.len() as u64))));
    }
}

/// Enough entries for several runs, a merge of them and many doublings of the index.
#[test]
fn a_large_memtable_finds_and_orders_everything() {
    const N: u64 = 100_000;
    let key = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % N).to_be_bytes();
    // Never asked for its order, and asked every so often.
    let both = [u64::MAX, 1_000].map(|every| {
        let memtable = memtable(options());
        for i in 0..N {
            memtable.insert(&key(i), HASHER.hash(&key(i)), put(i + 1), &i.to_le_bytes());
            if i % every == every - 1 {
                assert!(memtable.ordered(RUNS_MAX).len() <= RUNS_MAX);
            }
        }
        memtable
    });
    assert!(1 < both[1].ordered(RUNS_MAX).len());
    for memtable in &both {
        assert!(
            !memtable.index.incomplete(),
            "random hashes always find room"
        );
        for i in 0..N {
            let found = get(memtable, &key(i), i + 1).unwrap();
            assert_eq!(found, (put(i + 1), &i.to_le_bytes()[..]));
        }
        assert_eq!(get(memtable, b"absent", u64::MAX), None);
    }
    let drained = rows(&mut both[1].drain_cursor());
    assert_eq!(drained.len() as u64, N);
    assert!(drained.is_sorted_by_key(|row| (row.0.clone(), Reverse(row.1))));
    assert!(drained == rows(&mut both[0].drain_cursor()));
    assert_eq!(both[1].ordered(RUNS_MAX).len(), 1);
}

/// Runs that are each more than twice as long as all behind them cannot be merged for little, and
/// stay as they are, however many: merging none of them must not add an empty one.
#[test]
fn runs_that_shrink_fast_stay_as_they_are() {
    let memtable = memtable(options());
    let mut n = 0u64;
    for len in (0..10).rev().map(|power| 3u64.pow(power)) {
        for _ in 0..len {
            n += 1;
            let key = n.to_be_bytes();
            memtable.insert(&key, HASHER.hash(&key), put(n), b"");
        }
        drop(memtable.cursor());
    }
    let lens = |runs: Runs| runs.iter().map(|run| run.len()).collect::<Vec<_>>();
    let shrinking: Vec<_> = (0..10).rev().map(|power| 3usize.pow(power)).collect();
    for _ in 0..2 {
        assert_eq!(lens(memtable.ordered(RUNS_MAX)), shrinking);
    }
    assert_eq!(lens(memtable.ordered(1)), [n as usize]);
}

/// One key, 10,000 versions: each stays reachable, and no read walks more than 16 of them.
#[test]
fn a_hot_key_answers_at_every_sequence_number() {
    let memtable = memtable(options());
    let hash = HASHER.hash(b"hot");
    for n in 1..=10_000 {
        memtable.insert(b"hot", hash, put(n * 2), &n.to_le_bytes());
    }
    assert_eq!(get(&memtable, b"hot", 1), None);
    for n in 1..=10_000u64 {
        let expected = Some((put(n * 2), &n.to_le_bytes()[..]));
        assert_eq!(get(&memtable, b"hot", n * 2), expected);
        assert_eq!(get(&memtable, b"hot", n * 2 + 1), expected);
    }
    // Reverse over all versions of one key is a loop, not a recursion (engines.md 65).
    let mut cursor = memtable.cursor();
    cursor.last().unwrap();
    for n in 1..=10_000 {
        assert_eq!(cursor.tag(), put(n * 2));
        cursor.prev().unwrap();
    }
    assert!(!cursor.valid());
}

/// Two writes of one key in one batch have two sequence numbers: both are kept, newest first,
/// whichever way one walks, in one run and in two (engines.md 17).
#[test]
fn two_versions_from_one_batch_are_two_entries() {
    let memtable = memtable(options());
    let hash = HASHER.hash(b"k");
    memtable.insert(b"k", hash, put(5), b"first");
    drop(memtable.cursor());
    memtable.insert(b"k", hash, Tag::new(SeqNo::new(6), Delete), b"");
    assert_eq!(memtable.ordered(RUNS_MAX).len(), 2);
    for runs in [2, 1] {
        assert_eq!(memtable.ordered(runs).len(), runs);
        let mut cursor = memtable.cursor();
        let tags: Vec<_> = rows(&mut cursor).iter().map(|row| row.1).collect();
        assert_eq!(tags, [Tag::new(SeqNo::new(6), Delete), put(5)]);
        cursor.last().unwrap();
        assert_eq!(cursor.tag(), put(5));
        cursor.prev().unwrap();
        assert_eq!(cursor.tag().kind(), ValueKind::Delete);
    }
}

#[test]
fn values_of_a_mebibyte_and_long_keys_are_kept_whole() {
    let memtable = memtable(options());
    let key = |i: u64| vec![i as u8; if i.is_multiple_of(3) { 64 << 10 } else { 3 }];
    for i in 0..20 {
        let value = vec![i as u8; 1 << 20];
        memtable.insert(&key(i), HASHER.hash(&key(i)), put(i + 1), &value);
        memtable.insert(b"small", HASHER.hash(b"small"), put(100 + i), b"x");
    }
    for i in 0..20 {
        let (_, value) = get(&memtable, &key(i), 200).unwrap();
        assert!(value.len() == 1 << 20 && value.iter().all(|&b| b == i as u8));
    }
    // Large entries do not waste the chunk that is being filled.
    assert!(memtable.memory() < memtable.bytes() + (1 << 20));
}

/// Equal hashes (P22): 72 keys and more share a home; those without room are found by the order.
#[test]
fn colliding_hashes_are_slower_and_still_right() {
    for hash in [0, 0x1234_5678_9abc_def0, u64::MAX] {
        let memtable = memtable(options());
        let mut tags = Vec::new();
        for n in 0..3000u64 {
            let key = (n % 1000).to_be_bytes();
            memtable.insert(&key, hash, put(n + 1), &n.to_le_bytes());
            tags.push(key);
        }
        // Honest keys let the table grow with the others in it.
        for n in 0..5000u64 {
            let key = (n << 32).to_le_bytes();
            memtable.insert(&key, HASHER.hash(&key), put(n + 4001), b"honest");
        }
        for n in 3000..4000u64 {
            let key = (n % 1000).to_be_bytes();
            memtable.insert(&key, hash, put(n + 6001), &n.to_le_bytes());
            tags.push(key);
        }
        assert!(memtable.index.incomplete());
        assert!(
            memtable.index.memory() < 1 << 20,
            "colliding keys do not grow it without end"
        );
        for (n, key) in tags.iter().enumerate() {
            let n = n as u64;
            let at = SeqNo::new(if n < 3000 { n + 1 } else { n + 6001 });
            let found = memtable.get(key, hash, at).unwrap();
            assert_eq!((found.tag.seqno(), found.value), (at, &n.to_le_bytes()[..]));
        }
        // Every version of a key, wherever its chain begins.
        for n in 0..1000u64 {
            let mut found = Vec::new();
            let (key, at) = (n.to_be_bytes(), SeqNo::new(2000 + n));
            memtable.versions(&key, hash, at, |v| found.push(v.tag.seqno().get()));
            assert_eq!(found, [n + 1001, n + 1], "at {at}");
        }
        assert!(memtable.get(b"absent", hash, SeqNo::MAX).is_none());
        assert!(get(&memtable, b"absent", 1 << 40).is_none());
    }
}

/// Readers find whatever was published before they looked, in the index and in order, while one
/// writer goes through doublings and (by the readers' cursors) runs and merges.
#[test]
fn readers_beside_a_writer_miss_nothing_published() {
    const N: u64 = 60_000;
    const KEYS: u64 = 20_000;
    let key = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS).to_be_bytes();
    let memtable = memtable(options());
    let published = AtomicU64::new(0);
    crate::base::sync::thread::scope(|scope| {
        for reader in 0..3u64 {
            let (memtable, published) = (&memtable, &published);
            scope.spawn(move || {
                let mut random = reader + 1;
                let mut rounds = 0u64;
                loop {
                    // Pairs with the Release below.
                    let at = published.load(Acquire);
                    if at == N {
                        break;
                    }
                    for _ in 0..200 {
                        random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                        let n = (random >> 33) % (at + 1);
                        if n == 0 {
                            continue;
                        }
                        // The version of write n, as a snapshot taken right after it sees it.
                        let found = get(memtable, &key(n), n);
                        assert_eq!(found, Some((put(n), &n.to_le_bytes()[..])));
                    }
                    rounds += 1;
                    if !rounds.is_multiple_of(64) {
                        continue;
                    }
                    let mut cursor = memtable.cursor();
                    let mut last: Option<(Vec<u8>, Reverse<Tag>)> = None;
                    let mut seen = 0;
                    cursor.first().unwrap();
                    while cursor.valid() {
                        let here = (cursor.key().to_vec(), Reverse(cursor.tag()));
                        assert!(last.is_none_or(|last| last < here));
                        seen += u64::from(cursor.tag().seqno().get() <= at);
                        last = Some(here);
                        cursor.next().unwrap();
                    }
                    assert_eq!(seen, at, "a scan sees each published entry once");
                }
            });
        }
        for n in 1..=N {
            memtable.insert(&key(n), HASHER.hash(&key(n)), put(n), &n.to_le_bytes());
            published.store(n, Release); // pairs with the Acquire above
        }
    });
    assert_eq!(memtable.entries(), N);
}

/// Memory is taken from the pool, handed back by the last owner only, and bounded there
/// (engines.md 82: nothing is given to a second arena while a reader can still reach it).
#[test]
fn memory_goes_back_to_the_pool_with_the_last_reader() {
    let pool = Pool::new(16 << 20);
    let fill = |index_slots| {
        let options = MemtableOptions {
            index_slots,
            capacity_bytes: 4 << 20,
            ..options()
        };
        let memtable = Arc::new(Memtable::new(options, &pool));
        for n in 0..20_000u64 {
            let key = n.to_be_bytes();
            memtable.insert(&key, HASHER.hash(&key), put(n + 1), &[n as u8; 100]);
        }
        memtable
    };
    let first = fill(0);
    let (_, slots) = first.successor_hint();
    let taken = first.arena.memory();
    let mut cursor = first.cursor();
    cursor.first().unwrap();
    drop(first);
    assert_eq!(pool.free_bytes(), 0, "a cursor holds its memtable");
    let second = fill(slots);
    assert_eq!(cursor.value(), [0; 100]);
    cursor.last().unwrap();
    assert_eq!(cursor.value(), [19_999u64 as u8; 100]);
    drop(cursor);
    assert_eq!(pool.free_bytes(), taken + slots as u64 * 8);

    // Recycled memory reads as fresh: the table is empty, the chunks are overwritten.
    let third = fill(slots);
    assert_eq!(pool.free_bytes(), 0);
    assert_eq!(get(&third, &20_000u64.to_be_bytes(), u64::MAX >> 8), None);
    assert_eq!(rows(&mut third.cursor()), rows(&mut second.cursor()));

    let small = Pool::new(100 << 10);
    let memtable = Memtable::new(options(), &small);
    for n in 0..20_000u64 {
        memtable.insert(&n.to_be_bytes(), n, put(n + 1), b"");
    }
    small.prepare();
    drop(memtable);
    assert!(small.free_bytes() <= 100 << 10);

    pool.set_bytes_max(100 << 10);
    drop((second, third));
    assert!(pool.free_bytes() <= 100 << 10);
}

/// A value above a quarter of a chunk has memory of its own: the next memtable's values have it again,
/// and one that a cursor still reads is nobody else's.
#[test]
fn the_memory_of_large_values_is_recycled_and_read_as_what_is_there_now() {
    let pool = Pool::new(16 << 20);
    let fill = |letter: u8, bytes: usize| {
        let memtable = Arc::new(Memtable::new(options(), &pool));
        for n in 0..4u64 {
            let key = n.to_be_bytes();
            memtable.insert(&key, HASHER.hash(&key), put(n + 1), &vec![letter; bytes]);
        }
        memtable
    };
    let first = fill(b'a', 1 << 20);
    let mut cursor = first.cursor();
    cursor.first().unwrap();
    drop(first);
    drop(fill(b'b', 1 << 20));
    assert!(4 << 20 < pool.free_bytes());
    let third = fill(b'c', 1_000_000);
    assert_eq!(pool.free_bytes(), 0, "all of it is in use again");
    assert!(
        rows(&mut third.cursor())
            .iter()
            .all(|(_, _, v)| *v == vec![b'c'; 1_000_000])
    );
    assert!(cursor.value().iter().all(|byte| *byte == b'a'));
}

/// The index grows at once to what the full memtable will need, and half of the way there whoever
/// prepares memory is told.
#[test]
fn the_table_that_the_index_will_grow_to_is_made_ready_before() {
    let pool = Pool::new(16 << 20);
    let options = MemtableOptions {
        capacity_bytes: 4 << 20,
        ..options()
    };
    let memtable = Memtable::new(options, &pool);
    let insert = |n: u64| {
        let key = n.to_be_bytes();
        memtable.insert(&key, HASHER.hash(&key), put(n + 1), &[0; 100]);
    };
    let grown = 16 * INDEX_SLOTS_MIN as u64 * 8;
    let mut n = 0;
    while pool.free_bytes() == 0 {
        assert!(n < 500, "half of the 768 keys at which it grows");
        insert(n);
        n += 1;
        pool.prepare();
    }
    assert_eq!(pool.free_bytes(), grown);
    pool.prepare();
    assert_eq!(pool.free_bytes(), grown, "one is enough");
    while pool.free_bytes() != 0 {
        assert!(n < 1000, "it takes the table that is ready");
        insert(n);
        n += 1;
    }
    assert_eq!(memtable.index.memory(), grown + INDEX_SLOTS_MIN as u64 * 8);
}

/// `is_full` comes with the first entry over the limit, and memory follows bytes (engines.md 73).
#[test]
fn it_is_full_at_its_capacity_and_its_memory_is_bounded_by_that() {
    let capacity_bytes = 4 << 20;
    let memtable = memtable(MemtableOptions {
        capacity_bytes,
        ..options()
    });
    assert_eq!((memtable.bytes(), memtable.seqnos()), (0, None));
    assert!(memtable.memory() <= 8 << 10, "an idle keyspace is cheap");
    let mut n = 0u64;
    while !memtable.is_full() {
        n += 1;
        let key = n.to_le_bytes();
        memtable.insert(&key, HASHER.hash(&key), put(n), &[1; 100]);
    }
    assert!(memtable.bytes() < capacity_bytes + 256);
    assert!(memtable.memory() < 2 * capacity_bytes);
    assert!(memtable.bytes() < memtable.memory());
}

#[test]
fn the_successor_is_told_what_keys_have_in_common() {
    let memtable = memtable(options());
    assert_eq!(memtable.successor_hint().0, b"");
    let insert = |key: &[u8], n| memtable.insert(key, HASHER.hash(key), put(n), b"");
    insert(b"user0000123", 1);
    assert_eq!(
        memtable.successor_hint().0,
        b"",
        "one key says nothing of others"
    );
    insert(b"user0000999", 2);
    drop(memtable.cursor());
    insert(b"user0000500", 3);
    assert_eq!(memtable.successor_hint().0, b"user00");
    insert(b"a", 4);
    assert_eq!(memtable.successor_hint().0, b"");
}

#[test]
fn cursors_travel_between_threads() {
    fn check<T: Send + 'static>() {}
    check::<MemtableCursor>();
    check::<DrainCursor>();
    check::<Arc<Memtable>>();
}

/// A cursor sees what was inserted before it and nothing else, whatever runs become of it.
#[test]
fn a_cursor_outlives_merges() {
    let memtable = memtable(options());
    let insert = |n: u64| {
        let key = (n * 7919 % 100_000).to_be_bytes();
        memtable.insert(&key, HASHER.hash(&key), put(n), b"");
    };
    (1..=100).for_each(insert);
    let mut cursor = memtable.cursor();
    cursor.first().unwrap();
    (101..=90_000).for_each(insert);
    assert!(rows(&mut memtable.cursor()).len() == 90_000);
    let mut seen = 0;
    while cursor.valid() {
        assert!(cursor.tag().seqno().get() <= 100);
        seen += 1;
        cursor.next().unwrap();
    }
    assert_eq!(seen, 100);
}

#[test]
fn deleted_ranges_over_one_another_fill_it_with_what_they_hold() {
    let memtable = memtable(MemtableOptions {
        capacity_bytes: 1 << 20,
        ..options()
    });
    let mut n = 0u64;
    while !memtable.is_full() {
        n += 1;
        let (start, end) = (Vec::new(), Some(n.to_be_bytes().to_vec()));
        memtable.delete_range(HalfOpen { start, end }, SeqNo::new(n));
    }
    assert!(n < 1_000 && 1 << 20 <= memtable.memory(), "after {n}");
}

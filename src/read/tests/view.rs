//! Reads of a real view, memtables and tables, give what a map held at that instant.

use super::visible::{Model, Move, bounds, moves};
use super::world::{SEED, Workshop, at, layered, view};
use super::*;
use crate::base::error::ErrorKind;
use crate::base::hooks::MergeOperators;
use crate::base::operand::entry_of;
use crate::base::slice::Slice;
use crate::base::sync::Arc;
use crate::read::{Iter, RangeCursor, View, get, get_many};
use crate::version::Version;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

const ALL: (Bound<Vec<u8>>, Bound<Vec<u8>>) = (Bound::Unbounded, Bound::Unbounded);

/// Writes numbered from 1; some values are long enough to be pinned.
fn history() -> impl Strategy<Value = Vec<Entry>> {
    let write = (any::<u8>(), 0..10u8);
    proptest::collection::vec(write, 0..150).prop_map(|writes| {
        let numbered = (1u64..).zip(writes);
        let entry = |(seqno, (key, choice)): (u64, (u8, u8))| match choice {
            0..3 => delete(&key_of(key), seqno),
            3 => put(
                &key_of(key),
                seqno,
                &seqno.to_string().repeat(600).into_bytes(),
            ),
            _ => put(&key_of(key), seqno, &seqno.to_string().into_bytes()),
        };
        numbered.map(entry).collect()
    })
}

fn map_at(history: &[Entry], at: u64) -> Map {
    let mut map = Map::new();
    for (key, tag, value) in history.iter().take_while(|e| e.1.seqno().get() <= at) {
        match tag.kind() {
            ValueKind::Put => map.insert(key.clone(), value.clone()),
            _ => map.remove(key),
        };
    }
    map
}

fn act(cursor: &mut RangeCursor, step: &Move) -> Result<()> {
    match step {
        Move::First => cursor.first(),
        Move::Last => cursor.last(),
        Move::Seek(key) => cursor.seek(key),
        Move::SeekForPrev(key) => cursor.seek_for_prev(key),
        Move::Next => cursor.next(),
        Move::Prev => cursor.prev(),
    }
}

fn value_of(view: &View, key: &[u8], seqno: u64) -> Result<Option<Vec<u8>>> {
    let found = get(view, key, SeqNo::new(seqno).into())?;
    assert_eq!(found.bytes(), found.to_slice().as_deref());
    Ok(found.bytes().map(<[u8]>::to_vec))
}

fn many(view: &View, keys: &[&[u8]], seqno: u64) -> Result<Vec<Option<Vec<u8>>>> {
    let mut answers = Vec::new();
    get_many(view, keys, SeqNo::new(seqno).into(), &mut |i, found| {
        assert_eq!(i, answers.len(), "in the order asked");
        answers.push(found.bytes().map(<[u8]>::to_vec));
    })?;
    Ok(answers)
}

fn owned(entry: (Slice, Slice)) -> (Vec<u8>, Vec<u8>) {
    (entry.0.to_vec(), entry.1.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_read_gives_what_a_map_held_at_that_instant(
        history in history(),
        cuts in proptest::array::uniform5(0..150usize),
        seqno in 0..160u64,
        bounds in bounds(),
        moves in moves(),
        ends in proptest::collection::vec(any::<bool>(), 1..200),
    ) {
        let workshop = Workshop::new();
        let view = layered(&workshop, &history, cuts);
        let map = map_at(&history, seqno);

        let keys: Vec<Vec<u8>> = (0..=255).map(key_of).collect();
        for key in &keys {
            prop_assert_eq!(&value_of(&view, key, seqno).unwrap(), &map.get(key).cloned());
        }
        let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let expected: Vec<_> = keys.iter().map(|key| map.get(key).cloned()).collect();
        prop_assert_eq!(many(&view, &asked, seqno).unwrap(), expected);

        let mut model = Model::new(&map, &bounds);
        let mut cursor = RangeCursor::new(Arc::clone(&view), at(seqno), bounds.clone());
        for step in &moves {
            act(&mut cursor, step).unwrap();
            model.act(step);
            prop_assert_eq!(cursor.entry(), model.entry(), "after {:?}", step);
            prop_assert_eq!(cursor.key(), model.entry().map(|e| e.0));
            prop_assert_eq!(cursor.value().unwrap(), model.entry().map(|e| e.1));
        }

        let expected = model.into_entries();
        let mut iter = Iter::new(view, at(seqno), bounds);
        let (mut front, mut back) = (Vec::new(), Vec::new());
        let mut ends = ends.into_iter().cycle();
        loop {
            let from_front = ends.next() == Some(true);
            let item = if from_front { iter.next() } else { iter.next_back() };
            let Some(item) = item else { break };
            let side = if from_front { &mut front } else { &mut back };
            side.push(owned(item.unwrap()));
        }
        prop_assert!(iter.next().is_none() && iter.next_back().is_none());
        back.reverse();
        front.extend(back);
        prop_assert_eq!(front, expected);
    }
}

/// engines.md bug 12: runs whose ranges overlap in part, the newer one narrower.
#[test]
fn overlapping_runs_answer_newest_first() {
    let workshop = Workshop::new();
    let run = |keys: std::ops::RangeInclusive<u8>, seqno: u64| {
        let value = seqno.to_string().into_bytes();
        workshop.run(keys.map(|key| put(&[key], seqno, &value)).collect(), 3)
    };
    let mut tables = Vec::new();
    for (order, run) in [
        run(b'a'..=b'z', 1),
        run(b'm'..=b'p', 2),
        run(b'a'..=b'c', 3),
    ]
    .into_iter()
    .enumerate()
    {
        tables.extend(run.into_iter().map(|table| (0, order as u64, table)));
    }
    let view = view(&[], Version::of(tables).unwrap());
    for key in b'a'..=b'z' {
        let newest = match key {
            b'a'..=b'c' => b"3",
            b'm'..=b'p' => b"2",
            _ => b"1",
        };
        assert_eq!(
            value_of(&view, &[key], 9).unwrap().as_deref(),
            Some(&newest[..])
        );
    }
}

/// The newest run has a table that cannot be opened; an older one holds the key `b`.
fn view_with_a_lost_table(workshop: &Workshop, memtable: &[Entry]) -> Arc<View> {
    let older = workshop.run(vec![put(b"b", 1, b"old"), put(b"x", 1, b"x")], 9);
    let mut version = Version::of(older.into_iter().map(|table| (1, 1, table))).unwrap();
    version.levels[0] = Version::parse("L0.5 a-c:64K").unwrap().levels.remove(0);
    view(&[memtable], version)
}

/// engines.md bugs 57 and 56.
#[test]
fn an_error_of_a_newer_table_is_never_answered_by_an_older_value() {
    let workshop = Workshop::new();
    let view = view_with_a_lost_table(&workshop, &[]);
    assert!(value_of(&view, b"b", 9).is_err());
    assert!(many(&view, &[b"x", b"b"], 9).is_err());
    assert_eq!(
        value_of(&view, b"x", 9).unwrap().unwrap(),
        b"x",
        "damage stays local"
    );
    let mut cursor = RangeCursor::new(view, at(9), ALL);
    assert!(cursor.first().is_err());
    assert_eq!(cursor.entry(), None);
}

#[test]
fn damage_behind_the_answer_does_not_matter() {
    let workshop = Workshop::new();
    let view = view_with_a_lost_table(&workshop, &[put(b"b", 5, b"new"), delete(b"c", 6)]);
    assert_eq!(value_of(&view, b"b", 9).unwrap().unwrap(), b"new");
    assert_eq!(value_of(&view, b"c", 9).unwrap(), None);
    assert!(
        value_of(&view, b"b", 4).is_err(),
        "before it was written the table must be asked"
    );
}

/// 400 keys of which one block in the middle is damaged on the disk.
fn damaged_view(workshop: &Workshop) -> Arc<View> {
    let entries: Vec<Entry> = (0..400u16)
        .map(|n| put(&n.to_be_bytes(), 1, &[n as u8; 100]))
        .collect();
    let table = workshop.table(&entries, SEED, |bytes| {
        for byte in &mut bytes[5 * 4096 + 600..5 * 4096 + 700] {
            *byte ^= 0x55;
        }
    });
    view(&[], Version::of([(1, 1, table)]).unwrap())
}

/// engines.md bug 58, promise P10.
#[test]
fn a_cursor_repeats_its_error_until_it_is_positioned_again() {
    let workshop = Workshop::new();
    let view = damaged_view(&workshop);
    let mut cursor = RangeCursor::new(view, at(9), ALL);
    cursor.first().unwrap();
    let mut before = 0;
    let error = loop {
        assert_eq!(
            cursor.key(),
            Some(&u16::to_be_bytes(before)[..]),
            "nothing is skipped"
        );
        before += 1;
        if let Err(error) = cursor.next() {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(
        error.file().is_some() && error.offset().is_some(),
        "{error}"
    );
    for _ in 0..3 {
        assert_eq!(cursor.next().unwrap_err().what(), error.what());
        assert_eq!(cursor.prev().unwrap_err().what(), error.what());
        assert!(cursor.value().is_err());
        assert_eq!(
            (cursor.entry(), cursor.key(), cursor.is_valid()),
            (None, None, false)
        );
    }
    cursor.last().unwrap();
    assert_eq!(cursor.key(), Some(&399u16.to_be_bytes()[..]));
    let mut after = 399;
    while cursor.prev().is_ok() {
        after -= 1;
        assert_eq!(cursor.key(), Some(&u16::to_be_bytes(after)[..]));
    }
    assert!(
        before < after && after - before < 60,
        "one block is lost: {before} to {after}"
    );
    cursor.seek(0u16.to_be_bytes()).unwrap();
    assert!(cursor.is_valid());
}

#[test]
fn an_iterator_gives_its_error_once_and_then_nothing() {
    let workshop = Workshop::new();
    let view = damaged_view(&workshop);
    for from_back in [false, true] {
        let mut iter = Iter::new(Arc::clone(&view), at(9), ALL);
        let mut step = || {
            if from_back {
                iter.next_back()
            } else {
                iter.next()
            }
        };
        let mut good = 0;
        while step().unwrap().is_ok() {
            good += 1;
        }
        assert!(0 < good && good < 400);
        assert!(step().is_none());
        assert!(iter.next().is_none() && iter.next_back().is_none());
    }
    let mut failed = Iter::failed(Error::corruption("before it began"));
    assert!(failed.next_back().unwrap().is_err());
    assert!(failed.next().is_none() && failed.next_back().is_none());
}

/// engines.md bug 68: a memtable and the table flushed from it in one view are one truth.
#[test]
fn entries_that_lie_in_a_memtable_and_in_its_table_are_given_once() {
    let workshop = Workshop::new();
    let entries = [put(b"a", 1, b"1"), put(b"b", 2, b"2"), delete(b"c", 3)];
    let tables = workshop.run(entries.to_vec(), 2);
    let version = Version::of(tables.into_iter().map(|table| (0, 1, table))).unwrap();
    let view = view(&[&[], &entries], version);
    let iter = Iter::new(Arc::clone(&view), at(9), ALL);
    let keys = |iter: &mut dyn Iterator<Item = Result<(Slice, Slice)>>| -> Vec<Vec<u8>> {
        iter.map(|entry| entry.unwrap().0.to_vec()).collect()
    };
    assert_eq!(keys(&mut { iter }), [b"a", b"b"]);
    let iter = Iter::new(view, at(9), ALL);
    assert_eq!(keys(&mut iter.rev()), [b"b", b"a"]);
}

/// The same, where the flush put merges together, and a compaction what it had flushed.
#[test]
fn merges_that_lie_in_a_memtable_and_put_together_in_a_table_count_once() {
    let merge = |seqno: u64, span: u64, operand: &[u8]| {
        entry(b"k", seqno, ValueKind::Merge, &entry_of(span, operand))
    };
    let single = [merge(7, 0, b"a"), merge(8, 0, b"b"), merge(9, 0, b"c")];
    for (in_table, expected) in [
        (vec![merge(9, 2, b"abc"), put(b"k", 3, b"x")], &b"xabc"[..]),
        (vec![put(b"k", 9, b"xabc")], b"xabc"),
        (single.to_vec(), b"abc"),
    ] {
        let workshop = Workshop::new();
        let tables = workshop.run(in_table, 2);
        let version = Version::of(tables.into_iter().map(|table| (0, 1, table))).unwrap();
        let mut view = view(&[&[], &single], version);
        let folding = MergeOperators::default().folding("append");
        Arc::get_mut(&mut view).unwrap().folding = folding;
        let found = get(&view, b"k", SeqNo::new(9).into()).unwrap();
        assert_eq!(found.bytes(), Some(expected));
        get_many(&view, &[b"k"], SeqNo::new(9).into(), &mut |_, found| {
            assert_eq!(found.bytes(), Some(expected));
        })
        .unwrap();
        let iter = || Iter::new(Arc::clone(&view), at(9), ALL);
        for found in [iter().next(), iter().next_back()] {
            assert_eq!(found.unwrap().unwrap().1, expected);
        }
    }
}

#[test]
fn a_scan_sees_nothing_written_after_its_instant() {
    let view = view(
        &[&[put(b"a", 1, b"1"), put(b"c", 2, b"2")]],
        Version::default(),
    );
    let mut iter = Iter::new(Arc::clone(&view), at(2), ALL);
    // It opens nothing before its first move, which comes when the later writes are there.
    let unmoved = Iter::new(Arc::clone(&view), at(2), ALL);
    assert_eq!(iter.next().unwrap().unwrap().0, b"a");
    for (key, seqno) in [(b"a", 3u64), (b"b", 4), (b"c", 5), (b"d", 6)] {
        let tag = Tag::new(SeqNo::new(seqno), ValueKind::Put);
        view.active
            .insert(key, view.hasher.hash(key), tag, b"later");
    }
    assert_eq!(
        owned(iter.next().unwrap().unwrap()),
        (b"c".to_vec(), b"2".to_vec())
    );
    assert!(iter.next().is_none());
    let seen: Vec<_> = unmoved.map(|entry| owned(entry.unwrap())).collect();
    let then = [
        (b"a".to_vec(), b"1".to_vec()),
        (b"c".to_vec(), b"2".to_vec()),
    ];
    assert_eq!(seen, then);
}

#[test]
fn a_table_of_another_database_is_asked_by_its_own_hash() {
    let workshop = Workshop::new();
    let entries: Vec<Entry> = (0..100u8).map(|n| put(&[n], 1, &[n])).collect();
    let foreign = workshop.table(&entries, SEED + 1, |_| {});
    let view = view(&[], Version::of([(3, 1, foreign)]).unwrap());
    for n in 0..100u8 {
        assert_eq!(value_of(&view, &[n], 9).unwrap().unwrap(), [n]);
        assert_eq!(many(&view, &[&[n]], 9).unwrap(), [Some(vec![n])]);
    }
}

#[test]
fn slices_outlive_the_iterator_and_the_view() {
    let workshop = Workshop::new();
    let long = vec![9; 4000];
    let tables = workshop.run(vec![put(b"k", 1, &long)], 1);
    let version = Version::of(tables.into_iter().map(|table| (1, 1, table))).unwrap();
    let view = view(&[], version);
    let from_get = get(&view, b"k", SeqNo::new(9).into())
        .unwrap()
        .to_slice()
        .unwrap();
    let mut iter = Iter::new(view, at(9), ALL);
    let (_, from_scan) = iter.next().unwrap().unwrap();
    drop(iter);
    drop(workshop);
    assert_eq!(from_get, long);
    assert_eq!(from_scan, long);
}

#[test]
fn reads_are_counted() {
    let workshop = Workshop::new();
    let tables = workshop.run((0..50u8).map(|n| put(&[n], 1, b"v")).collect(), 50);
    let version = Version::of(tables.into_iter().map(|table| (1, 1, table))).unwrap();
    let view = view(&[&[put(b"\x07", 5, b"new")]], version);
    for n in 0..50u8 {
        value_of(&view, &[n], 9).unwrap();
    }
    many(&view, &[b"\x07", b"\x08", b"\x08\x01"], 9).unwrap();
    let mut cursor = RangeCursor::new(Arc::clone(&view), at(9), ALL);
    cursor.seek([3]).unwrap();
    cursor.next().unwrap();
    cursor.prev().unwrap();
    cursor.last().unwrap();
    let counts = view.counters.snapshot();
    assert_eq!(
        (counts.gets, counts.memtable_hits, counts.filter_positives),
        (53, 2, 50)
    );
    assert_eq!(counts.filter_negatives + counts.false_positives, 1);
    assert_eq!(
        counts.tables_probed,
        counts.filter_positives + counts.false_positives
    );
    assert_eq!(counts.seeks, 2);
}

#[test]
fn readers_can_be_sent_to_other_threads() {
    fn is_send<T: Send + 'static>() {}
    is_send::<RangeCursor>();
    is_send::<Iter>();
    fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<View>();
}

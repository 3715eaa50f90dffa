//! A merge is the sorted list of all entries of all sources, whichever way one walks it.

use super::*;
use crate::base::cursor::Peek;
use crate::base::key::head16;
use crate::read::Merge;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Move {
    First,
    Last,
    Seek(u8, u64),
    SeekForPrev(u8, u64),
    Next,
    Prev,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        1 => Just(Move::First),
        1 => Just(Move::Last),
        2 => (any::<u8>(), 0..24u64).prop_map(|(k, t)| Move::Seek(k, t)),
        2 => (any::<u8>(), 0..24u64).prop_map(|(k, t)| Move::SeekForPrev(k, t)),
        8 => Just(Move::Next),
        8 => Just(Move::Prev),
    ];
    proptest::collection::vec(one, 1..60)
}

/// Entries of each source: key and sequence number; the same pair in two sources is likely.
fn sources() -> impl Strategy<Value = Vec<Vec<(u8, u64)>>> {
    let source = proptest::collection::vec((any::<u8>(), 1..24u64), 0..20);
    proptest::collection::vec(source, 0..9)
}

/// The value names the source.
fn cursor_of(source: usize, entries: &[(u8, u64)]) -> VecCursor {
    let entries = entries
        .iter()
        .map(|(key, seqno)| put(&key_of(*key), *seqno, &[source as u8]));
    VecCursor::new(entries.collect())
}

fn search(seqno: u64) -> Tag {
    Tag::newest_at(SeqNo::new(seqno))
}

fn act(cursor: &mut impl Cursor, step: &Move) -> Result<()> {
    match step {
        Move::First => cursor.first(),
        Move::Last => cursor.last(),
        Move::Seek(key, seqno) => cursor.seek(&key_of(*key), search(*seqno)),
        Move::SeekForPrev(key, seqno) => cursor.seek_for_prev(&key_of(*key), search(*seqno)),
        Move::Next if cursor.valid() => cursor.next(),
        Move::Prev if cursor.valid() => cursor.prev(),
        Move::Next | Move::Prev => Ok(()),
    }
}

/// The entry that the cursor stands on, by whichever of its methods one asks.
fn seen(cursor: &impl Cursor) -> Option<Entry> {
    let seen =
        (cursor.valid()).then(|| (cursor.key().to_vec(), cursor.tag(), cursor.value().to_vec()));
    let in_numbers = seen.as_ref().map(|(key, tag, _)| Peek {
        head: head16(key),
        tag: *tag,
        key_len: key.len() as u32,
    });
    assert_eq!(cursor.peek(), in_numbers);
    if let Some((key, _, value)) = &seen {
        assert_eq!(cursor.entry(), (&key[..], &value[..]));
    }
    seen
}

/// All entries in order, equal ones by source: what a merge must give.
fn model_of(sources: &[Vec<(u8, u64)>]) -> VecCursor {
    let mut all: Vec<Entry> = Vec::new();
    for (i, entries) in sources.iter().enumerate() {
        all.extend(cursor_of(i, entries).entries);
    }
    all.sort_by(|a, b| order(a, b).then_with(|| a.2.cmp(&b.2)));
    VecCursor {
        entries: all,
        at: None,
    }
}

proptest! {
    #[test]
    fn any_walk_over_a_merge_is_a_walk_over_the_sorted_list(
        sources in sources(),
        moves in moves(),
    ) {
        let cursors = sources.iter().enumerate().map(|(i, s)| cursor_of(i, s)).collect();
        let mut merge = Merge::new(cursors);
        let mut model = model_of(&sources);
        for step in &moves {
            act(&mut merge, step).unwrap();
            act(&mut model, step).unwrap();
            prop_assert_eq!(seen(&merge), seen(&model), "after {:?}", step);
        }
    }

    /// Whichever call of whichever source fails: the move fails, nothing is shown, nothing is
    /// skipped, and a later positioning is right again.
    #[test]
    fn a_failing_source_fails_the_merge_and_hides_nothing(
        sources in sources(),
        moves in moves(),
        fail_at in 1..200u64,
    ) {
        let fuse = Fuse::new(fail_at);
        let flaky = |(i, s): (usize, &Vec<(u8, u64)>)| Flaky::new(cursor_of(i, s), &fuse);
        let mut merge = Merge::new(sources.iter().enumerate().map(flaky).collect());
        let mut model = model_of(&sources);
        for step in &moves {
            let burnt = fuse.is_burnt();
            let moved = act(&mut merge, step);
            prop_assert_eq!(moved.is_err(), !burnt && fuse.is_burnt());
            if moved.is_err() {
                prop_assert!(!merge.valid());
                model.at = None;
                continue;
            }
            act(&mut model, step).unwrap();
            prop_assert_eq!(seen(&merge), seen(&model), "after {:?}", step);
        }
    }
}

#[test]
fn a_merge_of_nothing_is_empty() {
    let mut merge = Merge::new(Vec::<VecCursor>::new());
    for step in [
        Move::First,
        Move::Last,
        Move::Seek(0, 0),
        Move::SeekForPrev(0, 0),
    ] {
        act(&mut merge, &step).unwrap();
        assert!(!merge.valid());
    }
}

#[test]
fn an_entry_in_two_sources_is_given_once_for_each_the_newer_source_first() {
    let source = |name: &[u8]| VecCursor::new(vec![put(b"k", 5, name)]);
    let mut merge = Merge::new(vec![source(b"memtable"), source(b"table")]);
    merge.first().unwrap();
    assert_eq!(merge.value(), b"memtable");
    merge.next().unwrap();
    assert_eq!(merge.value(), b"table");
    merge.prev().unwrap();
    assert_eq!(merge.value(), b"memtable");
    merge.prev().unwrap();
    assert!(!merge.valid());
}

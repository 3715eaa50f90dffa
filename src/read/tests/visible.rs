//! What a reader sees is what a map would hold at its instant, whichever way it walks.

use super::*;
use crate::base::error::ErrorKind;
use crate::base::hooks::Folding;
use crate::base::ranges::DeletedRanges;
use crate::read::{Bounds, Merge, Visible};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;

#[derive(Clone, Debug)]
pub(in crate::read) enum Move {
    First,
    Last,
    Seek(Vec<u8>),
    SeekForPrev(Vec<u8>),
    Next,
    Prev,
}

pub(in crate::read) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let key = || any::<u8>().prop_map(key_of);
    let one = prop_oneof![
        1 => Just(Move::First),
        1 => Just(Move::Last),
        2 => key().prop_map(Move::Seek),
        2 => key().prop_map(Move::SeekForPrev),
        8 => Just(Move::Next),
        8 => Just(Move::Prev),
    ];
    proptest::collection::vec(one, 1..60)
}

pub(in crate::read) fn bounds() -> impl Strategy<Value = (Bound<Vec<u8>>, Bound<Vec<u8>>)> {
    let bound = || {
        prop_oneof![
            2 => Just(Bound::Unbounded),
            1 => any::<u8>().prop_map(|n| Bound::Included(key_of(n))),
            1 => any::<u8>().prop_map(|n| Bound::Excluded(key_of(n))),
        ]
    };
    (bound(), bound())
}

/// Where a reader stands in the list of what it can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    BeforeStart,
    On(usize),
    PastEnd,
}

/// The user's words about a cursor, over a sorted list.
#[derive(Debug)]
pub(in crate::read) struct Model {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    place: Place,
}

impl Model {
    pub(in crate::read) fn new(
        map: &BTreeMap<Vec<u8>, Vec<u8>>,
        bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> Model {
        let lower = |key: &Vec<u8>| match &bounds.0 {
            Bound::Unbounded => true,
            Bound::Included(lower) => lower <= key,
            Bound::Excluded(lower) => lower < key,
        };
        let upper = |key: &Vec<u8>| match &bounds.1 {
            Bound::Unbounded => true,
            Bound::Included(upper) => key <= upper,
            Bound::Excluded(upper) => key < upper,
        };
        let inside = map.iter().filter(|(key, _)| lower(key) && upper(key));
        Model {
            entries: inside.map(|(k, v)| (k.clone(), v.clone())).collect(),
            place: Place::Nowhere,
        }
    }

    /// All that is within the bounds.
    pub(in crate::read) fn into_entries(self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.entries
    }

    /// Forgets the place, as an error does.
    pub(in crate::read) fn lose(&mut self) {
        self.place = Place::Nowhere;
    }

    pub(in crate::read) fn act(&mut self, step: &Move) {
        let at_or_after = |i: usize| {
            if i < self.entries.len() {
                Place::On(i)
            } else {
                Place::PastEnd
            }
        };
        let before = |i: usize| i.checked_sub(1).map_or(Place::BeforeStart, Place::On);
        self.place = match (step, self.place) {
            (Move::First, _) | (Move::Next, Place::Nowhere | Place::BeforeStart) => at_or_after(0),
            (Move::Last, _) | (Move::Prev, Place::Nowhere | Place::PastEnd) => {
                before(self.entries.len())
            }
            (Move::Seek(key), _) => at_or_after(self.entries.partition_point(|e| e.0 < *key)),
            (Move::SeekForPrev(key), _) => before(self.entries.partition_point(|e| e.0 <= *key)),
            (Move::Next, Place::On(i)) => at_or_after(i + 1),
            (Move::Prev, Place::On(i)) => before(i),
            (Move::Next, Place::PastEnd) => Place::PastEnd,
            (Move::Prev, Place::BeforeStart) => Place::BeforeStart,
        };
    }

    pub(in crate::read) fn entry(&self) -> Option<(&[u8], &[u8])> {
        match self.place {
            Place::On(i) => Some((&self.entries[i].0, &self.entries[i].1)),
            _ => None,
        }
    }
}

fn act<C: Cursor>(cursor: &mut Visible<C>, step: &Move) -> Result<()> {
    match step {
        Move::First => cursor.first(),
        Move::Last => cursor.last(),
        Move::Seek(key) => cursor.seek(key),
        Move::SeekForPrev(key) => cursor.seek_for_prev(key),
        Move::Next => cursor.next(),
        Move::Prev => cursor.prev(),
    }
}

/// A history: each write is numbered by its place from 1; a write is a key, a source and whether it
/// puts. Runs of one key make keys with many versions.
#[derive(Clone, Debug)]
struct Write {
    key: u8,
    source: usize,
    is_put: bool,
    times: usize,
}

fn history() -> impl Strategy<Value = Vec<Write>> {
    let times = prop_oneof![12 => Just(1usize), 1 => 30..70usize];
    let write =
        (any::<u8>(), 0..4usize, 0..10u8, times).prop_map(|(key, source, put, times)| Write {
            key,
            source,
            is_put: put < 6,
            times,
        });
    proptest::collection::vec(write, 0..60)
}

/// The sources that hold a history, and what a map holds at each number.
fn build(history: &[Write], at: u64) -> (Vec<VecCursor>, BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut sources = vec![Vec::new(); 4];
    let mut map = BTreeMap::new();
    let writes = history.iter().flat_map(|w| std::iter::repeat_n(w, w.times));
    for (seqno, write) in (1u64..).zip(writes) {
        let key = key_of(write.key);
        let value = seqno.to_string().into_bytes();
        let entry = if write.is_put {
            put(&key, seqno, &value)
        } else {
            delete(&key, seqno)
        };
        sources[write.source].push(entry);
        if at < seqno {
            continue;
        }
        if write.is_put {
            map.insert(key, value);
        } else {
            map.remove(&key);
        }
    }
    (sources.into_iter().map(VecCursor::new).collect(), map)
}

proptest! {
    /// engines.md bug 64: any mix of directions, seeks and bounds.
    #[test]
    fn any_walk_sees_what_a_map_held_at_that_instant(
        history in history(),
        at in 0..200u64,
        bounds in bounds(),
        moves in moves(),
        fail_at in prop_oneof![Just(0u64), 1..600u64],
        steps in prop_oneof![Just(usize::MAX), 0..40usize],
        turns in any::<bool>(),
    ) {
        let (sources, map) = build(&history, at);
        let fuse = Fuse::new(fail_at);
        let sources = sources.into_iter().map(|s| Flaky::new(s, &fuse)).collect();
        let (lower, upper) = bounds.clone();
        let bounds_of = Bounds::new(lower, upper);
        let mut model = Model::new(&map, &bounds);
        let (merge, at) = (Merge::new(sources), SeqNo::new(at).into());
        let (folding, deleted) = (Folding::default(), DeletedRanges::default());
        let mut cursor = Visible::new(merge, at, bounds_of, folding, deleted, Default::default());
        cursor.limit_steps(steps);
        for step in &moves {
            let burnt = fuse.is_burnt();
            let mut moved = act(&mut cursor, step);
            let mut step = step.clone();
            let mut turns = turns;
            while moved.is_ok()
                && let Some(key) = cursor.paused_at().map(<[u8]>::to_vec)
            {
                prop_assert_eq!(cursor.entry(), None);
                let mut is_forward = matches!(step, Move::First | Move::Seek(_) | Move::Next);
                if turns {
                    turns = false;
                    // What it has looked at so far lies behind it; then the other way round.
                    model.act(&if is_forward { Move::Seek(key) } else { Move::SeekForPrev(key) });
                    is_forward = !is_forward;
                    step = if is_forward { Move::Next } else { Move::Prev };
                }
                moved = if is_forward { cursor.next() } else { cursor.prev() };
            }
            let step = &step;
            prop_assert_eq!(moved.is_err(), !burnt && fuse.is_burnt());
            if moved.is_err() {
                prop_assert_eq!(cursor.entry(), None);
                model.lose();
                continue;
            }
            model.act(step);
            prop_assert_eq!(cursor.entry(), model.entry(), "after {:?}", step);
            prop_assert_eq!(cursor.key(), model.entry().map(|e| e.0));
            prop_assert_eq!(cursor.valid(), model.entry().is_some());
        }
    }
}

/// engines.md bug 65: 200,000 deletions in a row, on a stack of 64 KiB, both ways.
#[test]
fn a_desert_of_deletions_is_crossed_on_a_small_stack() {
    const DELETIONS: u32 = 200_000;
    let walk = || {
        let mut entries: Vec<Entry> = (1..DELETIONS)
            .map(|n| delete(&n.to_be_bytes(), u64::from(n)))
            .collect();
        entries.push(put(&0u32.to_be_bytes(), 1, b"first"));
        entries.push(put(&DELETIONS.to_be_bytes(), 1, b"last"));
        let source = VecCursor::new(entries);
        let mut cursor = Visible::new(
            source,
            SeqNo::MAX.into(),
            Bounds::unbounded(),
            Folding::default(),
            DeletedRanges::default(),
            Default::default(),
        );
        cursor.last().unwrap();
        cursor.prev().unwrap();
        assert_eq!(cursor.entry().unwrap().1, b"first");
        cursor.next().unwrap();
        assert_eq!(cursor.entry().unwrap().1, b"last");
    };
    let small = std::thread::Builder::new().stack_size(64 << 10);
    small.spawn(walk).unwrap().join().unwrap();
}

/// engines.md bug 66.
#[test]
fn an_inverted_range_is_empty_for_every_move() {
    let source = || VecCursor::new((b'a'..=b'z').map(|k| put(&[k], 1, b"v")).collect());
    let a = || vec![b'a'];
    let z = || vec![b'z'];
    let inverted = [
        (Bound::Included(z()), Bound::Excluded(a())),
        (Bound::Excluded(a()), Bound::Excluded(a())),
        (Bound::Included(a()), Bound::Excluded(a())),
        (Bound::Excluded(a()), Bound::Included(a())),
    ];
    for (lower, upper) in inverted {
        let mut cursor = Visible::new(
            source(),
            SeqNo::MAX.into(),
            Bounds::new(lower, upper),
            Folding::default(),
            DeletedRanges::default(),
            Default::default(),
        );
        for step in [
            Move::Next,
            Move::Prev,
            Move::First,
            Move::Prev,
            Move::Last,
            Move::Next,
            Move::Seek(vec![b'm']),
            Move::SeekForPrev(vec![b'm']),
        ] {
            act(&mut cursor, &step).unwrap();
            assert_eq!(cursor.entry(), None, "{step:?}");
        }
    }
}

#[test]
fn bounds_stop_a_walk_before_it_looks_at_what_lies_beyond() {
    let mut entries = vec![put(b"a", 1, b"v"), put(b"m", 1, b"v"), put(b"z", 1, b"v")];
    entries.push(entry(b"n", 1, ValueKind::Merge, b"beyond the upper bound"));
    entries.push(entry(b"l", 1, ValueKind::Merge, b"before the lower bound"));
    let bounds = Bounds::new(
        Bound::Included(b"m".to_vec()),
        Bound::Excluded(b"n".to_vec()),
    );
    let mut cursor = Visible::new(
        VecCursor::new(entries),
        SeqNo::MAX.into(),
        bounds,
        Folding::default(),
        DeletedRanges::default(),
        Default::default(),
    );
    for start in [Move::Seek(b"a".to_vec()), Move::SeekForPrev(b"z".to_vec())] {
        act(&mut cursor, &start).unwrap();
        assert_eq!(cursor.key(), Some(&b"m"[..]));
        cursor.next().unwrap();
        assert_eq!(cursor.key(), None);
        cursor.prev().unwrap();
        cursor.prev().unwrap();
        assert_eq!(cursor.key(), None);
    }
}

#[test]
fn what_cannot_be_told_is_refused_both_ways_and_never_misread() {
    let (later, damaged) = (ErrorKind::Unsupported, ErrorKind::Corruption);
    for (kind, error) in [
        (ValueKind::PutBlob, later),
        (ValueKind::DeleteRange, later),
        // Too short for its expiry.
        (ValueKind::PutExpiring, damaged),
    ] {
        let entries = vec![
            put(b"a", 1, b"v"),
            entry(b"b", 5, kind, b"x"),
            put(b"b", 2, b"v"),
        ];
        let at = |at| {
            Visible::new(
                VecCursor::new(entries.clone()),
                SeqNo::new(at).into(),
                Bounds::unbounded(),
                Folding::default(),
                DeletedRanges::default(),
                Default::default(),
            )
        };
        let mut now = at(9);
        now.first().unwrap();
        assert_eq!(now.next().unwrap_err().kind(), error, "{kind:?}");
        assert_eq!(now.last().unwrap_err().kind(), error, "{kind:?}");
        assert_eq!(now.seek(b"b").unwrap_err().kind(), error, "{kind:?}");
        let mut before = at(4);
        before.last().unwrap();
        assert_eq!(before.key(), Some(&b"b"[..]), "not written yet then");
        before.prev().unwrap();
        before.next().unwrap();
        assert_eq!(before.key(), Some(&b"b"[..]));
    }
}

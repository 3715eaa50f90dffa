//! Iterators and cursors: those of one operation, and those that live over many.

use super::keys::{Value, key};
use super::op::{Kind, Op, Random};
use super::reads::Span;
use super::world::World;
use alluvium::{Cursor, ErrorKind, Iter, Result, Slice};
use std::collections::VecDeque;

const LONG_MAX: usize = 3;

/// From which end entries are taken.
#[derive(Clone, Debug)]
pub(super) enum Turn {
    Front,
    Back,
    Mixed(Random),
}

impl Turn {
    fn is_front(&mut self) -> bool {
        match self {
            Turn::Front => true,
            Turn::Back => false,
            Turn::Mixed(random) => random.coin(),
        }
    }
}

/// Takes all entries, and asks for more.
pub(super) fn check_iter(
    mut iter: impl DoubleEndedIterator<Item = Result<(Slice, Slice)>>,
    expected: &[(u8, Value)],
    mut turn: Turn,
) -> Result<()> {
    let mut left = expected;
    loop {
        let (found, wanted) = if turn.is_front() {
            let wanted = left.split_off_first();
            (iter.next(), wanted)
        } else {
            let wanted = left.split_off_last();
            (iter.next_back(), wanted)
        };
        check_entry(found.transpose()?, wanted.copied());
        if wanted.is_none() {
            assert!(iter.next().is_none() && iter.next_back().is_none(), "fused");
            return Ok(());
        }
    }
}

#[track_caller]
fn check_entry(found: Option<(Slice, Slice)>, expected: Option<(u8, Value)>) {
    let found = found.as_ref().map(|(key, value)| (&key[..], &value[..]));
    check_pair(found, expected);
}

#[track_caller]
fn check_pair(found: Option<(&[u8], &[u8])>, expected: Option<(u8, Value)>) {
    let is_same = match (found, expected) {
        (Some((k, v)), Some((rank, value))) => k == key(rank) && value.is(v),
        (None, None) => true,
        _ => false,
    };
    assert!(
        is_same,
        "found {:?}, expected {:?}",
        found.map(|(k, v)| (k.escape_ascii().to_string(), v.escape_ascii().to_string())),
        expected.map(|(rank, value)| (key(rank).escape_ascii().to_string(), value))
    );
}

/// What a cursor runs over, and where it stands.
#[derive(Debug)]
pub(super) struct Entries {
    entries: Vec<(u8, Value)>,
    /// Before the first is -1, past the last is their number. A new cursor is nowhere: `next`
    /// goes to the first, `prev` to the last.
    at: Option<i64>,
}

impl Entries {
    pub(super) fn new(entries: Vec<(u8, Value)>) -> Entries {
        Entries { entries, at: None }
    }

    fn end(&self) -> i64 {
        self.entries.len() as i64
    }

    /// A move of any kind.
    pub(super) fn random_move(&mut self, cursor: &mut Cursor, random: &mut Random) -> Result<()> {
        cursor.limit_steps(random.pick(&[None, None, Some(1), Some(4), Some(64)]));
        match random.below(16) {
            0 => self.first(cursor),
            1 => self.last(cursor),
            2..=7 => self.next(cursor),
            8..=12 => self.prev(cursor),
            13 => self.seek_for_prev(cursor, random),
            _ => self.seek(cursor, random),
        }
    }

    pub(super) fn first(&mut self, cursor: &mut Cursor) -> Result<()> {
        cursor.first()?;
        go_on(cursor, Cursor::next)?;
        self.at = Some(0);
        self.check(cursor)
    }

    pub(super) fn last(&mut self, cursor: &mut Cursor) -> Result<()> {
        cursor.last()?;
        go_on(cursor, Cursor::prev)?;
        self.at = Some(self.end() - 1);
        self.check(cursor)
    }

    pub(super) fn next(&mut self, cursor: &mut Cursor) -> Result<()> {
        cursor.next()?;
        go_on(cursor, Cursor::next)?;
        self.at = Some(self.at.map_or(0, |i| (i + 1).min(self.end())));
        self.check(cursor)
    }

    pub(super) fn prev(&mut self, cursor: &mut Cursor) -> Result<()> {
        cursor.prev()?;
        go_on(cursor, Cursor::prev)?;
        self.at = Some(self.at.map_or(self.end() - 1, |i| (i - 1).max(-1)));
        self.check(cursor)
    }

    pub(super) fn seek(&mut self, cursor: &mut Cursor, random: &mut Random) -> Result<()> {
        let sought = sought(random);
        cursor.seek(&sought)?;
        go_on(cursor, Cursor::next)?;
        self.at = Some(self.entries.partition_point(|(k, _)| key(*k) < &sought[..]) as i64);
        self.check(cursor)
    }

    pub(super) fn seek_for_prev(&mut self, cursor: &mut Cursor, random: &mut Random) -> Result<()> {
        let sought = sought(random);
        cursor.seek_for_prev(&sought)?;
        go_on(cursor, Cursor::prev)?;
        let after = self
            .entries
            .partition_point(|(k, _)| key(*k) <= &sought[..]);
        self.at = Some(after as i64 - 1);
        self.check(cursor)
    }

    fn check(&self, cursor: &Cursor) -> Result<()> {
        let at = self.at.and_then(|at| usize::try_from(at).ok());
        let expected = at.and_then(|at| self.entries.get(at).copied());
        check_pair(cursor.entry(), expected);
        assert_eq!(cursor.is_valid(), expected.is_some());
        assert_eq!(cursor.key(), expected.map(|(rank, _)| key(rank)));
        assert_eq!(cursor.value()?.is_some(), expected.is_some());
        Ok(())
    }
}

/// Goes on as long as the cursor has paused.
fn go_on(cursor: &mut Cursor, step: impl Fn(&mut Cursor) -> Result<()>) -> Result<()> {
    while cursor.paused_at().is_some() {
        step(cursor)?;
    }
    Ok(())
}

/// A key of the lists, the bytes just behind one, or its beginning.
fn sought(random: &mut Random) -> Vec<u8> {
    let mut sought = key(random.byte()).to_vec();
    match random.below(4) {
        0 => sought.push(0),
        1 => drop(sought.pop()),
        _ => {}
    }
    sought
}

/// An iterator that lives over many operations, and what it still has to give.
pub(crate) struct LongIter {
    iter: Iter,
    left: VecDeque<(u8, Value)>,
    has_ended: bool,
}

/// A cursor that lives over many operations.
pub(crate) struct LongCursor {
    cursor: Cursor,
    entries: Entries,
}

impl World {
    pub(super) fn walk(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        let mut random = op.details();
        let (mut cursor, mut entries) = match op.kind {
            Kind::CursorOver => self.cursor_over(n, op, &mut random),
            _ => (self.handle(n).cursor(), Entries::new(self.oracle.all(n))),
        };
        match op.kind {
            Kind::CursorSeek => {
                entries.seek(&mut cursor, &mut random)?;
                (0..op.len % 8).try_for_each(|_| entries.next(&mut cursor))
            }
            Kind::CursorSeekForPrev => {
                entries.seek_for_prev(&mut cursor, &mut random)?;
                (0..op.len % 8).try_for_each(|_| entries.prev(&mut cursor))
            }
            Kind::CursorEnds => {
                entries.first(&mut cursor)?;
                entries.prev(&mut cursor)?;
                entries.next(&mut cursor)?;
                entries.last(&mut cursor)?;
                entries.next(&mut cursor)?;
                entries.prev(&mut cursor)
            }
            _ => {
                (0..1 + op.len % 32).try_for_each(|_| entries.random_move(&mut cursor, &mut random))
            }
        }
    }

    fn cursor_over(&self, n: usize, op: &Op, random: &mut Random) -> (Cursor, Entries) {
        let span = Span::random(random, (op.a.min(op.b), op.a.max(op.b)));
        let entries = self.oracle.entries(n, u32::MAX, span.ranks());
        let cursor = self.handle(n).cursor_over(span.bounds());
        (cursor, Entries::new(entries))
    }

    pub(super) fn long_iter(&mut self, op: &Op) -> Result<()> {
        if op.kind == Kind::IterOpen {
            let n = self.space(op)?;
            if self.iters.len() == LONG_MAX {
                self.iters.remove(0);
            }
            let span = Span::random(&mut op.details(), (op.a.min(op.b), op.a.max(op.b)));
            self.iters.push(LongIter {
                iter: self.handle(n).range(span.bounds()),
                left: self.oracle.entries(n, u32::MAX, span.ranks()).into(),
                has_ended: false,
            });
            return Ok(());
        }
        if self.iters.is_empty() {
            return Ok(());
        }
        let i = usize::from(op.a) % self.iters.len();
        if op.kind == Kind::IterDrop {
            self.iters.remove(i);
            return Ok(());
        }
        let long = &mut self.iters[i];
        for _ in 0..1 + op.len % 4 {
            let (found, expected) = match op.kind {
                Kind::IterNext => (long.iter.next(), long.left.pop_front()),
                _ => (long.iter.next_back(), long.left.pop_back()),
            };
            long.has_ended |= found.is_none();
            check_entry(found.transpose()?, expected);
        }
        Ok(())
    }

    pub(super) fn long_cursor(&mut self, op: &Op) -> Result<()> {
        let mut random = op.details();
        if op.kind == Kind::CursorOpen {
            let n = self.space(op)?;
            if self.cursors.len() == LONG_MAX {
                self.cursors.remove(0);
            }
            let (cursor, entries) = self.cursor_over(n, op, &mut random);
            self.cursors.push(LongCursor { cursor, entries });
            return Ok(());
        }
        if self.cursors.is_empty() {
            return Ok(());
        }
        let i = usize::from(op.a) % self.cursors.len();
        if op.kind == Kind::CursorDrop {
            self.cursors.remove(i);
            return Ok(());
        }
        let long = &mut self.cursors[i];
        for _ in 0..1 + op.len % 4 {
            long.entries.random_move(&mut long.cursor, &mut random)?;
        }
        Ok(())
    }

    /// After a close, what lives on says so, and nothing else; what was read stays.
    pub(super) fn check_closed(&mut self) {
        self.check_slices();
        let is_closed =
            |result: Result<()>| result.is_err_and(|error| error.kind() == ErrorKind::Closed);
        for mut long in self.iters.drain(..) {
            if !long.has_ended {
                let last = long.iter.next().expect("the error is an item");
                assert!(
                    is_closed(last.map(drop)),
                    "an iterator over a closed database"
                );
            }
            assert!(long.iter.next().is_none() && long.iter.next_back().is_none());
        }
        for mut long in self.cursors.drain(..) {
            assert!(
                is_closed(long.cursor.next()),
                "a cursor over a closed database"
            );
            assert!(long.cursor.entry().is_none());
            assert!(is_closed(long.cursor.seek(b"k")));
        }
        for (snapshot, version) in self.snapshots.drain(..) {
            assert!(is_closed(snapshot.get(b"k").map(drop)));
            self.oracle.unpin(version);
        }
        for space in self.spaces.iter_mut().filter_map(Option::take) {
            assert!(is_closed(space.get(b"k").map(drop)));
            assert!(is_closed(space.put(b"k", b"v")));
            let last = space.iter().next().expect("the error is an item");
            assert!(is_closed(last.map(drop)));
        }
    }
}

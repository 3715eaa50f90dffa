//! Models that the read room's tests share: cursors over vectors, cursors that fail on demand, and
//! the sorted list that every walk is compared with.

mod concat;
mod merge;
mod snapshot;
mod view;
mod visible;
mod world;

use crate::base::cursor::Cursor;
use crate::base::error::{Error, Result};
use crate::base::key::compare;
use crate::base::types::{SeqNo, Tag, ValueKind};
use std::cell::Cell;
use std::cmp::Ordering;
use std::rc::Rc;

pub(super) type Entry = (Vec<u8>, Tag, Vec<u8>);

pub(super) fn put(key: &[u8], seqno: u64, value: &[u8]) -> Entry {
    entry(key, seqno, ValueKind::Put, value)
}

pub(super) fn delete(key: &[u8], seqno: u64) -> Entry {
    entry(key, seqno, ValueKind::Delete, b"")
}

pub(super) fn entry(key: &[u8], seqno: u64, kind: ValueKind, value: &[u8]) -> Entry {
    (
        key.to_vec(),
        Tag::new(SeqNo::new(seqno), kind),
        value.to_vec(),
    )
}

fn order(a: &Entry, b: &Entry) -> Ordering {
    compare(&a.0, a.1, &b.0, b.1)
}

/// A cursor over a vector. Insists on the contract: steps and reads only while valid.
#[derive(Clone, Debug)]
pub(super) struct VecCursor {
    entries: Vec<Entry>,
    at: Option<usize>,
}

impl VecCursor {
    pub(super) fn new(mut entries: Vec<Entry>) -> VecCursor {
        entries.sort_by(order);
        entries.dedup_by(|a, b| order(a, b) == Ordering::Equal);
        VecCursor { entries, at: None }
    }

    fn go(&mut self, at: Option<usize>) -> Result<()> {
        self.at = at.filter(|i| *i < self.entries.len());
        Ok(())
    }

    fn here(&self) -> &Entry {
        &self.entries[self.at.expect("read only while valid")]
    }
}

impl Cursor for VecCursor {
    fn first(&mut self) -> Result<()> {
        self.go(Some(0))
    }
    fn last(&mut self) -> Result<()> {
        self.go(self.entries.len().checked_sub(1))
    }
    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let n = self
            .entries
            .partition_point(|e| compare(&e.0, e.1, key, tag) == Ordering::Less);
        self.go(Some(n))
    }
    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let n = self
            .entries
            .partition_point(|e| compare(&e.0, e.1, key, tag) != Ordering::Greater);
        self.go(n.checked_sub(1))
    }
    fn next(&mut self) -> Result<()> {
        let at = self.at.expect("next only while valid");
        self.go(Some(at + 1))
    }
    fn prev(&mut self) -> Result<()> {
        let at = self.at.expect("prev only while valid");
        self.go(at.checked_sub(1))
    }
    /// Tells what it knows of four entries in five.
    fn is_newest(&self) -> bool {
        let here = self.at.expect("is_newest only while valid");
        !here.is_multiple_of(5) && (here == 0 || self.entries[here - 1].0 != self.entries[here].0)
    }
    fn valid(&self) -> bool {
        self.at.is_some()
    }
    fn key(&self) -> &[u8] {
        &self.here().0
    }
    fn tag(&self) -> Tag {
        self.here().1
    }
    fn value(&self) -> &[u8] {
        &self.here().2
    }
}

/// When to fail: shared by all cursors of a test. Counts calls down; the one that reaches 0 fails.
#[derive(Clone, Debug)]
pub(super) struct Fuse(Rc<Cell<u64>>);

impl Fuse {
    /// Fails at the `n`-th call from now, counted from 1; never with 0.
    pub(super) fn new(n: u64) -> Fuse {
        Fuse(Rc::new(Cell::new(n)))
    }
    pub(super) fn is_burnt(&self) -> bool {
        self.0.get() == 0
    }
    pub(super) fn call(&self) -> Result<()> {
        match self.0.get() {
            0 => Ok(()),
            n => {
                self.0.set(n - 1);
                if n == 1 {
                    return Err(Error::corruption("the fuse burnt"));
                }
                Ok(())
            }
        }
    }
}

/// Fails when its fuse burns; then not valid until it is positioned again.
#[derive(Debug)]
pub(super) struct Flaky {
    inner: VecCursor,
    fuse: Fuse,
}

impl Flaky {
    pub(super) fn new(inner: VecCursor, fuse: &Fuse) -> Flaky {
        Flaky {
            inner,
            fuse: fuse.clone(),
        }
    }
    fn call(&mut self, act: impl FnOnce(&mut VecCursor) -> Result<()>) -> Result<()> {
        if let Err(error) = self.fuse.call() {
            self.inner.at = None;
            return Err(error);
        }
        act(&mut self.inner)
    }
}

impl Cursor for Flaky {
    fn first(&mut self) -> Result<()> {
        self.call(VecCursor::first)
    }
    fn last(&mut self) -> Result<()> {
        self.call(VecCursor::last)
    }
    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.call(|c| c.seek(key, tag))
    }
    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.call(|c| c.seek_for_prev(key, tag))
    }
    fn next(&mut self) -> Result<()> {
        self.call(VecCursor::next)
    }
    fn prev(&mut self) -> Result<()> {
        self.call(VecCursor::prev)
    }
    fn is_newest(&self) -> bool {
        self.inner.is_newest()
    }
    fn valid(&self) -> bool {
        self.inner.valid()
    }
    fn key(&self) -> &[u8] {
        self.inner.key()
    }
    fn tag(&self) -> Tag {
        self.inner.tag()
    }
    fn value(&self) -> &[u8] {
        self.inner.value()
    }
}

/// Keys that are likely to meet: short ones, prefixes of each other, and long ones that agree in
/// more than a head.
pub(super) fn key_of(n: u8) -> Vec<u8> {
    match n % 4 {
        0 => vec![b'a' + n / 16],
        1 => vec![b'a' + n / 16, 0],
        2 => [&b"a long shared prefix"[..], &[n / 16]].concat(),
        _ => vec![0xff; usize::from(n / 8)],
    }
}

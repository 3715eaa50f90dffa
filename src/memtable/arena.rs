//! The memory of entries: chunks filled front to back, given back whole (an unsafe island).
//!
//! ```text
//! entry, 8-aligned: previous version: pointer or null | tag: u64 | key bytes: u32 | value bytes: u32
//!                   | key | value
//! ```
//!
//! A chunk starts at 64 KiB and each next one is twice as large, up to 2 MiB, so that an idle
//! keyspace is cheap. An entry larger than a quarter of that which does not fit where filling
//! stands gets a chunk of its own. Filling starts half a page behind the page-aligned start of a
//! chunk: copies into page buffers then do not meet the slow alignment of 16 bytes modulo 4 KiB.
//!
//! Invariants:
//! - an entry is written before its [`EntryRef`] exists, and never changes afterwards;
//! - an `EntryRef` is readable while its arena lives. References stay inside this room, in
//!   structures that belong to a memtable (its index, stage and runs) or that hold one (its
//!   cursors), and every memtable holds its arena. That is what the blocks below rely on;
//! - a chunk goes back to the pool only when its arena is dropped, so never while anything can
//!   still read it: there is no second owner whose slot could be given away twice.
//!
//! Threads: one writer at a time (a lock inside makes that so); readers need nothing but the
//! Release/Acquire pair of whoever hands them a reference. What is not here: any order, any search.

use super::chunk::{CHUNK_BYTES_MAX, Chunk, PAGE_BYTES};
use super::pool::Pool;
use crate::base::key::{compare, head8};
use crate::base::sync::Mutex;
use crate::base::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::base::types::Tag;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ptr::{NonNull, copy_nonoverlapping};

const CHUNK_BYTES_MIN: usize = 64 << 10;
const FILL_START: usize = PAGE_BYTES / 2;
const ENTRY_ALIGN: usize = align_of::<Header>();

/// How many low bits of an entry's address are always zero.
pub(super) const ADDRESS_ZEROS: u32 = 3;

/// Bytes an entry takes besides its key and value, without padding.
pub(super) const ENTRY_OVERHEAD: usize = size_of::<Header>();

const _: () = assert!(ENTRY_ALIGN == 1 << ADDRESS_ZEROS);

#[repr(C, align(8))]
struct Header {
    previous: Option<EntryRef>,
    tag: Tag,
    key_bytes: u32,
    value_bytes: u32,
}

/// A written entry. Readable while its arena lives (see the module's text).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryRef(NonNull<Header>);

// SAFETY: what it points to never changes after the reference was made, and is not bound to a thread.
unsafe impl Send for EntryRef {}
// SAFETY: as above; there is no interior mutability behind it.
unsafe impl Sync for EntryRef {}

impl EntryRef {
    /// The newest version of the same key before this one that the index knew.
    #[inline]
    pub(super) fn previous(self, arena: &Arena) -> Option<EntryRef> {
        debug_assert!(arena.holds(self));
        self.header().previous
    }

    #[inline]
    pub(super) fn tag(self, arena: &Arena) -> Tag {
        debug_assert!(arena.holds(self));
        self.header().tag
    }

    #[inline]
    pub(super) fn key(self, arena: &Arena) -> &[u8] {
        debug_assert!(arena.holds(self));
        self.key_bytes()
    }

    #[inline]
    pub(super) fn value(self, arena: &Arena) -> &[u8] {
        debug_assert!(arena.holds(self));
        let header = self.header();
        let start = size_of::<Header>() + header.key_bytes as usize;
        // SAFETY: the value lies behind the key in the same chunk; it was written by `push`.
        unsafe { self.bytes(start, header.value_bytes as usize) }
    }

    /// Brings the entry's first lines into the cache.
    #[inline]
    pub(super) fn prefetch(self) {
        prefetch(self.0.as_ptr());
        prefetch(self.0.as_ptr().wrapping_byte_add(64));
        prefetch(self.0.as_ptr().wrapping_byte_add(128));
    }

    /// The address without its zero bits, for an index slot; see [`EntryRef::from_packed`].
    #[inline]
    pub(super) fn packed(self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64 >> ADDRESS_ZEROS
    }

    /// The reference that [`EntryRef::packed`] was called on.
    ///
    /// # Safety
    /// `packed` came from such a call, whose effects the caller has acquired.
    #[inline]
    pub(super) unsafe fn from_packed(packed: u64) -> EntryRef {
        let address = (packed << ADDRESS_ZEROS) as usize;
        let pointer = std::ptr::with_exposed_provenance_mut(address);
        // SAFETY: by the contract this was a `NonNull` when it was packed.
        EntryRef(unsafe { NonNull::new_unchecked(pointer) })
    }

    #[inline]
    fn header<'a>(self) -> &'a Header {
        // SAFETY: the arena lives (module's text), the header was written by `push` and is aligned.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn key_bytes<'a>(self) -> &'a [u8] {
        let len = self.header().key_bytes as usize;
        // SAFETY: the key lies right behind the header; it was written by `push`.
        unsafe { self.bytes(size_of::<Header>(), len) }
    }

    /// # Safety
    /// `start..start + len` lies in the entry.
    #[inline]
    unsafe fn bytes<'a>(self, start: usize, len: usize) -> &'a [u8] {
        let pointer = self.0.cast::<u8>();
        // SAFETY: by the contract the offset stays inside the entry, so inside its chunk.
        let first = unsafe { pointer.add(start) };
        // SAFETY: initialised by `push`, never changed, and the arena lives (module's text).
        unsafe { std::slice::from_raw_parts(first.as_ptr(), len) }
    }
}

impl fmt::Debug for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:p}", self.0)
    }
}

/// Something with a place in the one order; `head` never contradicts it.
pub(super) trait Place {
    fn head(&self) -> u64;
    fn key(&self) -> &[u8];
    fn tag(&self) -> Tag;

    /// Compares by head, and only where those are equal by key and tag.
    #[inline]
    fn place_cmp(&self, other: &(impl Place + ?Sized)) -> Ordering
    where
        Self: Sized,
    {
        self.head()
            .cmp(&other.head())
            .then_with(|| compare(self.key(), self.tag(), other.key(), other.tag()))
    }
}

/// An entry with its head beside it: what the stage and the runs are made of. Ordered as entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    head: u64,
    pub(super) entry: EntryRef,
}

impl Place for Placed {
    #[inline]
    fn head(&self) -> u64 {
        self.head
    }
    #[inline]
    fn key(&self) -> &[u8] {
        self.entry.key_bytes()
    }
    #[inline]
    fn tag(&self) -> Tag {
        self.entry.header().tag
    }
}

impl Ord for Placed {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.place_cmp(other)
    }
}

impl PartialOrd for Placed {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Placed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Placed {}

/// A place that is only asked for: no entry needs to be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe<'k> {
    pub(super) head: u64,
    pub(super) key: &'k [u8],
    pub(super) tag: Tag,
}

impl Place for Probe<'_> {
    #[inline]
    fn head(&self) -> u64 {
        self.head
    }
    #[inline]
    fn key(&self) -> &[u8] {
        self.key
    }
    #[inline]
    fn tag(&self) -> Tag {
        self.tag
    }
}

// The skiplist is searched through `Borrow`, which is how a probe can stand beside entries.
impl<'a> Borrow<dyn Place + 'a> for Placed {
    #[inline]
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl Ord for dyn Place + '_ {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        (self.head().cmp(&other.head()))
            .then_with(|| compare(self.key(), self.tag(), other.key(), other.tag()))
    }
}

impl PartialOrd for dyn Place + '_ {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Place + '_ {}

/// Where heads are taken: behind the bytes that most keys are expected to start with.
#[derive(Debug)]
pub(super) struct Heads {
    prefix: Box<[u8]>,
}

impl Heads {
    pub(super) fn behind(prefix: Vec<u8>) -> Heads {
        Heads {
            prefix: prefix.into_boxed_slice(),
        }
    }

    /// 8 bytes behind the prefix; a key before all that start with it has 0, one behind them the
    /// largest head. So `of(a) < of(b)` implies `a < b`, whatever the keys and the prefix.
    #[inline]
    pub(super) fn of(&self, key: &[u8]) -> u64 {
        if self.prefix.is_empty() {
            return head8(key);
        }
        match key.strip_prefix(&*self.prefix) {
            Some(rest) => head8(rest),
            None if key < &*self.prefix => 0,
            None => u64::MAX,
        }
    }

    #[inline]
    pub(super) fn place(&self, entry: EntryRef, key: &[u8]) -> Placed {
        let head = self.of(key);
        Placed { head, entry }
    }

    #[inline]
    pub(super) fn probe<'k>(&self, key: &'k [u8], tag: Tag) -> Probe<'k> {
        let head = self.of(key);
        Probe { head, key, tag }
    }
}

/// All entries of one memtable.
#[derive(Debug)]
pub(super) struct Arena {
    filling: Mutex<Filling>,
    memory: AtomicU64,
    pool: Pool,
}

#[derive(Debug)]
struct Filling {
    chunks: Vec<Chunk>,
    /// Which chunk is being filled, and from where on it is free.
    current: usize,
    free: usize,
    /// How large the next chunk is to be.
    next_bytes: usize,
}

impl Arena {
    pub(super) fn new(pool: &Pool) -> Arena {
        Arena {
            filling: Mutex::new(Filling {
                chunks: Vec::new(),
                current: 0,
                free: 0,
                next_bytes: CHUNK_BYTES_MIN,
            }),
            memory: AtomicU64::new(0),
            pool: pool.clone(),
        }
    }

    /// Writes an entry. Key and value are below 4 GiB, as the batch has checked.
    #[inline]
    pub(super) fn push(
        &self,
        previous: Option<EntryRef>,
        tag: Tag,
        key: &[u8],
        value: &[u8],
    ) -> EntryRef {
        let header = Header {
            previous,
            tag,
            key_bytes: u32::try_from(key.len()).expect("keys are at most 64 KiB"),
            value_bytes: u32::try_from(value.len()).expect("values are at most 1 GiB"),
        };
        let needed = (size_of::<Header>() + key.len() + value.len()).next_multiple_of(ENTRY_ALIGN);
        let mut filling = self.filling.lock();
        let start = filling.reserve(needed, self);
        let target: NonNull<Header> = start.cast();
        // SAFETY: `needed` bytes from `start` are ours alone, 8-aligned and inside one chunk.
        unsafe { target.write(header) };
        // SAFETY: the header is shorter than what was reserved.
        let key_start = unsafe { start.add(size_of::<Header>()) };
        // SAFETY: reserved for the key; nobody else has a pointer to it, so nothing overlaps.
        unsafe { copy_nonoverlapping(key.as_ptr(), key_start.as_ptr(), key.len()) };
        // SAFETY: header and key are shorter than what was reserved, or the value is empty.
        let value_start = unsafe { key_start.add(key.len()) };
        // SAFETY: reserved for the value, as above.
        unsafe { copy_nonoverlapping(value.as_ptr(), value_start.as_ptr(), value.len()) };
        EntryRef(target)
    }

    /// Bytes of chunks held.
    pub(super) fn memory(&self) -> u64 {
        // A statistic: no partner.
        self.memory.load(Relaxed)
    }

    /// True when `entry` points into one of this arena's chunks. Slow: for debug assertions.
    fn holds(&self, entry: EntryRef) -> bool {
        let address = entry.0.as_ptr().addr();
        let filling = self.filling.lock();
        let mut chunks = filling.chunks.iter();
        chunks.any(|chunk| {
            let start = chunk.start().as_ptr().addr();
            start <= address && address < start + chunk.bytes()
        })
    }
}

impl Filling {
    /// `needed` bytes that nobody has had since the chunk was taken, 8-aligned.
    #[inline]
    fn reserve(&mut self, needed: usize, arena: &Arena) -> NonNull<u8> {
        debug_assert!(self.free.is_multiple_of(ENTRY_ALIGN));
        match self.chunks.get(self.current) {
            Some(chunk) if needed <= chunk.bytes() - self.free => {
                // SAFETY: `free <= bytes`, so the result is in the chunk or just behind it.
                let start = unsafe { chunk.start().add(self.free) };
                self.free += needed;
                start
            }
            _ => self.reserve_in_new_chunk(needed, arena),
        }
    }

    #[cold]
    fn reserve_in_new_chunk(&mut self, needed: usize, arena: &Arena) -> NonNull<u8> {
        let total = FILL_START + needed;
        let own = CHUNK_BYTES_MAX / 4 < needed;
        let chunk = if own {
            let bytes = total.next_multiple_of(PAGE_BYTES);
            arena.pool.take_large_chunk(bytes)
        } else {
            let bytes = self.next_bytes.max(total.next_power_of_two());
            self.next_bytes = (bytes * 2).min(CHUNK_BYTES_MAX);
            arena.pool.take_chunk(bytes)
        };
        debug_assert!(total <= chunk.bytes());
        arena.memory.fetch_add(chunk.bytes() as u64, Relaxed);
        // SAFETY: `FILL_START < total <= chunk.bytes()`.
        let start = unsafe { chunk.start().add(FILL_START) };
        if own {
            // Filling goes on where it stood; a first chunk of this sort counts as full.
            if self.chunks.is_empty() {
                self.free = chunk.bytes();
            }
            self.chunks.push(chunk);
        } else {
            self.current = self.chunks.len();
            self.free = total;
            self.chunks.push(chunk);
        }
        start
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for chunk in self.filling.get_mut().chunks.drain(..) {
            self.pool.give_chunk(chunk);
        }
    }
}

/// Brings the line at `pointer` into the cache; never faults, whatever the address.
#[inline]
pub(super) fn prefetch<T>(pointer: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has SSE, and a prefetch of any address has no effect but on caches.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = pointer;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::types::{SeqNo, ValueKind};
    use proptest::prelude::*;

    fn tag(n: u64) -> Tag {
        Tag::new(SeqNo::new(n), ValueKind::Put)
    }

    /// The naive twin: what was pushed, kept in vectors.
    #[test]
    fn entries_read_as_they_were_written_in_chunks_of_any_size() {
        let arena = Arena::new(&Pool::new(0));
        let sizes = [
            0usize,
            1,
            7,
            8,
            100,
            3 << 20,
            5,
            60_000,
            600 << 10,
            0,
            70_000,
            33,
        ];
        let mut twin = Vec::new();
        let mut previous = None;
        for round in 0..40u64 {
            for (i, &size) in sizes
                .iter()
                .enumerate()
                .take(if round < 2 { 12 } else { 5 })
            {
                let key = vec![round as u8; i * 3];
                let value = vec![i as u8; size];
                let entry = arena.push(previous, tag(round), &key, &value);
                assert_eq!(entry.previous(&arena), previous);
                // SAFETY: packed from a live entry of this thread.
                assert_eq!(unsafe { EntryRef::from_packed(entry.packed()) }, entry);
                previous = Some(entry);
                twin.push((entry, round, key, value));
            }
        }
        for (entry, n, key, value) in &twin {
            assert_eq!(entry.tag(&arena), tag(*n));
            assert_eq!(entry.key(&arena), key);
            assert_eq!(entry.value(&arena), value);
        }
    }

    #[test]
    fn a_small_arena_holds_one_small_chunk() {
        let arena = Arena::new(&Pool::new(0));
        assert_eq!(arena.memory(), 0);
        arena.push(None, tag(1), b"k", b"v");
        assert_eq!(arena.memory(), CHUNK_BYTES_MIN as u64);
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(255), any::<u8>()];
        proptest::collection::vec(byte, 0..14)
    }

    proptest! {
        /// Also: the order of placed entries, and of probes beside them, is the one order.
        #[test]
        fn heads_never_contradict_the_order(a in key(), b in key(), prefix in key(), m in 0u64..3, n in 0u64..3) {
            let heads = Heads::behind(prefix);
            if heads.of(&a) < heads.of(&b) {
                prop_assert!(a < b);
            }
            let arena = Arena::new(&Pool::new(0));
            let placed_a = heads.place(arena.push(None, tag(m), &a, b""), &a);
            let placed_b = heads.place(arena.push(None, tag(n), &b, b""), &b);
            let right = compare(&a, tag(m), &b, tag(n));
            prop_assert_eq!(placed_a.cmp(&placed_b), right);
            prop_assert_eq!(placed_a.place_cmp(&heads.probe(&b, tag(n))), right);
            let (x, y): (&dyn Place, &dyn Place) = (&placed_a, &heads.probe(&b, tag(n)));
            prop_assert_eq!(x.cmp(y), right);
        }
    }
}

//! Where the newest version of a key lies: open addressing over words (an unsafe island).
//!
//! ```text
//! table:  2^k buckets of 8 slots, one cache line each; a key's home is the top k bits of its hash
//! slot:   0, or  distance from home: 3 bits | rest of the hash: 16 bits | entry address / 8: 45 bits
//! ```
//!
//! The *rest* are the 16 bits of the hash below the home bits of the table that the memtable
//! started with. Slot and position together therefore tell a key's home in a table of up to 2^16
//! times that size: growing moves words from one array to the next, in order, and reads no entry.
//! It goes at once to what the full memtable will need, as far as can be told, 16 times at most;
//! the pool hears of that when half of the way there is done, and has the table ready.
//!
//! Invariants:
//! - slots are filled and replaced, never emptied: of the buckets from home on, the first empty slot
//!   ends a search;
//! - a key lies at most 7 buckets from home. Where all 8 are full the table doubles; if it is not
//!   even a quarter full (hashes that collide on purpose, P22), or cannot grow, the key is left to
//!   the ordered part and `incomplete` says from then on that a miss here proves nothing;
//! - tables are kept until the memtable is dropped: a reader may be in an old one. It misses only
//!   entries that are newer than its sequence number, which it loaded before.
//!
//! Threads: one writer, readers without locks. A slot is stored with Release and loaded with
//! Acquire, so what an address points to was written before. Not here: older versions (the entries'
//! chain), order.

use super::arena::{ADDRESS_ZEROS, Arena, EntryRef, prefetch};
use super::chunk::{ADDRESS_BITS, Chunk, PAGE_BYTES};
use super::pool::Pool;
use crate::base::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::base::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::OnceLock;

const SLOTS: usize = 8;
const DISTANCES: usize = 8;
const REST_BITS: u32 = 16;
const PACKED_BITS: u32 = ADDRESS_BITS - ADDRESS_ZEROS;
const DISTANCE_SHIFT: u32 = PACKED_BITS + REST_BITS;
/// The smallest table: 8 KiB.
pub(super) const INDEX_SLOTS_MIN: usize = 1024;
/// The largest table to start with; more than a memtable can need.
const INDEX_SLOTS_MAX: usize = 1 << 30;
/// A table grows to so many times its size at most, `1 << 4`: what is told too early of the keys to
/// come may be wrong.
const GROWTH_BITS_MAX: u32 = 4;
/// So many times the slots that are needed are no waste.
const WASTE_MAX: usize = 4;

const _: () = assert!(DISTANCES == 1 << (u64::BITS - DISTANCE_SHIFT));

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; SLOTS]);

/// One array of buckets, empty where its slots are 0.
#[derive(Debug)]
pub(super) struct Table {
    chunk: Chunk,
    buckets: usize,
}

const _: () = assert!(align_of::<Bucket>() <= PAGE_BYTES, "as chunks are");

impl Table {
    pub(super) fn new(buckets: usize) -> Table {
        debug_assert!(buckets.is_power_of_two());
        let mut table = Table {
            chunk: Chunk::new(Self::bytes_of(buckets) as usize),
            buckets,
        };
        table.wipe();
        table
    }

    /// The memory of a table of so many buckets.
    pub(super) fn bytes_of(buckets: usize) -> u64 {
        (buckets * size_of::<Bucket>()) as u64
    }

    pub(super) fn buckets(&self) -> usize {
        self.buckets
    }

    pub(super) fn memory(&self) -> u64 {
        self.chunk.bytes() as u64
    }

    /// Empties every slot.
    pub(super) fn wipe(&mut self) {
        let start = self.chunk.start().cast::<Bucket>();
        for i in 0..self.buckets {
            // SAFETY: the chunk has room for so many buckets, aligned as they must be.
            let bucket = unsafe { start.add(i) };
            // SAFETY: as above; `&mut self` says that nobody else looks. Nothing needs a drop.
            unsafe { bucket.write(Bucket::default()) };
        }
    }

    #[inline]
    fn all(&self) -> &[Bucket] {
        let start = self.chunk.start().cast::<Bucket>();
        // SAFETY: `wipe` in `new` made so many buckets of the chunk's memory, which lives as long
        // as `self`, and nothing but their atomics changes it while `self` is shared.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.buckets) }
    }

    fn bits(&self) -> u32 {
        self.buckets.trailing_zeros()
    }

    /// The bucket `distance` behind `home`, round the end.
    #[inline]
    fn bucket(&self, home: usize, distance: usize) -> &Bucket {
        &self.all()[(home + distance) & (self.buckets - 1)]
    }

    /// Puts a word into the first empty slot from `home` on, with the distance found; false if
    /// there is none. Only before the table is published.
    fn place(&self, home: usize, word: u64) -> bool {
        let word = word & ((1 << DISTANCE_SHIFT) - 1);
        for distance in 0..DISTANCES {
            for slot in &self.bucket(home, distance).0 {
                if slot.load(Relaxed) == 0 {
                    slot.store((distance as u64) << DISTANCE_SHIFT | word, Relaxed);
                    return true;
                }
            }
        }
        false
    }
}

/// The hash index of one memtable.
#[derive(Debug)]
pub(super) struct Index {
    /// Table `i` has `2^i` times the buckets of table 0.
    tables: [OnceLock<Table>; REST_BITS as usize + 1],
    current: AtomicUsize,
    /// Shifts a hash so that its rest is in the low bits.
    rest_shift: u32,
    keys: AtomicUsize,
    incomplete: AtomicBool,
    pool: Pool,
}

/// Where a key is in the current table, or can go. Good until the next reservation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot<'i> {
    /// The slot and the bits that go above the address; `None` if the key stays out of the index.
    slot: Option<(&'i AtomicU64, u64)>,
    /// The key's newest version so far.
    pub(super) newest: Option<EntryRef>,
}

impl Index {
    /// An empty index with room for `slots` slots, rounded up.
    pub(super) fn new(slots: usize, pool: &Pool) -> Index {
        let slots = slots.clamp(INDEX_SLOTS_MIN, INDEX_SLOTS_MAX);
        let table = pool.take_table(slots.next_power_of_two() / SLOTS);
        let rest_shift = u64::BITS - table.bits() - REST_BITS;
        let tables = [const { OnceLock::new() }; REST_BITS as usize + 1];
        tables[0].get_or_init(|| table);
        Index {
            tables,
            current: AtomicUsize::new(0),
            rest_shift,
            keys: AtomicUsize::new(0),
            incomplete: AtomicBool::new(false),
            pool: pool.clone(),
        }
    }

    /// The newest version of `key` that the index knows.
    #[inline]
    pub(super) fn find(&self, key: &[u8], hash: u64, arena: &Arena) -> Option<EntryRef> {
        self.spot(self.table(), key, hash, arena)?.newest
    }

    /// True when a key can be in the memtable that `find` does not find, or whose chain it does
    /// not know whole.
    #[inline]
    pub(super) fn incomplete(&self) -> bool {
        // Pairs with the Release in `reserve` and `grow`.
        self.incomplete.load(Acquire)
    }

    /// Brings the home bucket of `hash` into the cache.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        let table = self.table();
        prefetch(table.bucket(home(table, hash), 0));
    }

    /// Finds the key's slot, or one for it, growing first if the table is full. `keys_expected`: so
    /// many will the memtable have in the end, as it looks now. Only the writer.
    pub(super) fn reserve(
        &self,
        key: &[u8],
        hash: u64,
        arena: &Arena,
        keys_expected: impl Fn() -> usize,
    ) -> Spot<'_> {
        loop {
            let table = self.table();
            let slots = table.buckets() * SLOTS;
            let spot = self.spot(table, key, hash, arena);
            let keys = self.keys.load(Relaxed); // only the writer changes it
            let levels = match spot {
                Some(Spot {
                    newest: Some(_), ..
                }) => 0,
                Some(_) if slots / 4 * 3 <= keys => self.levels_to_grow(keys_expected()).max(1),
                Some(_) if slots / 8 * 3 == keys => {
                    let levels = self.levels_to_grow(keys_expected());
                    self.pool.wish_for_table(table.buckets() << levels);
                    0
                }
                // Where keys collide there may be no end to it: one step at a time.
                None if slots / 4 <= keys => 1,
                _ => 0,
            };
            if levels != 0 && self.grow(levels) {
                continue;
            }
            return spot.unwrap_or_else(|| {
                // Pairs with the Acquire in `incomplete`.
                self.incomplete.store(true, Release);
                Spot {
                    slot: None,
                    newest: None,
                }
            });
        }
    }

    /// Makes `entry` the newest version of its key. Only the writer, after `reserve`.
    #[inline]
    pub(super) fn publish(&self, spot: Spot<'_>, entry: EntryRef) {
        let Some((slot, above)) = spot.slot else {
            return;
        };
        if spot.newest.is_none() {
            self.keys.store(self.keys.load(Relaxed) + 1, Relaxed);
        }
        // Pairs with the Acquire in `spot`.
        slot.store(above << PACKED_BITS | entry.packed(), Release);
    }

    /// Distinct keys, without those that it had no room for.
    pub(super) fn keys(&self) -> usize {
        self.keys.load(Relaxed)
    }

    /// The slots that the same keys would need: those that there are, so that the table can be used
    /// again, unless that would be a waste.
    pub(super) fn slots_hint(&self) -> usize {
        let (needed, now) = (slots_for(self.keys()), self.table().buckets() * SLOTS);
        match now <= WASTE_MAX * needed {
            true => now,
            false => needed,
        }
    }

    /// So many times must the table double for that many keys; 0 when it is large enough.
    fn levels_to_grow(&self, keys: usize) -> u32 {
        let now = self.table().bits() + SLOTS.trailing_zeros();
        let wanted = slots_for(keys).trailing_zeros();
        wanted.saturating_sub(now).min(GROWTH_BITS_MAX)
    }

    /// Bytes of all tables.
    pub(super) fn memory(&self) -> u64 {
        let tables = self.tables.iter().filter_map(OnceLock::get);
        tables.map(Table::memory).sum()
    }

    #[inline]
    fn table(&self) -> &Table {
        // Pairs with the Release in `grow`.
        let table = self.tables[self.current.load(Acquire)].get();
        table.expect("the current table was set before it became that")
    }

    /// The key's slot or the first empty one from its home on; `None` if all those are full. Always
    /// inlined: a get and a put are little else, and it has several callers.
    #[inline(always)]
    fn spot<'i>(&self, table: &'i Table, key: &[u8], hash: u64, arena: &Arena) -> Option<Spot<'i>> {
        let home = home(table, hash);
        let rest = hash >> self.rest_shift & ((1 << REST_BITS) - 1);
        for distance in 0..DISTANCES {
            let above = (distance as u64) << REST_BITS | rest;
            for slot in &table.bucket(home, distance).0 {
                // Pairs with the Release in `publish` and, through the table, in `grow`.
                let word = slot.load(Acquire);
                if word == 0 {
                    return Some(Spot {
                        slot: Some((slot, above)),
                        newest: None,
                    });
                }
                if word >> PACKED_BITS == above {
                    // SAFETY: the low bits of a word that is not 0 came from `packed`; acquired.
                    let entry = unsafe { EntryRef::from_packed(word & ((1 << PACKED_BITS) - 1)) };
                    if entry.key(arena) == key {
                        return Some(Spot {
                            slot: Some((slot, above)),
                            newest: Some(entry),
                        });
                    }
                }
            }
        }
        None
    }

    /// Doubles the table so many times, or as often as the rest of the hashes allows; false if that
    /// is used up.
    #[cold]
    fn grow(&self, levels: u32) -> bool {
        let level = self.current.load(Relaxed); // only the writer changes it
        let old = self.table();
        let next_level = (level + levels as usize).min(self.tables.len() - 1);
        let levels = (next_level - level) as u32;
        if levels == 0 {
            return false;
        }
        let new = self.pool.take_table(old.buckets() << levels);
        // The bits of the rest that the table grows by, below those that it has grown by.
        let shift = DISTANCE_SHIFT - level as u32 - levels;
        let mut keys = self.keys.load(Relaxed);
        for (at, bucket) in old.all().iter().enumerate() {
            for slot in &bucket.0 {
                let word = slot.load(Relaxed);
                if word == 0 {
                    continue;
                }
                let distance = (word >> DISTANCE_SHIFT) as usize;
                let home = at.wrapping_sub(distance) & (old.buckets() - 1);
                let bits = word >> shift & ((1 << levels) - 1);
                if !new.place(home << levels | bits as usize, word) {
                    // Pairs with the Acquire in `incomplete`.
                    self.incomplete.store(true, Release);
                    keys -= 1;
                }
            }
        }
        self.keys.store(keys, Relaxed);
        self.tables[next_level].get_or_init(|| new);
        // Pairs with the Acquire in `table`: whoever sees the number sees the words too.
        self.current.store(next_level, Release);
        true
    }
}

impl Drop for Index {
    /// Hands on the last table; the smaller ones are freed, since successors start larger.
    fn drop(&mut self) {
        let level = self.current.load(Relaxed); // nobody else has it any more
        if let Some(table) = self.tables[level].take() {
            self.pool.give_table(table);
        }
    }
}

/// The slots that so many keys need: not more than three quarters of them.
fn slots_for(keys: usize) -> usize {
    let slots = keys + keys / 3 + 1;
    slots
        .clamp(INDEX_SLOTS_MIN, INDEX_SLOTS_MAX)
        .next_power_of_two()
}

#[inline]
fn home(table: &Table, hash: u64) -> usize {
    (hash >> (u64::BITS - table.bits())) as usize
}

//! A bounded cache of what cannot be read in place: blocks that are decompressed or read by
//! `pread`, and the indexes and filters of tables whose sections are on the heap.
//!
//! ```text
//! shard = map (table instance, offset) → slot | slots with one reference bit each | clock hand
//! ```
//! CLOCK: a hit sets the slot's bit; the hand clears bits and evicts the first slot without one.
//!
//! Invariants: a key holds the table's *instance*, a number that no two opened tables of this
//! process share, never a file number or inode, which may come again. The bytes held never exceed
//! what was allowed. Threads: one mutex a shard, held for a lookup or an insertion, never for a
//! read of the disk.

use super::filter::Filter;
use super::index::Index;
use super::sections::Loaded;
use crate::base::slice::Pin;
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::sync::{Arc, Mutex};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Shards a large cache is divided into.
const SHARDS_MAX: u64 = 16;
/// A shard is at least this large, so that small caches still hold large blocks.
const SHARD_BYTES_MIN: u64 = 4 << 20;
/// What a block costs beside its bytes: slot, map entry and reference counts, rounded up.
const OVERHEAD_BYTES: u64 = 128;

/// The body of a block, on the heap.
#[derive(Debug)]
pub(super) struct CachedBlock(pub(super) Vec<u8>);

impl Pin for CachedBlock {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What the cache holds.
#[derive(Clone, Debug)]
pub(super) enum Cached {
    Block(Arc<CachedBlock>),
    Index(Arc<Loaded<Index>>),
    Filter(Arc<Loaded<Filter>>),
}

impl Cached {
    fn cost(&self) -> u64 {
        let bytes = match self {
            Cached::Block(block) => block.0.capacity(),
            // Its bits for verified blocks are a three-hundredth of it.
            Cached::Index(index) => index.section().len(),
            Cached::Filter(filter) => filter.section().len(),
        };
        bytes as u64 + OVERHEAD_BYTES
    }
}

/// A block, or a section, of one opened table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BlockKey {
    pub(super) instance: u64,
    pub(super) offset: u64,
}

impl BlockKey {
    fn mixed(self) -> u64 {
        (self.instance.rotate_left(40) ^ self.offset).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Multiplies and folds: the keys are numbers of ours, which nobody outside can choose.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u64(&mut self, n: u64) {
        let mixed = (self.0.rotate_left(32) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Slot {
    key: BlockKey,
    what: Cached,
    referenced: bool,
}

#[derive(Debug, Default)]
struct Shard {
    map: HashMap<BlockKey, usize, BuildHasherDefault<Mix>>,
    slots: Vec<Slot>,
    hand: usize,
    bytes: u64,
}

impl Shard {
    fn evict_one(&mut self) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = &mut self.slots[self.hand];
            if !slot.referenced {
                break;
            }
            slot.referenced = false;
            self.hand += 1;
        }
        self.take_out(self.hand);
    }

    fn take_out(&mut self, slot: usize) {
        let gone = self.slots.swap_remove(slot);
        self.bytes -= gone.what.cost();
        self.map.remove(&gone.key);
        if let Some(moved) = self.slots.get(slot) {
            self.map.insert(moved.key, slot);
        }
    }
}

/// Bounded cache of what is not read in place, CLOCK eviction, sharded.
#[derive(Debug)]
pub struct BlockCache {
    shards: Box<[Mutex<Shard>]>,
    shard_bytes: u64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl BlockCache {
    /// Holds at most `bytes`, with its bookkeeping.
    pub fn new(bytes: u64) -> BlockCache {
        let shards = (bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        BlockCache {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            shard_bytes: bytes / shards,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }

    /// Lookups of blocks that hit and that missed.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (
            self.hits.load(Ordering::Relaxed), // counters without a partner
            self.misses.load(Ordering::Relaxed),
        )
    }

    fn shard(&self, key: BlockKey) -> &Mutex<Shard> {
        let i = ((key.mixed() >> 32) * self.shards.len() as u64) >> 32;
        &self.shards[i as usize]
    }

    /// The block, if it is here; counted as a hit or a miss.
    pub(super) fn get(&self, key: BlockKey) -> Option<Arc<CachedBlock>> {
        let found = match self.find(key) {
            Some(Cached::Block(block)) => Some(block),
            _ => None,
        };
        let counter = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// What is here under this key.
    pub(super) fn find(&self, key: BlockKey) -> Option<Cached> {
        let mut shard = self.shard(key).lock();
        let slot = shard.map.get(&key).copied()?;
        let slot = &mut shard.slots[slot];
        slot.referenced = true;
        Some(slot.what.clone())
    }

    /// True when something of so many bytes fits into a shard.
    pub(super) fn takes(&self, bytes: u64) -> bool {
        bytes.saturating_add(OVERHEAD_BYTES) <= self.shard_bytes
    }

    /// Keeps it, in the place of others; what is too large for a shard is not kept.
    pub(super) fn insert(&self, key: BlockKey, what: Cached) {
        let bytes = what.cost();
        if self.shard_bytes < bytes {
            return;
        }
        let mut shard = self.shard(key).lock();
        if shard.map.contains_key(&key) {
            return; // another thread read the same meanwhile
        }
        while self.shard_bytes < shard.bytes + bytes {
            shard.evict_one();
        }
        shard.bytes += bytes;
        let slot = shard.slots.len();
        shard.map.insert(key, slot);
        shard.slots.push(Slot {
            key,
            what,
            referenced: false,
        });
        debug_assert!(shard.bytes <= self.shard_bytes, "the cache keeps its bound");
    }

    /// How many indexes and filters it holds.
    #[cfg(test)]
    pub(super) fn count_sections(&self) -> usize {
        let is_section = |slot: &&Slot| !matches!(slot.what, Cached::Block(_));
        let count = |shard: &Mutex<Shard>| shard.lock().slots.iter().filter(is_section).count();
        self.shards.iter().map(count).sum()
    }

    /// Lets go of what is here under this key, if anything is.
    pub(super) fn remove(&self, key: BlockKey) {
        let mut shard = self.shard(key).lock();
        if let Some(slot) = shard.map.get(&key).copied() {
            shard.take_out(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u64) -> BlockKey {
        BlockKey {
            instance: n % 3,
            offset: n / 3 * 4096,
        }
    }

    fn block(n: u64, bytes: usize) -> Cached {
        let mut body = vec![0; bytes.max(8)];
        body[..8].copy_from_slice(&n.to_le_bytes());
        Cached::Block(Arc::new(CachedBlock(body)))
    }

    proptest! {
        #[test]
        fn the_cache_stays_within_its_bytes_and_gives_what_was_put_in(
            capacity in prop::sample::select(vec![0u64, 1000, 20_000, 3 << 20]),
            steps in proptest::collection::vec((0u64..60, 0usize..5000), 0..300),
        ) {
            let cache = BlockCache::new(capacity);
            let mut lookups = 0;
            for (n, bytes) in steps {
                match cache.get(key(n)) {
                    Some(found) => prop_assert_eq!(&found.0[..8], &n.to_le_bytes()),
                    None => cache.insert(key(n), block(n, bytes)),
                }
                lookups += 1;
                prop_assert!(cache.bytes() <= capacity);
            }
            let (hits, misses) = cache.hits_and_misses();
            prop_assert_eq!(hits + misses, lookups);
        }
    }

    #[test]
    fn what_is_used_again_and_again_stays() {
        let cache = BlockCache::new(20 * (1000 + OVERHEAD_BYTES));
        cache.insert(key(0), block(0, 1000));
        for n in 1..500 {
            assert!(cache.get(key(0)).is_some(), "evicted at {n}");
            cache.insert(key(n), block(n, 1000));
        }
    }
}

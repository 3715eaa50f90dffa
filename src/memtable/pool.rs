//! Recycled memory: arena chunks and index tables that no memtable holds any more.
//!
//! Fresh pages cost about six times as much to fill as recycled ones, so memtables hand their
//! memory on. The pool keeps at most `bytes_max`, which whoever counts the memtables' memory lowers
//! as that grows; what comes above it is freed, and chunks of single large entries make room for
//! others. Index tables lie here *zeroed*: whoever drops a memtable (the flush) wipes its table, not
//! the next writer.
//!
//! Threads: any; a lock that is held for a push or a pop. Nothing here reads what chunks contain.

use super::chunk::{CHUNK_BYTES_MAX, Chunk};
use super::index::Table;
use crate::base::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::base::sync::{Arc, Mutex};
use std::collections::VecDeque;

/// Recycled arena chunks and index tables, shared by all memtables of a database.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Relaxed, no partner: a limit for what comes.
    bytes_max: AtomicU64,
    free: Mutex<Free>,
    // Hints for `prepare`: no partners.
    /// A large chunk was taken since it last looked.
    taken: AtomicBool,
    /// An index table of so many buckets will be asked for; 0: none.
    wished: AtomicUsize,
}

#[derive(Debug, Default)]
struct Free {
    /// Of the usual sizes: powers of two, up to [`CHUNK_BYTES_MAX`].
    chunks: Vec<Chunk>,
    /// Of single large entries, of any size; the one that has waited longest is in front.
    large: VecDeque<Chunk>,
    tables: Vec<Table>,
    bytes: u64,
}

impl Pool {
    /// Keeps at most `bytes_max` of free memory.
    pub fn new(bytes_max: u64) -> Pool {
        Pool(Arc::new(Shared {
            bytes_max: AtomicU64::new(bytes_max),
            free: Mutex::default(),
            taken: AtomicBool::new(false),
            wished: AtomicUsize::new(0),
        }))
    }

    /// Keeps at most `bytes_max` of what is handed on from now on.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.0.bytes_max.store(bytes_max, Relaxed);
    }

    /// Bytes of free memory that the pool holds now.
    pub fn free_bytes(&self) -> u64 {
        self.0.free.lock().bytes
    }

    /// Has ready what writers will ask for soon, a large chunk and an index table: fresh pages are
    /// then taken from the system by whoever calls this beside the writers, and not by them.
    ///
    /// Cost: up to some milliseconds for each 2 MiB that the system has to find and clear.
    pub fn prepare(&self) {
        if self.0.taken.swap(false, Relaxed) {
            self.prepare_chunk();
        }
        let buckets = self.0.wished.swap(0, Relaxed);
        if buckets != 0 {
            self.prepare_table(buckets);
        }
    }

    fn prepare_chunk(&self) {
        let free = self.0.free.lock();
        let is_ready = free.chunks.iter().any(|c| c.bytes() == CHUNK_BYTES_MAX);
        let has_room = self.has_room(&free, CHUNK_BYTES_MAX as u64);
        drop(free);
        if !is_ready && has_room {
            let mut chunk = Chunk::new(CHUNK_BYTES_MAX);
            chunk.touch();
            self.give_chunk(chunk);
        }
    }

    fn prepare_table(&self, buckets: usize) {
        let free = self.0.free.lock();
        let is_ready = free.tables.iter().any(|t| t.buckets() == buckets);
        let has_room = self.has_room(&free, Table::bytes_of(buckets));
        drop(free);
        if !is_ready && has_room {
            self.keep_table(Table::new(buckets));
        }
    }

    /// Says that an index table of so many buckets will be asked for soon.
    pub(super) fn wish_for_table(&self, buckets: usize) {
        self.0.wished.store(buckets, Relaxed);
    }

    /// A chunk of exactly this size.
    pub(super) fn take_chunk(&self, bytes: usize) -> Chunk {
        if bytes == CHUNK_BYTES_MAX {
            self.0.taken.store(true, Relaxed);
        }
        let mut free = self.0.free.lock();
        match free.chunks.iter().rposition(|c| c.bytes() == bytes) {
            Some(i) => {
                free.bytes -= bytes as u64;
                free.chunks.swap_remove(i)
            }
            None => {
                drop(free);
                Chunk::new(bytes)
            }
        }
    }

    /// A chunk for one large entry: of `bytes`, or up to an eighth more.
    pub(super) fn take_large_chunk(&self, bytes: usize) -> Chunk {
        let sizes = bytes..=bytes + bytes / 8;
        let mut free = self.0.free.lock();
        let place = free.large.iter().rposition(|c| sizes.contains(&c.bytes()));
        match place.and_then(|i| free.large.remove(i)) {
            Some(chunk) => {
                free.bytes -= chunk.bytes() as u64;
                chunk
            }
            None => {
                drop(free);
                Chunk::new(bytes)
            }
        }
    }

    /// Keeps a chunk if there is room, or if chunks of large entries can make some: those may be of
    /// a size that nobody asks for any more.
    pub(super) fn give_chunk(&self, chunk: Chunk) {
        let bytes = chunk.bytes() as u64;
        if self.0.bytes_max.load(Relaxed) < bytes {
            return;
        }
        let mut outdated = Vec::new(); // freed outside the lock
        let mut free = self.0.free.lock();
        while !self.has_room(&free, bytes) {
            let Some(oldest) = free.large.pop_front() else {
                drop(free);
                return drop(chunk);
            };
            free.bytes -= oldest.bytes() as u64;
            outdated.push(oldest);
        }
        free.bytes += bytes;
        if chunk.bytes().is_power_of_two() && chunk.bytes() <= CHUNK_BYTES_MAX {
            free.chunks.push(chunk);
        } else {
            free.large.push_back(chunk);
        }
        drop(free);
        drop(outdated);
    }

    /// An empty table of exactly this many buckets.
    pub(super) fn take_table(&self, buckets: usize) -> Table {
        let mut free = self.0.free.lock();
        match free.tables.iter().rposition(|t| t.buckets() == buckets) {
            Some(i) => {
                let table = free.tables.swap_remove(i);
                free.bytes -= table.memory();
                table
            }
            None => {
                drop(free);
                Table::new(buckets)
            }
        }
    }

    pub(super) fn give_table(&self, mut table: Table) {
        let has_room = self.has_room(&self.0.free.lock(), table.memory());
        if has_room {
            table.wipe();
            self.keep_table(table);
        }
    }

    /// Keeps an empty table, if there is still room.
    fn keep_table(&self, table: Table) {
        let bytes = table.memory();
        let mut free = self.0.free.lock();
        if self.has_room(&free, bytes) {
            free.bytes += bytes;
            free.tables.push(table);
        }
    }

    fn has_room(&self, free: &Free, bytes: u64) -> bool {
        let bytes_max = self.0.bytes_max.load(Relaxed);
        bytes <= bytes_max.saturating_sub(free.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of much the same length find the memory of those before them.
    #[test]
    fn the_chunk_of_a_large_entry_is_used_again_for_one_about_as_large() {
        let pool = Pool::new(8 << 20);
        let chunk = Chunk::new(1_030_000);
        let start = chunk.start();
        pool.give_chunk(chunk);
        assert_eq!(pool.free_bytes(), 1_030_000);
        for other in [1_030_001, 900_000] {
            assert_eq!(pool.take_large_chunk(other).bytes(), other);
        }
        let again = pool.take_large_chunk(1_000_000);
        assert_eq!((again.start(), again.bytes()), (start, 1_030_000));
        assert_eq!(pool.free_bytes(), 0);
    }

    /// Else the memory of a few large values would keep out what every writer asks for.
    #[test]
    fn chunks_of_large_entries_make_room_the_oldest_first() {
        let pool = Pool::new(5 << 20);
        let mib = 1 << 20;
        for bytes in [3 * mib, mib + 1] {
            pool.give_chunk(Chunk::new(bytes));
        }
        pool.give_chunk(Chunk::new(CHUNK_BYTES_MAX));
        let left = (mib + 1 + CHUNK_BYTES_MAX) as u64;
        assert_eq!(pool.free_bytes(), left);
        // One that can never be kept drives nothing out.
        pool.give_chunk(Chunk::new(6 * mib));
        assert_eq!(pool.free_bytes(), left);
        // The usual ones stay.
        pool.give_chunk(Chunk::new(4 * mib));
        assert_eq!(pool.free_bytes(), CHUNK_BYTES_MAX as u64);
    }
}

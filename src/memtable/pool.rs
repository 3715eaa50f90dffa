//! Recycled memory: arena chunks and index tables that no memtable holds any more.
//!
//! Fresh pages cost about six times as much to fill as recycled ones, so memtables hand their
//! memory on. The pool keeps at most `bytes_max`, which whoever counts the memtables' memory lowers as
//! that grows; what comes above it is freed. Index tables
//! lie here *zeroed*: whoever drops a memtable (the flush) wipes its table, not the next writer.
//!
//! Threads: any; a lock that is held for a push or a pop. Nothing here reads what chunks contain.

use super::chunk::{CHUNK_BYTES_MAX, Chunk};
use super::index::Table;
use crate::base::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::base::sync::{Arc, Mutex};

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
    chunks: Vec<Chunk>,
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

    pub(super) fn give_chunk(&self, chunk: Chunk) {
        // Chunks of single large entries have any size: nobody would ask for them again.
        if !chunk.bytes().is_power_of_two() || CHUNK_BYTES_MAX < chunk.bytes() {
            return;
        }
        let bytes = chunk.bytes() as u64;
        let mut free = self.0.free.lock();
        if !self.has_room(&free, bytes) {
            drop(free); // a chunk is freed outside the lock
            return drop(chunk);
        }
        free.bytes += bytes;
        free.chunks.push(chunk);
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

//! A small world with real memtables and real tables: a history of writes, the oldest of them in
//! the deepest level, the newest in the active memtable.

use super::*;
use crate::base::checksum::KeyHasher;
use crate::base::options::{Compression, ReadMode, Verify};
use crate::base::sync::Arc;
use crate::base::sync::atomic::Ordering;
use crate::base::sync::plain::AtomicU64;
use crate::base::types::FileId;
use crate::fs::{FileName, Fs};
use crate::memtable::{Memtable, MemtableOptions, Pool};
use crate::read::{ReadCounters, SnapshotGuard, SnapshotList, View};
use crate::table::{BirthIdentity, BlockCache, Builder, BuilderOptions, Table, TableContext};
use crate::version::{FileMeta, TableEntry, Version};

pub(super) const SEED: u64 = 42;
pub(super) const DATABASE: u64 = 7;

/// A directory for tables, gone when dropped.
#[derive(Debug)]
pub(super) struct Workshop {
    fs: Fs,
    context: Arc<TableContext>,
    files: AtomicU64,
}

impl Workshop {
    pub(super) fn new() -> Workshop {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("alluvium-read-{}-{number}", std::process::id());
        let fs = Fs::os(&std::env::temp_dir().join(name));
        fs.make_root().unwrap();
        Workshop {
            fs,
            context: Arc::new(TableContext {
                read_mode: ReadMode::Mmap,
                verify: Verify::FirstTouch,
                cache: BlockCache::new(1 << 20),
            }),
            files: AtomicU64::new(1),
        }
    }

    /// Writes a table of ascending entries; `harm` may change bytes of the file before it is opened.
    pub(super) fn table(
        &self,
        entries: &[Entry],
        hash_seed: u64,
        harm: impl FnOnce(&mut Vec<u8>),
    ) -> Arc<TableEntry> {
        let file = FileId(self.files.fetch_add(1, Ordering::Relaxed));
        let name = FileName::Table(file);
        let identity = BirthIdentity {
            database: DATABASE,
            file,
            hash_seed,
        };
        let options = BuilderOptions {
            identity,
            block_bytes: 1 << 12,
            filter_bits_per_key: 12,
            compression: Compression::None,
        };
        let mut builder = Builder::new(self.fs.create_new(name).unwrap(), options);
        for (key, tag, value) in entries {
            builder.add(key, *tag, value).unwrap();
        }
        let summary = builder.finish().unwrap();

        let written = self.fs.open_write(name).unwrap();
        let mut bytes = vec![0; summary.bytes as usize];
        written.read_exact_at(&mut bytes, 0).unwrap();
        harm(&mut bytes);
        written.write_all_at(&bytes, 0).unwrap();
        let file = self.fs.open_read(name).unwrap();
        let table = Table::open(file, identity, summary.bytes, false, &self.context).unwrap();
        let meta = FileMeta {
            file: identity.file,
            identity,
            summary,
            deleted_through: SeqNo::ZERO,
        };
        TableEntry::from_table(meta, Arc::new(table))
    }

    /// Tables of at most `keys_max` keys each; versions of a key stay together.
    pub(super) fn run(&self, entries: Vec<Entry>, keys_max: usize) -> Vec<Arc<TableEntry>> {
        let sorted = VecCursor::new(entries).entries;
        let keys: Vec<&[Entry]> = sorted.chunk_by(|a, b| a.0 == b.0).collect();
        let tables = keys.chunks(keys_max);
        tables
            .map(|keys| self.table(&keys.concat(), SEED, |_| {}))
            .collect()
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let lock = self.fs.lock();
        for file in 1..self.files.load(Ordering::Relaxed) {
            let _ = self.fs.remove(FileName::Table(FileId(file)));
        }
        let _ = self.fs.remove_root();
        drop(lock);
    }
}

pub(super) fn memtable(entries: &[Entry]) -> Arc<Memtable> {
    let hasher = KeyHasher::new(SEED);
    let options = MemtableOptions {
        capacity_bytes: 1 << 20,
        hasher,
        common_prefix: Vec::new(),
        index_slots: 0,
    };
    let memtable = Memtable::new(options, &Pool::new(1 << 20));
    for (key, tag, value) in entries {
        memtable.insert(key, hasher.hash(key), *tag, value);
    }
    Arc::new(memtable)
}

/// A view of these memtables, newest first, and this version.
pub(super) fn view(memtables: &[&[Entry]], version: Version) -> Arc<View> {
    let mut memtables = memtables.iter().map(|entries| memtable(entries));
    Arc::new(View {
        active: memtables.next().unwrap_or_else(|| memtable(&[])),
        immutables: memtables.collect(),
        deleted: (&version.deleted).into(),
        version: Arc::new(version),
        hasher: KeyHasher::new(SEED),
        counters: Arc::new(ReadCounters::default()),
        closed: Arc::default(),
        folding: Default::default(),
        clock: Default::default(),
    })
}

pub(super) fn at(seqno: u64) -> SnapshotGuard {
    SnapshotList::default().register(|| SeqNo::new(seqno))
}

/// Cuts a history, oldest first, into the layers of a view: `L2`, `L1`, two runs of level 0, an
/// immutable memtable and the active one.
pub(super) fn layered(workshop: &Workshop, history: &[Entry], cuts: [usize; 5]) -> Arc<View> {
    let mut cuts = cuts.map(|cut| cut.min(history.len()));
    cuts.sort_unstable();
    let [a, b, c, d, e] = cuts;
    let runs = [(2u8, 1u64, 0..a), (1, 2, a..b), (0, 3, b..c), (0, 4, c..d)];
    let tables = runs.into_iter().flat_map(|(level, order, range)| {
        let tables = workshop.run(history[range].to_vec(), 5);
        tables.into_iter().map(move |table| (level, order, table))
    });
    let version = Version::of(tables.collect::<Vec<_>>()).unwrap();
    view(&[&history[e..], &history[d..e]], version)
}

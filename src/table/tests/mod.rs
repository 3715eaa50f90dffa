//! Tables against a model: every key, every gap, both directions, each read mode and codec.

mod calls;
mod damage;
mod live;
mod model;
mod sample;
mod sections;

use super::*;
use crate::base::checksum::KeyHasher;
use crate::base::error::Result;
use crate::base::sync::Arc;
use crate::base::sync::atomic::Ordering;
use crate::base::sync::plain::AtomicU64;
use crate::base::types::{Tag, ValueKind};
use crate::fs::{FileName, Fs};

const IDENTITY: BirthIdentity = BirthIdentity {
    database: 0xa11u64,
    file: FileId(7),
    hash_seed: 99,
};

fn tag(seqno: u64) -> Tag {
    Tag::new(SeqNo::new(seqno), ValueKind::Put)
}

fn hash(key: &[u8]) -> u64 {
    KeyHasher::new(IDENTITY.hash_seed).hash(key)
}

/// One entry: key, sequence number, and value, or none for a deletion.
type Row = (Vec<u8>, u64, Option<Vec<u8>>);

fn row_tag(row: &Row) -> Tag {
    let kind = match row.2 {
        Some(_) => ValueKind::Put,
        None => ValueKind::Delete,
    };
    Tag::new(SeqNo::new(row.1), kind)
}

fn options(block_bytes: u32, compression: Compression) -> BuilderOptions {
    BuilderOptions {
        identity: IDENTITY,
        block_bytes,
        filter_bits_per_key: 12,
        compression,
    }
}

fn context(read_mode: ReadMode, verify: Verify) -> Arc<TableContext> {
    context_with(read_mode, verify, 1 << 20)
}

fn context_with(read_mode: ReadMode, verify: Verify, cache_bytes: u64) -> Arc<TableContext> {
    Arc::new(TableContext {
        read_mode,
        verify,
        cache: BlockCache::new(cache_bytes),
    })
}

/// A directory of its own, removed at the end.
struct Place(Fs);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "alluvium-table-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let fs = Fs::os(&std::env::temp_dir().join(name));
        fs.make_root().unwrap();
        Place(fs)
    }

    const NAME: FileName = FileName::Table(FileId(7));

    fn build(&self, options: BuilderOptions, rows: &[Row]) -> TableSummary {
        let _ = self.0.remove(Self::NAME);
        let mut builder = Builder::new(self.0.create_new(Self::NAME).unwrap(), options);
        for row in rows {
            let value = row.2.as_deref().unwrap_or(b"");
            builder.add(&row.0, row_tag(row), value).unwrap();
        }
        assert_eq!(builder.entries(), rows.len() as u64);
        builder.finish().unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        let file = self.0.open_read(Self::NAME).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// The file itself, to damage what lies in it under an open table.
    fn writable(&self) -> std::fs::File {
        let path = self.0.open_read(Self::NAME).unwrap().path().to_owned();
        std::fs::OpenOptions::new().write(true).open(path).unwrap()
    }

    fn replace(&self, bytes: &[u8]) {
        let _ = self.0.remove(Self::NAME);
        let file = self.0.create_new(Self::NAME).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }

    fn open_as(
        &self,
        identity: BirthIdentity,
        bytes: u64,
        context: &Arc<TableContext>,
    ) -> Result<Arc<Table>> {
        self.open_with(identity, bytes, false, context)
    }

    fn open_with(
        &self,
        identity: BirthIdentity,
        bytes: u64,
        fresh: bool,
        context: &Arc<TableContext>,
    ) -> Result<Arc<Table>> {
        let file = self.0.open_read(Self::NAME)?;
        Table::open(file, identity, bytes, fresh, context).map(Arc::new)
    }

    fn open(&self, bytes: u64, context: &Arc<TableContext>) -> Arc<Table> {
        self.open_as(IDENTITY, bytes, context).unwrap()
    }

    /// Opens what this process wrote, perhaps just now.
    fn open_fresh(&self, bytes: u64, context: &Arc<TableContext>, fresh: bool) -> Arc<Table> {
        self.open_with(IDENTITY, bytes, fresh, context).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.0.remove(Self::NAME);
        let _ = self.0.remove_root();
    }
}

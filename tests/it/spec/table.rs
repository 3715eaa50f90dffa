//! One table under commands: `build k@n=v k@n-deleted…` (in order, blocks of 256 bytes), `summary`,
//! `scan`, `rev`, `seek k`, `get k@n` (the newest version at or below number n), `verify`, and on
//! its bytes `cut n`, `flip n`, `zero from to`.

use super::{World, bytes_of, damage, error_text, text_of};
use crate::support::ROOT;
use alluvium::base::checksum::KeyHasher;
use alluvium::base::cursor::Cursor;
use alluvium::base::types::{FileId, Tag, ValueKind};
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use alluvium::table::{
    BirthIdentity, BlockCache, Builder, BuilderOptions, Table, TableContext, TableCursor,
    TableSummary,
};
use alluvium::{Compression, ReadMode, Result, SeqNo, Verify};
use std::path::Path;
use std::sync::Arc;

const NAME: FileName = FileName::Table(FileId(7));
const IDENTITY: BirthIdentity = BirthIdentity {
    database: 0xa11,
    file: FileId(7),
    hash_seed: 99,
};

pub(super) struct OneTable {
    sim: SimFs,
    summary: Option<TableSummary>,
}

fn row_text(cursor: &TableCursor) -> String {
    let tag = cursor.tag();
    let key = format!("{}@{}", text_of(cursor.key()), tag.seqno());
    match tag.kind() {
        ValueKind::Delete => format!("{key}-deleted"),
        _ => format!("{key}={}", text_of(cursor.value())),
    }
}

impl OneTable {
    fn fs(&self) -> Fs {
        Fs::sim(&self.sim, Path::new(ROOT))
    }

    fn build(&mut self, rows: &[&str]) -> Result<()> {
        let options = BuilderOptions {
            identity: IDENTITY,
            block_bytes: 256,
            filter_bits_per_key: 10,
            compression: Compression::None,
        };
        let mut builder = Builder::new(self.fs().create_new(NAME)?, options);
        for row in rows {
            let (key, rest) = row.split_once('@').expect("a row has a number");
            let (seqno, value, kind) = match rest.split_once('=') {
                Some((seqno, value)) => (seqno, bytes_of(value), ValueKind::Put),
                None => {
                    let seqno = rest
                        .strip_suffix("-deleted")
                        .expect("a value or a deletion");
                    (seqno, Vec::new(), ValueKind::Delete)
                }
            };
            let tag = Tag::new(SeqNo::new(seqno.parse().unwrap()), kind);
            builder.add(&bytes_of(key), tag, &value)?;
        }
        self.summary = Some(builder.finish()?);
        Ok(())
    }

    fn open(&self) -> Result<Arc<Table>> {
        let context = Arc::new(TableContext {
            read_mode: ReadMode::Mmap,
            verify: Verify::FirstTouch,
            cache: BlockCache::new(1 << 20),
        });
        let bytes = self.summary.as_ref().expect("built").bytes;
        Table::open(self.fs().open_read(NAME)?, IDENTITY, bytes, false, &context).map(Arc::new)
    }

    fn ask(&self, command: &str, words: &[&str]) -> Result<String> {
        let table = self.open()?;
        let mut cursor = table.cursor();
        let mut rows = Vec::new();
        match command {
            "scan" => {
                cursor.first()?;
                while cursor.valid() {
                    rows.push(row_text(&cursor));
                    cursor.next()?;
                }
            }
            "rev" => {
                cursor.last()?;
                while cursor.valid() {
                    rows.push(row_text(&cursor));
                    cursor.prev()?;
                }
            }
            "seek" => {
                cursor.seek(&bytes_of(words[0]), Tag::MAX)?;
                rows.push(match cursor.valid() {
                    true => row_text(&cursor),
                    false => "nowhere".to_owned(),
                });
            }
            "get" => {
                let (key, at) = words[0].split_once('@').expect("get has a number");
                let key = bytes_of(key);
                let hash = KeyHasher::new(IDENTITY.hash_seed).hash(&key);
                let found = table.get(&key, hash, SeqNo::new(at.parse().unwrap()))?;
                rows.push(match found {
                    Some(found) if found.tag.kind() == ValueKind::Delete => {
                        format!("deleted at {}", found.tag.seqno())
                    }
                    Some(found) => format!("{} at {}", text_of(found.bytes()), found.tag.seqno()),
                    None => "nothing".to_owned(),
                });
            }
            "verify" => table.verify()?,
            _ => panic!("unknown command {command}"),
        }
        Ok(rows.join(" "))
    }
}

impl World for OneTable {
    fn new() -> Self {
        let sim = SimFs::new(5);
        Fs::sim(&sim, Path::new(ROOT)).make_root().unwrap();
        OneTable { sim, summary: None }
    }

    fn run(&mut self, command: &str, words: &[&str]) -> String {
        let root = Path::new(ROOT);
        match command {
            "build" => self
                .build(words)
                .map_or_else(|error| error_text(&error), |()| String::new()),
            "summary" => {
                let summary = self.summary.as_ref().expect("built");
                format!(
                    "{} bytes, {} entries, {} tombstones, {} raw bytes, {}-{}, numbers {}-{}",
                    summary.bytes,
                    summary.entries,
                    summary.tombstones,
                    summary.raw_bytes,
                    text_of(&summary.smallest),
                    text_of(&summary.largest),
                    summary.seqnos.0,
                    summary.seqnos.1
                )
            }
            "flip" | "cut" | "zero" => {
                let name = NAME.to_string();
                let mut bytes = self.sim.bytes(root, &name).unwrap();
                damage(&mut bytes, command, words);
                self.sim.plant(root, &name, &bytes);
                String::new()
            }
            _ => self
                .ask(command, words)
                .unwrap_or_else(|error| error_text(&error)),
        }
    }
}

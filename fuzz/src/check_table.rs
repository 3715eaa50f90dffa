//! A table file read in every way there is. One that verifies must answer the same in all of them.

use crate::guard::{aside, within};
use crate::table::identity;
use alluvium::base::cursor::Cursor;
use alluvium::base::types::{FileId, SeqNo, Tag};
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use alluvium::table::{BlockCache, Table, TableContext, TableCursor};
use alluvium::{ReadMode, Result, Verify};
use std::path::Path;
use std::sync::Arc;

const ROOT: &str = "/db";
/// Keys that are looked for at most, of those that the table itself holds.
const KEYS_MAX: usize = 64;
/// A compressed block may be so many times as large as it is stored, up to 4 MiB.
const EXPANSION_MAX: usize = 255;
const BLOCK_BYTES_MAX: usize = 4 << 20;

type Entries = Vec<(Vec<u8>, Tag, Vec<u8>)>;

/// Opens the file and reads it; bit 0 of `modes`: pread; bit 1: every read is verified.
pub fn check(bytes: &[u8], modes: u8) {
    let context = Arc::new(TableContext {
        read_mode: [ReadMode::Mmap, ReadMode::Pread][usize::from(modes & 1)],
        verify: [Verify::FirstTouch, Verify::EveryRead][usize::from(modes >> 1 & 1)],
        cache: BlockCache::new(64 << 10),
    });
    let (sim, name) = (SimFs::new(1), FileName::Table(FileId(3)));
    sim.plant(Path::new(ROOT), &name.to_string(), bytes);
    let expanded = (EXPANSION_MAX * bytes.len()).min(BLOCK_BYTES_MAX);
    within(bytes.len().max(expanded), || {
        if let Ok(table) = open(&sim, bytes, &context) {
            read(&Arc::new(table), bytes.len());
        }
    });
}

fn open(sim: &SimFs, bytes: &[u8], context: &Arc<TableContext>) -> Result<Table> {
    let file = Fs::sim(sim, Path::new(ROOT)).open_read(FileName::Table(FileId(3)))?;
    Table::open(file, identity(bytes), bytes.len() as u64, false, context)
}

fn read(table: &Arc<Table>, bytes: usize) {
    let forward = walk(&mut table.cursor(), bytes, true);
    let backward = walk(&mut table.cursor(), bytes, false);
    let rewritten = walk(&mut table.compaction_cursor(), bytes, true);
    let _ = table.approximate_bytes(None, None);
    let is_sound = table.verify().is_ok();
    let entries = forward.as_ref().map_or(&[][..], |entries| &entries[..]);
    if is_sound {
        aside(|| {
            let reversed = backward.map(|entries| entries.into_iter().rev().collect::<Vec<_>>());
            assert_eq!(forward.as_ref().ok(), reversed.as_ref().ok());
        });
        assert_eq!(forward.as_ref().ok(), rewritten.as_ref().ok());
        let ascends =
            |pair: &[(Vec<u8>, Tag, Vec<u8>)]| (&pair[0].0, pair[1].1) < (&pair[1].0, pair[0].1);
        assert!(entries.windows(2).all(ascends));
    }
    let own: Vec<&[u8]> = aside(|| {
        let mut own: Vec<&[u8]> = entries.iter().map(|entry| &entry.0[..]).collect();
        own.dedup();
        own
    });
    let step = own.len().div_ceil(KEYS_MAX).max(1);
    let foreign: [&[u8]; 5] = [b"", b"key/020", b"key/020/xxxxxx", b"l", &[0xff; 20]];
    for key in own.iter().copied().step_by(step).chain(foreign) {
        for at in [SeqNo::MAX, SeqNo::new(400), SeqNo::ZERO] {
            look_for(table, key, at, is_sound.then_some(entries));
        }
        let _ = table.approximate_bytes(Some(key), None);
        let _ = table.approximate_bytes(Some(b"key/010"), Some(key));
    }
}

/// A get and a seek; they must find what is among the entries, where those are sound.
fn look_for(table: &Arc<Table>, key: &[u8], at: SeqNo, sound: Option<&[(Vec<u8>, Tag, Vec<u8>)]>) {
    let place = (key, Tag::newest_at(at));
    let hash = table.hasher().hash(key);
    let may_contain = table.may_contain(hash);
    let found = table.get(key, hash, at);
    let found = aside(|| found.map(|value| value.map(|v| (v.tag, v.bytes().to_vec()))));
    let sought = seek(table, place);
    let Some(entries) = sound else {
        return;
    };
    let after = entries.partition_point(|(k, tag, _)| (&k[..], place.1) < (key, *tag));
    let expected = entries.get(after).filter(|entry| entry.0 == key);
    let expected = aside(|| expected.map(|(_, tag, value)| (*tag, value.clone())));
    assert!(
        may_contain || expected.is_none(),
        "the filter denies {key:?}"
    );
    assert_eq!(found.ok(), Some(expected), "get {key:?} at {at}");
    let expected = aside(|| entries.get(after).map(|(k, tag, _)| (k.clone(), *tag)));
    assert_eq!(sought.ok(), Some(expected), "seek {key:?} at {at}");
}

/// Where a seek leads; the steps around it are taken too.
fn seek(table: &Arc<Table>, (key, tag): (&[u8], Tag)) -> Result<Option<(Vec<u8>, Tag)>> {
    let mut cursor = table.cursor();
    cursor.seek_for_prev(key, tag)?;
    if cursor.valid() {
        cursor.next()?;
    }
    cursor.seek(key, tag)?;
    let sought = cursor
        .valid()
        .then(|| aside(|| (cursor.key().to_vec(), cursor.tag())));
    if cursor.valid() {
        cursor.prev()?;
    }
    Ok(sought)
}

fn walk(cursor: &mut TableCursor, bytes: usize, forward: bool) -> Result<Entries> {
    let mut entries = Entries::new();
    match forward {
        true => cursor.first()?,
        false => cursor.last()?,
    }
    while cursor.valid() {
        assert_eq!(&cursor.value_slice()[..], cursor.value());
        // Hostile indexes may name a block many times, each with many entries: their product.
        assert!(entries.len() <= 64 + bytes * bytes);
        aside(|| {
            entries.push((cursor.key().to_vec(), cursor.tag(), cursor.value().to_vec()));
        });
        match forward {
            true => cursor.next()?,
            false => cursor.prev()?,
        }
    }
    Ok(entries)
}

//! A table file: any bytes, or a good table with edits; as it is, or with its checksums right.
//!
//! Input: control (bit 0: edits of a sample, bits 1 and 2: which; bit 3: leave the checksums
//! alone; bit 4: pread; bit 5: verify every read) | the file, or edits of 3 bytes.
#![no_main]

use alluvium::base::cursor::Cursor;
use alluvium::base::types::{FileId, SeqNo, Tag};
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use alluvium::table::{BlockCache, Table, TableContext, TableCursor};
use alluvium::{ReadMode, Result, Verify};
use alluvium_fuzz::{input::Input, table};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::Arc;

const ROOT: &str = "/db";
/// Keys that are looked for at most, of those that the table itself holds.
const KEYS_MAX: usize = 64;

type Entries = Vec<(Vec<u8>, Tag, Vec<u8>)>;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let control = input.byte();
    let mut bytes = match control & 1 {
        0 => input.0.to_vec(),
        _ => table::edited(table::sample(usize::from(control >> 1 & 3)), input),
    };
    if control & 8 == 0 {
        table::repair(&mut bytes);
    }
    let context = Arc::new(TableContext {
        read_mode: [ReadMode::Mmap, ReadMode::Pread][usize::from(control >> 4 & 1)],
        verify: [Verify::FirstTouch, Verify::EveryRead][usize::from(control >> 5 & 1)],
        cache: BlockCache::new(64 << 10),
    });
    if let Ok(table) = open(&bytes, &context) {
        read(&Arc::new(table), bytes.len());
    }
});

fn open(bytes: &[u8], context: &Arc<TableContext>) -> Result<Table> {
    let (sim, name) = (SimFs::new(1), FileName::Table(FileId(3)));
    sim.plant(Path::new(ROOT), &name.to_string(), bytes);
    let file = Fs::sim(&sim, Path::new(ROOT)).open_read(name)?;
    Table::open(
        file,
        table::identity(bytes),
        bytes.len() as u64,
        false,
        context,
    )
}

/// Reads the table in every way. One that verifies must answer the same in all of them.
fn read(table: &Arc<Table>, bytes: usize) {
    let forward = walk(&mut table.cursor(), bytes, true);
    let backward = walk(&mut table.cursor(), bytes, false);
    let rewritten = walk(&mut table.compaction_cursor(), bytes, true);
    let _ = table.approximate_bytes(None, None);
    let is_sound = table.verify().is_ok();
    let entries = forward.as_ref().map_or(&[][..], |entries| &entries[..]);
    if is_sound {
        let reversed = backward.map(|entries| entries.into_iter().rev().collect::<Vec<_>>());
        assert_eq!(forward.as_ref().ok(), reversed.as_ref().ok());
        assert_eq!(forward.as_ref().ok(), rewritten.as_ref().ok());
        let ascends =
            |pair: &[(Vec<u8>, Tag, Vec<u8>)]| (&pair[0].0, pair[1].1) < (&pair[1].0, pair[0].1);
        assert!(entries.windows(2).all(ascends));
    }
    let mut own: Vec<&[u8]> = entries.iter().map(|entry| &entry.0[..]).collect();
    own.dedup();
    let step = own.len().div_ceil(KEYS_MAX).max(1);
    let foreign: [&[u8]; 5] = [b"", b"key/020", b"key/020/xxxxxx", b"l", &[0xff; 20]];
    for key in own.into_iter().step_by(step).chain(foreign) {
        for at in [SeqNo::MAX, SeqNo::new(400), SeqNo::ZERO] {
            let place = (key, Tag::newest_at(at));
            let hash = table.hasher().hash(key);
            let may_contain = table.may_contain(hash);
            let found = table.get(key, hash, at);
            let found = found.map(|value| value.map(|v| (v.tag, v.bytes().to_vec())));
            let sought = seek(table, place);
            if !is_sound {
                continue;
            }
            let after = entries.partition_point(|(k, tag, _)| (&k[..], place.1) < (key, *tag));
            let expected = entries.get(after).filter(|entry| entry.0 == key);
            let expected = expected.map(|(_, tag, value)| (*tag, value.clone()));
            assert!(
                may_contain || expected.is_none(),
                "the filter denies {key:?}"
            );
            assert_eq!(found.ok(), Some(expected), "get {key:?} at {at}");
            let expected = entries.get(after).map(|(k, tag, _)| (k.clone(), *tag));
            assert_eq!(sought.ok(), Some(expected), "seek {key:?} at {at}");
        }
        let _ = table.approximate_bytes(Some(key), None);
        let _ = table.approximate_bytes(Some(b"key/010"), Some(key));
    }
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
        .then(|| (cursor.key().to_vec(), cursor.tag()));
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
        entries.push((cursor.key().to_vec(), cursor.tag(), cursor.value().to_vec()));
        match forward {
            true => cursor.next()?,
            false => cursor.prev()?,
        }
    }
    Ok(entries)
}

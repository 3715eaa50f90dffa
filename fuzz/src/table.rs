//! Tables: small ones to begin with, edits of their bytes, and checksums put right again.

use crate::input::Input;
use crate::{u32_at, u64_at};
use alluvium::Compression;
use alluvium::base::checksum::{crc, crc_parts};
use alluvium::base::types::{FileId, SeqNo, Tag, ValueKind};
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use alluvium::table::{BirthIdentity, Builder, BuilderOptions};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

const FOOTER_BYTES: usize = 72;
const MAGIC: &[u8; 8] = b"alluvtbl";
const ROW_BYTES: usize = 28;
const CHECKSUM_BYTES: usize = 4;
const SECTION_ALIGN: usize = 64;
/// Where a block starts that may hold a key.
pub const SECTION_INDEX: u32 = 1;
/// Which keys are surely absent.
pub const SECTION_FILTER: u32 = 2;
/// Counts and bounds.
pub const SECTION_PROPERTIES: u32 = 3;
const INDEX_HEADER_BYTES: usize = 24;
const INDEX_GROUP: usize = 64;
/// Blocks and sections repaired at most: bounds the work for hostile bytes.
const PARTS_MAX: usize = 256;

/// Who the samples are.
pub const IDENTITY: BirthIdentity = BirthIdentity {
    database: 0x17,
    file: FileId(3),
    hash_seed: 99,
};

/// How the samples are built: plain, with many blocks, compressed, and without a filter.
const SAMPLES: [(u32, u32, Compression); 4] = [
    (4096, 10, Compression::None),
    (256, 10, Compression::None),
    (256, 8, Compression::Lz4),
    (512, 0, Compression::None),
];

/// A table of at most a few KiB; there are [`SAMPLES`].len() different ones.
pub fn sample(n: usize) -> &'static [u8] {
    static BUILT: [OnceLock<Vec<u8>>; SAMPLES.len()] = [const { OnceLock::new() }; SAMPLES.len()];
    let n = n % SAMPLES.len();
    BUILT[n].get_or_init(|| build(SAMPLES[n]).expect("the simulator has no faults"))
}

fn build(
    (block_bytes, filter_bits_per_key, compression): (u32, u32, Compression),
) -> alluvium::Result<Vec<u8>> {
    let (sim, root, name) = (SimFs::new(1), Path::new("/db"), FileName::Table(FileId(3)));
    let fs = Fs::sim(&sim, root);
    fs.make_root()?;
    let options = BuilderOptions {
        identity: IDENTITY,
        block_bytes,
        filter_bits_per_key,
        compression,
    };
    let mut builder = Builder::new(fs.create_new(name)?, options);
    for n in 0..40u8 {
        // One key has so many versions that they span blocks.
        for version in (0..if n == 20 { 30 } else { 1 + u64::from(n) % 3 }).rev() {
            let seqno = SeqNo::new(1 + 40 * version + u64::from(n));
            match (u64::from(n) + version) % 5 {
                0 => builder.add(&key(n), Tag::new(seqno, ValueKind::Delete), b"")?,
                _ => builder.add(&key(n), Tag::new(seqno, ValueKind::Put), &[n; 12])?,
            }
        }
    }
    builder.finish()?;
    Ok(sim.bytes(root, &name.to_string()).unwrap_or_default())
}

/// The keys of the samples, in ascending order.
pub fn key(n: u8) -> Vec<u8> {
    format!("key/{n:03}/{}", "x".repeat(usize::from(n) % 7)).into_bytes()
}

/// `bytes` with other bits at some places: 3 bytes an edit, two for the offset.
pub fn edited(bytes: &[u8], mut edits: Input<'_>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    while !edits.is_empty() && !bytes.is_empty() {
        let at = edits.number() % bytes.len();
        bytes[at] ^= edits.byte();
    }
    bytes
}

/// The identity that the footer states.
pub fn identity(bytes: &[u8]) -> BirthIdentity {
    let footer = bytes.len().saturating_sub(FOOTER_BYTES);
    let number = |at| u64_at(bytes, footer + at).unwrap_or(0);
    BirthIdentity {
        database: number(16),
        file: FileId(number(24)),
        hash_seed: number(32),
    }
}

/// Gives blocks, sections, section table and footer the checksums of valid ones, as far as they
/// can be found, and the footer its magic and the file's size.
pub fn repair(bytes: &mut [u8]) {
    let Some(footer) = bytes.len().checked_sub(FOOTER_BYTES) else {
        return;
    };
    let identity = identity(bytes);
    if let Some(rows) = rows(bytes, footer) {
        let found: Vec<usize> = rows.clone().step_by(ROW_BYTES).take(PARTS_MAX).collect();
        for &row in &found {
            if u32_at(bytes, row) == Some(SECTION_INDEX)
                && let Some(index) = section(bytes, row)
            {
                for block in checked_blocks(bytes, index) {
                    let end = block.end;
                    put_checksum(bytes, &identity, block, end);
                }
            }
        }
        for &row in &found {
            if let Some(range) = section(bytes, row)
                && row + ROW_BYTES <= rows.end
            {
                put_checksum(bytes, &identity, range, row + 20);
            }
        }
        put_checksum(bytes, &identity, rows, footer + 12);
    }
    bytes[footer + 40..][..8].copy_from_slice(&((footer + FOOTER_BYTES) as u64).to_le_bytes());
    let checksum = crc(&bytes[footer..footer + 60]);
    bytes[footer + 60..][..4].copy_from_slice(&checksum.to_le_bytes());
    bytes[footer + 64..].copy_from_slice(MAGIC);
}

fn rows(bytes: &[u8], footer: usize) -> Option<Range<usize>> {
    let start = usize::try_from(u64_at(bytes, footer)?).ok()?;
    let end = start.checked_add(u32_at(bytes, footer + 8)? as usize)?;
    (end <= footer).then_some(start..end)
}

fn section(bytes: &[u8], row: usize) -> Option<Range<usize>> {
    let start = usize::try_from(u64_at(bytes, row + 4)?).ok()?;
    let end = start.checked_add(usize::try_from(u64_at(bytes, row + 12)?).ok()?)?;
    (end <= bytes.len()).then_some(start..end)
}

/// Where the bodies of the blocks lie, with their codec byte and without their checksum.
fn checked_blocks(bytes: &[u8], index: Range<usize>) -> Vec<Range<usize>> {
    let count = u32_at(bytes, index.start).unwrap_or(0) as usize;
    let offsets = index.start + INDEX_HEADER_BYTES + 8 * (count + count.div_ceil(INDEX_GROUP));
    let span = |i| {
        let offset = |i| usize::try_from(u64_at(bytes, offsets + 8 * i)?).ok();
        let end = offset(i + 1)?.checked_sub(CHECKSUM_BYTES)?;
        Some(offset(i)?..end).filter(|span| span.start < span.end && span.end <= index.start)
    };
    (0..count.min(PARTS_MAX)).filter_map(span).collect()
}

/// The stored bodies of the blocks of a table.
pub fn blocks(bytes: &[u8]) -> Vec<Range<usize>> {
    let footer = bytes.len().saturating_sub(FOOTER_BYTES);
    let mut rows = rows(bytes, footer).unwrap_or(0..0).step_by(ROW_BYTES);
    let index = rows
        .find(|row| u32_at(bytes, *row) == Some(SECTION_INDEX))
        .and_then(|row| section(bytes, row));
    let spans = checked_blocks(bytes, index.unwrap_or(0..0));
    spans
        .into_iter()
        .map(|span| span.start..span.end - 1)
        .collect()
}

/// The checksum of `range`, which binds it to its place, stored at `to`.
fn put_checksum(bytes: &mut [u8], identity: &BirthIdentity, range: Range<usize>, to: usize) {
    let place = [
        identity.database,
        identity.file.0,
        identity.hash_seed,
        range.start as u64,
    ];
    let place: Vec<u8> = place.iter().flat_map(|n| n.to_le_bytes()).collect();
    let checksum = crc_parts(&[&place, &bytes[range]]);
    if let Some(stored) = bytes.get_mut(to..to + CHECKSUM_BYTES) {
        stored.copy_from_slice(&checksum.to_le_bytes());
    }
}

/// A sample table whose section `id` has these bytes: as it is, or with every checksum right.
pub fn with_section(n: usize, id: u32, replaced: &[u8], has_checksums: bool) -> Vec<u8> {
    let sample = sample(n);
    let footer = sample.len() - FOOTER_BYTES;
    let mut parts: Vec<(Range<usize>, &[u8])> = rows(sample, footer)
        .unwrap_or(0..0)
        .step_by(ROW_BYTES)
        .filter_map(|row| Some((section(sample, row)?, &sample[row..row + ROW_BYTES])))
        .collect();
    parts.sort_by_key(|(range, _)| range.start);
    let first = parts.first().map_or(footer, |(range, _)| range.start);
    let (mut bytes, mut table) = (sample[..first].to_vec(), Vec::new());
    for (range, row) in parts {
        bytes.resize(bytes.len().next_multiple_of(SECTION_ALIGN), 0);
        let content = match u32_at(row, 0) == Some(id) {
            true => replaced,
            false => &sample[range],
        };
        table.extend_from_slice(&row[..4]);
        table.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        table.extend_from_slice(&(content.len() as u64).to_le_bytes());
        table.extend_from_slice(&row[20..]);
        bytes.extend_from_slice(content);
    }
    let at = bytes.len() as u64;
    bytes.extend_from_slice(&table);
    let footer = bytes.len();
    bytes.extend_from_slice(&sample[sample.len() - FOOTER_BYTES..]);
    bytes[footer..][..8].copy_from_slice(&at.to_le_bytes());
    bytes[footer + 8..][..4].copy_from_slice(&(table.len() as u32).to_le_bytes());
    let stale = bytes.clone();
    repair(&mut bytes);
    if !has_checksums {
        // The file is whole but for the section: its checksum is that of the bytes before.
        let rows = at as usize..footer;
        let row = rows
            .step_by(ROW_BYTES)
            .find(|row| u32_at(&bytes, *row) == Some(id));
        if let Some(row) = row {
            bytes[row + 20..row + 24].copy_from_slice(&stale[row + 20..row + 24]);
            let range = at as usize..footer;
            put_checksum(&mut bytes, &identity(&stale), range, footer + 12);
            let checksum = crc(&bytes[footer..footer + 60]);
            bytes[footer + 60..][..4].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    bytes
}

/// The bytes of a section of a sample.
pub fn section_of(n: usize, id: u32) -> &'static [u8] {
    let sample = sample(n);
    let rows = rows(sample, sample.len() - FOOTER_BYTES).unwrap_or(0..0);
    let mut rows = rows.step_by(ROW_BYTES);
    let row = rows.find(|row| u32_at(sample, *row) == Some(id));
    let range = row.and_then(|row| section(sample, row));
    &sample[range.unwrap_or(0..0)]
}

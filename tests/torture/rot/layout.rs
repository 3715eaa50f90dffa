//! Where everything lies in a file, read from the bytes by DESIGN.md alone: the oracle's own eyes.
//!
//! None of the engine's decoders is used, so that what is *inside* a damaged record or block does
//! not depend on the code that has to notice the damage.

use std::ops::Range;

/// What a stretch of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A block of a table, with its entries: key and sequence number.
    Block(Vec<(Vec<u8>, u64)>),
    Index,
    Filter,
    Properties,
    /// Zeros between the parts of a table.
    Padding,
    SectionTable,
    Footer,
    /// A record of a log or manifest, header and payload.
    Record(Record),
    /// What lies behind the last record.
    Free,
    /// A file that is checked as a whole.
    Whole,
}

/// What a log record's header says, and the operations that its payload says it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: u8,
    pub(crate) synced: u64,
    pub(crate) first: u64,
    pub(crate) payload: Vec<u8>,
}

/// A stretch of a file.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) range: Range<usize>,
    pub(crate) what: What,
}

/// Every byte of a file, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) parts: Vec<Part>,
}

pub(crate) const RECORD_FULL: u8 = 1;
pub(crate) const RECORD_SEGMENT: u8 = 5;
pub(crate) const RECORD_FOOTER: u8 = 6;
const RECORD_HEADER: usize = 32;

impl Layout {
    /// The layout of the file of this name.
    pub(crate) fn of(name: &str, bytes: &[u8]) -> Layout {
        let (number, kind) = name.split_once('.').unwrap_or((name, ""));
        let parts = match kind {
            "tbl" => table(bytes),
            "log" | "manifest" => records(bytes, number.parse().unwrap()),
            _ => vec![Part {
                range: 0..bytes.len(),
                what: What::Whole,
            }],
        };
        let mut at = 0;
        for part in &parts {
            assert_eq!(part.range.start, at, "{name}: parts without a gap");
            at = part.range.end;
        }
        assert_eq!(at, bytes.len(), "{name}: parts up to the end");
        Layout { parts }
    }

    /// The parts in which `range` changes something.
    pub(crate) fn touched(&self, range: &Range<usize>) -> Range<usize> {
        let first = self.parts.partition_point(|p| p.range.end <= range.start);
        let behind = self.parts.partition_point(|p| p.range.start < range.end);
        first..behind.max(first)
    }

    /// The records, in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&Range<usize>, &Record)> {
        self.parts.iter().filter_map(|part| match &part.what {
            What::Record(record) => Some((&part.range, record)),
            _ => None,
        })
    }

    /// The blocks with their place among the parts.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, &Vec<(Vec<u8>, u64)>)> {
        let parts = self.parts.iter().enumerate();
        parts.filter_map(|(i, part)| match &part.what {
            What::Block(entries) => Some((i, entries)),
            _ => None,
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()).into()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn table(bytes: &[u8]) -> Vec<Part> {
    let footer = bytes.len() - 72;
    let rows = u64_at(bytes, footer) as usize;
    let mut sections: Vec<(Range<usize>, What)> = (rows..footer)
        .step_by(28)
        .map(|row| {
            let start = u64_at(bytes, row + 4) as usize;
            let what = match u32_at(bytes, row) {
                1 => What::Index,
                2 => What::Filter,
                3 => What::Properties,
                id => panic!("section {id} is none that a golden store has"),
            };
            (start..start + u64_at(bytes, row + 12) as usize, what)
        })
        .collect();
    sections.sort_by_key(|(range, _)| range.start);
    let index = sections.iter().find(|(_, what)| *what == What::Index);
    let index = &bytes[index.unwrap().0.clone()];
    let count = u32_at(index, 0) as usize;
    let offsets = 24 + 8 * count + 8 * count.div_ceil(64);
    let offset = |i: usize| u64_at(index, offsets + 8 * i) as usize;
    let blocks = (0..count).map(|i| {
        let range = offset(i)..offset(i + 1);
        (range.clone(), What::Block(entries(&bytes[range])))
    });
    let tail = [
        (rows..footer, What::SectionTable),
        (footer..bytes.len(), What::Footer),
    ];
    let mut parts: Vec<Part> = Vec::new();
    let mut at = 0;
    for (range, what) in blocks.chain(sections).chain(tail) {
        if at < range.start {
            let (range, what) = (at..range.start, What::Padding);
            parts.push(Part { range, what });
        }
        at = range.end;
        parts.push(Part { range, what });
    }
    parts
}

/// Keys and sequence numbers of a stored block.
fn entries(stored: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let (body, trailer) = stored.split_at(stored.len() - 5);
    let raw;
    let body = match trailer[0] {
        0 => body,
        1 => {
            let mut out = vec![0; u32_at(body, 0) as usize];
            lz4_flex::block::decompress_into(&body[4..], &mut out).unwrap();
            raw = out;
            &raw
        }
        codec => panic!("codec {codec} is none that a golden store has"),
    };
    let (count, wide) = (u16_at(body, 0), body[2] & 1 == 1);
    let (tag_len, prefix_len) = (usize::from(body[3]), u32_at(body, 4) as usize);
    let base = u64_at(body, 8);
    let width = if wide { 4 } else { 2 };
    let number = |at| match wide {
        true => u32_at(body, at) as usize,
        false => u16_at(body, at),
    };
    let offsets = 16 + 3 * count;
    let prefix = offsets + (count + 1) * width;
    (0..count)
        .map(|i| {
            let at = number(offsets + i * width);
            let suffix_at = at + width + tag_len;
            let suffix = &body[suffix_at..suffix_at + number(at)];
            let mut tag = [0; 8];
            tag[..tag_len].copy_from_slice(&body[at + width..suffix_at]);
            let tag = (base << 8) + u64::from_le_bytes(tag);
            let key = [&body[prefix..prefix + prefix_len], suffix].concat();
            (key, tag >> 8)
        })
        .collect()
}

/// CRC-32, rotated and moved as DESIGN.md says.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// The record of `segment` that begins at `at`.
pub(crate) fn record_at(bytes: &[u8], at: usize, segment: u64) -> Option<(Range<usize>, Record)> {
    let header = bytes.get(at..at + RECORD_HEADER)?;
    let meta = u32_at(header, 8);
    let len = (meta & 0xf_ffff) as usize;
    let own = u32_at(header, 0) == crc(&header[4..])
        && header[11] == 0xA1
        && u32_at(header, 12) == segment as u32
        && u32_at(header, 16) as usize == at;
    let payload = bytes.get(at + RECORD_HEADER..at + RECORD_HEADER + len)?;
    let whole = own && u32_at(header, 4) == crc(payload);
    whole.then(|| {
        let record = Record {
            kind: (meta >> 20 & 0xf) as u8,
            synced: u32_at(header, 20).into(),
            first: u64_at(header, 24),
            payload: payload.to_vec(),
        };
        (at..at + RECORD_HEADER + len, record)
    })
}

fn records(bytes: &[u8], segment: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some((range, record)) = record_at(bytes, at, segment) {
        at = range.end;
        let what = What::Record(record);
        parts.push(Part { range, what });
    }
    if at < bytes.len() {
        parts.push(Part {
            range: at..bytes.len(),
            what: What::Free,
        });
    }
    parts
}

/// The log segments that a manifest registers, in order.
pub(crate) fn registered_logs(manifest: &Layout) -> Vec<u64> {
    let mut logs = Vec::new();
    for (_, record) in manifest.records().filter(|(_, r)| r.kind == RECORD_FULL) {
        let mut rest = &record.payload[..];
        while !rest.is_empty() {
            let tag = varint(&mut rest);
            let len = varint(&mut rest) as usize;
            let (mut body, behind) = rest.split_at(len);
            rest = behind;
            match tag >> 1 {
                7 => logs.push(varint(&mut body)),
                8 => {
                    let gone = varint(&mut body);
                    logs.retain(|log| *log != gone);
                }
                _ => {}
            }
        }
    }
    logs.sort_unstable();
    logs
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        n |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    n
}

//! The reading side: the records of one segment in order, and how they end.
//!
//! The segment is mapped (read into memory where it cannot be), and whole records are borrowed
//! from it. A record that does not check ends the log or is an error; which of the two,
//! `verdict.rs` decides. Nothing behind a bad place, a footer or the `limit` is ever returned.
//!
//! Invariants: I-wal-5, the records returned are those appended, in order, without a hole. I-wal-6,
//! no record of another life or segment is returned. I-wal-7, after an error the reader repeats
//! it, after the end it stays at the end.
//!
//! Memory: the fragments of one long record. Threads: one for each reader.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::Predecessor;
use super::format::{
    Footer, Header, Kind, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, VERSION,
};
use super::verdict::{Ending, Life};
use crate::base::error::{Error, ErrorKind, REPAIR, Result};
use crate::base::types::{FileId, SeqNo};
use crate::fs::{File, Region};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest payload of one record: the largest batch, and what may stand around it.
pub const RECORD_BYTES_MAX: usize = (1 << 30) + (1 << 20);

/// One whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset of its (first fragment's) header.
    pub offset: u64,
    /// Its first sequence number.
    pub first: SeqNo,
    /// Its payload; borrowed unless it was fragmented.
    pub payload: Cow<'a, [u8]>,
}

/// How a segment ends. Known once `next` has returned `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// No header of this life: an empty segment.
    Empty,
    /// A footer: sealed at rotation or by a clean close.
    Sealed(Predecessor),
    /// The records end at `end` without a footer; what follows is zeros or of an earlier life.
    Open {
        /// Behind the last record.
        end: u64,
    },
    /// The records end at `end`, and what follows is the torn beginning of another.
    Torn {
        /// Behind the last whole record.
        end: u64,
    },
}

/// Reads one segment in order. Damage below the synced watermark is an error, never an end.
#[derive(Debug)]
pub struct Reader {
    region: Arc<Region>,
    path: PathBuf,
    segment: FileId,
    /// Bytes of the region that count: all, or those before the limit.
    len: usize,
    before: Option<Predecessor>,
    /// Behind the last valid record, where the next is looked for.
    end: u64,
    synced: u64,
    newest: SeqNo,
    records: u64,
    tail: Option<Tail>,
    failure: Option<Error>,
}

/// Where a record lies, fragments included.
struct Span {
    start: u64,
    end: u64,
    first: SeqNo,
    payload_len: usize,
    is_whole: bool,
}

impl Reader {
    /// Maps the whole file, or reads it into memory where it cannot be mapped, and checks the
    /// segment's header. `limit`: ignore everything at or behind this offset (the successor's
    /// cut, R15).
    ///
    /// # Errors
    /// `Corruption` when the header is damaged, or that of another database or a later segment;
    /// `Unsupported` when its version is not ours.
    pub fn open(file: &File, database: u64, segment: FileId, limit: Option<u64>) -> Result<Reader> {
        let len = file.len()?;
        let region = match len {
            0 => Region::from_vec(Vec::new()),
            _ => file.map(len).or_else(|_| file.read_region(len))?,
        };
        Self::over(region, file.path(), database, segment, limit)
    }

    /// As [`Reader::open`], over bytes that are in memory already; errors name `path`.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn over(
        region: impl Into<Arc<Region>>,
        path: &Path,
        database: u64,
        segment: FileId,
        limit: Option<u64>,
    ) -> Result<Reader> {
        let region = region.into();
        let counted = limit.map_or(region.len() as u64, |limit| limit.min(region.len() as u64));
        let mut reader = Reader {
            len: counted as usize,
            region,
            path: path.to_path_buf(),
            segment,
            before: None,
            end: 0,
            synced: 0,
            newest: SeqNo::ZERO,
            records: 0,
            tail: None,
            failure: None,
        };
        let life = life(&reader.region, reader.len, segment, &reader.path)?;
        match read_segment_header(life, database)? {
            Start::Header(before, end) => {
                reader.before = before;
                reader.end = end;
            }
            Start::None(Ending::Open) => reader.tail = Some(Tail::Empty),
            Start::None(Ending::Torn) => reader.tail = Some(Tail::Torn { end: 0 }),
        }
        Ok(reader)
    }

    /// What its header says of the segment before it.
    pub fn predecessor(&self) -> Option<Predecessor> {
        self.before
    }

    /// The next record, `None` at the end. A long record is copied, others are borrowed.
    ///
    /// # Errors
    /// `Corruption`, naming file and offset, when a record is damaged (R3); and again at each
    /// later call.
    #[allow(clippy::should_implement_trait)] // lends from the reader, which `Iterator` cannot
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        if self.tail.is_some() {
            return Ok(None);
        }
        match self.step() {
            Ok(None) => Ok(None),
            Ok(Some(span)) => self.record(&span).map(Some),
            Err(error) => {
                self.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    /// How it ended. Before `next` has returned `None`: open, behind the last record returned.
    pub fn tail(&self) -> Tail {
        self.tail.unwrap_or(Tail::Open { end: self.end })
    }

    /// Behind the last valid record so far, header and footer included; 0 for an empty segment.
    ///
    /// At the end of a segment whose successor states another end, records are missing: the chain
    /// of segments breaks here, and no later one may be replayed (R4).
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The highest synced watermark in the records so far. Above 0 it also says that every
    /// segment before this one was whole: those are synced before a `Synced` write here is.
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// Moves behind the next whole record and says where it lies; at the end sets the tail.
    fn step(&mut self) -> Result<Option<Span>> {
        let life = life(&self.region, self.len, self.segment, &self.path)?;
        let start = self.end;
        let mut at = start;
        let mut payload_len = 0;
        let mut long: Option<SeqNo> = None;
        loop {
            let (header, payload) = match life.fragment_at(at) {
                Ok(found) => found,
                Err(flaw) => {
                    let tail = match life.judge(start, at, flaw)? {
                        Ending::Open => Tail::Open { end: start },
                        Ending::Torn => Tail::Torn { end: start },
                    };
                    self.tail = Some(tail);
                    return Ok(None);
                }
            };
            let is_whole = match (header.kind, long) {
                (Kind::Full, None) => true,
                (Kind::First, None) => {
                    long = Some(header.first);
                    false
                }
                (Kind::Middle | Kind::Last, Some(first)) if header.first == first => false,
                (Kind::Footer, None) => {
                    let footer = self.check_footer(life, &header, payload)?;
                    self.synced = self.synced.max(u64::from(header.synced));
                    self.end = header.end();
                    self.tail = Some(Tail::Sealed(Predecessor {
                        segment: self.segment,
                        end: self.end,
                        last_seqno: footer.last_seqno,
                    }));
                    return Ok(None);
                }
                // Valid bytes of this life in a wrong order: no crash leaves them so.
                (kind, _) => {
                    return Err(life.damage(at).expected("a record's next part", name(kind)));
                }
            };
            // Saturated, it is above the limit too.
            payload_len = payload.len().saturating_add(payload_len);
            if RECORD_BYTES_MAX < payload_len {
                return Err(life.damage(start).expected(
                    format!("at most {RECORD_BYTES_MAX} bytes"),
                    format!("{payload_len} and more"),
                ));
            }
            at = header.end();
            if is_whole || header.kind == Kind::Last {
                self.end = at;
                self.synced = self.synced.max(u64::from(header.synced));
                self.newest = self.newest.max(header.first);
                self.records = self.records.saturating_add(1); // each has bytes of its own
                return Ok(Some(Span {
                    start,
                    end: at,
                    first: header.first,
                    payload_len,
                    is_whole,
                }));
            }
        }
    }

    fn check_footer(&self, life: Life<'_>, header: &Header, payload: &[u8]) -> Result<Footer> {
        let at = u64::from(header.offset);
        let footer = Footer::decode(payload).ok_or_else(|| life.damage(at))?;
        if footer.records != self.records {
            return Err(life.damage(at).expected(
                format!("{} records, as the footer says", footer.records),
                self.records,
            ));
        }
        if footer.last_seqno.plus(1) < self.newest {
            return Err(life.damage(at).expected(
                format!("numbers up to {}, as the footer says", footer.last_seqno),
                self.newest,
            ));
        }
        Ok(footer)
    }

    /// The checked record in `span`.
    fn record(&self, span: &Span) -> Result<Record<'_>> {
        let header_len = RECORD_HEADER_BYTES as u64;
        let payload = if span.is_whole {
            // Saturated, it is outside the region, which `block` refuses.
            let at = span.start.saturating_add(header_len);
            Cow::Borrowed(self.region.block(at, span.payload_len)?)
        } else {
            let life = life(&self.region, self.len, self.segment, &self.path)?;
            // Every fragment was checked, so the file holds this many bytes.
            let mut joined = Vec::with_capacity(span.payload_len);
            let mut at = span.start;
            while at < span.end {
                let Ok((header, payload)) = life.fragment_at(at) else {
                    return Err(life
                        .damage(at)
                        .advice("The file changed while it was read."));
                };
                joined.extend_from_slice(payload);
                at = header.end();
            }
            Cow::Owned(joined)
        };
        Ok(Record {
            offset: span.start,
            first: span.first,
            payload,
        })
    }
}

fn life<'a>(region: &'a Region, len: usize, segment: FileId, path: &'a Path) -> Result<Life<'a>> {
    Ok(Life {
        bytes: region.block(0, len)?,
        segment,
        path,
    })
}

/// How a segment begins.
enum Start {
    /// With its header: the predecessor that it names, and where it ends.
    Header(Option<Predecessor>, u64),
    /// Without a header of this life; torn, where more of this life is there.
    None(Ending),
}

fn read_segment_header(life: Life<'_>, database: u64) -> Result<Start> {
    let (header, payload) = match life.fragment_at(0) {
        Ok(found) => found,
        Err(flaw) => {
            refuse_foreign_header(life, database)?;
            return life.judge(0, 0, flaw).map(Start::None);
        }
    };
    if header.kind != Kind::Segment {
        return Err(life
            .damage(0)
            .expected("a segment's header", name(header.kind)));
    }
    let stated = SegmentHeader::decode(payload).ok_or_else(|| life.damage(0))?;
    if stated.database != database {
        return Err(foreign(life, stated.database, database));
    }
    if stated.version != VERSION {
        return Err(
            Error::new(ErrorKind::Unsupported, "unknown log format version")
                .at(life.path)
                .offset_at(RECORD_HEADER_BYTES as u64)
                .expected(VERSION, stated.version)
                .advice("Open the database with the version of alluvium that wrote it."),
        );
    }
    if stated.segment != life.segment {
        return Err(life.damage(0).expected(
            format!("segment {}", life.segment),
            format!("segment {}", stated.segment),
        ));
    }
    Ok(Start::Header(stated.before, header.end()))
}

/// A recycled file may still begin with its earlier life. A valid header that cannot be one is
/// refused: segments are recycled within a database, and towards higher numbers.
fn refuse_foreign_header(life: Life<'_>, database: u64) -> Result<()> {
    match SegmentHeader::at_start_of(life.bytes) {
        Some(stated) if stated.database != database => {
            Err(foreign(life, stated.database, database))
        }
        Some(stated) if stated.version == VERSION && life.segment < stated.segment => {
            Err(life.damage(0).expected(
                format!("segment {} or an earlier one", life.segment),
                format!("segment {}", stated.segment),
            ))
        }
        _ => Ok(()),
    }
}

/// What the file's header states, whatever its name is: a recycled file states its earlier life, a
/// swapped one another's. `None` where there is no valid header.
///
/// # Errors
/// What reading the file gives.
pub fn stated_header(file: &File) -> Result<Option<SegmentHeader>> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    if file.len()? < bytes.len() as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, 0)?;
    Ok(SegmentHeader::at_start_of(&bytes).filter(|header| header.version == VERSION))
}

fn foreign(life: Life<'_>, found: u64, expected: u64) -> Error {
    Error::corruption("log segment of another database")
        .at(life.path)
        .offset_at(0)
        .expected(
            format!("database {expected:016x}"),
            format!("database {found:016x}"),
        )
        .advice(REPAIR)
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Full => "a whole record",
        Kind::First => "a first fragment",
        Kind::Middle => "a middle fragment",
        Kind::Last => "a last fragment",
        Kind::Segment => "a segment's header",
        Kind::Footer => "a footer",
    }
}

//! Logs: the records before a damage and behind it, written again as a log that is whole.

use super::{Loss, LossKind, Repair};
use crate::base::checksum::crc;
use crate::base::error::Result;
use crate::base::options::LogMode;
use crate::base::payload::Payload;
use crate::base::slice::Pin;
use crate::base::types::{FileId, KeyspaceId, SeqNo};
use crate::fs::{FileName, Region};
use crate::wal::salvage::{Piece, salvage};
use crate::wal::{Predecessor, Writer, WriterOptions, stated_header};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a segment of the new log, unless one record is longer.
const SEGMENT_BYTES: u64 = 1 << 30;

/// A log file that may hold something.
struct Source {
    segment: FileId,
    name: FileId,
    region: Region,
}

/// The log that is written.
#[derive(Default)]
struct NewLog {
    writer: Option<Writer>,
    before: Option<Predecessor>,
    segments: Vec<FileId>,
}

impl Repair<'_> {
    /// Salvages every log that counts; gives the segments of the new log. `flushed` is how far
    /// each keyspace's tables reach.
    pub(super) fn salvage_logs(
        &mut self,
        flushed: &mut BTreeMap<KeyspaceId, SeqNo>,
    ) -> Result<Vec<FileId>> {
        let sources = self.log_sources()?;
        self.lose_missing(&sources);
        // Where a segment ends, its successor may say (R15).
        let mut limits = BTreeMap::new();
        for source in &sources {
            let said = salvage(source.region.bytes(), source.segment, None, |_| Ok(()))?;
            if let Some(before) = said.before {
                limits.insert(before.segment, before.end);
            }
        }
        let mut log = NewLog::default();
        let mut last = SeqNo::ZERO;
        for source in &sources {
            let limit = limits.get(&source.segment).copied();
            last = self.salvage_segment(source, limit, last, flushed, &mut log)?;
        }
        if let Some(mut writer) = log.writer.take() {
            writer.seal()?;
            writer.syncer().sync()?;
        }
        self.seqno_max = self.seqno_max.max(last);
        Ok(log.segments)
    }

    /// The log files, in the order of the segments in them.
    fn log_sources(&mut self) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        let newest = self.remains.logs.last().copied().unwrap_or_default();
        for name in self.logs.clone() {
            let file = self.fs.open_read(FileName::Log(name))?;
            let stated = stated_header(&file)?;
            let stated = stated.filter(|header| header.database == self.identity.database);
            let segment = stated.map_or(name, |header| header.segment);
            // What was struck off holds nothing that tables do not hold.
            let counts = !self.is_listed
                || self.remains.logs.contains(&segment)
                || newest < segment && segment == name;
            let len = file.len()?;
            if !counts || len == 0 {
                continue;
            }
            let region = file.map(len).or_else(|_| file.read_region(len))?;
            sources.push(Source {
                segment,
                name,
                region,
            });
        }
        sources.sort_by_key(|source| (source.segment, source.name != source.segment));
        Ok(sources)
    }

    fn lose_missing(&mut self, sources: &[Source]) {
        let there: BTreeSet<FileId> = sources.iter().map(|source| source.segment).collect();
        let (oldest, newest) = (there.first().copied(), there.last().copied());
        let missing: Vec<FileId> = self.remains.logs.difference(&there).copied().collect();
        for log in missing {
            // Without a whole manifest an older one may have been struck off since.
            let between = oldest.is_some_and(|o| o < log) && newest.is_some_and(|n| log < n);
            if !self.logs.contains(&log) && (self.is_listed || between) {
                self.report.losses.push(Loss {
                    what: "log segment".to_owned(),
                    ..Loss::at(self.fs.path(FileName::Log(log)), 0..0)
                });
            }
        }
    }

    fn salvage_segment(
        &mut self,
        source: &Source,
        limit: Option<u64>,
        mut last: SeqNo,
        flushed: &mut BTreeMap<KeyspaceId, SeqNo>,
        log: &mut NewLog,
    ) -> Result<SeqNo> {
        let path = self.fs.path(FileName::Log(source.name));
        let mut lost: Option<Loss> = None;
        let mut losses = Vec::new();
        let bytes = source.region.bytes();
        let said = salvage(bytes, source.segment, limit, |piece| {
            match piece {
                Piece::Lost { range, is_torn } => {
                    let mut loss = Loss::at(path.clone(), range);
                    loss.what = "log record".to_owned();
                    if is_torn {
                        loss.kind = LossKind::Torn;
                    }
                    lost = Some(loss);
                }
                Piece::Record(offset, first, payload) => {
                    if let Some(mut loss) = lost.take() {
                        let from = last.max(self.in_all_tables(flushed)).plus(1);
                        // Only a segment's header was hit, when no number is missing.
                        if first <= from {
                            loss.kind = LossKind::Derived;
                        }
                        let to = SeqNo::new(first.get().saturating_sub(1));
                        loss.seqnos = (from < first).then_some((from, to));
                        losses.push(loss);
                    }
                    match self.take_record(first, payload, last, flushed, log)? {
                        Some(end) => last = last.max(end),
                        None => {
                            let end = offset + payload.len() as u64;
                            let mut loss = Loss::at(path.clone(), offset..end);
                            loss.what = "log record that cannot be decoded".to_owned();
                            losses.push(loss);
                        }
                    }
                }
            }
            Ok(())
        })?;
        losses.extend(lost);
        if !losses.is_empty() || (said.database.is_none() && said.has_records) {
            self.set_aside(FileName::Log(source.name));
        }
        self.report.losses.append(&mut losses);
        Ok(last)
    }

    /// Up to here the tables of every keyspace reach, so that nothing of it is lost with a log; zero
    /// when not every keyspace is known.
    fn in_all_tables(&self, flushed: &BTreeMap<KeyspaceId, SeqNo>) -> SeqNo {
        let least = flushed.values().min().filter(|_| self.is_listed);
        least.copied().unwrap_or_default()
    }

    /// Writes a record to the new log when some of it is in no table. Gives its last number;
    /// `None` when it is none that a write made.
    fn take_record(
        &mut self,
        first: SeqNo,
        payload: &[u8],
        last: SeqNo,
        flushed: &mut BTreeMap<KeyspaceId, SeqNo>,
        log: &mut NewLog,
    ) -> Result<Option<SeqNo>> {
        let Ok(decoded) = Payload::decode(payload) else {
            return Ok(None);
        };
        let count = decoded.numbers();
        if first <= last {
            // A second copy of a record that was read already.
            return Ok(Some(last));
        }
        let Some(end) = first.last_of(count) else {
            return Ok(None); // opening would refuse it too
        };
        let mut seqno = first;
        let mut wanted = false;
        for operation in decoded.into_operations() {
            let Ok(operation) = operation else {
                return Ok(None);
            };
            if self.is_alive(operation.keyspace) {
                let tables_have = flushed.entry(operation.keyspace).or_default();
                wanted |= *tables_have < seqno;
            }
            seqno = seqno.plus(1);
        }
        if wanted {
            self.append(first, end, payload, log)?;
            self.report.log_records_kept += 1;
        }
        Ok(Some(end))
    }

    fn append(
        &mut self,
        first: SeqNo,
        last: SeqNo,
        payload: &[u8],
        log: &mut NewLog,
    ) -> Result<()> {
        if let Some(full) = log.writer.take_if(|w| !w.fits(payload.len())) {
            let mut full = full;
            log.before = Some(full.seal()?);
            full.syncer().sync()?;
        }
        let writer = match &mut log.writer {
            Some(writer) => writer,
            None => {
                let segment = self.next_file();
                let least = payload.len() as u64 + payload.len() as u64 / 1024 + 4096;
                let options = WriterOptions {
                    database: self.identity.database,
                    segment,
                    mode: LogMode::Write,
                    capacity: SEGMENT_BYTES.max(least),
                    recycled: false,
                };
                let file = self.fs.create_new(FileName::Log(segment))?;
                log.segments.push(segment);
                // What was lost before it and in it, nobody can say: it cannot be followed.
                let before = log.before.unwrap_or(Predecessor::unknown(SeqNo::MAX));
                log.writer
                    .insert(Writer::create(file, options, Some(before))?)
            }
        };
        writer.append(first, last, payload, crc(payload))
    }
}

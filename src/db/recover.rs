//! Replay: the log's records go through the same `apply` as live writes.
//!
//! Segments form a chain: each names its predecessor and where that ends (R4). The survey walks the
//! registered segments in order and stops at the first break; what lies behind is newer than the
//! break and is struck off, so what is recovered is a prefix of the write order (P2). It reads and
//! checks everything before anything is written, so that damage leaves the directory as it is
//! (P11); the records are read a second time to be replayed, at a tenth of what applying them
//! costs. A keyspace skips what its tables hold already. Memory stays within a memtable and a batch
//! a keyspace: when one is full, all are flushed (P7).
//!
//! A segment of an earlier process is never synced: a sync of it may have failed there, or in an
//! open that was given up, and then a later one says nothing (P13). What its watermarks vouch for
//! is durable. Anything else is *inherited*: the database opens with it in memtables, as it was
//! before the crash, and the first thing that the background does is to write it to tables, by one
//! edit over all keyspaces (else a power cut could keep the newer of two writes and lose the older,
//! P2). Until then nothing is synced and nothing else is flushed (I12, `mend`).

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::catalog::Trees;
use crate::base::checksum::KeyHasher;
use crate::base::error::{Error, ErrorKind, REPAIR, Result};
use crate::base::payload::Payload;
use crate::base::sync::atomic::AtomicBool;
use crate::base::types::{FileId, KeyspaceId, SeqNo};
use crate::fs::{File, FileName, Fs, Region};
use crate::read::Horizon;
use crate::tree::{Work, check_kind};
use crate::version::{Found, VersionEdit, VersionSet};
use crate::wal::format::SEGMENT_HEADER_BYTES;
use crate::wal::{Predecessor, Reader, Tail, stated_header};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What opening found and did; see `Db::open_report`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// Log segments read.
    pub segments: u64,
    /// Batches that were replayed from the log.
    pub batches: u64,
    /// Operations among them that no table held yet.
    pub operations: u64,
    /// A record at the end of the log that was cut off in the middle, by the crash that ended the
    /// last session: its file, and the offset where it began. It was never acknowledged as synced.
    pub torn: Option<(PathBuf, u64)>,
    /// Segments behind a break in the chain: never acknowledged as synced either.
    pub segments_passed_over: u64,
    /// Files removed that a crash had left behind.
    pub orphans_removed: u64,
}

/// What the log holds, and what comes of it: the result of [`survey`].
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// Highest number seen: everything up to it is visible after opening.
    pub(super) last: SeqNo,
    /// What the next segment says of the last one read.
    pub(super) before: Option<Predecessor>,
    /// Registered segments that hold nothing that counts, to be struck off.
    pub(super) passed_over: Vec<FileId>,
    /// Some record read is not known to be durable (I12).
    pub(super) unsynced: bool,
    /// There is a note of a bulk load that the manifest does not have: it failed, or goes on.
    pub(super) has_unfinished_load: bool,
    /// Segments to replay, each up to where the survey found its end: what follows is not looked at
    /// again.
    read: Vec<(FileId, u64)>,
    report: OpenReport,
}

impl Replayed {
    /// Segments that stay registered until their memtables are flushed.
    pub(super) fn kept(&self) -> Vec<FileId> {
        self.read.iter().map(|(log, _)| *log).collect()
    }

    pub(super) fn report(&self, orphans_removed: u64) -> OpenReport {
        OpenReport {
            orphans_removed,
            ..self.report.clone()
        }
    }
}

/// Where the segments of a database are read.
#[derive(Clone, Copy)]
pub(super) struct Segments<'a> {
    fs: &'a Fs,
    database: u64,
    /// Their bytes, where somebody may be writing to the files.
    loaded: Option<&'a Loaded>,
}

/// Segments as they were when they were read.
pub(super) type Loaded = HashMap<FileId, Arc<Region>>;

impl<'a> Segments<'a> {
    /// Of a database that nobody else has open.
    pub(super) fn of(fs: &'a Fs, database: u64) -> Segments<'a> {
        Segments {
            fs,
            database,
            loaded: None,
        }
    }

    /// The same, as they were when they were read.
    pub(super) fn loaded(self, loaded: &'a Loaded) -> Segments<'a> {
        Segments {
            loaded: Some(loaded),
            ..self
        }
    }

    /// Reads the bytes of these.
    ///
    /// # Errors
    /// `Corruption` for one that is missing; `Io`.
    pub(super) fn load(self, logs: Vec<FileId>) -> Result<Loaded> {
        let load = |log| {
            let file = self.file(log)?;
            let bytes = file.read_region(file.len()?)?;
            Ok((log, Arc::new(bytes)))
        };
        logs.into_iter().map(load).collect()
    }

    fn path_of(self, log: FileId) -> PathBuf {
        self.fs.path(FileName::Log(log))
    }

    fn file(self, log: FileId) -> Result<File> {
        self.fs.open_read(FileName::Log(log)).map_err(|error| {
            if error.kind() != ErrorKind::NotFound {
                return error;
            }
            Error::corruption("log segment that is missing")
                .at(self.path_of(log))
                .expected("the file, because the manifest lists it", "none")
                .advice(REPAIR)
                .caused_by(error)
        })
    }

    fn open(self, log: FileId, limit: Option<u64>) -> Result<Reader> {
        match self.loaded.and_then(|loaded| loaded.get(&log)) {
            Some(bytes) => {
                let (bytes, path) = (Arc::clone(bytes), self.path_of(log));
                Reader::over(bytes, &path, self.database, log, limit)
            }
            None => Reader::open(&self.file(log)?, self.database, log, limit),
        }
    }
}

/// Reads every registered segment, checks that it can be replayed, and says how far. Writes
/// nothing: a damaged log leaves the directory as it was (P11).
///
/// # Errors
/// `Corruption` for damage below a synced mark, for a segment that is missing or stands under
/// another's name, and for a log that tells of an edit that the manifest has lost.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "counts segments that are registered"
)]
pub(super) fn survey(segments: Segments<'_>, found: &Found) -> Result<Replayed> {
    let versions = found.versions();
    let flushed: HashMap<KeyspaceId, SeqNo> = versions
        .keyspaces()
        .into_iter()
        .map(|keyspace| (keyspace.id, keyspace.flushed_through))
        .collect();
    let mut out = Replayed {
        last: flushed.values().max().copied().unwrap_or_default(),
        ..Replayed::default()
    };
    let logs = versions.logs();
    // Where each segment ends, as its successor says (R15), is known before it is read.
    let heads = logs
        .iter()
        .map(|&log| {
            let reader = segments.open(log, None)?;
            Ok((log, reader.tail(), reader.predecessor()))
        })
        .collect::<Result<Vec<_>>>()?;
    let headless = heads.iter().filter(|(_, tail, _)| *tail == Tail::Empty);
    check_names(
        segments.fs,
        found,
        &logs,
        &headless.map(|(log, ..)| *log).collect(),
    )?;
    let mut broken = None;
    let mut heads = heads.iter();
    while let Some(&(log, tail, before)) = heads.next() {
        let is_headless = matches!(tail, Tail::Empty | Tail::Torn { .. });
        if let (Tail::Torn { end }, None) = (tail, broken) {
            out.report.torn = Some((segments.path_of(log), end));
        }
        if broken.is_none() && !is_headless && !follows(before, &out, &logs) {
            broken = before;
        }
        if is_headless || broken.is_some() {
            if let (false, Some(before)) = (is_headless, broken) {
                refuse_synced(segments, log, before, &out)?;
                out.report.segments_passed_over += 1;
            }
            out.passed_over.push(log);
            continue;
        }
        let said = heads.clone().filter_map(|(_, _, before)| *before);
        let limit = said
            .filter(|before| before.segment == log)
            .map(|b| b.end)
            .next();
        survey_segment(segments, found, &flushed, log, limit, &mut out)?;
    }
    Ok(out)
}

/// True when a segment that names `before` as its predecessor continues what was read so far.
///
/// Only records count. The header of a segment without records, or a footer, may never have been
/// synced, because what an earlier process wrote is not (P13): nobody misses them.
fn follows(before: Option<Predecessor>, out: &Replayed, logs: &[FileId]) -> bool {
    match (before, out.before) {
        // The first one read. Its predecessor must have been struck off, which happens only when
        // tables hold all of it; one that is registered and yet was not read is a hole.
        (Some(before), None) => {
            let is_first = logs.first() == Some(&before.segment);
            let is_empty = before.end <= SEGMENT_HEADER_BYTES as u64;
            !logs.contains(&before.segment) || is_first && is_empty
        }
        (Some(before), Some(read)) => {
            let is_whole = before.segment == read.segment && before.end <= read.end;
            is_whole || before.last_seqno <= read.last_seqno
        }
        (None, None) => true,
        (None, Some(_)) => false,
    }
}

/// A segment behind a break may be passed over only when nothing in it was acknowledged as synced:
/// every earlier segment is synced before that, so the break is damage (P1, P8).
fn refuse_synced(
    segments: Segments<'_>,
    log: FileId,
    before: Predecessor,
    out: &Replayed,
) -> Result<()> {
    let mut reader = segments.open(log, None)?;
    while reader.next()?.is_some() {}
    if reader.synced() == 0 {
        return Ok(());
    }
    let read = out.before.filter(|read| read.segment == before.segment);
    let end = read.map_or(0, |read| read.end);
    Err(Error::corruption("damaged log record")
        .at(segments.path_of(before.segment))
        .offset_at(end)
        .expected(
            format!("valid records up to {}, as segment {log} says", before.end),
            format!("none behind {end}"),
        )
        .advice(REPAIR))
}

/// Fails when a segment that counts stands under another name, while the file of its own name has
/// none of it (`headless`), or is not registered any more.
fn check_names(fs: &Fs, found: &Found, logs: &[FileId], headless: &HashSet<FileId>) -> Result<()> {
    let newest = logs.last().copied().unwrap_or_default();
    for entry in fs.list()? {
        let Some(name @ FileName::Log(log)) = FileName::parse(&entry.name) else {
            continue;
        };
        let Some(header) = stated_header(&fs.open_read(name)?)? else {
            continue;
        };
        if header.database != found.versions().database() {
            continue;
        }
        let stated = header.segment;
        // Nothing is written to a segment before it is registered. Those that are struck off are
        // older than one that stays registered, or than the manifest that a recovery began with.
        if stated == log && newest < log && found.manifest() < log {
            return Err(found.lost_edit(format!("the edit that added {name}")));
        }
        if stated != log && headless.contains(&stated) {
            return Err(Error::corruption("log segment under another name")
                .at(fs.path(name))
                .offset_at(0)
                .expected(format!("segment {log}"), format!("segment {stated}"))
                .advice(REPAIR));
        }
    }
    Ok(())
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "counts segments, batches and operations that were read, each in bytes of its own"
)]
fn survey_segment(
    segments: Segments<'_>,
    found: &Found,
    flushed: &HashMap<KeyspaceId, SeqNo>,
    log: FileId,
    limit: Option<u64>,
    out: &mut Replayed,
) -> Result<()> {
    let ceiling = found.versions().keyspace_ceiling();
    let path = segments.path_of(log);
    let mut reader = segments.open(log, limit)?;
    let mut last = out.before.map_or(SeqNo::ZERO, |before| before.last_seqno);
    let mut records_end = 0;
    while let Some(record) = reader.next()? {
        let offset = record.offset;
        let place = |error: Error| error.at(&path).offset_at(offset);
        let payload = Payload::decode(&record.payload).map_err(place)?;
        let count = payload.numbers();
        if record.first <= last {
            return Err(place(
                Error::corruption("log record out of order")
                    .expected(format!("a sequence number above {last}"), record.first)
                    .advice(REPAIR),
            ));
        }
        let Some(end) = record.first.last_of(count) else {
            return Err(place(
                Error::corruption("log record with numbers that no write has")
                    .expected(
                        format!("{count} below {}", SeqNo::MAX),
                        format!("{} and more", record.first),
                    )
                    .advice(REPAIR),
            ));
        };
        last = end;
        out.report.batches += 1;
        if let Payload::Load(keyspaces) = &payload {
            let flushed = keyspaces.iter().filter_map(|id| flushed.get(id));
            out.has_unfinished_load |= flushed.min().is_some_and(|flushed| *flushed < end);
        }
        let mut seqno = record.first;
        for operation in payload.into_operations() {
            let operation = operation.map_err(place)?;
            // A number without a keyspace is of one that was dropped since, or the edit that
            // gave the number is lost.
            if ceiling <= operation.keyspace {
                return Err(found.lost_edit(format!(
                    "the edit that made keyspace {}, which the log writes to",
                    operation.keyspace
                )));
            }
            if let Some(flushed) = flushed.get(&operation.keyspace)
                && *flushed < seqno
            {
                check_kind(operation.kind).map_err(place)?;
                out.report.operations += 1;
            }
            seqno = seqno.plus(1);
        }
        records_end = reader.end();
    }
    // A watermark also says that every segment before was synced.
    out.unsynced &= reader.synced() == 0;
    out.unsynced |= reader.synced() < records_end;
    let end = reader.end();
    if let Tail::Torn { end } = reader.tail() {
        out.report.torn = Some((path, end));
    }
    out.last = out.last.max(last);
    out.report.segments += 1;
    out.before = Some(Predecessor {
        segment: log,
        end,
        last_seqno: last,
    });
    out.read.push((log, end));
    Ok(())
}

/// Replays what [`survey`] found into the trees' memtables. `make_room` is called between two batches when
/// one is full, with the segment that is read on.
pub(super) fn replay(
    segments: Segments<'_>,
    trees: &Trees,
    hasher: KeyHasher,
    surveyed: &Replayed,
    make_room: &dyn Fn(FileId) -> Result<()>,
) -> Result<()> {
    let mut read = surveyed.read.iter();
    read.try_for_each(|&(log, end)| replay_segment(segments, trees, hasher, (log, end), make_room))
}

fn replay_segment(
    segments: Segments<'_>,
    trees: &Trees,
    hasher: KeyHasher,
    (log, end): (FileId, u64),
    make_room: &dyn Fn(FileId) -> Result<()>,
) -> Result<()> {
    let path = segments.path_of(log);
    let mut reader = segments.open(log, Some(end))?;
    while let Some(record) = reader.next()? {
        let offset = record.offset;
        let place = |error: Error| error.at(&path).offset_at(offset);
        let mut seqno = record.first;
        let mut full = false;
        let payload = Payload::decode(&record.payload).map_err(place)?;
        for operation in payload.into_operations() {
            let operation = operation.map_err(place)?;
            if let Some(tree) = trees.by_id.get(&operation.keyspace)
                && !tree.is_flushed(seqno)
            {
                let hash = hasher.hash(operation.key);
                full |= tree
                    .active()
                    .apply(&operation, hash, seqno)
                    .map_err(place)?;
            }
            seqno = seqno.plus(1);
        }
        // Between batches only, as live writes do (I7).
        if full {
            make_room(log)?;
        }
    }
    Ok(())
}

/// Writes all memtables to tables, on this thread: nothing else runs during a recovery. One edit
/// puts them in place; `log` is read on.
pub(super) fn flush_all(versions: &VersionSet, trees: &Trees, log: FileId) -> Result<()> {
    let stop = AtomicBool::new(false);
    let work = Work {
        // Nobody has a snapshot yet: only the newest version of a key can be asked for.
        horizon: &|| Horizon::at(SeqNo::MAX),
        unless_read: &|_, act| Some(act()),
        stop: &stop,
        breathe: &|_| {},
        progressed: &|| {},
        sync_log: &|| Ok(()),
    };
    let mut written = Vec::new();
    for tree in trees.by_id.values() {
        tree.rotate(log);
        written.extend(tree.write_waiting(&work)?);
    }
    versions.install(VersionEdit {
        keyspaces: written.iter().map(|tables| tables.edit()).collect(),
        ..VersionEdit::default()
    })?;
    for tables in written {
        tables.finish();
    }
    Ok(())
}

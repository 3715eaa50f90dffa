//! Replay: the log's records go through the same `apply` as live writes.
//!
//! Segments form a chain: each names its predecessor and where that ends (R4). Replay walks the
//! registered segments in order and stops at the first break; what lies behind is newer than the
//! break and is struck off, so what is recovered is a prefix of the write order (P2). A keyspace
//! skips what its tables hold already. Memory stays within a memtable and a batch a keyspace: when
//! one is full, all are flushed (P7).
//!
//! A segment of an earlier process is never synced: a sync of it may have failed there, or in an
//! open that was given up, and then a later one says nothing (P13). What its watermarks vouch for
//! is durable. Anything else is written to tables before the database is open, by one edit over all
//! keyspaces (else a power cut could keep the newer of two writes and lose the older, P2).

use super::catalog::Trees;
use crate::base::batch::Operations;
use crate::base::checksum::KeyHasher;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::sync::atomic::AtomicBool;
use crate::base::types::{FileId, SeqNo};
use crate::fs::{FileName, Fs};
use crate::tree::Work;
use crate::version::{VersionEdit, VersionSet};
use crate::wal::{Predecessor, Reader, Tail};
use std::path::PathBuf;

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

/// The result of [`replay`].
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// Highest number seen: everything up to it is visible after opening.
    pub(super) last: SeqNo,
    /// What the next segment says of the last one read.
    pub(super) before: Option<Predecessor>,
    /// Registered segments that hold nothing that counts, to be struck off.
    pub(super) passed_over: Vec<FileId>,
    /// Struck off: tables hold all of them that counts.
    pub(super) struck: Vec<FileId>,
    read: Vec<FileId>,
    /// Some record read is not known to be durable.
    unsynced: bool,
    report: OpenReport,
}

impl Replayed {
    /// Segments that stay registered until their memtables are flushed.
    pub(super) fn kept(&self) -> Vec<FileId> {
        self.read.clone()
    }

    pub(super) fn report(&self, orphans_removed: u64) -> OpenReport {
        OpenReport {
            orphans_removed,
            ..self.report.clone()
        }
    }
}

/// Replays every registered segment into the trees' memtables; what is not durable in the log is
/// durable in tables when it returns.
pub(super) fn replay(
    fs: &Fs,
    versions: &VersionSet,
    trees: &Trees,
    hasher: KeyHasher,
) -> Result<Replayed> {
    let flushed = trees
        .by_id
        .values()
        .map(|tree| tree.flushed_through())
        .max();
    let mut out = Replayed {
        last: flushed.unwrap_or_default(),
        ..Replayed::default()
    };
    let logs = versions.logs();
    // Where each segment ends, as its successor says (R15), is known before it is read.
    let heads = logs
        .iter()
        .map(|&log| {
            let reader = open_reader(fs, versions, log, None)?;
            Ok((log, reader.tail() == Tail::Empty, reader.predecessor()))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut broken = false;
    for (i, &(log, is_empty, before)) in heads.iter().enumerate() {
        if broken || is_empty || !follows(before, &out, &logs) {
            if !is_empty {
                broken = true;
                refuse_synced(fs, versions, log)?;
            }
            out.passed_over.push(log);
            out.report.segments_passed_over += u64::from(!is_empty);
            continue;
        }
        let said = heads[i + 1..].iter().filter_map(|(_, _, before)| *before);
        let limit = said
            .filter(|before| before.segment == log)
            .map(|b| b.end)
            .next();
        replay_segment(fs, versions, trees, hasher, log, limit, &mut out)?;
    }
    if out.unsynced {
        let last = out.before.map_or(FileId(0), |before| before.segment);
        // What was passed over goes with the segments before it, by the same edit: without them it
        // would look like the first of the chain, and the next open would replay it (P2).
        out.struck = std::mem::take(&mut out.read);
        out.struck.append(&mut out.passed_over);
        flush_all(versions, trees, last, out.struck.clone())?;
    }
    for tree in trees.by_id.values() {
        tree.end_replay();
    }
    Ok(out)
}

/// True when a segment that names `before` as its predecessor continues what was read so far.
fn follows(before: Option<Predecessor>, out: &Replayed, logs: &[FileId]) -> bool {
    match (before, out.before) {
        // The first one read. Its predecessor must have been struck off, which happens only when
        // tables hold all of it; one that is registered and yet was not read is a hole.
        (Some(before), None) => !logs.contains(&before.segment),
        (Some(before), Some(read)) => before.segment == read.segment && before.end <= read.end,
        (None, None) => true,
        (None, Some(_)) => false,
    }
}

/// A segment behind a break may be passed over only when nothing in it was acknowledged as synced:
/// every earlier segment is synced before that, so a break before it is damage (P1, P8).
fn refuse_synced(fs: &Fs, versions: &VersionSet, log: FileId) -> Result<()> {
    let mut reader = open_reader(fs, versions, log, None)?;
    while reader.next()?.is_some() {}
    if reader.synced() == 0 {
        return Ok(());
    }
    Err(Error::corruption("a log segment whose predecessor is not whole")
        .at(fs.root().join(FileName::Log(log).to_string()))
        .expected("the segment before it up to the end that it states", "less")
        .advice(
            "Writes that were acknowledged as synced are missing. Restore the segment before it, \
             or restore the database from a checkpoint.",
        ))
}

fn open_reader(fs: &Fs, versions: &VersionSet, log: FileId, limit: Option<u64>) -> Result<Reader> {
    let file =
        fs.open_read(FileName::Log(log)).map_err(|error| {
            match error.kind() {
        ErrorKind::NotFound => error.with_kind(ErrorKind::Corruption).advice(
            "The manifest lists this log segment, so writes would be missing. Restore the file, \
             or restore the database from a checkpoint.",
        ),
        _ => error,
    }
        })?;
    Reader::open(&file, versions.database(), log, limit)
}

fn replay_segment(
    fs: &Fs,
    versions: &VersionSet,
    trees: &Trees,
    hasher: KeyHasher,
    log: FileId,
    limit: Option<u64>,
    out: &mut Replayed,
) -> Result<()> {
    let path = fs.root().join(FileName::Log(log).to_string());
    let mut reader = open_reader(fs, versions, log, limit)?;
    let mut last = out.before.map_or(SeqNo::ZERO, |before| before.last_seqno);
    let mut records_end = 0;
    while let Some(record) = reader.next()? {
        let offset = record.offset;
        let place = |error: Error| error.at(&path).offset_at(offset);
        let operations = Operations::decode(&record.payload).map_err(place)?;
        let count = u64::from(operations.left());
        if record.first <= last || count == 0 {
            return Err(place(
                Error::corruption("log record out of order")
                    .expected(format!("a sequence number above {last}"), record.first),
            ));
        }
        last = record.first.plus(count - 1);
        out.report.batches += 1;
        let mut seqno = record.first;
        let mut full = false;
        for operation in operations {
            let operation = operation.map_err(place)?;
            // A number without a keyspace is of one that was dropped since.
            if let Some(tree) = trees.by_id.get(&operation.keyspace)
                && !tree.is_flushed(seqno)
            {
                out.report.operations += 1;
                let hash = hasher.hash(operation.key);
                full |= tree.apply(&operation, hash, seqno).map_err(place)?;
            }
            seqno = seqno.plus(1);
        }
        // Between batches only, as live writes do (I7).
        if full {
            flush_all(versions, trees, log, Vec::new())?;
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
    out.read.push(log);
    Ok(())
}

/// Writes all memtables to tables, on this thread: nothing else runs during a recovery. One edit
/// puts them in place and strikes off segments that nothing needs then; `log` is read on.
fn flush_all(versions: &VersionSet, trees: &Trees, log: FileId, struck: Vec<FileId>) -> Result<()> {
    let stop = AtomicBool::new(false);
    let work = Work {
        // Nobody has a snapshot yet: only the newest version of a key can be asked for.
        snapshots: &|| vec![SeqNo::MAX],
        stop: &stop,
        breathe: &|| {},
        sync_log: &|| Ok(()),
    };
    let mut written = Vec::new();
    for tree in trees.by_id.values() {
        tree.rotate_in_replay(log);
        written.extend(tree.write_waiting(&work)?);
    }
    versions.install(VersionEdit {
        keyspaces: written.iter().map(|tables| tables.edit()).collect(),
        logs_removed: struck,
        ..VersionEdit::default()
    })?;
    for tables in written {
        tables.finish();
    }
    Ok(())
}

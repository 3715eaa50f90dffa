//! The feed of committed batches: the log, read beside its writer and kept for a while.
//!
//! ```text
//! header of the active segment -> names the one before it, and its last number -> ... -> a segment
//! whose predecessor ends at or before the number asked for: from there on nothing is missing
//! ```
//! That nothing is missing is read off the chain and never off the numbers, which have gaps at each open
//! and after a failed write: a segment must come to the last number that its successor names. A feed
//! that finds the chain broken says so and does not go on.
//!
//! Only what a loss of power cannot take back is handed out: the log is synced before it is read.
//! Segments are read by read calls, and removed, never recycled, while changes are kept.
//! Not here: reading records (`wal::follower`), keeping segments (`retained`), one batch (`change`).

mod change;
mod retained;

pub use change::{Change, Changed};
pub(crate) use retained::Retained;

use self::change::Names;
use self::retained::header_of;
use super::core::{Core, Lease};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::payload::Payload;
use crate::base::sync::Arc;
use crate::base::types::{FileId, SeqNo};
use crate::fs::FileName;
use crate::wal::Follower;
use std::collections::VecDeque;

/// Committed batches in the order of their numbers: [`Db::changes_since`](crate::Db::changes_since).
///
/// As an iterator it ends when it has given everything that was committed, and goes on when more was: ask
/// [`next`](Iterator::next) again. An error is given again by each call until its cause has gone away.
/// Memory: a buffer of a quarter of a mebibyte, and the batch.
#[derive(Debug)]
pub struct Changes {
    lease: Arc<Lease>,
    /// The number of the last batch that was given.
    at: SeqNo,
    /// What is still to be read, as far as it is known; the first may be read in part.
    stretches: VecDeque<Stretch>,
    follower: Option<Follower>,
    names: Arc<Names>,
}

/// What counts of a segment.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    segment: FileId,
    /// Its records end here.
    end: u64,
    /// And reach this number.
    last: SeqNo,
}

impl Changes {
    pub(super) fn begin(lease: &Arc<Lease>, since: SeqNo) -> Result<Changes> {
        let core = &lease.core;
        core.health.check_open()?;
        if !core.retained.is_on() {
            return Err(Error::invalid("this database keeps no changes")
                .advice("Open it with `Options::changes_bytes`."));
        }
        let newest = core.visible();
        if newest < since {
            return Err(Error::invalid("no write has this number yet")
                .expected(format!("at most {newest}"), since)
                .advice(
                    "It is of another database, or this one was restored to an earlier time. Read a \
                     snapshot, and go on from its number.",
                ));
        }
        let mut changes = Changes {
            lease: Arc::clone(lease),
            at: since,
            stretches: VecDeque::new(),
            follower: None,
            names: Arc::default(),
        };
        // Whether it can begin is said now.
        changes.look_ahead()?;
        Ok(changes)
    }

    /// The number of the last batch that was given, or that it began behind: where another feed goes on.
    pub fn seqno(&self) -> SeqNo {
        self.at
    }

    /// Finds what was committed since, and makes it durable.
    fn look_ahead(&mut self) -> Result<()> {
        let core = &self.lease.core;
        let active = {
            let commit = core.commit.lock();
            Stretch {
                segment: commit.segment(),
                end: commit.writer.end(),
                last: core.visible(),
            }
        };
        if active.last <= self.at {
            return Ok(());
        }
        core.sync_log()?;
        self.stretches = core.stretches_since(self.at, active)?;
        let trees = core.trees.load();
        let names = trees.by_id.iter();
        self.names = Arc::new(
            names
                .map(|(id, tree)| (*id, tree.name().to_owned()))
                .collect(),
        );
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Change>> {
        self.lease.core.health.check_open()?;
        loop {
            while let Some(&stretch) = self.stretches.front() {
                if let Some(change) = self.read_in(stretch)? {
                    self.at = change.seqno();
                    return Ok(Some(change));
                }
                self.stretches.pop_front();
            }
            self.look_ahead()?;
            if self.stretches.is_empty() {
                return Ok(None);
            }
        }
    }

    /// The next batch in this stretch of the log.
    fn read_in(&mut self, stretch: Stretch) -> Result<Option<Change>> {
        let core = &self.lease.core;
        let follower = match &mut self.follower {
            Some(follower) if follower.segment() == stretch.segment => follower,
            other => {
                let file = core.fs.open_read(FileName::Log(stretch.segment));
                let opened = file.and_then(|f| Follower::open(f, stretch.segment, stretch.end));
                other.insert(opened.map_err(|cause| missing(self.at, cause))?)
            }
        };
        let path = core.fs.path(FileName::Log(stretch.segment));
        while let Some(record) = follower
            .next(stretch.end)
            .map_err(|cause| missing(self.at, cause))?
        {
            let place = |error: Error| error.at(&path).offset_at(record.offset);
            let payload = Payload::decode(&record.payload).map_err(place)?;
            let last = record.first.plus(payload.numbers().saturating_sub(1));
            if self.at < last {
                let change = Change::new(last, &record.payload, &self.names);
                return change.map(Some).map_err(place);
            }
        }
        match self.at < stretch.last {
            true => Err(fell_behind(
                self.at,
                format!(
                    "segment {} up to {}, as the next one says",
                    stretch.segment, stretch.last
                ),
            )),
            false => Ok(None),
        }
    }
}

impl Iterator for Changes {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Result<Change>> {
        let answer = self.step();
        if answer.is_err() {
            // A segment may have been removed meanwhile: that is asked anew.
            self.stretches.clear();
            self.follower = None;
        }
        answer.transpose()
    }
}

impl Core {
    /// The stretches of the log that hold everything behind `since`, of which `active` is the last.
    fn stretches_since(&self, since: SeqNo, active: Stretch) -> Result<VecDeque<Stretch>> {
        let database = self.versions.database();
        let mut stretches = VecDeque::from([active]);
        let mut at = active.segment;
        loop {
            let Some((header, _)) = header_of(&self.fs, database, at)? else {
                return Err(fell_behind(since, format!("segment {at}")));
            };
            // Without a predecessor it is the database's first, which begins with the first write.
            let before = header.before.filter(|before| since < before.last_seqno);
            let Some(before) = before else {
                return Ok(stretches);
            };
            at = before.segment;
            stretches.push_front(Stretch {
                segment: at,
                end: before.end,
                last: before.last_seqno,
            });
        }
    }
}

/// Bytes that should be there cannot be read; another error stays what it is.
fn missing(since: SeqNo, cause: Error) -> Error {
    match cause.kind() {
        ErrorKind::NotFound | ErrorKind::Corruption => {
            fell_behind(since, "the log behind it".to_owned()).caused_by(cause)
        }
        _ => cause,
    }
}

/// What comes behind `since` is not there any more.
fn fell_behind(since: SeqNo, expected: String) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("changes behind {since} are not kept any more"),
    )
    .expected(expected, "none")
    .advice(
        "Read a snapshot and go on from its number; `Options::changes_bytes` says how much is kept.",
    )
}

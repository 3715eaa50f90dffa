//! Whether the database takes writes, and if not, why.
//!
//! The background has several parts that can fail, each on its own: the manifest, the log, flushes
//! and so on. A part that failed for a reason that may go away (a full disk, no descriptors, an
//! I/O error) keeps its cause here until it has succeeded again; while any part has one, the
//! database is read-only. What nothing can mend (damage, a panic) is fatal, and its first cause is
//! kept for good. Threads: any; a check is one load. Not here: when a part is tried again (`mend`).

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::base::sync::{Arc, Mutex};
use std::fmt;

/// Whether the database takes writes; see `Db::state`.
///
/// Reads are served in each of the three.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum State {
    /// Reads and writes are served.
    Ok,
    /// Writes are refused until the cause has gone away, and resume by themselves within seconds
    /// then: a full disk or quota, too few descriptors, an I/O error of the log, the manifest, a
    /// flush or a compaction. Everything acknowledged is kept. While nothing but space is missing,
    /// deletions, compactions and dropped keyspaces are still accepted, because they make room.
    ReadOnly(Error),
    /// Writes fail until the database is opened again: a compaction met damaged bytes, or a thread
    /// of the database panicked.
    Fatal(Error),
}

/// `ok`, or what is wrong and why: for people and logs.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Ok => f.write_str("ok"),
            State::ReadOnly(cause) => write!(f, "read-only: {cause}"),
            State::Fatal(cause) => write!(f, "fatal: {cause}"),
        }
    }
}

/// What can fail for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The manifest could not be written, or replaced by a new one.
    Manifest,
    /// A segment whose append or sync failed: its writes are not in any table yet (P13).
    Log,
    /// Numbers and segments ahead of need.
    Ahead,
    /// A flush.
    Flush,
    /// A compaction.
    Compaction,
    /// Removal of files.
    Files,
    /// The reserve was given up to a full disk and is not there again (P15).
    Reserve,
}

const OK: u8 = 0;
const READ_ONLY: u8 = 1;
const FATAL: u8 = 2;
const CLOSED: u8 = 3;

/// The database's health. Checked after the write lock is taken, because locks here do not poison.
#[derive(Debug, Default)]
pub(crate) struct Health {
    level: AtomicU8,
    /// Shared with every view, so that iterators that are left over end.
    closed: Arc<AtomicBool>,
    causes: Mutex<Causes>,
}

#[derive(Debug, Default)]
struct Causes {
    fatal: Option<Error>,
    /// What is suspended, the first failure first.
    parts: Vec<(Part, Error)>,
}

impl Health {
    /// Healthy; `closed` is set by `close`.
    pub(crate) fn new(closed: Arc<AtomicBool>) -> Self {
        Health {
            closed,
            ..Health::default()
        }
    }

    /// True when writes of all kinds are taken.
    #[inline]
    pub(crate) fn is_ok(&self) -> bool {
        // Pairs with the Release stores below.
        self.level.load(Ordering::Acquire) == OK
    }

    /// Fails with the cause when writes are not taken.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_ok() {
            Ok(())
        } else {
            Err(self.refusal())
        }
    }

    /// As [`Health::check`], for what makes room: also passes while only space is missing (P15).
    pub(crate) fn check_making_room(&self) -> Result<()> {
        match self.check() {
            Err(refusal) if !self.lacks_only_space() => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Fails only when the database was closed: reads go on in every other state.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.level.load(Ordering::Acquire) == CLOSED {
            Err(closed())
        } else {
            Ok(())
        }
    }

    #[cold]
    fn refusal(&self) -> Error {
        match self.state() {
            State::Ok => Error::new(ErrorKind::ReadOnly, "the database was not taking writes")
                .advice("It takes writes again: repeat the write.")
                .retryable(),
            State::ReadOnly(cause) if cause.kind() == ErrorKind::Closed => cause,
            State::ReadOnly(cause) => {
                let kind = match cause.kind() {
                    ErrorKind::NoSpace => ErrorKind::NoSpace,
                    _ => ErrorKind::ReadOnly,
                };
                let text = "the database takes no writes at the moment, because";
                let advice = match kind {
                    ErrorKind::NoSpace => {
                        "Nothing was written. Writes resume by themselves when there is space \
                         again; deletions and compactions are accepted meanwhile."
                    }
                    _ => "Nothing was written. Writes resume by themselves when the cause is gone.",
                };
                refused(kind, text, cause).advice(advice).retryable()
            }
            State::Fatal(cause) => {
                let text = "the database takes no more writes, because";
                refused(ErrorKind::ReadOnly, text, cause).advice(
                    "Nothing was written. Everything acknowledged is safe. Close the database and \
                     open it again.",
                )
            }
        }
    }

    /// The state, for `Db::state`.
    pub(crate) fn state(&self) -> State {
        let causes = self.causes.lock();
        let first = causes.parts.first().map(|(_, cause)| cause.clone());
        match (self.level.load(Ordering::Acquire), first, &causes.fatal) {
            (READ_ONLY, Some(cause), _) => State::ReadOnly(cause),
            (FATAL, _, Some(cause)) => State::Fatal(cause.clone()),
            (CLOSED, _, _) => State::ReadOnly(closed()),
            _ => State::Ok,
        }
    }

    /// Writes stop for good; the first cause is kept.
    pub(crate) fn fail(&self, cause: Error) {
        let mut causes = self.causes.lock();
        if self.level.load(Ordering::Acquire) < FATAL {
            causes.fatal = Some(cause);
            self.level.store(FATAL, Ordering::Release);
        }
    }

    /// Writes stop until this part, and every other that failed, [has recovered](Self::recovered).
    pub(crate) fn suspend(&self, part: Part, cause: Error) {
        let mut causes = self.causes.lock();
        match causes.parts.iter_mut().find(|(p, _)| *p == part) {
            Some((_, before)) => *before = cause,
            None => causes.parts.push((part, cause)),
        }
        if self.level.load(Ordering::Acquire) == OK {
            self.level.store(READ_ONLY, Ordering::Release);
        }
    }

    /// This part has succeeded again, or has nothing to do any more.
    pub(crate) fn recovered(&self, part: Part) {
        if self.is_ok() {
            return;
        }
        let mut causes = self.causes.lock();
        causes.parts.retain(|(p, _)| *p != part);
        if causes.parts.is_empty() && self.level.load(Ordering::Acquire) == READ_ONLY {
            self.level.store(OK, Ordering::Release);
        }
    }

    /// True while writes are suspended.
    pub(crate) fn is_suspended(&self) -> bool {
        self.level.load(Ordering::Acquire) == READ_ONLY
    }

    /// True while this part is the cause of a suspension, or one of them.
    pub(crate) fn ails(&self, part: Part) -> bool {
        !self.is_ok() && self.causes.lock().parts.iter().any(|(p, _)| *p == part)
    }

    /// True while only the reserve is missing.
    pub(crate) fn lacks_only_reserve(&self) -> bool {
        let only = |(part, _): &(Part, Error)| *part == Part::Reserve;
        self.is_suspended() && self.causes.lock().parts.iter().all(only)
    }

    /// True while space is missing, and neither log nor manifest is in doubt for it.
    pub(crate) fn lacks_only_space(&self) -> bool {
        let only = |(part, cause): &(Part, Error)| {
            cause.kind() == ErrorKind::NoSpace && !matches!(part, Part::Manifest | Part::Log)
        };
        self.is_suspended() && self.causes.lock().parts.iter().all(only)
    }

    /// True once writes have stopped for good.
    pub(crate) fn has_failed(&self) -> bool {
        self.level.load(Ordering::Acquire) >= FATAL
    }

    /// The database is closed; false when it was already.
    pub(crate) fn close(&self) -> bool {
        let _causes = self.causes.lock();
        self.closed.store(true, Ordering::Relaxed);
        self.level.swap(CLOSED, Ordering::AcqRel) != CLOSED
    }
}

/// `text` and the cause in one clause, with the cause's place.
fn refused(kind: ErrorKind, text: &str, cause: Error) -> Error {
    let mut error = Error::new(kind, format!("{text} {}", cause.what()));
    if let Some(file) = cause.file() {
        error = error.at(file);
    }
    if let Some(offset) = cause.offset() {
        error = error.offset_at(offset);
    }
    error.caused_by(cause)
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database was closed").advice("Open it again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Error {
        Error::new(ErrorKind::NoSpace, "write failed: full").at("000009.tbl")
    }

    #[test]
    fn the_first_fatal_cause_is_kept_and_shown_to_every_later_write() {
        let health = Health::default();
        assert!(health.check().is_ok());
        health.suspend(Part::Flush, full());
        assert_eq!(health.check().unwrap_err().kind(), ErrorKind::NoSpace);
        health.recovered(Part::Flush);
        assert!(health.check().is_ok());
        health.fail(Error::corruption("first").at("000007.tbl"));
        health.fail(Error::corruption("second"));
        health.recovered(Part::Flush);
        let shown = health.check().unwrap_err();
        assert_eq!(shown.kind(), ErrorKind::ReadOnly);
        assert!(shown.to_string().contains("first in 000007.tbl"), "{shown}");
        assert!(health.check_open().is_ok(), "reads go on");
        assert!(health.close());
        assert!(!health.close());
        assert_eq!(health.check_open().unwrap_err().kind(), ErrorKind::Closed);
    }

    #[test]
    fn writes_resume_when_every_part_has_recovered() {
        let health = Health::default();
        health.suspend(Part::Flush, full());
        health.suspend(Part::Manifest, Error::new(ErrorKind::Io, "fsync failed"));
        health.recovered(Part::Flush);
        assert!(health.check().is_err() && health.ails(Part::Manifest));
        health.recovered(Part::Manifest);
        assert!(health.check().is_ok());
    }

    #[test]
    fn what_makes_room_is_taken_while_only_space_is_missing() {
        let health = Health::default();
        health.suspend(Part::Flush, full());
        assert!(health.check().is_err() && health.check_making_room().is_ok());
        health.suspend(Part::Log, full());
        assert!(health.check_making_room().is_err(), "the log is in doubt");
        health.recovered(Part::Log);
        health.suspend(Part::Compaction, Error::new(ErrorKind::Io, "EIO"));
        assert!(health.check_making_room().is_err(), "more than space");
    }

    #[test]
    fn a_refusal_says_what_where_and_what_now() {
        let health = Health::default();
        health.suspend(Part::Flush, full());
        let shown = health.check().unwrap_err();
        assert!(shown.is_retryable());
        assert_eq!(shown.file(), Some(std::path::Path::new("000009.tbl")));
        assert_eq!(
            shown.to_string(),
            "the database takes no writes at the moment, because write failed: full in \
             000009.tbl.\nNothing was written. Writes resume by themselves when there is space \
             again; deletions and compactions are accepted meanwhile."
        );
    }
}

//! Whether the database takes writes, and if not, why: the first cause is kept and shown.

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::base::sync::{Arc, Mutex};
use std::fmt;

/// Whether the database takes writes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum State {
    /// Reads and writes are served.
    Ok,
    /// Reads are served; writes wait for the cause (a full disk, say) to go away by itself.
    ReadOnly(Error),
    /// Reads are served; writes fail until the database is opened again.
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
    cause: Mutex<Option<Error>>,
}

impl Health {
    /// Healthy; `closed` is set by `close`.
    pub(crate) fn new(closed: Arc<AtomicBool>) -> Self {
        Health {
            closed,
            ..Health::default()
        }
    }

    /// Fails with the cause when writes are not taken.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        // Pairs with the Release stores in `set`.
        if self.level.load(Ordering::Acquire) == OK {
            Ok(())
        } else {
            Err(self.refusal())
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
                .advice("It takes writes again: repeat the write."),
            State::ReadOnly(cause) if cause.kind() == ErrorKind::Closed => cause,
            State::ReadOnly(cause) => {
                let text = format!("the database takes no writes at the moment, because {cause}");
                let kind = match cause.kind() {
                    ErrorKind::NoSpace => ErrorKind::NoSpace,
                    _ => ErrorKind::ReadOnly,
                };
                Error::new(kind, text)
                    .advice("Writes resume by themselves when the cause is gone.")
                    .caused_by(cause)
            }
            State::Fatal(cause) => Error::new(
                ErrorKind::ReadOnly,
                format!("the database takes no more writes, because {cause}"),
            )
            .advice("Everything acknowledged is safe. Close the database and open it again.")
            .caused_by(cause),
        }
    }

    /// The state, for `Db::state`.
    pub(crate) fn state(&self) -> State {
        let cause = self.cause.lock();
        match (self.level.load(Ordering::Acquire), cause.clone()) {
            (READ_ONLY, Some(cause)) => State::ReadOnly(cause),
            (FATAL, Some(cause)) => State::Fatal(cause),
            (CLOSED, _) => State::ReadOnly(closed()),
            _ => State::Ok,
        }
    }

    fn set(&self, level: u8, error: Option<Error>) {
        let mut cause = self.cause.lock();
        if self.level.load(Ordering::Acquire) < level {
            self.level.store(level, Ordering::Release);
            *cause = error;
        }
    }

    /// Writes stop for good; the first cause is kept.
    pub(crate) fn fail(&self, cause: Error) {
        self.set(FATAL, Some(cause));
    }

    /// Writes stop until [`Health::recovered`].
    pub(crate) fn suspend(&self, cause: Error) {
        self.set(READ_ONLY, Some(cause));
    }

    /// The cause of a suspension is gone.
    pub(crate) fn recovered(&self) {
        let mut cause = self.cause.lock();
        if self.level.load(Ordering::Acquire) == READ_ONLY {
            *cause = None;
            self.level.store(OK, Ordering::Release);
        }
    }

    /// True while writes are suspended.
    pub(crate) fn is_suspended(&self) -> bool {
        self.level.load(Ordering::Acquire) == READ_ONLY
    }

    /// True once writes have stopped for good.
    pub(crate) fn has_failed(&self) -> bool {
        self.level.load(Ordering::Acquire) >= FATAL
    }

    /// The database is closed; false when it was already.
    pub(crate) fn close(&self) -> bool {
        let _cause = self.cause.lock();
        self.closed.store(true, Ordering::Relaxed);
        self.level.swap(CLOSED, Ordering::AcqRel) != CLOSED
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database was closed").advice("Open it again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fatal_cause_is_kept_and_shown_to_every_later_write() {
        let health = Health::default();
        assert!(health.check().is_ok());
        health.suspend(Error::new(ErrorKind::NoSpace, "full"));
        assert_eq!(health.check().unwrap_err().kind(), ErrorKind::NoSpace);
        health.recovered();
        assert!(health.check().is_ok());
        health.fail(Error::corruption("first").at("000007.tbl"));
        health.fail(Error::corruption("second"));
        health.recovered();
        let shown = health.check().unwrap_err();
        assert_eq!(shown.kind(), ErrorKind::ReadOnly);
        assert!(shown.to_string().contains("first in 000007.tbl"), "{shown}");
        assert!(health.check_open().is_ok(), "reads go on");
        assert!(health.close());
        assert!(!health.close());
        assert_eq!(health.check_open().unwrap_err().kind(), ErrorKind::Closed);
    }
}

//! Space, planned before a compaction begins.
//!
//! A compaction has what it reads and what it writes on the disk at once. So it begins only where all
//! that it reads fits once more, beside what running ones may still write, a segment of the log and the
//! reserve. One that does not fit is put off, and those of other keyspaces go first; writes go on with the
//! space that there is. Once writers are slowed down, or refused already, it is tried all the same: what it
//! drops may make it fit, and one that fails leaves nothing behind. Moves and drops need no space.
//!
//! Threads: any. Not here: what is done when space runs out all the same (`reserve`, `mend`).

use super::core::Core;
use crate::base::listener::Event;
use crate::base::sync::Mutex;
use crate::compaction::Job;
use crate::tree::Tree;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Plan(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// What running compactions may write, from their beginning to their end.
    promised: u64,
    put_off: Option<PutOff>,
}

/// A compaction that waits for space.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutOff {
    /// The keyspace.
    pub keyspace: String,
    /// Bytes that it may write: as many as it reads.
    pub needs_bytes: u64,
    /// Bytes that it could have: what the disk has free, less what others are to have of it.
    pub free_bytes: u64,
}

/// Space that one compaction has been promised.
#[derive(Debug)]
pub(crate) struct Promise<'p> {
    plan: &'p Plan,
    bytes: u64,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.plan.0.lock().promised -= self.bytes;
    }
}

impl Plan {
    /// Promises space whether it is there or not.
    pub(crate) fn promise(&self, bytes: u64) -> Promise<'_> {
        self.0.lock().promised += bytes;
        Promise { plan: self, bytes }
    }

    /// Promises space of `free`, of which `kept` is for others; what could be had, when that is less.
    fn promise_of(&self, bytes: u64, free: u64, kept: u64) -> Result<Promise<'_>, u64> {
        let mut state = self.0.lock();
        let had = free.saturating_sub(kept).saturating_sub(state.promised);
        if had < bytes {
            return Err(had);
        }
        state.promised += bytes;
        Ok(Promise { plan: self, bytes })
    }

    /// The compaction that waits for space, if one does.
    pub(crate) fn put_off(&self) -> Option<PutOff> {
        self.0.lock().put_off.clone()
    }

    /// All keyspaces were looked at; true when this is the first one that waits.
    fn note(&self, put_off: Option<PutOff>) -> bool {
        let mut state = self.0.lock();
        let is_first = state.put_off.is_none() && put_off.is_some();
        state.put_off = put_off;
        is_first
    }
}

/// What a compaction may write.
pub(crate) fn needs_bytes(job: &Job) -> u64 {
    match job.trivial_move || job.drops {
        true => 0,
        false => job.bytes(),
    }
}

impl Core {
    /// The most urgent compaction of `tree`, reserved for the caller, and the space for it; `None` when none
    /// is due, and when there is no space for it, which `put_off` is told of the first one.
    pub(super) fn next_planned_job(
        &self,
        tree: &Tree,
        idle: bool,
        put_off: &mut Option<PutOff>,
    ) -> Option<(Job, Promise<'_>)> {
        let job = tree.next_job(&self.horizon(), idle)?;
        match self.plan(needs_bytes(&job)) {
            Ok(promise) => Some((job, promise)),
            Err(free_bytes) => {
                tree.give_back(&job);
                put_off.get_or_insert_with(|| PutOff {
                    keyspace: tree.name().to_owned(),
                    needs_bytes: needs_bytes(&job),
                    free_bytes,
                });
                None
            }
        }
    }

    fn plan(&self, bytes: u64) -> Result<Promise<'_>, u64> {
        let is_waited_for = !self.health.is_ok() || self.stall.why().is_some();
        if bytes == 0 || is_waited_for {
            return Ok(self.space.promise(bytes));
        }
        let kept = self.options.log_segment_bytes + self.reserve.bytes();
        match self.fs.free_space() {
            Ok(free) => self.space.promise_of(bytes, free, kept),
            // Then it is found out by writing.
            Err(_) => Ok(self.space.promise(bytes)),
        }
    }

    /// Notes which compaction waits for space, and tells the listener of the first one.
    pub(super) fn note_put_off(&self, put_off: Option<PutOff>) {
        let told = put_off.clone();
        if self.space.note(put_off)
            && let Some(put_off) = told
        {
            self.options.listening.tell(&Event::CompactionPutOff {
                keyspace: &put_off.keyspace,
                needs_bytes: put_off.needs_bytes,
                free_bytes: put_off.free_bytes,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_promised_twice() {
        let plan = Plan::default();
        let first = plan.promise_of(60, 100, 10).unwrap();
        assert_eq!(plan.promise_of(40, 100, 10).unwrap_err(), 30);
        let second = plan.promise_of(30, 100, 10).unwrap();
        assert_eq!(plan.promise_of(1, 100, 10).unwrap_err(), 0);
        drop(first);
        assert!(plan.promise_of(60, 100, 10).is_ok());
        assert_eq!(plan.promise_of(61, 100, 10).unwrap_err(), 60);
        drop(second);
        let forced = plan.promise(1000);
        assert_eq!(plan.promise_of(1, 100, 10).unwrap_err(), 0);
        drop(forced);
        assert_eq!(plan.promise_of(1, 5, 10).unwrap_err(), 0, "kept for others");
    }

    #[test]
    fn the_first_one_that_waits_is_told_once() {
        let waits = || {
            Some(PutOff {
                keyspace: "k".to_owned(),
                needs_bytes: 2,
                free_bytes: 1,
            })
        };
        let plan = Plan::default();
        assert!(!plan.note(None));
        assert!(plan.note(waits()) && !plan.note(waits()));
        assert_eq!(plan.put_off(), waits());
        assert!(!plan.note(None) && plan.put_off().is_none());
        assert!(plan.note(waits()));
    }
}

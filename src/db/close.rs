//! What a close leaves behind: a log that is durable, sealed, and short.
//!
//! An open reads every registered segment from its first record to its last. So a close that finds
//! much in them writes the memtables to tables and goes on in a new segment, and the old ones are
//! struck off; what is opened next has one segment without a record. Nothing depends on it: where it
//! fails, or little is in the log, the records stay there, and [`Core::close_log`] makes them
//! durable as it always does.

use super::core::Core;
use crate::base::error::Result;

/// So much of the log is read and replayed in the time that a table takes to be durable.
const READ_AGAIN_BYTES: u64 = 1 << 20;

impl Core {
    /// Leaves the next open nothing to replay, where that takes less time than to replay it would.
    pub(super) fn empty_log(&self) {
        let trees = self.trees.load_full();
        let tables = trees.by_id.values().filter(|tree| tree.has_unflushed());
        let cost = READ_AGAIN_BYTES * (tables.count() as u64).max(1);
        if self.health.check().is_err() || self.log_bytes() < cost {
            return;
        }
        // What fails here is either met again by `close_log`, or has cost nothing but time.
        let _ = self.flush_all().and_then(|()| self.leave_segments());
    }

    /// Bytes of the log that an open would read, at most: those of the segments that there are, where
    /// all were full, and not more than was appended since this open.
    fn log_bytes(&self) -> u64 {
        let sealed = self.log.count() - 1;
        let commit = self.commit.lock();
        let all = sealed * self.options.log_segment_bytes + commit.writer.end();
        all.min(commit.appended_bytes)
    }

    /// Starts a segment, and strikes off those before it that no memtable needs.
    fn leave_segments(&self) -> Result<()> {
        self.rotate_log(&mut self.commit.lock(), 0)?;
        self.retire_logs()
    }

    /// Makes everything durable for a close: in the log, or in tables where that fails.
    pub(super) fn close_log(&self) -> Result<()> {
        // Twice: the footer vouches for what was synced before it, and the next open then has
        // nothing to write again.
        let synced = self.sync_log().and_then(|()| {
            self.commit.lock().seal();
            self.sync_log()
        });
        // What is left of the log then is a segment without a record.
        synced.or_else(|_| self.outlive_segments())
    }
}

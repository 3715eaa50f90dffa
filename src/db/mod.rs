//! Many trees behind one log, one commit queue and a few workers.
//!
//! [`Db`] is the handle; [`core`] is what all handles and workers share; [`commit`] is the one way
//! in for mutations, [`watch`] guards those that depend on what was read, [`log`] keeps the segments, [`worker`] the background, [`stall`] the writers'
//! pace, [`health`] the state, [`mend`] the way out of trouble, [`space`] looks ahead, [`reserve`] its last bytes, [`open`]
//! and [`recover`] the way back after a crash, [`repair`] the one after damage; [`checkpoint`] makes a
//! database of its own of one instant, [`backup`] keeps several of them; [`changes`] follows the log; [`reader`] reads beside a writer.

mod backup;
mod board;
mod catalog;
mod changes;
mod checkpoint;
mod close;
mod commit;
mod conditional;
mod core;
mod explain;
mod group;
mod health;
mod ingest;
mod keyspace;
mod log;
mod mend;
mod open;
mod pace;
mod published;
mod reader;
mod recover;
mod repair;
mod reserve;
mod snapshot;
mod space;
mod stall;
mod stats;
mod sweep;
#[cfg(all(test, loom))]
mod tests;
mod upkeep;
mod watch;
mod worker;

pub use backup::{BackupDirectory, BackupInfo, BackupReport, recode_point};
pub use changes::{Change, Changed, Changes};
pub use checkpoint::{CheckpointOptions, CheckpointReport};
pub use explain::{KeyspaceSpace, Pin, Space, SpaceReport};
pub use health::State;
pub use ingest::Ingestion;
pub use keyspace::Keyspace;
pub(crate) use keyspace::prefix_bounds;
pub use reader::DbReader;
pub use recover::OpenReport;
pub use repair::{Loss, LossKind, RepairReport};
pub(crate) use snapshot::bounds_of;
pub use snapshot::{Snapshot, SnapshotKeyspace};
pub use space::PutOff;
pub use stall::{StallCause, WhyStalled};
pub use stats::{
    KeyspaceStats, LevelStats, LogStats, ReadStats, RunStats, StallStats, Stats, TableStats,
};
pub use upkeep::VerifyReport;
pub(crate) use watch::Answer;

use self::core::Core;
use crate::base::batch::{InKeyspace, WriteBatch};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::{KeyspaceOptions, Options, WriteOptions};
use crate::base::reads::ReadSet;
use crate::base::sync::Arc;
use crate::base::types::{KeyspaceId, SeqNo, Time};
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

/// An open database. Cloning is cheap; every clone is the same database.
///
/// `Db` derefs to its default [`Keyspace`], so `db.put(…)` and `db.range(…)` are of that one.
/// The last handle to go (a `Db`, `Keyspace` or `Snapshot`) ends the background threads and
/// releases the directory; [`Db::close`] does so at once and reports.
#[derive(Clone)]
pub struct Db {
    default: Keyspace,
}

impl Deref for Db {
    type Target = Keyspace;

    fn deref(&self) -> &Keyspace {
        &self.default
    }
}

impl InKeyspace for Db {
    fn target(&self) -> (KeyspaceId, u64) {
        self.default.target()
    }

    #[inline]
    fn expiry(&self, ttl: Option<Duration>) -> Option<Time> {
        self.default.expiry(ttl)
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({})", self.engine().fs.root().display())
    }
}

impl Db {
    fn new(default: Keyspace) -> Self {
        Db { default }
    }

    fn engine(&self) -> &Core {
        self.default.core()
    }

    /// Opens the database in the directory `path` with default options, making it if there is
    /// none; see [`Options::open`].
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Db> {
        Options::new().open(path)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.engine().fs.root()
    }

    /// What opening found: batches replayed, a torn tail, files removed.
    pub fn open_report(&self) -> OpenReport {
        self.engine().report.clone()
    }

    /// The keyspace `name`, opened or made. Options left unset take the stored values. Those that are set
    /// take effect at once, also of a keyspace that is open and in use: [`KeyspaceOptions`] says for each
    /// from when on. They are stored.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is empty, over 255 bytes or has control characters, and
    /// for an option that shapes existing files and differs; `ReadOnly`, `NoSpace`, `Io`.
    pub fn keyspace(&self, name: impl AsRef<str>, options: KeyspaceOptions) -> Result<Keyspace> {
        let tree = self.engine().open_keyspace(name.as_ref(), &options)?;
        Ok(Keyspace::new(Arc::clone(&self.default.lease), tree))
    }

    /// The names of all keyspaces, sorted.
    pub fn keyspaces(&self) -> Vec<String> {
        self.engine().trees.load().names()
    }

    /// Drops a keyspace with everything in it, in constant time. Handles to it give `NotFound`;
    /// iterators that are open go on.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` for `default`; `ReadOnly`, `NoSpace`, `Io`.
    pub fn drop_keyspace(&self, name: impl AsRef<str>) -> Result<()> {
        self.engine().drop_keyspace(name.as_ref())
    }

    /// Writes a batch: all of it becomes visible at one instant and survives whole, or none.
    ///
    /// Gives the sequence number of its last operation.
    ///
    /// # Errors
    /// `TooLarge` when a key, a value or the batch is over its limit; `NotFound` when a keyspace
    /// was dropped; `InvalidArgument` for keyspaces of another database; `ReadOnly`, `NoSpace`,
    /// `Io`. Nothing was written then, except where a sync failed: see [`Keyspace::put_with`].
    pub fn write(&self, batch: impl Borrow<WriteBatch>, options: WriteOptions) -> Result<SeqNo> {
        options.check_no_ttl()?;
        self.engine()
            .write_batch(batch.borrow(), options.durability)
    }

    /// Writes `batch`, which is not empty, unless something in `reads`, which was read at a snapshot
    /// with the number `since` that is still held, has been written since.
    pub(crate) fn write_unless_overwritten(
        &self,
        reads: &ReadSet,
        since: SeqNo,
        batch: &WriteBatch,
        options: WriteOptions,
    ) -> Result<Answer> {
        self.engine()
            .write_unless_overwritten(reads, since, batch, options.durability)
    }

    /// Begins a bulk load: sorted entries become tables, without log and memtables, and count at one
    /// instant over all keyspaces.
    ///
    /// # Errors
    /// `Conflict` while another one is being made; `ReadOnly`, `NoSpace`, `Closed`.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-ig-{}", std::process::id()));
    /// # let db = alluvium::Db::open(&dir)?;
    /// let squares = db.keyspace("squares", alluvium::KeyspaceOptions::new())?;
    /// let mut load = db.ingestion()?;
    /// load.add(&squares, (0..1000u32).map(|n| (n.to_be_bytes(), (n * n).to_le_bytes())))?;
    /// load.add(&db, [("loaded", "squares")])?;
    /// assert_eq!(squares.iter().count(), 0);
    /// load.commit()?;
    /// assert_eq!(squares.iter().count(), 1000);
    /// # drop(squares); db.close()?; alluvium::Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn ingestion(&self) -> Result<Ingestion> {
        Ingestion::begin(&self.default.lease)
    }

    /// One instant over all keyspaces, for as long as it is held.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(
            Arc::clone(&self.default.lease),
            Arc::clone(&self.default.tree),
        )
    }

    /// Makes everything acknowledged so far survive power loss.
    ///
    /// # Errors
    /// `Io`: the sync failed, and nothing can be said of what it covered until the log was repaired,
    /// which begins at once; ask again. `ReadOnly`, `NoSpace`: a repair is still going on.
    pub fn sync(&self) -> Result<()> {
        self.engine().mend_inline();
        self.engine().health.check()?;
        self.engine().sync_log()
    }

    /// Writes all memtables of all keyspaces to tables; returns when they are durable.
    ///
    /// # Errors
    /// `Io`, `NoSpace`, `ReadOnly`: memtables that were not written stay, and stay logged.
    pub fn flush(&self) -> Result<()> {
        self.engine().flush_all()
    }

    /// How far the background is behind, if writers are being slowed down.
    pub fn why_stalled(&self) -> Option<WhyStalled> {
        self.engine().stall.why()
    }

    /// What each byte of the directory is there for: tables in use and how much of them waits for a
    /// compaction, tables that are kept for somebody, log, manifest, reserve. Prints as a text.
    ///
    /// Cost: a listing of the directory, and a walk over the list of tables. Reads no table.
    ///
    /// # Errors
    /// `Io` when the directory cannot be listed; `Closed`.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-ws-{}", std::process::id()));
    /// # let db = alluvium::Db::open(&dir)?;
    /// db.put("k", "value")?;
    /// db.flush()?;
    /// let report = db.why_space()?;
    /// assert_eq!(report.keyspaces[0].tables.files, 1);
    /// assert!(report.keyspaces[0].tables.bytes < report.bytes());
    /// println!("{report}");
    /// # db.close()?; alluvium::Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn why_space(&self) -> Result<SpaceReport> {
        self.engine().why_space()
    }

    /// The oldest instant that a snapshot, an iterator, a cursor or a transaction reads at; `None` when
    /// nobody does. Compactions keep what it sees, and replaced tables stay on the disk for whoever has
    /// begun to read them.
    pub fn oldest_pin(&self) -> Option<Pin> {
        self.engine().oldest_pin()
    }

    /// Whether writes are taken, and if not, why.
    pub fn state(&self) -> State {
        self.engine().health.state()
    }

    /// Figures of every keyspace and level, of the log, the caches, and the background's work.
    pub fn stats(&self) -> Stats {
        self.engine().stats()
    }

    /// Reads and checks every table of every keyspace: checksums, order, counts, filters.
    ///
    /// # Errors
    /// Only when it could not run; what it finds is in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.engine().verify()
    }

    /// As [`Db::verify`], beside the other work: reads at most so many bytes a second, at least
    /// [`RATE_LIMIT_MIN`](crate::defaults::RATE_LIMIT_MIN), on this thread.
    ///
    /// Tables that are there when it begins and still are when it comes to them; what was written
    /// meanwhile is left to the next scrub, and nothing that was replaced is kept for it. What the
    /// kernel holds in memory is checked there, as reads would find it.
    ///
    /// # Errors
    /// `InvalidArgument` for a rate that is too low; `Closed` when the database is closed meanwhile.
    /// What it finds is in the report.
    pub fn scrub(&self, bytes_per_second: u64) -> Result<VerifyReport> {
        self.engine().scrub(bytes_per_second)
    }

    /// Changes [`Options::rate_limit`] from now on, until the database is closed.
    ///
    /// # Errors
    /// `InvalidArgument` for a rate that is too low.
    pub fn set_rate_limit(&self, bytes_per_second: Option<u64>) -> Result<()> {
        self.engine().set_rate_limit(bytes_per_second)
    }

    /// Every batch that was committed behind the number `since`, in order, none left out: from a
    /// snapshot's number on, from that of a write, or from where an earlier feed stopped; 0 is the
    /// beginning.
    ///
    /// What it gives survives power loss: the log is synced for it. It ends at the newest batch, and goes
    /// on there when it is asked again. Kept is as much of the log as [`Options::changes_bytes`] says;
    /// nothing else is held for a feed, and one that is too slow is told so.
    ///
    /// Cost: reads the log from the segment on that has `since`, and a sync of the log whenever more
    /// was written.
    ///
    /// # Errors
    /// `NotFound`: changes behind `since` are not there any more, here and in each call of
    /// [`next`](Iterator::next): too much was written since, or a failed part of the log was left
    /// behind, or the log was lost and tables had its writes. Read a snapshot and go on from its number.
    /// `InvalidArgument`: no write has that number yet, as in a database that was restored to an earlier
    /// time; or [`Options::changes_bytes`] was not given. `Io`, `ReadOnly`, `NoSpace`: the log could not be
    /// synced or read; `Closed`.
    ///
    /// ```
    /// use alluvium::{Changed, Options};
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-cs-{}", std::process::id()));
    /// let db = Options::new().changes_bytes(1 << 30).open(&dir)?;
    /// let from = db.seqno();
    /// db.put("k", "v")?;
    /// for change in db.changes_since(from)? {
    ///     for (keyspace, changed) in change?.operations() {
    ///         assert_eq!(keyspace, "default");
    ///         assert!(matches!(changed, Changed::Put { key: b"k", value: b"v", .. }));
    ///     }
    /// }
    /// # db.close()?; alluvium::Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn changes_since(&self, since: SeqNo) -> Result<Changes> {
        Changes::begin(&self.default.lease, since)
    }

    /// The number of the newest visible write.
    pub fn seqno(&self) -> SeqNo {
        self.engine().visible()
    }

    /// Closes the database: stops the background, syncs and seals the log, releases the directory.
    ///
    /// When a mebibyte and more is in the log (for each keyspace with writes that no table holds),
    /// the memtables are written to tables before, so that the next open has nothing to replay;
    /// that takes as long as a flush.
    ///
    /// Ends every clone and every handle: their calls give `Closed` from now on. Slices stay valid.
    ///
    /// # Errors
    /// What the background or the last sync failed on; the database is closed all the same.
    pub fn close(self) -> Result<()> {
        let lease = Arc::clone(&self.default.lease);
        let core = &lease.core;
        if core.health.is_suspended() {
            // The last chance to write what only memory holds.
            core.mend();
        }
        core.empty_log();
        let failure = match core.health.state() {
            State::Fatal(cause) => Err(cause),
            _ => Ok(()),
        };
        if !core.health.close() {
            return Err(Error::new(
                ErrorKind::Closed,
                "the database was closed already",
            ));
        }
        let sealed = failure.and_then(|()| core.close_log());
        lease.stop_workers();
        let sealed = sealed.and_then(|()| {
            core.log.give_up_recycled(&core.leftovers);
            core.tidy()?;
            let marked = core.versions.mark_clock();
            marked.and(core.versions.close())
        });
        core.dir_lock.lock().take();
        sealed
    }
}

//! Checkpoints: a database of its own, made of one instant of an open one.
//!
//! ```text
//! flush            what memtables hold goes to tables that source and copy share
//! moment.rs        one instant, under the write lock: memtables frozen, views taken
//! target.rs        a directory that says that it is unfinished
//! carry.rs         each table linked, or copied and read back; then memtables written to tables
//! target.rs        a manifest, CURRENT: from here on it is a database
//! ```
//! The instant is taken after the flush, so it has everything that was acknowledged before the call.
//! What was written during the flush, or what could not be flushed, is written from memory to tables
//! of the copy alone. No log is copied (R13 holds for want of one), nothing is written to the
//! source but its own flush, so it works as well for a source whose disk is full. Writers wait
//! while the instant is taken: a reference for each keyspace.
//!
//! Views hold the tables, so compactions and dropped keyspaces remove none of them before the end.
//!
//! The copy has a number of its own as a database, and so have the tables and logs that it will
//! write; tables that it took over keep their birth identity (R9), and with them it keeps the seed
//! of the keyed hash (P22). File and sequence numbers go on above those of the source.
//!
//! Invariants: K1 what the copy shows is exactly the writes up to one number; K2 every byte and name
//! is durable before CURRENT is renamed; K3 without CURRENT the directory has its mark.
//! Threads: the caller's. Not here: several points in time in one directory (backup).

pub(crate) mod carry;
pub(crate) mod moment;
pub(crate) mod target;

use super::Db;
use super::core::Core;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::SeqNo;
use crate::fs::Fs;
use carry::Carried;
use std::collections::BTreeSet;
use std::path::Path;
use target::Target;

/// What goes into a checkpoint or a backup: everything, unless it says otherwise.
///
/// ```
/// # use alluvium::{CheckpointOptions, Db, KeyspaceOptions};
/// # let dir = std::env::temp_dir().join(format!("alluvium-doc-co-{}", std::process::id()));
/// # let db = Db::open(dir.join("db"))?;
/// # db.keyspace("orders", KeyspaceOptions::default())?;
/// let only = CheckpointOptions::new().keyspaces(["orders"]);
/// db.checkpoint_with(dir.join("orders-alone"), only)?;
/// # db.close()?; let _ = std::fs::remove_dir_all(dir);
/// # Ok::<(), alluvium::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointOptions {
    pub(crate) keyspaces: Option<BTreeSet<String>>,
}

impl CheckpointOptions {
    /// All keyspaces.
    pub fn new() -> Self {
        Self::default()
    }

    /// These keyspaces and no others. The keyspace `default`, which every database has, is empty in
    /// the copy when it is not among them.
    #[must_use]
    pub fn keyspaces<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.keyspaces = Some(names.into_iter().map(Into::into).collect());
        self
    }
}

/// What a checkpoint or a restored backup holds, and what it took to make it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointReport {
    /// The number of the newest write in it: the instant that it shows.
    pub seqno: SeqNo,
    /// Its keyspaces, sorted.
    pub keyspaces: Vec<String>,
    /// Its tables.
    pub tables: u64,
    /// Those of them that are second names of files of the source.
    pub tables_linked: u64,
    /// Bytes of all tables.
    pub bytes: u64,
    /// Bytes of those that were copied, or written from memory.
    pub bytes_written: u64,
}

impl Db {
    /// Makes a database in the directory `path` that holds all of this one as it is at one instant:
    /// every write that was acknowledged before the call, and none after some moment during it.
    ///
    /// Tables are hard links where both directories are on one file system, which costs no space and
    /// no time; elsewhere they are copied, and every checksum of the copy is read. Writers go on:
    /// they wait for the instant alone, some microseconds. Memtables are flushed first; where that
    /// cannot be done, on a full disk, the copy is made all the same, with tables of its own for
    /// what only memory holds. When it returns, the copy is durable.
    ///
    /// The copy is independent: it can be opened, written to and removed beside its source, or open
    /// in another process. A crash in the middle leaves a directory that cannot be opened
    /// ([`ErrorKind::Unfinished`]) and that a new checkpoint may take. An error leaves
    /// nothing behind, as far as that can be removed.
    ///
    /// # Errors
    /// `InvalidArgument` when there is a directory that is not empty; `Locked` when somebody is making
    /// a copy in it; `Corruption` with file and offset when a table that has to be copied is damaged;
    /// `NoSpace`, `Io`, `Closed`.
    ///
    /// ```
    /// use alluvium::Db;
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-cp-{}", std::process::id()));
    /// # let (path, copy) = (dir.join("db"), dir.join("copy"));
    /// let db = Db::open(&path)?;
    /// db.put("k", "then")?;
    /// db.checkpoint(&copy)?;
    /// db.put("k", "now")?;
    /// let copy = Db::open(&copy)?; // beside its source
    /// assert_eq!(copy.get("k")?.unwrap(), b"then");
    /// # copy.close()?; db.close()?; let _ = std::fs::remove_dir_all(dir);
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn checkpoint(&self, path: impl AsRef<Path>) -> Result<CheckpointReport> {
        self.checkpoint_with(path, CheckpointOptions::new())
    }

    /// As [`Db::checkpoint`], of the keyspaces that `options` name.
    ///
    /// # Errors
    /// As [`Db::checkpoint`]; `NotFound` for a keyspace that is not there.
    pub fn checkpoint_with(
        &self,
        path: impl AsRef<Path>,
        options: CheckpointOptions,
    ) -> Result<CheckpointReport> {
        let to = self.engine().fs.at(path.as_ref());
        self.checkpoint_in(&to, &options)
    }

    /// Makes a checkpoint on any file system: the same, or another machine's in the simulator.
    ///
    /// # Errors
    /// As [`Db::checkpoint_with`].
    #[doc(hidden)]
    pub fn checkpoint_in(&self, to: &Fs, options: &CheckpointOptions) -> Result<CheckpointReport> {
        self.engine().checkpoint(to, options)
    }
}

impl Core {
    fn checkpoint(&self, to: &Fs, options: &CheckpointOptions) -> Result<CheckpointReport> {
        self.flush_for_copy(options)?;
        let target = Target::begin(to)?;
        let mut moment = self.take_moment(options)?;
        let mut report = CheckpointReport::default();
        for table in moment.tables() {
            match carry::link_or_copy(self, table, to)? {
                Carried::Linked => report.tables_linked += 1,
                Carried::Copied => report.bytes_written += table.meta().summary.bytes,
            }
        }
        let database = to.random().max(1);
        let written = moment.write_memtables(self, to, database)?;
        report.bytes_written += written.iter().map(|meta| meta.summary.bytes).sum::<u64>();
        let picture = moment.picture(database);
        moment::describe(&picture, &mut report);
        target.finish(&self.table_context, picture)?;
        if self.board.is_inline() {
            self.run_pending();
        }
        Ok(report)
    }

    /// Writes the memtables of the keyspaces that are asked for to tables, so that copies share
    /// them. What cannot be flushed now is written to the copy from memory.
    ///
    /// # Errors
    /// `NotFound` for a keyspace that is not there, `Closed`.
    pub(super) fn flush_for_copy(&self, options: &CheckpointOptions) -> Result<()> {
        self.health.check_open()?;
        let trees = self.chosen(options)?;
        match self.flush_trees(&trees) {
            Err(error) if error.kind() == ErrorKind::Closed => Err(error),
            _ => Ok(()),
        }
    }
}

fn no_such_keyspace(name: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("there is no keyspace '{name}'"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::{KeyspaceOptions, Options};
    use crate::fs::FileName;
    use crate::fs::sim::SimFs;

    /// Compactions and dropped keyspaces go on while a copy is made; what it needs stays until then.
    #[test]
    fn tables_stay_while_a_moment_is_held_and_go_afterwards() {
        let sim = SimFs::new(1);
        let options = Options::new().background_threads(0);
        let db = options.open_sim(&sim, "/db").unwrap();
        let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
        for round in 0..3 {
            db.put("k", format!("{round}")).unwrap();
            orders.put("k", format!("{round}")).unwrap();
            db.flush().unwrap();
        }
        let core = db.engine();
        let moment = core.take_moment(&CheckpointOptions::new()).unwrap();
        let tables = moment.tables().map(|table| table.meta().file);
        let tables: Vec<FileName> = tables.map(FileName::Table).collect();
        assert_eq!(tables.len(), 6);
        drop(orders);
        db.compact().unwrap();
        db.drop_keyspace("orders").unwrap();
        let there = || {
            core.sweep_dead().unwrap();
            let open = |name: &&FileName| core.fs.open_read(**name).is_ok();
            tables.iter().filter(open).count()
        };
        assert_eq!(there(), tables.len());
        drop(moment);
        assert_eq!(there(), 0);
    }

    /// What is written while the copy is made comes after its instant, also in memtables that it
    /// writes out.
    #[test]
    fn writes_behind_the_instant_are_not_in_the_copy() {
        let sim = SimFs::new(2);
        let options = || Options::new().background_threads(0);
        let db = options().open_sim(&sim, "/db").unwrap();
        db.put("k", "then").unwrap();
        let core = db.engine();
        let mut moment = core.take_moment(&CheckpointOptions::new()).unwrap();
        db.put("k", "now").unwrap();
        db.put("new", "now").unwrap();
        let to = core.fs.at(Path::new("/copy"));
        let target = Target::begin(&to).unwrap();
        assert_eq!(moment.tables().count(), 0);
        assert_eq!(moment.write_memtables(core, &to, 5).unwrap().len(), 1);
        target
            .finish(&core.table_context, moment.picture(5))
            .unwrap();
        let copy = options().open_sim(&sim, "/copy").unwrap();
        assert_eq!(copy.get("k").unwrap().unwrap(), b"then");
        assert_eq!(copy.iter().count(), 1);
    }
}

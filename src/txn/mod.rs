//! Reads remembered, writes held back, both handed to one commit.
//!
//! A transaction reads at a snapshot and keeps its writes to itself ([`writes`]). What it reads goes
//! into a [`ReadSet`]: keys, and the parts of ranges that its iterators have shown ([`scan`]). At the
//! commit everything read must be as it was; then the writes become one batch, and the transaction
//! happened at that instant: all those that commit could have run one after the other in the order of
//! their sequence numbers (optimistic concurrency control with backward validation, Kung and
//! Robinson, ACM TODS 1981; ranges make it serializable, not only repeatable). One that wrote
//! nothing happened at its snapshot, and never conflicts.
//!
//! Nothing is locked between reads and commit, so a transaction that is dropped or forgotten holds
//! up nobody; it only keeps what its snapshot sees. Threads: a transaction is one thread's; its
//! iterators may be elsewhere. Not here: how a commit finds what was written since (`db/watch`).

mod scan;
mod writes;

pub use scan::TransactionIter;
pub use writes::Savepoint;

use crate::base::batch::InKeyspace;
use crate::base::error::{Error, ErrorKind, Result, shown};
use crate::base::key_range::KeyRange;
use crate::base::options::WriteOptions;
use crate::base::ranges::HalfOpen;
use crate::base::reads::ReadSet;
use crate::base::slice::Slice;
use crate::base::sync::{Arc, Mutex, thread};
use crate::base::types::{KeyspaceId, SeqNo, Time};
use crate::db::{Answer, Db, Keyspace, Snapshot, bounds_of, prefix_bounds};
use crate::read::Bounds;
use scan::{OwnWrites, Shown};
use std::fmt;
use std::time::Duration;
use writes::{OwnValue, Writes};

/// How often [`Db::transaction`] runs a transaction that meets conflicts before it gives up.
pub const TRANSACTION_TRIES: u32 = 100;
/// From this try on it sleeps before it tries again: a time that doubles up to the longest.
const SLEEP_FROM_TRY: u32 = 4;
const SLEEP_MIN: Duration = Duration::from_micros(20);
const SLEEP_MAX: Duration = Duration::from_millis(5);

/// Reads and writes over keyspaces that happen at one instant, or not at all.
///
/// Made by [`Db::begin`]. It reads the database as it was then, and its own writes over that; others
/// see nothing of them before [`commit`](Self::commit), which succeeds only if nothing that was
/// read has been written since: keys, absent ones too, and the parts of ranges that were looked at.
/// So whatever transactions do side by side, it is as if they had run one after the other
/// (serializable). Keys that are written and not read conflict with nothing.
///
/// Reading costs what a read of a [`Snapshot`] costs, and a copy of the key. Everything read and
/// written is kept in memory until the end. Dropping a transaction forgets it.
///
/// ```
/// # use alluvium::{Db, ErrorKind};
/// # let dir = std::env::temp_dir().join(format!("alluvium-doc-txn-{}", std::process::id()));
/// # let db = Db::open(&dir)?;
/// # db.put("alice", [5])?; db.put("bob", [1])?;
/// let mut tx = db.begin();
/// let (alice, bob) = (tx.get(&db, "alice")?.unwrap()[0], tx.get(&db, "bob")?.unwrap()[0]);
/// tx.put(&db, "alice", [alice - 3]);
/// tx.put(&db, "bob", [bob + 3]);
/// db.put("alice", [0])?; // somebody is faster
/// assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict);
/// assert_eq!(db.get("bob")?.unwrap(), [1], "nothing was written");
/// # db.close()?; Db::destroy(&dir)?;
/// # Ok::<(), alluvium::Error>(())
/// ```
pub struct Transaction {
    db: Db,
    at: Snapshot,
    reads: Mutex<Reads>,
    writes: Writes,
    /// The first write named a keyspace of another database.
    is_foreign: bool,
}

/// What was read so far.
#[derive(Default)]
struct Reads {
    set: ReadSet,
    /// What iterators have shown, in the order they were made; those that are gone are in `set`,
    /// but for some before one that is not.
    scans: Vec<Arc<Mutex<Shown>>>,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Transaction(at {}, {} writes)",
            self.at.seqno(),
            self.writes.len()
        )
    }
}

impl Db {
    /// Begins a transaction over any keyspaces, at this instant.
    ///
    /// Nothing is locked: others go on, and whoever commits first wins. Cost: a snapshot.
    pub fn begin(&self) -> Transaction {
        Transaction {
            db: self.clone(),
            at: self.snapshot(),
            reads: Mutex::default(),
            writes: Writes::default(),
            is_foreign: false,
        }
    }

    /// Runs `run` in a transaction and commits it, again and again while it conflicts with others
    /// (at most [`TRANSACTION_TRIES`] times, after some of them with a pause).
    ///
    /// `run` should have no effects outside of the transaction. When it returns an error, nothing is
    /// written and the error is passed on; a `Conflict` that is
    /// [retryable](Error::is_retryable) counts as one of this transaction.
    ///
    /// # Errors
    /// What `run` returns; what [`Transaction::commit`] gives, `Conflict` after the last try.
    ///
    /// ```
    /// # use alluvium::Db;
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-txr-{}", std::process::id()));
    /// # let db = Db::open(&dir)?;
    /// # db.put("stock", [3])?;
    /// let left = db.transaction(|tx| {
    ///     let left = tx.get(&db, "stock")?.map_or(0, |count| count[0]).saturating_sub(1);
    ///     tx.put(&db, "stock", [left]);
    ///     Ok(left)
    /// })?;
    /// assert_eq!(left, 2);
    /// # db.close()?; Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn transaction<T>(&self, mut run: impl FnMut(&mut Transaction) -> Result<T>) -> Result<T> {
        let mut tries = 1;
        loop {
            let mut transaction = self.begin();
            let done = run(&mut transaction).and_then(|value| transaction.commit().map(|_| value));
            match done {
                Err(error) if is_conflict(&error) && tries < TRANSACTION_TRIES => pause(tries),
                done => return done,
            }
            tries += 1;
        }
    }
}

fn is_conflict(error: &Error) -> bool {
    error.kind() == ErrorKind::Conflict && error.is_retryable()
}

/// Lets those go first that were faster.
fn pause(tries: u32) {
    match tries.checked_sub(SLEEP_FROM_TRY) {
        None => thread::yield_now(),
        Some(doublings) => {
            let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
            thread::sleep(SLEEP_MIN.saturating_mul(factor).min(SLEEP_MAX));
        }
    }
}

impl Transaction {
    /// The number of the newest write of others that it sees.
    pub fn seqno(&self) -> SeqNo {
        self.at.seqno()
    }

    /// The value of `key`: the one that this transaction gave it last, else that of its instant.
    ///
    /// # Errors
    /// As [`Keyspace::get`]; `InvalidArgument` for a keyspace of another database.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        let key = key.as_ref();
        let (id, _) = self.own(keyspace)?.target();
        let own = self.writes.get(id, key);
        if let Some(own) = own.filter(|own| own.is_whole()) {
            return own.over(key, None, &keyspace.folding());
        }
        let is_deleted = self.writes.deleted(id).find(key).piece.is_some();
        let stored = match is_deleted {
            true => None,
            false => {
                self.reads.lock().set.add_key(id, key);
                self.at.keyspace(keyspace).get(key)?
            }
        };
        match own {
            Some(own) => own.over(key, stored.as_deref(), &keyspace.folding()),
            None => Ok(stored),
        }
    }

    /// True when `key` has a value.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn contains_key(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get(keyspace, key).map(|value| value.is_some())
    }

    /// The entries of `range`, in key order, from either end: those of the transaction's instant
    /// under what it has written so far. What it writes later the iterator does not see.
    ///
    /// Only what the iterator has shown counts as read, with the gaps between: the first ten
    /// entries of a range do not conflict with a write behind the tenth.
    pub fn range(&self, keyspace: &Keyspace, range: impl KeyRange) -> TransactionIter {
        let (lower, upper) = bounds_of(&range);
        self.scan(keyspace, Bounds::new(lower, upper))
    }

    /// The entries whose keys start with `prefix`; see [`Transaction::range`].
    pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> TransactionIter {
        let (lower, upper) = prefix_bounds(prefix.as_ref());
        self.scan(keyspace, Bounds::new(lower, upper))
    }

    /// All entries; see [`Transaction::range`].
    pub fn iter(&self, keyspace: &Keyspace) -> TransactionIter {
        self.range(keyspace, ..)
    }

    fn scan(&self, keyspace: &Keyspace, bounds: Bounds) -> TransactionIter {
        let id = match self.own(keyspace) {
            Ok(keyspace) => keyspace.target().0,
            Err(error) => return TransactionIter::failed(error),
        };
        let shown = Arc::new(Mutex::new(Shown::nothing_of(id, &bounds)));
        self.reads.lock().begin_scan(Arc::clone(&shown));
        let written = self.writes.within(id, &bounds);
        let entries = self.at.keyspace(keyspace);
        let entries = entries.range((bounds.lower(), bounds.upper()));
        let own = OwnWrites {
            written,
            deleted: self.writes.deleted(id),
            folding: keyspace.folding(),
        };
        TransactionIter::new(entries, own, shown)
    }

    /// Sets `key` to `value`, once it commits. In a keyspace with a
    /// [`ttl`](crate::KeyspaceOptions::ttl) it expires so long after this call.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.put_until(
            keyspace,
            key.as_ref(),
            value.as_ref(),
            keyspace.expiry(None),
        );
    }

    /// Sets `key` to `value`, once it commits, which expires `ttl` after this call; see
    /// [`WriteOptions::ttl`]. The transaction itself sees it to its end.
    pub fn put_with_ttl(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) {
        let expiry = keyspace.expiry(Some(ttl));
        self.put_until(keyspace, key.as_ref(), value.as_ref(), expiry);
    }

    fn put_until(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8], expiry: Option<Time>) {
        let value = Slice::copy(value);
        self.write(keyspace, |writes, id| {
            writes.set(id, key, Some(OwnValue { value, expiry }))
        });
    }

    /// Removes `key`, once it commits.
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        self.write(keyspace, |writes, id| writes.set(id, key.as_ref(), None));
    }

    /// Removes every key of `range`, once it commits; see [`Keyspace::delete_range`]. Reads nothing, so
    /// it conflicts with nothing: keys that others write into the range before it commits go, too.
    pub fn delete_range(&mut self, keyspace: &Keyspace, range: impl KeyRange) {
        let (lower, upper) = range.bounds();
        match (self.own(keyspace), HalfOpen::between(lower, upper)) {
            (Ok(_), None) => {}
            (Ok(keyspace), Some(range)) => self.writes.delete_range(keyspace.target().0, range),
            (Err(_), _) => self.is_foreign = true,
        }
    }

    /// Merges `operand` into the value of `key`, once it commits; see [`Keyspace::merge`]. Reads
    /// nothing, so it conflicts with nothing; a later [`get`](Self::get) of the key does.
    pub fn merge(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) {
        let operand = Slice::copy(operand.as_ref());
        self.write(keyspace, |writes, id| {
            writes.merge(id, key.as_ref(), operand)
        });
    }

    fn write(&mut self, keyspace: &Keyspace, add: impl FnOnce(&mut Writes, KeyspaceId)) {
        match self.own(keyspace) {
            Ok(keyspace) => add(&mut self.writes, keyspace.target().0),
            Err(_) => self.is_foreign = true,
        }
    }

    /// A point to go back to with [`Transaction::rollback_to`].
    pub fn savepoint(&mut self) -> Savepoint {
        self.writes.savepoint()
    }

    /// Undoes every write since `savepoint`, and forgets later savepoints. What was read stays read:
    /// it may be why the writes are undone. The savepoint can be gone back to again.
    ///
    /// # Errors
    /// `InvalidArgument` for one that was forgotten, or is another transaction's.
    pub fn rollback_to(&mut self, savepoint: &Savepoint) -> Result<()> {
        self.writes.rollback_to(savepoint)
    }

    /// Makes the writes visible at one instant, if everything that was read is as it was; gives the
    /// number of the last write, or, if there is none, that of the instant that was read.
    ///
    /// As durable as [`Options::durability`](crate::Options::durability) says.
    ///
    /// # Errors
    /// `Conflict`, [retryable](Error::is_retryable), when something read was written since: run the
    /// whole transaction again. Otherwise as [`Db::write`]. Nothing was written then.
    ///
    /// It is gone then, whatever came of it:
    ///
    /// ```compile_fail,E0382
    /// # fn late(db: &alluvium::Db) -> alluvium::Result<()> {
    /// let mut tx = db.begin();
    /// tx.commit()?;
    /// tx.put(db, "k", "v");
    /// # Ok(())
    /// # }
    /// ```
    pub fn commit(self) -> Result<SeqNo> {
        self.commit_with(WriteOptions::default())
    }

    /// As [`Transaction::commit`], with options of this write.
    ///
    /// # Errors
    /// As [`Transaction::commit`]; one whose sync failed is logged and visible all the same.
    pub fn commit_with(self, options: WriteOptions) -> Result<SeqNo> {
        options.check_no_ttl()?;
        if self.is_foreign {
            return Err(foreign().advice("Nothing was written."));
        }
        let batch = self.writes.batch();
        if batch.is_empty() {
            // It still says whether the database is open, and syncs when asked to.
            self.db.write(&batch, options)?;
            return Ok(self.at.seqno());
        }
        let reads = std::mem::take(&mut *self.reads.lock()).finish();
        let since = self.at.seqno();
        match self
            .db
            .write_unless_overwritten(&reads, since, &batch, options)?
        {
            Answer::Written(seqno) => Ok(seqno),
            Answer::Overwritten(key) => Err(conflict(&key)),
        }
    }

    /// The keyspace, if it is one of this database.
    fn own<'k>(&self, keyspace: &'k Keyspace) -> Result<&'k Keyspace> {
        match keyspace.target().1 == self.db.target().1 {
            true => Ok(keyspace),
            false => Err(foreign()),
        }
    }
}

impl Reads {
    fn begin_scan(&mut self, shown: Arc<Mutex<Shown>>) {
        // Most iterators are gone when the next one is made.
        while let Some(last) = self.scans.pop_if(|scan| Arc::strong_count(scan) == 1) {
            last.lock().add_to(&mut self.set);
        }
        self.scans.push(shown);
    }

    /// All that was read.
    fn finish(mut self) -> ReadSet {
        for scan in &self.scans {
            scan.lock().add_to(&mut self.set);
        }
        self.set
    }
}

fn foreign() -> Error {
    Error::invalid("the transaction names a keyspace of another database")
}

fn conflict(key: &[u8]) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!(
            "the transaction read the key {}, which was written since",
            shown(key)
        ),
    )
    .advice("Nothing was written. Run the transaction again.")
    .retryable()
}

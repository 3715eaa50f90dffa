//! alluvium: an embedded, ordered, durable key-value engine.
//!
//! A database is a directory. In it are any number of *keyspaces*, each an ordered map from byte
//! strings to byte strings, all behind one write-ahead log, so that a [`WriteBatch`] over several
//! of them is atomic. Underneath each is a log-structured merge tree: writes go to the log and to
//! a sorted map in memory, full maps become immutable sorted files, and background threads merge
//! those into fewer and larger ones.
//!
//! ```
//! use alluvium::{Db, WriteBatch, WriteOptions};
//! # let dir = std::env::temp_dir().join(format!("alluvium-doc-lib-{}", std::process::id()));
//!
//! let db = Db::open(&dir)?; // made if it is not there
//! db.put("clay", "fine")?; // survives the death of the process
//! let mut batch = WriteBatch::new();
//! batch.put(&db, "sand", "coarse");
//! batch.delete(&db, "clay");
//! db.write(&batch, WriteOptions::default())?; // both or neither
//! assert_eq!(db.get("sand")?.unwrap(), b"coarse");
//! for entry in db.range("a".."m") {
//!     let (key, value) = entry?;
//!     println!("{key:?} is {value:?}");
//! }
//! db.close()?; // reports what dropping it cannot
//! # Db::destroy(&dir)?;
//! # Ok::<(), alluvium::Error>(())
//! ```
//!
//! # Durability
//!
//! When a write returns `Ok`, it has gone as far as its [`Durability`] says:
//!
//! - [`Durability::Logged`], the default: it is with the operating system, and survives the death
//!   of the process. A power cut may take the newest such writes: always a suffix of the write
//!   order, never one out of the middle, never half a batch. [`Options::sync_every`] bounds how
//!   much time that suffix spans, and [`Db::sync`] ends it.
//! - [`Durability::Synced`]: it is on the device, together with everything written before it, and
//!   survives power loss. Writers that wait at the same time share one sync.
//!
//! ```
//! # use alluvium::{Db, Durability, WriteOptions};
//! # let dir = std::env::temp_dir().join(format!("alluvium-doc-sy-{}", std::process::id()));
//! # let db = Db::open(&dir)?;
//! db.put_with("k", "v", WriteOptions::new().durability(Durability::Synced))?;
//! # db.close()?; Db::destroy(&dir)?;
//! # Ok::<(), alluvium::Error>(())
//! ```
//!
//! After a crash [`Db::open`] replays the log; a crash needs no repair. What it found is in
//! [`Db::open_report`]. Every byte that is read back is checked, and damage is an [`Error`] of kind
//! [`ErrorKind::Corruption`] with file and offset: never an older value, never a missing key. Damage
//! stays local, and [`Db::repair`] keeps everything around it.
//!
//! # Snapshots and iterators
//!
//! A [`Snapshot`] is one instant over all keyspaces, for as long as it is held; taking one costs
//! less than a microsecond and stops no writer. An iterator ([`Iter`]) or [`Cursor`] is a snapshot
//! of its keyspace too. All of them own what they need (`'static`, `Send`) and keep what they see
//! on the disk: one that is held for hours holds space for hours.
//!
//! ```
//! # use alluvium::Db;
//! # let dir = std::env::temp_dir().join(format!("alluvium-doc-sn-{}", std::process::id()));
//! # let db = Db::open(&dir)?;
//! db.put("k", "before")?;
//! let snapshot = db.snapshot();
//! db.put("k", "after")?;
//! assert_eq!(snapshot.get("k")?.unwrap(), b"before");
//! # drop(snapshot); db.close()?; Db::destroy(&dir)?;
//! # Ok::<(), alluvium::Error>(())
//! ```
//!
//! # Keyspaces
//!
//! [`Db`] derefs to the keyspace named `default`; [`Db::keyspace`] opens or makes others, each with
//! [`KeyspaceOptions`] of its own. A handle is cheap to clone. Dropping a keyspace takes constant
//! time, whatever is in it.
//!
//! ```
//! # use alluvium::{Db, KeyspaceOptions};
//! # let dir = std::env::temp_dir().join(format!("alluvium-doc-ks-{}", std::process::id()));
//! # let db = Db::open(&dir)?;
//! let orders = db.keyspace("orders", KeyspaceOptions::default())?;
//! orders.put("1", "two pumps")?;
//! assert_eq!(db.get("1")?, None, "the default keyspace is another map");
//! # db.close()?; Db::destroy(&dir)?;
//! # Ok::<(), alluvium::Error>(())
//! ```
//!
//! # Transactions
//!
//! A [`Transaction`] reads one instant, keeps its writes to itself, and commits only if nothing that
//! it read was written since: whatever runs side by side, it is as if one had run after the other
//! (serializable). [`Db::transaction`] runs it again where others were faster. For a single key there
//! are [`Keyspace::compare_and_swap`], [`Keyspace::put_if_absent`] and [`Keyspace::update`].
//!
//! ```
//! # use alluvium::Db;
//! # let dir = std::env::temp_dir().join(format!("alluvium-doc-tx-{}", std::process::id()));
//! # let db = Db::open(&dir)?;
//! # db.put("a", "1")?;
//! db.transaction(|tx| {
//!     let moved = tx.get(&db, "a")?.unwrap();
//!     tx.delete(&db, "a");
//!     tx.put(&db, "b", moved);
//!     Ok(())
//! })?;
//! assert_eq!(db.get("b")?.unwrap(), b"1");
//! # db.close()?; Db::destroy(&dir)?;
//! # Ok::<(), alluvium::Error>(())
//! ```
//!
//! # Merges
//!
//! A merge says what is to become of a value, without reading it: add 1, append, put into the set.
//! What it means is the keyspace's merge operator, one of those in [`merge`] or one of the caller's.
//!
//! ```
//! # use alluvium::{Db, KeyspaceOptions, merge};
//! # let dir = std::env::temp_dir().join(format!("alluvium-doc-me-{}", std::process::id()));
//! # let db = Db::open(&dir)?;
//! let visits = db.keyspace("visits", KeyspaceOptions::new().merge_operator(merge::COUNTER))?;
//! visits.merge("/index", 1i64.to_le_bytes())?; // costs a put, and no reader waits for it
//! visits.merge("/index", 1i64.to_le_bytes())?;
//! assert_eq!(visits.get("/index")?.unwrap(), 2i64.to_le_bytes());
//! # db.close()?; Db::destroy(&dir)?;
//! # Ok::<(), alluvium::Error>(())
//! ```
//!
//! # Expiry
//!
//! A value can have a time to live, its own ([`WriteOptions::ttl`]) or its keyspace's
//! ([`KeyspaceOptions::ttl`]). From its end on no read that begins sees it, as if it had been deleted then;
//! the background gives its space back.
//!
//! ```
//! # use alluvium::{Db, KeyspaceOptions, WriteOptions};
//! # use std::time::Duration;
//! # let dir = std::env::temp_dir().join(format!("alluvium-doc-tt-{}", std::process::id()));
//! # let db = Db::open(&dir)?;
//! let hour = Duration::from_secs(3600);
//! let sessions = db.keyspace("sessions", KeyspaceOptions::new().ttl(Some(hour)))?;
//! sessions.put("ann", "7f3a")?; // for an hour
//! sessions.put_with("bob", "", WriteOptions::new().ttl(Duration::ZERO))?; // already over
//! assert!(sessions.contains_key("ann")? && !sessions.contains_key("bob")?);
//! # db.close()?; Db::destroy(&dir)?;
//! # Ok::<(), alluvium::Error>(())
//! ```
//!
//! # Compaction filters
//!
//! A keyspace's filter says which values may go when tables are rewritten anyway: [`filter`]. Whoever has
//! begun to read never sees one go.
//!
//! # Checkpoints and backups
//!
//! [`Db::checkpoint`] makes a database of its own out of one instant, of hard links where it can, while
//! writers go on. A [`BackupDirectory`] keeps several points in time on another disk: what two of
//! them share is there once, each can be verified and restored.
//!
//! # Beside other work
//!
//! [`Options::rate_limit`] holds compactions to so many bytes a second, and [`Db::set_rate_limit`] changes
//! that while the database is open. [`Db::scrub`] reads and checks every table at a pace of its own.
//! [`Keyspace::approximate_size`] says how much a range of keys takes up.
//!
//! # Beside another process
//!
//! [`Db::open_read_only`] gives a [`DbReader`]: one moment of a database that another process has open, which
//! [`DbReader::refresh`] moves on. Any number of them read side by side, without a lock and without a write.
//!
//! # Bulk loads
//!
//! [`Db::ingestion`] makes tables of sorted entries, without log and memtables, over any keyspaces; they
//! count at one instant.
//!
//! # Knowing what goes on
//!
//! [`Db::stats`] has the figures. A [`listener`] is told of flushes and compactions, and when writes are
//! slowed down or stopped. [`Keyspace::explain_get`] says what a get asks and is told, [`Db::why_space`] what
//! each byte of the directory is there for, [`Db::oldest_pin`] who keeps old versions, and
//! [`Db::why_stalled`] what writers wait for.
//!
//! # Limits
//!
//! A key has at most 64 KiB, a value 1 GiB, and a batch a quarter of [`Options::memory_bytes`]; one
//! process has the directory open for writing at a time. Keys are ordered bytewise.
//!
//! # Cargo features
//!
//! `lz4` (on by default) and `zstd` for [`Compression`]; `tracing` and `metrics` for listeners that tell
//! those crates; `cli` for the `alluvium` command; `sim` for the simulated file system that crash tests
//! run on.
//!
//! # Map of the source
//!
//! The modules below stand in `src/lib.rs` in the order of their storeys, from the words that all
//! others speak to the database on top: each imports only from storeys under its own, as DESIGN.md
//! says in a table and `tests/layers.rs` checks. Those that are hidden from this page are public for
//! the tests and benches of this package alone, and can change in any release.
#![warn(missing_docs)]

// 0 words
#[doc(hidden)]
pub mod base;
// 1 disk
#[doc(hidden)]
pub mod fs;
// 2 parts
#[doc(hidden)]
pub mod memtable;
#[doc(hidden)]
pub mod table;
#[doc(hidden)]
pub mod wal;
// 3 truth
#[doc(hidden)]
pub mod version;
// 4 reading
#[doc(hidden)]
pub mod read;
// 5 rewriting
#[doc(hidden)]
pub mod compaction;
// 6 one map
#[doc(hidden)]
pub mod tree;
// 7 many maps, one log
mod db;
// 8 conversations
mod txn;

pub use base::batch::{InKeyspace, WriteBatch};
pub use base::error::{Error, ErrorKind, Result};
pub use base::key_range::KeyRange;
pub use base::options::{
    CompactionStyle, Compression, Durability, KeyspaceOptions, LogMode, Options, ReadMode, Verify,
    WriteOptions,
};
pub use base::slice::Slice;
pub use base::types::SeqNo;
#[doc(hidden)]
pub use db::recode_point;
pub use db::{
    BackupDirectory, BackupInfo, BackupReport, Change, Changed, Changes, CheckpointOptions,
    CheckpointReport, Db, DbReader, Ingestion, Keyspace, KeyspaceStats, LevelStats, LogStats, Loss,
    LossKind, OpenReport, ReadStats, RepairReport, RunStats, Snapshot, SnapshotKeyspace,
    StallCause, StallStats, State, Stats, TableStats, VerifyReport, WhyStalled,
};
#[cfg(feature = "sim")]
#[doc(inline)]
pub use fs::sim;
pub use read::{Iter, RangeCursor as Cursor};
pub use txn::{Savepoint, Transaction, TransactionIter};

/// Merge operators: those that are built in, and the trait for others.
pub mod merge {
    pub use crate::base::built_in::{APPEND, COUNTER, MAX, SET_UNION, members, set};
    pub use crate::base::hooks::{Associative, MergeOperator, associative};
}

/// Answers to why: what a get asks, what holds space, who keeps old versions.
///
/// [`Keyspace::explain_get`], [`Db::why_space`], [`Db::oldest_pin`]; beside them [`Db::why_stalled`].
pub mod explain {
    pub use crate::db::{KeyspaceSpace, Pin, PutOff, Space, SpaceReport};
    pub use crate::read::{GetAnswer, GetPlace, GetReport, GetStep, VersionKind};
}

/// What happens in the background, told to whoever listens.
pub mod listener {
    #[cfg(feature = "metrics")]
    pub use crate::base::listener::Metrics;
    #[cfg(feature = "tracing")]
    pub use crate::base::listener::Tracing;
    pub use crate::base::listener::{Event, Listener};
}

/// Compaction filters: which values may go when tables are rewritten.
pub mod filter {
    pub use crate::base::filter::{CompactionFilter, Decision};
}

/// The default of each option, under the option's name.
pub mod defaults {
    pub use crate::base::options::{
        BACKGROUND_THREADS, BLOCK_BYTES, CHANGES_BYTES, FIFO_BYTES, FILTER_BITS_PER_KEY,
        IMMUTABLES_MAX, LEVEL0_RUNS, LOG_SEGMENT_BYTES, MEMORY_BYTES, RATE_LIMIT_MIN, SIZE_RATIO,
        TABLE_BYTES, TIER_RUNS, WRITE_BUFFER_BYTES,
    };
    pub use crate::txn::TRANSACTION_TRIES;
}

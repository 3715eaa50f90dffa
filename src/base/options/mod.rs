//! Every option, as plain data with a named default. Policies are built from them higher up.
//!
//! An option that shapes files is stored with the keyspace and checked when it is opened again;
//! the others take effect at each open. Each default is a public constant that docs and code use.

mod keyspace;

use super::error::{Error, Result};
use super::filter::{CompactionFilter, CompactionFilters};
use super::hooks::{MergeOperator, MergeOperators};
use super::listener::{Listener, Listening};
use std::time::Duration;

pub use keyspace::{
    BLOCK_BYTES, FIFO_BYTES, FILTER_BITS_PER_KEY, IMMUTABLES_MAX, KeyspaceOptions, LEVEL0_RUNS,
    SIZE_RATIO, TABLE_BYTES, TIER_RUNS, WRITE_BUFFER_BYTES,
};

/// Default of [`Options::memory_bytes`]: 512 MiB.
pub const MEMORY_BYTES: u64 = 512 << 20;
/// Default of [`Options::log_segment_bytes`]: 64 MiB.
pub const LOG_SEGMENT_BYTES: u64 = 64 << 20;
/// Default of [`Options::changes_bytes`]: none are kept.
pub const CHANGES_BYTES: u64 = 0;
/// Default of [`Options::background_threads`]: 2.
pub const BACKGROUND_THREADS: usize = 2;
/// The least that [`Options::rate_limit`] and [`Db::scrub`](crate::Db::scrub) take: 64 KiB a second.
pub const RATE_LIMIT_MIN: u64 = 64 << 10;

/// How far a write has gone when it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// Survives the death of the process. A power cut may lose the newest such writes, always as
    /// a suffix of the write order.
    #[default]
    Logged,
    /// Survives power loss, together with everything written before it.
    Synced,
}

/// How tables are read. The modes give the same answers; they differ in what they cost and in what
/// happens when the device cannot read a sector.
///
/// In all of them a flipped bit is `Corruption` with file and offset, found by the block's checksum
/// as [`Verify`] says, and other blocks are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadMode {
    /// Through a memory map: no copy, no block cache, the fastest.
    ///
    /// A device error ends the process by SIGBUS, as does another program that cuts a file short.
    /// Nothing is lost by that: the next open recovers, as from any crash.
    #[default]
    Mmap,
    /// Through a memory map that is asked for each page before its first touch (one system call
    /// and one bit for each 4 KiB, then as [`ReadMode::Mmap`]).
    ///
    /// A device error is an `Io` error with file and offset; later reads of the place repeat it.
    /// Only a page that was dropped from memory since and then cannot be read again ends the
    /// process. Linux 5.14 and later; elsewhere as [`ReadMode::Mmap`].
    MmapProbe,
    /// Through read calls into memory of the process, and a block cache: for network file systems
    /// and disks that fail. Costs a cache lookup a block, and a copy for each miss.
    ///
    /// A device error is an `Io` error with file and offset, always.
    Pread,
}

/// How log records reach the operating system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogMode {
    /// Stored through a mapping of preallocated space where the file system guarantees that space
    /// (ext4, xfs), else as [`LogMode::Write`].
    #[default]
    Mapped,
    /// One write call for each record or group.
    Write,
}

/// When block checksums are verified. Compaction verifies always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verify {
    /// The first time a block is touched after the table was opened. Bytes that rot later, in the
    /// page cache or below it, are noticed by the next compaction or `Db::verify` alone.
    #[default]
    FirstTouch,
    /// Whenever a block is read, which costs 0.3 µs more for 4 KiB; indexes and filters are copied to
    /// the heap. A block that a cursor stands in, and values lent from it, are not read
    /// again.
    EveryRead,
}

/// Block compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Compression {
    /// Blocks are stored as they are, and read without a copy.
    #[default]
    None = 0,
    /// LZ4; needs the feature `lz4`.
    Lz4 = 1,
    /// Zstandard, level 1; needs the feature `zstd`.
    Zstd = 2,
}

impl Compression {
    /// The codec with this discriminant, if there is one.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Compression::None,
            1 => Compression::Lz4,
            2 => Compression::Zstd,
            _ => return None,
        })
    }

    /// True when this build can read and write it.
    pub fn is_supported(self) -> bool {
        match self {
            Compression::None => true,
            Compression::Lz4 => cfg!(feature = "lz4"),
            Compression::Zstd => cfg!(feature = "zstd"),
        }
    }
}

/// The shape of the tree, and with it the price of writing, reading and space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum CompactionStyle {
    /// Lazy leveling: several runs a level, one run at the bottom. Writes each byte 4 to 8 times.
    #[default]
    Lazy = 0,
    /// Classic leveling: one run a level. Fewest runs to scan, 10 to 20 writes a byte.
    Leveled = 1,
    /// Tiering, which RocksDB calls universal: several runs in each level. Fewest bytes written, most
    /// runs to read; up to three times the space of the live data, and level 0.
    Tiered = 2,
    /// First in, first out: keeps about [`KeyspaceOptions::fifo_bytes`] and **forgets** what was written
    /// first, in whole tables and without a trace. For caches, logs and metrics.
    Fifo = 3,
}

impl CompactionStyle {
    /// Every style, in the order of the discriminants.
    pub const ALL: [CompactionStyle; 4] = [
        CompactionStyle::Lazy,
        CompactionStyle::Leveled,
        CompactionStyle::Tiered,
        CompactionStyle::Fifo,
    ];

    /// The style with this discriminant, if there is one.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// Options of a database; see each method for its default. [`Options::new`] is a good start.
///
/// They are not stored, and hold from one opening to the next; while it is open only
/// [`rate_limit`](Options::rate_limit) and what [`default_keyspace`](Options::default_keyspace) has can
/// change.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub(crate) memory_bytes: u64,
    pub(crate) durability: Durability,
    pub(crate) sync_every: Option<Duration>,
    pub(crate) background_threads: usize,
    pub(crate) rate_limit: Option<u64>,
    pub(crate) read_mode: ReadMode,
    pub(crate) log_mode: LogMode,
    pub(crate) log_segment_bytes: u64,
    pub(crate) changes_bytes: u64,
    pub(crate) verify: Verify,
    pub(crate) create_if_missing: bool,
    pub(crate) error_if_exists: bool,
    pub(crate) default_keyspace: KeyspaceOptions,
    pub(crate) merge_operators: MergeOperators,
    pub(crate) compaction_filters: CompactionFilters,
    pub(crate) listening: Listening,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            memory_bytes: MEMORY_BYTES,
            durability: Durability::default(),
            sync_every: None,
            background_threads: BACKGROUND_THREADS,
            rate_limit: None,
            read_mode: ReadMode::default(),
            log_mode: LogMode::default(),
            log_segment_bytes: LOG_SEGMENT_BYTES,
            changes_bytes: CHANGES_BYTES,
            verify: Verify::default(),
            create_if_missing: true,
            error_if_exists: false,
            default_keyspace: KeyspaceOptions::default(),
            merge_operators: MergeOperators::default(),
            compaction_filters: CompactionFilters::default(),
            listening: Listening::default(),
        }
    }
}

/// Declares a by-value setter.
macro_rules! setter {
    ($(#[$doc:meta])* $name:ident: $type:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        }
    };
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    setter! {
        /// Memory for memtables and block caches together, in bytes. Default [`MEMORY_BYTES`].
        ///
        /// Memtables waiting to be flushed are held to half of it by slowing writers down. The other
        /// half is the block cache's, in which indexes and filters lie too where they are not mapped
        /// ([`ReadMode::Pread`], [`Verify::EveryRead`]). Not in it: 3 MiB for each background thread
        /// at work, and what the system's allocator keeps.
        memory_bytes: u64
    }
    setter! {
        /// What a write means that does not say. Default [`Durability::Logged`].
        durability: Durability
    }
    setter! {
        /// Syncs the log in the background at this interval, so that a power cut loses at most so
        /// much. Default `None`: only `Synced` writes, `sync` and `close` sync.
        sync_every: Option<Duration>
    }
    setter! {
        /// Threads for flushes and compactions. Default [`BACKGROUND_THREADS`].
        ///
        /// 0 runs the work on the writing thread, between writes: slow, and deterministic.
        background_threads: usize
    }
    setter! {
        /// Most bytes that flushes, compactions and bulk loads write in a second, together; at least
        /// [`RATE_LIMIT_MIN`]. Default `None`: no limit. Can be changed while the database is open:
        /// [`Db::set_rate_limit`](crate::Db::set_rate_limit).
        ///
        /// Compactions and bulk loads wait, in steps of about a mebibyte. A flush never does, because
        /// writers wait for it, but compactions wait for what it wrote. With less than the writes need,
        /// compactions fall behind, and in the end writers are slowed down. The log is not in it. With
        /// no background threads it has no effect.
        rate_limit: Option<u64>
    }
    setter! {
        /// How tables are read. Default [`ReadMode::Mmap`].
        read_mode: ReadMode
    }
    setter! {
        /// How log records are written. Default [`LogMode::Mapped`].
        log_mode: LogMode
    }
    setter! {
        /// Size of a log segment, in bytes. Default [`LOG_SEGMENT_BYTES`].
        log_segment_bytes: u64
    }
    setter! {
        /// How many bytes of the log are kept for [`Db::changes_since`](crate::Db::changes_since) when
        /// nothing else needs them any more. Default [`CHANGES_BYTES`]: none, and there is no feed.
        ///
        /// Whole segments of [`log_segment_bytes`](Self::log_segment_bytes) are kept, the newest ones
        /// that fit, over any number of openings with this option; each opening begins a segment. Files
        /// of the log are not used again then, which costs writers some of the time that making them takes.
        changes_bytes: u64
    }
    setter! {
        /// When block checksums are verified. Default [`Verify::FirstTouch`].
        verify: Verify
    }
    setter! {
        /// Whether to make a database where there is none. Default true.
        create_if_missing: bool
    }
    setter! {
        /// Whether to refuse a directory that holds a database. Default false.
        error_if_exists: bool
    }
    setter! {
        /// Options of the keyspace `default`.
        default_keyspace: KeyspaceOptions
    }

    /// Registers a merge operator under a name that keyspaces can take:
    /// [`KeyspaceOptions::merge_operator`]. `counter`, `append`, `max` and `set_union` are known
    /// already ([`merge`](crate::merge)).
    ///
    /// Operators are code, and not stored: register them at each open.
    #[must_use]
    pub fn merge_operator(mut self, name: impl Into<String>, operator: impl MergeOperator) -> Self {
        self.merge_operators.register(name.into(), operator);
        self
    }

    /// Tells this listener what the background does, and when writes slow down or stop. Default: none.
    /// With a listener before, this one takes its place.
    #[must_use]
    pub fn listener(mut self, listener: impl Listener) -> Self {
        self.listening = Listening::to(listener);
        self
    }

    /// Registers a compaction filter under a name that keyspaces can take:
    /// [`KeyspaceOptions::compaction_filter`].
    ///
    /// Filters are code, and not stored: register them at each open.
    #[must_use]
    pub fn compaction_filter(
        mut self,
        name: impl Into<String>,
        filter: impl CompactionFilter,
    ) -> Self {
        self.compaction_filters.register(name.into(), filter);
        self
    }

    /// Fails on the first option that is out of range, naming it.
    pub(crate) fn check(&self) -> Result<()> {
        within("memory_bytes", self.memory_bytes, 1 << 16, 1 << 50)?;
        within("background_threads", self.background_threads as u64, 0, 64)?;
        within(
            "log_segment_bytes",
            self.log_segment_bytes,
            4 << 10,
            1 << 31,
        )?;
        within("changes_bytes", self.changes_bytes, 0, 1 << 50)?;
        if self
            .sync_every
            .is_some_and(|every| every < Duration::from_millis(1))
        {
            return Err(Error::invalid("option sync_every is out of range")
                .expected("at least 1 ms", "less"));
        }
        check_rate("rate_limit", self.rate_limit)?;
        self.default_keyspace.check()
    }
}

/// Fails when no limit can be so many bytes a second.
pub(crate) fn check_rate(name: &str, bytes_per_second: Option<u64>) -> Result<()> {
    match bytes_per_second {
        Some(rate) => within(name, rate, RATE_LIMIT_MIN, 1 << 50),
        None => Ok(()),
    }
}

fn within(name: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if least <= value && value <= most {
        return Ok(());
    }
    Err(Error::invalid(format!("option {name} is out of range"))
        .expected(format!("{least} to {most}"), value))
}

/// Options of one write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    pub(crate) durability: Option<Durability>,
    pub(crate) ttl: Option<Duration>,
}

impl WriteOptions {
    /// The database's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How far the write has gone when it is acknowledged. Default [`Options::durability`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// How long a value lives that is put. Default [`KeyspaceOptions::ttl`]; [`Duration::MAX`] and
    /// whatever else ends beyond the year 500,000,000: for ever.
    ///
    /// Counted in milliseconds from the call on. No read that begins later sees it, and compactions give
    /// its space back; a [`Snapshot`](crate::Snapshot) or an iterator goes on to see what it saw. The
    /// database's clock is the wall clock as it was when it was opened, and goes on from there by
    /// itself: setting the wall clock changes nothing before the next open, and then never brings a
    /// value back that a read has found expired (but those of the last second or two before a
    /// crash).
    ///
    /// Only a put takes it. Costs 8 bytes a value, a look at the clock when it is written and one when
    /// it is read.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Fails for what writes no value.
    pub(crate) fn check_no_ttl(&self) -> Result<()> {
        match self.ttl {
            None => Ok(()),
            Some(_) => Err(
                Error::invalid("a ttl is given to what is not a put").advice(
                    "Nothing was written. Give it where the value is: `put_with`, \
                 `WriteBatch::put_with_ttl`, `Transaction::put_with_ttl`.",
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_out_of_range_is_refused_by_name() {
        let error = Options::new().background_threads(65).check().unwrap_err();
        assert!(error.to_string().contains("background_threads"), "{error}");
        let small = KeyspaceOptions::new().block_bytes(300);
        let error = Options::new().default_keyspace(small).check().unwrap_err();
        assert!(error.to_string().contains("block_bytes"), "{error}");
        assert!(Options::new().check().is_ok());
    }
}

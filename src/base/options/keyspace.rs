//! Options of a keyspace: how it is flushed, laid out and compacted.
//!
//! They are stored with it, each by a number of its own (`db::catalog`). Not here: those of the
//! database and of a write (the parent).

use super::{CompactionStyle, Compression, within};
use crate::base::error::{Error, Result};
use std::time::Duration;

/// Default of [`KeyspaceOptions::write_buffer_bytes`]: 64 MiB.
pub const WRITE_BUFFER_BYTES: u64 = 64 << 20;
/// Default of [`KeyspaceOptions::block_bytes`]: 4 KiB.
pub const BLOCK_BYTES: u32 = 4 << 10;
/// Default of [`KeyspaceOptions::table_bytes`]: 64 MiB.
pub const TABLE_BYTES: u64 = 64 << 20;
/// Default of [`KeyspaceOptions::filter_bits_per_key`]: 12.
pub const FILTER_BITS_PER_KEY: u32 = 12;
/// Default of [`KeyspaceOptions::level0_runs`]: 4.
pub const LEVEL0_RUNS: u32 = 4;
/// Default of [`KeyspaceOptions::tier_runs`]: 4.
pub const TIER_RUNS: u32 = 4;
/// Default of [`KeyspaceOptions::size_ratio`]: 8.
pub const SIZE_RATIO: u32 = 8;
/// Default of [`KeyspaceOptions::fifo_bytes`]: 1 GiB.
pub const FIFO_BYTES: u64 = 1 << 30;
/// Default of [`KeyspaceOptions::immutables_max`]: 4.
pub const IMMUTABLES_MAX: u32 = 4;

/// Declares a by-value setter that also remembers that the option was set: its bit comes first. One
/// without a type takes a name.
macro_rules! keyspace_setter {
    ($(#[$doc:meta])* $bit:literal, $name:ident: $type:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self.set |= 1 << $bit;
            self
        }
    };
    ($(#[$doc:meta])* $bit:literal, $name:ident) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, name: impl Into<String>) -> Self {
            self.$name = name.into();
            self.set |= 1 << $bit;
            self
        }
    };
}

/// Options of one keyspace; see each method for its default.
///
/// They are stored with it. Most can change while it is open and in use, by
/// [`Db::keyspace`](crate::Db::keyspace); each method says so.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyspaceOptions {
    pub(crate) write_buffer_bytes: u64,
    pub(crate) immutables_max: u32,
    pub(crate) compression: Vec<Compression>,
    pub(crate) filter_bits_per_key: u32,
    pub(crate) block_bytes: u32,
    pub(crate) table_bytes: u64,
    pub(crate) compaction: CompactionStyle,
    pub(crate) level0_runs: u32,
    pub(crate) tier_runs: u32,
    pub(crate) size_ratio: u32,
    /// Empty: no merges.
    pub(crate) merge_operator: String,
    pub(crate) ttl: Option<Duration>,
    /// Empty: none.
    pub(crate) compaction_filter: String,
    pub(crate) fifo_bytes: u64,
    /// Which options were set by the caller: one bit each, in the order above.
    pub(crate) set: u16,
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        KeyspaceOptions {
            write_buffer_bytes: WRITE_BUFFER_BYTES,
            immutables_max: IMMUTABLES_MAX,
            compression: vec![Compression::None],
            filter_bits_per_key: FILTER_BITS_PER_KEY,
            block_bytes: BLOCK_BYTES,
            table_bytes: TABLE_BYTES,
            compaction: CompactionStyle::default(),
            level0_runs: LEVEL0_RUNS,
            tier_runs: TIER_RUNS,
            size_ratio: SIZE_RATIO,
            merge_operator: String::new(),
            ttl: None,
            compaction_filter: String::new(),
            fifo_bytes: FIFO_BYTES,
            set: 0,
        }
    }
}

impl KeyspaceOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    keyspace_setter! {
        /// Bytes of entries a memtable holds before it is flushed. Default [`WRITE_BUFFER_BYTES`].
        /// Can change while open, from the next memtable on.
        0, write_buffer_bytes: u64
    }
    keyspace_setter! {
        /// Memtables that may wait for their flush while another is filled; when that is full too,
        /// writers wait. Default [`IMMUTABLES_MAX`]. Can change while open.
        1, immutables_max: u32
    }
    keyspace_setter! {
        /// Compression by level, the last entry for all deeper ones. Default: none anywhere. Can
        /// change while open, for tables that are written from then on.
        2, compression: Vec<Compression>
    }
    keyspace_setter! {
        /// Filter bits for each key, 0 for no filter. Default [`FILTER_BITS_PER_KEY`]. Can change
        /// while open, for tables that are written from then on.
        3, filter_bits_per_key: u32
    }
    keyspace_setter! {
        /// Smallest block, in bytes: a power of two from 256 to 65,536. Default [`BLOCK_BYTES`].
        /// Shapes files: fixed when the keyspace is created, and refused if it differs.
        4, block_bytes: u32
    }
    keyspace_setter! {
        /// Size at which compaction starts a new table, in bytes. Default [`TABLE_BYTES`]. Can change
        /// while open, for tables that are written from then on.
        5, table_bytes: u64
    }
    keyspace_setter! {
        /// The shape of the tree. Default [`CompactionStyle::Lazy`]. Can change while open: the next
        /// compactions begin to make the other shape of what is there.
        6, compaction: CompactionStyle
    }
    keyspace_setter! {
        /// Runs in level 0 that call for a compaction. Default [`LEVEL0_RUNS`]. Can change while open.
        7, level0_runs: u32
    }
    keyspace_setter! {
        /// Runs in a level below 0 that call for a compaction (not [`CompactionStyle::Leveled`]).
        /// Default [`TIER_RUNS`]. Can change while open.
        8, tier_runs: u32
    }
    keyspace_setter! {
        /// How much larger each level is than the one above. Default [`SIZE_RATIO`]. Can change while
        /// open.
        9, size_ratio: u32
    }

    keyspace_setter! {
        /// The name of the operator that says what a merge means; needed for
        /// [`Keyspace::merge`](crate::Keyspace::merge). Default: none.
        ///
        /// Shapes what is stored: once given it stays with the keyspace. A keyspace without one can be
        /// given one while it is open.
        10, merge_operator
    }
    keyspace_setter! {
        /// How long a value lives that is put without a [ttl](crate::WriteOptions::ttl) of its own. Default
        /// `None`: for ever. Can change while open, for what is written from then on.
        ///
        /// A keyspace whose values expire has no merges: an operand has no expiry, so what it makes
        /// would stay for ever.
        11, ttl: Option<Duration>
    }
    keyspace_setter! {
        /// The name of the filter that says which values may go when tables are rewritten
        /// ([`filter`](crate::filter)); an empty one for none. Default: none. Can change while open,
        /// from the next compaction on.
        12, compaction_filter
    }
    keyspace_setter! {
        /// So many bytes of tables are kept ([`CompactionStyle::Fifo`] only); what was written first is
        /// forgotten beyond, a sixteenth of it at a time, but never the newest run, which is the last
        /// flush at least. Best many times `write_buffer_bytes`. Default [`FIFO_BYTES`]. Can change while
        /// open.
        ///
        /// What a snapshot, an iterator or a transaction may read is kept until they are gone, so there
        /// may be more meanwhile. What was forgotten is as if it had never been written: a merge of
        /// which the first operands are gone begins with those that are left.
        13, fifo_bytes: u64
    }

    /// The codec for tables of `level`.
    pub(crate) fn compression_at(&self, level: usize) -> Compression {
        let last = self.compression.last().copied().unwrap_or_default();
        self.compression.get(level).copied().unwrap_or(last)
    }

    /// Fails on the first option that is out of range, naming it.
    pub(crate) fn check(&self) -> Result<()> {
        within(
            "write_buffer_bytes",
            self.write_buffer_bytes,
            1 << 10,
            1 << 36,
        )?;
        within("immutables_max", u64::from(self.immutables_max), 1, 64)?;
        within(
            "filter_bits_per_key",
            u64::from(self.filter_bits_per_key),
            0,
            32,
        )?;
        within("block_bytes", u64::from(self.block_bytes), 256, 64 << 10)?;
        if !self.block_bytes.is_power_of_two() {
            return Err(Error::invalid("option block_bytes is out of range")
                .expected("a power of two", self.block_bytes));
        }
        within("table_bytes", self.table_bytes, 1 << 10, 1 << 40)?;
        within("level0_runs", u64::from(self.level0_runs), 1, 64)?;
        within("tier_runs", u64::from(self.tier_runs), 1, 64)?;
        within("size_ratio", u64::from(self.size_ratio), 2, 100)?;
        within("fifo_bytes", self.fifo_bytes, 1 << 10, u64::MAX)?;
        for (what, name) in [
            ("the length of merge_operator", &self.merge_operator),
            ("the length of compaction_filter", &self.compaction_filter),
        ] {
            within(what, name.len() as u64, 0, 255)?;
        }
        if self.ttl.is_some() && !self.merge_operator.is_empty() {
            return Err(
                Error::invalid("options ttl and merge_operator exclude each other")
                    .advice("Give single values a ttl: `WriteOptions::ttl`."),
            );
        }
        for codec in &self.compression {
            if !codec.is_supported() {
                return Err(
                    Error::invalid(format!("compression {codec:?} is not compiled in"))
                        .advice("Build alluvium with the cargo feature of that name."),
                );
            }
        }
        Ok(())
    }
}

//! Newest visible answer from many sorted sources.
//!
//! ```text
//! get       view: memtables, then runs, newest first; the first visible version decides
//! RangeCursor, Iter
//!   Visible   one version a key, no deletions, within bounds, both ways
//!     Merge     every version of every source, sorted
//!       Source    a memtable, a table, or Concat: the tables of a run
//! ```
//!
//! Each layer knows only the `Cursor` trait below it; the one enum [`source::Source`] names what
//! stands at the bottom. A reader owns what it needs: the `Arc<View>` keeps memtables and tables,
//! the [`SnapshotGuard`] keeps the versions that it sees.
//!
//! Invariant of every read: **sources stand newest first** (active memtable, immutables, level 0
//! runs, then level by level), and of one key every version in an earlier source is at least as
//! new as every version in a later one. So a point read ends at the first source that answers,
//! and an error of one source ends the read: what lies behind it may be older than what it hides.
//! Threads: a view is shared by any number of readers; a cursor belongs to one at a time.

mod bounds;
mod concat;
mod counters;
mod explain;
mod get;
mod kept;
mod merge;
mod operands;
mod scan;
mod snapshot;
mod source;
mod view;
mod visible;
mod written;

pub use bounds::Bounds;
pub use concat::{Concat, Parts};
pub use counters::{ReadCounters, ReadCounts};
pub use explain::{GetAnswer, GetPlace, GetReport, GetStep, VersionKind, explain_get};
pub use get::{Lookup, get, get_many, is_written};
pub use merge::Merge;
pub use operands::Operands;
pub use scan::{Iter, RangeCursor};
pub use snapshot::{At, Horizon, SnapshotGuard, SnapshotList};
pub use source::Source;
pub use view::View;
pub use visible::Visible;
pub use written::written_within;

use crate::base::error::{Error, ErrorKind};
use crate::base::types::ValueKind;

/// An entry of a kind that only a later version of alluvium writes decides an answer.
#[cold]
fn unsupported(kind: ValueKind) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("an entry of kind {kind:?} cannot be read by this version"),
    )
    .advice("Open the database with the version of alluvium that wrote it.")
}

#[cfg(test)]
mod tests;

//! Which files make the map, at each moment, and how that fact reaches the disk.
//!
//! - `file_meta` one table: what the manifest says of it, and the open file
//! - `run`, `version` tables in order, levels of runs: what a read or a compaction looks at
//! - `sketch` versions as text, for specifications
//! - `edit` what changes at once, and its bytes
//! - `ledger` what an edit may do
//! - `manifest` the files that hold the edits, and CURRENT
//! - `set` the live set: install, numbers, dead files
//! - `snapshot` the record that tells all of it
//! - `recover` opening a directory
//! - `salvage` what is left of a damaged manifest
//!
//! One manifest serves all keyspaces of a database, and one edit may change many of them. What is
//! published is durable; a version is immutable and keeps its files for as long as somebody holds
//! it. Not here: reading tables, choosing compactions, removing files.

mod edit;
mod file_meta;
pub(crate) mod holdings;
mod ledger;
mod manifest;
mod recover;
mod run;
mod salvage;
mod set;
mod sketch;
mod snapshot;
mod tidy;
#[expect(
    clippy::module_inception,
    reason = "the room is named after what it is about"
)]
mod version;

#[cfg(test)]
mod tests;

pub use edit::{AddedTable, KeyspaceEdit, VersionEdit, recode};
pub use file_meta::{FileMeta, TableEntry};
pub use ledger::{KeyspaceState, NAME_BYTES_MAX, check_name};
pub use manifest::recode_current;
pub use recover::{Found, TableEntries};
pub use run::SortedRun;
pub use salvage::{Rebuild, Remains, find_whole};
pub use set::{FILES_AHEAD, ROLLOVER_BYTES_MIN, ROLLOVER_RATIO, SEQNOS_AHEAD, VersionSet};
pub use version::{LEVELS_MAX, Version};

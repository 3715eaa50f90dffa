//! SKELETON: owned by the fs room.
use crate::base::types::FileId;

/// The name of a file of the database: a number and a kind, never a path (P20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// `LOCK`
    Lock,
    /// `CURRENT`
    Current,
    /// `000007.manifest`
    Manifest(FileId),
    /// `000007.log`
    Log(FileId),
    /// `000007.tbl`
    Table(FileId),
    /// `000007.tmp`
    Temp(FileId),
}
// Display writes the name; `FileName::parse(&str) -> Option<FileName>` reads exactly that back.

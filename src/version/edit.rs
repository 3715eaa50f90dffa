//! Edits: what changes at once, and how that is written.
use super::file_meta::FileMeta;
use crate::base::types::{FileId, KeyspaceId, SeqNo};

/// A table to add: where, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedTable {
    /// Level.
    pub level: u8,
    /// Run within the level: joins the run with this order, or makes it.
    pub order: u64,
    /// The facts.
    pub meta: FileMeta,
    /// This process wrote it just now (not stored).
    pub fresh: bool,
}

/// Changes of one keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceEdit {
    /// Which.
    pub id: KeyspaceId,
    /// It is made by this edit: name, encoded options.
    pub created: Option<(String, Vec<u8>)>,
    /// Its options from now on, encoded.
    pub options: Option<Vec<u8>>,
    /// It is dropped by this edit.
    pub dropped: bool,
    /// Tables added.
    pub added: Vec<AddedTable>,
    /// Tables removed (or moved, when also in `added`): level and number.
    pub removed: Vec<(u8, FileId)>,
    /// Logs below this number hold nothing of this keyspace that its tables do not hold.
    pub log_floor: Option<FileId>,
    /// Highest sequence number that its tables hold; replay skips what is at or below.
    pub flushed_through: Option<SeqNo>,
    /// Commit pin (format only; kept and written back).
    pub commit_pin: Option<SeqNo>,
    /// Hidden ranges of sequence numbers (format only; kept and written back).
    pub hidden: Vec<(SeqNo, SeqNo)>,
}

/// One atomic change of the database's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionEdit {
    /// Keyspaces changed.
    pub keyspaces: Vec<KeyspaceEdit>,
    /// Log segments that exist from now on (registered before their first record, R4).
    pub logs_added: Vec<FileId>,
    /// Log segments that are no longer needed (removed from disk, or recycled, only afterwards).
    pub logs_removed: Vec<FileId>,
}

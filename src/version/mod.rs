//! Which files make the map, at each moment, and how that fact reaches the disk.
//! SKELETON: owned by the version room.

use crate::base::error::Result;
use crate::base::sync::Arc;
use crate::base::types::{FileId, KeyspaceId, SeqNo};
use crate::fs::Fs;
use crate::table::{BirthIdentity, Table, TableContext, TableSummary};

/// What the manifest says of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// The file's number now.
    pub file: FileId,
    /// Who it was at birth.
    pub identity: BirthIdentity,
    /// What it holds.
    pub summary: TableSummary,
}

/// A table of the live set: its facts, and the open table once somebody asked for it.
/// Dropping the last reference of one that an edit removed puts its number on the dead list.
#[derive(Debug)]
pub struct TableEntry(());

impl TableEntry {
    /// The facts.
    #[inline]
    pub fn meta(&self) -> &FileMeta {
        unimplemented!()
    }
    /// The open table; opens it at first use.
    #[inline]
    pub fn table(&self) -> Result<&Arc<Table>> {
        unimplemented!()
    }
}

/// Tables in key order whose user-key ranges do not touch: all versions of a key are in one table.
#[derive(Clone, Debug)]
pub struct SortedRun {
    /// Within a level a larger order is newer.
    pub order: u64,
    /// Ascending. Shared, because most edits leave most runs alone.
    pub tables: Arc<[Arc<TableEntry>]>,
    // the version room adds private search structures (heads)
}

impl SortedRun {
    /// The one table that may hold `key`.
    #[inline]
    pub fn find(&self, _key: &[u8]) -> Option<&Arc<TableEntry>> {
        unimplemented!()
    }
    /// Index of the first table whose largest key is at or after `key` (`tables.len()` if none).
    #[inline]
    pub fn lower_bound(&self, _key: &[u8]) -> usize {
        unimplemented!()
    }
}

/// One moment's files of one keyspace. Level `l` is newer than level `l + 1`; within a level runs
/// stand newest first. Immutable, shared.
#[derive(Clone, Debug, Default)]
pub struct Version {
    /// Never has empty runs; trailing empty levels are cut off.
    pub levels: Vec<Vec<SortedRun>>,
}

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

/// What the manifest knows of a keyspace.
#[derive(Clone, Debug)]
pub struct KeyspaceState {
    /// Number.
    pub id: KeyspaceId,
    /// Name.
    pub name: String,
    /// Encoded options.
    pub options: Vec<u8>,
    /// Its files.
    pub version: Arc<Version>,
    /// See `KeyspaceEdit`.
    pub log_floor: FileId,
    /// See `KeyspaceEdit`.
    pub flushed_through: SeqNo,
}

/// The live set of the database and the manifest that tells it. All methods take `&self`.
#[derive(Debug)]
pub struct VersionSet(());

impl VersionSet {
    /// Makes a new database: draws identity and hash seed, writes the first manifest and CURRENT.
    pub fn create(_fs: &Fs, _context: &Arc<TableContext>) -> Result<VersionSet> {
        unimplemented!()
    }
    /// Reads CURRENT and the manifest, allocates above everything seen (manifest ceilings and
    /// directory), writes a new manifest, switches CURRENT, removes the old manifest (R7, R8).
    /// `Ok(None)`: the directory holds no database.
    pub fn recover(_fs: &Fs, _context: &Arc<TableContext>) -> Result<Option<VersionSet>> {
        unimplemented!()
    }
    /// The read-only half of `recover`: writes nothing.
    pub fn read_only(_fs: &Fs, _context: &Arc<TableContext>) -> Result<Option<VersionSet>> {
        unimplemented!()
    }
    /// The database's identity.
    pub fn database(&self) -> u64 {
        unimplemented!()
    }
    /// The database's seed for the keyed hash.
    pub fn hash_seed(&self) -> u64 {
        unimplemented!()
    }
    /// A number never given before and never given again, also after a crash: ceilings are reserved
    /// in the manifest ahead (P6).
    pub fn allocate_file(&self) -> Result<FileId> {
        unimplemented!()
    }
    /// A keyspace number, never given twice.
    pub fn allocate_keyspace(&self) -> KeyspaceId {
        unimplemented!()
    }
    /// A run order above all others.
    pub fn allocate_order(&self) -> u64 {
        unimplemented!()
    }
    /// Sequence numbers up to this one may be used; at open the first free one lies above.
    pub fn seqno_ceiling(&self) -> SeqNo {
        unimplemented!()
    }
    /// Raises the ceiling in the manifest to at least `to`.
    pub fn raise_seqno_ceiling(&self, _to: SeqNo) -> Result<()> {
        unimplemented!()
    }
    /// Appends the edit, syncs it, and makes it the truth. On any append or sync error a new manifest is
    /// written from memory and switched to (R6); only when that fails too is this an error, and then nothing has changed
    /// in memory and `poisoned()` is set.
    pub fn install(&self, _edit: VersionEdit) -> Result<()> {
        unimplemented!()
    }
    /// One keyspace's state now.
    pub fn keyspace(&self, _id: KeyspaceId) -> Option<KeyspaceState> {
        unimplemented!()
    }
    /// The files of a keyspace now (cheap).
    pub fn version(&self, _id: KeyspaceId) -> Option<Arc<Version>> {
        unimplemented!()
    }
    /// All keyspaces, by number.
    pub fn keyspaces(&self) -> Vec<KeyspaceState> {
        unimplemented!()
    }
    /// Registered log segments, ascending.
    pub fn logs(&self) -> Vec<FileId> {
        unimplemented!()
    }
    /// Tables that nothing can reach any more; each is given once.
    pub fn take_dead(&self) -> Vec<FileId> {
        unimplemented!()
    }
    /// Every table file named by any live version or still referenced, and the manifest's own number.
    pub fn is_live_table(&self, _file: FileId) -> bool {
        unimplemented!()
    }
    /// The manifest in use.
    pub fn manifest(&self) -> FileId {
        unimplemented!()
    }
    /// Bytes the manifest has.
    pub fn manifest_bytes(&self) -> u64 {
        unimplemented!()
    }
}

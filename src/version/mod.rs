//! Which files make the map, at each moment, and how that fact reaches the disk.
//! SKELETON: owned by the version room.

mod edit;
mod file_meta;
mod run;
mod sketch;
mod version;

#[cfg(test)]
mod tests;

pub use edit::{AddedTable, KeyspaceEdit, VersionEdit, recode};
pub use file_meta::{FileMeta, TableEntry};
pub use run::SortedRun;
pub use version::{LEVELS_MAX, Version};

use crate::base::error::Result;
use crate::base::sync::Arc;
use crate::base::types::{FileId, KeyspaceId, SeqNo};
use crate::fs::Fs;
use crate::table::TableContext;

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

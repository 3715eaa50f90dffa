//! The only door to the disk, with what it promises about durability.
//! SKELETON: owned by the fs room.

pub mod name;
pub mod region;

use crate::base::error::Result;
pub use name::FileName;
pub use region::{LogRegion, Region};
use std::path::Path;

/// A directory on the real disk or in the simulator. Clone is cheap.
#[derive(Clone, Debug)]
pub struct Fs(());

/// What [`Fs::list`] finds: any name, ours or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name without the directory.
    pub name: String,
    /// Size in bytes.
    pub len: u64,
}

/// The directory's lock, held until dropped.
#[derive(Debug)]
pub struct DirLock(());

impl Fs {
    /// The real disk, with `root` as the database's directory (need not exist).
    pub fn os(_root: &Path) -> Fs {
        unimplemented!()
    }
    /// The same kind of file system at another directory (checkpoints).
    pub fn at(&self, _root: &Path) -> Fs {
        unimplemented!()
    }
    /// The directory.
    pub fn root(&self) -> &Path {
        unimplemented!()
    }
    /// True when the directory exists.
    pub fn root_exists(&self) -> Result<bool> {
        unimplemented!()
    }
    /// Makes the directory (mode 0700) and missing parents, and syncs the parent.
    pub fn make_root(&self) -> Result<()> {
        unimplemented!()
    }
    /// Removes the (empty) directory.
    pub fn remove_root(&self) -> Result<()> {
        unimplemented!()
    }
    /// Takes the lock file's lock: `Locked` when anyone has it, this process through any alias too.
    pub fn lock(&self) -> Result<DirLock> {
        unimplemented!()
    }
    /// All entries that are regular files (and others, with len 0), sorted by name.
    pub fn list(&self) -> Result<Vec<DirEntry>> {
        unimplemented!()
    }
    /// Makes a file that must not exist (O_EXCL, no-follow, 0600), for writing and reading.
    pub fn create_new(&self, _name: FileName) -> Result<File> {
        unimplemented!()
    }
    /// Opens an existing regular file for reading (no-follow).
    pub fn open_read(&self, _name: FileName) -> Result<File> {
        unimplemented!()
    }
    /// Opens an existing regular file for reading and writing (recycled log segments).
    pub fn open_write(&self, _name: FileName) -> Result<File> {
        unimplemented!()
    }
    /// Renames within the directory, replacing `to`.
    pub fn rename(&self, _from: FileName, _to: FileName) -> Result<()> {
        unimplemented!()
    }
    /// Removes a file; `NotFound` when there is none.
    pub fn remove(&self, _name: FileName) -> Result<()> {
        unimplemented!()
    }
    /// Hard link into another directory, or `Ok(false)` where that cannot be done.
    pub fn link(&self, _name: FileName, _to: &Fs, _to_name: FileName) -> Result<bool> {
        unimplemented!()
    }
    /// Makes directory entries durable.
    pub fn sync_dir(&self) -> Result<()> {
        unimplemented!()
    }
    /// Bytes an ordinary user may still write (bavail, not bfree).
    pub fn free_space(&self) -> Result<u64> {
        unimplemented!()
    }
    /// True when a preallocated file's space is guaranteed (ext4, xfs; the simulator): the
    /// condition for writing the log through a mapping.
    pub fn guarantees_preallocation(&self) -> bool {
        unimplemented!()
    }
    /// A random number, for seeds and identities; seeded in the simulator.
    pub fn random(&self) -> u64 {
        unimplemented!()
    }
}

/// An open file. Calls take `&self`; each is one system call in a loop over short counts and EINTR.
#[derive(Debug)]
pub struct File(());

impl File {
    /// Its name in the directory.
    pub fn name(&self) -> FileName {
        unimplemented!()
    }
    /// Its whole path, for error texts.
    pub fn path(&self) -> &Path {
        unimplemented!()
    }
    /// Size in bytes.
    pub fn len(&self) -> Result<u64> {
        unimplemented!()
    }
    /// Fills `buffer` from `offset`; `Corruption` naming file and offset when the file ends before.
    pub fn read_exact_at(&self, _buffer: &mut [u8], _offset: u64) -> Result<()> {
        unimplemented!()
    }
    /// Writes all of `bytes` at `offset`.
    pub fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> Result<()> {
        unimplemented!()
    }
    /// fdatasync.
    pub fn sync_data(&self) -> Result<()> {
        unimplemented!()
    }
    /// fsync.
    pub fn sync_all(&self) -> Result<()> {
        unimplemented!()
    }
    /// Sets the size.
    pub fn truncate(&self, _len: u64) -> Result<()> {
        unimplemented!()
    }
    /// fallocate to `len` bytes (size extended, zero-filled).
    pub fn preallocate(&self, _len: u64) -> Result<()> {
        unimplemented!()
    }
    /// Maps the first `len` bytes for reading, after checking the file is at least that long.
    pub fn map(&self, _len: u64) -> Result<Region> {
        unimplemented!()
    }
    /// Reads the first `len` bytes into memory behind the same face as `map`.
    pub fn read_region(&self, _len: u64) -> Result<Region> {
        unimplemented!()
    }
    /// Maps the first `len` bytes for writing (log segments only; preallocated before).
    pub fn map_log(&self, _len: u64) -> Result<LogRegion> {
        unimplemented!()
    }
    /// Starts write-back of a range without waiting (sync_file_range); a hint, never durability.
    pub fn start_write_back(&self, _offset: u64, _len: u64) {
        unimplemented!()
    }
}

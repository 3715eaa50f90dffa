//! The only door to the disk, with what it promises about durability.
//!
//! ```text
//! Fs    a directory, on the real disk (disk.rs) or in the simulator (sim/, feature `sim`)
//! File  an open file in it
//! Region, LogRegion  its bytes in memory (region.rs)
//! Env   the clocks of the same machine (env.rs)
//! Clock what expiry is measured by, which never goes back (clock.rs)
//! ```
//!
//! This file is the one place that loops over short counts and EINTR, that checks lengths before
//! mapping, and that turns an `io::Error` into an [`Error`] naming the call and the file. Below
//! it each function is one system call. In a build without the simulator the enums have one
//! variant, so every call is direct.
//!
//! Durability: `File::sync_data` makes a file's bytes and size durable, not its name;
//! `Fs::sync_dir` makes names durable, not bytes. What is covered by neither may be lost, kept or
//! torn at any 512-byte sector by a power loss, in any order. A failed sync says nothing about
//! what is on the disk, and a later good one does not either: callers write the data to a new
//! file. Close errors are not reported, because every caller syncs before it relies on a file.
//!
//! Threads: everything takes `&self` and may be called from any thread. Not here: retries after
//! real errors, buffering, and what the files mean.

mod clock;
mod disk;
mod env;
pub mod name;
#[expect(
    unsafe_code,
    reason = "island: file mappings, stores into a mapped log, and sync_file_range"
)]
pub mod region;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

#[cfg(test)]
mod tests;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::sync::Arc;
pub use clock::Clock;
use disk::{Disk, DiskFile, DiskLock};
pub use env::{Env, Instant, SystemTime};
pub use name::FileName;
pub use region::{LogRegion, Region};
use std::io;
use std::path::{Path, PathBuf};

/// A directory on the real disk or in the simulator. Clone is cheap.
#[derive(Clone, Debug)]
pub struct Fs(Root);

#[derive(Clone, Debug)]
enum Root {
    Os(Disk),
    #[cfg(any(test, feature = "sim"))]
    Sim(sim::SimDir),
}

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
pub struct DirLock(
    #[expect(dead_code, reason = "held for its Drop, which releases the lock")] LockHandle,
);

#[derive(Debug)]
enum LockHandle {
    Os(#[expect(dead_code, reason = "held for its Drop")] DiskLock),
    #[cfg(any(test, feature = "sim"))]
    Sim(#[expect(dead_code, reason = "held for its Drop")] sim::SimLock),
}

/// Runs `$body` with `$inner` bound to whatever is behind the enum.
macro_rules! on {
    ($kind:ident, $value:expr, $inner:ident => $body:expr) => {
        match $value {
            $kind::Os($inner) => $body,
            #[cfg(any(test, feature = "sim"))]
            $kind::Sim($inner) => $body,
        }
    };
}

/// Tells the simulator, in builds that have it, which line of the engine makes the call that
/// follows. The methods below are `track_caller` there and nowhere else.
macro_rules! from_caller {
    () => {
        #[cfg(any(test, feature = "sim"))]
        sim::called_from(std::panic::Location::caller());
    };
}

impl Fs {
    /// The real disk, with `root` as the database's directory (need not exist).
    pub fn os(root: &Path) -> Fs {
        Fs(Root::Os(Disk::new(root)))
    }

    /// A directory of a simulated machine.
    #[cfg(any(test, feature = "sim"))]
    pub fn sim(sim: &sim::SimFs, root: &Path) -> Fs {
        Fs(Root::Sim(sim::SimDir::new(sim, root)))
    }

    /// The same kind of file system at another directory (checkpoints).
    pub fn at(&self, root: &Path) -> Fs {
        Fs(match &self.0 {
            Root::Os(_) => Root::Os(Disk::new(root)),
            #[cfg(any(test, feature = "sim"))]
            Root::Sim(dir) => Root::Sim(dir.at(root)),
        })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        on!(Root, &self.0, dir => dir.root())
    }

    /// The whole path of a file in the directory, for error texts.
    pub fn path(&self, name: FileName) -> PathBuf {
        self.root().join(name.to_string())
    }

    /// True when the directory exists.
    ///
    /// # Errors
    /// `Io` when something that is no directory stands there, or it cannot be looked at.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn root_exists(&self) -> Result<bool> {
        from_caller!();
        on!(Root, &self.0, dir => dir.root_exists()).map_err(|e| failed("stat", self.root(), e))
    }

    /// Makes the directory (mode 0700) and missing parents, and syncs the parent of each.
    /// Nothing to make is no error.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn make_root(&self) -> Result<()> {
        from_caller!();
        on!(Root, &self.0, dir => dir.make_root()).map_err(|e| failed("mkdir", self.root(), e))
    }

    /// Removes the directory, which must be empty but for LOCK: the only way LOCK ever goes.
    /// The caller holds the lock. `NotFound` when there is no directory.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn remove_root(&self) -> Result<()> {
        from_caller!();
        on!(Root, &self.0, dir => dir.remove_root()).map_err(|e| failed("rmdir", self.root(), e))
    }

    /// Takes the lock file's lock: `Locked` when anyone has it, this process through any alias too.
    ///
    /// LOCK is made when missing and never deleted. A refused call does not weaken the holder's
    /// lock (P21).
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn lock(&self) -> Result<DirLock> {
        from_caller!();
        let lock = on!(Root, &self.0, dir => dir.lock().map(|l| l.map(LockHandle::from)));
        let path = self.path(FileName::Lock);
        match lock.map_err(|e| failed("lock", &path, e))? {
            Some(lock) => Ok(DirLock(lock)),
            None => Err(Error::new(ErrorKind::Locked, "the database is open elsewhere")
                .at(path)
                .advice("Close it there first. A database has one opener at a time, in this process or another.")),
        }
    }

    /// All entries that are regular files (and others, with len 0), sorted by name.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn list(&self) -> Result<Vec<DirEntry>> {
        from_caller!();
        let entries = on!(Root, &self.0, dir => dir.list());
        let entries = entries.map_err(|e| failed("readdir", self.root(), e))?;
        Ok(entries
            .into_iter()
            .map(|(name, len)| DirEntry { name, len })
            .collect())
    }

    /// Makes a file that must not exist (O_EXCL, no-follow, 0600), for writing and reading.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn create_new(&self, name: FileName) -> Result<File> {
        from_caller!();
        let handle = on!(Root, &self.0, dir => dir.create_new(name).map(Handle::from));
        self.opened(name, "create", handle)
    }

    /// Opens an existing regular file for reading (no-follow).
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn open_read(&self, name: FileName) -> Result<File> {
        from_caller!();
        let handle = on!(Root, &self.0, dir => dir.open_read(name).map(Handle::from));
        self.opened(name, "open", handle)
    }

    /// Opens an existing regular file for reading and writing (recycled log segments).
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn open_write(&self, name: FileName) -> Result<File> {
        from_caller!();
        let handle = on!(Root, &self.0, dir => dir.open_write(name).map(Handle::from));
        self.opened(name, "open", handle)
    }

    fn opened(&self, name: FileName, call: &str, handle: io::Result<Handle>) -> Result<File> {
        let path = self.path(name);
        match handle {
            Ok(handle) => Ok(File {
                name,
                path: Arc::from(path),
                handle,
            }),
            Err(e) => Err(failed(call, &path, e)),
        }
    }

    /// Renames within the directory, replacing `to`.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn rename(&self, from: FileName, to: FileName) -> Result<()> {
        from_caller!();
        on!(Root, &self.0, dir => dir.rename(from, to))
            .map_err(|e| failed("rename", &self.path(from), e))
    }

    /// Removes a file; `NotFound` when there is none.
    ///
    /// # Panics
    /// For LOCK, which only [`Fs::remove_root`] removes (P21).
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn remove(&self, name: FileName) -> Result<()> {
        from_caller!();
        assert!(name != FileName::Lock, "P21: LOCK is never deleted");
        on!(Root, &self.0, dir => dir.remove(name))
            .map_err(|e| failed("unlink", &self.path(name), e))
    }

    /// Hard link into another directory, or `Ok(false)` where that cannot be done.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn link(&self, name: FileName, to: &Fs, to_name: FileName) -> Result<bool> {
        from_caller!();
        let linked = match (&self.0, &to.0) {
            (Root::Os(from), Root::Os(to)) => from.link(name, to, to_name),
            #[cfg(any(test, feature = "sim"))]
            (Root::Sim(from), Root::Sim(to)) => from.link(name, to, to_name),
            #[cfg(any(test, feature = "sim"))]
            _ => Ok(false),
        };
        linked.map_err(|e| failed("link", &to.path(to_name), e))
    }

    /// Gives a file a second name that is not ours, in the same directory: `000007.tbl.damaged`, or
    /// with a number behind it. A copy where links cannot be made. Returns the name.
    ///
    /// The name is durable after [`Fs::sync_dir`], the bytes when they were.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn keep_aside(&self, name: FileName) -> Result<String> {
        from_caller!();
        on!(Root, &self.0, dir => dir.keep_aside(name))
            .map_err(|e| failed("link", &self.path(name), e))
    }

    /// Makes directory entries durable.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn sync_dir(&self) -> Result<()> {
        from_caller!();
        on!(Root, &self.0, dir => dir.sync_dir()).map_err(|e| failed("fsync", self.root(), e))
    }

    /// Bytes an ordinary user may still write (bavail, not bfree).
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn free_space(&self) -> Result<u64> {
        from_caller!();
        on!(Root, &self.0, dir => dir.free_space()).map_err(|e| failed("statvfs", self.root(), e))
    }

    /// True when a preallocated file's space is guaranteed (ext4, xfs; the simulator): the
    /// condition for writing the log through a mapping.
    pub fn guarantees_preallocation(&self) -> bool {
        on!(Root, &self.0, dir => dir.guarantees_preallocation())
    }

    /// The clock of the machine.
    pub fn env(&self) -> Env {
        match &self.0 {
            Root::Os(_) => Env::os(),
            #[cfg(any(test, feature = "sim"))]
            Root::Sim(dir) => Env::sim(&dir.sim),
        }
    }

    /// A random number, for seeds and identities; seeded in the simulator.
    pub fn random(&self) -> u64 {
        on!(Root, &self.0, dir => dir.random())
    }
}

/// An open file. Calls take `&self`; each is one system call in a loop over short counts and EINTR.
#[derive(Debug)]
pub struct File {
    name: FileName,
    path: Arc<Path>,
    handle: Handle,
}

#[derive(Debug)]
enum Handle {
    Os(DiskFile),
    #[cfg(any(test, feature = "sim"))]
    Sim(sim::SimFile),
}

impl From<DiskFile> for Handle {
    fn from(file: DiskFile) -> Handle {
        Handle::Os(file)
    }
}

#[cfg(any(test, feature = "sim"))]
impl From<sim::SimFile> for Handle {
    fn from(file: sim::SimFile) -> Handle {
        Handle::Sim(file)
    }
}

#[cfg(any(test, feature = "sim"))]
impl From<sim::SimLock> for LockHandle {
    fn from(lock: sim::SimLock) -> LockHandle {
        LockHandle::Sim(lock)
    }
}

impl From<DiskLock> for LockHandle {
    fn from(lock: DiskLock) -> LockHandle {
        LockHandle::Os(lock)
    }
}

impl File {
    /// Its name in the directory.
    pub fn name(&self) -> FileName {
        self.name
    }

    /// Its whole path, for error texts.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn len(&self) -> Result<u64> {
        from_caller!();
        on!(Handle, &self.handle, file => file.len()).map_err(|e| self.failed("fstat", e))
    }

    /// True when it has no bytes.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`; `Corruption` naming file and offset when the file ends before.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        from_caller!();
        let wanted = buffer.len();
        let mut done = 0;
        while done < wanted {
            let at = offset.saturating_add(done as u64);
            let rest = &mut buffer[done..];
            match retried(|| on!(Handle, &self.handle, file => file.read_at(rest, at))) {
                Ok(0) => return Err(self.too_short(wanted, done).offset_at(offset)),
                Ok(n) => done += n,
                Err(e) => return Err(self.failed("read", e).offset_at(at)),
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` at `offset`. After an error any part of them may have been written.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        from_caller!();
        let mut done = 0;
        while done < bytes.len() {
            let at = offset.saturating_add(done as u64);
            let rest = &bytes[done..];
            match retried(|| on!(Handle, &self.handle, file => file.write_at(rest, at))) {
                Ok(0) => {
                    let zero = io::ErrorKind::WriteZero.into();
                    return Err(self.failed("write", zero).offset_at(at));
                }
                Ok(n) => done += n,
                Err(e) => return Err(self.failed("write", e).offset_at(at)),
            }
        }
        Ok(())
    }

    /// fdatasync: makes the bytes and the size durable, not the name.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn sync_data(&self) -> Result<()> {
        from_caller!();
        on!(Handle, &self.handle, file => file.sync_data()).map_err(|e| self.failed("fdatasync", e))
    }

    /// fsync: as [`File::sync_data`], and the times and the mode too.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn sync_all(&self) -> Result<()> {
        from_caller!();
        on!(Handle, &self.handle, file => file.sync_all()).map_err(|e| self.failed("fsync", e))
    }

    /// Sets the size. Never of a mapped file.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn truncate(&self, len: u64) -> Result<()> {
        from_caller!();
        retried(|| on!(Handle, &self.handle, file => file.truncate(len)))
            .map_err(|e| self.failed("ftruncate", e))
    }

    /// fallocate to `len` bytes (size extended, zero-filled; a longer file stays as it is).
    ///
    /// # Errors
    /// `Unsupported` where the file system cannot; the caller goes on without.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn preallocate(&self, len: u64) -> Result<()> {
        from_caller!();
        if len == 0 {
            return Ok(());
        }
        retried(|| on!(Handle, &self.handle, file => file.preallocate(len))).map_err(|e| {
            let unsupported = e.kind() == io::ErrorKind::Unsupported;
            let error = self.failed("fallocate", e);
            if unsupported {
                error.with_kind(ErrorKind::Unsupported)
            } else {
                error
            }
        })
    }

    /// Maps the first `len` bytes for reading, after checking the file is at least that long.
    ///
    /// The file must be finished: bytes under a [`Region`] never change (R10).
    ///
    /// # Errors
    /// `Corruption` when the file is shorter than `len`.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn map(&self, len: u64) -> Result<Region> {
        from_caller!();
        let len = self.at_least(len)?;
        if len == 0 || cfg!(miri) {
            return self.read_region(len as u64);
        }
        on!(Handle, &self.handle, file => file.map(len, &self.path))
            .map_err(|e| self.failed("mmap", e))
    }

    /// Reads the first `len` bytes into memory behind the same face as `map`.
    ///
    /// # Errors
    /// `Corruption` when the file is shorter than `len`; nothing has been allocated then.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn read_region(&self, len: u64) -> Result<Region> {
        let mut bytes = vec![0; self.at_least(len)?];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(Region::heap(Arc::new(bytes), Some(&self.path)))
    }

    /// Maps the first `len` bytes for writing (log segments only; preallocated before, on a file
    /// system that [guarantees](Fs::guarantees_preallocation) it).
    ///
    /// # Errors
    /// `Corruption` when the file is shorter than `len`; `Io` where mapping is refused, and the
    /// caller writes by calls instead.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn map_log(&self, len: u64) -> Result<LogRegion> {
        from_caller!();
        let len = self.at_least(len)?;
        on!(Handle, &self.handle, file => file.map_log(len)).map_err(|e| self.failed("mmap", e))
    }

    /// Starts write-back of a range without waiting (sync_file_range); a hint, never durability.
    /// Nothing where the system has no such call.
    pub fn start_write_back(&self, offset: u64, len: u64) {
        on!(Handle, &self.handle, file => file.start_write_back(offset, len));
    }

    /// `len` as a size in memory, once the file is known to have that many bytes.
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    fn at_least(&self, len: u64) -> Result<usize> {
        let found = self.len()?;
        if len <= found {
            usize::try_from(len).map_err(|_| {
                Error::new(ErrorKind::Unsupported, "the file is too large to map").at(&self.path)
            })
        } else {
            Err(Error::corruption("the file is too short")
                .at(&self.path)
                .expected(format!("at least {len} bytes"), format!("{found} bytes")))
        }
    }

    #[cold]
    fn too_short(&self, wanted: usize, found: usize) -> Error {
        Error::corruption("the file ends too early")
            .at(&self.path)
            .expected(format!("{wanted} bytes"), format!("{found} bytes"))
    }

    #[cold]
    fn failed(&self, call: &str, source: io::Error) -> Error {
        failed(call, &self.path, source)
    }
}

/// Repeats a call that a signal interrupted.
fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cold]
fn failed(call: &str, file: &Path, source: io::Error) -> Error {
    let errno = rustix::io::Errno::from_io_error(&source);
    let out_of_files = matches!(
        errno,
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
    );
    let error = Error::io(call, file, source);
    if out_of_files {
        error.advice("Raise the limit of open files (ulimit -n), or close other files.")
    } else {
        error
    }
}

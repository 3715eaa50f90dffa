//! The real disk: each function is one system call, as far as there is one.
//!
//! The only file of the crate that names `std::fs`. No policy, no retry, no buffering: `mod.rs`
//! above loops over short counts and EINTR and says which call on which file failed.
//!
//! Safety of names (P20): files are opened no-follow and must be regular; new ones are made
//! exclusively with mode 0600, directories with 0700, whatever the umask says.
//!
//! The lock (P21) belongs to the open file description of LOCK, so that closing any other
//! descriptor cannot release it. Beside it, the process remembers the inodes it has locked, and
//! refuses a second open through any alias before it touches the file.
//!
//! Threads: everything may be called from any thread. Unix only; what only Linux has falls back.

use super::name::FileName;
use super::region::{self, LogRegion, Region};
use crate::base::sync::Arc;
use crate::base::sync::plain::Mutex;
use rustix::fs::OFlags;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// One directory of the real disk.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    root: Arc<Path>,
    guarantees_preallocation: Arc<OnceLock<bool>>,
}

impl Disk {
    pub(super) fn new(root: &Path) -> Disk {
        Disk {
            root: Arc::from(root),
            guarantees_preallocation: Arc::default(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: FileName) -> PathBuf {
        self.root.join(name.to_string())
    }

    pub(super) fn root_exists(&self) -> io::Result<bool> {
        match fs::metadata(&self.root) {
            Ok(metadata) if metadata.is_dir() => Ok(true),
            Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(super) fn make_root(&self) -> io::Result<()> {
        if self.root_exists()? {
            // It may be the leftover of a run that died before it synced the parent, so sync that
            // now; where the parent is not ours to open, its entry is not ours to care for.
            return match sync_dir_at(parent_of(&self.root)) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                other => other,
            };
        }
        let missing: Vec<&Path> = self
            .root
            .ancestors()
            .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
            .collect();
        for dir in missing.into_iter().rev() {
            match DirBuilder::new().mode(DIR_MODE).create(dir) {
                Ok(()) => fs::set_permissions(dir, Permissions::from_mode(DIR_MODE))?,
                // Somebody else was faster; the lock decides who goes on.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
            sync_dir_at(parent_of(dir))?;
        }
        Ok(())
    }

    pub(super) fn remove_root(&self) -> io::Result<()> {
        // Look before LOCK goes: a directory that stays must keep it.
        let lock = FileName::Lock.to_string();
        if self.list()?.iter().any(|(name, _)| *name != lock) {
            return Err(rustix::io::Errno::NOTEMPTY.into());
        }
        match fs::remove_file(self.path(FileName::Lock)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::remove_dir(&self.root)
    }

    pub(super) fn lock(&self) -> io::Result<Option<DiskLock>> {
        DiskLock::take(&self.path(FileName::Lock))
    }

    pub(super) fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let len = match entry.metadata() {
                Ok(metadata) if metadata.is_file() => metadata.len(),
                Ok(_) => 0,
                // Removed by another thread since the directory was read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            entries.push((entry.file_name().to_string_lossy().into_owned(), len));
        }
        entries.sort();
        Ok(entries)
    }

    pub(super) fn create_new(&self, name: FileName) -> io::Result<DiskFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = open(&self.path(name), &options)?;
        // The umask can only have taken bits away; put them back.
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        Ok(DiskFile(file))
    }

    pub(super) fn open_read(&self, name: FileName) -> io::Result<DiskFile> {
        open(&self.path(name), OpenOptions::new().read(true)).map(DiskFile)
    }

    pub(super) fn open_write(&self, name: FileName) -> io::Result<DiskFile> {
        open(&self.path(name), OpenOptions::new().read(true).write(true)).map(DiskFile)
    }

    pub(super) fn rename(&self, from: FileName, to: FileName) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    pub(super) fn remove(&self, name: FileName) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    pub(super) fn link(&self, name: FileName, to: &Disk, to_name: FileName) -> io::Result<bool> {
        match fs::hard_link(self.path(name), to.path(to_name)) {
            Ok(()) => Ok(true),
            Err(e) if is_no_place_for_links(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(super) fn keep_aside(&self, name: FileName) -> io::Result<String> {
        for n in 1u32.. {
            let aside = name.aside(n);
            let (from, to) = (self.path(name), self.root.join(&aside));
            match fs::hard_link(&from, &to) {
                Ok(()) => return Ok(aside),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    // An earlier repair that was cut off may have been here.
                    let (old, new) = (fs::symlink_metadata(&to)?, fs::symlink_metadata(&from)?);
                    if inode_of(&old) == inode_of(&new) {
                        return Ok(aside);
                    }
                }
                Err(e) if is_no_place_for_links(&e) => {
                    let mut options = OpenOptions::new();
                    options.write(true).create_new(true);
                    let mut copy = match open(&to, &options) {
                        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                        other => other?,
                    };
                    io::copy(&mut open(&from, OpenOptions::new().read(true))?, &mut copy)?;
                    copy.sync_all()?;
                    return Ok(aside);
                }
                Err(e) => return Err(e),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(super) fn sync_dir(&self) -> io::Result<()> {
        sync_dir_at(&self.root)
    }

    pub(super) fn free_space(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&*self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    pub(super) fn guarantees_preallocation(&self) -> bool {
        *self.guarantees_preallocation.get_or_init(|| {
            let existing = self.root.ancestors().find(|dir| dir.exists());
            guarantees_preallocation_at(existing.unwrap_or(Path::new(".")))
        })
    }

    pub(super) fn random(&self) -> u64 {
        // A fresh pair of SipHash keys from the system's random source, and a hash under them.
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(std::process::id())
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn guarantees_preallocation_at(dir: &Path) -> bool {
    const EXT4: rustix::fs::FsWord = 0xef53;
    const XFS: rustix::fs::FsWord = 0x5846_5342;
    // Copy-on-write file systems write each block anew, so what was allocated is no promise.
    rustix::fs::statfs(dir).is_ok_and(|stat| [EXT4, XFS].contains(&stat.f_type))
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn guarantees_preallocation_at(_dir: &Path) -> bool {
    false
}

/// Another device, a file system without links, too many of them, or a kernel that protects files
/// of other owners: the caller copies instead.
fn is_no_place_for_links(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::CrossesDevices
            | io::ErrorKind::Unsupported
            | io::ErrorKind::TooManyLinks
            | io::ErrorKind::PermissionDenied
    )
}

fn parent_of(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => dir,
    }
}

fn sync_dir_at(dir: &Path) -> io::Result<()> {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECTORY.bits() as i32)
        .open(dir)?
        .sync_all()
}

/// Opens without following a link at the end of the path, and refuses what is no regular file.
/// Close-on-exec is what std always asks for; non-blocking keeps a planted FIFO from hanging us.
fn open(path: &Path, options: &OpenOptions) -> io::Result<fs::File> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = options
        .clone()
        .mode(FILE_MODE)
        .custom_flags(flags.bits() as i32)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

/// An open file of the real disk.
#[derive(Debug)]
pub(super) struct DiskFile(fs::File);

impl DiskFile {
    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    pub(super) fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    pub(super) fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    #[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
    pub(super) fn preallocate(&self, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        fallocate(&self.0, FallocateFlags::empty(), 0, len).map_err(io::Error::from)
    }

    #[cfg(not(all(any(target_os = "linux", target_os = "android"), not(miri))))]
    pub(super) fn preallocate(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn map(&self, len: usize, path: &Path) -> io::Result<Region> {
        if cfg!(miri) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Region::map(&self.0, len, path)
    }

    pub(super) fn map_log(&self, len: usize) -> io::Result<LogRegion> {
        if cfg!(miri) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        LogRegion::map(&self.0, len)
    }

    pub(super) fn start_write_back(&self, offset: u64, len: u64) {
        region::start_write_back(&self.0, offset, len);
    }
}

/// Device and inode of every LOCK that this process holds.
static HELD: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// The locked LOCK file. Dropping it releases the lock.
#[derive(Debug)]
pub(super) struct DiskLock {
    file: Option<fs::File>,
    inode: (u64, u64),
}

impl DiskLock {
    /// `None` when anyone has the lock.
    fn take(path: &Path) -> io::Result<Option<DiskLock>> {
        // Held over the whole of it, so that two threads do not both find the inode free.
        let mut held = HELD.lock();
        match fs::symlink_metadata(path) {
            Ok(metadata) if held.contains(&inode_of(&metadata)) => return Ok(None),
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let file = open(path, options.read(true).write(true).create(true))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(e)) => return Err(e),
        }
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        let inode = inode_of(&file.metadata()?);
        // The holder before us may have removed the directory, and LOCK with it, between our open
        // and our lock: then this lock excludes nobody.
        if inode_of(&fs::symlink_metadata(path)?) != inode {
            return Ok(None);
        }
        held.insert(inode);
        Ok(Some(DiskLock {
            file: Some(file),
            inode,
        }))
    }
}

impl Drop for DiskLock {
    fn drop(&mut self) {
        let mut held = HELD.lock();
        self.file.take(); // closing it releases the lock
        held.remove(&self.inode);
    }
}

fn inode_of(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// A directory for one test, removed at its end.
#[cfg(test)]
pub(super) struct Scratch(PathBuf);

#[cfg(test)]
pub(super) fn scratch(test: &str) -> Scratch {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed); // only uniqueness matters: pairs with nothing
    let name = format!("alluvium-{test}-{}-{n}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    fs::create_dir_all(&dir).expect("the temporary directory is writable");
    fs::set_permissions(&dir, Permissions::from_mode(DIR_MODE)).expect("it is ours");
    Scratch(dir)
}

#[cfg(test)]
impl Scratch {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
impl Drop for Scratch {
    fn drop(&mut self) {
        // A failing test may have left anything; the next run does not depend on it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;

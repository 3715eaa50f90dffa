//! The simulated file system: a machine with a disk, for crash and fault tests.
//!
//! ```text
//! SimFs   one running machine: medium (disk and page cache), calls, faults, locks
//!   kill()     -> SimFs    the process died: the page cache is as it was, the locks are gone
//!   images(..) -> SimFs*   the power went: disks that may be left
//! ```
//!
//! What is simulated is the fault model: `sync_data` makes a file's bytes and size durable and
//! not its name, `sync_dir` makes names durable and not bytes, and everything else may be lost,
//! kept or torn at any sector in any order (image.rs). Stores through a mapped log are writes
//! like any other. Directories themselves are durable when made. Faults come from a schedule
//! (fault.rs). There is no clock, no thread and no chance but the seed's.
//!
//! Misuse panics, because it is a bug that a real disk would hide: writing to a mapped file that
//! is no log, truncating any mapped file.
//!
//! Threads: one mutex over the machine; calls from several threads are as on a real disk.

mod fault;
mod image;
mod log;
#[cfg(test)]
mod tests;

pub use fault::{CallKind, Fault, FaultRule, FileClass};
pub use image::{Family, Image, ImageId, Images};

use super::name::FileName;
use super::region::{LogRegion, Region};
use crate::base::sync::{Arc, Mutex, MutexGuard};
use log::{Call, DirOp, Inode, Medium, Watcher, World, next_random};
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};

/// A simulated machine whose disk can lose power at any call. Clones are the same machine.
///
/// Give [`Fs::sim`](super::Fs::sim) to what is under test; then take the disks that a power loss
/// at this moment might leave, and start again on each of them.
///
/// ```
/// use alluvium::fs::{FileName, Fs, sim::{Family, SimFs}};
/// use alluvium::base::types::FileId;
/// use std::path::Path;
///
/// let (sim, root, name) = (SimFs::new(7), Path::new("/db"), FileName::Table(FileId(1)));
/// let fs = Fs::sim(&sim, root);
/// fs.make_root()?;
/// fs.create_new(name)?.write_all_at(b"bytes", 0)?;
/// for image in sim.images(&Family::ALL) {
///     let fs = Fs::sim(&image.sim, root);
///     // Nothing was synced: the file may be gone, empty, torn or whole, but nothing else.
///     if let Ok(file) = fs.open_read(name) {
///         assert!(file.len()? <= 5, "{}", image.id);
///     }
/// }
/// # Ok::<(), alluvium::base::error::Error>(())
/// ```
#[derive(Clone)]
pub struct SimFs(Arc<Mutex<World>>);

impl SimFs {
    /// A machine with an empty disk. The seed decides `Fs::random` and the sampled images.
    pub fn new(seed: u64) -> SimFs {
        SimFs::on(Medium {
            seed,
            ..Medium::default()
        })
    }

    fn on(medium: Medium) -> SimFs {
        SimFs(Arc::new(Mutex::new(World::new(medium))))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock()
    }

    /// The machine after the death of the process: every byte written is there, synced or not,
    /// and no lock is held. Faults and the crash point are gone, and calls count from 0 again.
    pub fn kill(&self) -> SimFs {
        SimFs::on(self.world().medium.fork())
    }

    /// The machines that a power loss at this moment may leave, by the rules of `families`,
    /// each different disk once. Built one at a time: cheap to cut short.
    pub fn images(&self, families: &[Family]) -> Images {
        Images::new(&self.world(), families)
    }

    /// The image with this id, on a machine of the same seed and history as that which gave it.
    pub fn image(&self, id: ImageId) -> Option<SimFs> {
        image::image(&self.world(), id)
    }

    /// How many images the family has at this moment: `n` of their ids is below it. Some of them
    /// may be the same disk.
    pub fn image_count(&self, family: Family) -> usize {
        image::image_count(&self.world(), family)
    }

    /// Digest of all names and bytes as they are read now: equal for equal disks.
    pub fn digest(&self) -> u128 {
        image::digest(&self.world().medium)
    }

    /// How many mutating calls were made, failed ones among them. The next has this index.
    pub fn call_count(&self) -> u64 {
        self.world().next_call()
    }

    /// Before each mutating call from now on, `watch` gets its index and a copy of this machine,
    /// on which calls are counted from that index: the images of every call come from one run.
    ///
    /// The machine stands still meanwhile, so `watch` may do anything but call on it. The copy
    /// has no faults, crash point, locks or watcher.
    pub fn on_call(&self, mut watch: impl FnMut(u64, SimFs) + Send + 'static) {
        let watch = move |index, medium| {
            let copy = SimFs::on(medium);
            copy.world().base = index;
            watch(index, copy);
        };
        self.world().watcher = Some(Watcher(Box::new(watch)));
    }

    /// From the mutating call with this index on, every call fails with "crashed" and changes
    /// nothing, so that whatever runs on the machine can be dropped. Take the images then.
    pub fn crash_at(&self, call: u64) {
        self.world().crash_at = Some(call);
    }

    /// True once the crash point was reached.
    pub fn is_crashed(&self) -> bool {
        self.world().crashed
    }

    /// Adds a rule to the fault schedule.
    pub fn fail(&self, rule: FaultRule) {
        self.world().faults.rules.push(rule);
    }

    /// Removes all rules: the disk works again.
    pub fn heal(&self) {
        self.world().faults.rules.clear();
    }

    /// How often a rule has struck: 0 tells that a sweep is beyond the last call.
    pub fn faults_hit(&self) -> u64 {
        self.world().faults.hits
    }

    /// The mutating calls so far, one a line, each after its index.
    pub fn script(&self) -> String {
        let world = self.world();
        let lines = (world.base..).zip(&world.calls);
        lines.map(|(i, call)| format!("{i} {call}\n")).collect()
    }

    /// The bytes of any file as they are read now; `None` when there is none.
    pub fn bytes(&self, root: &Path, name: &str) -> Option<Vec<u8>> {
        let medium = &mut self.world().medium;
        let inode = medium.find(&normal(root), name).ok()?;
        Some(medium.file(inode).now.to_vec())
    }

    /// Puts a file there, durably and behind the back of whoever runs: bit rot, foreign files.
    /// An open file of that name keeps its old bytes. Makes the directory too.
    pub fn plant(&self, root: &Path, name: &str, bytes: &[u8]) {
        let medium = &mut self.world().medium;
        let inode = medium.new_file(bytes.to_vec());
        let dir = medium.dirs.entry(normal(root)).or_default();
        dir.durable.insert(name.to_owned(), inode);
        dir.now.insert(name.to_owned(), inode);
    }
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFs({} calls)", self.call_count())
    }
}

/// One spelling for each directory: `a/./b/` is `a/b`.
fn normal(root: &Path) -> PathBuf {
    root.components()
        .filter(|part| *part != Component::CurDir)
        .collect()
}

/// One directory of a simulated machine.
#[derive(Clone, Debug)]
pub(super) struct SimDir {
    sim: SimFs,
    root: Arc<Path>,
}

impl SimDir {
    pub(super) fn new(sim: &SimFs, root: &Path) -> SimDir {
        SimDir {
            sim: sim.clone(),
            root: Arc::from(normal(root)),
        }
    }

    /// Another directory of the same machine.
    pub(super) fn at(&self, root: &Path) -> SimDir {
        SimDir::new(&self.sim, root)
    }

    fn enter(&self, kind: CallKind, name: Option<FileName>) -> io::Result<MutexGuard<'_, World>> {
        let call = Call {
            kind,
            root: Arc::clone(&self.root),
            name,
            offset: 0,
            len: 0,
        };
        let mut world = self.sim.world();
        world.enter(call)?;
        Ok(world)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn root_exists(&self) -> io::Result<bool> {
        let world = self.enter(CallKind::Stat, None)?;
        Ok(world.medium.dirs.contains_key(&*self.root))
    }

    pub(super) fn make_root(&self) -> io::Result<()> {
        let mut world = self.enter(CallKind::MakeRoot, None)?;
        world
            .medium
            .dirs
            .entry(self.root.to_path_buf())
            .or_default();
        Ok(())
    }

    pub(super) fn remove_root(&self) -> io::Result<()> {
        let mut world = self.enter(CallKind::RemoveRoot, None)?;
        let lock = FileName::Lock.to_string();
        if world.medium.dir(&self.root)?.now.keys().any(|n| *n != lock) {
            return Err(Errno::NOTEMPTY.into());
        }
        world.medium.dirs.remove(&*self.root);
        Ok(())
    }

    pub(super) fn lock(&self) -> io::Result<Option<SimLock>> {
        let name = FileName::Lock;
        let exists = {
            let mut world = self.enter(CallKind::Lock, Some(name))?;
            if world.locks.contains(&*self.root) {
                return Ok(None);
            }
            world.medium.dir(&self.root)?.now.contains_key("LOCK")
        };
        if !exists {
            match self.create_new(name) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        let fresh = self.sim.world().locks.insert(self.root.to_path_buf());
        Ok(fresh.then(|| SimLock(self.clone())))
    }

    pub(super) fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut world = self.enter(CallKind::List, None)?;
        let medium = &mut world.medium;
        let names = medium.dir(&self.root)?.now.clone();
        let entry = |(name, inode)| (name, medium.file(inode).now.len() as u64);
        Ok(names.into_iter().map(entry).collect())
    }

    pub(super) fn create_new(&self, name: FileName) -> io::Result<SimFile> {
        let mut world = self.enter(CallKind::Create, Some(name))?;
        let medium = &mut world.medium;
        let text = name.to_string();
        if medium.dir(&self.root)?.now.contains_key(&text) {
            return Err(Errno::EXIST.into());
        }
        let inode = medium.new_file(Vec::new());
        medium.change_dir(&self.root, DirOp::Link { name: text, inode })?;
        Ok(self.open(medium, name, inode, true))
    }

    pub(super) fn open_read(&self, name: FileName) -> io::Result<SimFile> {
        self.open_existing(name, false)
    }

    pub(super) fn open_write(&self, name: FileName) -> io::Result<SimFile> {
        self.open_existing(name, true)
    }

    fn open_existing(&self, name: FileName, writable: bool) -> io::Result<SimFile> {
        let mut world = self.enter(CallKind::Open, Some(name))?;
        let inode = world.medium.find(&self.root, &name.to_string())?;
        Ok(self.open(&mut world.medium, name, inode, writable))
    }

    fn open(&self, medium: &mut Medium, name: FileName, inode: Inode, writable: bool) -> SimFile {
        medium.file(inode).handles += 1;
        SimFile {
            dir: self.clone(),
            name,
            inode,
            writable,
        }
    }

    pub(super) fn rename(&self, from: FileName, to: FileName) -> io::Result<()> {
        let mut world = self.enter(CallKind::Rename, Some(from))?;
        let medium = &mut world.medium;
        let (from, to) = (from.to_string(), to.to_string());
        let inode = medium.find(&self.root, &from)?;
        if medium.find(&self.root, &to).is_ok_and(|old| old == inode) {
            return Ok(()); // two names of one file: POSIX says that both stay
        }
        medium.change_dir(&self.root, DirOp::Rename { from, to, inode })
    }

    pub(super) fn remove(&self, name: FileName) -> io::Result<()> {
        let mut world = self.enter(CallKind::Remove, Some(name))?;
        let name = name.to_string();
        let inode = world.medium.find(&self.root, &name)?;
        let unlink = DirOp::Unlink { name, inode };
        world.medium.change_dir(&self.root, unlink)
    }

    pub(super) fn link(&self, name: FileName, to: &SimDir, to_name: FileName) -> io::Result<bool> {
        if !Arc::ptr_eq(&self.sim.0, &to.sim.0) {
            return Ok(false); // another machine is another device
        }
        let mut world = to.enter(CallKind::Link, Some(to_name))?;
        let medium = &mut world.medium;
        let inode = medium.find(&self.root, &name.to_string())?;
        let name = to_name.to_string();
        if medium.dir(&to.root)?.now.contains_key(&name) {
            return Err(Errno::EXIST.into());
        }
        medium.change_dir(&to.root, DirOp::Link { name, inode })?;
        Ok(true)
    }

    pub(super) fn sync_dir(&self) -> io::Result<()> {
        let mut world = self.enter(CallKind::SyncDir, None)?;
        world.medium.sync_dir(&self.root)
    }

    pub(super) fn free_space(&self) -> io::Result<u64> {
        drop(self.enter(CallKind::Stat, None)?);
        Ok(1 << 40) // a full disk is a rule of the schedule
    }

    pub(super) fn guarantees_preallocation(&self) -> bool {
        true
    }

    pub(super) fn random(&self) -> u64 {
        next_random(&mut self.sim.world().random)
    }
}

/// The lock of a simulated directory. It belongs to its machine: a successor does not have it.
#[derive(Debug)]
pub(super) struct SimLock(SimDir);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.sim.world().locks.remove(&*self.0.root);
    }
}

/// An open file of a simulated machine.
#[derive(Debug)]
pub(super) struct SimFile {
    dir: SimDir,
    name: FileName,
    inode: Inode,
    writable: bool,
}

impl SimFile {
    fn enter(
        &self,
        kind: CallKind,
        offset: u64,
        len: u64,
    ) -> io::Result<(MutexGuard<'_, World>, Option<Fault>)> {
        let call = Call {
            kind,
            root: Arc::clone(&self.dir.root),
            name: Some(self.name),
            offset,
            len,
        };
        let mut world = self.dir.sim.world();
        let fault = world.enter(call)?;
        Ok((world, fault))
    }

    /// Fails, with the errno that the call has for it, when the file was opened for reading.
    fn check_writable(&self, errno: Errno) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(errno.into())
        }
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        let (mut world, _) = self.enter(CallKind::Stat, 0, 0)?;
        Ok(world.medium.file(self.inode).now.len() as u64)
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut world, fault) = self.enter(CallKind::Read, offset, buffer.len() as u64)?;
        let now = &world.medium.file(self.inode).now;
        let start = usize::try_from(offset).unwrap_or(now.len()).min(now.len());
        let count = short(fault, buffer.len().min(now.len() - start));
        buffer[..count].copy_from_slice(&now[start..start + count]);
        Ok(count)
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.check_writable(Errno::BADF)?;
        let (mut world, fault) = self.enter(CallKind::Write, offset, bytes.len() as u64)?;
        let mapped = Arc::strong_count(&world.medium.file(self.inode).mapped) > 1;
        let is_log = matches!(self.name, FileName::Log(_));
        assert!(
            is_log || !mapped,
            "R10: a write to {}, which is mapped and no log",
            self.name
        );
        let count = short(fault, bytes.len());
        world.medium.write(self.inode, offset, &bytes[..count])?;
        Ok(count)
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        let (mut world, fault) = self.enter(CallKind::Sync, 0, 0)?;
        let Some(fault) = fault else {
            world.medium.sync(self.inode);
            return Ok(());
        };
        let file = world.medium.file(self.inode);
        file.pending.clear();
        if fault == Fault::SyncCleanOld {
            file.now = Arc::clone(&file.durable);
        }
        Err(fault.error().expect("every failure of a sync has an errno"))
    }

    pub(super) fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    pub(super) fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable(Errno::INVAL)?;
        let (mut world, _) = self.enter(CallKind::Resize, 0, len)?;
        let file = world.medium.file(self.inode);
        let mapped = Arc::strong_count(&file.mapped) > 1 || Arc::strong_count(&file.mapped_log) > 1;
        assert!(!mapped, "R10: {} is truncated while mapped", self.name);
        world.medium.resize(self.inode, len)
    }

    pub(super) fn preallocate(&self, len: u64) -> io::Result<()> {
        self.check_writable(Errno::BADF)?;
        let (mut world, _) = self.enter(CallKind::Resize, 0, len)?;
        if (world.medium.file(self.inode).now.len() as u64) < len {
            world.medium.resize(self.inode, len)?;
        }
        Ok(())
    }

    pub(super) fn map(&self, len: usize, path: &Path) -> io::Result<Region> {
        let (mut world, _) = self.enter(CallKind::Map, 0, len as u64)?;
        let file = world.medium.file(self.inode);
        let bytes = if file.now.len() == len {
            Arc::clone(&file.now)
        } else {
            Arc::new(file.now[..len].to_vec())
        };
        let watch = Watch {
            dir: self.dir.clone(),
            name: self.name,
            _mapped: Arc::clone(&file.mapped),
        };
        Ok(Region::heap(bytes, Some(path)).watched(watch))
    }

    pub(super) fn map_log(&self, len: usize) -> io::Result<LogRegion> {
        self.check_writable(Errno::ACCESS)?;
        let (mut world, _) = self.enter(CallKind::Map, 0, len as u64)?;
        let mapped = Arc::clone(&world.medium.file(self.inode).mapped_log);
        drop(world);
        let file = self.dir.open(
            &mut self.dir.sim.world().medium,
            self.name,
            self.inode,
            true,
        );
        Ok(LogRegion::simulated(SimMapping {
            file,
            len,
            _mapped: mapped,
        }))
    }

    pub(super) fn start_write_back(&self, _offset: u64, _len: u64) {
        // Any pending sector may have reached the disk at any time: the images know that already.
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.dir.sim.world().medium.file(self.inode).handles -= 1;
    }
}

fn short(fault: Option<Fault>, count: usize) -> usize {
    if fault == Some(Fault::Short) {
        count.div_ceil(2)
    } else {
        count
    }
}

/// The mapping of a simulated log: stores become pending writes.
#[derive(Debug)]
pub(super) struct SimMapping {
    file: SimFile,
    len: usize,
    _mapped: Arc<()>,
}

impl SimMapping {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn store(&self, offset: u64, parts: &[&[u8]]) {
        let bytes = parts.concat();
        let fits = offset
            .checked_add(bytes.len() as u64)
            .is_some_and(|end| end <= self.len as u64);
        assert!(fits, "a store beyond the end of a mapped log");
        // A store has no result: behind the crash point it is lost without a word.
        if let Ok((mut world, _)) = self.file.enter(CallKind::Store, offset, bytes.len() as u64) {
            let stored = world.medium.write(self.file.inode, offset, &bytes);
            stored.expect("a mapped log is within the size limit of files");
        }
    }
}

/// What a simulated region tells the schedule, and that the file is mapped.
pub(super) struct Watch {
    dir: SimDir,
    name: FileName,
    _mapped: Arc<()>,
}

impl Watch {
    /// A block is about to be read: a would-be SIGBUS comes back as an error.
    pub(super) fn touch(&self) -> io::Result<()> {
        let mut world = self.dir.sim.world();
        let class = FileClass::of(Some(self.name));
        match world.faults.strike(CallKind::Touch, class) {
            Some(fault) => fault.error().map_or(Ok(()), Err),
            None => Ok(()),
        }
    }
}

//! The simulated disk: what is durable, what is pending, and the log of calls.
//!
//! ```text
//! Medium  files: inode -> durable bytes | pending ops in order | bytes as read now
//!         dirs:  path  -> durable names | pending ops in order | names as seen now
//! World   one running machine: its medium, calls made, faults to come, locks held
//! ```
//!
//! Invariant: `now` is what the page cache shows, and durable plus all pending ops, in order, is
//! the same unless a failed sync broke it. Bytes are behind `Arc`, so a fork copies nothing until
//! one side writes.
//!
//! Every op carries its place in the one order of all ops, which images are enumerated by.

use super::super::name::FileName;
use super::fault::{CallKind, Fault, FileClass, Schedule};
use crate::base::sync::Arc;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The unit that a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// Larger files are refused with EFBIG: a test that makes one has lost its way.
const FILE_BYTES_MAX: u64 = 1 << 30;

pub(super) type Inode = u64;

/// One change of a file's bytes or size that no sync has covered.
#[derive(Clone, Debug)]
pub(super) enum FileOp {
    /// Torn at any sector. A write beyond the end is preceded by the `Resize` that it implies.
    Write {
        offset: usize,
        bytes: Arc<[u8]>,
    },
    Resize {
        len: usize,
        shrinks: bool,
    },
}

/// One change of a directory that no sync has covered.
#[derive(Clone, Debug)]
pub(super) enum DirOp {
    Link {
        name: String,
        inode: Inode,
    },
    Unlink {
        name: String,
        inode: Inode,
    },
    /// Atomic: both names change, or none.
    Rename {
        from: String,
        to: String,
        inode: Inode,
    },
}

impl DirOp {
    fn inode(&self) -> Inode {
        match self {
            DirOp::Link { inode, .. }
            | DirOp::Unlink { inode, .. }
            | DirOp::Rename { inode, .. } => *inode,
        }
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<String, Inode>) {
        match self {
            DirOp::Link { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            DirOp::Unlink { name, inode } => unlink(names, name, *inode),
            DirOp::Rename { from, to, inode } => {
                unlink(names, from, *inode);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

/// Removes the name if it still is this file's: an op that was lost before may have left another.
fn unlink(names: &mut BTreeMap<String, Inode>, name: &str, inode: Inode) {
    if names.get(name) == Some(&inode) {
        names.remove(name);
    }
}

/// Bytes to which any subset of ops may be applied in order. Data beyond the size is kept aside,
/// because the size that shows it may be the one that a later op sets.
pub(super) struct Shadow {
    bytes: Vec<u8>,
    len: usize,
}

impl Shadow {
    pub(super) fn of(durable: &[u8]) -> Shadow {
        Shadow {
            bytes: durable.to_vec(),
            len: durable.len(),
        }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
    }

    pub(super) fn resize(&mut self, len: usize, shrinks: bool) {
        if shrinks {
            self.bytes.truncate(len);
        }
        self.len = len;
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.len, 0);
        self.bytes
    }
}

#[derive(Debug, Default)]
pub(super) struct FileState {
    pub(super) durable: Arc<Vec<u8>>,
    pub(super) now: Arc<Vec<u8>>,
    pub(super) pending: Vec<(u64, FileOp)>,
    /// Open files; a file without names and handles is gone.
    pub(super) handles: usize,
    /// Cloned into every region of the file: more than one owner means it is mapped.
    pub(super) mapped: Arc<()>,
    /// The same for log regions.
    pub(super) mapped_log: Arc<()>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct DirState {
    pub(super) durable: BTreeMap<String, Inode>,
    pub(super) now: BTreeMap<String, Inode>,
    pub(super) pending: Vec<(u64, DirOp)>,
}

/// The disk and the page cache: what survives the death of a process.
#[derive(Debug, Default)]
pub(super) struct Medium {
    pub(super) files: BTreeMap<Inode, FileState>,
    pub(super) dirs: BTreeMap<PathBuf, DirState>,
    pub(super) inodes: Inode,
    pub(super) order: u64,
    pub(super) seed: u64,
}

impl Medium {
    /// The same content for another machine: nothing is open or mapped there.
    pub(super) fn fork(&self) -> Medium {
        let file = |f: &FileState| FileState {
            durable: Arc::clone(&f.durable),
            now: Arc::clone(&f.now),
            pending: f.pending.clone(),
            ..FileState::default()
        };
        Medium {
            files: self.files.iter().map(|(i, f)| (*i, file(f))).collect(),
            dirs: self.dirs.clone(),
            ..*self
        }
    }

    pub(super) fn dir(&mut self, root: &Path) -> io::Result<&mut DirState> {
        self.dirs.get_mut(root).ok_or_else(|| Errno::NOENT.into())
    }

    pub(super) fn find(&mut self, root: &Path, name: &str) -> io::Result<Inode> {
        let inode = self.dir(root)?.now.get(name).copied();
        inode.ok_or_else(|| Errno::NOENT.into())
    }

    pub(super) fn file(&mut self, inode: Inode) -> &mut FileState {
        let file = self.files.get_mut(&inode);
        file.expect("an inode lives as long as a name or a handle of it")
    }

    pub(super) fn new_file(&mut self, bytes: Vec<u8>) -> Inode {
        self.inodes += 1;
        let bytes = Arc::new(bytes);
        let file = FileState {
            durable: Arc::clone(&bytes),
            now: bytes,
            ..FileState::default()
        };
        self.files.insert(self.inodes, file);
        self.inodes
    }

    pub(super) fn change_dir(&mut self, root: &Path, op: DirOp) -> io::Result<()> {
        self.order += 1;
        let order = self.order;
        let dir = self.dir(root)?;
        op.apply(&mut dir.now);
        dir.pending.push((order, op));
        Ok(())
    }

    pub(super) fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.saturating_add(bytes.len() as u64);
        if FILE_BYTES_MAX < end {
            return Err(Errno::FBIG.into());
        }
        let (offset, end) = (offset as usize, end as usize);
        if self.file(inode).now.len() < end {
            self.resize(inode, end as u64)?;
        }
        self.order += 1;
        let order = self.order;
        let file = self.file(inode);
        Arc::make_mut(&mut file.now)[offset..end].copy_from_slice(bytes);
        let bytes = Arc::from(bytes);
        file.pending.push((order, FileOp::Write { offset, bytes }));
        Ok(())
    }

    pub(super) fn resize(&mut self, inode: Inode, len: u64) -> io::Result<()> {
        if FILE_BYTES_MAX < len {
            return Err(Errno::FBIG.into());
        }
        let len = len as usize;
        self.order += 1;
        let order = self.order;
        let file = self.file(inode);
        if file.now.len() != len {
            let shrinks = len < file.now.len();
            Arc::make_mut(&mut file.now).resize(len, 0);
            file.pending.push((order, FileOp::Resize { len, shrinks }));
        }
        Ok(())
    }

    /// Makes the file's pending ops durable, in place.
    pub(super) fn sync(&mut self, inode: Inode) {
        let file = self.file(inode);
        if file.pending.is_empty() {
            return;
        }
        let durable = std::mem::take(Arc::make_mut(&mut file.durable));
        let mut shadow = Shadow {
            len: durable.len(),
            bytes: durable,
        };
        for (_, op) in file.pending.drain(..) {
            match op {
                FileOp::Write { offset, bytes } => shadow.write(offset, &bytes),
                FileOp::Resize { len, shrinks } => shadow.resize(len, shrinks),
            }
        }
        file.durable = Arc::new(shadow.finish());
    }

    pub(super) fn sync_dir(&mut self, root: &Path) -> io::Result<()> {
        let dir = self.dir(root)?;
        for (_, op) in dir.pending.drain(..) {
            op.apply(&mut dir.durable);
        }
        self.forget_unreachable();
        Ok(())
    }

    /// Drops files that no name, pending op or handle can bring back.
    fn forget_unreachable(&mut self) {
        let mut reachable: BTreeSet<Inode> = BTreeSet::new();
        for dir in self.dirs.values() {
            reachable.extend(dir.durable.values().chain(dir.now.values()));
            reachable.extend(dir.pending.iter().map(|(_, op)| op.inode()));
        }
        self.files
            .retain(|inode, file| file.handles > 0 || reachable.contains(inode));
    }
}

/// One call that changed something, or failed to.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) kind: CallKind,
    pub(super) root: Arc<Path>,
    pub(super) name: Option<FileName>,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.root.display())?;
        if let Some(name) = self.name {
            write!(f, "/{name}")?;
        }
        match self.kind {
            CallKind::Write | CallKind::Store => write!(f, " {}+{}", self.offset, self.len),
            CallKind::Resize => write!(f, " to {}", self.len),
            _ => Ok(()),
        }
    }
}

/// Who is told of each mutating call before it happens.
pub(super) struct Watcher(pub(super) Box<dyn FnMut(u64, Medium) + Send>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

/// One running machine.
#[derive(Debug)]
pub(super) struct World {
    pub(super) medium: Medium,
    /// Calls made before this machine was split off another.
    pub(super) base: u64,
    pub(super) calls: Vec<Call>,
    pub(super) watcher: Option<Watcher>,
    pub(super) crash_at: Option<u64>,
    pub(super) crashed: bool,
    pub(super) faults: Schedule,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) random: u64,
}

impl World {
    pub(super) fn new(medium: Medium) -> World {
        World {
            random: medium.seed,
            medium,
            base: 0,
            calls: Vec::new(),
            watcher: None,
            crash_at: None,
            crashed: false,
            faults: Schedule::default(),
            locks: BTreeSet::new(),
        }
    }

    /// The index of the next mutating call.
    pub(super) fn next_call(&self) -> u64 {
        self.base + self.calls.len() as u64
    }

    /// Every call passes here first: it gets its index, crashes, fails by the schedule, or goes on
    /// with a fault that it has to carry out itself.
    pub(super) fn enter(&mut self, call: Call) -> io::Result<Option<Fault>> {
        let (kind, class) = (call.kind, FileClass::of(call.name));
        if kind.mutates() && !self.crashed {
            self.crashed = self.crash_at == Some(self.next_call());
        }
        if self.crashed {
            return Err(io::Error::other("crashed"));
        }
        if kind.mutates() {
            let index = self.next_call();
            if let Some(Watcher(watch)) = &mut self.watcher {
                watch(index, self.medium.fork());
            }
            self.calls.push(call);
        }
        match self.faults.strike(kind, class) {
            Some(fault @ (Fault::Short | Fault::SyncCleanNew | Fault::SyncCleanOld)) => {
                Ok(Some(fault))
            }
            Some(fault) => Err(fault.error().expect("only a short count has no errno")),
            None => Ok(None),
        }
    }
}

/// The next number of a seeded sequence (SplitMix64).
pub(super) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

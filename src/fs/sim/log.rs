//! The simulated disk: what is durable, and the log of what is pending.
//!
//! ```text
//! Medium  files: inode -> durable bytes | pending ops in order | bytes as read now
//!         dirs:  path  -> durable names | pending ops in order | names as seen now
//! ```
//!
//! Invariant: `now` is what the page cache shows, and durable plus all pending ops, in order, is
//! the same unless a failed sync broke it. Bytes are behind `Arc`, so a fork copies nothing until
//! one side writes.
//!
//! Every op carries its place in the one order of all ops, which images are enumerated by.

use super::super::name::FileName;
use super::clock::SimClock;
use super::fault::FileClass;
use super::misuse::{self, UsedNames};
use super::plan::Profile;
use crate::base::sync::Arc;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;

/// The unit that a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// Space is given out in units of this size.
pub(super) const BLOCK_BYTES: u64 = 4096;

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
        /// The op before it is the `Resize` that it implies.
        extends: bool,
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
        name: Arc<str>,
        inode: Inode,
    },
    Unlink {
        name: Arc<str>,
        inode: Inode,
    },
    /// Atomic: both names change, or none.
    Rename {
        from: Arc<str>,
        to: Arc<str>,
        inode: Inode,
    },
}

impl DirOp {
    pub(super) fn inode(&self) -> Inode {
        match self {
            DirOp::Link { inode, .. }
            | DirOp::Unlink { inode, .. }
            | DirOp::Rename { inode, .. } => *inode,
        }
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<Arc<str>, Inode>) {
        match self {
            DirOp::Link { name, inode } => {
                names.insert(Arc::clone(name), *inode);
            }
            DirOp::Unlink { name, inode } => unlink(names, name, *inode),
            DirOp::Rename { from, to, inode } => {
                unlink(names, from, *inode);
                names.insert(Arc::clone(to), *inode);
            }
        }
    }
}

/// Removes the name if it still is this file's: an op that was lost before may have left another.
fn unlink(names: &mut BTreeMap<Arc<str>, Inode>, name: &str, inode: Inode) {
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
        if bytes.is_empty() {
            return;
        }
        if self.bytes.len() < end {
            grow(&mut self.bytes, end.max(self.len));
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
        self.bytes.truncate(self.len);
        grow(&mut self.bytes, self.len);
        self.bytes
    }
}

/// Adds zeros. A new log segment of 64 MiB costs nothing until it is written: fresh zeros come from
/// the system untouched.
fn grow(bytes: &mut Vec<u8>, len: usize) {
    if bytes.is_empty() {
        *bytes = vec![0; len];
    } else {
        bytes.resize(len, 0);
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
    /// Ranges of `now` that came with a size and that no write has covered.
    pub(super) unwritten: Vec<Range<usize>>,
    /// A sync has lied, and the next one tells.
    pub(super) lied: bool,
}

impl FileState {
    pub(super) fn durable(bytes: Arc<Vec<u8>>) -> FileState {
        FileState {
            durable: Arc::clone(&bytes),
            now: bytes,
            ..FileState::default()
        }
    }

    /// Whole blocks, as file systems give space out.
    pub(super) fn blocks(&self) -> u64 {
        (self.now.len() as u64).div_ceil(BLOCK_BYTES)
    }

    pub(super) fn is_mapped(&self) -> bool {
        Arc::strong_count(&self.mapped) > 1 || Arc::strong_count(&self.mapped_log) > 1
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct DirState {
    pub(super) durable: BTreeMap<Arc<str>, Inode>,
    pub(super) now: BTreeMap<Arc<str>, Inode>,
    pub(super) pending: Vec<(u64, DirOp)>,
    pub(super) used: UsedNames,
}

impl DirState {
    pub(super) fn durable(names: BTreeMap<Arc<str>, Inode>, used: UsedNames) -> DirState {
        DirState {
            used,
            durable: names.clone(),
            now: names,
            ..DirState::default()
        }
    }
}

/// The disk and the page cache: what survives the death of a process.
#[derive(Debug, Default)]
pub(super) struct Medium {
    pub(super) files: BTreeMap<Inode, FileState>,
    pub(super) dirs: BTreeMap<Arc<Path>, DirState>,
    pub(super) inodes: Inode,
    pub(super) order: u64,
    pub(super) seed: u64,
    pub(super) profile: Profile,
    /// As NFS and old file systems: no `fallocate`.
    pub(super) no_preallocation: bool,
    pub(super) clock: SimClock,
    /// The last removed file of each class, and when: its blocks may come back where a file grows
    /// later.
    pub(super) removed: BTreeMap<FileClass, (u64, Arc<Vec<u8>>)>,
}

impl Medium {
    /// The same content for another machine: nothing is open or mapped there.
    pub(super) fn fork(&self) -> Medium {
        let file = |f: &FileState| FileState {
            durable: Arc::clone(&f.durable),
            now: Arc::clone(&f.now),
            pending: f.pending.clone(),
            unwritten: f.unwritten.clone(),
            ..FileState::default()
        };
        Medium {
            files: self.files.iter().map(|(i, f)| (*i, file(f))).collect(),
            dirs: self.dirs.clone(),
            removed: self.removed.clone(),
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
        let file = FileState::durable(Arc::new(bytes));
        self.files.insert(self.inodes, file);
        self.inodes
    }

    pub(super) fn change_dir(&mut self, root: &Path, op: DirOp) -> io::Result<()> {
        self.order += 1;
        let order = self.order;
        let removed = match &op {
            DirOp::Link { .. } => None,
            DirOp::Unlink { name, .. } | DirOp::Rename { to: name, .. } => Some(name),
        };
        if let Some(name) = removed
            && let Ok(inode) = self.find(root, name)
            && !self.file(inode).now.is_empty()
        {
            let class = FileClass::of(FileName::parse(name));
            let bytes = Arc::clone(&self.file(inode).now);
            self.removed.insert(class, (order, bytes));
        }
        let dir = self.dir(root)?;
        misuse::names_change(dir, &op);
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
        let extends = self.file(inode).now.len() < end;
        if extends {
            self.resize(inode, end as u64)?;
        }
        self.order += 1;
        let order = self.order;
        let file = self.file(inode);
        misuse::written(&mut file.unwritten, offset..end);
        Arc::make_mut(&mut file.now)[offset..end].copy_from_slice(bytes);
        let write = FileOp::Write {
            offset,
            bytes: Arc::from(bytes),
            extends,
        };
        file.pending.push((order, write));
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
            if shrinks {
                misuse::written(&mut file.unwritten, len..usize::MAX);
            } else {
                file.unwritten.push(file.now.len()..len);
            }
            let now = Arc::make_mut(&mut file.now);
            now.truncate(len);
            grow(now, len);
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
                FileOp::Write { offset, bytes, .. } => shadow.write(offset, &bytes),
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
        misuse::names_synced(dir);
        self.forget_unreachable();
        Ok(())
    }

    /// Blocks in use: of files that have a name, or are open or mapped without one.
    pub(super) fn blocks(&self) -> u64 {
        let named: BTreeSet<Inode> = self
            .dirs
            .values()
            .flat_map(|dir| dir.now.values())
            .copied()
            .collect();
        let used = self
            .files
            .iter()
            .filter(|(inode, file)| file.handles > 0 || file.is_mapped() || named.contains(inode));
        used.map(|(_, file)| file.blocks()).sum()
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

/// The next number of a seeded sequence (SplitMix64).
pub(super) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

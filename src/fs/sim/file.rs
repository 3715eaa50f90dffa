//! Open files of a simulated machine, and the mappings of them.
//!
//! Faults that are more than an error are carried out here: short counts, and the ways in which a
//! sync can fail.

use super::super::name::FileName;
use super::super::region::{LogRegion, Region};
use super::coverage::{CallSite, caller};
use super::dir::SimDir;
use super::fault::{CallKind, Fault, FileClass};
use super::log::Inode;
use super::misuse;
use super::world::{Call, World};
use crate::base::sync::{Arc, MutexGuard};
use rustix::io::Errno;
use std::io;
use std::ops::Range;
use std::panic::Location;
use std::path::Path;

/// An open file of a simulated machine.
#[derive(Debug)]
pub(in crate::fs) struct SimFile {
    pub(super) dir: SimDir,
    pub(super) name: FileName,
    pub(super) inode: Inode,
    pub(super) writable: bool,
}

impl SimFile {
    fn enter(
        &self,
        kind: CallKind,
        offset: u64,
        len: u64,
    ) -> io::Result<(MutexGuard<'_, World>, Option<Fault>)> {
        self.enter_from(caller(), kind, offset, len)
    }

    fn enter_from(
        &self,
        line: &'static Location<'static>,
        kind: CallKind,
        offset: u64,
        len: u64,
    ) -> io::Result<(MutexGuard<'_, World>, Option<Fault>)> {
        let call = Call {
            kind,
            root: Arc::clone(&self.dir.root),
            name: Some(self.name),
            to: None,
            offset,
            len,
            line,
            fault: None,
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

    pub(in crate::fs) fn len(&self) -> io::Result<u64> {
        let (mut world, _) = self.enter(CallKind::Stat, 0, 0)?;
        Ok(world.medium.file(self.inode).now.len() as u64)
    }

    pub(in crate::fs) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut world, fault) = self.enter(CallKind::Read, offset, buffer.len() as u64)?;
        let file = world.medium.file(self.inode);
        let now = &file.now;
        let start = usize::try_from(offset).unwrap_or(now.len()).min(now.len());
        let count = short(fault, buffer.len().min(now.len() - start));
        misuse::bytes_read(file, self.name, start..start + count);
        buffer[..count].copy_from_slice(&now[start..start + count]);
        Ok(count)
    }

    pub(in crate::fs) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.check_writable(Errno::BADF)?;
        self.dir.sim.take_time(bytes.len() as u64);
        let (mut world, fault) = self.enter(CallKind::Write, offset, bytes.len() as u64)?;
        misuse::bytes_change(world.medium.file(self.inode), self.name);
        if fault == Some(Fault::WriteZero) || bytes.is_empty() {
            return Ok(0);
        }
        let count = short(fault, bytes.len());
        let end = offset.saturating_add(count as u64);
        let end = world.room(self.inode, offset.saturating_add(1), end, caller())?;
        let count = (end - offset) as usize;
        world.medium.write(self.inode, offset, &bytes[..count])?;
        Ok(count)
    }

    pub(in crate::fs) fn sync_data(&self) -> io::Result<()> {
        let (mut world, fault) = self.enter(CallKind::Sync, 0, 0)?;
        let idle = world.medium.file(self.inode).pending.is_empty();
        world.synced(idle && fault.is_none());
        let file = world.medium.file(self.inode);
        let lied = std::mem::take(&mut file.lied);
        match fault {
            None => world.medium.sync(self.inode),
            Some(fault) => {
                file.pending.clear();
                match fault {
                    Fault::SyncCleanOld => {
                        file.now = Arc::clone(&file.durable);
                        file.unwritten.clear();
                    }
                    Fault::SyncLate => file.lied = true,
                    _ => {}
                }
                if let Some(error) = fault.error() {
                    return Err(error);
                }
            }
        }
        if lied {
            world.struck(caller(), Fault::SyncLate);
            return Err(Errno::IO.into());
        }
        Ok(())
    }

    pub(in crate::fs) fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    pub(in crate::fs) fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable(Errno::INVAL)?;
        let (mut world, _) = self.enter(CallKind::Resize, 0, len)?;
        misuse::size_changes(world.medium.file(self.inode), self.name);
        world.room(self.inode, len, len, caller())?;
        world.medium.resize(self.inode, len)
    }

    pub(in crate::fs) fn preallocate(&self, len: u64) -> io::Result<()> {
        self.check_writable(Errno::BADF)?;
        let (mut world, _) = self.enter(CallKind::Resize, 0, len)?;
        if world.medium.no_preallocation {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let file = world.medium.file(self.inode);
        if (file.now.len() as u64) < len {
            misuse::size_changes(file, self.name);
            world.room(self.inode, len, len, caller())?;
            world.medium.resize(self.inode, len)?;
        }
        Ok(())
    }

    pub(in crate::fs) fn map(&self, len: usize, path: &Path) -> io::Result<Region> {
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
            inode: self.inode,
            _mapped: Arc::clone(&file.mapped),
        };
        Ok(Region::heap(bytes, Some(path)).watched(watch))
    }

    pub(in crate::fs) fn map_log(&self, len: usize) -> io::Result<LogRegion> {
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

    pub(in crate::fs) fn start_write_back(&self, _offset: u64, _len: u64) {
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
pub(in crate::fs) struct SimMapping {
    file: SimFile,
    len: usize,
    _mapped: Arc<()>,
}

impl SimMapping {
    pub(in crate::fs) fn len(&self) -> usize {
        self.len
    }

    pub(in crate::fs) fn store(&self, line: &'static Location<'static>, offset: u64, bytes: &[u8]) {
        let fits = offset
            .checked_add(bytes.len() as u64)
            .is_some_and(|end| end <= self.len as u64);
        assert!(fits, "a store beyond the end of a mapped log");
        // A store has no result: behind the crash point it is lost without a word.
        let len = bytes.len() as u64;
        if let Ok((mut world, _)) = self.file.enter_from(line, CallKind::Store, offset, len) {
            misuse::bytes_change(world.medium.file(self.file.inode), self.file.name);
            let stored = world.medium.write(self.file.inode, offset, bytes);
            stored.expect("a mapped log is within the size limit of files");
        }
    }
}

/// What a simulated region tells the schedule, and that the file is mapped.
pub(in crate::fs) struct Watch {
    dir: SimDir,
    name: FileName,
    inode: Inode,
    _mapped: Arc<()>,
}

impl Watch {
    /// A block is about to be read: a would-be SIGBUS comes back as an error.
    pub(in crate::fs) fn touch(
        &self,
        line: &'static Location<'static>,
        range: Range<usize>,
    ) -> io::Result<()> {
        let mut world = self.dir.sim.world();
        if let Some(file) = world.medium.files.get(&self.inode) {
            misuse::bytes_read(file, self.name, range);
        }
        let class = FileClass::of(Some(self.name));
        let site = CallSite::new(line, CallKind::Touch, class);
        let fault = world.faults.strike(&site).map(|strike| strike.fault);
        world.sites.called(line, CallKind::Touch, class, fault);
        fault.and_then(Fault::error).map_or(Ok(()), Err)
    }
}

//! Directories of a simulated machine: names, the lock, and what makes names durable.

use super::super::name::FileName;
use super::coverage::caller;
use super::fault::CallKind;
use super::file::SimFile;
use super::log::{DirOp, Inode, Medium, next_random};
use super::world::{Call, World};
use super::{SimFs, normal};
use crate::base::sync::{Arc, MutexGuard};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// One directory of a simulated machine.
#[derive(Clone, Debug)]
pub(in crate::fs) struct SimDir {
    pub(in crate::fs) sim: SimFs,
    pub(super) root: Arc<Path>,
}

impl SimDir {
    pub(in crate::fs) fn new(sim: &SimFs, root: &Path) -> SimDir {
        SimDir {
            sim: sim.clone(),
            root: Arc::from(normal(root)),
        }
    }

    /// Another directory of the same machine.
    pub(in crate::fs) fn at(&self, root: &Path) -> SimDir {
        SimDir::new(&self.sim, root)
    }

    fn enter(&self, kind: CallKind, name: Option<FileName>) -> io::Result<MutexGuard<'_, World>> {
        self.enter_to(kind, name, None)
    }

    fn enter_to(
        &self,
        kind: CallKind,
        name: Option<FileName>,
        to: Option<FileName>,
    ) -> io::Result<MutexGuard<'_, World>> {
        let call = Call {
            kind,
            root: Arc::clone(&self.root),
            name,
            to,
            offset: 0,
            len: 0,
            line: caller(),
            fault: None,
        };
        let mut world = self.sim.world();
        world.enter(call)?;
        Ok(world)
    }

    pub(in crate::fs) fn root(&self) -> &Path {
        &self.root
    }

    pub(in crate::fs) fn root_exists(&self) -> io::Result<bool> {
        let world = self.enter(CallKind::Stat, None)?;
        Ok(world.medium.dirs.contains_key(&*self.root))
    }

    pub(in crate::fs) fn make_root(&self) -> io::Result<()> {
        let mut world = self.enter(CallKind::MakeRoot, None)?;
        world.medium.dirs.entry(Arc::clone(&self.root)).or_default();
        Ok(())
    }

    pub(in crate::fs) fn remove_root(&self) -> io::Result<()> {
        let mut world = self.enter(CallKind::RemoveRoot, None)?;
        let lock = FileName::Lock.to_string();
        if world
            .medium
            .dir(&self.root)?
            .now
            .keys()
            .any(|n| **n != *lock)
        {
            return Err(Errno::NOTEMPTY.into());
        }
        world.medium.dirs.remove(&*self.root);
        Ok(())
    }

    pub(in crate::fs) fn lock(&self) -> io::Result<Option<SimLock>> {
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

    pub(in crate::fs) fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut world = self.enter(CallKind::List, None)?;
        let medium = &mut world.medium;
        let names = medium.dir(&self.root)?.now.clone();
        let entry =
            |(name, inode): (Arc<str>, _)| (name.to_string(), medium.file(inode).now.len() as u64);
        Ok(names.into_iter().map(entry).collect())
    }

    pub(in crate::fs) fn create_new(&self, name: FileName) -> io::Result<SimFile> {
        let mut world = self.enter(CallKind::Create, Some(name))?;
        let medium = &mut world.medium;
        let text: Arc<str> = name.to_string().into();
        if medium.dir(&self.root)?.now.contains_key(&text) {
            return Err(Errno::EXIST.into());
        }
        let inode = medium.new_file(Vec::new());
        medium.change_dir(&self.root, DirOp::Link { name: text, inode })?;
        Ok(self.open(medium, name, inode, true))
    }

    pub(in crate::fs) fn open_read(&self, name: FileName) -> io::Result<SimFile> {
        self.open_existing(name, false)
    }

    pub(in crate::fs) fn open_write(&self, name: FileName) -> io::Result<SimFile> {
        self.open_existing(name, true)
    }

    fn open_existing(&self, name: FileName, writable: bool) -> io::Result<SimFile> {
        let mut world = self.enter(CallKind::Open, Some(name))?;
        let inode = world.medium.find(&self.root, &name.to_string())?;
        Ok(self.open(&mut world.medium, name, inode, writable))
    }

    pub(super) fn open(
        &self,
        medium: &mut Medium,
        name: FileName,
        inode: Inode,
        writable: bool,
    ) -> SimFile {
        medium.file(inode).handles += 1;
        SimFile {
            dir: self.clone(),
            name,
            inode,
            writable,
        }
    }

    pub(in crate::fs) fn rename(&self, from: FileName, to: FileName) -> io::Result<()> {
        let mut world = self.enter_to(CallKind::Rename, Some(from), Some(to))?;
        let medium = &mut world.medium;
        let (from, to): (Arc<str>, Arc<str>) = (from.to_string().into(), to.to_string().into());
        let inode = medium.find(&self.root, &from)?;
        if medium.find(&self.root, &to).is_ok_and(|old| old == inode) {
            return Ok(()); // two names of one file: POSIX says that both stay
        }
        medium.change_dir(&self.root, DirOp::Rename { from, to, inode })
    }

    pub(in crate::fs) fn remove(&self, name: FileName) -> io::Result<()> {
        let mut world = self.enter(CallKind::Remove, Some(name))?;
        let name: Arc<str> = name.to_string().into();
        let inode = world.medium.find(&self.root, &name)?;
        let unlink = DirOp::Unlink { name, inode };
        world.medium.change_dir(&self.root, unlink)
    }

    pub(in crate::fs) fn link(
        &self,
        name: FileName,
        to: &SimDir,
        to_name: FileName,
    ) -> io::Result<bool> {
        if !Arc::ptr_eq(&self.sim.0, &to.sim.0) {
            return Ok(false); // another machine is another device
        }
        let mut world = match to.enter(CallKind::Link, Some(to_name)) {
            // A kernel that protects files of other owners: as on the real disk, the caller copies.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
            entered => entered?,
        };
        let medium = &mut world.medium;
        let inode = medium.find(&self.root, &name.to_string())?;
        let name: Arc<str> = to_name.to_string().into();
        if medium.dir(&to.root)?.now.contains_key(&name) {
            return Err(Errno::EXIST.into());
        }
        medium.change_dir(&to.root, DirOp::Link { name, inode })?;
        Ok(true)
    }

    pub(in crate::fs) fn keep_aside(&self, name: FileName) -> io::Result<String> {
        let mut world = self.enter(CallKind::Link, Some(name))?;
        let medium = &mut world.medium;
        let inode = medium.find(&self.root, &name.to_string())?;
        for n in 1u32.. {
            let aside = name.aside(n);
            match medium.dir(&self.root)?.now.get(&*aside) {
                Some(there) if *there == inode => return Ok(aside),
                Some(_) => {}
                None => {
                    let name = aside.as_str().into();
                    medium.change_dir(&self.root, DirOp::Link { name, inode })?;
                    return Ok(aside);
                }
            }
        }
        Err(Errno::EXIST.into())
    }

    pub(in crate::fs) fn sync_dir(&self) -> io::Result<()> {
        let mut world = self.enter(CallKind::SyncDir, None)?;
        let idle = world.medium.dir(&self.root)?.pending.is_empty();
        world.synced(idle);
        world.medium.sync_dir(&self.root)
    }

    pub(in crate::fs) fn free_space(&self) -> io::Result<u64> {
        let world = self.enter(CallKind::Stat, None)?;
        Ok(world.free_bytes())
    }

    pub(in crate::fs) fn guarantees_preallocation(&self) -> bool {
        !self.sim.world().medium.no_preallocation
    }

    pub(in crate::fs) fn random(&self) -> u64 {
        next_random(&mut self.sim.world().random)
    }
}

/// The lock of a simulated directory. It belongs to its machine: a successor does not have it.
#[derive(Debug)]
pub(in crate::fs) struct SimLock(SimDir);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.sim.world().locks.remove(&*self.0.root);
    }
}

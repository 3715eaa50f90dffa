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

mod coverage;
mod dir;
mod fault;
mod file;
mod image;
mod log;
mod plan;
#[cfg(test)]
mod tests;
mod world;

pub(super) use coverage::called_from;
pub use coverage::{CallSite, Coverage};
pub(super) use dir::{SimDir, SimLock};
pub use fault::{CallKind, Fault, FaultRule, FileClass};
pub(super) use file::{SimFile, SimMapping, Watch};
use image::Moment;
pub use image::{Image, ImageId, Images};
pub use plan::{Family, Profile};

use crate::base::sync::{Arc, Mutex, MutexGuard};
use log::Medium;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use world::{Watcher, World};

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
    /// and no lock is held. Faults, limits and the crash point are gone, and calls count from 0.
    pub fn kill(&self) -> SimFs {
        SimFs::on(self.world().medium.fork())
    }

    /// The machines that a power loss at this moment may leave, by the rules of `families`,
    /// each different disk once. Built one at a time: cheap to cut short.
    pub fn images(&self, families: &[Family]) -> Images {
        Images::new(&self.world(), families)
    }

    /// Restricts the images of this machine, and of all that come from it, to what such a file
    /// system lets happen. Default [`Profile::PosixAny`].
    pub fn set_profile(&self, profile: Profile) {
        self.world().medium.profile = profile;
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

    /// Removes all rules and the limit of space: the disk works again.
    pub fn heal(&self) {
        let mut world = self.world();
        world.faults.rules.clear();
        world.lift_limit();
    }

    /// From now on the disk has so many bytes free, in whole blocks of 4 KiB; `None` lifts the
    /// limit. Writes get short counts and then ENOSPC; removing files gives their space back, once
    /// nobody has them open; `Fs::free_space` tells what is left.
    pub fn set_free(&self, bytes: Option<u64>) {
        let mut world = self.world();
        match bytes {
            Some(bytes) => world.limit_free(bytes, Fault::Enospc),
            None => world.lift_limit(),
        }
    }

    /// How often a rule or the limit of space has struck: 0 tells that a sweep is beyond the last
    /// call.
    pub fn faults_hit(&self) -> u64 {
        self.world().faults.hits
    }

    /// The mutating calls so far, one a line: index, what was done, the fault that it met, and
    /// the line of the source that made it. Two runs of one seed give the same script, unless
    /// several threads were at work.
    pub fn script(&self) -> String {
        let world = self.world();
        let lines = (world.base..).zip(&world.calls);
        lines.map(|(i, call)| format!("{i} {call}\n")).collect()
    }

    /// The mutating calls so far, as data.
    pub fn calls(&self) -> Vec<CallRecord> {
        let record = |call: &world::Call| CallRecord {
            site: call.site(),
            path: match call.name {
                Some(name) => call.root.join(name.to_string()),
                None => call.root.to_path_buf(),
            },
            offset: call.offset,
            len: call.len,
            fault: call.fault,
        };
        self.world().calls.iter().map(record).collect()
    }

    /// Who has called this machine so far, and which faults have struck there.
    pub fn coverage(&self) -> Coverage {
        self.world().sites.coverage()
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
        let dir = medium.dirs.entry(normal(root).into()).or_default();
        dir.durable.insert(name.into(), inode);
        dir.now.insert(name.into(), inode);
    }
}

/// One mutating call that was made on a simulated machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRecord {
    /// Who made it, and what it is.
    pub site: CallSite,
    /// The file or directory.
    pub path: PathBuf,
    /// Of a write or store.
    pub offset: u64,
    /// Of a write or store the bytes asked for; of a resize the new size.
    pub len: u64,
    /// What went wrong, if anything did.
    pub fault: Option<Fault>,
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

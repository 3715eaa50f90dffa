//! A simulated machine with a disk, for crash and fault tests of whatever stores its data in
//! alluvium: this crate's own tests, and yours.
//!
//! ```text
//! SimFs   one running machine: medium (disk and page cache), calls, faults, locks, clock
//!   kill()     -> SimFs    the process died: the page cache is as it was, the locks are gone
//!   images(..) -> SimFs*   the power went: disks that may be left
//! ```
//!
//! # A crash test in four steps
//!
//! 1. Make a machine, and open the database on it with
//!    [`Options::open_sim`](crate::Options::open_sim). With `background_threads(0)` all work is
//!    done on your thread, so that two runs of one seed make the same calls.
//! 2. Let [`SimFs::on_call`] collect a copy of the machine before each call that changes the disk,
//!    together with what your application had promised by then; run the application.
//! 3. For each copy ask for [`SimFs::images`]: the disks that a power loss at that moment may
//!    leave. Start the application on each of them.
//! 4. Check what must always hold, and that nothing promised is missing. On a failure print the
//!    image's id: [`SimFs::image`] brings it back on the next run.
//!
//! ```
//! use alluvium::sim::{Family, SimFs};
//! use alluvium::{Durability, Options, WriteBatch, WriteOptions};
//! use std::sync::mpsc;
//!
//! let open = |sim: &SimFs| Options::new().memory_bytes(1 << 20).log_segment_bytes(8 << 10)
//!     .background_threads(0).open_sim(sim, "/db");
//! let sim = SimFs::new(1);
//! let (copies, moments) = mpsc::channel();
//! sim.on_call(move |_, machine| copies.send(machine).unwrap());
//!
//! // The application: two keys that always change together.
//! let db = open(&sim)?;
//! for n in [b"1", b"2"] {
//!     let mut batch = WriteBatch::new();
//!     batch.put(&db, "left", n);
//!     batch.put(&db, "right", n);
//!     db.write(&batch, WriteOptions::new().durability(Durability::Synced))?;
//! }
//!
//! let mut disks = 0;
//! for machine in moments.try_iter() {
//!     for image in machine.images(&Family::ALL) {
//!         let db = open(&image.sim)?;
//!         assert_eq!(db.get("left")?, db.get("right")?, "{}", image.id);
//!         disks += 1;
//!     }
//! }
//! assert!(disks > 100);
//! # Ok::<(), alluvium::Error>(())
//! ```
//!
//! `examples/crash_test.rs` is such a test of a whole application, and shows it finding a bug.
//!
//! # Failing disks
//!
//! [`SimFs::fail`] adds a [`FaultRule`] to the schedule: EIO at the third write of a log, once or
//! from then on; a sync that fails in one of the four ways in which kernels let syncs fail; a disk
//! that is full until something is removed. [`SimFs::heal`] ends all of them.
//! [`SimFs::coverage`] tells which lines of the source have called the disk, and which faults have
//! struck there: a sweep is complete when [`Coverage::missing`] is empty.
//!
//! # What is simulated
//!
//! Syncing a file makes its bytes and size durable and not its name; syncing a directory makes
//! names durable and not bytes; everything else may be lost, kept or torn at any 512-byte sector in
//! any order, as far as the machine's [`Profile`] lets it happen. Stores through a mapped log are
//! writes like any other. Directories themselves are durable when made. The clock stands still
//! unless it is moved ([`SimFs::advance`], or a wait of the engine); there is no thread and no
//! chance but the seed's.
//!
//! # Misuse
//!
//! What a real disk would let pass although it is a bug panics: changing a file that is mapped for
//! reading; resizing one that is mapped at all; giving a file number a second time; reading bytes
//! of a table or manifest that nobody wrote; a thousand syncs in a row with nothing to sync. What
//! cannot be written down with [`Fs`](super::Fs) and [`File`](super::File) is not checked: a path
//! outside the root, making a file that exists, closing twice, changing the buffer of a write.
//!
//! Threads: one mutex over the machine; calls from several threads are as on a real disk.

mod clock;
mod coverage;
mod dir;
mod fault;
mod file;
mod image;
mod log;
mod misuse;
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
use clock::{Pace, SimClock};
use log::Medium;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
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
            clock: SimClock::new(seed),
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
        Images::new(self.world().album(), families)
    }

    /// Restricts the images of this machine, and of all that come from it, to what such a file
    /// system lets happen. Default [`Profile::PosixAny`].
    pub fn set_profile(&self, profile: Profile) {
        self.world().changed().profile = profile;
    }

    /// Makes this machine, and all that come from it, one whose file system cannot preallocate
    /// (NFS): `File::preallocate` gives `Unsupported` from now on.
    pub fn without_preallocation(&self) {
        self.world().changed().no_preallocation = true;
    }

    /// The image with this id, on a machine of the same seed and history as that which gave it.
    pub fn image(&self, id: ImageId) -> Option<SimFs> {
        self.world().album().image(id)
    }

    /// How many images the family has at this moment: the `n` of their ids are below it. Some of
    /// them may be the same disk.
    pub fn image_count(&self, family: Family) -> usize {
        self.world().album().specs(family).len()
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

    /// From now on the disk takes only so many bytes a second by write calls (stores into a mapped log are
    /// free), and time goes by itself, on this machine alone. To be called before anything asks for the
    /// time.
    pub fn slow_down(&self, bytes_per_second: u64) {
        self.world().pace = Some(Pace::new(bytes_per_second));
    }

    /// True where waiting takes its time.
    pub(super) fn is_in_real_time(&self) -> bool {
        self.world().pace.is_some()
    }

    /// Waits for as long as the disk takes for so many bytes.
    pub(super) fn take_time(&self, bytes: u64) {
        let wait = self.world().pace.as_mut().map(|pace| pace.take(bytes));
        if let Some(wait) = wait {
            std::thread::sleep(wait);
        }
    }

    /// How often a rule or the limit of space has struck: 0 tells that a sweep is beyond the last
    /// call.
    pub fn faults_hit(&self) -> u64 {
        self.world().faults.hits
    }

    /// Moves both clocks on: the machine's own time stands still but for this, and for sleeps and
    /// waits of whoever runs on it.
    pub fn advance(&self, by: Duration) {
        self.world().changed().clock.advance(by);
    }

    /// Sets the wall clock, forward or back. The monotonic clock does not notice.
    pub fn set_wall(&self, wall: SystemTime) {
        self.world().changed().clock.set_wall(wall);
    }

    pub(super) fn now(&self) -> Instant {
        let world = self.world();
        match world.pace {
            Some(_) => Instant::now(),
            None => world.medium.clock.now(),
        }
    }

    pub(super) fn wall(&self) -> SystemTime {
        self.world().medium.clock.wall()
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
        let mut world = self.world();
        let medium = world.changed();
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

//! An engine and an oracle beside each other.
//!
//! [`World::step`] does one operation on both and compares. An error of the engine is a failure,
//! unless the power is gone or a fault of the schedule has struck: then the world restarts as a
//! machine would, and what is found has to be a prefix of what was written, with everything in it
//! that was promised (P1 to P4).

use super::follow::Copy;
use super::keys::{Value, key};
use super::op::{Kind, Op};
use super::oracle::Oracle;
use super::scans::{LongCursor, LongIter};
use super::settings::Settings;
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::{Db, DbReader, ErrorKind, Keyspace, Result, SeqNo, Slice, Snapshot};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directory of a database in the simulator.
pub(crate) const ROOT: &str = "/db";
/// The keyspaces, as many of them as the settings have.
pub(crate) const NAMES: [&str; 4] = ["default", "orders", "scratch", "ключ/ß"];

/// Where the database lies.
#[derive(Debug)]
pub(crate) enum Place {
    Simulated(SimFs),
    /// A directory that nobody else uses. No power is lost there, and no call fails.
    Real(PathBuf),
}

impl Place {
    /// A machine with an empty disk.
    pub(crate) fn simulated() -> Place {
        Place::Simulated(SimFs::new(9))
    }

    pub(crate) fn fs(&self) -> Fs {
        match self {
            Place::Simulated(sim) => Fs::sim(sim, Path::new(ROOT)),
            Place::Real(path) => Fs::os(path),
        }
    }
}

/// An engine beside its model.
pub(crate) struct World {
    pub(super) place: Place,
    pub(super) settings: Settings,
    pub(super) oracle: Oracle,
    pub(super) db: Option<Db>,
    pub(super) spaces: Vec<Option<Keyspace>>,
    pub(super) snapshots: Vec<(Snapshot, u32)>,
    pub(super) iters: Vec<LongIter>,
    pub(super) cursors: Vec<LongCursor>,
    pub(super) slices: Vec<(Slice, Value)>,
    pub(super) copy: Option<Copy>,
    pub(super) reader: Option<DbReader>,
    /// The feed may have to say that it cannot go on: it keeps little, or a crash or a fault has taken
    /// some of the log, since the copy was made.
    pub(super) log_may_be_lost: bool,
    /// The keyspace that was being made or dropped when the power went: it may be there or not.
    pub(super) in_flight: Option<usize>,
    /// The highest number of an acknowledged batch.
    pub(super) newest: SeqNo,
    /// The highest visible number that was seen since the database was opened.
    pub(super) visible: SeqNo,
    /// A sync may fail, or have failed: what it left in the page cache may not be on the disk.
    pub(super) syncs_fail: bool,
    /// The power will go at some call from now on.
    pub(super) is_doomed: bool,
    pub(super) scratch: Vec<u8>,
}

impl World {
    /// Opens a database where there is none.
    pub(crate) fn new(place: Place, settings: Settings) -> World {
        let spaces = settings.spaces.len();
        let mut world = World {
            place,
            settings,
            oracle: Oracle::new(spaces),
            db: None,
            spaces: vec![None; spaces],
            snapshots: Vec::new(),
            iters: Vec::new(),
            cursors: Vec::new(),
            slices: Vec::new(),
            copy: None,
            reader: None,
            log_may_be_lost: false,
            in_flight: None,
            newest: SeqNo::ZERO,
            visible: SeqNo::ZERO,
            syncs_fail: false,
            is_doomed: false,
            scratch: Vec::new(),
        };
        world.oracle.create(0);
        world.open().expect("an empty disk can be opened");
        for n in 1..spaces {
            world.create(n).expect("a good disk takes keyspaces");
        }
        world
    }

    /// Does one operation and compares.
    ///
    /// # Panics
    /// At a wrong answer.
    pub(crate) fn step(&mut self, op: &Op) {
        self.look_at_the_clock();
        let result = self.apply(op);
        if self.is_crashed() {
            self.lose_power(op);
        } else if let Err(error) = result {
            assert!(self.has_fault_struck(), "{op}: {error}");
            self.restart_on_a_good_disk(op);
        }
    }

    /// The oracle has the machine's time, where that stands still between operations.
    pub(super) fn look_at_the_clock(&mut self) {
        if let Place::Simulated(_) = self.place {
            self.oracle.go_on(self.place.fs().env().wall_ms());
        }
    }

    /// Compares everything, closes, opens again, and compares once more.
    ///
    /// # Panics
    /// When something differs, or lies around.
    pub(crate) fn finish(&mut self) {
        self.look_at_the_clock();
        let end = Op::decode([Kind::Verify as u8, 0, 0, 0, 0, 0, 0]);
        if self.has_fault_struck() {
            self.restart_on_a_good_disk(&end);
        }
        self.heal();
        if self.is_doomed {
            // On another machine, because on this one the power would go while it is closed.
            let kill = Op::decode([Kind::Kill as u8, 0, 0, 0, 0, 0, 0]);
            self.step(&kill);
        }
        self.check_all().expect("a good disk reads well");
        self.step(&end);
        self.check_slices();
        self.leave()
            .close()
            .expect("a good disk takes what was left");
        self.oracle.sync();
        self.open().expect("P4: opening needs no tool");
        self.check_all().expect("a good disk reads well");
        self.step(&end);
        self.leave().close().expect("a good disk");
        self.check_tidy(None);
    }

    /// Writes something that the oracle does not hear of, so that a test can see it notice.
    pub(crate) fn tamper(&mut self) {
        let put = self.handle(0).put(key(7), b"behind the model's back");
        put.expect("a good disk");
    }

    pub(super) fn db(&self) -> &Db {
        self.db.as_ref().expect("open between operations")
    }

    /// The keyspace that an operation is about, made when it was dropped before.
    pub(super) fn space(&mut self, op: &Op) -> Result<usize> {
        let n = usize::from(op.space) % self.spaces.len();
        if self.spaces[n].is_none() {
            self.create(n)?;
        }
        Ok(n)
    }

    /// True when the keyspace takes merges.
    pub(super) fn takes_merges(&self, n: usize) -> bool {
        !self.settings.operators[n].is_empty()
    }

    pub(super) fn handle(&self, n: usize) -> &Keyspace {
        self.spaces[n].as_ref().expect("made before it is used")
    }

    pub(super) fn create(&mut self, n: usize) -> Result<()> {
        self.in_flight = Some(n);
        let options = self.settings.spaces[n].clone();
        self.spaces[n] = Some(self.db().keyspace(NAMES[n], options)?);
        self.oracle.create(n);
        if !self.is_crashed() {
            self.in_flight = None;
        }
        Ok(())
    }

    pub(super) fn sim(&self) -> Option<&SimFs> {
        match &self.place {
            Place::Simulated(sim) => Some(sim),
            Place::Real(_) => None,
        }
    }

    pub(super) fn is_crashed(&self) -> bool {
        self.sim().is_some_and(SimFs::is_crashed)
    }

    pub(super) fn has_fault_struck(&self) -> bool {
        self.sim().is_some_and(|sim| 0 < sim.faults_hit())
    }

    /// Something that has to be refused with this kind. Another error may be the disk's.
    pub(super) fn refused<T>(&self, result: Result<T>, kind: ErrorKind) -> Result<()> {
        match result {
            Err(error) if error.kind() == kind => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                assert!(self.is_crashed(), "this had to be refused with {kind:?}");
                Ok(())
            }
        }
    }

    fn apply(&mut self, op: &Op) -> Result<()> {
        use Kind::*;
        match op.kind {
            Put | PutLogged | PutSynced | PutLarge | PutEmpty | PutExpiring => self.put(op),
            Delete | DeleteSynced => self.delete(op),
            DeleteRange | DeleteRangeSynced => self.delete_range(op),
            Merge | MergeSynced => self.merge(op),
            Batch | BatchSynced | BatchOneKey | BatchMerge | BatchRange | BatchEmpty
            | BatchEmptySynced | BatchBig | BatchExpiring => self.batch(op),
            Later => {
                if let Some(sim) = self.sim() {
                    sim.advance(Duration::from_secs(1 + u64::from(op.len) % 16));
                }
                Ok(())
            }
            BatchTooLarge | KeyTooLarge => self.too_large(op),
            Get | GetWith | ContainsKey | GetMany | HoldSlice => self.get(op),
            CheckSlices => {
                self.check_slices();
                Ok(())
            }
            Iter | IterRev | Range | RangeInclusive | RangeFrom | RangeTo | RangeToInclusive
            | RangeBounds | RangeInverted | RangeRev | RangeMixed | Prefix | PrefixRev => {
                self.scan(op)
            }
            CursorSeek | CursorSeekForPrev | CursorEnds | CursorWalk | CursorOver => self.walk(op),
            SnapshotTake | SnapshotRelease | SnapshotGet | SnapshotGetWith | SnapshotContains
            | SnapshotIter | SnapshotRange | SnapshotPrefix | SnapshotCursor => self.snapshot(op),
            IterOpen | IterNext | IterNextBack | IterDrop => self.long_iter(op),
            CursorOpen | CursorMove | CursorDrop => self.long_cursor(op),
            Flush | Compact | CompactRange | Sync | Verify | Stats | Explain => self.upkeep(op),
            Load => self.load(op),
            Follow => self.follow(op),
            ReadBeside => self.read_beside(op),
            KeyspaceOpen | KeyspaceChange | KeyspaceDrop | KeyspaceList | KeyspaceRefused => {
                self.keyspace(op)
            }
            Swap | SwapRefused | PutIfAbsent | Update | Transact | TransactSynced
            | TransactConflict | TransactDrop => self.conditional(op),
            Reopen | ReopenOther | OpenTwice | CloseAlive | Leave | Kill | PowerLoss
            | CrashSoon | Fault => self.restart(op),
        }
    }
}

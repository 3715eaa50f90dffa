//! Restarts: closed, left, killed, without power, on a disk that failed.
//!
//! After each, what is found is compared with what had to survive: after a close or the death of
//! the process all that was acknowledged, after a loss of power all that was synced; and always a
//! prefix of the batches, each whole or absent.

use super::keys::{key, rank};
use super::op::{Kind, Op, Random};
use super::oracle::{Found, Required};
use super::reads::check_value;
use super::settings::CHANGES_ALL;
use super::world::{NAMES, Place, World};
use alluvium::fs::sim::{CallKind, Family, Fault, FaultRule, FileClass, ImageId, SimFs};
use alluvium::{Db, ErrorKind, Result};

/// Power losses inside a recovery, one inside the other.
const DEPTH_MAX: usize = 3;
/// Of each family of images, one of the first so many.
const IMAGES_MAX: usize = 40;

impl World {
    pub(super) fn restart(&mut self, op: &Op) -> Result<()> {
        let mut random = op.details();
        match op.kind {
            Kind::Reopen => self.reopen(),
            Kind::ReopenOther => {
                self.settings = self.settings.other(random.next());
                self.log_may_be_lost |= self.settings.changes_bytes != CHANGES_ALL;
                self.reopen()
            }
            Kind::OpenTwice => {
                let again = self.settings.clone();
                let second = again.options.open_in(self.place.fs());
                self.refused(second, ErrorKind::Locked)
            }
            Kind::CloseAlive => {
                let db = self.db.take().expect("open between operations");
                let clone = db.clone();
                db.close()?;
                if self.is_crashed() {
                    return Ok(());
                }
                self.oracle.sync();
                self.check_closed();
                self.refused(clone.flush(), ErrorKind::Closed)?;
                drop(clone);
                self.open()?;
                self.check_all()
            }
            Kind::Leave => {
                drop(self.leave());
                self.open()?;
                self.check_all()
            }
            Kind::Kill => {
                self.kill();
                self.open()?;
                self.check_all()
            }
            Kind::PowerLoss => {
                match self.sim() {
                    Some(_) => self.lose_power(op),
                    None => {
                        drop(self.leave());
                        self.open()?;
                    }
                }
                Ok(())
            }
            Kind::CrashSoon => {
                if let Some(sim) = self.sim() {
                    sim.crash_at(sim.call_count() + random.below(64) as u64);
                    self.is_doomed = true;
                }
                Ok(())
            }
            _ => {
                self.plan_fault(&mut random);
                Ok(())
            }
        }
    }

    fn reopen(&mut self) -> Result<()> {
        self.leave().close()?;
        if self.is_crashed() {
            return Ok(());
        }
        self.oracle.sync();
        self.open()?;
        self.check_tidy(self.db.as_ref());
        self.check_all()
    }

    /// Lets go of every handle but the database's own.
    pub(super) fn leave(&mut self) -> Db {
        self.let_go();
        self.db.take().expect("open between operations")
    }

    fn let_go(&mut self) {
        self.iters.clear();
        self.cursors.clear();
        for (_, version) in self.snapshots.drain(..) {
            self.oracle.unpin(version);
        }
        self.spaces.fill(None);
    }

    /// Ends the process. In the simulator nothing of it happens after this moment; on the real
    /// disk its handles are dropped.
    fn kill(&mut self) {
        let after = self.sim().map(SimFs::kill);
        self.let_go();
        self.db = None;
        if let Some(after) = after {
            self.reader = None;
            self.place = Place::Simulated(after);
        }
        (self.syncs_fail, self.is_doomed) = (false, false);
    }

    /// Opens the database and its keyspaces. One that was being made or dropped may be there.
    pub(super) fn open(&mut self) -> Result<()> {
        let options = self.settings.options.clone();
        let db = match &self.place {
            Place::Simulated(_) => options.open_in(self.place.fs())?,
            Place::Real(path) => options.open(path)?,
        };
        let names = db.keyspaces();
        for (n, name) in NAMES.iter().enumerate().take(self.spaces.len()) {
            let is_there = names.iter().any(|it| it == name);
            if is_there != self.oracle.is_alive(n) {
                assert_eq!(self.in_flight, Some(n), "keyspace {name}: {is_there}");
                match is_there {
                    true => self.oracle.create(n),
                    false => self.oracle.drop_space(n),
                }
            }
            if is_there {
                let options = self.settings.spaces[n].clone();
                self.spaces[n] = Some(db.keyspace(name, options)?);
            }
        }
        self.visible = db.seqno();
        self.db = Some(db);
        if !self.is_crashed() {
            self.in_flight = None;
        }
        Ok(())
    }

    /// Every keyspace, forward, against the oracle.
    pub(super) fn check_all(&self) -> Result<()> {
        for (n, space) in self.spaces.iter().enumerate() {
            let Some(space) = space else {
                continue;
            };
            self.check_entries(n, space.iter())?;
        }
        Ok(())
    }

    /// These are all entries of the keyspace.
    pub(super) fn check_entries(&self, n: usize, entries: alluvium::Iter) -> Result<()> {
        let mut expected = self.oracle.all(n).into_iter();
        for entry in entries {
            let (k, v) = entry?;
            let Some((wanted, value)) = expected.next() else {
                panic!("{k:?} in {} should not be there", NAMES[n]);
            };
            assert_eq!(k, key(wanted), "keys of {}", NAMES[n]);
            check_value(Some(&v), Some(value), wanted);
        }
        let missing = expected.next();
        assert_eq!(missing, None, "a key of {} is missing", NAMES[n]);
        Ok(())
    }

    fn found(&self) -> Result<Vec<Found>> {
        let of = |space: &Option<alluvium::Keyspace>| {
            let entries = space.iter().flat_map(|space| space.iter());
            entries
                .map(|entry| {
                    let (k, v) = entry?;
                    let rank = rank(&k).expect("only keys of the list are there");
                    Ok((rank, v.to_vec()))
                })
                .collect::<Result<Found>>()
        };
        self.spaces.iter().map(of).collect()
    }

    /// Goes on with one of the disks that a loss of power leaves now; sometimes the power goes
    /// again while the database is opened.
    pub(super) fn lose_power(&mut self, op: &Op) {
        self.log_may_be_lost = true;
        let mut random = op.details();
        for depth in 0.. {
            let sim = self.sim().expect("power is lost in the simulator").kill();
            let (what, image) = image(&sim, &mut random);
            self.let_go();
            self.db = None;
            self.is_doomed = depth < DEPTH_MAX && random.below(3) == 0;
            if self.is_doomed {
                image.crash_at(random.below(30) as u64);
            }
            self.reader = None;
            self.place = Place::Simulated(image);
            match self.open().and_then(|()| self.found()) {
                Ok(found) if !self.is_crashed() => {
                    self.settle(&found, Required::Synced, true, &what);
                    return;
                }
                Err(error) if !self.is_crashed() => panic!("P4: {what}: {error}"),
                _ => {}
            }
        }
    }

    fn settle(&mut self, found: &[Found], required: Required, durable: bool, what: &str) {
        if let Err(problem) = self.oracle.settle(found, required, durable) {
            panic!("P1, P2, P3: {what}: {problem}");
        }
        self.syncs_fail = false;
    }

    /// A call has failed, and then an operation: the process is ended, or the power goes, and the
    /// disk is good again. Where a sync may have failed, the page cache proves nothing.
    pub(super) fn restart_on_a_good_disk(&mut self, op: &Op) {
        self.log_may_be_lost = true;
        self.heal();
        if self.syncs_fail || op.seed.is_multiple_of(2) {
            return self.lose_power(op);
        }
        self.kill();
        let found = self.open().and_then(|()| self.found());
        let found = found.unwrap_or_else(|error| panic!("P4: after a fault and a kill: {error}"));
        self.settle(&found, Required::Acknowledged, false, "after a fault");
    }

    pub(super) fn heal(&self) {
        if let Some(sim) = self.sim() {
            sim.heal();
        }
    }

    fn plan_fault(&mut self, random: &mut Random) {
        let Some(sim) = self.sim() else {
            return;
        };
        let fault = random.pick(&[
            Fault::Eio,
            Fault::Enospc,
            Fault::Emfile,
            Fault::Eintr,
            Fault::Short,
            Fault::SyncCleanNew,
            Fault::SyncCleanOld,
        ]);
        let mut rule = FaultRule::new(fault).nth(random.below(24) as u64);
        if random.coin() {
            rule = rule.class(random.pick(&[
                FileClass::Dir,
                FileClass::Current,
                FileClass::Manifest,
                FileClass::Log,
                FileClass::Table,
                FileClass::Temp,
            ]));
        }
        if random.coin() {
            rule = rule.kinds(&[random.pick(&[
                CallKind::Create,
                CallKind::Write,
                CallKind::Resize,
                CallKind::Sync,
                CallKind::SyncDir,
                CallKind::Rename,
                CallKind::Remove,
                CallKind::Touch,
                CallKind::Read,
                CallKind::Map,
            ])]);
        }
        if fault != Fault::Eintr && random.below(4) == 0 {
            rule = rule.sticky();
        }
        sim.fail(rule);
        self.syncs_fail |= !matches!(fault, Fault::Emfile | Fault::Eintr | Fault::Short);
    }

    /// One manifest, nothing temporary, and no table that nobody names (P5).
    pub(super) fn check_tidy(&self, open: Option<&Db>) {
        let names = self.place.fs().list();
        let Ok(names) = names else {
            assert!(self.is_crashed() || self.has_fault_struck(), "{names:?}");
            return;
        };
        let of = |suffix: &str| names.iter().filter(|it| it.name.ends_with(suffix)).count();
        assert_eq!(
            (of(".manifest"), of(".tmp"), of("CURRENT"), of("LOCK")),
            (1, 0, 1, 1),
            "{names:?}"
        );
        let (Some(db), 0) = (open, self.settings.threads) else {
            return;
        };
        let stats = db.stats();
        let levels = stats.keyspaces.iter().flat_map(|it| &it.levels);
        let files: u64 = levels.map(alluvium::LevelStats::files).sum();
        assert_eq!(of(".tbl") as u64, files, "tables there, tables named");
    }
}

/// One of the disks that are left when the power goes now.
fn image(sim: &SimFs, random: &mut Random) -> (String, SimFs) {
    let (family, n) = (random.pick(&Family::ALL), random.below(IMAGES_MAX));
    let ids = [(family, n), (family, n % 4), (Family::Nothing, 0)];
    let ids = ids.map(|(family, n)| ImageId { call: 0, family, n });
    let mut images = ids
        .iter()
        .filter_map(|id| Some((id.to_string(), sim.image(*id)?)));
    images.next().expect("the family of nothing has a plan")
}

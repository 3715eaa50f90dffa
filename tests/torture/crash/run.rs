//! A database under a script, in the simulator: every operation keeps the history of what was
//! asked for, and every mutating call of the machine becomes a [`Moment`] that is shown to the
//! visitor of the script, with how far the history was known to be safe just then.
//!
//! A script goes through once; what it would leave behind at each call is looked at on the way.
//! Background work runs inline, so a script with its seed is the same calls every time.

use super::check;
use super::history::{Change, Found, History, Incarnation, Marks, Spaces};
use crate::model::Random;
use alluvium::fs::Fs;
use alluvium::fs::sim::{Family, FaultRule, ImageId, SimFs};
use alluvium::{
    Db, Durability, Keyspace, KeyspaceOptions, Options, Result, Snapshot, WriteBatch, WriteOptions,
};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The database's directory.
pub(crate) const ROOT: &str = "/db";

/// Files of somebody else in the directory: names that are nearly ours.
pub(crate) const FOREIGN: [(&str, &[u8]); 4] = [
    ("7.tbl", b"a number with too few digits"),
    ("CURRENT.bak", b"a copy"),
    ("000009.sst", b"another engine's"),
    ("notes.txt", b""),
];

/// The options of a script: of the database, and of the keyspaces beside `default`.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) options: Options,
    pub(crate) space: KeyspaceOptions,
}

impl Setting {
    /// Opens what is on the machine's disk.
    pub(crate) fn open(&self, sim: &SimFs) -> Result<Db> {
        self.options.clone().open_in(Fs::sim(sim, Path::new(ROOT)))
    }
}

/// The disk before one mutating call, and what is known of it.
#[derive(Debug)]
pub(crate) struct Moment {
    /// Counts over all machines of the script.
    pub(crate) index: u64,
    /// A copy of the machine.
    pub(crate) machine: SimFs,
    pub(crate) marks: Marks,
}

#[derive(Debug, Default)]
struct Collected {
    moments: Vec<Moment>,
    next: u64,
    marks: Marks,
}

/// Looks at a moment.
pub(crate) type Visit<'a> = dyn FnMut(&History, &Moment) + 'a;

/// A change as scripts say it: keyspace, key, value or `None` to delete.
pub(crate) type Edit = (&'static str, Vec<u8>, Option<Vec<u8>>);

/// A database under a script.
pub(crate) struct Run<'a> {
    pub(crate) setting: Setting,
    sim: SimFs,
    db: Option<Db>,
    history: History,
    collected: Arc<Mutex<Collected>>,
    visit: &'a mut Visit<'a>,
    incarnations: Incarnation,
    snapshots: Vec<(Snapshot, Found)>,
    random: Random,
    /// The disk that is opened next is what a power loss left.
    lost_power: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(setting: Setting, seed: u64, visit: &'a mut Visit<'a>) -> Run<'a> {
        let sim = SimFs::new(seed);
        for (name, bytes) in FOREIGN {
            sim.plant(Path::new(ROOT), name, bytes);
        }
        let mut run = Run {
            setting,
            sim: sim.clone(),
            db: None,
            history: History::default(),
            collected: Arc::default(),
            visit,
            incarnations: 1,
            snapshots: Vec::new(),
            random: Random(seed),
            lost_power: false,
        };
        run.history.push(Vec::new());
        run.marks(|marks| {
            marks.spaces = Spaces::from([("default".to_owned(), 0)]);
            marks.spaces_next = marks.spaces.clone();
            (marks.tried, marks.acknowledged, marks.synced) = (1, 1, 1);
        });
        run.start_on(sim);
        run
    }

    /// Goes on, on this machine.
    fn start_on(&mut self, sim: SimFs) {
        let collected = Arc::clone(&self.collected);
        sim.on_call(move |_, machine| {
            let mut collected = collected.lock().unwrap();
            let fs = Fs::sim(&machine, Path::new(ROOT));
            let file = check::highest_file(&fs.list().unwrap_or_default());
            collected.marks.file = collected.marks.file.max(file);
            let moment = Moment {
                index: collected.next,
                machine,
                marks: collected.marks.clone(),
            };
            collected.next += 1;
            collected.moments.push(moment);
        });
        self.sim = sim;
    }

    fn marks<T>(&self, change: impl FnOnce(&mut Marks) -> T) -> T {
        change(&mut self.collected.lock().unwrap().marks)
    }

    /// Shows what was collected to the visitor.
    fn show(&mut self) {
        let moments = std::mem::take(&mut self.collected.lock().unwrap().moments);
        for moment in &moments {
            (self.visit)(&self.history, moment);
        }
    }

    /// The end of the script is a moment too; gives how many there were.
    pub(crate) fn finish(mut self) -> u64 {
        let last = Moment {
            index: self.moments(),
            machine: self.sim.kill(),
            marks: self.marks(|marks| marks.clone()),
        };
        self.show();
        (self.visit)(&self.history, &last);
        self.die();
        last.index + 1
    }

    /// Moments so far: mutating calls over all machines.
    pub(crate) fn moments(&self) -> u64 {
        self.collected.lock().unwrap().next
    }

    /// A random number below `limit`, from the script's seed.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.random.number_below(limit)
    }

    pub(crate) fn db(&self) -> &Db {
        self.db.as_ref().expect("a script opens first")
    }

    pub(crate) fn space(&self, name: &str) -> Result<Keyspace> {
        self.db().keyspace(name, KeyspaceOptions::new())
    }

    /// Everything that was written is known to be safe from a power loss.
    fn all_synced(&mut self) {
        self.marks(|marks| marks.synced = marks.acknowledged);
    }

    /// Opens what the last machine left. A twin tells beforehand which prefix of the history it
    /// is. After a power loss that is on the disk, and every crash inside the opening must give
    /// just that; after a kill it may still be in the page cache alone, until the opening is done.
    pub(crate) fn open(&mut self) -> Result<()> {
        let lost_power = std::mem::take(&mut self.lost_power);
        let twin = self.setting.open(&self.sim.kill())?;
        let found = check::contents(&twin);
        drop(twin);
        let marks = self.marks(|marks| marks.clone());
        let prefix = self
            .history
            .prefix(&found, marks.synced, marks.tried, &marks)
            .unwrap_or_else(|| panic!("P1, P2: {}", self.history.explain(&found, &marks)));
        self.show();
        self.history.truncate(prefix);
        self.marks(|marks| {
            (marks.tried, marks.acknowledged) = (prefix, prefix);
            if lost_power {
                marks.synced = prefix;
            }
        });
        self.db = Some(self.setting.open(&self.sim)?);
        self.show();
        self.all_synced();
        Ok(())
    }

    /// Opens for the first time, with a second keyspace.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.open()?;
        self.make_space("orders")
    }

    /// The process ends without a word; what it wrote is there.
    pub(crate) fn kill(&mut self) {
        self.show();
        let next = self.sim.kill();
        self.die();
        self.start_on(next);
    }

    /// The power goes; one of the disks that may be left, chosen by the seed.
    pub(crate) fn power_loss(&mut self) {
        self.show();
        let family = Family::ALL[self.below(Family::ALL.len() as u64) as usize];
        let count = self.sim.image_count(family);
        let n = self.below(count.max(1) as u64) as usize;
        let id = ImageId {
            call: self.sim.call_count(),
            family,
            n,
        };
        let nothing = ImageId {
            family: Family::Nothing,
            n: 0,
            ..id
        };
        let image = |id| self.sim.image(id);
        let next = image(id).or_else(|| image(nothing));
        let next = next.expect("a disk without anything that was pending");
        self.lost_power = true;
        self.die();
        self.start_on(next);
    }

    /// Nothing of the running process reaches the disk any more.
    fn die(&mut self) {
        self.sim.crash_at(self.sim.call_count());
        self.snapshots.clear();
        self.db = None;
    }

    pub(crate) fn close(&mut self) -> Result<()> {
        self.snapshots.clear();
        let db = self.db.take().expect("open");
        db.close()?;
        self.all_synced();
        self.show();
        Ok(())
    }

    pub(crate) fn write(&mut self, durability: Durability, edits: Vec<Edit>) -> Result<()> {
        let spaces = self.marks(|marks| marks.spaces.clone());
        let mut batch = WriteBatch::new();
        let mut changes: Vec<Change> = Vec::new();
        for (name, key, value) in edits {
            let space = self.space(name)?;
            match &value {
                Some(value) => batch.put(&space, &key, value),
                None => batch.delete(&space, &key),
            }
            changes.push((spaces[name], key, value));
        }
        self.write_batch(durability, &batch, changes)
    }

    /// Deletes the keys `from..to`, and says that `from` is gone even if it was not there.
    pub(crate) fn delete_range(
        &mut self,
        durability: Durability,
        name: &'static str,
        from: &[u8],
        to: &[u8],
    ) -> Result<()> {
        let id = self.marks(|marks| marks.spaces[name]);
        let space = self.space(name)?;
        let mut changes: Vec<Change> = vec![(id, from.to_vec(), None)];
        for entry in space.range(from..to) {
            changes.push((id, entry?.0.to_vec(), None));
        }
        let mut batch = WriteBatch::new();
        batch.delete_range(&space, from..to);
        self.write_batch(durability, &batch, changes)
    }

    fn write_batch(
        &mut self,
        durability: Durability,
        batch: &WriteBatch,
        changes: Vec<Change>,
    ) -> Result<()> {
        let spaces = self.marks(|marks| marks.spaces.clone());
        let before = self.history.len();
        let seqno = self.db().seqno().get() + batch.len() as u64;
        self.history.push(changes);
        self.marks(|marks| {
            marks.tried = before + 1;
            marks.seqno = marks.seqno.max(seqno);
        });
        let options = WriteOptions::new().durability(durability);
        let result = self.db().write(batch, options);
        self.show();
        match result {
            Ok(seqno) => self.marks(|marks| {
                marks.seqno = marks.seqno.max(seqno.get());
                marks.acknowledged = before + 1;
                if durability == Durability::Synced {
                    marks.synced = marks.acknowledged;
                }
                Ok(())
            }),
            Err(error) => {
                // Refused: it is not there, now or later (P12, R15).
                let found = check::contents(self.db());
                let expected = self.history.after(before, &spaces);
                assert_eq!(found, expected, "P12: visible, although {error}");
                self.history.truncate(before);
                self.marks(|marks| marks.tried = before);
                Err(error)
            }
        }
    }

    pub(crate) fn put(&mut self, space: &'static str, key: Vec<u8>, len: usize) -> Result<()> {
        let value = self.value(len);
        self.write(Durability::Logged, vec![(space, key, Some(value))])
    }

    pub(crate) fn delete(&mut self, space: &'static str, key: Vec<u8>) -> Result<()> {
        self.write(Durability::Logged, vec![(space, key, None)])
    }

    /// Bytes of which half compress.
    pub(crate) fn value(&mut self, len: usize) -> Vec<u8> {
        let fill = self.below(256) as u8;
        (0..len)
            .map(|i| match i % 16 {
                0..8 => fill,
                _ => self.below(256) as u8,
            })
            .collect()
    }

    pub(crate) fn sync(&mut self) -> Result<()> {
        self.db().sync()?;
        self.all_synced();
        self.show();
        Ok(())
    }

    /// `flush` makes tables durable, and with them everything before.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.db().flush()?;
        self.all_synced();
        self.show();
        Ok(())
    }

    /// Compacts `default`, which flushes it first: when the newest batch is in that, its being
    /// durable means that everything before it is.
    pub(crate) fn compact(&mut self) -> Result<()> {
        self.db().compact()?;
        if self.history.last_is_in(0) {
            self.all_synced();
        }
        self.show();
        Ok(())
    }

    pub(crate) fn compact_range(&mut self, space: &str, from: &[u8], to: &[u8]) -> Result<()> {
        self.space(space)?.compact_range(from..to)?;
        self.show();
        Ok(())
    }

    /// A keyspace that is made is there after a power loss, and empty.
    pub(crate) fn make_space(&mut self, name: &str) -> Result<()> {
        let incarnation = self.incarnations;
        self.incarnations += 1;
        self.marks(|marks| marks.spaces_next.insert(name.to_owned(), incarnation));
        self.db().keyspace(name, self.setting.space.clone())?;
        self.show();
        self.marks(|marks| marks.spaces = marks.spaces_next.clone());
        Ok(())
    }

    /// One that is dropped is gone.
    pub(crate) fn drop_space(&mut self, name: &str) -> Result<()> {
        self.marks(|marks| marks.spaces_next.remove(name));
        self.db().drop_keyspace(name)?;
        self.show();
        self.marks(|marks| marks.spaces = marks.spaces_next.clone());
        Ok(())
    }

    /// Holds what is there now.
    pub(crate) fn hold_snapshot(&mut self) {
        let snapshot = self.db().snapshot();
        let spaces = self.marks(|marks| marks.spaces.clone());
        let held = self.history.after(self.history.len(), &spaces);
        self.snapshots.push((snapshot, held));
    }

    /// Looks at every snapshot that is held, and lets the oldest go.
    pub(crate) fn release_snapshot(&mut self) -> Result<()> {
        for (snapshot, held) in &self.snapshots {
            for (name, expected) in held {
                let Ok(space) = self.space(name) else {
                    continue;
                };
                let found = check::digest(snapshot.keyspace(&space).iter());
                assert_eq!(found, *expected, "P16: a snapshot of {name} moved");
            }
        }
        if !self.snapshots.is_empty() {
            self.snapshots.remove(0);
        }
        Ok(())
    }

    /// The disk fails from now on, until it is healed.
    pub(crate) fn fail(&mut self, rule: FaultRule) {
        self.sim.fail(rule);
    }

    /// The disk works again.
    pub(crate) fn heal(&mut self) {
        self.sim.heal();
    }

    /// Within five seconds after the healing writes are taken again (P14).
    pub(crate) fn recovers_by_itself(&mut self) -> Result<()> {
        for _ in 0..5 {
            self.sim.advance(Duration::from_secs(1));
            if self.put("orders", b"healed".to_vec(), 40).is_ok() {
                return Ok(());
            }
        }
        self.put("orders", b"healed".to_vec(), 40)
    }
}

//! A database under a script and faults, with what must be true of it.

mod beside;
mod copies;
mod damage;
mod follow;

pub use damage::Damage;

use alluvium::fs::Fs;
use alluvium::fs::sim::{Fault, SimFs};
use alluvium::{
    Db, Durability, Error, ErrorKind, Keyspace, KeyspaceOptions, Options, SeqNo, State, WriteBatch,
    WriteOptions,
};
use damage::Damaged;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub const ROOT: &str = "/db";
const SPACES: [&str; 2] = ["default", "orders"];
/// Attempts after healing; in inline mode each is one step of the retry.
const STEPS_MAX: usize = 3;

pub type Contents = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;
pub type Change = (&'static str, Vec<u8>, Option<Vec<u8>>);

/// What was written and is visible, in write order.
#[derive(Default)]
pub struct History {
    pub batches: Vec<Vec<Change>>,
    /// So many of them are known to be synced.
    pub synced: usize,
    /// The contents after all of them.
    pub now: Contents,
}

impl History {
    fn push(&mut self, changes: Vec<Change>) {
        apply(&mut self.now, &changes);
        self.batches.push(changes);
    }
}

fn apply(contents: &mut Contents, changes: &[Change]) {
    for (space, key, value) in changes {
        match value {
            Some(value) => contents.insert((space, key.clone()), value.clone()),
            None => contents.remove(&(*space, key.clone())),
        };
    }
}

/// See the module's text.
pub struct Run<'a> {
    pub sim: &'a SimFs,
    pub options: Options,
    pub spaces: KeyspaceOptions,
    pub db: Option<Db>,
    pub history: History,
    damaged: Option<Damaged>,
    /// What was not synced may be gone: see [`Run::is_taken_back`].
    is_unsure: bool,
    /// The log was followed up to this number, and so many batches.
    followed: (SeqNo, usize),
    /// At the last flush: how many batches there were, and the tables.
    flushed: (usize, Vec<String>),
    /// For values that are never written twice.
    writes: u64,
    pub what: &'a str,
}

impl<'a> Run<'a> {
    pub fn new(sim: &'a SimFs, options: &Options, spaces: &KeyspaceOptions, what: &'a str) -> Self {
        Run {
            sim,
            options: options.clone().default_keyspace(spaces.clone()),
            spaces: spaces.clone(),
            db: None,
            history: History::default(),
            damaged: None,
            is_unsure: false,
            followed: (SeqNo::ZERO, 0),
            flushed: (0, Vec::new()),
            writes: 0,
            what,
        }
    }

    /// Nothing happens any more after a power loss.
    fn is_dead(&self) -> bool {
        self.sim.is_crashed()
    }

    /// Opens, or leaves no database when that fails; a failure must be one of the disk's.
    pub fn open(&mut self) {
        let is_ok = |db: &Db| matches!(db.state(), State::Ok);
        if self.db.as_ref().is_some_and(|db| !is_ok(db)) && self.is_taken_back() {
            self.is_unsure = true;
        }
        self.db = None;
        if self.is_unsure {
            return;
        }
        let damage = self.damaged.as_ref().map(|damaged| damaged.damage);
        if self.is_dead() || damage.is_some_and(Damage::is_seen_late) {
            return;
        }
        let fs = Fs::sim(self.sim, Path::new(ROOT));
        match self.options.clone().open_in(fs) {
            Ok(db) => {
                if !self.is_dead() {
                    // A repair that failed behind its switch had done its work.
                    self.damaged = None;
                }
                if let Err(error) = db.keyspace("orders", self.spaces.clone()) {
                    self.expect_disk(&error);
                }
                self.db = Some(db);
            }
            Err(error) if damage.is_some() && error.kind() == ErrorKind::Corruption => {}
            Err(error) => self.expect_disk(&error),
        }
    }

    /// Errors are those of the disk, and say what happened.
    fn expect_disk(&self, error: &Error) {
        let kinds = [ErrorKind::Io, ErrorKind::NoSpace, ErrorKind::ReadOnly];
        let text = error.to_string();
        assert!(kinds.contains(&error.kind()), "{}: {error:?}", self.what);
        let reason = ["failed", "manifest", "panicked"];
        assert!(
            reason.iter().any(|r| text.contains(r)),
            "{}: {text}",
            self.what
        );
        assert!(
            error.file().is_some(),
            "{}: names no file: {text}",
            self.what
        );
    }

    fn space(&self, name: &str) -> Option<Keyspace> {
        let db = self.db.as_ref()?;
        db.keyspace(name, self.spaces.clone()).ok()
    }

    /// A failed sync took back what had been written, and another fault was in the way of writing
    /// it again from memory. Whoever closes then is told so, and what was not synced is lost.
    fn is_taken_back(&self) -> bool {
        let coverage = self.sim.coverage();
        let struck = coverage.sites().map(|(site, _)| coverage.hits(&site));
        let struck: Vec<Fault> = struck.flatten().collect();
        1 < struck.len() && struck.contains(&Fault::SyncCleanOld)
    }

    /// A value of `len` bytes that no other write has.
    fn value(&mut self, len: usize) -> Vec<u8> {
        self.writes += 1;
        let mut value = self.writes.to_be_bytes().to_vec();
        value.resize(len.max(8), self.writes as u8);
        value
    }

    pub fn put(&mut self, space: &'static str, n: u32, len: usize) {
        self.batch(Durability::Logged, &[(space, n, Some(len))]);
    }

    pub fn put_synced(&mut self, space: &'static str, n: u32, len: usize) {
        self.batch(Durability::Synced, &[(space, n, Some(len))]);
    }

    pub fn delete(&mut self, space: &'static str, n: u32) {
        self.batch(Durability::Logged, &[(space, n, None)]);
    }

    /// Writes, and checks what the answer promises at once (P12).
    pub fn batch(
        &mut self,
        durability: Durability,
        changes: &[(&'static str, u32, Option<usize>)],
    ) {
        if self.is_dead() {
            return;
        }
        let mut own: Vec<Change> = Vec::new();
        let mut batch = WriteBatch::new();
        for &(space, n, len) in changes {
            let Some(keyspace) = self.space(space) else {
                return;
            };
            let value = len.map(|len| self.value(len));
            match &value {
                Some(value) => batch.put(&keyspace, key(n), value),
                None => batch.delete(&keyspace, key(n)),
            }
            own.push((space, key(n), value));
        }
        self.write(durability, &batch, own);
    }

    /// Deletes the keys from that of `from` up to before that of `to`.
    pub fn delete_range(
        &mut self,
        durability: Durability,
        space: &'static str,
        from: u32,
        to: u32,
    ) {
        let (false, Some(keyspace)) = (self.is_dead(), self.space(space)) else {
            return;
        };
        let (from, to) = (key(from), key(to));
        let mut batch = WriteBatch::new();
        batch.delete_range(&keyspace, &from[..]..&to[..]);
        let now = self.history.now.keys();
        let within = now.filter(|(s, key)| *s == space && from <= *key && *key < to);
        let mut own: Vec<Change> = within.map(|(_, key)| (space, key.clone(), None)).collect();
        own.push((space, from, None));
        self.write(durability, &batch, own);
    }

    fn write(&mut self, durability: Durability, batch: &WriteBatch, own: Vec<Change>) {
        let Some(db) = &self.db else { return };
        let options = WriteOptions::new().durability(durability);
        let answer = db.write(batch, options);
        if self.is_dead() {
            // Nobody heard the answer: it may be there or not.
            self.history.push(own);
            return;
        }
        match answer {
            Ok(_) => {
                self.history.push(own.clone());
                if durability == Durability::Synced {
                    self.history.synced = self.history.batches.len();
                }
            }
            Err(error) => {
                self.expect_disk(&error);
                // P12: the one failure behind which a write is there.
                if error
                    .to_string()
                    .contains("logged and visible, but not synced")
                {
                    assert!(durability == Durability::Synced, "{}: {error}", self.what);
                    self.history.push(own.clone());
                }
            }
        }
        for (space, key, _) in &own {
            self.check_key(space, key);
        }
    }

    /// Reads one key: an error of the disk, or the right answer.
    fn check_key(&self, space: &'static str, key: &[u8]) {
        if self.is_dead() {
            return;
        }
        let Some(keyspace) = self.space(space) else {
            return;
        };
        match keyspace.get(key) {
            Ok(found) => assert_eq!(
                found.as_deref(),
                self.history
                    .now
                    .get(&(space, key.to_vec()))
                    .map(Vec::as_slice),
                "P12: {}: {:?} in {space}",
                self.what,
                String::from_utf8_lossy(key)
            ),
            Err(error) => self.expect_disk(&error),
        }
    }

    /// Reads every key by itself, and then those of each keyspace together.
    pub fn check_keys(&self) {
        for n in 0..KEYS {
            self.check_key(SPACES[n as usize % 2], &key(n));
        }
        for space in SPACES {
            self.check_together(space);
        }
    }

    fn check_together(&self, space: &'static str) {
        let (Some(keyspace), false) = (self.space(space), self.is_dead()) else {
            return;
        };
        let keys: Vec<Vec<u8>> = (0..KEYS).map(key).collect();
        match keyspace.get_many(&keys) {
            Ok(found) => {
                for (key, found) in keys.into_iter().zip(found) {
                    let expected = self.history.now.get(&(space, key));
                    assert_eq!(
                        found.as_deref(),
                        expected.map(Vec::as_slice),
                        "P12: {}: one of many in {space}",
                        self.what
                    );
                }
            }
            Err(error) => self.expect_disk(&error),
        }
    }

    fn upkeep(&mut self, is_durable: bool, call: impl FnOnce(&Db) -> alluvium::Result<()>) {
        let Some(db) = &self.db else { return };
        let answer = call(db);
        if self.is_dead() {
            return;
        }
        match answer {
            Ok(()) if is_durable => self.history.synced = self.history.batches.len(),
            Ok(()) => {}
            Err(error) => self.expect_disk(&error),
        }
    }

    pub fn sync(&mut self) {
        self.upkeep(true, Db::sync);
    }

    pub fn flush(&mut self) {
        self.upkeep(true, Db::flush);
        if self.db.is_some() && !self.is_dead() {
            self.flushed = (self.history.batches.len(), self.tables());
        }
    }

    pub fn compact(&mut self) {
        // Flushes the default keyspace only.
        self.upkeep(false, |db| db.compact());
    }

    /// Checks all tables, and asks what the space is for: what it finds is of the disk, nothing is
    /// damaged.
    pub fn verify(&self) {
        let (Some(db), false) = (&self.db, self.is_dead()) else {
            return;
        };
        match db.verify() {
            Ok(report) => report.problems.iter().for_each(|p| self.expect_disk(p)),
            Err(error) => self.expect_disk(&error),
        }
        match db.why_space() {
            Ok(report) => assert_ne!(report.bytes(), 0),
            Err(error) => self.expect_disk(&error),
        }
    }

    pub fn close(&mut self) {
        if let Some(db) = self.db.take() {
            let answer = db.close();
            if self.is_dead() {
                return;
            }
            match answer {
                Ok(()) => self.history.synced = self.history.batches.len(),
                Err(error) => {
                    self.expect_disk(&error);
                    self.is_unsure |= self.is_taken_back();
                }
            }
        }
    }

    /// Makes a keyspace, writes to it and drops it: no part of the history.
    pub fn come_and_go(&mut self, n: u32) {
        if self.is_dead() {
            return;
        }
        let Some(db) = &self.db else { return };
        let name = format!("extra-{}", n % 3);
        match db.keyspace(&name, self.spaces.clone()) {
            Ok(extra) => {
                let put = extra.put("k", "not part of the history");
                let dropped = db.drop_keyspace(&name);
                for error in [put.err(), dropped.err()].into_iter().flatten() {
                    self.expect_disk(&error);
                }
            }
            Err(error) => self.expect_disk(&error),
        }
    }

    /// The disk works again: the state is `Ok` within a few steps (P14), everything acknowledged
    /// is there, and after a close nothing is left over.
    pub fn check_healed(&mut self) {
        self.sim.heal();
        if std::mem::take(&mut self.is_unsure) {
            self.open();
            self.forget_lost();
        }
        if self.damaged.is_some() {
            self.repair();
        }
        if self.db.is_none() {
            self.open();
        }
        let what = self.what;
        let db = self
            .db
            .as_ref()
            .unwrap_or_else(|| panic!("P4: {what}: does not open"));
        let mut steps = 0;
        while let Err(error) = db.put("probe", "") {
            steps += 1;
            assert!(steps < STEPS_MAX, "P14: {what}: {:?}: {error}", db.state());
        }
        assert!(
            matches!(db.state(), State::Ok),
            "P14: {what}: {}",
            db.state()
        );
        db.delete("probe")
            .unwrap_or_else(|e| panic!("P14: {what}: {e}"));
        expect_same(&contents(db, what), &self.history.now, what);
        // A sync that lied is found out by the next one of that file, also after the healing.
        let synced = db.sync().or_else(|_| db.sync());
        synced.unwrap_or_else(|e| panic!("P14: {what}: {e}"));
        self.history.synced = self.history.batches.len();
    }

    /// The history ends where the contents do: a prefix with everything synced in it.
    fn forget_lost(&mut self) {
        let what = self.what;
        let db = self
            .db
            .as_ref()
            .unwrap_or_else(|| panic!("P4: {what}: does not open"));
        let found = contents(db, what);
        let history = &mut self.history;
        let mut after = Contents::new();
        let mut n = 0;
        while n < history.synced || after != found {
            let batch = history.batches.get(n);
            apply(
                &mut after,
                batch.unwrap_or_else(|| panic!("P1, P2: {what}: no prefix")),
            );
            n += 1;
        }
        history.batches.truncate(n);
        history.now = after;
    }

    /// A clean close, and what it leaves.
    pub fn check_tidy(&mut self) {
        let what = self.what;
        let db = self.db.take().expect("healed");
        db.close()
            .unwrap_or_else(|e| panic!("P14: {what}: close: {e}"));
        let names = names(self.sim);
        let of = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
        let counts = (of(".manifest"), of(".tmp"), of("CURRENT"));
        assert_eq!(counts, (1, 0, 1), "P14: {what}: {names:?}");
        let fs = Fs::sim(self.sim, Path::new(ROOT));
        let db = self.options.clone().open_in(fs);
        let db = db.unwrap_or_else(|e| panic!("P4: {what}: {e}"));
        let left = db.open_report().orphans_removed;
        assert_eq!(left, 0, "P14: {what}: left over among {names:?}");
        let what = format!("{what}, reopened");
        expect_same(&contents(&db, &what), &self.history.now, &what);
    }

    /// Every value that is there was written to its key at some time.
    fn expect_known(&self, fs: &Fs, what: &str) {
        let db = self.options.clone().open_in(fs.clone());
        let db = db.unwrap_or_else(|e| panic!("P4: {what}: {e}"));
        let changes: BTreeSet<&Change> = self.history.batches.iter().flatten().collect();
        for ((space, key), value) in contents(&db, what) {
            let change = (space, key, Some(value));
            assert!(changes.contains(&change), "P8: {what}: {change:?}");
        }
    }

    /// A disk that a power loss may leave: opens, and holds a prefix with everything synced in it.
    /// `lied`: a sync said that all is well and was not. P1 is void then, damage may be named, and
    /// where that sync stood between the log and another keyspace's tables each keyspace is a prefix
    /// of its own.
    pub fn check_image(&self, image: &SimFs, lied: bool, id: &str) {
        let what = format!("{}, {id}", self.what);
        let fs = Fs::sim(image, Path::new(ROOT));
        if self.damaged.is_some() {
            let repaired = self.options.clone().repair_in(fs.clone());
            let report = repaired.unwrap_or_else(|e| panic!("{what}: repair: {e}"));
            if lied {
                // What the disk said to have kept is lost in any order: nothing is made up.
                self.expect_known(&fs, &what);
                return;
            }
            self.expect_no_loss(&report, &what);
        }
        let db = match self.options.clone().open_in(fs) {
            Ok(db) => db,
            Err(error) if lied && error.kind() == ErrorKind::Corruption => {
                assert!(error.file().is_some(), "{what}: {error}");
                return;
            }
            Err(error) => panic!("P4: {what}: {error}"),
        };
        if lied {
            let damaged = SPACES.iter().any(|name| {
                let space = db.keyspace(name, KeyspaceOptions::new());
                space.is_ok_and(|space| space.iter().any(|entry| entry.is_err()))
            });
            if damaged {
                return;
            }
        }
        let found = contents(&db, &what);
        if lied {
            for space in SPACES {
                let own = |contents: &Contents| -> Contents {
                    let entries = contents.iter().filter(|((name, _), _)| *name == space);
                    entries.map(|(k, v)| (k.clone(), v.clone())).collect()
                };
                let found = own(&found);
                let mut after = Contents::new();
                let mut is_prefix = found.is_empty();
                for batch in &self.history.batches {
                    apply(&mut after, batch);
                    is_prefix |= own(&after) == found;
                }
                assert!(is_prefix, "P2: {what}: {space} is no prefix");
            }
            return;
        }
        let least = self.history.synced;
        let mut after = Contents::new();
        for batch in &self.history.batches[..least] {
            apply(&mut after, batch);
        }
        let mut n = least;
        while after != found {
            let Some(batch) = self.history.batches.get(n) else {
                panic!(
                    "P1, P2, P3, R15: {what}: what is there is no prefix of {n} batches with the \
                     first {least} in it"
                );
            };
            apply(&mut after, batch);
            n += 1;
        }
        db.put("after", "the crash")
            .unwrap_or_else(|e| panic!("P4: {what}: {e}"));
    }
}

/// Fails with the keys that differ.
fn expect_same(found: &Contents, expected: &Contents, what: &str) {
    let keys = found.keys().chain(expected.keys());
    let different: Vec<_> = keys
        .filter(|key| found.get(*key) != expected.get(*key))
        .collect();
    assert!(
        different.is_empty(),
        "P12: {what}: differs in {different:?}"
    );
}

/// Scripts write so many different keys.
const KEYS: u32 = 37;

fn key(n: u32) -> Vec<u8> {
    format!("key/{:03}", n % KEYS).into_bytes()
}

pub fn names(sim: &SimFs) -> Vec<String> {
    let entries = Fs::sim(sim, Path::new(ROOT))
        .list()
        .expect("a good disk lists");
    entries.into_iter().map(|entry| entry.name).collect()
}

fn contents(db: &Db, what: &str) -> Contents {
    let mut found = Contents::new();
    for name in SPACES {
        let space = db.keyspace(name, KeyspaceOptions::new());
        let space = space.unwrap_or_else(|e| panic!("{what}: {e}"));
        for entry in space.iter() {
            let (key, value) = entry.unwrap_or_else(|e| panic!("P8: {what}: {e}"));
            found.insert((name, key.to_vec()), value.to_vec());
        }
    }
    found
}

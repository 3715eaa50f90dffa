//! A database in the simulator against a sorted map, through kills and losses of power.
//!
//! Input: options (2 bytes) | operations, each a byte and its arguments. After a power loss the
//! contents must be those after some number of the batches written, not fewer than were synced;
//! whatever is found then has to stay. A kill loses nothing that was acknowledged.
#![no_main]

use alluvium::fs::Fs;
use alluvium::fs::sim::{Family, SimFs};
use alluvium::{
    CompactionStyle, Compression, Db, Durability, Keyspace, KeyspaceOptions, LogMode, Options,
    ReadMode, Result, SeqNo, Snapshot, WriteBatch, WriteOptions,
};
use alluvium_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

const ROOT: &str = "/db";
const SPACES: [&str; 2] = ["default", "orders"];
const OPERATIONS_MAX: usize = 400;
const SNAPSHOTS_MAX: usize = 3;

type Contents = BTreeMap<(usize, Vec<u8>), Vec<u8>>;
type Change = (usize, Vec<u8>, Option<Vec<u8>>);

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut world = World::new(options(&mut input));
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        let result = world.operation(&mut input);
        if world.sim.is_crashed() {
            world.lose_power(&mut input);
        } else {
            result.expect("a good disk gives no errors");
        }
    }
    if world.sim.is_crashed() {
        return;
    }
    world.check_contents();
    let report = world.db().verify().expect("verify runs");
    assert!(report.problems.is_empty(), "{:?}", report.problems);
});

fn options(input: &mut Input<'_>) -> Options {
    let bits = input.number();
    let pick = |bit: u32| bits >> bit & 1 == 1;
    let keyspace = KeyspaceOptions::new()
        .write_buffer_bytes(1 << (10 + (bits & 3)))
        .block_bytes(256)
        .table_bytes(1 << 10)
        .level0_runs(2)
        .tier_runs(2)
        .size_ratio(2)
        .filter_bits_per_key(if pick(2) { 8 } else { 0 })
        .compression(vec![match pick(3) {
            true => Compression::Lz4,
            false => Compression::None,
        }])
        .compaction(match pick(4) {
            true => CompactionStyle::Leveled,
            false => CompactionStyle::Lazy,
        });
    Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(8 << 10)
        .background_threads(0)
        .log_mode([LogMode::Mapped, LogMode::Write][usize::from(pick(5))])
        .read_mode([ReadMode::Mmap, ReadMode::Pread][usize::from(pick(6))])
        .default_keyspace(keyspace)
}

struct World {
    sim: SimFs,
    options: Options,
    open: Option<(Db, [Keyspace; 2])>,
    /// What the last recovery from a power loss found.
    base: Contents,
    /// Batches written since then, acknowledged or not; the first `synced` of them are durable.
    batches: Vec<Vec<Change>>,
    synced: usize,
    /// The highest number of an acknowledged batch.
    newest: SeqNo,
    now: Contents,
    snapshots: Vec<(Snapshot, Contents)>,
}

impl World {
    fn new(options: Options) -> World {
        let mut world = World {
            sim: SimFs::new(9),
            options,
            open: None,
            base: Contents::new(),
            batches: Vec::new(),
            synced: 0,
            newest: SeqNo::ZERO,
            now: Contents::new(),
            snapshots: Vec::new(),
        };
        world.open().expect("an empty disk");
        world
    }

    fn db(&self) -> &Db {
        &self.open.as_ref().expect("open between operations").0
    }

    fn space(&self, n: usize) -> &Keyspace {
        &self.open.as_ref().expect("open between operations").1[n]
    }

    fn open(&mut self) -> Result<()> {
        let fs = Fs::sim(&self.sim, Path::new(ROOT));
        let db = self.options.clone().open_in(fs)?;
        let first = db.keyspace(SPACES[0], KeyspaceOptions::new())?;
        let second = db.keyspace(SPACES[1], second_options())?;
        self.open = Some((db, [first, second]));
        Ok(())
    }

    fn leave(&mut self) -> Option<Db> {
        self.snapshots.clear();
        self.open.take().map(|(db, _)| db)
    }

    fn operation(&mut self, input: &mut Input<'_>) -> Result<()> {
        match input.below(32) {
            0..=7 => {
                let change = (input.below(2), key(input), Some(value(input)));
                self.write(vec![change], Durability::Logged)
            }
            8..=10 => {
                let change = (input.below(2), key(input), None);
                self.write(vec![change], Durability::Logged)
            }
            11..=13 => {
                let durability = [Durability::Logged, Durability::Synced][input.below(2)];
                let changes = (0..input.below(8)).map(|_| {
                    let put = input.below(4) != 0;
                    (input.below(2), key(input), put.then(|| value(input)))
                });
                let changes = changes.collect();
                self.write(changes, durability)
            }
            14..=16 => {
                let (n, key) = (input.below(2), key(input));
                let found = self.space(n).get(&key)?;
                assert_eq!(found.as_deref(), self.now.get(&(n, key)).map(|v| &v[..]));
                Ok(())
            }
            17..=19 => self.range(input),
            20 => self.walk(input),
            21 => {
                if SNAPSHOTS_MAX <= self.snapshots.len() {
                    self.snapshots.remove(0);
                }
                self.snapshots
                    .push((self.db().snapshot(), self.now.clone()));
                Ok(())
            }
            22 => self.read_snapshots(input.below(2)),
            23 | 24 => {
                self.db().flush()?;
                self.now_synced();
                Ok(())
            }
            25 => {
                let n = input.below(2);
                self.space(n).compact()
            }
            26 => {
                self.db().sync()?;
                self.now_synced();
                Ok(())
            }
            27 => {
                if let Some(db) = self.leave() {
                    db.close()?;
                }
                self.now_synced();
                self.open()?;
                self.check_contents();
                Ok(())
            }
            28 => {
                let after = self.sim.kill();
                self.leave();
                self.sim = after;
                self.open()?;
                self.check_contents();
                Ok(())
            }
            29 => {
                self.lose_power(input);
                Ok(())
            }
            30 => {
                let calls = input.below(64) as u64;
                self.sim.crash_at(self.sim.call_count() + calls);
                Ok(())
            }
            _ => {
                let report = self.db().verify()?;
                let is_sound = report.problems.is_empty() || self.sim.is_crashed();
                assert!(is_sound, "{:?}", report.problems);
                Ok(())
            }
        }
    }

    fn write(&mut self, changes: Vec<Change>, durability: Durability) -> Result<()> {
        let mut batch = WriteBatch::new();
        for (n, key, value) in &changes {
            match value {
                Some(value) => batch.put(self.space(*n), key, value),
                None => batch.delete(self.space(*n), key),
            }
        }
        apply(&mut self.now, &changes);
        self.batches.push(changes);
        let options = WriteOptions::new().durability(durability);
        let seqno = self.db().write(&batch, options)?;
        // A store through a mapping cannot fail: behind the crash nothing counts as acknowledged.
        if !self.sim.is_crashed() && !batch.is_empty() {
            assert!(
                self.newest < seqno,
                "P6: numbers go on above those of before"
            );
            self.newest = seqno;
        }
        if !self.sim.is_crashed() {
            if durability == Durability::Synced {
                self.now_synced();
            }
        }
        Ok(())
    }

    fn now_synced(&mut self) {
        if !self.sim.is_crashed() {
            self.synced = self.batches.len();
        }
    }

    /// A range taken from both ends, in an order that the input gives.
    fn range(&mut self, input: &mut Input<'_>) -> Result<()> {
        let (n, mut turns) = (input.below(2), input.byte());
        let (from, to) = (bound(input), bound(input));
        let is_in = |key: &[u8]| {
            let after = match &from {
                Bound::Included(from) => &from[..] <= key,
                Bound::Excluded(from) => &from[..] < key,
                Bound::Unbounded => true,
            };
            after
                && match &to {
                    Bound::Included(to) => key <= &to[..],
                    Bound::Excluded(to) => key < &to[..],
                    Bound::Unbounded => true,
                }
        };
        let wanted = |(key, _): &(&(usize, Vec<u8>), &Vec<u8>)| key.0 == n && is_in(&key.1);
        let mut expected = self.now.iter().filter(wanted);
        let mut found = self.space(n).range((from.clone(), to.clone()));
        loop {
            let (found, expected) = match turns & 1 {
                0 => (found.next(), expected.next()),
                _ => (found.next_back(), expected.next_back()),
            };
            turns = turns.rotate_right(1);
            let found = found.transpose()?;
            let found = found.as_ref().map(|(key, value)| (&key[..], &value[..]));
            assert_eq!(
                found,
                expected.map(|((_, key), value)| (&key[..], &value[..]))
            );
            if found.is_none() {
                return Ok(());
            }
        }
    }

    /// A seek, and some steps from there.
    fn walk(&mut self, input: &mut Input<'_>) -> Result<()> {
        let (n, sought) = (input.below(2), key(input));
        let entries = self.now.iter().filter(|(place, _)| place.0 == n);
        let entries: Vec<_> = entries
            .map(|((_, key), value)| (&key[..], &value[..]))
            .collect();
        let mut cursor = self.space(n).cursor();
        cursor.seek(&sought)?;
        let mut at = entries.partition_point(|entry| entry.0 < &sought[..]);
        for _ in 0..input.below(16) {
            assert_eq!(cursor.entry(), entries.get(at).copied());
            match input.below(2) {
                0 if at < entries.len() => {
                    cursor.next()?;
                    at += 1;
                }
                1 if 0 < at => {
                    cursor.prev()?;
                    at -= 1;
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn read_snapshots(&mut self, n: usize) -> Result<()> {
        for (snapshot, then) in &self.snapshots {
            let mut expected = then.iter().filter(|(place, _)| place.0 == n);
            for entry in snapshot.keyspace(self.space(n)).iter() {
                let (key, value) = entry?;
                let ((_, wanted), then) = expected.next().expect("no more than was there");
                assert_eq!((&key[..], &value[..]), (&wanted[..], &then[..]));
            }
            assert!(expected.next().is_none(), "as much as was there");
        }
        Ok(())
    }

    fn contents(&self) -> Result<Contents> {
        let mut found = Contents::new();
        for n in 0..SPACES.len() {
            for entry in self.space(n).iter() {
                let (key, value) = entry?;
                found.insert((n, key.to_vec()), value.to_vec());
            }
        }
        Ok(found)
    }

    fn check_contents(&self) {
        match self.contents() {
            Ok(found) => assert_eq!(found, self.now),
            // The crash point was reached just before: the power loss that follows checks more.
            Err(_) if self.sim.is_crashed() => {}
            Err(error) => panic!("a good disk reads well: {error}"),
        }
    }

    /// Takes one of the disks that a loss of power leaves, and starts again on it.
    fn lose_power(&mut self, input: &mut Input<'_>) {
        let family = Family::ALL[input.below(Family::ALL.len())];
        let n = input.below(16);
        let image = self.sim.images(&[family]).take(n + 1).last();
        let image = image.or_else(|| self.sim.images(&[Family::Nothing]).next());
        let image = image.expect("the family of nothing has a plan");
        let what = image.id.to_string();
        self.leave();
        self.sim = image.sim;
        self.open()
            .unwrap_or_else(|error| panic!("P4: {what}: {error}"));
        let found = self.contents().expect("a good disk reads well");
        let mut then = self.base.clone();
        let mut is_prefix = false;
        for (i, batch) in self.batches.iter().enumerate() {
            is_prefix |= self.synced <= i && then == found;
            apply(&mut then, batch);
        }
        assert!(
            is_prefix || then == found,
            "P1, P2, P3: {what}: what is there is no prefix of {} batches with the first {} in it",
            self.batches.len(),
            self.synced
        );
        self.base.clone_from(&found);
        self.now = found;
        self.batches.clear();
        self.synced = 0;
    }
}

fn second_options() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .write_buffer_bytes(1 << 10)
        .block_bytes(256)
        .table_bytes(1 << 10)
        .level0_runs(1)
        .tier_runs(2)
        .size_ratio(3)
}

fn apply(contents: &mut Contents, changes: &[Change]) {
    for (n, key, value) in changes {
        let place = (*n, key.clone());
        match value {
            Some(value) => contents.insert(place, value.clone()),
            None => contents.remove(&place),
        };
    }
}

/// Few keys, so that they collide; some long, some beginnings of others, one empty.
fn key(input: &mut Input<'_>) -> Vec<u8> {
    match input.byte() {
        n @ 0..160 => format!("k{:02}", n % 40).into_bytes(),
        n @ 160..220 => format!("common/prefix/of/keys/{:03}", n % 20).into_bytes(),
        n @ 220..240 => vec![b'k'; usize::from(n - 220) % 4],
        n => vec![0xff; usize::from(n - 240) % 4],
    }
}

fn value(input: &mut Input<'_>) -> Vec<u8> {
    let byte = input.byte();
    match byte {
        0..220 => vec![byte; usize::from(byte % 48)],
        _ => vec![byte; 100 * usize::from(byte - 219)],
    }
}

fn bound(input: &mut Input<'_>) -> Bound<Vec<u8>> {
    match input.below(4) {
        0 | 1 => Bound::Unbounded,
        2 => Bound::Included(key(input)),
        _ => Bound::Excluded(key(input)),
    }
}

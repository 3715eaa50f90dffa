//! Kill -9, again and again, on the real disk (A9): nothing acknowledged is lost, nothing is half
//! there.
//!
//! A child (this test binary again, with only [`child_writes_until_it_is_killed`]) goes through
//! sessions: it opens the directory, writes batch after batch over two keyspaces, numbered from 1
//! without gaps, some `Logged` and some `Synced`, and closes; it says each step, and each number
//! after the write was acknowledged. The parent kills it with SIGKILL at a random moment after a
//! step that it waits for, so that kills fall on openings, writes (with flushes and compactions,
//! because buffers are small) and closings alike. Then it opens the directory and checks it
//! against a model that replays batches 1 to n, where n is the number in the store's own `last`
//! key, written in each batch:
//!
//! - n is not before the last acknowledged number: `Logged` is enough to survive a kill (P1);
//! - both keyspaces hold exactly what batches 1 to n leave: a prefix of the write order, each batch
//!   whole (P2, P3);
//! - it opens (P4), the directory is tidy (P5), and sequence numbers go on (P6).
//!
//! Then the next child goes on in the same directory. Each option set has a directory of its own.
//! What a batch does follows from the seed and its number alone. The seed is printed;
//! `KILL_SEED=n` repeats a run's choices; moments are those of the machine and never come again.
#![expect(clippy::unwrap_used, reason = "here it is an assertion")]

use crate::model::Random;
use crate::scale::{Part, Scale, Tally, only};
use alluvium::fs::FileName;
use alluvium::{
    CompactionStyle, Compression, Db, Durability, Keyspace, KeyspaceOptions, LogMode, Options,
    ReadMode, WriteBatch, WriteOptions,
};
use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const DIRECTORY: &str = "ALLUVIUM_KILL_DIRECTORY";
const SEED: &str = "ALLUVIUM_KILL_SEED";
const SET: &str = "ALLUVIUM_KILL_SET";
const CHILD: &str = "kill::child_writes_until_it_is_killed";

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Names of the option sets, for messages.
const SETS: [&str; 5] = ["defaults", "written", "leveled", "compressed", "segments"];

fn options(set: usize) -> (Options, KeyspaceOptions) {
    let options = Options::new().log_segment_bytes(128 << 10);
    let space = KeyspaceOptions::new()
        .write_buffer_bytes(64 << 10)
        .table_bytes(64 << 10);
    match set {
        0 => (options, space),
        1 => (options.log_mode(LogMode::Write), space),
        2 => (
            options.background_threads(1),
            space.compaction(CompactionStyle::Leveled).size_ratio(3),
        ),
        3 => (
            options.read_mode(ReadMode::Pread),
            space
                .compression(vec![Compression::None, Compression::Lz4])
                .block_bytes(1 << 10),
        ),
        _ => (
            options.log_segment_bytes(16 << 10),
            space.write_buffer_bytes(256 << 10),
        ),
    }
}

/// The step that the parent waits for, and for how long it then lets the child go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Opening,
    Writing,
    Closing,
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Phase::Opening => "opening",
            Phase::Writing => "acknowledged",
            Phase::Closing => "closing",
        }
    }

    fn micros_max(self) -> u64 {
        match self {
            Phase::Opening => 8_000,
            Phase::Writing => 40_000,
            Phase::Closing => 4_000,
        }
    }
}

#[test]
fn a9_nothing_acknowledged_is_lost_by_kill_9() {
    if only().is_some() {
        return; // A kill at a moment of the real machine cannot be repeated.
    }
    let mut tally = Tally::new("A9 kill -9 loop", "kills", [50, 300, 100_000]);
    let kills = Part::now().of(Scale::now().pick(50, 300, 100_000));
    let from_environment = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = from_environment("KILL_SEED").unwrap_or(now.as_nanos() as u64);
    println!("KILL_SEED={seed}");
    let root = std::env::temp_dir().join(format!("alluvium-kill-{}", std::process::id()));
    let mut random = Random(seed);
    let mut stores: Vec<Parent> = (0..SETS.len())
        .map(|set| Parent::new(&root, set, seed))
        .collect();
    let mut reached = HashSet::new();
    for kill in 0..kills {
        let set = kill as usize % SETS.len();
        let phase = match random.number_below(8) {
            0 | 1 => Phase::Opening,
            2 | 3 => Phase::Closing,
            _ => Phase::Writing,
        };
        let delay = Duration::from_micros(random.number_below(phase.micros_max()));
        let parent = &mut stores[set];
        let last_word = parent.run_and_kill(phase, delay);
        reached.insert(last_word);
        let what = format!("KILL_SEED={seed}, kill {kill}, {}, {phase:?}", SETS[set]);
        parent.check(&what);
        tally.add(1);
    }
    for parent in &stores {
        let set = SETS[parent.set];
        assert!(0 < parent.model.last, "{set}: nothing was written");
        let few = kills < 5 * SETS.len() as u64;
        assert!(few || 0 < parent.flushes, "{set}: no flush happened");
    }
    // The child died after each of its words: in every phase.
    for word in ["opening", "acknowledged", "closing"] {
        assert!(reached.contains(word), "no child died after {word}");
    }
    let batches: u64 = stores.iter().map(|parent| parent.model.last).sum();
    let slowest = stores.iter().map(|parent| parent.slowest_open).max();
    println!("{batches} batches, every one accounted for; slowest open {slowest:?}");
    std::fs::remove_dir_all(&root).unwrap();
    tally.finish("cargo test --profile torture --features sim --test torture kill::");
}

/// The parent's side of one directory.
struct Parent {
    set: usize,
    directory: PathBuf,
    model: Model,
    /// What the child said last: the number of a batch, and the sequence number.
    acknowledged: u64,
    seqno: u64,
    flushes: u64,
    slowest_open: Duration,
}

impl Parent {
    fn new(root: &Path, set: usize, seed: u64) -> Self {
        Parent {
            set,
            directory: root.join(SETS[set]),
            model: Model::new(seed),
            acknowledged: 0,
            seqno: 0,
            flushes: 0,
            slowest_open: Duration::ZERO,
        }
    }

    /// Kills a child some time after it said the phase's word; gives its last word.
    fn run_and_kill(&mut self, phase: Phase, delay: Duration) -> String {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--nocapture"])
            .env(DIRECTORY, &self.directory)
            .env(SEED, self.model.seed.to_string())
            .env(SET, self.set.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = String::new();
        for line in lines.by_ref().map_while(Result::ok) {
            if self.hear(&line, &mut said) && said == phase.word() {
                break;
            }
        }
        let deadline = Instant::now() + delay;
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        for line in reader.join().unwrap() {
            self.hear(&line, &mut said);
        }
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(
            status.signal(),
            Some(9),
            "the child ended by itself: {status}"
        );
        said
    }

    /// Takes one line of the child; false for those that are not its own.
    fn hear(&mut self, line: &str, said: &mut String) -> bool {
        // The first line comes behind the test runner's own words.
        let Some((_, line)) = line.split_once("child: ") else {
            return false;
        };
        let mut words = line.split(' ');
        *said = words.next().unwrap().to_owned();
        // A line that was cut off by the kill has fewer words: its write is not counted.
        if let (Some(number), Some(seqno), Some(".")) = (words.next(), words.next(), words.next()) {
            self.acknowledged = self.acknowledged.max(number.parse().unwrap());
            self.seqno = self.seqno.max(seqno.parse().unwrap());
        }
        true
    }

    fn check(&mut self, what: &str) {
        let start = Instant::now();
        let store = Store::open(&self.directory, self.set);
        self.slowest_open = self.slowest_open.max(start.elapsed());
        let last = store.last();
        let least = self.acknowledged.max(self.model.last);
        assert!(
            least <= last,
            "P1: {what}: {least} was acknowledged, found only {last}"
        );
        self.model.replay_to(last);
        let expected = [&self.model.first, &self.model.second];
        for (keyspace, expected) in [&store.first, &store.second].into_iter().zip(expected) {
            let found: Map = keyspace
                .iter()
                .map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())))
                .collect::<Result<_, _>>()
                .unwrap();
            let differs = expected.iter().zip(&found).find(|(e, f)| e != f);
            assert!(
                *expected == found,
                "P2, P3: {what}: not what batches 1 to {last} leave; {} entries, expected {}, \
                 first difference {differs:?}",
                found.len(),
                expected.len()
            );
        }
        self.check_tidy(what);
        store.db.put("checked", what).unwrap();
        let seqno = store.db.seqno().get();
        assert!(self.seqno < seqno, "P6: {what}: {seqno} again");
        self.seqno = seqno;
        self.flushes += store.tables();
        store.db.close().unwrap();
    }

    /// P5, as far as it can be told while workers run: one manifest, and nothing temporary.
    fn check_tidy(&self, what: &str) {
        let entries = std::fs::read_dir(&self.directory).unwrap();
        let names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let kinds: Vec<FileName> = names.iter().filter_map(|n| FileName::parse(n)).collect();
        let is_manifest = |name: &&FileName| matches!(name, FileName::Manifest(_));
        assert_eq!(
            kinds.iter().filter(is_manifest).count(),
            1,
            "P5: {what}: {names:?}"
        );
        let is_temp = |name: &FileName| matches!(name, FileName::Temp(_));
        assert!(!kinds.iter().any(is_temp), "P5: {what}: {names:?}");
    }
}

/// Not a test of its own: what the parent runs in a child process.
#[test]
fn child_writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return; // Not the child: its parent is the test above.
    };
    let number = |name: &str| -> u64 { std::env::var(name).unwrap().parse().unwrap() };
    let (seed, set) = (number(SEED), number(SET) as usize);
    let mut out = std::io::stdout().lock();
    let mut random = Random(seed ^ u64::from(std::process::id()));
    loop {
        writeln!(out, "child: opening").unwrap();
        let store = Store::open(&directory, set);
        let first = store.last() + 1;
        for number in first..first + 1 + random.number_below(400) {
            let seqno = store.write(seed, number);
            // The point says that the line is whole.
            writeln!(out, "child: acknowledged {number} {seqno} .").unwrap();
        }
        writeln!(out, "child: closing").unwrap();
        store.db.close().unwrap();
    }
}

struct Change {
    second: bool,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// What batch `number` does: 1 to 12 changes, every batch in both keyspaces now and then, a
/// quarter deletions, keys that come again, and now and then a value over many blocks.
fn changes(seed: u64, number: u64) -> Vec<Change> {
    let mut random = Random(seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let count = 1 + random.number_below(12);
    (0..count)
        .map(|_| {
            let key = format!("key{:05}", random.number_below(3_000)).into_bytes();
            let bytes = match random.number_below(100) {
                0 => 20_000,
                _ => random.number_below(200) as usize,
            };
            let value = format!("{number}:").into_bytes();
            let fill = random.next() as u8;
            let value = [value, vec![fill; bytes]].concat();
            Change {
                second: random.number_below(2) == 1,
                key,
                value: (random.number_below(4) != 0).then_some(value),
            }
        })
        .collect()
}

struct Store {
    db: Db,
    first: Keyspace,
    second: Keyspace,
}

impl Store {
    fn open(directory: &Path, set: usize) -> Self {
        let (options, space) = options(set);
        let options = options.default_keyspace(space.clone());
        let db = options.open(directory).unwrap();
        Store {
            first: db.keyspace("first", space.clone()).unwrap(),
            second: db.keyspace("second", space).unwrap(),
            db,
        }
    }

    /// Writes batch `number`; gives its sequence number.
    fn write(&self, seed: u64, number: u64) -> u64 {
        let mut batch = WriteBatch::new();
        for change in changes(seed, number) {
            let keyspace = match change.second {
                true => &self.second,
                false => &self.first,
            };
            match change.value {
                Some(value) => batch.put(keyspace, &change.key, value),
                None => batch.delete(keyspace, &change.key),
            }
        }
        batch.put(&self.db, "last", number.to_le_bytes());
        let durability = match number % 16 {
            0 => Durability::Synced,
            _ => Durability::Logged,
        };
        let options = WriteOptions::new().durability(durability);
        self.db.write(&batch, options).unwrap().get()
    }

    /// The number of the newest batch that is there.
    fn last(&self) -> u64 {
        let last = self.db.get("last").unwrap();
        last.map_or(0, |bytes| u64::from_le_bytes((*bytes).try_into().unwrap()))
    }

    fn tables(&self) -> u64 {
        let stats = self.db.stats();
        let levels = stats.keyspaces.iter().flat_map(|k| &k.levels);
        levels.map(|level| level.files()).sum()
    }
}

/// What the batches up to `last` leave.
struct Model {
    seed: u64,
    last: u64,
    first: Map,
    second: Map,
}

impl Model {
    fn new(seed: u64) -> Self {
        Model {
            seed,
            last: 0,
            first: Map::new(),
            second: Map::new(),
        }
    }

    fn replay_to(&mut self, last: u64) {
        for number in self.last + 1..=last {
            for change in changes(self.seed, number) {
                let map = match change.second {
                    true => &mut self.second,
                    false => &mut self.first,
                };
                match change.value {
                    Some(value) => map.insert(change.key, value),
                    None => map.remove(&change.key),
                };
            }
        }
        self.last = last;
    }
}

//! Kill -9, again and again, on the real disk: nothing acknowledged is lost, nothing is half there.
//!
//! A child (this test binary again, with only [`child_writes_until_it_is_killed`]) writes batch
//! after batch over two keyspaces, numbered from 1 without gaps, some `Logged` and some `Synced`,
//! and says each number after the write was acknowledged. The parent kills it with SIGKILL at a
//! random moment, opens the directory and checks it against a model that replays batches 1 to n,
//! where n is the number in the store's own `last` key, written in each batch:
//!
//! - n is not before the last acknowledged number (and at most one beyond the last one tried);
//! - both keyspaces hold exactly what batches 1 to n leave: a prefix of the write order, each batch
//!   whole.
//!
//! Then the next child goes on in the same directory. What a batch does follows from the seed and
//! its number alone. Write buffers are small, so that kills land in flushes and compactions too.
//! The seed is printed; `KILL_SEED=n` repeats a run's choices, `KILL_COUNT=n` changes how many.
#![expect(clippy::unwrap_used, reason = "here it is an assertion")]

use alluvium::{Db, Durability, Keyspace, KeyspaceOptions, Options, WriteBatch, WriteOptions};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const KILLS: u64 = 50;
const DIRECTORY: &str = "ALLUVIUM_KILL_DIRECTORY";
const SEED: &str = "ALLUVIUM_KILL_SEED";
const CHILD: &str = "child_writes_until_it_is_killed";
const TOLD: &str = "acknowledged ";

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let from_environment = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = from_environment("KILL_SEED").unwrap_or(now.as_nanos() as u64);
    let kills = from_environment("KILL_COUNT").unwrap_or(KILLS);
    println!("KILL_SEED={seed}");
    let directory = std::env::temp_dir().join(format!("alluvium-kill-{}", std::process::id()));
    let mut random = Random(seed);
    let mut model = Model::new(seed);
    let mut flushes = 0;
    for kill in 0..kills {
        let delay = Duration::from_micros(random.below(60_000));
        let acknowledged = run_and_kill(&directory, seed, delay).max(model.last);
        let store = Store::open(&directory);
        let last = store.last();
        assert!(
            acknowledged <= last,
            "KILL_SEED={seed}, kill {kill}: {acknowledged} was acknowledged, found only {last}"
        );
        model.replay_to(last);
        for (keyspace, expected) in [(&store.first, &model.first), (&store.second, &model.second)] {
            let found: Map = keyspace
                .iter()
                .map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())))
                .collect::<Result<_, _>>()
                .unwrap();
            let differs = expected
                .iter()
                .zip(&found)
                .find(|(expected, found)| expected != found);
            assert!(
                *expected == found,
                "KILL_SEED={seed}, kill {kill}: not what batches 1 to {last} leave; {} entries, \
                 expected {}, first difference {differs:?}",
                found.len(),
                expected.len()
            );
        }
        flushes += store.tables();
        store.db.close().unwrap();
    }
    assert!(
        kills <= model.last,
        "only {} batches were written: the test is empty",
        model.last
    );
    assert!(0 < flushes, "no flush happened: the test is too small");
    println!(
        "{kills} kills, {} batches, every one accounted for",
        model.last
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

/// The last number the child told before it died.
fn run_and_kill(directory: &Path, seed: u64, delay: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The clock starts with the first write, or the kills would all fall on the recovery; one in
    // eight may fall there (its delay is short).
    let mut acknowledged = 0;
    let mut tell = |line: &str| {
        if let Some((_, number)) = line.split_once(TOLD) {
            acknowledged = number.parse().unwrap_or(acknowledged).max(acknowledged);
        }
    };
    if !delay.as_micros().is_multiple_of(8) {
        for line in lines.by_ref().map_while(Result::ok) {
            tell(&line);
            if line.contains(TOLD) {
                break;
            }
        }
    }
    let deadline = Instant::now() + delay;
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).last());
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    child.kill().unwrap();
    let status = child.wait().unwrap();
    if let Some(line) = reader.join().unwrap() {
        tell(&line);
    }
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(
        status.signal(),
        Some(9),
        "the child ended by itself: {status}"
    );
    acknowledged
}

/// Not a test of its own: what the parent runs in a child process.
#[test]
fn child_writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return; // Not the child: its parent is the test above.
    };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let store = Store::open(&directory);
    let mut out = std::io::stdout().lock();
    for number in store.last() + 1.. {
        let mut batch = WriteBatch::new();
        for change in changes(seed, number) {
            let keyspace = if change.second {
                &store.second
            } else {
                &store.first
            };
            match change.value {
                Some(value) => batch.put(keyspace, &change.key, value),
                None => batch.delete(keyspace, &change.key),
            }
        }
        batch.put(&store.db, "last", number.to_le_bytes());
        let durability = match number % 16 {
            0 => Durability::Synced,
            _ => Durability::Logged,
        };
        let options = WriteOptions::new().durability(durability);
        store.db.write(&batch, options).unwrap();
        writeln!(out, "{TOLD}{number}").unwrap();
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
    let count = 1 + random.below(12);
    (0..count)
        .map(|_| {
            let key = format!("key{:05}", random.below(3_000)).into_bytes();
            let bytes = match random.below(100) {
                0 => 20_000,
                _ => random.below(200) as usize,
            };
            let value = format!("{number}:").into_bytes();
            let fill = random.next() as u8;
            let value = [value, vec![fill; bytes]].concat();
            Change {
                second: random.below(2) == 1,
                key,
                value: (random.below(4) != 0).then_some(value),
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
    fn open(directory: &Path) -> Self {
        let small = || {
            KeyspaceOptions::new()
                .write_buffer_bytes(64 << 10)
                .table_bytes(64 << 10)
        };
        let db = Options::new()
            .default_keyspace(small())
            .log_segment_bytes(128 << 10)
            .open(directory)
            .unwrap();
        Store {
            first: db.keyspace("first", small()).unwrap(),
            second: db.keyspace("second", small()).unwrap(),
            db,
        }
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
                let map = if change.second {
                    &mut self.second
                } else {
                    &mut self.first
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

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; the bias of a small limit does not matter here.
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

//! The real disk under `strace`: the engine makes the same calls there as in the simulator, byte for
//! byte, and what the simulator's faults show holds when the kernel fails the calls.
//!
//! One script, with everything a database does to files, runs in three places: in the simulator, in
//! a child process whose calls are traced and compared with it, and in children of which one call
//! fails. The script checks itself: what was refused is not there, now or after the next opening,
//! and everything else is (P12, P13). `.ci/parity` runs these tests; elsewhere they do nothing,
//! because they need strace.
#![expect(clippy::unwrap_used, reason = "here it is an assertion")]

use crate::scale::Tally;
use crate::temp_dir::TempDir;
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::{
    Compression, Db, Durability, Iter, Keyspace, KeyspaceOptions, LogMode, Options, ReadMode,
    Result, WriteBatch, WriteOptions,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const WANTED: &str = "ALLUVIUM_PARITY";
const DIRECTORY: &str = "ALLUVIUM_PARITY_DIRECTORY";
const CHILD: &str = "parity::child_runs_the_script";
/// A session ends at the first refusal; what is left to do then is done in the next.
const SESSIONS: u64 = 5;
const BATCHES: u64 = 24;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn options() -> Options {
    let space = KeyspaceOptions::new()
        .write_buffer_bytes(16 << 10)
        .compression(vec![Compression::None]);
    Options::new()
        .memory_bytes(1 << 20)
        .background_threads(0)
        .log_segment_bytes(8 << 10)
        // No stores into mappings, which nobody can trace.
        .log_mode(LogMode::Write)
        .read_mode(ReadMode::Pread)
        .default_keyspace(space)
}

/// A database under the script, and what must be in it.
#[derive(Default)]
struct Script {
    model: [Map; 2],
    refused: u64,
}

impl Script {
    /// Runs it; gives how often something was refused.
    fn run(open: &dyn Fn() -> Result<Db>) -> u64 {
        let mut script = Script::default();
        for session in 0..SESSIONS {
            let db = script.again(open);
            script.check(&db);
            if let Err(error) = script.session(&db, session) {
                script.refused += 1;
                println!("child: session {session}: {error}");
                script.check(&db);
            }
            if let Err(error) = db.close() {
                script.refused += 1;
                println!("child: close {session}: {error}");
            }
        }
        let db = script.again(open);
        script.check(&db);
        script.refused
    }

    /// What fails once succeeds when it is tried again.
    fn again<T>(&mut self, what: impl Fn() -> Result<T>) -> T {
        let mut last = None;
        for _ in 0..3 {
            match what() {
                Ok(done) => return done,
                Err(error) => last = Some(error),
            }
            self.refused += 1;
        }
        panic!("refused again and again: {}", last.unwrap())
    }

    fn session(&mut self, db: &Db, session: u64) -> Result<()> {
        let orders = db.keyspace("orders", KeyspaceOptions::new())?;
        for n in 0..BATCHES {
            let number = session * BATCHES + n;
            let mut batch = WriteBatch::new();
            let mut model = self.model.clone();
            for i in 0..1 + number % 5 {
                let key = format!("key{:03}", (number * 13 + i * 5) % 90).into_bytes();
                let value = vec![number as u8; 40 + (number * 37 % 400) as usize];
                let map = &mut model[(i % 2) as usize];
                let place: &Keyspace = if i % 2 == 0 { db } else { &orders };
                if (number + i).is_multiple_of(6) {
                    batch.delete(place, &key);
                    map.remove(&key);
                } else {
                    batch.put(place, &key, &value);
                    map.insert(key, value);
                }
            }
            let durability = match number % 4 {
                0 => Durability::Synced,
                _ => Durability::Logged,
            };
            let written = db.write(&batch, WriteOptions::new().durability(durability));
            // With a sync that failed it is logged all the same, and stays, or it was not logged.
            let is_logged = written.is_ok() || {
                let found = self.again(|| read(db));
                found == model && found != self.model
            };
            if is_logged {
                self.model = model;
            }
            assert!(
                written.is_ok() || !is_logged || durability == Durability::Synced,
                "P12: refused, and visible"
            );
            written?;
            match n {
                11 => db.flush()?,
                17 if session % 2 == 1 => db.compact()?,
                20 => db.sync()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Exactly what was acknowledged is there. A read that fails is tried again.
    fn check(&mut self, db: &Db) {
        let found = self.again(|| read(db));
        for (found, expected) in found.iter().zip(&self.model) {
            let differs = expected.iter().zip(found).find(|(e, f)| e != f);
            assert!(
                found == expected,
                "P12: {} entries, expected {}; first difference {differs:?}",
                found.len(),
                expected.len()
            );
        }
    }
}

/// Everything that is there, in both keyspaces.
fn read(db: &Db) -> Result<[Map; 2]> {
    let all = |iter: Iter| -> Result<Map> {
        iter.map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())))
            .collect()
    };
    let orders = match db.keyspaces().iter().any(|name| name == "orders") {
        true => all(db.keyspace("orders", KeyspaceOptions::new())?.iter())?,
        false => Map::new(),
    };
    Ok([all(db.iter())?, orders])
}

/// Not a test of its own: what the parents run in child processes.
#[test]
fn child_runs_the_script() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return; // Not the child: its parents are the tests below.
    };
    // strace counts in each thread by itself: with these behind it, the script's calls have numbers
    // that neither the loader nor the test runner reach.
    for _ in 0..64 {
        let null = File::open("/dev/null").unwrap();
        null.read_at(&mut [0], 0).unwrap();
    }
    let refused = Script::run(&|| options().open(&directory));
    println!("child: done, refused {refused} .");
}

/// Runs the script in a child under strace with these arguments; gives how often it was refused.
fn trace(directory: &Path, arguments: &[String]) -> u64 {
    let output = Command::new("strace")
        .args(["-f", "-qq", "-y", "-s", "0"])
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .output()
        .expect("strace is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    let refused = said.split_once("done, refused ").map(|(_, rest)| rest);
    let refused = refused.and_then(|rest| rest.split(' ').next()?.parse().ok());
    match (output.status.success(), refused) {
        (true, Some(refused)) => refused,
        _ => panic!("{arguments:?}: {}\n{said}{complaint}", output.status),
    }
}

/// One call of the child's that concerns its directory.
#[derive(Debug)]
struct Traced {
    syscall: String,
    /// The how manieth of this name in its thread, from 1: what strace's `when` counts.
    nth: u64,
    /// As the simulator says it, when it is one of those that change something.
    mutation: Option<String>,
}

/// Reads strace's output: `PID syscall(arguments) = result`.
fn read_trace(text: &str, directory: &Path) -> Vec<Traced> {
    let directory = directory.to_str().unwrap();
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut all = Vec::new();
    for line in text.lines() {
        let Some((pid, call)) = line.split_once(' ') else {
            continue;
        };
        let Some((syscall, rest)) = call.trim_start().split_once('(') else {
            continue;
        };
        let nth = counts.entry((pid, syscall)).or_default();
        *nth += 1;
        if !rest.contains(directory) {
            continue;
        }
        all.push(Traced {
            syscall: syscall.to_owned(),
            nth: *nth,
            mutation: mutation(syscall, rest, directory),
        });
    }
    all
}

fn mutation(syscall: &str, rest: &str, directory: &str) -> Option<String> {
    // The first path that is inside, and the numbers behind it.
    let behind = rest.split_once(directory)?.1;
    let end = behind.find(['"', '>'])?;
    let name = behind[..end].trim_start_matches('/');
    let arguments = &behind[end + 1..];
    let numbers: Vec<u64> = arguments
        .split(&[',', ' ', ')'][..])
        .filter_map(|word| word.parse().ok())
        .collect();
    Some(match syscall {
        "openat" if rest.contains("O_CREAT") && rest.contains("O_EXCL") => {
            format!("Create {name}")
        }
        "pwrite64" => format!("Write {name} {}+{}", numbers[1], numbers[0]),
        "fdatasync" => format!("Sync {name}"),
        "fsync" if name.is_empty() => "SyncDir".to_owned(),
        "fsync" => format!("Sync {name}"),
        "fallocate" | "ftruncate" => {
            // What it returned, nothing, is the last number.
            let len = numbers[..numbers.len() - 1].last().unwrap();
            format!("Resize {name} to {len}")
        }
        "rename" => {
            let to = arguments.split_once(directory)?.1;
            format!("Rename {name} to {}", to[1..].split_once('"')?.0)
        }
        "unlink" => format!("Remove {name}"),
        _ => return None,
    })
}

/// The same script in the simulator.
fn simulated() -> Vec<String> {
    let sim = SimFs::new(1);
    let root = Path::new("/db");
    let refused = Script::run(&|| options().open_in(Fs::sim(&sim, root)));
    assert_eq!(refused, 0);
    let script = sim.script();
    let said = script.lines().filter_map(|line| {
        // `INDEX Kind /db/name rest  # place`
        let (_, call) = line.split_once(' ')?;
        let (call, _) = call.split_once("  #")?;
        Some(call.replace("/db/", "").replace(" /db", ""))
    });
    said.collect()
}

/// What the real disk sees of a script, without the making of the directory and its lock.
fn traced(directory: &Path) -> Vec<Traced> {
    let log = directory.with_extension("trace");
    let output = ["-o", log.to_str().unwrap()].map(str::to_owned);
    assert_eq!(trace(directory, &output), 0, "nothing fails by itself");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(log).unwrap();
    read_trace(&text, directory)
}

#[test]
fn parity_the_real_disk_sees_the_calls_of_the_simulated_one() {
    if std::env::var_os(WANTED).is_none() {
        return; // `.ci/parity` asks for it.
    }
    let folder = TempDir::new("parity");
    let real: Vec<String> = traced(folder.path())
        .into_iter()
        .filter_map(|call| call.mutation)
        .collect();
    let simulated = simulated();
    let of_the_directory = |call: &&String| *call != "Create LOCK" && !call.contains("Root");
    let real: Vec<_> = real.iter().filter(of_the_directory).collect();
    let simulated: Vec<_> = simulated.iter().filter(of_the_directory).collect();
    let mut tally = Tally::new("parity of calls", "calls", [100; 3]);
    for (n, (real, simulated)) in real.iter().zip(&simulated).enumerate() {
        assert_eq!(real, simulated, "mutating call {n}");
        tally.add(1);
    }
    assert_eq!(real.len(), simulated.len());
    tally.finish(".ci/parity");
}

#[test]
fn parity_each_call_of_the_real_disk_fails_once() {
    if std::env::var_os(WANTED).is_none() {
        return; // `.ci/parity` asks for it.
    }
    let mut tally = Tally::new("parity of faults", "runs", [300; 3]);
    let calls = traced(TempDir::new("parity").path());
    let mut refused = 0;
    for Traced { syscall, nth, .. } in &calls {
        let errors: &[&str] = match &syscall[..] {
            "openat" => &["EMFILE", "EIO"],
            "pwrite64" | "fallocate" | "rename" => &["EIO", "ENOSPC"],
            "fdatasync" | "fsync" | "ftruncate" | "unlink" | "pread64" => &["EIO"],
            _ => continue,
        };
        for error in errors {
            let folder = TempDir::new("parity");
            let inject = format!("inject={syscall}:error={error}:when={nth}");
            let arguments = ["-o", "/dev/null", "-e", &inject].map(str::to_owned);
            refused += u64::from(0 < trace(folder.path(), &arguments));
            tally.add(1);
        }
    }
    println!("of {} runs {refused} had something refused", tally.count());
    tally.finish(".ci/parity");
}

//! Recovery needs little memory and linear time (P7), measured from outside.
//!
//! One child process fills a log of many write buffers and ends without a close; another opens the
//! directory with a small write buffer, under a limit of the kernel (`ulimit -d`: heap, anonymous
//! mappings and stacks) that leaves it two write buffers, the largest batch, and what its threads
//! need. A recovery that wants more dies of it. It also tells how much processor time of its own
//! thread the opening took, because the wall clock of a busy machine says nothing.
#![expect(clippy::unwrap_used, reason = "here it is an assertion")]

use crate::scale::{Tally, only};
use alluvium::{KeyspaceOptions, Options, WriteBatch};
use std::path::{Path, PathBuf};
use std::process::Command;

const DIRECTORY: &str = "ALLUVIUM_RECOVERY_DIRECTORY";
const PART: &str = "ALLUVIUM_RECOVERY_PART";
const LOG: &str = "ALLUVIUM_RECOVERY_LOG";
const CHILD: &str = "recovery::child_fills_a_log_or_recovers_from_it";

const WRITE_BUFFER_BYTES: u64 = 8 << 20;
const LARGEST_BATCH_BYTES: u64 = 6 << 20;
const VALUE_BYTES: usize = 1000;
/// Stacks of the two background threads, 2 MiB each, and as much for the table that is being built,
/// caches' frames, and what the allocator keeps.
const PROCESS_BYTES: u64 = 8 << 20;
const LOG_BYTES: [u64; 3] = [32 << 20, 64 << 20, 128 << 20];

fn options(log_bytes: u64, write_buffer_bytes: u64) -> Options {
    Options::new()
        .memory_bytes(512 << 20)
        // All of it in one segment, and nothing of it in tables.
        .log_segment_bytes(log_bytes + (16 << 20))
        .background_threads(1)
        .default_keyspace(KeyspaceOptions::new().write_buffer_bytes(write_buffer_bytes))
}

/// Puts of 1,000 bytes up to so many bytes, and in the middle one batch of 6 MiB.
fn fill(directory: &Path, bytes: u64) {
    let options = options(bytes, 256 << 20);
    let db = options.open(directory).unwrap();
    let value = |n: u64| vec![n as u8; VALUE_BYTES];
    let mut batch = WriteBatch::new();
    for n in 0..LARGEST_BATCH_BYTES / VALUE_BYTES as u64 {
        batch.put(&db, format!("batch{n:08}"), value(n));
    }
    let mut written = 0;
    for n in 0u64.. {
        if bytes <= written {
            break;
        }
        // Keys are not in order: a step of this size visits them all.
        let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        db.put(format!("key{key:014}"), value(n)).unwrap();
        written += VALUE_BYTES as u64;
        if n == 1_000 {
            db.write(&batch, Default::default()).unwrap();
        }
    }
    std::process::exit(0); // as a kill would: nothing is flushed, nothing is closed
}

/// Opens, and prints how much processor time that took and how many operations were replayed.
fn recover(directory: &Path, log_bytes: u64) {
    let start = processor_nanos();
    let options = options(log_bytes, WRITE_BUFFER_BYTES);
    let db = options.open(directory).unwrap();
    let nanos = processor_nanos() - start;
    let operations = db.open_report().operations;
    println!("child: {nanos} {operations} .");
    // The numbers would be worth nothing if not everything were there.
    assert_eq!(db.iter().count() as u64, operations);
    std::process::exit(0);
}

/// What the process has of that which the limit counts.
fn data_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmData:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() << 10
}

fn processor_nanos() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse().unwrap()
}

/// Not a test of its own: what the parent runs in child processes.
#[test]
fn child_fills_a_log_or_recovers_from_it() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return; // Not the child: its parent is the test below.
    };
    let log_bytes = std::env::var(LOG).unwrap().parse().unwrap();
    match std::env::var(PART).unwrap().as_str() {
        "fill" => fill(&directory, log_bytes),
        "recover" => recover(&directory, log_bytes),
        _ => println!("child: {} 0 .", data_bytes()),
    }
}

/// Runs a part in a process that has so many bytes of data at the most; gives its numbers.
fn child(directory: &Path, part: &str, log_bytes: u64, limit: Option<u64>) -> [u64; 2] {
    let limit = limit.map_or("unlimited".to_owned(), |bytes| (bytes >> 10).to_string());
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -d $1 && exec \"$2\" $3 --exact --nocapture",
            "sh",
        ])
        .arg(limit)
        .arg(std::env::current_exe().unwrap())
        .arg(CHILD)
        .env(DIRECTORY, directory)
        .env(LOG, log_bytes.to_string())
        .env(PART, part)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "P7: {part} with {log_bytes} bytes of log: {}: {said}{complaint}",
        output.status
    );
    let words = said.split_once("child: ").map_or("", |(_, words)| words);
    let mut numbers = words.split(' ').map_while(|word| word.parse().ok());
    [(); 2].map(|()| numbers.next().unwrap_or(0))
}

#[test]
fn p7_recovery_takes_bounded_memory_and_linear_time() {
    if only().is_some() {
        return; // It has no cases.
    }
    let mut tally = Tally::new("P7 bounds of a recovery", "MiB of log replayed", [224; 3]);
    let mut times = Vec::new();
    let name = format!("alluvium-recovery-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let [idle_bytes, _] = child(&directory, "idle", 0, None);
    assert!(0 < idle_bytes);
    let more = 2 * WRITE_BUFFER_BYTES + LARGEST_BATCH_BYTES + PROCESS_BYTES;
    for log_bytes in LOG_BYTES {
        child(&directory, "fill", log_bytes, None);
        let limit = Some(idle_bytes + more);
        let [nanos, operations] = child(&directory, "recover", log_bytes, limit);
        std::fs::remove_dir_all(&directory).unwrap();
        let replayed = operations * VALUE_BYTES as u64;
        println!(
            "{} MiB of log: within {} MiB, {} ms, {operations} operations",
            log_bytes >> 20,
            more >> 20,
            nanos / 1_000_000
        );
        assert!(log_bytes <= replayed, "not everything was replayed");
        tally.add(log_bytes >> 20);
        times.push(nanos as f64 / replayed as f64);
    }
    // Four times the log: a byte costs 1.3 times as much, because two write buffers are not flushed
    // whatever the log; quadratic would be four times.
    assert!(
        times[2] < 2.5 * times[0],
        "P7: time a byte grows with the log: {times:?}"
    );
    tally.finish("cargo test --profile torture --features sim --test torture recovery::");
}

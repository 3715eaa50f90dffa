//! Whole directories: a hostile manifest, hostile neighbours, and a small database that is good.

use crate::guard;
use crate::segment;
use alluvium::base::checksum::crc;
use alluvium::base::types::FileId;
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use alluvium::{KeyspaceOptions, Options, Result, merge};
use std::path::Path;
use std::sync::OnceLock;

/// The directory of the database.
pub const ROOT: &str = "/db";
/// The budget that it is opened with.
const MEMORY_BYTES: u64 = 1 << 20;
/// What a flush or a compaction gathers before it writes: 2 MiB and 16 blocks of at most 64 KiB.
const BUILDER_BYTES: usize = 3 << 20;

/// Puts a manifest there, and a CURRENT that names it.
pub fn plant(sim: &SimFs, manifest: &[u8]) {
    let (database, number) = segment::identity(manifest);
    let name = FileName::Manifest(number);
    sim.plant(Path::new(ROOT), &name.to_string(), manifest);
    sim.plant(Path::new(ROOT), "CURRENT", &current(number, database));
}

/// A good CURRENT.
pub fn current(manifest: FileId, database: u64) -> Vec<u8> {
    let mut current = b"ALLUVIUM".to_vec();
    current.extend_from_slice(&1u32.to_le_bytes());
    current.extend_from_slice(&manifest.0.to_le_bytes());
    current.extend_from_slice(&database.to_le_bytes());
    let checksum = crc(&current);
    current.extend_from_slice(&checksum.to_le_bytes());
    current
}

/// Opens what is there, writes, reads, flushes and compacts in every keyspace, and closes.
/// Gives whether it opened. What was written has to be read.
pub fn open_and_use(sim: &SimFs, input: usize) -> bool {
    let options = Options::new()
        .memory_bytes(MEMORY_BYTES)
        .log_segment_bytes(16 << 10)
        .background_threads(0);
    guard::within_budget(input, MEMORY_BYTES as usize + BUILDER_BYTES, || {
        let Ok(db) = options.open_in(Fs::sim(sim, Path::new(ROOT))) else {
            return false;
        };
        for name in db.keyspaces() {
            let used = || -> Result<()> {
                let space = db.keyspace(&name, KeyspaceOptions::new())?;
                space.put("key", "value")?;
                // Where the manifest was not changed, the keyspace appends.
                let value = match space.merge("key", "+") {
                    Ok(()) => &b"value+"[..],
                    Err(_) => b"value",
                };
                assert_eq!(space.get("key")?.as_deref(), Some(value));
                db.flush()?;
                assert_eq!(space.get("key")?.as_deref(), Some(value));
                space.compact()?;
                assert_eq!(space.get("key")?.as_deref(), Some(value));
                space.iter().try_for_each(|entry| entry.map(drop))
            };
            // Tables and logs that the manifest names may be missing.
            let _ = used();
        }
        let _ = db.verify();
        let _ = db.close();
        true
    })
}

/// The files of a small good database that was closed.
pub fn good_files() -> &'static [(String, Vec<u8>)] {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let sim = SimFs::new(3);
        build(&sim).expect("the simulator has no faults");
        files(&sim)
    })
}

fn build(sim: &SimFs) -> Result<()> {
    let options = Options::new()
        .memory_bytes(MEMORY_BYTES)
        .log_segment_bytes(4 << 10)
        .background_threads(0)
        .default_keyspace(KeyspaceOptions::new().merge_operator(merge::APPEND));
    let db = options.open_in(Fs::sim(sim, Path::new(ROOT)))?;
    db.put("a", "1")?;
    db.flush()?;
    db.put("b", "2")?;
    db.close()
}

/// Every file of the directory, with its bytes.
pub fn files(sim: &SimFs) -> Vec<(String, Vec<u8>)> {
    let listed = Fs::sim(sim, Path::new(ROOT)).list().unwrap_or_default();
    let bytes = |name: &String| sim.bytes(Path::new(ROOT), name).unwrap_or_default();
    listed
        .into_iter()
        .map(|entry| (entry.name.clone(), bytes(&entry.name)))
        .collect()
}

/// Replays the log of the good database with this payload in its one record.
pub fn replay(payload: &[u8]) {
    let sim = SimFs::new(5);
    let mut bytes = 0;
    for (name, good) in good_files() {
        let log = match FileName::parse(name) {
            Some(FileName::Log(id)) => segment::with_payload(good, id, payload),
            _ => good.clone(),
        };
        bytes += log.len();
        sim.plant(Path::new(ROOT), name, &log);
    }
    open_and_use(&sim, bytes);
}

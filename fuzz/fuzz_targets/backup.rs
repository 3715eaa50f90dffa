//! The record of a point in time: as bytes, and in a directory of backups beside a good one.
//!
//! Input: mode | a record. Mode 0: as it is. Other modes: its checksum is put right.
#![no_main]

use alluvium::base::checksum::crc;
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::{BackupDirectory, recode_point};
use alluvium_fuzz::backup::{BACKUPS, backed_up, record_of};
use alluvium_fuzz::guard;
use alluvium_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

/// A copy is made by pieces of 1 MiB and read back by way of a cache of as much.
const COPY_BYTES: usize = 4 << 20;

fuzz_target!(|data: &[u8]| guard::run(data, target));

fn target(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    let mut record = input.0.to_vec();
    if mode != 0
        && let Some((body, checksum)) = record.split_last_chunk_mut()
    {
        *checksum = crc(body).to_le_bytes();
    }
    let recoded = guard::within(record.len(), || recode_point(&record));
    if let Ok(encoded) = recoded {
        let again = recode_point(&encoded).expect("what was encoded decodes");
        assert_eq!(again, encoded);
        assert!(encoded.len() <= record.len(), "only unknown fields go");
    }
    let sim = backed_up().kill();
    sim.plant(Path::new(BACKUPS), &record_of(1), &record);
    guard::within_budget(record.len(), COPY_BYTES, || look_at(&sim));
}

/// What is hostile costs an error; the good point beside it is restored whatever becomes of it.
fn look_at(sim: &SimFs) {
    let at = |path: &str| Fs::sim(sim, Path::new(path));
    let backups = BackupDirectory::open_in(at(BACKUPS)).expect("it says whose it is");
    let points = backups.list().expect("the disk works");
    assert_eq!(points.len(), 2, "one that cannot be read is listed too");
    for (n, path) in [(1, "/hostile"), (2, "/good")] {
        let verified = backups.verify(n);
        let restored = backups.restore_in(n, &at(path));
        if n == 2 {
            let report = verified.expect("its record is good");
            assert!(report.problems.is_empty(), "{:?}", report.problems);
            restored.expect("its record and its tables are good");
        } else if verified.is_err() {
            assert!(restored.is_err(), "a record that cannot be read");
        }
    }
    backups.remove(1).expect("damage does not keep it");
    let report = backups.verify(2).expect("it is there");
    assert!(report.problems.is_empty(), "its tables stay");
}

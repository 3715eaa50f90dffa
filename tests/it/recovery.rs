//! Recoveries that are themselves cut off, in small worlds.

use crate::support::ROOT;
use alluvium::fs::Fs;
use alluvium::fs::sim::{Family, SimFs};
use alluvium::{Db, Options};
use std::path::Path;

fn options() -> Options {
    Options::new()
        .memory_bytes(8 << 20)
        .log_segment_bytes(4 << 10)
        .background_threads(0)
}

fn open(sim: &SimFs) -> Db {
    let fs = Fs::sim(sim, Path::new(ROOT));
    options().open_in(fs).expect("P4: it opens")
}

/// The logs with records in them, oldest first.
fn logs(sim: &SimFs) -> Vec<String> {
    let entries = Fs::sim(sim, Path::new(ROOT)).list().unwrap();
    let mut names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
    names.retain(|name| name.ends_with(".log"));
    names.sort();
    names
}

/// A power loss took the middle of the first segment and kept those behind it, which so are passed
/// over. A recovery struck off the first, was cut off before it struck off the others, and the
/// next one took them for the beginning of the log: the newer writes were there and the older not.
#[test]
fn a_segment_behind_a_hole_stays_lost_when_the_recovery_from_it_is_cut_off() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    for n in 0..60u8 {
        db.put([n], [n; 200]).unwrap();
    }
    let after = sim.kill();
    drop(db);
    let first = &logs(&after)[0];
    let mut bytes = after.bytes(Path::new(ROOT), first).unwrap();
    bytes[1000..].fill(0);
    after.plant(Path::new(ROOT), first, &bytes);

    let calls = {
        let whole = after.kill();
        let db = open(&whole);
        assert_eq!(db.open_report().segments, 1);
        assert!(1 < db.open_report().segments_passed_over);
        whole.call_count()
    };
    for call in 0..calls {
        let cut = after.kill();
        cut.crash_at(call);
        let _ = options().open_in(Fs::sim(&cut, Path::new(ROOT)));
        for image in cut.images(&[Family::Nothing, Family::Everything, Family::Prefixes]) {
            let db = open(&image.sim);
            let keys: Vec<u8> = db.iter().map(|entry| entry.unwrap().0[0]).collect();
            let prefix: Vec<u8> = (0..keys.len() as u8).collect();
            assert_eq!(keys, prefix, "cut off at {}", image.id);
            assert!(
                !keys.is_empty() && keys.len() < 10,
                "cut off at {}",
                image.id
            );
        }
    }
}

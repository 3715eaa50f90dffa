//! The ways to read tables give the same answers, and survive the same errors.
//!
//! In the simulator a touch of a mapped block can fail as a read can, for every mode that maps: on
//! the real disk `Mmap` would end the process there, and what follows is a crash like any other.
//! What `MmapProbe` makes of a page that is really gone is tested in `fs::region`.

use crate::support::ROOT;
use alluvium::fs::Fs;
use alluvium::fs::sim::{CallKind, Fault, FaultRule, FileClass, SimFs};
use alluvium::{Db, ErrorKind, KeyspaceOptions, Options, ReadMode, Verify};
use std::path::Path;

const MODES: [ReadMode; 3] = [ReadMode::Mmap, ReadMode::MmapProbe, ReadMode::Pread];
const KEYS: u32 = 200;

fn options(mode: ReadMode) -> Options {
    Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(64 << 10)
        .background_threads(0)
        .read_mode(mode)
        .verify(Verify::FirstTouch)
        .default_keyspace(KeyspaceOptions::new().block_bytes(256))
}

fn open(sim: &SimFs, mode: ReadMode) -> Db {
    let fs = Fs::sim(sim, Path::new(ROOT));
    options(mode).open_in(fs).unwrap()
}

fn key(n: u32) -> String {
    format!("key/{n:03}")
}

/// A database whose keys are all in one table, of which nothing was read yet.
fn with_a_table() -> SimFs {
    let sim = SimFs::new(12);
    let db = open(&sim, ReadMode::Mmap);
    for n in 0..KEYS {
        db.put(key(n), format!("value {n}")).unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    sim.kill()
}

fn table_name(sim: &SimFs) -> String {
    let names = Fs::sim(sim, Path::new(ROOT)).list().unwrap();
    let mut tables = names
        .into_iter()
        .filter(|entry| entry.name.ends_with(".tbl"));
    let table = tables.next().unwrap();
    assert!(tables.next().is_none(), "one table");
    table.name
}

fn check_all(db: &Db, mode: ReadMode) {
    for n in 0..KEYS {
        let value = db.get(key(n)).unwrap_or_else(|e| panic!("{mode:?}: {e}"));
        assert_eq!(
            value.as_deref(),
            Some(format!("value {n}").as_bytes()),
            "{mode:?}"
        );
    }
    let scanned = db.iter().map(|entry| entry.unwrap().0.to_vec());
    assert!(
        scanned.eq((0..KEYS).map(|n| key(n).into_bytes())),
        "{mode:?}"
    );
}

#[test]
fn a_device_error_under_a_table_is_an_error_with_its_place_and_passes() {
    let table = table_name(&with_a_table());
    for mode in MODES {
        // The n-th access to the table fails once: opening it, its index, or any block.
        let mut failed = 0;
        for nth in 0.. {
            let sim = with_a_table();
            let kind = match mode {
                ReadMode::Pread => CallKind::Read,
                _ => CallKind::Touch,
            };
            let rule = FaultRule::new(Fault::Eio).kinds(&[kind]);
            sim.fail(rule.class(FileClass::Table).nth(nth));
            let db = open(&sim, mode);
            let mut errors = 0;
            for n in (0..KEYS).step_by(20) {
                match db.get(key(n)) {
                    Ok(value) => {
                        let expected = format!("value {n}");
                        assert_eq!(value.as_deref(), Some(expected.as_bytes()), "{mode:?}");
                    }
                    Err(error) => {
                        errors += 1;
                        assert_eq!(error.kind(), ErrorKind::Io, "{mode:?}: {error}");
                        assert!(error.file().unwrap().ends_with(&table), "{mode:?}: {error}");
                        assert!(error.offset().is_some(), "{mode:?}: {error}");
                    }
                }
            }
            sim.heal();
            check_all(&db, mode);
            if sim.faults_hit() == 0 {
                break;
            }
            failed += errors;
        }
        assert!(failed > 10, "{mode:?}: {failed} gets have seen an error");
    }
}

#[test]
fn a_flipped_bit_in_a_block_is_corruption_there_and_nowhere_else() {
    for mode in MODES {
        let sim = with_a_table();
        let (root, table) = (Path::new(ROOT), table_name(&sim));
        let mut bytes = sim.bytes(root, &table).unwrap();
        bytes[3 * 256 + 100] ^= 0x10;
        sim.plant(root, &table, &bytes);
        let db = open(&sim, mode);
        let (mut good, mut bad) = (0, 0);
        for n in 0..KEYS {
            match db.get(key(n)) {
                Ok(value) => {
                    good += 1;
                    let expected = format!("value {n}");
                    assert_eq!(value.as_deref(), Some(expected.as_bytes()), "{mode:?}");
                }
                Err(error) => {
                    bad += 1;
                    assert_eq!(error.kind(), ErrorKind::Corruption, "{mode:?}: {error}");
                    assert!(error.file().unwrap().ends_with(&table), "{mode:?}: {error}");
                    assert_eq!(error.offset(), Some(3 * 256), "{mode:?}: {error}");
                }
            }
        }
        assert!(
            bad > 0 && bad < 20 && good + bad == KEYS,
            "{mode:?}: {bad} bad"
        );
    }
}

#[test]
fn all_modes_read_the_same_on_the_real_disk() {
    let dir = crate::support::TempDir::new("modes");
    for (mode, next) in MODES.into_iter().zip([1, 2, 0]) {
        let db = options(mode).open(dir.path()).unwrap();
        for n in 0..KEYS {
            db.put(key(n), format!("value {n}")).unwrap();
        }
        db.flush().unwrap();
        check_all(&db, mode);
        db.close().unwrap();
        let db = options(MODES[next]).open(dir.path()).unwrap();
        check_all(&db, MODES[next]);
        db.close().unwrap();
    }
}

//! The benchmark `benches/scale`: what its parts say, and that a small run goes through and notices
//! wrong answers. A bench without a harness runs no tests of its own, so its files are read here.
#![expect(dead_code, reason = "the benchmark's main is not part of it")]

#[path = "../benches/scale/arguments.rs"]
mod arguments;
#[path = "../benches/scale/data.rs"]
mod data;
#[path = "../benches/scale/growth.rs"]
mod growth;
#[path = "../benches/scale/keyspaces.rs"]
mod keyspaces;
#[path = "../benches/shared/mix.rs"]
mod mix;
#[path = "../benches/scale/model.rs"]
mod model;
#[path = "../benches/scale/names.rs"]
mod names;
#[path = "../benches/shared/place.rs"]
mod place;
#[path = "../benches/scale/report.rs"]
mod report;
#[path = "../benches/scale/store.rs"]
mod store;
#[path = "../benches/scale/system.rs"]
mod system;

use arguments::{Arguments, ROLES, Role, parse};
use model::Tree;
use report::Column;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use store::{Figure, Setting, check, check_absent, put, walk};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

// What the command line asks for.

fn parsed(line: &str) -> Result<Option<Arguments>> {
    parse(line.split_whitespace().map(str::to_string))
}

#[test]
fn without_a_wish_two_sizes_and_a_thousand_keyspaces_are_measured() {
    let a = parsed("--bench").unwrap().unwrap();
    assert_eq!((a.keys, a.keyspaces), (vec![1_000_000, 10_000_000], 1_000));
    assert_eq!((a.buffer_bytes, a.child), (64 << 20, None));
}

#[test]
fn one_wish_is_not_taken_for_the_other() {
    let a = parsed("--keys 2_000 --keys 3000").unwrap().unwrap();
    assert_eq!((a.keys, a.keyspaces), (vec![2_000, 3_000], 0));
    let a = parsed("--keyspaces 7").unwrap().unwrap();
    assert_eq!((a.keys, a.keyspaces), (vec![], 7));
}

#[test]
fn every_option_is_taken() {
    let line = "--buffer-kib 64 --model --note busy --dir d --record r --child leave-log";
    let a = parsed(line).unwrap().unwrap();
    assert_eq!(
        (a.buffer_bytes, a.model, &*a.note),
        (64 << 10, true, "busy")
    );
    assert_eq!((a.directory, a.record), ("d".into(), "r".into()));
    assert_eq!(a.child, Some(Role::LeaveLog));
    assert_eq!(parsed("--keys 1000 --help").unwrap(), None);
}

#[test]
fn what_is_missing_unknown_or_out_of_range_is_named() {
    for (line, part) in [
        ("--keys", "--keys needs an argument"),
        ("--keys many", "many is not a number"),
        ("--keys 999", "999 is not within 1000"),
        ("--buffer-kib 8", "8 is not within 16"),
        ("--child parent", "the role parent"),
        ("--quick", "unknown argument --quick"),
    ] {
        let error = parsed(line).unwrap_err().to_string();
        assert!(error.contains(part), "{line}: {error}");
    }
}

#[test]
fn every_role_is_found_by_its_name() {
    for (name, role) in ROLES {
        let a = parsed(&format!("--child {name}")).unwrap().unwrap();
        assert_eq!((role.name(), a.child), (name, Some(role)));
    }
}

// Keys and values.

#[test]
fn a_key_gives_its_index_back_and_any_other_bytes_none() {
    for i in (0..10_000).chain([u64::MAX, 1 << 63]) {
        let mut key = data::key(i);
        assert_eq!(data::index(&key), Some(i));
        key[(i % 16) as usize] ^= 1;
        assert_eq!(data::index(&key), None);
    }
    assert_eq!(data::index(b"short"), None);
}

#[test]
fn keys_of_ascending_indexes_come_in_random_order() {
    let ascents = (0..1_000).filter(|&i| data::key(i) < data::key(i + 1));
    let ascents = ascents.count();
    assert!((400..600).contains(&ascents), "{ascents}");
}

#[test]
fn values_differ_by_index_and_generation() {
    assert_eq!(data::value(1, 1), data::value(1, 1));
    assert_ne!(data::value(1, 0), data::value(2, 0));
    assert_ne!(data::value(1, 0), data::value(1, 1));
}

// Figures.

#[test]
fn the_table_has_every_row_once_and_shows_gaps() {
    let column = |heading: &str, figures: &[(&str, f64)]| Column {
        heading: heading.to_string(),
        figures: figures.iter().map(|(n, v)| Figure::new(n, *v)).collect(),
    };
    let columns = [
        column("1,000", &[("put", 123.4), ("runs", -0.0)]),
        column("2,000", &[("put", 99.96), ("get", 1.234)]),
    ];
    let expected = "|  | 1,000 | 2,000 |\n\
                    | --- | ---: | ---: |\n\
                    | put | 123 | 100.0 |\n\
                    | runs | 0 | – |\n\
                    | get | – | 1.23 |\n";
    assert_eq!(report::table(&columns), expected);
}

#[test]
fn thousands_are_grouped() {
    let numbers = [999, 1_000, 12_345_678].map(report::grouped);
    assert_eq!(numbers, ["999", "1,000", "12,345,678"]);
}

#[test]
fn memory_that_was_touched_is_seen_also_after_it_is_gone() {
    const BYTES: u64 = 64 << 20;
    let before = system::memory().unwrap();
    let peak = system::Peak::start();
    let touched = vec![1u8; BYTES as usize];
    let until = Instant::now() + Duration::from_secs(10);
    while peak.bytes() < before + BYTES / 2 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(touched);
    assert!(before + BYTES / 2 <= peak.bytes());
}

#[test]
fn pages_that_are_touched_first_are_faults() {
    const BYTES: usize = 16 << 20;
    let before = system::page_faults().unwrap();
    let touched = vec![1u8; BYTES];
    // Huge pages of 2 MiB are the fewest.
    assert!(before + 8 <= system::page_faults().unwrap());
    drop(touched);
}

#[test]
fn work_takes_processor_time() {
    let before = system::processor_time().unwrap();
    let clock = Instant::now();
    while clock.elapsed() < Duration::from_millis(200) {
        std::hint::spin_loop();
    }
    // On a busy machine a thread may be given much less than what has passed.
    assert!(before + Duration::from_millis(5) < system::processor_time().unwrap());
}

// The model.

#[test]
fn four_runs_become_one_and_the_last_level_moves_down_beyond_eight_buffers() {
    let run = model::table_bytes(100.0);
    let mut tree = Tree::new(run as u64);
    let mut shapes = Vec::new();
    for flushes in 1..=16 {
        tree.flush(100.0);
        if flushes % 4 == 0 || flushes == 3 {
            let written = (tree.compacted() / run).round();
            shapes.push((flushes, tree.shape(), written));
        }
    }
    // With 12 the last level is over eight buffers and moves down; then four runs become a tier.
    let expected = [
        (3, vec![3], 0.0),
        (4, vec![0, 1], 4.0),
        (8, vec![0, 1], 12.0),
        (12, vec![0, 0, 1], 24.0),
        (16, vec![0, 1, 1], 28.0),
    ];
    assert_eq!(shapes, expected);
    tree.rest();
    assert_eq!(tree.shape(), [0, 0, 1]);
    assert_eq!((tree.compacted() / run).round(), 44.0);
}

#[test]
fn four_times_the_data_cost_one_more_write_of_a_byte_at_most() {
    let run = model::table_bytes(100.0);
    let each = |flushes: u32| {
        let mut tree = Tree::new(run as u64);
        (0..flushes).for_each(|_| tree.flush(100.0));
        tree.compacted() / (f64::from(flushes) * run)
    };
    for power in 3..8 {
        let (less, more) = (each(4u32.pow(power)), each(4u32.pow(power + 1)));
        assert!(more <= less + 1.0, "4^{power} flushes: {less}, then {more}");
    }
}

#[test]
fn an_entry_is_wider_where_numbers_span_more_than_24_bits() {
    let each = |entries: f64| model::table_bytes(entries) / entries;
    assert!(each(f64::from(1 << 24)) > each(f64::from((1 << 24) - 1)));
}

// Small runs.

struct Place(Setting);

impl Deref for Place {
    type Target = Setting;

    fn deref(&self) -> &Setting {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0.directory));
    }
}

fn small(name: &str) -> Place {
    let directory = format!("alluvium-scale-{}-{name}", std::process::id());
    let directory: PathBuf = std::env::temp_dir().join(directory);
    Place(Setting {
        keys: 5_000,
        keyspaces: 3,
        buffer_bytes: 32 << 10,
        idle: Duration::from_millis(20),
        crowd_bytes: 1 << 20,
        directory,
    })
}

fn find(figures: &[Figure], name: &str) -> f64 {
    let found = figures.iter().find(|figure| figure.name == name);
    found.unwrap_or_else(|| panic!("no row {name}")).value
}

#[test]
fn a_small_store_goes_through_all_of_it() {
    let place = small("growth");
    let figures = growth::grow(&place).unwrap();
    assert_eq!(find(&figures, names::REST_RUNS), 1.0);
    assert_eq!(find(&figures, names::SEARCHED), 1.0);
    assert_eq!(find(&figures, "fill: logged ÷ put"), 2.25);
    assert!(1.0 <= find(&figures, names::FILTER));
    growth::open_closed(&place).unwrap();
    growth::fill_log(&place).unwrap().close().unwrap();
    growth::open_killed(&place).unwrap();
    let lost = Setting {
        buffer_bytes: place.buffer_bytes * 2,
        ..place.0.clone()
    };
    let error = growth::open_killed(&lost).unwrap_err().to_string();
    assert!(error.contains("expected 819"), "{error}");
}

#[test]
fn few_keyspaces_go_through_all_of_it() {
    let place = small("keyspaces");
    for work in [
        keyspaces::make,
        keyspaces::write,
        keyspaces::flush,
        keyspaces::crowd,
    ] {
        work(&place).unwrap();
    }
    // Records that the stage does not expect.
    keyspaces::write(&place).unwrap();
    let error = keyspaces::crowd(&place).unwrap_err().to_string();
    assert!(error.contains("300 records came from the log"), "{error}");
}

#[test]
fn wrong_answers_are_noticed() {
    let place = small("wrong");
    let db = place.open().unwrap();
    put(&db, 1, 0).unwrap();
    put(&db, 2, 1).unwrap();
    check(&db, 1, 0).unwrap();
    check_absent(&db, 3).unwrap();
    assert!(check(&db, 1, 1).is_err());
    assert!(check(&db, 3, 0).is_err());
    assert!(check_absent(&db, 1).is_err());
    let walk_with = |generation: fn(u64) -> u64| {
        let mut cursor = db.cursor();
        cursor.first().unwrap();
        walk(&mut cursor, 9, generation)
    };
    assert_eq!(walk_with(|index| index - 1).unwrap().0, 2);
    assert!(walk_with(|_| 0).is_err());
    db.put("a key of somebody else", "").unwrap();
    assert!(walk_with(|index| index - 1).is_err());
    db.close().unwrap();
}

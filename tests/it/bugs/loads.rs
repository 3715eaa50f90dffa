//! Bugs of tables that come from outside of the log.

use super::*;
use alluvium::fs::sim::Family;
use std::collections::BTreeMap;

/// What is done with two keys that a load has, too.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put,
    Flush,
    Load,
    Compact,
}

const STEPS: [Step; 4] = [Step::Put, Step::Flush, Step::Load, Step::Compact];

/// Pebble #2474, cockroach #101896, RocksDB #10922: a table that was ingested and the flush of a
/// memtable over the same keys stood in the wrong order, and keys vanished. Every sequence of six
/// steps, with a put between the two halves of each load.
#[test]
fn bug_18_loads_and_flushes_over_the_same_keys_stand_in_the_order_of_their_commits() {
    for sequence in 0..STEPS.len().pow(6) {
        let steps = (0..6).map(|i| STEPS[sequence / STEPS.len().pow(i) % STEPS.len()]);
        let sim = SimFs::new(18);
        let db = open(&sim, &options());
        let mut truth = BTreeMap::new();
        for (i, step) in steps.clone().enumerate() {
            let value = format!("{i}");
            match step {
                Step::Put => {
                    db.put("a", &value).unwrap();
                    truth.insert("a", value);
                }
                Step::Flush => db.flush().unwrap(),
                Step::Load => {
                    let mut load = db.ingestion().unwrap();
                    load.add(&db, [("a", &value), ("b", &value)]).unwrap();
                    db.put("b", "meanwhile").unwrap();
                    load.commit().unwrap();
                    truth.extend([("a", value.clone()), ("b", value)]);
                }
                Step::Compact => db.compact().unwrap(),
            }
            for key in ["a", "b"] {
                let found = db.get(key).unwrap();
                let wanted = truth.get(key).map(String::as_bytes);
                assert_eq!(found.as_deref(), wanted, "{key} of {steps:?} at {i}");
            }
            let all = db.iter().map(|entry| entry.unwrap().1.to_vec());
            assert!(all.eq(truth.values().map(|value| value.as_bytes().to_vec())));
        }
        if sequence % 7 == 0 {
            let (_sim, db) = killed(&sim, db, &options());
            for (key, value) in truth {
                assert_eq!(db.get(key).unwrap().unwrap(), value.as_bytes());
            }
        }
    }
}

/// RocksDB 6.4, 5.14: neither a file that was ingested nor its name was synced.
#[test]
fn bug_21_a_load_outlives_the_loss_of_power_from_its_commit_on() {
    let sim = SimFs::new(21);
    let db = open(&sim, &options());
    let mut load = db.ingestion().unwrap();
    let entries = (0..500u32).map(|n| (n.to_be_bytes(), n.to_le_bytes()));
    load.add(&db, entries.clone()).unwrap();
    load.commit().unwrap();
    let mut images = 0;
    for image in sim.images(&Family::ALL) {
        let db = open(&image.sim, &options());
        let all = db.iter().map(|entry| entry.unwrap());
        let all = all.map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert!(
            all.eq(entries.clone().map(|(k, v)| (k.to_vec(), v.to_vec()))),
            "{}",
            image.id
        );
        images += 1;
    }
    assert!(0 < images);
}

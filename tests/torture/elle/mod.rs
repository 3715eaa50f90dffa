//! Transactions are serializable, and in the order that clients saw: Elle's two tests (Kingsbury and
//! Alvaro, VLDB 2020) on histories of a real database.
//!
//! Four clients run transactions of a few operations on four lists and six registers over two
//! keyspaces, while memtables of some dozen entries are rotated, flushed and merged: appends, blind
//! writes, reads of keys, reads of ranges from either end that stop early, savepoints that are rolled
//! back to, and writes outside of any transaction. `record` notes them, `check` looks for cycles of
//! dependencies. A refused history prints its seed and the cycle; `TORTURE_CASE=<seed>` runs that
//! seed's clients again, `TORTURE_REPEAT` times: how they meet is not in the seed.

mod check;
mod record;

use crate::histories::{self, Place};
use crate::scale::{Part, Scale, Tally, only, repeats};
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use std::path::Path;

const HOW: &str = "cargo test --profile torture --features sim --test torture elle";
/// Histories that share one database, each with its own keys.
const HISTORIES_EACH: u64 = 10;

/// Runs `count` histories in one database; how many transactions committed, and how many conflicted.
fn run(seed: u64, count: u64) -> (u64, u64) {
    let sim = SimFs::new(seed);
    let opened = histories::options(seed).open_in(Fs::sim(&sim, Path::new("/db")));
    let db = opened.expect("the database opens");
    let other = db.keyspace("other", histories::keyspace(seed + 1));
    let place = Place::new(db.clone(), other.expect("the keyspace opens"));
    let (mut committed, mut refused) = (0, 0);
    for n in 0..count {
        let history = record::record(&place, seed + n);
        if let Err(anomaly) = check::check(&history) {
            panic!(
                "history {}: {anomaly}\nagain: TORTURE_CASE={} TORTURE_REPEAT=200 {HOW}",
                seed + n,
                seed + n
            );
        }
        let commits = history.iter().filter(|t| t.commit.is_some()).count() as u64;
        committed += commits;
        refused += history.len() as u64 - commits;
    }
    drop(place);
    db.close().expect("the database closes");
    (committed, refused)
}

#[test]
fn elle_transactions_are_strictly_serializable() {
    let floors = [60, 20_000, 1_000_000];
    let mut tally = Tally::new("Elle transactions", "histories", floors);
    if let Some(case) = only() {
        // The case of another suite has another form.
        let Ok(seed) = case.parse() else { return };
        for _ in 0..repeats() {
            run(seed, 1);
            tally.add(1);
        }
        return tally.finish(HOW);
    }
    let [smoke, ci, full] = floors;
    let databases = Scale::now().pick(smoke, ci, full) / HISTORIES_EACH;
    let (mut committed, mut refused) = (0, 0);
    for database in Part::now().range(databases) {
        let (commits, refusals) = run(database * HISTORIES_EACH, HISTORIES_EACH);
        committed += commits;
        refused += refusals;
        tally.add(HISTORIES_EACH);
    }
    println!("{committed} transactions committed, {refused} conflicted");
    assert!(
        0 < refused && refused < committed,
        "the clients meet, and most go on"
    );
    tally.finish(HOW);
}

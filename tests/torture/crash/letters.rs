//! Every sequence of at most three operations (A3), and of four at full scale: nothing that a
//! script's author did not think of is left out at this length.
//!
//! Each sequence is run from an empty database; the moments looked at are those of its last
//! letter and its end, because those before belong to a shorter sequence.

use super::case::Source;
use super::history::History;
use super::run::{Edit, Moment, Run, Setting, Visit};
use super::{Looker, Picks};
use crate::scale::{Part, Scale, Tally};
use alluvium::{Durability, KeyspaceOptions, Options, Result};
use std::cell::Cell;
use std::collections::HashMap;

/// A name, and what it does.
type Letter = (char, fn(&mut Run<'_>) -> Result<()>);

/// The alphabet.
const LETTERS: [Letter; 13] = [
    ('a', |run| run.put("default", b"a".to_vec(), 40)),
    ('b', |run| run.put("orders", b"b".to_vec(), 40)),
    ('o', |run| {
        let value = run.value(90);
        run.write(
            Durability::Synced,
            vec![("default", b"a".to_vec(), Some(value))],
        )
    }),
    ('d', |run| run.delete("default", b"a".to_vec())),
    ('t', |run| {
        let edits = both(run, 60);
        run.write(Durability::Logged, edits)
    }),
    // Larger than a segment and than a memtable.
    ('B', |run| {
        let edits = (0..4).flat_map(|_| both(run, 900)).collect();
        run.write(Durability::Logged, edits)
    }),
    ('s', |run| run.sync()),
    ('f', |run| run.flush()),
    ('c', |run| run.compact()),
    ('S', |run| {
        run.hold_snapshot();
        Ok(())
    }),
    ('R', |run| run.release_snapshot()),
    ('r', |run| {
        run.close()?;
        run.open()
    }),
    // Fills what is left of the segment.
    ('l', |run| {
        let filled = |run: &Run<'_>| run.db().stats().log.bytes;
        let mut before = 0;
        while before <= filled(run) {
            before = filled(run);
            run.put("orders", b"l".to_vec(), 700)?;
        }
        Ok(())
    }),
];

fn both(run: &mut Run<'_>, len: usize) -> Vec<Edit> {
    vec![
        ("default", b"a".to_vec(), Some(run.value(len))),
        ("orders", b"b".to_vec(), Some(run.value(len))),
    ]
}

/// A segment is full after a few writes; a memtable only by a big batch.
pub(crate) fn setting() -> Setting {
    let space = KeyspaceOptions::new()
        .write_buffer_bytes(4 << 10)
        .block_bytes(256)
        .table_bytes(1 << 10)
        .level0_runs(2)
        .tier_runs(2)
        .size_ratio(2);
    let options = Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(4 << 10)
        .background_threads(0)
        .default_keyspace(space.clone());
    Setting { options, space }
}

/// Runs a sequence and shows all its moments; calls `before_last` when only one letter is left.
fn perform<'a>(letters: &str, visit: &'a mut Visit<'a>, before_last: impl FnOnce()) -> u64 {
    let mut run = Run::new(setting(), 1, visit);
    let all = || -> Result<()> {
        run.begin()?;
        let mut before_last = Some(before_last);
        for (n, letter) in letters.chars().enumerate() {
            if n + 1 == letters.len() {
                before_last.take().into_iter().for_each(|tell| tell());
            }
            let (_, act) = LETTERS
                .iter()
                .find(|(l, _)| *l == letter)
                .unwrap_or_else(|| panic!("{letter} is no letter"));
            act(&mut run)?;
        }
        Ok(())
    };
    all().unwrap_or_else(|error| panic!("letters {letters}: {error}"));
    run.finish()
}

/// Runs a sequence and shows all its moments.
pub(crate) fn play<'a>(letters: &str, visit: &'a mut Visit<'a>) -> u64 {
    perform(letters, visit, || {})
}

/// Looks at six disks of each moment of the last letter and of the end; gives how many differ.
fn look_at_last(letters: &str) -> u64 {
    let mut looker = Looker {
        source: Source::Letters(letters.to_owned()),
        setting: setting(),
        picks: Picks::Six,
        seen: HashMap::new(),
        deep_every: 64,
        then: &mut |_| {},
    };
    let is_last = Cell::new(false);
    let mut visit = |history: &History, moment: &Moment| {
        if is_last.get() {
            looker.visit(history, moment);
        }
    };
    perform(letters, &mut visit, || is_last.set(true));
    looker.seen.len() as u64
}

/// The `n`-th sequence of this length.
fn sequence(mut n: usize, length: u32) -> String {
    let mut letters = String::new();
    for _ in 0..length {
        letters.push(LETTERS[n % LETTERS.len()].0);
        n /= LETTERS.len();
    }
    letters
}

#[test]
fn a3_every_short_sequence_of_operations() {
    if crate::scale::only().is_some() {
        return; // A2 runs single cases of all these suites.
    }
    let mut tally = Tally::new(
        "A3 bounded exhaustive",
        "states",
        [3_000, 200_000, 3_000_000],
    );
    let longest = Scale::now().pick(2, 4, 5);
    let mut sequences = 0u64;
    for length in 1..=longest {
        for n in Part::now().stride(LETTERS.len().pow(length) as u64) {
            tally.add(look_at_last(&sequence(n as usize, length)));
            sequences += 1;
        }
    }
    println!("{sequences} sequences, all of at most {longest} letters");
    tally.finish("cargo test --profile torture --features sim --test torture a3");
}

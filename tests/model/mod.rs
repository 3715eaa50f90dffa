//! One model of the whole public face, for every suite that compares the engine with a sorted map.
//!
//! ```text
//! op        a list of operations: from a seed, from a fuzzer's bytes, from a line of text
//! settings  the options of a database: from a seed
//! operator  what merges mean
//! oracle    what must be there: a map of versions, and the changes that no sync has covered
//! world     an engine beside an oracle; applies a list and compares every answer
//! beside    a reader that has the database open too
//! follow    a copy that the feed of changes keeps up to date
//! shrink    the shortest list that still fails
//! ```
//! Used by `tests/it/model.rs`, `tests/torture/metamorphic.rs` and the fuzz target `model`, which
//! includes it by path. A wrong answer is a panic that says what was asked.
//!
//! Nothing in here is random but what a seed says: with no background threads, a list and a
//! setting run the same way each time.

mod beside;
mod conditional;
mod follow;
mod keys;
mod op;
mod operator;
mod oracle;
mod reads;
mod restart;
mod scans;
mod settings;
mod shrink;
mod world;
mod writes;

pub(crate) use op::{Kind, Op, Random, bytes, parse, text};
pub(crate) use settings::Settings;
pub(crate) use shrink::shortest;
pub(crate) use world::{Place, World};

/// Runs a list from an empty directory to a clean end; panics at the first wrong answer.
pub(crate) fn run(place: Place, settings: Settings, ops: &[Op]) {
    let mut world = World::new(place, settings);
    for op in ops {
        world.step(op);
    }
    world.finish();
}

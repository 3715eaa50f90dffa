//! A database in the simulator against a sorted map, through kills, losses of power and faults.
//!
//! Input: the number of the options (2 bytes, one for each set) | operations of 7 bytes, of which
//! `tests/model` says what they do: with a fault or a crash after so many calls where one asks for
//! it. After a power loss the contents must be those after some number of the batches written, not
//! fewer than were synced; whatever is found then has to stay. A kill loses nothing acknowledged.
#![no_main]

#[path = "../../tests/model/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the suites that share it use different parts"
)]
mod model;

use alluvium_fuzz::{guard, input::Input};
use libfuzzer_sys::fuzz_target;
use model::{Op, Place, Settings, run};

/// More would not find more, and take long.
const OPERATIONS_MAX: usize = 600;

fuzz_target!(|data: &[u8]| guard::run_untimed(data, target));

fn target(data: &[u8]) {
    let mut input = Input(data);
    let settings = Settings::random(input.number() as u64, 0);
    let mut ops = Op::list(input.0);
    ops.truncate(OPERATIONS_MAX);
    run(Place::simulated(), settings, &ops);
}

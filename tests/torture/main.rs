//! The long suites: what the fault model promises, shown by numbers.
//!
//! Every suite counts what it has tried (unique states, where states can be told apart), prints
//! one line, and fails when it stays below its floor. `TORTURE` chooses the scale: unset, each
//! takes seconds; `ci` is what continuous integration runs; `full` is the count that DESIGN.md
//! promises. A failing case prints itself as `TORTURE_CASE=…`, which runs that one alone.
//!
//! `.ci/torture [ci|full]` builds with optimisation and assertions, runs them all and prints
//! the table.
#![expect(unreachable_pub, reason = "a test binary has no outside")]

mod crash;
mod elle;
mod histories;
mod kill;
mod metamorphic;
#[path = "../model/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the suites that share it use different parts"
)]
mod model;
mod parity;
mod recovery;
#[cfg(feature = "lz4")]
mod rot;
mod scale;
mod sim_speed;
mod sweep;
#[path = "../it/temp_dir.rs"]
mod temp_dir;

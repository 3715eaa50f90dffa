//! Races: whole-engine scenarios under seeded schedules (`--cfg shuttle`), and the order of ends.
//!
//! ```text
//! .ci/races shuttle                               # whole engine, many schedules (B2)
//! cargo test --features sim --test races          # without shuttle: drops, closes, panics (P17, P18)
//! ```
//! Under shuttle every lock, wait and atomic of the engine is a point where the schedule may go to
//! another thread; everything else, the simulated disk and the clock among it, is deterministic. So
//! a seed is a schedule, and a failing one is run again by `RACES_SEED=<scheduler>:<seed>`.
#![expect(clippy::unwrap_used, reason = "here it is an assertion")]

#[cfg(not(any(shuttle, loom)))]
mod ends;
#[cfg(shuttle)]
mod scenarios;
#[cfg(shuttle)]
mod schedules;

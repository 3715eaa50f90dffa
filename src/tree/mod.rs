//! One ordered map: its memtables, its version, its upkeep; no log, no threads.
//!
//! A [`Tree`] hides the rooms below from `db`. Writers call [`Tree::active`] and [`Tree::rotate`]
//! under the database's write lock; readers load a `View` without any lock; workers call
//! [`Tree::flush`] and [`Tree::run_job`].
//!
//! Invariants: I1 (every entry with a visible sequence number is in the view that a reader loads),
//! I2 (memtables are flushed oldest first, one at a time), I3 (`flushed_through` never goes back).

mod state;
pub(crate) mod switch;
#[cfg(test)]
mod tests;
mod upkeep;

pub use state::{Pressure, Tree, TreeContext, check_kind};
pub use upkeep::{FlushPlace, ManualStep, Work, Written};

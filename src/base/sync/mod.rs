//! The synchronisation facade: every lock, atomic and thread of the engine is named through here, so that a model checker can stand in for them.
//!
//! ```text
//! (nothing)      parking_lot, std, arc-swap: re-exports, no code of ours in between
//! --cfg loom     loom.rs: every order of a small model, weak memory included
//! --cfg shuttle  shuttle.rs: seeded schedules of the whole engine
//! ```
//!
//! All three have parking_lot's shape: guards without `Result`, `Condvar::wait(&mut guard)`.
//! `ArcSwap` is the cell that readers load without a lock. `Arc` is std's in each: what depends on
//! the *count* is modelled with loom's `Arc` in the model itself.

#[cfg(loom)]
mod loom;
#[cfg(shuttle)]
mod shuttle;

#[cfg(not(any(loom, shuttle)))]
pub use arc_swap::{ArcSwap, Guard};
#[cfg(not(any(loom, shuttle)))]
pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(not(any(loom, shuttle)))]
pub use std::sync::atomic;
#[cfg(not(any(loom, shuttle)))]
pub use std::thread;

#[cfg(loom)]
pub use self::loom::{ArcSwap, Condvar, Guard, Mutex, MutexGuard, RwLock, atomic, thread};
#[cfg(shuttle)]
pub use self::shuttle::{ArcSwap, Condvar, Guard, Mutex, MutexGuard, RwLock, atomic, thread};

pub use std::sync::Arc;
#[cfg(not(shuttle))]
pub use std::sync::OnceLock;

/// What no model checker need stop at, and what can be `static`: atomics that count or name and
/// order nothing, and the real disk's book of locks.
pub mod plain {
    pub use parking_lot::Mutex;
    pub use std::sync::atomic::{AtomicU64, AtomicUsize};
}

#[cfg(shuttle)]
pub use self::shuttle::OnceLock;

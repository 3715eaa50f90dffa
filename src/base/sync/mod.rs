//! The synchronisation facade: every lock, atomic and thread of the engine is named through here,
//! so that a model checker can stand in for them.

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub use std::sync::Arc;
pub use std::sync::OnceLock;
pub use std::sync::atomic;
pub use std::thread;

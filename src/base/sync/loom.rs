//! The facade under `--cfg loom`: loom's primitives in parking_lot's shape.
//!
//! Time does not pass in a model: a wait with a time limit ends only by a notice. So a protocol
//! that a model accepts loses no wake-up that a time limit would paper over.
//!
//! `ArcSwap` is a lock around the `Arc` here. That is the order which arc-swap promises: a load
//! sees everything that came before the store whose value it takes.

use loom::sync as inner;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

pub use inner::atomic;

/// loom's threads, and what std has beyond them.
pub mod thread {
    pub use loom::thread::*;
    // For unit tests, which no model runs.
    pub use std::thread::scope;
    use std::time::Duration;

    /// Lets others go first.
    pub fn sleep(_: Duration) {
        yield_now();
    }
}

/// See `parking_lot::Mutex`.
#[derive(Debug, Default)]
pub struct Mutex<T>(inner::Mutex<T>);

impl<T> Mutex<T> {
    /// An open one.
    pub fn new(value: T) -> Self {
        Mutex(inner::Mutex::new(value))
    }

    /// Waits for it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(|e| e.into_inner())))
    }

    /// The value, for whoever has the lock to itself.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(|e| e.into_inner())
    }
}

/// See `parking_lot::MutexGuard`.
pub struct MutexGuard<'a, T>(Option<inner::MutexGuard<'a, T>>);

/// The guard is there except inside of `Condvar::wait`.
const THERE: &str = "a guard holds its lock";

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_deref().expect(THERE)
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_deref_mut().expect(THERE)
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// See `parking_lot::Condvar`.
#[derive(Debug, Default)]
pub struct Condvar(inner::Condvar);

impl Condvar {
    /// Nobody waits.
    pub fn new() -> Self {
        Condvar(inner::Condvar::new())
    }

    /// Waits for a notice.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(held) = guard.0.take() {
            guard.0 = Some(self.0.wait(held).unwrap_or_else(|e| e.into_inner()));
        }
    }

    /// Waits for a notice: no time passes here.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult
    }

    /// Wakes one.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// See `parking_lot::WaitTimeoutResult`.
#[derive(Clone, Copy, Debug)]
pub struct WaitTimeoutResult;

impl WaitTimeoutResult {
    /// Never.
    pub fn timed_out(self) -> bool {
        false
    }
}

/// See `parking_lot::RwLock`.
#[derive(Debug, Default)]
pub struct RwLock<T>(Mutex<T>);

impl<T> RwLock<T> {
    /// An open one.
    pub fn new(value: T) -> Self {
        RwLock(Mutex::new(value))
    }

    /// Waits for its writer.
    pub fn read(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }

    /// Waits for everybody.
    pub fn write(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }
}

/// See `arc_swap::ArcSwap`.
#[derive(Debug, Default)]
pub struct ArcSwap<T>(Mutex<Arc<T>>);

impl<T> ArcSwap<T> {
    /// Holds the value.
    pub fn from_pointee(value: T) -> Self {
        ArcSwap(Mutex::new(Arc::new(value)))
    }

    /// What is there now.
    pub fn load(&self) -> Guard<Arc<T>> {
        Guard(self.load_full())
    }

    /// What is there now.
    pub fn load_full(&self) -> Arc<T> {
        Arc::clone(&self.0.lock())
    }

    /// Replaces it.
    pub fn store(&self, value: Arc<T>) {
        let before = std::mem::replace(&mut *self.0.lock(), value);
        // Outside the lock: its end may do anything.
        drop(before);
    }
}

/// See `arc_swap::Guard`.
#[derive(Debug)]
pub struct Guard<T>(T);

impl<T> Deref for Guard<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

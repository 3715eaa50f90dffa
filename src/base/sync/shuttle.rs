//! The facade under `--cfg shuttle`: shuttle's primitives in parking_lot's shape.
//!
//! Time is the simulated machine's (`fs::Env`): it stands still while somebody works. A wait with a
//! time limit ends after the others had some turns without giving notice, and the caller then moves
//! the clock. That can be early (others were not idle, only slow), as on a busy machine. The turns
//! are part of the schedule, so a seed tells all of a run.
//!
//! `ArcSwap` is a lock around the `Arc` here: one scheduling point for a load or a store.

use shuttle::sync as inner;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

pub use inner::atomic;

pub use shuttle::thread;

/// See `parking_lot::Mutex`.
#[derive(Debug, Default)]
pub struct Mutex<T>(inner::Mutex<T>);

impl<T> Mutex<T> {
    /// An open one.
    pub const fn new(value: T) -> Self {
        Mutex(inner::Mutex::new(value))
    }

    /// Waits for it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(|e| e.into_inner())), self)
    }

    /// The value, for whoever has the lock to itself.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(|e| e.into_inner())
    }
}

/// See `parking_lot::MutexGuard`.
pub struct MutexGuard<'a, T>(Option<inner::MutexGuard<'a, T>>, &'a Mutex<T>);

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
pub struct Condvar {
    inner: inner::Condvar,
    /// Notices given: what a wait with a time limit looks at.
    notices: atomic::AtomicU64,
}

/// Turns that others get before a wait of `limit` ends: a few more for a long one.
fn turns(limit: Duration) -> u32 {
    match limit {
        _ if limit < Duration::from_millis(100) => 4,
        _ => 24,
    }
}

impl Condvar {
    /// Nobody waits.
    pub fn new() -> Self {
        Condvar::default()
    }

    /// Waits for a notice.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(held) = guard.0.take() {
            guard.0 = Some(self.inner.wait(held).unwrap_or_else(|e| e.into_inner()));
        }
    }

    /// Waits for a notice, or until time has passed; see the module's text.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, limit: Duration) -> WaitTimeoutResult {
        let seen = self.notices.load(atomic::Ordering::SeqCst);
        // The lock is let go of for the wait.
        drop(guard.0.take());
        let noticed = (0..turns(limit)).any(|_| {
            thread::yield_now();
            self.notices.load(atomic::Ordering::SeqCst) != seen
        });
        guard.0 = guard.1.lock().0;
        WaitTimeoutResult(!noticed)
    }

    /// Wakes one of those without a time limit, and all with one: more than promised is allowed.
    pub fn notify_one(&self) {
        self.notices.fetch_add(1, atomic::Ordering::SeqCst);
        self.inner.notify_one();
    }

    /// Wakes all.
    pub fn notify_all(&self) {
        self.notices.fetch_add(1, atomic::Ordering::SeqCst);
        self.inner.notify_all();
    }
}

/// See `parking_lot::WaitTimeoutResult`.
#[derive(Clone, Copy, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// True when there was no notice.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

/// See `std::sync::OnceLock`. Others may be scheduled while it is filled, and must not block the
/// one thread of the system then.
#[derive(Debug)]
pub struct OnceLock<T> {
    filling: Mutex<()>,
    value: std::sync::OnceLock<T>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock::new()
    }
}

impl<T> OnceLock<T> {
    /// An empty one.
    pub const fn new() -> Self {
        OnceLock {
            filling: Mutex::new(()),
            value: std::sync::OnceLock::new(),
        }
    }

    /// The value, if it is there.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value; made first if it is not there.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if self.value.get().is_none() {
            let _filling = self.filling.lock();
            if self.value.get().is_none() {
                let value = make();
                // Nobody else fills it meanwhile.
                return self.value.get_or_init(|| value);
            }
        }
        self.value
            .get_or_init(|| unreachable!("it was filled above"))
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

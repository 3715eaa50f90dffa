//! The number up to which every write is visible.
//!
//! Stored under the write lock, after the memtables were filled; so whoever loads it finds
//! everything with that number or a lower one in the memtables of a view loaded before or after
//! (I1, I4).

use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::types::SeqNo;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Published(AtomicU64);

impl Published {
    pub(crate) fn new(at: SeqNo) -> Self {
        Published(AtomicU64::new(at.get()))
    }

    /// Everything up to this number is visible.
    #[inline]
    pub(crate) fn visible(&self) -> SeqNo {
        // Pairs with the Release in `publish`.
        SeqNo::new(self.0.load(Ordering::Acquire))
    }

    /// Makes everything up to `last` visible. Callers hold the write lock.
    #[inline]
    pub(crate) fn publish(&self, last: SeqNo) {
        debug_assert!(
            self.0.load(Ordering::Relaxed) < last.get(),
            "I4: numbers are published in order"
        );
        // Pairs with the Acquire in `visible`.
        self.0.store(last.get(), Ordering::Release);
    }
}

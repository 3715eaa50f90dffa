//! Somebody who is told what the background does, and when writes slow down or stop.

use super::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// What has happened. Told after it is durable, in the order in which it happened to each keyspace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Memtables were written to tables. (Those that a repair of the log writes are counted in the
    /// statistics alone.)
    #[non_exhaustive]
    Flushed {
        /// The keyspace.
        keyspace: &'a str,
        /// Bytes of the tables.
        bytes_written: u64,
        /// From its beginning to the durable edit.
        took: Duration,
    },
    /// Tables were merged, moved or dropped.
    #[non_exhaustive]
    Compacted {
        /// The keyspace.
        keyspace: &'a str,
        /// Why it was done: `runs`, `size`, `tombstones`, `expired`, `deleted`, `oldest`, `manual` or
        /// `idle`.
        reason: &'a str,
        /// Bytes of the tables that were read; 0 for a move and for a drop.
        bytes_read: u64,
        /// Bytes of the tables that were written.
        bytes_written: u64,
        /// Entries that are gone.
        entries_dropped: u64,
        /// From its beginning to the durable edit.
        took: Duration,
    },
    /// A bulk load was committed; told for each of its keyspaces.
    #[non_exhaustive]
    Loaded {
        /// The keyspace.
        keyspace: &'a str,
        /// Entries that were loaded into it.
        entries: u64,
        /// Bytes of their tables.
        bytes_written: u64,
    },
    /// The disk has no space for a compaction, which is put off until it has, or writers would have to
    /// wait for it; see `Db::why_space`. Told of the first one until none waits any more.
    #[non_exhaustive]
    CompactionPutOff {
        /// The keyspace.
        keyspace: &'a str,
        /// Bytes that it may write.
        needs_bytes: u64,
        /// Bytes that it could have.
        free_bytes: u64,
    },
    /// Writers are held to a pace, because the background is behind; see `Db::why_stalled`.
    #[non_exhaustive]
    WritesSlowed {
        /// The keyspace that is behind.
        keyspace: &'a str,
        /// What is behind: `flush`, `compaction` or `memory`.
        cause: &'a str,
    },
    /// Writers go on at their own pace.
    WritesFree,
    /// No writes are taken; see `Db::state`.
    #[non_exhaustive]
    WritesStopped {
        /// Why.
        cause: &'a Error,
    },
    /// Writes are taken again.
    WritesResumed,
}

/// Is told what happens: [`Options::listener`](crate::Options::listener).
///
/// Called on the thread that did it, which goes on when this returns: it should be short, and **must not
/// call the database**, whose locks may be held. A panic of it is swallowed.
///
/// ```
/// use alluvium::listener::Event;
/// # let dir = std::env::temp_dir().join(format!("alluvium-doc-li-{}", std::process::id()));
/// # use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// let flushed = Arc::new(AtomicU64::new(0));
/// let sum = Arc::clone(&flushed);
/// let options = alluvium::Options::new().listener(move |event: &Event<'_>| {
///     if let Event::Flushed { bytes_written, .. } = event {
///         sum.fetch_add(*bytes_written, Ordering::Relaxed);
///     }
/// });
/// let db = options.open(&dir)?;
/// db.put("k", "v")?;
/// db.flush()?;
/// assert!(0 < flushed.load(Ordering::Relaxed));
/// # db.close()?; alluvium::Db::destroy(&dir)?;
/// # Ok::<(), alluvium::Error>(())
/// ```
pub trait Listener: Send + Sync + 'static {
    /// Something has happened.
    fn event(&self, event: &Event<'_>);
}

impl<F> Listener for F
where
    F: Fn(&Event<'_>) + Send + Sync + 'static,
{
    fn event(&self, event: &Event<'_>) {
        self(event);
    }
}

/// The listener of a database, if it has one.
#[derive(Clone, Default)]
pub struct Listening(Option<Arc<dyn Listener>>);

impl Listening {
    pub(crate) fn to(listener: impl Listener) -> Listening {
        Listening(Some(Arc::new(listener)))
    }

    /// True when somebody listens.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Tells what has happened.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        if let Some(listener) = &self.0 {
            // Somebody else's code: a panic of it must not end a worker.
            let _ = catch_unwind(AssertUnwindSafe(|| listener.event(event)));
        }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Listener" } else { "None" })
    }
}

impl PartialEq for Listening {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
    }
}

/// Tells every event to `tracing`, with the target `alluvium`: what stops or slows writes as warnings,
/// all others as debug events.
#[cfg(feature = "tracing")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing;

#[cfg(feature = "tracing")]
impl Listener for Tracing {
    fn event(&self, event: &Event<'_>) {
        use tracing::{debug, info, warn};
        match event {
            Event::Flushed {
                keyspace,
                bytes_written,
                took,
            } => debug!(target: "alluvium", keyspace, bytes_written, ?took, "flushed"),
            Event::Compacted {
                keyspace,
                reason,
                bytes_read,
                bytes_written,
                entries_dropped,
                took,
            } => debug!(
                target: "alluvium",
                keyspace, reason, bytes_read, bytes_written, entries_dropped, ?took, "compacted"
            ),
            Event::Loaded {
                keyspace,
                entries,
                bytes_written,
            } => debug!(target: "alluvium", keyspace, entries, bytes_written, "loaded"),
            Event::CompactionPutOff {
                keyspace,
                needs_bytes,
                free_bytes,
            } => warn!(
                target: "alluvium",
                keyspace, needs_bytes, free_bytes, "a compaction is put off, for want of space"
            ),
            Event::WritesSlowed { keyspace, cause } => {
                warn!(target: "alluvium", keyspace, cause, "writes are slowed down");
            }
            Event::WritesFree => info!(target: "alluvium", "writes are not slowed down any more"),
            Event::WritesStopped { cause } => {
                warn!(target: "alluvium", %cause, "no writes are taken");
            }
            Event::WritesResumed => info!(target: "alluvium", "writes are taken again"),
        }
    }
}

/// Tells every event to the recorder of `metrics`: counters `alluvium.flushes`,
/// `alluvium.flush.bytes_written`, `alluvium.compactions`, `alluvium.compaction.bytes_read` and
/// `.bytes_written`, `alluvium.load.entries` and `.bytes_written`, and `alluvium.compactions.put_off`,
/// each with the label `keyspace`, histograms of seconds `alluvium.flush.seconds` and
/// `alluvium.compaction.seconds`, and gauges, 0 or 1, `alluvium.writes.slowed` and
/// `alluvium.writes.stopped`.
#[cfg(feature = "metrics")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics;

#[cfg(feature = "metrics")]
impl Listener for Metrics {
    fn event(&self, event: &Event<'_>) {
        use metrics::{counter, gauge, histogram};
        let count = |name: &'static str, keyspace: &str, count: u64| {
            counter!(name, "keyspace" => keyspace.to_owned()).increment(count);
        };
        let time = |name: &'static str, keyspace: &str, took: Duration| {
            histogram!(name, "keyspace" => keyspace.to_owned()).record(took);
        };
        match event {
            Event::Flushed {
                keyspace,
                bytes_written,
                took,
            } => {
                count("alluvium.flushes", keyspace, 1);
                count("alluvium.flush.bytes_written", keyspace, *bytes_written);
                time("alluvium.flush.seconds", keyspace, *took);
            }
            Event::Compacted {
                keyspace,
                bytes_read,
                bytes_written,
                took,
                ..
            } => {
                count("alluvium.compactions", keyspace, 1);
                count("alluvium.compaction.bytes_read", keyspace, *bytes_read);
                count(
                    "alluvium.compaction.bytes_written",
                    keyspace,
                    *bytes_written,
                );
                time("alluvium.compaction.seconds", keyspace, *took);
            }
            Event::Loaded {
                keyspace,
                entries,
                bytes_written,
            } => {
                count("alluvium.load.entries", keyspace, *entries);
                count("alluvium.load.bytes_written", keyspace, *bytes_written);
            }
            Event::CompactionPutOff { keyspace, .. } => {
                count("alluvium.compactions.put_off", keyspace, 1);
            }
            Event::WritesSlowed { .. } => gauge!("alluvium.writes.slowed").set(1),
            Event::WritesFree => gauge!("alluvium.writes.slowed").set(0),
            Event::WritesStopped { .. } => gauge!("alluvium.writes.stopped").set(1),
            Event::WritesResumed => gauge!("alluvium.writes.stopped").set(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_panics_hears_the_next_event_too() {
        let heard = Arc::new(std::sync::Mutex::new(0));
        let count = Arc::clone(&heard);
        let listening = Listening::to(move |event: &Event<'_>| {
            *count.lock().unwrap() += 1;
            assert!(!matches!(event, Event::WritesFree), "a listener's own");
        });
        // The lock is poisoned by no panic: it is let go of before.
        listening.tell(&Event::WritesResumed);
        listening.tell(&Event::WritesFree);
        listening.tell(&Event::WritesResumed);
        assert_eq!(*heard.lock().unwrap(), 3);
        Listening::default().tell(&Event::WritesFree);
        assert!(listening == listening.clone() && listening != Listening::default());
        assert_eq!(
            format!("{listening:?} {:?}", Listening::default()),
            "Listener None"
        );
    }
}

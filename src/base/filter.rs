//! Compaction filters: code of the caller's that says which values may go when tables are rewritten.
//!
//! A filter is registered in [`Options`](crate::Options) by name before the database is opened, because
//! the background starts with it; the name is stored with the keyspace. Without its filter a keyspace
//! keeps what it has. So it does where the filter panics.
//!
//! Threads: a filter is called from any thread, by several at once. It must not call the database.

use super::expiring::EXPIRING_BYTES_MAX;
use super::registered::Registered;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What becomes of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It stays.
    Keep,
    /// It goes, as if its key had been deleted.
    Remove,
    /// It becomes this one; what expires goes on to do so. Longer than a value can be, it stays as it
    /// is.
    Change(Vec<u8>),
}

/// Says which values of a keyspace may go when its tables are rewritten.
///
/// Asked by compactions, of values that no reader sees who began before the answer takes effect: a
/// snapshot, an iterator or a transaction never sees a value go, or change. Until a compaction comes
/// by, everybody sees the value as it is; [`Keyspace::compact`](crate::Keyspace::compact) comes by all of
/// them. Operands of merges are not asked about before they have become a value. A filter should be a
/// function of what it is given, and say of what it has made that it stays.
///
/// ```
/// use alluvium::filter::{CompactionFilter, Decision};
///
/// /// Sessions of users who are gone.
/// struct Gone(u8);
///
/// impl CompactionFilter for Gone {
///     fn filter(&self, _: &[u8], value: &[u8]) -> Decision {
///         match value.first() {
///             Some(user) if *user == self.0 => Decision::Remove,
///             _ => Decision::Keep,
///         }
///     }
/// }
/// # let options = alluvium::KeyspaceOptions::new().compaction_filter("gone");
/// # let dir = std::env::temp_dir().join(format!("alluvium-doc-cf-{}", std::process::id()));
/// let db = alluvium::Options::new()
///     .compaction_filter("gone", Gone(7))
///     .default_keyspace(options)
///     .open(&dir)?;
/// db.put("a", [7])?;
/// db.put("b", [8])?;
/// db.compact()?;
/// assert_eq!(db.iter().count(), 1);
/// # db.close()?; alluvium::Db::destroy(&dir)?;
/// # Ok::<(), alluvium::Error>(())
/// ```
pub trait CompactionFilter: Send + Sync + 'static {
    /// What becomes of `value`, the value of `key`.
    fn filter(&self, key: &[u8], value: &[u8]) -> Decision;
}

impl<F> CompactionFilter for F
where
    F: Fn(&[u8], &[u8]) -> Decision + Send + Sync + 'static,
{
    fn filter(&self, key: &[u8], value: &[u8]) -> Decision {
        self(key, value)
    }
}

/// Filters by name.
#[derive(Clone, Default, PartialEq)]
pub struct CompactionFilters(Registered<dyn CompactionFilter>);

impl CompactionFilters {
    pub(crate) fn register(&mut self, name: String, filter: impl CompactionFilter) {
        self.0.register(name, Arc::new(filter));
    }

    /// The filter of this name; `None` when it is not registered.
    pub fn named(&self, name: &str) -> Option<Filter> {
        self.0.named(name).map(Filter)
    }
}

impl fmt::Debug for CompactionFilters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A filter that is registered.
#[derive(Clone)]
pub struct Filter(Arc<dyn CompactionFilter>);

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

impl Filter {
    /// What becomes of a value: `Keep` when the filter panics, or makes what is no value.
    pub fn ask(&self, key: &[u8], value: &[u8]) -> Decision {
        // Somebody else's code: a panic of it must not end a worker.
        match catch_unwind(AssertUnwindSafe(|| self.0.filter(key, value))) {
            Ok(Decision::Change(other)) if EXPIRING_BYTES_MAX < other.len() => Decision::Keep,
            Ok(decision) => decision,
            Err(_) => Decision::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_panics_or_is_not_there_keeps() {
        let mut filters = CompactionFilters::default();
        filters.register("odd".to_owned(), |key: &[u8], _: &[u8]| match key {
            b"panic" => panic!("a filter's own"),
            b"odd" => Decision::Remove,
            _ => Decision::Change(b"changed".to_vec()),
        });
        assert!(filters.named("even").is_none());
        let filter = filters.named("odd").unwrap();
        assert_eq!(filter.ask(b"panic", b""), Decision::Keep);
        assert_eq!(filter.ask(b"odd", b""), Decision::Remove);
        assert_eq!(filter.ask(b"k", b""), Decision::Change(b"changed".to_vec()));
        assert_eq!(filters, filters.clone());
        assert_ne!(filters, CompactionFilters::default());
    }
}

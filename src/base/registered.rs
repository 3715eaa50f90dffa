//! Code of the caller's, by name: what `Options` registers before a database is opened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Things of one kind by name. Equal when the same things have the same names.
pub(super) struct Registered<T: ?Sized>(BTreeMap<String, Arc<T>>);

impl<T: ?Sized> Registered<T> {
    /// What has this name before takes its leave.
    pub(super) fn register(&mut self, name: String, thing: Arc<T>) {
        self.0.insert(name, thing);
    }

    /// `None` when nothing is registered under the name.
    pub(super) fn named(&self, name: &str) -> Option<Arc<T>> {
        self.0.get(name).cloned()
    }
}

impl<T: ?Sized> Default for Registered<T> {
    fn default() -> Self {
        Registered(BTreeMap::new())
    }
}

impl<T: ?Sized> Clone for Registered<T> {
    fn clone(&self) -> Self {
        Registered(self.0.clone())
    }
}

impl<T: ?Sized> fmt::Debug for Registered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<T: ?Sized> PartialEq for Registered<T> {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<T>, &Arc<T>)| Arc::ptr_eq(a, b);
        self.0.keys().eq(other.0.keys()) && self.0.values().zip(other.0.values()).all(same)
    }
}

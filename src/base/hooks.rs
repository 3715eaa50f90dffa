//! Merge operators: code of the caller's that says what a merge means.
//!
//! A merge writes an *operand* and reads nothing. What the operands of a key make of its value is said
//! by the keyspace's operator, which is asked when the key is read, and when a flush or a compaction
//! puts its entries together. Operators are registered in [`Options`](crate::Options) by name before
//! the database is opened, because the background starts with it; the name is stored with the
//! keyspace. Without its operator a merge stays as it is: nothing is lost, and reading it is an error.
//!
//! Threads: an operator is called from any thread, by several at once. It must not call the database.

use super::built_in;
use super::error::{Error, ErrorKind, Result, shown};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What the merges of a keyspace mean.
///
/// It has to be a function of what it is given, and to give the same in every later version of a
/// program: results are stored. Registered by [`Options::merge_operator`](crate::Options::merge_operator).
pub trait MergeOperator: Send + Sync + 'static {
    /// The value that `operands`, oldest first and at least one, make of `base`, the value before
    /// them, if there was one. `None`: they make no sense; a read then gives an error, and nothing
    /// is lost.
    fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>>;

    /// One operand that does what `older` and then `newer` do, if there is one: then a compaction
    /// can put them together without knowing the value. None by default.
    fn combine(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        let _ = (key, older, newer);
        None
    }
}

/// Operators by name.
#[derive(Clone)]
pub struct MergeOperators(BTreeMap<String, Arc<dyn MergeOperator>>);

impl Default for MergeOperators {
    fn default() -> Self {
        let all = built_in::all();
        MergeOperators(
            all.into_iter()
                .map(|(name, it)| (name.to_owned(), it))
                .collect(),
        )
    }
}

impl MergeOperators {
    pub(crate) fn register(&mut self, name: String, operator: impl MergeOperator) {
        self.0.insert(name, Arc::new(operator));
    }

    /// What a keyspace folds with that was given `name`; the empty name is that of one without merges.
    pub fn folding(&self, name: &str) -> Folding {
        if name.is_empty() {
            return Folding::default();
        }
        Folding(Some(Arc::new(Named {
            name: name.to_owned(),
            operator: self.0.get(name).cloned(),
        })))
    }
}

impl fmt::Debug for MergeOperators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl PartialEq for MergeOperators {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<dyn MergeOperator>, &Arc<dyn MergeOperator>)| Arc::ptr_eq(a, b);
        self.0.keys().eq(other.0.keys()) && self.0.values().zip(other.0.values()).all(same)
    }
}

/// How the merges of a keyspace are folded. Without an operator it costs nothing to clone.
#[derive(Clone, Default)]
pub struct Folding(Option<Arc<Named>>);

struct Named {
    name: String,
    /// `None`: it is not registered.
    operator: Option<Arc<dyn MergeOperator>>,
}

impl fmt::Debug for Folding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Folding({:?})", self.0.as_ref().map(|named| &named.name))
    }
}

impl Folding {
    /// True when the keyspace takes merges.
    pub fn takes_merges(&self) -> bool {
        self.0.is_some()
    }

    /// The value that `operands`, oldest first, make of `base`.
    ///
    /// # Errors
    /// `Unsupported` when the operator is not registered; `InvalidArgument` when it refuses.
    #[cold]
    pub fn fold(&self, key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>> {
        let Some(operator) = self.operator() else {
            let name = self.0.as_ref().map_or("", |named| &named.name);
            let what = format!("the merge operator '{name}' is not registered");
            return Err(Error::new(ErrorKind::Unsupported, what)
                .advice("Register it in Options before the database is opened."));
        };
        operator.merge(key, base, operands).ok_or_else(|| {
            let name = self.0.as_ref().map_or("", |named| &named.name);
            Error::invalid(format!(
                "the merge operator '{name}' refuses the operands of the key {}",
                shown(key)
            ))
            .advice("They stay as they are. Put a value to replace them.")
        })
    }

    /// As [`Folding::fold`], or `None` where that is an error: for those that leave what they cannot fold.
    pub fn try_fold(&self, key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        self.operator()?.merge(key, base, operands)
    }

    /// One operand in the place of two.
    pub fn combine(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        self.operator()?.combine(key, older, newer)
    }

    fn operator(&self) -> Option<&dyn MergeOperator> {
        self.0.as_ref()?.operator.as_deref()
    }
}

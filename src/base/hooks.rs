//! Merge operators: code of the caller's that says what a merge means.
//!
//! A merge writes an *operand* and reads nothing. What the operands of a key make of its value is said
//! by the keyspace's operator, which is asked when the key is read, and when a flush or a compaction
//! puts its entries together. Operators are registered in [`Options`](crate::Options) by name before
//! the database is opened, because the background starts with it; the name is stored with the
//! keyspace. Without its operator a merge stays as it is: nothing is lost, and reading it is an error.
//! So it is when the operator refuses, or panics.
//!
//! Threads: an operator is called from any thread, by several at once. It must not call the database.

use super::built_in;
use super::error::{Error, ErrorKind, Result, shown};
use super::operand::OPERAND_BYTES_MAX;
use super::registered::Registered;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What the merges of a keyspace mean.
///
/// It has to be a function of what it is given, and to give the same in every later version of a
/// program: results are stored. Registered by [`Options::merge_operator`](crate::Options::merge_operator).
/// Where values and operands are of one kind, [`associative`] makes one of a function.
///
/// ```
/// use alluvium::merge::MergeOperator;
///
/// /// The value is a text; an operand is the number of letters that are cut off its end.
/// struct Cut;
///
/// impl MergeOperator for Cut {
///     fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
///         let cut: usize = operands.iter().map(|operand| usize::from(operand[0])).sum();
///         let base = base?;
///         Some(base[..base.len().checked_sub(cut)?].to_vec())
///     }
/// }
/// # let options = alluvium::KeyspaceOptions::new().merge_operator("cut");
/// # let dir = std::env::temp_dir().join(format!("alluvium-doc-mop-{}", std::process::id()));
/// let db = alluvium::Options::new()
///     .merge_operator("cut", Cut)
///     .default_keyspace(options)
///     .open(&dir)?;
/// db.put("k", "sediment")?;
/// db.merge("k", [4])?;
/// assert_eq!(db.get("k")?.unwrap(), b"sedi");
/// # db.close()?; alluvium::Db::destroy(&dir)?;
/// # Ok::<(), alluvium::Error>(())
/// ```
pub trait MergeOperator: Send + Sync + 'static {
    /// The value that `operands`, oldest first and at least one, make of `base`, the value before
    /// them, if there was one. `None`: they make no sense; a read then gives an error, and nothing
    /// is lost.
    fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>>;

    /// One operand that does what `operands`, oldest first and at least two, do one after the other,
    /// if there is one: then the background can put them together without knowing the value. None
    /// by default.
    fn combine(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        let _ = (key, operands);
        None
    }
}

/// An operator of which values and operands are of one kind: see [`associative`].
#[derive(Clone, Copy, Debug)]
pub struct Associative<F>(F);

/// An operator that is one function of values, in their order and at least one; which neighbours are
/// put together first must not matter. Sums, greatest ones, unions and appending are of this sort.
/// What it gives for one value is that value, or `None` where it makes no sense.
///
/// ```
/// use alluvium::{KeyspaceOptions, Options, merge};
///
/// // The longest; of two as long, the first.
/// let longest = merge::associative(|values| {
///     let longest = values.iter().rev().max_by_key(|value| value.len());
///     longest.map(|value| value.to_vec())
/// });
/// # let dir = std::env::temp_dir().join(format!("alluvium-doc-asc-{}", std::process::id()));
/// let db = Options::new()
///     .merge_operator("longest", longest)
///     .default_keyspace(KeyspaceOptions::new().merge_operator("longest"))
///     .open(&dir)?;
/// db.merge("word", "silt")?;
/// db.merge("word", "gravel")?;
/// assert_eq!(db.get("word")?.unwrap(), b"gravel");
/// # db.close()?; alluvium::Db::destroy(&dir)?;
/// # Ok::<(), alluvium::Error>(())
/// ```
pub fn associative<F>(function: F) -> Associative<F>
where
    F: Fn(&[&[u8]]) -> Option<Vec<u8>> + Send + Sync + 'static,
{
    Associative(function)
}

impl<F> MergeOperator for Associative<F>
where
    F: Fn(&[&[u8]]) -> Option<Vec<u8>> + Send + Sync + 'static,
{
    fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        match base {
            None => (self.0)(operands),
            Some(base) => (self.0)(&[&[base], operands].concat()),
        }
    }

    fn combine(&self, _: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        (self.0)(operands)
    }
}

/// Operators by name.
#[derive(Clone, PartialEq)]
pub struct MergeOperators(Registered<dyn MergeOperator>);

impl Default for MergeOperators {
    /// Those that are built in.
    fn default() -> Self {
        let mut operators = Registered::default();
        for (name, operator) in built_in::all() {
            operators.register(name.to_owned(), operator);
        }
        MergeOperators(operators)
    }
}

impl MergeOperators {
    pub(crate) fn register(&mut self, name: String, operator: impl MergeOperator) {
        self.0.register(name, Arc::new(operator));
    }

    /// What a keyspace folds with that was given `name`; the empty name is that of one without merges.
    pub fn folding(&self, name: &str) -> Folding {
        if name.is_empty() {
            return Folding::default();
        }
        Folding(Some(Arc::new(Named {
            name: name.to_owned(),
            operator: self.0.named(name),
        })))
    }
}

impl fmt::Debug for MergeOperators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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

/// Why operands stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfolded {
    /// The keyspace has no operator.
    NoOperator,
    /// It has one that is not registered.
    Unregistered,
    /// The operator says that they make no sense together.
    Refused,
    /// The operator panicked.
    Panicked,
    /// They make something longer than a value can be: so many bytes.
    TooLarge(usize),
}

impl fmt::Debug for Folding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Folding({:?})", self.name())
    }
}

impl Folding {
    /// The operator's name; empty when there is none.
    pub fn name(&self) -> &str {
        self.0.as_ref().map_or("", |named| &named.name)
    }

    /// The value that `operands`, oldest first and at least one, make of `base`.
    pub fn merge(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> std::result::Result<Vec<u8>, Unfolded> {
        self.ask(|operator| operator.merge(key, base, operands))
    }

    /// One operand in the place of `operands`, oldest first and at least two.
    pub fn combine(
        &self,
        key: &[u8],
        operands: &[&[u8]],
    ) -> std::result::Result<Vec<u8>, Unfolded> {
        self.ask(|operator| operator.combine(key, operands))
    }

    /// As [`Folding::merge`], for somebody who has to have the value.
    ///
    /// # Errors
    /// `Unsupported` when the operator is not registered; `TooLarge`; `InvalidArgument` when there is
    /// none, when it refuses and when it panics.
    pub fn value(&self, key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>> {
        self.merge(key, base, operands)
            .map_err(|why| self.error(key, why))
    }

    fn ask(
        &self,
        question: impl FnOnce(&dyn MergeOperator) -> Option<Vec<u8>>,
    ) -> std::result::Result<Vec<u8>, Unfolded> {
        let named = self.0.as_deref().ok_or(Unfolded::NoOperator)?;
        let operator = named.operator.as_deref().ok_or(Unfolded::Unregistered)?;
        // Somebody else's code: a panic of it must not end a worker, or a reader halfway. It had
        // nothing of ours to leave in disorder.
        match catch_unwind(AssertUnwindSafe(|| question(operator))) {
            Ok(Some(answer)) if answer.len() <= OPERAND_BYTES_MAX => Ok(answer),
            Ok(Some(answer)) => Err(Unfolded::TooLarge(answer.len())),
            Ok(None) => Err(Unfolded::Refused),
            Err(_) => Err(Unfolded::Panicked),
        }
    }

    #[cold]
    fn error(&self, key: &[u8], why: Unfolded) -> Error {
        let (name, key) = (self.name(), shown(key));
        let stay = "The operands stay as they are. Put a value or delete the key to replace them.";
        match why {
            Unfolded::NoOperator => Error::invalid(format!(
                "the key {key} has merges, and its keyspace no merge operator"
            ))
            .advice("Give the keyspace the one it had: `KeyspaceOptions::merge_operator`."),
            Unfolded::Unregistered => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the key {key} has merges, and the merge operator '{name}' is not registered"
                ),
            )
            .advice("Register it before the database is opened: `Options::merge_operator`."),
            Unfolded::Refused => Error::invalid(format!(
                "the merge operator '{name}' refuses the operands of the key {key}"
            ))
            .advice(stay),
            Unfolded::Panicked => Error::invalid(format!(
                "the merge operator '{name}' panicked over the operands of the key {key}"
            ))
            .advice(stay),
            Unfolded::TooLarge(bytes) => Error::new(
                ErrorKind::TooLarge,
                format!("what the merge operator '{name}' makes of the key {key} is too large"),
            )
            .expected(
                format!("at most {OPERAND_BYTES_MAX} bytes"),
                format!("{bytes} bytes"),
            )
            .advice(stay),
        }
    }
}

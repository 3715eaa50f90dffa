//! The operands of one key's merges, gathered from the newest down to what they are merged into.

use super::unsupported;
use crate::base::error::Result;
use crate::base::hooks::Folding;
use crate::base::types::{Tag, ValueKind};

/// Versions of one key, given newest first.
#[derive(Debug, Default)]
pub(super) struct Operands {
    /// Newest first.
    operands: Vec<Vec<u8>>,
    last: Option<Tag>,
    base: Base,
}

/// What lies beneath the operands.
#[derive(Debug, Default)]
enum Base {
    /// Nothing so far.
    #[default]
    Unknown,
    /// The key was removed.
    Absent,
    Value(Vec<u8>),
    /// An entry that only a later version of alluvium writes.
    Unsupported(ValueKind),
}

impl Operands {
    /// Adds the next older version; one that came before, from another source, counts once.
    pub(super) fn add(&mut self, tag: Tag, value: &[u8]) {
        if self.is_complete() || self.last == Some(tag) {
            return;
        }
        debug_assert!(self.last.is_none_or(|last| tag < last), "newest first");
        self.last = Some(tag);
        match tag.kind() {
            ValueKind::Merge => self.operands.push(value.to_vec()),
            ValueKind::Put => self.base = Base::Value(value.to_vec()),
            ValueKind::Delete => self.base = Base::Absent,
            kind => self.base = Base::Unsupported(kind),
        }
    }

    /// True when older versions do not matter.
    pub(super) fn is_complete(&self) -> bool {
        !matches!(self.base, Base::Unknown)
    }

    /// The value, when there are no older versions that matter.
    pub(super) fn fold(&self, folding: &Folding, key: &[u8]) -> Result<Vec<u8>> {
        let base = match &self.base {
            Base::Unknown | Base::Absent => None,
            Base::Value(bytes) => Some(bytes.as_slice()),
            Base::Unsupported(kind) => return Err(unsupported(*kind)),
        };
        let oldest_first: Vec<&[u8]> = self.operands.iter().rev().map(Vec::as_slice).collect();
        folding.fold(key, base, &oldest_first)
    }
}

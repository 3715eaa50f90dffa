//! Merges of one key in one stripe, put together.
//!
//! Operands are gathered from the newest down, as long as no snapshot tells them apart. If they end at a
//! put or a deletion of the same stripe, or nothing older can be anywhere, they become a put, and
//! what they were merged into goes; otherwise they become one operand, if the operator knows one that
//! does the same. What the operator refuses, or is not there for, stays as it is. The result has the
//! newest number of what is in it.
//!
//! Threads: one. Not here: which entries are judged (`drop_rules`), where they go (`executor`).

use super::drop_rules::DropRules;
use super::expired::Entry;
use crate::base::error::Result;
use crate::base::hooks::Folding;
use crate::base::types::{Tag, ValueKind};
use crate::read::Operands;

/// Merges of one key and stripe that wait for what lies beneath them. Used again for the next,
/// because of its memory.
#[derive(Debug, Default)]
pub(super) struct Fold {
    key: Vec<u8>,
    operands: Operands,
    is_first: bool,
}

impl Fold {
    /// True when there are any.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.operands.newest().is_some()
    }

    /// True when the next entry of the inputs is one more of them, unless it is left out.
    pub(super) fn goes_on(&self, key: &[u8], tag: Tag, rules: &mut DropRules<'_>) -> bool {
        let is_one = |newest| key == self.key && rules.are_one_stripe(newest, tag);
        let is_merge = tag.kind() == ValueKind::Merge && self.operands.newest().is_some_and(is_one);
        is_merge && !rules.is_deleted(key, tag)
    }

    /// Adds the next older one. `first`: nothing of its key came before.
    pub(super) fn add(&mut self, first: bool, key: &[u8], tag: Tag, entry: &[u8]) -> Result<()> {
        if !self.is_waiting() {
            self.is_first = first;
            self.key.clear();
            self.key.extend_from_slice(key);
        }
        self.operands.add(tag, entry)
    }

    /// The one entry that they all become over the `next` one of the inputs, if there is one.
    pub(super) fn together(
        &self,
        next: Option<Entry<'_>>,
        rules: &mut DropRules<'_>,
        folding: &Folding,
    ) -> Option<(Tag, Vec<u8>)> {
        let newest = self
            .operands
            .newest()
            .filter(|newest| rules.is_seen(*newest))?;
        let base = match next.filter(|(key, ..)| *key == self.key) {
            Some((_, tag, _)) if !rules.are_one_stripe(newest, tag) => {
                return self.combined(folding);
            }
            Some((_, tag, _)) if rules.is_deleted(&self.key, tag) => None,
            Some((_, tag, value)) => match tag.kind() {
                ValueKind::Put => Some(value),
                ValueKind::Delete => None,
                // The operands outlive it, so they stay operands.
                ValueKind::PutExpiring => return self.combined(folding),
                // It will be refused when it is judged.
                _ => return None,
            },
            None if rules.may_lie_below(&self.key) => return self.combined(folding),
            None => None,
        };
        let operands = self.operands.oldest_first();
        let value = folding.merge(&self.key, base, &operands).ok()?;
        rules.cover(newest);
        Some((Tag::new(newest.seqno(), ValueKind::Put), value))
    }

    fn combined(&self, folding: &Folding) -> Option<(Tag, Vec<u8>)> {
        let operands = self.operands.oldest_first();
        if operands.len() < 2 {
            return None;
        }
        let combined = folding.combine(&self.key, &operands).ok()?;
        self.operands.entry_for_all(&combined)
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// True when nothing of their key came before.
    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    /// The entries as they were, newest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Tag, &[u8])> {
        self.operands.entries()
    }

    /// None wait any more.
    pub(super) fn clear(&mut self) {
        self.operands.clear();
    }
}

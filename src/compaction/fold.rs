//! Merges of one key in one stripe, put together.
//!
//! Operands are taken from the newest down, as long as no snapshot tells them apart. If they end at a
//! put or a deletion of the same stripe, or nothing older can be anywhere, they become a put, and
//! what they were merged into goes; otherwise they become one operand, if the operator knows one that
//! does the same. What the operator refuses, or is not there for, stays as it is. The result has the
//! newest number of what is in it.
//!
//! Threads: one. Not here: which entries are judged (`drop_rules`), where they go (`executor`).

use super::drop_rules::{DropRules, Verdict};
use crate::base::cursor::Cursor;
use crate::base::error::Result;
use crate::base::hooks::Folding;
use crate::base::types::{Tag, ValueKind};
use crate::read::Operands;

/// The merges of one key and stripe. Used again for the next, because of its memory.
#[derive(Debug, Default)]
pub(super) struct Fold {
    key: Vec<u8>,
    operands: Operands,
}

/// What [`Fold::take`] took.
#[derive(Debug)]
pub(super) struct Taken {
    /// Entries, those among them that nobody can see.
    pub(super) entries: u64,
    /// Nothing of the key came before.
    pub(super) first: bool,
}

impl Fold {
    /// Takes the merges from the one that `cursor` stands on to the last of its key and stripe, and
    /// leaves the cursor behind them.
    pub(super) fn take<C: Cursor>(
        &mut self,
        cursor: &mut C,
        rules: &mut DropRules<'_>,
    ) -> Result<Taken> {
        self.key.clear();
        self.key.extend_from_slice(cursor.key());
        self.operands.clear();
        let newest = cursor.tag();
        let mut taken = Taken {
            entries: 0,
            first: false,
        };
        while self.is_on(cursor)
            && cursor.tag().kind() == ValueKind::Merge
            && rules.are_one_stripe(newest, cursor.tag())
        {
            if let Verdict::Keep { first } = rules.judge(&self.key, cursor.tag())? {
                taken.first |= first;
                self.operands.add(cursor.tag(), cursor.value())?;
            }
            taken.entries += 1;
            cursor.next()?;
        }
        Ok(taken)
    }

    fn is_on<C: Cursor>(&self, cursor: &C) -> bool {
        cursor.valid() && cursor.key() == self.key
    }

    /// The one entry that they all become over what `cursor` stands on now, if there is one.
    pub(super) fn together<C: Cursor>(
        &self,
        cursor: &C,
        rules: &mut DropRules<'_>,
        folding: &Folding,
    ) -> Option<(Tag, Vec<u8>)> {
        let newest = self.operands.newest()?;
        let next = self.is_on(cursor).then(|| cursor.tag());
        let base = match next {
            Some(tag) if !rules.are_one_stripe(newest, tag) => return self.combined(folding),
            Some(tag) if tag.kind() == ValueKind::Put => Some(cursor.value()),
            Some(tag) if tag.kind() == ValueKind::Delete => None,
            // It will be refused when it is judged.
            Some(_) => return None,
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

    /// The entries as they were, newest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Tag, &[u8])> {
        self.operands.entries()
    }
}

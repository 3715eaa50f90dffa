//! Merges of one key in one stripe, put together.
//!
//! Operands are gathered from the newest down, as long as no snapshot tells them apart. If they end
//! at a put or a deletion, or nothing older can be anywhere, they become a put; otherwise neighbours
//! become one operand where the operator knows one that does the same. What the operator refuses, or
//! is not there for, stays as it is. The result has the newest number of what is in it.
//!
//! Threads: one. Not here: which entries are judged (`drop_rules`), where they go (`executor`).

use crate::base::hooks::Folding;
use crate::base::types::{Tag, ValueKind};

/// What lies beneath the operands that were gathered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Beneath<'a> {
    /// The key has no value there.
    Nothing,
    /// It has this one.
    Value(&'a [u8]),
    /// Nobody here knows.
    Unknown,
}

/// `operands`, newest first, as few entries as they can be: newest first too.
pub(super) fn together(
    folding: &Folding,
    key: &[u8],
    operands: Vec<(Tag, Vec<u8>)>,
    beneath: Beneath<'_>,
) -> Vec<(Tag, Vec<u8>)> {
    let Some((newest, _)) = operands.first() else {
        return operands;
    };
    let base = match beneath {
        Beneath::Nothing => Some(None),
        Beneath::Value(bytes) => Some(Some(bytes)),
        Beneath::Unknown => None,
    };
    if let Some(base) = base {
        let oldest_first: Vec<&[u8]> = operands.iter().rev().map(|(_, o)| o.as_slice()).collect();
        return match folding.try_fold(key, base, &oldest_first) {
            Some(value) => vec![(Tag::new(newest.seqno(), ValueKind::Put), value)],
            None => operands,
        };
    }
    let mut fewer: Vec<(Tag, Vec<u8>)> = Vec::with_capacity(operands.len());
    for (tag, operand) in operands.into_iter().rev() {
        let combined = fewer
            .last()
            .and_then(|(_, older)| folding.combine(key, older, &operand));
        match (combined, fewer.last_mut()) {
            (Some(combined), Some(last)) => *last = (tag, combined),
            _ => fewer.push((tag, operand)),
        }
    }
    fewer.reverse();
    fewer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hooks::MergeOperators;
    use crate::base::types::SeqNo;

    fn merge(seqno: u64, operand: &str) -> (Tag, Vec<u8>) {
        let tag = Tag::new(SeqNo::new(seqno), ValueKind::Merge);
        (tag, operand.as_bytes().to_vec())
    }

    fn shown(folding: &Folding, operands: &[(Tag, Vec<u8>)], beneath: Beneath<'_>) -> String {
        let all = together(folding, b"k", operands.to_vec(), beneath);
        let all = all
            .iter()
            .map(|(tag, value)| format!("{tag:?}={}", String::from_utf8_lossy(value)));
        all.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn operands_become_a_put_where_what_they_are_merged_into_is_known() {
        let append = MergeOperators::default().folding("append");
        let operands = [merge(9, "c"), merge(7, "b")];
        assert_eq!(shown(&append, &operands, Beneath::Value(b"a")), "9:Put=abc");
        assert_eq!(shown(&append, &operands, Beneath::Nothing), "9:Put=bc");
        assert_eq!(shown(&append, &operands, Beneath::Unknown), "9:Merge=bc");
    }

    #[test]
    fn what_the_operator_refuses_or_is_not_there_for_stays() {
        let operands = [merge(9, "c"), merge(7, "b")];
        for name in ["counter", "nobody"] {
            let folding = MergeOperators::default().folding(name);
            for beneath in [Beneath::Nothing, Beneath::Value(b"a"), Beneath::Unknown] {
                assert_eq!(shown(&folding, &operands, beneath), "9:Merge=c 7:Merge=b");
            }
        }
    }
}

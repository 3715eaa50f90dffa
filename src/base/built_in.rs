//! The merge operators that every database knows.
//!
//! | name | a value is | an operand | base `None` is |
//! |---|---|---|---|
//! | `counter` | a signed number, 8 bytes little-endian | what is added, wrapping | 0 |
//! | `append` | bytes | bytes that are appended | empty |
//! | `max` | bytes | bytes; the greater ones stay, bytewise | less than anything |
//! | `set_union` | a set of byte strings, as [`set`] makes it | such a set | the empty set |

use super::coding::{Decoder, put_bytes};
use super::hooks::MergeOperator;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The name of the operator that adds.
pub const COUNTER: &str = "counter";
/// The name of the operator that appends.
pub const APPEND: &str = "append";
/// The name of the operator that keeps the greatest.
pub const MAX: &str = "max";
/// The name of the operator that unites sets.
pub const SET_UNION: &str = "set_union";

pub(super) fn all() -> [(&'static str, Arc<dyn MergeOperator>); 4] {
    [
        (COUNTER, Arc::new(Counter)),
        (APPEND, Arc::new(Append)),
        (MAX, Arc::new(Max)),
        (SET_UNION, Arc::new(SetUnion)),
    ]
}

/// Declares an operator by what it makes of two values, which must be associative.
macro_rules! associative {
    ($name:ident, $of_two:expr) => {
        struct $name;

        impl MergeOperator for $name {
            fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
                let mut all = base.into_iter().chain(operands.iter().copied());
                let of_two: fn(&[u8], &[u8]) -> Option<Vec<u8>> = $of_two;
                // With itself first: a value that makes no sense is refused also when it is alone.
                let first = all.next()?;
                all.try_fold(checked(first, of_two)?, |left, right| of_two(&left, right))
            }

            fn combine(&self, _: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
                let of_two: fn(&[u8], &[u8]) -> Option<Vec<u8>> = $of_two;
                of_two(older, newer)
            }
        }
    };
}

/// `value`, if the operator takes it.
fn checked(value: &[u8], of_two: fn(&[u8], &[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    of_two(value, value).map(|_| value.to_vec())
}

associative!(Counter, |left, right| {
    let number = |bytes: &[u8]| bytes.try_into().ok().map(i64::from_le_bytes);
    let sum = number(left)?.wrapping_add(number(right)?);
    Some(sum.to_le_bytes().to_vec())
});
associative!(Append, |left, right| Some([left, right].concat()));
associative!(Max, |left, right| Some(left.max(right).to_vec()));
associative!(SetUnion, |left, right| {
    let mut both = members(left)?;
    both.append(&mut members(right)?);
    Some(set(both))
});

/// A set as the operator `set_union` stores it: each member as a varint length and its bytes, in
/// order, none twice.
pub fn set<M: AsRef<[u8]>>(of: impl IntoIterator<Item = M>) -> Vec<u8> {
    let sorted: BTreeSet<Vec<u8>> = of.into_iter().map(|m| m.as_ref().to_vec()).collect();
    let mut bytes = Vec::new();
    for member in &sorted {
        put_bytes(&mut bytes, member);
    }
    bytes
}

/// The members of a set that [`set`] made; `None` for bytes that are none.
pub fn members(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut decoder = Decoder::new(bytes);
    let mut members: Vec<&[u8]> = Vec::new();
    while !decoder.is_empty() {
        let member = decoder.bytes()?;
        if members.last().is_some_and(|last| member <= *last) {
            return None;
        }
        members.push(member);
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn operator(name: &str) -> Arc<dyn MergeOperator> {
        let found = all().into_iter().find(|(known, _)| *known == name);
        found.map(|(_, operator)| operator).unwrap()
    }

    #[test]
    fn a_counter_adds_and_refuses_what_is_no_number() {
        let counter = operator(COUNTER);
        let number = |n: i64| n.to_le_bytes();
        let merged = counter.merge(b"", None, &[&number(3), &number(-5)]);
        assert_eq!(merged.unwrap(), number(-2));
        let wrapped = counter.merge(b"", Some(&number(i64::MAX)), &[&number(1)]);
        assert_eq!(wrapped.unwrap(), number(i64::MIN));
        assert_eq!(counter.merge(b"", None, &[b"7"]), None);
        assert_eq!(counter.merge(b"", Some(b"7"), &[&number(1)]), None);
    }

    #[test]
    fn append_max_and_union_do_what_they_are_called() {
        let (append, max, union) = (operator(APPEND), operator(MAX), operator(SET_UNION));
        assert_eq!(
            append.merge(b"", Some(b"a"), &[b"b", b"c"]).unwrap(),
            b"abc"
        );
        assert_eq!(max.merge(b"", Some(b"b"), &[b"a", b"ba"]).unwrap(), b"ba");
        let united = union.merge(b"", Some(&set(["b", "a"])), &[&set(["c", "a"])]);
        assert_eq!(members(&united.unwrap()).unwrap(), [b"a", b"b", b"c"]);
        let unsorted = [1, b'b', 1, b'a'];
        assert_eq!(union.merge(b"", None, &[&unsorted]), None);
    }

    proptest! {
        /// Whatever is put together first, the value is the same: what compactions rely on.
        #[test]
        fn operands_may_be_combined_in_any_grouping(
            numbers in proptest::collection::vec(any::<i64>(), 1..6),
            split in 0usize..6,
        ) {
            for (name, _) in all() {
                let operator = operator(name);
                let operand = |n: &i64| match name {
                    SET_UNION => set([n.to_le_bytes()]),
                    _ => n.to_le_bytes().to_vec(),
                };
                let operands: Vec<Vec<u8>> = numbers.iter().map(operand).collect();
                let slices: Vec<&[u8]> = operands.iter().map(Vec::as_slice).collect();
                let whole = operator.merge(b"k", None, &slices);
                let (left, right) = slices.split_at(split.min(slices.len()));
                let combined = |part: &[&[u8]]| part.iter().copied().map(<[u8]>::to_vec)
                    .reduce(|older, newer| operator.combine(b"k", &older, &newer).unwrap());
                let parts: Vec<Vec<u8>> = [combined(left), combined(right)].into_iter().flatten().collect();
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                prop_assert_eq!(operator.merge(b"k", None, &parts), whole);
            }
        }
    }
}

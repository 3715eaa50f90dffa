//! The merge operators that every database knows.
//!
//! | name | a value is | an operand | base `None` is |
//! |---|---|---|---|
//! | `counter` | a signed number, 8 bytes little-endian | what is added, wrapping | 0 |
//! | `append` | bytes | bytes that are appended | empty |
//! | `max` | bytes | bytes; the greater ones stay, bytewise | less than anything |
//! | `set_union` | a set of byte strings, as [`set`] makes it | such a set | the empty set |

use super::coding::{Decoder, put_bytes};
use super::hooks::{MergeOperator, associative};
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
        (COUNTER, Arc::new(associative(sum))),
        (
            APPEND,
            Arc::new(associative(|values| Some(values.concat()))),
        ),
        (MAX, Arc::new(associative(greatest))),
        (SET_UNION, Arc::new(associative(union))),
    ]
}

fn sum(values: &[&[u8]]) -> Option<Vec<u8>> {
    let mut sum = 0i64;
    for value in values {
        sum = sum.wrapping_add(i64::from_le_bytes((*value).try_into().ok()?));
    }
    Some(sum.to_le_bytes().to_vec())
}

fn greatest(values: &[&[u8]]) -> Option<Vec<u8>> {
    values.iter().max().map(|value| value.to_vec())
}

fn union(values: &[&[u8]]) -> Option<Vec<u8>> {
    let mut all = BTreeSet::new();
    for value in values {
        all.extend(members(value)?);
    }
    Some(encoded(&all))
}

/// A set as the operator `set_union` stores it: each member as a varint length and its bytes, in
/// order, none twice.
pub fn set<M: AsRef<[u8]>>(of: impl IntoIterator<Item = M>) -> Vec<u8> {
    let members: Vec<M> = of.into_iter().collect();
    encoded(&members.iter().map(AsRef::as_ref).collect())
}

fn encoded(set: &BTreeSet<&[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for member in set {
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
                let parts = [left, right].into_iter().filter(|part| !part.is_empty());
                let parts: Option<Vec<Vec<u8>>> =
                    parts.map(|part| operator.combine(b"k", part)).collect();
                let parts = parts.unwrap();
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                prop_assert_eq!(operator.merge(b"k", None, &parts), whole);
            }
        }
    }
}

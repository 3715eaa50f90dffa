//! The merge operators of a database under test: what they make of a value tells which operands there
//! were, how often each, and in which order.
//!
//! An operand is a map `x -> factor * x + summand` of numbers, and two of them one after the other are
//! such a map again. A value that was merged into is what it was before, the number, and a mark.

use alluvium::Options;
use alluvium::merge::MergeOperator;

/// What a keyspace may have: none, one that combines operands, and one that cannot.
pub(crate) const OPERATORS: [&str; 3] = ["", "maps", "maps one by one"];

/// What the bytes of a value that was merged into end with.
pub(crate) const MARK: [u8; 8] = *b"\0merged\0";

/// The options, with the operators.
pub(crate) fn registered(options: Options) -> Options {
    let [_, combining, single] = OPERATORS;
    options
        .merge_operator(combining, Maps { combines: true })
        .merge_operator(single, Maps { combines: false })
}

/// A map of numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map {
    pub(crate) factor: u64,
    pub(crate) summand: u64,
}

impl Map {
    pub(crate) fn of(self, x: u64) -> u64 {
        x.wrapping_mul(self.factor).wrapping_add(self.summand)
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        [self.factor.to_le_bytes(), self.summand.to_le_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Map> {
        let (factor, summand) = bytes.split_first_chunk()?;
        Some(Map {
            factor: u64::from_le_bytes(*factor),
            summand: u64::from_le_bytes(summand.try_into().ok()?),
        })
    }

    fn then(self, next: Map) -> Map {
        Map {
            factor: self.factor.wrapping_mul(next.factor),
            summand: next.of(self.summand),
        }
    }
}

struct Maps {
    combines: bool,
}

/// What an operand makes of a value, or of none.
pub(crate) fn maps(base: Option<&[u8]>, operand: &[u8]) -> Option<Vec<u8>> {
    Maps { combines: false }.merge(&[], base, &[operand])
}

impl MergeOperator for Maps {
    fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        let base = base.unwrap_or_default();
        let (body, mut x) = match base.strip_suffix(&MARK) {
            Some(merged) => {
                let (body, x) = merged.split_last_chunk()?;
                (body, u64::from_le_bytes(*x))
            }
            None => (base, 0),
        };
        for operand in operands {
            x = Map::decode(operand)?.of(x);
        }
        Some([body, &x.to_le_bytes(), &MARK].concat())
    }

    fn combine(&self, _: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        let maps: Option<Vec<Map>> = operands.iter().map(|bytes| Map::decode(bytes)).collect();
        let all = maps?.into_iter().reduce(Map::then)?;
        // Now and then it knows no such operand, as some operators do not.
        (self.combines && !all.summand.is_multiple_of(5)).then(|| all.encode())
    }
}

//! What an entry of kind `Merge` holds: an operand, and how many numbers it stands for.
//!
//! ```text
//! span: varint | operand
//! ```
//! An operand that was written has the span 0. One that a flush or a compaction put in the place of
//! several has the number of the newest, and `number - span` is that of the oldest. So whoever finds
//! the several beside it (a table that a later one replaced, without the manifest that says so)
//! counts none twice.

use super::coding::{Decoder, put_varint};
use super::key::VALUE_BYTES_MAX;

/// The longest operand, in bytes: with the longest span it is as long as a value can be.
pub const OPERAND_BYTES_MAX: usize = VALUE_BYTES_MAX - SPAN_BYTES_MAX;
const SPAN_BYTES_MAX: usize = 10;

/// The entry of an operand that stands for its own number and `span` below.
pub fn entry_of(span: u64, operand: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(SPAN_BYTES_MAX + operand.len());
    put_varint(&mut entry, span);
    entry.extend_from_slice(operand);
    entry
}

/// Appends the entry of an operand that is written now, with its length before it.
pub fn put_written(out: &mut Vec<u8>, operand: &[u8]) {
    put_varint(out, operand.len() as u64 + 1);
    put_varint(out, 0); // the span, one byte
    out.extend_from_slice(operand);
}

/// The span and the operand; `None` for bytes that are no such entry.
pub fn span_and_operand(entry: &[u8]) -> Option<(u64, &[u8])> {
    let mut decoder = Decoder::new(entry);
    Some((decoder.varint()?, decoder.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_is_read_as_it_was_made(span: u64, operand: Vec<u8>) {
            let entry = entry_of(span, &operand);
            prop_assert_eq!(span_and_operand(&entry), Some((span, &operand[..])));
            let mut written = Vec::new();
            put_written(&mut written, &operand);
            let mut decoder = Decoder::new(&written);
            prop_assert_eq!(decoder.bytes(), Some(&entry_of(0, &operand)[..]));
            prop_assert!(decoder.is_empty());
        }
    }

    #[test]
    fn bytes_that_are_no_entry_are_refused() {
        assert_eq!(span_and_operand(b""), None);
        assert_eq!(span_and_operand(&[0x80, 0]), None, "not the shortest form");
    }
}

//! What a record of the log holds: a batch, or the note that a bulk load was committed.
//!
//! ```text
//! batch: count u32, not 0 | operations
//! load:  0 u32 | keyspace varint, at least one
//! ```
//! A load has one number and its entries are in tables, so a replay has nothing to do with the note. It
//! is there for those who follow the log, who would miss the load otherwise.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::coding::{Decoder, put_varint};
use super::error::{Error, Result};
use super::operation::Operations;
use super::types::KeyspaceId;

/// A record's payload, decoded as far as its first part.
#[derive(Clone, Debug)]
pub enum Payload<'a> {
    /// Operations, each with a number of its own.
    Batch(Operations<'a>),
    /// Entries of these keyspaces were loaded, all with the record's number.
    Load(Vec<KeyspaceId>),
}

impl<'a> Payload<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// `Corruption` for one without a count, and for the note of a load of no keyspace.
    pub fn decode(payload: &'a [u8]) -> Result<Self> {
        let operations = Operations::decode(payload)?;
        if operations.left() > 0 {
            return Ok(Payload::Batch(operations));
        }
        let wrong = || Error::corruption("note of a bulk load that cannot be decoded");
        let mut decoder = Decoder::new(payload);
        decoder.u32().ok_or_else(wrong)?;
        let mut keyspaces = Vec::new();
        while !decoder.is_empty() {
            let keyspace = decoder.varint32().ok_or_else(wrong)?;
            keyspaces.push(KeyspaceId(keyspace));
        }
        match keyspaces.is_empty() {
            true => Err(wrong()),
            false => Ok(Payload::Load(keyspaces)),
        }
    }

    /// How many sequence numbers it has.
    pub fn numbers(&self) -> u64 {
        match self {
            Payload::Batch(operations) => u64::from(operations.left()),
            Payload::Load(_) => 1,
        }
    }

    /// What memtables take of it: nothing of a load.
    pub fn into_operations(self) -> Operations<'a> {
        match self {
            Payload::Batch(operations) => operations,
            Payload::Load(_) => Operations::none(),
        }
    }
}

/// The payload of a load's note.
pub fn note_of_load(keyspaces: impl IntoIterator<Item = KeyspaceId>) -> Vec<u8> {
    let mut payload = 0u32.to_le_bytes().to_vec();
    for keyspace in keyspaces {
        put_varint(&mut payload, u64::from(keyspace.0));
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn a_note_of_a_load_is_read_as_it_was_made() {
        let keyspaces = [KeyspaceId(0), KeyspaceId(300)];
        let note = note_of_load(keyspaces);
        assert_eq!(note, [0, 0, 0, 0, 0, 0xac, 2]);
        let payload = Payload::decode(&note).unwrap();
        assert!(matches!(&payload, Payload::Load(read) if read[..] == keyspaces));
        assert_eq!(payload.numbers(), 1);
        assert!(payload.into_operations().next().is_none());
    }

    #[test]
    fn a_note_of_no_keyspace_and_a_torn_one_are_damage() {
        for wrong in [&[][..], &[0, 0, 0], &[0; 4], &[0, 0, 0, 0, 0x80]] {
            let error = Payload::decode(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(decoded) = Payload::decode(&payload) {
                prop_assert!(decoded.numbers() > 0);
                prop_assert!(decoded.into_operations().take(100).count() < 100);
            }
        }
    }
}

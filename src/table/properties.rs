//! The properties section: counts and bounds, as tagged fields.
//!
//! ```text
//! field = number varint | bytes (length varint, then the bytes); an integer is a varint in them
//! ```
//! Fields come in ascending order; unknown ones are passed over. No clock, no host name: the
//! same entries and options give the same bytes.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::expiring::Expiring;
use crate::base::coding::{Decoder, put_bytes, put_varint};
use crate::base::types::{KeyspaceId, SeqNo, Time};

/// What a table says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Properties {
    pub(super) entries: u64,
    pub(super) tombstones: u64,
    pub(super) key_bytes: u64,
    pub(super) value_bytes: u64,
    pub(super) smallest: Vec<u8>,
    pub(super) largest: Vec<u8>,
    pub(super) seqno_min: SeqNo,
    pub(super) seqno_max: SeqNo,
    pub(super) blocks: u64,
    pub(super) block_bytes: u64,
    pub(super) filter_bits_per_key: u64,
    pub(super) codec: u64,
    /// The keyspace it was written for: what tells a lost table's owner when the manifest is lost.
    pub(super) keyspace: Option<KeyspaceId>,
    /// What of it expires; not told when nothing does.
    pub(super) expiring: Expiring,
}

impl Properties {
    fn numbers(&self) -> [(u64, u64); 10] {
        [
            (1, self.entries),
            (2, self.tombstones),
            (3, self.key_bytes),
            (4, self.value_bytes),
            (5, self.seqno_min.get()),
            (6, self.seqno_max.get()),
            (7, self.blocks),
            (8, self.block_bytes),
            (9, self.filter_bits_per_key),
            (10, self.codec),
        ]
    }

    /// Appends the section.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut number = Vec::with_capacity(10);
        for (tag, n) in self.numbers() {
            number.clear();
            put_varint(&mut number, n);
            put_varint(out, tag);
            put_bytes(out, &number);
        }
        for (tag, key) in [(11, &self.smallest), (12, &self.largest)] {
            put_varint(out, tag);
            put_bytes(out, key);
        }
        let expires = self.expiring.entries != 0;
        let optional = [
            (13, self.keyspace.map(|keyspace| u64::from(keyspace.0))),
            (14, expires.then_some(self.expiring.entries)),
            (15, expires.then_some(self.expiring.half_at.0)),
        ];
        for (tag, n) in optional {
            if let Some(n) = n {
                number.clear();
                put_varint(&mut number, n);
                put_varint(out, tag);
                put_bytes(out, &number);
            }
        }
    }

    /// Reads the section; `None` when the bytes are not fields.
    pub(super) fn decode(section: &[u8]) -> Option<Properties> {
        let mut properties = Properties::default();
        let mut decoder = Decoder::new(section);
        while !decoder.is_empty() {
            let tag = decoder.varint()?;
            let bytes = decoder.bytes()?;
            let number = || Decoder::new(bytes).varint();
            match tag {
                1 => properties.entries = number()?,
                2 => properties.tombstones = number()?,
                3 => properties.key_bytes = number()?,
                4 => properties.value_bytes = number()?,
                5 => properties.seqno_min = SeqNo::new(number()?),
                6 => properties.seqno_max = SeqNo::new(number()?),
                7 => properties.blocks = number()?,
                8 => properties.block_bytes = number()?,
                9 => properties.filter_bits_per_key = number()?,
                10 => properties.codec = number()?,
                11 => properties.smallest = bytes.to_vec(),
                12 => properties.largest = bytes.to_vec(),
                13 => properties.keyspace = Some(KeyspaceId(u32::try_from(number()?).ok()?)),
                14 => properties.expiring.entries = number()?,
                15 => properties.expiring.half_at = Time(number()?),
                _ => {}
            }
        }
        Some(properties)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_come_back_and_unknown_ones_are_passed_over() {
        let properties = Properties {
            entries: 1000,
            tombstones: 3,
            key_bytes: 16_000,
            value_bytes: 1 << 40,
            smallest: b"a".to_vec(),
            largest: vec![b'z'; 300],
            seqno_min: SeqNo::new(5),
            seqno_max: SeqNo::MAX,
            blocks: 40,
            block_bytes: 4096,
            filter_bits_per_key: 12,
            codec: 1,
            keyspace: Some(KeyspaceId(300)),
            expiring: Expiring {
                entries: 7,
                half_at: Time(1 << 41),
            },
        };
        let mut section = Vec::new();
        properties.encode(&mut section);
        put_varint(&mut section, 99);
        put_bytes(&mut section, b"of a later version");
        assert_eq!(Properties::decode(&section), Some(properties));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(section in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Properties::decode(&section);
        }
    }
}

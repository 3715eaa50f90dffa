//! What an entry of kind `PutExpiring` holds: when its value expires, and the value.
//!
//! ```text
//! expiry: u64 LE, a time of the database's clock | value
//! ```
//! From its expiry on the entry says what a deletion says, and is one to a compaction.

use super::coding::put_varint;
use super::error::{Error, Result};
use super::key::VALUE_BYTES_MAX;
use super::types::Time;

/// Bytes before the value.
pub const EXPIRY_BYTES: usize = 8;
/// The longest value that can expire, in bytes.
pub const EXPIRING_BYTES_MAX: usize = VALUE_BYTES_MAX - EXPIRY_BYTES;

/// Appends the entry, with its length before it.
pub fn put_expiring(out: &mut Vec<u8>, expiry: Time, value: &[u8]) {
    put_varint(out, (EXPIRY_BYTES + value.len()) as u64);
    out.extend_from_slice(&expiry.0.to_le_bytes());
    out.extend_from_slice(value);
}

/// The expiry and the value; `None` for bytes that are no such entry.
#[inline]
pub fn expiry_and_value(entry: &[u8]) -> Option<(Time, &[u8])> {
    let (expiry, value) = entry.split_first_chunk()?;
    Some((Time(u64::from_le_bytes(*expiry)), value))
}

/// The value, unless it `has_expired`.
///
/// # Errors
/// `Corruption` for bytes that are no such entry.
pub fn unless_expired(
    entry: &[u8],
    has_expired: impl FnOnce(Time) -> bool,
) -> Result<Option<&[u8]>> {
    let (expiry, value) = expiry_and_value(entry).ok_or_else(no_expiry)?;
    Ok((!has_expired(expiry)).then_some(value))
}

/// An entry of the kind that is too short.
#[cold]
pub fn no_expiry() -> Error {
    Error::corruption("a value that expires, without its expiry")
        .advice("Report this: it is a bug of alluvium, or somebody wrote the file on purpose.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::coding::Decoder;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn an_entry_is_read_as_it_was_made(expiry: u64, value: Vec<u8>) {
            let mut entry = Vec::new();
            put_expiring(&mut entry, Time(expiry), &value);
            let mut decoder = Decoder::new(&entry);
            let bytes = decoder.bytes().unwrap();
            prop_assert_eq!(expiry_and_value(bytes), Some((Time(expiry), &value[..])));
            prop_assert!(decoder.is_empty());
        }
    }

    #[test]
    fn a_time_to_live_is_rounded_up_and_an_endless_one_is_none() {
        assert_eq!(expiry_and_value(&[0; 7]), None);
        let after = |length| Time(10).after(length);
        assert_eq!(after(Duration::ZERO), Some(Time(10)));
        assert_eq!(after(Duration::from_nanos(1)), Some(Time(11)));
        assert_eq!(after(Duration::from_millis(5)), Some(Time(15)));
        assert_eq!(after(Duration::from_millis(u64::MAX)), None);
        assert_eq!(after(Duration::MAX), None);
    }
}

//! Bytes with checks: little-endian integers, varints, and a reader that cannot run past its end.
//!
//! Every length read from a file is compared with what remains before anything is allocated or
//! added (P19). A [`Decoder`] therefore never panics and never allocates.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

/// Appends `n` as a LEB128 varint: 7 bits a byte, low bits first, at most 10 bytes.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a varint length and the bytes.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes [`put_varint`] appends for `n`.
#[inline]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "64 bits have at most 64 leading zeros"
)]
pub const fn varint_len(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

/// Reads integers, varints and byte strings from the front of a slice.
///
/// Each method gives `None` when the bytes that remain do not hold the thing asked for, and then
/// consumes nothing that matters: callers give up at the first `None`.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads from the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Decoder { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True when everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    /// The next byte.
    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// The next 4 bytes, little-endian.
    #[inline]
    pub fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    /// The next 8 bytes, little-endian.
    #[inline]
    pub fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    /// A varint of at most 10 bytes. The shortest form is the only one accepted, so that decoding
    /// and encoding again gives the same bytes.
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        let (&first, behind) = self.rest.split_first()?;
        if 0x80 <= first {
            return self.long_varint();
        }
        self.rest = behind;
        Some(u64::from(first))
    }

    /// One of several bytes: apart, so that the short form goes into the callers.
    #[inline(never)]
    #[expect(clippy::arithmetic_side_effects, reason = "`i` is below 10")]
    fn long_varint(&mut self) -> Option<u64> {
        let mut n = 0u64;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && byte > 1 {
                return None;
            }
            n |= bits << (7 * i);
            if byte < 0x80 {
                if byte == 0 && i > 0 {
                    return None;
                }
                self.rest = self.rest.get(i + 1..)?;
                return Some(n);
            }
        }
        None
    }

    /// A varint that fits 32 bits.
    #[inline]
    pub fn varint32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    /// A varint length and that many bytes.
    #[inline]
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = usize::try_from(self.varint()?).ok()?;
        self.take(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_comes_back_and_has_the_length_foretold(n: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            prop_assert_eq!(out.len(), varint_len(n));
            let mut decoder = Decoder::new(&out);
            prop_assert_eq!(decoder.varint(), Some(n));
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn any_bytes_decode_without_panic_and_accepted_ones_encode_to_themselves(
            bytes in proptest::collection::vec(any::<u8>(), 0..24)
        ) {
            let mut decoder = Decoder::new(&bytes);
            if let Some(n) = decoder.varint() {
                let used = bytes.len() - decoder.rest().len();
                let mut again = Vec::new();
                put_varint(&mut again, n);
                prop_assert_eq!(&again[..], &bytes[..used]);
            }
            let _ = Decoder::new(&bytes).bytes();
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_refused_before_anything_is_allocated() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::MAX);
        bytes.push(1);
        assert_eq!(Decoder::new(&bytes).bytes(), None);
        assert_eq!(Decoder::new(&[0x80, 0x00]).varint(), None, "overlong zero");
    }
}

//! The two instructions that safe Rust does not say: comparing 16 bytes at once, and prefetching.
//!
//! Unsafe island: calling a function that needs SSE2, and the prefetch, which takes an address.
//! The comparison has a portable twin for other machines; the tests hold the two against each other.

/// Bit `i` is set where `bytes[i] == wanted`.
#[inline]
pub(in crate::table) fn equal_bytes(bytes: &[u8; 16], wanted: u8) -> u16 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: SSE2 is part of every x86-64 processor.
        unsafe { equal_bytes_sse2(bytes, wanted) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    equal_bytes_portable(bytes, wanted)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn equal_bytes_sse2(bytes: &[u8; 16], wanted: u8) -> u16 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    let whole = u128::from_le_bytes(*bytes);
    let line = _mm_set_epi64x((whole >> 64) as i64, whole as i64);
    let equal = _mm_cmpeq_epi8(line, _mm_set1_epi8(wanted as i8));
    _mm_movemask_epi8(equal) as u16
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_bytes_portable(bytes: &[u8; 16], wanted: u8) -> u16 {
    let mut mask = 0;
    for (i, byte) in bytes.iter().enumerate() {
        mask |= u16::from(*byte == wanted) << i;
    }
    mask
}

/// Brings the cache line that holds `bytes[at]` nearer; nothing when `at` is outside.
#[inline]
pub(in crate::table) fn prefetch(bytes: &[u8], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(byte) = bytes.get(at) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the address is of a byte that is borrowed here, and a prefetch reads nothing
        // that the program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, at);
}

/// Bytes of a cache line.
pub(in crate::table) const LINE_BYTES: usize = 64;
/// Lines that hold header, fingerprints, heads and offsets of 30 entries: asked for at once, they
/// are one miss.
const HEAD_LINES: usize = 4;

/// Brings so many lines from `bytes[at]` on nearer.
#[inline]
pub(in crate::table) fn prefetch_lines(bytes: &[u8], at: usize, lines: usize) {
    let from = bytes.get(at..).unwrap_or(&[]);
    for line in from.chunks(LINE_BYTES).take(lines) {
        prefetch(line, 0);
    }
}

/// Brings nearer what is looked at first in the block at `bytes[at]`.
#[inline]
pub(in crate::table) fn prefetch_head(bytes: &[u8], at: usize) {
    prefetch_lines(bytes, at, HEAD_LINES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sixteen_bytes_at_once_are_compared_as_one_by_one(bytes: [u8; 16], wanted: u8, copy_at in 0usize..16) {
            let mut bytes = bytes;
            bytes[copy_at] = wanted;
            let mask = equal_bytes(&bytes, wanted);
            prop_assert_eq!(mask, equal_bytes_portable(&bytes, wanted));
            prop_assert!(mask & (1 << copy_at) != 0);
        }
    }

    #[test]
    fn a_prefetch_outside_is_nothing() {
        prefetch(b"abc", 2);
        prefetch(b"abc", 3);
        prefetch(b"", 0);
    }
}

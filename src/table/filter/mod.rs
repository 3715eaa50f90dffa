//! The filter section: which keys are surely absent.
//!
//! ```text
//! line count × 64 bytes | line count u32 | probes u8 | kind u8 (1: blocked Bloom) | zero u16
//! ```
//! The section starts at a multiple of 64, so that a line is a cache line.
//!
//! Invariants: a key that is in the table is never said to be absent. A filter that is damaged
//! or of an unknown kind is not used at all; that costs time and no answer.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a bit of a line has a number of 9 bits; the rest multiplies 32 bits by 32 in 64"
)]
mod blocked;

use super::block::search::prefetch;
use blocked::LINE_BYTES;

const TAIL_BYTES: usize = 8;
const KIND_BLOCKED: u8 = 1;

/// Appends the section for keys with these hashes.
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "writes lines into room that it made for them"
)]
pub(super) fn encode(hashes: &[u64], bits_per_key: u32, out: &mut Vec<u8>) {
    let start = out.len();
    let lines = blocked::lines(hashes.len(), bits_per_key);
    let probes = blocked::probes(bits_per_key);
    out.resize(start + lines as usize * LINE_BYTES, 0);
    let (all, _) = out[start..].as_chunks_mut::<LINE_BYTES>();
    for &hash in hashes {
        blocked::set(&mut all[blocked::line_of(hash, lines)], hash, probes);
    }
    out.extend_from_slice(&lines.to_le_bytes());
    out.extend_from_slice(&[probes as u8, KIND_BLOCKED, 0, 0]);
}

/// The numbers of a filter; its lines stay in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    lines: u32,
    probes: u32,
}

impl Filter {
    /// Reads the tail of the section; `None` when this build cannot use it.
    pub(super) fn decode(section: &[u8]) -> Option<Filter> {
        let (lines_bytes, tail) = section.split_last_chunk::<TAIL_BYTES>()?;
        let [n0, n1, n2, n3, probes, kind, 0, 0] = *tail else {
            return None;
        };
        let lines = u32::from_le_bytes([n0, n1, n2, n3]);
        let fits = lines as usize == lines_bytes.len() / LINE_BYTES
            && lines_bytes.len().is_multiple_of(LINE_BYTES);
        (kind == KIND_BLOCKED && fits && 0 < lines && (1..=12).contains(&probes)).then_some(
            Filter {
                lines,
                probes: u32::from(probes),
            },
        )
    }

    /// The line of a key.
    #[inline]
    pub(super) fn line<'s>(&self, section: &'s [u8], hash: u64) -> Option<FilterLine<'s>> {
        let (lines, _) = section.as_chunks();
        Some(FilterLine {
            line: lines.get(blocked::line_of(hash, self.lines))?,
            hash,
            probes: self.probes,
        })
    }

    /// False when no key has this hash.
    #[inline]
    pub(super) fn may_contain(&self, section: &[u8], hash: u64) -> bool {
        self.line(section, hash).is_none_or(FilterLine::may_contain)
    }
}

/// The one line of a filter that tells of a hash: found early, so that it is there when it is read.
#[derive(Clone, Copy, Debug)]
pub struct FilterLine<'f> {
    line: &'f [u8; LINE_BYTES],
    hash: u64,
    probes: u32,
}

impl FilterLine<'_> {
    /// Brings the line nearer.
    #[inline]
    pub(super) fn prefetch(self) {
        prefetch(self.line, 0);
    }

    /// False when no key has this hash.
    #[inline]
    pub fn may_contain(self) -> bool {
        blocked::is_set(self.line, self.hash, self.probes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::checksum::KeyHasher;

    fn hashes(from: u64, to: u64) -> Vec<u64> {
        let hasher = KeyHasher::new(42);
        (from..to).map(|n| hasher.hash(&n.to_be_bytes())).collect()
    }

    #[test]
    fn a_key_that_is_there_is_never_said_to_be_absent_and_few_others_pass() {
        let present = hashes(0, 20_000);
        let absent = hashes(20_000, 60_000);
        for (bits, false_positives_max) in [(8, 0.035), (10, 0.015), (12, 0.008), (16, 0.003)] {
            let mut section = Vec::new();
            encode(&present, bits, &mut section);
            let filter = Filter::decode(&section).unwrap();
            assert!(present.iter().all(|&h| filter.may_contain(&section, h)));
            let passed = absent
                .iter()
                .filter(|&&h| filter.may_contain(&section, h))
                .count();
            let rate = passed as f64 / absent.len() as f64;
            assert!(rate < false_positives_max, "{bits} bits: {rate}");
        }
    }

    #[test]
    fn filters_of_no_key_and_of_few_keys_work() {
        for n in [0, 1, 2, 50, 52] {
            let present = hashes(0, n);
            let mut section = Vec::new();
            encode(&present, 10, &mut section);
            let filter = Filter::decode(&section).unwrap();
            assert!(present.iter().all(|&h| filter.may_contain(&section, h)));
        }
    }

    #[test]
    fn a_section_of_another_kind_or_size_is_not_used() {
        let mut section = Vec::new();
        encode(&hashes(0, 100), 10, &mut section);
        assert!(Filter::decode(&section).is_some());
        assert!(Filter::decode(&section[1..]).is_none());
        assert!(Filter::decode(&section[..7]).is_none());
        let last = section.len() - 1;
        for (at, byte) in [(last, 1), (last - 2, 9)] {
            let mut section = section.clone();
            section[at] = byte;
            assert!(Filter::decode(&section).is_none());
        }
    }
}

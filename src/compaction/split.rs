//! Where the output of a job is cut into tables.
//!
//! A table ends before a new user key, never between two versions of one (C3): when it has reached
//! its size, or when the key passes a boundary of the level below and the table is not tiny. The
//! size is the wanted one evened out over the output expected, so that a job does not end with a
//! sliver. Cuts that the policy asks for are shared by all runs of a level, which is what keeps
//! the closures of later slices small.
//!
//! Threads: one. Not here: builders (`executor`), which cuts (`policy`).

/// A table this many times smaller than wanted is not ended at a boundary.
const TINY: u64 = 16;

/// Decides for each new user key whether a new table starts with it.
#[derive(Debug)]
pub(super) struct Splitter<'a> {
    cuts: &'a [Vec<u8>],
    table_bytes: u64,
    tiny_bytes: u64,
}

impl<'a> Splitter<'a> {
    /// Cuts about `expected` bytes of output into even tables of about `table_bytes`.
    pub(super) fn new(cuts: &'a [Vec<u8>], table_bytes: u64, expected: u64) -> Splitter<'a> {
        debug_assert!(cuts.is_sorted(), "cuts ascend");
        // Rounded: 1.4 tables become one, 1.6 become two.
        let tables = (expected.saturating_add(table_bytes / 2) / table_bytes.max(1)).max(1);
        Splitter {
            cuts,
            table_bytes: expected.div_ceil(tables).max(table_bytes),
            tiny_bytes: table_bytes / TINY,
        }
    }

    /// True when a table of `bytes` ends before `key`, a user key larger than all before it. Asked
    /// once for each new user key; O(1) amortised.
    #[inline]
    pub(super) fn ends_before(&mut self, key: &[u8], bytes: u64) -> bool {
        let passed = self.passes(key);
        self.table_bytes <= bytes || passed && self.tiny_bytes.max(1) <= bytes
    }

    #[inline]
    fn passes(&mut self, key: &[u8]) -> bool {
        let mut passed = false;
        while let [cut, rest @ ..] = self.cuts {
            if key < cut.as_slice() {
                break;
            }
            self.cuts = rest;
            passed = true;
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_ends_at_its_size_or_at_a_boundary_unless_it_is_tiny() {
        let cuts = [b"d".to_vec(), b"f".to_vec(), b"k".to_vec()];
        let mut splitter = Splitter::new(&cuts, 1600, 16_000);
        assert!(!splitter.ends_before(b"a", 0));
        assert!(!splitter.ends_before(b"c", 1599));
        assert!(splitter.ends_before(b"c", 1600), "its size");
        assert!(splitter.ends_before(b"d", 100), "a boundary");
        assert!(!splitter.ends_before(b"e", 200), "the boundary was passed");
        assert!(!splitter.ends_before(b"g", 99), "tiny");
        assert!(splitter.ends_before(b"z", 1000), "passed in a leap");
    }

    #[test]
    fn tables_are_evened_out_instead_of_leaving_a_sliver() {
        let mut splitter = Splitter::new(&[], 1000, 1400);
        assert!(!splitter.ends_before(b"a", 1399), "one of 1,400");
        let mut splitter = Splitter::new(&[], 1000, 3300);
        assert!(!splitter.ends_before(b"a", 1099));
        assert!(splitter.ends_before(b"a", 1100), "three of 1,100");
    }

    #[test]
    fn sizes_near_the_end_of_64_bits_do_not_overflow() {
        let mut splitter = Splitter::new(&[], 1 << 40, u64::MAX);
        assert!(splitter.ends_before(b"a", u64::MAX));
    }
}

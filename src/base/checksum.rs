//! Checksums and the keyed hash.
//!
//! Files are checked with CRC-32 (IEEE), *masked*, because the CRC of nothing is 0 and a run of
//! zeros must never look like a valid empty record (R1). Filters and the memtable's index use
//! XXH3-64 with a seed that is drawn once per database, so that nobody can choose keys that
//! collide (P22).

use std::sync::LazyLock;

/// A checksum of nothing: to make one anew is to ask what the processor can do, which costs as much
/// as the checksum of a short record.
static NOTHING: LazyLock<crc32fast::Hasher> = LazyLock::new(crc32fast::Hasher::new);

/// CRC-32 of `bytes`, masked.
#[inline]
pub fn crc(bytes: &[u8]) -> u32 {
    crc_parts(&[bytes])
}

/// CRC-32 of `parts` one after the other, masked.
#[inline]
pub fn crc_parts(parts: &[&[u8]]) -> u32 {
    let mut hasher = NOTHING.clone();
    for part in parts {
        hasher.update(part);
    }
    mask(hasher.finalize())
}

/// A masked CRC-32 of bytes that come in pieces, to be looked at after each.
#[derive(Clone, Debug, Default)]
pub struct RunningCrc(crc32fast::Hasher);

impl RunningCrc {
    /// Goes on with `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of everything so far.
    pub fn masked(&self) -> u32 {
        mask(self.0.clone().finalize())
    }
}

/// Rotates and adds, so that a checksum stored among checked bytes does not check itself to zero.
#[inline]
const fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The plain CRC-32 behind a masked one: the form in which differences are linear in the flips
/// that cause them.
pub const fn unmask(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_left(15)
}

/// The keyed hash of user keys: XXH3-64 with the database's seed. Part of the table format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHasher {
    seed: u64,
}

impl KeyHasher {
    /// A hasher with this seed.
    pub const fn new(seed: u64) -> Self {
        KeyHasher { seed }
    }

    /// The seed, to be stored.
    pub const fn seed(self) -> u64 {
        self.seed
    }

    /// The hash of a user key.
    #[inline]
    pub fn hash(self, key: &[u8]) -> u64 {
        xxhash_rust::xxh3::xxh3_64_with_seed(key, self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_never_their_own_checksum() {
        for n in 0..128 {
            assert_ne!(crc(&vec![0; n]), 0);
        }
        assert_eq!(crc(b"ab"), crc_parts(&[b"a", b"b"]));
        assert_eq!(unmask(crc(b"ab")), crc32fast::hash(b"ab"));
    }

    #[test]
    fn the_hash_depends_on_the_seed_and_never_changes() {
        assert_ne!(KeyHasher::new(1).hash(b"k"), KeyHasher::new(2).hash(b"k"));
        // Part of the table format: a new value here would make every stored filter lie.
        assert_eq!(KeyHasher::new(0).hash(b""), 0x2d06_8005_38d3_94c2);
    }
}

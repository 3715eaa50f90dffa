//! What the fuzz targets share: inputs cut into parts, files whose checksums are put right, and
//! the limits of what an input may cost.
//!
//! A mutation of a file that is protected by checksums tests the checksums and nothing else, so
//! [`segment::repair`] and [`table::repair`] compute them anew, from the formats that DESIGN.md
//! describes. Both accept any bytes, and leave alone what they cannot find.

pub mod backup;
pub mod check_table;
pub mod database;
pub mod guard;
pub mod input;
pub mod segment;
pub mod table;

/// The little-endian number at `at`; `None` beyond the end.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The little-endian number at `at`; `None` beyond the end.
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

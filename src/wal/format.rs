//! SKELETON: owned by the wal room.
/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 32;
/// Longest payload of one fragment.
pub const FRAGMENT_BYTES_MAX: usize = 64 << 10;

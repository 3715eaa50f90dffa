//! The outer format of a table file: footer, section table, and the checksum bound to its place.
//!
//! ```text
//! file    = block* | section* | section table | footer
//! section = filter, index, properties (each at a multiple of 64, zero-filled before it)
//! ```
//! All integers are little-endian. DESIGN.md ("Table") has every byte.
//!
//! Invariants: a checksum covers the birth identity of the file and the offset of what it checks,
//! so a block is not valid at another place or in another file. Decoding never allocates more
//! than the bytes it was given, and gives an error without file name: the reader adds it.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::BirthIdentity;
use crate::base::checksum::{crc, crc_parts};
use crate::base::coding::Decoder;
use crate::base::error::{Error, ErrorKind, REPAIR_TABLE, Result};
use crate::base::types::FileId;

/// Last 8 bytes of every table.
pub(super) const MAGIC: [u8; 8] = *b"alluvtbl";
/// Version of the format that this build writes and reads.
pub(super) const VERSION: u32 = 1;
/// Size of the footer.
pub(super) const FOOTER_BYTES: usize = 72;
const FOOTER_MAGIC_AT: usize = FOOTER_BYTES - MAGIC.len();
/// Size of one row of the section table.
pub(super) const SECTION_ROW_BYTES: usize = 28;
/// Bytes behind the stored body of a block: codec `u8`, checksum `u32`.
pub(super) const TRAILER_BYTES: usize = 5;
/// Sections begin at multiples of this, so that filter lines are cache lines.
pub(super) const SECTION_ALIGN: u64 = 64;
/// Rows of a section table that are accepted at most: bounds the work for hostile bytes.
const SECTIONS_MAX: usize = 64;

/// Where a block starts that may hold a key.
pub(super) const SECTION_INDEX: u32 = 1;
/// Which keys are surely absent.
pub(super) const SECTION_FILTER: u32 = 2;
/// Counts and bounds.
pub(super) const SECTION_PROPERTIES: u32 = 3;
/// Reserved: range tombstones.
pub(super) const SECTION_RANGE_TOMBSTONES: u32 = 4;
/// Reserved: references to blob files.
pub(super) const SECTION_BLOB_REFERENCES: u32 = 5;
/// In the id of a section that a reader must understand.
pub(super) const SECTION_REQUIRED: u32 = 1 << 31;

/// The checksum of `bytes` at `offset` of the file born as `identity`.
#[inline]
pub(super) fn bound_checksum(identity: &BirthIdentity, offset: u64, bytes: &[u8]) -> u32 {
    crc_parts(&[&place_bytes(identity, offset), bytes])
}

/// What a checksum covers before the bytes: whose they are, and where.
#[inline]
pub(super) fn place_bytes(identity: &BirthIdentity, offset: u64) -> [u8; 32] {
    let mut place = [0; 32];
    place[..8].copy_from_slice(&identity.database.to_le_bytes());
    place[8..16].copy_from_slice(&identity.file.0.to_le_bytes());
    place[16..24].copy_from_slice(&identity.hash_seed.to_le_bytes());
    place[24..].copy_from_slice(&offset.to_le_bytes());
    place
}

/// A "checksum differs" error, for the reader to add the file to.
#[cold]
pub(super) fn checksum_error(what: &str, offset: u64, stored: u32, computed: u32) -> Error {
    Error::corruption(what)
        .offset_at(offset)
        .expected(
            format!("checksum {stored:08x}"),
            format!("checksum {computed:08x}"),
        )
        .advice(REPAIR_TABLE)
}

/// Checks a stored block (its trailer included) and gives its codec byte.
pub(super) fn check_block(identity: &BirthIdentity, offset: u64, stored: &[u8]) -> Result<u8> {
    let (covered, expected) = stored
        .split_last_chunk()
        .ok_or_else(|| Error::corruption("block without a trailer").offset_at(offset))?;
    let codec = covered
        .last()
        .ok_or_else(|| Error::corruption("block without a trailer").offset_at(offset))?;
    let expected = u32::from_le_bytes(*expected);
    let found = bound_checksum(identity, offset, covered);
    if found != expected {
        return Err(checksum_error("corrupt block", offset, expected, found));
    }
    Ok(*codec)
}

/// One row of the section table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) id: u32,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) checksum: u32,
}

impl Section {
    /// Appends the row.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.checksum.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
    }

    fn decode(decoder: &mut Decoder<'_>) -> Option<Section> {
        let section = Section {
            id: decoder.u32()?,
            offset: decoder.u64()?,
            len: decoder.u64()?,
            checksum: decoder.u32()?,
        };
        (decoder.u32()? == 0).then_some(section)
    }
}

/// The sections of a table that this build reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sections {
    pub(super) index: Section,
    pub(super) filter: Option<Section>,
    pub(super) properties: Section,
}

impl Sections {
    /// Decodes the section table of a file whose sections end at or before `end`.
    ///
    /// # Errors
    /// `Corruption`, or `Unsupported` for a section that must be understood and is not.
    pub(super) fn decode(bytes: &[u8], end: u64) -> Result<Sections> {
        let (mut index, mut filter, mut properties) = (None, None, None);
        let mut decoder = Decoder::new(bytes);
        while !decoder.is_empty() {
            let section = Section::decode(&mut decoder)
                .ok_or_else(|| Error::corruption("table with a bad section table"))?;
            let inside = section
                .offset
                .checked_add(section.len)
                .is_some_and(|last| last <= end);
            if !inside {
                return Err(Error::corruption("section outside the file")
                    .offset_at(section.offset)
                    .expected(
                        format!("a section before {end}"),
                        format!("{} bytes", section.len),
                    ));
            }
            let slot = match section.id {
                SECTION_INDEX => &mut index,
                SECTION_FILTER => &mut filter,
                SECTION_PROPERTIES => &mut properties,
                SECTION_RANGE_TOMBSTONES | SECTION_BLOB_REFERENCES if section.len == 0 => continue,
                SECTION_RANGE_TOMBSTONES => return Err(unsupported("range tombstones", &section)),
                SECTION_BLOB_REFERENCES => return Err(unsupported("blob references", &section)),
                id if id & SECTION_REQUIRED != 0 => {
                    return Err(unsupported("an unknown section", &section));
                }
                _ => continue,
            };
            if slot.replace(section).is_some() {
                return Err(Error::corruption("table with a section twice")
                    .offset_at(section.offset)
                    .expected("one of each", format!("two of id {}", section.id)));
            }
        }
        Ok(Sections {
            index: index.ok_or_else(|| Error::corruption("table without an index"))?,
            filter,
            properties: properties.ok_or_else(|| Error::corruption("table without properties"))?,
        })
    }
}

fn unsupported(what: &str, section: &Section) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("the table holds {what}, which this version cannot read"),
    )
    .offset_at(section.offset)
    .advice("Open it with the version of alluvium that wrote it.")
}

/// The last [`FOOTER_BYTES`] of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) sections_offset: u64,
    pub(super) sections_len: u32,
    pub(super) sections_checksum: u32,
    pub(super) identity: BirthIdentity,
    pub(super) file_bytes: u64,
}

impl Footer {
    /// The stored form.
    #[expect(clippy::indexing_slicing, reason = "`start` was the length before")]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.sections_offset.to_le_bytes());
        out.extend_from_slice(&self.sections_len.to_le_bytes());
        out.extend_from_slice(&self.sections_checksum.to_le_bytes());
        out.extend_from_slice(&self.identity.database.to_le_bytes());
        out.extend_from_slice(&self.identity.file.0.to_le_bytes());
        out.extend_from_slice(&self.identity.hash_seed.to_le_bytes());
        out.extend_from_slice(&self.file_bytes.to_le_bytes());
        out.extend_from_slice(&0u64.to_le_bytes()); // features a reader must know: none yet
        out.extend_from_slice(&VERSION.to_le_bytes());
        let checksum = crc(&out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&MAGIC);
    }

    /// Decodes and checks the footer that lies at `offset`.
    ///
    /// # Errors
    /// `Corruption`, or `Unsupported` for a later version or an unknown feature.
    pub(super) fn decode(bytes: &[u8; FOOTER_BYTES], offset: u64) -> Result<Footer> {
        let damaged = |what: &str| Error::corruption(what).offset_at(offset);
        let (rest, magic) = bytes.split_at(FOOTER_MAGIC_AT);
        if magic != MAGIC {
            return Err(damaged("file that does not end as a table does").expected(
                format!("\"{}\"", MAGIC.escape_ascii()),
                format!("\"{}\"", magic.escape_ascii()),
            ));
        }
        let mut decoder = Decoder::new(rest);
        let decode = |d: &mut Decoder<'_>| {
            let footer = Footer {
                sections_offset: d.u64()?,
                sections_len: d.u32()?,
                sections_checksum: d.u32()?,
                identity: BirthIdentity {
                    database: d.u64()?,
                    file: FileId(d.u64()?),
                    hash_seed: d.u64()?,
                },
                file_bytes: d.u64()?,
            };
            Some((footer, d.u64()?, d.u32()?, d.u32()?))
        };
        let (footer, features, version, checksum) =
            decode(&mut decoder).ok_or_else(|| damaged("short footer"))?;
        let covered = rest.len().saturating_sub(4);
        let found = crc(rest.get(..covered).unwrap_or(&[]));
        if found != checksum {
            return Err(checksum_error("corrupt footer", offset, checksum, found));
        }
        if version != VERSION || features != 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the table's format is newer than this build",
            )
            .offset_at(offset)
            .expected(
                format!("version {VERSION} without features"),
                format!("version {version} with features {features:x}"),
            )
            .advice("Open it with the version of alluvium that wrote it."));
        }
        let sections_len = u64::from(footer.sections_len);
        let fits = footer.sections_offset.checked_add(sections_len) == Some(offset)
            && sections_len <= (SECTIONS_MAX * SECTION_ROW_BYTES) as u64;
        if !fits {
            return Err(damaged("footer with a bad section table"));
        }
        Ok(footer)
    }
}

const _: () = assert!(FOOTER_BYTES == 8 + 4 + 4 + 24 + 8 + 8 + 4 + 4 + 8);

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: BirthIdentity = BirthIdentity {
        database: 1,
        file: FileId(2),
        hash_seed: 3,
    };

    fn section(id: u32, len: u64) -> Section {
        Section {
            id,
            offset: 64,
            len,
            checksum: 7,
        }
    }

    fn table_of(sections: &[Section]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for section in sections {
            section.encode(&mut bytes);
        }
        bytes
    }

    #[test]
    fn a_section_that_must_be_understood_is_refused_and_others_are_passed_over() {
        let known = [section(SECTION_INDEX, 8), section(SECTION_PROPERTIES, 8)];
        let with = |more: Section| Sections::decode(&table_of(&[known[0], known[1], more]), 128);
        assert!(with(section(77, 8)).is_ok());
        assert!(with(section(SECTION_RANGE_TOMBSTONES, 0)).is_ok());
        for id in [
            77 | SECTION_REQUIRED,
            SECTION_RANGE_TOMBSTONES,
            SECTION_BLOB_REFERENCES,
        ] {
            let error = with(section(id, 8)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
        let twice = with(section(SECTION_INDEX, 8)).unwrap_err();
        assert_eq!(twice.kind(), ErrorKind::Corruption);
        let outside = with(section(77, u64::MAX)).unwrap_err();
        assert_eq!(outside.kind(), ErrorKind::Corruption);
        assert!(Sections::decode(&[1; 27], 128).is_err());
    }

    #[test]
    fn every_flipped_bit_of_a_footer_is_noticed() {
        let footer = Footer {
            sections_offset: 1000,
            sections_len: 84,
            sections_checksum: 9,
            identity: IDENTITY,
            file_bytes: 1084 + FOOTER_BYTES as u64,
        };
        let mut bytes = Vec::new();
        footer.encode(&mut bytes);
        let mut bytes: [u8; FOOTER_BYTES] = bytes.try_into().unwrap();
        assert_eq!(Footer::decode(&bytes, 1084).unwrap(), footer);
        assert!(Footer::decode(&bytes, 1085).is_err(), "moved");
        for bit in 0..FOOTER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                Footer::decode(&bytes, 1084).unwrap_err().offset(),
                Some(1084)
            );
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_checksum_is_of_one_place_in_one_file() {
        let here = bound_checksum(&IDENTITY, 4096, b"block");
        let other = BirthIdentity {
            file: FileId(3),
            ..IDENTITY
        };
        assert_ne!(here, bound_checksum(&IDENTITY, 8192, b"block"));
        assert_ne!(here, bound_checksum(&other, 4096, b"block"));
    }
}

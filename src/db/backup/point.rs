//! One point in time as a file: what the manifest of a database restored from it says, and the
//! checksum of each table.
//!
//! ```text
//!  0 u8×8    magic     "alluvbak"
//!  8 u32     version   1
//! 12 u64     number    that of the file's name
//! 20 u64     made      milliseconds since 1970
//! 28 bytes   snapshot  the first record of a manifest, its length as a varint before it
//!    u32×n   checksums of the tables' files, in the order of the snapshot
//!    u32     checksum  crc of everything before it
//! ```
//! Not here: files (store.rs), what the snapshot says (version).

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use crate::base::checksum::crc;
use crate::base::coding::{Decoder, put_bytes};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::FileId;
use crate::fs::name::StoredTable;
use crate::version::{FileMeta, Rebuild};

const MAGIC: &[u8; 8] = b"alluvbak";
/// The version that this code writes, and the newest that it reads.
const VERSION: u32 = 1;
/// Bytes of the checksum at the end.
const TRAILER_BYTES: usize = 4;

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) number: FileId,
    pub(super) made_ms: u64,
    pub(super) picture: Rebuild,
    /// Of the tables of the picture, one after the other.
    pub(super) checksums: Vec<u32>,
}

impl Point {
    /// Its tables: what they are, and where they are stored.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&FileMeta, StoredTable)> {
        let tables = metas(&self.picture).zip(&self.checksums);
        tables.map(|(meta, checksum)| (meta, stored(meta, *checksum)))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.number.0.to_le_bytes());
        out.extend_from_slice(&self.made_ms.to_le_bytes());
        put_bytes(&mut out, &self.picture.encode());
        for checksum in &self.checksums {
            out.extend_from_slice(&checksum.to_le_bytes());
        }
        let checksum = crc(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// # Errors
    /// `Corruption` for anything this code does not write; `Unsupported` for a newer version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Point> {
        let (body, stored) = bytes.split_last_chunk().ok_or_else(damaged)?;
        let (stored, computed) = (u32::from_le_bytes(*stored), crc(body));
        if stored != computed {
            return Err(damaged().expected(
                format!("checksum {computed:08x}"),
                format!("checksum {stored:08x}"),
            ));
        }
        let mut decoder = Decoder::new(body);
        let version = match decoder.take(MAGIC.len()) {
            Some(magic) if magic == MAGIC => whole(decoder.u32())?,
            _ => return Err(damaged()),
        };
        if VERSION < version {
            return Err(
                Error::new(ErrorKind::Unsupported, "backup of a newer format")
                    .expected(format!("format {VERSION}"), format!("format {version}"))
                    .advice("Use the version of alluvium that wrote it."),
            );
        }
        let number = FileId(whole(decoder.u64())?);
        let made_ms = whole(decoder.u64())?;
        let picture = Rebuild::decode(whole(decoder.bytes())?)?;
        let (checksums, rest) = decoder.rest().as_chunks::<TRAILER_BYTES>();
        let is_whole = rest.is_empty() && checksums.len() == metas(&picture).count();
        if !is_whole || version == 0 {
            return Err(damaged());
        }
        Ok(Point {
            number,
            made_ms,
            picture,
            checksums: checksums.iter().map(|c| u32::from_le_bytes(*c)).collect(),
        })
    }
}

/// The tables of a picture, in order.
pub(super) fn metas(picture: &Rebuild) -> impl Iterator<Item = &FileMeta> {
    let added = picture.edit.keyspaces.iter().flat_map(|edit| &edit.added);
    added.map(|table| &table.meta)
}

/// The name under which a table with this checksum is stored.
pub(super) fn stored(meta: &FileMeta, checksum: u32) -> StoredTable {
    StoredTable {
        database: meta.identity.database,
        file: meta.identity.file,
        bytes: meta.summary.bytes,
        checksum,
    }
}

fn whole<T>(part: Option<T>) -> Result<T> {
    part.ok_or_else(damaged)
}

#[cold]
fn damaged() -> Error {
    Error::corruption("damaged record of a backup")
}

/// Decodes a record and encodes it again: what fuzzers and format tests call.
///
/// # Errors
/// `Corruption` or `Unsupported` as decoding says.
#[doc(hidden)]
pub fn recode_point(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(Point::decode(bytes)?.encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::types::{KeyspaceId, SeqNo};
    use crate::table::{BirthIdentity, Expiring, TableSummary};
    use crate::version::{AddedTable, KeyspaceEdit, VersionEdit};
    use proptest::prelude::*;

    fn table(file: u64) -> AddedTable {
        AddedTable {
            level: 1,
            order: file,
            meta: FileMeta {
                file: FileId(file),
                identity: BirthIdentity {
                    database: 0xf1,
                    file: FileId(file),
                    hash_seed: 9,
                },
                summary: TableSummary {
                    bytes: 4096,
                    entries: 2,
                    tombstones: 1,
                    raw_bytes: 30,
                    smallest: b"a".to_vec(),
                    largest: b"m".to_vec(),
                    seqnos: (SeqNo::new(1), SeqNo::new(file)),
                    expiring: Expiring::default(),
                },
                deleted_through: SeqNo::ZERO,
            },
            fresh: false,
        }
    }

    fn point(files: &[u64], made_ms: u64) -> Point {
        Point {
            number: FileId(3),
            made_ms,
            picture: Rebuild {
                database: 0xf1,
                hash_seed: 9,
                files: 100,
                keyspaces: 1,
                seqnos: SeqNo::new(500),
                clock: None,
                edit: VersionEdit {
                    keyspaces: vec![KeyspaceEdit {
                        id: KeyspaceId::DEFAULT,
                        created: Some(("default".to_owned(), vec![0xaa])),
                        added: files.iter().map(|file| table(*file)).collect(),
                        flushed_through: Some(SeqNo::new(499)),
                        ..KeyspaceEdit::default()
                    }],
                    ..VersionEdit::default()
                },
            },
            checksums: files.iter().map(|file| *file as u32 * 7).collect(),
        }
    }

    proptest! {
        #[test]
        fn a_record_comes_back_and_names_its_tables(
            files in proptest::collection::btree_set(1..100u64, 0..5),
            made_ms: u64,
        ) {
            let files: Vec<u64> = files.into_iter().collect();
            let point = point(&files, made_ms);
            let again = Point::decode(&point.encode()).unwrap();
            prop_assert_eq!(&again, &point);
            let stored: Vec<_> = again.tables().map(|(_, s)| (s.file.0, s.checksum)).collect();
            let expected: Vec<_> = files.iter().map(|f| (*f, *f as u32 * 7)).collect();
            prop_assert_eq!(stored, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Point::decode(&bytes);
            let mut bytes = bytes;
            let checksum = crc(&bytes);
            bytes.extend_from_slice(&checksum.to_le_bytes());
            let _ = Point::decode(&bytes);
        }
    }

    #[test]
    fn any_flipped_bit_and_any_shorter_record_are_damage() {
        let bytes = point(&[7, 8], 1).encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = Point::decode(&flipped).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Point::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_newer_version_is_refused_as_such_and_a_wrong_count_is_damage() {
        let resealed = |mut bytes: Vec<u8>| {
            bytes.truncate(bytes.len() - TRAILER_BYTES);
            let checksum = crc(&bytes);
            bytes.extend_from_slice(&checksum.to_le_bytes());
            Point::decode(&bytes).unwrap_err().kind()
        };
        let mut newer = point(&[7], 1).encode();
        newer[8] = 2;
        assert_eq!(resealed(newer), ErrorKind::Unsupported);
        let mut zero = point(&[7], 1).encode();
        zero[8] = 0;
        assert_eq!(resealed(zero), ErrorKind::Corruption);
        let mut fewer = point(&[7, 8], 1);
        fewer.checksums.pop();
        assert_eq!(
            Point::decode(&fewer.encode()).unwrap_err().kind(),
            ErrorKind::Corruption
        );
    }
}

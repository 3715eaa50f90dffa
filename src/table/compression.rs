//! Block codecs: into a given buffer, and back with a size that our own header declares.
//!
//! Compressed body = `raw length: u32 | codec's bytes`. The declared length is bounded by
//! [`RAW_BYTES_MAX`], and by what the codec can make of so many bytes, before anything is
//! allocated (P19); larger blocks are stored plain.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Compression;

/// Largest body that is compressed: bounds what a hostile header can make a reader allocate.
pub(super) const RAW_BYTES_MAX: usize = 4 << 20;
const LENGTH_BYTES: usize = 4;
/// LZ4 makes at most so many bytes of one: each byte that lengthens a match adds 255.
const LZ4_EXPANSION_MAX: usize = 255;

/// Compresses `raw` into `out` (cleared first). False when it is not worth it: the block is then
/// stored plain. Worth it means an eighth saved, about what one decompression costs in reads.
///
/// # Errors
/// `Unsupported` when the codec is not compiled in.
pub(super) fn compress(codec: Compression, raw: &[u8], out: &mut Vec<u8>) -> Result<bool> {
    out.clear();
    if codec == Compression::None || RAW_BYTES_MAX < raw.len() {
        return Ok(false);
    }
    out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    encode(codec, raw, out)?;
    Ok(out.len() <= raw.len().saturating_sub(raw.len() / 8))
}

/// The body that `stored` was made from.
///
/// # Errors
/// `Corruption`, or `Unsupported` when the codec is not compiled in; without file and offset.
pub(super) fn decompress(codec: u8, stored: &[u8]) -> Result<Vec<u8>> {
    let codec = Compression::from_byte(codec).ok_or_else(|| {
        Error::corruption("block with an unknown codec").expected("0, 1 or 2", codec)
    })?;
    let (declared, compressed) = stored
        .split_first_chunk::<LENGTH_BYTES>()
        .ok_or_else(|| Error::corruption("compressed block without a length"))?;
    let raw_len = u32::from_le_bytes(*declared) as usize;
    let most = match codec {
        Compression::Lz4 => RAW_BYTES_MAX.min(LZ4_EXPANSION_MAX.saturating_mul(compressed.len())),
        Compression::None | Compression::Zstd => RAW_BYTES_MAX,
    };
    if most < raw_len {
        return Err(
            Error::corruption("compressed block with an impossible length")
                .expected(format!("at most {most} bytes"), format!("{raw_len} bytes")),
        );
    }
    let mut raw = vec![0; raw_len];
    match decode(codec, compressed, &mut raw)? {
        Some(n) if n == raw_len => Ok(raw),
        _ => Err(Error::corruption("block that cannot be decompressed")),
    }
}

/// Appends the compressed form of `raw` to `out`.
fn encode(codec: Compression, raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
    match codec {
        Compression::None => out.extend_from_slice(raw),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => {
            let bound = lz4_flex::block::get_maximum_output_size(raw.len());
            out.resize(LENGTH_BYTES.saturating_add(bound), 0);
            let room = out.get_mut(LENGTH_BYTES..).unwrap_or_default();
            let written = lz4_flex::block::compress_into(raw, room)
                .expect("the output is as large as the worst case");
            out.truncate(LENGTH_BYTES.saturating_add(written));
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            let compressed = zstd::bulk::compress(raw, 1)
                .map_err(|e| Error::new(ErrorKind::Io, format!("zstd cannot compress: {e}")))?;
            out.extend_from_slice(&compressed);
        }
        #[cfg(not(all(feature = "lz4", feature = "zstd")))]
        absent => return Err(not_compiled_in(absent)),
    }
    Ok(())
}

/// Fills `raw` and says how far, or nothing when `stored` is no output of the codec.
fn decode(codec: Compression, stored: &[u8], raw: &mut [u8]) -> Result<Option<usize>> {
    Ok(match codec {
        Compression::None => (stored.len() == raw.len()).then(|| {
            raw.copy_from_slice(stored);
            raw.len()
        }),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => lz4_flex::block::decompress_into(stored, raw).ok(),
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::bulk::decompress_to_buffer(stored, raw).ok(),
        #[cfg(not(all(feature = "lz4", feature = "zstd")))]
        absent => return Err(not_compiled_in(absent)),
    })
}

#[cfg(not(all(feature = "lz4", feature = "zstd")))]
fn not_compiled_in(codec: Compression) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("{codec:?} compression is not compiled in"),
    )
    .advice("Build alluvium with the feature of that name.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_comes_back() {
        let raw = b"half of it, half of it, half of it. ".repeat(50);
        for codec in [Compression::Lz4, Compression::Zstd] {
            if !codec.is_supported() {
                continue;
            }
            let mut out = Vec::new();
            assert!(compress(codec, &raw, &mut out).unwrap());
            assert_eq!(decompress(codec as u8, &out).unwrap(), raw);
            for cut in 0..out.len() {
                assert!(decompress(codec as u8, &out[..cut]).is_err());
            }
        }
    }

    #[test]
    fn a_codec_that_is_not_compiled_in_is_refused_by_name() {
        for codec in [Compression::Lz4, Compression::Zstd] {
            if codec.is_supported() {
                continue;
            }
            let raw = b"half of it, half of it, half of it. ".repeat(50);
            let refused = compress(codec, &raw, &mut Vec::new()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
            let block = [&100u32.to_le_bytes()[..], &raw].concat();
            let refused = decompress(codec as u8, &block).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
            assert!(refused.to_string().contains(&format!("{codec:?}")));
        }
    }

    #[test]
    fn a_declared_length_is_bounded_before_anything_is_allocated() {
        let mut hostile = u32::MAX.to_le_bytes().to_vec();
        hostile.extend_from_slice(&[0; 16]);
        let error = decompress(Compression::Lz4 as u8, &hostile).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(decompress(9, &hostile).is_err());
        assert!(decompress(0, &hostile).is_err());
    }

    /// A block of a hundred bytes could make a reader allocate 4 MiB.
    #[test]
    fn a_declared_length_is_bounded_by_what_lz4_makes_of_so_many_bytes() {
        let mut hostile = (RAW_BYTES_MAX as u32).to_le_bytes().to_vec();
        hostile.extend_from_slice(&[0; 100]);
        let error = decompress(Compression::Lz4 as u8, &hostile).unwrap_err();
        assert!(error.to_string().contains("25500 bytes"), "{error}");
        // What compresses best is within the bound.
        if Compression::Lz4.is_supported() {
            let (raw, mut out) = (vec![7; RAW_BYTES_MAX], Vec::new());
            assert!(compress(Compression::Lz4, &raw, &mut out).unwrap());
            assert_eq!(decompress(Compression::Lz4 as u8, &out).unwrap(), raw);
        }
    }

    #[test]
    fn bytes_that_do_not_shrink_are_stored_plain() {
        let noise: Vec<u8> = (0u32..300)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let mut out = Vec::new();
        assert!(!compress(Compression::None, &noise, &mut out).unwrap());
        if Compression::Lz4.is_supported() {
            assert!(!compress(Compression::Lz4, &noise, &mut out).unwrap());
        }
    }
}

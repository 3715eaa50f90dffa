//! Segments with right checksums that no writer makes.

use super::*;

pub(super) fn with_payload(bytes: &[u8], at: usize, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut header = Header::decode(bytes[at..].first_chunk().unwrap()).unwrap();
    let payload = &mut bytes[at + 32..][..header.len as usize];
    change(payload);
    header.payload_crc = crc(payload);
    bytes[at..at + 32].copy_from_slice(&header.encode());
    bytes
}

#[test]
fn a_footer_that_counts_otherwise_is_an_error() {
    let bytes = segment(3, &payloads(3), Some(2), true);
    let footer = payloads(3).iter().map(|p| p.len() + 32).sum::<usize>() + SEGMENT_HEADER_BYTES;
    for byte in [0, 8] {
        let changed = with_payload(&bytes, footer, |payload| payload[byte] = 1);
        let error = read(&changed, 3, None).unwrap_err();
        assert_eq!(error.offset(), Some(footer as u64), "{error}");
    }
}

#[test]
fn a_segment_that_begins_with_another_record_is_an_error() {
    let payload = b"no segment's header";
    let header = Header {
        payload_crc: crc(payload),
        len: payload.len() as u32,
        kind: Kind::Full,
        segment: segment_bits(FileId(3)),
        offset: 0,
        synced: 0,
        first: SeqNo::new(1),
    };
    let bytes = [&header.encode()[..], payload].concat();
    let error = read(&bytes, 3, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(error.offset(), Some(0));
}

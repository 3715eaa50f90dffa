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

/// No crash leaves whole parts in a wrong order; the message says which one it is that cannot be.
#[test]
fn parts_of_records_in_a_wrong_order_are_errors_that_name_what_was_found() {
    let bytes = segment(3, &payloads(4), Some(3), true);
    let mut ends = vec![SEGMENT_HEADER_BYTES];
    for payload in payloads(4) {
        ends.push(ends.last().unwrap() + RECORD_HEADER_BYTES + payload.len());
    }
    // Record 1 and perhaps the next are made to be of another kind; the error is at record `at`.
    for (kinds, at, found) in [
        (&[Kind::Middle][..], 1, "a middle fragment"),
        (&[Kind::Last], 1, "a last fragment"),
        (&[Kind::Segment], 1, "a segment's header"),
        (&[Kind::First], 2, "a whole record"),
        (&[Kind::First, Kind::First], 2, "a first fragment"),
        (&[Kind::Full, Kind::Full, Kind::First], 4, "a footer"),
    ] {
        let mut bytes = bytes.clone();
        for (kind, at) in kinds.iter().zip(&ends[1..]) {
            let mut header = Header::decode(bytes[*at..].first_chunk().unwrap()).unwrap();
            header.kind = *kind;
            bytes[*at..][..RECORD_HEADER_BYTES].copy_from_slice(&header.encode());
        }
        let error = read(&bytes, 3, None).unwrap_err();
        assert_eq!(error.offset(), Some(ends[at] as u64), "{kinds:?}: {error}");
        assert!(error.to_string().contains(found), "{kinds:?}: {error}");
    }
}

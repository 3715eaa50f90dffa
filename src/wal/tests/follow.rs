//! A follower reads what is being written, and nothing that is not there.

use super::*;

fn follower(dir: &Dir, segment: u64, end: u64) -> Result<Follower> {
    let file = dir.0.open_read(FileName::Log(FileId(segment)))?;
    Follower::open(file, FileId(segment), end)
}

/// A directory with segment 5, of these bytes.
fn holding(bytes: &[u8]) -> Dir {
    let dir = Dir::new();
    let file = dir.0.create_new(FileName::Log(FileId(5))).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    dir
}

fn follow(follower: &mut Follower, end: u64) -> Result<Records> {
    let mut records = Vec::new();
    while let Some(record) = follower.next(end)? {
        records.push((record.first.get(), record.payload.into_owned()));
    }
    Ok(records)
}

#[test]
fn it_goes_on_where_it_came_to_the_end() {
    for mode in [LogMode::Mapped, LogMode::Write] {
        let dir = Dir::new();
        let mut writer = dir.writer(mode, 3, 4 << 20);
        let mut follower = follower(&dir, 3, writer.end()).unwrap();
        assert_eq!(follow(&mut follower, writer.end()).unwrap(), []);
        let long = vec![7; 200_000];
        let payloads: [&[u8]; 5] = [b"a", b"", &long, b"b", &long[..70_000]];
        for (seqno, payload) in (1..).zip(payloads) {
            let before = writer.end();
            append(&mut writer, seqno, payload).unwrap();
            assert_eq!(follow(&mut follower, before).unwrap(), [], "not asked for");
            let records = follow(&mut follower, writer.end()).unwrap();
            assert_eq!(records, [(seqno, payload.to_vec())]);
        }
        writer.seal().unwrap();
        assert_eq!(follow(&mut follower, writer.end()).unwrap(), []);
    }
}

proptest! {
    #[test]
    fn it_gives_what_a_reader_gives(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..900), 0..8),
        seal: bool,
    ) {
        let bytes = segment(5, &payloads, None, seal);
        let (records, tail) = read(&bytes, 5, None).unwrap();
        let end = match tail {
            Tail::Sealed(before) => before.end,
            Tail::Open { end } => end,
            other => panic!("{other:?}"),
        };
        let dir = holding(&bytes);
        let mut follower = follower(&dir, 5, end).unwrap();
        prop_assert_eq!(follow(&mut follower, end).unwrap(), records);
    }
}

/// Each flipped bit is damage, and what lies before it is given.
#[test]
fn a_flipped_bit_is_damage_with_its_place() {
    let bytes = segment(5, &[b"one".to_vec(), b"two".to_vec()], None, true);
    let (_, tail) = read(&bytes, 5, None).unwrap();
    let Tail::Sealed(before) = tail else {
        panic!("{tail:?}");
    };
    let dir = Dir::new();
    let file = dir.0.create_new(FileName::Log(FileId(5))).unwrap();
    let record = (RECORD_HEADER_BYTES + 3) as u64;
    for at in 0..before.end {
        let mut flipped = bytes.clone();
        flipped[at as usize] ^= 1 << (at % 8);
        file.write_all_at(&flipped, 0).unwrap();
        let opened = follower(&dir, 5, before.end);
        let first = SEGMENT_HEADER_BYTES as u64;
        let (whole, start) = match at {
            at if at < first => (None, 0),
            at if at < first + record => (Some(0), first),
            at if at < first + 2 * record => (Some(1), first + record),
            _ => (Some(2), first + 2 * record),
        };
        let Some(whole) = whole else {
            assert_eq!(opened.unwrap_err().offset(), Some(start), "{at}");
            continue;
        };
        let mut follower = opened.unwrap();
        for _ in 0..whole {
            assert!(follower.next(before.end).unwrap().is_some(), "{at}");
        }
        for _ in 0..2 {
            let error = follower.next(before.end).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{at}");
            assert_eq!(error.offset(), Some(start), "{at}: {error}");
        }
    }
}

/// No crash leaves whole parts in a wrong order, and the first record is the segment's header.
#[test]
fn parts_of_records_in_a_wrong_order_are_damage() {
    let bytes = segment(5, &payloads(3), None, false);
    let Tail::Open { end } = read(&bytes, 5, None).unwrap().1 else {
        panic!("it was not sealed");
    };
    let of_kind = |at: usize, kind: Kind| {
        let mut bytes = bytes.clone();
        let mut header = Header::decode(bytes[at..].first_chunk().unwrap()).unwrap();
        header.kind = kind;
        bytes[at..][..RECORD_HEADER_BYTES].copy_from_slice(&header.encode());
        holding(&bytes)
    };
    let first = SEGMENT_HEADER_BYTES;
    let second = first + RECORD_HEADER_BYTES + payloads(3)[0].len();
    for (kind, at) in [
        (Kind::Middle, first),
        (Kind::Last, first),
        (Kind::Segment, first),
        (Kind::First, second),
    ] {
        let mut follower = follower(&of_kind(first, kind), 5, end).unwrap();
        let error = follower.next(end).unwrap_err();
        assert_eq!(error.offset(), Some(at as u64), "{kind:?}: {error}");
    }
    let error = follower(&of_kind(0, Kind::Full), 5, end).unwrap_err();
    assert_eq!(error.offset(), Some(0), "{error}");
}

/// An end in the middle of a record, or behind the file, is none that a header names.
#[test]
fn an_end_that_is_none_is_damage() {
    let bytes = segment(5, &[b"one".to_vec()], None, false);
    let behind = bytes.len() as u64 + 1;
    let dir = holding(&bytes);
    for _ in 0..2 {
        let error = follower(&dir, 5, behind).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    }
    let first = SEGMENT_HEADER_BYTES as u64;
    for end in first + 1..first + (RECORD_HEADER_BYTES + 3) as u64 {
        let mut follower = follower(&dir, 5, end).unwrap();
        assert!(follower.next(end).is_err(), "{end}");
    }
    // Of another segment, or too short for a header.
    let file = || dir.0.open_read(FileName::Log(FileId(5))).unwrap();
    assert!(Follower::open(file(), FileId(6), first).is_err());
    assert!(Follower::open(file(), FileId(5), first - 1).is_err());
    // And one whose first fragment is all that there is.
    let dir = Dir::new();
    let mut writer = dir.writer(LogMode::Write, 7, 1 << 20);
    append(&mut writer, 1, &vec![1; 100_000]).unwrap();
    let end = first + (RECORD_HEADER_BYTES + FRAGMENT_BYTES_MAX) as u64;
    let mut follower = follower(&dir, 7, end).unwrap();
    assert_eq!(follower.next(end).unwrap_err().offset(), Some(first));
}

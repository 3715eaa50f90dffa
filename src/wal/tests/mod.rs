//! What a log promises, on the real disk and on every damaged copy of its bytes.
mod follow;
mod sim;
mod strange;

use super::format::*;
use super::*;
use crate::base::checksum::crc;
use crate::base::error::{ErrorKind, Result};
use crate::base::options::LogMode;
use crate::base::sync::atomic::Ordering;
use crate::base::sync::plain::AtomicU64;
use crate::fs::{FileName, Fs, Region};
use proptest::prelude::*;
use std::path::Path;

const DATABASE: u64 = 0x0102_0304_0506_0708;
const CAPACITY: u64 = 8 << 10;

/// A directory of its own, removed at the end.
struct Dir(Fs);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("alluvium-wal-{}-{n}", std::process::id()));
        let fs = Fs::os(&root);
        fs.make_root().unwrap();
        Dir(fs)
    }

    fn writer(&self, mode: LogMode, segment: u64, capacity: u64) -> Writer {
        let file = self.0.create_new(FileName::Log(FileId(segment))).unwrap();
        if capacity < u64::from(u32::MAX) {
            file.preallocate(capacity).unwrap();
        }
        Writer::create(file, options(mode, segment, capacity), None).unwrap()
    }

    fn bytes(&self, segment: u64) -> Vec<u8> {
        let file = self.0.open_read(FileName::Log(FileId(segment))).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        for entry in self.0.list().unwrap() {
            self.0
                .remove(FileName::parse(&entry.name).unwrap())
                .unwrap();
        }
        self.0.remove_root().unwrap();
    }
}

fn options(mode: LogMode, segment: u64, capacity: u64) -> WriterOptions {
    WriterOptions {
        database: DATABASE,
        segment: FileId(segment),
        mode,
        capacity,
        recycled: false,
    }
}

fn append(writer: &mut Writer, seqno: u64, payload: &[u8]) -> Result<()> {
    let seqno = SeqNo::new(seqno);
    writer.append(seqno, seqno, payload, crc(payload))
}

type Records = Vec<(u64, Vec<u8>)>;

fn read(bytes: &[u8], segment: u64, limit: Option<u64>) -> Result<(Records, Tail)> {
    let region = Region::from_vec(bytes.to_vec());
    let mut reader = Reader::over(region, Path::new("x.log"), DATABASE, FileId(segment), limit)?;
    let mut records = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(record)) => records.push((record.first.get(), record.payload.into_owned())),
            Ok(None) => return Ok((records, reader.tail())),
            Err(error) => {
                let again = reader.next().unwrap_err();
                assert_eq!(again.to_string(), error.to_string(), "an error is repeated");
                return Err(error);
            }
        }
    }
}

/// Bytes of a segment with `payloads` in it, synced behind the record with index `synced`.
fn segment(number: u64, payloads: &[Vec<u8>], synced: Option<usize>, seal: bool) -> Vec<u8> {
    let dir = Dir::new();
    let mut writer = dir.writer(LogMode::Mapped, number, CAPACITY);
    for (i, payload) in payloads.iter().enumerate() {
        append(&mut writer, number * 1000 + i as u64, payload).unwrap();
        if Some(i) == synced {
            writer.syncer().sync().unwrap();
        }
    }
    if seal {
        writer.seal().unwrap();
    }
    drop(writer);
    dir.bytes(number)
}

fn payloads(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| vec![b'a' + i as u8; i * 17 % 120]).collect()
}

fn records(number: u64, payloads: &[Vec<u8>]) -> Records {
    let first = number * 1000;
    (first..).zip(payloads.iter().cloned()).collect()
}

#[test]
fn the_sample_of_the_design_decodes_and_encodes_to_itself() {
    let hex = concat!(
        // segment header, record 0
        "f9c530d19875ff7b2d0050a10700000000000000000000002900000000000000",
        // version, database, segment 7, predecessor 6: end 4096, last number 41
        "010000000807060504030201070000000000000001060000000000000000100000000000002900000000000000",
        // record 42
        "ae1b1d91f9568fef050010a1070000004d000000000000002a00000000000000",
        // "hello"
        "68656c6c6f",
        // footer
        "79e28f421372b8b7100060a10700000072000000000000002a00000000000000",
        // last number 42, 1 record
        "2a000000000000000100000000000000",
    );
    let dir = Dir::new();
    let file = dir.0.create_new(FileName::Log(FileId(7))).unwrap();
    let before = Predecessor {
        segment: FileId(6),
        end: 4096,
        last_seqno: SeqNo::new(41),
    };
    let growing = options(LogMode::Write, 7, u64::from(u32::MAX));
    let mut writer = Writer::create(file, growing, Some(before)).unwrap();
    append(&mut writer, 42, b"hello").unwrap();
    let sealed = writer.seal().unwrap();
    let found: String = dir.bytes(7).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(found, hex);

    let file = dir.0.open_read(FileName::Log(FileId(7))).unwrap();
    let mut reader = Reader::open(&file, DATABASE, FileId(7), None).unwrap();
    assert_eq!(reader.predecessor(), Some(before));
    let record = reader.next().unwrap().unwrap();
    assert_eq!((record.offset, record.first.get()), (77, 42));
    assert_eq!(*record.payload, *b"hello");
    assert!(matches!(record.payload, std::borrow::Cow::Borrowed(_)));
    assert_eq!(reader.next().unwrap(), None);
    assert_eq!(reader.tail(), Tail::Sealed(sealed));
    assert_eq!((reader.end(), sealed.end), (162, 162));
    assert_eq!((sealed.segment, sealed.last_seqno.get()), (FileId(7), 42));
}

#[test]
fn every_cut_of_a_segment_gives_a_prefix_and_never_an_error() {
    let payloads = payloads(12);
    let bytes = segment(3, &payloads, Some(5), true);
    let all = records(3, &payloads);
    let end = match read(&bytes, 3, None).unwrap() {
        (found, Tail::Sealed(end)) if found == all => end.end,
        other => panic!("{other:?}"),
    };
    let mut longest = 0;
    for cut in 0..end {
        let (found, tail) = read(&bytes[..cut as usize], 3, None).unwrap();
        assert_eq!(found[..], all[..found.len()], "cut at {cut}");
        assert!(longest <= found.len(), "a longer log has no fewer records");
        longest = found.len();
        match tail {
            Tail::Empty => assert!(cut < SEGMENT_HEADER_BYTES as u64),
            Tail::Open { end } | Tail::Torn { end } => assert!(end <= cut),
            Tail::Sealed(_) => panic!("sealed without its footer"),
        }
    }
    assert_eq!(longest, all.len());
}

#[test]
fn every_flipped_bit_of_a_synced_and_sealed_segment_is_an_error_or_changes_nothing() {
    let payloads = payloads(12);
    let bytes = segment(3, &payloads, Some(11), true);
    let all = records(3, &payloads);
    let mut detected = 0;
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match read(&bytes, 3, None) {
            Ok((found, _)) => assert_eq!(found, all, "bit {bit}"),
            Err(error) => {
                detected += 1;
                assert_eq!(error.kind(), ErrorKind::Corruption);
                assert_eq!(error.file(), Some(Path::new("x.log")));
                let at = error.offset().unwrap() as usize;
                assert!(
                    at <= bit / 8 && bit / 8 < at + 32 + 120,
                    "bit {bit}, named {at}"
                );
            }
        }
    }
    let used = all.iter().map(|(_, p)| 32 + p.len()).sum::<usize>() + SEGMENT_HEADER_BYTES;
    assert!(used * 8 <= detected, "{detected} of {} bits", used * 8);
}

#[test]
fn no_flipped_bit_of_an_unsynced_log_gives_a_wrong_record() {
    let payloads = payloads(9);
    let bytes = segment(3, &payloads, None, false);
    let all = records(3, &payloads);
    let mut cut = 0;
    for bit in 0..1600 * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok((found, _)) = read(&bytes, 3, None) {
            assert_eq!(found[..], all[..found.len()], "bit {bit}");
            cut += usize::from(found.len() < all.len());
        }
    }
    // Only where a sector boundary leaves it open whether the sector was ever written.
    assert!(cut < 1600, "{cut} flips passed for a torn write");
}

/// RocksDB HISTORY 9.2, #6351 (bug 23): stale records of the previous life replayed.
#[test]
fn no_record_of_an_earlier_life_is_ever_returned() {
    // Records of one length, so that those of both lives stand at the same offsets.
    let long: Vec<Vec<u8>> = (0..60).map(|i| vec![i; 20]).collect();
    let short: Vec<Vec<u8>> = (1..20).map(|i| vec![i; 20]).collect();
    let old = segment(3, &long, Some(30), true);
    let new = segment(4, &short, None, false);
    let all = records(4, &short);
    for cut in 0..CAPACITY as usize {
        let mixed = [&new[..cut], &old[cut..]].concat();
        let outcome = read(&mixed, 4, None);
        if let Ok((found, _)) = &outcome {
            assert_eq!(found[..], all[..found.len()], "cut at {cut}");
        }
        let is_record_boundary = (cut + 52).saturating_sub(SEGMENT_HEADER_BYTES) % 52 == 0;
        if cut % 512 == 0 || is_record_boundary {
            outcome.unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        }
    }
}

/// P1, P2 and P4 for one segment: whatever subset of unsynced sectors a power cut leaves, over
/// zeros or over an earlier life, the records are a prefix that holds all synced ones.
#[test]
fn every_loss_of_unsynced_sectors_is_a_prefix_and_never_an_error() {
    for size in [1, 7, 20, 100] {
        let many = |salt: u8| -> Vec<Vec<u8>> {
            let n = 3000 / (32 + size);
            (0..n).map(|i| vec![(i as u8) ^ salt; size]).collect()
        };
        let (old_payloads, new_payloads) = (many(1), many(0));
        let synced = new_payloads.len() / 4;
        let old = segment(3, &old_payloads, Some(synced), true);
        let new = segment(4, &new_payloads, Some(synced), false);
        let all = records(4, &new_payloads);
        let first_unsynced = (SEGMENT_HEADER_BYTES + (synced + 1) * (32 + size)) / 512;
        let zeros = vec![0; new.len()];
        for base in [&old, &zeros] {
            for lost in 0u32..1 << (7 - first_unsynced) {
                let mut image = new.clone();
                for sector in (first_unsynced..7).filter(|s| lost >> (s - first_unsynced) & 1 == 1)
                {
                    // The first unsynced sector also holds synced bytes; those stay.
                    let from = (sector * 512).max(77 + (synced + 1) * (32 + size));
                    image[from..sector * 512 + 512]
                        .copy_from_slice(&base[from..sector * 512 + 512]);
                }
                let (found, _) = read(&image, 4, None).unwrap_or_else(|e| panic!("{lost:b}: {e}"));
                assert_eq!(found[..], all[..found.len()], "lost {lost:b}");
                assert!(synced < found.len(), "lost {lost:b}");
            }
        }
    }
}

/// Found by the crash enumeration among two million disks: the header, which is stored behind its
/// payload, torn in its last bytes, where an earlier life that had ended within the record differed
/// in one bit. It was taken for a damaged one, and the log could not be opened.
#[test]
fn a_last_header_that_is_torn_over_the_end_of_an_earlier_life_ends_the_log() {
    let payloads = [vec![1; 40], vec![2; 40]];
    let header = SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES + 40;
    for recycled in [true, false] {
        let dir = Dir::new();
        let file = dir.0.create_new(FileName::Log(FileId(4))).unwrap();
        file.preallocate(CAPACITY).unwrap();
        let options = WriterOptions {
            recycled,
            ..options(LogMode::Mapped, 4, CAPACITY)
        };
        let mut writer = Writer::create(file, options, None).unwrap();
        for (seqno, payload) in (4000..).zip(&payloads) {
            append(&mut writer, seqno, payload).unwrap();
        }
        drop(writer);
        for byte in header + 24..header + RECORD_HEADER_BYTES {
            let mut torn = dir.bytes(4);
            torn[byte] ^= 4;
            match read(&torn, 4, None) {
                Ok((found, _)) => {
                    assert!(recycled, "byte {byte}: zeros do not turn into this");
                    assert_eq!(found, records(4, &payloads[..1]));
                }
                Err(error) => {
                    assert!(!recycled, "{error}");
                    assert_eq!(error.offset(), Some(header as u64));
                }
            }
        }
    }
}

/// fjall #311 (bug 32): damage in the middle treated as a torn tail.
#[test]
fn a_lost_sector_below_the_watermark_is_an_error_that_names_it() {
    let payloads: Vec<Vec<u8>> = (0..40).map(|i| vec![i + 1; 60]).collect();
    let good = segment(3, &payloads, Some(30), false);
    for filler in [0u8, 0xff] {
        for sector in 0..5 {
            let mut bytes = good.clone();
            bytes[sector * 512..][..512].fill(filler);
            let error = read(&bytes, 3, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption);
            let at = error.offset().unwrap() as usize;
            assert!(
                at < (sector + 1) * 512 && sector * 512 <= at + 92,
                "{error}"
            );
        }
        // Above the watermark the same loss is a torn write.
        let mut bytes = good.clone();
        let unsynced = (SEGMENT_HEADER_BYTES + 31 * 92).next_multiple_of(512);
        bytes[unsynced..][..512].fill(filler);
        let (found, tail) = read(&bytes, 3, None).unwrap();
        assert_eq!(found[..], records(3, &payloads)[..found.len()]);
        assert!(30 < found.len() && found.len() < 40, "{tail:?}");
    }
}

/// Pebble #6031: the watermark was silently 0, so that the test for rot never fired.
#[test]
fn the_watermark_in_a_record_is_what_was_synced_before_it() {
    for mode in [LogMode::Mapped, LogMode::Write] {
        let dir = Dir::new();
        let mut writer = dir.writer(mode, 3, CAPACITY);
        let syncer = writer.syncer();
        append(&mut writer, 1, b"before").unwrap();
        let durable = writer.end();
        assert_eq!(syncer.synced(), 0);
        syncer.sync().unwrap();
        assert_eq!(syncer.synced(), durable);
        writer.begin_group();
        append(&mut writer, 2, b"after").unwrap();
        syncer.sync().unwrap();
        assert_eq!(
            syncer.synced(),
            durable,
            "a group in the buffer is not durable"
        );
        writer.flush_group().unwrap();
        drop(writer);
        let bytes = dir.bytes(3);
        let stored = |at: u64| {
            Header::decode(bytes[at as usize..].first_chunk().unwrap())
                .unwrap()
                .synced
        };
        assert_eq!(stored(77), 0);
        assert_eq!(u64::from(stored(durable)), durable);
        assert_ne!(durable, 0);
    }
}

#[test]
fn a_zero_filled_tail_is_the_end() {
    let dir = Dir::new();
    drop(dir.writer(LogMode::Mapped, 3, CAPACITY));
    let end = SEGMENT_HEADER_BYTES as u64;
    assert_eq!(
        read(&dir.bytes(3), 3, None).unwrap(),
        (vec![], Tail::Open { end })
    );
    assert_eq!(read(&[0; 4096], 3, None).unwrap(), (vec![], Tail::Empty));
    assert_eq!(read(&[], 3, None).unwrap(), (vec![], Tail::Empty));
}

/// LevelDB #251 (bug 27): a record over several pages persisted out of order and was accepted.
#[test]
fn a_long_record_with_a_hole_is_rejected_whole() {
    let dir = Dir::new();
    let capacity = 1 << 20;
    let mut writer = dir.writer(LogMode::Mapped, 3, capacity);
    let long: Vec<u8> = (0..200u32 << 10).map(|i| (i % 251) as u8).collect();
    append(&mut writer, 1, b"short").unwrap();
    let start = writer.end();
    append(&mut writer, 2, &long).unwrap();
    append(&mut writer, 3, b"behind it").unwrap();
    writer.syncer().sync().unwrap();
    let synced = writer.end();
    append(&mut writer, 4, b"vouches").unwrap();
    drop(writer);
    let good = dir.bytes(3);
    let (all, tail) = read(&good, 3, None).unwrap();
    assert_eq!(all.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(all[1].1, long);
    assert!(matches!(tail, Tail::Open { .. }));

    let fragment = FRAGMENT_BYTES_MAX + RECORD_HEADER_BYTES;
    let middle = start as usize + fragment;
    let mut bytes = good.clone();
    bytes[middle..middle + fragment].fill(0);
    let error = read(&bytes, 3, None).unwrap_err();
    assert_eq!(error.offset(), Some(middle as u64));

    // Without the later record that vouches for it the same hole is a torn write.
    bytes[synced as usize..].fill(0);
    let (found, tail) = read(&bytes, 3, None).unwrap();
    assert_eq!(found, [(1, b"short".to_vec())]);
    assert_eq!(tail, Tail::Torn { end: start });
}

#[test]
fn a_full_segment_takes_its_footer_and_refuses_more_without_harm() {
    for mode in [LogMode::Mapped, LogMode::Write] {
        let dir = Dir::new();
        let mut writer = dir.writer(mode, 3, CAPACITY);
        let room = (CAPACITY - writer.end()) as usize - FOOTER_BYTES - RECORD_HEADER_BYTES;
        assert!(!writer.fits(room + 1) && !writer.fits(usize::MAX));
        let refused = append(&mut writer, 1, &vec![1; room + 1]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        append(&mut writer, 1, &vec![1; room]).unwrap();
        assert!(!writer.fits(0));
        let sealed = writer.seal().unwrap();
        assert_eq!(sealed.end, CAPACITY);
        assert_eq!(writer.cut(), sealed);
        assert!(append(&mut writer, 2, b"").is_err() && writer.seal().is_err());
        drop(writer);
        let (found, tail) = read(&dir.bytes(3), 3, None).unwrap();
        assert_eq!((found.len(), tail), (1, Tail::Sealed(sealed)));
    }
}

#[test]
fn behind_the_limit_nothing_is_seen() {
    let payloads = payloads(6);
    let bytes = segment(3, &payloads, Some(5), true);
    let all = records(3, &payloads);
    let mut end = SEGMENT_HEADER_BYTES as u64;
    for n in 0..6 {
        let (found, tail) = read(&bytes, 3, Some(end)).unwrap();
        assert_eq!((found, tail), (all[..n].to_vec(), Tail::Open { end }));
        end += 32 + payloads[n].len() as u64;
    }
    assert_eq!(read(&bytes, 3, Some(0)).unwrap(), (vec![], Tail::Empty));
}

#[test]
fn a_file_that_belongs_elsewhere_is_refused() {
    let bytes = segment(3, &payloads(2), None, false);
    let path = Path::new("x.log");
    let open = |bytes: &[u8], database, segment| {
        let region = Region::from_vec(bytes.to_vec());
        Reader::over(region, path, database, FileId(segment), None).map(|r| r.tail())
    };
    let kind = |outcome: Result<Tail>| outcome.unwrap_err().kind();
    assert_eq!(kind(open(&bytes, 9, 3)), ErrorKind::Corruption, "database");
    assert_eq!(kind(open(&bytes, 9, 4)), ErrorKind::Corruption, "database");
    assert_eq!(
        kind(open(&bytes, DATABASE, 2)),
        ErrorKind::Corruption,
        "a later segment"
    );
    assert_eq!(
        kind(open(&bytes, DATABASE, 3 + (1 << 32))),
        ErrorKind::Corruption
    );
    assert_eq!(
        open(&bytes, DATABASE, 4).unwrap(),
        Tail::Empty,
        "an earlier life"
    );

    let newer = strange::with_payload(&bytes, 0, |payload| payload[0] = 2);
    assert_eq!(kind(open(&newer, DATABASE, 3)), ErrorKind::Unsupported);
}

/// The segment with the payload at `at` changed and every checksum made right again.
fn modes() -> impl Strategy<Value = LogMode> {
    prop_oneof![Just(LogMode::Mapped), Just(LogMode::Write)]
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0usize..200,
        1 => Just(FRAGMENT_BYTES_MAX),
        1 => Just(FRAGMENT_BYTES_MAX + 1),
        1 => 60_000usize..205_000,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_appended_is_read_back(
        mode in modes(),
        steps in proptest::collection::vec((sizes(), any::<u8>(), 0u8..10), 0..24),
        grows: bool,
    ) {
        let dir = Dir::new();
        let capacity = if grows { u64::from(u32::MAX) } else { 8 << 20 };
        let mode = if grows { LogMode::Write } else { mode };
        let mut writer = dir.writer(mode, 9, capacity);
        let mut all = Records::new();
        let mut in_group = false;
        for (i, &(size, fill, choice)) in steps.iter().enumerate() {
            match (choice, in_group) {
                (0 | 1, false) => {
                    writer.begin_group();
                    in_group = true;
                }
                (0, true) => {
                    writer.flush_group().unwrap();
                    in_group = false;
                }
                (2, _) => writer.syncer().sync().unwrap(),
                (3, _) => writer.syncer().populate_ahead(1 << 20),
                _ => {}
            }
            let payload: Vec<u8> = (0..size).map(|b| fill.wrapping_add((b / 7) as u8)).collect();
            append(&mut writer, i as u64 + 1, &payload).unwrap();
            all.push((i as u64 + 1, payload));
        }
        if in_group {
            writer.flush_group().unwrap();
        }
        let end = writer.end();
        prop_assert_eq!(writer.cut().end, end);
        prop_assert_eq!(read(&dir.bytes(9), 9, None).unwrap(), (all.clone(), Tail::Open { end }));
        let sealed = writer.seal().unwrap();
        drop(writer);
        prop_assert_eq!(read(&dir.bytes(9), 9, None).unwrap(), (all, Tail::Sealed(sealed)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&bytes, 3, None);
    }

    /// Arbitrary fields under valid checksums: an error or an end, never a panic.
    #[test]
    fn hostile_records_are_read_without_panic(
        fields in proptest::collection::vec(
            (1u8..=6, 0u32..300, any::<u8>(), 0u32..40, 0u64..9), 1..12),
    ) {
        let mut bytes = segment(3, &[], None, false)[..SEGMENT_HEADER_BYTES].to_vec();
        for (kind, len, fill, synced, first) in fields {
            let kinds = [Kind::Full, Kind::First, Kind::Middle, Kind::Last, Kind::Segment, Kind::Footer];
            let payload = vec![fill; len as usize];
            let header = Header {
                payload_crc: crc(&payload),
                len,
                kind: kinds[usize::from(kind) - 1],
                segment: 3,
                offset: bytes.len() as u32,
                synced,
                first: SeqNo::new(first),
            };
            bytes.extend_from_slice(&header.encode());
            bytes.extend_from_slice(&payload[..payload.len() - usize::from(fill == 0).min(payload.len())]);
        }
        let _ = read(&bytes, 3, None);
    }
}

#[test]
fn a_search_for_later_records_takes_linear_time() {
    let mut bytes = segment(3, &payloads(3), None, false);
    bytes.truncate(1024);
    bytes.resize(4 << 20, 0xA1);
    let started = std::time::Instant::now();
    read(&bytes, 3, None).unwrap();
    assert!(started.elapsed().as_secs() < 5);
}

//! The log on a simulated disk: every crash image and every failing call.

use super::super::*;
use crate::base::checksum::crc;
use crate::base::error::ErrorKind;
use crate::base::options::LogMode;
use crate::fs::sim::{CallKind, Family, Fault, FaultRule, SimFs};
use crate::fs::{FileName, Fs};
use std::path::Path;

const ROOT: &str = "/db";
const CAPACITY: u64 = 4096;
const MODES: [LogMode; 2] = [LogMode::Mapped, LogMode::Write];

fn name(segment: u64) -> FileName {
    FileName::Log(FileId(segment))
}

fn writer(fs: &Fs, segment: u64, mode: LogMode) -> Writer {
    let file = if segment == 1 {
        let file = fs.create_new(name(1)).unwrap();
        file.preallocate(CAPACITY).unwrap();
        file.sync_all().unwrap();
        fs.sync_dir().unwrap();
        file
    } else {
        // A recycled segment: the earlier life under a new name.
        fs.rename(name(segment - 1), name(segment)).unwrap();
        fs.sync_dir().unwrap();
        fs.open_write(name(segment)).unwrap()
    };
    let options = WriterOptions {
        database: 1,
        segment: FileId(segment),
        mode,
        capacity: CAPACITY,
        recycled: segment != 1,
    };
    Writer::create(file, options, None).unwrap()
}

fn append(writer: &mut Writer, seqno: u64, payload: &[u8]) -> crate::base::error::Result<()> {
    let seqno = SeqNo::new(seqno);
    writer.append(seqno, seqno, payload, crc(payload))
}

/// What a record with this number holds: small numbers, so that lives and neighbours differ in
/// few bits.
fn payload(seqno: u64) -> Vec<u8> {
    let mut bytes = vec![1, 0, 0, 0, seqno as u8];
    bytes.resize(5 + (seqno * 37 % 150) as usize, b'v');
    bytes
}

fn read(sim: &SimFs, segment: u64) -> crate::base::error::Result<Vec<u64>> {
    let file = Fs::sim(sim, Path::new(ROOT)).open_read(name(segment))?;
    let mut reader = Reader::open(&file, 1, FileId(segment), None)?;
    let mut numbers = Vec::new();
    while let Some(record) = reader.next()? {
        let seqno = record.first.get();
        assert_eq!(*record.payload, payload(seqno), "record {seqno}");
        numbers.push(seqno);
    }
    Ok(numbers)
}

/// Every image of every moment holds a prefix with all that was synced, and reads without error.
#[test]
fn a_power_loss_leaves_a_prefix_with_all_that_was_synced() {
    let mut images = 0;
    for mode in MODES {
        for groups in [false, true] {
            let sim = SimFs::new(7);
            let fs = Fs::sim(&sim, Path::new(ROOT));
            fs.make_root().unwrap();
            let mut seqno = 0;
            for segment in 1..4 {
                let mut writer = writer(&fs, segment, mode);
                writer.syncer().sync().unwrap();
                let first = seqno + 1;
                let mut synced = seqno;
                while writer.fits(155) && seqno < first + 40 {
                    if groups {
                        writer.begin_group();
                    }
                    for _ in 0..1 + seqno % 3 {
                        if writer.fits(155) {
                            seqno += 1;
                            append(&mut writer, seqno, &payload(seqno)).unwrap();
                        }
                    }
                    writer.flush_group().unwrap();
                    for image in sim.images(&Family::ALL) {
                        images += 1;
                        let id = image.id;
                        let found = read(&image.sim, segment)
                            .unwrap_or_else(|e| panic!("{mode:?} {segment} {id}: {e}"));
                        let expected: Vec<u64> = (first..first + found.len() as u64).collect();
                        assert_eq!(found, expected, "{mode:?} {segment} {id}");
                        assert!(synced < first + found.len() as u64, "{segment} {id}");
                    }
                    if seqno % 4 == 0 {
                        writer.syncer().sync().unwrap();
                        synced = seqno;
                    }
                }
                assert_eq!(read(&sim.kill(), segment).unwrap().last(), Some(&seqno));
                writer.seal().unwrap();
                writer.syncer().sync().unwrap();
            }
        }
    }
    assert!(1000 < images, "{images} images");
}

/// P13: a file whose sync failed is never appended to or synced again, whatever it then says.
#[test]
fn a_failed_sync_poisons_the_segment_for_ever() {
    for mode in MODES {
        for fault in [Fault::Eio, Fault::SyncCleanNew, Fault::SyncCleanOld] {
            let sim = SimFs::new(7);
            let fs = Fs::sim(&sim, Path::new(ROOT));
            fs.make_root().unwrap();
            let mut writer = writer(&fs, 1, mode);
            append(&mut writer, 1, &payload(1)).unwrap();
            let (syncer, cut) = (writer.syncer(), writer.cut());
            sim.fail(FaultRule::new(fault).kinds(&[CallKind::Sync]));
            let first = syncer.sync().unwrap_err();
            assert_eq!(first.kind(), ErrorKind::Io);
            sim.heal();
            let calls = sim.call_count();
            for error in [
                syncer.sync().unwrap_err(),
                append(&mut writer, 2, &payload(2)).unwrap_err(),
                writer.seal().unwrap_err(),
            ] {
                assert_eq!(error.to_string(), first.to_string());
            }
            assert_eq!(sim.call_count(), calls, "the file is left alone");
            assert_eq!((syncer.synced(), writer.cut()), (0, cut));
        }
    }
}

/// tidesdb #591 (bug 31): a short write leaves a hole, and recovery cuts what was committed.
#[test]
fn short_writes_leave_no_hole() {
    let sim = SimFs::new(7);
    let fs = Fs::sim(&sim, Path::new(ROOT));
    fs.make_root().unwrap();
    let mut writer = writer(&fs, 1, LogMode::Write);
    sim.fail(
        FaultRule::new(Fault::Short)
            .kinds(&[CallKind::Write])
            .sticky(),
    );
    for seqno in 1..10 {
        append(&mut writer, seqno, &payload(seqno)).unwrap();
    }
    assert!(0 < sim.faults_hit());
    assert_eq!(read(&sim.kill(), 1).unwrap(), (1..10).collect::<Vec<_>>());
}

/// Waiting callers share a sync, and one with nothing to do makes no call.
#[test]
fn a_sync_with_nothing_new_makes_no_call() {
    let sim = SimFs::new(7);
    let fs = Fs::sim(&sim, Path::new(ROOT));
    fs.make_root().unwrap();
    let mut writer = writer(&fs, 1, LogMode::Mapped);
    append(&mut writer, 1, &payload(1)).unwrap();
    writer.syncer().sync().unwrap();
    let calls = sim.call_count();
    writer.syncer().sync().unwrap();
    assert_eq!(sim.call_count(), calls);
    assert_eq!(writer.syncer().synced(), writer.end());
}

/// A system call costs more than everything else a put does: single records are stored into the
/// mapping, a group goes by one write, whatever its size.
#[test]
fn a_mapped_record_is_stored_and_a_group_is_one_write() {
    for mode in MODES {
        let sim = SimFs::new(8);
        let fs = Fs::sim(&sim, Path::new(ROOT));
        fs.make_root().unwrap();
        let mut writer = writer(&fs, 1, mode);
        let calls = |kind: CallKind| {
            let calls = sim.calls();
            calls.iter().filter(|call| call.site.kind == kind).count()
        };
        let before = [calls(CallKind::Store), calls(CallKind::Write)];
        for seqno in 1..=3 {
            append(&mut writer, seqno, &payload(seqno)).unwrap();
        }
        let single = [calls(CallKind::Store), calls(CallKind::Write)];
        match mode {
            LogMode::Mapped => assert!(before[0] + 3 <= single[0] && before[1] == single[1]),
            LogMode::Write => assert_eq!([before[0], before[1] + 3], single),
        }
        writer.begin_group();
        for seqno in 4..=9 {
            append(&mut writer, seqno, &payload(seqno)).unwrap();
        }
        writer.flush_group().unwrap();
        let grouped = [calls(CallKind::Store), calls(CallKind::Write)];
        assert_eq!([single[0], single[1] + 1], grouped, "{mode:?}");
        assert_eq!(read(&sim, 1).unwrap(), (1..=9).collect::<Vec<_>>());
    }
}

//! The writer on files that fail, and what its fields say meanwhile.

use super::*;
use crate::base::checksum::crc;
use crate::base::error::ErrorKind;
use crate::fs::{FileName, Fs};
use crate::wal::{Reader, Tail};

/// A writer in write mode over a real file, and the same file opened so that writes fail.
struct Breakable {
    fs: Fs,
    writer: Writer,
    name: FileName,
}

impl Breakable {
    fn new(test: &str) -> Breakable {
        Breakable::with_mode(test, LogMode::Write)
    }

    fn with_mode(test: &str, mode: LogMode) -> Breakable {
        let root =
            std::env::temp_dir().join(format!("alluvium-wal-writer-{test}-{}", std::process::id()));
        let fs = Fs::os(&root);
        fs.make_root().unwrap();
        let name = FileName::Log(FileId(1));
        let options = WriterOptions {
            database: 1,
            segment: FileId(1),
            mode,
            capacity: 32 << 20,
            recycled: false,
        };
        let file = fs.create_new(name).unwrap();
        if mode == LogMode::Mapped {
            file.preallocate(options.capacity).unwrap();
        }
        let writer = Writer::create(file, options, None).unwrap();
        Breakable { fs, writer, name }
    }

    /// From here on every write fails.
    fn break_file(&mut self) {
        let file = self.fs.open_read(self.name).unwrap();
        Arc::get_mut(&mut self.writer.shared).unwrap().file = file;
    }

    fn append(&mut self, seqno: u64, payload: &[u8]) -> Result<()> {
        let seqno = SeqNo::new(seqno);
        self.writer.append(seqno, seqno, payload, crc(payload))
    }

    fn numbers(&self) -> Vec<u64> {
        let file = self.fs.open_read(self.name).unwrap();
        let mut reader = Reader::open(&file, 1, FileId(1), None).unwrap();
        let mut numbers = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            numbers.push(record.first.get());
        }
        let end = self.writer.cut().end;
        assert_eq!(reader.tail(), Tail::Open { end });
        numbers
    }
}

impl Drop for Breakable {
    fn drop(&mut self) {
        self.fs.remove(self.name).unwrap();
        self.fs.remove_root().unwrap();
    }
}

#[test]
fn after_a_failed_write_everything_fails_with_the_first_cause_and_the_cut_stands() {
    let mut log = Breakable::new("poison");
    log.append(1, b"good").unwrap();
    let cut = log.writer.cut();
    assert_eq!((cut.end, cut.last_seqno.get()), (log.writer.end(), 1));
    log.break_file();
    let first = log.append(2, b"lost").unwrap_err();
    assert_eq!(first.kind(), ErrorKind::Io);
    let later = [
        log.append(3, b"refused").unwrap_err(),
        log.writer.seal().unwrap_err(),
        log.writer.flush_group().unwrap_err(),
        log.writer.syncer().sync().unwrap_err(),
    ];
    for error in later {
        assert_eq!(error.to_string(), first.to_string());
    }
    assert_eq!(log.writer.cut(), cut);
    assert_eq!(log.writer.syncer().synced(), 0);
    assert_eq!(log.numbers(), [1]);
}

/// RocksDB 3cf562be31 (bug 28): the failure of a group's write was told to its leader only.
#[test]
fn a_group_whose_write_fails_is_absent_whole() {
    let mut log = Breakable::new("group");
    log.append(1, b"good").unwrap();
    let cut = log.writer.cut();
    log.writer.begin_group();
    for seqno in 2..5 {
        log.append(seqno, b"one of the group").unwrap();
    }
    assert_eq!(
        log.writer.cut(),
        cut,
        "a group in the buffer is not good yet"
    );
    log.break_file();
    assert_eq!(log.writer.flush_group().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(log.writer.cut(), cut);
    assert!(log.append(5, b"refused").is_err());
    assert_eq!(log.numbers(), [1]);
}

#[test]
fn a_long_group_keeps_its_buffer_small() {
    let mut log = Breakable::new("spill");
    log.writer.begin_group();
    let payload = vec![7; 300 << 10];
    for seqno in 1..20 {
        log.append(seqno, &payload).unwrap();
        assert!(log.writer.buffer.len() <= SPILL_BYTES + FRAGMENT_BYTES_MAX);
    }
    assert_eq!(log.writer.cut().last_seqno, SeqNo::ZERO);
    log.writer.flush_group().unwrap();
    assert_eq!(log.numbers(), (1..20).collect::<Vec<_>>());
}

#[test]
fn populating_ahead_goes_on_where_it_stopped_and_not_beyond_the_segment() {
    let log = Breakable::with_mode("populate", LogMode::Mapped);
    let (syncer, end) = (log.writer.syncer(), log.writer.end());
    assert_eq!(syncer.populated(), 0, "the header is written by a call");
    syncer.populate_ahead(1 << 20);
    assert_eq!(syncer.populated(), end + (1 << 20));
    syncer.populate_ahead(4096);
    assert_eq!(syncer.populated(), end + (1 << 20), "nothing twice");
    syncer.populate_ahead(u64::MAX);
    assert_eq!(syncer.populated(), 32 << 20);

    let syncer = Breakable::new("populate-nothing").writer.syncer();
    syncer.populate_ahead(1 << 20);
    assert_eq!(syncer.populated(), 0, "there is no mapping in write mode");
}

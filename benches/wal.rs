//! What it costs to append one put to the log, and to read it back.
//!
//! `append/mapped` is the log's share of a `Logged` put: the payload is encoded and checksummed,
//! then appended through the mapping of a populated segment. Pass mark 90 ns, limit 135 ns.

use alluvium::base::checksum::crc;
use alluvium::base::coding::put_bytes;
use alluvium::base::options::LogMode;
use alluvium::base::types::{FileId, SeqNo};
use alluvium::fs::{FileName, Fs};
use alluvium::wal::{Reader, Tail, Writer, WriterOptions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};

const SEGMENT_BYTES: u64 = 64 << 20;
const DATABASE: u64 = 7;
const VALUE: [u8; 100] = [0x5a; 100];

struct Dir(Fs);

impl Dir {
    fn new(name: &str) -> Dir {
        let root = std::env::temp_dir().join(format!("alluvium-{name}-{}", std::process::id()));
        let fs = Fs::os(&root);
        fs.make_root().expect("a directory for the bench");
        Dir(fs)
    }

    fn remove(self) {
        for entry in self.0.list().expect("the bench's own files") {
            let name = FileName::parse(&entry.name).expect("a name of ours");
            self.0.remove(name).expect("removes its own file");
        }
        self.0.remove_root().expect("removes its own directory");
    }

    /// A segment whose pages are all present, as the background keeps them ahead of the writer.
    fn writer(&self, segment: u64, mode: LogMode) -> Writer {
        let name = FileName::Log(FileId(segment));
        let file = self.0.create_new(name).expect("a new file");
        file.preallocate(SEGMENT_BYTES).expect("space");
        let options = WriterOptions {
            database: DATABASE,
            segment: FileId(segment),
            mode,
            capacity: SEGMENT_BYTES,
            recycled: false,
        };
        let writer = Writer::create(file, options, None).expect("a new segment");
        writer.syncer().populate_ahead(SEGMENT_BYTES);
        writer
    }
}

/// The payload of a put, as a batch of one has it.
fn encode(buffer: &mut Vec<u8>, n: u64) {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    buffer.clear();
    buffer.extend_from_slice(&[1, 0, 0, 0, 1, 0]);
    put_bytes(buffer, &key);
    put_bytes(buffer, &VALUE);
}

fn append_one(writer: &mut Writer, buffer: &mut Vec<u8>, n: u64) {
    encode(buffer, black_box(n));
    let seqno = SeqNo::new(n);
    writer
        .append(seqno, seqno, buffer, crc(buffer))
        .expect("it fits");
}

/// Appends to one segment after the other; only the appends are timed.
struct Appender<'a> {
    dir: &'a Dir,
    mode: LogMode,
    segment: u64,
    writer: Option<Writer>,
    buffer: Vec<u8>,
}

impl Appender<'_> {
    fn run(&mut self, iterations: u64) -> Duration {
        let mut spent = Duration::ZERO;
        let mut done = 0;
        while done < iterations {
            let (dir, mode) = (self.dir, self.mode);
            let segment = &mut self.segment;
            let writer = self.writer.get_or_insert_with(|| {
                *segment += 1;
                dir.writer(*segment, mode)
            });
            let started = Instant::now();
            while done < iterations && writer.fits(256) {
                done += 1;
                append_one(writer, &mut self.buffer, done);
            }
            spent += started.elapsed();
            if !writer.fits(256) {
                self.writer = None;
                let name = FileName::Log(FileId(*segment));
                dir.0.remove(name).expect("removes its own file");
            }
        }
        spent
    }
}

fn append(c: &mut Criterion) {
    let dir = Dir::new("bench-wal-append");
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    let modes = [
        ("mapped", LogMode::Mapped, 0),
        ("write", LogMode::Write, 1000),
    ];
    for (name, mode, segment) in modes {
        let mut appender = Appender {
            dir: &dir,
            mode,
            segment,
            writer: None,
            buffer: Vec::with_capacity(256),
        };
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| appender.run(iterations))
        });
    }
    let mut buffer = Vec::with_capacity(256);
    group.bench_function("encode and checksum only", |b| {
        let mut n = 0;
        b.iter(|| {
            n += 1;
            encode(&mut buffer, black_box(n));
            crc(&buffer)
        });
    });
    group.finish();
    dir.remove();
}

fn read(c: &mut Criterion) {
    let dir = Dir::new("bench-wal-read");
    let mut writer = dir.writer(1, LogMode::Mapped);
    let mut buffer = Vec::new();
    let records = 350_000;
    for n in 1..=records {
        append_one(&mut writer, &mut buffer, n);
    }
    let end = writer.end();
    drop(writer);
    let file = dir
        .0
        .open_read(FileName::Log(FileId(1)))
        .expect("the segment");
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(records));
    group.sample_size(10);
    group.bench_function("350,000 records and the search behind the open end", |b| {
        b.iter(|| {
            let mut reader = Reader::open(&file, DATABASE, FileId(1), None).expect("opens");
            let mut found = 0;
            while let Some(record) = reader.next().expect("whole") {
                found += 1;
                assert_eq!(record.first.get(), found);
            }
            assert_eq!((found, reader.tail()), (records, Tail::Open { end }));
        });
    });
    group.finish();
    dir.remove();
}

criterion_group!(benches, append, read);
criterion_main!(benches);

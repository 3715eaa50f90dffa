//! One log segment under commands: `append n text…` (record number n), `sync`, `seal`, then on its
//! bytes `cut n`, `flip n`, `zero from to`, `reuse` (a new life of the file, number 8), and
//! `read [limit]`, which answers with each record's number, payload and offset, and the end.

use super::{World, bytes_of, damage, error_text, text_of};
use crate::support::ROOT;
use alluvium::LogMode;
use alluvium::SeqNo;
use alluvium::base::checksum::crc;
use alluvium::base::types::FileId;
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use alluvium::wal::{Predecessor, Reader, Tail, Writer, WriterOptions};
use std::path::Path;

const DATABASE: u64 = 0xd1;
const CAPACITY: u64 = 256 << 10;

pub(super) struct Segment {
    sim: SimFs,
    number: FileId,
    writer: Option<Writer>,
}

impl Segment {
    fn fs(&self) -> Fs {
        Fs::sim(&self.sim, Path::new(ROOT))
    }

    fn name(&self) -> String {
        FileName::Log(self.number).to_string()
    }

    fn begin(&mut self, before: Option<Predecessor>) {
        let name = FileName::Log(self.number);
        let file = match self.fs().open_write(name) {
            Ok(file) => file,
            Err(_) => self.fs().create_new(name).unwrap(),
        };
        let options = WriterOptions {
            database: DATABASE,
            segment: self.number,
            mode: LogMode::Write,
            capacity: CAPACITY,
            recycled: false,
        };
        self.writer = Some(Writer::create(file, options, before).unwrap());
    }

    fn read(&self, limit: Option<u64>) -> String {
        let file = self.fs().open_read(FileName::Log(self.number)).unwrap();
        let mut reader = match Reader::open(&file, DATABASE, self.number, limit) {
            Ok(reader) => reader,
            Err(error) => return error_text(&error),
        };
        let mut lines = Vec::new();
        if let Some(before) = reader.predecessor() {
            let Predecessor {
                segment,
                end,
                last_seqno,
            } = before;
            lines.push(format!(
                "after segment {}, end {end}, last number {last_seqno}",
                segment.0
            ));
        }
        loop {
            match reader.next() {
                Ok(Some(record)) => lines.push(format!(
                    "{} {} at {}",
                    record.first,
                    text_of(&record.payload),
                    record.offset
                )),
                Ok(None) => break,
                Err(error) => {
                    lines.push(error_text(&error));
                    return lines.join("\n");
                }
            }
        }
        lines.push(match reader.tail() {
            Tail::Sealed(end) => format!("sealed, end {}, last number {}", end.end, end.last_seqno),
            tail => format!("{tail:?}"),
        });
        lines.join("\n")
    }
}

impl World for Segment {
    fn new() -> Self {
        let sim = SimFs::new(5);
        Fs::sim(&sim, Path::new(ROOT)).make_root().unwrap();
        let mut segment = Segment {
            sim,
            number: FileId(7),
            writer: None,
        };
        segment.begin(None);
        segment
    }

    fn run(&mut self, command: &str, words: &[&str]) -> String {
        let root = Path::new(ROOT);
        match command {
            "append" => {
                let first = SeqNo::new(words[0].parse().unwrap());
                let parts: Vec<Vec<u8>> = words[1..].iter().map(|word| bytes_of(word)).collect();
                let payload = parts.concat();
                let writer = self
                    .writer
                    .as_mut()
                    .expect("the bytes were not changed yet");
                writer
                    .append(first, first, &payload, crc(&payload))
                    .unwrap();
                return String::new();
            }
            "sync" => self.writer.as_ref().unwrap().syncer().sync().unwrap(),
            "seal" => drop(self.writer.as_mut().unwrap().seal().unwrap()),
            "reuse" => {
                let before = self.writer.take().unwrap().cut();
                let old = FileName::Log(self.number);
                self.number = FileId(8);
                self.fs().rename(old, FileName::Log(self.number)).unwrap();
                self.begin(Some(before));
            }
            "read" => return self.read(words.first().map(|limit| limit.parse().unwrap())),
            _ => {
                self.writer = None;
                let mut bytes = self.sim.bytes(root, &self.name()).unwrap();
                damage(&mut bytes, command, words);
                self.sim.plant(root, &self.name(), &bytes);
            }
        }
        String::new()
    }
}

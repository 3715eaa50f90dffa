//! Writes the first files of every corpus, from small databases that a simulated machine ran.
//!
//! `cargo run --release --example seed`, in the directory of this package.

#[path = "../../tests/model/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the suites that share it use different parts"
)]
mod model;

use alluvium::fs::sim::{Family, SimFs};
use alluvium::fs::{FileName, Fs};
use alluvium::{Compression, Db, KeyspaceOptions, LogMode, Options, Result, WriteBatch};
use alluvium_fuzz::{backup, database, table};
use model::{Kind, Op, bytes};
use std::error::Error;
use std::fs;
use std::path::Path;

const ROOT: &str = "/db";
/// Repair every record.
const ALL: u8 = 255;
/// A table is cut into this: what is in a file of a corpus should be small.
const SEED_BYTES_MAX: usize = 12 << 10;

fn main() -> std::result::Result<(), Box<dyn Error>> {
    for (name, log_mode) in [("mapped", LogMode::Mapped), ("written", LogMode::Write)] {
        let sim = run(log_mode)?;
        seeds_of(&sim, name)?;
        for (n, image) in sim.images(&[Family::Torn]).step_by(7).take(4).enumerate() {
            seeds_of(&image.sim, &format!("{name}-torn-{n}"))?;
        }
    }
    for n in 0..4u8 {
        let control = 1 | n << 1;
        let edits = [control, 10 * n, 0, 1 << n, 200, n, 0x80];
        save("table", &format!("edits-{n}"), &edits)?;
        save(
            "table",
            &format!("sample-{n}"),
            &[&[n << 4], table::sample(n.into())].concat(),
        )?;
        save_blocks(n)?;
    }
    for n in 0..16u16 {
        let list = Op::random(n.into(), 20 + 30 * usize::from(n), true);
        let seed = [&n.to_le_bytes()[..], &bytes(&list)].concat();
        save("model", &format!("list-{n}"), &seed)?;
    }
    save("model", "empty-synced-batch", &empty_synced_batches())?;
    save("batch", "merges", &merges()?)?;
    save_sections()?;
    save_directories()?;
    save_points()?;
    Ok(())
}

/// A batch of merges over values, a deletion and nothing.
fn merges() -> Result<Vec<u8>> {
    let options = Options::new().background_threads(0);
    let db = options.open_in(Fs::sim(&SimFs::new(3), Path::new(ROOT)))?;
    let mut batch = WriteBatch::new();
    batch.merge(&db, "a", "2");
    batch.delete(&db, "b");
    batch.merge(&db, "b", "3");
    for n in 0..20u8 {
        batch.merge(&db, "c", [b'a' + n]);
    }
    batch.put(&db, "key", "value");
    batch.merge(&db, "key", "");
    Ok(batch.encoded().to_vec())
}

/// A machine on which a database was written, flushed, and left with writes in its log.
fn run(log_mode: LogMode) -> Result<SimFs> {
    let sim = SimFs::new(3);
    let options = || {
        Options::new()
            .memory_bytes(1 << 20)
            .log_segment_bytes(16 << 10)
            .background_threads(0)
            .log_mode(log_mode)
            .default_keyspace(tiny(Compression::None))
    };
    let open = || options().open_in(Fs::sim(&sim, Path::new(ROOT)));
    let db = open()?;
    write(&db, 0..30)?;
    db.flush()?;
    write(&db, 20..40)?;
    db.close()?;
    let db = open()?;
    write(&db, 5..15)?;
    db.sync()?;
    write(&db, 1..4)?;
    let after = sim.kill();
    drop(db);
    Ok(after)
}

fn tiny(compression: Compression) -> KeyspaceOptions {
    KeyspaceOptions::new()
        .write_buffer_bytes(8 << 10)
        .block_bytes(256)
        .table_bytes(4 << 10)
        .level0_runs(2)
        .compression(vec![compression])
}

fn write(db: &Db, keys: std::ops::Range<u32>) -> Result<()> {
    let orders = db.keyspace("orders", tiny(Compression::Lz4))?;
    for n in keys {
        db.put(format!("key/{n:04}"), vec![n as u8; n as usize % 50])?;
        let mut batch = WriteBatch::new();
        batch.put(
            &orders,
            format!("order/{n}"),
            "an order of something, again and again",
        );
        batch.delete(db, format!("key/{:04}", n / 2));
        db.write(&batch, Default::default())?;
    }
    Ok(())
}

/// One seed for each file of the database, and one for each batch and manifest record in it.
fn seeds_of(sim: &SimFs, from: &str) -> std::result::Result<(), Box<dyn Error>> {
    for entry in Fs::sim(sim, Path::new(ROOT)).list()? {
        let Some(mut bytes) = sim.bytes(Path::new(ROOT), &entry.name) else {
            continue;
        };
        let name = format!("{from}-{}", entry.name);
        let is_small = bytes.len() <= SEED_BYTES_MAX;
        match FileName::parse(&entry.name) {
            Some(FileName::Log(id)) => {
                let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
                bytes.truncate(bytes.len() - zeros + zeros.min(64));
                bytes.truncate(SEED_BYTES_MAX);
                save("wal_reader", &name, &[&[0, 0], &bytes[..]].concat())?;
                save(
                    "wal_reader",
                    &format!("{name}-cut"),
                    &[&[ALL, 128], &bytes[..]].concat(),
                )?;
                let payloads = payloads(&bytes, id.0)?;
                for (n, payload) in payloads.iter().step_by(9).enumerate().take(4) {
                    save("batch", &format!("{name}-{n}"), payload)?;
                }
            }
            Some(FileName::Manifest(id)) => {
                save("manifest", &name, &[&[0, ALL], &bytes[..]].concat())?;
                let mut framed = vec![1];
                for payload in payloads(&bytes, id.0)? {
                    framed.extend_from_slice(&(payload.len() as u16).to_le_bytes());
                    framed.extend_from_slice(&payload);
                }
                save("manifest", &format!("{name}-records"), &framed)?;
            }
            Some(FileName::Table(_)) if is_small => {
                save("table", &name, &[&[0x20], &bytes[..]].concat())?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn payloads(bytes: &[u8], segment: u64) -> Result<Vec<Vec<u8>>> {
    let (database, _) = alluvium_fuzz::segment::identity(bytes);
    let mut reader = alluvium::wal::Reader::over(
        alluvium::fs::Region::from_vec(bytes.to_vec()),
        Path::new("seed"),
        database,
        alluvium::base::types::FileId(segment),
        None,
    )?;
    let mut payloads = Vec::new();
    // A segment that was cut off may end in damage: what comes before it is good.
    while let Ok(Some(record)) = reader.next() {
        payloads.push(record.payload.into_owned());
    }
    Ok(payloads)
}

/// The plain blocks of a sample, which come first in the file.
fn save_blocks(sample: u8) -> std::result::Result<(), Box<dyn Error>> {
    let bytes = table::sample(sample.into());
    for (n, span) in table::blocks(bytes)
        .into_iter()
        .enumerate()
        .step_by(4)
        .take(4)
    {
        let key = table::key(sample * 9);
        let mut seed = (key.len() as u16).to_le_bytes().to_vec();
        seed.extend_from_slice(&key);
        seed.extend_from_slice(&60u16.to_le_bytes());
        seed.extend_from_slice(&bytes[span]);
        save("block", &format!("sample-{sample}-{n}"), &seed)?;
    }
    Ok(())
}

/// A batch without a change that is to be synced makes durable what was written before it.
fn empty_synced_batches() -> Vec<u8> {
    let mut ops = Vec::new();
    for n in 0..6u8 {
        for (kind, key) in [
            (Kind::Put, n),
            (Kind::BatchEmptySynced, 0),
            (Kind::PowerLoss, n),
        ] {
            ops.push(Op::decode([kind as u8, 0, key, key, 9, n, n * 7]));
        }
    }
    [&[0, 0], &bytes(&ops)[..]].concat()
}

/// Index, filter and properties of every sample, whole and as edits; options of keyspaces.
fn save_sections() -> std::io::Result<()> {
    for (target, id) in [
        ("index", table::SECTION_INDEX),
        ("filter", table::SECTION_FILTER),
        ("properties", table::SECTION_PROPERTIES),
    ] {
        for n in 0..4u8 {
            let section = table::section_of(n.into(), id);
            save(
                target,
                &format!("sample-{n}"),
                &[&[n | n << 2], section].concat(),
            )?;
            save(
                target,
                &format!("stale-{n}"),
                &[&[n | 16], section].concat(),
            )?;
            save(target, &format!("edits-{n}"), &[n | 32, 3 * n, 0, 1 << n])?;
        }
    }
    for tag in 0..10u8 {
        for control in [128, 129, 130, 131] {
            let value = [1 << (tag % 8), u8::from(tag < 2), 0, 0, 0, 0, 0, 0];
            let seed = [&[control, tag, 8], &value[..]].concat();
            save("properties", &format!("option-{control}-{tag}"), &seed)?;
        }
    }
    Ok(())
}

/// CURRENT, and neighbours of every kind, around the good database and alone.
fn save_directories() -> std::io::Result<()> {
    let current = database::good_files()
        .iter()
        .find(|(name, _)| name == "CURRENT");
    let current = current.map_or(&[][..], |(_, bytes)| bytes);
    for control in 0..8u8 {
        let mut seed = vec![control];
        if control & 2 != 0 {
            seed.extend_from_slice(current);
        }
        for kind in 0..8u8 {
            seed.extend_from_slice(&[kind, kind, 4]);
            if kind == 7 {
                seed.extend_from_slice(b"\x03\0a.b");
            }
            seed.extend_from_slice(b"\x05\0bytes");
        }
        save("directory", &format!("neighbours-{control}"), &seed)?;
    }
    Ok(())
}

fn save_points() -> std::io::Result<()> {
    for n in 1..3 {
        let name = backup::record_of(n);
        let record = backup::backed_up().bytes(Path::new(backup::BACKUPS), &name);
        let record = record.unwrap_or_default();
        for mode in 0..2u8 {
            let seed = [&[mode], &record[..]].concat();
            save("backup", &format!("record-{n}-{mode}"), &seed)?;
        }
    }
    Ok(())
}

fn save(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let directory = Path::new("corpus").join(target);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(name), bytes)
}

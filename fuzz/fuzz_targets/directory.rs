//! CURRENT and the listing of a directory: any names with any bytes, alone or around a database
//! that is good.
//!
//! Input: control (bit 0: around a good database; bit 1: a CURRENT from the input; bit 2: its magic
//! and checksum put right) | the 32 bytes of CURRENT | files, each a kind, a number in two bytes
//! or a name behind its length, and bytes behind their length.
//!
//! Names that the engine would not give stay, with their bytes (P5, P20); an open that fails
//! changes no file (P11).
#![no_main]

use alluvium::base::checksum::crc;
use alluvium::base::types::FileId;
use alluvium::fs::FileName;
use alluvium::fs::sim::SimFs;
use alluvium_fuzz::database::{ROOT, files, good_files, open_and_use};
use alluvium_fuzz::{guard, input::Input};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

const FILES_MAX: usize = 64;

fuzz_target!(|data: &[u8]| guard::run(data, target));

fn target(data: &[u8]) {
    let mut input = Input(data);
    let control = input.byte();
    let sim = SimFs::new(4);
    let plant = |name: &str, bytes: &[u8]| sim.plant(Path::new(ROOT), name, bytes);
    if control & 1 != 0 {
        for (name, bytes) in good_files() {
            plant(name, bytes);
        }
    }
    if control & 2 != 0 {
        let mut current = input.take(32).to_vec();
        if control & 4 != 0 && current.len() == 32 {
            current[..8].copy_from_slice(b"ALLUVIUM");
            let checksum = crc(&current[..28]);
            current[28..].copy_from_slice(&checksum.to_le_bytes());
        }
        plant("CURRENT", &current);
    }
    for _ in 0..FILES_MAX {
        if input.is_empty() {
            break;
        }
        let name = name(&mut input);
        let bytes = input.part();
        // A database's own file keeps its bytes: what is wrong in it is for other targets.
        if !name.is_empty() && sim.bytes(Path::new(ROOT), &name).is_none() {
            plant(&name, bytes);
        }
    }
    let before = files(&sim);
    let is_open = open_and_use(&sim, data.len());
    for (name, bytes) in before {
        let after = sim.bytes(Path::new(ROOT), &name);
        if FileName::parse(&name).is_none() || !is_open {
            assert_eq!(after, Some(bytes), "{name:?}, opened: {is_open}");
        }
    }
}

/// A name of the engine's, nearly one, or any.
fn name(input: &mut Input<'_>) -> String {
    let kind = input.byte();
    let id = FileId(input.number() as u64);
    match kind % 8 {
        0 => FileName::Log(id).to_string(),
        1 => FileName::Table(id).to_string(),
        2 => FileName::Manifest(id).to_string(),
        3 => FileName::Temp(id).to_string(),
        4 => "LOCK".to_owned(),
        5 => format!("{}.log", id.0),
        6 => format!("{id}.TBL", id = id.0),
        _ => {
            let bytes = input.part();
            let name = String::from_utf8_lossy(bytes).replace(['/', '\0'], "_");
            match &name[..] {
                "." | ".." => String::new(),
                _ => name,
            }
        }
    }
}

//! What a file says of itself: the properties of a table, the options of a keyspace.
//!
//! Input: control | bytes. Bit 7 unset: the bytes are the properties of a sample table (bits 0 and
//! 1: which; bit 2: pread; bit 4: leave the checksum wrong; bit 5: edits of the sample's). Bit 7
//! set: they are options in a good manifest (bit 0: of the default keyspace, else of another; bit
//! 1: those that a good database has come before them).
#![no_main]

use alluvium::base::coding::put_bytes;
use alluvium::base::types::FileId;
use alluvium::fs::sim::SimFs;
use alluvium_fuzz::check_table::check;
use alluvium_fuzz::{database, guard, input::Input, segment, table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| guard::run(data, target));

const DATABASE: u64 = 0x11;

fn target(data: &[u8]) {
    let mut input = Input(data);
    let control = input.byte();
    if control & 128 == 0 {
        let (n, id) = (usize::from(control & 3), table::SECTION_PROPERTIES);
        let edited = (control & 32 != 0).then(|| table::edited(table::section_of(n, id), input));
        let section = edited.as_deref().unwrap_or(input.0);
        let bytes = table::with_section(n, id, section, control & 16 == 0);
        return check(&bytes, control >> 2);
    }
    let mut options = Vec::new();
    if control & 2 != 0 {
        // Tag, 8 bytes, number: small ones, so that flushes and compactions come soon.
        for (tag, number) in [(0u8, 1u64 << 10), (5, 1 << 10), (7, 1), (8, 1), (9, 2)] {
            options.extend_from_slice(&[tag, 8]);
            options.extend_from_slice(&number.to_le_bytes());
        }
    }
    options.extend_from_slice(input.0);
    let manifest = segment::framed(
        DATABASE,
        FileId(2),
        [&snapshot(control & 1 != 0, &options)[..]].into_iter(),
    );
    let sim = SimFs::new(6);
    database::plant(&sim, &manifest);
    database::open_and_use(&sim, manifest.len());
}

/// The first record of a manifest: one or two keyspaces, and no files.
fn snapshot(is_default: bool, options: &[u8]) -> Vec<u8> {
    let mut record = vec![3, 1, 1, 5, 16];
    record.extend_from_slice(&DATABASE.to_le_bytes());
    record.extend_from_slice(&0x22u64.to_le_bytes());
    record.extend_from_slice(&[
        7, 2, 0x86, 8, 9, 1, 2, 0x0b, 1, 3, 0x0d, 4, 0x80, 0x80, 0x80, 8,
    ]);
    for (number, name) in [(0u8, "default"), (1, "another")] {
        let of_this: &[u8] = if is_default == (number == 0) {
            options
        } else {
            &[]
        };
        let mut created = Vec::new();
        put_bytes(&mut created, name.as_bytes());
        put_bytes(&mut created, of_this);
        let mut keyspace = vec![3, 1, number, 5];
        put_bytes(&mut keyspace, &created);
        record.push(19);
        put_bytes(&mut record, &keyspace);
    }
    record.extend_from_slice(&[0x7f, 0]);
    record
}

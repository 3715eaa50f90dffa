//! A table file: any bytes, or a good table with edits; as it is, or with its checksums right.
//!
//! Input: control (bit 0: edits of a sample, bits 1 and 2: which; bit 3: leave the checksums
//! alone; bit 4: pread; bit 5: verify every read) | the file, or edits of 3 bytes.
#![no_main]

use alluvium_fuzz::check_table::check;
use alluvium_fuzz::{guard, input::Input, table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| guard::run(data, target));

fn target(data: &[u8]) {
    let mut input = Input(data);
    let control = input.byte();
    let mut bytes = match control & 1 {
        0 => input.0.to_vec(),
        _ => table::edited(table::sample(usize::from(control >> 1 & 3)), input),
    };
    if control & 8 == 0 {
        table::repair(&mut bytes);
    }
    check(&bytes, control >> 4);
}

//! The filter of a table that is good otherwise: any bytes in its place. A table that verifies has no
//! key that its filter denies.
//!
//! Input: control (bits 0 and 1: which sample; bit 2: pread; bit 3: verify every read; bit 4: leave
//! the section's checksum wrong; bit 5: edits of the sample's section) | the section, or edits.
#![no_main]

use alluvium_fuzz::check_table::check;
use alluvium_fuzz::{guard, input::Input, table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| guard::run(data, target));

fn target(data: &[u8]) {
    let mut input = Input(data);
    let control = input.byte();
    let sample = usize::from(control & 3);
    let edited = (control & 32 != 0)
        .then(|| table::edited(table::section_of(sample, table::SECTION_FILTER), input));
    let section = edited.as_deref().unwrap_or(input.0);
    let bytes = table::with_section(sample, table::SECTION_FILTER, section, control & 16 == 0);
    check(&bytes, control >> 2);
}

//! What the simulator does not let pass, although a real disk would.

use super::*;

#[test]
#[should_panic(expected = "R10: a write to 000007.tbl")]
fn writing_to_a_mapped_table_is_a_bug() {
    let (_sim, fs) = machine();
    let file = settled(&fs, TABLE, b"abc");
    let _region = file.map(3).unwrap();
    let _ = file.write_all_at(b"x", 0);
}

#[test]
#[should_panic(expected = "R10: 000008.log is truncated while mapped")]
fn truncating_a_mapped_log_is_a_bug() {
    let (_sim, fs) = machine();
    let file = settled(&fs, LOG, b"abc");
    let _log = file.map_log(3).unwrap();
    let _ = file.truncate(0);
}

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
#[should_panic(expected = "R10: the size of 000008.log is set while it is mapped")]
fn truncating_a_mapped_log_is_a_bug() {
    let (_sim, fs) = machine();
    let file = settled(&fs, LOG, b"abc");
    let _log = file.map_log(3).unwrap();
    let _ = file.truncate(0);
}

#[test]
#[should_panic(expected = "R10: a write to 000008.log, which is mapped for reading")]
fn storing_into_a_log_that_is_being_read_is_a_bug() {
    let (_sim, fs) = machine();
    let file = settled(&fs, LOG, b"abc");
    let _region = file.map(3).unwrap();
    file.map_log(3).unwrap().store(0, b"x");
}

/// A directory with a CURRENT, in which a name was given and went away again.
fn with_a_used_name() -> (SimFs, Fs) {
    let (sim, fs) = machine();
    settled(&fs, FileName::Current, b"");
    drop(settled(&fs, TABLE, b"old"));
    fs.remove(TABLE).unwrap();
    (sim, fs)
}

#[test]
#[should_panic(expected = "P6: the name 000007.tbl is given a second time")]
fn giving_a_number_a_second_time_is_a_bug() {
    let (_sim, fs) = with_a_used_name();
    let _ = fs.create_new(TABLE);
}

#[test]
#[should_panic(expected = "P6: the name 000007.tbl is given a second time")]
fn giving_a_number_a_second_time_by_a_rename_after_a_power_loss_is_a_bug() {
    let (sim, fs) = with_a_used_name();
    fs.sync_dir().unwrap();
    let image = sim.images(&[Family::Nothing]).next().unwrap();
    let fs = Fs::sim(&image.sim, fs.root());
    let _ = fs.create_new(LOG);
    let _ = fs.rename(LOG, TABLE);
}

#[test]
fn a_number_may_come_again_where_nothing_can_have_referred_to_it() {
    let (sim, fs) = machine();
    drop(settled(&fs, TABLE, b"before there was a database"));
    fs.remove(TABLE).unwrap();
    fs.create_new(TABLE).unwrap();

    let (lost, fs) = {
        let (sim, fs) = machine();
        settled(&fs, FileName::Current, b"");
        fs.create_new(LOG).unwrap(); // its name is never durable
        let image = sim.images(&[Family::Nothing]).next().unwrap();
        (Fs::sim(&image.sim, fs.root()), fs)
    };
    lost.create_new(LOG).unwrap();

    fs.remove(FileName::Current).unwrap();
    fs.remove(LOG).unwrap();
    fs.create_new(LOG).unwrap(); // of a new database in the same place
    assert_eq!(sim.call_count(), 7);
}

#[test]
#[should_panic(expected = "bytes 2..6 of 000007.tbl are read, and nobody wrote 3..5")]
fn reading_bytes_that_nobody_wrote_is_a_bug() {
    let (_sim, fs) = machine();
    let file = settled(&fs, TABLE, b"abc");
    file.write_all_at(b"def", 5).unwrap();
    file.read_exact_at(&mut [0; 3], 0).unwrap();
    file.read_exact_at(&mut [0; 3], 5).unwrap();
    let _ = file.read_exact_at(&mut [0; 4], 2);
}

#[test]
#[should_panic(expected = "nobody wrote 4..8")]
fn touching_bytes_that_nobody_wrote_is_a_bug_too() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, b"");
    file.preallocate(8).unwrap();
    file.write_all_at(b"abcd", 0).unwrap();
    let file = Fs::sim(&sim.kill(), fs.root()).open_read(TABLE).unwrap();
    let region = file.map(8).unwrap();
    region.block(0, 4).unwrap();
    let _ = region.block(0, 5);
}

#[test]
fn the_tail_of_a_log_may_be_read_and_what_a_power_loss_left() {
    let (sim, fs) = machine();
    let (log, table) = (settled(&fs, LOG, b""), settled(&fs, TABLE, b""));
    log.preallocate(8).unwrap();
    table.preallocate(8).unwrap();
    log.read_exact_at(&mut [0; 8], 0).unwrap();
    let image = sim.images(&[Family::Everything]).next().unwrap();
    let table = Fs::sim(&image.sim, fs.root()).open_read(TABLE).unwrap();
    table.read_exact_at(&mut [0; 8], 0).unwrap();
}

#[test]
#[should_panic(expected = "1000 syncs in a row have found nothing to sync")]
fn syncing_nothing_in_a_loop_is_a_bug() {
    let (_sim, fs) = machine();
    let file = settled(&fs, LOG, b"");
    for _ in 0..=500 {
        file.sync_data().unwrap();
        fs.sync_dir().unwrap();
    }
}

//! What the simulator promises: what each sync covers, which disks each family of images shows,
//! how faults strike, and which misuse it does not let pass.

use super::*;
use crate::base::error::ErrorKind;
use crate::base::types::FileId;
use crate::fs::{File, Fs};
use std::collections::BTreeSet;
use std::time::Instant;

const TABLE: FileName = FileName::Table(FileId(7));
const LOG: FileName = FileName::Log(FileId(8));
const TEMP: FileName = FileName::Temp(FileId(9));
const ROOT: &str = "/db";

fn machine() -> (SimFs, Fs) {
    let sim = SimFs::new(1);
    let fs = Fs::sim(&sim, Path::new(ROOT));
    fs.make_root().unwrap();
    (sim, fs)
}

/// A file whose name is durable and whose bytes are, too.
fn settled(fs: &Fs, name: FileName, bytes: &[u8]) -> File {
    let file = fs.create_new(name).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    fs.sync_dir().unwrap();
    file
}

/// The disk as text: `8.log=abc 7.tbl=`; zeros are dots, repeated bytes `a*512`.
fn show(sim: &SimFs) -> String {
    let fs = Fs::sim(sim, Path::new(ROOT));
    let names = fs.list().unwrap().into_iter().map(|entry| entry.name);
    let file = |name: String| {
        let bytes = sim.bytes(fs.root(), &name).unwrap();
        let mut text = String::new();
        for run in bytes.chunk_by(|a, b| a == b) {
            let byte = if run[0] == 0 { '.' } else { char::from(run[0]) };
            match run.len() {
                n @ ..4 => text.extend(std::iter::repeat_n(byte, n)),
                n => text += &format!("{byte}*{n}"),
            }
        }
        format!("{}={text}", name.trim_start_matches('0'))
    };
    names.map(file).collect::<Vec<_>>().join(" ")
}

fn images(sim: &SimFs, family: Family) -> BTreeSet<String> {
    sim.images(&[family])
        .map(|image| show(&image.sim))
        .collect()
}

fn set<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.map(str::to_owned).into()
}

#[test]
fn syncing_a_file_keeps_its_bytes_and_size_but_not_its_name() {
    let (sim, fs) = machine();
    let file = fs.create_new(TABLE).unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(images(&sim, Family::Nothing), set([""]));
    assert_eq!(images(&sim, Family::Everything), set(["7.tbl=abc"]));
}

#[test]
fn syncing_the_directory_keeps_names_but_not_bytes() {
    let (sim, fs) = machine();
    let file = fs.create_new(TABLE).unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    fs.sync_dir().unwrap();
    assert_eq!(images(&sim, Family::Nothing), set(["7.tbl="]));
    file.sync_data().unwrap();
    for family in Family::ALL {
        assert!(images(&sim, family).is_subset(&set(["7.tbl=abc"])));
    }
}

#[test]
fn a_killed_process_loses_its_locks_and_not_a_byte() {
    let (sim, fs) = machine();
    let _lock = fs.lock().unwrap();
    assert_eq!(fs.lock().unwrap_err().kind(), ErrorKind::Locked);
    let file = fs.create_new(LOG).unwrap();
    file.preallocate(8).unwrap();
    let mut log = file.map_log(8).unwrap();
    log.store(0, &[b"ab", b"c"]);
    let next = sim.kill();
    assert_eq!(show(&next), "8.log=abc.*5 LOCK=");
    Fs::sim(&next, fs.root()).lock().unwrap();
    // Dead or not, the bytes were never synced: a power loss after the kill still takes them.
    assert_eq!(images(&next, Family::Nothing), set([""]));
    log.store(3, &[b"d"]);
    assert_eq!(show(&next), "8.log=abc.*5 LOCK=", "the machines are apart");
}

#[test]
fn mapped_stores_are_lost_by_power_loss_until_a_sync() {
    let (sim, fs) = machine();
    let file = settled(&fs, LOG, &[]);
    file.preallocate(8).unwrap();
    file.sync_data().unwrap();
    let mut log = file.map_log(8).unwrap();
    log.store(2, &[b"xy"]);
    assert_eq!(images(&sim, Family::Nothing), set(["8.log=.*8"]));
    file.sync_data().unwrap();
    assert_eq!(images(&sim, Family::Nothing), set(["8.log=..xy.*4"]));
    let mut back = [0; 8];
    file.read_exact_at(&mut back, 0).unwrap();
    assert_eq!(&back, b"\0\0xy\0\0\0\0");
}

#[test]
fn family_3_and_4_lose_and_keep_each_op_alone() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, b"....");
    file.write_all_at(b"a", 0).unwrap();
    file.write_all_at(b"b", 1).unwrap();
    fs.create_new(TEMP).unwrap();
    let lost = ["7.tbl=.b.. 9.tmp=", "7.tbl=a... 9.tmp=", "7.tbl=ab.."];
    assert_eq!(images(&sim, Family::OneLost), set(lost));
    let kept = ["7.tbl=a...", "7.tbl=.b..", "7.tbl=.*4 9.tmp="];
    assert_eq!(images(&sim, Family::OneKept), set(kept));
}

#[test]
fn family_5_keeps_a_prefix_of_each_file_and_directory_on_its_own() {
    let (sim, fs) = machine();
    let (one, two) = (settled(&fs, TABLE, b"--"), settled(&fs, LOG, b"--"));
    for (i, byte) in [b"a", b"b"].into_iter().enumerate() {
        one.write_all_at(byte, i as u64).unwrap();
        two.write_all_at(byte, i as u64).unwrap();
    }
    let seen = images(&sim, Family::Prefixes);
    let prefixes = ["--", "a-", "ab"];
    let legal: BTreeSet<String> = prefixes
        .iter()
        .flat_map(|x| prefixes.map(|y| format!("7.tbl={x} 8.log={y}")))
        .collect();
    assert!(seen.is_subset(&legal), "{seen:?}");
    assert!(seen.len() > 3, "independent of each other: {seen:?}");
}

#[test]
fn family_6_keeps_the_data_without_the_names_and_the_reverse() {
    let (sim, fs) = machine();
    settled(&fs, TEMP, b"old").write_all_at(b"new", 0).unwrap();
    fs.rename(TEMP, FileName::Current).unwrap();
    assert_eq!(
        images(&sim, Family::DataOrNames),
        set(["9.tmp=new", "CURRENT=old"])
    );
}

#[test]
fn family_7_extends_files_with_zeros_where_data_was() {
    let (sim, fs) = machine();
    let (one, two) = (settled(&fs, TABLE, b""), settled(&fs, LOG, b"--"));
    one.write_all_at(b"ab", 0).unwrap();
    two.write_all_at(b"cd", 1).unwrap();
    let expected = [
        "7.tbl=.. 8.log=-..",
        "7.tbl=.. 8.log=-cd",
        "7.tbl=ab 8.log=--.",
    ];
    let seen = images(&sim, Family::SizeOnly);
    assert!(seen.contains(expected[1]) && seen.len() == 3, "{seen:?}");
    // The byte that was durable before and lies in the lost write's range keeps its old value.
    let expected = ["7.tbl=.. 8.log=--.", expected[1], expected[2]];
    assert_eq!(seen, set(expected));
}

#[test]
fn family_8_tears_the_last_write_at_each_sector() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, &[b'-'; 1600]);
    file.write_all_at(&[b'x'; 1100], 500).unwrap(); // sectors end at 512, 1024, 1536
    let expected = [
        "7.tbl=-*500x*12-*1088",
        "7.tbl=-*512x*1088",
        "7.tbl=-*500x*524-*576",
        "7.tbl=-*1024x*576",
        "7.tbl=-*500x*1036-*64",
        "7.tbl=-*1536x*64",
    ];
    assert_eq!(images(&sim, Family::Torn), set(expected));
}

#[test]
fn family_8_tears_small_writes_at_bytes_too() {
    let (sim, fs) = machine();
    settled(&fs, LOG, b"------")
        .write_all_at(b"12345", 0)
        .unwrap();
    let torn = ["1-----", "12----", "1234--"]
        .map(|t| format!("8.log={}", t.replace("-----", "-*5").replace("----", "-*4")));
    assert_eq!(images(&sim, Family::Torn), torn.into());
}

#[test]
fn family_12_persists_removals_early_and_undoes_them() {
    let (sim, fs) = machine();
    settled(&fs, LOG, b"a");
    settled(&fs, TABLE, b"b");
    fs.remove(LOG).unwrap();
    fs.create_new(TEMP).unwrap();
    fs.remove(TABLE).unwrap();
    assert_eq!(show(&sim), "9.tmp=");
    let expected = ["", "7.tbl=b 8.log=a 9.tmp=", "7.tbl=b", "8.log=a"];
    assert_eq!(images(&sim, Family::Removals), set(expected));
}

#[test]
fn family_13_keeps_each_sector_by_its_own_coin() {
    let (sim, fs) = machine();
    settled(&fs, TABLE, &[b'-'; 1024])
        .write_all_at(&[b'x'; 1024], 0)
        .unwrap();
    let legal = ["-*1024", "x*1024", "-*512x*512", "x*512-*512"].map(|t| format!("7.tbl={t}"));
    assert_eq!(images(&sim, Family::Random), legal.into());
}

#[test]
fn a_rename_is_one_change_and_replaces_whole_files() {
    let (sim, fs) = machine();
    settled(&fs, FileName::Current, b"old");
    settled(&fs, TEMP, b"new");
    fs.rename(TEMP, FileName::Current).unwrap();
    let legal = set(["9.tmp=new CURRENT=old", "CURRENT=new"]);
    for family in Family::ALL {
        let seen = images(&sim, family);
        assert!(seen.is_subset(&legal), "{family:?}: {seen:?}");
    }
    fs.sync_dir().unwrap();
    assert_eq!(images(&sim, Family::Nothing), set(["CURRENT=new"]));
}

#[test]
fn bytes_outside_written_ranges_never_change() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, &[b'-'; 2000]);
    file.write_all_at(&[b'x'; 700], 300).unwrap();
    file.write_all_at(&[b'y'; 10], 1200).unwrap();
    for image in sim.images(&Family::ALL) {
        let bytes = image.sim.bytes(fs.root(), "000007.tbl").unwrap();
        let outside = [&bytes[..300], &bytes[1000..1200], &bytes[1210..]].concat();
        assert!(outside.iter().all(|b| *b == b'-'), "{}", image.id);
    }
}

#[test]
fn an_image_comes_back_by_its_id_on_a_second_run() {
    let run = || {
        let (sim, fs) = machine();
        let file = settled(&fs, TABLE, &[b'-'; 2000]);
        file.write_all_at(&[b'x'; 1500], 100).unwrap();
        fs.create_new(TEMP).unwrap();
        (sim, fs.random())
    };
    let ((sim, chance), (again, same_chance)) = (run(), run());
    assert_eq!(chance, same_chance);
    assert_eq!(sim.script(), again.script());
    let mut disks = BTreeSet::new();
    for image in sim.images(&Family::ALL) {
        assert_eq!(
            show(&image.sim),
            show(&again.image(image.id).unwrap()),
            "{}",
            image.id
        );
        assert!(
            disks.insert(show(&image.sim)),
            "{} is a repetition",
            image.id
        );
    }
    assert!(disks.len() > 10, "{disks:?}");
    let other = ImageId {
        call: 0,
        family: Family::Nothing,
        n: 0,
    };
    assert!(sim.image(other).is_none(), "of another moment");
}

#[test]
fn from_the_crash_point_on_nothing_changes_and_every_call_fails() {
    let (sim, fs) = machine();
    let file = settled(&fs, LOG, b"");
    file.preallocate(8).unwrap();
    let mut log = file.map_log(8).unwrap();
    sim.crash_at(sim.call_count() + 1);
    log.store(0, &[b"a"]);
    assert!(!sim.is_crashed());
    log.store(1, &[b"b"]);
    assert!(sim.is_crashed());
    let error = file.sync_data().unwrap_err();
    assert_eq!(error.what(), "fdatasync failed: crashed");
    assert!(fs.list().is_err() && fs.create_new(TABLE).is_err() && fs.lock().is_err());
    assert_eq!(
        sim.bytes(fs.root(), "000008.log").unwrap(),
        b"a\0\0\0\0\0\0\0"
    );
    assert_eq!(images(&sim, Family::Nothing), set(["8.log="]));
}

#[test]
fn the_script_names_each_mutating_call_and_its_index() {
    let (sim, fs) = machine();
    let file = fs.create_new(LOG).unwrap();
    file.write_all_at(b"abc", 5).unwrap();
    file.read_region(3).unwrap();
    file.truncate(4).unwrap();
    file.sync_data().unwrap();
    let script = "0 MakeRoot /db\n1 Create /db/000008.log\n2 Write /db/000008.log 5+3\n\
                  3 Resize /db/000008.log to 4\n4 Sync /db/000008.log\n";
    assert_eq!(sim.script(), script);
    assert_eq!(sim.call_count(), 5);
}

#[test]
fn a_rule_strikes_the_nth_matching_call_once_or_until_healed() {
    let (sim, fs) = machine();
    let file = fs.create_new(LOG).unwrap();
    let write = || file.write_all_at(b"x", 0).map_err(|e| e.kind());
    let full = FaultRule::new(Fault::Enospc)
        .kinds(&[CallKind::Write])
        .class(FileClass::Log);
    sim.fail(full.clone().nth(1));
    assert_eq!(
        [write(), write(), write()],
        [Ok(()), Err(ErrorKind::NoSpace), Ok(())]
    );
    sim.fail(full.sticky());
    let table = fs.create_new(TABLE).unwrap();
    table.write_all_at(b"another class", 0).unwrap();
    assert_eq!([write(), write()], [Err(ErrorKind::NoSpace); 2]);
    assert_eq!(sim.faults_hit(), 3);
    sim.heal();
    assert_eq!(write(), Ok(()));
    sim.fail(FaultRule::new(Fault::Emfile).nth(0));
    let error = fs.open_read(LOG).unwrap_err();
    assert!(error.to_string().contains("ulimit"), "{error}");
}

#[test]
fn short_counts_and_interruptions_are_looped_over() {
    let (sim, fs) = machine();
    let file = fs.create_new(LOG).unwrap();
    for fault in [Fault::Short, Fault::Eintr] {
        sim.fail(FaultRule::new(fault).nth(0));
        sim.fail(FaultRule::new(fault).nth(2));
        file.write_all_at(b"sediment", 0).unwrap();
        let mut back = [0; 8];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back, b"sediment");
        sim.heal();
    }
    assert_eq!(sim.faults_hit(), 4);
}

#[test]
fn a_failed_sync_leaves_data_dirty_or_clean_and_new_or_clean_and_old() {
    for (fault, now, after_good_sync) in [
        (Fault::Eio, "7.tbl=new", "7.tbl=new"),
        (Fault::SyncCleanNew, "7.tbl=new", "7.tbl=old"),
        (Fault::SyncCleanOld, "7.tbl=old", "7.tbl=old"),
    ] {
        let (sim, fs) = machine();
        let file = settled(&fs, TABLE, b"old");
        file.write_all_at(b"new", 0).unwrap();
        sim.fail(FaultRule::new(fault).kinds(&[CallKind::Sync]));
        assert_eq!(file.sync_data().unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(show(&sim), now, "{fault:?}");
        file.sync_data().unwrap();
        assert_eq!(
            images(&sim, Family::Nothing),
            set([after_good_sync]),
            "{fault:?}"
        );
    }
}

#[test]
fn a_mapped_block_can_fail_as_a_bad_sector_would() {
    let (sim, fs) = machine();
    let region = settled(&fs, TABLE, b"abcdef").map(6).unwrap();
    sim.fail(FaultRule::new(Fault::Eio).kinds(&[CallKind::Touch]).nth(1));
    assert_eq!(region.block(1, 2).unwrap(), b"bc");
    let error = region.block(3, 2).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Io, Some(3)));
    assert_eq!(region.block(3, 2).unwrap(), b"de");
}

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

#[test]
fn a_file_lives_on_without_a_name_while_it_is_open() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, b"abc");
    fs.remove(TABLE).unwrap();
    fs.sync_dir().unwrap();
    let region = file.map(3).unwrap();
    drop(file);
    assert_eq!(region.block(0, 3).unwrap(), b"abc");
    fs.sync_dir().unwrap();
    assert!(sim.world().medium.files.is_empty(), "and is forgotten then");
}

#[test]
fn planted_bytes_are_durable_and_any_name_can_be_planted() {
    let (sim, fs) = machine();
    sim.plant(fs.root(), "notes.txt", b"mine");
    assert_eq!(images(&sim, Family::Nothing), set(["notes.txt=mine"]));
}

/// One run gives for each call what a run that is cut off there gives.
#[test]
fn a_watcher_gets_the_disk_before_each_call() {
    let script = |fs: &Fs| -> crate::base::error::Result<()> {
        fs.make_root()?;
        let file = fs.create_new(TABLE)?;
        file.write_all_at(&[b'x'; 700], 0)?;
        file.sync_data()?;
        fs.sync_dir()?;
        fs.rename(TABLE, TEMP)
    };
    let sim = SimFs::new(1);
    let (tell, told) = std::sync::mpsc::channel();
    sim.on_call(move |call, copy| tell.send((call, copy)).unwrap());
    script(&Fs::sim(&sim, Path::new(ROOT))).unwrap();
    let told: Vec<_> = told.try_iter().collect();
    assert_eq!(told.len() as u64, sim.call_count());
    for (n, (call, copy)) in told.into_iter().enumerate() {
        assert_eq!((call, copy.call_count()), (n as u64, n as u64));
        let cut = SimFs::new(1);
        cut.crash_at(call);
        script(&Fs::sim(&cut, Path::new(ROOT))).unwrap_err();
        for family in Family::ALL {
            let ids = |sim: &SimFs| sim.images(&[family]).map(|i| i.id).collect::<Vec<_>>();
            assert_eq!(ids(&copy), ids(&cut));
            let count = copy.image_count(family);
            for n in 0..count {
                let id = ImageId { call, family, n };
                let [a, b] = [&copy, &cut].map(|sim| sim.image(id).unwrap());
                assert_eq!(
                    a.bytes(Path::new(ROOT), "000009.tmp"),
                    b.bytes(Path::new(ROOT), "000009.tmp")
                );
            }
            let beyond = ImageId {
                call,
                family,
                n: count,
            };
            assert!(copy.image(beyond).is_none(), "{beyond}");
        }
    }
}

#[test]
fn a_script_of_four_hundred_calls_costs_little() {
    let started = Instant::now();
    let (sim, fs) = machine();
    for i in 0..50 {
        let name = FileName::Table(FileId(i));
        let file = fs.create_new(name).unwrap();
        file.write_all_at(&[1; 256], 0).unwrap();
        file.write_all_at(&[2; 256], 256).unwrap();
        file.sync_data().unwrap();
        fs.sync_dir().unwrap();
        fs.open_read(name)
            .unwrap()
            .map(512)
            .unwrap()
            .block(0, 512)
            .unwrap();
        fs.remove(name).unwrap();
    }
    let micros = started.elapsed().as_micros();
    assert_eq!(sim.call_count(), 301);
    println!("400 calls: {micros} us");
    // The goal is 1 ms; the bound only catches a change of complexity on a busy machine.
    assert!(micros < 50_000, "{micros} us");
}

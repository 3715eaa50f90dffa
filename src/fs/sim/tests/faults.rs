//! How faults strike, for how long, and who is told to have been struck.

use super::*;

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
fn a_machine_without_preallocation_says_so_and_so_do_its_images() {
    let (sim, fs) = machine();
    sim.without_preallocation();
    for fs in [fs, Fs::sim(&sim.kill(), Path::new("/db"))] {
        assert!(!fs.guarantees_preallocation());
        let file = fs.create_new(LOG).unwrap();
        let error = file.preallocate(4096).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(file.len().unwrap(), 0);
    }
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
fn a_late_sync_lies_once_and_the_next_one_tells() {
    let (sim, fs) = machine();
    let file = settled(&fs, TABLE, b"old");
    file.write_all_at(b"new", 0).unwrap();
    sim.fail(FaultRule::new(Fault::SyncLate));
    file.sync_data().unwrap();
    assert_eq!(show(&sim), "7.tbl=new");
    assert_eq!(images(&sim, Family::Everything), set(["7.tbl=old"]));
    file.write_all_at(b"!", 2).unwrap();
    assert_eq!(file.sync_data().unwrap_err().kind(), ErrorKind::Io);
    file.sync_data().unwrap();
    // What was written behind the lie did reach the disk; what the lie was about never does.
    assert_eq!(images(&sim, Family::Nothing), set(["7.tbl=ol!"]));
}

#[test]
fn quota_access_and_empty_writes_come_back_as_errors_of_their_kind() {
    let (sim, fs) = machine();
    let file = fs.create_new(LOG).unwrap();
    let write = || file.write_all_at(b"x", 0).unwrap_err();
    sim.fail(FaultRule::new(Fault::Edquot));
    assert_eq!(write().kind(), ErrorKind::NoSpace);
    sim.fail(FaultRule::new(Fault::WriteZero));
    assert_eq!(write().kind(), ErrorKind::Io);
    assert_eq!(file.len().unwrap(), 0);
    sim.fail(FaultRule::new(Fault::Eacces));
    assert_eq!(fs.list().unwrap_err().kind(), ErrorKind::Io);
    let link = || fs.link(LOG, &fs, TABLE).unwrap();
    sim.fail(FaultRule::new(Fault::Eacces));
    assert_eq!([link(), link()], [false, true], "then the caller copies");
}

#[test]
fn a_full_disk_takes_what_fits_and_no_more_until_something_is_removed() {
    let (sim, fs) = machine();
    let (old, new) = (settled(&fs, TABLE, &[1; 5000]), fs.create_new(LOG).unwrap());
    sim.set_free(Some(4096));
    assert_eq!(fs.free_space().unwrap(), 4096);
    // The second block does not fit: the first is written, and the call that goes on fails.
    let error = new.write_all_at(&[2; 5000], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert_eq!((new.len().unwrap(), fs.free_space().unwrap()), (4096, 0));
    old.write_all_at(&[3; 3000], 5000).unwrap(); // within its second block
    assert!(old.preallocate(8193).is_err() && sim.faults_hit() == 2);
    fs.rename(TABLE, TEMP).unwrap();
    fs.remove(TEMP).unwrap();
    assert_eq!(fs.free_space().unwrap(), 0, "while it is open");
    drop(old);
    assert_eq!(fs.free_space().unwrap(), 8192);
    new.write_all_at(&[2; 8192], 0).unwrap();
    sim.set_free(None);
    assert_eq!(fs.free_space().unwrap(), (1 << 40) - 8192);
}

#[test]
fn a_rule_may_fill_the_disk_until_something_is_removed() {
    let (sim, fs) = machine();
    settled(&fs, TABLE, &[1; 4096]);
    let file = fs.create_new(LOG).unwrap();
    let write = || file.write_all_at(&[2; 4096], 0).map_err(|e| e.kind());
    let full = FaultRule::new(Fault::Edquot).kinds(&[CallKind::Sync]);
    sim.fail(full.until_freed());
    assert_eq!(file.sync_data().unwrap_err().kind(), ErrorKind::NoSpace);
    file.sync_data().unwrap(); // needs nothing
    assert_eq!([write(), write()], [Err(ErrorKind::NoSpace); 2]);
    assert!(sim.script().contains("(Edquot)"));
    fs.remove(TABLE).unwrap();
    assert_eq!(write(), Ok(()));
    assert_eq!(sim.faults_hit(), 3);
}

#[test]
fn each_line_that_calls_is_a_site_and_tells_what_never_struck_there() {
    let (sim, fs) = machine();
    let make = |name| fs.create_new(name).map(drop);
    let line = line!() - 1;
    make(TABLE).unwrap();
    make(LOG).unwrap();
    let site = CallSite {
        file: file!(),
        line,
        column: 26,
        kind: CallKind::Create,
        class: FileClass::Table,
    };
    let coverage = sim.coverage();
    let sites: Vec<_> = coverage.sites().filter(|(s, _)| s.line == line).collect();
    let log = CallSite {
        class: FileClass::Log,
        ..site
    };
    assert_eq!(sites, [(log, 1), (site, 1)], "one line, two classes");

    sim.fail(FaultRule::new(Fault::Emfile).at(&site).sticky());
    fs.remove(TABLE).unwrap();
    fs.remove(LOG).unwrap();
    make(LOG).unwrap();
    assert!(make(TABLE).is_err());
    assert!(fs.create_new(TABLE).is_ok(), "another line");
    let coverage = sim.coverage();
    assert_eq!(coverage.hits(&site), [Fault::Emfile].into());
    let missing = coverage.missing();
    assert!(missing.contains(&(log, Fault::Emfile)));
    assert!(missing.contains(&(site, Fault::Eio)));
    assert!(!missing.contains(&(site, Fault::Emfile)));
    assert!(!missing.contains(&(site, Fault::Short)), "does not fit");
}

#[test]
fn reads_stores_and_touches_are_sites_too() {
    let (sim, fs) = machine();
    let file = settled(&fs, LOG, &[0; 64]);
    file.map_log(64).unwrap().store(3, b"x");
    file.read_region(64).unwrap();
    file.map(64).unwrap().block(3, 1).unwrap();
    let of = |kind| {
        sim.coverage()
            .sites()
            .filter(|(s, _)| s.kind == kind)
            .count()
    };
    let kinds = [
        CallKind::Store,
        CallKind::Read,
        CallKind::Touch,
        CallKind::Stat,
    ];
    // Three calls that first ask for the size.
    assert_eq!(kinds.map(of), [1, 1, 1, 3]);
    assert!(
        sim.coverage()
            .sites()
            .all(|(site, _)| site.file.contains("tests/"))
    );
}

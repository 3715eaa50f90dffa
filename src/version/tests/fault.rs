//! Calls that fail: the manifest is written anew, memory changes only with the disk, and nothing
//! that a readable manifest may name is removed (bugs 43, 44, 45; R6, P13).

use super::world::{
    MAIN, STEPS, check_opened, create, creation, describe, describe_state, fs_on, recover, step,
};
use crate::base::error::ErrorKind;
use crate::fs::sim::{CallKind, Family, Fault, FaultRule, FileClass, SimFs};

const SEED: u64 = 12;
const FAULTS: [Fault; 5] = [
    Fault::Eio,
    Fault::Enospc,
    Fault::Emfile,
    Fault::SyncCleanNew,
    Fault::SyncCleanOld,
];
const IMAGES: [Family; 5] = [
    Family::Nothing,
    Family::Everything,
    Family::OneLost,
    Family::OneKept,
    Family::Removals,
];

/// Runs all steps, going on after failures, and checks at the end what a power loss may leave.
/// Returns how often the schedule struck.
fn run(sim: &SimFs, place: &str) -> u64 {
    let Ok(set) = create(sim) else {
        // A failed creation is made again.
        sim.heal();
        let hits = sim.faults_hit();
        match recover(sim).unwrap_or_else(|e| panic!("{place}: {e}")) {
            Some(set) => check_opened(&fs_on(sim), &set),
            None => check_opened(&fs_on(sim), &create(sim).unwrap()),
        }
        return hits;
    };
    set.roll_over_from(700);
    let fs = fs_on(sim);
    // What a power loss may show instead of memory: edits of which nobody knows the end.
    let mut doubtful: Vec<String> = Vec::new();
    for n in 0..STEPS {
        let before = describe(&set);
        let mut planned = None;
        let done = step(&fs, &set, n, &mut |edit| {
            planned = set
                .after(edit)
                .ok()
                .map(|(state, _)| describe_state(&state));
        });
        match done {
            Ok(()) => {}
            Err(error) => {
                assert_ne!(
                    error.kind(),
                    ErrorKind::InvalidArgument,
                    "{place}, step {n}: {error}"
                );
                assert_eq!(describe(&set), before, "{place}: nothing changes in memory");
                doubtful.extend(planned);
            }
        }
        if !set.poisoned() {
            doubtful.clear();
        }
    }
    let now = describe(&set);
    for image in sim.images(&IMAGES) {
        let place = format!("{place}, image {}", image.id);
        let read = recover(&image.sim)
            .unwrap_or_else(|e| panic!("{place}: {e}"))
            .unwrap();
        let text = describe(&read);
        let known = text == now || doubtful.contains(&text);
        assert!(
            known,
            "{place}: read\n{text}expected\n{now}or one of {doubtful:#?}"
        );
        check_opened(&fs_on(&image.sim), &read);
    }
    sim.heal();
    set.heal().unwrap_or_else(|e| panic!("{place}: {e}"));
    assert!(!set.poisoned());
    for image in sim.images(&[Family::Nothing]) {
        let read = recover(&image.sim).unwrap().unwrap();
        assert_eq!(describe(&read), now, "{place}: healed");
    }
    sim.faults_hit()
}

#[test]
fn any_call_may_fail_once_and_nothing_installed_is_lost() {
    for fault in FAULTS {
        for nth in 0.. {
            let sim = SimFs::new(SEED);
            sim.fail(FaultRule::new(fault).nth(nth));
            if run(&sim, &format!("{fault:?} at {nth}")) == 0 {
                assert!(5 < nth, "{fault:?} has calls to fail");
                break;
            }
        }
    }
}

#[test]
fn calls_may_fail_from_one_on_and_nothing_installed_is_lost() {
    for fault in FAULTS {
        for nth in 0.. {
            let sim = SimFs::new(SEED);
            sim.fail(FaultRule::new(fault).nth(nth).sticky());
            if run(&sim, &format!("{fault:?} from {nth} on")) == 0 {
                break;
            }
        }
    }
}

/// Bug 43: the next edit must not stand behind a broken record.
#[test]
fn a_failed_append_goes_to_a_new_manifest_and_the_old_one_is_left_alone() {
    let sim = SimFs::new(SEED);
    let set = create(&sim).unwrap();
    let old = set.manifest();
    sim.fail(
        FaultRule::new(Fault::Enospc)
            .class(FileClass::Manifest)
            .kinds(&[CallKind::Write]),
    );
    set.install(creation(MAIN, "default")).unwrap();
    assert!(old < set.manifest() && !set.poisoned());
    let text = describe(&set);
    for image in sim.images(&Family::ALL) {
        assert_eq!(describe(&recover(&image.sim).unwrap().unwrap()), text);
    }
}

/// Bug 44: the sync fails, the record may be on the disk, and so its tables are kept.
#[test]
fn tables_of_a_failed_edit_are_live_until_a_new_manifest_settles_it() {
    let sim = SimFs::new(SEED);
    let set = create(&sim).unwrap();
    let fs = fs_on(&sim);
    step(&fs, &set, 0, &mut |_| {}).unwrap();
    sim.fail(
        FaultRule::new(Fault::Eio)
            .kinds(&[CallKind::Sync])
            .class(FileClass::Manifest)
            .sticky(),
    );
    let mut named = None;
    let failed = step(&fs, &set, 1, &mut |edit| {
        named = Some(edit.keyspaces[0].added[0].meta.file)
    });
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Io);
    let named = named.unwrap();
    assert!(
        set.poisoned() && set.is_live_table(named),
        "the old manifest may name it"
    );
    assert_eq!(set.take_dead(), []);
    sim.heal();
    set.heal().unwrap();
    assert!(
        !set.is_live_table(named),
        "the new manifest does not name it"
    );
    assert_eq!(set.take_dead(), [named], "and it comes back to be removed");
}

/// Bug 45: nobody knows which manifest counts; both stay until that is settled.
#[test]
fn after_a_switch_of_unknown_end_both_manifests_are_kept() {
    let sim = SimFs::new(SEED);
    let set = create(&sim).unwrap();
    let old = set.manifest();
    sim.fail(
        FaultRule::new(Fault::Eio)
            .class(FileClass::Manifest)
            .kinds(&[CallKind::Write]),
    );
    // The directory is synced before the rename and behind it: the second one fails.
    sim.fail(
        FaultRule::new(Fault::Eio)
            .kinds(&[CallKind::SyncDir])
            .nth(1),
    );
    set.install(creation(MAIN, "default")).unwrap_err();
    assert!(set.poisoned());
    let names: Vec<_> = fs_on(&sim)
        .list()
        .unwrap()
        .into_iter()
        .map(|e| e.name)
        .collect();
    let manifests = names.iter().filter(|n| n.ends_with(".manifest")).count();
    assert_eq!(manifests, 2, "{names:?}");
    assert!(names.contains(&format!("{old}.manifest")));
    for image in sim.images(&Family::ALL) {
        recover(&image.sim).unwrap().unwrap();
    }
    set.install(creation(MAIN, "default")).unwrap();
    assert!(!set.poisoned());
    check_opened(&fs_on(&sim), &set);
}

/// A manifest whose checksums are right, and whose records make no sense, is damage at its place.
#[test]
fn records_out_of_place_and_edits_that_contradict_are_damage() {
    use crate::base::checksum::crc;
    use crate::base::error::Error;
    use crate::base::options::LogMode;
    use crate::base::types::{FileId, SeqNo};
    use crate::fs::{FileName, Fs};
    use crate::version::VersionEdit;
    use crate::version::edit::{Ceilings, Identity, Record};
    use crate::version::manifest::{Current, read};
    use crate::wal::{Writer, WriterOptions};
    use std::path::Path;

    let database = 7;
    let record = |identity: Option<u64>| Record {
        identity: identity.map(|database| Identity {
            database,
            hash_seed: 1,
        }),
        ceilings: Ceilings::default(),
        edit: VersionEdit::default(),
    };
    let (own, foreign, edit) = (record(Some(database)), record(Some(8)), record(None));
    let cases = [
        (vec![&own, &edit], true, None),
        (vec![&own, &own], true, Some(1)),
        (vec![&edit], true, Some(0)),
        (vec![&foreign], true, Some(0)),
        (vec![&own, &edit], false, Some(0)),
    ];
    for (records, is_taken, wrong) in cases {
        let fs = Fs::sim(&SimFs::new(1), Path::new("/db"));
        fs.make_root().unwrap();
        let id = FileId(1);
        let options = WriterOptions {
            database,
            segment: id,
            mode: LogMode::Write,
            capacity: u64::from(u32::MAX),
            recycled: false,
        };
        let file = fs.create_new(FileName::Manifest(id)).unwrap();
        let mut writer = Writer::create(file, options, None).unwrap();
        let mut offsets = Vec::new();
        for (n, record) in (1..).zip(&records) {
            offsets.push(writer.end());
            let payload = record.encode();
            let n = SeqNo::new(n);
            writer.append(n, n, &payload, crc(&payload)).unwrap();
        }
        let current = Current {
            manifest: id,
            database,
        };
        let outcome = read(&fs, current, |_| match is_taken {
            true => Ok(()),
            false => Err(Error::invalid("an edit that contradicts another")),
        });
        match wrong {
            None => assert!(outcome.is_ok()),
            Some(n) => {
                let error = outcome.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                assert_eq!(error.offset(), Some(offsets[n]), "{error}");
            }
        }
    }
}

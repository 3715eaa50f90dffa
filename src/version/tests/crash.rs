//! Power loss at every call of creation, edits, rollover and recovery: what is read again is a
//! prefix of the installed edits with every one whose install returned (P1, P2, P4, P5).

use super::world::{ROOT, STEPS, check_opened, create, creation, describe, fs_on, recover, step};
use crate::base::types::KeyspaceId;
use crate::fs::sim::{Family, SimFs};
use crate::version::VersionSet;
use std::path::Path;

const SEED: u64 = 11;

/// Runs the script until the crash point. What was promised: the description after each step that
/// returned, and the highest file number given.
struct Run {
    created: bool,
    descriptions: Vec<String>,
    highest_file: u64,
}

fn run(sim: &SimFs) -> Run {
    let mut run = Run {
        created: false,
        descriptions: Vec::new(),
        highest_file: 0,
    };
    let Ok(set) = create(sim) else { return run };
    run.created = true;
    // Each edit has about 100 bytes: the manifest is replaced every few steps.
    set.roll_over_from(700);
    run.descriptions.push(describe(&set));
    for n in 0..STEPS {
        if step(&fs_on(sim), &set, n, &mut |_| {}).is_err() {
            break;
        }
        run.descriptions.push(describe(&set));
        if let Ok(file) = set.allocate_file() {
            run.highest_file = file.0;
        }
    }
    run
}

/// Checks a machine that just got its power back; returns what was read.
fn check(sim: &SimFs, before: &Run, whole: &[String], place: &str) -> Option<String> {
    let set = match recover(sim) {
        Ok(Some(set)) => set,
        Ok(None) => {
            assert!(!before.created, "{place}: the database is gone");
            // Made again as if nothing had been.
            let set = create(sim).unwrap_or_else(|e| panic!("{place}: {e}"));
            check_opened(&fs_on(sim), &set);
            return None;
        }
        Err(error) => panic!("{place}: {error}"),
    };
    let text = describe(&set);
    let from = before.descriptions.len().saturating_sub(1);
    // The step under way may have made it; nothing else may.
    let allowed = &whole[from..whole.len().min(from + 2)];
    assert!(
        allowed.contains(&text),
        "{place}: read\n{text}expected one of {allowed:#?}"
    );
    check_opened(&fs_on(sim), &set);
    let file = set.allocate_file().unwrap();
    assert!(
        before.highest_file < file.0,
        "{place}: a number is given twice"
    );
    Some(text)
}

#[test]
fn after_a_power_loss_at_any_call_a_prefix_with_all_installed_edits_is_read() {
    let sim = SimFs::new(SEED);
    let whole = run(&sim);
    assert_eq!(
        whole.descriptions.len(),
        STEPS + 1,
        "without a crash everything works"
    );
    let calls = sim.call_count();
    let mut images = 0;
    for call in 0..=calls {
        let sim = SimFs::new(SEED);
        sim.crash_at(call);
        let before = run(&sim);
        for image in sim.images(&Family::ALL) {
            images += 1;
            let place = format!("crash at call {call}, image {}", image.id);
            check(&image.sim, &before, &whole.descriptions, &place);
        }
    }
    println!("{calls} calls, {images} images");
    assert!(calls * 3 < images, "{calls} calls, {images} images");
}

/// Crash in recovery, at each of its calls, and once more in the recovery after that.
#[test]
fn a_power_loss_inside_recovery_changes_nothing_that_is_read() {
    let families = [
        Family::Nothing,
        Family::Everything,
        Family::OneLost,
        Family::Removals,
    ];
    let whole = run(&SimFs::new(SEED));
    let calls = {
        let sim = SimFs::new(SEED);
        run(&sim);
        sim.call_count()
    };
    let mut recoveries = 0;
    for call in (0..=calls).step_by(5) {
        let sim = SimFs::new(SEED);
        sim.crash_at(call);
        let before = run(&sim);
        for first in sim.images(&[Family::Everything, Family::Random]).take(4) {
            let expected = check(&first.sim.kill(), &before, &whole.descriptions, "first");
            for inner in 0..100 {
                let again = first.sim.kill();
                again.crash_at(inner);
                if recover(&again).is_ok() && !again.is_crashed() {
                    break;
                }
                for second in again.images(&families) {
                    recoveries += 1;
                    let place =
                        format!("call {call} {}, then call {inner} {}", first.id, second.id);
                    let text = check(&second.sim, &before, &whole.descriptions, &place);
                    assert_eq!(text, expected, "{place}");
                }
            }
        }
    }
    println!("{recoveries} recoveries");
    assert!(100 < recoveries, "{recoveries}");
}

/// Bug 46: an edit nobody knows of comes back; its numbers must not be anybody else's.
#[test]
fn numbers_lie_above_every_ceiling_and_every_file_in_the_directory() {
    let sim = SimFs::new(SEED);
    let set = create(&sim).unwrap();
    set.install(creation(KeyspaceId(0), "default")).unwrap();
    let order = set.allocate_order();
    let last = set.allocate_file().unwrap();
    drop(set);
    sim.plant(
        Path::new(ROOT),
        "007000.tbl",
        b"left by a job that never ended",
    );
    let set = recover(&sim).unwrap().unwrap();
    assert!(7000 < set.manifest().0 && last < set.manifest());
    assert!(set.manifest() < set.allocate_file().unwrap());
    assert_eq!(
        set.allocate_order(),
        order,
        "an order that no edit used is free"
    );
    assert!(
        sim.bytes(Path::new(ROOT), "007000.tbl").is_some(),
        "tables are not ours to remove"
    );
}

#[test]
fn ceilings_are_durable_before_a_number_beyond_them_is_given() {
    let sim = SimFs::new(SEED);
    let set = create(&sim).unwrap();
    let mut last = 0;
    for _ in 0..3000 {
        let file = set.allocate_file().unwrap().0;
        assert_eq!(file, if last == 0 { file } else { last + 1 });
        last = file;
    }
    set.raise_seqno_ceiling(crate::base::types::SeqNo::new(77))
        .unwrap();
    let ceiling = set.seqno_ceiling();
    for image in sim.images(&[Family::Nothing]) {
        let set: VersionSet = recover(&image.sim).unwrap().unwrap();
        assert!(last < set.manifest().0);
        assert_eq!(set.seqno_ceiling(), ceiling);
    }
}

//! The power goes again while a recovery runs, at each of its calls, up to three deep (A4).
//!
//! Whatever disk that leaves opens to the same contents: a recovery can be cut off at any point,
//! any number of times (P4).

use super::case::{self, Case, Guard, Pick};
use super::check::{self, Expected};
use super::history::{Found, History};
use super::run::{Moment, ROOT, Setting};
use super::scripts::SCRIPTS;
use super::{Looked, Picks, enumerate, play};
use crate::scale::{Part, Scale, Tally};
use alluvium::fs::Fs;
use alluvium::fs::sim::{Family, SimFs};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The machine before each call of opening this disk.
fn calls_of_opening(disk: &SimFs, setting: &Setting) -> Vec<SimFs> {
    let machine = disk.kill();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&calls);
    machine.on_call(move |_, copy| collected.lock().unwrap().push(copy));
    let db = setting.open(&machine).expect("it opened before");
    // The end of the process adds nothing.
    machine.crash_at(machine.call_count());
    drop(db);
    std::mem::take(&mut calls.lock().unwrap())
}

/// What is the same for all crashes inside one recovery.
struct Inside<'a> {
    setting: &'a Setting,
    history: &'a History,
    moment: &'a Moment,
    /// What every recovery finds; unless the first was after a kill, which leaves a page cache
    /// that a later power loss takes away.
    found: Option<&'a Found>,
    tried: u64,
}

impl<'a> Inside<'a> {
    fn of(looked: &Looked<'a>) -> Inside<'a> {
        Inside {
            setting: looked.setting,
            history: looked.history,
            moment: looked.moment,
            found: (looked.case.pick != Pick::Kill).then_some(looked.found),
            tried: 0,
        }
    }

    fn look(&mut self, case: &Case, disk: &SimFs) {
        let _guard = Guard(case);
        let expected = Expected {
            setting: self.setting,
            history: self.history,
            marks: &self.moment.marks,
            least: self.moment.marks.synced,
            exactly: self.found,
        };
        check::look(&disk.kill(), expected, false);
        self.tried += 1;
    }

    /// At each call two disks; every tenth is opened and cut off in its turn. Gives how many.
    fn go(mut self, case: &Case, disk: &SimFs, deeper: usize) -> u64 {
        for (call, machine) in (0..).zip(calls_of_opening(disk, self.setting)) {
            for pick in two_of(&machine, call) {
                let case = case.then(call, pick);
                let disk = pick.of(&machine).expect("the moment has this image");
                self.look(&case, &disk);
                if 0 < deeper && self.tried.is_multiple_of(10) {
                    self.once(&case, &disk, deeper - 1);
                }
            }
        }
        self.tried
    }

    /// Deeper, one call and one disk for each level.
    fn once(&mut self, case: &Case, disk: &SimFs, deeper: usize) {
        let calls = calls_of_opening(disk, self.setting);
        let call = self.tried as usize * 7 % calls.len();
        let pick = two_of(&calls[call], self.tried)[1];
        let case = case.then(call as u64, pick);
        let disk = pick.of(&calls[call]).expect("the moment has this image");
        self.look(&case, &disk);
        if 0 < deeper {
            self.once(&case, &disk, deeper - 1);
        }
    }
}

/// Nothing or everything that was pending, and one of another family.
fn two_of(machine: &SimFs, turn: u64) -> [Pick; 2] {
    let edge = [Family::Nothing, Family::Everything][turn as usize % 2];
    let mut other = Pick::Kill;
    for step in 0..Family::ALL.len() {
        let family = Family::ALL[(turn as usize * 3 + step) % Family::ALL.len()];
        let count = machine.image_count(family);
        if 1 < count {
            other = Pick::Image(family, turn as usize * 5 % count);
            break;
        }
    }
    [Pick::Image(edge, 0), other]
}

/// One case: the disk that it names, opened, and cut off where it says.
pub(crate) fn replay(case: &Case, history: &History, moment: &Moment, setting: &Setting) {
    let mut disk = case
        .pick
        .of(&moment.machine)
        .expect("the moment has this image");
    let expected = Expected {
        setting,
        history,
        marks: &moment.marks,
        least: match case.pick {
            Pick::Kill => moment.marks.acknowledged,
            Pick::Image(..) => moment.marks.synced,
        },
        exactly: None,
    };
    show(&disk, setting, history, moment);
    let found = check::look(&disk.kill(), expected, true);
    for (call, pick) in &case.inside {
        let calls = calls_of_opening(&disk, setting);
        let machine = &calls[*call as usize];
        disk = pick.of(machine).expect("the call has this image");
        let expected = Expected {
            least: moment.marks.synced,
            exactly: (case.pick != Pick::Kill).then_some(&found),
            ..expected
        };
        show(&disk, setting, history, moment);
        check::look(&disk.kill(), expected, true);
    }
}

/// Prints what opening this disk does and finds, for whoever looks into a failure.
fn show(disk: &SimFs, setting: &Setting, history: &History, moment: &Moment) {
    let machine = disk.kill();
    let fs = Fs::sim(&machine, Path::new(ROOT));
    for entry in fs.list().unwrap_or_default() {
        println!("{} {}", entry.name, entry.len);
    }
    match setting.open(&machine) {
        Ok(db) => println!(
            "{}{:?}\n{}\n",
            machine.script(),
            db.open_report(),
            history.explain(&check::contents(&db), &moment.marks)
        ),
        Err(error) => println!("{}{error}\n", machine.script()),
    }
}

#[test]
fn a4_power_loss_at_every_call_of_a_recovery() {
    if crate::scale::only().is_some() {
        return; // A2 runs single cases of all these suites.
    }
    let mut tally = Tally::new(
        "A4 crash inside recovery",
        "images opened",
        [10_000, 200_000, 10_000_000],
    );
    let part = Part::now();
    let goal = part.of(Scale::now().pick(10_000, 200_000, 10_000_000));
    // A little more: not every script has room for all of its share.
    let each = (goal + goal / 50).div_ceil(SCRIPTS.len() as u64);
    let mut tried = 0;
    for seed in part.first_seed().. {
        for script in SCRIPTS {
            let moments = play(script, seed, &mut |_, _| {});
            let mut here = 0;
            let mut then = |looked: Looked<'_>| {
                // Evenly over the script, until it has its share.
                if here * moments <= each * looked.moment.index {
                    here += Inside::of(&looked).go(looked.case, &looked.disk, 2);
                }
            };
            enumerate(script, seed, Picks::InTurn(1), usize::MAX, &mut then);
            println!(
                "{}, seed {seed}: {here} images inside recovery",
                script.name
            );
            tried += here;
        }
        if goal <= tried {
            break;
        }
    }
    tally.add(tried);
    tally.finish("cargo test --profile torture --features sim --test torture a4");
}

/// What a kill leaves unsynced is flushed by the next open, and its segments are struck off. Cut
/// off between that and the registration of the next segment, the open after that took the
/// segments of before for those of an edit that was lost, and refused.
#[test]
fn a_recovery_after_a_kill_may_be_cut_off_behind_its_flush() {
    let setting = super::scripts::tiny();
    let first = SimFs::new(1);
    let db = setting.open(&first).unwrap();
    db.put("only", "in the page cache").unwrap();
    let killed = first.kill();
    first.crash_at(first.call_count());
    drop(db);
    for (call, machine) in calls_of_opening(&killed, &setting).iter().enumerate() {
        let db = setting.open(&machine.kill());
        let db = db.unwrap_or_else(|error| panic!("P4: killed at call {call}: {error}"));
        assert_eq!(db.get("only").unwrap().unwrap(), b"in the page cache");
    }
}

#[test]
fn a_case_inside_a_recovery_runs_alone() {
    if case::asked_for().is_some() {
        return;
    }
    let mut last = None;
    enumerate(SCRIPTS[2], 5, Picks::InTurn(1), usize::MAX, &mut |looked| {
        if 200 <= looked.moment.index && last.is_none() {
            let calls = calls_of_opening(&looked.disk, looked.setting);
            let pick = two_of(&calls[7], 7)[1];
            last = Some(looked.case.then(7, pick).then(3, Pick::Kill));
        }
    });
    let case = last.expect("a new disk from moment 200 on").to_string();
    super::replay(&case.parse().expect("it is read back"));
}

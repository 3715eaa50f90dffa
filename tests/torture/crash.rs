//! Power loss and death of the process, at every call: suites A2, A3 and A4.
//!
//! ```text
//! crash.rs            the enumeration over scripts (A2): every call, many disks each
//! crash/inside.rs     again inside the recovery from those disks (A4), up to three deep
//! crash/letters.rs    every short sequence of operations (A3)
//! crash/scripts.rs    what is run          crash/run.rs    runs it and shows each moment
//! crash/history.rs    what may be there    crash/check.rs  opens a disk and looks
//! crash/case.rs       names one disk, so that a failure can be run alone
//! ```
//!
//! A script runs through once. Before each of its mutating calls a copy of the machine is taken,
//! and of the disks that a crash may leave at that moment some or all are opened and checked for
//! P1 to P6. Each different disk is opened once; met again when more is known to be synced, what
//! was found in it is checked again.
#![expect(clippy::unwrap_used, reason = "here it is an assertion")]

mod case;
mod check;
mod history;
mod inside;
mod letters;
mod run;
mod scripts;

use crate::scale::{Part, Scale, Tally};
use alluvium::fs::sim::{Family, SimFs};
use case::{Case, Guard, Pick, Source};
use check::Expected;
use history::{Found, History};
use run::{Moment, Run, Setting};
use scripts::{CALLS_MIN, SCRIPTS, Script};
use std::collections::HashMap;

/// Which disks of each moment are opened.
#[derive(Clone, Copy, Debug)]
enum Picks {
    /// Of so many families, taken in turn, one image each.
    InTurn(usize),
    /// Of each family so many images, spread over all it has.
    PerFamily(usize),
    /// One image each of six families.
    Six,
    /// All of every family.
    All,
}

const SIX: [Family; 6] = [
    Family::Nothing,
    Family::Everything,
    Family::OneLost,
    Family::OneKept,
    Family::Torn,
    Family::Random,
];

/// The death of the process, and power losses.
fn picks(moment: &Moment, picks: Picks) -> Vec<Pick> {
    let mut chosen = vec![Pick::Kill];
    // A large odd step goes through all numbers of a family in the course of a script.
    let start = moment.index.wrapping_mul(0x9e37_79b9) as usize >> 3;
    let mut choose = |family: Family, most: usize| {
        let count = moment.machine.image_count(family);
        let most = most.min(count);
        let image = |i| Pick::Image(family, (start + i * count / most) % count);
        chosen.extend((0..most).map(image));
    };
    match picks {
        Picks::InTurn(families) => {
            for i in 0..families {
                let turn = moment.index as usize * families + i;
                choose(Family::ALL[turn % Family::ALL.len()], 1);
            }
        }
        Picks::PerFamily(most) => Family::ALL.iter().for_each(|f| choose(*f, most)),
        Picks::Six => SIX.iter().for_each(|f| choose(*f, 1)),
        Picks::All => Family::ALL.iter().for_each(|f| choose(*f, usize::MAX)),
    }
    chosen
}

/// A disk on which everything was found in order.
struct Looked<'a> {
    case: &'a Case,
    disk: SimFs,
    moment: &'a Moment,
    history: &'a History,
    setting: &'a Setting,
    found: &'a Found,
}

/// Looks at the disks of a moment, each once.
struct Looker<'a> {
    source: Source,
    setting: Setting,
    picks: Picks,
    seen: HashMap<u128, Found>,
    /// Every so many disks one is looked at more deeply.
    deep_every: usize,
    /// Told of each different disk.
    then: &'a mut dyn FnMut(Looked<'_>),
}

impl Looker<'_> {
    fn visit(&mut self, history: &History, moment: &Moment) {
        for pick in picks(moment, self.picks) {
            self.look(history, moment, pick);
        }
    }

    fn look(&mut self, history: &History, moment: &Moment, pick: Pick) {
        let case = Case {
            source: self.source.clone(),
            moment: moment.index,
            pick,
            inside: Vec::new(),
        };
        let _guard = Guard(&case);
        let disk = pick.of(&moment.machine).expect("the moment has this image");
        let marks = &moment.marks;
        // In the page cache there is everything that was acknowledged.
        let least = match pick {
            Pick::Kill => marks.acknowledged,
            Pick::Image(..) => marks.synced,
        };
        let digest = disk.digest();
        if let Some(found) = self.seen.get(&digest) {
            let prefix = history.prefix(found, least, marks.tried, marks);
            assert!(
                prefix.is_some(),
                "P1, P2, P3: not between {least} and {} batches: {}",
                marks.tried,
                history.explain(found, marks)
            );
            return;
        }
        let deep = self.seen.len().is_multiple_of(self.deep_every);
        let expected = Expected {
            setting: &self.setting,
            history,
            marks,
            least,
            exactly: None,
        };
        let found = check::look(&disk.kill(), expected, deep);
        (self.then)(Looked {
            case: &case,
            disk,
            moment,
            history,
            setting: &self.setting,
            found: &found,
        });
        self.seen.insert(digest, found);
    }
}

/// Runs a script and looks at every moment; gives the numbers of moments and of different disks.
fn enumerate(
    script: Script,
    seed: u64,
    picks: Picks,
    deep_every: usize,
    then: &mut dyn FnMut(Looked<'_>),
) -> (u64, u64) {
    let mut looker = Looker {
        source: Source::Script(script.name.to_owned(), seed),
        setting: (script.setting)(),
        picks,
        seen: HashMap::new(),
        deep_every,
        then,
    };
    let mut visit = |history: &History, moment: &Moment| looker.visit(history, moment);
    let moments = play(script, seed, &mut visit);
    assert!(
        CALLS_MIN <= moments,
        "{}: {moments} calls are too few",
        script.name
    );
    (moments, looker.seen.len() as u64)
}

fn play<'a>(script: Script, seed: u64, visit: &'a mut run::Visit<'a>) -> u64 {
    let mut run = Run::new((script.setting)(), seed, visit);
    (script.body)(&mut run).unwrap_or_else(|error| panic!("{}, seed {seed}: {error}", script.name));
    run.finish()
}

/// Runs one case alone: what it says, and nothing else.
fn replay(case: &Case) {
    let mut found_it = false;
    let mut visit = |history: &History, moment: &Moment| {
        if moment.index == case.moment {
            found_it = true;
            inside::replay(case, history, moment, &setting_of(case));
        }
    };
    match &case.source {
        Source::Script(name, seed) => play(scripts::named(name), *seed, &mut visit),
        Source::Letters(letters) => letters::play(letters, &mut visit),
    };
    assert!(found_it, "{case}: there is no such moment");
}

fn setting_of(case: &Case) -> Setting {
    match &case.source {
        Source::Script(name, _) => (scripts::named(name).setting)(),
        Source::Letters(_) => letters::setting(),
    }
}

#[test]
fn a2_power_loss_at_every_call() {
    if let Some(case) = case::asked_for() {
        return replay(&case);
    }
    let mut tally = Tally::new(
        "A2 crash enumeration",
        "unique images opened",
        [10_000, 150_000, 20_000_000],
    );
    let scale = Scale::now();
    let picks = scale.pick(Picks::InTurn(2), Picks::PerFamily(8), Picks::All);
    let part = Part::now();
    let floor = part.of(scale.pick(0, 250_000, 20_000_000));
    let mut opened = 0;
    for seed in part.first_seed().. {
        for script in SCRIPTS {
            let (moments, unique) = enumerate(script, seed, picks, 16, &mut |_| {});
            println!(
                "{}, seed {seed}: {unique} unique images of {moments} moments",
                script.name
            );
            opened += unique;
        }
        if floor <= opened {
            break;
        }
    }
    tally.add(opened);
    tally.finish("cargo test --profile torture --features sim --test torture crash::a2");
}

/// Lost determinism would make every reproducer worthless.
#[test]
fn a_script_is_the_same_calls_every_time() {
    for script in SCRIPTS {
        let disks = || {
            let mut disks = Vec::new();
            play(script, 9, &mut |_, moment| {
                disks.push(moment.machine.digest())
            });
            disks
        };
        let (once, again) = (disks(), disks());
        let differs = once.iter().zip(&again).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{}: another disk at this call", script.name);
        assert_eq!(once.len(), again.len(), "{}", script.name);
    }
}

/// What a failure prints runs alone, and reaches the same disk.
#[test]
fn a_case_runs_alone() {
    if crate::scale::only().is_some() {
        return;
    }
    let mut cases = Vec::new();
    enumerate(SCRIPTS[0], 3, Picks::InTurn(1), 1000, &mut |looked| {
        if cases.len() < 400 {
            cases.push((looked.case.clone(), looked.disk.digest()));
        }
    });
    let (case, digest) = cases.pop().expect("there are hundreds");
    let mut same = false;
    let mut visit = |_: &History, moment: &Moment| {
        if moment.index == case.moment {
            let disk = case.pick.of(&moment.machine).expect("the image");
            same = disk.digest() == digest;
        }
    };
    play(SCRIPTS[0], 3, &mut visit);
    assert!(same, "{case}: another disk");
    replay(&case.to_string().parse().expect("it is read back"));
}

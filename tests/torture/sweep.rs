//! Suite A5: every call of every script fails in every way that it can, once or from then on.
//!
//! A *case* is a script in a world (options), a call of it (a site in the source, and the how
//! manieth call of that site), a fault, and whether it stays. The script goes on whatever happens,
//! and each answer is checked at once (P12). Then either the disk is healed: the state must be `Ok`
//! within a few steps, everything acknowledged there, and after a close nothing left over (P14);
//! then the power goes, and what it leaves must be a prefix with everything synced in it (P1, P2,
//! P3, P13). Or the power goes while the fault is on, a few calls behind where it struck.
//!
//! Scripts damage what is closed, too, for `Db::repair`: only what is had from elsewhere, and only
//! where no fault has left anything undone before, so that nothing may be lost.
//!
//! Coverage: the places that call the disk are found by reading the source ([`sites`]), and each
//! of them must have failed in each way that fits what it does. Places that are reached only after
//! a fault get a second one on top of the first. The suite prints how many it has, lists what is
//! missing, and fails then.
//!
//! `TORTURE_CASE=sweep/S/N` runs case N of script and world S with both endings; `N+M` are two
//! faults at once, and `N@site@fault` puts a fault on what only the first one reaches.

mod run;
mod scripts;
mod sites;

use crate::scale::{Part, Scale, Tally, only};
use alluvium::fs::sim::{CallSite, Coverage, Family, Fault, FaultRule};
use run::Run;
use scripts::{Script, World};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What runs where.
struct Subject {
    name: String,
    script: Script,
    /// The place of its world among the worlds.
    w: usize,
    world: World,
    cases: Vec<Case>,
}

/// One fault at one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    site: CallSite,
    nth: u64,
    fault: Fault,
    sticky: bool,
}

impl Case {
    /// The first call of a site fails once.
    fn first(site: CallSite, fault: Fault) -> Case {
        Case {
            site,
            nth: 0,
            fault,
            sticky: false,
        }
    }

    fn rule(&self) -> FaultRule {
        let rule = FaultRule::new(self.fault).at(&self.site).nth(self.nth);
        if self.sticky { rule.sticky() } else { rule }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Heal,
    /// The power goes that many mutating calls behind the one that failed.
    Crash(u64),
}

/// After so many failures a sweep gives up.
const FAILURES_MAX: usize = 40;
/// The power goes at most so many calls behind a fault: a repair is about as long.
const CALLS_BEHIND: u64 = 13;
/// A site that only trouble reaches is tried in so many ways, and again so many times, because
/// one that needs two faults is known only when another was tried.
const WAYS_MAX: usize = 6;
const ROUNDS: usize = 3;
/// Calls that change nothing are many and alike: so many of each site fail.
const QUIET_CALLS_MAX: u64 = 4;

fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    for (name, script) in scripts::SCRIPTS {
        for (w, world) in scripts::worlds().into_iter().enumerate() {
            let sim = world.disk();
            let name = format!("{name}, {}", world.name);
            script(&mut Run::new(&sim, &world.options, &world.spaces, &name));
            let cases = cases(&sim.coverage());
            subjects.push(Subject {
                name,
                script,
                w,
                world,
                cases,
            });
        }
    }
    subjects
}

/// Every call of a good run with every fault that fits.
fn cases(good: &Coverage) -> Vec<Case> {
    let mut cases = Vec::new();
    for (site, calls) in good
        .sites()
        .filter(|(site, _)| site.file.starts_with("src/"))
    {
        let tried = match site.kind.mutates() {
            true => calls,
            false => calls.min(QUIET_CALLS_MAX),
        };
        for fault in Fault::ALL.into_iter().filter(|fault| fault.fits(site.kind)) {
            for i in 0..tried {
                // From the first call to the last.
                let nth = i * calls / tried;
                for sticky in [false, true] {
                    // A sticky EINTR never ends, and a disk whose every sync lies keeps nothing.
                    let passes = matches!(fault, Fault::Eintr | Fault::SyncLate);
                    if !(sticky && passes) {
                        cases.push(Case {
                            site,
                            nth,
                            fault,
                            sticky,
                        });
                    }
                }
            }
        }
    }
    cases
}

/// What a run has seen: its coverage, and the index of the mutating call that failed first.
struct Seen {
    coverage: Coverage,
    struck: Option<u64>,
}

fn try_case(subject: &Subject, faults: &[Case], ending: Ending, what: &str) -> Seen {
    let sim = subject.world.disk();
    for case in faults {
        sim.fail(case.rule());
    }
    if let Ending::Crash(call) = ending {
        sim.crash_at(call);
    }
    let lied = faults.iter().any(|case| case.fault == Fault::SyncLate);
    let mut run = Run::new(&sim, &subject.world.options, &subject.world.spaces, what);
    (subject.script)(&mut run);
    run.check_keys();
    let struck = sim.calls().iter().position(|call| call.fault.is_some());
    let seen = Seen {
        coverage: sim.coverage(),
        struck: struck.map(|at| at as u64),
    };
    if ending == Ending::Heal {
        run.check_healed();
    }
    // Families in turn; "nothing that was not synced" in each.
    let turn = faults
        .first()
        .map_or(0, |case| case.nth + u64::from(case.site.line));
    let family = Family::ALL[turn as usize % Family::ALL.len()];
    let images = sim.images(&[Family::Nothing]).take(1);
    for image in images.chain(sim.images(&[family]).take(1)) {
        run.check_image(&image.sim, lied, &image.id.to_string());
    }
    if ending == Ending::Heal && !lied {
        run.check_tidy();
    }
    seen
}

/// The sweep's books.
struct Sweep {
    subjects: Vec<Subject>,
    coverage: Coverage,
    /// How each site was reached first, in a few ways.
    first: BTreeMap<CallSite, Vec<(usize, Vec<Case>, Ending)>>,
    tally: Tally,
    number: u64,
    failed: Vec<String>,
}

impl Sweep {
    fn run(&mut self, s: usize, faults: &[Case], ending: Ending) -> Option<Seen> {
        let subject = &self.subjects[s];
        let id = self.id(s, faults);
        let what = format!("TORTURE_CASE={id}: {}, {ending:?}", subject.name);
        let tried = || try_case(subject, faults, ending, &what);
        let Ok(seen) = catch_unwind(AssertUnwindSafe(tried)) else {
            self.failed.push(what);
            assert!(
                self.failed.len() < FAILURES_MAX,
                "{}",
                self.failed.join("\n")
            );
            return None;
        };
        self.tally.add(1);
        for (site, _) in seen.coverage.sites() {
            let ways = self.first.entry(site).or_default();
            if ways.len() < WAYS_MAX {
                ways.push((s, faults.to_vec(), ending));
            }
        }
        self.coverage.merge(&seen.coverage);
        Some(seen)
    }

    /// What `TORTURE_CASE` says to run these faults again.
    fn id(&self, s: usize, faults: &[Case]) -> String {
        let cases = &self.subjects[s].cases;
        let mut id = format!("sweep/{s}/");
        for (i, fault) in faults.iter().enumerate() {
            id += &match cases.iter().position(|case| case == fault) {
                Some(n) if i == 0 => n.to_string(),
                Some(n) => format!("+{n}"),
                None => format!("@{}@{:?}", fault.site, fault.fault),
            };
        }
        id
    }

    /// The faults that an id names, and their subject.
    fn resolve(&self, id: &str) -> Option<(usize, Vec<Case>)> {
        let (s, faults) = id.strip_prefix("sweep/")?.split_once('/')?;
        let s: usize = s.parse().ok()?;
        let subject = self.subjects.get(s)?;
        let mut parts = faults.split('@');
        let numbers = parts.next()?.split('+').map(|n| n.parse::<usize>().ok());
        let cases = numbers.map(|n| subject.cases.get(n?).copied());
        let mut faults: Vec<Case> = cases.collect::<Option<_>>()?;
        while let (Some(site), Some(fault)) = (parts.next(), parts.next()) {
            // Only what is there already leads to it.
            let coverage = try_case(subject, &faults, Ending::Heal, id).coverage;
            let (site, _) = coverage.sites().find(|(s, _)| s.to_string() == site)?;
            let mut all = Fault::ALL.into_iter();
            let fault = all.find(|f| format!("{f:?}") == fault)?;
            faults.push(Case::first(site, fault));
        }
        Some((s, faults))
    }

    /// A case with both endings.
    fn both(&mut self, s: usize, n: usize) {
        let case = self.subjects[s].cases[n];
        let seen = self.run(s, &[case], Ending::Heal);
        if let Some(struck) = seen.and_then(|seen| seen.struck) {
            self.number += 1;
            let behind = 1 + self.number % CALLS_BEHIND;
            self.run(s, &[case], Ending::Crash(struck + behind));
        }
    }

    /// At least one run for each site and fault in each world, in whatever script first has it:
    /// what comes of the fault is not the same in all of them.
    fn cover(&mut self) {
        let mut tried = BTreeSet::new();
        for s in 0..self.subjects.len() {
            let w = self.subjects[s].w;
            for n in 0..self.subjects[s].cases.len() {
                let Case { site, fault, .. } = self.subjects[s].cases[n];
                if tried.insert((w, site, fault)) {
                    self.both(s, n);
                }
            }
        }
        self.cover_trouble();
    }

    fn cover_trouble(&mut self) {
        // Sites on the way out of trouble: the trouble first, then the fault on top of it.
        for _ in 0..ROUNDS {
            for (site, fault) in self.coverage.missing() {
                if !site.file.starts_with("src/") {
                    continue;
                }
                for (s, mut faults, ending) in self.first[&site].clone() {
                    faults.push(Case::first(site, fault));
                    self.run(s, &faults, ending);
                    if self.coverage.hits(&site).contains(&fault) {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn every_call_fails_in_every_way() {
    let mut sweep = Sweep {
        subjects: subjects(),
        coverage: Coverage::default(),
        first: BTreeMap::new(),
        tally: Tally::new("A5 fault sweep", "runs", [4_000, 75_000, 2_000_000]),
        number: 0,
        failed: Vec::new(),
    };
    if let Some(id) = only() {
        let Some((s, faults)) = sweep.resolve(&id) else {
            return; // of another suite
        };
        println!("{}: {faults:#?}", sweep.subjects[s].name);
        let seen = sweep.run(s, &faults, Ending::Heal);
        if let Some(struck) = seen.and_then(|seen| seen.struck) {
            for behind in 1..=CALLS_BEHIND {
                sweep.run(s, &faults, Ending::Crash(struck + behind));
            }
        }
        assert!(sweep.failed.is_empty(), "{}", sweep.failed.join("\n"));
        return;
    }
    let part = Part::now();
    let target = part.of(Scale::now().pick(4_000, 75_000, 2_000_000));
    if part.is_first() {
        sweep.cover();
    }
    single_faults(&mut sweep, part, target);
    if part.is_first() {
        // What only these reached.
        sweep.cover_trouble();
    }
    assert!(
        sweep.failed.is_empty(),
        "failed:\n{}",
        sweep.failed.join("\n")
    );
    if part.is_first() {
        check_coverage(&sweep);
    }
    sweep
        .tally
        .finish("cargo test --profile torture --features sim --test torture sweep");
}

/// Every place in the source that calls the disk has failed in every way that fits.
fn check_coverage(sweep: &Sweep) {
    let source = sites::in_source();
    let missing = sites::missing(&sweep.coverage, &source);
    println!(
        "fault sweep: {} of {} places in the source called, {} pairs of site and fault struck, {} missing",
        source.len()
            - missing
                .iter()
                .filter(|m| m.ends_with("never called"))
                .count(),
        source.len(),
        sweep
            .coverage
            .sites()
            .map(|(site, _)| sweep.coverage.hits(&site).len())
            .sum::<usize>(),
        missing.len()
    );
    assert!(missing.is_empty(), "not covered:\n{}", missing.join("\n"));
}

/// All cases of this share, or as many of them, evenly, as make `target` runs; then pairs.
fn single_faults(sweep: &mut Sweep, part: Part, target: u64) {
    let all: Vec<(usize, usize)> = (0..sweep.subjects.len())
        .flat_map(|s| (0..sweep.subjects[s].cases.len()).map(move |n| (s, n)))
        .collect();
    let wanted = target.saturating_sub(sweep.tally.count()) as usize;
    let share = part.range(all.len() as u64);
    let share = &all[share.start as usize..share.end as usize];
    // Two endings each, mostly, and some runs are left for pairs.
    let singles = (wanted / 2 * 15 / 16).min(share.len());
    println!("fault sweep: {singles} of {} single cases", all.len());
    for i in 0..singles {
        let (s, n) = share[i * share.len() / singles];
        sweep.both(s, n);
    }
    // Pairs: another case of the same subject on top, from a simple sequence.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(part.first_seed());
    while sweep.tally.count() < target {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (s, n) = all[(random >> 33) as usize % all.len()];
        let cases = &sweep.subjects[s].cases;
        let other = (random >> 13) as usize % cases.len();
        let faults = [cases[n], cases[other]];
        // A disk that says it kept what it did not, and then takes back what it was given.
        let is_hopeless = [Fault::SyncLate, Fault::SyncCleanOld]
            .iter()
            .all(|hopeless| faults.iter().any(|case| case.fault == *hopeless));
        if is_hopeless {
            continue;
        }
        sweep.run(s, &faults, Ending::Heal);
    }
}

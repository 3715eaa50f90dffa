//! Runs a scenario under many schedules, and each tenth seed twice.
//!
//! Half of the schedules are random, half are PCT's with three changes of priority (Burckhardt et
//! al., 2010: a bug of depth d is found with a probability of at least 1 / (n * k^(d-1))). Ten
//! schedules share a seed, which gives them all again, call for call: that is checked too.

use alluvium::fs::sim::SimFs;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Schedules of one seed. PCT learns from the first how long the others will be.
const SCHEDULES_EACH: usize = 10;
/// PCT's depth.
const DEPTH: usize = 3;
/// A schedule with more steps than this makes no progress.
const STEPS_MAX: usize = 2_000_000;

/// One scenario: given a machine, it runs the engine on it and checks what came of it.
pub(crate) type Scenario = fn(&SimFs, u64);

/// Runs the schedules of one seed; gives the calls that the disk has seen in each.
fn run_seed(scheduler: &str, seed: u64, scenario: Scenario) -> Vec<String> {
    let scripts = Arc::new(Mutex::new(Vec::new()));
    let body = {
        let scripts = Arc::clone(&scripts);
        move || {
            let sim = SimFs::new(seed);
            scenario(&sim, seed);
            let mut scripts = scripts.lock().expect("one schedule runs at a time");
            scripts.push(sim.script());
        }
    };
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    let count = SCHEDULES_EACH;
    let ran = match scheduler {
        "pct" => {
            let scheduler = PctScheduler::new_from_seed(seed, DEPTH, count);
            Runner::new(scheduler, config).run(body)
        }
        _ => Runner::new(RandomScheduler::new_from_seed(seed, count), config).run(body),
    };
    assert_eq!(ran, count, "every schedule was run");
    let scripts = scripts.lock().expect("no schedule runs any more");
    scripts.clone()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text}: say a number")))
}

/// Runs the scenario under as many schedules as fit its share of the time, or as are asked for.
///
/// `RACES_SCHEDULES` asks for a number, `RACES_SECONDS` for a time (10 without either), `RACES_FIRST`
/// for the first seed (0), and `RACES_SEED=pct:7` for the schedules of one seed.
pub(crate) fn explore(name: &str, scenario: Scenario) {
    let how = format!(".ci/races shuttle {name}");
    if let Ok(one) = std::env::var("RACES_SEED") {
        let (scheduler, seed) = one.split_once(':').expect("RACES_SEED=<scheduler>:<seed>");
        let seed = seed.parse().expect("the seed is a number");
        for (n, script) in run_seed(scheduler, seed, scenario).iter().enumerate() {
            println!("schedule {n}\n{script}");
        }
        return;
    }
    let schedules = number("RACES_SCHEDULES");
    let time = Duration::from_secs(number("RACES_SECONDS").unwrap_or(10));
    let first = number("RACES_FIRST").unwrap_or(0);
    let start = Instant::now();
    let mut count = 0;
    for seed in first.. {
        let scheduler = ["random", "pct"][seed as usize % 2];
        let named = Named(name, scheduler, seed);
        let scripts = run_seed(scheduler, seed, scenario);
        if seed % 20 < 2 {
            let again = run_seed(scheduler, seed, scenario);
            assert_eq!(scripts, again, "the same seed gave two different runs");
        }
        std::mem::forget(named);
        count += scripts.len() as u64;
        let enough = match schedules {
            Some(schedules) => schedules <= count,
            None => time <= start.elapsed(),
        };
        if enough {
            break;
        }
    }
    println!(
        "suite | B2 shuttle: {name} | {count} schedules | at least {SCHEDULES_EACH} | {} s | {how}",
        start.elapsed().as_secs()
    );
}

/// Says which seed failed, when one does.
struct Named<'a>(&'a str, &'a str, u64);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        let Named(name, scheduler, seed) = self;
        eprintln!("again: RACES_SEED={scheduler}:{seed} .ci/races shuttle {name}");
    }
}

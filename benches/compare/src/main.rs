//! alluvium beside other embedded engines.
//!
//! The parent runs every (workload, engine, round) in a child process of its own (itself, with
//! `--child`), engines interleaved and their order turned from round to round, so that a busy
//! minute of the machine falls on all of them. A child prints its figures as lines, and fails
//! loudly when an engine gives a wrong answer.

mod chart;
mod child;
mod data;
mod engine;
mod memory;
#[path = "../../shared/mix.rs"]
mod mix;
#[path = "../../shared/place.rs"]
mod place;
mod report;
mod resume;
mod run;
mod workload;

use child::Role;
use engine::Result;
use resume::Kept;
use run::{Found, Outcome, Run};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use workload::Scale;

const HELP: &str = include_str!("help.txt");

/// A write buffer of 1 MiB, by what `Scale::settings` makes of it.
const MEMORY_MIB_MIN: u64 = 16;

struct Arguments {
    scale: Scale,
    rounds: u32,
    workloads: Vec<String>,
    engines: Vec<String>,
    directory: PathBuf,
    record: PathBuf,
    /// What this process is for, and its engine and workload, if it is not the parent.
    child: Option<(Role, String, String)>,
    limit: Duration,
    /// The memory group that a child enters.
    group: Option<PathBuf>,
    /// Where outcomes are kept as they come, and found by the next run.
    resume: Option<PathBuf>,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>> {
    let mut a = Arguments {
        scale: Scale {
            keys: 2_000_000,
            synced_writes: 2_000,
            memory_mib: None,
        },
        rounds: 3,
        workloads: Vec::new(),
        engines: Vec::new(),
        directory: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/stores")),
        record: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../record")),
        child: None,
        limit: Duration::from_secs(300),
        group: None,
        resume: None,
    };
    while let Some(word) = words.next() {
        let mut next = || {
            words
                .next()
                .ok_or_else(|| format!("{word} needs an argument"))
        };
        match word.as_str() {
            "--help" | "-h" => return Ok(None),
            "--bench" => {} // What `cargo bench` adds.
            "--quick" => {
                a.rounds = 1;
                a.scale.keys = 200_000;
                a.scale.synced_writes = 200;
            }
            "--keys" => a.scale.keys = next()?.replace('_', "").parse()?,
            "--synced" => a.scale.synced_writes = next()?.parse()?,
            "--memory" => a.scale.memory_mib = Some(next()?.parse()?),
            "--rounds" => a.rounds = next()?.parse()?,
            "--workload" => a.workloads.push(next()?),
            "--engine" => a.engines.push(next()?),
            "--dir" => a.directory = next()?.into(),
            "--record" => a.record = next()?.into(),
            "--limit" => a.limit = Duration::from_secs(next()?.parse()?),
            "--resume" => a.resume = Some(next()?.into()),
            "--group" => a.group = Some(next()?.into()),
            "--child" => a.child = Some((Role::Measure, next()?, next()?)),
            "--fill" => a.child = Some((Role::Fill, next()?, next()?)),
            _ => return Err(format!("unknown argument {word}; see --help").into()),
        }
    }
    if a.scale.keys < 1_000 || a.scale.synced_writes == 0 || a.rounds == 0 {
        return Err("at least 1,000 keys, 1 synced write and 1 round are needed".into());
    }
    if a.scale.memory_mib.is_some_and(|mib| mib < MEMORY_MIB_MIN) {
        return Err(format!("at least {MEMORY_MIB_MIN} MiB of memory are needed").into());
    }
    Ok(Some(a))
}

fn main() -> ExitCode {
    let answer = match parse(std::env::args().skip(1)) {
        Ok(None) => {
            print!("{HELP}");
            Ok(())
        }
        Ok(Some(arguments)) => match &arguments.child {
            Some((role, engine, workload)) => child::run(*role, &arguments, engine, workload),
            None => parent(&arguments),
        },
        Err(error) => Err(error),
    };
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Names that contain one of the wanted parts; all when nothing is wanted.
fn chosen<'a>(all: &[&'a str], wanted: &[String]) -> Result<Vec<&'a str>> {
    let names: Vec<&str> = all
        .iter()
        .filter(|name| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str())))
        .copied()
        .collect();
    if names.is_empty() {
        return Err(format!("nothing among {all:?} matches {wanted:?}").into());
    }
    Ok(names)
}

fn parent(arguments: &Arguments) -> Result<()> {
    let workloads = chosen(workload::NAMES, &arguments.workloads)?;
    let engines = chosen(engine::NAMES, &arguments.engines)?;
    std::fs::create_dir_all(&arguments.directory)?;
    let place = place::place(&arguments.directory);
    let scale = json!({
        "keys": arguments.scale.keys,
        "synced_writes": arguments.scale.synced_writes,
        "memory_mib": arguments.scale.memory_mib,
        "rounds": arguments.rounds,
        "limit_seconds": arguments.limit.as_secs(),
        "key_bytes": data::KEY_BYTES,
        "value_bytes": data::VALUE_BYTES,
    });
    let mut run = Run::default();
    let mut kept = None;
    if let Some(path) = &arguments.resume {
        let (file, outcomes) = Kept::open(path, &place, &scale)?;
        eprintln!("{} children are in {}", outcomes.len(), path.display());
        run.outcomes = outcomes;
        kept = Some(file);
    }
    let answer = measure_all(arguments, &workloads, &engines, &mut run, &mut kept);
    // What was measured before a wrong answer may have taken hours: it is kept, and says so.
    if let Err(error) = &answer {
        println!("INCOMPLETE, for the run was ended: {error}\n");
        run.ended_by = Some(error.to_string());
    }
    // Of a run that goes on, everything that it has found is shown, whatever was asked for now.
    let rows = run.rows(workload::NAMES);
    let engines = run.engines(engine::NAMES);
    println!("{}", report::table(&run, &rows, &engines));
    println!("{}", report::space_table(&run, &rows, &engines));
    println!("{}", report::seconds_table(&run, workload::NAMES, &engines));
    let path = report::save(&arguments.record, place, scale, &run)?;
    println!("Record: {}", path.display());
    let picture = path.with_extension("svg");
    chart::draw(&picture, &run, &rows, &engines)?;
    println!("Chart: {}", picture.display());
    answer
}

fn measure_all(
    arguments: &Arguments,
    workloads: &[&str],
    engines: &[&str],
    run: &mut Run,
    kept: &mut Option<Kept>,
) -> Result<()> {
    for round in 0..arguments.rounds {
        for name in workloads {
            let mut turn = engines.to_vec();
            turn.rotate_left(round as usize % engines.len());
            for engine in turn {
                // An engine that was too slow once is not asked again.
                if run.has_gap(name, engine) || run.has(name, engine, round) {
                    continue;
                }
                let outcome = child::start(arguments, engine, name, round)?;
                if let Some(file) = kept {
                    file.add(&outcome)?;
                }
                tell(&outcome);
                run.outcomes.push(outcome);
            }
        }
    }
    Ok(())
}

fn tell(outcome: &Outcome) {
    let line = |row: &str, cell: String| {
        let (round, engine) = (outcome.round + 1, &outcome.engine);
        eprintln!("round {round}  {row:<34} {engine:<9} {cell:>16}");
    };
    match &outcome.found {
        Found::Gap(gap) => line(&outcome.workload, gap.cell()),
        Found::Figures(figures) => {
            for m in figures {
                line(&m.row, format!("{:.1} ns/op", m.ns_per_operation));
            }
        }
    }
}

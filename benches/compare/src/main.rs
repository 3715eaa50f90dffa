//! alluvium beside other embedded engines.
//!
//! The parent runs every (workload, engine, round) in a child process of its own (itself, with
//! `--child`), engines interleaved and their order turned from round to round, so that a busy
//! minute of the machine falls on all of them. A child prints its figures as lines, and fails
//! loudly when an engine gives a wrong answer.

mod data;
mod engine;
mod report;
mod workload;

use engine::{Engine, Result};
use report::Measurement;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use workload::{Figure, Scale};

const HELP: &str = include_str!("help.txt");

const ENGINES: &[&str] = &[
    #[cfg(feature = "alluvium")]
    "alluvium",
    "rocksdb",
    "fjall",
    "redb",
    "lmdb",
    "sled",
];

struct Arguments {
    scale: Scale,
    rounds: u32,
    workloads: Vec<String>,
    engines: Vec<String>,
    directory: PathBuf,
    record: PathBuf,
    child: Option<(String, String)>,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>> {
    let mut a = Arguments {
        scale: Scale {
            keys: 2_000_000,
            synced_writes: 2_000,
        },
        rounds: 3,
        workloads: Vec::new(),
        engines: Vec::new(),
        directory: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/stores")),
        record: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../record")),
        child: None,
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
                a.scale = Scale {
                    keys: 200_000,
                    synced_writes: 200,
                };
            }
            "--keys" => a.scale.keys = next()?.replace('_', "").parse()?,
            "--synced" => a.scale.synced_writes = next()?.parse()?,
            "--rounds" => a.rounds = next()?.parse()?,
            "--workload" => a.workloads.push(next()?),
            "--engine" => a.engines.push(next()?),
            "--dir" => a.directory = next()?.into(),
            "--record" => a.record = next()?.into(),
            "--child" => a.child = Some((next()?, next()?)),
            _ => return Err(format!("unknown argument {word}; see --help").into()),
        }
    }
    if a.scale.keys < 1_000 || a.scale.synced_writes == 0 || a.rounds == 0 {
        return Err("at least 1,000 keys, 1 synced write and 1 round are needed".into());
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
            Some((engine, workload)) => child(&arguments, engine, workload),
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
    let engines = chosen(ENGINES, &arguments.engines)?;
    std::fs::create_dir_all(&arguments.directory)?;
    let mut all = Vec::new();
    for round in 0..arguments.rounds {
        for name in &workloads {
            let mut turn = engines.clone();
            turn.rotate_left(round as usize % engines.len());
            for engine in turn {
                let measured = in_child(arguments, engine, name, round)?;
                for m in &measured {
                    eprintln!(
                        "round {}  {:<28} {:<9} {:>10.1} ns/op",
                        round + 1,
                        m.row,
                        m.engine,
                        m.ns_per_operation
                    );
                }
                all.extend(measured);
            }
        }
    }
    println!("{}", report::table(&all, &engines));
    let scale = json!({
        "keys": arguments.scale.keys,
        "synced_writes": arguments.scale.synced_writes,
        "rounds": arguments.rounds,
        "key_bytes": data::KEY_BYTES,
        "value_bytes": data::VALUE_BYTES,
    });
    let place = report::place(&arguments.directory);
    let path = report::save(&arguments.record, place, scale, &all)?;
    println!("Record: {}", path.display());
    Ok(())
}

fn in_child(a: &Arguments, engine: &str, name: &str, round: u32) -> Result<Vec<Measurement>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--child", engine, name])
        .args(["--keys", &a.scale.keys.to_string()])
        .args(["--synced", &a.scale.synced_writes.to_string()])
        .arg("--dir")
        .arg(&a.directory)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{engine}, {name}: the run ended with {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [row, operations, nanos, directory, written] = fields[..] else {
                return Err(format!("{engine}, {name}: not a figure: {line}").into());
            };
            let operations: u64 = operations.parse()?;
            Ok(Measurement {
                row: row.to_string(),
                engine: engine.to_string(),
                round,
                ns_per_operation: nanos.parse::<f64>()? / operations as f64,
                operations,
                directory_bytes: directory.parse()?,
                written_bytes: written.parse()?,
            })
        })
        .collect()
}

fn child(arguments: &Arguments, engine: &str, name: &str) -> Result<()> {
    match engine {
        #[cfg(feature = "alluvium")]
        "alluvium" => measure::<engine::alluvium::Alluvium>(arguments, engine, name),
        "rocksdb" => measure::<engine::rocksdb::RocksDb>(arguments, engine, name),
        "fjall" => measure::<engine::fjall::Fjall>(arguments, engine, name),
        "redb" => measure::<engine::redb::Redb>(arguments, engine, name),
        "lmdb" => measure::<engine::lmdb::Lmdb>(arguments, engine, name),
        "sled" => measure::<engine::sled::Sled>(arguments, engine, name),
        _ => Err(format!("there is no engine named {engine}").into()),
    }
}

fn measure<E: Engine>(arguments: &Arguments, engine: &str, name: &str) -> Result<()> {
    let store = arguments
        .directory
        .join(format!("{engine}-{}", std::process::id()));
    let figures = measure_in::<E>(&store, arguments.scale, name);
    let directory_bytes = bytes_in(&store);
    if store.exists() {
        std::fs::remove_dir_all(&store)?;
    }
    let written = written_bytes();
    for Figure {
        row,
        operations,
        elapsed,
    } in figures?
    {
        let nanos = elapsed.as_nanos();
        println!("{row}\t{operations}\t{nanos}\t{directory_bytes}\t{written}");
    }
    Ok(())
}

fn measure_in<E: Engine>(store: &Path, scale: Scale, name: &str) -> Result<Vec<Figure>> {
    let engine = E::open(store, &scale.settings(name))?;
    let figures = workload::run(name, &engine, scale)?;
    engine.close()?;
    Ok(figures)
}

fn bytes_in(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(m) if m.is_dir() => bytes_in(&entry.path()),
            Ok(m) => m.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

fn written_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
        .unwrap_or(0)
}

//! A measurement in a process of its own: both ends of it.
//!
//! The parent starts the child with `--child`, waits for it up to the limit, and reads a line for
//! each figure. A child whose workload opens a store again starts a process with `--fill` that
//! makes the store.

use crate::Arguments;
use crate::engine::{self, Engine, Result, Work};
use crate::run::{Found, Gap, Measurement, Outcome};
use crate::workload::reopen::Fill;
use crate::workload::{self, Figure, Task, Unsupported};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a process that is not the parent is for.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    Measure,
    Fill,
}

impl Role {
    fn flag(self) -> &'static str {
        match self {
            Role::Measure => "--child",
            Role::Fill => "--fill",
        }
    }
}

/// What a child prints before the reason, when the engine cannot do the workload.
const UNSUPPORTED: &str = "unsupported\t";

fn command(role: Role, a: &Arguments, engine: &str, name: &str, place: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([role.flag(), engine, name])
        .args(["--keys", &a.scale.keys.to_string()])
        .args(["--synced", &a.scale.synced_writes.to_string()])
        .arg("--dir")
        .arg(place);
    Ok(command)
}

/// One workload with one engine in a process of its own, which is ended when it takes longer than
/// the limit.
pub fn start(a: &Arguments, engine: &str, name: &str, round: u32) -> Result<Outcome> {
    let born = Instant::now();
    let mut child = command(Role::Measure, a, engine, name, &a.directory)?
        .stdout(Stdio::piped())
        .spawn()?;
    let ended = wait(&mut child, born + a.limit)?;
    let found = match ended {
        Some(status) if status.success() => {
            // A few lines, which a pipe holds until the child has ended.
            let mut text = String::new();
            let mut output = child.stdout.take().ok_or("no output of the child")?;
            output.read_to_string(&mut text)?;
            match text.strip_prefix(UNSUPPORTED) {
                Some(reason) => Found::Gap(Gap::Unsupported {
                    reason: reason.trim_end().to_string(),
                }),
                None => {
                    let figures: Result<_> = text.lines().map(read_line).collect();
                    let figures = figures.map_err(|error| format!("{engine}, {name}: {error}"));
                    Found::Figures(figures?)
                }
            }
        }
        Some(status) => {
            return Err(format!("{engine}, {name}: the run ended with {status}").into());
        }
        None => {
            let store = store(&a.directory, engine, child.id());
            if store.exists() {
                std::fs::remove_dir_all(store)?;
            }
            Found::Gap(Gap::TooLong {
                seconds: a.limit.as_secs(),
            })
        }
    };
    Ok(Outcome {
        workload: name.to_string(),
        engine: engine.to_string(),
        round,
        seconds: born.elapsed().as_secs_f64(),
        found,
    })
}

/// How the child ended; nothing when it had to be ended.
fn wait(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if deadline < Instant::now() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn read_line(line: &str) -> Result<Measurement> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [
        row,
        operations,
        nanos,
        live,
        user,
        directory,
        written,
        resident,
    ] = fields[..]
    else {
        return Err(format!("not a figure: {line}").into());
    };
    let operations: u64 = operations.parse()?;
    Ok(Measurement {
        row: row.to_string(),
        ns_per_operation: nanos.parse::<f64>()? / operations as f64,
        operations,
        live_bytes: live.parse()?,
        user_bytes: user.parse()?,
        directory_bytes: directory.parse()?,
        written_bytes: written.parse()?,
        resident_bytes_peak: resident.parse()?,
    })
}

/// Where the child of that number has its store.
fn store(directory: &Path, engine: &str, process: u32) -> PathBuf {
    directory.join(format!("{engine}-{process}"))
}

/// The life of a process that is not the parent.
pub fn run(role: Role, arguments: &Arguments, engine: &str, name: &str) -> Result<()> {
    match role {
        Role::Measure => engine::with(
            engine,
            Measure {
                arguments,
                engine,
                name,
            },
        ),
        Role::Fill => engine::with(
            engine,
            Fill {
                directory: &arguments.directory,
                scale: arguments.scale,
                name,
            },
        ),
    }
}

struct Measure<'a> {
    arguments: &'a Arguments,
    engine: &'a str,
    name: &'a str,
}

impl Work for Measure<'_> {
    fn run<E: Engine>(self) -> Result<()> {
        let store = store(&self.arguments.directory, self.engine, std::process::id());
        let figures = workload::run::<E>(&Task {
            name: self.name,
            directory: &store,
            scale: self.arguments.scale,
            filler: &|| command(Role::Fill, self.arguments, self.engine, self.name, &store),
        });
        let directory_bytes = bytes_in(&store);
        if store.exists() {
            std::fs::remove_dir_all(&store)?;
        }
        let written = own_number("/proc/self/io", "write_bytes: ");
        let resident = own_number("/proc/self/status", "VmHWM:") * 1_024;
        let figures = match figures {
            Err(error) => match error.downcast::<Unsupported>() {
                Ok(unsupported) => {
                    println!("{UNSUPPORTED}{}", unsupported.0);
                    return Ok(());
                }
                Err(other) => return Err(other),
            },
            Ok(figures) => figures,
        };
        for Figure {
            row,
            operations,
            elapsed,
            volume,
        } in figures
        {
            let nanos = elapsed.as_nanos();
            let (live, user) = (volume.live_bytes, volume.user_bytes);
            println!(
                "{row}\t{operations}\t{nanos}\t{live}\t{user}\t{directory_bytes}\t{written}\t{resident}"
            );
        }
        Ok(())
    }
}

/// Blocks that the files take, holes not counted.
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

/// The number behind `prefix` in a file that the kernel keeps about this process; 0 without one.
fn own_number(file: &str, prefix: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(prefix));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

//! A measurement in a process of its own: both ends of it.
//!
//! The parent starts the child with `--child`, in a memory group of its own if memory is limited,
//! waits for it up to the limit of time, and reads what it found. A child whose workload opens a
//! store again starts a process with `--fill` that makes the store.

use crate::Arguments;
use crate::engine::{self, Engine, Result, Work};
use crate::memory::{self, Group};
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

fn command(role: Role, a: &Arguments, engine: &str, name: &str, place: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([role.flag(), engine, name])
        .args(["--keys", &a.scale.keys.to_string()])
        .args(["--synced", &a.scale.synced_writes.to_string()])
        .arg("--dir")
        .arg(place);
    if let Some(mib) = a.scale.memory_mib {
        command.args(["--memory", &mib.to_string()]);
    }
    Ok(command)
}

/// One workload with one engine in a process of its own, which is ended when it takes longer than
/// the limit, and by the kernel when it needs more memory than it may have.
pub fn start(a: &Arguments, engine: &str, name: &str, round: u32) -> Result<Outcome> {
    let born = Instant::now();
    let group = match a.scale.limit_bytes(name) {
        Some(bytes) => Some(Group::new(bytes)?),
        None => None,
    };
    let found = live(a, engine, name, group.as_ref());
    let removed = group.map_or(Ok(()), |group| group.remove());
    let found = found.map_err(|error| format!("{engine}, {name}: {error}"))?;
    removed?;
    Ok(Outcome {
        workload: name.to_string(),
        engine: engine.to_string(),
        round,
        seconds: born.elapsed().as_secs_f64(),
        found,
    })
}

/// The life of the child, as the parent sees it.
fn live(a: &Arguments, engine: &str, name: &str, group: Option<&Group>) -> Result<Found> {
    let mut command = command(Role::Measure, a, engine, name, &a.directory)?;
    if let Some(group) = group {
        command.arg("--group").arg(group.directory());
    }
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let status = wait(&mut child, a.limit)?;
    let gap = match status {
        Some(status) if status.success() => {
            // A line, which a pipe holds until the child has ended.
            let mut text = String::new();
            let mut output = child.stdout.take().ok_or("no output of the child")?;
            output.read_to_string(&mut text)?;
            return Found::from_json(&serde_json::from_str(&text)?);
        }
        // Either it or the process that filled its store.
        Some(_) if group.is_some_and(|group| 0 < group.kills()) => Gap::Killed,
        Some(status) => return Err(format!("the run ended with {status}").into()),
        None => Gap::TooLong {
            seconds: a.limit.as_secs(),
        },
    };
    let store = store(&a.directory, engine, child.id());
    if store.exists() {
        std::fs::remove_dir_all(store)?;
    }
    Ok(Found::Gap(gap))
}

/// How the child ended; nothing when it had to be ended.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
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

/// Where the child of that number has its store.
fn store(directory: &Path, engine: &str, process: u32) -> PathBuf {
    directory.join(format!("{engine}-{process}"))
}

/// The life of a process that is not the parent.
pub fn run(role: Role, arguments: &Arguments, engine: &str, name: &str) -> Result<()> {
    if let Some(group) = &arguments.group {
        memory::enter(group)?;
    }
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
        let found = match figures {
            Ok(figures) => {
                Found::Figures(figures.iter().map(of_process(directory_bytes)).collect())
            }
            Err(error) => Found::Gap(Gap::Unsupported {
                reason: error.downcast::<Unsupported>()?.0,
            }),
        };
        println!("{}", found.to_json());
        Ok(())
    }
}

/// Adds what the kernel has counted for this process to a figure of it.
fn of_process(directory_bytes: u64) -> impl Fn(&Figure) -> Measurement {
    let written_bytes = own_number("/proc/self/io", "write_bytes: ");
    let read_bytes = own_number("/proc/self/io", "read_bytes: ");
    let resident_bytes_peak = own_number("/proc/self/status", "VmHWM:") * 1_024;
    let major_faults = own_major_faults();
    move |figure| Measurement {
        row: figure.row.clone(),
        ns_per_operation: figure.elapsed.as_nanos() as f64 / figure.operations as f64,
        operations: figure.operations,
        live_bytes: figure.volume.live_bytes,
        user_bytes: figure.volume.user_bytes,
        directory_bytes,
        written_bytes,
        read_bytes,
        major_faults,
        resident_bytes_peak,
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

fn own_major_faults() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in parentheses, which may have spaces in it: the tenth field.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let field = fields.split_whitespace().nth(9);
    field.and_then(|number| number.parse().ok()).unwrap_or(0)
}

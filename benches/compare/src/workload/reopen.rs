//! The time to open a store again: after its process was killed, and after a clean close.
//!
//! Another process makes the store: it loads every key and lets the store settle, so that nothing
//! is left in the log, then writes as many records as a write buffer holds (350,000; a quarter of
//! the keys if that is less) and is killed, or closes. An engine may open lazily, so one get is
//! part of the time. Afterwards every record of the log is looked for.

use super::{Bench, Figure, Scale, Task, permuted};
use crate::data::{Order, is_value, value};
use crate::engine::{Engine, Result, Work};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

pub const AFTER_CRASH: &str = "open after a crash with a full log";
pub const AFTER_CLOSE: &str = "open after a clean close";

/// What the other process prints when the store is as it shall be.
const FILLED: &str = "filled";

/// 116 bytes each and what an engine adds, within a write buffer of 64 MiB.
const LOG_RECORDS_MAX: u64 = 350_000;

/// How the process before ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Crash,
    Close,
}

impl End {
    /// The end that this workload is about, if it is one of ours.
    pub fn of(workload: &str) -> Option<End> {
        match workload {
            AFTER_CRASH => Some(End::Crash),
            AFTER_CLOSE => Some(End::Close),
            _ => None,
        }
    }
}

fn log_records(scale: &Scale) -> u64 {
    (scale.keys / 4).min(LOG_RECORDS_MAX)
}

/// What the other process does: makes the store, says so, and waits for its death if it shall
/// crash. Should nobody kill it, it ends when its standard input does.
pub struct Fill<'a> {
    pub directory: &'a Path,
    pub scale: Scale,
    pub name: &'a str,
}

impl Work for Fill<'_> {
    fn run<E: Engine>(self) -> Result<()> {
        fill::<E>(self.directory, self.scale, self.name)
    }
}

fn fill<E: Engine>(directory: &Path, scale: Scale, name: &str) -> Result<()> {
    let end = End::of(name).ok_or_else(|| format!("{name} opens no store again"))?;
    let engine = E::open(directory, &scale.settings(name))?;
    let bench = Bench {
        engine: &engine,
        scale,
    };
    bench.load()?;
    for i in 0..log_records(&scale) {
        let index = permuted(i, scale.keys);
        let key = Order::Scrambled.key(index);
        engine.put(&key, &value(index, 1), false)?;
    }
    if end == End::Close {
        engine.close()?;
        return say_filled();
    }
    say_filled()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Err("this process was to be killed and was not".into())
}

fn say_filled() -> Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{FILLED}")?;
    Ok(output.flush()?)
}

pub fn run<E: Engine>(task: &Task<'_>, end: End) -> Result<Vec<Figure>> {
    make(task, end)?;
    let settings = task.scale.settings(task.name);
    let start = Instant::now();
    let engine = E::open(task.directory, &settings)?;
    let bench = Bench {
        engine: &engine,
        scale: task.scale,
    };
    // The last index in the permuted order is not in the log: its first generation stands.
    let keys = task.scale.keys;
    bench.check(Order::Scrambled, permuted(keys - 1, keys), 0)?;
    let elapsed = start.elapsed();
    bench.check_log(end == End::Close || E::SURVIVES_DEATH)?;
    engine.close()?;
    Ok(vec![Figure::new(task.name, 1, elapsed)])
}

/// Has the other process make the store, and kills it if it shall crash.
fn make(task: &Task<'_>, end: End) -> Result<()> {
    let mut other = (task.filler)()?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = other
        .stdout
        .take()
        .ok_or("no output of the other process")?;
    let mut filled = false;
    for line in BufReader::new(output).lines() {
        // A test harness prints before it on the same line.
        if line?.ends_with(FILLED) {
            filled = true;
            if end == End::Crash {
                other.kill()?;
            }
        }
    }
    let status = other.wait()?;
    if !filled || (end == End::Close && !status.success()) {
        return Err(format!("the process that fills the store ended with {status}").into());
    }
    Ok(())
}

impl<E: Engine> Bench<'_, E> {
    /// Every record of the log is there; or, where nothing was promised, it or the one before it.
    fn check_log(&self, promised: bool) -> Result<()> {
        let keys = self.scale.keys;
        for i in 0..log_records(&self.scale) {
            let index = permuted(i, keys);
            let right = self.engine.get(&Order::Scrambled.key(index), |found| {
                found.is_some_and(|bytes| {
                    is_value(bytes, index, 1) || !promised && is_value(bytes, index, 0)
                })
            })?;
            if !right {
                return Err(format!("index {index}: record {i} of the log is lost").into());
            }
        }
        Ok(())
    }
}

//! How cost grows: with the number of keys of one store, and with the number of keyspaces.
//!
//! The parent runs each part in a process of its own (itself, with `--child`), so that memory is
//! that part's and every opening is a real one. A child prints its figures as lines, and fails when
//! the engine gives a wrong answer. `model` computes what the shape of the tree says of the same
//! rows; DESIGN.md, "How cost grows", has both side by side.

mod arguments;
mod data;
mod growth;
mod keyspaces;
#[path = "../shared/mix.rs"]
mod mix;
mod model;
mod names;
#[path = "../shared/place.rs"]
mod place;
mod report;
mod store;
mod system;

use arguments::{Arguments, Role, parse};
use report::{Column, grouped};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use store::{Figure, Setting};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const HELP: &str = include_str!("help.txt");

fn main() -> ExitCode {
    let answer = match parse(std::env::args().skip(1)) {
        Ok(None) => {
            print!("{HELP}");
            Ok(())
        }
        Ok(Some(arguments)) => match arguments.child {
            Some(role) => child(role, &setting(&arguments)),
            None if arguments.model => {
                println!("{}", report::table(&models(&arguments)));
                Ok(())
            }
            None => parent(&arguments),
        },
        Err(error) => Err(error),
    };
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn setting(arguments: &Arguments) -> Setting {
    Setting {
        keys: arguments.keys.first().copied().unwrap_or(0),
        keyspaces: arguments.keyspaces,
        buffer_bytes: arguments.buffer_bytes,
        idle: keyspaces::IDLE,
        crowd_bytes: keyspaces::CROWD_BYTES,
        directory: arguments.directory.clone(),
    }
}

fn child(role: Role, setting: &Setting) -> Result<()> {
    for figure in work(role, setting)? {
        println!("{}\t{}", figure.name, figure.value);
    }
    Ok(())
}

fn work(role: Role, setting: &Setting) -> Result<Vec<Figure>> {
    match role {
        Role::Grow => growth::grow(setting),
        Role::OpenClosed => growth::open_closed(setting),
        Role::LeaveLog => growth::leave_log(setting),
        Role::OpenKilled => growth::open_killed(setting),
        Role::MakeKeyspaces => keyspaces::make(setting),
        Role::WriteKeyspaces => keyspaces::write(setting),
        Role::FlushKeyspaces => keyspaces::flush(setting),
        Role::CrowdKeyspaces => keyspaces::crowd(setting),
    }
}

fn parent(arguments: &Arguments) -> Result<()> {
    std::fs::create_dir_all(&arguments.directory)?;
    let (mut stores, mut databases) = (Vec::new(), Vec::new());
    let answer = measure(arguments, &mut stores, &mut databases);
    // What was measured before a wrong answer may have taken long: it is kept, and says so.
    if let Err(error) = &answer {
        println!("INCOMPLETE, for the run was ended: {error}\n");
    }
    for columns in [&stores, &databases] {
        if !columns.is_empty() {
            println!("{}", report::table(columns));
        }
    }
    let ended_by = answer.as_ref().err().map(ToString::to_string);
    let all = [stores, databases].concat();
    let path = report::save(arguments, &all, ended_by.as_deref())?;
    println!("Record: {}", path.display());
    answer
}

fn measure(
    arguments: &Arguments,
    stores: &mut Vec<Column>,
    databases: &mut Vec<Column>,
) -> Result<()> {
    for &keys in &arguments.keys {
        let setting = Setting {
            keys,
            ..setting(arguments)
        };
        let heading = format!("{} keys", grouped(keys));
        const ROLES: [Role; 4] = [
            Role::Grow,
            Role::OpenClosed,
            Role::LeaveLog,
            Role::OpenKilled,
        ];
        stores.push(run(&heading, setting, &ROLES)?);
        stores.push(Column {
            heading: "model".to_string(),
            figures: model::figures(keys, arguments.buffer_bytes),
        });
    }
    if 0 < arguments.keyspaces {
        let heading = format!("{} keyspaces", grouped(arguments.keyspaces));
        const ROLES: [Role; 4] = [
            Role::MakeKeyspaces,
            Role::WriteKeyspaces,
            Role::FlushKeyspaces,
            Role::CrowdKeyspaces,
        ];
        databases.push(run(&heading, setting(arguments), &ROLES)?);
    }
    Ok(())
}

fn models(arguments: &Arguments) -> Vec<Column> {
    let counts = (6..=10).map(|power| 10u64.pow(power));
    counts
        .map(|keys| Column {
            heading: format!("{} keys", grouped(keys)),
            figures: model::figures(keys, arguments.buffer_bytes),
        })
        .collect()
}

/// A directory that goes with this.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// One store, by one process after the other.
fn run(heading: &str, setting: Setting, roles: &[Role]) -> Result<Column> {
    let name = format!("{}-{}", std::process::id(), setting.keys);
    let place = Place(setting.directory.join(name));
    let setting = Setting {
        directory: place.0.clone(),
        ..setting
    };
    let mut figures = Vec::new();
    for &role in roles {
        eprintln!("{heading}: {}", role.name());
        for figure in start(role, &setting)? {
            eprintln!("    {:<60} {:>12.2}", figure.name, figure.value);
            figures.push(figure);
        }
    }
    Ok(Column {
        heading: heading.to_string(),
        figures,
    })
}

/// Runs a child to its end, or kills it when it has left its log.
fn start(role: Role, setting: &Setting) -> Result<Vec<Figure>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--child", role.name()])
        .args(["--keys", &setting.keys.max(1_000).to_string()])
        .args(["--keyspaces", &setting.keyspaces.max(1).to_string()])
        .args(["--buffer-kib", &(setting.buffer_bytes >> 10).to_string()])
        .arg("--dir")
        .arg(&setting.directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("no output of the child")?;
    let mut figures = Vec::new();
    let mut killed = false;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line == growth::LOG_IS_LEFT {
            child.kill()?;
            killed = true;
            continue;
        }
        let Some((name, value)) = line.split_once('\t') else {
            return Err(format!("{}: not a figure: {line}", role.name()).into());
        };
        figures.push(Figure::new(name, value.parse()?));
    }
    let status = child.wait()?;
    if !killed && !status.success() {
        return Err(format!("{}: ended with {status}", role.name()).into());
    }
    Ok(figures)
}

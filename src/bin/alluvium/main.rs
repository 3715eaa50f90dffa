//! The command line: what is asked for, where, and in which form the answer goes out.
//!
//! Each command group has a file of its own and sees the public face of the crate only. The exit
//! status is 0 only when the command did what it says; 1 otherwise (also `get` of a key that is
//! not there, and `verify` that found a problem); 2 for arguments that make no sense.
//!
//! `load` reads what `dump` and `scan` print; `backup` and `restore` work without a database open. What
//! only reads entries works beside a process that has the database open, and changes nothing on the disk.

mod bench;
mod copies;
mod entries;
mod explain;
mod look;
mod stream;
mod text;
mod upkeep;

use alluvium::{Db, DbReader, Keyspace, KeyspaceOptions, Options, SnapshotKeyspace};
use clap::{Parser, Subcommand};
use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

type Error = Box<dyn std::error::Error>;

#[derive(Parser)]
#[command(
    name = "alluvium",
    version,
    about = "Looks into and works on an alluvium database"
)]
struct Cli {
    /// Directory of the database.
    #[arg(long, global = true, value_name = "DIR", default_value = ".")]
    db: PathBuf,
    /// Keyspace; compact and flush take all of them when none is named.
    #[arg(long, global = true, value_name = "NAME")]
    keyspace: Option<String>,
    /// Answer as JSON: one document, or one line an entry.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the value of a key.
    Get(entries::Get),
    /// Set a key; makes database and keyspace where there are none.
    Put(entries::Put),
    /// Remove a key.
    Delete(entries::Delete),
    /// Print the entries of a range.
    Scan(entries::Scan),
    /// Put entries from a file or from standard input: what `dump` or `scan` printed.
    Load(stream::Load),
    /// Print everything, as JSON lines that `load` reads.
    Dump,
    /// Rewrite all levels into one, dropping what is overwritten or deleted.
    Compact(upkeep::Compact),
    /// Write memtables to tables.
    Flush,
    /// Print figures of log, levels, cache and background work.
    Stats,
    /// Draw the levels: a bar for each file.
    Levels(look::Levels),
    /// Say why: what a get asks, or what each byte of the directory is there for.
    Explain {
        #[command(subcommand)]
        what: explain::Explain,
    },
    /// Read everything and check every checksum, order and reference.
    Verify,
    /// Keep everything that can be read of a damaged database, and print what is lost.
    ///
    /// Exit status 1 when data is lost. Damaged files stay beside the database as *.damaged.
    Repair,
    /// Print the names of the keyspaces.
    Keyspaces,
    /// Make a database of its own, of hard links where it can, of one instant.
    Checkpoint(copies::Checkpoint),
    /// Keep points in time in a directory of backups.
    Backup {
        #[command(subcommand)]
        action: copies::Backup,
    },
    /// Make the database --db of a point in time.
    Restore(copies::Restore),
    /// Measure: fill, read and scan a database that is made for it and removed.
    Bench(bench::Bench),
}

impl Command {
    /// Whether it makes the database when there is none.
    fn creates(&self) -> bool {
        matches!(self, Command::Put(_) | Command::Load(_))
    }
}

/// What commands get that only read entries.
struct Reading {
    reader: DbReader,
    keyspace: Option<String>,
    json: bool,
}

impl Reading {
    fn open(cli: &Cli) -> Result<Reading, Error> {
        Ok(Reading {
            reader: Db::open_read_only(&cli.db)?,
            keyspace: cli.keyspace.clone(),
            json: cli.json,
        })
    }

    /// The keyspace that was named, or the default one.
    fn keyspace(&self) -> Result<SnapshotKeyspace, Error> {
        match &self.keyspace {
            None => Ok(SnapshotKeyspace::clone(&self.reader)),
            Some(name) => Ok(self.reader.keyspace(name)?),
        }
    }

    /// The keyspace that was named, or all of them.
    fn keyspaces(&self) -> Result<Vec<SnapshotKeyspace>, Error> {
        let names = match &self.keyspace {
            Some(name) => vec![name.clone()],
            None => self.reader.keyspaces(),
        };
        let keyspaces = names.iter().map(|name| self.reader.keyspace(name));
        Ok(keyspaces.collect::<alluvium::Result<_>>()?)
    }
}

/// What the other commands get beside their own arguments.
struct Context {
    db: Db,
    keyspace: Option<String>,
    json: bool,
}

impl Context {
    /// The keyspace that was named, or the default one. Only `put` and `load` make one that is not
    /// there.
    fn keyspace(&self, create: bool) -> Result<Keyspace, Error> {
        let Some(name) = &self.keyspace else {
            return Ok(Keyspace::clone(&self.db));
        };
        if !create && !self.db.keyspaces().contains(name) {
            let names = self.db.keyspaces().join(", ");
            return Err(format!("there is no keyspace named {name}; there are: {names}").into());
        }
        Ok(self.db.keyspace(name, KeyspaceOptions::default())?)
    }

    /// The keyspace that was named, or all of them.
    fn keyspaces(&self) -> Result<Vec<(String, Keyspace)>, Error> {
        let names = match &self.keyspace {
            Some(name) => vec![name.clone()],
            None => self.db.keyspaces(),
        };
        let options = KeyspaceOptions::default;
        names
            .into_iter()
            .map(|name| {
                if !self.db.keyspaces().contains(&name) {
                    return Err(format!("there is no keyspace named {name}").into());
                }
                let keyspace = self.db.keyspace(&name, options())?;
                Ok((name, keyspace))
            })
            .collect()
    }
}

/// Prints a line.
fn say(line: impl Display) -> Result<(), Error> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn is_closed_pipe(error: &Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Who closes the pipe (`| head`) has seen enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("alluvium: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Error> {
    match &cli.command {
        // Before anything is opened: it is for what cannot be.
        Command::Repair => return upkeep::repair(&cli.db, cli.json),
        Command::Restore(restore) => return restore.run(&cli.db, cli.json),
        Command::Bench(bench) => return bench.run(&cli.db, cli.json),
        Command::Backup { action } if !action.needs_database() => {
            return action.run_alone(cli.json);
        }
        Command::Get(get) => return get.run(&Reading::open(&cli)?),
        Command::Scan(scan) => return scan.run(&Reading::open(&cli)?),
        Command::Dump => return stream::dump(&Reading::open(&cli)?),
        Command::Keyspaces => return look::keyspaces(&Reading::open(&cli)?),
        _ => {}
    }
    let create = cli.command.creates();
    let context = Context {
        db: Options::new().create_if_missing(create).open(&cli.db)?,
        keyspace: cli.keyspace,
        json: cli.json,
    };
    let answer = match &cli.command {
        Command::Put(put) => put.run(&context),
        Command::Delete(delete) => delete.run(&context),
        Command::Load(load) => load.run(&context),
        Command::Compact(compact) => compact.run(&context),
        Command::Flush => upkeep::flush(&context),
        Command::Stats => look::stats(&context),
        Command::Levels(levels) => levels.run(&context),
        Command::Explain { what } => what.run(&context),
        Command::Verify => upkeep::verify(&context),
        Command::Checkpoint(checkpoint) => checkpoint.run(&context),
        Command::Backup { action } => action.run(&context),
        // They ended above.
        Command::Repair | Command::Restore(_) | Command::Bench(_) => Ok(()),
        Command::Get(_) | Command::Scan(_) | Command::Dump | Command::Keyspaces => Ok(()),
    };
    // The command's own failure is the one to show.
    let closed = context.db.close();
    answer?;
    Ok(closed?)
}

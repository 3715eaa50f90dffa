//! checkpoint, backup, restore: copies of one instant, and points in time.

use crate::upkeep::Spinner;
use crate::{Context, Error, say};
use alluvium::{
    BackupDirectory, BackupInfo, CheckpointOptions, CheckpointReport, Error as DbError,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args)]
pub(crate) struct Checkpoint {
    /// Directory to make the copy in; it must be empty or not there.
    to: PathBuf,
}

impl Checkpoint {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Error> {
        let spinner = Spinner::new("making a checkpoint".to_string());
        let report = context.db.checkpoint_with(&self.to, chosen(context))?;
        drop(spinner);
        tell("made", &self.to, &report, context.json)
    }
}

/// The keyspace that was named, or all of them.
fn chosen(context: &Context) -> CheckpointOptions {
    match &context.keyspace {
        Some(name) => CheckpointOptions::new().keyspaces([name.as_str()]),
        None => CheckpointOptions::new(),
    }
}

fn tell(what: &str, path: &Path, report: &CheckpointReport, as_json: bool) -> Result<(), Error> {
    if as_json {
        return say(json!({
            "done": what,
            "database": path.display().to_string(),
            "seqno": report.seqno.get(),
            "keyspaces": report.keyspaces,
            "tables": report.tables,
            "tables_linked": report.tables_linked,
            "bytes": report.bytes,
            "bytes_written": report.bytes_written,
        }));
    }
    say(format_args!(
        "{what} {}: {} tables, {} bytes, {} of them written",
        path.display(),
        report.tables,
        report.bytes,
        report.bytes_written
    ))
}

#[derive(Subcommand)]
pub(crate) enum Backup {
    /// Add a point in time of the database --db.
    Create {
        /// Directory of backups; made if it is not there.
        backups: PathBuf,
    },
    /// Print the points in time, oldest first.
    List {
        /// Directory of backups.
        backups: PathBuf,
    },
    /// Read every table of a point in time, or of all, and compare its checksum.
    Verify {
        /// Directory of backups.
        backups: PathBuf,
        /// Number of the point in time; all when none is named.
        id: Option<u64>,
    },
    /// Remove a point in time, or all but the newest.
    Remove {
        /// Directory of backups.
        backups: PathBuf,
        /// Number of the point in time.
        #[arg(required_unless_present = "keep")]
        id: Option<u64>,
        /// Keep so many of the newest, and remove all others.
        #[arg(long, value_name = "N", conflicts_with = "id")]
        keep: Option<usize>,
    },
}

impl Backup {
    /// Only what adds a point in time reads a database.
    pub(crate) fn needs_database(&self) -> bool {
        matches!(self, Backup::Create { .. })
    }

    pub(crate) fn run(&self, context: &Context) -> Result<(), Error> {
        let Backup::Create { backups } = self else {
            return self.run_alone(context.json);
        };
        let spinner = Spinner::new("backing up".to_string());
        let backups = BackupDirectory::open(backups)?;
        let report = backups.create_with(&context.db, chosen(context))?;
        drop(spinner);
        if context.json {
            let mut line = info_json(&report.backup);
            line["done"] = json!("backed up");
            line["tables_written"] = json!(report.tables_written);
            line["bytes_written"] = json!(report.bytes_written);
            return say(line);
        }
        say(format_args!(
            "backup {}: {} tables, {} bytes; {} tables and {} bytes written",
            report.backup.id,
            report.backup.tables,
            report.backup.bytes,
            report.tables_written,
            report.bytes_written
        ))
    }

    pub(crate) fn run_alone(&self, as_json: bool) -> Result<(), Error> {
        match self {
            // It is `run`'s.
            Backup::Create { .. } => Ok(()),
            Backup::List { backups } => list(&existing(backups)?, as_json),
            Backup::Verify { backups, id } => verify(&existing(backups)?, *id, as_json),
            Backup::Remove { backups, id, keep } => {
                let backups = existing(backups)?;
                let removed = match (id, keep) {
                    (Some(id), _) => backups.remove(*id).map(|()| vec![*id])?,
                    (None, keep) => backups.keep_newest(keep.unwrap_or(usize::MAX))?,
                };
                if as_json {
                    return say(json!({ "done": "removed", "ids": removed }));
                }
                let line = |id: &u64| say(format_args!("removed backup {id}"));
                removed.iter().try_for_each(line)
            }
        }
    }
}

/// Who only looks makes nothing.
fn existing(path: &Path) -> Result<BackupDirectory, Error> {
    if !path.is_dir() {
        return Err(format!("there is no directory {}", path.display()).into());
    }
    Ok(BackupDirectory::open(path)?)
}

fn info_json(info: &BackupInfo) -> Value {
    json!({
        "id": info.id,
        "made_ms": info.made_ms,
        "seqno": info.seqno.get(),
        "keyspaces": info.keyspaces,
        "tables": info.tables,
        "bytes": info.bytes,
    })
}

fn list(backups: &BackupDirectory, as_json: bool) -> Result<(), Error> {
    let mut damaged = 0;
    for info in backups.list()? {
        match info {
            Ok(info) if as_json => say(info_json(&info))?,
            Ok(info) => say(format_args!(
                "{:>6}  {}  {} tables, {} bytes, keyspaces {}",
                info.id,
                utc(info.made_ms),
                info.tables,
                info.bytes,
                info.keyspaces.join(", ")
            ))?,
            Err(error) => {
                damaged += 1;
                match as_json {
                    true => say(json!({ "problem": error.to_string() }))?,
                    false => say(error)?,
                }
            }
        }
    }
    problems(damaged)
}

fn verify(backups: &BackupDirectory, id: Option<u64>, as_json: bool) -> Result<(), Error> {
    let spinner = Spinner::new("verifying".to_string());
    let (mut ids, mut found): (Vec<u64>, Vec<DbError>) = (Vec::new(), Vec::new());
    match id {
        Some(id) => ids.push(id),
        None => {
            for info in backups.list()? {
                match info {
                    Ok(info) => ids.push(info.id),
                    Err(error) => found.push(error),
                }
            }
        }
    }
    let (mut files, mut bytes) = (0, 0);
    for id in &ids {
        spinner.tell(format!("verifying backup {id}"));
        let report = backups.verify(*id)?;
        files += report.files;
        bytes += report.bytes;
        found.extend(report.problems);
    }
    drop(spinner);
    if as_json {
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        say(json!({ "ids": ids, "files": files, "bytes": bytes, "problems": texts }))?;
    } else {
        say(format_args!(
            "{} points in time, {files} files, {bytes} bytes read",
            ids.len()
        ))?;
        found.iter().try_for_each(say)?;
    }
    problems(found.len())
}

fn problems(count: usize) -> Result<(), Error> {
    match count {
        0 => Ok(()),
        1 => Err("1 problem was found".into()),
        n => Err(format!("{n} problems were found").into()),
    }
}

#[derive(Args)]
pub(crate) struct Restore {
    /// Directory of backups.
    backups: PathBuf,
    /// Number of the point in time; the newest when none is named.
    id: Option<u64>,
}

impl Restore {
    pub(crate) fn run(&self, to: &Path, as_json: bool) -> Result<(), Error> {
        let backups = existing(&self.backups)?;
        let id = match self.id {
            Some(id) => id,
            // A damaged newest one is an error, not a reason to take an older one.
            None => match backups.list()?.pop() {
                Some(info) => info?.id,
                None => return Err("there is no backup".into()),
            },
        };
        let spinner = Spinner::new(format!("restoring backup {id}"));
        let report = backups.restore(id, to)?;
        drop(spinner);
        tell("restored", to, &report, as_json)
    }
}

/// `2026-11-27 09:30:00` of the wall clock's milliseconds since 1970, in UTC.
fn utc(ms: u64) -> String {
    let seconds = Duration::from_millis(ms).as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that leap days are at their end (Hinnant, days_from_civil).
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + next_year;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_do() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_709_251_200, "2024-03-01 00:00:00"),
            (1_795_771_800, "2026-11-27 09:30:00"),
            (4_107_542_399, "2100-02-28 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds * 1000), text);
        }
    }
}

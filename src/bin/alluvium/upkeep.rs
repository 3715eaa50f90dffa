//! compact, flush, verify, repair: long work, with a spinner on a terminal.

use crate::text::Form;
use crate::{Context, Error, say};
use alluvium::Db;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use std::ops::Bound;
use std::path::Path;
use std::time::Duration;

/// Turns while it lives; draws on a terminal only, and on the error stream.
pub(crate) struct Spinner(ProgressBar);

impl Spinner {
    pub(crate) fn new(message: String) -> Self {
        let bar = ProgressBar::new_spinner().with_message(message);
        bar.enable_steady_tick(Duration::from_millis(100));
        Spinner(bar)
    }

    /// Says how far it is.
    pub(crate) fn tell(&self, message: String) {
        self.0.set_message(message);
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[derive(Args)]
pub(crate) struct Compact {
    /// First key of the range.
    #[arg(long)]
    from: Option<String>,
    /// End of the range, not part of it.
    #[arg(long)]
    to: Option<String>,
    /// How the keys are written.
    #[arg(long, value_enum, default_value_t)]
    form: Form,
}

impl Compact {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Error> {
        let parse = |key: &Option<String>| key.as_deref().map(|k| self.form.parse(k)).transpose();
        let (from, to) = (parse(&self.from)?, parse(&self.to)?);
        for (name, keyspace) in context.keyspaces()? {
            let spinner = Spinner::new(format!("compacting {name}"));
            if from.is_none() && to.is_none() {
                keyspace.compact()?;
            } else {
                let from = from.clone().map_or(Bound::Unbounded, Bound::Included);
                let to = to.clone().map_or(Bound::Unbounded, Bound::Excluded);
                keyspace.compact_range((from, to))?;
            }
            drop(spinner);
            report(context, "compacted", &name)?;
        }
        Ok(())
    }
}

pub(crate) fn flush(context: &Context) -> Result<(), Error> {
    context.db.flush()?;
    for (name, _) in context.keyspaces()? {
        report(context, "flushed", &name)?;
    }
    Ok(())
}

fn report(context: &Context, what: &str, keyspace: &str) -> Result<(), Error> {
    if context.json {
        say(json!({ "done": what, "keyspace": keyspace }))
    } else {
        say(format_args!("{what} {keyspace}"))
    }
}

pub(crate) fn verify(context: &Context) -> Result<(), Error> {
    let spinner = Spinner::new("verifying".to_string());
    let report = context.db.verify()?;
    drop(spinner);
    if context.json {
        let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        let (files, entries, bytes) = (report.files, report.entries, report.bytes);
        say(json!({ "files": files, "entries": entries, "bytes": bytes, "problems": problems }))?;
    } else {
        say(format_args!(
            "{} files, {} entries, {} bytes read",
            report.files, report.entries, report.bytes
        ))?;
        for problem in &report.problems {
            say(problem)?;
        }
    }
    match report.problems.len() {
        0 => Ok(()),
        1 => Err("1 problem was found".into()),
        n => Err(format!("{n} problems were found").into()),
    }
}

pub(crate) fn repair(path: &Path, as_json: bool) -> Result<(), Error> {
    let spinner = Spinner::new("repairing".to_string());
    let report = Db::repair(path)?;
    drop(spinner);
    if as_json {
        let losses: Vec<String> = report.losses.iter().map(ToString::to_string).collect();
        let aside: Vec<String> = report
            .kept_aside
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        say(json!({
            "changed": report.changed,
            "keyspaces": report.keyspaces,
            "tables_kept": report.tables_kept,
            "tables_rewritten": report.tables_rewritten,
            "log_records_kept": report.log_records_kept,
            "manifest_rebuilt": report.manifest_rebuilt,
            "lost_data": report.has_lost_data(),
            "losses": losses,
            "kept_aside": aside,
        }))?;
    } else {
        say(&report)?;
    }
    if report.has_lost_data() {
        return Err("some data is lost; the rest is there".into());
    }
    Ok(())
}

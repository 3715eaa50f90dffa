//! compact, flush, verify: long work, with a spinner on a terminal.

use crate::text::Form;
use crate::{Context, Error};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use std::ops::Bound;
use std::time::Duration;

/// Turns while it lives; draws on a terminal only, and on the error stream.
struct Spinner(ProgressBar);

impl Spinner {
    fn new(message: String) -> Self {
        let bar = ProgressBar::new_spinner().with_message(message);
        bar.enable_steady_tick(Duration::from_millis(100));
        Spinner(bar)
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
            report(context, "compacted", &name);
        }
        Ok(())
    }
}

pub(crate) fn flush(context: &Context) -> Result<(), Error> {
    context.db.flush()?;
    for (name, _) in context.keyspaces()? {
        report(context, "flushed", &name);
    }
    Ok(())
}

fn report(context: &Context, what: &str, keyspace: &str) {
    if context.json {
        println!("{}", json!({ "done": what, "keyspace": keyspace }));
    } else {
        println!("{what} {keyspace}");
    }
}

pub(crate) fn verify(context: &Context) -> Result<(), Error> {
    let spinner = Spinner::new("verifying".to_string());
    let report = context.db.verify()?;
    drop(spinner);
    if context.json {
        let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        let (files, entries, bytes) = (report.files, report.entries, report.bytes);
        println!(
            "{}",
            json!({ "files": files, "entries": entries, "bytes": bytes, "problems": problems })
        );
    } else {
        println!(
            "{} files, {} entries, {} bytes read",
            report.files, report.entries, report.bytes
        );
        for problem in &report.problems {
            println!("{problem}");
        }
    }
    match report.problems.len() {
        0 => Ok(()),
        1 => Err("1 problem was found".into()),
        n => Err(format!("{n} problems were found").into()),
    }
}

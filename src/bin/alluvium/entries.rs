//! get, put, delete, scan.

use crate::text::Form;
use crate::{Context, Error, Reading, say};
use alluvium::{Durability, WriteOptions};
use clap::Args;
use serde_json::json;
use std::io::{BufWriter, Write};
use std::ops::Bound;
use std::time::Duration;

#[derive(Args)]
pub(crate) struct Get {
    key: String,
    /// How key and value are written.
    #[arg(long, value_enum, default_value_t)]
    form: Form,
}

impl Get {
    pub(crate) fn run(&self, reading: &Reading) -> Result<(), Error> {
        let key = self.form.parse(&self.key)?;
        let Some(value) = reading.keyspace()?.get(&key)? else {
            return Err(format!("{} is not there", self.key).into());
        };
        if reading.json {
            let (key, value) = (self.form.json(&key), self.form.json(&value));
            say(json!({ "key": key, "value": value }))?;
        } else {
            say(self.form.show(&value))?;
        }
        Ok(())
    }
}

#[derive(Args)]
pub(crate) struct Put {
    key: String,
    value: String,
    /// How long the value lives. Default: as the keyspace says.
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// How key and value are written.
    #[arg(long, value_enum, default_value_t)]
    form: Form,
}

impl Put {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Error> {
        let (key, value) = (self.form.parse(&self.key)?, self.form.parse(&self.value)?);
        let options = match self.ttl {
            None => synced(),
            Some(seconds) => synced().ttl(Duration::from_secs(seconds)),
        };
        context.keyspace(true)?.put_with(key, value, options)?;
        done(context, "put")
    }
}

#[derive(Args)]
pub(crate) struct Delete {
    key: String,
    /// How the key is written.
    #[arg(long, value_enum, default_value_t)]
    form: Form,
}

impl Delete {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Error> {
        let key = self.form.parse(&self.key)?;
        context.keyspace(false)?.delete_with(key, synced())?;
        done(context, "deleted")
    }
}

/// Who writes one key by hand wants it to stay.
fn synced() -> WriteOptions {
    WriteOptions::new().durability(Durability::Synced)
}

fn done(context: &Context, what: &str) -> Result<(), Error> {
    if context.json {
        say(json!({ "done": what }))?;
    }
    Ok(())
}

#[derive(Args)]
pub(crate) struct Scan {
    /// First key of the range.
    #[arg(long)]
    from: Option<String>,
    /// End of the range, not part of it.
    #[arg(long)]
    to: Option<String>,
    /// Only keys that begin so.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    prefix: Option<String>,
    /// From the last key to the first.
    #[arg(long)]
    reverse: bool,
    /// At most so many entries.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How keys and values are written.
    #[arg(long, value_enum, default_value_t)]
    form: Form,
}

impl Scan {
    pub(crate) fn run(&self, reading: &Reading) -> Result<(), Error> {
        let parse = |key: &Option<String>| key.as_deref().map(|k| self.form.parse(k)).transpose();
        let keyspace = reading.keyspace()?;
        let entries = match parse(&self.prefix)? {
            Some(prefix) => keyspace.prefix(prefix),
            None => {
                let from = parse(&self.from)?.map_or(Bound::Unbounded, Bound::Included);
                let to = parse(&self.to)?.map_or(Bound::Unbounded, Bound::Excluded);
                keyspace.range((from, to))
            }
        };
        let limit = self.limit.unwrap_or(usize::MAX);
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut print = |entry: alluvium::Result<_>| -> Result<(), Error> {
            let (key, value): (alluvium::Slice, alluvium::Slice) = entry?;
            let form = self.form;
            if reading.json {
                let line = json!({ "key": form.json(&key), "value": form.json(&value) });
                writeln!(out, "{line}")?;
            } else {
                writeln!(out, "{}\t{}", form.show(&key), form.show(&value))?;
            }
            Ok(())
        };
        if self.reverse {
            entries.rev().take(limit).try_for_each(&mut print)?;
        } else {
            entries.take(limit).try_for_each(&mut print)?;
        }
        Ok(out.flush()?)
    }
}

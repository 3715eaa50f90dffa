//! explain: what a get asks and is told, and what holds the space.

use crate::text::Form;
use crate::{Context, Error, say};
use alluvium::explain::{GetAnswer, GetPlace, GetStep, Space};
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Subcommand)]
pub(crate) enum Explain {
    /// What a get of a key asks, in order, and what it is told.
    Get {
        key: String,
        /// How the key is written.
        #[arg(long, value_enum, default_value_t)]
        form: Form,
    },
    /// What each byte of the directory is there for.
    Space,
}

impl Explain {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Error> {
        match self {
            Explain::Get { key, form } => explain_get(context, key, *form),
            Explain::Space => explain_space(context),
        }
    }
}

fn explain_get(context: &Context, key: &str, form: Form) -> Result<(), Error> {
    let report = context.keyspace(false)?.explain_get(form.parse(key)?)?;
    if !context.json {
        return say(report);
    }
    say(json!({
        "key": form.json(&report.key),
        "at": report.at.get(),
        "steps": report.steps.iter().map(step).collect::<Vec<_>>(),
        "deleted_at": report.deleted_at.map(|seqno| seqno.get()),
        "value_bytes": report.value_bytes,
    }))
}

fn step(step: &GetStep) -> Value {
    let mut line = match step.place {
        GetPlace::Run { level, order, file } => {
            json!({ "place": "run", "level": level, "order": order, "file": file })
        }
        GetPlace::Memtable => json!({ "place": "memtable" }),
        _ => json!({ "place": "waiting memtable" }),
    };
    line["answer"] = match step.answer {
        GetAnswer::OutOfRange => json!("out of range"),
        GetAnswer::FilteredOut => json!("filtered out"),
        GetAnswer::Version { seqno, kind, bytes } => {
            let kind = format!("{kind:?}").to_lowercase();
            json!({ "seqno": seqno.get(), "kind": kind, "bytes": bytes })
        }
        _ => json!("nothing"),
    };
    line
}

fn explain_space(context: &Context) -> Result<(), Error> {
    let report = context.db.why_space()?;
    if !context.json {
        return say(report);
    }
    let of = |space: Space| json!({ "files": space.files, "bytes": space.bytes });
    let keyspace = |space: &alluvium::explain::KeyspaceSpace| {
        json!({
            "name": space.name, "tables": of(space.tables),
            "last_run_bytes": space.last_run_bytes, "above_bytes": space.above_bytes,
            "deletions": space.deletions, "expiring": space.expiring,
            "deleted_ranges": space.deleted_ranges,
        })
    };
    say(json!({
        "keyspaces": report.keyspaces.iter().map(keyspace).collect::<Vec<_>>(),
        "replaced": of(report.replaced), "log": of(report.log),
        "log_held_by": report.log_held_by, "manifest": of(report.manifest),
        "reserve": of(report.reserve), "unfinished": of(report.unfinished),
        "foreign": of(report.foreign), "bytes": report.bytes(),
    }))
}

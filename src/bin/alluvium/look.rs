//! stats, levels, keyspaces: figures and pictures of what is there.

use crate::text::Form;
use crate::{Context, Error, Reading, say};
use clap::Args;
use serde_json::{Value, json};

#[derive(Args)]
pub(crate) struct Levels {
    /// Width of the picture in characters.
    #[arg(long, default_value_t = 80)]
    width: usize,
}

impl Levels {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Error> {
        if context.json {
            say(json!({ "keyspaces": levels(context)? }))?;
            return Ok(());
        }
        let mut stats = context.db.stats();
        if context.keyspace.is_some() {
            let keyspace = context.keyspace(false)?;
            stats.keyspaces.retain(|k| k.name == keyspace.name());
        }
        say(stats.levels_picture(self.width).trim_end())?;
        Ok(())
    }
}

/// Every table of every level, as JSON, of the keyspace that was named or of all.
fn levels(context: &Context) -> Result<Vec<Value>, Error> {
    context.keyspace(false)?; // A name that is not there is an error, not an empty list.
    let table = |t: &alluvium::TableStats| {
        json!({
            "file": t.file, "bytes": t.bytes, "entries": t.entries, "tombstones": t.tombstones,
            "smallest": Form::Text.json(&t.smallest), "largest": Form::Text.json(&t.largest),
        })
    };
    let run = |r: &alluvium::RunStats| json!({ "order": r.order, "tables": r.tables.iter().map(table).collect::<Vec<_>>() });
    let level = |l: &alluvium::LevelStats| json!(l.runs.iter().map(run).collect::<Vec<_>>());
    let stats = context.db.stats();
    let wanted = |name: &str| context.keyspace.as_deref().is_none_or(|k| k == name);
    let keyspaces = stats.keyspaces.iter().filter(|k| wanted(&k.name));
    Ok(keyspaces
        .map(|k| {
            json!({
                "name": k.name,
                "memtable_bytes": k.memtable_bytes,
                "immutable_memtables": k.immutable_memtables,
                "levels": k.levels.iter().map(level).collect::<Vec<_>>(),
            })
        })
        .collect())
}

pub(crate) fn stats(context: &Context) -> Result<(), Error> {
    let stats = context.db.stats();
    let state = context.db.state().to_string();
    if !context.json {
        return say(format_args!(
            "state: {state}\n{}",
            stats.to_string().trim_end()
        ));
    }
    let all = json!({
        "state": state,
        "keyspaces": levels(context)?,
        "log": {
            "segments": stats.log.segments, "bytes": stats.log.bytes,
            "appended_bytes": stats.log.appended_bytes, "syncs": stats.log.syncs,
        },
        "stall": {
            "count": stats.stall.count,
            "total_ns": stats.stall.total.as_nanos() as u64,
        },
        "flushes": stats.flushes,
        "flush_bytes_written": stats.flush_bytes_written,
        "compactions": stats.compactions,
        "compaction_bytes_read": stats.compaction_bytes_read,
        "compaction_bytes_written": stats.compaction_bytes_written,
        "pending_jobs": stats.pending_jobs,
        "cache": {
            "hits": stats.cache_hits, "misses": stats.cache_misses, "bytes": stats.cache_bytes,
        },
    });
    say(all)
}

pub(crate) fn keyspaces(reading: &Reading) -> Result<(), Error> {
    let names = reading.reader.keyspaces();
    if reading.json {
        say(json!(names))?;
    } else {
        names.iter().try_for_each(say)?;
    }
    Ok(())
}

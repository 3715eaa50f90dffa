//! load and dump: all entries as lines, out and in again.
//!
//! ```text
//! {"keyspace":"orders"}                              made, also when nothing is in it
//! {"keyspace":"orders","key":"1","value":"x"}        what dump prints
//! {"key":{"hex":"ff"},"value":"x"}                   what scan --json prints
//! key<TAB>value                                      what scan prints, read as --form says
//! ```
//! A line that begins with a brace is JSON. Text between tabs is taken as it is: bytes that are no
//! text, and tabs and ends of lines in keys and values, need JSON or `--form hex`.

use crate::text::Form;
use crate::upkeep::Spinner;
use crate::{Context, Error, Reading, say};
use alluvium::{Keyspace, KeyspaceOptions, WriteBatch, WriteOptions};
use clap::Args;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;

/// A batch is written when it has so many bytes.
const BATCH_BYTES: usize = 1 << 20;

#[derive(Args)]
pub(crate) struct Load {
    /// File to read; standard input when none is named.
    file: Option<PathBuf>,
    /// How keys and values between tabs are written.
    #[arg(long, value_enum, default_value_t)]
    form: Form,
}

/// One line.
struct Entry {
    keyspace: Option<String>,
    /// Key and value; none where a keyspace is only made.
    pair: Option<(Vec<u8>, Vec<u8>)>,
}

impl Load {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Error> {
        let input: Box<dyn BufRead> = match &self.file {
            Some(path) => {
                let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
                Box::new(BufReader::new(file))
            }
            None => Box::new(std::io::stdin().lock()),
        };
        let spinner = Spinner::new("loading".to_string());
        let mut loader = Loader {
            context,
            keyspaces: HashMap::new(),
            batch: WriteBatch::new(),
            entries: 0,
            written: 0,
            bytes: 0,
        };
        for (line, number) in input.split(b'\n').zip(1u64..) {
            let loaded = line.map_err(Error::from).and_then(|line| {
                match line.strip_suffix(b"\r").unwrap_or(&line) {
                    b"" => Ok(()),
                    line => loader.take(self.parse(line)?),
                }
            });
            if let Err(error) = loaded {
                let written = loader.written;
                return Err(format!(
                    "line {number}: {error}. {written} entries before it are in the database"
                )
                .into());
            }
            if loader.batch.is_empty() {
                spinner.tell(format!("loading: {} entries", loader.written));
            }
        }
        loader.write()?;
        context.db.sync()?;
        drop(spinner);
        let (entries, bytes) = (loader.entries, loader.bytes);
        if context.json {
            return say(json!({ "done": "loaded", "entries": entries, "bytes": bytes }));
        }
        say(format_args!(
            "loaded {entries} entries, {bytes} bytes of keys and values"
        ))
    }

    fn parse(&self, line: &[u8]) -> Result<Entry, Error> {
        if line.starts_with(b"{") {
            return parse_json(line);
        }
        let tab = line.iter().position(|byte| *byte == b'\t');
        let (key, value) = line.split_at(tab.ok_or("neither JSON nor a key, a tab and a value")?);
        let bytes = |part: &[u8]| match self.form {
            Form::Text => Ok(part.to_vec()),
            Form::Hex => self.form.parse(&String::from_utf8_lossy(part)),
        };
        Ok(Entry {
            keyspace: None,
            pair: Some((bytes(key)?, bytes(&value[1..])?)),
        })
    }
}

fn parse_json(line: &[u8]) -> Result<Entry, Error> {
    let document: Value = serde_json::from_slice(line)?;
    let keyspace = match document.get("keyspace") {
        None => None,
        Some(Value::String(name)) => Some(name.clone()),
        Some(_) => return Err("the name of a keyspace is a string".into()),
    };
    let pair = match (document.get("key"), document.get("value")) {
        (Some(key), Some(value)) => Some((Form::from_json(key)?, Form::from_json(value)?)),
        (None, None) if keyspace.is_some() => None,
        _ => return Err("key and value are expected".into()),
    };
    Ok(Entry { keyspace, pair })
}

/// Puts entries, many at a time.
struct Loader<'a> {
    context: &'a Context,
    keyspaces: HashMap<Option<String>, Keyspace>,
    batch: WriteBatch,
    entries: u64,
    /// Those of them that are in the database.
    written: u64,
    bytes: u64,
}

impl Loader<'_> {
    fn take(&mut self, entry: Entry) -> Result<(), Error> {
        let keyspace = match self.keyspaces.get(&entry.keyspace) {
            Some(keyspace) => keyspace,
            None => {
                let keyspace = match &entry.keyspace {
                    Some(name) => self.context.db.keyspace(name, KeyspaceOptions::default())?,
                    None => self.context.keyspace(true)?,
                };
                let place = self.keyspaces.entry(entry.keyspace.clone());
                place.or_insert(keyspace)
            }
        };
        let Some((key, value)) = entry.pair else {
            return Ok(());
        };
        self.batch.put(keyspace, &key, &value);
        self.entries += 1;
        self.bytes += (key.len() + value.len()) as u64;
        match BATCH_BYTES <= self.batch.bytes() {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), Error> {
        self.context.db.write(&self.batch, WriteOptions::new())?;
        self.written = self.entries;
        self.batch.clear();
        Ok(())
    }
}

/// Everything of one instant, or of the keyspace that was named.
pub(crate) fn dump(reading: &Reading) -> Result<(), Error> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for keyspace in reading.keyspaces()? {
        let name = keyspace.name();
        writeln!(out, "{}", json!({ "keyspace": name }))?;
        for entry in keyspace.iter() {
            let (key, value) = entry?;
            let (key, value) = (Form::Text.json(&key), Form::Text.json(&value));
            let line = json!({ "keyspace": name, "key": key, "value": value });
            writeln!(out, "{line}")?;
        }
    }
    Ok(out.flush()?)
}

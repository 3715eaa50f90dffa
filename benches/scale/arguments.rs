//! What the command line asks for.

use super::Result;
use std::path::PathBuf;

const KEYS: [u64; 2] = [1_000_000, 10_000_000];
const KEYSPACES: u64 = 1_000;
const BUFFER_KIB: u64 = 64 << 10;

/// The work of one process, the parent's apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Fills a store, measures it, closes it.
    Grow,
    /// Opens a store that was closed.
    OpenClosed,
    /// Leaves records in the log and waits for its end by a signal.
    LeaveLog,
    /// Opens a store whose process was killed.
    OpenKilled,
    /// Makes keyspaces.
    MakeKeyspaces,
    /// Opens them empty and leaves records of each in the log.
    WriteKeyspaces,
    /// Opens them with these records, and flushes them to tables.
    FlushKeyspaces,
    /// Opens them with a table in each, and lets one of them take many writes.
    CrowdKeyspaces,
}

/// As `--child` takes them.
pub(crate) const ROLES: [(&str, Role); 8] = [
    ("grow", Role::Grow),
    ("open-closed", Role::OpenClosed),
    ("leave-log", Role::LeaveLog),
    ("open-killed", Role::OpenKilled),
    ("make-keyspaces", Role::MakeKeyspaces),
    ("write-keyspaces", Role::WriteKeyspaces),
    ("flush-keyspaces", Role::FlushKeyspaces),
    ("crowd-keyspaces", Role::CrowdKeyspaces),
];

impl Role {
    pub(crate) fn name(self) -> &'static str {
        let mut roles = ROLES.iter();
        roles
            .find(|(_, role)| *role == self)
            .map_or("", |(name, _)| name)
    }

    fn named(word: &str) -> Result<Role> {
        let mut roles = ROLES.iter();
        let found = roles.find(|(name, _)| *name == word);
        Ok(found
            .ok_or_else(|| format!("no child has the role {word}"))?
            .1)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Arguments {
    /// One column of the table each.
    pub(crate) keys: Vec<u64>,
    /// 0: not asked for.
    pub(crate) keyspaces: u64,
    pub(crate) buffer_bytes: u64,
    pub(crate) model: bool,
    pub(crate) note: String,
    pub(crate) directory: PathBuf,
    pub(crate) record: PathBuf,
    /// What this process is for, if it is not the parent.
    pub(crate) child: Option<Role>,
}

/// `None` when help is asked for.
pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>> {
    let mut a = Arguments {
        keys: Vec::new(),
        keyspaces: 0,
        buffer_bytes: BUFFER_KIB << 10,
        model: false,
        note: String::new(),
        directory: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/scale")),
        record: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/record")),
        child: None,
    };
    while let Some(word) = words.next() {
        let mut next = || {
            let argument = words.next();
            argument.ok_or_else(|| format!("{word} needs an argument"))
        };
        match word.as_str() {
            "--help" | "-h" => return Ok(None),
            "--bench" => {} // What `cargo bench` adds.
            "--keys" => a.keys.push(number(&next()?, 1_000, 1 << 40)?),
            "--keyspaces" => a.keyspaces = number(&next()?, 1, 1_000_000)?,
            "--buffer-kib" => a.buffer_bytes = number(&next()?, 16, 1 << 20)? << 10,
            "--model" => a.model = true,
            "--note" => a.note = next()?,
            "--dir" => a.directory = next()?.into(),
            "--record" => a.record = next()?.into(),
            "--child" => a.child = Some(Role::named(&next()?)?),
            _ => return Err(format!("unknown argument {word}; see --help").into()),
        }
    }
    if a.keys.is_empty() && a.keyspaces == 0 {
        a.keys = KEYS.to_vec();
        a.keyspaces = KEYSPACES;
    }
    Ok(Some(a))
}

fn number(word: &str, least: u64, most: u64) -> Result<u64> {
    let parsed = word.replace('_', "").parse();
    let number = parsed.map_err(|_| format!("{word} is not a number"))?;
    if number < least || most < number {
        return Err(format!("{word} is not within {least} and {most}").into());
    }
    Ok(number)
}

//! What a repair found and did, for programs and for people.

use crate::base::types::SeqNo;
use std::fmt;
use std::path::PathBuf;

/// What [`Db::repair`](crate::Db::repair) kept, and everything that it could not.
///
/// `Display` gives a line of figures, a line for each [`Loss`], and a line for each file kept aside.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// The names of the keyspaces, sorted.
    pub keyspaces: Vec<String>,
    /// Tables that are whole and stay as they are.
    pub tables_kept: u64,
    /// Tables of which something was lost, or whose place in the tree was: their entries stand in
    /// new tables.
    pub tables_rewritten: u64,
    /// Records of the log that stay; 0 when the log was whole and was left alone.
    pub log_records_kept: u64,
    /// The manifest could not be believed, and was made anew from tables and logs.
    pub manifest_rebuilt: bool,
    /// What is lost. Empty: everything could be read.
    pub losses: Vec<Loss>,
    /// Damaged files, under the names by which they are kept for whoever wants to look at them.
    /// They are not part of the database any more and may be removed.
    pub kept_aside: Vec<PathBuf>,
    /// Something was written: false for a database that needed no repair.
    pub changed: bool,
}

/// A stretch of a file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The file, by the name it had.
    pub file: PathBuf,
    /// What it is: a block, a log record, an index.
    pub what: String,
    /// Where in the file.
    pub offset: u64,
    /// How much of it.
    pub bytes: u64,
    /// The keyspace whose data it held, where that is known and it held data.
    pub keyspace: Option<String>,
    /// The last key that can be read before it; `None` when there is none, or it held no keys.
    pub after_key: Option<Vec<u8>>,
    /// The first key that can be read behind it.
    pub before_key: Option<Vec<u8>>,
    /// The lowest and highest number of the writes lost with it, as far as its neighbours tell.
    pub seqnos: Option<(SeqNo, SeqNo)>,
    /// How much that matters.
    pub kind: LossKind,
}

/// What a [`Loss`] means for the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossKind {
    /// Keys or writes are lost with it.
    #[default]
    Data,
    /// Everything in it was had from elsewhere: an index, a filter, `CURRENT`.
    Derived,
    /// The end of the log, which looks as a write that a crash cut off: opening cuts it off too.
    Torn,
}

impl RepairReport {
    /// True when some keys or writes could not be saved.
    pub fn has_lost_data(&self) -> bool {
        self.losses.iter().any(|loss| loss.kind == LossKind::Data)
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.changed {
            return write!(f, "nothing to repair: {} tables read", self.tables_kept);
        }
        write!(
            f,
            "{} keyspaces, {} tables kept, {} rewritten, {} log records kept",
            self.keyspaces.len(),
            self.tables_kept,
            self.tables_rewritten,
            self.log_records_kept
        )?;
        if self.manifest_rebuilt {
            write!(f, "\nthe manifest was made anew from tables and logs")?;
        }
        for loss in &self.losses {
            write!(f, "\n{loss}")?;
        }
        for file in &self.kept_aside {
            write!(f, "\nkept aside: {}", file.display())?;
        }
        Ok(())
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.kind {
            LossKind::Data => "lost",
            LossKind::Derived => "made anew",
            LossKind::Torn => "cut off",
        };
        let file = self.file.display();
        write!(
            f,
            "{verdict}: {} in {file} at offset {}",
            self.what, self.offset
        )?;
        write!(f, " ({} bytes)", self.bytes)?;
        if let Some(keyspace) = &self.keyspace {
            write!(f, ", keyspace '{keyspace}'")?;
        }
        if let Some(key) = &self.after_key {
            write!(f, ", keys behind \"{}\"", key.escape_ascii())?;
        }
        if let Some(key) = &self.before_key {
            write!(f, ", keys before \"{}\"", key.escape_ascii())?;
        }
        if let Some((from, to)) = self.seqnos {
            write!(f, ", writes {from} to {to}")?;
        }
        Ok(())
    }
}

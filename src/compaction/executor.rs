//! The labour: entries from sorted inputs through the drop rules into new tables.
//!
//! Inputs are read by cursors that verify every block; what comes out is synced, file by file and
//! then the directory, before the edit that names it is handed back. On an error, a stop, or fewer
//! entries than the manifest promises, every file made is removed again and the inputs are as they
//! were (C1, C4, P9): a bad block never gets a fresh checksum, and the end of a damaged file is
//! never taken for the end of its entries.
//!
//! An entry costs one step of the merge, one comparison and one `Builder::add`; nothing is
//! allocated for it and nothing is called through a pointer.
//! Threads: a job is one thread's. Not here: which job (`policy`), installing (version).

use super::drop_rules::{Below, DropRules, Verdict};
use super::expired::{Entry, entry_of};
use super::filtering::{Filtering, Instead};
use super::fold::Fold;
use super::job::Job;
use super::split::Splitter;
use super::{Outcome, Workshop};
use crate::base::cursor::Cursor;
use crate::base::error::{Error, ErrorKind, REPAIR_INPUTS, Result};
use crate::base::ranges::DeletedRanges;
use crate::base::sync::Arc;
use crate::base::sync::atomic::Ordering;
use crate::base::types::{FileId, SeqNo, Tag, Time, ValueKind};
use crate::fs::FileName;
use crate::memtable::Memtable;
use crate::read::{Concat, Merge, Parts};
use crate::table::{BirthIdentity, Builder, BuilderOptions, TableCursor};
use crate::version::{AddedTable, FileMeta, KeyspaceEdit, LEVELS_MAX, TableEntry};

/// So much lies between two looks at `stop` and two calls of `breathe`: an entry counts one, and one
/// more for each KiB of its value.
const BREATH: u64 = 1000;
/// A job tells how far it is so many times.
const STEPS: u64 = 64;

/// Does a job. A job whose entries are all dropped has an edit of removals only.
///
/// # Errors
/// `Corruption` when an input is damaged or out of order, `Closed` when `stop` was set,
/// `Unsupported` for an entry of a later version, and what making files gives. Outputs made so far
/// are removed, inputs are as before.
pub fn execute(job: &Job, workshop: &Workshop<'_>) -> Result<Outcome> {
    let order = match job.output_order {
        Some(order) => order,
        None => (workshop.allocate_order)(),
    };
    let removed = job.inputs.iter().flat_map(|(level, _, tables)| {
        let level = *level;
        tables.iter().map(move |table| (level, table.meta().file))
    });
    let mut edit = KeyspaceEdit {
        id: workshop.keyspace,
        removed: removed.collect(),
        ..KeyspaceEdit::default()
    };
    if job.drops {
        let entries = job.tables().map(|table| table.meta().summary.entries);
        return Ok(Outcome {
            edit,
            entries_dropped: entries.fold(0, u64::saturating_add),
            ..Outcome::default()
        });
    }
    if job.trivial_move {
        edit.added = moved(job, order);
        return Ok(Outcome {
            edit,
            ..Outcome::default()
        });
    }
    let sources = job
        .inputs
        .iter()
        .map(|(_, _, tables)| Concat::new(Inputs(tables)));
    let mut merge = Merge::new(sources.collect());
    let promised = job
        .tables()
        .fold(0u64, |sum, t| sum.saturating_add(t.meta().summary.entries));
    let mut rules = DropRules::new(workshop.snapshots, Below::tables(&job.below), &job.deleted);
    let splitter = Splitter::new(&job.cuts, workshop.options.table_bytes, job.bytes());
    let mut outputs = Outputs::new(workshop, job.output_level, order, splitter);
    // What the oldest snapshot sees deleted, no snapshot sees. Older deletions that are not in the
    // list matter to no table any more, and so to none of the inputs.
    if let Some(&oldest) = workshop.snapshots.first() {
        outputs.deleted_through = job.deleted.newest_until(oldest);
    }
    let tell = |share| {
        job.tables().for_each(|table| table.set_unmerged(share));
        (workshop.progressed)();
    };
    let dropped = outputs.write(&mut merge, &mut rules, promised, tell)?;
    let bytes_written = outputs.bytes();
    let filtered = outputs.filtered;
    edit.added = outputs.keep();
    Ok(Outcome {
        edit,
        bytes_read: job.bytes(),
        bytes_written,
        entries_dropped: dropped,
        filtered,
    })
}

/// Writes memtables (newest first, none takes writes any more) as one new run of level 0, dropping
/// versions nobody can see. Deletions stay. The caller adds the log floor to the edit.
///
/// # Errors
/// As [`execute`].
pub fn flush(memtables: &[Arc<Memtable>], workshop: &Workshop<'_>) -> Result<Outcome> {
    let bytes = memtables
        .iter()
        .fold(0u64, |sum, m| sum.saturating_add(m.bytes()));
    let promised = memtables.iter().map(|m| m.entries()).sum();
    let table_bytes = workshop.options.table_bytes;
    // One table, unless that would be more than two: then tables of the usual size.
    let table_bytes = if bytes <= table_bytes.saturating_mul(2) {
        u64::MAX
    } else {
        table_bytes
    };
    let mut deleted = DeletedRanges::default();
    deleted.extend(memtables.iter().map(|memtable| memtable.deleted()));
    let deleted = deleted.joined().seen_at(workshop.snapshots);
    let mut rules = DropRules::new(workshop.snapshots, Below::Unknown, &deleted);
    let splitter = Splitter::new(&[], table_bytes, bytes);
    let mut outputs = Outputs::new(workshop, 0, (workshop.allocate_order)(), splitter);
    let dropped = match memtables {
        [one] => outputs.write(&mut one.drain_cursor(), &mut rules, promised, |_| {})?,
        many => {
            let sources = many.iter().map(Memtable::drain_cursor).collect();
            outputs.write(&mut Merge::new(sources), &mut rules, promised, |_| {})?
        }
    };
    let bytes_written = outputs.bytes();
    Ok(Outcome {
        edit: KeyspaceEdit {
            id: workshop.keyspace,
            added: outputs.keep(),
            deleted,
            ..KeyspaceEdit::default()
        },
        bytes_read: bytes,
        bytes_written,
        entries_dropped: dropped,
        filtered: 0,
    })
}

/// Writes entries, in ascending order and each key once, to tables of level 0, whose run the caller
/// gives an order. They stay, so they are written as those of the last level. `expiry`: of their values.
///
/// # Errors
/// As [`execute`].
pub fn load<K, V>(
    entries: impl Iterator<Item = (K, V)>,
    seqno: SeqNo,
    expiry: Option<Time>,
    workshop: &Workshop<'_>,
) -> Result<Vec<AddedTable>>
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let table_bytes = workshop.options.table_bytes;
    let splitter = Splitter::new(&[], table_bytes, table_bytes);
    let mut outputs = Outputs::new(workshop, LEVELS_MAX as u8 - 1, 0, splitter);
    outputs.is_load = true;
    let mut breath = 0;
    let mut expiring = Vec::new();
    for (key, value) in entries {
        let (key, value) = (key.as_ref(), value.as_ref());
        if breath == 0 {
            breath = BREATH;
            outputs.pause()?;
        }
        breath = breath.saturating_sub(1 + (value.len() as u64 >> 10));
        match expiry {
            None => outputs.add(true, key, Tag::new(seqno, ValueKind::Put), value)?,
            Some(expiry) => {
                expiring.clear();
                expiring.extend_from_slice(&expiry.0.to_le_bytes());
                expiring.extend_from_slice(value);
                let tag = Tag::new(seqno, ValueKind::PutExpiring);
                outputs.add(true, key, tag, &expiring)?;
            }
        }
    }
    outputs.finish()?;
    let tables = outputs.keep().into_iter();
    Ok(tables
        .map(|table| AddedTable { level: 0, ..table })
        .collect())
}

fn moved(job: &Job, order: u64) -> Vec<AddedTable> {
    let add = |table: &Arc<TableEntry>| AddedTable {
        level: job.output_level,
        order,
        meta: table.meta().clone(),
        fresh: false,
    };
    job.tables().map(add).collect()
}

/// The tables of one input run.
#[derive(Debug)]
struct Inputs<'a>(&'a [Arc<TableEntry>]);

impl Parts for Inputs<'_> {
    type Cursor = TableCursor;

    fn count(&self) -> usize {
        self.0.len()
    }

    fn lower_bound(&self, key: &[u8]) -> usize {
        self.0
            .partition_point(|t| t.meta().summary.largest.as_slice() < key)
    }

    fn starts_after(&self, i: usize, key: &[u8]) -> bool {
        key < self.0[i].meta().summary.smallest.as_slice()
    }

    fn open(&self, i: usize) -> Result<TableCursor> {
        Ok(self.0[i].table()?.compaction_cursor())
    }

    fn newest(&self, i: usize) -> SeqNo {
        self.0[i].meta().summary.seqnos.1
    }
}

/// The tables that a job makes. Dropped before [`Outputs::keep`], it removes them again.
struct Outputs<'a> {
    workshop: &'a Workshop<'a>,
    level: u8,
    order: u64,
    splitter: Splitter<'a>,
    open: Option<(BirthIdentity, Builder)>,
    /// Every file made, finished or not.
    made: Vec<FileId>,
    added: Vec<AddedTable>,
    /// Bytes that `breathe` was told of.
    told: u64,
    /// Ranges deleted up to here are applied to all that goes into them.
    deleted_through: SeqNo,
    /// Values that the filter removed or changed.
    filtered: u64,
    /// Entries of a bulk load.
    is_load: bool,
}

impl<'a> Outputs<'a> {
    fn new(workshop: &'a Workshop<'a>, level: u8, order: u64, splitter: Splitter<'a>) -> Self {
        Outputs {
            workshop,
            level,
            order,
            splitter,
            open: None,
            made: Vec::new(),
            added: Vec::new(),
            told: 0,
            deleted_through: SeqNo::ZERO,
            filtered: 0,
            is_load: false,
        }
    }

    /// Everything `cursor` gives and the rules keep, finished and synced; how many were dropped.
    /// `tell` hears now and then which share of it is to come.
    fn write<C: Cursor>(
        &mut self,
        cursor: &mut C,
        rules: &mut DropRules<'_>,
        promised: u64,
        tell: impl Fn(f64),
    ) -> Result<u64> {
        let (mut seen, mut dropped) = (0u64, 0u64);
        let (mut breath, mut tell_at) = (0, promised / STEPS);
        let mut fold = Fold::default();
        cursor.first()?;
        while cursor.valid() {
            if breath == 0 {
                breath = BREATH;
                self.pause()?;
                if tell_at < seen {
                    tell(promised.saturating_sub(seen) as f64 / promised as f64);
                    tell_at = seen.saturating_add(promised / STEPS);
                }
            }
            seen += 1;
            let entry @ (key, tag, value) = entry_of(cursor, self.workshop.expired);
            breath = breath.saturating_sub(1 + (value.len() as u64 >> 10));
            if fold.is_waiting() && !fold.goes_on(key, tag, rules) {
                dropped += self.add_folded(&mut fold, Some(entry), rules)?;
            }
            match rules.judge(key, tag)? {
                Verdict::Keep { first } if tag.kind() == ValueKind::Merge => {
                    fold.add(first, key, tag, value)?;
                }
                Verdict::Keep { first } if self.workshop.filtering.is_some() => {
                    dropped += self.add_filtered(first, key, tag, value, rules)?;
                }
                Verdict::Keep { first } => self.add(first, key, tag, value)?,
                Verdict::Drop => dropped += 1,
            }
            cursor.next()?;
        }
        if fold.is_waiting() {
            dropped += self.add_folded(&mut fold, None, rules)?;
        }
        if seen != promised {
            return Err(
                Error::corruption("the inputs of a compaction are incomplete")
                    .expected(format!("{promised} entries"), seen)
                    .advice(REPAIR_INPUTS),
            );
        }
        self.finish()?;
        Ok(dropped)
    }

    /// The last table, and the names of all.
    fn finish(&mut self) -> Result<()> {
        self.finish_table()?;
        self.breathe();
        if !self.made.is_empty() {
            // Without this a file may exist and its name may not (P1).
            self.workshop.fs.sync_dir()?;
        }
        Ok(())
    }

    /// Writes the merges that wait in `fold`, put together as far as they can be over the `next` entry;
    /// how many entries fewer that are.
    #[cold]
    fn add_folded(
        &mut self,
        fold: &mut Fold,
        next: Option<Entry<'_>>,
        rules: &mut DropRules<'_>,
    ) -> Result<u64> {
        let mut first = fold.is_first();
        let mut fewer = 0;
        if let Some((tag, value)) = fold.together(next, rules, &self.workshop.folding) {
            self.add(first, fold.key(), tag, &value)?;
            fewer = fold.entries().count() as u64 - 1;
        } else {
            for (tag, entry) in fold.entries() {
                self.add(std::mem::take(&mut first), fold.key(), tag, entry)?;
            }
        }
        fold.clear();
        Ok(fewer)
    }

    /// Writes what the filter makes of an entry; how many entries fewer that are.
    fn add_filtered(
        &mut self,
        first: bool,
        key: &[u8],
        tag: Tag,
        value: &[u8],
        rules: &mut DropRules<'_>,
    ) -> Result<u64> {
        let ask = |filtering: &Filtering| filtering.ask(key, tag, value);
        let instead = self.workshop.filtering.as_ref().and_then(ask);
        self.filtered += u64::from(instead.is_some());
        match instead {
            None => self.add(first, key, tag, value)?,
            Some(Instead::Entry(entry)) => self.add(first, key, tag, &entry)?,
            Some(Instead::Deletion) if rules.needs_no_deletion(key, tag) => return Ok(1),
            Some(Instead::Deletion) => {
                let deletion = Tag::new(tag.seqno(), ValueKind::Delete);
                self.add(first, key, deletion, &[])?;
            }
        }
        Ok(0)
    }

    fn pause(&mut self) -> Result<()> {
        // Relaxed: a hint that carries no data; the thread that sets it joins this one.
        if self.workshop.stop.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Closed, "the compaction was stopped"));
        }
        self.breathe();
        Ok(())
    }

    fn breathe(&mut self) {
        let open = self.open.as_ref().map_or(0, |(_, builder)| builder.bytes());
        let bytes = self.bytes() + open;
        (self.workshop.breathe)(bytes.saturating_sub(self.told));
        self.told = bytes;
    }

    #[inline]
    fn add(&mut self, first: bool, key: &[u8], tag: Tag, value: &[u8]) -> Result<()> {
        if first {
            let bytes = self.open.as_ref().map_or(0, |(_, builder)| builder.bytes());
            if self.splitter.ends_before(key, bytes) {
                self.finish_table()?;
            }
        }
        match &mut self.open {
            Some((_, builder)) => builder.add(key, tag, value),
            None => self.start_table()?.add(key, tag, value),
        }
    }

    #[cold]
    fn start_table(&mut self) -> Result<&mut Builder> {
        let file = (self.workshop.allocate_file)()?;
        let handle = self.workshop.fs.create_new(FileName::Table(file))?;
        self.made.push(file);
        let options = self.workshop.options;
        let identity = BirthIdentity {
            file,
            ..self.workshop.identity
        };
        let builder = Builder::new(
            handle,
            BuilderOptions {
                identity,
                block_bytes: options.block_bytes,
                filter_bits_per_key: options.filter_bits_per_key,
                compression: options.compression_at(usize::from(self.level)),
            },
        )
        .of_keyspace(self.workshop.keyspace);
        let builder = match (self.is_load, self.level) {
            (true, _) => builder.in_small_calls(),
            (false, 0) => builder.short_lived(),
            (false, _) => builder,
        };
        let (_, builder) = self.open.insert((identity, builder));
        Ok(builder)
    }

    #[cold]
    fn finish_table(&mut self) -> Result<()> {
        let Some((identity, builder)) = self.open.take() else {
            return Ok(());
        };
        let summary = builder.finish()?;
        self.added.push(AddedTable {
            level: self.level,
            order: self.order,
            meta: FileMeta {
                file: identity.file,
                identity,
                summary,
                deleted_through: self.deleted_through,
            },
            fresh: true,
        });
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.added.iter().map(|t| t.meta.summary.bytes).sum()
    }

    /// The tables, which now are the caller's.
    fn keep(mut self) -> Vec<AddedTable> {
        debug_assert!(self.open.is_none(), "the last table is finished");
        self.made.clear();
        std::mem::take(&mut self.added)
    }
}

impl Drop for Outputs<'_> {
    fn drop(&mut self) {
        self.open = None;
        for file in self.made.drain(..) {
            // The job's own error is the one to report; what stays is an orphan, which no version
            // names and the next sweep removes.
            let _ = self.workshop.fs.remove(FileName::Table(file));
        }
    }
}

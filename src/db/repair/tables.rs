//! Tables: which are whole, what can be read of the others, and where everything goes.

use super::{Loss, LossKind, Repair};
use crate::base::cursor::Cursor;
use crate::base::error::{Error, ErrorKind, Result, readable};
use crate::base::options::KeyspaceOptions;
use crate::base::sync::Arc;
use crate::base::types::{FileId, KeyspaceId, SeqNo, Tag};
use crate::fs::FileName;
use crate::read::{Merge, Operands};
use crate::table::{
    BirthIdentity, Builder, BuilderOptions, LostPart, Table, TableFacts, TableSummary, salvage,
    stated_identity,
};
use crate::version::{AddedTable, FileMeta};
use std::collections::BTreeMap;
use std::ops::Range;

/// A table that can be read as a whole now: as it was, or rewritten.
pub(super) struct Whole {
    pub(super) table: Arc<Table>,
    pub(super) meta: FileMeta,
    pub(super) facts: Option<TableFacts>,
}

impl Whole {
    /// The highest number in it, of entries that were lost too.
    pub(super) fn seqno_max(&self) -> SeqNo {
        let stated = self.facts.map_or(SeqNo::ZERO, |facts| facts.seqno_max);
        self.meta.summary.seqnos.1.max(stated)
    }
}

/// The tables of a keyspace, when nothing is known of their places.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) tables: Vec<Whole>,
    /// Up to here the log is not needed: the highest number in a table with a footer, which was
    /// once written whole. What one without it holds is in the log too.
    pub(super) through: SeqNo,
}

/// What became of one table.
pub(super) enum Checked {
    /// It is whole.
    Kept(Whole),
    /// What could be read stands in a new table; `None` when that is nothing.
    Rewritten(Option<Whole>),
}

/// Writes entries to new tables, one after the other.
pub(super) struct Outlet<'r, 'f> {
    repair: &'r mut Repair<'f>,
    keyspace: KeyspaceId,
    options: KeyspaceOptions,
    level: u8,
    open: Option<(BirthIdentity, Builder)>,
    made: Vec<FileMeta>,
}

impl<'r, 'f> Outlet<'r, 'f> {
    pub(super) fn new(
        repair: &'r mut Repair<'f>,
        keyspace: KeyspaceId,
        options: &KeyspaceOptions,
        level: u8,
    ) -> Self {
        Outlet {
            repair,
            keyspace,
            options: options.clone(),
            level,
            open: None,
            made: Vec::new(),
        }
    }

    fn add(&mut self, key: &[u8], tag: Tag, value: &[u8]) -> Result<()> {
        if self.open.is_none() {
            let file = self.repair.next_file();
            let identity = BirthIdentity {
                file,
                ..self.repair.identity
            };
            let options = BuilderOptions {
                identity,
                block_bytes: self.options.block_bytes,
                filter_bits_per_key: self.options.filter_bits_per_key,
                compression: self.options.compression_at(usize::from(self.level)),
            };
            let handle = self.repair.fs.create_new(FileName::Table(file))?;
            let builder = Builder::new(handle, options).of_keyspace(self.keyspace);
            self.open = Some((identity, builder));
        }
        match &mut self.open {
            Some((_, builder)) => builder.add(key, tag, value),
            None => Ok(()),
        }
    }

    fn end_table(&mut self) -> Result<()> {
        let Some((identity, builder)) = self.open.take() else {
            return Ok(());
        };
        let summary = builder.finish()?;
        self.made.push(FileMeta {
            file: identity.file,
            identity,
            summary,
            deleted_through: SeqNo::ZERO,
        });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<FileMeta>> {
        self.end_table()?;
        Ok(self.made)
    }
}

impl Repair<'_> {
    /// Looks at a table of which the manifest is known to say `meta`.
    pub(super) fn check_listed(
        &mut self,
        keyspace: KeyspaceId,
        options: &KeyspaceOptions,
        added: &AddedTable,
    ) -> Result<Option<FileMeta>> {
        let meta = &added.meta;
        // The right file may stand under another's name.
        let file = self.place_of(meta)?;
        let Some(file) = file else {
            self.lose_table(keyspace, FileName::Table(meta.file), Some(&meta.summary));
            return Ok(None);
        };
        let checked = self.check(
            file,
            meta.identity,
            Some(&meta.summary),
            Some((keyspace, options, added.level)),
        )?;
        Ok(match checked {
            Checked::Kept(_) if file == meta.file => {
                self.report.tables_kept += 1;
                Some(meta.clone())
            }
            Checked::Kept(whole) => {
                // Under its own name again: as a copy, because the other name is taken.
                let mut outlet = Outlet::new(self, keyspace, options, added.level);
                copy(&whole.table, &mut outlet)?;
                let made = outlet.finish()?.pop();
                self.report.tables_rewritten += 1;
                self.set_aside(FileName::Table(file));
                made
            }
            Checked::Rewritten(whole) => {
                self.report.tables_rewritten += u64::from(whole.is_some());
                let path = self.fs.path(FileName::Table(file));
                let of_it = |loss: &Loss| loss.file == path && loss.kind == LossKind::Data;
                let left = whole.as_ref().map_or(0, |w| w.meta.summary.entries);
                let missing = meta.summary.entries.saturating_sub(left);
                if 0 < missing && !self.report.losses.iter().any(of_it) {
                    // Not even where they lay is there.
                    let handle = self.fs.open_read(FileName::Table(file))?;
                    let end = handle.len()?;
                    let last = whole.as_ref().map(|w| w.meta.summary.largest.clone());
                    let part = LostPart {
                        what: "rest of the table",
                        range: end..end,
                        keys: Some((last, None)),
                    };
                    let name = self.name_of(keyspace);
                    self.report.losses.push(loss_of(path, part, name));
                }
                whole.map(|whole| whole.meta)
            }
        })
    }

    /// The file that says it is the table of `meta`, or the one that has its name.
    fn place_of(&mut self, meta: &FileMeta) -> Result<Option<FileId>> {
        let own = self.tables.contains(&meta.file);
        let others = self.tables.iter().filter(|file| **file != meta.file);
        for &file in own.then_some(&meta.file).into_iter().chain(others) {
            let handle = self.fs.open_read(FileName::Table(file))?;
            if readable(stated_identity(&handle))?.is_some_and(|(id, _)| id == meta.identity) {
                return Ok(Some(file));
            }
        }
        Ok(own.then_some(meta.file))
    }

    /// Reads a whole table, and what can be read of a damaged one.
    pub(super) fn check(
        &mut self,
        file: FileId,
        identity: BirthIdentity,
        listed: Option<&TableSummary>,
        place: Option<(KeyspaceId, &KeyspaceOptions, u8)>,
    ) -> Result<Checked> {
        let name = FileName::Table(file);
        let handle = self.fs.open_read(name)?;
        let bytes = match listed {
            Some(summary) => summary.bytes,
            None => handle.len()?,
        };
        let opened = Table::open(handle, identity, bytes, false, self.context).map(Arc::new);
        let whole = opened.and_then(|table| {
            table.verify()?;
            let (facts, summary) = (table.facts()?, table.summary()?);
            Ok((table, facts, summary))
        });
        match whole {
            Ok((table, facts, summary)) => Ok(Checked::Kept(Whole {
                table,
                meta: FileMeta {
                    file,
                    identity,
                    summary,
                    deleted_through: SeqNo::ZERO,
                },
                facts: Some(facts),
            })),
            Err(error) if error.kind() == ErrorKind::Corruption => {
                let entries = listed.map(|summary| summary.entries);
                self.salvage_table(file, identity, entries, place, &error)
            }
            Err(error) => Err(error),
        }
    }

    fn salvage_table(
        &mut self,
        file: FileId,
        identity: BirthIdentity,
        entries: Option<u64>,
        place: Option<(KeyspaceId, &KeyspaceOptions, u8)>,
        cause: &Error,
    ) -> Result<Checked> {
        let name = FileName::Table(file);
        let handle = self.fs.open_read(name)?;
        // First without writing, because the table may have to say itself which keyspace it is of.
        let found = salvage(&handle, &identity, entries, |_, _, _| Ok(()))?;
        let facts = found.facts;
        let stated = place.map(|(keyspace, ..)| keyspace);
        let keyspace = match stated.or(facts.and_then(|facts| facts.keyspace)) {
            None if 0 < found.entries => Some(self.unknown_keyspace(file)),
            stated => stated,
        };
        self.set_aside(name);
        let keyspace_name = keyspace.and_then(|keyspace| self.name_of(keyspace));
        let nothing_said = found.lost.is_empty();
        for part in found.lost {
            self.report
                .losses
                .push(loss_of(self.fs.path(name), part, keyspace_name.clone()));
        }
        if nothing_said {
            // Every part checks, and together they make no sense.
            let offset = cause.offset().unwrap_or(0);
            let range = offset..offset;
            let (what, keys) = ("contradiction", None);
            let part = LostPart { what, range, keys };
            self.report
                .losses
                .push(loss_of(self.fs.path(name), part, keyspace_name));
        }
        let Some(keyspace) = keyspace else {
            // Nothing in it, and nobody's: no keyspace is made for that.
            return Ok(Checked::Rewritten(None));
        };
        let (options, level) = match place {
            Some((_, options, level)) => (options.clone(), level),
            None => (self.options_of(keyspace), 0),
        };
        let context = Arc::clone(self.context);
        let fs = self.fs.clone();
        let mut outlet = Outlet::new(self, keyspace, &options, level);
        salvage(&handle, &identity, entries, |key, tag, value| {
            outlet.add(key, tag, value)
        })?;
        let Some(meta) = outlet.finish()?.pop() else {
            return Ok(Checked::Rewritten(None));
        };
        let made = fs.open_read(FileName::Table(meta.file))?;
        let table = Table::open(made, meta.identity, meta.summary.bytes, true, &context)?;
        let seqno_max = facts.map(|facts| facts.seqno_max);
        let own = Arc::new(table);
        let mut facts_now = own.facts()?;
        facts_now.seqno_max = facts_now.seqno_max.max(seqno_max.unwrap_or_default());
        let whole = Whole {
            table: own,
            meta,
            facts: Some(facts_now),
        };
        Ok(Checked::Rewritten(Some(whole)))
    }

    /// A table of which nothing is there.
    fn lose_table(&mut self, keyspace: KeyspaceId, name: FileName, summary: Option<&TableSummary>) {
        let part = LostPart {
            what: "table",
            range: 0..summary.map_or(0, |summary| summary.bytes),
            keys: None,
        };
        let mut loss = loss_of(self.fs.path(name), part, self.name_of(keyspace));
        loss.kind = LossKind::Data;
        loss.seqnos = summary.map(|summary| summary.seqnos);
        self.report.losses.push(loss);
    }

    /// All tables in the directory, by keyspace, when nothing is known of their places.
    pub(super) fn gather(&mut self) -> Result<BTreeMap<KeyspaceId, Gathered>> {
        let mut all: BTreeMap<KeyspaceId, Gathered> = BTreeMap::new();
        let files: Vec<FileId> = self.tables.iter().copied().collect();
        for file in files {
            if self.remains.removed.contains(&file) {
                continue;
            }
            let handle = self.fs.open_read(FileName::Table(file))?;
            let listed = self.listed(file);
            let stated = readable(stated_identity(&handle))?;
            let is_finished = stated.is_some();
            let identity = match (stated, listed) {
                (Some((identity, _)), _) => identity,
                (None, Some((_, meta))) => meta.identity,
                (None, None) => BirthIdentity {
                    file,
                    ..self.identity
                },
            };
            // Of a stranger: a copy has tables of two databases, and one seed.
            if identity.hash_seed != self.identity.hash_seed {
                self.set_aside(FileName::Table(file));
                continue;
            }
            let known = self.listed(file).map(|(keyspace, _)| keyspace);
            let place = known.map(|keyspace| (keyspace, self.options_of(keyspace)));
            let place = place.as_ref().map(|(k, options)| (*k, options, 0));
            let (whole, is_kept) = match self.check(file, identity, None, place)? {
                Checked::Kept(whole) => (Some(whole), true),
                Checked::Rewritten(whole) => (whole, false),
            };
            let Some(whole) = whole else { continue };
            self.report.tables_kept += u64::from(is_kept);
            self.report.tables_rewritten += u64::from(!is_kept);
            let stated = whole.facts.and_then(|facts| facts.keyspace);
            let keyspace = stated.or(known);
            let keyspace = keyspace.unwrap_or_else(|| self.unknown_keyspace(file));
            let of_it = all.entry(keyspace).or_default();
            if is_finished {
                of_it.through = of_it.through.max(whole.seqno_max());
            }
            of_it.tables.push(whole);
        }
        Ok(all)
    }

    /// What the manifest's remains say of a table.
    fn listed(&self, file: FileId) -> Option<(KeyspaceId, FileMeta)> {
        let mut keyspaces = self.remains.keyspaces.iter();
        keyspaces.find_map(|(id, edit)| {
            let added = edit.added.iter().find(|a| a.meta.file == file)?;
            Some((*id, added.meta.clone()))
        })
    }

    /// One sorted run of the newest version of every key, with what it is merged into when that is a
    /// merge. Which table is newer than which is not known, but the numbers of the entries tell; and
    /// where one holds what another became, the one that stands for more counts.
    pub(super) fn merge(
        &mut self,
        keyspace: KeyspaceId,
        tables: Vec<Whole>,
    ) -> Result<Vec<AddedTable>> {
        let added = |meta| AddedTable {
            level: 0,
            order: 1,
            meta,
            fresh: false,
        };
        if let [one] = &tables[..] {
            return Ok(vec![added(one.meta.clone())]);
        }
        let options = self.options_of(keyspace);
        self.report.tables_rewritten += self.report.tables_kept.min(tables.len() as u64);
        self.report.tables_kept -= self.report.tables_kept.min(tables.len() as u64);
        let sources = tables.iter().map(|t| t.table.compaction_cursor()).collect();
        let mut merge = Merge::new(sources);
        let mut outlet = Outlet::new(self, keyspace, &options, 0);
        let (mut key, mut versions) = (Vec::new(), Operands::default());
        merge.first()?;
        while merge.valid() {
            key.clear();
            key.extend_from_slice(merge.key());
            versions.clear();
            while merge.valid() && merge.key() == key {
                versions.add(merge.tag(), merge.value())?;
                merge.next()?;
            }
            let full = |(_, b): &(_, Builder)| options.table_bytes <= b.bytes();
            if outlet.open.as_ref().is_some_and(full) {
                outlet.end_table()?;
            }
            for (tag, value) in versions.entries() {
                outlet.add(&key, tag, value)?;
            }
        }
        Ok(outlet.finish()?.into_iter().map(added).collect())
    }

    /// Options that shape files, from the tables there are: the rest is as the caller says.
    pub(super) fn learn_options(&mut self, keyspace: KeyspaceId, tables: &[Whole]) {
        let facts = tables.iter().filter_map(|table| table.facts);
        let Some(facts) = facts.max_by_key(|facts| facts.seqno_max) else {
            return;
        };
        let learnt = KeyspaceOptions {
            block_bytes: facts.block_bytes,
            filter_bits_per_key: facts.filter_bits_per_key,
            ..self.options_of(keyspace)
        };
        if learnt.check().is_ok() {
            self.learnt.insert(keyspace, learnt);
        }
    }
}

fn copy(table: &Arc<Table>, outlet: &mut Outlet<'_, '_>) -> Result<()> {
    let mut cursor = table.compaction_cursor();
    cursor.first()?;
    while cursor.valid() {
        outlet.add(cursor.key(), cursor.tag(), cursor.value())?;
        cursor.next()?;
    }
    Ok(())
}

fn loss_of(file: std::path::PathBuf, part: LostPart, keyspace: Option<String>) -> Loss {
    let Range { start, end } = part.range;
    let kind = match part.keys {
        Some(_) => LossKind::Data,
        None => LossKind::Derived,
    };
    let (after_key, before_key) = part.keys.unwrap_or_default();
    Loss {
        file,
        what: part.what.to_owned(),
        offset: start,
        bytes: end - start,
        keyspace: keyspace.filter(|_| kind == LossKind::Data || part.what == "table"),
        after_key,
        before_key,
        seqnos: None,
        kind,
    }
}

//! Opening a directory: making a database in it, reading the one that is there, or finding none.
//!
//! Recovery reads CURRENT and its manifest, and only then writes: a new manifest with everything
//! that was read, under a number above every ceiling and every file in the directory (R7). Nothing
//! is made or removed before CURRENT names it durably, so that a crash at any call leaves either
//! the old manifest or the new one, and a failed open leaves a damaged directory as it was (P11).
//!
//! A directory without CURRENT holds no database when it has no table and no log either: making one
//! was interrupted, and is done again (P4). With a table or a log, CURRENT was lost: an error. With
//! UNFINISHED, somebody is making a copy in it, or was when he was cut off: that has an error of
//! its own. Beside a CURRENT that mark means nothing any more.
//!
//! Threads: the caller holds the directory's lock. Not here: logs and tables (`db` sweeps them).

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::edit::{Ceilings, Identity, Record};
use super::file_meta::{FileMeta, Shelf, TableEntry};
use super::ledger::{KeyspaceState, Ledger, Limits};
use super::manifest::{self, Current};
use super::set::{Numbers, ROLLOVER_BYTES_MIN, State, VersionSet, Writing};
use super::snapshot::joined;
use super::version::Version;
use crate::base::error::{Error, ErrorKind, REPAIR, Result};
use crate::base::ranges::DeletedRanges;
use crate::base::sync::atomic::{AtomicBool, AtomicU64};
use crate::base::sync::{Arc, ArcSwap, Mutex};
use crate::base::types::{FileId, KeyspaceId, SeqNo, Time};
use crate::fs::{Clock, FileName, Fs};
use crate::table::TableContext;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::path::PathBuf;

impl VersionSet {
    /// Makes a new database: draws identity and hash seed, writes the first manifest and CURRENT.
    /// Remains of an interrupted creation are removed afterwards.
    ///
    /// # Errors
    /// `InvalidArgument` when the directory holds a database, or tables or logs of one; what the
    /// file system says.
    pub fn create(fs: &Fs, context: &Arc<TableContext>) -> Result<VersionSet> {
        let survey = Survey::of(fs)?;
        if survey.current || survey.data.is_some() {
            return Err(Error::invalid("the directory holds a database").at(fs.root()));
        }
        let identity = Identity {
            database: fs.random().max(1),
            hash_seed: fs.random(),
        };
        let read = Read {
            identity: Some(identity),
            ..Read::default()
        };
        read.open(fs, context, &survey)
    }

    /// Reads CURRENT and the manifest, allocates above everything seen (manifest ceilings and
    /// directory), writes a new manifest, switches CURRENT, removes the old manifest (R7, R8).
    /// `Ok(None)`: the directory holds no database.
    ///
    /// # Errors
    /// `Corruption` naming the file for damage, a missing CURRENT or a missing manifest;
    /// `Unsupported` for a newer format; what the file system says. The directory is as it was, or
    /// holds a half-made manifest that the next open removes.
    pub fn recover(fs: &Fs, context: &Arc<TableContext>) -> Result<Option<VersionSet>> {
        let found = Self::find(fs, context)?;
        found.map(Found::begin).transpose()
    }

    /// The first half of `recover`: reads and checks, and writes nothing. What else must be read
    /// before a damaged directory may be changed (P11) is read between this and [`Found::begin`].
    ///
    /// # Errors
    /// As [`Self::recover`].
    pub fn find(fs: &Fs, context: &Arc<TableContext>) -> Result<Option<Found>> {
        Self::find_again(fs, context, TableEntries::default())
    }

    /// As [`Self::find`], with those of these tables that are still the same: they stay open.
    ///
    /// # Errors
    /// As [`Self::recover`].
    pub fn find_again(
        fs: &Fs,
        context: &Arc<TableContext>,
        known: TableEntries,
    ) -> Result<Option<Found>> {
        if !fs.root_exists()? {
            return Ok(None);
        }
        let survey = Survey::of(fs)?;
        match Read::current(fs, &survey)? {
            Some(current) => Found::of(fs, context, survey, current, known).map(Some),
            None => Ok(None),
        }
    }
}

/// Tables by their number, in order: who opens all of them meets the same error first each time.
pub type TableEntries = BTreeMap<FileId, Arc<TableEntry>>;

/// A database whose manifest was read, and in which nothing has been written yet.
#[derive(Debug)]
pub struct Found {
    set: VersionSet,
    survey: Survey,
    id: FileId,
    manifest: PathBuf,
    /// Behind the manifest's last record.
    end: u64,
}

impl Found {
    /// Reads the manifest that `current` names, in the directory that was surveyed.
    pub(super) fn of(
        fs: &Fs,
        context: &Arc<TableContext>,
        survey: Survey,
        current: Current,
        known: TableEntries,
    ) -> Result<Found> {
        let mut read = Read {
            known,
            ..Read::default()
        };
        let end = manifest::read(fs, current, |record| read.take(record))?;
        let found = Found {
            set: read.into_set(fs, context, &survey)?,
            id: current.manifest,
            manifest: fs.path(FileName::Manifest(current.manifest)),
            end: end.records,
            survey,
        };
        if end.records < end.file {
            found.check_files()?;
        }
        Ok(found)
    }

    /// What the manifest says. Takes no change yet.
    pub fn versions(&self) -> &VersionSet {
        &self.set
    }

    /// The manifest's number: what was numbered later was made while it was written to.
    pub fn manifest(&self) -> FileId {
        self.id
    }

    /// True when no edit was made since `before` was read.
    pub fn is_as(&self, before: &Found) -> bool {
        (self.id, self.end) == (before.id, before.end)
    }

    /// The set as it was read, which takes no change.
    pub fn read_only(self) -> VersionSet {
        VersionSet {
            read_only: true,
            manifest_id: AtomicU64::new(self.id.0),
            manifest_bytes: AtomicU64::new(self.end),
            ..self.set
        }
    }

    /// The tables in the directory, by name.
    pub(super) fn tables_there(&self) -> impl Iterator<Item = FileId> {
        self.survey.files.iter().filter_map(|name| match name {
            FileName::Table(id) => Some(*id),
            _ => None,
        })
    }

    /// The second half of [`VersionSet::recover`]: writes the new manifest and switches to it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn begin(self) -> Result<VersionSet> {
        begin(self.set, &self.survey)
    }

    /// The manifest ends in the middle of a record. A crash leaves it so before anything follows
    /// from the edit: what the records before it name is still there. Where it is not, that edit
    /// had been durable, and the record was damaged later (P8).
    fn check_files(&self) -> Result<()> {
        let state = self.set.state.load();
        let versions = state.keyspaces.values().map(|k| &k.version);
        let tables = versions.flat_map(|version| version.tables());
        let tables = tables.map(|(_, _, table)| FileName::Table(table.meta().file));
        let logs = state.logs.iter().copied().map(FileName::Log);
        match tables.chain(logs).find(|f| !self.survey.files.contains(f)) {
            Some(missing) => Err(self.lost_edit(format!("the edit that removed {missing}"))),
            None => Ok(()),
        }
    }

    /// The error for a manifest that must have held more than was read.
    pub fn lost_edit(&self, what: impl Display) -> Error {
        Error::corruption("manifest whose last record is damaged")
            .at(&self.manifest)
            .offset_at(self.end)
            .expected(what, "no valid record")
            .advice(REPAIR)
    }
}

/// Gives `set` a manifest of its own.
pub(super) fn begin(set: VersionSet, survey: &Survey) -> Result<VersionSet> {
    let mut writing = set.writing.lock();
    writing.stale.extend(&survey.ours);
    let stored = writing.stored;
    set.rewrite(&mut writing, &set.state.load_full(), &stored)?;
    drop(writing);
    Ok(set)
}

/// What the names in the directory say.
#[derive(Debug)]
pub(super) struct Survey {
    current: bool,
    /// The mark of a copy that is being made.
    unfinished: bool,
    /// The mark of a directory of backups.
    backups: bool,
    /// Some table or log.
    data: Option<FileName>,
    /// Manifests and temporary files.
    ours: Vec<FileName>,
    /// Tables and logs.
    files: HashSet<FileName>,
    /// Above every number in a name.
    next: u64,
}

impl Survey {
    pub(super) fn of(fs: &Fs) -> Result<Survey> {
        let mut survey = Survey {
            current: false,
            unfinished: false,
            backups: false,
            data: None,
            ours: Vec::new(),
            files: HashSet::new(),
            next: 1,
        };
        for entry in fs.list()? {
            let Some(name) = FileName::parse(&entry.name) else {
                survey.backups |= entry.name == FileName::Backups.to_string();
                continue;
            };
            match name {
                FileName::Lock | FileName::Ballast => {}
                FileName::Backups | FileName::Point(_) | FileName::Stored(_) => {}
                FileName::Unfinished => survey.unfinished = true,
                FileName::Current => survey.current = true,
                FileName::Manifest(_) | FileName::Temp(_) => survey.ours.push(name),
                FileName::Table(_) | FileName::Log(_) => {
                    survey.files.insert(name);
                    survey.data = Some(name);
                }
            }
            if let Some(id) = name.id() {
                survey.next = survey.next.max(id.0.saturating_add(1));
            }
        }
        Ok(survey)
    }
}

/// What a manifest said.
#[derive(Debug)]
pub(super) struct Read {
    identity: Option<Identity>,
    stored: Ceilings,
    ledger: Ledger,
    metas: HashMap<FileId, FileMeta>,
    /// Those that matter to no table any more among them.
    deleted: HashMap<KeyspaceId, DeletedRanges>,
    /// Tables that were read of before.
    known: TableEntries,
}

impl Default for Read {
    fn default() -> Self {
        Read {
            identity: None,
            stored: Ceilings {
                files: Some(1),
                // 0 is the default keyspace, which is never allocated.
                keyspaces: Some(1),
                orders: Some(1),
                seqnos: Some(SeqNo::ZERO),
                clock: None,
            },
            ledger: Ledger::default(),
            metas: HashMap::new(),
            deleted: HashMap::new(),
            known: TableEntries::new(),
        }
    }
}

impl Read {
    /// What CURRENT says; `None` when there is no database.
    fn current(fs: &Fs, survey: &Survey) -> Result<Option<Current>> {
        match (Current::read(fs)?, survey.data) {
            (Some(current), _) => Ok(Some(current)),
            (None, _) if survey.unfinished => Err(Error::new(
                ErrorKind::Unfinished,
                "a checkpoint or a restore into this directory has not ended: there is no database",
            )
            .at(fs.root())
            .advice("Make it again: a new one may go into the same directory.")),
            (None, _) if survey.backups => Err(Error::invalid(
                "this is a directory of backups, not a database",
            )
            .at(fs.root())
            .advice("Restore one of its points in time to another directory, and open that.")),
            (None, None) => Ok(None),
            (None, Some(file)) => Err(Error::corruption("CURRENT is missing")
                .at(fs.path(FileName::Current))
                .expected("CURRENT", format!("no CURRENT, but {file}"))
                .advice(REPAIR)),
        }
    }

    pub(super) fn take(&mut self, record: Record) -> Result<()> {
        self.identity = self.identity.or(record.identity);
        self.stored = joined(&self.stored, &record.ceilings);
        let limits = Limits {
            files: self.stored.files.unwrap_or(0),
            keyspaces: self.stored.keyspaces.unwrap_or(0),
            orders: self.stored.orders.unwrap_or(0),
        };
        self.ledger.check(&record.edit, limits)?;
        for keyspace in &record.edit.keyspaces {
            match keyspace.dropped {
                true => drop(self.deleted.remove(&keyspace.id)),
                false => self
                    .deleted
                    .entry(keyspace.id)
                    .or_default()
                    .add(&keyspace.deleted),
            }
            if keyspace.dropped
                && let Some(account) = self.ledger.keyspaces.get(&keyspace.id)
            {
                for file in account.tables.keys() {
                    self.metas.remove(file);
                }
            }
            let removed = keyspace.removed.iter();
            let gone: HashMap<_, _> = removed
                .filter_map(|(_, f)| self.metas.remove_entry(f))
                .collect();
            for added in &keyspace.added {
                let file = added.meta.file;
                if gone.get(&file).is_some_and(|before| *before != added.meta) {
                    return Err(Error::invalid(format!(
                        "table {file} changes while it moves"
                    )));
                }
                self.metas.insert(file, added.meta.clone());
            }
        }
        self.ledger.apply(&record.edit);
        Ok(())
    }

    /// The set as it was read, and a new manifest that says so.
    fn open(self, fs: &Fs, context: &Arc<TableContext>, survey: &Survey) -> Result<VersionSet> {
        begin(self.into_set(fs, context, survey)?, survey)
    }

    /// The set as it was read, without a manifest to write to.
    pub(super) fn into_set(
        mut self,
        fs: &Fs,
        context: &Arc<TableContext>,
        survey: &Survey,
    ) -> Result<VersionSet> {
        let Some(identity) = self.identity else {
            return Err(Error::corruption("manifest without an identity").at(fs.root()));
        };
        let shelf = Shelf::new(fs, context);
        // A repair may have lost the mark of tables that expire.
        let mut metas = self.metas.values();
        let expires = metas.any(|meta| meta.summary.expiring.entries != 0);
        let mark = self.stored.clock.or(expires.then(Time::default));
        let state = self.state(&shelf).map_err(|error| {
            // The bytes were whole, and what they say cannot be.
            error.with_kind(ErrorKind::Corruption).at(fs.root())
        })?;
        let file = survey.next.max(self.stored.files.unwrap_or(0));
        let numbers = Numbers {
            file,
            file_ceiling: file,
            keyspace: self.stored.keyspaces.unwrap_or(1),
            order: self.stored.orders.unwrap_or(1),
        };
        Ok(VersionSet {
            fs: fs.clone(),
            identity,
            read_only: false,
            shelf,
            state: ArcSwap::from_pointee(state),
            writing: Mutex::new(Writing {
                manifest: None,
                ledger: self.ledger,
                stored: self.stored,
                stale: Vec::new(),
                rollover_at: u64::MAX,
                rollover_bytes_min: ROLLOVER_BYTES_MIN,
            }),
            numbers: Mutex::new(numbers),
            seqno_ceiling: AtomicU64::new(self.stored.seqnos.unwrap_or_default().get()),
            poisoned: AtomicBool::new(false),
            manifest_id: AtomicU64::new(0),
            manifest_bytes: AtomicU64::new(0),
            clock: Arc::new(Clock::new(fs.env(), mark)),
        })
    }

    fn state(&mut self, shelf: &Arc<Shelf>) -> Result<State> {
        let mut state = State {
            logs: self.ledger.logs.clone(),
            ..State::default()
        };
        for (id, account) in &self.ledger.keyspaces {
            let deleted = self.deleted.remove(id).unwrap_or_default().joined();
            let tables = account.tables.iter().filter_map(|(file, (level, order))| {
                let meta = self.metas.remove(file)?;
                let known = self.known.remove(file);
                let known = known.filter(|table| *table.meta() == meta);
                let table = known.unwrap_or_else(|| TableEntry::on_shelf(meta, false, shelf));
                Some((*level, *order, table))
            });
            let keyspace = KeyspaceState {
                version: Arc::new(Version::of(tables)?.with_deleted(Arc::new(deleted))),
                ..account.state.clone()
            };
            state.keyspaces.insert(*id, Arc::new(keyspace));
        }
        debug_assert!(self.metas.is_empty(), "every table has its account");
        Ok(state)
    }
}

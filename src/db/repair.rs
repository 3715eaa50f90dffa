//! Repair: keeps everything that can be read of a damaged database, and says what is lost.
//!
//! ```text
//! manifest whole    tables keep their places; damaged ones are rewritten without the lost blocks
//! manifest damaged  every table in the directory, merged by the numbers of its entries; so, too,
//!                   when it ends early: the log contradicts it, and tables came after it
//! log whole         stays; else its records, before a damage and behind it, become a new log
//! ```
//! Everything is written to new files first, and synced. Then damaged files get a second name that
//! is not ours, and only then does CURRENT switch to a manifest that names the new state. A crash
//! before that leaves the database as it was, and repair starts again; after it, what is left over
//! is swept by the next open.
//!
//! Nothing that does not check is ever copied. What a lost block or record held may be an older
//! version of its keys afterwards, or nothing: the report names the range.
//!
//! Threads: one; the directory's lock is held.

mod logs;
mod report;
mod tables;

pub use report::{Loss, LossKind, RepairReport};

use super::open::{missing, table_context};
use super::recover::Segments;
use super::reserve::Reserve;
use super::{Db, catalog, recover, sweep};
use crate::base::error::{ErrorKind, Result, readable};
use crate::base::options::{KeyspaceOptions, Options};
use crate::base::sync::Arc;
use crate::base::types::{FileId, KeyspaceId, SeqNo};
use crate::fs::{FileName, Fs};
use crate::table::{BirthIdentity, TableContext, stated_identity};
use crate::version::{
    FILES_AHEAD, KeyspaceEdit, Rebuild, Remains, SEQNOS_AHEAD, VersionEdit, VersionSet, check_name,
    find_whole,
};
use crate::wal::stated_header;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tables::{Gathered, Whole};

impl Db {
    /// Repairs the database in the directory `path` with default options: keeps every block of
    /// every table and every record of the log that can be read, and reports the rest.
    ///
    /// For a database that cannot be opened, or whose reads give
    /// [`Corruption`](ErrorKind::Corruption). A database that is whole is read and left alone;
    /// after a crash no repair is needed, opening suffices. Works without `CURRENT` and without a
    /// manifest: tables and logs say themselves whose they are. Keyspaces whose names are lost with
    /// the manifest are named by their number (`keyspace-3`).
    ///
    /// Damaged files are kept beside the database as `….damaged`. Where a block or record was
    /// lost, an older version of its keys may be visible afterwards, a key that was deleted, or a value
    /// without some of its merges: the report gives the ranges. Without a manifest every table in the
    /// directory counts, and a keyspace has the merge operator of the options that are given here.
    ///
    /// Costs a read of everything; with a damaged manifest all tables are written anew, which takes
    /// as much space again.
    ///
    /// # Errors
    /// `Locked` when the database is open; `NotFound` when there is none; `Unsupported` for files
    /// of a newer version, which are left alone; `Io`, `NoSpace`. The database is as it was then,
    /// and the repair can be repeated.
    ///
    /// ```
    /// use alluvium::Db;
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-rep-{}", std::process::id()));
    /// let db = Db::open(&dir)?;
    /// db.put("clay", "fine")?;
    /// db.close()?;
    /// std::fs::remove_file(dir.join("CURRENT"))?; // an accident
    /// assert!(Db::open(&dir).is_err());
    /// let report = Db::repair(&dir)?;
    /// println!("{report}");
    /// assert!(!report.has_lost_data());
    /// let db = Db::open(&dir)?;
    /// assert_eq!(db.get("clay")?.unwrap(), b"fine");
    /// # db.close()?; Db::destroy(&dir)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn repair(path: impl AsRef<Path>) -> Result<RepairReport> {
        Options::new().repair(path)
    }
}

impl Options {
    /// As [`Db::repair`], with these options: [`Options::default_keyspace`] stands in for stored
    /// options that are lost, and the read mode and memory are used for reading.
    ///
    /// # Errors
    /// As [`Db::repair`]; `InvalidArgument` for an option out of range.
    pub fn repair(self, path: impl AsRef<Path>) -> Result<RepairReport> {
        self.repair_in(Fs::os(path.as_ref()))
    }

    /// Repairs the database on any file system.
    ///
    /// # Errors
    /// As [`Db::repair`].
    #[doc(hidden)]
    pub fn repair_in(self, fs: Fs) -> Result<RepairReport> {
        self.check()?;
        if !fs.root_exists()? {
            return Err(missing(&fs));
        }
        let _lock = fs.lock()?;
        let context = table_context(&self);
        match find_whole(&fs, &context) {
            Ok(Some((found, by_current))) => {
                let segments = Segments::of(&fs, found.versions().database());
                let is_surveyed = readable(recover::survey(segments, &found))?.is_some();
                if !is_surveyed {
                    let (read, manifest) = Remains::read(&fs)?;
                    if read.misses_tables_of(&found) {
                        drop(found);
                        return self.rebuild_without_manifest(&fs, &context, read, manifest);
                    }
                }
                let remains = Remains::of(found.versions());
                drop(found);
                let mut repair = Repair::new(&fs, &context, &self, remains, true)?;
                repair.by_the_book(is_surveyed, by_current)
            }
            Ok(None) => Err(missing(&fs)),
            Err(error) if error.kind() == ErrorKind::Corruption => {
                let (remains, manifest) = Remains::read(&fs)?;
                self.rebuild_without_manifest(&fs, &context, remains, manifest)
            }
            Err(error) => Err(error),
        }
    }

    fn rebuild_without_manifest(
        &self,
        fs: &Fs,
        context: &Arc<TableContext>,
        remains: Remains,
        manifest: Option<FileId>,
    ) -> Result<RepairReport> {
        let mut repair = Repair::new(fs, context, self, remains, false)?;
        repair.rebuild_from_what_is_there(manifest)
    }
}

impl Loss {
    fn at(file: PathBuf, range: Range<u64>) -> Loss {
        Loss {
            file,
            what: String::new(),
            offset: range.start,
            bytes: range.end - range.start,
            keyspace: None,
            after_key: None,
            before_key: None,
            seqnos: None,
            kind: LossKind::Data,
        }
    }
}

/// One repair.
struct Repair<'f> {
    fs: &'f Fs,
    context: &'f Arc<TableContext>,
    options: &'f Options,
    remains: Remains,
    /// The manifest is whole: places of tables and the list of logs can be believed.
    is_listed: bool,
    /// Database and seed; the file number is filled in.
    identity: BirthIdentity,
    tables: BTreeSet<FileId>,
    logs: BTreeSet<FileId>,
    next: u64,
    aside: BTreeSet<FileName>,
    learnt: BTreeMap<KeyspaceId, KeyspaceOptions>,
    /// Keyspaces that are known by their number only.
    nameless: BTreeSet<KeyspaceId>,
    seqno_max: SeqNo,
    report: RepairReport,
}

impl<'f> Repair<'f> {
    fn new(
        fs: &'f Fs,
        context: &'f Arc<TableContext>,
        options: &'f Options,
        remains: Remains,
        is_listed: bool,
    ) -> Result<Repair<'f>> {
        let mut repair = Repair {
            fs,
            context,
            options,
            is_listed,
            identity: BirthIdentity {
                database: 0,
                file: FileId(0),
                hash_seed: 0,
            },
            tables: BTreeSet::new(),
            logs: BTreeSet::new(),
            next: remains.files,
            aside: BTreeSet::new(),
            learnt: BTreeMap::new(),
            nameless: BTreeSet::new(),
            seqno_max: SeqNo::ZERO,
            report: RepairReport::default(),
            remains,
        };
        for entry in fs.list()? {
            let Some(name) = FileName::parse(&entry.name) else {
                continue;
            };
            match name {
                FileName::Table(id) => drop(repair.tables.insert(id)),
                FileName::Log(id) => drop(repair.logs.insert(id)),
                _ => {}
            }
            let above = name.id().map_or(1, |id| id.0.saturating_add(1));
            repair.next = repair.next.max(above);
        }
        if !is_listed {
            // Where the ceiling is not known for sure, above all that could have been reserved:
            // files that are gone leave no trace, and their names are not given again (P6).
            repair.next = repair.next.saturating_add(FILES_AHEAD);
        }
        repair.find_identity()?;
        Ok(repair)
    }

    /// Who the database is: as the manifest says, else as a log does, else as most tables do. The
    /// tables of a copy were mostly born in the database that it was made of; all have its seed.
    fn find_identity(&mut self) -> Result<()> {
        let mut votes: BTreeMap<(u64, u64), usize> = BTreeMap::new();
        if self.remains.database.is_none() || self.remains.hash_seed.is_none() {
            for &file in &self.tables {
                let handle = self.fs.open_read(FileName::Table(file))?;
                if let Some((identity, _)) = readable(stated_identity(&handle))? {
                    let vote = (identity.database, identity.hash_seed);
                    *votes.entry(vote).or_default() += 1;
                }
            }
        }
        let elected = votes.into_iter().max_by_key(|(_, votes)| *votes);
        let elected = elected.map(|(identity, _)| identity);
        let mut logged = None;
        for &log in &self.logs {
            let stated = stated_header(&self.fs.open_read(FileName::Log(log))?)?;
            logged = logged.or(stated.map(|header| header.database));
        }
        let database = self.remains.database.or(logged).or(elected.map(|e| e.0));
        self.identity.database = database.unwrap_or_else(|| self.fs.random().max(1));
        let seed = self.remains.hash_seed.or(elected.map(|e| e.1));
        self.identity.hash_seed = seed.unwrap_or_else(|| self.fs.random());
        Ok(())
    }

    /// The manifest is whole.
    fn by_the_book(&mut self, is_surveyed: bool, by_current: bool) -> Result<RepairReport> {
        let keyspaces: Vec<KeyspaceEdit> = self.remains.keyspaces.values().cloned().collect();
        let mut kept = Vec::new();
        for mut edit in keyspaces {
            let options = self.options_of(edit.id);
            let mut added = Vec::new();
            for table in &edit.added {
                let meta = self.check_listed(edit.id, &options, table)?;
                added.extend(meta.map(|meta| {
                    let mut table = table.clone();
                    table.meta = meta;
                    table
                }));
            }
            self.seqno_max = self.seqno_max.max(edit.flushed_through.unwrap_or_default());
            edit.added = added;
            kept.push(edit);
        }
        if is_surveyed && by_current && self.aside.is_empty() && self.report.losses.is_empty() {
            // A repair that failed at its last step has switched already, for as long as power lasts.
            self.fs.sync_dir()?;
            return self.finish(&kept);
        }
        if !by_current {
            self.lose_current()?;
        }
        let logs = if is_surveyed {
            self.remains.logs.iter().copied().collect()
        } else {
            let mut flushed: BTreeMap<KeyspaceId, SeqNo> = kept
                .iter()
                .map(|edit| (edit.id, edit.flushed_through.unwrap_or_default()))
                .collect();
            self.salvage_logs(&mut flushed)?
        };
        self.rebuild(kept, logs)
    }

    /// The manifest cannot be believed.
    fn rebuild_from_what_is_there(&mut self, manifest: Option<FileId>) -> Result<RepairReport> {
        self.report.manifest_rebuilt = true;
        self.lose_manifest(manifest)?;
        let mut kept = Vec::new();
        let mut flushed = BTreeMap::new();
        let mut gathered = self.gather()?;
        for id in gathered.keys() {
            if !self.remains.keyspaces.contains_key(id) {
                self.nameless.insert(*id);
            }
        }
        for (id, edit) in std::mem::take(&mut self.remains.keyspaces) {
            self.remains.keyspaces.insert(id, edit.clone());
            gathered.entry(id).or_default();
        }
        for (id, Gathered { tables, through }) in gathered {
            let known = self.remains.keyspaces.get(&id).cloned();
            if known.as_ref().is_none_or(|edit| edit.created.is_none()) {
                self.learn_options(id, &tables);
            }
            let stated = known.as_ref().and_then(|edit| edit.flushed_through);
            let through = through.max(stated.unwrap_or_default());
            let numbers = tables.iter().map(Whole::seqno_max);
            self.seqno_max = numbers.fold(self.seqno_max.max(through), SeqNo::max);
            flushed.insert(id, through);
            let added = match tables.is_empty() {
                true => Vec::new(),
                false => self.merge(id, tables)?,
            };
            kept.push(KeyspaceEdit {
                added,
                flushed_through: Some(through),
                log_floor: None,
                ..known.unwrap_or(KeyspaceEdit {
                    id,
                    ..KeyspaceEdit::default()
                })
            });
        }
        let logs = self.salvage_logs(&mut flushed)?;
        self.rebuild(kept, logs)
    }

    /// Makes the new state the one that counts, and tidies up.
    fn rebuild(&mut self, mut kept: Vec<KeyspaceEdit>, logs: Vec<FileId>) -> Result<RepairReport> {
        for id in &self.nameless {
            if !kept.iter().any(|edit| edit.id == *id) {
                kept.push(KeyspaceEdit {
                    id: *id,
                    flushed_through: Some(SeqNo::ZERO),
                    ..KeyspaceEdit::default()
                });
            }
        }
        self.name_all(&mut kept);
        // New tables and logs by name, before anything refers to them.
        self.fs.sync_dir()?;
        for name in std::mem::take(&mut self.aside) {
            let aside = self.fs.keep_aside(name)?;
            self.report.kept_aside.push(self.fs.root().join(aside));
        }
        self.fs.sync_dir()?;
        let ceiling = kept.iter().map(|edit| edit.id.0.saturating_add(1)).max();
        // As with the numbers of files.
        let ahead = if self.is_listed { 0 } else { SEQNOS_AHEAD };
        let used = self.remains.seqnos.max(self.seqno_max);
        let rebuilt = Rebuild {
            database: self.identity.database,
            hash_seed: self.identity.hash_seed,
            files: self.next,
            keyspaces: ceiling
                .unwrap_or(1)
                .max(self.remains.keyspace_ceiling)
                .max(1),
            seqnos: SeqNo::new(used.get().saturating_add(ahead)),
            clock: self.remains.clock,
            edit: VersionEdit {
                keyspaces: kept.clone(),
                logs_added: logs.clone(),
                logs_removed: Vec::new(),
            },
        };
        let versions = VersionSet::rebuild(self.fs, self.context, rebuilt)?;
        versions.close()?;
        let reserve = Reserve::new(self.options);
        sweep::sweep_orphans(self.fs, &versions, &logs, &reserve)?;
        self.report.changed = true;
        self.finish(&kept)
    }

    fn finish(&mut self, kept: &[KeyspaceEdit]) -> Result<RepairReport> {
        let names = kept.iter().filter_map(|edit| edit.created.as_ref());
        self.report.keyspaces = names.map(|(name, _)| name.clone()).collect();
        self.report.keyspaces.sort();
        Ok(std::mem::take(&mut self.report))
    }

    /// Gives a name and options to every keyspace that has none.
    fn name_all(&mut self, kept: &mut [KeyspaceEdit]) {
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for edit in kept.iter_mut() {
            let options = catalog::encode(&self.options_of(edit.id));
            let (name, options) = edit.created.take().map_or_else(
                || (name_by_number(edit.id), options.clone()),
                |(name, stored)| match catalog::decode(&stored) {
                    Ok(_) => (name, stored),
                    Err(_) => (name, options.clone()),
                },
            );
            let mut unique = match check_name(&name) {
                Ok(()) => name,
                Err(_) => name_by_number(edit.id),
            };
            while !taken.insert(unique.clone()) {
                unique = format!("{}-{}", name_by_number(edit.id), taken.len());
            }
            edit.options = None;
            edit.created = Some((unique, options));
        }
    }

    fn lose_current(&mut self) -> Result<()> {
        let path = self.fs.path(FileName::Current);
        self.report.losses.push(Loss {
            what: "CURRENT".to_owned(),
            kind: LossKind::Derived,
            ..Loss::at(path, 0..0)
        });
        match self.fs.open_read(FileName::Current) {
            Ok(_) => self.set_aside(FileName::Current),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn lose_manifest(&mut self, manifest: Option<FileId>) -> Result<()> {
        for entry in self.fs.list()? {
            if let Some(name @ FileName::Manifest(id)) = FileName::parse(&entry.name) {
                self.set_aside(name);
                if Some(id) != manifest {
                    let path = self.fs.path(name);
                    self.report.losses.push(Loss {
                        what: "manifest".to_owned(),
                        kind: LossKind::Derived,
                        ..Loss::at(path, 0..entry.len)
                    });
                }
            }
        }
        for range in std::mem::take(&mut self.remains.lost) {
            let name = manifest.map_or(FileName::Current, FileName::Manifest);
            let path = self.fs.path(name);
            self.report.losses.push(Loss {
                what: "manifest record".to_owned(),
                kind: LossKind::Derived,
                ..Loss::at(path, range)
            });
        }
        Ok(())
    }

    fn set_aside(&mut self, name: FileName) {
        self.aside.insert(name);
    }

    fn next_file(&mut self) -> FileId {
        let id = FileId(self.next);
        self.next = self.next.saturating_add(1);
        id
    }

    fn name_of(&self, keyspace: KeyspaceId) -> Option<String> {
        let edit = self.remains.keyspaces.get(&keyspace);
        let created = edit.and_then(|edit| edit.created.as_ref());
        Some(created.map_or_else(|| name_by_number(keyspace), |(name, _)| name.clone()))
    }

    fn options_of(&self, keyspace: KeyspaceId) -> KeyspaceOptions {
        let edit = self.remains.keyspaces.get(&keyspace);
        let stored = edit.and_then(|edit| edit.created.as_ref());
        let stored = stored.and_then(|(_, options)| catalog::decode(options).ok());
        stored
            .or_else(|| self.learnt.get(&keyspace).cloned())
            .unwrap_or_else(|| self.options.default_keyspace.clone())
    }

    /// True unless the keyspace was dropped. One that nobody has heard of is made.
    fn is_alive(&mut self, keyspace: KeyspaceId) -> bool {
        if self.remains.keyspaces.contains_key(&keyspace) || self.nameless.contains(&keyspace) {
            return true;
        }
        if keyspace.0 < self.remains.keyspace_ceiling {
            return false;
        }
        self.nameless.insert(keyspace);
        true
    }

    /// The keyspace of a table that does not say it: the only one there is, or one of its own.
    fn unknown_keyspace(&mut self, file: FileId) -> KeyspaceId {
        let known: BTreeSet<KeyspaceId> = self
            .remains
            .keyspaces
            .keys()
            .chain(&self.nameless)
            .copied()
            .collect();
        if known.len() == 1
            && let Some(only) = known.first()
        {
            return *only;
        }
        // Far above the numbers that are given: one for each such table.
        let id = KeyspaceId(u32::MAX / 2 + file.0 as u32 % (u32::MAX / 4));
        self.nameless.insert(id);
        id
    }
}

fn name_by_number(id: KeyspaceId) -> String {
    match id {
        KeyspaceId::DEFAULT => catalog::DEFAULT_NAME.to_owned(),
        id => format!("keyspace-{id}"),
    }
}

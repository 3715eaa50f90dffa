//! What is left of a manifest, and a new one made from what was found.
//!
//! Opening a database believes a manifest as a whole or not at all. Repair takes from a damaged
//! one what can be read: who the database is, which keyspaces there are, how far the log had been
//! flushed. Which tables lie where is then no longer known for sure.
//!
//! Threads: the caller holds the directory's lock. Not here: tables and logs (`db::repair`).

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::edit::{Ceilings, Identity, KeyspaceEdit, Record, VersionEdit};
use super::manifest::Current;
use super::recover::{Found, Read, Survey, TableEntries, begin};
use super::set::{FILES_AHEAD, VersionSet};
use super::snapshot::snapshot;
use crate::base::error::{Error, ErrorKind, Result, readable};
use crate::base::slice::Pin;
use crate::base::sync::Arc;
use crate::base::types::{FileId, KeyspaceId, SeqNo, Time};
use crate::fs::{FileName, Fs, Region};
use crate::table::TableContext;
use crate::wal::salvage::{Piece, salvage};
use crate::wal::stated_header;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

/// What is known of a database, from a manifest that was read whole or in part.
#[derive(Debug, Default)]
pub struct Remains {
    /// The database.
    pub database: Option<u64>,
    /// The seed of its keyed hash.
    pub hash_seed: Option<u64>,
    /// File numbers below may have been used.
    pub files: u64,
    /// Sequence numbers up to this one may have been used.
    pub seqnos: SeqNo,
    /// The clock's mark, if anything expires.
    pub clock: Option<Time>,
    /// Keyspace numbers below were given: one that is missing was dropped.
    pub keyspace_ceiling: u32,
    /// The keyspaces; `added` are their tables with level and run, as far as is known.
    pub keyspaces: BTreeMap<KeyspaceId, KeyspaceEdit>,
    /// Registered log segments.
    pub logs: BTreeSet<FileId>,
    /// Tables that an edit removed.
    pub removed: HashSet<FileId>,
    /// Stretches of the manifest that cannot be read.
    pub lost: Vec<Range<u64>>,
}

/// What the manifest that CURRENT names says when it is whole, else another one that is; and
/// whether CURRENT names it.
///
/// # Errors
/// Why none can be believed, from the one that CURRENT names.
pub fn find_whole(fs: &Fs, context: &Arc<TableContext>) -> Result<Option<(Found, bool)>> {
    let first = VersionSet::find(fs, context);
    match first {
        Ok(Some(found)) => return Ok(Some((found, true))),
        Err(error) if error.kind() != ErrorKind::Corruption => return Err(error),
        _ => {}
    }
    for manifest in manifests(fs)? {
        let file = fs.open_read(FileName::Manifest(manifest))?;
        let Some(stated) = stated_header(&file)? else {
            continue;
        };
        let database = stated.database;
        let current = Current { manifest, database };
        if stated.segment == manifest {
            let (survey, known) = (Survey::of(fs)?, TableEntries::default());
            let found = Found::of(fs, context, survey, current, known);
            if let Some(found) = readable(found)? {
                return Ok(Some((found, false)));
            }
        }
    }
    first.map(|_| None)
}

/// The manifests in the directory, newest first.
fn manifests(fs: &Fs) -> Result<Vec<FileId>> {
    let names = fs.list()?;
    let manifest = |name: &str| match FileName::parse(name) {
        Some(FileName::Manifest(id)) => Some(id),
        _ => None,
    };
    let mut all: Vec<FileId> = names.iter().filter_map(|e| manifest(&e.name)).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    Ok(all)
}

impl Remains {
    /// Everything that a whole manifest says.
    pub fn of(versions: &VersionSet) -> Remains {
        let numbers = *versions.numbers.lock();
        let mut remains = Remains {
            database: Some(versions.database()),
            hash_seed: Some(versions.hash_seed()),
            files: numbers.file,
            seqnos: versions.seqno_ceiling(),
            keyspace_ceiling: numbers.keyspace,
            logs: versions.logs().into_iter().collect(),
            clock: versions.clock().reading(),
            ..Remains::default()
        };
        let state = versions.state.load();
        let all = snapshot(versions.identity, Ceilings::default(), &state);
        let keyspaces = all.edit.keyspaces.into_iter();
        remains.keyspaces = keyspaces.map(|edit| (edit.id, edit)).collect();
        remains
    }

    /// What can be read of the newest manifest that has anything to say.
    ///
    /// # Errors
    /// What the file system says; damage is no error.
    pub fn read(fs: &Fs) -> Result<(Remains, Option<FileId>)> {
        for manifest in manifests(fs)? {
            let file = fs.open_read(FileName::Manifest(manifest))?;
            let len = file.len()?;
            let region = match len {
                0 => Region::from_vec(Vec::new()),
                _ => file.map(len).or_else(|_| file.read_region(len))?,
            };
            let mut remains = Remains::default();
            let mut lost = Vec::new();
            let mut has_records = false;
            let segment = salvage(region.bytes(), manifest, None, |piece| {
                match piece {
                    Piece::Lost { range, .. } => lost.push(range),
                    Piece::Record(at, _, payload) => match Record::decode(payload) {
                        Ok(record) => {
                            remains.take(record);
                            has_records = true;
                        }
                        Err(_) => lost.push(at..at.saturating_add(payload.len() as u64)),
                    },
                }
                Ok(())
            })?;
            remains.database = remains.database.or(segment.database);
            remains.lost = lost;
            if has_records {
                return Ok((remains, Some(manifest)));
            }
        }
        Ok((Remains::default(), None))
    }

    /// True when there is a table that was made while `found` was written to, and that it neither
    /// lists nor lists as removed: a flush or a compaction that a crash cut off, or an edit that is
    /// lost.
    pub fn misses_tables_of(&self, found: &Found) -> bool {
        let added = self.keyspaces.values().flat_map(|edit| &edit.added);
        let listed: HashSet<FileId> = added.map(|table| table.meta.file).collect();
        found
            .tables_there()
            .any(|id| found.manifest() < id && !listed.contains(&id) && !self.removed.contains(&id))
    }

    fn take(&mut self, record: Record) {
        if let Some(identity) = record.identity {
            self.database = Some(identity.database);
            self.hash_seed = Some(identity.hash_seed);
        }
        let ceilings = &record.ceilings;
        self.files = self.files.max(ceilings.files.unwrap_or(0));
        self.seqnos = self.seqnos.max(ceilings.seqnos.unwrap_or_default());
        self.clock = self.clock.max(ceilings.clock);
        let keyspaces = ceilings.keyspaces.unwrap_or(0);
        self.keyspace_ceiling = self.keyspace_ceiling.max(keyspaces);
        self.logs.extend(&record.edit.logs_added);
        for log in &record.edit.logs_removed {
            self.logs.remove(log);
        }
        for edit in record.edit.keyspaces {
            self.take_keyspace(edit);
        }
    }

    fn take_keyspace(&mut self, edit: KeyspaceEdit) {
        let removed: HashSet<FileId> = edit.removed.iter().map(|(_, file)| *file).collect();
        self.removed.extend(&removed);
        for added in &edit.added {
            self.removed.remove(&added.meta.file);
        }
        if edit.dropped {
            if let Some(gone) = self.keyspaces.remove(&edit.id) {
                self.removed.extend(gone.added.iter().map(|a| a.meta.file));
            }
            return;
        }
        let known = self.keyspaces.entry(edit.id).or_insert(KeyspaceEdit {
            id: edit.id,
            ..KeyspaceEdit::default()
        });
        known.created = edit.created.or(known.created.take());
        if let (Some(options), Some((_, created))) = (&edit.options, &mut known.created) {
            created.clone_from(options);
        }
        known.flushed_through = edit.flushed_through.max(known.flushed_through);
        known.log_floor = edit.log_floor.max(known.log_floor);
        known.commit_pin = edit.commit_pin.or(known.commit_pin);
        known.hidden.extend(edit.hidden);
        // Those that matter to no table any more among them: they do no harm.
        known.deleted = known.deleted.merged(&edit.deleted);
        known.added.retain(|a| !removed.contains(&a.meta.file));
        known.added.extend(edit.added);
    }
}

/// A whole live set, to be written into a new manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuild {
    /// The database.
    pub database: u64,
    /// The seed of its keyed hash.
    pub hash_seed: u64,
    /// File numbers below were used.
    pub files: u64,
    /// Keyspace numbers below were used.
    pub keyspaces: u32,
    /// Sequence numbers up to this one were used.
    pub seqnos: SeqNo,
    /// The clock's mark, if anything expires.
    pub clock: Option<Time>,
    /// Makes everything from nothing.
    pub edit: VersionEdit,
}

impl Rebuild {
    fn record(&self) -> Record {
        Record {
            identity: Some(Identity {
                database: self.database,
                hash_seed: self.hash_seed,
            }),
            ceilings: Ceilings {
                files: Some(self.files),
                keyspaces: Some(self.keyspaces),
                orders: Some(self.orders()),
                seqnos: Some(self.seqnos),
                clock: self.clock,
            },
            edit: self.edit.clone(),
        }
    }

    /// Above every run order in it.
    fn orders(&self) -> u64 {
        let added = self.edit.keyspaces.iter().flat_map(|k| &k.added);
        let orders = added.map(|table| table.order.saturating_add(1));
        orders.max().unwrap_or(1)
    }

    /// The first record of a manifest that says this.
    pub fn encode(&self) -> Vec<u8> {
        self.record().encode()
    }

    /// Reads what [`Rebuild::encode`] wrote. Whether the parts fit together is found by
    /// [`VersionSet::rebuild`].
    ///
    /// # Errors
    /// `Corruption` for anything else; `Unsupported` for a newer format.
    pub fn decode(bytes: &[u8]) -> Result<Rebuild> {
        let incomplete = || Error::corruption("snapshot of a manifest that is incomplete");
        let record = Record::decode(bytes)?;
        let identity = record.identity.ok_or_else(incomplete)?;
        let ceilings = record.ceilings;
        let rebuild = Rebuild {
            database: identity.database,
            hash_seed: identity.hash_seed,
            files: ceilings.files.ok_or_else(incomplete)?,
            keyspaces: ceilings.keyspaces.ok_or_else(incomplete)?,
            seqnos: ceilings.seqnos.ok_or_else(incomplete)?,
            clock: ceilings.clock,
            edit: record.edit,
        };
        match ceilings.orders == Some(rebuild.orders()) {
            true => Ok(rebuild),
            false => Err(incomplete()),
        }
    }
}

impl VersionSet {
    /// Writes a new manifest that says `rebuild`, and makes it the one that counts (R8). Manifests
    /// that were there before are removed then.
    ///
    /// # Errors
    /// `Corruption` when the parts do not fit together; what the file system says.
    pub fn rebuild(fs: &Fs, context: &Arc<TableContext>, rebuild: Rebuild) -> Result<VersionSet> {
        let survey = Survey::of(fs)?;
        let mut record = rebuild.record();
        record.ceilings.files = Some(rebuild.files.saturating_add(FILES_AHEAD));
        let mut read = Read::default();
        read.take(record)?;
        begin(read.into_set(fs, context, &survey)?, &survey)
    }
}

//! One instant of an open database, held still for as long as somebody copies it.
//!
//! It is taken under the write lock: no batch is half in it, whatever keyspaces it spans. Memtables
//! are frozen, so that what they held then can be told from what comes later; tables are held by
//! the views. Making and dropping keyspaces waits meanwhile (`admin`), so the manifest and the map
//! of trees tell of the same ones.

use super::{CheckpointOptions, CheckpointReport, no_such_keyspace};
use crate::base::error::Result;
use crate::base::hooks::Folding;
use crate::base::ranges::Pieces;
use crate::base::sync::Arc;
use crate::base::types::{FileId, KeyspaceId, SeqNo, Time};
use crate::compaction::{self, Workshop};
use crate::db::core::Core;
use crate::fs::Fs;
use crate::memtable::Memtable;
use crate::table::BirthIdentity;
use crate::tree::Tree;
use crate::version::{
    AddedTable, FileMeta, KeyspaceEdit, Rebuild, Remains, TableEntry, Version, VersionEdit,
};
use std::cell::Cell;

/// See the module's text.
pub(crate) struct Moment {
    /// Sequence numbers up to this one may have been used.
    used: SeqNo,
    /// What the clock said, if anything expires.
    clock: Option<Time>,
    hash_seed: u64,
    /// File numbers below this one are the source's.
    files: u64,
    keyspace_ceiling: u32,
    keyspaces: Vec<Held>,
    /// The default keyspace, empty, when it is not among them.
    default: Option<KeyspaceEdit>,
}

/// One keyspace of it.
struct Held {
    tree: Arc<Tree>,
    version: Arc<Version>,
    /// Frozen, newest first: they hold what no table of the version does.
    memtables: Vec<Arc<Memtable>>,
    /// What its merges meant then.
    folding: Folding,
    /// Name, options and what else the manifest says; the tables of the copy, and their places.
    edit: KeyspaceEdit,
}

impl Core {
    /// The keyspaces that are asked for.
    pub(super) fn chosen(&self, options: &CheckpointOptions) -> Result<Vec<Arc<Tree>>> {
        let trees = self.trees.load();
        let Some(names) = &options.keyspaces else {
            return Ok(trees.by_id.values().cloned().collect());
        };
        let find = |name: &String| match trees.by_name.get(name) {
            Some(tree) => Ok(Arc::clone(tree)),
            None => Err(no_such_keyspace(name)),
        };
        names.iter().map(find).collect()
    }

    /// Takes one instant of the keyspaces that are asked for.
    ///
    /// # Errors
    /// `NotFound` for a keyspace that is not there, `Closed`.
    pub(in crate::db) fn take_moment(&self, options: &CheckpointOptions) -> Result<Moment> {
        let admin = self.admin.lock();
        self.health.check_open()?;
        let trees = self.chosen(options)?;
        let mut views = Vec::with_capacity(trees.len());
        let commit = self.commit.lock();
        for tree in &trees {
            tree.rotate(commit.segment());
            views.push(tree.view_owned());
        }
        let (seqno, used) = (self.visible(), SeqNo::new(commit.next - 1));
        drop(commit);
        let mut remains = Remains::of(&self.versions);
        drop(admin);
        self.update_stall();
        self.board.notify();
        let mut edit_of = |id: KeyspaceId, version: &Version| {
            let known = remains.keyspaces.remove(&id).unwrap_or_default();
            KeyspaceEdit {
                id,
                added: tables_of(version),
                log_floor: None,
                // The log is not copied: there is nothing that tables do not hold.
                flushed_through: Some(seqno),
                deleted: Pieces::clone(&version.deleted),
                ..known
            }
        };
        let keyspaces: Vec<Held> = trees
            .into_iter()
            .zip(views)
            .map(|(tree, view)| Held {
                edit: edit_of(tree.id(), &view.version),
                version: Arc::clone(&view.version),
                memtables: view.immutables.clone(),
                folding: view.folding.clone(),
                tree,
            })
            .collect();
        let has_default = keyspaces.iter().any(|k| k.tree.id() == KeyspaceId::DEFAULT);
        let default = (!has_default).then(|| KeyspaceEdit {
            hidden: Vec::new(),
            ..edit_of(KeyspaceId::DEFAULT, &Version::default())
        });
        Ok(Moment {
            used,
            clock: remains.clock,
            hash_seed: self.versions.hash_seed(),
            files: remains.files,
            keyspace_ceiling: remains.keyspace_ceiling,
            keyspaces,
            default,
        })
    }
}

fn tables_of(version: &Version) -> Vec<AddedTable> {
    let added = |(level, order, table): (u8, u64, &Arc<TableEntry>)| AddedTable {
        level,
        order,
        meta: table.meta().clone(),
        fresh: false,
    };
    version.tables().map(added).collect()
}

impl Moment {
    /// The tables that there were; they stay for as long as the moment is held.
    pub(in crate::db) fn tables(&self) -> impl Iterator<Item = &Arc<TableEntry>> {
        let versions = self.keyspaces.iter().map(|k| &k.version);
        versions.flat_map(|version| version.tables().map(|(_, _, table)| table))
    }

    /// Writes what only memtables held to new tables in `fs`, each the newest run of its keyspace;
    /// gives these. Their numbers are above those of the source, and they are born in `database`,
    /// which must have no others with these numbers.
    ///
    /// # Errors
    /// What making files gives; `Closed` when the database was closed meanwhile.
    pub(in crate::db) fn write_memtables(
        &mut self,
        core: &Core,
        fs: &Fs,
        database: u64,
    ) -> Result<Vec<FileMeta>> {
        let next = Cell::new(self.files);
        let mut written = Vec::new();
        for held in &mut self.keyspaces {
            if held.memtables.is_empty() {
                continue;
            }
            let order = held.version.tables().map(|(_, order, _)| order).max();
            let workshop = Workshop {
                fs,
                allocate_file: &|| Ok(FileId(next.replace(next.get() + 1))),
                allocate_order: &|| order.unwrap_or(0) + 1,
                identity: BirthIdentity {
                    database,
                    file: FileId(0),
                    hash_seed: self.hash_seed,
                },
                keyspace: held.tree.id(),
                options: &held.tree.options(),
                folding: held.folding.clone(),
                // Nothing is dropped.
                snapshots: &[],
                expired: None,
                filtering: None,
                stop: core.board.stopped(),
                breathe: &|_| {},
                progressed: &|| {},
            };
            let outcome = compaction::flush(&held.memtables, &workshop)?;
            written.extend(outcome.edit.added.iter().map(|table| table.meta.clone()));
            held.edit.added.extend(outcome.edit.added);
            held.edit.deleted = held.edit.deleted.merged(&outcome.edit.deleted);
        }
        self.files = next.get();
        Ok(written)
    }

    /// What the manifest of a copy says, that is the database with this number.
    pub(in crate::db) fn picture(&self, database: u64) -> Rebuild {
        let keyspaces = self.keyspaces.iter().map(|held| &held.edit);
        Rebuild {
            database,
            hash_seed: self.hash_seed,
            files: self.files,
            keyspaces: self.keyspace_ceiling,
            seqnos: self.used,
            clock: self.clock,
            edit: VersionEdit {
                keyspaces: self.default.iter().chain(keyspaces).cloned().collect(),
                ..VersionEdit::default()
            },
        }
    }
}

/// Fills in what is told of a copy.
pub(in crate::db) fn describe(picture: &Rebuild, report: &mut CheckpointReport) {
    let keyspaces = &picture.edit.keyspaces;
    let through = keyspaces.iter().filter_map(|edit| edit.flushed_through);
    report.seqno = through.max().unwrap_or_default();
    report.keyspaces = names_of(picture);
    let tables = || keyspaces.iter().flat_map(|edit| &edit.added);
    report.tables = tables().count() as u64;
    report.bytes = tables().map(|table| table.meta.summary.bytes).sum();
}

/// The names of its keyspaces, sorted.
fn names_of(picture: &Rebuild) -> Vec<String> {
    let created = |edit: &KeyspaceEdit| edit.created.as_ref().map(|(name, _)| name.clone());
    let mut names: Vec<String> = picture.edit.keyspaces.iter().filter_map(created).collect();
    names.sort();
    names
}

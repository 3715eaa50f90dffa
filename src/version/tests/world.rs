//! A small world for the specifications of the set: a simulated disk, a set, tables that are empty
//! files, and an owner who removes dead tables, as the database does.

use crate::base::error::Result;
use crate::base::options::{ReadMode, Verify};
use crate::base::sync::Arc;
use crate::base::types::{FileId, KeyspaceId, SeqNo};
use crate::fs::sim::SimFs;
use crate::fs::{FileName, Fs};
use crate::table::{BirthIdentity, BlockCache, Expiring, TableContext, TableSummary};
use crate::version::{AddedTable, FileMeta, KeyspaceEdit, VersionEdit, VersionSet};
use std::fmt::Write as _;
use std::path::Path;

pub(super) const ROOT: &str = "/db";
pub(super) const MAIN: KeyspaceId = KeyspaceId::DEFAULT;

pub(super) fn context() -> Arc<TableContext> {
    Arc::new(TableContext {
        read_mode: ReadMode::Pread,
        verify: Verify::FirstTouch,
        cache: BlockCache::new(1 << 16),
    })
}

pub(super) fn fs_on(sim: &SimFs) -> Fs {
    Fs::sim(sim, Path::new(ROOT))
}

pub(super) fn recover(sim: &SimFs) -> Result<Option<VersionSet>> {
    VersionSet::recover(&fs_on(sim), &context())
}

pub(super) fn create(sim: &SimFs) -> Result<VersionSet> {
    fs_on(sim).make_root()?;
    VersionSet::create(&fs_on(sim), &context())
}

/// A table `keys`..=`keys` to be added.
pub(super) fn table(
    set: &VersionSet,
    file: FileId,
    level: u8,
    order: u64,
    key: &str,
) -> AddedTable {
    AddedTable {
        level,
        order,
        fresh: true,
        meta: FileMeta {
            file,
            identity: BirthIdentity {
                database: set.database(),
                file,
                hash_seed: set.hash_seed(),
            },
            summary: TableSummary {
                bytes: 0,
                entries: 1,
                tombstones: 0,
                raw_bytes: 2,
                smallest: key.into(),
                largest: key.into(),
                seqnos: (SeqNo::new(1), SeqNo::new(1)),
                expiring: Expiring::default(),
            },
            deleted_through: SeqNo::ZERO,
        },
    }
}

pub(super) fn edit_of(keyspace: KeyspaceEdit) -> VersionEdit {
    VersionEdit {
        keyspaces: vec![keyspace],
        ..VersionEdit::default()
    }
}

pub(super) fn creation(id: KeyspaceId, name: &str) -> VersionEdit {
    edit_of(KeyspaceEdit {
        id,
        created: Some((name.to_owned(), b"options".to_vec())),
        ..KeyspaceEdit::default()
    })
}

/// Everything that must survive, as text.
pub(super) fn describe(set: &VersionSet) -> String {
    describe_state(&set.state.load())
}

pub(super) fn describe_state(state: &super::super::set::State) -> String {
    let mut text = String::new();
    for k in state.keyspaces.values() {
        let _ = writeln!(
            text,
            "{} {} {:?} floor {} through {} pin {:?} hidden {:?}",
            k.id, k.name, k.options, k.log_floor, k.flushed_through, k.commit_pin, k.hidden
        );
        for (level, _, table) in k.version.tables() {
            let _ = writeln!(
                text,
                "  L{level} {}",
                table.meta().summary.smallest.escape_ascii()
            );
        }
    }
    let _ = writeln!(text, "{} logs", state.logs.len());
    text
}

/// Steps of every kind, each of them one edit at most.
pub(super) const STEPS: usize = 14;

/// Does step `n`; `about_to` hears of the edit just before it is installed.
pub(super) fn step(
    fs: &Fs,
    set: &VersionSet,
    n: usize,
    about_to: &mut dyn FnMut(&VersionEdit),
) -> Result<()> {
    let second = KeyspaceId(1);
    let mut install = |edit: VersionEdit| {
        about_to(&edit);
        set.install(edit)
    };
    // After a failed first step it is done again instead.
    let done = match set.keyspace(MAIN).map_or(0, |_| n) {
        0 => {
            let log = set.allocate_file()?;
            fs.create_new(FileName::Log(log))?;
            fs.sync_dir()?;
            install(VersionEdit {
                logs_added: vec![log],
                ..creation(MAIN, "default")
            })
        }
        4 => install(creation(second, "second")),
        7 => set.raise_seqno_ceiling(set.seqno_ceiling().plus(1)),
        9 => install(edit_of(KeyspaceEdit {
            id: MAIN,
            options: Some(b"other".to_vec()),
            commit_pin: Some(SeqNo::new(3)),
            hidden: vec![(SeqNo::new(1), SeqNo::new(2))],
            ..KeyspaceEdit::default()
        })),
        11 if set.keyspace(second).is_some() => install(edit_of(KeyspaceEdit {
            id: second,
            dropped: true,
            ..KeyspaceEdit::default()
        })),
        _ => {
            let id = if n == 5 && set.keyspace(second).is_some() {
                second
            } else {
                MAIN
            };
            install(flush_or_merge(fs, set, n, id)?)
        }
    };
    for file in set.take_dead() {
        assert!(!set.is_live_table(file), "a dead table is not live");
        let _ = fs.remove(FileName::Table(file));
    }
    done
}

/// Writes one table. Every third time it replaces all of level 0, into level 1, and a table of
/// level 1 moves to level 2.
fn flush_or_merge(fs: &Fs, set: &VersionSet, n: usize, id: KeyspaceId) -> Result<VersionEdit> {
    let file = set.allocate_file()?;
    fs.create_new(FileName::Table(file))?.sync_all()?;
    fs.sync_dir()?;
    let mut edit = KeyspaceEdit {
        id,
        flushed_through: Some(SeqNo::new(n as u64)),
        log_floor: Some(set.logs().first().copied().unwrap_or_default()),
        ..KeyspaceEdit::default()
    };
    let key = format!("k{n:02}");
    if !n.is_multiple_of(3) {
        edit.added
            .push(table(set, file, 0, set.allocate_order(), &key));
        return Ok(edit_of(edit));
    }
    let version = set.version(id).unwrap_or_default();
    let order = set.allocate_order();
    for (level, order, entry) in version.tables() {
        let meta = entry.meta().clone();
        match level {
            0 => edit.removed.push((0, meta.file)),
            1 => {
                edit.removed.push((1, meta.file));
                edit.added.push(AddedTable {
                    level: 2,
                    order,
                    meta,
                    fresh: false,
                });
            }
            _ => {}
        }
    }
    edit.added.push(table(set, file, 1, order, &key));
    Ok(edit_of(edit))
}

/// Everything that holds of a directory just opened: P5, and every table named is there.
pub(super) fn check_opened(fs: &Fs, set: &VersionSet) {
    let names: Vec<_> = fs.list().unwrap().into_iter().map(|e| e.name).collect();
    let manifest = FileName::Manifest(set.manifest()).to_string();
    for name in &names {
        let ours = name.ends_with(".manifest") || name.ends_with(".tmp");
        assert!(!ours || *name == manifest, "{name} is left: {names:?}");
    }
    assert!(
        names.contains(&"CURRENT".to_owned()) && names.contains(&manifest),
        "{names:?}"
    );
    for keyspace in set.keyspaces() {
        for (_, _, table) in keyspace.version.tables() {
            let name = FileName::Table(table.meta().file).to_string();
            assert!(
                names.contains(&name),
                "{name} is named and missing: {names:?}"
            );
        }
    }
}

//! Opening and destroying a database.

use super::board::Board;
use super::catalog::{self, DEFAULT_NAME, Trees};
use super::changes::Retained;
use super::commit::{Commit, SEQNO_RESERVE, reserved_above};
use super::core::{Core, Lease, Totals, pool_bytes};
use super::group::Group;
use super::health::{Health, Part};
use super::keyspace::Keyspace;
use super::log::{LogSpace, Site, new_segment};
use super::pace::Pace;
use super::published::Published;
use super::recover::{self, Replayed, Segments};
use super::reserve::Reserve;
use super::stall::Stall;
use super::sweep::Leftovers;
use super::watch::Watched;
use super::worker;
use super::{Db, sweep};
use crate::base::checksum::KeyHasher;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::{KeyspaceOptions, Options};
use crate::base::sync::{Arc, ArcSwap, Mutex};
use crate::base::types::{KeyspaceId, SeqNo};
use crate::fs::{FileName, Fs};
use crate::memtable::Pool;
use crate::read::SnapshotList;
use crate::table::{BlockCache, TableContext};
use crate::tree::{Tree, TreeContext};
use crate::version::{KeyspaceEdit, KeyspaceState, VersionEdit, VersionSet};
use crate::wal::Predecessor;
use std::path::Path;

impl Options {
    /// Opens the database in the directory `path`, making it if there is none.
    ///
    /// Takes the directory's lock, reads the manifest, replays the log (time linear in its size),
    /// removes what a crash left behind, and starts the background threads. A crash at any moment
    /// before needs no flag and no tool.
    ///
    /// # Errors
    /// `InvalidArgument` for an option out of range, named; `Locked` when the directory is open;
    /// `NotFound` without [`Options::create_if_missing`]; `Corruption` for damage in the manifest
    /// or below the log's synced mark, with file and offset; `Unsupported` for a newer format.
    ///
    /// ```
    /// use alluvium::Options;
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-open-{}", std::process::id()));
    /// // Half a gigabyte for memtables and caches together.
    /// let db = Options::new().memory_bytes(512 << 20).open(&dir)?;
    /// # db.close()?; alluvium::Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn open(self, path: impl AsRef<Path>) -> Result<Db> {
        self.open_in(Fs::os(path.as_ref()))
    }

    /// Opens the database on a simulated machine, for crash tests: see [`sim`](crate::fs::sim).
    ///
    /// # Errors
    /// As [`Options::open`], and whatever the machine was told to do.
    #[cfg(any(test, feature = "sim"))]
    pub fn open_sim(self, sim: &crate::fs::sim::SimFs, path: impl AsRef<Path>) -> Result<Db> {
        self.open_in(Fs::sim(sim, path.as_ref()))
    }

    /// Opens the database on any file system: the real disk, or the simulator's.
    ///
    /// # Errors
    /// As [`Options::open`].
    #[doc(hidden)]
    pub fn open_in(self, fs: Fs) -> Result<Db> {
        self.check()?;
        if !fs.root_exists()? {
            if !self.create_if_missing {
                return Err(missing(&fs));
            }
            fs.make_root()?;
        }
        let dir_lock = fs.lock()?;
        let db = match self.clone().open_locked(&fs, false) {
            // A full disk: what an earlier session set aside is enough to open it and to delete
            // from it (P15).
            Err(full)
                if full.kind() == ErrorKind::NoSpace
                    && Reserve::new(&self).give_up_of_before(&fs) =>
            {
                self.open_locked(&fs, true)
            }
            other => other,
        }?;
        *db.engine().dir_lock.lock() = Some(dir_lock);
        Ok(db)
    }

    /// Opens the directory, whose lock the caller holds.
    fn open_locked(self, fs: &Fs, on_reserve: bool) -> Result<Db> {
        let fs = fs.clone();
        let table_context = table_context(&self);
        let (versions, replayed) = match VersionSet::find(&fs, &table_context)? {
            Some(_) if self.error_if_exists => {
                return Err(Error::invalid("the directory holds a database already")
                    .at(fs.root())
                    .advice("Leave `error_if_exists` out to open it."));
            }
            Some(found) => {
                // What may refuse the database comes before anything is written (P11).
                resolve_options(found.versions(), &self)?;
                let segments = Segments::of(&fs, found.versions().database());
                let surveyed = recover::survey(segments, &found)?;
                (found.begin()?, surveyed)
            }
            None if !self.create_if_missing => return Err(missing(&fs)),
            None => {
                let versions = VersionSet::create(&fs, &table_context)?;
                (versions, Replayed::default())
            }
        };
        let versions = Arc::new(versions);
        let pool = Pool::new(pool_bytes(&self, 0));
        let tree_context = tree_context(&fs, &versions, pool, &self);
        let hasher = tree_context.hasher;
        let trees = open_trees(&tree_context, &self)?;
        let segments = Segments::of(&fs, versions.database());
        recover::replay(segments, &trees, hasher, &replayed, &|log| {
            recover::flush_all(&versions, &trees, log)
        })?;
        let leftovers = Leftovers::default();
        let site = Site {
            fs: &fs,
            versions: &versions,
            mode: self.log_mode,
            leftovers: &leftovers,
        };
        let reserve = Reserve::new(&self);
        let capacity = match on_reserve {
            true => reserve.bytes() / 4,
            false => self.log_segment_bytes,
        };
        let commit = start_log(site, capacity, &replayed).inspect_err(|_| {
            // That failure is the one to report; what stays is swept by the next open.
            let _ = leftovers.sweep(&fs, &versions);
        })?;
        let kept = replayed.kept();
        let oldest = kept.first().copied().unwrap_or(commit.segment());
        let retained = Retained::find(&fs, versions.database(), self.changes_bytes, oldest);
        let mut live = kept.clone();
        live.push(commit.segment());
        live.extend(retained.files());
        leftovers.sweep(&fs, &versions)?;
        let orphans = sweep::sweep_orphans(&fs, &versions, &live, &reserve)?;
        let log = LogSpace::default();
        log.start(commit.writer.syncer(), kept, replayed.unsynced);
        let core = Arc::new(Core {
            instance: fs.random(),
            published: Published::new(replayed.last),
            commit: Mutex::new(commit),
            trees: ArcSwap::from_pointee(trees),
            admin: Mutex::new(()),
            group: Group::default(),
            snapshots: SnapshotList::new(Arc::clone(versions.clock())),
            health: Health::new(Arc::clone(&tree_context.closed)),
            stall: Stall::new(fs.env()),
            pace: Pace::new(self.rate_limit),
            board: Board::new(self.background_threads, fs.env()),
            totals: Totals::default(),
            told: Mutex::default(),
            loading: Default::default(),
            dir_lock: Mutex::new(None),
            report: replayed.report(orphans),
            leftovers,
            reserve,
            space: Default::default(),
            fs,
            options: self,
            versions,
            tree_context,
            table_context,
            hasher,
            log,
            retained,
        });
        start(core)
    }
}

/// Starts the background and makes the first handle.
fn start(core: Arc<Core>) -> Result<Db> {
    let lease = Lease {
        core: Arc::clone(&core),
        threads: Mutex::new(Vec::new()),
    };
    *lease.threads.lock() = worker::start(&core)?;
    let lease = Arc::new(lease);
    let default = core.tree(KeyspaceId::DEFAULT)?;
    core.update_stall();
    // Segments that no recovered memtable needs: without this, opening and closing would pile
    // them up until something is flushed. Those that may not be durable go otherwise (I12).
    if !core.log.inherits() {
        core.settle(Part::Files, core.retire_logs());
    }
    if core.board.is_inline() {
        core.run_pending();
    }
    Ok(Db::new(Keyspace::new(lease, default)))
}

/// How tables are read, as the options say.
pub(super) fn table_context(options: &Options) -> Arc<TableContext> {
    Arc::new(TableContext {
        read_mode: options.read_mode,
        verify: options.verify,
        cache: BlockCache::new(options.memory_bytes / 2),
    })
}

/// What the trees of this set share.
pub(super) fn tree_context(
    fs: &Fs,
    versions: &Arc<VersionSet>,
    pool: Pool,
    options: &Options,
) -> Arc<TreeContext> {
    Arc::new(TreeContext {
        fs: fs.clone(),
        versions: Arc::clone(versions),
        pool,
        hasher: KeyHasher::new(versions.hash_seed()),
        closed: Arc::default(),
        merge_operators: options.merge_operators.clone(),
        clock: Arc::clone(versions.clock()),
        compaction_filters: options.compaction_filters.clone(),
    })
}

pub(super) fn missing(fs: &Fs) -> Error {
    Error::new(ErrorKind::NotFound, "there is no database")
        .at(fs.root())
        .advice("Open it with `create_if_missing` to make one.")
}

/// Opens a tree for each keyspace of the manifest, and makes the default keyspace if this is the
/// first open.
fn open_trees(context: &Arc<TreeContext>, options: &Options) -> Result<Trees> {
    let versions = &context.versions;
    if versions.keyspace(KeyspaceId::DEFAULT).is_none() {
        let encoded = catalog::encode(&options.default_keyspace);
        versions.install(VersionEdit {
            keyspaces: vec![KeyspaceEdit {
                id: KeyspaceId::DEFAULT,
                created: Some((DEFAULT_NAME.to_owned(), encoded)),
                ..KeyspaceEdit::default()
            }],
            ..VersionEdit::default()
        })?;
    }
    let mut trees = Trees::default();
    for (state, stored, resolved) in resolve_options(versions, options)? {
        if resolved != stored {
            store_options(versions, state.id, &resolved)?;
        }
        trees.insert(Arc::new(Tree::open(Arc::clone(context), &state, resolved)));
    }
    Ok(trees)
}

/// Each keyspace with the options that are stored and those it is opened with.
pub(super) fn resolve_options(
    versions: &VersionSet,
    options: &Options,
) -> Result<Vec<(KeyspaceState, KeyspaceOptions, KeyspaceOptions)>> {
    let resolve = |state: KeyspaceState| {
        let stored = catalog::decode(&state.options)?;
        let resolved = if state.id == KeyspaceId::DEFAULT {
            catalog::resolve(&state.name, stored.clone(), &options.default_keyspace)?
        } else {
            stored.clone()
        };
        Ok((state, stored, resolved))
    };
    versions.keyspaces().into_iter().map(resolve).collect()
}

/// Writes a keyspace's options into the manifest.
pub(super) fn store_options(
    versions: &VersionSet,
    id: KeyspaceId,
    options: &KeyspaceOptions,
) -> Result<()> {
    versions.install(VersionEdit {
        keyspaces: vec![KeyspaceEdit {
            id,
            options: Some(catalog::encode(options)),
            ..KeyspaceEdit::default()
        }],
        ..VersionEdit::default()
    })
}

/// Starts a new segment behind what was replayed: a torn log is never appended to (R5). Numbers
/// go on above everything reserved before, so that none names two writes (P6).
fn start_log(site: Site<'_>, capacity: u64, replayed: &Replayed) -> Result<Commit> {
    let versions = site.versions;
    let used = versions.seqno_ceiling().max(replayed.last);
    let ceiling = reserved_above(used.get(), SEQNO_RESERVE);
    versions.raise_seqno_ceiling(ceiling)?;
    // By the edit that adds the next one, so that some segment is registered at any time: a segment
    // beyond all those registered tells of an edit that is lost.
    let struck = replayed.passed_over.clone();
    let segment = new_segment(site, capacity, None, struck)?;
    // Tables may hold what the log has lost: who follows it sees by the number that something is missing.
    let before = match replayed.before {
        Some(before) => Some(Predecessor {
            last_seqno: before.last_seqno.max(replayed.last),
            ..before
        }),
        None if replayed.last == SeqNo::ZERO => None,
        None => Some(Predecessor::unknown(replayed.last)),
    };
    let writer = segment.begin(before)?;
    Ok(Commit {
        writer,
        next: used.get() + 1,
        ceiling: ceiling.get(),
        // The first record wakes the helper: a log that nobody writes to is not populated.
        wake_at: 0,
        sealed: None,
        appended_bytes: 0,
        watched: Watched::default(),
    })
}

impl Db {
    /// Removes the database in the directory `path`, and the directory if nothing else is in it.
    ///
    /// Files that are not the database's stay.
    ///
    /// # Errors
    /// `Locked` when it is open; `NotFound` when there is no such directory; `Io`.
    pub fn destroy(path: impl AsRef<Path>) -> Result<()> {
        let fs = Fs::os(path.as_ref());
        if !fs.root_exists()? {
            return Err(missing(&fs));
        }
        let lock = fs.lock()?;
        let mut others = false;
        // CURRENT goes first: without it the rest is an interrupted creation, not a database.
        if fs
            .list()?
            .iter()
            .any(|entry| entry.name == FileName::Current.to_string())
        {
            fs.remove(FileName::Current)?;
            fs.sync_dir()?;
        }
        for entry in fs.list()? {
            match FileName::parse(&entry.name) {
                Some(FileName::Lock | FileName::Current) => {}
                Some(name) => fs.remove(name)?,
                None => others = true,
            }
        }
        if others {
            return fs.sync_dir();
        }
        // LOCK goes with its directory, while it is held (P21).
        let removed = fs.remove_root();
        drop(lock);
        removed
    }
}

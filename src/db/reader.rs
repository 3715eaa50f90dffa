//! Reading beside a writer: moments of a database that somebody else has open, or that nobody has.
//!
//! A reader takes no lock and writes nothing. For a moment it reads the manifest, opens every table that
//! this names, so that none of them can go away any more, and replays the log into memtables of its own.
//! The writer goes on meanwhile, and nothing tells him of readers. What is read is one moment all the same
//! when no edit was made until the log was read, or only such that move entries about: flushes and
//! compactions. The log is read after the manifest, so it has whatever the tables have (I15).
//!
//! Files that go while they are looked for, a record that is being written, a segment that gets a new name:
//! what comes of these is an error of one attempt. An error that comes again in the same words is one of
//! the database.
//!
//! Threads: any; a moment is immutable. Memory: that of the writer's memtables, and while a moment is read
//! the bytes of the log.

use super::Db;
use super::catalog::{DEFAULT_NAME, Trees};
use super::open::{missing, resolve_options, table_context, tree_context};
use super::recover::{self, Replayed, Segments};
use super::snapshot::SnapshotKeyspace;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Options;
use crate::base::sync::Arc;
use crate::base::types::KeyspaceId;
use crate::fs::Fs;
use crate::memtable::Pool;
use crate::read::{SnapshotGuard, SnapshotList};
use crate::table::TableContext;
use crate::tree::Tree;
use crate::version::{Found, TableEntries, VersionSet};
use std::fmt;
use std::ops::Deref;
use std::path::Path;

/// So often a moment is tried to be read, beside a writer who does not stop.
const TRIES: u32 = 16;

/// A database that is open for reading only, beside whoever has it open: one moment of it.
///
/// It derefs to the default keyspace as it was at that moment; [`DbReader::refresh`] goes on to a newer
/// one. Cloning is cheap, and a clone keeps its moment when others go on, as do iterators and slices.
/// Made by [`Db::open_read_only`].
#[derive(Clone)]
pub struct DbReader {
    source: Arc<Source>,
    moment: Arc<Moment>,
    default: SnapshotKeyspace,
}

/// Where moments come from.
#[derive(Debug)]
struct Source {
    fs: Fs,
    options: Options,
    tables: Arc<TableContext>,
}

#[derive(Debug)]
struct Moment {
    versions: Arc<VersionSet>,
    trees: Trees,
    at: Arc<SnapshotGuard>,
}

impl Deref for DbReader {
    type Target = SnapshotKeyspace;

    fn deref(&self) -> &SnapshotKeyspace {
        &self.default
    }
}

impl fmt::Debug for DbReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self.source.fs.root().display();
        write!(f, "DbReader({root} at {})", self.seqno())
    }
}

impl Db {
    /// Opens the database in the directory `path` for reading only, with default options; see
    /// [`Options::open_read_only`].
    ///
    /// # Errors
    /// As [`Options::open_read_only`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<DbReader> {
        Options::new().open_read_only(path)
    }
}

impl Options {
    /// Opens the database in the directory `path` for reading only, also while another process has it
    /// open, and as often as wanted.
    ///
    /// Nothing is locked and nothing is written: neither does the writer notice, nor need the directory be
    /// writable. What is read is one moment: every write up to some number, of all keyspaces, and none
    /// behind it. A write that was acknowledged before this call is among them; one with
    /// [`Durability::Logged`](crate::Durability::Logged) may be, and be lost by a power cut afterwards.
    ///
    /// Of the options, those of reading count, the memory for blocks and the merge operators. Values that
    /// expire are seen as they were at that moment.
    ///
    /// Cost: reads the manifest, opens every table, and replays the log into memory, which takes as
    /// much of it as the writer's memtables do.
    ///
    /// # Errors
    /// As [`Options::open`], but for those of writing: `InvalidArgument`, `NotFound`, `Corruption`,
    /// `Unsupported`, `Io`. `Conflict` when the writer changed the database faster than it could be
    /// read, many times in a row.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-ro-{}", std::process::id()));
    /// let db = alluvium::Db::open(&dir)?; // here or in another process
    /// db.put("k", "before")?;
    /// let mut reader = alluvium::Db::open_read_only(&dir)?;
    /// db.put("k", "after")?;
    /// assert_eq!(reader.get("k")?.unwrap(), b"before");
    /// reader.refresh()?;
    /// assert_eq!(reader.get("k")?.unwrap(), b"after");
    /// # db.close()?; alluvium::Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn open_read_only(self, path: impl AsRef<Path>) -> Result<DbReader> {
        self.open_read_only_in(Fs::os(path.as_ref()))
    }

    /// As [`Options::open_read_only`], on any file system: the real disk, or the simulator's.
    ///
    /// # Errors
    /// As [`Options::open_read_only`].
    #[doc(hidden)]
    pub fn open_read_only_in(self, fs: Fs) -> Result<DbReader> {
        self.check()?;
        let source = Source {
            fs,
            tables: table_context(&self),
            options: self,
        };
        let moment = source.moment(TableEntries::default())?;
        DbReader::new(Arc::new(source), moment)
    }
}

impl DbReader {
    fn new(source: Arc<Source>, moment: Moment) -> Result<DbReader> {
        let default = moment.keyspace(DEFAULT_NAME)?;
        Ok(DbReader {
            source,
            moment: Arc::new(moment),
            default,
        })
    }

    /// Goes on to what the database is now. Iterators, slices, clones and keyspaces that were asked for
    /// keep what they see.
    ///
    /// Cost: as opening it, but that tables which are still there stay open.
    ///
    /// # Errors
    /// As [`Options::open_read_only`]; `NotFound` also when another database is in the directory. The
    /// reader keeps its moment then.
    pub fn refresh(&mut self) -> Result<()> {
        let known = self.moment.versions.tables();
        let moment = self.source.moment(known)?;
        if moment.versions.database() != self.moment.versions.database() {
            return Err(
                Error::new(ErrorKind::NotFound, "the database that was read is gone")
                    .at(self.source.fs.root())
                    .advice("Another one is in its directory: open that."),
            );
        }
        *self = DbReader::new(Arc::clone(&self.source), moment)?;
        Ok(())
    }

    /// The keyspace `name` at this moment.
    ///
    /// # Errors
    /// `NotFound` when there was none of that name.
    pub fn keyspace(&self, name: impl AsRef<str>) -> Result<SnapshotKeyspace> {
        self.moment.keyspace(name.as_ref())
    }

    /// The names of all keyspaces, sorted.
    pub fn keyspaces(&self) -> Vec<String> {
        self.moment.trees.names()
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.source.fs.root()
    }
}

impl Moment {
    fn keyspace(&self, name: &str) -> Result<SnapshotKeyspace> {
        let tree = self.trees.named(name).map_err(|error| {
            let names = self.trees.names().join(", ");
            error.advice(format!("There are: {names}."))
        })?;
        Ok(SnapshotKeyspace::new(None, Arc::clone(&self.at), tree))
    }
}

impl Source {
    /// What the database is now; tables in `known` stay open.
    fn moment(&self, mut known: TableEntries) -> Result<Moment> {
        let mut before: Option<Error> = None;
        for _ in 0..TRIES {
            match self.try_moment(&mut known) {
                Ok(Some(moment)) => return Ok(moment),
                Ok(None) => before = None,
                Err(error) => {
                    let again = before.as_ref().map(Error::to_string);
                    if again == Some(error.to_string()) {
                        return Err(error);
                    }
                    before = Some(error);
                }
            }
        }
        let conflict = Error::new(
            ErrorKind::Conflict,
            "the database changed faster than it could be read",
        )
        .at(self.fs.root())
        .advice("Try again; a writer who is not at his limit leaves time enough.");
        Err(match before {
            Some(cause) => conflict.caused_by(cause),
            None => conflict,
        })
    }

    /// `None`: what was read is not one moment.
    fn try_moment(&self, known: &mut TableEntries) -> Result<Option<Moment>> {
        let found = self.find(known)?;
        // At once: the writer may remove those that a compaction replaces.
        *known = found.versions().tables();
        known
            .values()
            .try_for_each(|table| table.table().map(drop))?;
        let resolved = resolve_options(found.versions(), &self.options)?;
        let segments = Segments::of(&self.fs, found.versions().database());
        let loaded = segments.load(found.versions().logs())?;
        let segments = segments.loaded(&loaded);
        let surveyed = recover::survey(segments, &found)?;
        if !holds_still(&found, &self.find(known)?, &surveyed) {
            return Ok(None);
        }
        let versions = Arc::new(found.read_only());
        let context = tree_context(&self.fs, &versions, Pool::new(0), &self.options);
        let mut trees = Trees::default();
        for (state, _, options) in resolved {
            trees.insert(Arc::new(Tree::open(Arc::clone(&context), &state, options)));
        }
        recover::replay(segments, &trees, context.hasher, &surveyed, &|log| {
            for tree in trees.by_id.values() {
                tree.rotate(log);
            }
            Ok(())
        })?;
        // After the replay, which may have found the first value that expires.
        let at = SnapshotList::new(Arc::clone(versions.clock())).register(|| surveyed.last);
        Ok(Some(Moment {
            versions,
            trees,
            at: Arc::new(at),
        }))
    }

    fn find(&self, known: &TableEntries) -> Result<Found> {
        let found = VersionSet::find_again(&self.fs, &self.tables, known.clone())?;
        // One that is being made has no keyspace yet.
        let found = found.filter(|f| f.versions().keyspace(KeyspaceId::DEFAULT).is_some());
        found.ok_or_else(|| missing(&self.fs).advice("Reading makes none."))
    }
}

/// True when the log that was read behind `found` belongs to it, although the manifest said `now` after
/// that: no keyspace came, went or changed, no bulk load is in the log and not in the tables, and the
/// segments were not given away while they were read.
fn holds_still(found: &Found, now: &Found, surveyed: &Replayed) -> bool {
    if now.is_as(found) {
        return true;
    }
    let (versions, later) = (found.versions(), now.versions());
    let shape = |versions: &VersionSet| {
        let keyspaces = versions.keyspaces().into_iter();
        keyspaces.map(|k| (k.id, k.options)).collect::<Vec<_>>()
    };
    let kept = later.logs();
    versions.database() == later.database()
        && shape(versions) == shape(later)
        && !surveyed.has_unfinished_load
        && versions.logs().iter().all(|log| kept.contains(log))
}

//! What holds space and versions, and why.
//!
//! Space is told by what is in the directory: each file has one reason to be there. Of the tables in
//! use it is told what lies above the last run, since only that can be superseded or supersede.
//! Threads: any. Not here: what a get asks (`read::explain`), why writers wait (`stall`).

use super::core::Core;
use super::space::PutOff;
use crate::base::error::Result;
use crate::base::types::{FileId, SeqNo};
use crate::fs::FileName;
use crate::version::{SortedRun, Version};
use std::collections::HashSet;
use std::fmt;

/// The oldest instant that somebody reads at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pin {
    /// Its number: versions that it sees are kept, whatever supersedes them.
    pub seqno: SeqNo,
    /// So many numbers of writes have been used since.
    pub writes_since: u64,
    /// Snapshots, iterators, cursors and transactions that are alive, at this instant and at later
    /// ones. An iterator that is read from both ends counts twice.
    pub readers: u64,
}

/// What the bytes of a database's directory are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpaceReport {
    /// Tables in use, by keyspace, sorted by name.
    pub keyspaces: Vec<KeyspaceSpace>,
    /// Tables that were replaced or dropped and that somebody still reads.
    pub replaced: Space,
    /// Segments of the log, spare ones among them, and those that are kept for a feed of changes.
    pub log: Space,
    /// The keyspace whose writes, in no table yet, hold the oldest segment that is needed.
    pub log_held_by: Option<String>,
    /// Manifests and CURRENT.
    pub manifest: Space,
    /// What is set aside for a full disk.
    pub reserve: Space,
    /// Tables that are being written, and what is left of jobs that failed.
    pub unfinished: Space,
    /// Files of others.
    pub foreign: Space,
    /// The oldest instant that somebody reads at; replaced tables and superseded versions may be
    /// kept for it.
    pub oldest_pin: Option<Pin>,
    /// A compaction that is put off, because the disk has no space for it.
    pub put_off: Option<PutOff>,
}

/// Files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Space {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// The tables of a keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyspaceSpace {
    /// The keyspace.
    pub name: String,
    /// Its tables.
    pub tables: Space,
    /// Bytes of the oldest run. In it each key has one version, but for those that a snapshot keeps.
    pub last_run_bytes: u64,
    /// Bytes above it, which wait for a compaction. At most so many, and as many of the last run, are
    /// superseded.
    pub above_bytes: u64,
    /// Entries that are deletions: they go when what they hide has gone.
    pub deletions: u64,
    /// Entries with an expiry, whether it is past or not.
    pub expiring: u64,
    /// Pieces of deleted ranges that tables may still hold something of.
    pub deleted_ranges: u64,
}

impl KeyspaceSpace {
    fn of(name: &str, version: &Version) -> KeyspaceSpace {
        let mut space = KeyspaceSpace {
            name: name.to_owned(),
            deleted_ranges: version.deleted.len() as u64,
            ..KeyspaceSpace::default()
        };
        for (_, _, table) in version.tables() {
            let summary = &table.meta().summary;
            space.tables.add(summary.bytes);
            space.deletions = space.deletions.saturating_add(summary.tombstones);
            space.expiring = space.expiring.saturating_add(summary.expiring.entries);
        }
        let last = version.levels.last().and_then(|runs| runs.last());
        space.last_run_bytes = last.map_or(0, SortedRun::bytes);
        space.above_bytes = space.tables.bytes - space.last_run_bytes;
        space
    }
}

impl SpaceReport {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        let tables = self.keyspaces.iter().map(|space| space.tables.bytes);
        let parts = self.parts().map(|(space, _)| space.bytes);
        tables.chain(parts).sum()
    }

    /// All but the tables in use, and what they are.
    fn parts(&self) -> [(Space, &'static str); 6] {
        [
            (
                self.replaced,
                "tables that were replaced and are read still",
            ),
            (self.log, "segments of the log"),
            (self.manifest, "files of the manifest"),
            (self.reserve, "files kept for a full disk"),
            (
                self.unfinished,
                "files that are being written or were left behind",
            ),
            (self.foreign, "files of others"),
        ]
    }
}

impl Core {
    pub(super) fn oldest_pin(&self) -> Option<Pin> {
        let (seqno, readers) = self.snapshots.oldest()?;
        Some(Pin {
            seqno,
            writes_since: self.visible().get().saturating_sub(seqno.get()),
            readers: readers as u64,
        })
    }

    pub(super) fn why_space(&self) -> Result<SpaceReport> {
        self.health.check_open()?;
        // The directory first: a table that comes into use meanwhile is in neither, and one that is
        // replaced meanwhile counts as such.
        let listed = self.fs.list()?;
        let mut report = SpaceReport {
            oldest_pin: self.oldest_pin(),
            put_off: self.space.put_off(),
            ..SpaceReport::default()
        };
        let mut used: HashSet<FileId> = HashSet::new();
        for keyspace in self.versions.keyspaces() {
            used.extend(keyspace.version.tables().map(|(_, _, t)| t.meta().file));
            let space = KeyspaceSpace::of(&keyspace.name, &keyspace.version);
            report.keyspaces.push(space);
        }
        report.keyspaces.sort_by(|a, b| a.name.cmp(&b.name));
        for file in listed {
            let part = match FileName::parse(&file.name) {
                Some(FileName::Table(id)) if used.contains(&id) => continue,
                Some(FileName::Table(id)) if self.versions.is_live_table(id) => {
                    &mut report.replaced
                }
                Some(FileName::Table(_) | FileName::Temp(_)) => &mut report.unfinished,
                Some(FileName::Log(_)) => &mut report.log,
                Some(FileName::Manifest(_) | FileName::Current) => &mut report.manifest,
                Some(FileName::Ballast) => &mut report.reserve,
                Some(FileName::Lock) => continue,
                _ => &mut report.foreign,
            };
            part.add(file.len);
        }
        report.log_held_by = self.holds_log();
        Ok(report)
    }

    /// The keyspace that needs the oldest segment of the log, when that is not the one written to.
    fn holds_log(&self) -> Option<String> {
        let commit = self.commit.lock();
        let trees = self.trees.load();
        let held = trees
            .by_id
            .values()
            .filter_map(|tree| Some((tree.oldest_log()?, tree)));
        let (oldest, tree) = held.min_by_key(|(log, _)| *log)?;
        (oldest < commit.segment()).then(|| tree.name().to_owned())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the oldest of {} readers reads at {}, {} writes ago",
            self.readers,
            self.seqno.get(),
            self.writes_since
        )
    }
}

impl fmt::Display for SpaceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for space in &self.keyspaces {
            let KeyspaceSpace { name, tables, .. } = space;
            writeln!(
                f,
                "{:>15}  {name}: {} tables in use",
                tables.bytes, tables.files
            )?;
            writeln!(
                f,
                "{:>15}    of it above the last run: at most that much there, and of the last run, is superseded",
                space.above_bytes
            )?;
            let counts = [
                (space.deletions, "deletions"),
                (space.expiring, "entries that expire"),
                (space.deleted_ranges, "pieces of deleted ranges"),
            ];
            for (count, what) in counts.into_iter().filter(|(count, _)| *count != 0) {
                writeln!(f, "{:>15}    {count} {what}", "")?;
            }
        }
        for (space, what) in self
            .parts()
            .into_iter()
            .filter(|(space, _)| space.files != 0)
        {
            writeln!(f, "{:>15}  {} {what}", space.bytes, space.files)?;
        }
        if let Some(name) = &self.log_held_by {
            writeln!(f, "{:>15}    the oldest is needed by {name}", "")?;
        }
        if let Some(pin) = &self.oldest_pin {
            writeln!(f, "{:>15}  {pin}", "")?;
        }
        if let Some(put_off) = &self.put_off {
            writeln!(
                f,
                "{:>15}  bytes are free for a compaction of {} that may write {}: it waits",
                put_off.free_bytes, put_off.keyspace, put_off.needs_bytes
            )?;
        }
        write!(f, "{:>15}  bytes in all", self.bytes())
    }
}

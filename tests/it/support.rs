//! Places to put a database, and ways to take the power away.

pub(crate) use crate::temp_dir::TempDir;

use alluvium::base::checksum::crc;
use alluvium::base::types::{KeyspaceId, Time};
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use alluvium::table::{BlockCache, TableContext};
use alluvium::version::{VersionEdit, VersionSet};
use alluvium::wal::{Predecessor, Writer, WriterOptions};
use alluvium::{
    Db, InKeyspace, KeyspaceOptions, LogMode, Options, ReadMode, Result, SeqNo, Verify, WriteBatch,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The directory of a database in the simulator.
pub(crate) const ROOT: &str = "/db";

/// A small database whose upkeep runs on the caller's thread.
pub(crate) fn quiet_options(default_keyspace: KeyspaceOptions) -> Options {
    Options::new()
        .memory_bytes(8 << 20)
        .log_segment_bytes(64 << 10)
        .background_threads(0)
        .default_keyspace(default_keyspace)
}

/// The real disk or the simulator.
pub(crate) enum Disk {
    Real(TempDir),
    Simulated(SimFs),
}

impl Disk {
    pub(crate) fn real(dir: TempDir) -> Self {
        Disk::Real(dir)
    }

    pub(crate) fn simulated(seed: u64) -> Self {
        Disk::Simulated(SimFs::new(seed))
    }

    pub(crate) fn open(&self, options: Options) -> Result<Db> {
        match self {
            Disk::Real(dir) => options.open(dir.path()),
            Disk::Simulated(sim) => options.open_in(Fs::sim(sim, Path::new(ROOT))),
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let fs = match self {
            Disk::Real(dir) => Fs::os(dir.path()),
            Disk::Simulated(sim) => Fs::sim(sim, Path::new(ROOT)),
        };
        fs.list()
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect()
    }

    /// One manifest, no temporary file (P5).
    pub(crate) fn check_tidy(&self) {
        let names = self.names();
        let of = |suffix: &str| names.iter().filter(|name| name.ends_with(suffix)).count();
        assert_eq!(
            (of(".manifest"), of(".tmp"), of("CURRENT")),
            (1, 0, 1),
            "{names:?}"
        );
    }
}

/// The default keyspace of any database.
struct Default;

impl InKeyspace for Default {
    fn target(&self) -> (KeyspaceId, u64) {
        (KeyspaceId::DEFAULT, 1)
    }

    fn expiry(&self, _: Option<Duration>) -> Option<Time> {
        None
    }
}

/// What the manifest of a database in the simulator says, with a new manifest to write to.
pub(crate) fn version_set(sim: &SimFs) -> VersionSet {
    let context = Arc::new(TableContext {
        read_mode: ReadMode::Mmap,
        verify: Verify::FirstTouch,
        cache: BlockCache::new(1 << 20),
    });
    let found = VersionSet::recover(&Fs::sim(sim, Path::new(ROOT)), &context);
    found.unwrap().expect("there is a database")
}

/// Begins a log segment behind the newest one, which it says ends at `end` with write number 1, and
/// puts `entries` there by one record with the number `first`, each checksum of it right.
pub(crate) fn begin_segment(sim: &SimFs, end: u64, first: SeqNo, entries: &[(&str, &str)]) {
    let set = version_set(sim);
    let before = Predecessor {
        segment: *set.logs().last().unwrap(),
        end,
        last_seqno: SeqNo::new(1),
    };
    let segment = set.allocate_file().unwrap();
    let fs = Fs::sim(sim, Path::new(ROOT));
    let file = fs.create_new(FileName::Log(segment)).unwrap();
    set.install(VersionEdit {
        logs_added: vec![segment],
        ..VersionEdit::default()
    })
    .unwrap();
    let options = WriterOptions {
        database: set.database(),
        segment,
        mode: LogMode::Write,
        capacity: 64 << 10,
        recycled: false,
    };
    let mut writer = Writer::create(file, options, Some(before)).unwrap();
    let mut batch = WriteBatch::new();
    for (key, value) in entries {
        batch.put(Default, key, value);
    }
    let payload = batch.encoded();
    let last = first.plus(entries.len() as u64 - 1);
    writer.append(first, last, payload, crc(payload)).unwrap();
}

/// The names of the database's files that end so, in order.
pub(crate) fn names_ending(sim: &SimFs, end: &str) -> Vec<String> {
    let files = Fs::sim(sim, Path::new(ROOT)).list().unwrap();
    let names = files.into_iter().map(|file| file.name);
    let mut names: Vec<String> = names.filter(|name| name.ends_with(end)).collect();
    names.sort();
    names
}

/// Polls; the deadline is far above what it takes.
pub(crate) fn wait_until(db: &Db, what: &str, done: impl Fn(&Db) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done(db) {
        assert!(Instant::now() < deadline, "{what}: {}", db.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}

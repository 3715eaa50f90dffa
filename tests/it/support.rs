//! Places to put a database, and ways to take the power away.

use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::{Db, Options, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory of its own that goes away again.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("alluvium-{name}-{}-{n}", std::process::id()));
        // Left behind by an earlier process of the same number, if at all.
        let _ = std::fs::remove_dir_all(&path);
        TempDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The directory of a database in the simulator.
pub(crate) const ROOT: &str = "/db";

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

//! A directory of backups with two good points in time, which share a table.

use crate::guard;
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::{BackupDirectory, Options, Result};
use std::path::Path;
use std::sync::OnceLock;

/// Where the backups are.
pub const BACKUPS: &str = "/backups";

/// The name of a record.
pub fn record_of(number: u64) -> String {
    format!("{number:06}.point")
}

/// The machine on which it was made.
pub fn backed_up() -> &'static SimFs {
    static MADE: OnceLock<SimFs> = OnceLock::new();
    MADE.get_or_init(|| guard::aside(|| make().expect("the simulator has no faults")))
}

fn make() -> Result<SimFs> {
    let sim = SimFs::new(4);
    let at = |path: &str| Fs::sim(&sim, Path::new(path));
    let options = Options::new().memory_bytes(1 << 20).background_threads(0);
    let db = options.open_in(at("/db"))?;
    let backups = BackupDirectory::open_in(at(BACKUPS))?;
    for n in 0..2u8 {
        for key in 0..10 {
            db.put([n, key], [key; 20])?;
        }
        backups.create(&db)?;
    }
    db.close()?;
    drop(backups);
    Ok(sim)
}

//! A reader beside under faults: what it sees is what was written, or its error is the disk's.

use super::{Contents, ROOT, Run, SPACES, expect_same};
use alluvium::Result;
use alluvium::fs::Fs;
use std::path::Path;

impl Run<'_> {
    /// Opens a reader, and moves it on.
    pub fn read_beside(&mut self) {
        // Where a call of the writer has failed, it may know more than the disk.
        let is_good = self.sim.faults_hit() == 0;
        if self.db.is_none() || self.is_dead() {
            return;
        }
        match self.seen_beside() {
            Ok(seen) if is_good => expect_same(&seen, &self.history.now, self.what),
            Ok(_) => {}
            Err(error) => self.expect_disk(&error),
        }
    }

    fn seen_beside(&self) -> Result<Contents> {
        let fs = Fs::sim(self.sim, Path::new(ROOT));
        let mut reader = self.options.clone().open_read_only_in(fs)?;
        reader.refresh()?;
        let mut seen = Contents::new();
        let there = reader.keyspaces();
        // A fault may have been in the way of making one.
        for name in SPACES
            .into_iter()
            .filter(|it| there.iter().any(|name| name == it))
        {
            for entry in reader.keyspace(name)?.iter() {
                let (key, value) = entry?;
                seen.insert((name, key.to_vec()), value.to_vec());
            }
        }
        Ok(seen)
    }
}

//! A reader that has the database open beside the writer: what it sees is what is there.

use super::keys::key;
use super::op::Op;
use super::reads::check_value;
use super::world::{NAMES, World};
use alluvium::Result;

impl World {
    /// Opens a reader, or moves the one that there is on.
    pub(super) fn read_beside(&mut self, op: &Op) -> Result<()> {
        let reader = match self.reader.take() {
            Some(mut reader) if !op.seed.is_multiple_of(4) => {
                reader.refresh()?;
                reader
            }
            _ => {
                let options = self.settings.options.clone();
                options.open_read_only_in(self.place.fs())?
            }
        };
        // Then some of what was acknowledged may be in the writer's memory alone.
        if self.is_crashed() || self.has_fault_struck() {
            return Ok(());
        }
        let mut names = self.names();
        names.sort();
        assert_eq!(reader.keyspaces(), names);
        for n in (0..self.spaces.len()).filter(|n| self.oracle.is_alive(*n)) {
            let keyspace = reader.keyspace(NAMES[n])?;
            self.check_entries(n, keyspace.iter())?;
            let rank = op.a;
            let value = keyspace.get(key(rank))?;
            check_value(value.as_deref(), self.oracle.get(n, rank), rank);
        }
        self.reader = Some(reader);
        Ok(())
    }
}

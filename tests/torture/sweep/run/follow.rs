//! A feed of changes under faults: it tells what was written, in order and all of it, or that somebody
//! who follows has to read anew, and that only where a call has failed.

use super::{Change, Run};
use alluvium::{Changed, ErrorKind, Result, SeqNo};

impl Run<'_> {
    /// From the next open on the log is kept for a feed.
    pub fn keep_changes(&mut self) {
        self.options = self.options.clone().changes_bytes(4 << 20);
    }

    /// Goes on where it was followed last.
    pub fn follow(&mut self) {
        let told = self.told();
        if self.is_dead() || self.is_unsure {
            return;
        }
        match told {
            Ok(None) => {}
            Ok(Some((at, told))) => {
                let next = self.history.batches[self.followed.1..].iter().cloned();
                assert_eq!(told, next.collect::<Vec<_>>(), "{}", self.what);
                self.followed = (at, self.history.batches.len());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert_ne!(self.sim.faults_hit(), 0, "{}: {error}", self.what);
                let at = self.db.as_ref().expect("it has answered").seqno();
                self.followed = (at, self.history.batches.len());
            }
            Err(error) => self.expect_disk(&error),
        }
    }

    /// What is told, and up to where; `None` without a database.
    fn told(&self) -> Result<Option<(SeqNo, Vec<Vec<Change>>)>> {
        let Some(db) = &self.db else {
            return Ok(None);
        };
        let mut feed = db.changes_since(self.followed.0)?;
        let mut told = Vec::new();
        for change in feed.by_ref() {
            let change = change?;
            let operations = change.operations().map(|(space, changed)| {
                let space = match space {
                    "default" => "default",
                    _ => "orders",
                };
                match changed {
                    Changed::Put { key, value, .. } => (space, key.to_vec(), Some(value.to_vec())),
                    Changed::Delete { key } => (space, key.to_vec(), None),
                    other => panic!("{}: {other:?}", self.what),
                }
            });
            told.push(operations.collect());
        }
        Ok(Some((feed.seqno(), told)))
    }
}

//! A copy of the database that only the feed of changes keeps up to date.
//!
//! The feed may say that it cannot go on where it keeps little, or something of the log may be lost;
//! the copy is made anew then. What it tells, it tells whole: when all of it was applied, the copy is
//! what is there.

use super::keys::{NEVER, key, rank, rank_at_or_after};
use super::op::Op;
use super::operator::maps;
use super::reads::check_value;
use super::settings::CHANGES_ALL;
use super::world::{NAMES, World};
use alluvium::{Change, Changed, Error, ErrorKind, Result, SeqNo};
use std::collections::BTreeMap;

/// Bytes, and when they expire.
type Entry = (Vec<u8>, u64);

/// See the module's text.
pub(crate) struct Copy {
    at: SeqNo,
    spaces: Vec<Space>,
}

#[derive(Clone, Default)]
struct Space {
    /// Which keyspace of that name it is.
    life: Option<u32>,
    entries: BTreeMap<u8, Entry>,
    /// There was a bulk load: the feed says so, and not of what.
    has_load: bool,
}

impl World {
    /// Applies some of what the feed tells, or all of it.
    pub(super) fn follow(&mut self, op: &Op) -> Result<()> {
        let Some(mut copy) = self.copy.take() else {
            return self.copy_anew();
        };
        for (n, space) in copy.spaces.iter_mut().enumerate() {
            let life = self.oracle.life(n);
            if space.life != life {
                *space = Space {
                    life,
                    ..Space::default()
                };
            }
        }
        let most = match op.seed % 3 {
            0 => usize::from(op.len % 8),
            _ => usize::MAX,
        };
        let followed = self.apply_changes(&mut copy, most);
        if self.is_crashed() {
            self.copy = Some(copy);
            return Ok(());
        }
        match followed {
            Ok(true) => self.compare(&mut copy),
            Ok(false) => {}
            Err(error) if self.may_be_told_to_read_anew(&error) => return self.copy_anew(),
            Err(error) => {
                self.copy = Some(copy);
                return Err(error);
            }
        }
        self.copy = Some(copy);
        Ok(())
    }

    fn may_be_told_to_read_anew(&self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::NotFound => self.log_may_be_lost || self.has_fault_struck(),
            ErrorKind::InvalidArgument => self.settings.changes_bytes == 0,
            _ => false,
        }
    }

    /// True when it came to the end.
    fn apply_changes(&self, copy: &mut Copy, most: usize) -> Result<bool> {
        let mut feed = self.db().changes_since(copy.at)?;
        for _ in 0..most {
            let Some(change) = feed.next() else {
                return Ok(true);
            };
            let change = change?;
            assert!(copy.at < change.seqno());
            self.apply_change(copy, &change);
            copy.at = change.seqno();
            assert_eq!(feed.seqno(), copy.at);
        }
        Ok(false)
    }

    fn apply_change(&self, copy: &mut Copy, change: &Change) {
        for (name, changed) in change.operations() {
            let n = NAMES.iter().position(|it| *it == name);
            let space = &mut copy.spaces[n.expect("a keyspace of the list")];
            let entries = &mut space.entries;
            let known = |key: &[u8]| rank(key).expect("only keys of the list are written");
            match changed {
                Changed::Put {
                    key,
                    value,
                    expires_ms,
                } => {
                    let entry = (value.to_vec(), expires_ms.unwrap_or(NEVER));
                    entries.insert(known(key), entry);
                }
                Changed::Delete { key } => {
                    entries.remove(&known(key));
                }
                Changed::Merge { key, operand } => {
                    let base = entries.get(&known(key)).map(|(bytes, _)| &bytes[..]);
                    let merged = maps(base, operand).expect("an operand of the list");
                    entries.insert(known(key), (merged, NEVER));
                }
                Changed::DeleteRange { start, end } => {
                    let (from, to) = (rank_at_or_after(start), end.map(rank_at_or_after));
                    entries.retain(|rank, _| {
                        let rank = usize::from(*rank);
                        rank < from || to.is_some_and(|to| to <= rank)
                    });
                }
                Changed::Load => space.has_load = true,
                other => panic!("{other:?}"),
            }
        }
    }

    fn compare(&self, copy: &mut Copy) {
        for (n, space) in copy.spaces.iter_mut().enumerate() {
            if !self.oracle.is_alive(n) {
                continue;
            }
            if std::mem::take(&mut space.has_load) {
                space.entries = self.entries_now(n);
                continue;
            }
            let now = self.oracle.now();
            space.entries.retain(|_, (_, expiry)| now < *expiry);
            let expected = self.oracle.all(n);
            let told: Vec<&[u8]> = space.entries.keys().map(|rank| key(*rank)).collect();
            let there: Vec<&[u8]> = expected.iter().map(|(rank, _)| key(*rank)).collect();
            assert_eq!(told, there, "keys of {} that the feed told of", NAMES[n]);
            for ((rank, value), (bytes, _)) in expected.iter().zip(space.entries.values()) {
                check_value(Some(bytes), Some(*value), *rank);
            }
        }
    }

    fn entries_now(&self, n: usize) -> BTreeMap<u8, Entry> {
        let entry = |(rank, value): (u8, super::keys::Value)| {
            let mut bytes = Vec::new();
            value.fill(&mut bytes);
            (rank, (bytes, value.expiry))
        };
        self.oracle.all(n).into_iter().map(entry).collect()
    }

    /// What is there now, and cannot be lost any more.
    fn copy_anew(&mut self) -> Result<()> {
        self.db().sync()?;
        if self.is_crashed() {
            return Ok(());
        }
        self.oracle.sync();
        let spaces = (0..self.spaces.len()).map(|n| Space {
            life: self.oracle.life(n),
            entries: self.entries_now(n),
            has_load: false,
        });
        self.copy = Some(Copy {
            at: self.db().seqno(),
            spaces: spaces.collect(),
        });
        self.log_may_be_lost = self.settings.changes_bytes != CHANGES_ALL;
        Ok(())
    }
}

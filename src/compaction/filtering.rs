//! What a keyspace's filter may be asked about, and what becomes of its answers.
//!
//! A removal by a filter has no number of its own: it happens when the job's edit is installed. So the
//! filter is asked of values alone that nobody reads: newer than everything that somebody reads at, and
//! visible already when the job began. Who begins to read while the job runs sees them, and must not
//! see them go; so a job that has removed something is installed only while there is no such reader
//! (tree), and done again without the filter when there is one.
//!
//! A value that is removed is a deletion from then on, with the number that it had: what it hid stays
//! hidden. Threads: one.

use crate::base::expiring::{EXPIRY_BYTES, expiry_and_value};
use crate::base::filter::{Decision, Filter};
use crate::base::types::{SeqNo, Tag, ValueKind};
use crate::read::Horizon;

/// See the module's text.
#[derive(Debug)]
pub struct Filtering {
    filter: Filter,
    /// Up to here somebody reads.
    after: SeqNo,
    /// Up to here was visible when the job began.
    through: SeqNo,
}

/// What takes the place of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Instead {
    Deletion,
    /// An entry of the same kind.
    Entry(Vec<u8>),
}

impl Filtering {
    /// For a job that begins at `horizon`; `None` when it may be asked about nothing.
    pub fn new(filter: Filter, horizon: &Horizon) -> Option<Filtering> {
        let after = horizon.newest_reader.unwrap_or_default();
        let through = horizon.snapshots.last().copied().unwrap_or_default();
        (after < through).then_some(Filtering {
            filter,
            after,
            through,
        })
    }

    /// Who reads at this number or a later one reads what it may have removed.
    pub fn through(&self) -> SeqNo {
        self.through
    }

    /// What takes the place of an entry; `None`: it stays.
    pub(super) fn ask(&self, key: &[u8], tag: Tag, entry: &[u8]) -> Option<Instead> {
        let seqno = tag.seqno();
        if seqno <= self.after || self.through < seqno {
            return None;
        }
        let (expiry, value) = match tag.kind() {
            ValueKind::Put => (&[][..], entry),
            ValueKind::PutExpiring => {
                expiry_and_value(entry)?;
                entry.split_at_checked(EXPIRY_BYTES)?
            }
            _ => return None,
        };
        match self.filter.ask(key, value) {
            Decision::Keep => None,
            Decision::Remove => Some(Instead::Deletion),
            Decision::Change(value) => Some(Instead::Entry([expiry, &value].concat())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::filter::CompactionFilters;
    use crate::base::types::Time;

    fn filtering(newest_reader: Option<u64>, visible: u64) -> Option<Filtering> {
        let mut filters = CompactionFilters::default();
        filters.register("f".to_owned(), |_: &[u8], value: &[u8]| match value {
            b"gone" => Decision::Remove,
            b"old" => Decision::Change(b"new".to_vec()),
            _ => Decision::Keep,
        });
        let horizon = Horizon {
            snapshots: vec![SeqNo::new(visible)],
            newest_reader: newest_reader.map(SeqNo::new),
            expired: None,
        };
        Filtering::new(filters.named("f").unwrap(), &horizon)
    }

    fn tag(seqno: u64, kind: ValueKind) -> Tag {
        Tag::new(SeqNo::new(seqno), kind)
    }

    #[test]
    fn it_is_asked_of_what_nobody_reads() {
        let asked = |filtering: &Filtering, seqno| {
            let tag = tag(seqno, ValueKind::Put);
            filtering.ask(b"k", tag, b"gone") == Some(Instead::Deletion)
        };
        let alone = filtering(None, 9).unwrap();
        assert!(asked(&alone, 1) && asked(&alone, 9) && !asked(&alone, 10));
        let beside = filtering(Some(5), 9).unwrap();
        assert!(!asked(&beside, 5) && asked(&beside, 6) && !asked(&beside, 10));
        assert!(filtering(Some(9), 9).is_none(), "everything is read");
    }

    #[test]
    fn a_changed_value_expires_when_it_would_have() {
        let all = filtering(None, 9).unwrap();
        let entry = |value: &[u8]| [&Time(77).0.to_le_bytes()[..], value].concat();
        let ask = |kind, entry: &[u8]| all.ask(b"k", tag(3, kind), entry);
        let changed = Some(Instead::Entry(entry(b"new")));
        assert_eq!(ask(ValueKind::PutExpiring, &entry(b"old")), changed);
        assert_eq!(
            ask(ValueKind::PutExpiring, &entry(b"gone")),
            Some(Instead::Deletion)
        );
        assert_eq!(
            ask(ValueKind::PutExpiring, b"gone"),
            None,
            "it has no expiry"
        );
        assert_eq!(ask(ValueKind::Merge, b"gone"), None);
        assert_eq!(ask(ValueKind::Put, b"stays"), None);
    }
}

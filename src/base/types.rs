//! Numbers with names, so that a sequence number is never passed where a file number belongs.

use std::fmt;
use std::time::Duration;

/// The position of a write in the one global order: 56 bits, from 1 upwards.
///
/// 0 stands for "before every write"; [`SeqNo::MAX`] for "after every write".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqNo(u64);

impl SeqNo {
    /// Before every write.
    pub const ZERO: SeqNo = SeqNo(0);
    /// After every write: the largest number that fits beside a kind in a [`Tag`].
    pub const MAX: SeqNo = SeqNo((1 << 56) - 1);

    /// A sequence number; bits above the 56th are cut off.
    pub const fn new(n: u64) -> Self {
        SeqNo(n & Self::MAX.0)
    }

    /// The plain number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// `self + n`, stopping at [`SeqNo::MAX`].
    pub const fn plus(self, n: u64) -> Self {
        let sum = self.0.saturating_add(n);
        if sum > Self::MAX.0 {
            Self::MAX
        } else {
            SeqNo(sum)
        }
    }

    /// The last of `count` numbers from this one on; `None` when there is none, or when one would be
    /// [`SeqNo::MAX`], which stands for "after every write" and is nobody's.
    pub const fn last_of(self, count: u64) -> Option<SeqNo> {
        match count.checked_sub(1) {
            Some(others) if self.plus(others).0 < Self::MAX.0 => Some(self.plus(others)),
            _ => None,
        }
    }
}

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number in a file's name. Never given twice in the life of a database (P6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// The number of a keyspace. Never given twice; 0 is the default keyspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceId(pub u32);

impl KeyspaceId {
    /// The keyspace that `Db` derefs to.
    pub const DEFAULT: KeyspaceId = KeyspaceId(0);
}

impl fmt::Display for KeyspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A time of the database's clock (fs's `clock`), in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// What no clock comes to.
    pub const NEVER: Time = Time(u64::MAX);

    /// So long after this one, a part of a millisecond counted whole; `None` when that is beyond
    /// what can be told: never.
    pub fn after(self, length: Duration) -> Option<Time> {
        match millis(length) {
            u64::MAX => None,
            millis => self.0.checked_add(millis).map(Time),
        }
    }
}

/// A length in milliseconds, a part of one counted whole; `u64::MAX` for one without an end.
pub fn millis(length: Duration) -> u64 {
    let millis = length.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX)
}

/// What an entry says about its key. The discriminants are part of every format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ValueKind {
    /// The key is absent from here on.
    Delete = 0,
    /// The key has this value.
    Put = 1,
    /// An operand for the keyspace's merge operator.
    Merge = 2,
    /// As [`ValueKind::Put`] before its expiry, which precedes the value (`expiring`), and as
    /// [`ValueKind::Delete`] from then on.
    PutExpiring = 3,
    /// The value lies in a blob file; the bytes are a reference to it (format only).
    PutBlob = 4,
    /// Every key in `[key, value)` is absent from here on; without a value: every key from `key` on.
    /// In batches only: memtables and versions keep these apart (`ranges`).
    DeleteRange = 5,
}

impl ValueKind {
    /// The kind with this discriminant, if there is one.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => ValueKind::Delete,
            1 => ValueKind::Put,
            2 => ValueKind::Merge,
            3 => ValueKind::PutExpiring,
            4 => ValueKind::PutBlob,
            5 => ValueKind::DeleteRange,
            _ => return None,
        })
    }

    /// True for the kinds that say all by themselves: put and deletion.
    #[inline]
    pub const fn is_plain(self) -> bool {
        matches!(self, ValueKind::Delete | ValueKind::Put)
    }

    /// True for what entries of this version's tables can be; the others are for later.
    #[inline]
    pub const fn is_known(self) -> bool {
        !matches!(self, ValueKind::PutBlob | ValueKind::DeleteRange)
    }
}

/// Sequence number and kind in one word: `seqno << 8 | kind`. A larger tag is newer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(u64);

impl Tag {
    /// Newer than every tag that can be written.
    pub const MAX: Tag = Tag(u64::MAX);
    /// Not newer than any tag.
    pub const MIN: Tag = Tag(0);

    /// Joins the two.
    pub const fn new(seqno: SeqNo, kind: ValueKind) -> Self {
        Tag(seqno.0 << 8 | kind as u8 as u64)
    }

    /// Not older than any tag visible at `seqno`: where a read at `seqno` starts.
    pub const fn newest_at(seqno: SeqNo) -> Self {
        Tag(seqno.0 << 8 | 0xff)
    }

    /// A tag from its stored form; `None` when the kind is unknown.
    pub const fn from_u64(bits: u64) -> Option<Self> {
        match ValueKind::from_byte((bits & 0xff) as u8) {
            Some(_) => Some(Tag(bits)),
            None => None,
        }
    }

    /// The stored form.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The sequence number.
    pub const fn seqno(self) -> SeqNo {
        SeqNo(self.0 >> 8)
    }

    /// The kind. A search tag ([`Tag::newest_at`], [`Tag::MAX`]) has none and answers `Delete`.
    pub const fn kind(self) -> ValueKind {
        match ValueKind::from_byte((self.0 & 0xff) as u8) {
            Some(kind) => kind,
            None => ValueKind::Delete,
        }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ValueKind::from_byte((self.0 & 0xff) as u8) {
            Some(kind) => write!(f, "{}:{kind:?}", self.seqno()),
            None => write!(f, "{}:search", self.seqno()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_write_has_the_larger_tag_whatever_its_kind() {
        let old = Tag::new(SeqNo::new(7), ValueKind::DeleteRange);
        let new = Tag::new(SeqNo::new(8), ValueKind::Delete);
        assert!(old < new);
        assert!(new < Tag::newest_at(SeqNo::new(8)));
        assert!(Tag::newest_at(SeqNo::new(7)) < new);
        assert_eq!(Tag::from_u64(new.to_u64()), Some(new));
        assert_eq!(Tag::from_u64(0x1ff), None);
    }
}

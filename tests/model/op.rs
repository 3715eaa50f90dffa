//! Operations as a user sees them, and where lists of them come from.
//!
//! An operation is seven bytes: its kind, a keyspace, two keys, a length and a seed. What a kind
//! needs beyond that (the changes of a batch, the moves of a cursor) it draws from all of them,
//! so that every list of bytes is a list of operations, and one that is left out changes none of
//! the others.

use std::fmt;

/// Bytes of one operation.
const BYTES: usize = 7;

/// Declares the kinds, each with its share in an ordinary list.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $weight:literal,)*) => {
        /// What an operation does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// Every kind.
            pub(crate) const ALL: &[Kind] = &[$(Kind::$name,)*];
            /// How often each comes in an ordinary list.
            const WEIGHTS: &[u32] = &[$($weight,)*];
        }
    };
}

kinds! {
    Put 900,
    /// `put_with`, logged.
    PutLogged 40,
    PutSynced 20,
    /// A value of 512 bytes and more, which a read pins.
    PutLarge 40,
    PutEmpty 20,
    Delete 360,
    DeleteSynced 10,
    /// Changes over all keyspaces.
    Batch 80,
    BatchSynced 8,
    /// Puts and deletes of one key: the last one counts.
    BatchOneKey 20,
    BatchEmpty 6,
    BatchEmptySynced 3,
    /// More than a log segment may hold.
    BatchBig 3,
    /// More than a quarter of the memory: refused whole.
    BatchTooLarge 1,
    /// A key over its limit, alone and in a batch: refused whole.
    KeyTooLarge 1,
    Get 500,
    GetWith 150,
    ContainsKey 100,
    GetMany 30,
    /// A value that is kept over what comes.
    HoldSlice 10,
    /// The values kept are as they were.
    CheckSlices 5,
    Iter 6,
    IterRev 6,
    /// `a..b`
    Range 12,
    /// `a..=b`
    RangeInclusive 8,
    /// `a..`
    RangeFrom 6,
    /// `..b`
    RangeTo 6,
    /// `..=b`
    RangeToInclusive 6,
    /// A pair of bounds of any kind.
    RangeBounds 12,
    /// Its end before its start: empty.
    RangeInverted 4,
    RangeRev 12,
    /// From both ends in a mix.
    RangeMixed 20,
    Prefix 8,
    PrefixRev 8,
    CursorSeek 20,
    CursorSeekForPrev 20,
    /// `first` and `last`
    CursorEnds 8,
    /// Seeks and steps in a mix.
    CursorWalk 30,
    /// The same, kept inside a range.
    CursorOver 15,
    SnapshotTake 14,
    SnapshotGet 20,
    SnapshotGetWith 8,
    SnapshotContains 8,
    SnapshotIter 6,
    SnapshotRange 8,
    SnapshotPrefix 4,
    SnapshotCursor 8,
    SnapshotRelease 12,
    /// An iterator that lives over what comes.
    IterOpen 10,
    IterNext 20,
    IterNextBack 20,
    IterDrop 6,
    /// A cursor that lives over what comes.
    CursorOpen 10,
    CursorMove 30,
    CursorDrop 6,
    Flush 8,
    /// One keyspace, all of it.
    Compact 4,
    CompactRange 5,
    Sync 8,
    Verify 2,
    Stats 4,
    /// The keyspace once more, under its name.
    KeyspaceOpen 5,
    KeyspaceDrop 2,
    KeyspaceList 4,
    /// Names, options and drops that must be refused.
    KeyspaceRefused 3,
    /// Closed and opened.
    Reopen 3,
    /// With options that may differ.
    ReopenOther 2,
    /// A second open while it is open: refused.
    OpenTwice 1,
    /// Closed while iterators, cursors and snapshots live.
    CloseAlive 1,
    /// Every handle dropped, no close.
    Leave 2,
    /// The process dies.
    Kill 2,
    /// The power goes: about every 2,000 operations, once or inside the recovery too.
    PowerLoss 1,
    /// The power goes at some call from now on.
    CrashSoon 1,
    /// A call from now on fails. Lists have it only where they are asked to.
    Fault 0,
    /// From the value that is there.
    Swap 20,
    /// From another one: refused.
    SwapRefused 8,
    PutIfAbsent 12,
    Update 16,
    /// Reads and writes over all keyspaces, with savepoints, and a commit.
    Transact 24,
    TransactSynced 3,
    /// Somebody is faster: refused whole.
    TransactConflict 8,
    TransactDrop 3,
    /// Refused where the keyspace has no operator.
    Merge 300,
    MergeSynced 10,
    /// Puts, deletes and merges of one key, in their order.
    BatchMerge 30,
    /// Ranges of any kind, most of them short.
    DeleteRange 60,
    DeleteRangeSynced 5,
    /// Ranges, puts, deletes and merges of keys side by side, in their order.
    BatchRange 20,
    /// A value that expires: in the simulator after some seconds.
    PutExpiring 80,
    /// Changes over all keyspaces, puts that expire among them.
    BatchExpiring 20,
    /// Time goes on, some seconds of it. In the simulator only.
    Later 20,
    /// Other options of a keyspace that is open and in use.
    KeyspaceChange 5,
    /// Why a get finds what it finds, what holds the space, and who pins what.
    Explain 8,
    /// A bulk load of keys side by side into most keyspaces.
    Load 8,
    /// What the feed of changes tells, applied to a copy.
    Follow 12,
    /// What a reader beside sees, opened or refreshed.
    ReadBeside 8,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    pub(crate) space: u8,
    pub(crate) a: u8,
    pub(crate) b: u8,
    pub(crate) len: u8,
    pub(crate) seed: u16,
}

impl Op {
    /// The operation that these bytes are.
    pub(crate) fn decode(bytes: [u8; BYTES]) -> Op {
        let [kind, space, a, b, len, low, high] = bytes;
        Op {
            kind: Kind::ALL[usize::from(kind) % Kind::ALL.len()],
            space,
            a,
            b,
            len,
            seed: u16::from_le_bytes([low, high]),
        }
    }

    fn encode(self) -> [u8; BYTES] {
        let [low, high] = self.seed.to_le_bytes();
        let kind = self.kind as u8;
        [kind, self.space, self.a, self.b, self.len, low, high]
    }

    /// The operations of a fuzzer's input; less than one at its end is left.
    pub(crate) fn list(bytes: &[u8]) -> Vec<Op> {
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|one| Op::decode(*one))
            .collect()
    }

    /// A list of `len` operations. Each list has a character of its own: it leaves out some kinds,
    /// likes others, and has few keys or many.
    pub(crate) fn random(seed: u64, len: usize, faults: bool) -> Vec<Op> {
        let mut random = Random(seed);
        let mut sums = Vec::with_capacity(Kind::ALL.len());
        let mut sum = 0u32;
        for (kind, weight) in Kind::ALL.iter().zip(Kind::WEIGHTS) {
            let factor = [0, 1, 2, 4, 4, 4, 8, 16][random.below(8)];
            // Where nothing is written nothing can be wrong; and restarts cost most of the time.
            let factor = match kind {
                Kind::Put => 4,
                Kind::Reopen
                | Kind::ReopenOther
                | Kind::CloseAlive
                | Kind::Leave
                | Kind::Kill
                | Kind::PowerLoss
                | Kind::CrashSoon => factor.min(4),
                _ => factor,
            };
            let weight = weight + u32::from(faults && *kind == Kind::Fault);
            sum += weight * factor;
            sums.push(sum);
        }
        let (first, width) = (random.byte(), [4, 16, 40, 100, 256][random.below(5)]);
        let key = |random: &mut Random| first.wrapping_add((random.next() % width) as u8);
        (0..len)
            .map(|_| {
                let at = (random.next() % u64::from(sum)) as u32;
                Op {
                    kind: Kind::ALL[sums.partition_point(|end| *end <= at)],
                    space: random.byte(),
                    a: key(&mut random),
                    b: key(&mut random),
                    len: random.byte(),
                    seed: random.next() as u16,
                }
            })
            .collect()
    }

    /// What else the operation needs: the same for the same seven bytes.
    pub(crate) fn details(&self) -> Random {
        let mut word = [0; 8];
        word[..BYTES].copy_from_slice(&self.encode());
        Random(u64::from_le_bytes(word))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} in {}, keys {} {}, length {}, seed {}",
            self.kind, self.space, self.a, self.b, self.len, self.seed
        )
    }
}

/// A list as the bytes that [`Op::list`] reads.
pub(crate) fn bytes(ops: &[Op]) -> Vec<u8> {
    ops.iter().flat_map(|op| op.encode()).collect()
}

/// A list as one word.
pub(crate) fn text(ops: &[Op]) -> String {
    let bytes = bytes(ops);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The list that this word is.
pub(crate) fn parse(text: &str) -> Option<Vec<Op>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    Some(Op::list(&bytes?))
}

/// A seeded sequence (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below `end`; the bias of a small end does not matter here.
    pub(crate) fn number_below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// The next index below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.number_below(end as u64) as usize
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A coin.
    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

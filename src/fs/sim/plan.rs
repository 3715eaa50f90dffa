//! What an image keeps of each pending op: the families' plans, and what profiles allow of them.
//!
//! A family is a list of *specs*, one for each image; a spec becomes a *plan*, which says of every
//! pending op what is left of it. Specs depend on nothing but the machine's seed and history.
//!
//! Not here: building the disk that a plan describes (image.rs).

use super::log::{DirOp, FileOp, Inode, SECTOR_BYTES, next_random};
use super::{FileClass, Moment};
use crate::base::sync::Arc;
use std::collections::BTreeMap;
use std::path::Path;

/// A rule that makes crash images; the numbers are those of the fault model's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// Nothing that was pending.
    Nothing = 1,
    /// All that was pending.
    Everything = 2,
    /// Each pending op alone lost.
    OneLost = 3,
    /// Each pending op alone kept.
    OneKept = 4,
    /// Of each file and each directory an independent prefix of its ops; 16 samples.
    Prefixes = 5,
    /// All data and no directory changes, and the reverse.
    DataOrNames = 6,
    /// Sizes and names, but no data: of all files, then of each alone. Where a file grew there
    /// are zeros, and then the bytes of a removed file of each class.
    SizeOnly = 7,
    /// The last write of each file torn at each sector, from the front and from the back, and
    /// small ones at some bytes within a sector too.
    Torn = 8,
    /// Of each write over three sectors or more the first and the last, and not the middle.
    Middle = 9,
    /// Each earlier version of each sector that was written over, all else kept.
    OlderSector = 10,
    /// Each file lost whole, its name too; each alone kept whole; and for each two files the later
    /// one kept and the earlier one lost, with what came before the later one's last change.
    LaterFile = 11,
    /// Removals before everything else: each alone, then all; and all removals undone.
    Removals = 12,
    /// Independent coin tosses for each op and sector; 32 samples.
    Random = 13,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 13] = [
        Family::Nothing,
        Family::Everything,
        Family::OneLost,
        Family::OneKept,
        Family::Prefixes,
        Family::DataOrNames,
        Family::SizeOnly,
        Family::Torn,
        Family::Middle,
        Family::OlderSector,
        Family::LaterFile,
        Family::Removals,
        Family::Random,
    ];
}

/// What a kind of file system lets a power loss do. An image that it does not allow is replaced by
/// the nearest one that it does, and left out when that was shown before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Only what was done first: a prefix of all calls, none of them torn.
    Strict,
    /// ext4 with `data=ordered`: names and sizes change in the order of the calls, and a file
    /// that grew by a write has the bytes of that write. Data written over may be lost or torn.
    /// (More than ext4 does: there a sync of one file takes all earlier changes of names along.)
    Ext4Ordered,
    /// All that POSIX does not forbid. The default, and what the engine promises to survive; the
    /// others tell how likely a failure is to be met.
    #[default]
    PosixAny,
}

const PREFIX_SAMPLES: u64 = 16;
const RANDOM_SAMPLES: u64 = 32;
const SMALL_WRITE_BYTES_MAX: usize = 2 * SECTOR_BYTES;
/// Within a sector: in, at and behind the lengths that record headers have.
const BYTE_CUTS: [usize; 12] = [1, 2, 4, 7, 8, 12, 15, 16, 17, 24, 31, 32];

/// A pending op and what it belongs to.
#[derive(Clone, Debug)]
pub(super) enum Op {
    File(Inode, FileOp),
    Dir(Arc<Path>, DirOp),
}

impl Op {
    /// The bytes that it writes to a file: which, and where.
    fn write(&self) -> Option<(Inode, usize, &[u8])> {
        match self {
            Op::File(inode, FileOp::Write { offset, bytes, .. }) => Some((*inode, *offset, bytes)),
            _ => None,
        }
    }

    fn is_data(&self) -> bool {
        self.write().is_some()
    }

    fn is_data_of(&self, file: Inode) -> bool {
        self.write().is_some_and(|(inode, ..)| inode == file)
    }

    fn is_removal(&self) -> bool {
        matches!(self, Op::Dir(_, DirOp::Unlink { .. }))
    }

    /// The file that it changes or names.
    fn file(&self) -> Inode {
        match self {
            Op::File(inode, _) => *inode,
            Op::Dir(_, op) => op.inode(),
        }
    }
}

/// What an image has of one op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Lost,
    Whole,
    /// The bytes of a write before this one, or from this one on.
    Before(usize),
    From(usize),
    /// All bytes of a write but those between these offsets of the file.
    But(usize, usize),
    /// Of a write, the sectors for which a coin of this seed shows heads.
    Sectors(u64),
    /// Where a write made the file longer, what was there before: bytes of a removed file.
    Stale(FileClass),
}

fn kept(whole: bool) -> Kept {
    if whole { Kept::Whole } else { Kept::Lost }
}

/// One image of a family, in short.
#[derive(Clone, Debug)]
pub(super) enum Spec {
    All(bool),
    /// One op alone otherwise than the rest.
    Lost(usize),
    Kept(usize),
    Part(usize, Kept),
    Prefixes(u64),
    Coins(u64),
    Data(bool),
    /// The data of this file or all files lost, or replaced by that of a removed one.
    NoData(Option<Inode>, Kept),
    /// From this op on, nothing is written to this sector of the file.
    Older(Inode, usize, usize),
    /// Ops of the first file lost, of the second kept, of others kept up to this index.
    Files(Option<Inode>, Option<Inode>, usize),
    Removals(bool),
}

/// All images of a family at this moment.
pub(super) fn specs(family: Family, moment: &Moment) -> Vec<Spec> {
    let ops = &moment.ops;
    let seeds = |samples| {
        let seed = moment.seed ^ moment.call ^ (family as u64) << 56;
        (0..samples).map(move |n| seed ^ n << 32)
    };
    match family {
        Family::Nothing => vec![Spec::All(false)],
        Family::Everything => vec![Spec::All(true)],
        Family::OneLost => (0..ops.len()).map(Spec::Lost).collect(),
        Family::OneKept => (0..ops.len()).map(Spec::Kept).collect(),
        Family::Prefixes => seeds(PREFIX_SAMPLES).map(Spec::Prefixes).collect(),
        Family::DataOrNames => vec![Spec::Data(true), Spec::Data(false)],
        Family::SizeOnly => without_data(moment),
        Family::Torn => cuts(ops),
        Family::Middle => middles(ops),
        Family::OlderSector => older_sectors(moment),
        Family::LaterFile => later_files(ops),
        Family::Removals => {
            let removals = (0..ops.len()).filter(|i| ops[*i].is_removal());
            let each = removals.map(Spec::Kept);
            let all = [Spec::Removals(true), Spec::Removals(false)];
            all.into_iter().chain(each).collect()
        }
        Family::Random => seeds(RANDOM_SAMPLES).map(Spec::Coins).collect(),
    }
}

/// What is left of each op, parallel to the moment's ops.
pub(super) fn plan(spec: &Spec, moment: &Moment) -> Vec<Kept> {
    let ops = &moment.ops;
    let each = |keep: &dyn Fn(usize, &Op) -> Kept| {
        let plan = ops.iter().enumerate().map(|(i, op)| keep(i, op));
        plan.collect::<Vec<Kept>>()
    };
    let mut plan = match spec {
        Spec::All(whole) => vec![kept(*whole); ops.len()],
        Spec::Lost(n) => each(&|i, _| kept(i != *n)),
        Spec::Kept(n) => each(&|i, _| kept(i == *n)),
        Spec::Part(n, part) => each(&|i, _| if i == *n { part.clone() } else { Kept::Whole }),
        Spec::Prefixes(seed) => prefixes(ops, *seed),
        Spec::Coins(seed) => coins(ops, *seed),
        Spec::Data(data) => each(&|_, op| kept(matches!(op, Op::File(..)) == *data)),
        Spec::NoData(file, instead) => each(&|_, op| match op.write() {
            Some((inode, ..)) if file.is_none_or(|file| file == inode) => instead.clone(),
            _ => Kept::Whole,
        }),
        Spec::Older(file, sector, from) => {
            let (start, end) = (sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
            each(&|i, op| match op.is_data_of(*file) && *from <= i {
                true => Kept::But(start, end),
                false => Kept::Whole,
            })
        }
        Spec::Files(lost, whole, until) => each(&|i, op| {
            let (file, lost, whole) = (op.file(), *lost, *whole);
            kept(Some(file) != lost && (Some(file) == whole || i < *until))
        }),
        Spec::Removals(kept_alone) => each(&|_, op| kept(op.is_removal() == *kept_alone)),
    };
    moment.profile.restrict(ops, &mut plan);
    plan
}

impl Profile {
    fn restrict(self, ops: &[Op], plan: &mut [Kept]) {
        match self {
            Profile::PosixAny => {}
            Profile::Strict => {
                let mut kept = plan.iter().take_while(|k| **k == Kept::Whole).count();
                // A write and the growth that it implies are one call.
                if ops.get(kept).is_some_and(extends) {
                    kept = kept.saturating_sub(1);
                }
                plan[kept..].fill(Kept::Lost);
            }
            Profile::Ext4Ordered => {
                let is_data = |i: &usize| ops[*i].is_data();
                let metadata: Vec<usize> = (0..ops.len()).filter(|i| !is_data(i)).collect();
                let lost = metadata.iter().position(|i| plan[*i] != Kept::Whole);
                for i in &metadata[lost.unwrap_or(metadata.len())..] {
                    plan[*i] = Kept::Lost;
                }
                for i in 1..ops.len() {
                    if extends(&ops[i]) && plan[i - 1] == Kept::Whole {
                        plan[i] = Kept::Whole;
                    }
                }
            }
        }
    }
}

/// True for a write that made its file longer: the op before it is that growth.
fn extends(op: &Op) -> bool {
    matches!(op, Op::File(_, FileOp::Write { extends: true, .. }))
}

fn prefixes(ops: &[Op], mut random: u64) -> Vec<Kept> {
    let owner = |op: &Op| match op {
        Op::File(inode, _) => (*inode, None),
        Op::Dir(path, _) => (0, Some(Arc::clone(path))),
    };
    let mut left: BTreeMap<_, u64> = BTreeMap::new();
    for op in ops {
        *left.entry(owner(op)).or_default() += 1;
    }
    for count in left.values_mut() {
        *count = next_random(&mut random) % (*count + 1);
    }
    let mut keep = |op: &Op| match left.get_mut(&owner(op)) {
        Some(left) if *left > 0 => {
            *left -= 1;
            Kept::Whole
        }
        _ => Kept::Lost,
    };
    ops.iter().map(&mut keep).collect()
}

fn coins(ops: &[Op], mut random: u64) -> Vec<Kept> {
    let random = &mut random;
    // Some images keep nearly all, some nearly nothing: both ends are where bugs live.
    let bias = next_random(random) % 9 + 1;
    let mut toss = |op: &Op| match next_random(random) % 10 {
        coin if coin < bias => Kept::Whole,
        coin if coin % 2 == 0 && op.is_data() => Kept::Sectors(next_random(random)),
        _ => Kept::Lost,
    };
    ops.iter().map(&mut toss).collect()
}

/// The files with pending data.
fn written(ops: &[Op]) -> Vec<Inode> {
    let writes = ops.iter().filter_map(Op::write);
    let mut files: Vec<Inode> = writes.map(|(inode, ..)| inode).collect();
    files.sort_unstable();
    files.dedup();
    files
}

fn without_data(moment: &Moment) -> Vec<Spec> {
    let files = written(&moment.ops);
    let of = |instead: Kept| {
        let each = files.iter().map(|file| Some(*file));
        let files = std::iter::once(None).chain(each);
        files.map(move |file| Spec::NoData(file, instead.clone()))
    };
    let classes = moment.removed.keys().map(|class| Kept::Stale(*class));
    std::iter::once(Kept::Lost)
        .chain(classes)
        .flat_map(of)
        .collect()
}

/// The last write of each file, torn.
fn cuts(ops: &[Op]) -> Vec<Spec> {
    let mut cuts = Vec::new();
    for file in written(ops) {
        let last = ops.iter().rposition(|op| op.is_data_of(file));
        let Some((last, (_, offset, bytes))) = last.and_then(|i| Some((i, ops[i].write()?))) else {
            continue;
        };
        let first_sector_end = SECTOR_BYTES - offset % SECTOR_BYTES;
        for cut in (first_sector_end..bytes.len()).step_by(SECTOR_BYTES) {
            cuts.push(Spec::Part(last, Kept::Before(cut)));
            cuts.push(Spec::Part(last, Kept::From(cut)));
        }
        if bytes.len() <= SMALL_WRITE_BYTES_MAX {
            let middle = [bytes.len() / 2, bytes.len() - 1];
            let within = BYTE_CUTS.into_iter().chain(middle);
            let within = within.filter(|cut| (1..bytes.len()).contains(cut));
            cuts.extend(within.map(|cut| Spec::Part(last, Kept::Before(cut))));
        }
    }
    cuts
}

fn middles(ops: &[Op]) -> Vec<Spec> {
    let middle = |(i, op): (usize, &Op)| {
        let (_, offset, bytes) = op.write()?;
        let (start, end) = (
            offset / SECTOR_BYTES + 1,
            (offset + bytes.len() - 1) / SECTOR_BYTES,
        );
        let but = Kept::But(start * SECTOR_BYTES, end * SECTOR_BYTES);
        (start < end).then_some(Spec::Part(i, but))
    };
    ops.iter().enumerate().filter_map(middle).collect()
}

/// Each version of each sector but the last: what was durable, and what each write but the last
/// left there.
fn older_sectors(moment: &Moment) -> Vec<Spec> {
    let mut specs = Vec::new();
    let mut touched = BTreeMap::new();
    for (i, op) in moment.ops.iter().enumerate() {
        let Some((inode, offset, bytes)) = op.write() else {
            continue;
        };
        let durable = moment.files.get(&inode).map_or(0, |bytes| bytes.len());
        for sector in offset / SECTOR_BYTES..=(offset + bytes.len() - 1) / SECTOR_BYTES {
            let again = touched.insert((inode, sector), i).is_some();
            if again || sector * SECTOR_BYTES < durable {
                specs.push(Spec::Older(inode, sector, i));
            }
        }
    }
    specs
}

fn later_files(ops: &[Op]) -> Vec<Spec> {
    let last: BTreeMap<Inode, usize> = ops.iter().map(Op::file).zip(0..).collect();
    let mut files: Vec<(usize, Inode)> = last.into_iter().map(|(file, at)| (at, file)).collect();
    files.sort_unstable();
    let each = || files.iter().map(|(_, file)| Some(*file));
    let lost = each().map(|file| Spec::Files(file, None, ops.len()));
    let alone = each().map(|file| Spec::Files(None, file, 0));
    let mut specs: Vec<Spec> = lost.chain(alone).collect();
    for (n, (at, later)) in files.iter().enumerate() {
        let earlier = files[..n].iter();
        specs.extend(earlier.map(|(_, file)| Spec::Files(Some(*file), Some(*later), *at)));
    }
    specs
}

//! Crash images: the disks that a power loss at this moment may leave.
//!
//! Of everything no sync has covered, any subset of directory changes and any subset of 512-byte
//! sectors of data may have reached the disk (a rename is one change). An image is built from the
//! durable state by applying, in order, what its *plan* keeps of each pending op. A family is a
//! rule that makes plans; `(call, family, n)` names one plan for ever, because plans depend on
//! nothing but the machine's seed and history.
//!
//! Bytes outside written ranges never change, and data is found only through a name that was kept.

use super::SimFs;
use super::log::{DirOp, FileOp, Inode, Medium, SECTOR_BYTES, Shadow, World, next_random};
use crate::base::sync::Arc;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

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
    /// Sizes and names, but no data (zeros): of all files, then of each alone.
    SizeOnly = 7,
    /// The last write of each file torn at each sector, from the front and from the back, and
    /// small ones at some bytes within a sector too.
    Torn = 8,
    /// Removals before everything else: each alone, then all; and all removals undone.
    Removals = 12,
    /// Independent coin tosses for each op and sector; 32 samples.
    Random = 13,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 10] = [
        Family::Nothing,
        Family::Everything,
        Family::OneLost,
        Family::OneKept,
        Family::Prefixes,
        Family::DataOrNames,
        Family::SizeOnly,
        Family::Torn,
        Family::Removals,
        Family::Random,
    ];
}

const PREFIX_SAMPLES: usize = 16;
const RANDOM_SAMPLES: usize = 32;
const SMALL_WRITE_BYTES_MAX: usize = 2 * SECTOR_BYTES;
/// Within a sector: in, at and behind the lengths that record headers have.
const BYTE_CUTS: [usize; 12] = [1, 2, 4, 7, 8, 12, 15, 16, 17, 24, 31, 32];

/// Names one crash image of one machine: the calls it had made, the family, and the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId {
    /// Mutating calls made before the power went.
    pub call: u64,
    /// The rule.
    pub family: Family,
    /// Which of its plans.
    pub n: usize,
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {}, {:?} {}", self.call, self.family, self.n)
    }
}

/// One crash image.
#[derive(Clone, Debug)]
pub struct Image {
    /// How to get it again: [`SimFs::image`] on a machine with the same seed and history.
    pub id: ImageId,
    /// The machine that starts on that disk.
    pub sim: SimFs,
}

/// Iterator over the crash images of one moment, without repetition; built one at a time.
#[derive(Debug)]
pub struct Images {
    medium: Medium,
    call: u64,
    families: Vec<Family>,
    n: usize,
    seen: HashSet<u128>,
}

impl Images {
    pub(super) fn new(world: &World, families: &[Family]) -> Images {
        Images {
            medium: world.medium.fork(),
            call: world.next_call(),
            families: families.iter().rev().copied().collect(),
            n: 0,
            seen: HashSet::new(),
        }
    }
}

impl Iterator for Images {
    type Item = Image;

    fn next(&mut self) -> Option<Image> {
        while let Some(&family) = self.families.last() {
            let ops = pending(&self.medium);
            let plan = plan(family, self.n, &ops, self.medium.seed ^ self.call);
            let Some(plan) = plan else {
                self.families.pop();
                self.n = 0;
                continue;
            };
            let id = ImageId {
                call: self.call,
                family,
                n: self.n,
            };
            self.n += 1;
            let medium = build(&self.medium, &ops, &plan);
            if self.seen.insert(digest(&medium)) {
                let sim = SimFs::on(medium);
                return Some(Image { id, sim });
            }
        }
        None
    }
}

/// The image with this id; `None` when this moment has none such.
pub(super) fn image(world: &World, id: ImageId) -> Option<SimFs> {
    let ops = pending(&world.medium);
    let plan = plan(id.family, id.n, &ops, world.medium.seed ^ id.call)?;
    let medium = build(&world.medium, &ops, &plan);
    (id.call == world.next_call()).then(|| SimFs::on(medium))
}

/// How many plans a family has at this moment: those from 0 on, up to the first that is none.
pub(super) fn image_count(world: &World, family: Family) -> usize {
    let ops = pending(&world.medium);
    let is_plan = |n: usize| plan(family, n, &ops, world.medium.seed).is_some();
    let mut end = 1;
    while is_plan(end - 1) {
        end *= 2;
    }
    let (mut least, mut most) = (end / 2, end - 1);
    while least < most {
        let middle = least.midpoint(most);
        match is_plan(middle) {
            true => least = middle + 1,
            false => most = middle,
        }
    }
    least
}

/// A pending op and what it belongs to.
#[derive(Clone, Copy, Debug)]
enum Op<'a> {
    File(Inode, &'a FileOp),
    Dir(&'a Path, &'a DirOp),
}

impl Op<'_> {
    fn is_data(self) -> bool {
        matches!(self, Op::File(_, FileOp::Write { .. }))
    }

    fn is_removal(self) -> bool {
        matches!(self, Op::Dir(_, DirOp::Unlink { .. }))
    }
}

/// What an image has of one op.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Lost,
    Whole,
    /// The bytes of a write before this one, or from this one on.
    Before(usize),
    From(usize),
    /// Of a write, the sectors for which a coin of this seed shows heads.
    Sectors(u64),
}

fn kept(whole: bool) -> Kept {
    if whole { Kept::Whole } else { Kept::Lost }
}

fn pending(medium: &Medium) -> Vec<Op<'_>> {
    let mut ops = Vec::new();
    for (inode, file) in &medium.files {
        ops.extend(
            file.pending
                .iter()
                .map(|(at, op)| (*at, Op::File(*inode, op))),
        );
    }
    for (path, dir) in &medium.dirs {
        ops.extend(dir.pending.iter().map(|(at, op)| (*at, Op::Dir(path, op))));
    }
    ops.sort_by_key(|(at, _)| *at);
    ops.into_iter().map(|(_, op)| op).collect()
}

/// The `n`-th plan of a family, parallel to `ops`; `None` behind the last.
fn plan(family: Family, n: usize, ops: &[Op<'_>], seed: u64) -> Option<Vec<Kept>> {
    let each = |keep: &dyn Fn(usize, Op<'_>) -> bool| {
        let plan = ops.iter().enumerate().map(|(i, op)| kept(keep(i, *op)));
        Some(plan.collect::<Vec<Kept>>())
    };
    let mut random = seed ^ (family as u64) << 56 ^ (n as u64) << 32;
    match family {
        Family::Nothing if n == 0 => each(&|_, _| false),
        Family::Everything if n == 0 => each(&|_, _| true),
        Family::OneLost if n < ops.len() => each(&|i, _| i != n),
        Family::OneKept if n < ops.len() => each(&|i, _| i == n),
        Family::Prefixes if n < PREFIX_SAMPLES => Some(prefixes(ops, &mut random)),
        Family::DataOrNames if n == 0 => each(&|_, op| matches!(op, Op::File(..))),
        Family::DataOrNames if n == 1 => each(&|_, op| matches!(op, Op::Dir(..))),
        Family::SizeOnly if n == 0 => each(&|_, op| !op.is_data()),
        Family::SizeOnly => {
            let inode = *written(ops).get(n - 1)?;
            each(&|_, op| !(op.is_data() && matches!(op, Op::File(i, _) if i == inode)))
        }
        Family::Torn => {
            let (torn, part) = cuts(ops).into_iter().nth(n)?;
            let mut plan = vec![Kept::Whole; ops.len()];
            plan[torn] = part;
            Some(plan)
        }
        Family::Removals if n == 0 => each(&|_, op| op.is_removal()),
        Family::Removals if n == 1 => each(&|_, op| !op.is_removal()),
        Family::Removals => {
            let removals = (0..ops.len()).filter(|i| ops[*i].is_removal());
            let removal = removals.into_iter().nth(n - 2)?;
            each(&|i, _| i == removal)
        }
        Family::Random if n < RANDOM_SAMPLES => Some(coins(ops, &mut random)),
        _ => None,
    }
}

fn prefixes(ops: &[Op<'_>], random: &mut u64) -> Vec<Kept> {
    let owner = |op: Op<'_>| match op {
        Op::File(inode, _) => (inode, String::new()),
        Op::Dir(path, _) => (0, path.display().to_string()),
    };
    let mut left: BTreeMap<_, u64> = BTreeMap::new();
    for op in ops {
        *left.entry(owner(*op)).or_default() += 1;
    }
    for count in left.values_mut() {
        *count = next_random(random) % (*count + 1);
    }
    let mut keep = |op: &Op<'_>| match left.get_mut(&owner(*op)) {
        Some(left) if *left > 0 => {
            *left -= 1;
            Kept::Whole
        }
        _ => Kept::Lost,
    };
    ops.iter().map(&mut keep).collect()
}

fn coins(ops: &[Op<'_>], random: &mut u64) -> Vec<Kept> {
    // Some images keep nearly all, some nearly nothing: both ends are where bugs live.
    let bias = next_random(random) % 9 + 1;
    let mut toss = |op: &Op<'_>| match next_random(random) % 10 {
        coin if coin < bias => Kept::Whole,
        coin if coin % 2 == 0 && op.is_data() => Kept::Sectors(next_random(random)),
        _ => Kept::Lost,
    };
    ops.iter().map(&mut toss).collect()
}

/// The files with pending data.
fn written(ops: &[Op<'_>]) -> Vec<Inode> {
    let mut files: Vec<Inode> = ops
        .iter()
        .filter_map(|op| match op {
            Op::File(inode, FileOp::Write { .. }) => Some(*inode),
            _ => None,
        })
        .collect();
    files.sort_unstable();
    files.dedup();
    files
}

/// Where the last write of each file may be torn: the op, and what is left of it.
fn cuts(ops: &[Op<'_>]) -> Vec<(usize, Kept)> {
    let mut cuts = Vec::new();
    for file in written(ops) {
        let is_last = |op: &Op<'_>| op.is_data() && matches!(op, Op::File(i, _) if *i == file);
        let Some(last) = ops.iter().rposition(is_last) else {
            continue;
        };
        let Op::File(_, FileOp::Write { offset, bytes }) = ops[last] else {
            continue;
        };
        let first_sector_end = SECTOR_BYTES - offset % SECTOR_BYTES;
        for cut in (first_sector_end..bytes.len()).step_by(SECTOR_BYTES) {
            cuts.push((last, Kept::Before(cut)));
            cuts.push((last, Kept::From(cut)));
        }
        if bytes.len() <= SMALL_WRITE_BYTES_MAX {
            let middle = [bytes.len() / 2, bytes.len() - 1];
            let within = BYTE_CUTS.into_iter().chain(middle);
            let within = within.filter(|cut| (1..bytes.len()).contains(cut));
            cuts.extend(within.map(|cut| (last, Kept::Before(cut))));
        }
    }
    cuts
}

fn build(medium: &Medium, ops: &[Op<'_>], plan: &[Kept]) -> Medium {
    let mut shadows: BTreeMap<Inode, Shadow> = BTreeMap::new();
    let mut names: BTreeMap<&Path, BTreeMap<String, Inode>> = medium
        .dirs
        .iter()
        .map(|(path, dir)| (path.as_path(), dir.durable.clone()))
        .collect();
    for (op, kept) in ops.iter().zip(plan) {
        if *kept == Kept::Lost {
            continue;
        }
        match op {
            Op::Dir(path, op) => op.apply(names.entry(path).or_default()),
            Op::File(inode, op) => {
                let shadow = shadows
                    .entry(*inode)
                    .or_insert_with(|| Shadow::of(&medium.files[inode].durable));
                match op {
                    FileOp::Resize { len, shrinks } => shadow.resize(*len, *shrinks),
                    FileOp::Write { offset, bytes } => write_part(shadow, *offset, bytes, kept),
                }
            }
        }
    }
    let mut image = Medium {
        inodes: medium.inodes,
        order: medium.order,
        seed: medium.seed,
        ..Medium::default()
    };
    let mut shadows: BTreeMap<Inode, Arc<Vec<u8>>> = shadows
        .into_iter()
        .map(|(inode, shadow)| (inode, Arc::new(shadow.finish())))
        .collect();
    for (path, names) in names {
        for inode in names.values() {
            let bytes = shadows
                .entry(*inode)
                .or_insert_with(|| Arc::clone(&medium.files[inode].durable));
            let file = image.files.entry(*inode).or_default();
            file.durable = Arc::clone(bytes);
            file.now = Arc::clone(bytes);
        }
        let dir = image.dirs.entry(path.to_path_buf()).or_default();
        dir.durable = names.clone();
        dir.now = names;
    }
    image
}

fn write_part(shadow: &mut Shadow, offset: usize, bytes: &[u8], kept: &Kept) {
    match *kept {
        Kept::Lost => {}
        Kept::Whole => shadow.write(offset, bytes),
        Kept::Before(cut) => shadow.write(offset, &bytes[..cut]),
        Kept::From(cut) => shadow.write(offset + cut, &bytes[cut..]),
        Kept::Sectors(mut coins) => {
            let mut start = 0;
            while start < bytes.len() {
                let sector_end = SECTOR_BYTES - (offset + start) % SECTOR_BYTES;
                let end = bytes.len().min(start + sector_end);
                if next_random(&mut coins).is_multiple_of(2) {
                    shadow.write(offset + start, &bytes[start..end]);
                }
                start = end;
            }
        }
    }
}

/// Digest of all names and bytes: two images with the same digest are the same disk.
pub(super) fn digest(medium: &Medium) -> u128 {
    let mut hash = Xxh3::new();
    for (path, dir) in &medium.dirs {
        hash.update(path.as_os_str().as_encoded_bytes());
        for (name, inode) in &dir.now {
            let bytes = &medium.files[inode].now;
            hash.update(&(name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
    }
    hash.digest128()
}

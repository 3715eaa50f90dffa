//! Crash images: the disks that a power loss at this moment may leave.
//!
//! Of everything no sync has covered, any subset of directory changes and any subset of 512-byte
//! sectors of data may have reached the disk (a rename is one change), as far as the machine's
//! profile allows it. An image is built from the durable state by applying, in order, what its
//! plan (plan.rs) keeps of each pending op. `(call, family, n)` names one image for ever, because
//! plans depend on nothing but the machine's seed and history.
//!
//! Bytes outside written ranges never change, and data is found only through a name that was kept.
//!
//! Cost: bytes are copied and hashed of those files only that pending ops change in the image.

use super::clock::SimClock;
use super::log::{DirState, FileOp, FileState, Inode, Medium, SECTOR_BYTES, Shadow, next_random};
use super::misuse::UsedNames;
use super::plan::{Family, Kept, Op, Profile, Spec, plan, specs};
use super::world::World;
use super::{FileClass, SimFs};
use crate::base::sync::Arc;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

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

type Names = BTreeMap<Arc<str>, Inode>;
type Bytes = Arc<Vec<u8>>;

/// What a power loss at this moment finds: the durable state, and all that is pending in order.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) call: u64,
    pub(super) seed: u64,
    pub(super) profile: Profile,
    no_preallocation: bool,
    pub(super) ops: Vec<Op>,
    pub(super) files: BTreeMap<Inode, Bytes>,
    /// The last removed file of each class: when, and what its blocks still hold.
    pub(super) removed: BTreeMap<FileClass, (u64, Bytes)>,
    /// When each file with pending ops began to grow, and was given blocks.
    grown: BTreeMap<Inode, u64>,
    names: BTreeMap<Arc<Path>, Names>,
    used: BTreeMap<Arc<Path>, UsedNames>,
    inodes: Inode,
    order: u64,
    clock: SimClock,
}

impl Moment {
    fn of(world: &World) -> Moment {
        let medium = &world.medium;
        let files = medium.files.iter();
        let dirs = || medium.dirs.iter();
        let used = |dir: &DirState| dir.used.after_power_loss();
        Moment {
            call: world.next_call(),
            seed: medium.seed,
            profile: medium.profile,
            no_preallocation: medium.no_preallocation,
            ops: pending(medium),
            files: files.map(|(i, f)| (*i, Arc::clone(&f.durable))).collect(),
            removed: medium.removed.clone(),
            grown: grown(medium),
            names: dirs()
                .map(|(p, d)| (Arc::clone(p), d.durable.clone()))
                .collect(),
            used: dirs().map(|(p, d)| (Arc::clone(p), used(d))).collect(),
            inodes: medium.inodes,
            order: medium.order,
            clock: medium.clock,
        }
    }
}

fn grown(medium: &Medium) -> BTreeMap<Inode, u64> {
    let first = |file: &FileState| file.pending.first().map(|(at, _)| *at);
    let files = medium.files.iter();
    files
        .filter_map(|(inode, file)| Some((*inode, first(file)?)))
        .collect()
}

fn pending(medium: &Medium) -> Vec<Op> {
    let mut ops = Vec::new();
    for (inode, file) in &medium.files {
        let own = file.pending.iter();
        ops.extend(own.map(|(at, op)| (*at, Op::File(*inode, op.clone()))));
    }
    for (path, dir) in &medium.dirs {
        let own = dir.pending.iter();
        ops.extend(own.map(|(at, op)| (*at, Op::Dir(Arc::clone(path), op.clone()))));
    }
    ops.sort_by_key(|(at, _)| *at);
    ops.into_iter().map(|(_, op)| op).collect()
}

/// A moment, and the families that were asked for.
#[derive(Debug)]
pub(super) struct Album {
    moment: Arc<Moment>,
    specs: BTreeMap<Family, Arc<Vec<Spec>>>,
}

impl Album {
    pub(super) fn of(world: &World) -> Album {
        Album {
            moment: Arc::new(Moment::of(world)),
            specs: BTreeMap::new(),
        }
    }

    pub(super) fn specs(&mut self, family: Family) -> &Arc<Vec<Spec>> {
        let specs = || Arc::new(specs(family, &self.moment));
        self.specs.entry(family).or_insert_with(specs)
    }

    /// The image with this id; `None` when this moment has none such.
    pub(super) fn image(&mut self, id: ImageId) -> Option<SimFs> {
        if id.call != self.moment.call {
            return None;
        }
        let specs = Arc::clone(self.specs(id.family));
        let disk = Disk::after(&self.moment, &plan(specs.get(id.n)?, &self.moment));
        Some(SimFs::on(disk.medium(&self.moment)))
    }
}

/// Iterator over the crash images of one moment, without repetition; built one at a time.
#[derive(Debug)]
pub struct Images {
    moment: Arc<Moment>,
    /// To come, the next one last.
    families: Vec<(Family, Arc<Vec<Spec>>)>,
    n: usize,
    seen: HashSet<u128>,
    digests: HashMap<Inode, u128>,
}

impl Images {
    pub(super) fn new(album: &mut Album, families: &[Family]) -> Images {
        let families = families.iter().rev();
        Images {
            families: families
                .map(|f| (*f, Arc::clone(album.specs(*f))))
                .collect(),
            moment: Arc::clone(&album.moment),
            n: 0,
            seen: HashSet::new(),
            digests: HashMap::new(),
        }
    }
}

impl Iterator for Images {
    type Item = Image;

    fn next(&mut self) -> Option<Image> {
        while let Some((family, specs)) = self.families.last() {
            let Some(spec) = specs.get(self.n) else {
                self.families.pop();
                self.n = 0;
                continue;
            };
            let id = ImageId {
                call: self.moment.call,
                family: *family,
                n: self.n,
            };
            self.n += 1;
            let disk = Disk::after(&self.moment, &plan(spec, &self.moment));
            if self
                .seen
                .insert(disk.digest(&self.moment, &mut self.digests))
            {
                let sim = SimFs::on(disk.medium(&self.moment));
                return Some(Image { id, sim });
            }
        }
        None
    }
}

/// Digest of all names and bytes as they are read now.
pub(super) fn digest(medium: &Medium) -> u128 {
    let dirs = medium.dirs.iter().map(|(path, dir)| (path, &dir.now));
    digest_of(dirs, |inode| xxh3_128(&medium.files[&inode].now))
}

fn digest_of<'a>(
    dirs: impl Iterator<Item = (&'a Arc<Path>, &'a Names)>,
    mut file: impl FnMut(Inode) -> u128,
) -> u128 {
    let mut hash = Xxh3::new();
    for (path, names) in dirs {
        hash.update(path.as_os_str().as_encoded_bytes());
        for (name, inode) in names {
            hash.update(&(name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update(&file(*inode).to_le_bytes());
        }
    }
    hash.digest128()
}

/// Names, and the bytes of those files that are not as they were durable.
struct Disk {
    names: BTreeMap<Arc<Path>, Names>,
    changed: BTreeMap<Inode, Bytes>,
}

impl Disk {
    fn after(moment: &Moment, plan: &[Kept]) -> Disk {
        let mut names = moment.names.clone();
        for (op, kept) in moment.ops.iter().zip(plan) {
            if let (Op::Dir(path, op), Kept::Whole) = (op, kept) {
                op.apply(names.entry(Arc::clone(path)).or_default());
            }
        }
        let mut shadows: BTreeMap<Inode, Option<Shadow>> = BTreeMap::new();
        for inode in names.values().flat_map(BTreeMap::values) {
            shadows.insert(*inode, None);
        }
        for (op, kept) in moment.ops.iter().zip(plan) {
            let (Op::File(inode, op), true) = (op, *kept != Kept::Lost) else {
                continue;
            };
            // Without a name nobody finds the bytes.
            let Some(shadow) = shadows.get_mut(inode) else {
                continue;
            };
            let durable = &moment.files[inode];
            let shadow = shadow.get_or_insert_with(|| Shadow::of(durable));
            match op {
                FileOp::Resize { len, shrinks } => shadow.resize(*len, *shrinks),
                FileOp::Write { offset, bytes, .. } => match kept {
                    Kept::Stale(class) => {
                        let grown = durable.len().max(*offset)..offset + bytes.len();
                        // Blocks of a file that was removed later cannot be in this one.
                        let (at, removed) = &moment.removed[class];
                        if *at < moment.grown[inode] {
                            write_stale(shadow, grown, removed);
                        }
                    }
                    kept => write_part(shadow, *offset, bytes, kept),
                },
            }
        }
        let changed = shadows
            .into_iter()
            .filter_map(|(inode, shadow)| Some((inode, Arc::new(shadow?.finish()))))
            .collect();
        Disk { names, changed }
    }

    /// Two images with the same digest are the same disk. `digests` are of durable files.
    fn digest(&self, moment: &Moment, digests: &mut HashMap<Inode, u128>) -> u128 {
        digest_of(self.names.iter(), |inode| match self.changed.get(&inode) {
            Some(bytes) => xxh3_128(bytes),
            None => *digests
                .entry(inode)
                .or_insert_with(|| xxh3_128(&moment.files[&inode])),
        })
    }

    /// The disk of a machine that starts on it.
    fn medium(mut self, moment: &Moment) -> Medium {
        let mut image = Medium {
            inodes: moment.inodes,
            order: moment.order,
            seed: moment.seed,
            profile: moment.profile,
            no_preallocation: moment.no_preallocation,
            removed: moment.removed.clone(),
            clock: moment.clock,
            ..Medium::default()
        };
        for (path, names) in self.names {
            for inode in names.values() {
                image.files.entry(*inode).or_insert_with(|| {
                    let changed = self.changed.remove(inode);
                    let bytes = changed.unwrap_or_else(|| Arc::clone(&moment.files[inode]));
                    FileState::durable(bytes)
                });
            }
            let used = moment.used.get(&path).cloned().unwrap_or_default();
            image.dirs.insert(path, DirState::durable(names, used));
        }
        image
    }
}

fn write_part(shadow: &mut Shadow, offset: usize, bytes: &[u8], kept: &Kept) {
    match *kept {
        Kept::Lost | Kept::Stale(_) => {}
        Kept::Whole => shadow.write(offset, bytes),
        Kept::Before(cut) => shadow.write(offset, &bytes[..cut]),
        Kept::From(cut) => shadow.write(offset + cut, &bytes[cut..]),
        Kept::But(start, end) => {
            let within = |at: usize| at.saturating_sub(offset).min(bytes.len());
            shadow.write(offset, &bytes[..within(start)]);
            shadow.write(offset + within(end), &bytes[within(end)..]);
        }
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

/// Fills the range with the bytes that a removed file had at the same offsets, over and over.
fn write_stale(shadow: &mut Shadow, range: std::ops::Range<usize>, removed: &[u8]) {
    let mut at = range.start;
    while at < range.end {
        let from = at % removed.len();
        let end = removed.len().min(from + (range.end - at));
        shadow.write(at, &removed[from..end]);
        at += end - from;
    }
}

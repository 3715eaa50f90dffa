//! The ways in which one place of a golden store is damaged.

use super::golden::{Golden, ROOT};
use crate::model::Random;
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;

/// One damage of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// A bit is flipped.
    Flip { file: usize, bit: usize },
    /// The file ends early.
    Cut { file: usize, len: usize },
    /// A sector holds other bytes.
    Sector {
        file: usize,
        at: usize,
        bytes: usize,
        fill: Fill,
    },
    /// Two files have each other's name.
    Swap { a: usize, b: usize },
    /// A file is gone.
    Delete { file: usize },
}

impl Damage {
    /// The file that it is in, when it is in one.
    fn file(&self) -> Option<usize> {
        match *self {
            Damage::Flip { file, .. }
            | Damage::Cut { file, .. }
            | Damage::Sector { file, .. }
            | Damage::Delete { file } => Some(file),
            Damage::Swap { .. } => None,
        }
    }
}

/// What a damaged sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    Zeros,
    Ones,
    /// The bytes that an earlier version of the file had there.
    Earlier(usize),
    /// The bytes that another file has there.
    Other(usize),
    /// The bytes of the sector behind it: a misdirected write.
    Next,
}

/// The store after the damage.
pub(crate) struct Damaged {
    pub(crate) sim: SimFs,
    /// Each file that is not as it was, with its bytes; none when it is gone.
    pub(crate) changed: BTreeMap<String, Option<Vec<u8>>>,
    /// The bytes that differ in each of them that still has the others.
    pub(crate) ranges: BTreeMap<String, Range<usize>>,
}

/// Names a case for people and for `TORTURE_CASE`.
pub(crate) fn name_of(store: usize, golden: &Golden, damage: &Damage) -> String {
    let name = |i: usize| golden.files.keys().nth(i).map_or("?", |name| name);
    let what = match *damage {
        Damage::Flip { file, bit } => format!("{}/flip/{bit}", name(file)),
        Damage::Cut { file, len } => format!("{}/cut/{len}", name(file)),
        Damage::Delete { file } => format!("{}/delete", name(file)),
        Damage::Swap { a, b } => format!("{}/swap/{}", name(a), name(b)),
        Damage::Sector {
            file,
            at,
            bytes,
            fill,
        } => {
            let fill = match fill {
                Fill::Zeros => "zeros".to_owned(),
                Fill::Ones => "ones".to_owned(),
                Fill::Earlier(n) => format!("earlier-{n}"),
                Fill::Other(n) => format!("like-{}", name(n)),
                Fill::Next => "next".to_owned(),
            };
            format!("{}/sector/{at}+{bytes}/{fill}", name(file))
        }
    };
    format!("rot/{store}/{what}")
}

/// Every damage of the store, each different result once.
pub(crate) fn all(golden: &Golden) -> Vec<Damage> {
    let files: Vec<(&String, &Vec<u8>)> = golden.files.iter().collect();
    let mut all = Vec::new();
    for (file, (_, bytes)) in files.iter().enumerate() {
        all.extend((0..bytes.len() * 8).map(|bit| Damage::Flip { file, bit }));
        all.extend((0..bytes.len()).map(|len| Damage::Cut { file, len }));
        all.push(Damage::Delete { file });
        let mut seen = HashSet::from([(*bytes).clone()]);
        for damage in sectors(golden, file, bytes.len()) {
            if let Some(changed) = sector(golden, &damage)
                && seen.insert(changed)
            {
                all.push(damage);
            }
        }
    }
    let kind = |i: usize| files[i].0.split_once('.').map(|(_, kind)| kind);
    for a in 0..files.len() {
        for b in a + 1..files.len() {
            if kind(a).is_some() && kind(a) == kind(b) && files[a].1 != files[b].1 {
                all.push(Damage::Swap { a, b });
            }
        }
    }
    all
}

/// Every filling of every sector of 512 bytes and 4 KiB, also those that change nothing.
fn sectors(golden: &Golden, file: usize, len: usize) -> Vec<Damage> {
    let name = golden.files.keys().nth(file).unwrap();
    let earlier = golden.earlier.get(name).map_or(0, Vec::len);
    let others = (0..golden.files.len()).filter(|i| *i != file);
    let fills: Vec<Fill> = [Fill::Zeros, Fill::Ones, Fill::Next]
        .into_iter()
        .chain((0..earlier).map(Fill::Earlier))
        .chain(others.map(Fill::Other))
        .collect();
    let mut all = Vec::new();
    for bytes in [512, 4096] {
        for at in (0..len).step_by(bytes) {
            let damage = |&fill| Damage::Sector {
                file,
                at,
                bytes,
                fill,
            };
            all.extend(fills.iter().map(damage));
        }
    }
    all
}

/// The file's bytes after the damage of a sector; none when there is nothing to fill it with.
fn sector(golden: &Golden, damage: &Damage) -> Option<Vec<u8>> {
    let Damage::Sector {
        file,
        at,
        bytes: size,
        fill,
    } = *damage
    else {
        return None;
    };
    let (name, bytes) = golden.files.iter().nth(file).unwrap();
    let range = at..bytes.len().min(at + size);
    let mut out = bytes.clone();
    let source = |from: &Vec<u8>, at: usize| from.get(at..at + range.len()).map(<[u8]>::to_vec);
    let filling = match fill {
        Fill::Zeros => vec![0; range.len()],
        Fill::Ones => vec![0xff; range.len()],
        Fill::Earlier(n) => source(&golden.earlier[name][n], at)?,
        Fill::Other(n) => source(golden.files.values().nth(n)?, at)?,
        Fill::Next => source(bytes, at + size)?,
    };
    out[range].copy_from_slice(&filling);
    Some(out)
}

/// Pair number `n` of a store: a damaged table, and another file that is damaged too. No manifest: it
/// may lose its last edit, and then other tables count.
pub(crate) fn pair<'a>(golden: &Golden, all: &'a [Damage], n: u64) -> [&'a Damage; 2] {
    let name = |file: usize| golden.files.keys().nth(file).map_or("", |name| &name[..]);
    let mut random = Random(n);
    let mut any = || &all[random.below(all.len())];
    loop {
        let (a, b) = (any(), any());
        if let (Some(a_file), Some(b_file)) = (a.file(), b.file())
            && name(a_file).ends_with(".tbl")
            && a_file != b_file
            && name(b_file) != golden.manifest
        {
            return [a, b];
        }
    }
}

/// Does the damages to a fresh copy of the store, each to a file of its own.
pub(crate) fn apply(golden: &Golden, damages: &[&Damage]) -> Damaged {
    let mut damaged = Damaged {
        sim: golden.sim.kill(),
        changed: BTreeMap::new(),
        ranges: BTreeMap::new(),
    };
    damages
        .iter()
        .for_each(|damage| damaged.add(golden, damage));
    damaged
}

impl Damaged {
    fn add(&mut self, golden: &Golden, damage: &Damage) {
        let root = Path::new(ROOT);
        let file = |i: usize| golden.files.iter().nth(i).unwrap();
        match *damage {
            Damage::Swap { a, b } => {
                let ((a, a_bytes), (b, b_bytes)) = (file(a), file(b));
                self.sim.plant(root, a, b_bytes);
                self.sim.plant(root, b, a_bytes);
                self.changed.insert(a.clone(), Some(b_bytes.clone()));
                self.changed.insert(b.clone(), Some(a_bytes.clone()));
            }
            Damage::Delete { file: i } => {
                let name = file(i).0;
                match FileName::parse(name).unwrap() {
                    // Nobody removes LOCK through the front door.
                    FileName::Lock => {}
                    parsed => Fs::sim(&self.sim, root).remove(parsed).unwrap(),
                }
                self.changed.insert(name.clone(), None);
            }
            Damage::Flip { file: i, bit } => {
                let (name, bytes) = file(i);
                let mut after = bytes.clone();
                after[bit / 8] ^= 1 << (bit % 8);
                self.differ(name, bit / 8..bit / 8 + 1, after);
            }
            Damage::Cut { file: i, len } => {
                let (name, bytes) = file(i);
                self.differ(name, len..bytes.len(), bytes[..len].to_vec());
            }
            Damage::Sector { file: i, .. } => {
                let (name, bytes) = file(i);
                let after = sector(golden, damage).unwrap();
                let differs = |i: &usize| bytes[*i] != after[*i];
                let first = (0..bytes.len()).find(differs).unwrap();
                let last = (0..bytes.len()).rfind(differs).unwrap();
                self.differ(name, first..last + 1, after);
            }
        }
    }

    /// The file differs in a range.
    fn differ(&mut self, name: &str, range: Range<usize>, after: Vec<u8>) {
        self.sim.plant(Path::new(ROOT), name, &after);
        self.ranges.insert(name.to_owned(), range);
        self.changed.insert(name.to_owned(), Some(after));
    }
}

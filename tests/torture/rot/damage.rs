//! The ways in which one place of a golden store is damaged.

use super::golden::{Golden, ROOT};
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
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
    /// The bytes that differ, where it is one file that still has them.
    pub(crate) range: Option<(String, Range<usize>)>,
}

/// Names a case for people and for `TORTURE_CASE`.
pub(crate) struct Case<'a> {
    pub(crate) store: usize,
    pub(crate) golden: &'a Golden,
    pub(crate) damage: &'a Damage,
}

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |i: usize| self.golden.files.keys().nth(i).map_or("?", |name| name);
        write!(f, "rot/{}/", self.store)?;
        match *self.damage {
            Damage::Flip { file, bit } => write!(f, "{}/flip/{bit}", name(file)),
            Damage::Cut { file, len } => write!(f, "{}/cut/{len}", name(file)),
            Damage::Delete { file } => write!(f, "{}/delete", name(file)),
            Damage::Swap { a, b } => write!(f, "{}/swap/{}", name(a), name(b)),
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
                write!(f, "{}/sector/{at}+{bytes}/{fill}", name(file))
            }
        }
    }
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

/// Does the damage to a fresh copy of the store.
pub(crate) fn apply(golden: &Golden, damage: &Damage) -> Damaged {
    let sim = golden.sim.kill();
    let root = Path::new(ROOT);
    let file = |i: usize| golden.files.iter().nth(i).unwrap();
    let mut changed = BTreeMap::new();
    let mut range = None;
    match *damage {
        Damage::Swap { a, b } => {
            let ((a, a_bytes), (b, b_bytes)) = (file(a), file(b));
            sim.plant(root, a, b_bytes);
            sim.plant(root, b, a_bytes);
            changed.insert(a.clone(), Some(b_bytes.clone()));
            changed.insert(b.clone(), Some(a_bytes.clone()));
        }
        Damage::Delete { file: i } => {
            let name = file(i).0;
            match FileName::parse(name).unwrap() {
                // Nobody removes LOCK through the front door.
                FileName::Lock => {}
                parsed => Fs::sim(&sim, root).remove(parsed).unwrap(),
            }
            changed.insert(name.clone(), None);
        }
        Damage::Flip { file: i, bit } => {
            let (name, bytes) = file(i);
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            sim.plant(root, name, &bytes);
            range = Some((name.clone(), bit / 8..bit / 8 + 1));
            changed.insert(name.clone(), Some(bytes));
        }
        Damage::Cut { file: i, len } => {
            let (name, bytes) = file(i);
            sim.plant(root, name, &bytes[..len]);
            range = Some((name.clone(), len..bytes.len()));
            changed.insert(name.clone(), Some(bytes[..len].to_vec()));
        }
        Damage::Sector { file: i, .. } => {
            let (name, bytes) = file(i);
            let after = sector(golden, damage).unwrap();
            sim.plant(root, name, &after);
            let differs = |i: &usize| bytes[*i] != after[*i];
            let first = (0..bytes.len()).find(differs).unwrap();
            let last = (0..bytes.len()).rfind(differs).unwrap();
            range = Some((name.clone(), first..last + 1));
            changed.insert(name.clone(), Some(after));
        }
    }
    Damaged {
        sim,
        changed,
        range,
    }
}

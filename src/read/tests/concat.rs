//! The parts of a run read like one part that holds all their entries.

use super::*;
use crate::read::{Concat, Parts};
use proptest::prelude::*;

/// Parts over vectors; opening one is a call that can fail too. `keys` are the first and last key
/// that each part claims, which an empty part has as well.
#[derive(Debug)]
struct VecParts {
    parts: Vec<(Vec<u8>, Vec<u8>, Vec<Entry>)>,
    fuse: Fuse,
    opened: Rc<Cell<usize>>,
}

impl VecParts {
    /// Cuts ascending keys into parts of the given sizes; every part in `emptied` loses its
    /// entries.
    fn new(keys: &[Vec<u8>], sizes: &[usize], emptied: &[usize], fuse: &Fuse) -> VecParts {
        let mut rest = keys;
        let mut parts = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            let (now, later) = rest.split_at((*size).min(rest.len()));
            rest = later;
            let (Some(first), Some(last)) = (now.first(), now.last()) else {
                break;
            };
            let versions = |key: &Vec<u8>| [put(key, 9, b"new"), put(key, 3, b"old")];
            let entries = if emptied.contains(&i) {
                Vec::new()
            } else {
                now.iter().flat_map(versions).collect()
            };
            parts.push((first.clone(), last.clone(), entries));
        }
        VecParts {
            parts,
            fuse: fuse.clone(),
            opened: Rc::default(),
        }
    }

    fn all(&self) -> VecCursor {
        VecCursor::new(self.parts.iter().flat_map(|p| p.2.clone()).collect())
    }
}

impl Parts for VecParts {
    type Cursor = Flaky;
    fn count(&self) -> usize {
        self.parts.len()
    }
    fn lower_bound(&self, key: &[u8]) -> usize {
        self.parts.partition_point(|part| part.1.as_slice() < key)
    }
    fn starts_after(&self, i: usize, key: &[u8]) -> bool {
        key < self.parts[i].0.as_slice()
    }
    fn newest(&self, i: usize) -> SeqNo {
        let seqnos = self.parts[i].2.iter().map(|(_, tag, _)| tag.seqno());
        seqnos.max().unwrap_or_default()
    }
    fn open(&self, i: usize) -> Result<Flaky> {
        self.opened.set(self.opened.get() + 1);
        self.fuse.call()?;
        Ok(Flaky::new(
            VecCursor::new(self.parts[i].2.clone()),
            &self.fuse,
        ))
    }
}

fn keys() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::btree_set(any::<u8>().prop_map(key_of), 0..24)
        .prop_map(|keys| keys.into_iter().collect())
}

proptest! {
    #[test]
    fn any_walk_over_parts_is_a_walk_over_one_sorted_list(
        keys in keys(),
        sizes in proptest::collection::vec(1..5usize, 1..12),
        emptied in proptest::collection::vec(0..12usize, 0..4),
        moves in proptest::collection::vec((0..10u8, any::<u8>(), 0..12u64), 1..60),
        fail_at in 0..120u64,
    ) {
        let fuse = Fuse::new(fail_at);
        let parts = VecParts::new(&keys, &sizes, &emptied, &fuse);
        let mut model = parts.all();
        let mut concat = Concat::new(parts);
        for (choice, key, seqno) in moves {
            let (key, tag) = (key_of(key), Tag::newest_at(SeqNo::new(seqno)));
            let act = |c: &mut dyn Cursor| match choice {
                0 => c.first(),
                1 => c.last(),
                2 => c.seek(&key, tag),
                3 => c.seek_for_prev(&key, tag),
                4..=6 if c.valid() => c.next(),
                _ if c.valid() => c.prev(),
                _ => Ok(()),
            };
            let burnt = fuse.is_burnt();
            let moved = act(&mut concat);
            prop_assert_eq!(moved.is_err(), !burnt && fuse.is_burnt());
            if moved.is_err() {
                prop_assert!(!concat.valid());
                model.at = None;
                continue;
            }
            act(&mut model).unwrap();
            prop_assert_eq!(concat.valid(), model.valid());
            if model.valid() {
                prop_assert_eq!(concat.key(), model.key());
                prop_assert_eq!(concat.tag(), model.tag());
                prop_assert_eq!(concat.value(), model.value());
            }
        }
    }
}

#[test]
fn a_part_is_opened_only_when_the_walk_comes_to_it() {
    let keys: Vec<Vec<u8>> = (0..9u8).map(|n| vec![n]).collect();
    let parts = VecParts::new(&keys, &[3, 3, 3], &[], &Fuse::new(0));
    let opened = Rc::clone(&parts.opened);
    let mut concat = Concat::new(parts);
    assert_eq!(opened.get(), 0);
    concat.seek(&[4], Tag::MAX).unwrap();
    assert_eq!(opened.get(), 1, "the middle part alone");
    concat.seek_for_prev(&[5], Tag::MAX).unwrap();
    assert_eq!(opened.get(), 1, "the open part is used again");
    concat.seek(&[9], Tag::MAX).unwrap();
    assert!(!concat.valid());
    assert_eq!(opened.get(), 1, "nothing is opened behind the last key");
}

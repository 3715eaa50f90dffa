//! What a script did, in write order, and what a disk may therefore hold.
//!
//! The contents after each batch are kept as one digest for each keyspace: the sum of the hashes
//! of its entries, which changes with an entry and compares in a few bytes. A keyspace that is
//! dropped and made again is another one: its *incarnation* has a number of its own.

use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_128;

/// The incarnation of a keyspace.
pub(crate) type Incarnation = usize;

/// Keyspaces by name.
pub(crate) type Spaces = BTreeMap<String, Incarnation>;

/// Digest of the contents of each keyspace that a database holds.
pub(crate) type Found = BTreeMap<String, u128>;

/// One write: where, key, and the new value or `None` for a deletion.
pub(crate) type Change = (Incarnation, Vec<u8>, Option<Vec<u8>>);

/// How far a script has come at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Batches begun: one more than acknowledged while a write runs.
    pub(crate) tried: usize,
    /// Batches acknowledged.
    pub(crate) acknowledged: usize,
    /// Batches known to be synced.
    pub(crate) synced: usize,
    /// The highest sequence number that may have been given out.
    pub(crate) seqno: u64,
    /// The highest number that a file of the directory had so far.
    pub(crate) file: u64,
    /// Keyspaces that are there.
    pub(crate) spaces: Spaces,
    /// Those that will be there when the call that runs has done its work.
    pub(crate) spaces_next: Spaces,
}

/// The batches of a script, and the contents after each.
#[derive(Debug, Default)]
pub(crate) struct History {
    batches: Vec<Vec<Change>>,
    /// After the first n batches, by incarnation.
    digests: Vec<Vec<u128>>,
    contents: BTreeMap<(Incarnation, Vec<u8>), Vec<u8>>,
}

/// The digest of one entry; a keyspace's is the sum of those of its entries.
pub(crate) fn entry_digest(key: &[u8], value: &[u8]) -> u128 {
    let mut bytes = Vec::with_capacity(key.len() + value.len() + 8);
    bytes.extend_from_slice(&(key.len() as u64).to_le_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    xxh3_128(&bytes)
}

impl History {
    /// Batches so far.
    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// True when the newest batch changes this keyspace.
    pub(crate) fn last_is_in(&self, space: Incarnation) -> bool {
        let last = self.batches.last().into_iter().flatten();
        last.into_iter().any(|(changed, _, _)| *changed == space)
    }

    /// A batch is about to be written.
    pub(crate) fn push(&mut self, batch: Vec<Change>) {
        if self.digests.is_empty() {
            self.digests.push(Vec::new());
        }
        let mut digest = self.digests[self.batches.len()].clone();
        for change in &batch {
            apply(&mut self.contents, &mut digest, change);
        }
        self.digests.push(digest);
        self.batches.push(batch);
    }

    /// Forgets all batches from `len` on: they were refused, or lost.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.batches.truncate(len);
        self.digests.truncate(len + 1);
        self.contents.clear();
        let mut digest = Vec::new();
        for change in self.batches.iter().flatten() {
            apply(&mut self.contents, &mut digest, change);
        }
    }

    /// What the first `n` batches leave in these keyspaces.
    pub(crate) fn after(&self, n: usize, spaces: &Spaces) -> Found {
        let digests = self.digests.get(n);
        let of = |space: &Incarnation| digests.and_then(|d| d.get(*space)).copied();
        spaces
            .iter()
            .map(|(name, space)| (name.clone(), of(space).unwrap_or(0)))
            .collect()
    }

    /// The longest prefix of the write order that leaves what was found, of `least` to `most`
    /// batches; the keyspaces are those before or after the call that ran.
    pub(crate) fn prefix(
        &self,
        found: &Found,
        least: usize,
        most: usize,
        marks: &Marks,
    ) -> Option<usize> {
        let matches = |n: usize, spaces: &Spaces| {
            let digests = self.digests.get(n);
            spaces.len() == found.len()
                && spaces
                    .iter()
                    .zip(found)
                    .all(|((name, space), (other, digest))| {
                        let expected = digests.and_then(|d| d.get(*space)).copied();
                        name == other && expected.unwrap_or(0) == *digest
                    })
        };
        (least..=most)
            .rev()
            .find(|&n| matches(n, &marks.spaces) || matches(n, &marks.spaces_next))
    }

    /// For a message: which prefix is nearest to what was found, and how far beyond the bounds.
    pub(crate) fn explain(&self, found: &Found, marks: &Marks) -> String {
        match self.prefix(found, 0, self.batches.len(), marks) {
            Some(n) => format!("it holds exactly the first {n} batches"),
            None => format!(
                "it holds no prefix at all; keyspaces {:?}, expected {:?} or {:?}",
                found.keys(),
                marks.spaces.keys(),
                marks.spaces_next.keys()
            ),
        }
    }
}

fn apply(
    contents: &mut BTreeMap<(Incarnation, Vec<u8>), Vec<u8>>,
    digest: &mut Vec<u128>,
    (space, key, value): &Change,
) {
    if digest.len() <= *space {
        digest.resize(space + 1, 0);
    }
    let place = (*space, key.clone());
    let old = match value {
        Some(value) => {
            digest[*space] = digest[*space].wrapping_add(entry_digest(key, value));
            contents.insert(place, value.clone())
        }
        None => contents.remove(&place),
    };
    if let Some(old) = old {
        digest[*space] = digest[*space].wrapping_sub(entry_digest(key, &old));
    }
}

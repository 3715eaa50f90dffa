//! A block's body read in every way there is: the entry of the fuzz target for blocks.
//!
//! Not here: any way of reading that the engine uses itself.

use super::{Layout, fingerprint};
use crate::base::types::Tag;

/// What a block's body answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Key, tag, value, and whether fingerprint and head are those of the key.
    pub entries: Vec<(Vec<u8>, Tag, Vec<u8>, bool)>,
    /// The tag that a get finds; `None` within when it finds nothing, outside when the bytes
    /// that it needs are not those of a block.
    pub found: Option<Option<Tag>>,
    /// The entry that a seek finds; `None` when the bytes are not those of a block.
    pub lower_bound: Option<usize>,
}

/// Reads every entry of `body`, then looks for `(key, newest)`; `hash` gives a key's hash.
/// `None`: the bytes are not those of a block, or one of the entries is none.
pub fn probe(body: &[u8], key: &[u8], newest: Tag, hash: impl Fn(&[u8]) -> u64) -> Option<Probe> {
    let layout = Layout::parse(body)?;
    let found = layout.find(body, key, fingerprint(hash(key)), newest);
    let lower_bound = layout.lower_bound(body, key, newest);
    let entries = (0..layout.count()).map(|i| {
        let entry = layout.entry(body, i)?;
        let key = [layout.prefix(body), entry.suffix].concat();
        let guide = layout.guide_of(&key, hash(&key));
        let is_guided = layout.stored_guide(body, i) == guide;
        Some((key, entry.tag, entry.value.to_vec(), is_guided))
    });
    let entries = entries.collect::<Option<Vec<_>>>()?;
    Some(Probe {
        entries,
        found: found.map(|entry| entry.map(|entry| entry.tag)),
        lower_bound,
    })
}

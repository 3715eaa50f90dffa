//! A block holds what was put in, finds every entry both ways, and survives any bytes.

use super::builder::{BlockBuilder, Pending, single};
use super::*;
use crate::base::checksum::KeyHasher;
use crate::base::key::compare;
use crate::base::types::ValueKind;
use proptest::prelude::*;

const HASHER: KeyHasher = KeyHasher::new(5);

fn pending<'a>(key: &'a [u8], seqno: u64, value: &'a [u8]) -> Pending<'a> {
    Pending {
        key,
        tag: Tag::new(SeqNo::new(seqno), ValueKind::Put),
        value,
        hash: HASHER.hash(key),
    }
}

fn block_of(entries: &[Pending<'_>]) -> Vec<u8> {
    let mut builder = BlockBuilder::new(1 << 16, 0);
    for entry in entries {
        assert!(builder.push(entry));
    }
    let mut body = Vec::new();
    builder.finish(&mut body);
    body
}

proptest! {
    #[test]
    fn every_entry_is_found_by_fingerprint_and_by_head(
        keys in proptest::collection::btree_set(proptest::collection::vec(0u8..3, 0..7), 1..60),
        versions in 1u64..4,
        stride in prop::sample::select(vec![0u64, 1, 1 << 20, 1 << 40]),
        prefix_len in 0usize..4,
    ) {
        let keys: Vec<Vec<u8>> = keys
            .into_iter()
            .map(|key| [&b"pre"[..prefix_len.min(3)], &key[..]].concat())
            .collect();
        let versions = if stride == 0 { 1 } else { versions };
        let entries: Vec<Pending<'_>> = keys
            .iter()
            .flat_map(|key| (1..=versions).rev().map(move |v| pending(key, v * stride, key)))
            .collect();
        let body = block_of(&entries);
        let layout = Layout::parse(&body).unwrap();
        prop_assert_eq!(layout.count(), entries.len());
        for (i, entry) in entries.iter().enumerate() {
            let read = layout.entry(&body, i).unwrap();
            prop_assert_eq!([layout.prefix(&body), read.suffix].concat(), entry.key);
            prop_assert_eq!((read.tag, read.value), (entry.tag, entry.value));
            prop_assert_eq!(&body[read.value_at..][..read.value.len()], entry.value);
            prop_assert_eq!(layout.lower_bound(&body, entry.key, entry.tag), Some(i));
            let found = layout.find(&body, entry.key, fingerprint(entry.hash), entry.tag).unwrap();
            prop_assert_eq!(found.unwrap().tag, entry.tag);
            let fits = |e: &Pending<'_>| fingerprint(e.hash) == fingerprint(entry.hash);
            let likely = entries.iter().position(fits).unwrap();
            let start = layout.likely(&body, fingerprint(entry.hash)).unwrap();
            prop_assert_eq!(start, layout.offset(&body, likely).unwrap());
            prop_assert_eq!(layout.stored_guide(&body, i), layout.guide_of(entry.key, entry.hash));
            for gap in [[entry.key, &[0]].concat(), entry.key.split_last().map_or(vec![], |s| s.1.to_vec())] {
                let expected = entries
                    .iter()
                    .position(|e| compare(e.key, e.tag, &gap, Tag::MAX).is_ge())
                    .unwrap_or(entries.len());
                prop_assert_eq!(layout.lower_bound(&body, &gap, Tag::MAX), Some(expected));
                let found = layout.find(&body, &gap, fingerprint(HASHER.hash(&gap)), Tag::MAX);
                prop_assert_eq!(found.unwrap().is_some(), keys.contains(&gap));
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        mut body in proptest::collection::vec(any::<u8>(), 0..200),
        count in 0u16..12,
    ) {
        if let Some(header) = body.first_chunk_mut::<8>() {
            header[..2].copy_from_slice(&count.to_le_bytes());
            header[2] &= 1;
            header[3] = [1, 4, 8, 3][usize::from(header[3] & 3)];
            header[5..].fill(0);
        }
        if let Some(layout) = Layout::parse(&body) {
            for i in 0..layout.count() {
                let _ = layout.entry(&body, i);
            }
            let _ = layout.lower_bound(&body, b"key", Tag::MAX);
            for fingerprint in 0..=255 {
                let _ = layout.find(&body, b"key", fingerprint, Tag::MIN);
                let _ = layout.likely(&body, fingerprint);
            }
        }
    }
}

#[test]
fn a_large_value_makes_a_wide_block_of_one_entry() {
    let value = vec![7; 300_000];
    let mut body = Vec::new();
    single(pending(b"large", 9, &value), &mut body);
    let layout = Layout::parse(&body).unwrap();
    assert_eq!(layout.count(), 1);
    let entry = layout.entry(&body, 0).unwrap();
    assert_eq!(entry.value, value);
    assert_eq!(layout.prefix(&body), b"large");
}

#[test]
fn a_block_grows_to_eight_entries_but_not_beyond_eight_units() {
    for (value_bytes, entries_wanted) in
        [(100, 25..40), (1000, 8..16), (4000, 7..9), (30_000, 1..2)]
    {
        let mut builder = BlockBuilder::new(4096, 5);
        let value = vec![1; value_bytes];
        let mut n = 0;
        while builder.push(&pending(format!("{n:016}").as_bytes(), 1, &value)) {
            n += 1;
        }
        let mut body = Vec::new();
        builder.finish(&mut body);
        assert!(entries_wanted.contains(&n), "{n} values of {value_bytes}");
        assert!(body.len() + 5 <= 8 * 4096);
    }
}

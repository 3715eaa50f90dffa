//! A block's body, as after its checksum. One whose entries ascend and whose guides are right
//! must answer as a sorted list does. The target `table` has blocks with their checksums.
//!
//! Input: key (length u16, bytes) | sequence number u16 | body.
#![no_main]

use alluvium::base::checksum::KeyHasher;
use alluvium::base::types::{SeqNo, Tag};
use alluvium::table::probe;
use alluvium_fuzz::guard;
use alluvium_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| guard::run(data, target));

fn target(data: &[u8]) {
    let mut input = Input(data);
    let key = input.part();
    let newest = Tag::newest_at(SeqNo::new(input.number() as u64));
    let body = input.0;
    check(body, key, newest);
    // The keys of the block itself, which the fuzzer would take long to guess.
    if let Some(probe) = probe(body, key, newest, hash) {
        for (key, tag, _, _) in probe.entries.iter().take(32) {
            check(body, key, newest);
            check(body, key, *tag);
        }
    }
}

fn hash(key: &[u8]) -> u64 {
    KeyHasher::new(99).hash(key)
}

fn check(body: &[u8], key: &[u8], newest: Tag) {
    let Some(probe) = probe(body, key, newest, hash) else {
        return;
    };
    let entries = &probe.entries;
    let stored: usize = entries.iter().map(|entry| entry.2.len()).sum();
    assert!(entries.len() <= body.len() && stored <= body.len() * entries.len());
    let ascends = |i: usize| (&entries[i].0, entries[i + 1].1) < (&entries[i + 1].0, entries[i].1);
    let is_sound = entries.iter().all(|entry| entry.3) && (0..entries.len() - 1).all(ascends);
    if !is_sound {
        return;
    }
    let after = entries.partition_point(|(k, tag, _, _)| (&k[..], newest) < (key, *tag));
    let expected = entries.get(after).filter(|entry| entry.0 == key);
    assert_eq!(probe.lower_bound, Some(after));
    assert_eq!(probe.found, Some(expected.map(|entry| entry.1)));
}

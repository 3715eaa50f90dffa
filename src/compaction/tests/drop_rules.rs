//! The drop rules, entry by entry.

use super::super::drop_rules::{Below, DropRules, Verdict};
use super::tag;
use crate::base::error::ErrorKind;
use crate::base::ranges::{HalfOpen, Pieces};
use crate::base::types::{SeqNo, Tag, ValueKind};
use crate::version::Version;

fn judged(snapshots: &[u64], below: Below<'_>, entries: &[(&str, Tag)]) -> Vec<(String, Tag)> {
    judged_under(&Pieces::default(), snapshots, below, entries)
}

fn judged_under(
    deleted: &Pieces,
    snapshots: &[u64],
    below: Below<'_>,
    entries: &[(&str, Tag)],
) -> Vec<(String, Tag)> {
    let snapshots: Vec<SeqNo> = snapshots.iter().map(|s| SeqNo::new(*s)).collect();
    let mut rules = DropRules::new(&snapshots, below, deleted);
    let kept = entries.iter().filter(|(key, tag)| {
        matches!(
            rules.judge(key.as_bytes(), *tag).unwrap(),
            Verdict::Keep { .. }
        )
    });
    kept.map(|(key, tag)| (key.to_string(), *tag)).collect()
}

const PUT: ValueKind = ValueKind::Put;
const DELETE: ValueKind = ValueKind::Delete;

#[test]
fn a_version_stays_while_a_snapshot_tells_it_from_the_next_newer() {
    let all = [9, 7, 5, 4, 2, 1].map(|seqno| ("k", tag(seqno, PUT)));
    let seqnos = |snapshots: &[u64]| -> Vec<u64> {
        let kept = judged(snapshots, Below::tables(&[]), &all);
        kept.iter().map(|(_, tag)| tag.seqno().get()).collect()
    };
    assert_eq!(seqnos(&[9]), [9]);
    assert_eq!(seqnos(&[4, 9]), [9, 4]);
    assert_eq!(seqnos(&[3, 6, 9]), [9, 5, 2]);
    assert_eq!(seqnos(&[6]), [9, 7, 5], "what is not visible yet stays");
    assert_eq!(seqnos(&[]), [9, 7, 5, 4, 2, 1]);
}

#[test]
fn a_snapshot_of_sequence_0_is_a_snapshot() {
    // Bug 1. It sees nothing, so a deletion above it is not at or below the oldest.
    let entries = [("k", tag(7, DELETE)), ("k", tag(5, PUT))];
    let kept = judged(&[0, 9], Below::tables(&[]), &entries);
    assert_eq!(kept, [("k".to_string(), tag(7, DELETE))]);
}

#[test]
fn a_deletion_goes_with_everything_it_hides_and_not_before() {
    let entries = [
        ("a", tag(8, DELETE)),
        ("a", tag(3, PUT)),
        ("b", tag(8, DELETE)),
        ("c", tag(2, DELETE)),
    ];
    assert_eq!(judged(&[9], Below::tables(&[]), &entries), []);
    let kept = judged(&[2, 9], Below::tables(&[]), &entries);
    let expected = [("a", tag(8, DELETE)), ("b", tag(8, DELETE))];
    assert_eq!(kept, expected.map(|(key, tag)| (key.to_string(), tag)));
    let kept = judged(&[9], Below::Unknown, &entries);
    assert_eq!(kept.len(), 3, "a flush keeps deletions");
    // Bug 9: an older version may lie below.
    let below = Version::parse("L3.1 b-bb:1K").unwrap();
    let tables = below.overlapping(3, None, None);
    let kept = judged(&[9], Below::tables(&tables), &entries);
    assert_eq!(kept, [("b".to_string(), tag(8, DELETE))]);
}

#[test]
fn below_is_asked_in_ascending_order_over_overlapping_and_separate_tables() {
    let below = Version::parse("L3.2 b-d:1K g-h:1K\nL3.1 c-e:1K x-y:1K").unwrap();
    let tables = below.overlapping(3, None, None);
    let letters = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "w", "x", "y", "z",
    ];
    let entries = letters.map(|key| (key, tag(1, DELETE)));
    let kept = judged(&[9], Below::tables(&tables), &entries);
    let kept: Vec<&str> = kept.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(kept, ["b", "c", "d", "e", "g", "h", "x", "y"]);
}

#[test]
fn equal_entries_of_two_sources_are_kept_once_and_disorder_is_corruption() {
    // Bug 17.
    let twice = [
        ("k", tag(9, PUT)),
        ("k", tag(9, PUT)),
        ("k", tag(9, DELETE)),
    ];
    assert_eq!(judged(&[5], Below::Unknown, &twice).len(), 2);
    let none = Pieces::default();
    let mut rules = DropRules::new(&[], Below::Unknown, &none);
    rules.judge(b"k", tag(5, PUT)).unwrap();
    let error = rules.judge(b"k", tag(6, PUT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    let mut rules = DropRules::new(&[], Below::Unknown, &none);
    rules.judge(b"k", tag(5, PUT)).unwrap();
    let error = rules.judge(b"j", tag(4, PUT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
}

/// What a merge is merged into stays, unless a newer version of the same stripe says what the key is.
#[test]
fn a_merge_hides_nothing_and_is_hidden_as_a_put_is() {
    let merge = |n| ("k", tag(n, ValueKind::Merge));
    let put = |n| ("k", tag(n, PUT));
    let kept = |snapshots: &[u64], all: &[(&str, Tag)]| -> Vec<u64> {
        let kept = judged(snapshots, Below::tables(&[]), all);
        kept.iter().map(|(_, tag)| tag.seqno().get()).collect()
    };
    assert_eq!(
        kept(&[9], &[merge(9), merge(7), put(5), merge(3)]),
        [9, 7, 5]
    );
    assert_eq!(kept(&[9], &[put(9), merge(7), put(5)]), [9]);
    assert_eq!(
        kept(&[6, 9], &[put(9), merge(7), merge(6), put(5)]),
        [9, 6, 5]
    );
    let deleted = ("k", tag(5, DELETE));
    assert_eq!(
        kept(&[9], &[merge(9), deleted, put(3)]),
        [9],
        "nothing beneath"
    );
}

/// A snapshot between a version and the deletion of its range still sees it.
#[test]
fn a_version_goes_with_its_range_unless_a_snapshot_tells_them_apart() {
    let range = |start: &str, end: &str| HalfOpen {
        start: start.into(),
        end: Some(end.into()),
    };
    let deleted = Pieces::of([(range("b", "d"), SeqNo::new(7))]);
    let all = ["a", "b", "c", "d"].map(|key| (key, tag(5, PUT)));
    let kept = |snapshots: &[u64]| -> String {
        let kept = judged_under(&deleted, snapshots, Below::tables(&[]), &all);
        kept.iter().map(|(key, _)| key.as_str()).collect()
    };
    assert_eq!(kept(&[9]), "ad");
    assert_eq!(kept(&[7]), "ad", "the deletion is visible");
    assert_eq!(kept(&[6]), "abcd", "it is not visible yet");
    assert_eq!(kept(&[5, 9]), "abcd", "a snapshot before it");
    assert_eq!(kept(&[4, 9]), "ad", "a snapshot that sees neither");
    assert_eq!(kept(&[]), "abcd");
    let newer = [
        ("b", tag(8, PUT)),
        ("b", tag(5, PUT)),
        ("c", tag(5, DELETE)),
    ];
    let kept = judged_under(&deleted, &[4, 9], Below::Unknown, &newer);
    assert_eq!(kept.len(), 1, "what was written after it stays");
}

#[test]
fn kinds_of_later_features_are_an_error_and_never_dropped() {
    use ValueKind::*;
    for kind in [PutBlob, DeleteRange] {
        let none = Pieces::default();
        let mut rules = DropRules::new(&[SeqNo::MAX], Below::tables(&[]), &none);
        let error = rules.judge(b"k", tag(1, kind)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{kind:?}");
    }
}

//! Pieces against a list of deletions that is asked one by one.

use super::*;
use proptest::prelude::*;

fn range(start: &str, end: &str) -> HalfOpen {
    HalfOpen {
        start: start.into(),
        end: (end != "*").then(|| end.into()),
    }
}

/// `a-m:7` deletes `[a, m)` at 7; `*` is the end of all keys.
fn pieces(text: &str) -> Pieces {
    Pieces::of(text.split_whitespace().map(|deletion| {
        let (keys, seqno) = deletion.split_once(':').unwrap();
        let (start, end) = keys.split_once('-').unwrap();
        (range(start, end), SeqNo::new(seqno.parse().unwrap()))
    }))
}

fn text(pieces: &Pieces) -> String {
    let of = |piece: &Piece| {
        let end = piece.range.end.as_deref().unwrap_or(b"*");
        let seqnos: Vec<String> = piece.seqnos.iter().map(SeqNo::to_string).collect();
        format!(
            "{}-{}:{}",
            String::from_utf8_lossy(&piece.range.start),
            String::from_utf8_lossy(end),
            seqnos.join(",")
        )
    };
    pieces.iter().map(of).collect::<Vec<_>>().join(" ")
}

#[test]
fn overlapping_deletions_are_cut_where_they_begin_and_end() {
    let cut = pieces("a-m:7 c-p:9 c-e:4");
    assert_eq!(text(&cut), "a-c:7 c-e:9,7,4 e-m:9,7 m-p:9");
    assert_eq!(text(&pieces("a-c:1 c-e:1")), "a-e:1", "alike and touching");
    assert_eq!(text(&pieces("a-c:1 d-e:2")), "a-c:1 d-e:2");
    assert_eq!(text(&pieces("a-*:1 c-d:2")), "a-c:1 c-d:2,1 d-*:1");
    assert_eq!(text(&pieces("a-*:1 -c:2")), "-a:2 a-c:2,1 c-*:1");
    assert_eq!(text(&pieces("a-b:1 a-b:1")), "a-b:1", "the same twice");
}

#[test]
fn the_newest_deletion_at_an_instant_counts() {
    let cut = pieces("a-m:7 c-p:9 c-e:4");
    let newest = |key: &str, at| cut.newest_at(key.as_bytes(), SeqNo::new(at));
    assert_eq!(newest("d", 99), Some(SeqNo::new(9)));
    assert_eq!(newest("d", 8), Some(SeqNo::new(7)));
    assert_eq!(newest("d", 6), Some(SeqNo::new(4)));
    assert_eq!(newest("d", 3), None);
    assert_eq!(newest("m", 8), None, "an end is not among its keys");
    assert_eq!(newest("q", 99), None);
}

#[test]
fn bounds_of_every_kind_are_half_open_ranges() {
    use Bound::{Excluded, Included, Unbounded};
    let between = |lower, upper| HalfOpen::between(lower, upper);
    assert_eq!(
        between(Included(b"a"), Excluded(b"m")),
        Some(range("a", "m"))
    );
    assert_eq!(
        between(Excluded(b"a"), Included(b"m")),
        Some(range("a\0", "m\0"))
    );
    assert_eq!(between(Unbounded, Unbounded), Some(range("", "*")));
    assert_eq!(
        between(Included(b"a"), Included(b"a")),
        Some(range("a", "a\0"))
    );
    assert_eq!(between(Included(b"a"), Excluded(b"a")), None);
    assert_eq!(between(Excluded(b"a"), Included(b"a")), None);
    assert_eq!(between(Included(b"m"), Excluded(b"a")), None, "inverted");
    assert_eq!(between(Unbounded, Excluded(b"")), None);
}

#[test]
fn keys_are_covered_where_no_gap_and_no_older_deletion_is_among_them() {
    let cut = pieces("a-f:7 f-m:9 p-*:9");
    let covers = |from: &str, to: &str, after, until| {
        let (after, until) = (SeqNo::new(after), SeqNo::new(until));
        cut.covers(from.as_bytes(), to.as_bytes(), after, until)
    };
    assert!(covers("b", "k", 6, 99));
    assert!(!covers("b", "k", 7, 99), "older than a part of it");
    assert!(!covers("b", "k", 6, 8), "newer than the oldest snapshot");
    assert!(!covers("b", "m", 6, 99), "an end is not deleted with it");
    assert!(!covers("k", "q", 6, 99), "a gap");
    assert!(covers("q", "z", 8, 9));
    assert!(!covers("", "b", 6, 99));
}

#[test]
fn a_deletion_is_forgotten_number_by_number() {
    let cut = pieces("a-m:7 c-p:9");
    let kept = cut.filtered(|_, seqno| seqno == SeqNo::new(7));
    assert_eq!(text(&kept), "a-m:7", "and what was cut is joined again");
}

fn deletions() -> impl Strategy<Value = Vec<(u8, u8, u64)>> {
    proptest::collection::vec((0..20u8, 1..20u8, 1..50u64), 0..40)
}

proptest! {
    #[test]
    fn every_key_is_deleted_when_the_deletions_say(deletions in deletions(), at in 0..60u64) {
        let ranges = |(start, len, seqno): &(u8, u8, u64)| {
            let end = start.checked_add(*len).filter(|end| *end < 30).map(|end| vec![end]);
            (HalfOpen { start: vec![*start], end }, SeqNo::new(*seqno))
        };
        let all: Vec<_> = deletions.iter().map(ranges).collect();
        let at = SeqNo::new(at);
        let many = all.iter().fold(DeletedRanges::default(), |sum, (range, seqno)| {
            sum.with(range.clone(), *seqno)
        });
        let one = Pieces::of(all.clone());
        prop_assert_eq!(&many.joined(), &one);
        let mut forward = Asked::new(many.clone(), at);
        let mut backward = Asked::new(many.clone(), at);
        let expected = |key: u8| {
            let covering = all.iter().filter(|(range, seqno)| {
                range.start <= vec![key] && is_before(&[key], range.end.as_deref())
                    && *seqno <= at
            });
            covering.map(|(_, seqno)| *seqno).max()
        };
        for key in 0..40u8 {
            prop_assert_eq!(one.newest_at(&[key], at), expected(key));
            prop_assert_eq!(many.newest_at(&[key], at), expected(key));
            prop_assert_eq!(forward.newest_of(&[key]), expected(key).unwrap_or_default());
            let (other, asked) = (39 - key, backward.newest_of(&[39 - key]));
            prop_assert_eq!(asked, expected(other).unwrap_or_default());
        }
        let pairs: Vec<_> = one.iter().collect();
        for pair in pairs.windows(2) {
            let end = pair[0].range.end.as_deref();
            prop_assert!(!is_before(&pair[1].range.start, end), "pieces do not overlap");
        }
    }
}

/// What is told apart by no snapshot is one deletion: the newest. One that is newer than all stays.
#[test]
fn of_the_numbers_between_two_snapshots_the_newest_is_kept() {
    let all = pieces("a-m:3 a-m:5 a-m:8 c-f:9 a-m:12 k-*:6 a-m:25 a-m:26");
    let snapshots: Vec<SeqNo> = [6, 10, 20].map(SeqNo::new).into();
    assert_eq!(
        text(&all.seen_at(&snapshots)),
        "a-c:26,25,12,8,5 c-f:26,25,12,9,5 f-k:26,25,12,8,5 k-m:26,25,12,8,6 m-*:6"
    );
    assert_eq!(all.seen_at(&[]), all);
    let now = [SeqNo::new(30)];
    assert_eq!(text(&all.seen_at(&now)), "a-m:26 m-*:6", "joined again");
}

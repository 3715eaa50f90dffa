//! Versions and runs: their text, their searches, their invariants.

use crate::base::types::FileId;
use crate::version::{AddedTable, KeyspaceEdit, SortedRun, TableEntry, Version};
use proptest::prelude::*;

const TEXT: &str = "L0.9 a-m:64K t=10\nL0.3 a-b:64K e-e:1K\nL2.1 a-d:1M\n";

#[test]
fn a_version_reads_and_writes_its_text() {
    let version = Version::parse(TEXT).unwrap();
    assert_eq!(version.to_string(), TEXT);
    assert_eq!((version.runs(), version.levels.len()), (3, 3));
    assert_eq!(version.level_bytes(0), (64 + 64 + 1) << 10);
    assert_eq!(version.bytes(), ((64 + 64 + 1) << 10) + (1 << 20));
    assert_eq!(version.level_entries(1), 0);
    assert_eq!(
        version.level_entries(0) + version.level_entries(2),
        version.entries()
    );
    let places = version
        .tables()
        .map(|(level, order, t)| (level, order, t.meta().file.0));
    assert_eq!(
        places.collect::<Vec<_>>(),
        [(0, 9, 1), (0, 3, 2), (0, 3, 3), (2, 1, 4)]
    );
    assert!(
        version.level(0)[0].tables[0].table().is_err(),
        "a sketch has no file"
    );
}

#[test]
fn runs_stand_newest_first_whatever_order_they_are_written_in() {
    let version = Version::parse("L1.1 a-b:1\nL0.2 c-d:1 a-b:1\nL0.7 a-z:1 #40 n=7").unwrap();
    assert_eq!(
        version.to_string(),
        "L0.7 a-z:1\nL0.2 a-b:1 c-d:1\nL1.1 a-b:1\n"
    );
    assert_eq!(version.level(0)[0].tables[0].meta().file, FileId(40));
    assert_eq!(version.level(0)[0].entries(), 7);
}

#[test]
fn what_is_no_version_is_refused() {
    for text in [
        "L0 a-b:1",
        "X0.1 a-b:1",
        "L0.1 ab:1",
        "L0.1 a-b:x",
        "L0.1 t=1",
        "L0.1 b-a:1",
    ] {
        assert!(Version::parse(text).is_err(), "{text}");
    }
    let error = Version::parse("L0.1 a-c:1 c-d:1").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("tables 000001 and 000002 of run 1 overlap"),
        "{error}"
    );
    let error = Version::parse("L32.1 a-c:1").unwrap_err();
    assert!(error.to_string().contains("level is too deep"), "{error}");
}

/// The next free number was that number and 1.
#[test]
fn a_sketch_without_a_number_left_for_its_next_table_is_refused() {
    let most = u64::MAX;
    assert!(Version::parse(&format!("L0.1 a-b:1 #{most}")).is_ok());
    assert!(Version::parse(&format!("L0.1 a-b:1 #{most} c-d:1")).is_err());
}

#[test]
fn overlapping_tables_are_those_that_share_a_key_with_the_range() {
    let version = Version::parse("L1.2 a-c:1 e-g:1 k-m:1\nL1.1 b-l:1").unwrap();
    let of = |from: Option<&str>, to: Option<&str>| -> Vec<u64> {
        let tables = version.overlapping(1, from.map(str::as_bytes), to.map(str::as_bytes));
        tables.iter().map(|t| t.meta().file.0).collect()
    };
    assert_eq!(of(None, None), [1, 2, 3, 4]);
    assert_eq!(of(Some("c"), Some("e")), [1, 2, 4]);
    assert_eq!(of(Some("d"), Some("d")), [4]);
    assert_eq!(of(Some("m"), None), [3]);
    assert_eq!(of(None, Some("a")), [1]);
    assert_eq!(of(Some("n"), None), [0u64; 0]);
    assert!(version.overlapping(7, None, None).is_empty());
}

fn tables_between(keys: &[Vec<u8>]) -> SortedRun {
    let template = Version::parse("L0.1 a-a:1").unwrap().level(0)[0].tables[0]
        .meta()
        .clone();
    let tables = keys.chunks(2).zip(1..).map(|(pair, file)| {
        let mut meta = template.clone();
        meta.file = FileId(file);
        meta.summary.smallest = pair[0].clone();
        meta.summary.largest = pair[pair.len() - 1].clone();
        TableEntry::sketched(meta)
    });
    SortedRun::new(1, tables.collect()).unwrap()
}

/// Keys of few letters, behind prefixes longer than a head: many ties.
fn key() -> impl Strategy<Value = Vec<u8>> {
    (
        "(common/prefix/longer/than/16/)?",
        "[ab\0]{0,2}",
        "(0123456789abcdef)?",
        "[ab\0]{0,3}",
    )
        .prop_map(|(a, b, c, d)| [a, b, c, d].concat().into_bytes())
}

proptest! {
    /// The heads find what a walk over all tables finds.
    #[test]
    fn a_search_by_heads_finds_what_a_walk_finds(
        keys in prop::collection::btree_set(key(), 1..20), probes in prop::collection::vec(key(), 1..20)
    ) {
        let keys: Vec<_> = keys.into_iter().collect();
        let run = tables_between(&keys);
        for probe in keys.iter().chain(&probes) {
            let walk = run.tables.iter().position(|t| probe <= &t.meta().summary.largest);
            let bound = walk.unwrap_or(run.tables.len());
            prop_assert_eq!(run.lower_bound(probe), bound, "{:?}", probe);
            let found = run.tables.get(bound).filter(|t| &t.meta().summary.smallest <= probe);
            prop_assert_eq!(run.find(probe).map(|t| t.meta().file), found.map(|t| t.meta().file));
        }
    }
}

fn added(level: u8, order: u64, table: &TableEntry) -> AddedTable {
    AddedTable {
        level,
        order,
        meta: table.meta().clone(),
        fresh: false,
    }
}

#[test]
fn an_edit_makes_a_new_version_and_shares_what_it_leaves_alone() {
    let before = Version::parse("L0.9 a-m:1\nL0.3 a-b:1 e-e:1\nL2.1 a-d:1").unwrap();
    let other = Version::parse("L0.1 x-y:5 #50").unwrap();
    let new = &other.level(0)[0].tables[0];
    let mut edit = KeyspaceEdit {
        removed: vec![(0, FileId(1)), (0, FileId(2))],
        ..Default::default()
    };
    let moved = &before.level(0)[1].tables[0];
    edit.added = vec![added(1, 3, moved), added(2, 1, new)];
    let (after, removed) = before
        .edited(&edit, |meta, _| TableEntry::sketched(meta.clone()))
        .unwrap();
    assert_eq!(
        after.to_string(),
        "L0.3 e-e:1\nL1.3 a-b:1\nL2.1 a-d:1 x-y:5\n"
    );
    assert_eq!(removed.len(), 1, "the moved one is not removed");
    assert!(
        std::ptr::eq(&*after.level(1)[0].tables[0], &**moved),
        "a move keeps the open table"
    );
    assert_eq!(before.runs(), 3, "the version before is as it was");

    edit.removed[1] = (1, FileId(2));
    assert!(
        before
            .edited(&edit, |meta, _| TableEntry::sketched(meta.clone()))
            .is_err()
    );
    edit.removed.clear();
    edit.added = vec![added(0, 9, new), added(0, 9, moved)];
    let error = before
        .edited(&edit, |meta, _| TableEntry::sketched(meta.clone()))
        .unwrap_err();
    assert!(error.to_string().contains("overlap"), "{error}");
}

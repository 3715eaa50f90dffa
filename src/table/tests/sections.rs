//! Index and filter where they are not mapped: in the bounds of the cache, and checked each time.

use super::damage::{assert_says_where, read_all, small_rows};
use super::*;
use crate::base::cursor::Cursor;
use std::os::unix::fs::FileExt;

/// Ways to read in which sections are copied out of the file.
const ON_THE_HEAP: [(ReadMode, Verify); 2] = [
    (ReadMode::Pread, Verify::FirstTouch),
    (ReadMode::Mmap, Verify::EveryRead),
];

/// A table of some rows: where it is, what is in it, and its size.
fn built() -> (Place, Vec<Row>, u64) {
    let (place, rows) = (Place::new(), small_rows());
    let summary = place.build(options(1024, Compression::None), &rows);
    (place, rows, summary.bytes)
}

#[test]
fn sections_of_many_tables_stay_within_the_bytes_of_the_cache() {
    let (place, rows, bytes) = built();
    for (read_mode, verify) in ON_THE_HEAP {
        let way = (read_mode, verify);
        // Room for the sections of some of the tables.
        let context = context_with(read_mode, verify, 8 << 10);
        let open = |_| place.open_fresh(bytes, &context, true);
        let tables: Vec<Arc<Table>> = (0..50).map(open).collect();
        let mut cursors: Vec<TableCursor> = tables.iter().map(Table::cursor).collect();
        for table in &tables {
            assert_eq!(read_all(table, &rows), 0, "{way:?}");
            assert!(context.cache.bytes() <= 8 << 10);
            assert!(table.kept.is_empty(), "{way:?}");
        }
        // Cursors hold what the cache has let go of meanwhile.
        for cursor in &mut cursors {
            cursor.first().unwrap();
        }
        for (key, ..) in &rows {
            for cursor in &mut cursors {
                assert_eq!(cursor.key(), key);
                cursor.next().unwrap();
            }
        }
        drop((tables, cursors));
        let left = context.cache.bytes();
        let sections = context.cache.count_sections();
        assert_eq!(
            sections, 0,
            "{way:?}: {left} bytes are left of closed tables"
        );
    }
}

#[test]
fn sections_too_large_for_the_cache_are_read_once_and_kept() {
    let (place, rows, bytes) = built();
    for (read_mode, verify) in ON_THE_HEAP {
        let way = (read_mode, verify);
        let context = context_with(read_mode, verify, 0);
        let table = place.open_fresh(bytes, &context, false);
        assert_eq!(read_all(&table, &rows), 0);
        assert!(!table.kept.is_empty(), "{way:?}");
        assert_eq!(context.cache.bytes(), 0);
    }
}

/// Also those of a table that this process has written: its copy in memory is gone by then.
#[test]
fn a_section_that_comes_again_is_checked_again() {
    for fresh in [false, true] {
        let (place, rows, bytes) = built();
        let context = context(ReadMode::Pread, Verify::FirstTouch);
        let table = place.open_fresh(bytes, &context, fresh);
        let errors = || read_all(&table, &rows);
        assert_eq!(errors(), 0);
        let file = place.writable();
        for section in [table.sections.index, table.sections.filter.unwrap()] {
            let at = section.offset + section.len / 2;
            let byte = place.bytes()[at as usize];
            file.write_all_at(&[byte ^ 4], at).unwrap();
            assert_eq!(errors(), 0, "the copy in the cache is whole");
            context.cache.remove(table.cache_key(section.offset));
            if section.offset == table.sections.index.offset {
                assert_says_where(&table.index(&mut None).unwrap_err());
                // Each get, and the cursor.
                assert_eq!(errors(), rows.len() + 1, "fresh: {fresh}");
            } else {
                assert!(table.filter(&mut None).is_none());
                assert_eq!(errors(), 0, "without a filter all is found, later");
            }
            file.write_all_at(&[byte], at).unwrap();
            assert_eq!(errors(), 0, "what is whole again is read");
        }
    }
}

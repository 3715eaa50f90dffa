//! Index and filter where they are not mapped: in the bounds of the cache, and checked each time.

use super::damage::{assert_says_where, read_all, small_rows};
use super::*;
use crate::base::cursor::Cursor;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

/// Ways to read in which sections are copied out of the file.
const ON_THE_HEAP: [(ReadMode, Verify); 2] = [
    (ReadMode::Pread, Verify::FirstTouch),
    (ReadMode::Mmap, Verify::EveryRead),
];

fn context_of(cache_bytes: u64, (read_mode, verify): (ReadMode, Verify)) -> Arc<TableContext> {
    Arc::new(TableContext {
        read_mode,
        verify,
        cache: BlockCache::new(cache_bytes),
    })
}

#[test]
fn sections_of_many_tables_stay_within_the_bytes_of_the_cache() {
    let place = Place::new();
    let rows = small_rows();
    let bytes = place.build(options(1024, Compression::None), &rows).bytes;
    for way in ON_THE_HEAP {
        // Room for the sections of some of the tables.
        let context = context_of(8 << 10, way);
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
    let place = Place::new();
    let rows = small_rows();
    let bytes = place.build(options(1024, Compression::None), &rows).bytes;
    for way in ON_THE_HEAP {
        let context = context_of(0, way);
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
        let place = Place::new();
        let rows = small_rows();
        let bytes = place.build(options(1024, Compression::None), &rows).bytes;
        let context = context_of(1 << 20, ON_THE_HEAP[0]);
        let table = place.open_fresh(bytes, &context, fresh);
        let errors = || read_all(&table, &rows);
        assert_eq!(errors(), 0);
        let path = place.0.open_read(Place::NAME).unwrap().path().to_owned();
        let file = OpenOptions::new().write(true).open(path).unwrap();
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

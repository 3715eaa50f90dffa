//! Writes of one key that depend on its value: swaps, put-if-absent, updates.

use crate::support::ROOT;
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::{Db, ErrorKind, Options};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

fn open() -> Db {
    let fs = Fs::sim(&SimFs::new(1), Path::new(ROOT));
    let options = Options::new().memory_bytes(8 << 20).background_threads(0);
    options.open_in(fs).unwrap()
}

fn entries(db: &Db) -> usize {
    db.iter().count()
}

#[test]
fn a_swap_happens_only_from_the_expected_value() {
    let db = open();
    db.put("a", "1").unwrap();
    db.compare_and_swap("a", Some(b"1"), Some(b"2")).unwrap();
    let error = db
        .compare_and_swap("a", Some(b"1"), Some(b"3"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(!error.is_retryable());
    assert_eq!(
        error.to_string(),
        "the key was not as expected: a value '2', expected a value '1'.\nNothing was written. Read \
         the key again, and decide anew."
    );
    let error = db.compare_and_swap("b", Some(b"1"), None).unwrap_err();
    assert!(
        error.to_string().contains("no value, expected a value '1'"),
        "{error}"
    );
    db.compare_and_swap("a", Some(b"2"), None).unwrap();
    assert_eq!(entries(&db), 0);
    let seqno = db.seqno();
    db.compare_and_swap("a", None, None).unwrap();
    assert_eq!(db.seqno(), seqno, "there was nothing to write");
    db.put_if_absent("a", "3").unwrap();
    let error = db.put_if_absent("a", vec![b'x'; 100]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let long = vec![b'x'; 100];
    let error = db.compare_and_swap("a", Some(&long), None).unwrap_err();
    let expected = "a value '3', expected a value of 100 bytes";
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(db.get("a").unwrap().unwrap(), b"3");
}

#[test]
fn an_update_gives_the_value_that_the_key_has_now() {
    let db = open();
    let longer = |found: Option<&[u8]>| Some([found.unwrap_or_default(), b"x"].concat());
    assert_eq!(db.update("k", longer).unwrap().unwrap(), b"x");
    assert_eq!(db.update("k", longer).unwrap().unwrap(), b"xx");
    assert_eq!(db.update("k", |_| None).unwrap(), None);
    assert_eq!(db.get("k").unwrap(), None);
    let seqno = db.seqno();
    assert_eq!(db.update("k", |_| None).unwrap(), None);
    assert_eq!(db.seqno(), seqno, "there was nothing to write");
}

#[test]
fn of_many_that_put_what_is_absent_one_succeeds() {
    let db = open();
    let won = AtomicU32::new(0);
    for round in 0..100u32 {
        std::thread::scope(|scope| {
            for n in 0..4u8 {
                let (db, won) = (&db, &won);
                scope.spawn(move || match db.put_if_absent(round.to_be_bytes(), [n]) {
                    Ok(()) => drop(won.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                });
            }
        });
    }
    assert_eq!(won.into_inner(), 100);
}

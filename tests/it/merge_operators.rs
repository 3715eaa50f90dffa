//! Merge operators: which a keyspace has, what one of the caller's may do, and what is kept when it
//! fails or is not there.

use crate::merges::{all, keyspace, open, options, text};
use crate::support::ROOT;
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::merge::{self, MergeOperator};
use alluvium::{Db, ErrorKind, KeyspaceOptions, Options, WriteBatch, WriteOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_keyspace_without_an_operator_refuses_merges() {
    let db = open(&SimFs::new(1), Options::new().background_threads(0));
    let error = db.merge("k", "1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(
        error.to_string().contains("has no merge operator"),
        "{error}"
    );
    let mut batch = WriteBatch::new();
    batch.put(&db, "other", "x");
    batch.merge(&db, "k", "1");
    let error = db.write(&batch, WriteOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(db.iter().count(), 0, "nothing of the batch was written");
    let mut tx = db.begin();
    tx.merge(&db, "k", "1");
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn operands_that_the_operator_refuses_stay_until_they_are_replaced() {
    let db = open(&SimFs::new(1), options(merge::COUNTER));
    db.merge("k", "not a number").unwrap();
    db.merge("other", 1i64.to_le_bytes()).unwrap();
    for _ in 0..2 {
        let error = db.get("k").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("'counter' refuses"), "{error}");
        assert_eq!(db.get("other").unwrap().unwrap(), 1i64.to_le_bytes());
        db.compact().unwrap();
    }
    db.put("k", 7i64.to_le_bytes()).unwrap();
    db.compact().unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), 7i64.to_le_bytes());
}

/// Numbers as text, the greater of which wins.
struct Greatest;

impl MergeOperator for Greatest {
    fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u64>().ok();
        let all = base.into_iter().chain(operands.iter().copied()).map(number);
        let all: Option<Vec<u64>> = all.collect();
        Some(all?.into_iter().max()?.to_string().into_bytes())
    }
}

#[test]
fn an_operator_of_ones_own_needs_no_way_to_combine() {
    let sim = SimFs::new(1);
    let own = || options("greatest").merge_operator("greatest", Greatest);
    let db = open(&sim, own());
    for n in ["7", "12", "3"] {
        db.merge("k", n).unwrap();
        db.flush().unwrap();
    }
    assert_eq!(all(&db), "k=12");
    db.compact().unwrap();
    assert_eq!(all(&db), "k=12");
    db.close().unwrap();

    // Without it nothing is lost, and nothing is folded.
    let sim = sim.kill();
    let db = open(&sim, options("greatest"));
    db.merge("k", "20").unwrap();
    let error = db.get("k").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("'greatest' is not registered"),
        "{error}"
    );
    db.compact().unwrap();
    db.close().unwrap();
    let db = open(&sim.kill(), own());
    assert_eq!(all(&db), "k=20");
}

#[test]
fn the_operator_of_a_keyspace_cannot_change() {
    let sim = SimFs::new(1);
    open(&sim, options(merge::APPEND)).close().unwrap();
    let sim = sim.kill();
    let other = options(merge::MAX).open_in(Fs::sim(&sim, Path::new(ROOT)));
    let error = other.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("merge_operator"), "{error}");
    let unset = Options::new().background_threads(0);
    let db = open(&sim, unset);
    db.merge("k", "a").unwrap();
    assert_eq!(
        db.get("k").unwrap().unwrap(),
        b"a",
        "the stored name is taken"
    );
}

#[test]
fn a_keyspace_without_an_operator_can_be_given_one_and_keeps_it() {
    let sim = SimFs::new(1);
    let plain = || Options::new().background_threads(0);
    let appending = || KeyspaceOptions::new().merge_operator(merge::APPEND);
    let db = open(&sim, plain());
    let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
    orders.put("k", "a").unwrap();
    assert!(orders.merge("k", "b").is_err());
    let snapshot = db.snapshot();
    // The same keyspace, now with one; the handle that was there has it too.
    db.keyspace("orders", appending()).unwrap();
    orders.merge("k", "b").unwrap();
    assert_eq!(orders.get("k").unwrap().unwrap(), b"ab");
    assert_eq!(snapshot.keyspace(&orders).get("k").unwrap().unwrap(), b"a");
    let other = KeyspaceOptions::new().merge_operator(merge::MAX);
    let error = db.keyspace("orders", other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    drop(snapshot);
    db.close().unwrap();

    let db = open(&sim, plain().default_keyspace(appending()));
    let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
    orders.merge("k", "c").unwrap();
    assert_eq!(orders.get("k").unwrap().unwrap(), b"abc");
    db.merge("k", "x").unwrap();
    db.close().unwrap();
    let db = open(&sim, plain());
    assert_eq!(db.get("k").unwrap().unwrap(), b"x", "the default one too");
}

/// Appends; panics over a key that begins with `!`, if it is told to.
struct Touchy(bool);

impl MergeOperator for Touchy {
    fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        assert!(!(self.0 && key.starts_with(b"!")), "a bug of the operator");
        Some([base.unwrap_or_default(), &operands.concat()].concat())
    }

    fn combine(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        self.merge(key, None, operands)
    }
}

#[test]
fn an_operator_that_panics_costs_its_own_keys_and_no_more() {
    let sim = SimFs::new(1);
    let touchy = |panics| options("touchy").merge_operator("touchy", Touchy(panics));
    let db = open(&sim, touchy(true));
    for key in ["!bad", "good"] {
        db.put(key, "a").unwrap();
        db.flush().unwrap();
        db.merge(key, "b").unwrap();
        db.merge(key, "c").unwrap();
    }
    let check = |db: &Db| {
        let errors = [
            db.get("!bad").map(|_| ()).unwrap_err(),
            db.get_many(["good", "!bad"]).map(|_| ()).unwrap_err(),
            db.get_with("!bad", |_| ()).unwrap_err(),
            db.iter().next().unwrap().map(|_| ()).unwrap_err(),
            db.iter().rev().nth(1).unwrap().map(|_| ()).unwrap_err(),
            db.put_if_absent("!bad", "x").unwrap_err(),
            db.update("!bad", |_| None).map(|_| ()).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            let text = error.to_string();
            assert!(text.contains("'touchy' panicked"), "{text}");
            assert!(text.contains("!bad"), "{text}");
        }
        assert_eq!(db.get("good").unwrap().unwrap(), b"abc");
        let mut cursor = db.cursor();
        assert!(cursor.seek(b"!bad").is_err());
        assert!(cursor.next().is_err(), "it says so until it is placed anew");
        cursor.seek(b"g").unwrap();
        assert_eq!(cursor.entry(), Some((&b"good"[..], &b"abc"[..])));
    };
    check(&db);
    db.flush().unwrap();
    check(&db);
    db.compact().unwrap();
    check(&db);
    assert!(db.verify().unwrap().problems.is_empty());
    db.close().unwrap();
    let db = open(&sim, touchy(false));
    assert_eq!(all(&db), "!bad=abc good=abc", "nothing of it was lost");
    db.compact().unwrap();
    assert_eq!(all(&db), "!bad=abc good=abc");
}

/// Counts what it is asked, and cannot combine.
struct Counting(Arc<AtomicUsize>);

impl MergeOperator for Counting {
    fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Some(
            (base.map_or(0, <[u8]>::len) + operands.len())
                .to_string()
                .into_bytes(),
        )
    }
}

/// Ten times the operands take about ten times as long, wherever they lie; and the operator is asked
/// once.
#[test]
fn a_long_row_of_operands_is_read_in_linear_time() {
    const LEN: usize = 100_000;
    let asked = Arc::new(AtomicUsize::new(0));
    let sim = SimFs::new(1);
    let counting = options("counting")
        .memory_bytes(256 << 20)
        .log_segment_bytes(64 << 20)
        .merge_operator("counting", Counting(Arc::clone(&asked)))
        .default_keyspace(keyspace("counting").write_buffer_bytes(64 << 20));
    let db = open(&sim, counting);
    // At the bottom, so that nothing is folded into it before everything comes together.
    db.put("k", "").unwrap();
    db.put("z", "").unwrap();
    db.compact().unwrap();
    let mut batch = WriteBatch::new();
    for _ in 0..LEN {
        batch.merge(&db, "k", "x");
    }
    db.write(&batch, WriteOptions::default()).unwrap();
    let expected = LEN.to_string();
    let check = || {
        let begin = Instant::now();
        asked.store(0, Ordering::Relaxed);
        let value = |found: Option<alluvium::Slice>| text(&found.unwrap());
        assert_eq!(value(db.get("k").unwrap()), expected);
        let entry = db.iter().next().map(|entry| entry.unwrap().1);
        assert_eq!(value(entry), expected);
        let entry = db.range(.."l").next_back().map(|entry| entry.unwrap().1);
        assert_eq!(value(entry), expected);
        assert_eq!(asked.load(Ordering::Relaxed), 3, "one question a read");
        // Quadratic would be minutes.
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{:?}",
            begin.elapsed()
        );
    };
    check();
    db.flush().unwrap();
    assert_eq!(
        db.stats().keyspaces[0].levels[0].entries(),
        LEN as u64,
        "they cannot be put together without the value"
    );
    check();
    let mut tx = db.begin();
    let begin = Instant::now();
    let _savepoint = tx.savepoint();
    for _ in 0..LEN {
        tx.merge(&db, "z", "x");
    }
    assert_eq!(text(&tx.get(&db, "z").unwrap().unwrap()), expected);
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    drop(tx);
    db.compact().unwrap();
    assert_eq!(text(&db.get("k").unwrap().unwrap()), expected);
}

//! The feed of committed batches: `Db::changes_since`.

use crate::support::{ROOT, TempDir, names_ending, quiet_options};
use alluvium::fs::sim::{CallKind, Family, Fault, FaultRule, FileClass, SimFs};
use alluvium::fs::{FileName, Fs};
use alluvium::{
    Change, Changed, Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, Options, SeqNo,
    WriteBatch, WriteOptions,
};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

/// Segments of 16 KiB, of which many are kept.
fn options() -> Options {
    quiet_options(KeyspaceOptions::new())
        .log_segment_bytes(16 << 10)
        .changes_bytes(1 << 30)
}

fn open(sim: &SimFs) -> Db {
    options().open_sim(sim, ROOT).unwrap()
}

fn other(db: &Db) -> Keyspace {
    let counted = KeyspaceOptions::new().merge_operator("counter");
    db.keyspace("other", counted).unwrap()
}

/// A change in one line.
fn told(change: &Change) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let lines = change.operations().map(|(keyspace, changed)| {
        let what = match changed {
            Changed::Put { key, value, .. } => format!("{}={}", text(key), text(value)),
            Changed::Delete { key } => format!("-{}", text(key)),
            Changed::Merge { key, operand } => format!("{}+{}", text(key), text(operand)),
            Changed::DeleteRange { start, end } => {
                format!("-{}..{}", text(start), end.map(text).unwrap_or_default())
            }
            Changed::Load => "loaded".to_owned(),
            other => panic!("{other:?}"),
        };
        format!("{keyspace} {what}")
    });
    lines.collect::<Vec<_>>().join(", ")
}

fn all_since(db: &Db, since: u64) -> Vec<String> {
    let changes = db.changes_since(SeqNo::new(since)).unwrap();
    changes.map(|change| told(&change.unwrap())).collect()
}

/// What is said to one who is too late.
#[track_caller]
fn assert_too_late(answer: alluvium::Result<impl std::fmt::Debug>) {
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("not kept any more"), "{error}");
}

/// The error that a feed from there meets, if it can begin.
fn error_since(db: &Db, since: SeqNo) -> alluvium::Result<()> {
    for change in db.changes_since(since)? {
        change?;
    }
    Ok(())
}

/// Losses of power after which some of what was not synced is there.
const PARTS_LOST: [Family; 4] = [
    Family::Nothing,
    Family::OneLost,
    Family::OneKept,
    Family::Prefixes,
];

#[test]
fn each_batch_is_told_whole_and_in_order() {
    let db = open(&SimFs::new(1));
    let other = other(&db);
    let start = db.seqno();
    db.put("a", "1").unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&db, "b", "2");
    batch.delete(&other, "a");
    batch.merge(&other, "n", 1i64.to_le_bytes());
    batch.delete_range(&db, "c".."f");
    batch.delete_range(&other, "x"..);
    let seqno = db.write(&batch, WriteOptions::new()).unwrap();
    db.delete("b").unwrap();
    let changes: Vec<Change> = db
        .changes_since(start)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let lines: Vec<String> = changes.iter().map(told).collect();
    assert_eq!(
        lines,
        [
            "default a=1",
            "default b=2, other -a, other n+\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00, default -c..f, \
             other -x..",
            "default -b"
        ]
    );
    assert_eq!(changes[1].seqno(), seqno, "as the write said");
    assert_eq!(all_since(&db, seqno.get()), ["default -b"]);
    // From the middle of a batch on it comes whole.
    assert_eq!(all_since(&db, seqno.get() - 1).len(), 2);
    assert!(all_since(&db, db.seqno().get()).is_empty());
}

#[test]
fn a_snapshot_and_what_is_told_behind_it_make_what_is_there() {
    let db = open(&SimFs::new(2));
    for n in 0..100 {
        db.put(format!("{:02}", n % 37), format!("{n}")).unwrap();
    }
    let snapshot = db.snapshot();
    let mut copy: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = snapshot
        .iter()
        .map(|entry| entry.unwrap())
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect();
    for n in 0..100 {
        match n % 3 {
            0 => db.delete(format!("{:02}", n % 41)).unwrap(),
            _ => db
                .put(format!("{:02}", n % 43), format!("later {n}"))
                .unwrap(),
        };
    }
    for change in db.changes_since(snapshot.seqno()).unwrap() {
        for (_, changed) in change.unwrap().operations() {
            match changed {
                Changed::Put { key, value, .. } => copy.insert(key.to_vec(), value.to_vec()),
                Changed::Delete { key } => copy.remove(key),
                other => panic!("{other:?}"),
            };
        }
    }
    let entries = db.iter().map(|entry| entry.unwrap());
    assert!(entries.eq(copy.into_iter().map(|(k, v)| (k.into(), v.into()))));
}

#[test]
fn a_feed_that_came_to_its_end_goes_on_there() {
    let db = open(&SimFs::new(3));
    let mut feed = db.changes_since(SeqNo::ZERO).unwrap();
    assert!(feed.next().is_none());
    for n in 0..300 {
        db.put("k", format!("{n:0>200}")).unwrap();
        let seqno = db.seqno();
        if n % 7 == 0 {
            db.flush().unwrap();
        }
        let change = feed.next().unwrap().unwrap();
        assert_eq!(told(&change), format!("default k={n:0>200}"));
        assert_eq!((change.seqno(), feed.seqno()), (seqno, seqno));
        assert!(feed.next().is_none());
    }
}

#[test]
fn when_a_value_expires_is_told() {
    let sim = SimFs::new(4);
    let db = open(&sim);
    let ttl = WriteOptions::new().ttl(Duration::from_secs(60));
    db.put_with("k", "v", ttl).unwrap();
    let change = db
        .changes_since(SeqNo::ZERO)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let (_, changed) = change.operations().next().unwrap();
    let Changed::Put {
        expires_ms, value, ..
    } = changed
    else {
        panic!("{changed:?}");
    };
    assert_eq!(value, b"v");
    let since_1970 = Fs::sim(&sim, Path::new(ROOT)).env().wall_ms() + 60_000;
    assert_eq!(expires_ms, Some(since_1970));
}

#[test]
fn long_records_and_writes_in_groups_are_told_too() {
    let dir = TempDir::new("feed-long");
    let options = Options::new().changes_bytes(1 << 30).memory_bytes(64 << 20);
    let db = options.open(dir.path()).unwrap();
    let value = "long ".repeat(100_000);
    db.put("long", &value).unwrap();
    let synced = WriteOptions::new().durability(Durability::Synced);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let db = &db;
            scope.spawn(move || {
                for n in 0..50 {
                    db.put_with(format!("{thread}"), format!("{n}"), synced)
                        .unwrap();
                }
            });
        }
    });
    let lines = all_since(&db, 0);
    assert_eq!(lines.len(), 201);
    assert_eq!(lines[0], format!("default long={value}"));
    for thread in 0..4 {
        let prefix = format!("default {thread}=");
        let own = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
        assert!(own.eq((0..50).map(|n| n.to_string()).collect::<Vec<_>>()));
    }
}

#[test]
fn beside_writers_flushes_and_compactions_none_is_left_out() {
    let dir = TempDir::new("feed-beside");
    let small = KeyspaceOptions::new().write_buffer_bytes(64 << 10);
    let options = Options::new()
        .changes_bytes(1 << 30)
        .log_segment_bytes(256 << 10)
        .default_keyspace(small);
    let db = options.open(dir.path()).unwrap();
    let writes = 20_000u64;
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let db = &db;
            scope.spawn(move || {
                for n in 0..writes {
                    db.put(format!("{thread}-{}", n % 100), n.to_le_bytes())
                        .unwrap();
                }
            });
        }
        let mut feed = db.changes_since(SeqNo::ZERO).unwrap();
        let mut next = [0u64; 2];
        while next != [writes; 2] {
            let Some(change) = feed.next() else {
                std::thread::yield_now();
                continue;
            };
            let change = change.unwrap();
            let (_, changed) = change.operations().next().unwrap();
            let Changed::Put { key, value, .. } = changed else {
                panic!("{changed:?}");
            };
            let thread = usize::from(key[0] - b'0');
            assert_eq!(value, next[thread].to_le_bytes(), "of thread {thread}");
            next[thread] += 1;
        }
        assert!(feed.next().is_none());
    });
    db.close().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Steps of a life: writes, flushes, closes, kills, and a feed that comes now and then.
    #[test]
    fn over_any_number_of_openings_none_is_told_twice_or_left_out(
        seed: u64,
        steps in proptest::collection::vec(0u8..12, 1..120),
    ) {
        let mut sim = SimFs::new(seed);
        let mut db = open(&sim);
        let (mut written, mut read, mut at) = (Vec::new(), Vec::new(), SeqNo::ZERO);
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                0 => {
                    db.close().unwrap();
                    db = open(&sim);
                }
                1 => {
                    let next = sim.kill();
                    drop(db);
                    sim = next;
                    db = open(&sim);
                }
                2 => db.flush().unwrap(),
                3 => db.compact().unwrap(),
                4 | 5 => {
                    let mut feed = db.changes_since(at).unwrap();
                    let limit = if step == 4 { 3 } else { usize::MAX };
                    read.extend(feed.by_ref().take(limit).map(|change| told(&change.unwrap())));
                    at = feed.seqno();
                }
                6 => {
                    let mut load = db.ingestion().unwrap();
                    load.add(&db, [("loaded", "x")]).unwrap();
                    load.commit().unwrap();
                    written.push("default loaded".to_owned());
                }
                _ => {
                    let value = "v".repeat(usize::from(step) * 400);
                    db.put(format!("{n}"), &value).unwrap();
                    written.push(format!("default {n}={value}"));
                }
            }
        }
        read.extend(db.changes_since(at).unwrap().map(|change| told(&change.unwrap())));
        prop_assert_eq!(&read, &written);
        prop_assert_eq!(all_since(&db, 0), written);
    }
}

#[test]
fn what_was_told_survives_every_loss_of_power() {
    let sim = SimFs::new(7);
    let db = open(&sim);
    let other = other(&db);
    let mut feed = db.changes_since(SeqNo::ZERO).unwrap();
    let mut given = Vec::new();
    for n in 0..40 {
        db.put("k", format!("{n:0>1000}")).unwrap();
        other.put("k", format!("{n}")).unwrap();
        match n % 10 {
            3 => db.flush().unwrap(),
            7 => given.extend(feed.by_ref().map(|change| told(&change.unwrap()))),
            _ => {}
        }
    }
    assert_eq!(given.len(), 76);
    for image in sim.images(&PARTS_LOST).take(60) {
        let db = open(&image.sim);
        // Not even told that it is too late: what it has is there, and it goes on behind it.
        let rest = db.changes_since(feed.seqno());
        let rest = rest.unwrap_or_else(|error| panic!("{}: {error}", image.id));
        let rest: Vec<String> = rest.map(|change| told(&change.unwrap())).collect();
        assert!(rest.len() <= 4, "{}: {rest:?}", image.id);
        let value = db.get("k").unwrap().unwrap();
        let is_told = ["37", "38", "39"]
            .iter()
            .any(|n| value.ends_with(n.as_bytes()));
        assert!(is_told, "{}: {value:?}", image.id);
    }
}

/// A flush of the only keyspace need not sync the log: a loss of power can take the log and leave the
/// table.
#[test]
fn one_who_misses_what_only_a_table_has_kept_is_told() {
    let sim = SimFs::new(8);
    let db = open(&sim);
    db.put("a", "1").unwrap();
    let from = db
        .changes_since(SeqNo::ZERO)
        .unwrap()
        .last()
        .unwrap()
        .unwrap()
        .seqno();
    db.put("b", "2").unwrap();
    db.flush().unwrap();
    let mut missed = 0;
    for image in sim.images(&PARTS_LOST).take(80) {
        let db = open(&image.sim);
        assert!(
            db.get("b").unwrap().is_some(),
            "{}: it is in a table",
            image.id
        );
        let anew = db.seqno();
        // Also when there is more behind it.
        for expected in [&["default b=2"][..], &["default b=2", "default c=3"]] {
            match error_since(&db, from) {
                Ok(()) => assert_eq!(all_since(&db, from.get()), expected, "{}", image.id),
                Err(error) => {
                    assert_too_late(Err::<(), _>(error));
                    missed += 1;
                }
            }
            db.put("c", "3").unwrap();
        }
        // From there on there is a way to go on.
        let expected = ["default c=3", "default c=3"];
        assert_eq!(all_since(&db, anew.get()), expected, "{}", image.id);
    }
    assert!(missed > 0, "no image has lost the log's end");
}

#[test]
fn as_much_is_kept_as_was_asked_for_and_who_is_too_slow_is_told() {
    let sim = SimFs::new(9);
    let options = options().changes_bytes(64 << 10);
    let db = options.clone().open_sim(&sim, ROOT).unwrap();
    let mut slow = db.changes_since(SeqNo::ZERO).unwrap();
    let mut begun = Vec::new();
    for n in 0..400 {
        db.put("k", format!("{n:0>1000}")).unwrap();
        begun.push(db.seqno());
        if n % 10 == 0 {
            db.flush().unwrap();
        }
    }
    db.flush().unwrap();
    // Four segments, the active one and its spare.
    assert!(
        names_ending(&sim, ".log").len() <= 6,
        "{} segments",
        names_ending(&sim, ".log").len()
    );
    assert_too_late(slow.next().unwrap());
    assert_too_late(slow.next().unwrap());
    assert_too_late(db.changes_since(SeqNo::ZERO));
    let kept = begun
        .iter()
        .filter(|seqno| error_since(&db, **seqno).is_ok());
    let kept = kept.count();
    assert!((40..100).contains(&kept), "{kept} of 1,000 bytes");
    let last = *begun.last().unwrap();
    let from = begun[begun.len() - 31];
    assert_eq!(all_since(&db, from.get()).len(), 30);
    // An open keeps them, one without the option removes them.
    db.close().unwrap();
    let db = options.open_sim(&sim, ROOT).unwrap();
    assert_eq!(all_since(&db, from.get()).len(), 30);
    db.close().unwrap();
    let db = quiet_options(KeyspaceOptions::new())
        .open_sim(&sim, ROOT)
        .unwrap();
    assert!(
        names_ending(&sim, ".log").len() <= 2,
        "{} segments",
        names_ending(&sim, ".log").len()
    );
    let error = db.changes_since(last).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("changes_bytes"), "{error}");
    db.close().unwrap();
    let db = open(&sim);
    assert_too_late(db.changes_since(from));
    assert!(all_since(&db, last.get()).is_empty());
}

#[test]
fn a_number_that_no_write_has_is_refused() {
    let db = open(&SimFs::new(10));
    db.put("a", "1").unwrap();
    let error = db.changes_since(db.seqno().plus(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.to_string().contains("restored"), "{error}");
}

#[test]
fn of_a_dropped_keyspace_nothing_is_told() {
    let db = open(&SimFs::new(11));
    let other = other(&db);
    let mut batch = WriteBatch::new();
    batch.put(&db, "a", "1");
    batch.put(&other, "b", "2");
    db.write(&batch, WriteOptions::new()).unwrap();
    other.put("c", "3").unwrap();
    drop(other);
    db.drop_keyspace("other").unwrap();
    assert_eq!(all_since(&db, 0), ["default a=1", ""]);
}

#[test]
fn a_load_is_told_with_its_keyspaces() {
    let sim = SimFs::new(12);
    let db = open(&sim);
    let other = other(&db);
    db.put("a", "1").unwrap();
    let mut load = db.ingestion().unwrap();
    load.add(&other, [("x", "1"), ("y", "2")]).unwrap();
    load.add(&db, [("z", "1")]).unwrap();
    let seqno = load.commit().unwrap();
    db.put("b", "2").unwrap();
    let expected = ["default a=1", "other loaded, default loaded", "default b=2"];
    assert_eq!(all_since(&db, 0), expected);
    assert_eq!(all_since(&db, seqno.get()), ["default b=2"]);
    let next = sim.kill();
    drop((db, other));
    let db = open(&next);
    assert_eq!(all_since(&db, 0), expected);
    assert_eq!(
        db.keyspace("other", KeyspaceOptions::new())
            .unwrap()
            .iter()
            .count(),
        2
    );
}

/// Nobody knows what the disk holds of a segment that could not be synced.
#[test]
fn behind_a_failure_of_the_log_one_is_told_to_read_anew() {
    let sim = SimFs::new(13);
    let db = open(&sim);
    db.put("a", "1").unwrap();
    let mut feed = db.changes_since(SeqNo::ZERO).unwrap();
    assert!(feed.next().unwrap().is_ok());
    db.put("b", "2").unwrap();
    let failed = FaultRule::new(Fault::Eio).kinds(&[CallKind::Sync]);
    sim.fail(failed.class(FileClass::Log));
    let error = feed.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    sim.heal();
    db.put("c", "3").unwrap();
    assert_too_late(feed.next().unwrap());
    let from = db.seqno();
    db.put("d", "4").unwrap();
    assert_eq!(all_since(&db, from.get()), ["default d=4"]);
}

#[test]
fn a_damaged_segment_is_named_in_the_cause() {
    let sim = SimFs::new(14);
    let db = open(&sim);
    for n in 0..40 {
        db.put("k", format!("{n:0>1000}")).unwrap();
    }
    db.flush().unwrap();
    let fs = Fs::sim(&sim, Path::new(ROOT));
    let names = names_ending(&sim, ".log");
    let oldest = &names[0];
    let mut bytes = sim.bytes(Path::new(ROOT), oldest).unwrap();
    bytes[5_000] ^= 1;
    fs.remove(FileName::parse(oldest).unwrap()).unwrap();
    sim.plant(Path::new(ROOT), oldest, &bytes);
    let error = db
        .changes_since(SeqNo::ZERO)
        .unwrap()
        .find_map(Result::err)
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(oldest.as_str()), "{cause}");
    assert!(cause.contains("damaged log record"), "{cause}");
}

/// A repair writes a log of its own when one is damaged, of what is left.
#[test]
fn after_a_repair_of_the_log_one_is_told_to_read_anew() {
    let sim = SimFs::new(15);
    let db = open(&sim);
    for value in ["1", "2", "3"] {
        db.put("k", value).unwrap();
    }
    db.sync().unwrap();
    // It vouches for what is before it.
    db.put("later", "4").unwrap();
    let next = sim.kill();
    drop(db);
    let fs = Fs::sim(&next, Path::new(ROOT));
    let first = |bytes: &[u8]| bytes.windows(4).position(|it| it == [1, b'k', 1, b'1']);
    for file in fs.list().unwrap() {
        let mut bytes = next.bytes(Path::new(ROOT), &file.name).unwrap();
        if let Some(first) = first(&bytes) {
            bytes[first] ^= 0xff;
            fs.remove(FileName::parse(&file.name).unwrap()).unwrap();
            next.plant(Path::new(ROOT), &file.name, &bytes);
        }
    }
    let report = options().repair_in(fs).unwrap();
    assert_eq!(report.losses.len(), 1, "{report:?}");
    let db = open(&next);
    assert_eq!(db.get("k").unwrap().unwrap(), b"3");
    assert_too_late(error_since(&db, SeqNo::ZERO));
    let from = db.seqno();
    db.put("c", "3").unwrap();
    assert_eq!(all_since(&db, from.get()), ["default c=3"]);
}

#[test]
fn a_feed_of_a_closed_database_says_so() {
    let db = open(&SimFs::new(16));
    db.put("a", "1").unwrap();
    let mut feed = db.changes_since(SeqNo::ZERO).unwrap();
    db.close().unwrap();
    assert_eq!(feed.next().unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

//! Slips that no other suite noticed when they were put into the engine on purpose (tests/seeded):
//! no other engine is known for them.

use super::*;
use crate::support::begin_segment;
use alluvium::SeqNo;

/// R15: a write that was reported as failed and reached the disk all the same lies behind the end
/// that the next segment states; it stays absent although every byte of it is whole.
#[test]
fn a_record_behind_the_cut_that_the_next_segment_states_is_ignored() {
    let options = options().log_mode(LogMode::Write);
    let sim = SimFs::new(15);
    let db = open(&sim, &options);
    db.put("a", "1").unwrap();
    let cut = db.stats().log.bytes;
    db.put("b", "2").unwrap();
    let next = sim.kill();
    sim.crash_at(sim.call_count());
    drop(db);
    // The next segment, as the writer would have begun it after the write of `b` had failed.
    begin_segment(&next, cut, SeqNo::new(3), &[("c", "3")]);
    let db = open(&next, &options);
    assert_eq!(text(&db), "a=1 c=3");
}

/// One keyspace is flushed again and again, and its log goes; what another has written there and
/// not flushed must not go with it.
#[test]
fn the_log_is_kept_for_the_keyspace_that_has_not_been_flushed() {
    let options = options().log_segment_bytes(4 << 10);
    let mut sim = SimFs::new(16);
    let mut db = open(&sim, &options);
    for round in 0..3 {
        let idle = db.keyspace("idle", quiet()).unwrap();
        let small = quiet().write_buffer_bytes(2 << 10);
        let writing = db.keyspace("writing", small.clone()).unwrap();
        let later = db.keyspace("later", small).unwrap();
        idle.put(format!("{round}"), "once").unwrap();
        // Four segments: fewer than the number at which idle keyspaces are flushed too.
        for n in 0..30 {
            writing.put(format!("{n:02}"), vec![b'v'; 500]).unwrap();
            if n == 15 {
                // Flushed here, so that it needs the log from here on: the older need counts.
                later.put("large", [b'v'; 3000]).unwrap();
                later.put(format!("{round}"), "once").unwrap();
            }
        }
        assert!(0 < db.stats().flushes);
        drop((idle, later, writing));
        (sim, db) = killed(&sim, db, &options);
        let idle = db.keyspace("idle", KeyspaceOptions::new()).unwrap();
        assert_eq!(idle.iter().count(), round + 1);
        let later = db.keyspace("later", KeyspaceOptions::new()).unwrap();
        assert_eq!(later.iter().count(), round + 2);
    }
    drop(sim);
}

/// A number that is visible before all of its batch is in the memtables shows the batch in part.
#[test]
fn a_batch_of_thousands_of_operations_becomes_visible_at_one_instant() {
    let sim = SimFs::new(17);
    let db = open(&sim, &options());
    let keys: Vec<_> = (0..3000u32).map(u32::to_be_bytes).collect();
    let write = |round: u32| {
        let mut batch = WriteBatch::new();
        for key in &keys {
            batch.put(&db, key, round.to_be_bytes());
        }
        db.write(&batch, WriteOptions::new()).unwrap();
    };
    write(0);
    let stop = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let snapshot = db.snapshot();
                let round = |n: usize| snapshot.get(keys[n]).unwrap().unwrap().to_vec();
                let seen = [0, 1500, 2999].map(round);
                assert!(seen.iter().all(|r| *r == seen[0]), "{seen:?}");
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 1..60 {
            write(round);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(0 < reads.into_inner());
}

/// R8: whatever a power loss leaves of a flush, every log segment that the manifest lists is there.
#[test]
fn a_segment_is_on_the_disk_for_as_long_as_the_manifest_lists_it() {
    let options = options().log_segment_bytes(4 << 10);
    let work = |sim: &SimFs| {
        let Ok(db) = options.clone().open_in(Fs::sim(sim, Path::new(ROOT))) else {
            return;
        };
        for n in 0..30 {
            drop(db.put(format!("k{n:02}"), [b'v'; 700]));
        }
        drop(db.flush());
        drop(db.close());
    };
    let sim = SimFs::new(18);
    work(&sim);
    let calls = sim.call_count();
    for call in calls / 2..calls {
        let sim = SimFs::new(18);
        sim.crash_at(call);
        work(&sim);
        for image in sim.images(&[Family::Nothing, Family::Removals, Family::Everything]) {
            let db = open(&image.sim, &options);
            let report = db.verify().unwrap();
            assert!(report.problems.is_empty(), "call {call}, {}", image.id);
        }
    }
}

/// I6: a flush of one keyspace never outlives, on the disk, the log that holds another's share of
/// the same batches.
#[test]
fn a_batch_over_two_keyspaces_is_whole_although_only_one_of_them_was_flushed() {
    let sim = SimFs::new(19);
    let flushing = quiet().write_buffer_bytes(2 << 10);
    let options = options().default_keyspace(flushing);
    let db = open(&sim, &options);
    let waiting = db.keyspace("waiting", quiet()).unwrap();
    let mut most = 0;
    for n in 0..12 {
        let mut batch = WriteBatch::new();
        batch.put(&db, format!("k{n:02}"), [1; 500]);
        batch.put(&waiting, format!("k{n:02}"), [2; 500]);
        db.write(&batch, WriteOptions::new()).unwrap();
        for image in sim.images(&[Family::Nothing, Family::DataOrNames]) {
            let db = open(&image.sim, &options);
            let waiting = db.keyspace("waiting", KeyspaceOptions::new()).unwrap();
            let counts = [db.iter().count(), waiting.iter().count()];
            assert_eq!(counts[0], counts[1], "batch {n}, {}", image.id);
            most = most.max(counts[0]);
        }
    }
    assert!(4 < most && 1 < db.stats().flushes, "some of it is durable");
}

/// I7: a batch that is larger than a memtable goes into one all the same.
#[test]
fn a_batch_that_fills_memtables_is_durable_whole_or_not_at_all() {
    let options = options().default_keyspace(quiet().write_buffer_bytes(2 << 10));
    let work = |sim: &SimFs| {
        let db = open(sim, &options);
        let opened = sim.call_count();
        let mut batch = WriteBatch::new();
        for n in 0..30 {
            batch.put(&db, format!("k{n:02}"), [1; 300]);
        }
        (opened, db.write(&batch, WriteOptions::new()).is_ok())
    };
    let sim = SimFs::new(20);
    let (opened, written) = work(&sim);
    assert!(written);
    let mut counts = std::collections::BTreeSet::new();
    for call in opened..=sim.call_count() {
        let sim = SimFs::new(20);
        sim.crash_at(call);
        work(&sim);
        for image in sim.images(&[Family::Nothing, Family::Everything, Family::OneLost]) {
            counts.insert(open(&image.sim, &options).iter().count());
        }
    }
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [0, 30]);
}

/// R5: behind a torn tail the log goes on in a new segment, which is found at the next opening.
#[test]
fn writes_behind_a_torn_tail_are_found_again() {
    let options = options().log_mode(LogMode::Write);
    let sim = SimFs::new(21);
    let db = open(&sim, &options);
    db.put_with("a", "1", synced()).unwrap();
    db.put("b", vec![b'x'; 3000]).unwrap();
    let mut torn = 0;
    for image in sim.images(&[Family::Torn]) {
        let db = open(&image.sim, &options);
        torn += u32::from(db.open_report().torn.is_some());
        db.put_with("c", "3", synced()).unwrap();
        for again in image.sim.images(&[Family::Nothing, Family::Everything]) {
            let db = open(&again.sim, &options);
            assert_eq!(db.get("a").unwrap().unwrap(), b"1", "{}", image.id);
            assert_eq!(db.get("c").unwrap().unwrap(), b"3", "{}", image.id);
        }
    }
    assert!(3 < torn, "{torn} tails were torn");
}

//! Power loss at every call of a script, and again inside the recovery from it.
//!
//! A script drives a database in the simulator and records the order of its batches, which of
//! them were acknowledged, and how far they were known to be synced. It is run again and again,
//! each time cut off one mutating call later; then every disk that the power loss may leave is
//! opened. What is found must be a prefix of the write order (P2, P3) that holds everything synced
//! (P1); opening needs no tool (P4) and leaves a tidy directory (P5); numbers go on above those of
//! before (P6). `CRASH_IMAGES_PER_CALL` bounds the images of one call (default 40).

use crate::support::ROOT;
use alluvium::fs::Fs;
use alluvium::fs::sim::{Family, SimFs};
use alluvium::{
    CompactionStyle, Db, Durability, Keyspace, KeyspaceOptions, LogMode, Options, ReadMode, Result,
    WriteBatch, WriteOptions,
};
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

type Contents = BTreeMap<(String, Vec<u8>), Vec<u8>>;
type Change = (&'static str, Vec<u8>, Option<Vec<u8>>);

/// What a script did, in write order.
#[derive(Default)]
struct History {
    batches: Vec<Vec<Change>>,
    /// Batches acknowledged.
    acknowledged: usize,
    /// Batches known to be synced.
    synced: usize,
    /// The highest sequence number given out.
    seqno: u64,
}

impl History {
    /// The contents after the first `n` batches.
    fn after(&self, n: usize) -> Contents {
        let mut contents = Contents::new();
        for (space, key, value) in self.batches[..n].iter().flatten() {
            let place = (space.to_string(), key.clone());
            match value {
                Some(value) => contents.insert(place, value.clone()),
                None => contents.remove(&place),
            };
        }
        contents
    }
}

/// A database under a script.
struct Run<'a> {
    sim: &'a SimFs,
    options: Options,
    db: Option<Db>,
    history: History,
}

const SPACES: [&str; 2] = ["default", "orders"];

fn tiny() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .write_buffer_bytes(2 << 10)
        .block_bytes(256)
        .table_bytes(1 << 10)
        .level0_runs(2)
        .tier_runs(2)
        .size_ratio(2)
}

fn base_options() -> Options {
    Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(8 << 10)
        .background_threads(0)
        .default_keyspace(tiny())
}

impl Run<'_> {
    fn open(&mut self) -> Result<()> {
        self.db = None;
        let fs = Fs::sim(self.sim, Path::new(ROOT));
        self.db = Some(self.options.clone().open_in(fs)?);
        self.db().keyspace("orders", tiny())?;
        Ok(())
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("a script opens first")
    }

    fn space(&self, name: &str) -> Result<Keyspace> {
        self.db().keyspace(name, KeyspaceOptions::new())
    }

    fn write(&mut self, durability: Durability, changes: Vec<Change>) -> Result<()> {
        let mut batch = WriteBatch::new();
        for (space, key, value) in &changes {
            match value {
                Some(value) => batch.put(&self.space(space)?, key, value),
                None => batch.delete(&self.space(space)?, key),
            }
        }
        self.history.batches.push(changes);
        let seqno = self
            .db()
            .write(&batch, WriteOptions::new().durability(durability))?;
        self.still_running()?;
        self.history.seqno = seqno.get();
        self.history.acknowledged = self.history.batches.len();
        if durability == Durability::Synced {
            self.history.synced = self.history.batches.len();
        }
        Ok(())
    }

    /// A store through a mapping cannot fail: whoever made it last is dead all the same, and what
    /// came after was never acknowledged to anybody.
    fn still_running(&self) -> Result<()> {
        match self.sim.is_crashed() {
            true => Fs::sim(self.sim, Path::new(ROOT)).sync_dir(),
            false => Ok(()),
        }
    }

    fn put(&mut self, space: &'static str, n: u32, len: usize) -> Result<()> {
        let value = vec![n as u8; len];
        self.write(Durability::Logged, vec![(space, key(n), Some(value))])
    }

    fn sync(&mut self) -> Result<()> {
        self.db().sync()?;
        self.still_running()?;
        self.history.synced = self.history.acknowledged;
        Ok(())
    }

    /// `flush` makes tables durable, and with them everything before.
    fn flush(&mut self) -> Result<()> {
        self.db().flush()?;
        self.still_running()?;
        self.history.synced = self.history.acknowledged;
        Ok(())
    }
}

fn key(n: u32) -> Vec<u8> {
    format!("key/{:03}", n % 37).into_bytes()
}

type Script = fn(&mut Run<'_>) -> Result<()>;

fn puts_and_deletes(run: &mut Run<'_>) -> Result<()> {
    run.open()?;
    for n in 0..60 {
        run.put("default", n, 20 + n as usize % 50)?;
        if n % 7 == 0 {
            run.write(Durability::Logged, vec![("default", key(n / 2), None)])?;
        }
        if n % 25 == 24 {
            run.sync()?;
        }
    }
    Ok(())
}

fn batches_over_keyspaces(run: &mut Run<'_>) -> Result<()> {
    run.open()?;
    for n in 0..40u32 {
        let changes = (0..n % 5 + 1)
            .map(|i| {
                (
                    SPACES[(n + i) as usize % 2],
                    key(n * 3 + i),
                    Some(vec![n as u8; 60]),
                )
            })
            .collect();
        let durability = if n % 4 == 1 {
            Durability::Synced
        } else {
            Durability::Logged
        };
        run.write(durability, changes)?;
    }
    Ok(())
}

fn segments_rotate_and_are_recycled(run: &mut Run<'_>) -> Result<()> {
    run.open()?;
    for n in 0..120 {
        run.put(SPACES[n as usize % 2], n, 300)?;
        if n % 40 == 39 {
            run.write(Durability::Synced, vec![("orders", key(n), None)])?;
        }
    }
    Ok(())
}

fn flushes_and_compactions(run: &mut Run<'_>) -> Result<()> {
    run.open()?;
    for n in 0..48 {
        run.put("default", n * 5, 100)?;
        if n % 12 == 11 {
            run.flush()?;
        }
        if n % 24 == 23 {
            run.write(Durability::Logged, vec![("default", key(n), None)])?;
            run.db().compact()?;
            // A compaction flushes first.
            run.history.synced = run.history.acknowledged;
        }
    }
    Ok(())
}

fn reopenings(run: &mut Run<'_>) -> Result<()> {
    for round in 0..4u32 {
        run.open()?;
        for n in 0..12 {
            run.put(SPACES[n as usize % 2], round * 7 + n, 90)?;
        }
        match round % 3 {
            0 => {
                let db = run.db.take().expect("open");
                db.close()?;
                run.history.synced = run.history.acknowledged;
            }
            1 => run.flush()?,
            _ => {}
        }
    }
    Ok(())
}

fn large_batches(run: &mut Run<'_>) -> Result<()> {
    run.open()?;
    for n in 0..6u32 {
        run.put("default", n, 50)?;
        let changes = (0..20)
            .map(|i| (SPACES[i as usize % 2], key(i), Some(vec![n as u8; 900])))
            .collect();
        let durability = if n % 2 == 0 {
            Durability::Synced
        } else {
            Durability::Logged
        };
        run.write(durability, changes)?;
    }
    Ok(())
}

fn keyspaces_come_and_go(run: &mut Run<'_>) -> Result<()> {
    run.open()?;
    for n in 0..12u32 {
        let name = format!("extra-{}", n % 3);
        let extra = run.db().keyspace(&name, tiny())?;
        extra.put("k", "not part of the history")?;
        run.history.seqno = run.db().seqno().get();
        run.put("orders", n, 200)?;
        if n % 4 == 3 {
            run.db().drop_keyspace(&name)?;
            run.sync()?;
        }
    }
    Ok(())
}

/// What a database holds in the keyspaces of the history.
fn contents(db: &Db) -> Contents {
    let mut found = Contents::new();
    for name in SPACES {
        let space = db.keyspace(name, KeyspaceOptions::new()).expect("open");
        for entry in space.iter() {
            let (key, value) = entry.expect("a good disk reads well");
            found.insert((name.to_owned(), key.to_vec()), value.to_vec());
        }
    }
    found
}

fn fingerprint(sim: &SimFs) -> u64 {
    let mut hasher = DefaultHasher::new();
    let fs = Fs::sim(sim, Path::new(ROOT));
    for entry in fs.list().unwrap_or_default() {
        entry.name.hash(&mut hasher);
        sim.bytes(Path::new(ROOT), &entry.name).hash(&mut hasher);
    }
    hasher.finish()
}

/// The tally of a whole suite.
#[derive(Default)]
struct Tally {
    unique: HashSet<u64>,
    opened: u64,
    inside_recovery: u64,
}

/// Opens an image and checks P1 to P6; gives what it holds and how many calls opening made.
fn check_image(sim: &SimFs, options: &Options, history: &History, what: &str) -> (Contents, u64) {
    let fs = Fs::sim(sim, Path::new(ROOT));
    let before = sim.call_count();
    let db = options
        .clone()
        .open_in(fs)
        .unwrap_or_else(|e| panic!("P4: {what}: {e}"));
    let calls = sim.call_count() - before;
    let found = contents(&db);
    let most = history.batches.len();
    let prefix = (history.synced..=most).find(|&n| history.after(n) == found);
    assert!(
        prefix.is_some(),
        "P1, P2, P3: {what}: what is there is no prefix of {most} batches with the first {} in it",
        history.synced
    );
    let live: HashSet<String> = db
        .stats()
        .keyspaces
        .iter()
        .flat_map(|k| {
            k.levels
                .iter()
                .flat_map(|l| &l.runs)
                .flat_map(|r| &r.tables)
        })
        .map(|t| format!("{:06}.tbl", t.file))
        .collect();
    let names: Vec<String> = Fs::sim(sim, Path::new(ROOT))
        .list()
        .expect("list")
        .into_iter()
        .map(|e| e.name)
        .collect();
    for name in &names {
        let is_known = name == "LOCK"
            || name == "CURRENT"
            || name.ends_with(".log")
            || name.ends_with(".manifest")
            || live.contains(name);
        assert!(is_known, "P5: {what}: {name} among {names:?}");
    }
    assert_eq!(
        names.iter().filter(|n| n.ends_with(".manifest")).count(),
        1,
        "P5: {what}"
    );
    db.put("after", "the crash")
        .unwrap_or_else(|e| panic!("P4: {what}: {e}"));
    assert!(history.seqno < db.seqno().get(), "P6: {what}");
    (found, calls)
}

fn images_per_call() -> usize {
    std::env::var("CRASH_IMAGES_PER_CALL")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(40)
}

fn enumerate(name: &str, options: Options, script: Script) {
    let mut tally = Tally::default();
    let start = |crash_at: Option<u64>| {
        let sim = SimFs::new(11);
        if let Some(call) = crash_at {
            sim.crash_at(call);
        }
        let mut run = Run {
            sim: &sim,
            options: options.clone(),
            db: None,
            history: History::default(),
        };
        let result = script(&mut run);
        let Run { db, history, .. } = run;
        if crash_at.is_none() {
            result.expect("the script runs through on a good disk");
        }
        (sim.clone(), db, history)
    };
    let calls = {
        let (sim, _db, _) = start(None);
        sim.call_count()
    };
    for call in 0..calls {
        let (sim, db, history) = start(Some(call));
        let images = sim.images(&Family::ALL);
        drop(db);
        for (n, image) in images.enumerate() {
            if images_per_call() <= n {
                break;
            }
            if !tally.unique.insert(fingerprint(&image.sim)) {
                continue;
            }
            tally.opened += 1;
            let what = format!("{name}, power loss at call {call}, {}", image.id);
            let twin = image.sim.kill();
            let (found, opening) = check_image(&image.sim, &options, &history, &what);
            if tally.opened % 97 == 0 {
                crash_inside_open(
                    &twin, &options, &history, &found, opening, &what, &mut tally,
                );
            }
        }
    }
    println!(
        "crash enumeration: {name}: {calls} calls, {} unique images, {} inside recovery",
        tally.unique.len(),
        tally.inside_recovery
    );
    assert!(1 < tally.unique.len());
}

/// Cuts the power at every call of opening an image: afterwards it opens to the same contents.
fn crash_inside_open(
    image: &SimFs,
    options: &Options,
    history: &History,
    expected: &Contents,
    calls: u64,
    what: &str,
    tally: &mut Tally,
) {
    for call in 0..calls {
        let sim = image.kill();
        sim.crash_at(call);
        let opened = options.clone().open_in(Fs::sim(&sim, Path::new(ROOT)));
        let images = sim.images(&[Family::Nothing, Family::Everything, Family::Prefixes]);
        drop(opened);
        for again in images.take(4) {
            tally.inside_recovery += 1;
            let what = format!("{what}, then at call {call} of opening, {}", again.id);
            let (found, _) = check_image(&again.sim, options, history, &what);
            assert!(
                &found == expected,
                "P4: {what}: a second crash changes nothing"
            );
        }
    }
}

#[test]
fn power_loss_during_puts_and_deletes() {
    enumerate("puts and deletes", base_options(), puts_and_deletes);
}

#[test]
fn power_loss_during_batches_over_keyspaces() {
    enumerate(
        "batches over keyspaces",
        base_options(),
        batches_over_keyspaces,
    );
}

#[test]
fn power_loss_during_batches_with_a_written_log() {
    let options = base_options()
        .log_mode(LogMode::Write)
        .read_mode(ReadMode::Pread);
    enumerate(
        "batches, log written by calls",
        options,
        batches_over_keyspaces,
    );
}

#[test]
fn power_loss_while_segments_rotate() {
    enumerate(
        "segments rotate",
        base_options(),
        segments_rotate_and_are_recycled,
    );
}

#[test]
fn power_loss_during_flushes_and_compactions() {
    enumerate(
        "flushes and compactions",
        base_options(),
        flushes_and_compactions,
    );
}

#[test]
fn power_loss_during_leveled_compactions() {
    let leveled = base_options().default_keyspace(tiny().compaction(CompactionStyle::Leveled));
    enumerate("leveled compactions", leveled, flushes_and_compactions);
}

#[test]
fn power_loss_around_reopenings() {
    enumerate("reopenings", base_options(), reopenings);
}

#[test]
fn power_loss_during_large_batches() {
    enumerate("large batches", base_options(), large_batches);
}

#[test]
fn power_loss_while_keyspaces_come_and_go() {
    enumerate(
        "keyspaces come and go",
        base_options(),
        keyspaces_come_and_go,
    );
}

/// A process that is killed loses nothing that was acknowledged, whatever the moment.
#[test]
fn a_kill_at_any_call_loses_nothing_acknowledged() {
    for script in [
        puts_and_deletes,
        batches_over_keyspaces,
        flushes_and_compactions,
    ] {
        let mut call = 0;
        loop {
            let sim = SimFs::new(5);
            sim.crash_at(call);
            let options = base_options();
            let mut run = Run {
                sim: &sim,
                options: options.clone(),
                db: None,
                history: History::default(),
            };
            let _ = script(&mut run);
            let crashed = sim.is_crashed();
            let after = sim.kill();
            let mut history = run.history;
            drop(run.db);
            history.synced = history.acknowledged;
            check_image(&after, &options, &history, &format!("kill at call {call}"));
            if !crashed {
                break;
            }
            call += 1;
        }
    }
}

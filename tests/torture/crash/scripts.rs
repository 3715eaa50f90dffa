//! The 26 scripts of the enumeration: at least 350 mutating calls each, and together everything
//! that changes a disk. The seed changes keys and values, never the shape of a script.

use super::run::{Edit, Run, Setting};
use alluvium::fs::sim::{Fault, FaultRule, FileClass};
use alluvium::{
    CompactionStyle, Compression, Durability, ErrorKind, KeyspaceOptions, LogMode, Options,
    ReadMode, Result, State, Verify,
};

/// One script.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) setting: fn() -> Setting,
    pub(crate) body: fn(&mut Run<'_>) -> Result<()>,
}

/// A script has at least so many mutating calls.
pub(crate) const CALLS_MIN: u64 = 350;

macro_rules! scripts {
    ($($name:literal, $setting:ident, $body:ident;)*) => {
        [$(Script { name: $name, setting: $setting, body: $body }),*]
    };
}

/// All of them.
pub(crate) const SCRIPTS: [Script; 26] = scripts! {
    "puts-and-deletes", tiny, puts_and_deletes;
    "puts-with-a-written-log", written, puts_and_deletes;
    "batches-over-keyspaces", tiny, batches_over_keyspaces;
    "batches-with-a-written-log", written, batches_over_keyspaces;
    "synced-groups", tiny, synced_writes;
    "synced-groups-written", written, synced_writes;
    "segments-rotate", tiny, segments_rotate;
    "segments-rotate-written", written, segments_rotate;
    "segments-in-large-memtables", large_memtables, segments_rotate;
    "lazy-compactions", tiny, flushes_and_compactions;
    "leveled-compactions", leveled, flushes_and_compactions;
    "compressed-tables", compressed, flushes_and_compactions;
    "read-by-calls", read_by_calls, flushes_and_compactions;
    "ranges-compacted", tiny, ranges_compacted;
    "ranges-compacted-leveled", leveled, ranges_compacted;
    "deleted-ranges", tiny, deleted_ranges;
    "deleted-ranges-leveled", leveled, deleted_ranges;
    "reopened-after-closing", tiny, reopened_after_closing;
    "reopened-after-kills", tiny, reopened_after_kills;
    "reopened-after-power-losses", tiny, reopened_after_power_losses;
    "power-losses-with-a-written-log", written, reopened_after_power_losses;
    "large-batches", large_memtables, large_batches;
    "keyspaces-come-and-go", tiny, keyspaces_come_and_go;
    "full-disk", tiny, full_disk;
    "full-disk-written", written, full_disk;
    "snapshots-held-across", leveled, snapshots_held_across;
};

/// The script of this name.
pub(crate) fn named(name: &str) -> Script {
    let found = SCRIPTS.into_iter().find(|script| script.name == name);
    found.unwrap_or_else(|| panic!("there is no script {name}"))
}

fn keyspace() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .write_buffer_bytes(2 << 10)
        .block_bytes(256)
        .table_bytes(1 << 10)
        .level0_runs(2)
        .tier_runs(2)
        .size_ratio(2)
}

fn setting(keyspace: KeyspaceOptions, change: impl FnOnce(Options) -> Options) -> Setting {
    let options = Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(8 << 10)
        .background_threads(0)
        .default_keyspace(keyspace.clone());
    Setting {
        options: change(options),
        space: keyspace,
    }
}

/// Everything so small that a few writes flush, compact and rotate.
pub(crate) fn tiny() -> Setting {
    setting(keyspace(), |options| options)
}

fn written() -> Setting {
    setting(keyspace(), |options| options.log_mode(LogMode::Write))
}

fn leveled() -> Setting {
    let leveled = keyspace().compaction(CompactionStyle::Leveled);
    setting(leveled, |options| options.verify(Verify::EveryRead))
}

fn large_memtables() -> Setting {
    let large = keyspace()
        .write_buffer_bytes(24 << 10)
        .immutables_max(2)
        .compaction(CompactionStyle::Tiered);
    setting(large, |options| options.log_segment_bytes(4 << 10))
}

fn compressed() -> Setting {
    let levels = vec![Compression::None, Compression::Lz4];
    let compressed = keyspace()
        .compression(levels)
        .filter_bits_per_key(0)
        .block_bytes(512);
    setting(compressed, |options| options)
}

fn read_by_calls() -> Setting {
    setting(keyspace().filter_bits_per_key(4), |options| {
        options
            .read_mode(ReadMode::Pread)
            .log_mode(LogMode::Write)
            .verify(Verify::EveryRead)
    })
}

const SPACES: [&str; 2] = ["default", "orders"];

fn space(n: u64) -> &'static str {
    SPACES[n as usize % 2]
}

/// One of 37 keys.
fn key(run: &mut Run<'_>) -> Vec<u8> {
    format!("key/{:03}", run.below(37)).into_bytes()
}

fn edits(run: &mut Run<'_>, count: u64, len: usize) -> Vec<Edit> {
    (0..count)
        .map(|n| {
            let value = (n % 5 != 4).then(|| run.value(len));
            (space(n), key(run), value)
        })
        .collect()
}

fn puts_and_deletes(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    for n in 0..180 {
        let (key, len) = (key(run), 20 + run.below(60) as usize);
        run.put("default", key, len)?;
        if n % 7 == 0 {
            let gone = self::key(run);
            run.delete("default", gone)?;
        }
        if n % 25 == 24 {
            run.sync()?;
        }
    }
    Ok(())
}

fn batches_over_keyspaces(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    for n in 0..120 {
        let edits = edits(run, n % 5 + 1, 60);
        let durability = match n % 4 {
            1 => Durability::Synced,
            _ => Durability::Logged,
        };
        run.write(durability, edits)?;
    }
    Ok(())
}

fn synced_writes(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    for n in 0..110 {
        let edits = edits(run, n % 3 + 1, 30);
        run.write(Durability::Synced, edits)?;
        if n % 10 == 3 {
            let key = key(run);
            run.put(space(n / 10), key, 400)?;
        }
    }
    Ok(())
}

fn segments_rotate(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    for n in 0..200 {
        let (key, len) = (key(run), 150 + run.below(300) as usize);
        run.put(space(n), key, len)?;
        if n % 40 == 39 {
            let gone = self::key(run);
            run.write(Durability::Synced, vec![("orders", gone, None)])?;
        }
    }
    run.flush()?;
    for n in 0..40 {
        let key = key(run);
        run.put(space(n / 8), key, 350)?;
    }
    Ok(())
}

fn flushes_and_compactions(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    for n in 0..96 {
        let key = key(run);
        run.put("default", key, 100)?;
        if n % 12 == 11 {
            run.flush()?;
        }
        if n % 24 == 23 {
            let gone = self::key(run);
            run.delete("default", gone)?;
            run.compact()?;
        }
    }
    Ok(())
}

fn ranges_compacted(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    for n in 0..75 {
        let edits = edits(run, 2, 70);
        run.write(Durability::Logged, edits)?;
        if n % 15 == 14 {
            run.compact_range(space(n / 15), b"key/010", b"key/025")?;
        }
    }
    run.compact_range("orders", b"", b"key/012")?;
    run.compact_range("default", b"key/030", b"z")
}

fn deleted_ranges(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    for n in 0..72 {
        let edits = edits(run, 2, 70);
        run.write(Durability::Logged, edits)?;
        if n % 8 == 5 {
            let first = run.below(30);
            let behind = first + 1 + run.below(9);
            let durability = match n % 16 {
                5 => Durability::Synced,
                _ => Durability::Logged,
            };
            let key = |n: u64| format!("key/{n:03}").into_bytes();
            run.delete_range(durability, space(n / 8), &key(first), &key(behind))?;
        }
        if n % 24 == 15 {
            run.compact_range(space(n / 24), b"key/010", b"key/025")?;
        }
    }
    run.delete_range(Durability::Logged, "default", b"", b"key/030")?;
    run.close()?;
    run.open()?;
    run.delete_range(Durability::Logged, "orders", b"", b"z")?;
    run.flush()?;
    run.put("orders", b"key/001".to_vec(), 20)?;
    run.compact()
}

fn reopened_after_closing(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    for round in 0..9 {
        for n in 0..10 {
            let key = key(run);
            run.put(space(n), key, 90)?;
        }
        if round % 3 == 1 {
            run.flush()?;
        }
        run.close()?;
        run.open()?;
    }
    Ok(())
}

fn reopened_after_kills(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    for round in 0..10 {
        for n in 0..10 {
            let edits = edits(run, n % 3 + 1, 60);
            run.write(Durability::Logged, edits)?;
        }
        if round % 4 == 2 {
            run.sync()?;
        }
        run.kill();
        run.open()?;
    }
    Ok(())
}

fn reopened_after_power_losses(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    for round in 0..10 {
        for n in 0..9 {
            let edits = edits(run, n % 3 + 1, 80);
            let durability = match (n + round) % 5 {
                4 => Durability::Synced,
                _ => Durability::Logged,
            };
            run.write(durability, edits)?;
        }
        run.power_loss();
        run.open()?;
    }
    Ok(())
}

/// Batches that are larger than a segment, and than a memtable.
fn large_batches(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    for n in 0..22 {
        let key = key(run);
        run.put("default", key, 50)?;
        let len = 250 + run.below(1100) as usize;
        let edits = edits(run, 20, len);
        let durability = match n % 2 {
            0 => Durability::Synced,
            _ => Durability::Logged,
        };
        run.write(durability, edits)?;
    }
    run.compact()
}

fn keyspaces_come_and_go(run: &mut Run<'_>) -> Result<()> {
    const EXTRA: [&str; 3] = ["extra-0", "extra-1", "extra-2"];
    run.begin()?;
    let mut there = [false; 3];
    for n in 0..72usize {
        let name = EXTRA[n % 3];
        if !there[n % 3] {
            run.make_space(name)?;
            there[n % 3] = true;
        }
        let (key, more) = (key(run), self::key(run));
        let (value, other) = (run.value(200), run.value(150));
        let edits = vec![(name, key, Some(value)), ("orders", more, Some(other))];
        run.write(Durability::Logged, edits)?;
        if n % 4 == 3 {
            run.drop_space(name)?;
            there[n % 3] = false;
        }
        if n % 6 == 5 {
            run.sync()?;
        }
        if n % 24 == 12 {
            run.close()?;
            run.open()?;
        }
    }
    Ok(())
}

/// The disk is full for one class of files after another: writes stop, some of them, nothing is
/// half there, and after the healing it goes on, by itself or after another start.
fn full_disk(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    let classes = [
        FileClass::Table,
        FileClass::Log,
        FileClass::Manifest,
        FileClass::Temp,
        FileClass::Dir,
    ];
    for round in 0..10 {
        let class = classes[round % classes.len()];
        run.fail(FaultRule::new(Fault::Enospc).class(class).sticky());
        for n in 0..14 {
            let edits = edits(run, n % 3 + 1, 90);
            let durability = match n % 7 {
                6 => Durability::Synced,
                _ => Durability::Logged,
            };
            match run.write(durability, edits) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NoSpace => break,
                Err(error) if error.kind() == ErrorKind::ReadOnly => break,
                Err(error) => return Err(error),
            }
        }
        run.heal();
        match (round % 3, run.db().state()) {
            (0, _) => run.kill(),
            (1, State::Ok | State::ReadOnly(_)) => {
                run.recovers_by_itself()?;
                continue;
            }
            _ => run.power_loss(),
        }
        run.open()?;
        for n in 0..5 {
            let key = key(run);
            run.put(space(n), key, 60)?;
        }
    }
    Ok(())
}

fn snapshots_held_across(run: &mut Run<'_>) -> Result<()> {
    run.begin()?;
    for n in 0..64 {
        let edits = edits(run, n % 4 + 1, 70);
        run.write(Durability::Logged, edits)?;
        match n % 16 {
            3 | 9 => run.hold_snapshot(),
            7 => run.flush()?,
            12 => run.compact()?,
            15 => run.release_snapshot()?,
            _ => {}
        }
    }
    run.release_snapshot()
}

//! What the databases of the sweep do, and with which options.

use super::run::{Damage, Run};
use alluvium::fs::sim::SimFs;
use alluvium::{
    CompactionStyle, Compression, Durability, KeyspaceOptions, LogMode, Options, ReadMode,
};

pub type Script = fn(&mut Run<'_>);

pub const SCRIPTS: [(&str, Script); 16] = [
    ("puts and deletes", puts_and_deletes),
    ("batches over keyspaces", batches_over_keyspaces),
    ("segments rotate and are recycled", segments_rotate),
    ("flushes and compactions", flushes_and_compactions),
    ("reopenings", reopenings),
    ("large batches", large_batches),
    ("keyspaces come and go", keyspaces_come_and_go),
    ("synced writes and reads", synced_writes_and_reads),
    ("checkpoints and backups", checkpoints_and_backups),
    ("deleted ranges", deleted_ranges),
    ("a feed of changes", a_feed_of_changes),
    ("repairs without CURRENT", repairs_without_current),
    ("repairs of the manifest", repairs_of_the_manifest),
    ("repairs without a manifest", repairs_without_a_manifest),
    ("repairs of tables", repairs_of_tables),
    ("repairs of an empty table", repairs_of_an_empty_table),
];

const SPACES: [&str; 2] = ["default", "orders"];

/// What a script runs in.
#[derive(Clone)]
pub struct World {
    pub name: &'static str,
    pub options: Options,
    pub spaces: KeyspaceOptions,
    /// The file system can preallocate.
    pub preallocates: bool,
}

impl World {
    /// An empty disk.
    pub fn disk(&self) -> SimFs {
        let sim = SimFs::new(11);
        if !self.preallocates {
            sim.without_preallocation();
        }
        sim
    }
}

/// Mapped; by calls; with a reserve and pages that are probed; tiered, with a reserve of zeros that
/// are written.
pub fn worlds() -> [World; 4] {
    let tiny = KeyspaceOptions::new()
        .write_buffer_bytes(2 << 10)
        .block_bytes(256)
        .table_bytes(1 << 10)
        .level0_runs(2)
        .tier_runs(2)
        .size_ratio(2);
    let base = Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(8 << 10)
        .background_threads(0);
    let calls = base
        .clone()
        .log_mode(LogMode::Write)
        .read_mode(ReadMode::Pread);
    let leveled = tiny
        .clone()
        .compaction(CompactionStyle::Leveled)
        .compression(vec![Compression::Lz4]);
    // A sixteenth of a segment is the reserve; under 512 KiB there is none.
    let reserve = base
        .clone()
        .log_segment_bytes(512 << 10)
        .read_mode(ReadMode::MmapProbe);
    let tiered = tiny.clone().compaction(CompactionStyle::Tiered);
    let compressed = tiny.clone().compression(vec![Compression::Lz4]);
    let zeros = base.clone().log_segment_bytes(512 << 10);
    let world = |name, options, spaces| World {
        name,
        options,
        spaces,
        preallocates: true,
    };
    [
        world("mapped", base, tiny),
        world("by calls, leveled, compressed", calls, leveled),
        world("with a reserve, probed, compressed", reserve, compressed),
        World {
            preallocates: false,
            ..world("with a reserve of zeros, tiered", zeros, tiered)
        },
    ]
}

fn puts_and_deletes(run: &mut Run<'_>) {
    run.open();
    for n in 0..36 {
        run.put("default", n, 20 + n as usize % 90);
        if n % 7 == 0 {
            run.delete("default", n / 2);
        }
        if n % 15 == 14 {
            run.sync();
        }
    }
}

fn batches_over_keyspaces(run: &mut Run<'_>) {
    run.open();
    for n in 0..24u32 {
        let changes: Vec<_> = (0..n % 5 + 1)
            .map(|i| (SPACES[(n + i) as usize % 2], n * 3 + i, Some(60)))
            .collect();
        let durability = match n % 4 {
            1 => Durability::Synced,
            _ => Durability::Logged,
        };
        run.batch(durability, &changes);
    }
}

fn segments_rotate(run: &mut Run<'_>) {
    run.open();
    for n in 0..70 {
        run.put(SPACES[n as usize % 2], n, 420);
        if n % 20 == 19 {
            run.put_synced("orders", n, 9);
        }
    }
    run.close();
}

fn flushes_and_compactions(run: &mut Run<'_>) {
    run.open();
    for n in 0..32 {
        run.put("default", n * 5, 100);
        if n % 10 == 9 {
            run.flush();
        }
        if n % 16 == 15 {
            run.delete("default", n);
            run.compact();
        }
    }
    run.verify();
    run.check_keys();
}

fn reopenings(run: &mut Run<'_>) {
    for round in 0..4u32 {
        run.open();
        for n in 0..8 {
            run.put(
                SPACES[n as usize % 2],
                round * 7 + n,
                90 + 300 * (round as usize / 2),
            );
        }
        match round % 3 {
            0 => run.close(),
            1 => run.flush(),
            _ => {}
        }
    }
    run.open();
    run.check_keys();
}

fn large_batches(run: &mut Run<'_>) {
    run.open();
    for n in 0..5u32 {
        run.put("default", n, 50);
        let changes: Vec<_> = (0..20)
            .map(|i| (SPACES[i as usize % 2], i, Some(700)))
            .collect();
        let durability = match n % 2 {
            0 => Durability::Synced,
            _ => Durability::Logged,
        };
        run.batch(durability, &changes);
    }
}

fn keyspaces_come_and_go(run: &mut Run<'_>) {
    run.open();
    for n in 0..8u32 {
        run.come_and_go(n);
        run.put("orders", n, 200);
        if n % 4 == 3 {
            run.sync();
        }
    }
}

fn synced_writes_and_reads(run: &mut Run<'_>) {
    run.open();
    for n in 0..16 {
        run.put_synced(SPACES[n as usize % 2], n, 200);
        run.put("default", n + 1, 150);
    }
    run.check_keys();
    run.read_beside();
    run.close();
    run.open();
    run.check_keys();
    run.put_synced("orders", 3, 30);
    run.read_beside();
}

fn checkpoints_and_backups(run: &mut Run<'_>) {
    run.open();
    for n in 0..8 {
        run.put(SPACES[n as usize % 2], n, 100);
    }
    run.checkpoint("/copy");
    run.put("default", 3, 30);
    run.leave_a_copy_unfinished("/another");
    run.checkpoint("/another");
    let first = run.backup();
    let then = run.history.now.clone();
    run.put("orders", 5, 60);
    run.backup();
    run.restore(first, "/restored", &then);
    run.remove_backups(first);
    run.put("default", 9, 40);
    run.backup_from_memory();
    run.restore_of_damage("/of-damage");
    run.check_keys();
}

fn deleted_ranges(run: &mut Run<'_>) {
    run.open();
    for n in 0..30 {
        run.put(SPACES[n as usize % 2], n, 90);
        if n % 6 == 5 {
            let durability = match n % 12 {
                5 => Durability::Synced,
                _ => Durability::Logged,
            };
            run.delete_range(durability, SPACES[n as usize / 6 % 2], n - 5, n - 1);
        }
        if n % 10 == 9 {
            run.flush();
        }
    }
    run.compact();
    run.delete_range(Durability::Logged, "default", 0, 20);
    run.close();
    run.open();
    run.delete_range(Durability::Logged, "orders", 0, 99);
    run.flush();
    run.check_keys();
}

fn a_feed_of_changes(run: &mut Run<'_>) {
    run.keep_changes();
    run.open();
    for n in 0..40 {
        run.put(SPACES[n as usize % 2], n, 420);
        match n % 10 {
            3 => run.delete("default", n - 1),
            5 => run.follow(),
            9 => run.flush(),
            _ => {}
        }
    }
    run.close();
    run.open();
    run.put("orders", 3, 60);
    run.follow();
    run.put_synced("default", 4, 60);
    run.follow();
}

/// Some keys in tables, some in the log, and both keyspaces in each.
fn tables_and_a_log(run: &mut Run<'_>) {
    run.open();
    for n in 0..12 {
        run.put(SPACES[n as usize % 2], n, 200);
        if n % 5 == 4 {
            run.flush();
        }
    }
    run.close();
}

fn repairs_without_current(run: &mut Run<'_>) {
    tables_and_a_log(run);
    run.repair();
    run.damage(Damage::Current);
    run.repair();
    run.open();
    run.check_keys();
    run.put_synced("orders", 3, 30);
}

fn repairs_of_the_manifest(run: &mut Run<'_>) {
    tables_and_a_log(run);
    run.damage(Damage::ManifestHeader);
    run.repair();
    run.open();
    for n in 6..14 {
        run.put(SPACES[n as usize % 2], n, 90);
    }
    run.close();
    run.damage(Damage::ManifestHeader);
    run.open();
    run.repair();
    run.open();
    run.check_keys();
    run.put_synced("orders", 3, 30);
}

/// All that is left says nothing of names, so that one keyspace has everything.
fn repairs_without_a_manifest(run: &mut Run<'_>) {
    run.open();
    for n in 0..20 {
        run.put("default", n * 3, 150);
        if n % 7 == 6 {
            run.flush();
        }
    }
    run.close();
    run.damage(Damage::Manifest);
    run.repair();
    run.open();
    run.check_keys();
    run.put_synced("default", 3, 30);
    run.verify();
}

/// One table, and a log that hides all of it.
fn hide_a_table(run: &mut Run<'_>) {
    run.open();
    for n in 0..12 {
        run.put("default", n, 80);
    }
    run.flush();
    for n in 0..12 {
        run.put("default", n, 20);
        run.put("orders", n, 20);
    }
    run.close();
}

fn repairs_of_tables(run: &mut Run<'_>) {
    hide_a_table(run);
    run.damage(Damage::HalfTable);
    run.repair();
    run.damage(Damage::Filters);
    run.repair();
    run.open();
    run.check_keys();
    run.verify();
}

fn repairs_of_an_empty_table(run: &mut Run<'_>) {
    hide_a_table(run);
    run.damage(Damage::WholeTable);
    run.repair();
    run.open();
    run.check_keys();
    run.verify();
}

//! What the databases of the sweep do, and with which options.

use super::run::Run;
use alluvium::{
    CompactionStyle, Compression, Durability, KeyspaceOptions, LogMode, Options, ReadMode,
};

pub type Script = fn(&mut Run<'_>);

pub const SCRIPTS: [(&str, Script); 9] = [
    ("puts and deletes", puts_and_deletes),
    ("batches over keyspaces", batches_over_keyspaces),
    ("segments rotate and are recycled", segments_rotate),
    ("flushes and compactions", flushes_and_compactions),
    ("reopenings", reopenings),
    ("large batches", large_batches),
    ("keyspaces come and go", keyspaces_come_and_go),
    ("synced writes and reads", synced_writes_and_reads),
    ("repairs", repairs),
];

const SPACES: [&str; 2] = ["default", "orders"];

/// Three worlds: mapped, by calls, and one with a reserve.
pub fn worlds() -> [(&'static str, Options, KeyspaceOptions); 3] {
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
    // A thirty-second of a segment is the reserve.
    let reserve = base.clone().log_segment_bytes(1 << 20);
    [
        ("mapped", base, tiny.clone()),
        ("by calls, leveled, compressed", calls, leveled),
        ("with a reserve", reserve, tiny),
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
    run.close();
    run.open();
    run.check_keys();
    run.put_synced("orders", 3, 30);
}

fn repairs(run: &mut Run<'_>) {
    run.open();
    for n in 0..12 {
        run.put(SPACES[n as usize % 2], n, 200);
        if n % 5 == 4 {
            run.flush();
        }
    }
    run.close();
    run.repair();
    run.lose_current();
    run.repair();
    run.open();
    run.check_keys();
    run.put_synced("orders", 3, 30);
}

//! Figures, as plain data with a table and a picture for people.

use super::core::Core;
use crate::base::sync::atomic::Ordering;
use crate::version::Version;
use std::fmt::{self, Write};
use std::time::Duration;

/// Figures of an open database; see `Db::stats`. Counts are since it was opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Each keyspace, by name.
    pub keyspaces: Vec<KeyspaceStats>,
    /// The write-ahead log.
    pub log: LogStats,
    /// How writers were held up.
    pub stall: StallStats,
    /// Memtables written to tables.
    pub flushes: u64,
    /// Bytes of tables that flushes wrote.
    pub flush_bytes_written: u64,
    /// Compactions, trivial moves among them.
    pub compactions: u64,
    /// Bytes that compactions read.
    pub compaction_bytes_read: u64,
    /// Bytes that compactions wrote.
    pub compaction_bytes_written: u64,
    /// Flushes and compactions running or due.
    pub pending_jobs: u64,
    /// Block cache lookups that hit: compressed tables and [`ReadMode::Pread`](crate::ReadMode)
    /// only, because other blocks are read in place.
    pub cache_hits: u64,
    /// Block cache lookups that missed.
    pub cache_misses: u64,
    /// Bytes in the block cache.
    pub cache_bytes: u64,
}

/// Figures of the write-ahead log.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LogStats {
    /// Segments with records that count.
    pub segments: u64,
    /// Bytes in the active segment.
    pub bytes: u64,
    /// Bytes of records appended.
    pub appended_bytes: u64,
    /// Syncs of segments.
    pub syncs: u64,
}

/// How writers were held up.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StallStats {
    /// Writes that were delayed.
    pub count: u64,
    /// For how long in all.
    pub total: Duration,
}

/// Figures of one keyspace.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct KeyspaceStats {
    /// Its name.
    pub name: String,
    /// Memory of its memtables.
    pub memtable_bytes: u64,
    /// Memtables waiting for their flush.
    pub immutable_memtables: u64,
    /// Deleted ranges that reads still have to look at, cut where they overlap.
    pub deleted_ranges: u64,
    /// Levels, newest first.
    pub levels: Vec<LevelStats>,
    /// What point reads did.
    pub reads: ReadStats,
}

/// What point reads did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReadStats {
    /// Point reads.
    pub gets: u64,
    /// Those that a memtable answered.
    pub memtable_hits: u64,
    /// Tables that a filter ruled out.
    pub filter_negatives: u64,
    /// Tables that were searched.
    pub tables_probed: u64,
    /// Tables that were searched in vain although their filter let the key pass.
    pub filter_false_positives: u64,
}

impl ReadStats {
    /// Tables searched for each point read: read amplification.
    pub fn tables_per_get(&self) -> f64 {
        self.tables_probed as f64 / (self.gets as f64).max(1.0)
    }
}

/// One level.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LevelStats {
    /// Its sorted runs, newest first.
    pub runs: Vec<RunStats>,
}

/// One sorted run.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RunStats {
    /// Its age within the level: a larger order is newer.
    pub order: u64,
    /// Its tables in key order.
    pub tables: Vec<TableStats>,
}

/// One table.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TableStats {
    /// The number in its file's name.
    pub file: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Entries, all versions.
    pub entries: u64,
    /// Deletions among them.
    pub tombstones: u64,
    /// First key.
    pub smallest: Vec<u8>,
    /// Last key.
    pub largest: Vec<u8>,
}

impl LevelStats {
    fn sum(&self, of: impl Fn(&TableStats) -> u64) -> u64 {
        self.runs.iter().flat_map(|run| &run.tables).map(of).sum()
    }

    /// Bytes of its tables.
    pub fn bytes(&self) -> u64 {
        self.sum(|table| table.bytes)
    }

    /// Entries in its tables.
    pub fn entries(&self) -> u64 {
        self.sum(|table| table.entries)
    }

    /// Deletions among them.
    pub fn tombstones(&self) -> u64 {
        self.sum(|table| table.tombstones)
    }

    /// Its tables.
    pub fn files(&self) -> u64 {
        self.sum(|_| 1)
    }
}

impl Core {
    pub(super) fn stats(&self) -> Stats {
        let trees = self.trees.load_full();
        let horizon = self.horizon();
        let mut pending_jobs = self.board.running();
        let mut keyspaces: Vec<KeyspaceStats> = trees
            .by_name
            .values()
            .map(|tree| {
                let view = tree.view_owned();
                let pressure = tree.pressure();
                pending_jobs += pressure.immutables as u64 + u64::from(tree.has_job_due(&horizon));
                let reads = view.counters.snapshot();
                KeyspaceStats {
                    name: tree.name().to_owned(),
                    memtable_bytes: tree.memtable_memory(),
                    immutable_memtables: pressure.immutables as u64,
                    deleted_ranges: view.all_deleted().joined().len() as u64,
                    levels: levels_of(&view.version),
                    reads: ReadStats {
                        gets: reads.gets,
                        memtable_hits: reads.memtable_hits,
                        filter_negatives: reads.filter_negatives,
                        tables_probed: reads.tables_probed,
                        filter_false_positives: reads.false_positives,
                    },
                }
            })
            .collect();
        keyspaces.sort_by(|a, b| a.name.cmp(&b.name));
        let (bytes, appended_bytes) = {
            let commit = self.commit.lock();
            (commit.writer.end(), commit.appended_bytes)
        };
        let (count, total) = self.stall.totals();
        let (cache_hits, cache_misses) = self.table_context.cache.hits_and_misses();
        let of = |count: &crate::base::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            keyspaces,
            log: LogStats {
                segments: self.log.count(),
                bytes,
                appended_bytes,
                syncs: of(&self.log.syncs),
            },
            stall: StallStats { count, total },
            flushes: of(&self.totals.flushes),
            flush_bytes_written: of(&self.totals.flush_bytes_written),
            compactions: of(&self.totals.compactions),
            compaction_bytes_read: of(&self.totals.compaction_bytes_read),
            compaction_bytes_written: of(&self.totals.compaction_bytes_written),
            pending_jobs,
            cache_hits,
            cache_misses,
            cache_bytes: self.table_context.cache.bytes(),
        }
    }
}

fn levels_of(version: &Version) -> Vec<LevelStats> {
    let table = |entry: &std::sync::Arc<crate::version::TableEntry>| {
        let meta = entry.meta();
        TableStats {
            file: meta.file.0,
            bytes: meta.summary.bytes,
            entries: meta.summary.entries,
            tombstones: meta.summary.tombstones,
            smallest: meta.summary.smallest.clone(),
            largest: meta.summary.largest.clone(),
        }
    };
    let run = |run: &crate::version::SortedRun| RunStats {
        order: run.order,
        tables: run.tables.iter().map(table).collect(),
    };
    version
        .levels
        .iter()
        .map(|runs| LevelStats {
            runs: runs.iter().map(run).collect(),
        })
        .collect()
}

impl Stats {
    /// Bytes of tables written by flushes and compactions, and of the log, for each byte of tables
    /// that flushes wrote: write amplification; 0 while nothing was flushed.
    pub fn write_amplification(&self) -> f64 {
        if self.flush_bytes_written == 0 {
            return 0.0;
        }
        let written =
            self.flush_bytes_written + self.compaction_bytes_written + self.log.appended_bytes;
        written as f64 / self.flush_bytes_written as f64
    }

    /// The levels of each keyspace as bars of files, `width` columns wide.
    ///
    /// Each line is a sorted run; each file is a bar as wide as its share of the largest run, with
    /// a lighter shade when more than a quarter of its entries are deletions.
    pub fn levels_picture(&self, width: usize) -> String {
        let width = width.clamp(40, 200) - 24;
        let mut out = String::new();
        for keyspace in &self.keyspaces {
            // Writing into a string cannot fail.
            let _ = writeln!(out, "{}", keyspace.name);
            let runs = || keyspace.levels.iter().flat_map(|level| &level.runs);
            let size = |run: &RunStats| run.tables.iter().map(|table| table.bytes).sum::<u64>();
            let largest = runs().map(size).max().unwrap_or(0).max(1);
            if runs().next().is_none() {
                let _ = writeln!(out, "  no tables yet");
            }
            for (number, level) in keyspace.levels.iter().enumerate() {
                for run in &level.runs {
                    let _ = write!(out, "  L{number} {:>9} ", human(size(run)));
                    let (mut bytes, mut drawn) = (0, 0);
                    for table in &run.tables {
                        bytes += table.bytes;
                        let share = bytes as f64 / largest as f64 * width as f64;
                        let end = (share.round() as usize).max(1);
                        // Files too small for a cell of their own share one.
                        let cells = end.saturating_sub(drawn);
                        if cells == 0 {
                            continue;
                        }
                        drawn = end;
                        let shade = if table.tombstones * 4 > table.entries {
                            '▒'
                        } else {
                            '█'
                        };
                        out.extend(std::iter::repeat_n(shade, cells - 1));
                        out.push('▌');
                    }
                    let files = run.tables.len();
                    let plural = if files == 1 { "" } else { "s" };
                    let _ = writeln!(out, " {files} file{plural}");
                }
            }
        }
        out
    }
}

/// Bytes with a binary unit.
fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for keyspace in &self.keyspaces {
            writeln!(
                f,
                "{}: memtables {} ({} waiting)",
                keyspace.name,
                human(keyspace.memtable_bytes),
                keyspace.immutable_memtables
            )?;
            writeln!(
                f,
                "  level  runs  files       bytes     entries  tombstones"
            )?;
            for (number, level) in keyspace.levels.iter().enumerate() {
                writeln!(
                    f,
                    "  {number:>5} {:>5} {:>6} {:>11} {:>11} {:>11}",
                    level.runs.len(),
                    level.files(),
                    human(level.bytes()),
                    level.entries(),
                    level.tombstones()
                )?;
            }
            let reads = &keyspace.reads;
            writeln!(
                f,
                "  gets {}, memtable hits {}, tables probed {} ({:.2} a get), ruled out by filters \
                 {}, false positives {}",
                reads.gets,
                reads.memtable_hits,
                reads.tables_probed,
                reads.tables_per_get(),
                reads.filter_negatives,
                reads.filter_false_positives
            )?;
        }
        writeln!(
            f,
            "log: {} segments, {} in the active one, {} appended, {} syncs",
            self.log.segments,
            human(self.log.bytes),
            human(self.log.appended_bytes),
            self.log.syncs
        )?;
        writeln!(
            f,
            "flushes: {} ({}); compactions: {} (read {}, wrote {}); due {}; write amplification \
             {:.1}",
            self.flushes,
            human(self.flush_bytes_written),
            self.compactions,
            human(self.compaction_bytes_read),
            human(self.compaction_bytes_written),
            self.pending_jobs,
            self.write_amplification()
        )?;
        writeln!(
            f,
            "stalls: {} writes, {:?} in all; block cache: {}, {} hits, {} misses",
            self.stall.count,
            self.stall.total,
            human(self.cache_bytes),
            self.cache_hits,
            self.cache_misses
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_a_line_for_each_run_and_a_bar_for_each_file() {
        let table = |bytes, tombstones| TableStats {
            bytes,
            tombstones,
            entries: 10,
            ..TableStats::default()
        };
        let run = |tables| RunStats { order: 1, tables };
        let stats = Stats {
            keyspaces: vec![KeyspaceStats {
                name: "orders".into(),
                levels: vec![
                    LevelStats {
                        runs: vec![run(vec![table(10, 0)])],
                    },
                    LevelStats {
                        runs: vec![run(vec![table(500, 0), table(500, 9)])],
                    },
                ],
                ..KeyspaceStats::default()
            }],
            ..Stats::default()
        };
        let picture = stats.levels_picture(60);
        let lines: Vec<_> = picture.lines().collect();
        assert_eq!(lines[0], "orders");
        assert_eq!(lines[1].matches('▌').count(), 1, "{picture}");
        assert_eq!(lines[2].matches('▌').count(), 2, "{picture}");
        assert!(
            lines[2].contains('▒') && lines[2].ends_with("2 files"),
            "{picture}"
        );
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(human(1023), "1023 B");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human(3 << 40), "3.0 TiB");
    }
}

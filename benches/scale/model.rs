//! What the shape of the tree says of costs, for any number of keys.
//!
//! The tree is played through in sizes alone: a flush adds a run to level 0, and the rules of lazy
//! leveling (`src/compaction/policy/lazy.rs`) merge runs at once, as if the background were never
//! behind. Keys are distinct and random, so that a merge writes all that it reads. Constants that
//! are measured and not derived are at the top.

use super::data::ENTRY_BYTES;
use super::names;
use super::store::Figure;
use alluvium::defaults;

/// An entry of 32 bytes in a table, with its share of index and filter: measured.
const TABLE_ENTRY_BYTES: f64 = 44.3;
/// And in one whose numbers span more than 24 bits: a tag has 8 bytes then, not 4.
const WIDE_ENTRY_BYTES: f64 = 47.4;
/// Of the index, for each entry: measured.
const INDEX_BYTES: f64 = 0.4;
const NARROW_ENTRIES: f64 = (1 << 24) as f64;
/// What a write buffer counts for an entry, and what the log has of a record: by their formats.
const BUFFER_ENTRY_BYTES: u64 = ENTRY_BYTES + 24;
const LOG_RECORD_BYTES: f64 = 32.0 + 4.0 + 2.0 + 34.0;

/// Entries of each run, by level; the last level is one run once it is not level 0.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    levels: Vec<Vec<f64>>,
    buffer_bytes: f64,
    compacted: f64,
}

impl Tree {
    pub(crate) fn new(buffer_bytes: u64) -> Tree {
        Tree {
            levels: vec![Vec::new()],
            buffer_bytes: buffer_bytes as f64,
            compacted: 0.0,
        }
    }

    pub(crate) fn flush(&mut self, entries: f64) {
        self.levels[0].push(entries);
        while let Some(level) = self.due() {
            self.down(level);
        }
    }

    /// What the idle rule does.
    pub(crate) fn rest(&mut self) {
        while let Some(level) = (0..self.deepest()).find(|&l| !self.levels[l].is_empty()) {
            self.down(level);
        }
        if 1 < self.levels[0].len() {
            self.down(0);
        }
    }

    fn deepest(&self) -> usize {
        self.levels.len() - 1
    }

    fn bytes(&self, level: usize) -> f64 {
        self.levels[level].iter().map(|&run| table_bytes(run)).sum()
    }

    /// About the bytes of a run of that level.
    fn run_bytes(&self, level: usize) -> f64 {
        let merged = |level: usize| {
            f64::from(defaults::LEVEL0_RUNS) * f64::from(defaults::TIER_RUNS).powi(level as i32 - 1)
        };
        self.buffer_bytes * if level == 0 { 1.0 } else { merged(level) }
    }

    /// The level with the largest score, if that is 1 or more; the last level moves down before.
    fn due(&mut self) -> Option<usize> {
        let last = self.deepest();
        let ratio = f64::from(defaults::SIZE_RATIO);
        if 0 < last && ratio * self.run_bytes(last - 1) < self.bytes(last) {
            self.levels.insert(last, Vec::new());
        }
        let last = self.deepest();
        let score = |level: usize| {
            let runs = self.levels[level].len() as f64;
            if level == 0 {
                return runs / f64::from(defaults::LEVEL0_RUNS);
            }
            let level0 = self.buffer_bytes * f64::from(defaults::LEVEL0_RUNS);
            let limit = (level0 * ratio.powi(level as i32)).min(self.bytes(last));
            let by_runs = runs / f64::from(defaults::TIER_RUNS);
            let by_bytes = self.bytes(level) / limit;
            if by_runs < 1.0 && 1.0 < by_bytes {
                by_bytes
            } else {
                by_runs
            }
        };
        let mut worst = None;
        for level in 0..last.max(1) {
            let score = score(level);
            if 1.0 <= score && worst.is_none_or(|(_, most)| most < score) {
                worst = Some((level, score));
            }
        }
        worst.map(|(level, _)| level)
    }

    /// Into the last level, or to a new run of the next.
    fn down(&mut self, level: usize) {
        let mut entries: f64 = self.levels[level].drain(..).sum();
        if self.deepest() == 0 {
            self.levels.push(Vec::new());
        }
        if level + 1 == self.deepest() {
            entries += self.levels[level + 1].drain(..).sum::<f64>();
        }
        self.compacted += table_bytes(entries);
        self.levels[level + 1].push(entries);
    }

    /// Runs of each level.
    pub(crate) fn shape(&self) -> Vec<usize> {
        self.levels.iter().map(Vec::len).collect()
    }

    /// Bytes that merges have written.
    pub(crate) fn compacted(&self) -> f64 {
        self.compacted
    }
}

/// Bytes of a run of distinct keys: its numbers span as many as it has entries.
pub(crate) fn table_bytes(entries: f64) -> f64 {
    let each = match entries < NARROW_ENTRIES {
        true => TABLE_ENTRY_BYTES,
        false => WIDE_ENTRY_BYTES,
    };
    entries * each
}

/// The rows of a store of so many keys, as far as the model has something to say.
pub(crate) fn figures(keys: u64, buffer_bytes: u64) -> Vec<Figure> {
    let each = (buffer_bytes / BUFFER_ENTRY_BYTES).max(1);
    let mut tree = Tree::new(buffer_bytes);
    (0..keys / each).for_each(|_| tree.flush(each as f64));
    let full = tree.clone();
    let rest = (keys % each) as f64;
    if 0.0 < rest {
        tree.flush(rest);
    }
    tree.rest();
    let flushed_full = table_bytes(each as f64) * (keys / each) as f64;
    let flushed = flushed_full + table_bytes(rest);
    let logged = keys as f64 * LOG_RECORD_BYTES;
    let space = table_bytes(keys as f64);
    let live = (keys * ENTRY_BYTES) as f64;
    let shape = full.shape();
    let levels = shape.iter().filter(|&&runs| 0 < runs).count();
    let runs: usize = shape.iter().sum();
    let row = |name: &str, bytes: f64| Figure::new(name, bytes / live);
    vec![
        row(
            names::FILL_WRITTEN,
            logged + flushed_full + full.compacted(),
        ),
        Figure::new(names::FILL_LEVELS, levels as f64),
        Figure::new(names::FILL_RUNS, runs as f64),
        row(
            names::FILL_SPACE,
            (0..shape.len()).map(|l| full.bytes(l)).sum(),
        ),
        row(names::REST_WRITTEN, logged + flushed + tree.compacted()),
        Figure::new(names::REST_RUNS, 1.0),
        Figure::new(names::REST_TABLES, (space / buffer_bytes as f64).ceil()),
        row(names::REST_SPACE, space),
        Figure::new(names::INDEX, INDEX_BYTES),
        Figure::new(
            names::FILTER,
            f64::from(defaults::FILTER_BITS_PER_KEY) / 8.0,
        ),
    ]
}

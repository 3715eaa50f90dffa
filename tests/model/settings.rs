//! The options of a database under test, from a seed.

use super::op::Random;
use super::operator::{OPERATORS, registered};
use alluvium::filter::Decision;
use alluvium::{CompactionStyle, Compression, KeyspaceOptions, LogMode, Options, ReadMode, Verify};

/// All of them; what forgets is told to keep everything.
const STYLES: [CompactionStyle; 4] = CompactionStyle::ALL;

/// As much of the log is kept for a feed as there can be.
pub(crate) const CHANGES_ALL: u64 = 1 << 30;

/// Keyspaces that a database has at most.
pub(crate) const SPACES_MAX: usize = 4;

/// The options of a database and of each of its keyspaces.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) options: Options,
    /// The first one is the default keyspace's.
    pub(crate) spaces: Vec<KeyspaceOptions>,
    /// The block size of each, which cannot change.
    pub(crate) blocks: Vec<u32>,
    /// The merge operator of each, which cannot change either; empty for none.
    pub(crate) operators: Vec<&'static str>,
    pub(crate) memory_bytes: u64,
    pub(crate) changes_bytes: u64,
    pub(crate) threads: usize,
}

impl Settings {
    /// The settings of this number, the same each time. `threads` are those of the background.
    pub(crate) fn random(seed: u64, threads: usize) -> Settings {
        let mut random = Random(seed);
        let blocks: Vec<u32> = (0..1 + random.below(SPACES_MAX))
            .map(|_| random.pick(&[256, 256, 512, 1024, 4096, 16384]))
            .collect();
        let operators = blocks.iter().map(|_| random.pick(&OPERATORS)).collect();
        Settings::with_shape(&mut random, blocks, operators, threads)
    }

    /// Other settings under which the same database can be opened.
    pub(crate) fn other(&self, seed: u64) -> Settings {
        let (blocks, operators) = (self.blocks.clone(), self.operators.clone());
        Settings::with_shape(&mut Random(seed), blocks, operators, self.threads)
    }

    /// Other options that a keyspace can be given while it is open.
    pub(crate) fn other_keyspace(&self, n: usize, seed: u64) -> KeyspaceOptions {
        keyspace(&mut Random(seed), self.blocks[n]).merge_operator(self.operators[n])
    }

    fn with_shape(
        random: &mut Random,
        blocks: Vec<u32>,
        operators: Vec<&'static str>,
        threads: usize,
    ) -> Settings {
        let spaces: Vec<_> = (blocks.iter().zip(&operators))
            .map(|(block, operator)| keyspace(random, *block).merge_operator(*operator))
            .collect();
        let memory_bytes = random.pick(&[1 << 18, 1 << 20, 8 << 20]);
        // Every value is written anew, and none of them changes.
        let same = |_: &[u8], value: &[u8]| Decision::Change(value.to_vec());
        let options = registered(Options::new())
            .compaction_filter("same", same)
            .memory_bytes(memory_bytes)
            .background_threads(threads)
            .log_segment_bytes(random.pick(&[4 << 10, 8 << 10, 16 << 10, 64 << 10, 256 << 10]))
            .read_mode(random.pick(&[ReadMode::Mmap, ReadMode::Pread]))
            .log_mode(random.pick(&[LogMode::Mapped, LogMode::Write]))
            .verify(random.pick(&[Verify::FirstTouch, Verify::EveryRead]))
            .default_keyspace(spaces[0].clone());
        let changes_bytes = random.pick(&[0, 16 << 10, CHANGES_ALL]);
        let options = options.changes_bytes(changes_bytes);
        Settings {
            options,
            spaces,
            blocks,
            operators,
            memory_bytes,
            changes_bytes,
            threads,
        }
    }
}

fn keyspace(random: &mut Random, block: u32) -> KeyspaceOptions {
    let codecs = [Compression::None, Compression::Lz4, Compression::Zstd];
    let codecs: Vec<Compression> = codecs.into_iter().filter(|it| it.is_supported()).collect();
    let mut codec = || random.pick(&codecs);
    let compression = vec![codec(), codec(), codec()];
    KeyspaceOptions::new()
        .write_buffer_bytes(random.pick(&[1 << 10, 2 << 10, 8 << 10, 32 << 10, 128 << 10]))
        .immutables_max(random.pick(&[1, 2, 4]))
        .compression(compression)
        .filter_bits_per_key(random.pick(&[0, 4, 10, 16, 32]))
        .block_bytes(block)
        .table_bytes(random.pick(&[1 << 10, 4 << 10, 32 << 10]))
        .compaction(random.pick(&STYLES))
        .fifo_bytes(u64::MAX)
        .compaction_filter(random.pick(&["", "", "same"]))
        .level0_runs(random.pick(&[1, 2, 4]))
        .tier_runs(random.pick(&[1, 2, 4]))
        .size_ratio(random.pick(&[2, 4, 10]))
}

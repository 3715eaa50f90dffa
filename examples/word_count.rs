//! Counts the words and word pairs of a real body of text in a store, through a crash.
//!
//! `cargo run --release --example word_count [-- FILE...]`
//!
//! The text is what the arguments name, or else the source and documents of this package and of
//! the packages in cargo's registry. Keyspaces: `words` (word → count), `pairs` (word, space, a
//! following word within three → count), `by_count` (inverted count, word), and the default one
//! with the key `position`: how many words of the text the counts cover.
//!
//! 1. A child process counts, and says after each acknowledged batch how far it is. When it has
//!    passed the middle it is killed with SIGKILL.
//! 2. The store is opened again. The position found must not be before the last acknowledged one,
//!    and every count must equal a recount in memory of exactly that much of the text: counts and
//!    position are written in one batch, so nothing else is right.
//! 3. Counting goes on to the end; every count is compared again; pairs seen once are dropped.
//!
//! The exit status is not zero if any of these proofs fails.

use alluvium::{Db, Keyspace, KeyspaceOptions, Options, Slice, WriteBatch, WriteOptions};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

type Error = Box<dyn std::error::Error>;
type Counts = HashMap<String, u64>;

const OPERATIONS_MIN: u64 = 3_000_000;
const TIME_MAX: Duration = Duration::from_secs(60);
/// Three updates a word, each a get and a put: enough for [`OPERATIONS_MIN`] with a margin for
/// words that repeat within a batch.
const WORDS_MIN: usize = 700_000;
const WORDS_A_BATCH: usize = 40;
/// A word forms pairs with this many before it.
const PAIRS_A_WORD: usize = 2;
const TEXT_BYTES_MAX: u64 = 16 << 20;
const CHILD: &str = "ALLUVIUM_WORD_COUNT_CHILD";

fn main() -> ExitCode {
    let files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let answer = match std::env::var_os(CHILD) {
        Some(store) => count_and_tell(&PathBuf::from(store), &files),
        None => count_through_a_crash(&files),
    };
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("word_count: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The child: counts from the start and never expects to see the end.
fn count_and_tell(directory: &Path, files: &[PathBuf]) -> Result<(), Error> {
    let text = Text::read(files)?;
    let mut store = Store::open(directory)?;
    let mut out = std::io::stdout().lock();
    store.count(&text, |position| writeln!(out, "{position}"))
}

fn count_through_a_crash(files: &[PathBuf]) -> Result<(), Error> {
    let directory = std::env::temp_dir().join(format!("word_count-{}", std::process::id()));
    let answer = count_in(&directory, files);
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    answer
}

fn count_in(directory: &Path, files: &[PathBuf]) -> Result<(), Error> {
    let text = Text::read(files)?;
    println!(
        "Text: {} words in {} files, {} passes, {} words to count.",
        text.words.len(),
        text.files,
        text.total.div_ceil(text.words.len()),
        text.total
    );
    let start = Instant::now();
    let acknowledged = crash(directory, files, text.total)?;

    let mut store = Store::open(directory)?;
    let position = store.position()?;
    println!("Killed after {acknowledged} words were acknowledged; found {position}.");
    prove(acknowledged <= position, "an acknowledged batch was lost")?;
    prove(position < text.total, "the child was killed too late")?;
    store.compare(&text, position)?;
    println!("Every count equals the recount of the first {position} words.");

    store.operations = 0;
    store.count(&text, |_| Ok(()))?;
    // What the child did up to the crash, by the same arithmetic as what we did after it.
    let words = (text.total - position) as u64;
    let before = store.operations * position as u64 / words;
    store.compare(&text, text.total)?;
    println!(
        "Every count equals the recount of all {} words.",
        text.total
    );
    let dropped = store.drop_rare_pairs()?;
    println!("Dropped {dropped} pairs that were seen once.");
    store.rank()?;
    store.print_top(12)?;

    let elapsed = start.elapsed();
    let operations = before + store.operations;
    let stats = store.db.stats();
    println!("\n{stats}\n{}", stats.levels_picture(72));
    println!(
        "{operations} operations (about {before} of them before the crash) in {:.1} s, proofs \
         included: {:.0} a second.",
        elapsed.as_secs_f64(),
        operations as f64 / elapsed.as_secs_f64()
    );
    store.db.close()?;
    prove(OPERATIONS_MIN <= operations, "too few operations")?;
    prove(elapsed < TIME_MAX, "it took more than a minute")
}

/// Runs the child, kills it when it has passed the middle, and gives the last position that it
/// was able to tell.
fn crash(directory: &Path, files: &[PathBuf], total: usize) -> Result<usize, Error> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(files)
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .spawn()?;
    let pipe = child.stdout.take().ok_or("the child has no output")?;
    let mut acknowledged = 0;
    let mut killed = false;
    for line in BufReader::new(pipe).split(b'\n') {
        let line = line?;
        // The last line may be cut short by the kill; a number shorter than the one before it
        // would go back, and is not one that was told.
        let position: usize = std::str::from_utf8(&line)?.parse().unwrap_or(0);
        acknowledged = acknowledged.max(position);
        if !killed && total / 2 <= acknowledged {
            child.kill()?;
            killed = true;
        }
    }
    let status = child.wait()?;
    prove(killed, "the child ended before it could be killed")?;
    prove(!status.success(), "the child got to its end")?;
    Ok(acknowledged)
}

fn prove(fact: bool, otherwise: &str) -> Result<(), Error> {
    if fact { Ok(()) } else { Err(otherwise.into()) }
}

/// The body of text as a sequence of words, repeated until it is long enough.
struct Text {
    words: Vec<String>,
    files: usize,
    total: usize,
}

impl Text {
    fn read(files: &[PathBuf]) -> Result<Self, Error> {
        let files = if files.is_empty() {
            default_files()
        } else {
            files.to_vec()
        };
        let mut words = Vec::new();
        for file in &files {
            let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
            let text = String::from_utf8_lossy(&bytes);
            let parts = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            let fit = parts.filter(|w| (2..=40).contains(&w.len()));
            words.extend(fit.map(str::to_lowercase));
        }
        if words.is_empty() {
            return Err("there are no words in the text".into());
        }
        let total = words.len().max(WORDS_MIN);
        Ok(Text {
            files: files.len(),
            total: total.min(2 * WORDS_MIN),
            words,
        })
    }

    fn word(&self, position: usize) -> &str {
        &self.words[position % self.words.len()]
    }

    /// The keys of the counts that the word at `position` adds to: a word, and pairs.
    fn keys(&self, position: usize) -> (&str, impl Iterator<Item = String>) {
        let word = self.word(position);
        let before = position.saturating_sub(PAIRS_A_WORD)..position;
        let pairs = before.map(move |i| format!("{} {word}", self.word(i)));
        (word, pairs)
    }

    /// What the store should hold after `position` words, counted without it.
    fn recount(&self, position: usize) -> (Counts, Counts) {
        let (mut words, mut pairs) = (Counts::new(), Counts::new());
        for i in 0..position {
            let (word, following) = self.keys(i);
            *words.entry(word.to_string()).or_default() += 1;
            for pair in following {
                *pairs.entry(pair).or_default() += 1;
            }
        }
        (words, pairs)
    }
}

/// This package's own text, then the sources in cargo's registry, up to [`TEXT_BYTES_MAX`].
fn default_files() -> Vec<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for place in ["Cargo.lock", "DESIGN.md", "README.md", "src", "tests"] {
        collect(&package.join(place), &mut files);
    }
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    if let Some(home) = home {
        collect(&home.join("registry/src"), &mut files);
    }
    let mut bytes = 0;
    files.retain(|file| {
        bytes += file.metadata().map_or(0, |m| m.len());
        bytes <= TEXT_BYTES_MAX
    });
    files
}

/// Adds the Rust and Markdown files below `place`, or `place` itself, in the order of their names.
fn collect(place: &Path, files: &mut Vec<PathBuf>) {
    if place.is_file() {
        files.push(place.to_path_buf());
        return;
    }
    let Ok(entries) = std::fs::read_dir(place) else {
        return; // Not there: the registry, for one, when every dependency is vendored.
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        let readable = path.extension().is_some_and(|e| e == "rs" || e == "md");
        if path.is_dir() || readable {
            collect(&path, files);
        }
    }
}

struct Store {
    db: Db,
    words: Keyspace,
    pairs: Keyspace,
    by_count: Keyspace,
    operations: u64,
}

impl Store {
    fn open(directory: &Path) -> Result<Self, Error> {
        // Small buffers, so that a small text shows flushes, levels and compactions.
        let small = || {
            KeyspaceOptions::new()
                .write_buffer_bytes(1 << 20)
                .table_bytes(1 << 20)
        };
        let db = Options::new().default_keyspace(small()).open(directory)?;
        Ok(Store {
            words: db.keyspace("words", small())?,
            pairs: db.keyspace("pairs", small())?,
            by_count: db.keyspace("by_count", small())?,
            operations: 0,
            db,
        })
    }

    /// How many words of the text the counts cover.
    fn position(&mut self) -> Result<usize, Error> {
        self.operations += 1;
        let position = self.db.get("position")?;
        Ok(position.map_or(Ok(0), |bytes| decode(&bytes))? as usize)
    }

    /// Counts on from the stored position to the end, and tells each acknowledged position.
    fn count(
        &mut self,
        text: &Text,
        mut tell: impl FnMut(usize) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let mut position = self.position()?;
        while position < text.total {
            let end = text.total.min(position + WORDS_A_BATCH);
            let (mut words, mut pairs) = (Counts::new(), Counts::new());
            for i in position..end {
                let (word, following) = text.keys(i);
                *words.entry(word.to_string()).or_default() += 1;
                for pair in following {
                    *pairs.entry(pair).or_default() += 1;
                }
            }
            let mut batch = WriteBatch::new();
            for (keyspace, added) in [(&self.words, &words), (&self.pairs, &pairs)] {
                for (key, more) in added {
                    let old = keyspace.get_with(key, |old| old.map_or(Ok(0), decode))??;
                    batch.put(keyspace, key, (old + more).to_le_bytes());
                }
            }
            batch.put(&self.db, "position", (end as u64).to_le_bytes());
            // As many gets as puts, but for the position.
            self.operations += 2 * batch.len() as u64 - 1;
            self.db.write(&batch, WriteOptions::default())?;
            position = end;
            tell(position)?;
        }
        Ok(())
    }

    /// Proves that the store holds the counts of the first `position` words and nothing else.
    fn compare(&mut self, text: &Text, position: usize) -> Result<(), Error> {
        let (words, pairs) = text.recount(position);
        for (keyspace, mut expected) in [(&self.words, words), (&self.pairs, pairs)] {
            for entry in keyspace.iter() {
                let (key, count) = entry?;
                self.operations += 1;
                let key = std::str::from_utf8(&key)?;
                let right = expected.remove(key);
                if right != Some(decode(&count)?) {
                    return Err(
                        format!("{key}: counted {count:?}, the recount says {right:?}").into(),
                    );
                }
            }
            if let Some((key, count)) = expected.iter().next() {
                return Err(format!("{key}: not there, the recount says {count}").into());
            }
        }
        Ok(())
    }

    fn drop_rare_pairs(&mut self) -> Result<u64, Error> {
        let mut dropped = 0;
        for entry in self.pairs.iter() {
            let (key, count) = entry?;
            self.operations += 1;
            if decode(&count)? == 1 {
                self.pairs.delete(&key)?;
                dropped += 1;
            }
        }
        for entry in self.pairs.iter() {
            let (key, count) = entry?;
            if decode(&count)? == 1 {
                return Err(format!("{key:?} was dropped and is still there").into());
            }
        }
        self.operations += dropped;
        Ok(dropped)
    }

    /// Fills `by_count`, whose keys sort by falling count.
    fn rank(&mut self) -> Result<(), Error> {
        for entry in self.words.iter() {
            let (word, count) = entry?;
            let inverted = u64::MAX - decode(&count)?;
            let key = [&inverted.to_be_bytes()[..], &word].concat();
            self.by_count.put(key, b"")?;
            self.operations += 2;
        }
        Ok(())
    }

    fn print_top(&mut self, n: usize) -> Result<(), Error> {
        println!("\nMost frequent words, and what follows each most often:");
        for entry in self.by_count.iter().take(n) {
            let (key, _) = entry?;
            let (inverted, word) = key.split_first_chunk::<8>().ok_or("a short key")?;
            let word = std::str::from_utf8(word)?;
            let prefix = format!("{word} ");
            let mut best: Option<(u64, Slice)> = None;
            for pair in self.pairs.prefix(&prefix) {
                let (pair, count) = pair?;
                self.operations += 1;
                let count = decode(&count)?;
                if best.as_ref().is_none_or(|(most, _)| *most < count) {
                    best = Some((count, pair));
                }
            }
            let next = match &best {
                Some((count, pair)) => {
                    let next = String::from_utf8_lossy(&pair[prefix.len()..]).into_owned();
                    format!("{next} ({count})")
                }
                None => String::new(),
            };
            let count = u64::MAX - u64::from_be_bytes(*inverted);
            println!("{count:>9}  {word:<16} {next}");
        }
        Ok(())
    }
}

fn decode(bytes: &[u8]) -> Result<u64, std::array::TryFromSliceError> {
    Ok(u64::from_le_bytes(bytes.try_into()?))
}

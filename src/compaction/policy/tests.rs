//! Specifications of the policies as text: `tests/specs/policy/*.spec`.
//!
//! A case is a sentence, a line of options, a version, a question, `----`, and the answer; a blank
//! line ends it. `UPDATE_SPECS=1` rewrites the answers.
//! Questions: `pick` (one job), `pick 3` (as many side by side), `drain` (until nothing is due,
//! then the version that is left), `manual [from to]` (the same), `debt`. `busy 2 5` before the
//! question says that these files are being read.

use super::*;
use crate::base::sync::Arc;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

const STYLES: [&str; 4] = ["lazy", "leveled", "tiered", "fifo"];

struct Case {
    head: String,
    options: KeyspaceOptions,
    idle: bool,
    horizon: Horizon,
    version: Version,
    busy: Busy,
    question: String,
    answer: String,
}

fn size_of(text: &str) -> u64 {
    let unit = match text.chars().last() {
        Some('K') => 1 << 10,
        Some('M') => 1 << 20,
        Some('G') => 1 << 30,
        Some('T') => 1 << 40,
        _ => return text.parse().unwrap(),
    };
    text[..text.len() - 1].parse::<u64>().unwrap() * unit
}

fn parse(text: &str) -> Case {
    let (head, answer) = text.split_once("\n----").expect("a case has an answer");
    let mut case = Case {
        head: head.trim().to_string(),
        options: KeyspaceOptions::new()
            .write_buffer_bytes(64 << 10)
            .table_bytes(64 << 10),
        idle: false,
        horizon: Horizon {
            newest_reader: None,
            ..Horizon::at(SeqNo::MAX)
        },
        version: Version::default(),
        busy: Busy::default(),
        question: String::new(),
        answer: answer.trim().to_string(),
    };
    let mut sketch = String::new();
    for line in head.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with('L') {
            writeln!(sketch, "{line}").unwrap();
        } else if STYLES.iter().any(|style| line.starts_with(style)) {
            parse_options(line, &mut case);
        } else if let Some(files) = line.strip_prefix("busy ") {
            case.version = Version::parse(&sketch).unwrap();
            for file in files.split_whitespace() {
                reserve(&mut case, file.parse().unwrap());
            }
        } else {
            case.question = line.to_string();
        }
    }
    case.version = Version::parse(&sketch).unwrap();
    case
}

fn parse_options(line: &str, case: &mut Case) {
    for word in line.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let options = case.options.clone();
        case.options = match name {
            "lazy" => options.compaction(CompactionStyle::Lazy),
            "leveled" => options.compaction(CompactionStyle::Leveled),
            "tiered" => options.compaction(CompactionStyle::Tiered),
            "fifo" => options.compaction(CompactionStyle::Fifo),
            "keep" => options.fifo_bytes(size_of(value)),
            "reader" => {
                case.horizon.newest_reader = Some(SeqNo::new(value.parse().unwrap()));
                options
            }
            "buffer" => options.write_buffer_bytes(size_of(value)),
            "table" => options.table_bytes(size_of(value)),
            "level0" => options.level0_runs(value.parse().unwrap()),
            "tier" => options.tier_runs(value.parse().unwrap()),
            "ratio" => options.size_ratio(value.parse().unwrap()),
            "idle" => {
                case.idle = true;
                options
            }
            "oldest" => {
                case.horizon.snapshots = vec![SeqNo::new(value.parse().unwrap())];
                options
            }
            "expired" => {
                case.horizon.expired = Some(Time(value.parse().unwrap()));
                options
            }
            _ => panic!("unknown option {word}"),
        };
    }
}

/// Some job reads the file and writes its level.
fn reserve(case: &mut Case, file: u64) {
    let (level, order, table) = case
        .version
        .tables()
        .find(|(_, _, table)| table.meta().file.0 == file)
        .expect("a busy file is in the version");
    let job = Job {
        reason: Reason::Manual,
        inputs: vec![(level, order, vec![Arc::clone(table)])],
        output_level: level,
        output_order: Some(order),
        trivial_move: false,
        cuts: Vec::new(),
        below: Vec::new(),
        deleted: Arc::default(),
        drops: false,
    };
    case.busy.reserve(&job);
}

fn answer(case: &mut Case) -> String {
    let words: Vec<&str> = case.question.split_whitespace().collect();
    let mut out = String::new();
    match words.as_slice() {
        ["pick", count @ ..] => {
            let count = count.first().map_or(1, |n| n.parse().unwrap());
            for _ in 0..count {
                let job = pick(
                    &case.version,
                    &case.busy,
                    &case.options,
                    &case.horizon,
                    case.idle,
                );
                match job {
                    None => writeln!(out, "nothing").unwrap(),
                    Some(job) => {
                        writeln!(out, "{job}").unwrap();
                        case.busy.reserve(&job);
                    }
                }
            }
        }
        ["drain"] => {
            let (idle, options) = (case.idle, case.options.clone());
            let horizon = case.horizon.clone();
            drain(case, &mut out, |version, busy| {
                pick(version, busy, &options, &horizon, idle)
            });
        }
        ["manual", range @ ..] => {
            let (from, to) = match range {
                [from, to] => (Some(from.as_bytes()), Some(to.as_bytes())),
                _ => (None, None),
            };
            let manual = Manual::new(&case.version, from, to);
            let options = case.options.clone();
            drain(case, &mut out, |version, busy| {
                pick_manual(version, busy, &options, &manual)
            });
            assert_eq!(
                manual.is_done(&case.version, &case.options),
                case.busy.is_empty() || out.is_empty()
            );
        }
        ["debt"] => writeln!(out, "{:.3}", debt(&case.version, &case.options)).unwrap(),
        _ => panic!("unknown question {:?}", case.question),
    }
    out.trim_end().to_string()
}

fn drain(case: &mut Case, out: &mut String, next: impl Fn(&Version, &Busy) -> Option<Job>) {
    for round in 0.. {
        assert!(round < 1000, "PI2: no end\n{out}");
        let Some(job) = next(&case.version, &case.busy) else {
            break;
        };
        assert!(case.busy.admits(&job), "PI1: {job}");
        writeln!(out, "{job}").unwrap();
        case.version = applied(&case.version, &job, &case.options, case.horizon.oldest());
    }
    write!(out, "{}", case.version).unwrap();
}

/// A run of a version as text: entries, tombstones, bytes, keys.
struct Piece {
    keys: (String, String),
    bytes: u64,
    entries: u64,
    tombstones: u64,
    file: u64,
}

/// The version after `job`, with outputs as large as the inputs, cut as the executor would.
fn applied(version: &Version, job: &Job, options: &KeyspaceOptions, oldest: SeqNo) -> Version {
    let mut runs: BTreeMap<(u8, u64), Vec<Piece>> = BTreeMap::new();
    let (mut file, mut order) = (0, 0);
    let gone: Vec<_> = job.tables().map(|t| t.meta().file).collect();
    for (level, run, table) in version.tables() {
        let meta = table.meta();
        (file, order) = (meta.file.0.max(file), run.max(order));
        if !gone.contains(&meta.file) {
            runs.entry((level, run)).or_default().push(piece(table));
        }
    }
    let run = (job.output_level, job.output_order.unwrap_or(order + 1));
    let outputs = runs.entry(run).or_default();
    if job.drops {
        // Nothing comes of them.
    } else if job.trivial_move {
        outputs.extend(job.tables().map(|table| piece(table)));
    } else {
        // Half of a table's bytes at its first key, half at its last.
        let mut points: BTreeMap<String, [u64; 3]> = BTreeMap::new();
        for table in job.tables() {
            let p = piece(table);
            let dropped = job.below.is_empty() && table.meta().summary.seqnos.1 <= oldest;
            let dead = if dropped { p.tombstones } else { 0 };
            let all = [p.bytes, p.entries - dead, p.tombstones - dead];
            for (i, n) in all.into_iter().enumerate() {
                points.entry(p.keys.0.clone()).or_default()[i] += n / 2;
                points.entry(p.keys.1.clone()).or_default()[i] += n - n / 2;
            }
        }
        let mut splitter =
            super::super::split::Splitter::new(&job.cuts, options.table_bytes, job.bytes());
        let mut open: Option<Piece> = None;
        for (key, [bytes, entries, tombstones]) in points {
            let before = open.as_ref().map_or(0, |p| p.bytes);
            if splitter.ends_before(key.as_bytes(), before) {
                outputs.extend(open.take());
            }
            let p = open.get_or_insert_with(|| {
                file += 1;
                let keys = (key.clone(), key.clone());
                Piece {
                    keys,
                    bytes: 0,
                    entries: 0,
                    tombstones: 0,
                    file,
                }
            });
            p.keys.1 = key;
            p.bytes += bytes;
            p.entries += entries;
            p.tombstones += tombstones;
        }
        outputs.extend(open);
    }
    let mut text = String::new();
    for ((level, order), pieces) in runs.iter().filter(|(_, pieces)| !pieces.is_empty()) {
        write!(text, "L{level}.{order}").unwrap();
        for p in pieces {
            let Piece {
                keys,
                bytes,
                entries,
                tombstones,
                file,
            } = p;
            write!(
                text,
                " {}-{}:{bytes} n={entries} t={tombstones} #{file}",
                keys.0, keys.1
            )
            .unwrap();
        }
        text.push('\n');
    }
    Version::parse(&text).unwrap_or_else(|error| panic!("{job} makes no version: {error}"))
}

fn piece(table: &TableEntry) -> Piece {
    let summary = &table.meta().summary;
    let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
    Piece {
        keys: (text(&summary.smallest), text(&summary.largest)),
        bytes: summary.bytes,
        entries: summary.entries,
        tombstones: summary.tombstones,
        file: table.meta().file.0,
    }
}

fn check(name: &str, cases_min: usize) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/specs/policy", name]
        .iter()
        .collect();
    let text = std::fs::read_to_string(&path).unwrap();
    let mut rewritten = Vec::new();
    let mut wrong = String::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let mut case = parse(block);
        let found = answer(&mut case);
        if found != case.answer {
            write!(
                wrong,
                "{}\n---- expected\n{}\n---- found\n{found}\n\n",
                case.head, case.answer
            )
            .unwrap();
        }
        rewritten.push(format!("{}\n----\n{found}\n", case.head));
    }
    assert!(cases_min <= rewritten.len(), "{name} has lost cases");
    if std::env::var_os("UPDATE_SPECS").is_some() {
        std::fs::write(&path, rewritten.join("\n")).unwrap();
    } else {
        assert!(wrong.is_empty(), "{name}:\n{wrong}");
    }
}

#[test]
fn lazy_compaction_is_as_specified() {
    check("lazy.spec", 14);
}

#[test]
fn leveled_compaction_is_as_specified() {
    check("leveled.spec", 8);
}

#[test]
fn tiered_compaction_is_as_specified() {
    check("tiered.spec", 10);
}

#[test]
fn fifo_is_as_specified() {
    check("fifo.spec", 10);
}

#[test]
fn manual_compaction_is_as_specified() {
    check("manual.spec", 5);
}

#[test]
fn what_has_expired_is_compacted_as_specified() {
    check("expired.spec", 7);
}

#[test]
fn sizes_of_ten_terabytes_and_absurd_options_do_not_overflow() {
    assert_eq!(grown(256 << 20, 8, 6), 1 << 46);
    assert_eq!(grown(1 << 36, 100, 31), u64::MAX);
    assert_eq!(overdue_bytes(30 << 40, 10 << 40), 1.0);
    assert_eq!(overdue_bytes(u64::MAX, 0), (u64::MAX as f64 - 1.0) / 2.0);
}

//! Medians, ratios, the Markdown table, and the JSON record with where it was measured.

use crate::engine::Result;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One figure of one child: a cell of the table in one round.
#[derive(Clone, Debug)]
pub struct Measurement {
    pub row: String,
    pub engine: String,
    pub round: u32,
    pub ns_per_operation: f64,
    pub operations: u64,
    /// Size of the directory after closing.
    pub directory_bytes: u64,
    /// What the process made the kernel write to the device (`/proc/self/io`).
    pub written_bytes: u64,
}

/// Middle value; the mean of the middle two for an even count.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[n / 2]),
        _ => Some((values[n / 2 - 1] + values[n / 2]) / 2.0),
    }
}

fn cell(all: &[Measurement], row: &str, engine: &str) -> Option<f64> {
    let values = all
        .iter()
        .filter(|m| m.row == row && m.engine == engine)
        .map(|m| m.ns_per_operation)
        .collect();
    median(values)
}

fn rows(all: &[Measurement]) -> Vec<&str> {
    let mut rows: Vec<&str> = Vec::new();
    for m in all {
        if !rows.contains(&m.row.as_str()) {
            rows.push(&m.row);
        }
    }
    rows
}

/// ns/op of each engine, and how much faster the first engine is than each of the others.
pub fn table(all: &[Measurement], engines: &[&str]) -> String {
    let mut text = String::from("| ns/op, median |");
    let (subject, others) = engines.split_first().unwrap_or((&"", &[]));
    for engine in engines {
        let _ = write!(text, " {engine} |");
    }
    for other in others {
        let _ = write!(text, " {other} ÷ {subject} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|".repeat(engines.len() + others.len()));
    text.push('\n');
    for row in rows(all) {
        let _ = write!(text, "| {row} |");
        for engine in engines {
            match cell(all, row, engine) {
                Some(ns) if ns < 100.0 => drop(write!(text, " {ns:.1} |")),
                Some(ns) => drop(write!(text, " {ns:.0} |")),
                None => text.push_str(" – |"),
            }
        }
        for other in others {
            match (cell(all, row, subject), cell(all, row, other)) {
                (Some(ours), Some(theirs)) => drop(write!(text, " {:.2} |", theirs / ours)),
                _ => text.push_str(" – |"),
            }
        }
        text.push('\n');
    }
    text
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string());
    text.ok()
        .filter(|t| !t.is_empty())
        .unwrap_or_else(|| "unknown".to_string())
}

fn line_of(file: &str, prefix: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(prefix));
    line.map_or("unknown".to_string(), |l| {
        l.trim_start_matches([':', ' ', '\t']).to_string()
    })
}

/// Machine, kernel, disk, compiler and commit.
pub fn place(directory: &Path) -> Value {
    json!({
        "processor": line_of("/proc/cpuinfo", "model name"),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": line_of("/proc/meminfo", "MemTotal"),
        "kernel": output("uname", &["-sr"]),
        "file_system": output("stat", &["-f", "-c", "%T", &directory.to_string_lossy()]),
        "compiler": output("rustc", &["--version"]),
        "commit": output("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"]),
        "modified": output("git", &["-C", env!("CARGO_MANIFEST_DIR"), "status", "--porcelain"]) != "unknown",
        "date": output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
    })
}

/// Writes `<date>-<commit>.json` into `record` and says where.
pub fn save(record: &Path, place: Value, scale: Value, all: &[Measurement]) -> Result<PathBuf> {
    let measurements: Vec<Value> = all
        .iter()
        .map(|m| {
            json!({
                "row": m.row, "engine": m.engine, "round": m.round,
                "ns_per_operation": m.ns_per_operation, "operations": m.operations,
                "directory_bytes": m.directory_bytes, "written_bytes": m.written_bytes,
            })
        })
        .collect();
    let text = |name: &str| place[name].as_str().unwrap_or("unknown").to_string();
    let commit: String = text("commit").chars().take(10).collect();
    let name = format!("{}-{commit}.json", text("date").replace(':', ""));
    std::fs::create_dir_all(record)?;
    let path = record.join(name);
    let all = json!({ "place": place, "scale": scale, "measurements": measurements });
    std::fs::write(&path, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_medians_and_ratios_and_gaps() {
        let m = |engine: &str, round, ns| Measurement {
            row: "fill".into(),
            engine: engine.into(),
            round,
            ns_per_operation: ns,
            operations: 1,
            directory_bytes: 0,
            written_bytes: 0,
        };
        let all = [
            m("a", 0, 10.0),
            m("a", 1, 90.0),
            m("a", 2, 20.0),
            m("b", 0, 50.0),
        ];
        let text = table(&all, &["a", "b", "c"]);
        assert!(
            text.contains("| fill | 20.0 | 50.0 | – | 2.50 | – |"),
            "{text}"
        );
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}

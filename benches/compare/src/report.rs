//! Medians, ratios, the Markdown tables, and the JSON record with where it was measured.

use crate::engine::Result;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What the children have found.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub measurements: Vec<Measurement>,
    pub overruns: Vec<Overrun>,
    /// Why there is not more, if it was ended.
    pub ended_by: Option<String>,
}

/// One figure of one child: a cell of the table in one round.
#[derive(Clone, Debug)]
pub struct Measurement {
    pub workload: String,
    pub row: String,
    pub engine: String,
    pub round: u32,
    pub ns_per_operation: f64,
    pub operations: u64,
    /// Keys and values that are in the store at the end, and that were written; 0 in rows that are
    /// not about space.
    pub live_bytes: u64,
    pub user_bytes: u64,
    /// Size of the directory after closing.
    pub directory_bytes: u64,
    /// What the process made the kernel write to the device (`/proc/self/io`).
    pub written_bytes: u64,
    /// The most memory the process had, mapped files in it (`VmHWM`).
    pub resident_bytes_peak: u64,
}

/// A child that was ended because it took too long.
#[derive(Clone, Debug)]
pub struct Overrun {
    pub workload: String,
    pub engine: String,
    pub limit: Duration,
}

impl Run {
    pub fn is_over(&self, workload: &str, engine: &str) -> bool {
        self.limit_of(workload, engine).is_some()
    }

    fn limit_of(&self, workload: &str, engine: &str) -> Option<Duration> {
        let mut overruns = self.overruns.iter();
        overruns
            .find(|o| o.workload == workload && o.engine == engine)
            .map(|o| o.limit)
    }

    fn of<'a>(&'a self, row: Row<'a>, engine: &'a str) -> impl Iterator<Item = &'a Measurement> {
        self.measurements
            .iter()
            .filter(move |m| m.row == row.name && m.engine == engine)
    }

    /// The median of what `number` is in the rounds; nothing where the engine was too slow in any
    /// of them.
    fn median(&self, row: Row<'_>, engine: &str, number: fn(&Measurement) -> f64) -> Option<f64> {
        if self.is_over(row.workload, engine) {
            return None;
        }
        median(self.of(row, engine).map(number).collect())
    }

    /// Rows in the order in which they came; a workload that no engine finished is one row.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = Vec::new();
        for m in &self.measurements {
            if rows.iter().all(|row| row.name != m.row) {
                rows.push(Row {
                    workload: &m.workload,
                    name: &m.row,
                });
            }
        }
        for o in &self.overruns {
            if rows.iter().all(|row| row.workload != o.workload) {
                rows.push(Row {
                    workload: &o.workload,
                    name: &o.workload,
                });
            }
        }
        rows
    }

    /// How many times the time of `subject` the other takes.
    pub fn ratio(&self, row: Row<'_>, subject: &str, other: &str) -> Option<f64> {
        let ours = self.median(row, subject, |m| m.ns_per_operation)?;
        let theirs = self.median(row, other, |m| m.ns_per_operation)?;
        Some(theirs / ours)
    }

    /// Over the rows in which both have a figure.
    pub fn mean_ratio(&self, subject: &str, other: &str) -> Option<f64> {
        let ratios: Vec<f64> = self
            .rows()
            .into_iter()
            .filter_map(|row| self.ratio(row, subject, other))
            .collect();
        let logarithms: f64 = ratios.iter().map(|r| r.ln()).sum();
        (!ratios.is_empty()).then(|| (logarithms / ratios.len() as f64).exp())
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    workload: &'a str,
    pub name: &'a str,
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

/// ns/op of each engine, and how much faster the first engine is than each of the others; the
/// geometric means of that at the end.
pub fn table(run: &Run, engines: &[&str]) -> String {
    let (subject, others) = engines.split_first().unwrap_or((&"", &[]));
    let ratio_names = others.iter().map(|other| format!("{other} ÷ {subject}"));
    let names = engines.iter().map(ToString::to_string).chain(ratio_names);
    let mut text = heading("ns/op, median", names.collect());
    for row in run.rows() {
        let cells = engines.iter().map(|engine| time_cell(run, row, engine));
        let ratios = others
            .iter()
            .map(|other| ratio_cell(run.ratio(row, subject, other)));
        line(&mut text, row.name, cells.chain(ratios));
    }
    let gaps = engines.iter().map(|_| String::new());
    let means = others
        .iter()
        .map(|other| ratio_cell(run.mean_ratio(subject, other)));
    line(&mut text, "geometric mean", gaps.chain(means));
    text
}

/// For the rows that fill a store: space at rest for each live byte, and bytes written for each
/// byte of keys and values.
pub fn space_table(run: &Run, engines: &[&str]) -> String {
    let space = engines.iter().map(|engine| format!("{engine}: space"));
    let written = engines.iter().map(|engine| format!("{engine}: written"));
    let mut text = heading(
        "space ÷ live, written ÷ put, median",
        space.chain(written).collect(),
    );
    for row in run.rows() {
        let mut all = run.measurements.iter().filter(|m| m.row == row.name);
        if all.all(|m| m.live_bytes == 0) {
            continue;
        }
        let space = engines.iter().map(|engine| {
            let of_live = |m: &Measurement| m.directory_bytes as f64 / m.live_bytes as f64;
            ratio_cell(run.median(row, engine, of_live))
        });
        let written = engines.iter().map(|engine| {
            let of_put = |m: &Measurement| m.written_bytes as f64 / m.user_bytes as f64;
            ratio_cell(run.median(row, engine, of_put))
        });
        line(&mut text, row.name, space.chain(written));
    }
    text
}

fn heading(first: &str, names: Vec<String>) -> String {
    let mut text = String::new();
    let columns = names.len();
    line(&mut text, first, names.into_iter());
    text.push_str("|---|");
    text.push_str(&"---:|".repeat(columns));
    text.push('\n');
    text
}

fn line(text: &mut String, first: &str, cells: impl Iterator<Item = String>) {
    let _ = write!(text, "| {first} |");
    for cell in cells {
        let _ = write!(text, " {cell} |");
    }
    text.push('\n');
}

fn time_cell(run: &Run, row: Row<'_>, engine: &str) -> String {
    if let Some(limit) = run.limit_of(row.workload, engine) {
        return format!("> {} s", limit.as_secs());
    }
    match run.median(row, engine, |m| m.ns_per_operation) {
        Some(ns) if ns < 100.0 => format!("{ns:.1}"),
        Some(ns) => format!("{ns:.0}"),
        None => "–".to_string(),
    }
}

fn ratio_cell(ratio: Option<f64>) -> String {
    match ratio {
        Some(r) if r < 0.1 => format!("{r:.4}"),
        Some(r) => format!("{r:.2}"),
        None => "–".to_string(),
    }
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
pub fn save(record: &Path, place: Value, scale: Value, run: &Run) -> Result<PathBuf> {
    let measurements: Vec<Value> = run
        .measurements
        .iter()
        .map(|m| {
            json!({
                "workload": m.workload, "row": m.row, "engine": m.engine, "round": m.round,
                "ns_per_operation": m.ns_per_operation, "operations": m.operations,
                "live_bytes": m.live_bytes, "user_bytes": m.user_bytes,
                "directory_bytes": m.directory_bytes, "written_bytes": m.written_bytes,
                "resident_bytes_peak": m.resident_bytes_peak,
            })
        })
        .collect();
    let overruns: Vec<Value> = run
        .overruns
        .iter()
        .map(|o| {
            json!({
                "workload": o.workload, "engine": o.engine, "seconds": o.limit.as_secs(),
            })
        })
        .collect();
    let text = |name: &str| place[name].as_str().unwrap_or("unknown").to_string();
    let commit: String = text("commit").chars().take(10).collect();
    let name = format!("{}-{commit}.json", text("date").replace(':', ""));
    std::fs::create_dir_all(record)?;
    let path = record.join(name);
    let all = json!({
        "place": place, "scale": scale, "measurements": measurements, "overruns": overruns,
        "ended_by": run.ended_by,
    });
    std::fs::write(&path, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(row: &str, engine: &str, round: u32, ns: f64) -> Measurement {
        Measurement {
            workload: format!("work {row}"),
            row: row.into(),
            engine: engine.into(),
            round,
            ns_per_operation: ns,
            operations: 1,
            live_bytes: 0,
            user_bytes: 0,
            directory_bytes: 0,
            written_bytes: 0,
            resident_bytes_peak: 0,
        }
    }

    fn over(row: &str, engine: &str) -> Overrun {
        Overrun {
            workload: format!("work {row}"),
            engine: engine.into(),
            limit: Duration::from_secs(7),
        }
    }

    #[test]
    fn the_table_shows_medians_and_ratios_and_gaps() {
        let run = Run {
            measurements: vec![
                measured("fill", "a", 0, 10.0),
                measured("fill", "a", 1, 90.0),
                measured("fill", "a", 2, 20.0),
                measured("fill", "b", 0, 50.0),
                measured("read", "a", 0, 10.0),
                measured("read", "b", 0, 100.0),
            ],
            ..Run::default()
        };
        let text = table(&run, &["a", "b", "c"]);
        assert!(
            text.contains("| fill | 20.0 | 50.0 | – | 2.50 | – |"),
            "{text}"
        );
        // The root of 2.5 and 10.
        assert!(
            text.ends_with("| geometric mean |  |  |  | 5.00 | – |\n"),
            "{text}"
        );
    }

    #[test]
    fn an_engine_that_was_too_slow_once_has_its_limit_for_a_figure() {
        let run = Run {
            measurements: vec![
                measured("fill", "a", 0, 10.0),
                measured("fill", "b", 0, 50.0),
            ],
            overruns: vec![over("fill", "b"), over("scan", "b")],
            ended_by: None,
        };
        let text = table(&run, &["a", "b"]);
        assert!(text.contains("| fill | 10.0 | > 7 s | – |"), "{text}");
        assert!(text.contains("| work scan | – | > 7 s | – |"), "{text}");
    }

    #[test]
    fn space_is_told_of_rows_that_fill() {
        let fill = Measurement {
            live_bytes: 100,
            user_bytes: 200,
            directory_bytes: 150,
            written_bytes: 800,
            ..measured("fill", "a", 0, 1.0)
        };
        let run = Run {
            measurements: vec![fill, measured("read", "a", 0, 1.0)],
            ..Run::default()
        };
        let text = space_table(&run, &["a", "b"]);
        assert!(text.contains("| fill | 1.50 | – | 4.00 | – |"), "{text}");
        assert!(!text.contains("read"), "{text}");
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}

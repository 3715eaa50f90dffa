//! The Markdown tables of a run, and the JSON record with where it was measured.

use crate::engine::Result;
use crate::run::{Found, Gap, Measurement, Row, Run};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// ns/op of each engine, and how much faster the first engine is than each of the others; the
/// geometric means of that at the end.
pub fn table(run: &Run, rows: &[Row<'_>], engines: &[&str]) -> String {
    let (subject, others) = engines.split_first().unwrap_or((&"", &[]));
    let ratio_names = others.iter().map(|other| format!("{other} ÷ {subject}"));
    let names = engines.iter().map(ToString::to_string).chain(ratio_names);
    let mut text = heading("ns/op, median", names.collect());
    for &row in rows {
        let cells = engines.iter().map(|engine| time_cell(run, row, engine));
        let ratios = others
            .iter()
            .map(|other| ratio_cell(run.ratio(row, subject, other)));
        line(&mut text, row.name, cells.chain(ratios));
    }
    let gaps = engines.iter().map(|_| String::new());
    let means = others
        .iter()
        .map(|other| ratio_cell(run.mean_ratio(rows, subject, other)));
    line(&mut text, "geometric mean", gaps.chain(means));
    text + &reasons(run)
}

/// Why an engine has "no" for a figure.
fn reasons(run: &Run) -> String {
    let mut lines: Vec<String> = Vec::new();
    for outcome in &run.outcomes {
        if let Found::Gap(Gap::Unsupported { reason }) = &outcome.found {
            let (workload, engine) = (&outcome.workload, &outcome.engine);
            lines.push(format!("{workload}, {engine}: no, {reason}\n"));
        }
    }
    if !lines.is_empty() {
        lines.insert(0, "\n".to_string());
    }
    lines.concat()
}

/// For the rows that fill a store: space at rest for each live byte, and bytes written for each
/// byte of keys and values.
pub fn space_table(run: &Run, rows: &[Row<'_>], engines: &[&str]) -> String {
    let space = engines.iter().map(|engine| format!("{engine}: space"));
    let written = engines.iter().map(|engine| format!("{engine}: written"));
    let mut text = heading(
        "space ÷ live, written ÷ put, median",
        space.chain(written).collect(),
    );
    for &row in rows {
        let mut all = run.measurements().filter(|(_, m)| m.row == row.name);
        if all.all(|(_, m)| m.live_bytes == 0) {
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

/// How long the children of each workload and each engine have lived in sum: what the next run will
/// take.
pub fn seconds_table(run: &Run, workloads: &[&str], engines: &[&str]) -> String {
    let names = engines.iter().map(ToString::to_string);
    let all = ["all".to_string()];
    let mut text = heading("seconds in all rounds", names.chain(all.clone()).collect());
    let mut sums = vec![0.0; engines.len() + 1];
    for workload in workloads {
        if run.outcomes.iter().all(|o| o.workload != *workload) {
            continue;
        }
        let of = |engine: &&str| run.seconds(workload, engine);
        let mut seconds: Vec<f64> = engines.iter().map(of).collect();
        seconds.push(seconds.iter().sum());
        for (sum, seconds) in sums.iter_mut().zip(&seconds) {
            *sum += seconds;
        }
        line(
            &mut text,
            workload,
            seconds.iter().map(|s| format!("{s:.0}")),
        );
    }
    line(&mut text, &all[0], sums.iter().map(|s| format!("{s:.0}")));
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
    if let Some(gap) = run.gap(row.workload, engine) {
        return gap.cell();
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

/// Writes `<date>-<commit>.json` into `record` and says where.
pub fn save(record: &Path, place: Value, scale: Value, run: &Run) -> Result<PathBuf> {
    let measurements: Vec<Value> = run
        .measurements()
        .map(|(outcome, m)| outcome.json(m.to_json()))
        .collect();
    let gaps: Vec<Value> = run
        .outcomes
        .iter()
        .filter_map(|outcome| match &outcome.found {
            Found::Gap(gap) => Some(outcome.json(gap.to_json())),
            Found::Figures(_) => None,
        })
        .collect();
    let seconds: Vec<Value> = run
        .outcomes
        .iter()
        .map(|outcome| outcome.json(json!({ "seconds": outcome.seconds })))
        .collect();
    let text = |name: &str| place[name].as_str().unwrap_or("unknown").to_string();
    let commit: String = text("commit").chars().take(10).collect();
    let name = format!("{}-{commit}.json", text("date").replace(':', ""));
    std::fs::create_dir_all(record)?;
    let path = record.join(name);
    let all = json!({
        "place": place, "scale": scale, "measurements": measurements, "gaps": gaps,
        "seconds": seconds, "ended_by": run.ended_by,
    });
    std::fs::write(&path, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Outcome;
    use crate::run::tests::{gap, measured};

    const WORKLOADS: &[&str] = &["work fill", "work read", "work scan"];

    fn run(outcomes: Vec<Outcome>) -> Run {
        Run {
            outcomes,
            ended_by: None,
        }
    }

    #[test]
    fn the_table_shows_medians_and_ratios_and_gaps() {
        let run = run(vec![
            measured("fill", "a", 0, 10.0),
            measured("fill", "a", 1, 90.0),
            measured("fill", "a", 2, 20.0),
            measured("fill", "b", 0, 50.0),
            measured("read", "a", 0, 10.0),
            measured("read", "b", 0, 100.0),
        ]);
        let text = table(&run, &run.rows(WORKLOADS), &["a", "b", "c"]);
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
        let too_long = Gap::TooLong { seconds: 7 };
        let run = run(vec![
            measured("fill", "a", 0, 10.0),
            measured("fill", "b", 0, 50.0),
            Outcome {
                round: 1,
                ..gap("fill", "b", too_long.clone())
            },
            gap("scan", "b", too_long),
        ]);
        let text = table(&run, &run.rows(WORKLOADS), &["a", "b"]);
        assert!(text.contains("| fill | 10.0 | > 7 s | – |"), "{text}");
        assert!(text.contains("| work scan | – | > 7 s | – |"), "{text}");
    }

    #[test]
    fn what_an_engine_cannot_do_is_in_the_table_with_its_reason() {
        let unsupported = Gap::Unsupported {
            reason: "keys are too long".into(),
        };
        let run = run(vec![
            measured("fill", "a", 0, 10.0),
            gap("fill", "b", unsupported),
        ]);
        let text = table(&run, &run.rows(WORKLOADS), &["a", "b"]);
        assert!(text.contains("| fill | 10.0 | no | – |"), "{text}");
        let reason = "\n\nwork fill, b: no, keys are too long\n";
        assert!(text.ends_with(reason), "{text}");
    }

    #[test]
    fn space_is_told_of_rows_that_fill() {
        let mut fill = measured("fill", "a", 0, 1.0);
        if let Found::Figures(figures) = &mut fill.found {
            figures[0].live_bytes = 100;
            figures[0].user_bytes = 200;
            figures[0].directory_bytes = 150;
            figures[0].written_bytes = 800;
        }
        let run = run(vec![fill, measured("read", "a", 0, 1.0)]);
        let text = space_table(&run, &run.rows(WORKLOADS), &["a", "b"]);
        assert!(text.contains("| fill | 1.50 | – | 4.00 | – |"), "{text}");
        assert!(!text.contains("read"), "{text}");
    }

    #[test]
    fn seconds_are_summed_by_workload_and_by_engine() {
        // 1.5 s each.
        let run = run(vec![
            measured("fill", "a", 0, 1.0),
            measured("fill", "a", 1, 1.0),
            measured("read", "a", 0, 1.0),
            measured("read", "a", 1, 1.0),
            measured("read", "b", 0, 1.0),
            measured("read", "b", 1, 1.0),
        ]);
        let text = seconds_table(&run, WORKLOADS, &["a", "b"]);
        assert!(text.contains("| work fill | 3 | 0 | 3 |"), "{text}");
        assert!(text.ends_with("| all | 6 | 3 | 9 |\n"), "{text}");
        assert!(!text.contains("scan"), "{text}");
    }
}

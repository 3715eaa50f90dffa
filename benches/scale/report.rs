//! The table for people, and the record with where it was measured.

use super::Result;
use super::arguments::Arguments;
use super::data::{KEY_BYTES, VALUE_BYTES};
use super::place::place;
use super::store::Figure;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::PathBuf;

/// A column of the table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) heading: String,
    pub(crate) figures: Vec<Figure>,
}

impl Column {
    fn cell(&self, row: &str) -> String {
        let figure = self.figures.iter().find(|figure| figure.name == row);
        figure.map_or("–".to_string(), |figure| shown(figure.value))
    }
}

/// Three digits or all that stand before the point.
fn shown(value: f64) -> String {
    let value = value + 0.0; // The sum of nothing is -0.
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// 10000000 as 10,000,000.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if 0 < i && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Rows in the order of the first column that has them.
pub(crate) fn table(columns: &[Column]) -> String {
    let mut rows: Vec<&str> = Vec::new();
    for figure in columns.iter().flat_map(|column| &column.figures) {
        if !rows.contains(&figure.name.as_str()) {
            rows.push(&figure.name);
        }
    }
    let mut text = String::new();
    let mut line = |first: &str, cells: Vec<String>| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "| {first} | {} |", cells.join(" | "));
    };
    line("", columns.iter().map(|c| c.heading.clone()).collect());
    line("---", vec!["---:".to_string(); columns.len()]);
    for row in rows {
        line(row, columns.iter().map(|column| column.cell(row)).collect());
    }
    text
}

/// Writes `<date>-<commit>-scale.json` and says where.
pub(crate) fn save(
    arguments: &Arguments,
    columns: &[Column],
    ended_by: Option<&str>,
) -> Result<PathBuf> {
    let mut place = place(&arguments.directory);
    // Times of a busy machine are not those of a quiet one.
    place["load"] = json!(std::fs::read_to_string("/proc/loadavg")?.trim());
    let columns: Vec<Value> = columns
        .iter()
        .map(|column| {
            let figures = column.figures.iter();
            let figures: Map<String, Value> = figures
                .map(|figure| (figure.name.clone(), json!(figure.value)))
                .collect();
            json!({ "column": column.heading, "figures": figures })
        })
        .collect();
    let text = |name: &str| place[name].as_str().unwrap_or("unknown").to_string();
    let date: String = text("date").chars().take(10).collect();
    let commit: String = text("commit").chars().take(7).collect();
    let path = arguments.record.join(format!("{date}-{commit}-scale.json"));
    let record = json!({
        "place": place,
        "note": arguments.note,
        "scale": {
            "keys": arguments.keys,
            "keyspaces": arguments.keyspaces,
            "buffer_bytes": arguments.buffer_bytes,
            "key_bytes": KEY_BYTES,
            "value_bytes": VALUE_BYTES,
        },
        "columns": columns,
        "ended_by": ended_by,
    });
    std::fs::create_dir_all(&arguments.record)?;
    std::fs::write(&path, serde_json::to_string_pretty(&record)? + "\n")?;
    Ok(path)
}

//! What a run has found, as the tables, the chart and the record ask for it, and as JSON.

use crate::engine::Result;
use serde_json::{Value, json};

/// What the children have found.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub outcomes: Vec<Outcome>,
    /// Why there is not more, if it was ended.
    pub ended_by: Option<String>,
}

/// What came of one workload with one engine in one round: what one child has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub workload: String,
    pub engine: String,
    pub round: u32,
    /// The life of the child, its loading and closing in it.
    pub seconds: f64,
    pub found: Found,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Figures(Vec<Measurement>),
    Gap(Gap),
}

/// Why there are no figures.
#[derive(Clone, Debug, PartialEq)]
pub enum Gap {
    /// It was ended when it had taken so long.
    TooLong { seconds: u64 },
    /// The kernel killed it because of the memory limit.
    Killed,
    /// The engine cannot do it at all.
    Unsupported { reason: String },
}

/// One figure of one child: a cell of the table in one round.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    pub row: String,
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
    /// What it made the kernel read from the device, and how often a thread waited for such a read
    /// at a page of a mapped file or of the program.
    pub read_bytes: u64,
    pub major_faults: u64,
    /// The most memory the process had, mapped files in it (`VmHWM`).
    pub resident_bytes_peak: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub workload: &'a str,
    pub name: &'a str,
}

impl Run {
    /// True when the engine has no figures for the workload in one of the rounds, and so in none.
    pub fn has_gap(&self, workload: &str, engine: &str) -> bool {
        self.gap(workload, engine).is_some()
    }

    pub fn gap(&self, workload: &str, engine: &str) -> Option<&Gap> {
        let mut theirs = self.outcomes_of(workload, engine);
        theirs.find_map(|outcome| match &outcome.found {
            Found::Gap(gap) => Some(gap),
            Found::Figures(_) => None,
        })
    }

    pub fn has(&self, workload: &str, engine: &str, round: u32) -> bool {
        self.outcomes_of(workload, engine)
            .any(|outcome| outcome.round == round)
    }

    /// Seconds that its children have lived, in all rounds.
    pub fn seconds(&self, workload: &str, engine: &str) -> f64 {
        // Not `sum`: of nothing, that is -0.
        self.outcomes_of(workload, engine)
            .fold(0.0, |sum, outcome| sum + outcome.seconds)
    }

    fn outcomes_of(&self, workload: &str, engine: &str) -> impl Iterator<Item = &Outcome> {
        self.outcomes
            .iter()
            .filter(move |o| o.workload == workload && o.engine == engine)
    }

    pub fn measurements(&self) -> impl Iterator<Item = (&Outcome, &Measurement)> {
        self.outcomes
            .iter()
            .flat_map(|o| o.measurements().iter().map(move |m| (o, m)))
    }

    /// The median of what `number` is in the rounds; nothing where there is a gap in any of them.
    pub fn median(
        &self,
        row: Row<'_>,
        engine: &str,
        number: fn(&Measurement) -> f64,
    ) -> Option<f64> {
        if self.has_gap(row.workload, engine) {
            return None;
        }
        let theirs = self.outcomes_of(row.workload, engine);
        let figures = theirs.flat_map(Outcome::measurements);
        median(figures.filter(|m| m.row == row.name).map(number).collect())
    }

    /// Rows in the order of `workloads`; a workload that no engine finished is one row.
    pub fn rows<'a>(&'a self, workloads: &[&'a str]) -> Vec<Row<'a>> {
        let mut rows: Vec<Row<'a>> = Vec::new();
        for &workload in workloads {
            let all = self.outcomes.iter().filter(|o| o.workload == workload);
            let first = rows.len();
            for m in all.clone().flat_map(Outcome::measurements) {
                if rows[first..].iter().all(|row| row.name != m.row) {
                    rows.push(Row {
                        workload,
                        name: &m.row,
                    });
                }
            }
            if rows.len() == first && all.count() != 0 {
                rows.push(Row {
                    workload,
                    name: workload,
                });
            }
        }
        rows
    }

    /// Those of `names` that were asked for anything.
    pub fn engines<'a>(&self, names: &[&'a str]) -> Vec<&'a str> {
        let asked = |name: &&str| self.outcomes.iter().any(|o| o.engine == *name);
        names.iter().copied().filter(asked).collect()
    }

    /// How many times the time of `subject` the other takes.
    pub fn ratio(&self, row: Row<'_>, subject: &str, other: &str) -> Option<f64> {
        let ours = self.median(row, subject, |m| m.ns_per_operation)?;
        let theirs = self.median(row, other, |m| m.ns_per_operation)?;
        Some(theirs / ours)
    }

    /// The geometric mean over those of the rows in which both have a figure.
    pub fn mean_ratio(&self, rows: &[Row<'_>], subject: &str, other: &str) -> Option<f64> {
        let ratios: Vec<f64> = rows
            .iter()
            .filter_map(|row| self.ratio(*row, subject, other))
            .collect();
        let logarithms: f64 = ratios.iter().map(|r| r.ln()).sum();
        (!ratios.is_empty()).then(|| (logarithms / ratios.len() as f64).exp())
    }
}

/// Middle value; the mean of the middle two for an even count.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[n / 2]),
        _ => Some((values[n / 2 - 1] + values[n / 2]) / 2.0),
    }
}

impl Outcome {
    pub fn measurements(&self) -> &[Measurement] {
        match &self.found {
            Found::Figures(measurements) => measurements,
            Found::Gap(_) => &[],
        }
    }

    /// Which child it was, and `more` about it.
    pub fn json(&self, more: Value) -> Value {
        let mut all = json!({
            "workload": self.workload, "engine": self.engine, "round": self.round,
        });
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
        all
    }

    /// The whole of it.
    pub fn to_json(&self) -> Value {
        let mut all = self.json(self.found.to_json());
        all["seconds"] = self.seconds.into();
        all
    }

    pub fn from_json(json: &Value) -> Result<Self> {
        Ok(Outcome {
            workload: text(json, "workload")?,
            engine: text(json, "engine")?,
            round: u32::try_from(whole(json, "round")?)?,
            seconds: number(json, "seconds")?,
            found: Found::from_json(json)?,
        })
    }
}

impl Found {
    pub fn to_json(&self) -> Value {
        match self {
            Found::Figures(figures) => {
                json!({ "figures": figures.iter().map(Measurement::to_json).collect::<Vec<_>>() })
            }
            Found::Gap(gap) => json!({ "gap": gap.to_json() }),
        }
    }

    pub fn from_json(json: &Value) -> Result<Self> {
        if let Some(figures) = json["figures"].as_array() {
            let figures: Result<_> = figures.iter().map(Measurement::from_json).collect();
            return Ok(Found::Figures(figures?));
        }
        Ok(Found::Gap(Gap::from_json(&json["gap"])?))
    }
}

impl Gap {
    /// What stands in the place of a figure.
    pub fn cell(&self) -> String {
        match self {
            Gap::TooLong { seconds } => format!("> {seconds} s"),
            Gap::Killed => "killed".to_string(),
            Gap::Unsupported { .. } => "no".to_string(),
        }
    }

    pub fn to_json(&self) -> Value {
        match self {
            Gap::TooLong { seconds } => json!({ "why": "too long", "limit_seconds": seconds }),
            Gap::Killed => json!({ "why": "killed" }),
            Gap::Unsupported { reason } => json!({ "why": "unsupported", "reason": reason }),
        }
    }

    fn from_json(json: &Value) -> Result<Self> {
        match text(json, "why")?.as_str() {
            "too long" => Ok(Gap::TooLong {
                seconds: whole(json, "limit_seconds")?,
            }),
            "killed" => Ok(Gap::Killed),
            "unsupported" => Ok(Gap::Unsupported {
                reason: text(json, "reason")?,
            }),
            other => Err(format!("there is no gap because of {other}").into()),
        }
    }
}

impl Measurement {
    pub fn to_json(&self) -> Value {
        json!({
            "row": self.row,
            "ns_per_operation": self.ns_per_operation,
            "operations": self.operations,
            "live_bytes": self.live_bytes,
            "user_bytes": self.user_bytes,
            "directory_bytes": self.directory_bytes,
            "written_bytes": self.written_bytes,
            "read_bytes": self.read_bytes,
            "major_faults": self.major_faults,
            "resident_bytes_peak": self.resident_bytes_peak,
        })
    }

    fn from_json(json: &Value) -> Result<Self> {
        Ok(Measurement {
            row: text(json, "row")?,
            ns_per_operation: number(json, "ns_per_operation")?,
            operations: whole(json, "operations")?,
            live_bytes: whole(json, "live_bytes")?,
            user_bytes: whole(json, "user_bytes")?,
            directory_bytes: whole(json, "directory_bytes")?,
            written_bytes: whole(json, "written_bytes")?,
            read_bytes: whole(json, "read_bytes")?,
            major_faults: whole(json, "major_faults")?,
            resident_bytes_peak: whole(json, "resident_bytes_peak")?,
        })
    }
}

fn text(json: &Value, name: &str) -> Result<String> {
    let text = json[name].as_str();
    Ok(text.ok_or_else(|| format!("no text {name}"))?.to_string())
}

fn number(json: &Value, name: &str) -> Result<f64> {
    let number = json[name].as_f64();
    Ok(number.ok_or_else(|| format!("no number {name}"))?)
}

fn whole(json: &Value, name: &str) -> Result<u64> {
    let number = json[name].as_u64();
    Ok(number.ok_or_else(|| format!("no whole number {name}"))?)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The only figure of its child; its workload is named `work` and the row.
    pub fn measured(row: &str, engine: &str, round: u32, ns: f64) -> Outcome {
        Outcome {
            workload: format!("work {row}"),
            engine: engine.into(),
            round,
            seconds: 1.5,
            found: Found::Figures(vec![Measurement {
                row: row.into(),
                ns_per_operation: ns,
                operations: 1,
                live_bytes: 0,
                user_bytes: 0,
                directory_bytes: 0,
                written_bytes: 0,
                read_bytes: 0,
                major_faults: 0,
                resident_bytes_peak: 0,
            }]),
        }
    }

    pub fn gap(row: &str, engine: &str, gap: Gap) -> Outcome {
        Outcome {
            found: Found::Gap(gap),
            ..measured(row, engine, 0, 1.0)
        }
    }

    #[test]
    fn an_outcome_comes_back_from_its_json() {
        let too_long = Gap::TooLong { seconds: 7 };
        let unsupported = Gap::Unsupported {
            reason: "keys".into(),
        };
        for outcome in [
            measured("fill", "a", 2, 1.0 / 3.0),
            gap("fill", "a", too_long),
            gap("fill", "a", Gap::Killed),
            gap("fill", "a", unsupported),
        ] {
            let text = outcome.to_json().to_string();
            let back = Outcome::from_json(&serde_json::from_str(&text).unwrap());
            assert_eq!(back.unwrap(), outcome);
        }
    }

    #[test]
    fn rows_come_in_the_order_of_the_workloads_whatever_came_first() {
        let run = Run {
            outcomes: vec![
                measured("read", "a", 0, 1.0),
                measured("fill", "a", 0, 1.0),
                measured("read", "b", 0, 1.0),
            ],
            ended_by: None,
        };
        let rows = run.rows(&["work fill", "work scan", "work read"]);
        let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names, ["fill", "read"]);
        assert_eq!(run.engines(&["c", "b", "a"]), ["b", "a"]);
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}

//! A run that may be cut off and goes on: its outcomes in a file, a line each.
//!
//! The first line says where and how the run is made (`place` without its date, `scale`); each
//! other one is an `Outcome`. A line is written by one call and synced when its child has ended, so
//! a run that is killed leaves at most one torn line, at the end: it has no line feed, is cut off,
//! and what it was about is measured again.

use crate::engine::Result;
use crate::run::Outcome;
use serde_json::{Value, json};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Why the file of another run cannot be gone on with.
#[derive(Debug, PartialEq)]
pub enum Refused {
    /// `what` is `there` in the file and `here` in this run.
    Differs {
        file: PathBuf,
        what: String,
        there: String,
        here: String,
    },
    /// A whole line, counted from 1, is not what this program writes.
    NotOurs {
        file: PathBuf,
        line: usize,
        why: String,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Differs {
                file,
                what,
                there,
                here,
            } => write!(
                f,
                "{} is of another run: {what} is {there} there and {here} here. Go on as that run \
                 began, or name another file.",
                file.display()
            ),
            Refused::NotOurs { file, line, why } => write!(
                f,
                "{}, line {line}: not of a run of this program ({why}). Name another file.",
                file.display()
            ),
        }
    }
}

impl std::error::Error for Refused {}

/// What the first line begins with, should it be torn.
const HEAD: &[u8] = b"{\"place\":{";

/// The open file of a run.
pub struct Kept(File);

impl Kept {
    /// Opens or begins the file; what is in it already. Rounds are not compared: more of them may
    /// be asked for later.
    pub fn open(path: &Path, place: &Value, scale: &Value) -> Result<(Kept, Vec<Outcome>)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options
            .open(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        let not_ours = |line: usize, why: String| Refused::NotOurs {
            file: path.to_path_buf(),
            line,
            why,
        };

        let mut head = json!({ "place": place, "scale": scale });
        for (part, name) in [("place", "date"), ("scale", "rounds")] {
            if let Some(fields) = head[part].as_object_mut() {
                fields.remove(name);
            }
        }
        let mut outcomes = Vec::new();
        for (number, line) in bytes[..whole].split_inclusive(|&b| b == b'\n').enumerate() {
            let not_ours = |why: String| not_ours(number + 1, why);
            let json: Value = serde_json::from_slice(line).map_err(|e| not_ours(e.to_string()))?;
            if number == 0 {
                compare(path, &json, &head)?;
            } else {
                outcomes.push(Outcome::from_json(&json).map_err(|e| not_ours(e.to_string()))?);
            }
        }
        if whole == 0 && !bytes.is_empty() && !bytes.starts_with(HEAD) {
            return Err(not_ours(1, "it does not begin as one".into()).into());
        }
        // Nothing is cut off before all of the rest is known to be ours.
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        let mut kept = Kept(file);
        if whole == 0 {
            kept.write(&head)?;
        }
        Ok((kept, outcomes))
    }

    pub fn add(&mut self, outcome: &Outcome) -> Result<()> {
        self.write(&outcome.to_json())
    }

    fn write(&mut self, line: &Value) -> Result<()> {
        self.0.write_all(format!("{line}\n").as_bytes())?;
        Ok(self.0.sync_data()?)
    }
}

/// The first field in which the two heads differ, if there is one.
fn compare(path: &Path, there: &Value, here: &Value) -> std::result::Result<(), Refused> {
    for part in ["place", "scale"] {
        let names = [here, there].map(|head| head[part].as_object());
        for name in names.into_iter().flatten().flat_map(|fields| fields.keys()) {
            let (theirs, ours) = (&there[part][name], &here[part][name]);
            if theirs != ours {
                return Err(Refused::Differs {
                    file: path.to_path_buf(),
                    what: name.clone(),
                    there: theirs.to_string(),
                    here: ours.to_string(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::{gap, measured};
    use crate::run::{Gap, Run};

    /// A file of this name that is gone at the end of the test.
    struct Place(PathBuf);

    impl Place {
        fn new(test: &str) -> Place {
            let name = format!("compare-test-{}-{test}.lines", std::process::id());
            let path = std::env::temp_dir().join(name);
            drop(std::fs::remove_file(&path));
            Place(path)
        }

        fn open(&self, keys: u64) -> Result<(Kept, Vec<Outcome>)> {
            let place = json!({ "commit": "abc", "kernel": "Linux", "date": keys });
            Kept::open(&self.0, &place, &json!({ "keys": keys, "rounds": 3 }))
        }

        fn append(&self, text: &str) {
            let mut file = OpenOptions::new().append(true).open(&self.0).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.0));
        }
    }

    #[test]
    fn what_was_kept_is_there_again_and_more_is_added() {
        let place = Place::new("again");
        let outcomes = [
            measured("fill", "a", 0, 10.25),
            gap("read", "b", Gap::TooLong { seconds: 7 }),
            measured("fill", "a", 1, 11.0),
        ];
        for (already, outcome) in outcomes.iter().enumerate() {
            let (mut kept, found) = place.open(5).unwrap();
            assert_eq!(found, outcomes[..already]);
            kept.add(outcome).unwrap();
        }
        let (_, found) = place.open(5).unwrap();
        let run = Run {
            outcomes: found,
            ended_by: None,
        };
        assert!(run.has("work fill", "a", 1));
        assert!(!run.has("work fill", "a", 2));
        assert!(!run.has("work fill", "b", 0));
        assert!(run.has_gap("work read", "b"));
    }

    #[test]
    fn a_torn_line_at_the_end_is_cut_off_and_written_again() {
        let line = measured("fill", "b", 0, 2.0).to_json().to_string();
        for torn in [&line[..1], &line[..line.len() / 2], &line] {
            let place = Place::new("torn");
            let (mut kept, _) = place.open(5).unwrap();
            kept.add(&measured("fill", "a", 0, 1.0)).unwrap();
            place.append(torn);
            let (mut kept, found) = place.open(5).unwrap();
            assert_eq!(found, [measured("fill", "a", 0, 1.0)]);
            kept.add(&measured("fill", "b", 0, 3.0)).unwrap();
            let (_, found) = place.open(5).unwrap();
            assert_eq!(found[1..], [measured("fill", "b", 0, 3.0)]);
        }
    }

    #[test]
    fn a_torn_first_line_is_begun_again() {
        let place = Place::new("torn-head");
        std::fs::write(&place.0, "{\"place\":{\"comm").unwrap();
        let (_, found) = place.open(5).unwrap();
        assert_eq!(found, []);
        assert!(place.open(6).is_err(), "the head was not written again");
    }

    fn refused(answer: Result<(Kept, Vec<Outcome>)>) -> Refused {
        let error = answer.err().expect("it was not refused");
        *error.downcast().expect("another error")
    }

    #[test]
    fn a_file_of_another_run_is_refused_and_says_what_differs() {
        let place = Place::new("differs");
        place.open(5).unwrap();
        let differs = |what: &str, there: &str, here: &str| Refused::Differs {
            file: place.0.clone(),
            what: what.into(),
            there: there.into(),
            here: here.into(),
        };
        assert_eq!(refused(place.open(6)), differs("keys", "5", "6"));
        let other = json!({ "commit": "abd", "kernel": "Linux" });
        let answer = Kept::open(&place.0, &other, &json!({ "keys": 5 }));
        assert_eq!(refused(answer), differs("commit", "\"abc\"", "\"abd\""));
        let less = Kept::open(&place.0, &json!({ "commit": "abc" }), &json!({ "keys": 5 }));
        assert_eq!(refused(less), differs("kernel", "\"Linux\"", "null"));
        place.open(5).unwrap();
    }

    #[test]
    fn a_file_of_something_else_is_refused_and_left_as_it_is() {
        for text in ["notes\n", "{}\nmore\n", "a line without its feed"] {
            let place = Place::new("notes");
            std::fs::write(&place.0, text).unwrap();
            refused(place.open(5));
            assert_eq!(std::fs::read_to_string(&place.0).unwrap(), text);
        }
    }

    #[test]
    fn a_damaged_line_between_others_is_refused_by_its_number() {
        let place = Place::new("damaged");
        place.open(5).unwrap();
        place.append("{\"workload\":\"fill\"}\n");
        let Refused::NotOurs { line, .. } = refused(place.open(5)) else {
            panic!("another reason");
        };
        assert_eq!(line, 2);
    }
}

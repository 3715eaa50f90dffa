//! Specifications as text: `tests/specs/{scan,recovery,wal,table}/*.spec`.
//!
//! A case is a sentence, a small world as lines of commands, `----`, and what the commands
//! answered; a blank line ends it. Each room has its world with its own commands: `database` for
//! whole databases, `segment` for one log segment, `table` for one table.
//! `UPDATE_SPECS=1` rewrites the answers.

mod database;
mod segment;
mod table;

use std::fmt::Write;
use std::path::PathBuf;

/// What runs the commands of one case.
trait World {
    fn new() -> Self;

    /// Runs one command; what it answers, one line or more, or nothing.
    fn run(&mut self, command: &str, words: &[&str]) -> String;
}

/// Runs every case of every file of a room, at least so many.
fn check<W: World>(room: &str, cases_min: usize) {
    let dir: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/specs", room]
        .iter()
        .collect();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "spec"))
        .collect();
    files.sort();
    let mut cases = 0;
    let mut wrong = String::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut rewritten = Vec::new();
        for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
            let (head, answer) = block.split_once("\n----").expect("a case has an answer");
            let (head, answer) = (head.trim(), answer.trim());
            let found = answer_of::<W>(head);
            if found != answer {
                let name = path.display();
                write!(
                    wrong,
                    "{name}\n{head}\n---- expected\n{answer}\n---- found\n{found}\n\n"
                )
                .unwrap();
            }
            rewritten.push(format!("{head}\n----\n{found}\n"));
        }
        cases += rewritten.len();
        if std::env::var_os("UPDATE_SPECS").is_some() {
            std::fs::write(&path, rewritten.join("\n")).unwrap();
        }
    }
    assert!(cases_min <= cases, "{room} has lost cases: {cases} left");
    if std::env::var_os("UPDATE_SPECS").is_none() {
        assert!(wrong.is_empty(), "{wrong}");
    }
}

fn answer_of<W: World>(head: &str) -> String {
    assert!(head.starts_with("# "), "a case begins with a sentence");
    let mut world = W::new();
    let mut out = String::new();
    for line in head.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = world.run(words[0], &words[1..]);
        if !answer.is_empty() {
            writeln!(out, "{answer}").unwrap();
        }
    }
    out.trim_end().to_owned()
}

/// Bytes from text: `''` is empty, `\xff` one byte, `ab*3` a repetition.
fn bytes_of(text: &str) -> Vec<u8> {
    if text == "''" {
        return Vec::new();
    }
    if let Some((unit, times)) = text.split_once('*') {
        return bytes_of(unit).repeat(times.parse().unwrap());
    }
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(&after[..2], 16).unwrap());
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The text of bytes: what [`bytes_of`] reads, long ones of one letter as a repetition.
fn text_of(bytes: &[u8]) -> String {
    match bytes {
        [] => "''".to_owned(),
        [first, ..] if 8 < bytes.len() && bytes.iter().all(|b| b == first) => {
            format!("{}*{}", text_of(&[*first]), bytes.len())
        }
        _ => bytes.iter().fold(String::new(), |mut text, &b| {
            match b.is_ascii_graphic() {
                true => text.push(char::from(b)),
                false => write!(text, "\\x{b:02x}").unwrap(),
            }
            text
        }),
    }
}

/// An error as a user reads it, its kind first.
fn error_text(error: &alluvium::Error) -> String {
    format!("{error:?}")
}

/// A file's bytes with one flipped, cut off, or set to zero.
fn damage(bytes: &mut Vec<u8>, command: &str, words: &[&str]) {
    let number = |n: usize| words[n].parse::<usize>().unwrap();
    match command {
        "flip" => bytes[number(0)] ^= 1,
        "cut" => bytes.truncate(number(0)),
        "zero" => bytes[number(0)..number(1)].fill(0),
        _ => panic!("unknown damage {command}"),
    }
}

#[test]
fn scans_are_as_specified() {
    check::<database::Database>("scan", 15);
}

#[test]
fn recovery_is_as_specified() {
    check::<database::Database>("recovery", 15);
}

#[test]
fn a_log_segment_is_as_specified() {
    check::<segment::Segment>("wal", 8);
}

#[test]
fn a_table_is_as_specified() {
    check::<table::OneTable>("table", 5);
}

//! The list of known bugs is whole: each of the 82 numbers is a test named `bug_NN_…` somewhere in
//! this package, or a line of `none.txt` that says why it cannot happen here yet.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The list's length.
const BUGS: u32 = 82;

/// What speaks for one number: a test, or a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Voice {
    Test(String),
    Reason,
}

/// The tests `bug_NN_…` in a source text, by number.
fn tests_in(source: &str) -> Vec<(u32, String)> {
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let mut tests = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some(name) = line.strip_prefix("fn bug_") else {
            continue;
        };
        let name = name.split('(').next().unwrap_or_default();
        let (number, story) = name.split_once('_').expect("a number and a story");
        // The attributes stand above; a helper with such a name would be no test.
        let attributes = lines[..i].iter().rev().take_while(|l| l.starts_with("#["));
        assert!(
            attributes.into_iter().any(|a| *a == "#[test]"),
            "bug_{name} is no test"
        );
        assert!(number.len() == 2 && !story.is_empty(), "bug_{name}");
        tests.push((number.parse().unwrap(), format!("bug_{name}")));
    }
    tests
}

fn scan(folder: &Path, found: &mut Vec<(u32, Voice)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scan(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let tests = tests_in(&fs::read_to_string(&path).unwrap());
            found.extend(tests.into_iter().map(|(n, name)| (n, Voice::Test(name))));
        }
    }
}

/// The rows of the table: number, why not, what would bring it.
fn reasons(table: &str) -> Vec<(u32, String, String)> {
    let rows = table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [number, why, later] = cells[..] else {
            panic!("not three cells: {row}");
        };
        (
            number.parse().unwrap_or_else(|_| panic!("{row}")),
            why.to_owned(),
            later.to_owned(),
        )
    })
    .collect()
}

#[test]
fn every_known_bug_is_a_test_or_a_reason() {
    let mut found = Vec::new();
    for folder in ["src", "tests"] {
        scan(&Path::new(ROOT).join(folder), &mut found);
    }
    let table = fs::read_to_string(Path::new(ROOT).join("tests/it/bugs/none.txt")).unwrap();
    for (number, why, later) in reasons(&table) {
        assert!(
            20 < why.len() && !later.is_empty(),
            "{number}: a reason says why, and what would bring the bug"
        );
        found.push((number, Voice::Reason));
    }
    let mut voices: BTreeMap<u32, Vec<Voice>> = (1..=BUGS).map(|n| (n, Vec::new())).collect();
    for (number, voice) in found {
        let known = voices.get_mut(&number);
        known
            .unwrap_or_else(|| panic!("{number} is not in the list: {voice:?}"))
            .push(voice);
    }
    let odd: Vec<_> = voices.iter().filter(|(_, v)| v.len() != 1).collect();
    assert!(odd.is_empty(), "none or several: {odd:#?}");
}

#[test]
fn the_scan_sees_tests_and_refuses_what_is_none() {
    let source = "    #[test]\n    fn bug_07_puts_come_back() {}\nfn bug() {}\n";
    assert_eq!(tests_in(source), [(7, "bug_07_puts_come_back".to_owned())]);
    let helper = "#[cfg(test)]\nfn bug_07_helper() {}\n";
    assert!(std::panic::catch_unwind(|| tests_in(helper)).is_err());
    let rows = reasons("# a comment\n\n16 | values live in tables | blobs\n");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].0, 16);
}

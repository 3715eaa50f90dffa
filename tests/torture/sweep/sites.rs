//! Every place in the engine's source that calls the disk, found by reading the source.
//!
//! So the list does not depend on what the sweep happens to reach: a call that no script makes is
//! missing from the coverage and fails the suite.

use alluvium::fs::sim::Coverage;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A call: file, line, column of the method's name.
pub type Place = (String, u32, u32);

/// Methods of `Fs` and `File` that no other type of the engine has.
const METHODS: [&str; 16] = [
    "root_exists",
    "make_root",
    "remove_root",
    "create_new",
    "open_read",
    "open_write",
    "rename",
    "keep_aside",
    "sync_dir",
    "free_space",
    "read_exact_at",
    "write_all_at",
    "sync_data",
    "sync_all",
    "preallocate",
    "read_region",
];

/// Methods whose names others have too: with what stands before them.
const CALLS: [&str; 13] = [
    "fs.lock",
    "fs.list",
    "fs.remove",
    "fs.link",
    "file.len",
    "handle.len",
    "file.is_empty",
    "file.truncate",
    "file.map",
    "file.map_log",
    "region.block",
    "region.whole_block",
    "region.store",
];

/// Calls that no simulated machine can make, with the reason.
const EXEMPT: [(&str, &str); 2] = [
    (
        "pub fn destroy(",
        "Db::destroy takes a path of the real disk; tests/it/face.rs runs it there",
    ),
    (
        "pub fn recover(fs: &Fs",
        "VersionSet::recover is the two halves of an opening at once, for tests and fuzz targets",
    ),
];

/// All calls in `src`, without those inside `fs` and in tests.
pub fn in_source() -> BTreeSet<Place> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    let mut places = BTreeSet::new();
    for file in files {
        let name = file.strip_prefix(root).expect("below the root");
        let name = name.to_string_lossy().into_owned();
        let is_test = name.ends_with("tests.rs") || name.contains("/tests/");
        if is_test || name.starts_with("src/fs/") || name.starts_with("src/bin/") {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("the source is there");
        scan(&name, &text, &mut places);
    }
    places
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("the source is there") {
        let path = entry.expect("the source is there").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn scan(name: &str, text: &str, places: &mut BTreeSet<Place>) {
    // Inside an exempt function: its indentation, at which it ends.
    let mut exempt: Option<usize> = None;
    for (n, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if trimmed.starts_with("mod tests {") {
            break;
        }
        if EXEMPT.iter().any(|(start, _)| trimmed.starts_with(start)) {
            exempt = Some(indent);
        }
        if exempt.is_some_and(|at| at == indent && trimmed == "}") {
            exempt = None;
        }
        if exempt.is_some() || trimmed.starts_with("//") {
            continue;
        }
        let mut found = |column: usize| {
            places.insert((name.to_owned(), n as u32 + 1, column as u32 + 1));
        };
        for method in METHODS {
            for (at, _) in line.match_indices(&format!(".{method}(")) {
                found(at + 1);
            }
        }
        for call in CALLS {
            let method = call.find('.').expect("a receiver") + 1;
            for (at, _) in line.match_indices(&format!("{call}(")) {
                // `file_meta.map(` and the like end in other words.
                let before = line[..at].chars().next_back();
                if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    found(at + method);
                }
            }
        }
    }
}

/// What is missing: places never called, and faults that never struck where they fit.
pub fn missing(coverage: &Coverage, source: &BTreeSet<Place>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut missing = Vec::new();
    for (site, _) in coverage.sites().filter(|(s, _)| s.file.starts_with("src/")) {
        let place = (site.file.to_owned(), site.line, site.column);
        if !source.contains(&place) {
            missing.push(format!(
                "{site}: a call that the scan of the source does not know"
            ));
        }
        seen.insert(place);
    }
    for (file, line, column) in source.difference(&seen) {
        missing.push(format!("{file}:{line}:{column}: never called"));
    }
    for (site, fault) in coverage.missing() {
        if site.file.starts_with("src/") {
            missing.push(format!("{site}: never {fault:?}"));
        }
    }
    missing
}

#[test]
fn the_scan_finds_calls_and_nothing_else() {
    let text = "fn a() {\n    fs.lock()?; self.commit.lock();\n    // file.len()\n    \
                self.fs.remove(x); offs.remove(y);\n}\nmod tests {\n    fs.lock()\n}\n";
    let mut places = BTreeSet::new();
    scan("x", text, &mut places);
    let found: Vec<_> = places
        .into_iter()
        .map(|(_, line, column)| (line, column))
        .collect();
    assert_eq!(found, [(2, 8), (4, 13)]);
    assert!(60 <= in_source().len());
}

//! The rules of the building, checked on the source text.
//!
//! The storey table of DESIGN.md says which module may import which; beside it stand the rules on
//! headers, length, `std::fs`, clocks, `unsafe` and `unwrap`, and on the lints of the files that
//! `tests/unreached.txt` calls decoders. Each rule is a function from one file's text
//! to complaints, so that a self-test below shows it failing on a sample.
//!
//! The text is read line by line, with strings and comments blanked first; it is not parsed. That
//! is enough for code that rustfmt has laid out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const LINES_MAX: usize = 600;
const ISLANDS: &[&str] = &[
    "src/fs/region.rs",
    "src/memtable/arena.rs",
    "src/memtable/chunk.rs",
    "src/memtable/index.rs",
    "src/table/block/search.rs",
];
const DISK: &str = "src/fs/disk.rs";
/// Whoever asks for the time asks its machine's clock. `Duration` is anybody's.
const CLOCKS: &[&str] = &["src/fs/env.rs", "src/fs/sim/clock.rs", "src/fs/sim/mod.rs"];

/// What a decoder denies, outside its tests.
const DECODER_LINTS: &[&str] = &[
    "clippy::indexing_slicing",
    "clippy::arithmetic_side_effects",
];

/// Module → what it may import.
type Storeys = BTreeMap<String, Vec<String>>;

struct Source {
    /// From the root of the package, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Source {
            path: path.to_string(),
            text: text.to_string(),
        }
    }

    /// `src/table/block/mod.rs` → `table`; none for `src/lib.rs` and what is not in `src`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let (module, _) = inside.split_once('/').or(inside.split_once(".rs"))?;
        (module != "lib").then_some(module)
    }

    /// Test code as a whole file.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
    }

    /// Numbered lines of code: without comments and the insides of strings, and without the items
    /// under `#[cfg(test)]` when `tests` is false.
    fn code(&self, tests: bool) -> Vec<(usize, String)> {
        let blanked = blank(&self.text);
        let mut lines = Vec::new();
        let mut skipped = Skip::No;
        for (i, line) in blanked.lines().enumerate() {
            if !tests && line.trim_start().starts_with("#[cfg(test)]") {
                skipped = Skip::UntilOpen;
            }
            if skipped == Skip::No {
                lines.push((i + 1, line.to_string()));
            } else {
                skipped = skipped.after(line);
            }
        }
        lines
    }
}

/// Where we are in an item that is skipped.
#[derive(Clone, Copy, PartialEq)]
enum Skip {
    No,
    /// The item's attributes and first line: it ends here, or its braces open.
    UntilOpen,
    Depth(usize),
}

impl Skip {
    fn after(self, line: &str) -> Self {
        let mut state = self;
        for c in line.chars() {
            state = match (state, c) {
                (Skip::UntilOpen, '{') => Skip::Depth(1),
                (Skip::UntilOpen, ';') => return Skip::No,
                (Skip::Depth(1), '}') => return Skip::No,
                (Skip::Depth(n), '{') => Skip::Depth(n + 1),
                (Skip::Depth(n), '}') => Skip::Depth(n - 1),
                _ => state,
            };
        }
        state
    }
}

/// The text with comments and the insides of string and character literals made blank, and every
/// line where it was.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = if at(i) == '/' && at(i + 1) == '/' {
            i + chars[i..].iter().take_while(|c| **c != '\n').count()
        } else if at(i) == '/' && at(i + 1) == '*' {
            end_of(&chars, i + 2, &['*', '/'], false)
        } else if let Some(hashes) = raw_string(&chars, i) {
            let mut closing = vec!['"'];
            closing.extend(std::iter::repeat_n('#', hashes));
            end_of(&chars, i + 2 + hashes, &closing, false)
        } else if at(i) == '"' {
            end_of(&chars, i + 1, &['"'], true)
        } else if at(i) == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            // A character; anything else with one quote is a lifetime.
            end_of(&chars, i + 1, &['\''], true)
        } else {
            out.push(at(i));
            i += 1;
            continue;
        };
        out.extend(
            chars[i..end]
                .iter()
                .map(|c| if *c == '\n' { '\n' } else { ' ' }),
        );
        i = end;
    }
    out
}

/// How many hashes the raw string that starts here has.
fn raw_string(chars: &[char], i: usize) -> Option<usize> {
    let in_word = i > 0 && (chars[i - 1].is_alphanumeric() && chars[i - 1] != 'b');
    if chars[i] != 'r' || in_word {
        return None;
    }
    let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(i + 1 + hashes) == Some(&'"')).then_some(hashes)
}

/// Just behind the first `closing` at or after `from`.
fn end_of(chars: &[char], from: usize, closing: &[char], escapes: bool) -> usize {
    let mut i = from;
    while i < chars.len() {
        if escapes && chars[i] == '\\' {
            i += 2;
        } else if chars[i..].starts_with(closing) {
            return i + closing.len();
        } else {
            i += 1;
        }
    }
    chars.len()
}

fn storeys(design: &str) -> Storeys {
    let table = design
        .split_once("<!-- storeys -->")
        .and_then(|(_, rest)| rest.split_once("<!-- /storeys -->"))
        .map(|(table, _)| table)
        .expect("DESIGN.md marks its storey table");
    let rows = table
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|--"));
    rows.skip(1)
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let allowed = cells[2].split(',').map(str::trim).filter(|m| !m.is_empty());
            (cells[1].to_string(), allowed.map(String::from).collect())
        })
        .collect()
}

/// The modules that a line of code names behind `crate::`, also in `crate::{a, b::c}`.
fn imports(line: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
        text.trim_start().chars().take_while(is_word).collect()
    };
    let mut found = Vec::new();
    for (i, _) in line.match_indices("crate::") {
        if line[..i].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &line[i + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let mut depth = 0;
        let parts = group.split(|c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        found.extend(parts.map(word).filter(|w| !w.is_empty()));
    }
    found
}

fn check_imports(source: &Source, storeys: &Storeys) -> Vec<String> {
    let Some(module) = source.module() else {
        return Vec::new();
    };
    let Some(allowed) = storeys.get(module) else {
        return vec![format!(
            "{}:1: module `{module}` has no row in the storey table",
            source.path
        )];
    };
    // rustfmt may break a long group: what stands between its braces is read as one line.
    let mut complaints = Vec::new();
    let code = source.code(false);
    let mut i = 0;
    while i < code.len() {
        let (number, mut line) = code[i].clone();
        while line.contains("crate::{")
            && line.matches('{').count() > line.matches('}').count()
            && i + 1 < code.len()
        {
            i += 1;
            line.push_str(&code[i].1);
        }
        for import in imports(&line) {
            // A module is lower case; `crate::Error` is a name that lib.rs hands on.
            let named = storeys.contains_key(&import);
            if named && import != module && !allowed.contains(&import) {
                complaints.push(format!(
                    "{}:{number}: `{module}` imports `crate::{import}`, allowed: {}",
                    source.path,
                    allowed.join(", ")
                ));
            } else if !named && module != "bin" {
                complaints.push(format!(
                    "{}:{number}: `crate::{import}` is not a module of the storey table; import \
                     from the module itself",
                    source.path
                ));
            }
        }
        i += 1;
    }
    complaints
}

fn check_header(source: &Source) -> Option<String> {
    let has = source.text.starts_with("//! ");
    (!has).then(|| {
        format!(
            "{}:1: the file does not begin with a `//!` header",
            source.path
        )
    })
}

fn check_length(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (LINES_MAX < lines).then(|| format!("{}:{lines}: longer than {LINES_MAX} lines", source.path))
}

fn check_words(source: &Source) -> Vec<String> {
    let has_word = |line: &str, word: &str| {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        line.match_indices(word)
            .any(|(i, _)| !line[..i].ends_with(part) && !line[i + word.len()..].starts_with(part))
    };
    let mut complaints = Vec::new();
    let mut complain = |line: usize, what: &str| {
        complaints.push(format!("{}:{line}: {what}", source.path));
    };
    let in_bin = source.path.starts_with("src/bin/");
    for (number, line) in source.code(true) {
        if has_word(&line, "unsafe") && !ISLANDS.contains(&source.path.as_str()) {
            complain(
                number,
                &format!("`unsafe`, allowed: {}", ISLANDS.join(", ")),
            );
        }
    }
    if source.is_test() {
        return complaints;
    }
    for (number, line) in source.code(false) {
        if has_word(&line, "std::fs") && source.path != DISK && !in_bin {
            complain(number, &format!("`std::fs`, allowed: {DISK}"));
        }
        let clock = line.contains("std::time") && !line.trim().ends_with("std::time::Duration;")
            || line.contains("Instant::now")
            || line.contains("SystemTime::now");
        if clock && !CLOCKS.contains(&source.path.as_str()) && !in_bin {
            complain(
                number,
                &format!("a clock of `std::time`, allowed: {}", CLOCKS.join(", ")),
            );
        }
        if line.contains(".unwrap()") {
            complain(number, "`unwrap` outside tests");
        }
    }
    complaints
}

/// The files of `decoder FILE` lines.
fn decoders(unreached: &str) -> Vec<&str> {
    let lines = unreached.lines();
    lines.filter_map(|l| l.strip_prefix("decoder ")).collect()
}

/// A decoder denies its lints for the whole file: by an inner attribute, which stands before every
/// item. What a function expects instead, with its reason, is seen where it stands.
fn check_decoder(source: &Source) -> Vec<String> {
    let blanked = blank(&source.text);
    let attributes: String = blanked
        .split_once("#![")
        .map_or("", |(_, behind)| behind)
        .lines()
        .take_while(|line| !line.is_empty())
        .collect();
    let denied = attributes
        .split_once("deny(")
        .map_or("", |(_, lints)| lints);
    let missing = DECODER_LINTS.iter().filter(|lint| !denied.contains(**lint));
    missing
        .map(|lint| format!("{}:1: a decoder that does not deny `{lint}`", source.path))
        .collect()
}

fn check(source: &Source, storeys: &Storeys) -> Vec<String> {
    let mut complaints = check_words(source);
    if !source.is_test() {
        complaints.extend(check_imports(source, storeys));
    }
    complaints.extend(check_header(source));
    complaints.extend(check_length(source));
    complaints
}

fn collect(root: &Path, folder: &Path, into: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).expect("the package's folders can be read");
    for entry in entries {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            collect(root, &path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root).expect("it is below the root");
            let text = fs::read_to_string(&path).expect("source is text");
            into.push(Source::new(&name.to_string_lossy(), &text));
        }
    }
}

#[test]
fn the_source_keeps_the_rules_of_the_building() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let design = fs::read_to_string(root.join("DESIGN.md")).expect("DESIGN.md is there");
    let storeys = storeys(&design);
    let mut sources = Vec::new();
    for folder in ["src", "tests"] {
        collect(root, &root.join(folder), &mut sources);
    }
    assert!(
        sources.iter().any(|s| s.path == "src/lib.rs"),
        "nothing was read"
    );
    let complaints: Vec<String> = sources.iter().flat_map(|s| check(s, &storeys)).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn decoders_deny_what_may_panic_or_wrap() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unreached = root.join("tests/unreached.txt");
    let unreached = fs::read_to_string(unreached).expect("tests/unreached.txt is there");
    let decoders = decoders(&unreached);
    assert!(!decoders.is_empty(), "nothing was read");
    let complaints: Vec<String> = decoders
        .iter()
        .map(|path| {
            let text = fs::read_to_string(root.join(path));
            Source::new(path, &text.unwrap_or_else(|e| panic!("{path}: {e}")))
        })
        .flat_map(|source| check_decoder(&source))
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

mod self_tests {
    use super::*;

    const TABLE: &str = "<!-- storeys -->\n| storey | module | may import | why |\n|---|---|---|---|\n\
        | 0 | base | | words |\n| 1 | fs | base | disk |\n| 2 | table | base, fs | files |\n\
        | up | bin | | face |\n<!-- /storeys -->";

    fn complaints(path: &str, text: &str) -> String {
        check(&Source::new(path, text), &storeys(TABLE)).join("\n")
    }

    #[test]
    fn a_clean_file_is_clean() {
        let text = "//! A file.\nuse crate::base::error::Error;\nfn f() -> Option<u8> { None }\n";
        assert_eq!(complaints("src/fs/mod.rs", text), "");
    }

    #[test]
    fn an_import_against_the_table_is_named_with_line_and_allowed_list() {
        let text = "//! A file.\nuse crate::base::x;\nuse crate::table::Table;\n";
        assert_eq!(
            complaints("src/fs/disk.rs", text),
            "src/fs/disk.rs:3: `fs` imports `crate::table`, allowed: base"
        );
        assert!(complaints("src/fs.rs", text).contains("src/fs.rs:3"));
    }

    #[test]
    fn an_import_is_seen_inside_groups_and_paths() {
        let group = "//! A.\nuse crate::{\n    base::{a, b},\n    table::Table,\n};\n";
        assert!(complaints("src/fs/mod.rs", group).contains("`crate::table`"));
        let path = "//! A.\nfn f() { crate::table::open() }\n";
        assert!(complaints("src/fs/mod.rs", path).contains("mod.rs:2: `fs` imports"));
        let root = "//! A.\nuse crate::Error;\n";
        assert!(complaints("src/fs/mod.rs", root).contains("`crate::Error` is not a module"));
    }

    #[test]
    fn a_module_without_a_row_is_named() {
        assert!(complaints("src/attic/mod.rs", "//! A.\n").contains("`attic` has no row"));
    }

    #[test]
    fn a_missing_header_and_a_long_file_are_named() {
        assert!(complaints("src/fs/mod.rs", "fn f() {}\n").contains("`//!` header"));
        let long = "//! A.\n".to_string() + &"\n".repeat(LINES_MAX);
        assert!(complaints("src/fs/mod.rs", &long).contains("longer than 600"));
        assert!(complaints("tests/long.rs", &long).contains("longer than 600"));
    }

    #[test]
    fn unsafe_is_for_islands() {
        let text = "//! A.\nfn f() { unsafe { g() } }\n";
        assert!(complaints("src/table/mod.rs", text).contains("mod.rs:2: `unsafe`"));
        assert!(complaints("tests/x.rs", text).contains("`unsafe`"));
        assert_eq!(complaints("src/fs/region.rs", text), "");
        assert_eq!(
            complaints("src/table/mod.rs", "//! A.\n#![deny(unsafe_code)]\n"),
            ""
        );
    }

    #[test]
    fn the_disk_has_one_door() {
        let text = "//! A.\nuse std::fs::File;\n";
        assert!(complaints("src/table/mod.rs", text).contains("mod.rs:2: `std::fs`"));
        assert_eq!(complaints(DISK, text), "");
        assert_eq!(complaints("src/bin/x/main.rs", text), "");
        assert_eq!(complaints("src/table/tests.rs", text), "");
    }

    #[test]
    fn the_time_is_asked_of_the_machine() {
        for line in [
            "use std::time::Instant;",
            "use std::time::{Duration, SystemTime};",
            "fn f() { Instant::now(); }",
        ] {
            let text = format!("//! A.\n{line}\n");
            let complaint = complaints("src/table/mod.rs", &text);
            assert!(
                complaint.contains("mod.rs:2: a clock"),
                "{line}: {complaint}"
            );
            assert_eq!(complaints(CLOCKS[0], &text), "");
            assert_eq!(complaints("src/bin/x/main.rs", &text), "");
            assert_eq!(complaints("src/table/tests.rs", &text), "");
        }
        let text = "//! A.\nuse std::time::Duration;\n";
        assert_eq!(complaints("src/table/mod.rs", text), "");
    }

    #[test]
    fn unwrap_is_for_tests() {
        let text = "//! A.\nfn f() { g().unwrap(); }\n";
        assert!(complaints("src/table/mod.rs", text).contains("mod.rs:2: `unwrap`"));
        assert_eq!(complaints("src/table/tests.rs", text), "");
        let inside = "//! A.\n#[cfg(test)]\nmod tests {\n    fn f() { g().unwrap(); }\n}\n";
        assert_eq!(complaints("src/table/mod.rs", inside), "");
        let behind = format!("{inside}fn h() {{ g().unwrap(); }}\n");
        assert!(complaints("src/table/mod.rs", &behind).contains("mod.rs:6: `unwrap`"));
        let item = "//! A.\n#[cfg(test)]\nmod tests;\nfn h() { g().unwrap(); }\n";
        assert!(complaints("src/table/mod.rs", item).contains("mod.rs:4: `unwrap`"));
    }

    #[test]
    fn a_decoder_denies_both_lints_for_the_whole_file() {
        let complaints = |text: &str| check_decoder(&Source::new("src/a.rs", text)).join("\n");
        let both = "deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)";
        assert_eq!(complaints(&format!("//! A.\n\n#![{both}]\n\nuse b;\n")), "");
        let outside_tests = format!("//! A.\n\n#![cfg_attr(\n    not(test),\n    {both}\n)]\n");
        assert_eq!(complaints(&outside_tests), "");
        let one = "//! A.\n\n#![deny(clippy::indexing_slicing)]\n\nuse b;\n";
        assert_eq!(
            complaints(one),
            "src/a.rs:1: a decoder that does not deny `clippy::arithmetic_side_effects`"
        );
        for text in [
            format!("//! A.\n\n#[{both}]\nfn f() {{}}\n"),
            format!("//! A.\n\n// #![{both}]\n"),
            format!("//! A.\n\n#![allow(a)]\n\n#[{both}]\nfn f() {{}}\n"),
        ] {
            assert_eq!(complaints(&text).lines().count(), 2, "{text}");
        }
        assert_eq!(
            decoders("# why\ndecoder src/a.rs\nsrc/a.rs: x -- y\n"),
            ["src/a.rs"]
        );
    }

    #[test]
    fn strings_and_comments_are_not_code() {
        let text = "//! A.\n// unsafe, std::fs, .unwrap()\n/* unsafe\n*/\nconst A: &str = \"unsafe \\\" \
                    unsafe\";\nconst B: &str = r#\"unsafe \" unsafe\"#;\nconst C: char = '\"';\n\
                    fn f<'a>(_: &'a str) {}\n";
        assert_eq!(complaints("src/table/mod.rs", text), "");
        assert!(
            complaints("src/table/mod.rs", &format!("{text}unsafe fn g() {{}}\n")).contains(":9:")
        );
    }
}

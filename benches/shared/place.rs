//! Where a benchmark was run, for its record. Read by `compare`, a package of its own, and by
//! `scale`.

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    output.status.success().then_some(text)
}

fn line_of(file: &str, prefix: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(prefix))?;
    Some(line.trim_start_matches([':', ' ', '\t']).to_string())
}

/// Machine, kernel, disk, compiler and commit.
pub(crate) fn place(directory: &Path) -> Value {
    let here = env!("CARGO_MANIFEST_DIR");
    // A record of a run before is a file that git does not know yet.
    let status = ["-C", here, "status", "--porcelain", "--untracked-files=no"];
    let changes = output("git", &status);
    json!({
        "processor": line_of("/proc/cpuinfo", "model name"),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": line_of("/proc/meminfo", "MemTotal"),
        "kernel": output("uname", &["-sr"]),
        "file_system": output("stat", &["-f", "-c", "%T", &directory.to_string_lossy()]),
        "compiler": output("rustc", &["--version"]),
        "commit": output("git", &["-C", here, "rev-parse", "HEAD"]),
        "modified": changes.map(|changes| !changes.is_empty()),
        "date": output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
    })
}

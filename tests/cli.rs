//! The command line as a user types it: what it prints, and when its exit status is not 0.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory that goes away again, and the command line on the database in it.
struct Cli(PathBuf);

impl Cli {
    fn new(test: &str) -> Cli {
        let name = format!("alluvium-cli-{test}-{}", std::process::id());
        Cli(std::env::temp_dir().join(name))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_alluvium"))
            .args(arguments)
            .arg("--db")
            .arg(&self.0)
            .output()
            .expect("the command line was built for this test")
    }

    /// What a command printed that did what it says.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        assert_eq!(errors, "", "{arguments:?}");
        String::from_utf8(output.stdout).expect("what is printed is text")
    }

    /// What a command complained that did not, and its exit status.
    fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        let status = output.status.code().expect("no signal ended it");
        assert_ne!(status, 0, "{arguments:?}");
        (status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn json(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let mut all = arguments.to_vec();
        all.push("--json");
        let printed = self.ok(&all);
        let lines = printed.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("each line is JSON")
    }

    fn tables(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.0).expect("the database is there");
        let paths = entries.map(|entry| entry.expect("it can be listed").path());
        let is_table = |path: &PathBuf| Path::new(path).extension().is_some_and(|e| e == "tbl");
        paths.filter(is_table).collect()
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        // It may not be there; the next run has another name.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Five words in tables and in the log.
fn words(test: &str) -> Cli {
    let cli = Cli::new(test);
    for (key, value) in [("ant", "1"), ("bee", "2"), ("cat", "3")] {
        cli.ok(&["put", key, value]);
    }
    cli.ok(&["flush"]);
    cli.ok(&["put", "cow", "4"]);
    cli.ok(&["put", "dog", "5"]);
    cli
}

#[test]
fn a_key_is_put_got_and_deleted() {
    let cli = Cli::new("entries");
    assert_eq!(cli.ok(&["put", "ant", "small"]), "");
    assert_eq!(cli.ok(&["get", "ant"]), "small\n");
    let entry = &cli.json(&["get", "ant"])[0];
    assert_eq!(
        (&entry["key"], &entry["value"]),
        (&"ant".into(), &"small".into())
    );
    assert_eq!(cli.ok(&["get", "616e74", "--form", "hex"]), "736d616c6c\n");
    assert_eq!(cli.ok(&["delete", "ant"]), "");
    let (status, complaint) = cli.fails(&["get", "ant"]);
    assert_eq!(
        (status, complaint.as_str()),
        (1, "alluvium: ant is not there\n")
    );
}

#[test]
fn a_scan_keeps_to_its_range_its_direction_and_its_limit() {
    let cli = words("scan");
    assert_eq!(
        cli.ok(&["scan"]),
        "ant\t1\nbee\t2\ncat\t3\ncow\t4\ndog\t5\n"
    );
    assert_eq!(
        cli.ok(&["scan", "--from", "b", "--to", "cow"]),
        "bee\t2\ncat\t3\n"
    );
    assert_eq!(
        cli.ok(&["scan", "--prefix", "c", "--reverse"]),
        "cow\t4\ncat\t3\n"
    );
    assert_eq!(cli.ok(&["scan", "--reverse", "--limit", "1"]), "dog\t5\n");
    assert_eq!(cli.ok(&["scan", "--from", "z"]), "");
    assert_eq!(cli.json(&["scan"]).len(), 5);
    let (status, _) = cli.fails(&["scan", "--prefix", "c", "--from", "a"]);
    assert_eq!(status, 2, "both make no sense together");
}

#[test]
fn upkeep_moves_entries_into_one_level_and_the_pictures_show_it() {
    let cli = words("upkeep");
    cli.ok(&["delete", "bee"]);
    assert_eq!(cli.ok(&["compact"]), "compacted default\n");
    assert_eq!(cli.tables().len(), 1, "one sorted run is left");
    let stats = &cli.json(&["stats"])[0];
    assert_eq!(stats["state"], "ok");
    let levels = &cli.json(&["levels"])[0]["keyspaces"][0]["levels"];
    let runs = levels
        .as_array()
        .expect("levels")
        .iter()
        .flat_map(|l| l.as_array().expect("runs"));
    let tables: Vec<_> = runs
        .flat_map(|run| run["tables"].as_array().expect("tables"))
        .collect();
    assert_eq!(tables.len(), 1);
    assert_eq!(
        (&tables[0]["entries"], &tables[0]["tombstones"]),
        (&4.into(), &0.into())
    );
    let picture = cli.ok(&["levels"]);
    assert!(picture.starts_with("default\n") && picture.ends_with(" 1 file\n"));
    assert!(cli.ok(&["stats"]).starts_with("state: ok\n"));
    assert_eq!(cli.ok(&["scan"]), "ant\t1\ncat\t3\ncow\t4\ndog\t5\n");
}

#[test]
fn verify_fails_when_a_table_is_damaged() {
    let cli = words("verify");
    assert_eq!(cli.json(&["verify"])[0]["problems"], serde_json::json!([]));
    let table = &cli.tables()[0];
    let mut bytes = std::fs::read(table).expect("a table can be read");
    bytes[3] ^= 1;
    std::fs::write(table, bytes).expect("a table can be written");
    let output = cli.run(&["verify"]);
    assert_eq!(output.status.code(), Some(1));
    let name = table.file_name().expect("it has a name").to_string_lossy();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains(&*name), "{printed}");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(complaint, "alluvium: 1 problem was found\n");
}

#[test]
fn repair_keeps_what_can_be_read_and_says_what_is_lost() {
    let cli = words("repair");
    assert_eq!(cli.ok(&["repair"]), "nothing to repair: 1 tables read\n");
    std::fs::remove_file(cli.0.join("CURRENT")).expect("it is there");
    let (_, complaint) = cli.fails(&["scan"]);
    assert!(complaint.contains("alluvium repair"), "{complaint}");
    assert!(cli.ok(&["repair"]).contains("made anew: CURRENT in "));
    let all = "ant\t1\nbee\t2\ncat\t3\ncow\t4\ndog\t5\n";
    assert_eq!(cli.ok(&["scan"]), all);
    let table = &cli.tables()[0];
    let mut bytes = std::fs::read(table).expect("a table can be read");
    bytes[3] ^= 1;
    std::fs::write(table, &bytes).expect("a table can be written");
    let output = cli.run(&["repair"]);
    assert_eq!(output.status.code(), Some(1), "data is lost");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("lost: block in "), "{printed}");
    let kept = format!("{}.damaged", table.display());
    assert_eq!(std::fs::read(kept).expect("it is kept aside"), bytes);
    assert_eq!(cli.ok(&["scan"]), "cow\t4\ndog\t5\n");
    assert_eq!(cli.json(&["repair"])[0]["changed"], false);
}

#[test]
fn keyspaces_are_made_by_put_alone() {
    let cli = Cli::new("keyspaces");
    let (status, _) = cli.fails(&["get", "ant"]);
    assert_eq!(status, 1);
    assert!(!cli.0.exists(), "a command that only looks makes nothing");
    cli.ok(&["put", "ant", "1"]);
    let (_, complaint) = cli.fails(&["scan", "--keyspace", "orders"]);
    assert!(
        complaint.contains("there is no keyspace named orders"),
        "{complaint}"
    );
    cli.ok(&["put", "1", "two pumps", "--keyspace", "orders"]);
    assert_eq!(cli.ok(&["keyspaces"]), "default\norders\n");
    assert_eq!(cli.ok(&["scan", "--keyspace", "orders"]), "1\ttwo pumps\n");
    assert_eq!(cli.ok(&["scan"]), "ant\t1\n");
    assert_eq!(
        cli.ok(&["flush", "--json", "--keyspace", "orders"])
            .lines()
            .count(),
        1
    );
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let cli = words("arguments");
    assert_eq!(cli.fails(&["fetch", "ant"]).0, 2);
    assert_eq!(cli.fails(&["get"]).0, 2);
    let (status, complaint) = cli.fails(&["get", "6g", "--form", "hex"]);
    assert_eq!(status, 1);
    assert!(complaint.contains("not hexadecimal"), "{complaint}");
}

//! The command line as a user types it: what it prints, and when its exit status is not 0.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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

    /// As `run`, with something to read on its standard input.
    fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_alluvium"))
            .args(arguments)
            .arg("--db")
            .arg(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command line was built for this test");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(input).expect("it reads to the end");
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("it is text")
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
fn a_value_that_is_put_with_a_ttl_is_there_for_so_long() {
    let cli = Cli::new("ttl");
    cli.ok(&["put", "ant", "small", "--ttl", "3600"]);
    cli.ok(&["put", "bee", "busy", "--ttl", "0"]);
    assert_eq!(cli.ok(&["get", "ant"]), "small\n");
    assert_eq!(cli.ok(&["scan"]), "ant\tsmall\n");
    let (status, errors) = cli.fails(&["get", "bee"]);
    assert_eq!(status, 1);
    assert!(errors.contains("bee is not there"), "{errors}");
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
fn explain_says_what_a_get_asks_and_what_the_space_is_for() {
    let cli = words("explain");
    cli.ok(&["compact"]);
    let text = cli.ok(&["explain", "get", "bee"]);
    assert!(text.starts_with("get \"bee\" at "), "{text}");
    assert!(text.ends_with("a value of 1 bytes\n"), "{text}");
    let report = &cli.json(&["explain", "get", "bear"])[0];
    assert_eq!(report["key"], "bear");
    assert!(report["value_bytes"].is_null());
    let steps = report["steps"].as_array().expect("steps");
    assert_eq!(steps[0]["answer"], "nothing");
    assert_eq!(steps[1]["answer"], "filtered out");
    let found = &cli.json(&["explain", "get", "bee"])[0]["steps"][1];
    assert_eq!(found["answer"]["kind"], "value");
    let text = cli.ok(&["explain", "space"]);
    assert!(text.contains("default: 1 tables in use"), "{text}");
    let space = &cli.json(&["explain", "space"])[0];
    assert_eq!(space["keyspaces"][0]["tables"]["files"], 1);
    let (_, complaint) = cli.fails(&["explain", "get", "bee", "--keyspace", "other"]);
    assert!(complaint.contains("no keyspace named other"), "{complaint}");
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
        complaint.contains("there is no keyspace 'orders'"),
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

/// Keys and values of any bytes, and keyspaces with nothing in them.
#[test]
fn dump_and_load_are_inverse() {
    let cli = Cli::new("dump");
    cli.ok(&["put", "ant", "1"]);
    cli.ok(&["put", "00ff0a09", "5c7422", "--form", "hex"]);
    cli.ok(&["put", "7b22", "", "--form", "hex"]);
    cli.ok(&["put", "gr\u{fc}n", "\\x00", "--keyspace", "orders"]);
    cli.ok(&["put", "k", "v", "--keyspace", "empty"]);
    cli.ok(&["delete", "k", "--keyspace", "empty"]);
    let dumped = cli.ok(&["dump"]);
    assert_eq!(dumped.lines().count(), 3 + 4);
    assert!(dumped.contains(r#"{"keyspace":"empty"}"#), "{dumped}");
    let other = Cli::new("dump-loaded");
    let loaded = other.run_with(&["load", "--json"], dumped.as_bytes());
    assert!(loaded.status.success(), "{loaded:?}");
    let report: serde_json::Value = serde_json::from_slice(&loaded.stdout).expect("JSON");
    assert_eq!(report["entries"], 4);
    assert_eq!(other.ok(&["dump"]), dumped);
    assert_eq!(other.ok(&["keyspaces"]), "default\nempty\norders\n");
    assert_eq!(
        other.ok(&["dump", "--keyspace", "orders"]).lines().count(),
        2
    );
}

#[test]
fn load_reads_what_scan_prints() {
    let cli = words("load");
    let other = Cli::new("load-other");
    for arguments in [&["scan"][..], &["scan", "--json"]] {
        let printed = cli.ok(arguments);
        let loaded = other.run_with(&["load", "--keyspace", "words"], printed.as_bytes());
        assert!(loaded.status.success(), "{loaded:?}");
        assert_eq!(
            other.ok(&["scan", "--keyspace", "words"]),
            cli.ok(&["scan"])
        );
        other.ok(&["delete", "ant", "--keyspace", "words"]);
    }
    let hex = cli.ok(&["scan", "--form", "hex"]);
    let file = format!("{}.hex", other.path());
    std::fs::write(&file, hex).expect("it can be written");
    let loaded = other.ok(&["load", &file, "--form", "hex"]);
    std::fs::remove_file(&file).expect("it is there");
    assert_eq!(loaded, "loaded 5 entries, 20 bytes of keys and values\n");
    assert_eq!(other.ok(&["scan"]), cli.ok(&["scan"]));
    for (input, what) in [
        ("ant\t1\nbee", "line 2: neither JSON"),
        ("{\"key\":\"a\"}", "line 1: key and value"),
        ("{\"key\":1,\"value\":\"\"}", "line 1: a string or"),
        ("{\"key\"", "line 1: "),
        (
            "{\"keyspace\":\"\"}",
            "line 1: the name of the keyspace is empty",
        ),
    ] {
        let refused = other.run_with(&["load"], input.as_bytes());
        assert_eq!(refused.status.code(), Some(1));
        let complaint = String::from_utf8_lossy(&refused.stderr);
        assert!(complaint.contains(what), "{complaint}");
        assert!(complaint.contains("0 entries before it"), "{complaint}");
    }
    assert_eq!(other.fails(&["load", "/nowhere/at/all"]).0, 1);
}

#[test]
fn a_checkpoint_is_a_database_beside_its_source() {
    let cli = words("checkpoint");
    cli.ok(&["put", "1", "two pumps", "--keyspace", "orders"]);
    let copy = Cli::new("checkpoint-copy");
    let report = &cli.json(&["checkpoint", copy.path()])[0];
    assert_eq!(
        report["keyspaces"],
        serde_json::json!(["default", "orders"])
    );
    assert_eq!(report["tables"], report["tables_linked"]);
    assert_eq!(copy.ok(&["dump"]), cli.ok(&["dump"]));
    let (status, complaint) = cli.fails(&["checkpoint", copy.path()]);
    assert_eq!(status, 1);
    assert!(complaint.contains("not empty"), "{complaint}");
    let one = Cli::new("checkpoint-one");
    let printed = cli.ok(&["checkpoint", one.path(), "--keyspace", "orders"]);
    assert!(printed.starts_with("made "), "{printed}");
    assert_eq!(one.ok(&["scan", "--keyspace", "orders"]), "1\ttwo pumps\n");
    assert_eq!(one.ok(&["scan"]), "");
}

#[test]
fn backups_are_made_listed_verified_restored_and_removed() {
    let cli = words("backup");
    let backups = Cli::new("backup-points");
    let at = backups.path();
    let (_, complaint) = cli.fails(&["backup", "list", at]);
    assert!(complaint.contains("there is no directory"), "{complaint}");
    let first = cli.ok(&["dump"]);
    assert!(cli.ok(&["backup", "create", at]).starts_with("backup 1: "));
    cli.ok(&["put", "eel", "6"]);
    let second = &cli.json(&["backup", "create", at])[0];
    assert_eq!(
        (&second["id"], &second["tables_written"]),
        (&2.into(), &1.into())
    );
    let list = cli.json(&["backup", "list", at]);
    assert_eq!(list.len(), 2);
    assert_eq!(list[1]["seqno"], second["seqno"]);
    assert!(
        cli.ok(&["backup", "list", at])
            .contains("keyspaces default")
    );
    let verified = &cli.json(&["backup", "verify", at])[0];
    assert_eq!(verified["problems"], serde_json::json!([]));
    assert_eq!(verified["ids"], serde_json::json!([1, 2]));
    let old = Cli::new("backup-old");
    assert!(old.ok(&["restore", at, "1"]).starts_with("restored "));
    assert_eq!(old.ok(&["dump"]), first);
    let newest = Cli::new("backup-newest");
    newest.ok(&["restore", at]);
    assert_eq!(newest.ok(&["dump"]), cli.ok(&["dump"]));
    assert_eq!(newest.fails(&["restore", at]).0, 1, "it is not empty");
    assert_eq!(cli.ok(&["backup", "remove", at, "1"]), "removed backup 1\n");
    assert_eq!(cli.fails(&["backup", "remove", at, "1"]).0, 1);
    assert_eq!(cli.fails(&["backup", "remove", at]).0, 2);
    let table = &backups.tables()[0];
    let mut bytes = std::fs::read(table).expect("a table can be read");
    bytes[3] ^= 1;
    std::fs::write(table, bytes).expect("a table can be written");
    let (status, complaint) = cli.fails(&["backup", "verify", at, "2"]);
    assert_eq!(
        (status, complaint.as_str()),
        (1, "alluvium: 1 problem was found\n")
    );
    let damaged = Cli::new("backup-damaged");
    let (_, complaint) = damaged.fails(&["restore", at, "2"]);
    assert!(complaint.contains(at), "{complaint}");
    assert!(!damaged.0.exists(), "no database is left");
    assert_eq!(
        cli.json(&["backup", "remove", at, "--keep", "0"])[0]["ids"],
        serde_json::json!([2])
    );
    assert_eq!(backups.tables().len(), 0);
}

#[test]
fn bench_measures_and_leaves_nothing() {
    let cli = Cli::new("bench");
    let rows = cli.json(&["bench", "--entries", "2000"]);
    let names: Vec<_> = rows.iter().map(|row| row["workload"].as_str()).collect();
    let expected = ["fillseq", "fillrandom", "readrandom", "scan"];
    assert_eq!(names, expected.map(Some));
    for row in &rows {
        assert_eq!(row["operations"], 2000);
        let at = |name: &str| row[name].as_u64().expect("a number");
        assert!(0 < at("operations_per_second"));
        assert!(at("p50_ns") <= at("p99_ns") && at("p99_ns") <= at("longest_ns"));
    }
    let one = cli.ok(&["bench", "--entries", "500", "--only", "scan"]);
    assert!(
        one.starts_with("scan ") && one.lines().count() == 1,
        "{one}"
    );
    assert_eq!(std::fs::read_dir(&cli.0).expect("it is there").count(), 0);
    assert_eq!(cli.fails(&["bench", "--entries", "0"]).0, 1);
    assert_eq!(cli.fails(&["bench", "--only", "fillnothing"]).0, 2);
}

#[test]
fn what_only_reads_works_beside_a_process_that_has_the_database_open() {
    let cli = words("beside");
    let db = alluvium::Db::open(cli.path()).expect("it is closed");
    db.put("emu", "6").expect("a good disk");
    assert_eq!(cli.ok(&["get", "emu"]), "6\n");
    assert_eq!(cli.ok(&["scan", "--from", "d"]), "dog\t5\nemu\t6\n");
    assert_eq!(cli.ok(&["dump"]).lines().count(), 7);
    assert_eq!(cli.ok(&["keyspaces"]), "default\n");
    let (_, complaint) = cli.fails(&["put", "fox", "7"]);
    assert!(complaint.contains("open"), "{complaint}");
    assert_eq!(
        db.get("emu").expect("it is open").as_deref(),
        Some(&b"6"[..])
    );
}

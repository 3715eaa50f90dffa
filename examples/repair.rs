//! A database whose disk went bad: what can be read is kept, and what is lost has a name.
//!
//! `cargo run --example repair` fills a database, damages one block of a table behind its back,
//! shows what reading says then, repairs it and counts what is left.

use alluvium::{Db, ErrorKind};
use std::error::Error;
use std::fs;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("alluvium-example-repair-{}", std::process::id()));
    let db = Db::open(&dir)?;
    for n in 0..10_000 {
        db.put(format!("user{n:05}"), format!("a row about user {n}"))?;
    }
    db.flush()?;
    db.close()?;

    // A sector of a table goes bad.
    let is_table = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "tbl");
    let mut files = fs::read_dir(&dir)?.map(|entry| entry.map(|e| e.path()));
    let table = files.find(|path| path.as_ref().is_ok_and(is_table));
    let table = table.ok_or("a flush makes a table")??;
    let mut bytes = fs::read(&table)?;
    bytes[40_960..41_472].fill(0xff);
    fs::write(&table, bytes)?;

    // The damage stays local: other keys are served, and the error says where it is.
    let db = Db::open(&dir)?;
    let damaged = db.iter().find_map(Result::err).ok_or("damage is noticed")?;
    assert_eq!(damaged.kind(), ErrorKind::Corruption);
    println!("{damaged}\n");
    assert!(db.get("user09999")?.is_some());
    drop(db);

    let report = Db::repair(&dir)?;
    println!("{report}\n");
    let db = Db::open(&dir)?;
    let left = db.iter().collect::<alluvium::Result<Vec<_>>>()?.len();
    println!("{left} of 10000 rows are left");
    assert!((9_000..10_000).contains(&left));
    db.close()?;

    for file in report.kept_aside {
        fs::remove_file(file)?; // looked at, and no longer needed
    }
    Ok(Db::destroy(&dir)?)
}

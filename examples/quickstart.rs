//! The first ten lines: open, put, get, a batch, a range, close.

use alluvium::{Db, Result, WriteBatch, WriteOptions};

fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("quickstart-{}", std::process::id()));
    let db = Db::open(&directory)?;
    db.put("apple", "red")?;
    let mut batch = WriteBatch::new();
    batch.put(&db, "banana", "yellow");
    batch.delete(&db, "apple");
    db.write(&batch, WriteOptions::default())?;
    assert_eq!(db.get("apple")?, None);
    for entry in db.range("a".."c") {
        let (key, value) = entry?;
        println!("{key:?} is {value:?}");
    }
    db.close()?;
    std::fs::remove_dir_all(&directory).expect("the directory is ours");
    Ok(())
}

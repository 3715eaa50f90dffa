//! A report over a store that does not stand still: totals from one instant, while orders come in.
//!
//! Each order is one batch over two keyspaces, `orders` and `totals`. A snapshot sees both at the
//! same instant, so its totals always equal the sum of its orders; reading the live keyspaces one
//! after the other would not.

use alluvium::{Db, KeyspaceOptions, Result, WriteBatch, WriteOptions};
use std::collections::BTreeMap;

const CUSTOMERS: u64 = 5;
const ORDERS: u64 = 20_000;

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("we wrote 8 bytes"))
}

fn take_orders(db: &Db) -> Result<()> {
    let orders = db.keyspace("orders", KeyspaceOptions::default())?;
    let totals = db.keyspace("totals", KeyspaceOptions::default())?;
    for order in 0..ORDERS {
        let customer = format!("customer-{}", order % CUSTOMERS);
        let amount = order * 37 % 100;
        let total = totals.get_with(&customer, |old| old.map_or(0, number))?;
        let mut batch = WriteBatch::new();
        batch.put(
            &orders,
            format!("{customer}/{order:08}"),
            amount.to_le_bytes(),
        );
        batch.put(&totals, &customer, (total + amount).to_le_bytes());
        db.write(&batch, WriteOptions::default())?;
    }
    Ok(())
}

/// Orders and sum of each customer at one instant, checked against the stored totals.
fn report(db: &Db) -> Result<BTreeMap<String, (u64, u64)>> {
    let orders = db.keyspace("orders", KeyspaceOptions::default())?;
    let totals = db.keyspace("totals", KeyspaceOptions::default())?;
    let snapshot = db.snapshot();
    let mut lines: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for entry in snapshot.keyspace(&orders).range(..) {
        let (key, amount) = entry?;
        let key = String::from_utf8_lossy(&key).into_owned();
        let customer = key.split('/').next().unwrap_or_default().to_string();
        let line = lines.entry(customer).or_default();
        line.0 += 1;
        line.1 += number(&amount);
    }
    for (customer, (_, sum)) in &lines {
        let total = snapshot.keyspace(&totals).get(customer)?;
        assert_eq!(total.map(|t| number(&t)), Some(*sum), "{customer}");
    }
    Ok(lines)
}

fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("snapshot_report-{}", std::process::id()));
    let db = Db::open(&directory)?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| take_orders(&db));
        while !writer.is_finished() {
            let orders: u64 = report(&db)?.values().map(|(orders, _)| orders).sum();
            println!("{orders:>6} orders, and every total is the sum of its orders");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        writer.join().expect("the writer does not panic")
    })?;
    for (customer, (orders, sum)) in report(&db)? {
        println!("{customer}: {orders} orders, {sum} in all");
    }
    db.close()?;
    std::fs::remove_dir_all(&directory).expect("the directory is ours");
    Ok(())
}

//! Money moves between accounts from several threads at once, and none is made or lost.
//!
//! Each transfer is a transaction: it reads both balances and writes both, and is run again when
//! somebody else was faster. An audit reads all accounts in a transaction of its own; because that
//! reads one instant, the sum is right at any time. A key that only one may have, here the number of
//! the day's report, is taken with `put_if_absent`.

use alluvium::{Db, ErrorKind, KeyspaceOptions, Result};

const ACCOUNTS: u64 = 8;
const START: u64 = 1_000;
const TRANSFERS: u64 = 2_000;
const THREADS: u64 = 3;

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("we wrote 8 bytes"))
}

fn account(n: u64) -> String {
    format!("account-{n}")
}

fn transfer(db: &Db, from: u64, to: u64, amount: u64) -> Result<bool> {
    let accounts = db.keyspace("accounts", KeyspaceOptions::default())?;
    db.transaction(|tx| {
        let balance = tx.get(&accounts, account(from))?.map_or(0, |b| number(&b));
        if balance < amount {
            return Ok(false); // nothing was written: nothing is committed
        }
        let other = tx.get(&accounts, account(to))?.map_or(0, |b| number(&b));
        tx.put(&accounts, account(from), (balance - amount).to_be_bytes());
        tx.put(&accounts, account(to), (other + amount).to_be_bytes());
        Ok(true)
    })
}

fn audit(db: &Db) -> Result<u64> {
    let accounts = db.keyspace("accounts", KeyspaceOptions::default())?;
    db.transaction(|tx| {
        let balances = tx.iter(&accounts).map(|entry| Ok(number(&entry?.1)));
        balances.sum::<Result<u64>>()
    })
}

fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("transfers-{}", std::process::id()));
    let db = Db::open(&directory)?;
    let accounts = db.keyspace("accounts", KeyspaceOptions::default())?;
    for n in 0..ACCOUNTS {
        accounts.put(account(n), START.to_be_bytes())?;
    }
    let moved: u64 = std::thread::scope(|scope| {
        let clerks: Vec<_> = (0..THREADS)
            .map(|clerk| {
                let db = &db;
                scope.spawn(move || -> Result<u64> {
                    let mut moved = 0;
                    for i in 0..TRANSFERS {
                        let from = (i * 7 + clerk) % ACCOUNTS;
                        let to = (from + 1 + i % (ACCOUNTS - 1)) % ACCOUNTS;
                        moved += u64::from(transfer(db, from, to, 1 + i % 90)?);
                        if i % 100 == 0 {
                            assert_eq!(audit(db)?, ACCOUNTS * START);
                        }
                    }
                    Ok(moved)
                })
            })
            .collect();
        let moved = clerks
            .into_iter()
            .map(|clerk| clerk.join().expect("no panic"));
        moved.sum::<Result<u64>>()
    })?;
    println!(
        "{moved} transfers, {} in all accounts as before",
        audit(&db)?
    );

    db.put_if_absent("report/2026-11-27", "clerk 0")?;
    match db.put_if_absent("report/2026-11-27", "clerk 1") {
        Err(late) if late.kind() == ErrorKind::Conflict => println!("{late}"),
        other => return other,
    }
    db.close()?;
    Db::destroy(&directory)
}

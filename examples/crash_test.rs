//! A crash test of an application: a ledger whose sum must survive a power loss at any call.
//!
//! The ledger runs once on a simulated machine. Before each of its disk calls the machine is
//! copied, and every disk that a power loss at that moment may leave is opened and checked. Then
//! the same is done to a ledger with a bug, which must be found:
//! `cargo run --release --features sim --example crash_test`

use alluvium::sim::{Family, SimFs};
use alluvium::{Db, Durability, KeyspaceOptions, Options, Result, WriteBatch, WriteOptions};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const ACCOUNTS: u64 = 8;
const AT_START: u64 = 100;
const TRANSFERS: u64 = 60;

/// What is under test: money moves between accounts, and each transfer is counted.
struct Ledger {
    db: Db,
    /// The bug: one write for each account instead of one batch for both.
    careless: bool,
}

impl Ledger {
    fn open(sim: &SimFs, careless: bool) -> Result<Ledger> {
        // Small sizes let a short run rotate logs, flush and compact; without threads of its own
        // the database does the same on every run.
        let tiny = KeyspaceOptions::new()
            .write_buffer_bytes(2 << 10)
            .block_bytes(256)
            .level0_runs(2);
        let db = Options::new()
            .memory_bytes(1 << 20)
            .log_segment_bytes(8 << 10)
            .background_threads(0)
            .default_keyspace(tiny)
            .open_sim(sim, "/ledger")?;
        Ok(Ledger { db, careless })
    }

    fn number(&self, key: &str, default: u64) -> Result<u64> {
        let value = self.db.get(key)?;
        Ok(value.map_or(default, |v| {
            u64::from_le_bytes(v[..].try_into().expect("8 bytes"))
        }))
    }

    fn balance(&self, account: u64) -> Result<u64> {
        self.number(&format!("account/{account}"), AT_START)
    }

    fn transfers(&self) -> Result<u64> {
        self.number("transfers", 0)
    }

    /// Durable when it returns.
    fn transfer(&self, from: u64, to: u64, amount: u64) -> Result<()> {
        let synced = WriteOptions::new().durability(Durability::Synced);
        let mut batch = WriteBatch::new();
        let mut set = |key: &str, number: u64| batch.put(&self.db, key, number.to_le_bytes());
        set(&format!("account/{from}"), self.balance(from)? - amount);
        if self.careless {
            self.db.write(&batch, synced)?;
            batch = WriteBatch::new();
        }
        let mut set = |key: &str, number: u64| batch.put(&self.db, key, number.to_le_bytes());
        set(&format!("account/{to}"), self.balance(to)? + amount);
        set("transfers", self.transfers()? + 1);
        self.db.write(&batch, synced).map(|_| ())
    }

    /// What must hold at any time, after any crash: no money is made or lost, and no transfer
    /// that was `promised` is missing.
    fn check(&self, promised: u64) -> Result<(), String> {
        let read = || -> Result<(u64, u64)> {
            let balances = (0..ACCOUNTS).map(|account| self.balance(account));
            Ok((balances.sum::<Result<u64>>()?, self.transfers()?))
        };
        let (sum, transfers) = read().map_err(|e| e.to_string())?;
        if sum != ACCOUNTS * AT_START {
            return Err(format!("the sum is {sum}"));
        }
        if transfers < promised || promised + 1 < transfers {
            return Err(format!("{transfers} transfers, {promised} were promised"));
        }
        Ok(())
    }
}

/// Runs the ledger, and checks every disk of every moment: how many there were, or what was wrong
/// with the first bad one and how to get it again.
fn crash_everywhere(careless: bool) -> Result<(usize, usize), String> {
    let sim = SimFs::new(1);
    let promised = Arc::new(AtomicU64::new(0));
    let moments = Arc::new(Mutex::new(Vec::new()));
    let (counter, list) = (Arc::clone(&promised), Arc::clone(&moments));
    sim.on_call(move |_, machine| {
        let promised = counter.load(Ordering::Relaxed);
        list.lock()
            .expect("nothing panics")
            .push((promised, machine));
    });
    let run = || -> Result<()> {
        let ledger = Ledger::open(&sim, careless)?;
        for n in 0..TRANSFERS {
            ledger.transfer(n % ACCOUNTS, (n * 5 + 1) % ACCOUNTS, n % 3 + 1)?;
            promised.fetch_add(1, Ordering::Relaxed);
        }
        ledger.db.close()
    };
    run().map_err(|e| e.to_string())?;
    let moments = std::mem::take(&mut *moments.lock().expect("nothing panics"));
    let calls = moments.len();
    let mut disks = HashSet::new();
    for (promised, machine) in moments {
        for image in machine.images(&Family::ALL) {
            if !disks.insert((promised, image.sim.digest())) {
                continue; // seen at an earlier call
            }
            let opened = Ledger::open(&image.sim, careless).map_err(|e| e.to_string());
            let checked = opened.and_then(|ledger| ledger.check(promised));
            checked.map_err(|wrong| format!("{}: {wrong}", image.id))?;
        }
    }
    Ok((calls, disks.len()))
}

fn main() {
    match crash_everywhere(false) {
        Ok((calls, disks)) => {
            println!("{TRANSFERS} transfers, {calls} disk calls, {disks} disks: the sum held");
        }
        Err(wrong) => panic!("the ledger failed at {wrong}"),
    }
    match crash_everywhere(true) {
        Ok((_, disks)) => panic!("{disks} disks have not shown the bug"),
        Err(wrong) => println!("the careless ledger was found out at {wrong}"),
    }
}

//! Transactions: two accounts are read, both are written, and it is committed or done again.

use super::{Bench, Figure, Unsupported, for_each};
use crate::data::{Order, Random};
use crate::engine::{Engine, Result};

pub const NAME: &str = "transactions";

const START: u64 = 1_000;
/// Transactions for each of as many keys.
const KEYS_EACH: u64 = 4;

/// From whom, to whom, and how much: never from an account to itself.
fn transfer(i: u64, accounts: u64) -> (u64, u64, u64) {
    let mut random = Random::new(i);
    let from = random.below(accounts);
    let to = (from + 1 + random.below(accounts - 1)) % accounts;
    (from, to, i % 10)
}

impl<E: Engine> Bench<'_, E> {
    /// Rows `transactions` and `transactions 2 threads`.
    pub fn transfers(&self) -> Result<Vec<Figure>> {
        if !E::TRANSACTS {
            return Err(Unsupported("it has no transactions that read".into()).into());
        }
        let accounts = self.scale.keys / KEYS_EACH;
        let key = |account| Order::Scrambled.key(account);
        for account in 0..accounts {
            self.engine
                .put(&key(account), &START.to_le_bytes(), false)?;
        }
        self.engine.settle()?;
        let mut balances = vec![START; accounts as usize];
        let mut figures = Vec::new();
        for (row, threads) in [(NAME, 1), ("transactions 2 threads", 2)] {
            let elapsed = for_each(threads, accounts, |i| {
                let (from, to, amount) = transfer(i, accounts);
                self.engine.transfer(&key(from), &key(to), amount)
            })?;
            for i in 0..accounts {
                let (from, to, amount) = transfer(i, accounts);
                balances[from as usize] = balances[from as usize].wrapping_sub(amount);
                balances[to as usize] = balances[to as usize].wrapping_add(amount);
            }
            figures.push(Figure::new(row, accounts, elapsed));
        }
        for (account, balance) in (0..).zip(balances) {
            let is_right = self.engine.get(&key(account), |found| {
                found == Some(&balance.to_le_bytes()[..])
            })?;
            if !is_right {
                return Err(format!("account {account}: money was made or lost").into());
            }
        }
        Ok(figures)
    }
}

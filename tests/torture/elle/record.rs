//! One history: clients that run transactions at the same time, and note what they did and saw.
//!
//! What each client does follows from the seed; how the clients meet is left to the machine.

use super::check::{Action, History, Key, Transaction, Value};
use crate::histories::Place;
use crate::model::Random;
use alluvium::{Durability, ErrorKind, Keyspace, Slice, TransactionIter, WriteBatch, WriteOptions};
use std::sync::Barrier;

const CLIENTS: u64 = 4;
/// Transactions of each client.
const TRANSACTIONS: u64 = 12;
/// Keys below this are lists, the next are registers; half of each in the other keyspace.
const LISTS: Key = 4;
const REGISTERS: Key = 6;

/// A list or register is of the one keyspace or of the other.
fn keyspace(place: &Place, key: Key) -> &Keyspace {
    match key % 2 {
        0 => &place.db,
        _ => &place.other,
    }
}

/// Runs the clients of the history with this seed, and then reads every list.
pub(super) fn record(place: &Place, seed: u64) -> History {
    let start = Barrier::new(CLIENTS as usize);
    let client = |id: u64| Client {
        place,
        random: Random(seed ^ (id << 56)),
        seed,
        id,
        written: 0,
    };
    let mut history: History = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let (mut client, start) = (client(id), &start);
                scope.spawn(move || {
                    start.wait();
                    (0..TRANSACTIONS).map(|_| client.run()).collect::<History>()
                })
            })
            .collect();
        let joined = clients.into_iter().map(|client| client.join());
        joined
            .flat_map(|done| done.expect("a client does not panic"))
            .collect()
    });
    history.push(client(CLIENTS).read_lists());
    history
}

struct Client<'a> {
    place: &'a Place,
    random: Random,
    seed: u64,
    id: u64,
    written: u32,
}

impl Client<'_> {
    fn run(&mut self) -> Transaction {
        match self.random.number_below(8) {
            0 => self.write_without(),
            _ => self.transaction(),
        }
    }

    fn bytes(&self, key: Key) -> Vec<u8> {
        format!("{:016x}-{key:02}", self.seed).into_bytes()
    }

    fn list(&mut self) -> Key {
        self.random.number_below(u64::from(LISTS)) as Key
    }

    fn register(&mut self) -> Key {
        LISTS + self.random.number_below(u64::from(REGISTERS)) as Key
    }

    /// A number that no other write of the history has.
    fn value(&mut self) -> Value {
        self.written += 1;
        (self.id as u32) << 24 | self.written
    }

    fn durability(&mut self) -> WriteOptions {
        match self.random.number_below(8) {
            0 => WriteOptions::new().durability(Durability::Synced),
            _ => WriteOptions::new(),
        }
    }

    /// Blind writes, in a batch.
    fn write_without(&mut self) -> Transaction {
        let mut batch = WriteBatch::new();
        let mut actions = Vec::new();
        for _ in 0..1 + self.random.number_below(2) {
            let (key, value) = (self.register(), self.value());
            batch.put(
                keyspace(self.place, key),
                self.bytes(key),
                value.to_be_bytes(),
            );
            actions.push(Action::Write(key, value));
        }
        let options = self.durability();
        let called = self.place.now();
        let seqno = self.place.db.write(&batch, options);
        Transaction {
            actions,
            called,
            returned: self.place.now(),
            commit: Some(seqno.expect("a batch succeeds").get()),
        }
    }

    fn transaction(&mut self) -> Transaction {
        let called = self.place.now();
        let mut tx = self.place.db.begin();
        let mut actions = Vec::new();
        for _ in 0..1 + self.random.number_below(4) {
            match self.random.number_below(10) {
                0..3 => self.append(&mut tx, &mut actions),
                3 => {
                    let key = self.list();
                    actions.push(Action::List(key, self.read_list(&tx, key)));
                }
                4..6 => {
                    let (key, value) = (self.register(), self.value());
                    tx.put(
                        keyspace(self.place, key),
                        self.bytes(key),
                        value.to_be_bytes(),
                    );
                    actions.push(Action::Write(key, value));
                }
                6..8 => {
                    let key = self.register();
                    let found = tx.get(keyspace(self.place, key), self.bytes(key));
                    let value = found.expect("a get succeeds").map(|v| number(&v));
                    actions.push(Action::Read(key, value));
                }
                8 => self.scan(&tx, &mut actions),
                _ => self.undone(&mut tx),
            }
            if self.random.coin() {
                std::thread::yield_now();
            }
        }
        let options = self.durability();
        let commit = match tx.commit_with(options) {
            Ok(seqno) => Some(seqno.get()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                None
            }
        };
        Transaction {
            actions,
            called,
            returned: self.place.now(),
            commit,
        }
    }

    fn append(&mut self, tx: &mut alluvium::Transaction, actions: &mut Vec<Action>) {
        let (key, value) = (self.list(), self.value());
        let mut list = self.read_list(tx, key);
        actions.push(Action::List(key, list.clone()));
        list.push(value);
        let bytes: Vec<u8> = list.iter().flat_map(|value| value.to_be_bytes()).collect();
        tx.put(keyspace(self.place, key), self.bytes(key), bytes);
        actions.push(Action::Append(key, value));
    }

    fn read_list(&self, tx: &alluvium::Transaction, key: Key) -> Vec<Value> {
        let found = tx.get(keyspace(self.place, key), self.bytes(key));
        let found = found.expect("a get succeeds");
        let bytes = found.as_ref().map_or(&[][..], Slice::as_bytes);
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| Value::from_be_bytes(*b))
            .collect()
    }

    /// Some registers of one keyspace, from one end, all or the first few: what was passed is absent.
    fn scan(&mut self, tx: &alluvium::Transaction, actions: &mut Vec<Action>) {
        let space = self.random.number_below(2) as Key;
        let mut keys: Vec<Key> = (LISTS..LISTS + REGISTERS)
            .filter(|key| key % 2 == space)
            .collect();
        let range = self.bytes(keys[0])..=self.bytes(keys[keys.len() - 1]);
        let mut iter = tx.range(keyspace(self.place, space), range);
        let backward = self.random.coin();
        if backward {
            keys.reverse();
        }
        let step = |iter: &mut TransactionIter| match backward {
            true => iter.next_back(),
            false => iter.next(),
        };
        let mut left = &keys[..];
        for _ in 0..1 + self.random.number_below(4) {
            let shown = step(&mut iter).map(|entry| entry.expect("a scan succeeds"));
            let until = shown.as_ref().map_or(left.len(), |(found, _)| {
                let known = left
                    .iter()
                    .position(|key| self.bytes(*key)[..] == found[..]);
                known.expect("a scan gives only keys that are left of its range")
            });
            let passed;
            (passed, left) = left.split_at(until);
            actions.extend(passed.iter().map(|key| Action::Read(*key, None)));
            let Some((_, value)) = shown else { break };
            actions.push(Action::Read(left[0], Some(number(&value))));
            left = &left[1..];
        }
    }

    /// Writes that are taken back: nobody may ever see them.
    fn undone(&mut self, tx: &mut alluvium::Transaction) {
        let savepoint = tx.savepoint();
        let (key, value) = (self.register(), self.value());
        tx.put(
            keyspace(self.place, key),
            self.bytes(key),
            value.to_be_bytes(),
        );
        let list = self.list();
        tx.delete(keyspace(self.place, list), self.bytes(list));
        tx.rollback_to(&savepoint)
            .expect("it is the transaction's own");
    }

    fn read_lists(&mut self) -> Transaction {
        let called = self.place.now();
        let tx = self.place.db.begin();
        let lists = (0..LISTS).map(|key| Action::List(key, self.read_list(&tx, key)));
        let actions = lists.collect();
        let seqno = tx.commit().expect("reading alone never conflicts");
        Transaction {
            actions,
            called,
            returned: self.place.now(),
            commit: Some(seqno.get()),
        }
    }
}

fn number(slice: &Slice) -> Value {
    Value::from_be_bytes(slice[..].try_into().expect("four bytes"))
}

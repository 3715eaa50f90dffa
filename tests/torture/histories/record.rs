//! One history: clients that work on a database at the same time, and note what they did and saw.
//!
//! The moments come from one counter: an operation takes a number just before its call and another
//! just after its return, so `a` returned before `b` was called exactly when their numbers say so.
//! What each client does follows from the seed; how the clients meet is left to the machine.

use super::check::{Action, Event, History, Key, Value};
use crate::model::Random;
use alluvium::{Db, Durability, Iter, Keyspace, Snapshot, WriteBatch, WriteOptions};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

/// Clients of one history.
pub(super) const CLIENTS: u64 = 8;
/// Operations of each client.
pub(super) const OPERATIONS: u64 = 200;
/// Keys in each of the two keyspaces.
pub(super) const KEYS: u16 = 6;

/// Where the histories of one database happen; each has keys of its own.
pub(crate) struct Place {
    pub(crate) db: Db,
    pub(crate) other: Keyspace,
    clock: AtomicU64,
}

impl Place {
    pub(crate) fn new(db: Db, other: Keyspace) -> Place {
        Place {
            db,
            other,
            clock: AtomicU64::new(0),
        }
    }

    /// SeqCst, so that the numbers of all clients are one order and surround the calls.
    pub(crate) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Runs the clients of the history with this seed.
    pub(super) fn record(&self, seed: u64) -> History {
        let start = Barrier::new(CLIENTS as usize);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|id| {
                    let mut client = Client {
                        place: self,
                        random: Random(seed ^ (id << 56)),
                        seed,
                        id,
                        written: 0,
                        events: Vec::new(),
                    };
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        client.run();
                        client.events
                    })
                })
                .collect();
            let joined = clients.into_iter().map(|client| client.join());
            joined
                .map(|events| events.expect("a client does not panic"))
                .collect()
        })
    }
}

struct Client<'a> {
    place: &'a Place,
    random: Random,
    seed: u64,
    id: u64,
    written: u32,
    events: Vec<Event>,
}

/// A snapshot or iterator that is read some operations after it was taken.
enum Held {
    Snapshot(usize, Snapshot),
    Scan(usize, Box<Iter>, Vec<Key>, bool),
}

impl Client<'_> {
    fn run(&mut self) {
        let mut held: Vec<Held> = Vec::new();
        for _ in 0..OPERATIONS {
            match self.random.number_below(100) {
                0..30 => self.put(),
                30..38 => self.delete(),
                38..53 => self.batch(),
                53..78 => self.get(),
                78..84 => self.get_many(),
                84..92 => held.push(self.snapshot()),
                _ => held.push(self.scan()),
            }
            // Half of them are read at once, the others wait for as long as they fit in here.
            while 2 < held.len() || (!held.is_empty() && self.random.number_below(2) == 0) {
                let at = self.random.number_below(held.len() as u64) as usize;
                self.read(held.swap_remove(at));
            }
        }
        while let Some(last) = held.pop() {
            self.read(last);
        }
    }

    fn keyspace(&self, key: Key) -> &Keyspace {
        match key < KEYS {
            true => &self.place.db,
            false => &self.place.other,
        }
    }

    fn bytes(&self, key: Key) -> Vec<u8> {
        format!("{:016x}-{:02}", self.seed, key % KEYS).into_bytes()
    }

    fn key(&mut self) -> Key {
        self.random.number_below(u64::from(KEYS) * 2) as Key
    }

    /// Some different keys, in any order.
    fn keys(&mut self) -> Vec<Key> {
        let mut keys: Vec<Key> = (0..2 + self.random.number_below(3))
            .map(|_| self.key())
            .collect();
        let mut seen = 0u32;
        keys.retain(|key| {
            let fresh = seen & (1 << key) == 0;
            seen |= 1 << key;
            fresh
        });
        keys
    }

    /// A number that no other write of the history has, and bytes that hold it.
    fn value(&mut self) -> (Value, Vec<u8>) {
        self.written += 1;
        let number = (self.id as u32) << 24 | self.written;
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.resize(4 + self.random.number_below(90) as usize, self.id as u8);
        (Some(number), bytes)
    }

    fn durability(&mut self) -> WriteOptions {
        match self.random.number_below(8) {
            0 => WriteOptions::new().durability(Durability::Synced),
            _ => WriteOptions::new(),
        }
    }

    fn note(&mut self, name: &'static str, called: u64, action: Action) {
        let returned = self.place.now();
        self.events.push(Event {
            name,
            action,
            called,
            returned,
        });
    }

    fn put(&mut self) {
        let (key, options) = (self.key(), self.durability());
        let (value, bytes) = self.value();
        let called = self.place.now();
        let done = self.keyspace(key).put_with(self.bytes(key), bytes, options);
        done.expect("a put succeeds");
        self.note("put", called, Action::Write(vec![(key, value)]));
    }

    fn delete(&mut self) {
        let (key, options) = (self.key(), self.durability());
        let called = self.place.now();
        let done = self.keyspace(key).delete_with(self.bytes(key), options);
        done.expect("a delete succeeds");
        self.note("delete", called, Action::Write(vec![(key, None)]));
    }

    fn batch(&mut self) {
        let mut batch = WriteBatch::new();
        let mut pairs = Vec::new();
        for key in self.keys() {
            if self.random.number_below(4) == 0 {
                batch.delete(self.keyspace(key), self.bytes(key));
                pairs.push((key, None));
            } else {
                let (value, bytes) = self.value();
                batch.put(self.keyspace(key), self.bytes(key), bytes);
                pairs.push((key, value));
            }
        }
        let options = self.durability();
        let called = self.place.now();
        self.place
            .db
            .write(&batch, options)
            .expect("a batch succeeds");
        self.note("batch", called, Action::Write(pairs));
    }

    fn get(&mut self) {
        let key = self.key();
        let called = self.place.now();
        let found = self.keyspace(key).get(self.bytes(key));
        let value = found.expect("a get succeeds").map(|v| number(&v));
        self.note("get", called, Action::Read(vec![(key, value)]));
    }

    fn get_many(&mut self) {
        let mut keys = self.keys();
        let first = keys[0];
        keys.retain(|key| (*key < KEYS) == (first < KEYS));
        let bytes: Vec<_> = keys.iter().map(|key| self.bytes(*key)).collect();
        let called = self.place.now();
        let found = self.keyspace(first).get_many(bytes);
        let found = found.expect("a multi-get succeeds");
        let values = found.iter().map(|v| v.as_ref().map(|v| number(v)));
        let pairs = keys.into_iter().zip(values).collect();
        self.note("get_many", called, Action::Read(pairs));
    }

    /// Takes a snapshot; its instant lies in this call, however late it is read.
    fn snapshot(&mut self) -> Held {
        let called = self.place.now();
        let snapshot = self.place.db.snapshot();
        self.note("snapshot", called, Action::Read(Vec::new()));
        Held::Snapshot(self.events.len() - 1, snapshot)
    }

    fn scan(&mut self) -> Held {
        let low = self.key();
        let space = low / KEYS * KEYS;
        let high = (low + self.random.number_below(4) as Key).min(space + KEYS - 1);
        let backward = self.random.number_below(2) == 0;
        let range = self.bytes(low)..=self.bytes(high);
        let called = self.place.now();
        let iter = self.keyspace(low).range(range);
        self.note("scan", called, Action::Read(Vec::new()));
        let keys = (low..=high).collect();
        Held::Scan(self.events.len() - 1, Box::new(iter), keys, backward)
    }

    /// Reads what is held, into the event of its taking.
    fn read(&mut self, held: Held) {
        let (at, pairs) = match held {
            Held::Snapshot(at, snapshot) => {
                let keys = self.keys();
                let pairs = keys.into_iter().map(|key| {
                    let found = snapshot.keyspace(self.keyspace(key)).get(self.bytes(key));
                    let found = found.expect("a read of a snapshot succeeds");
                    (key, found.map(|v| number(&v)))
                });
                (at, pairs.collect())
            }
            Held::Scan(at, iter, keys, backward) => {
                let entries: Result<Vec<_>, _> = match backward {
                    true => iter.rev().collect(),
                    false => iter.collect(),
                };
                let entries = entries.expect("a scan succeeds");
                let mut pairs: Vec<(Key, Value)> = keys.iter().map(|&key| (key, None)).collect();
                for (key, value) in &entries {
                    let known = keys.iter().position(|k| self.bytes(*k)[..] == key[..]);
                    let known = known.expect("a scan gives only keys of its range");
                    let twice = pairs[known].1.replace(number(value));
                    assert_eq!(twice, None, "a scan gives a key once");
                }
                let ascending = entries.is_sorted_by(|a, b| a.0[..] < b.0[..]);
                let descending = entries.is_sorted_by(|a, b| a.0[..] > b.0[..]);
                assert!(
                    if backward { descending } else { ascending },
                    "a scan is in order"
                );
                (at, pairs)
            }
        };
        self.events[at].action = Action::Read(pairs);
    }
}

/// The number in the bytes of a value.
fn number(bytes: &[u8]) -> u32 {
    let (number, padding) = bytes.split_at(4);
    let number = u32::from_le_bytes(number.try_into().expect("four bytes"));
    let id = (number >> 24) as u8;
    assert!(padding.iter().all(|&b| b == id), "a value is whole");
    number
}

//! An engine in memory with one fault at a time: the workloads that are about it must notice.

use super::forms;
use super::tests::{TINY, run_in};
use crate::data::Key;
use crate::engine::{Engine, Result, Settings, Start};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Right in everything but its fault.
struct Faulty<const FAULT: u8> {
    map: RwLock<Map>,
    writes: AtomicU64,
}

const NONE: u8 = 0;
/// One write in 16 goes nowhere.
const LOSES_WRITES: u8 = 1;
/// A key keeps its first value.
const KEEPS_THE_FIRST: u8 = 2;
const IGNORES_DELETES: u8 = 3;
/// The third entry of a scan is left out; the scan goes on as long as if it were not.
const SCANS_PAST_AN_ENTRY: u8 = 4;
/// The third entry of a scan comes twice.
const SCANS_AN_ENTRY_TWICE: u8 = 5;
/// Keys of a group that follow the tenth get the value of the tenth.
const MIXES_UP_GROUPS: u8 = 6;
/// A key that is not there gets the value of the next one.
const FINDS_THE_NEXT: u8 = 7;
/// A value lacks its last byte's right value.
const DAMAGES_A_BYTE: u8 = 8;

impl<const FAULT: u8> Faulty<FAULT> {
    fn read(&self) -> RwLockReadGuard<'_, Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Map> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const FAULT: u8> Engine for Faulty<FAULT> {
    fn open(directory: &Path, _: &Settings) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        Ok(Faulty {
            map: RwLock::default(),
            writes: AtomicU64::new(0),
        })
    }

    fn put(&self, key: &[u8], value: &[u8], _: bool) -> Result<()> {
        // Relaxed: a number that nothing else depends on.
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        if FAULT == LOSES_WRITES && number % 16 == 7 {
            return Ok(());
        }
        let mut value = value.to_vec();
        if FAULT == DAMAGES_A_BYTE
            && let Some(last) = value.last_mut()
        {
            *last ^= 1;
        }
        let mut map = self.write();
        if FAULT == KEEPS_THE_FIRST {
            map.entry(key.to_vec()).or_insert(value);
        } else {
            map.insert(key.to_vec(), value);
        }
        Ok(())
    }

    fn put_batch<V: AsRef<[u8]>>(&self, entries: &[(Key, V)]) -> Result<()> {
        let mut entries = entries.iter();
        entries.try_for_each(|(key, value)| self.put(key, value.as_ref(), false))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        if FAULT != IGNORES_DELETES {
            self.write().remove(key);
        }
        Ok(())
    }

    fn get<T>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> T) -> Result<T> {
        let map = self.read();
        let mut found = map.get(key);
        if FAULT == FINDS_THE_NEXT && found.is_none() {
            found = map.range(key.to_vec()..).next().map(|(_, value)| value);
        }
        Ok(read(found.map(|value| &value[..])))
    }

    fn get_many(&self, keys: &[Key], mut read: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        for i in 0..keys.len() {
            let asked = if FAULT == MIXES_UP_GROUPS {
                i.min(10)
            } else {
                i
            };
            self.get(&keys[asked], |value| read(i, value))?;
        }
        Ok(())
    }

    fn scan(
        &self,
        start: Start<'_>,
        limit: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let map = self.read();
        let from = match start {
            Start::At(key) => Bound::Included(key.to_vec()),
            Start::First | Start::Last => Bound::Unbounded,
        };
        let range = map.range((from, Bound::Unbounded));
        let mut entries: Vec<(&[u8], &[u8])> = match start {
            Start::Last => range.rev().map(|(k, v)| (&k[..], &v[..])).collect(),
            _ => range
                .take((limit as usize).saturating_add(1))
                .map(|(k, v)| (&k[..], &v[..]))
                .collect(),
        };
        if FAULT == SCANS_PAST_AN_ENTRY && entries.len() > 2 {
            entries.remove(2);
        }
        if FAULT == SCANS_AN_ENTRY_TWICE && entries.len() > 2 {
            entries.insert(2, entries[2]);
        }
        entries.truncate(limit as usize);
        entries.iter().for_each(|(key, value)| each(key, value));
        Ok(entries.len() as u64)
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

/// Those of `workloads` that a fault gets past.
fn fooled<const FAULT: u8>(workloads: &[&'static str]) -> Vec<&'static str> {
    let place = format!("compare-test-{}-fault-{FAULT}", std::process::id());
    let place = std::env::temp_dir().join(place);
    let fooled = workloads.iter().copied().filter(|name| {
        let answer = run_in::<Faulty<FAULT>>(&place, "lmdb", name);
        drop(std::fs::remove_dir_all(&place));
        answer.is_ok()
    });
    fooled.collect()
}

const FILLS: &[&str] = &[
    "fillseq",
    "fillrandom",
    "fillrandom 2 threads",
    "fill batches of 100",
    "fill synced 4 threads",
    "fill synced 16 threads",
    "values of 4 KiB",
    "values of 64 KiB",
    "values of 1 MiB",
    "fillrandom small buffer",
    "sustained fill",
];

const READS: &[&str] = &[
    "overwrite",
    "readrandom",
    "readrandom 2 threads",
    "readrandom zipfian",
    "get_many of 100",
    "YCSB A",
    "YCSB B",
    "YCSB C",
    "YCSB D",
    "YCSB F",
];

const NOBODY: [&str; 0] = [];
const SCANS: &[&str] = &["scan forward", "scan reverse"];
const SEEKS: &[&str] = &["seek and next 10", "seek and next 100"];

const FORMS: &[&str] = &[
    forms::USER,
    forms::UUID,
    forms::URL,
    forms::NUMBER,
    forms::LONG,
];
/// A value of no bytes has none to damage.
const EMPTY: &[&str] = &["values of 0 bytes"];

#[test]
fn without_a_fault_all_of_these_are_content() {
    assert_eq!(TINY.keys, 2_000, "the faults are made for this scale");
    let others = &["YCSB E", "readmissing"];
    for group in [FILLS, READS, SCANS, SEEKS, FORMS, EMPTY, others] {
        assert_eq!(fooled::<NONE>(group), group);
    }
    assert_eq!(
        fooled::<NONE>(&["deleterandom then scan"]),
        ["deleterandom then scan"]
    );
}

#[test]
fn lost_writes_and_damaged_values_are_noticed_everywhere() {
    for group in [FILLS, READS, SCANS, SEEKS, FORMS, &["YCSB E"]] {
        assert_eq!(fooled::<LOSES_WRITES>(group), NOBODY);
        assert_eq!(fooled::<DAMAGES_A_BYTE>(group), NOBODY);
    }
    assert_eq!(fooled::<LOSES_WRITES>(EMPTY), NOBODY);
    // Its writer puts what is lost again, perhaps before it is looked for.
    assert_eq!(fooled::<DAMAGES_A_BYTE>(&["read while writing"]), NOBODY);
}

#[test]
fn a_value_that_was_not_replaced_is_noticed() {
    let updating = ["overwrite", "YCSB A", "YCSB B", "YCSB F"];
    assert_eq!(fooled::<KEEPS_THE_FIRST>(&updating), NOBODY);
}

#[test]
fn a_delete_that_did_nothing_is_noticed() {
    assert_eq!(
        fooled::<IGNORES_DELETES>(&["deleterandom then scan"]),
        NOBODY
    );
}

#[test]
fn an_entry_too_few_or_too_many_is_noticed() {
    let scans = [SCANS, SEEKS, FORMS, &["deleterandom then scan"]].concat();
    assert_eq!(fooled::<SCANS_PAST_AN_ENTRY>(&scans), NOBODY);
    let scans = [SCANS, SEEKS, FORMS, &["YCSB E", "deleterandom then scan"]].concat();
    assert_eq!(fooled::<SCANS_AN_ENTRY_TWICE>(&scans), NOBODY);
}

#[test]
fn a_value_of_another_key_is_noticed() {
    assert_eq!(fooled::<MIXES_UP_GROUPS>(&["get_many of 100"]), NOBODY);
    assert_eq!(fooled::<FINDS_THE_NEXT>(&["readmissing"]), NOBODY);
}

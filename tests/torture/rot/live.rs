//! Bits flip under an open database that has read everything before. With `Verify::EveryRead` each
//! flip is noticed, or lies where nothing is read from any more: an index or a filter is a copy.
//!
//! On real files, because a mapping of the simulator is its own copy.

use super::check::{Truth, gets, scan};
use super::damage::{Damage, Damaged, apply, name_of};
use super::expect::{Expect, expect};
use super::golden::{Golden, History, ROOT, files, golden};
use super::layout::{Layout, What};
use super::{Books, Ended, caught};
use crate::scale::{Part, Scale, Tally};
use crate::temp_dir::TempDir;
use alluvium::fs::Fs;
use alluvium::{Db, Keyspace, KeyspaceOptions, ReadMode, Verify};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

type Checked<T> = Result<T, String>;

/// The golden store after it was flushed and closed: everything is in tables.
fn flushed(store: usize) -> Golden {
    let mut golden = golden(store);
    let sim = golden.sim.kill();
    let db = golden
        .options
        .clone()
        .open_in(Fs::sim(&sim, Path::new(ROOT)));
    let db = db.unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    golden.sim = sim.kill();
    golden.files = files(&sim);
    let layout = |(name, bytes): (&String, &Vec<u8>)| (name.clone(), Layout::of(name, bytes));
    golden.layouts = golden.files.iter().map(layout).collect();
    golden
        .histories
        .iter_mut()
        .for_each(|h| h.flushed = u64::MAX);
    golden
}

/// An open database over files that rot.
struct Live {
    golden: Golden,
    truth: Truth,
    db: Db,
    spaces: Vec<Keyspace>,
    tables: BTreeMap<usize, File>,
    _folder: TempDir,
}

impl Live {
    fn open(store: usize, read_mode: ReadMode) -> Live {
        let golden = flushed(store);
        let truth = Truth::at(&golden, u64::MAX);
        let folder = TempDir::new("rot");
        let path = |name: &String| folder.path().join(name);
        std::fs::create_dir(folder.path()).unwrap();
        for (name, bytes) in &golden.files {
            std::fs::write(path(name), bytes).unwrap();
        }
        let options = golden.options.clone().verify(Verify::EveryRead);
        let db = options.read_mode(read_mode).open(folder.path()).unwrap();
        let space = |history: &History| db.keyspace(&history.name, KeyspaceOptions::default());
        let spaces = golden.histories.iter().map(space);
        let spaces = spaces.collect::<Result<_, _>>().unwrap();
        let is_table = |(_, name): &(usize, &String)| name.ends_with(".tbl");
        let writable = |name: &String| OpenOptions::new().write(true).open(path(name));
        let tables = golden.files.keys().enumerate().filter(is_table);
        let tables = tables.map(|(i, name)| (i, writable(name).unwrap()));
        Live {
            tables: tables.collect(),
            truth,
            spaces,
            db,
            _folder: folder,
            golden,
        }
    }

    /// Everything is read: the first time, and after all was mended.
    fn is_whole(&self) -> Checked<()> {
        let nothing = Expect::nothing();
        for (space, keyspace) in self.spaces.iter().enumerate() {
            self.read(space, keyspace, &nothing)?;
        }
        let report = self.db.verify().map_err(|error| error.to_string())?;
        match report.problems.first() {
            Some(problem) => Err(format!("not whole: {problem}")),
            None => Ok(()),
        }
    }

    fn read(&self, space: usize, keyspace: &Keyspace, expect: &Expect) -> Checked<()> {
        let bad = expect.unreadable.iter().filter(|u| u.space == space);
        let bad: Vec<_> = bad.collect();
        let space = &self.truth.spaces[space];
        gets(keyspace, space, &bad, expect, true)?;
        scan(keyspace, space, &bad, expect, false)?;
        scan(keyspace, space, &bad, expect, true)
    }

    /// Damages a table, reads its keyspace, and mends it.
    fn rots(&self, damage: &Damage, file: usize, bit: usize) -> Checked<Ended> {
        let (name, bytes) = self.golden.files.iter().nth(file).unwrap();
        let damaged = apply(&self.golden, &[damage]);
        let expect = self.expect(name, bit / 8, &damaged);
        let at = bit as u64 / 8;
        let rotten = [bytes[bit / 8] ^ 1 << (bit % 8)];
        self.tables[&file].write_all_at(&rotten, at).unwrap();
        let spaces = self.spaces.iter().enumerate();
        let mut concerned = spaces.filter(|(i, _)| {
            // Where nothing is noticed, everybody is asked.
            expect.unreadable.is_empty() || expect.unreadable.iter().any(|u| u.space == *i)
        });
        let read = concerned.try_for_each(|(i, keyspace)| self.read(i, keyspace, &expect));
        self.tables[&file]
            .write_all_at(&bytes[bit / 8..][..1], at)
            .unwrap();
        read.map(|()| match expect.unreadable.is_empty() {
            true => Ended::Harmless,
            false => Ended::Detected,
        })
    }

    /// Only blocks are read again.
    fn expect(&self, name: &str, byte: usize, damaged: &Damaged) -> Expect {
        let layout = &self.golden.layouts[name];
        let touched = layout.touched(&(byte..byte + 1));
        let parts = &layout.parts[touched];
        match parts.iter().any(|p| matches!(p.what, What::Block(_))) {
            true => expect(&self.golden, damaged),
            false => Expect::nothing(),
        }
    }
}

#[test]
fn rot_under_an_open_database_is_noticed() {
    let stride = Scale::now().pick(997, 19, 1);
    let mut books = Books::new(Tally::new(
        "A6 rot under an open database",
        "flips",
        [500, 30_000, 8_000_000],
    ));
    for store in Part::now().range(Scale::now().pick(6, 6, 64)) {
        let store = store as usize;
        for mode in [ReadMode::Mmap, ReadMode::Pread] {
            let live = Live::open(store, mode);
            let whole = |when| {
                live.is_whole()
                    .unwrap_or_else(|what| panic!("{when}: {what}"))
            };
            whole("before");
            let golden = &live.golden;
            let stride = if books.wanted.is_some() { 1 } else { stride };
            for &file in live.tables.keys() {
                let bits = 8 * golden.files.values().nth(file).unwrap().len();
                for bit in (0..bits).step_by(stride) {
                    let damage = Damage::Flip { file, bit };
                    let case = || format!("{mode:?}/{}", name_of(store, golden, &damage));
                    if books.wants(case) {
                        let tried = caught(|| live.rots(&damage, file, bit));
                        books.add(tried.map(|ended| (ended, false)), case);
                    }
                }
            }
            whole("after");
        }
    }
    books.close();
}

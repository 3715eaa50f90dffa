//! Suite A6: bit rot. Every bit, every length and every sector of golden stores is damaged, files
//! are swapped and removed; then everything is read. The answer is the right data, or an error
//! that names the place: P8 to P11.
//!
//! `golden` makes the stores, `damage` damages them, `layout` finds out by itself what lies where,
//! `expect` says what may come of it, `check` opens, reads, compacts and compares. Pairs of damages
//! follow, each of a table and another file. `live` damages tables under an open database.
#![expect(clippy::unwrap_used, reason = "here it is an assertion")]

mod check;
mod damage;
mod expect;
mod golden;
mod layout;
mod live;
mod mend;

use crate::scale::{Part, Scale, Tally, only};
use check::{Ended, Truth, check};
use damage::{Damage, name_of};
use expect::Opening;
use golden::{Golden, golden};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Failures that are printed before a run gives up.
const FAILURES_MAX: usize = 20;

/// Gives what `body` gives; a panic is an error.
fn caught<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref().copied());
        Err(format!("P11: panicked: {}", text.unwrap_or("?")))
    })
}

/// Runs a case, and a repair of it when it is damage that was noticed and `mend` says so.
fn run(
    golden: &Golden,
    truth: &Truth,
    damages: &[&Damage],
    mend: bool,
) -> Result<(Ended, bool), String> {
    caught(|| {
        let damaged = damage::apply(golden, damages);
        let expect = expect::expect(golden, &damaged);
        let ended = check(golden, truth, &damaged, &expect)?;
        let mend = mend && matches!(ended, Ended::Refused | Ended::Detected);
        if mend {
            // Afresh: the check has compacted.
            let damaged = damage::apply(golden, damages);
            mend::mend(golden, &damaged, &expect)?;
        }
        Ok((ended, mend))
    })
}

/// What a run has seen.
struct Books {
    tally: Tally,
    wanted: Option<String>,
    ended: BTreeMap<Ended, u64>,
    mended: u64,
    failures: usize,
}

impl Books {
    fn new(tally: Tally) -> Books {
        Books {
            tally,
            wanted: only(),
            ended: BTreeMap::new(),
            mended: 0,
            failures: 0,
        }
    }

    /// True when this case is to be run.
    fn wants(&self, case: impl Fn() -> String) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| *wanted == case())
    }

    fn add(&mut self, tried: Result<(Ended, bool), String>, case: impl Fn() -> String) {
        match tried {
            Ok((how, mended)) => {
                *self.ended.entry(how).or_default() += 1;
                self.mended += u64::from(mended);
            }
            Err(what) => {
                println!("TORTURE_CASE={}\n    {what}", case());
                self.failures += 1;
                assert!(self.failures < FAILURES_MAX, "too many failures");
            }
        }
        self.tally.add(1);
    }

    fn close(self) {
        println!("{:?}, {} of them repaired", self.ended, self.mended);
        assert_eq!(self.failures, 0);
        self.tally
            .finish("cargo test --profile torture --features sim --test torture rot");
    }
}

#[test]
fn rot_is_never_a_wrong_answer() {
    // A prime: every kind of place is met.
    let stride = Scale::now().pick(499, 1, 1);
    let stores = Part::now().range(Scale::now().pick(6, 6, 64));
    let mend_stride = Scale::now().pick(3, 40, 4);
    let pairs = Scale::now().pick(100, 4_000, 490_000);
    let mut books = Books::new(Tally::new(
        "A6 corruption matrix",
        "damaged stores",
        [2_000, 900_000, 40_000_000],
    ));
    for store in stores {
        let store = store as usize;
        let golden = golden(store);
        let truth = Truth::at(&golden, u64::MAX);
        let all = damage::all(&golden);
        let bytes: usize = golden.files.values().map(Vec::len).sum();
        println!(
            "store {store}: {}, {bytes} bytes, {} damages",
            golden.name,
            all.len()
        );
        let is_alone = books.wanted.is_some();
        let stride = if is_alone { 1 } else { stride };
        for (n, damage) in all.iter().step_by(stride).enumerate() {
            let case = || name_of(store, &golden, damage);
            if books.wants(case) {
                let mend = is_alone || n % mend_stride == 0;
                books.add(run(&golden, &truth, &[damage], mend), case);
            }
        }
        for n in 0..pairs {
            let case = || format!("rot/{store}/pair/{n}");
            if books.wants(case) {
                let pair = damage::pair(&golden, &all, n);
                if is_alone {
                    println!("{pair:?} of {:?}", golden.files.keys());
                }
                books.add(run(&golden, &truth, &pair, false), case);
            }
        }
    }
    books.close();
}

/// Repair may be cut off at any call, and repeated.
#[test]
fn a_repair_that_is_cut_off_is_repeated() {
    let stride = Scale::now().pick(90_001, 8_009, 1_009);
    let wanted = only();
    let mut tally = Tally::new("A6 repair cut off", "disks", [100, 1_000, 20_000]);
    for store in 0..6 {
        let golden = golden(store);
        for damage in damage::all(&golden).iter().step_by(stride) {
            let case = name_of(store, &golden, damage);
            if wanted.as_ref().is_some_and(|only| *only != case) {
                continue;
            }
            let tried = caught(|| {
                let damaged = damage::apply(&golden, &[damage]);
                let expect = expect::expect(&golden, &damaged);
                match expect.opening == Opening::Fails || !expect.unreadable.is_empty() {
                    true => mend::cut_off(&golden, &damaged, &expect),
                    false => Ok(0),
                }
            });
            tally.add(tried.unwrap_or_else(|what| panic!("TORTURE_CASE={case}\n    {what}")));
        }
    }
    tally.finish("cargo test --profile torture --features sim --test torture rot");
}

//! A7: one list of operations on many option sets, each beside a model of its own.
//!
//! Options change how fast an answer comes, never the answer: every list runs on 40 random option
//! sets, four of them with background threads, in the simulator, through closes, kills and losses
//! of power; after every operation engine and model must agree. What a list can do stands in
//! `tests/model`. A failing list is shrunk and printed as one line, which `TORTURE_CASE` takes:
//! `LIST.SET` for a list by its number, `LIST.SET.HEX` for a shrunk one.

use crate::model::{Kind, Op, Place, Random, Settings, World, parse, run, shortest, text};
use crate::scale::{Part, Scale, Tally, only};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Option sets that every list runs on.
const SETS: u64 = 40;
/// The last ones of them have threads in the background, so that nothing there is repeatable.
const THREADED: u64 = 4;
/// Operations in a list.
const LIST: usize = 4000;
/// Runs that shrinking may take.
const SHRINKING: usize = 4000;
const HOW: &str = "cargo test --profile torture --features sim --test torture metamorphic";

thread_local! {
    /// While a list is shrunk its panics are expected.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// A list and an option set, by number; and the list itself when it has been shrunk.
struct Case {
    list: u64,
    set: u64,
    ops: Vec<Op>,
}

impl Case {
    fn new(list: u64, set: u64, len: usize) -> Case {
        let ops = Op::random(list, len, false);
        Case { list, set, ops }
    }

    fn parse(text: &str) -> Option<Case> {
        let mut parts = text.split('.');
        let (list, set) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        match parts.next() {
            None => Some(Case::new(list, set, LIST)),
            Some(hex) => parse(hex).map(|ops| Case { list, set, ops }),
        }
    }

    fn settings(&self) -> Settings {
        let threads = if self.set < SETS - THREADED { 0 } else { 2 };
        let mut seed = Random(self.list << 8 | self.set);
        Settings::random(seed.next(), threads)
    }

    fn run(&self, ops: &[Op]) -> Result<(), String> {
        let ran = catch_unwind(AssertUnwindSafe(|| {
            run(Place::simulated(), self.settings(), ops);
        }));
        ran.map_err(|panic| match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast_ref::<&str>().map_or_else(
                || "a panic without words".to_owned(),
                |text| (*text).to_owned(),
            ),
        })
    }

    /// Threads make a failure a matter of luck: then a list fails when it does in one of a few runs.
    fn fails(&self, ops: &[Op]) -> bool {
        let runs = if self.settings().threads == 0 { 1 } else { 8 };
        (0..runs).any(|_| self.run(ops).is_err())
    }

    fn report(&self, problem: &str) -> String {
        IS_QUIET.set(true);
        let list = shortest(&self.ops, SHRINKING, |ops| self.fails(ops));
        let last = self.run(&list).err();
        IS_QUIET.set(false);
        let lines: Vec<String> = list.iter().map(|op| format!("  {op}")).collect();
        format!(
            "{problem}\n{} operations, shrunk to {}, which end in: {}\n{}\non {:?}\n\
             TORTURE_CASE={}.{} {HOW}\nTORTURE_CASE={}.{}.{} {HOW}",
            self.ops.len(),
            list.len(),
            last.as_deref().unwrap_or("nothing, this time"),
            lines.join("\n"),
            self.settings(),
            self.list,
            self.set,
            self.list,
            self.set,
            text(&list),
        )
    }
}

/// Panics of a list that is being shrunk are not printed; those of other threads are.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                loud(info);
            }
        }));
    });
}

#[test]
fn metamorphic_every_option_set_answers_as_the_model_does() {
    hush();
    if let Some(case) = only() {
        // The case of another suite has another form.
        if let Some(case) = Case::parse(&case)
            && let Err(problem) = case.run(&case.ops)
        {
            panic!("{problem}");
        }
        return;
    }
    let mut tally = Tally::new(
        "A7 metamorphic",
        "operations",
        [30_000, 10_000_000, 1_000_000_000],
    );
    let len = Scale::now().pick(800, LIST, LIST);
    let lists = Scale::now().pick(1, 64, 6_300);
    let mut kinds: BTreeMap<Kind, u64> = BTreeMap::new();
    for list in Part::now().range(lists) {
        for op in &Op::random(list, len, false) {
            *kinds.entry(op.kind).or_default() += SETS;
        }
        for set in 0..SETS {
            let case = Case::new(list, set, len);
            if let Err(problem) = case.run(&case.ops) {
                panic!("{}", case.report(&problem));
            }
            tally.add(len as u64);
        }
    }
    let rarest = kinds.iter().min_by_key(|(_, count)| **count);
    println!("{} kinds of operations, the rarest {rarest:?}", kinds.len());
    assert!(40 <= kinds.len(), "too few kinds: {kinds:?}");
    tally.finish(HOW);
}

#[test]
fn metamorphic_lists_and_option_sets_are_different_ones() {
    let settings: Vec<String> = (0..SETS)
        .map(|set| format!("{:?}", Case::new(0, set, 0).settings()))
        .collect();
    let mut unique = settings.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), settings.len());
    let ops = Op::random(3, 200, false);
    assert_eq!(parse(&text(&ops)), Some(ops));
    assert!(60 <= Kind::ALL.len());
}

#[test]
fn metamorphic_a_write_behind_the_models_back_is_found_and_shrunk_to_itself() {
    hush();
    // The one put of key 7 is done twice: once for both, and once for the engine alone.
    let is_wrong = |ops: &[Op]| {
        let run = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(Place::simulated(), Settings::random(5, 0));
            for op in ops {
                world.step(op);
                if op.kind == Kind::Put && op.a == 7 {
                    world.tamper();
                }
            }
            world.finish();
        }));
        run.is_err()
    };
    let mut ops = Op::random(13, 300, false);
    ops.retain(|op| op.kind != Kind::Put || op.a != 7);
    IS_QUIET.set(true);
    assert!(!is_wrong(&ops), "without the put nothing is wrong");
    let mut put = ops[0];
    (put.kind, put.a) = (Kind::Put, 7);
    ops.insert(150, put);
    assert!(is_wrong(&ops), "with the put something is");
    let list = shortest(&ops, SHRINKING, is_wrong);
    IS_QUIET.set(false);
    put.len = 0;
    assert_eq!(list, [put]);
}

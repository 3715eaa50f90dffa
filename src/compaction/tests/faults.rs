//! Jobs that fail: nothing is left behind, and the inputs stay.

use super::super::*;
use super::{World, put, tiny};
use crate::base::error::ErrorKind;
use crate::base::sync::Arc;
use crate::base::sync::atomic::Ordering;
use crate::fs::FileName;
use crate::fs::sim::{CallKind, Fault, FaultRule, FileClass};
use crate::read::Horizon;
use crate::version::TableEntry;

/// A world whose next job merges real tables, and that job.
fn about_to_merge() -> (World, Job) {
    let mut world = World::new(tiny());
    for run in 0..3u64 {
        world.options = if run == 0 {
            tiny().level0_runs(1)
        } else {
            tiny()
        };
        let keys = (1..=300).map(|i| put(&format!("{i:04}"), run * 300 + i));
        world.flush(&keys.collect::<Vec<_>>(), &[900]);
        if run == 0 {
            world.drain(false, &[900]);
        }
    }
    let job = policy::pick(
        &world.version,
        &Busy::default(),
        &world.options,
        &Horizon::at(SeqNo::new(900)),
        false,
    );
    let job = job.expect("two runs are due");
    assert!(!job.trivial_move);
    (world, job)
}

#[test]
fn a_failure_at_any_call_removes_the_outputs_and_keeps_the_inputs() {
    // Bug 70 and P9.
    let (world, job) = about_to_merge();
    let before = world.files();
    let memtable = world.memtable(&[put("a", 1000), put("b", 1001)]);
    let kinds = [
        CallKind::Create,
        CallKind::Write,
        CallKind::Sync,
        CallKind::SyncDir,
    ];
    for kind in kinds {
        for nth in 0..3 {
            let rule = || FaultRule::new(Fault::Eio).kinds(&[kind]).nth(nth);
            for flushing in [false, true] {
                let hits = world.sim.faults_hit();
                world.sim.fail(rule());
                let outcome = match flushing {
                    true => world.at(&[1001], |shop| flush(&[Arc::clone(&memtable)], shop)),
                    false => world.at(&[900], |shop| execute(&job, shop)),
                };
                let struck = world.sim.faults_hit() != hits;
                world.sim.heal();
                assert_eq!(outcome.is_err(), struck, "{kind:?} {nth} {flushing}");
                if let Ok(outcome) = outcome {
                    for added in outcome.edit.added {
                        world.fs.remove(FileName::Table(added.meta.file)).unwrap();
                    }
                }
                assert_eq!(world.files(), before, "{kind:?} {nth} {flushing}");
            }
        }
    }
    assert_eq!(world.get("0001", 999), Some(601));
}

#[test]
fn an_error_reading_any_block_is_an_error_of_the_job() {
    // Bug 56: also at the first block.
    let (world, job) = about_to_merge();
    let before = world.files();
    for nth in 0.. {
        let hits = world.sim.faults_hit();
        let rule = FaultRule::new(Fault::Eio)
            .kinds(&[CallKind::Read])
            .class(FileClass::Table);
        world.sim.fail(rule.nth(nth));
        let outcome = world.at(&[900], |shop| execute(&job, shop));
        let struck = world.sim.faults_hit() != hits;
        world.sim.heal();
        assert_eq!(outcome.is_err(), struck, "read {nth}");
        if !struck {
            assert!(0 < nth, "the job reads through the disk");
            break;
        }
        assert_eq!(world.files(), before, "read {nth}");
    }
}

#[test]
fn a_stopped_job_leaves_nothing_behind() {
    let (world, job) = about_to_merge();
    let before = world.files();
    world.stop.store(true, Ordering::Relaxed);
    let error = world.at(&[900], |shop| execute(&job, shop)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(world.files(), before);
}

#[test]
fn an_input_with_fewer_entries_than_the_manifest_says_is_corruption() {
    let (mut world, job) = about_to_merge();
    let (level, order, table) = world.version.tables().next().unwrap();
    let mut meta = table.meta().clone();
    meta.summary.entries += 1;
    let lying = TableEntry::from_table(meta, Arc::clone(table.table().unwrap()));
    let mut job = job;
    job.inputs[0] = (level, order, vec![lying]);
    let before = world.files();
    let error = world.at(&[900], |shop| execute(&job, shop)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(world.files(), before);
    world.drain(true, &[900]);
    assert_eq!(world.entries().len(), 300);
}

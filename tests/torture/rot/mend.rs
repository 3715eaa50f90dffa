//! Repairs a damaged store: everything outside the damaged block or record must be there.

use super::damage::Damaged;
use super::expect::Expect;
use super::golden::{Golden, ROOT, files};
use crate::scale::Scale;
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::{Db, KeyspaceOptions, LossKind, RepairReport};
use std::collections::BTreeMap;
use std::path::Path;

type Checked<T> = Result<T, String>;

/// What may be found under a key after a repair.
fn may_be(golden: &Golden, expect: &Expect, space: usize, key: &[u8]) -> Vec<Option<Vec<u8>>> {
    let writes = golden.histories[space].writes.iter();
    let mut own = writes.filter(|(_, k, _)| k == key).rev().peekable();
    match own.peek() {
        None => vec![None],
        Some((n, _, value)) if !expect.gone.contains(n) => vec![value.clone()],
        // Its newest version was hit: an older one, or none, or the same from elsewhere.
        Some(_) => own.map(|(.., value)| value.clone()).chain([None]).collect(),
    }
}

/// Runs `Db::repair` on the store and compares what it left.
pub(crate) fn mend(golden: &Golden, damaged: &Damaged, expect: &Expect) -> Checked<()> {
    let report = repair(golden, &damaged.sim)?;
    if !report.changed {
        return Err(format!("repair found nothing to do: {report}"));
    }
    losses(golden, damaged, expect, &report)?;
    for (name, bytes) in &damaged.changed {
        let kept = damaged
            .sim
            .bytes(Path::new(ROOT), &format!("{name}.damaged"));
        let hit = report.losses.iter().any(|loss| loss.file.ends_with(name));
        if hit
            && bytes.is_some()
            && (name.ends_with(".tbl") || name.ends_with(".log"))
            && kept != *bytes
        {
            return Err(format!("{name} was not kept as it was; {report}"));
        }
    }
    contents(golden, expect, &damaged.sim).map_err(|what| format!("{what}\n    {report}"))?;
    let again = repair(golden, &damaged.sim)?;
    if again.changed {
        return Err(format!("a repaired store was repaired again: {again}"));
    }
    Ok(())
}

fn repair(golden: &Golden, sim: &SimFs) -> Checked<RepairReport> {
    let fs = Fs::sim(sim, Path::new(ROOT));
    let report = golden.options.clone().repair_in(fs);
    report.map_err(|error| format!("repair failed: {error:?}"))
}

/// What is reported lost lies in the damage, and what was hit is reported.
fn losses(
    golden: &Golden,
    damaged: &Damaged,
    expect: &Expect,
    report: &RepairReport,
) -> Checked<()> {
    let data = |loss: &&alluvium::Loss| loss.kind == LossKind::Data;
    for loss in report.losses.iter().filter(data) {
        let name = loss.file.file_name().unwrap().to_string_lossy();
        let Some(after) = damaged.changed.get(&*name) else {
            return Err(format!("{name} is not damaged: {loss}"));
        };
        if let (Some(range), true) = (damaged.ranges.get(&*name), after.is_some()) {
            // A block's loss is the block; a record's reaches up to the next that is whole.
            let touched = golden.layouts[&*name].touched(range);
            let parts = &golden.layouts[&*name].parts[touched];
            let first = parts.first().map_or(range.start, |p| p.range.start) as u64;
            let behind = parts.last().map_or(range.end, |p| p.range.end) as u64;
            if loss.offset + loss.bytes < first || behind < loss.offset {
                return Err(format!("outside of {first}..{behind}: {loss}"));
            }
        }
        for unreadable in &expect.unreadable {
            let inside = |(key, n): &&(Vec<u8>, u64)| {
                !expect.gone.contains(n)
                    || loss.what != "block"
                    || (loss.after_key.as_ref().is_none_or(|after| after <= key)
                        && loss.before_key.as_ref().is_none_or(|before| key <= before))
            };
            if let Some((key, _)) = unreadable.lost.iter().find(|entry| !inside(entry)) {
                return Err(format!(
                    "{} is not in its range: {loss}",
                    key.escape_ascii()
                ));
            }
        }
    }
    let in_tables = !expect.unreadable.is_empty() && !expect.gone.is_empty();
    if in_tables && !report.has_lost_data() {
        return Err(format!("nothing is reported lost: {report}"));
    }
    Ok(())
}

/// Opens the repaired store and reads all of it.
fn contents(golden: &Golden, expect: &Expect, sim: &SimFs) -> Checked<()> {
    let fs = Fs::sim(sim, Path::new(ROOT));
    let db = golden.options.clone().open_in(fs);
    let db = db.map_err(|error| format!("not opened after repair: {error:?}"))?;
    for (space, history) in golden.histories.iter().enumerate() {
        let found = all_of(&db, space, &history.name)?;
        for key in history.keys() {
            let value = found.get(&key).cloned();
            if !may_be(golden, expect, space, &key).contains(&value) {
                return Err(format!(
                    "after repair {} of {} is {:?}",
                    key.escape_ascii(),
                    history.name,
                    value.map(|v| v.escape_ascii().to_string())
                ));
            }
        }
        if let Some(key) = found.keys().find(|key| !history.keys().contains(key)) {
            return Err(format!("after repair there is {}", key.escape_ascii()));
        }
    }
    let report = db.verify().map_err(|error| format!("verify: {error}"))?;
    match report.problems.first() {
        Some(problem) => Err(format!("after repair: {problem}")),
        None => Ok(()),
    }
}

fn all_of(db: &Db, space: usize, name: &str) -> Checked<BTreeMap<Vec<u8>, Vec<u8>>> {
    let by_number = format!("keyspace-{space}");
    let name = match db.keyspaces().iter().any(|n| n == name) {
        true => name,
        false => &by_number,
    };
    let keyspace = db.keyspace(name, KeyspaceOptions::default());
    let keyspace = keyspace.map_err(|error| error.to_string())?;
    let entries = keyspace.iter().map(|entry| {
        let (key, value) = entry.map_err(|error| format!("after repair: {error:?}"))?;
        Ok((key.to_vec(), value.to_vec()))
    });
    entries.collect()
}

/// Takes the power away at every call of a repair; on each disk that is left, repair again.
/// Gives how many disks were tried.
pub(crate) fn cut_off(golden: &Golden, damaged: &Damaged, expect: &Expect) -> Checked<u64> {
    use alluvium::fs::sim::Family;
    let mut families = vec![Family::Nothing, Family::Everything, Family::DataOrNames];
    if Scale::now() != Scale::Smoke {
        families.extend([Family::Removals, Family::Prefixes]);
    }
    // Everything is durable before: only the repair's own calls may be lost.
    let durable = SimFs::new(1);
    for (name, bytes) in files(&damaged.sim) {
        durable.plant(Path::new(ROOT), &name, &bytes);
    }
    let mut tried = 0;
    for call in 0.. {
        let sim = durable.kill();
        sim.crash_at(call);
        let fs = Fs::sim(&sim, Path::new(ROOT));
        let whole = golden.options.clone().repair_in(fs);
        if !sim.is_crashed() {
            whole.map_err(|error| format!("repair failed: {error:?}"))?;
            return Ok(tried);
        }
        for image in sim.images(&families) {
            let place = |what| format!("cut off at call {call}, {}: {what}", image.id);
            repair(golden, &image.sim).map_err(place)?;
            contents(golden, expect, &image.sim).map_err(place)?;
            for (name, bytes) in &damaged.changed {
                let kept = format!("{name}.damaged");
                let all = files(&image.sim);
                if name.ends_with(".tbl") && all.get(&kept) != bytes.as_ref() {
                    return Err(place(format!("{name} was not kept")));
                }
            }
            tried += 1;
        }
    }
    Ok(tried)
}

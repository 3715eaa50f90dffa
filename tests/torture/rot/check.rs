//! Runs one case: opens the damaged store, reads everything both ways, compacts, drops.

use super::damage::Damaged;
use super::expect::{Expect, Opening, Unreadable};
use super::golden::{Golden, ROOT, files};
use alluvium::fs::Fs;
use alluvium::{Db, Error, Keyspace, KeyspaceOptions, Slice};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::Path;

/// What a golden store holds, made ready for many comparisons.
pub(crate) struct Truth {
    pub(crate) spaces: Vec<Space>,
}

/// What one keyspace holds.
pub(crate) struct Space {
    pub(crate) name: String,
    /// Each key that is asked for, with its newest write and what is visible.
    pub(crate) keys: Vec<Wanted>,
    pub(crate) visible: Vec<(Vec<u8>, Vec<u8>)>,
}

pub(crate) struct Wanted {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
    /// Number of its newest write; 0 when it was never written.
    pub(crate) newest: u64,
    /// Only the log has it.
    pub(crate) is_logged: bool,
}

impl Truth {
    /// What is there when the log is lost from number `cut` on.
    pub(crate) fn at(golden: &Golden, cut: u64) -> Truth {
        let spaces = golden.histories.iter().map(|history| {
            let visible = history.visible(cut);
            let newest = history.newest(cut);
            let wanted = |key: Vec<u8>| {
                let n = newest.get(&key[..]).copied().unwrap_or(0);
                Wanted {
                    value: visible.get(&key[..]).map(|v| v.to_vec()),
                    newest: n,
                    is_logged: history.flushed < n,
                    key,
                }
            };
            Space {
                name: history.name.clone(),
                keys: history.keys().into_iter().map(wanted).collect(),
                visible: visible
                    .iter()
                    .map(|(k, v)| (k.to_vec(), v.to_vec()))
                    .collect(),
            }
        });
        Truth {
            spaces: spaces.collect(),
        }
    }
}

/// How a case ended, for the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    /// Opening was refused.
    Refused,
    /// Some reads were refused.
    Detected,
    /// A torn tail was cut off.
    Cut,
    /// Everything was right: the damage is where nothing is read from.
    Harmless,
}

type Checked<T> = Result<T, String>;

/// Runs one case.
pub(crate) fn check(
    golden: &Golden,
    truth: &Truth,
    damaged: &Damaged,
    expect: &Expect,
) -> Checked<Ended> {
    let fs = Fs::sim(&damaged.sim, Path::new(ROOT));
    let db = match golden.options.clone().open_in(fs) {
        Ok(db) => db,
        Err(error) => return refused(golden, damaged, expect, &error).map(|()| Ended::Refused),
    };
    if expect.opening == Opening::Fails {
        return Err(format!("opened, with {:?}", db.open_report()));
    }
    let cut = report(&db, expect)?;
    let shorter;
    let truth = match &expect.cut {
        Some(cut) => {
            shorter = Truth::at(golden, cut.number);
            &shorter
        }
        None => truth,
    };
    let spaces = truth.spaces.iter().enumerate().map(|(i, space)| {
        let keyspace = db.keyspace(&space.name, KeyspaceOptions::default());
        let keyspace = keyspace.map_err(|e| format!("keyspace {}: {e}", space.name))?;
        let bad = expect.unreadable.iter().filter(|u| u.space == i);
        Ok((keyspace, space, bad.collect::<Vec<_>>()))
    });
    let mut spaces = spaces.collect::<Checked<Vec<_>>>()?;
    for (keyspace, space, bad) in &spaces {
        gets(keyspace, space, bad, expect, true)?;
        scan(keyspace, space, bad, expect, false)?;
        scan(keyspace, space, bad, expect, true)?;
    }
    // Whole keyspaces first: what compacting a damaged one does to the state is checked behind.
    spaces.sort_by_key(|(_, _, bad)| bad.len());
    for (keyspace, space, bad) in &spaces {
        compact(&db, keyspace, space, bad, damaged, expect)?;
    }
    drop(spaces);
    drop(db);
    Ok(match (expect.unreadable.is_empty(), cut) {
        (false, _) => Ended::Detected,
        (true, true) => Ended::Cut,
        (true, false) => Ended::Harmless,
    })
}

/// An error must name the place of the damage, or be a refusal whose cause does. Gives the file.
fn named(expect: &Expect, error: &Error, during: &str) -> Checked<String> {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<Error>());
    let error = cause.unwrap_or(error);
    let file = error.file().and_then(Path::file_name);
    let file = file.map_or("no file".into(), |name| name.to_string_lossy());
    if expect.names(&file, error.offset()) {
        return Ok(file.into_owned());
    }
    Err(format!(
        "{during}: the error names another place than {:?}: {error:?}",
        expect.places
    ))
}

fn refused(golden: &Golden, damaged: &Damaged, expect: &Expect, error: &Error) -> Checked<()> {
    if expect.opening == Opening::Succeeds {
        return Err(format!("not opened: {error:?}"));
    }
    named(expect, error, "open")?;
    let mut before = golden.files.clone();
    for (name, bytes) in &damaged.changed {
        match bytes {
            Some(bytes) => before.insert(name.clone(), bytes.clone()),
            None => before.remove(name),
        };
    }
    let mut after = files(&damaged.sim);
    before.remove("LOCK");
    after.remove("LOCK");
    if before == after {
        return Ok(());
    }
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    Err(format!(
        "P11: a failed open changed the store: {:?}, before {:?}; {error}",
        names(&after),
        names(&before)
    ))
}

/// A cut must be reported; true when one was.
fn report(db: &Db, expect: &Expect) -> Checked<bool> {
    let report = db.open_report();
    let Some(cut) = &expect.cut else {
        return Ok(false);
    };
    let wanted = (Path::new(ROOT).join(&cut.report.0), cut.report.1);
    if report.torn.as_ref() == Some(&wanted) {
        return Ok(true);
    }
    if report.torn.is_some() || cut.must_report {
        return Err(format!("cut at {wanted:?}, and the report says {report:?}"));
    }
    Ok(true)
}

pub(super) fn gets(
    keyspace: &Keyspace,
    space: &Space,
    bad: &[&Unreadable],
    expect: &Expect,
    must_notice: bool,
) -> Checked<()> {
    for wanted in &space.keys {
        let (key, newest) = (&wanted.key, wanted.newest);
        let shown = || format!("get {} of {}", key.escape_ascii(), space.name);
        let between = |(from, to): &(Option<Vec<u8>>, Option<Vec<u8>>)| {
            from.as_ref().is_none_or(|from| from < key) && to.as_ref().is_none_or(|to| key < to)
        };
        let may_fail = !wanted.is_logged
            && bad
                .iter()
                .any(|u| newest <= u.newest && u.between.iter().any(between));
        let is_lost = |u: &&Unreadable| newest > 0 && u.lost.contains(&(key.clone(), newest));
        match keyspace.get(key) {
            Ok(found) => {
                if found.as_deref() != wanted.value.as_deref() {
                    let found = found.map(|v| v.escape_ascii().to_string());
                    let value = wanted.value.as_ref().map(|v| v.escape_ascii().to_string());
                    return Err(format!("{}: {found:?}, expected {value:?}", shown()));
                }
                if must_notice && !wanted.is_logged && bad.iter().any(is_lost) {
                    return Err(format!("{}: the damage was not noticed", shown()));
                }
            }
            Err(error) if may_fail => drop(named(expect, &error, &shown())?),
            Err(error) => return Err(format!("P9: {}: {error:?}", shown())),
        }
    }
    Ok(())
}

pub(super) fn scan(
    keyspace: &Keyspace,
    space: &Space,
    bad: &[&Unreadable],
    expect: &Expect,
    backwards: bool,
) -> Checked<()> {
    let during = format!("scan of {}, backwards: {backwards}", space.name);
    let mut iter = keyspace.iter();
    let mut step = || match backwards {
        false => iter.next(),
        true => iter.next_back(),
    };
    let mut seen = 0;
    let total = space.visible.len();
    let error = loop {
        let (key, value): (Slice, Slice) = match step() {
            None => break None,
            Some(Err(error)) => break Some(error),
            Some(Ok(entry)) => entry,
        };
        let place = if backwards {
            (total - 1).checked_sub(seen)
        } else {
            Some(seen)
        };
        let right = place.and_then(|i| space.visible.get(i));
        if right.is_none_or(|(k, v)| *k != key[..] || *v != value[..]) {
            return Err(format!(
                "{during}: {} = {}, expected {right:?}",
                key.escape_ascii(),
                value.escape_ascii()
            ));
        }
        seen += 1;
    };
    let Some(error) = error else {
        if seen != total || !bad.is_empty() {
            return Err(format!("{during}: ended after {seen} of {total} entries"));
        }
        return Ok(());
    };
    if bad.is_empty() {
        return Err(format!("{during}: {error:?}"));
    }
    named(expect, &error, &during)?;
    // What lies before the damaged block was read before it.
    let least = bad.iter().map(|u| {
        let before = |(k, _): &&(Vec<u8>, Vec<u8>)| match (&u.scan, backwards) {
            ((Some(from), _), false) => k < from,
            ((_, Some(to)), true) => k > to,
            _ => false,
        };
        space.visible.iter().filter(before).count()
    });
    let least = least.min().unwrap_or(0);
    if seen < least {
        return Err(format!(
            "P9: {during}: {seen} entries, at least {least} expected"
        ));
    }
    if step().is_some() {
        return Err(format!("P10: {during}: goes on behind its error"));
    }
    cursor_repeats(keyspace, backwards, &during)
}

/// A cursor gives its error again until it is positioned anew (P10).
fn cursor_repeats(keyspace: &Keyspace, backwards: bool, during: &str) -> Checked<()> {
    let mut cursor = keyspace.cursor();
    let mut moved = match backwards {
        false => cursor.first(),
        true => cursor.last(),
    };
    let mut steps = 0;
    while moved.is_ok() && cursor.entry().is_some() {
        steps += 1;
        moved = match backwards {
            false => cursor.next(),
            true => cursor.prev(),
        };
    }
    let Err(error) = moved else {
        return Err(format!("P10: {during}: a cursor passed over the damage"));
    };
    for _ in 0..2 {
        let again = match backwards {
            false => cursor.next(),
            true => cursor.prev(),
        };
        let same = again.is_err_and(|e| e.to_string() == error.to_string());
        if !same || cursor.entry().is_some() {
            return Err(format!("P10: {during}: not the same error after {steps}"));
        }
    }
    Ok(())
}

/// Compaction gives the right data or stops with its inputs as they are, and does not spin.
fn compact(
    db: &Db,
    keyspace: &Keyspace,
    space: &Space,
    bad: &[&Unreadable],
    damaged: &Damaged,
    expect: &Expect,
) -> Checked<()> {
    let during = format!("compact {}", space.name);
    let compacted = keyspace.compact();
    match (&compacted, bad.is_empty()) {
        (Ok(()), _) => {}
        (Err(error), false) => {
            let input = named(expect, error, &during)?;
            let calls = damaged.sim.call_count();
            if keyspace.compact().is_ok() {
                return Err(format!("{during}: failed once, and then did not"));
            }
            if damaged.sim.call_count() != calls {
                return Err(format!("P9: {during}: goes on working: {:?}", db.state()));
            }
            if damaged.sim.bytes(Path::new(ROOT), &input) != damaged.changed[&input] {
                return Err(format!("P9: {during}: the input {input} is not as it was"));
            }
        }
        (Err(error), true) => return Err(format!("{during}: {error:?}")),
    }
    gets(keyspace, space, bad, expect, compacted.is_err())
}

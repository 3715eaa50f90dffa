//! Misuse that a real disk would let pass, and that panics here because it is a bug.
//!
//! - R10: a file changes while it is mapped for reading, or its size while it is mapped at all.
//! - P6: a name with a number is given a second time in a directory that has a CURRENT. Names that
//!   were durable beside a CURRENT are remembered through a power loss, others through a kill.
//! - Bytes are read that nobody wrote, but for logs: the tail of a preallocated log reads as
//!   zeros, and recovery looks at it. After a power loss all bytes count as written.
//! - A file or directory is synced [`IDLE_SYNCS_MAX`] times in a row with nothing to sync and no
//!   other change between: a loop that has lost its way, or a disk worn for nothing.
//!
//! Some classes of misuse cannot be written down with `Fs` and `File`, so nothing checks them: a
//! path outside of the root (a [`FileName`] is a kind and a number), making a file that exists
//! (`create_new` is the only way to make one), closing twice (a `File` closes when its owner drops
//! it), and changing a buffer that a write still uses (a write borrows its bytes, has copied them
//! when it returns, and nothing is asynchronous; so there is nothing that scrambling a buffer
//! behind a write could show).

use super::super::name::FileName;
use super::log::{DirOp, DirState, FileState};
use crate::base::sync::Arc;
use std::collections::BTreeSet;
use std::ops::Range;

/// More syncs in a row than this, each with nothing to do, are a bug.
pub(super) const IDLE_SYNCS_MAX: u32 = 1000;

/// The names of a directory that must not be given again.
#[derive(Clone, Debug, Default)]
pub(super) struct UsedNames {
    now: Arc<BTreeSet<FileName>>,
    durable: Arc<BTreeSet<FileName>>,
}

impl UsedNames {
    /// What is remembered after a power loss.
    pub(super) fn after_power_loss(&self) -> UsedNames {
        UsedNames {
            now: Arc::clone(&self.durable),
            durable: Arc::clone(&self.durable),
        }
    }

    fn insert(&mut self, name: &str) {
        match FileName::parse(name) {
            // A temporary file is referenced by nothing, a manifest by a CURRENT only (below), and
            // the others have no number.
            None | Some(FileName::Temp(_) | FileName::Manifest(_)) => {}
            Some(name) if name.id().is_none() => {}
            Some(name) => self.remember(name),
        }
    }

    /// CURRENT names one of the manifests that are there.
    fn insert_manifests<'n>(&mut self, names: impl Iterator<Item = &'n Arc<str>>) {
        let named = names.filter_map(|name| FileName::parse(name));
        for name in named.filter(|name| matches!(name, FileName::Manifest(_))) {
            self.remember(name);
        }
    }

    fn remember(&mut self, name: FileName) {
        if !self.now.contains(&name) {
            Arc::make_mut(&mut self.now).insert(name);
        }
    }

    fn check(&self, name: &str) {
        let parsed = FileName::parse(name);
        let again = parsed.is_some_and(|name| self.now.contains(&name));
        assert!(!again, "P6: the name {name} is given a second time");
    }
}

/// Before `op` happens to the names of `dir` as they are seen now.
pub(super) fn names_change(dir: &mut DirState, op: &DirOp) {
    if let DirOp::Link { name, .. } | DirOp::Rename { to: name, .. } = op {
        dir.used.check(name);
    }
    if let DirOp::Rename { to, .. } = op
        && &**to == "CURRENT"
    {
        dir.used.insert_manifests(dir.now.keys());
    }
    if !dir.now.contains_key("CURRENT") {
        return; // what is referenced by nothing yet may be started anew
    }
    match op {
        DirOp::Unlink { name, .. } if &**name == "CURRENT" => dir.used = UsedNames::default(),
        DirOp::Link { name, .. } | DirOp::Unlink { name, .. } => dir.used.insert(name),
        DirOp::Rename { from, to, .. } => {
            dir.used.insert(from);
            dir.used.insert(to);
        }
    }
}

/// After the names of `dir` became durable.
pub(super) fn names_synced(dir: &mut DirState) {
    if dir.durable.contains_key("CURRENT") {
        dir.used.durable = Arc::clone(&dir.used.now);
    }
}

/// Before bytes of the file change.
pub(super) fn bytes_change(file: &FileState, name: FileName) {
    let mapped = Arc::strong_count(&file.mapped) > 1;
    assert!(
        !mapped,
        "R10: a write to {name}, which is mapped for reading"
    );
}

/// Before the size of the file is set.
pub(super) fn size_changes(file: &FileState, name: FileName) {
    assert!(
        !file.is_mapped(),
        "R10: the size of {name} is set while it is mapped"
    );
}

/// Before bytes of the file are read.
pub(super) fn bytes_read(file: &FileState, name: FileName, range: Range<usize>) {
    if matches!(name, FileName::Log(_)) {
        return;
    }
    let overlaps = |hole: &&Range<usize>| hole.start < range.end && range.start < hole.end;
    if let Some(hole) = file.unwritten.iter().find(overlaps) {
        panic!("bytes {range:?} of {name} are read, and nobody wrote {hole:?}");
    }
}

/// Takes a range that is written out of those that never were.
pub(super) fn written(unwritten: &mut Vec<Range<usize>>, range: Range<usize>) {
    if unwritten
        .iter()
        .all(|hole| hole.end <= range.start || range.end <= hole.start)
    {
        return;
    }
    let rest = |hole: Range<usize>| {
        let before = hole.start..hole.end.min(range.start);
        let behind = hole.start.max(range.end)..hole.end;
        [before, behind]
            .into_iter()
            .filter(|part| part.start < part.end)
    };
    *unwritten = unwritten.drain(..).flat_map(rest).collect();
}

//! Damage to a closed database, and its repair.

use super::{Change, ROOT, Run, names};
use alluvium::fs::{FileName, Fs};
use alluvium::{ErrorKind, LossKind, RepairReport};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What happens to a closed database between two sessions. None of it loses anything that is
/// visible: what is hit is had from elsewhere, or newer writes hide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// CURRENT is gone.
    Current,
    /// A byte of the manifest's header: what the manifest says can be read, and not believed.
    ManifestHeader,
    /// All of the manifest. The names of keyspaces go with it.
    Manifest,
    /// A byte of the filter of every table.
    Filters,
    /// The second half of the only table, when the log has something newer of each key.
    HalfTable,
    /// All of the only table, which stays as an empty file; when the log has it all.
    WholeTable,
}

impl Damage {
    /// True when the database can be opened all the same: nobody does, before it is repaired.
    pub(super) fn is_seen_late(self) -> bool {
        matches!(
            self,
            Damage::Filters | Damage::HalfTable | Damage::WholeTable
        )
    }
}

/// A damage that was not repaired yet.
pub(super) struct Damaged {
    pub(super) damage: Damage,
    /// The files that were there and were not hit: nothing of them is lost. What an interrupted
    /// repair leaves is not among them, and may look damaged to the next one.
    whole: BTreeSet<PathBuf>,
}

impl Run<'_> {
    /// Damages what is closed and whole, for a repair. Where a fault left anything undone, nothing
    /// happens: what can be lost with it is not known then.
    pub fn damage(&mut self, damage: Damage) {
        let is_in_use = self.db.is_some() || self.is_unsure || self.damaged.is_some();
        if is_in_use || self.is_dead() || !self.is_tidy() {
            return;
        }
        let hits_data = matches!(damage, Damage::HalfTable | Damage::WholeTable);
        if hits_data && !self.is_table_hidden() {
            return;
        }
        let fs = Fs::sim(self.sim, Path::new(ROOT));
        let mut whole: BTreeSet<PathBuf> = BTreeSet::new();
        let mut is_hit = false;
        for name in names(self.sim).iter().filter_map(|n| FileName::parse(n)) {
            let bytes = self.sim.bytes(Path::new(ROOT), &name.to_string());
            let mut bytes = bytes.expect("a file that is listed");
            match (damage, name) {
                (Damage::ManifestHeader, FileName::Manifest(_)) => bytes[40] ^= 0xff,
                (Damage::Manifest, FileName::Manifest(_)) => bytes.fill(0xa5),
                (Damage::Filters, FileName::Table(_)) => {
                    let at = filter_of(&bytes);
                    bytes[at] ^= 0xff;
                }
                (Damage::HalfTable, FileName::Table(_)) => bytes.truncate(bytes.len() / 2),
                (Damage::WholeTable, FileName::Table(_)) => bytes.clear(),
                (Damage::Current, FileName::Current) => {
                    is_hit = fs.remove(name).is_ok();
                    assert!(is_hit || self.is_dead(), "{}", self.what);
                    continue;
                }
                _ => {
                    whole.insert(fs.path(name));
                    continue;
                }
            }
            is_hit = true;
            self.sim.plant(Path::new(ROOT), &name.to_string(), &bytes);
        }
        if is_hit {
            self.damaged = Some(Damaged { damage, whole });
        }
    }

    pub(super) fn tables(&self) -> Vec<String> {
        let mut names = names(self.sim);
        names.retain(|name| name.ends_with(".tbl"));
        names
    }

    /// The only table is that of the last flush, and each of its keys was written after it.
    fn is_table_hidden(&self) -> bool {
        let (batches, tables) = &self.flushed;
        let keys = |batches: &[Vec<Change>]| -> BTreeSet<(&str, Vec<u8>)> {
            let changes = batches.iter().flatten();
            changes
                .map(|(space, key, _)| (*space, key.clone()))
                .collect()
        };
        let (before, after) = self.history.batches.split_at(*batches);
        tables.len() == 1 && *tables == self.tables() && keys(before).is_subset(&keys(after))
    }

    /// Everything is synced, and the next open would find a clean end and nothing left over.
    pub(super) fn is_tidy(&self) -> bool {
        let written = self.history.batches.len();
        if written == 0 || self.history.synced != written {
            return false;
        }
        let copy = self.sim.kill();
        // Opening also removes manifests that an unfinished switch left, and does not count them.
        let names = names(&copy);
        let manifests = names.iter().filter(|name| name.ends_with(".manifest"));
        let is_one = manifests.count() == 1;
        let fs = Fs::sim(&copy, Path::new(ROOT));
        let opened = self.options.clone().open_in(fs);
        is_one
            && opened.is_ok_and(|db| {
                let report = db.open_report();
                let is_whole = report.torn.is_none() && report.segments_passed_over == 0;
                is_whole && report.orphans_removed == 0
            })
    }

    /// Repairs what is closed: nothing is lost by it.
    pub fn repair(&mut self) {
        if self.db.is_some() || self.is_unsure || self.is_dead() {
            return;
        }
        let fs = Fs::sim(self.sim, Path::new(ROOT));
        match self.options.clone().repair_in(fs) {
            Ok(report) => {
                if self.is_dead() {
                    return;
                }
                self.expect_no_loss(&report, self.what);
                self.damaged = None;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.expect_disk(&error),
        }
    }

    pub(super) fn expect_no_loss(&self, report: &RepairReport, what: &str) {
        for loss in report.losses.iter().filter(|l| l.kind == LossKind::Data) {
            let can_be = self.damaged.as_ref().is_some_and(|damaged| {
                !matches!(damaged.damage, Damage::Current | Damage::Filters)
                    && !damaged.whole.contains(&loss.file)
            });
            assert!(can_be, "{what}: {report}");
        }
    }
}

/// Where a table's filter begins: the first row of the section table that its footer names.
fn filter_of(table: &[u8]) -> usize {
    let number = |at: usize| {
        let bytes = table[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes) as usize
    };
    let sections = number(table.len() - 72);
    assert_eq!(table[sections], 2, "the first section is the filter");
    number(sections + 4)
}

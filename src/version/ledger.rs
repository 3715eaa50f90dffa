//! The ledger: which file belongs to which keyspace and level, and what an edit may do to it.
//!
//! Reading a manifest and installing an edit go through the same two steps, `check` and `apply`;
//! both cost as much as the edit is long, however many tables there are, so that replaying is
//! linear in the manifest (P19). `check` answers every way in which `apply` could fail.
//!
//! Invariants: L1 a file belongs to one place; L2 no two keyspaces have one name; L3 log floors and
//! `flushed_through` never go back; L4 every number in use is below its ceiling.
//! Not here: key ranges (`version` checks them when it makes runs); disk.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::edit::{KeyspaceEdit, VersionEdit};
use super::version::{LEVELS_MAX, Version};
use crate::base::error::{Error, Result};
use crate::base::sync::Arc;
use crate::base::types::{FileId, KeyspaceId, SeqNo};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Longest name of a keyspace, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// What the manifest knows of a keyspace.
#[derive(Clone, Debug)]
pub struct KeyspaceState {
    /// Number.
    pub id: KeyspaceId,
    /// Name.
    pub name: String,
    /// Encoded options.
    pub options: Vec<u8>,
    /// Its files.
    pub version: Arc<Version>,
    /// See `KeyspaceEdit`.
    pub log_floor: FileId,
    /// See `KeyspaceEdit`.
    pub flushed_through: SeqNo,
    /// See `KeyspaceEdit`.
    pub commit_pin: Option<SeqNo>,
    /// See `KeyspaceEdit`.
    pub hidden: Vec<(SeqNo, SeqNo)>,
}

impl KeyspaceState {
    pub(super) fn new(id: KeyspaceId, name: &str, options: &[u8]) -> KeyspaceState {
        KeyspaceState {
            id,
            name: name.to_owned(),
            options: options.to_vec(),
            version: Arc::default(),
            log_floor: FileId(0),
            flushed_through: SeqNo::ZERO,
            commit_pin: None,
            hidden: Vec::new(),
        }
    }

    /// Applies everything of `edit` but its tables.
    pub(super) fn apply(&mut self, edit: &KeyspaceEdit) {
        if let Some(options) = &edit.options {
            self.options.clone_from(options);
        }
        self.log_floor = edit.log_floor.unwrap_or(self.log_floor);
        self.flushed_through = edit.flushed_through.unwrap_or(self.flushed_through);
        self.commit_pin = edit.commit_pin.or(self.commit_pin);
        self.hidden.extend_from_slice(&edit.hidden);
    }
}

/// Fails on a name that no keyspace may have: empty, too long, or with control characters.
///
/// # Errors
/// `InvalidArgument`, saying which.
pub fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid("the name of the keyspace is empty"));
    }
    if NAME_BYTES_MAX < name.len() {
        return Err(Error::invalid("the name of the keyspace is too long")
            .expected(format!("at most {NAME_BYTES_MAX} bytes"), name.len()));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "the name of the keyspace has a control character: {name:?}"
        )));
    }
    Ok(())
}

/// Numbers below which an edit must stay (L4).
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) files: u64,
    pub(super) keyspaces: u32,
    pub(super) orders: u64,
}

#[derive(Debug)]
pub(super) struct Account {
    /// Its version stays empty here.
    pub(super) state: KeyspaceState,
    /// Level and run order of each table.
    pub(super) tables: HashMap<FileId, (u8, u64)>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) keyspaces: BTreeMap<KeyspaceId, Account>,
    pub(super) logs: BTreeSet<FileId>,
    names: HashMap<String, KeyspaceId>,
    owners: HashMap<FileId, KeyspaceId>,
}

impl Ledger {
    /// Fails on the first thing in `edit` that cannot be.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(super) fn check(&self, edit: &VersionEdit, limits: Limits) -> Result<()> {
        let mut seen = HashSet::new();
        let mut names = HashSet::new();
        let mut files = HashSet::new();
        let dropped = edit.keyspaces.iter().filter(|k| k.dropped);
        let dropped: HashSet<_> = dropped.map(|k| k.id).collect();
        for keyspace in &edit.keyspaces {
            if !seen.insert(keyspace.id) {
                return Err(refused(keyspace.id, "is named twice in one edit"));
            }
            if let Some((name, _)) = &keyspace.created {
                check_name(name)?;
                let holder = self.names.get(name).filter(|id| !dropped.contains(id));
                if holder.is_some() || !names.insert(name) {
                    return Err(Error::invalid(format!(
                        "a keyspace `{name}` is there already"
                    )));
                }
            }
            self.check_keyspace(keyspace, limits, &mut files)?;
        }
        self.check_logs(edit, limits)
    }

    fn check_keyspace(
        &self,
        edit: &KeyspaceEdit,
        limits: Limits,
        files: &mut HashSet<FileId>,
    ) -> Result<()> {
        let id = edit.id;
        let account = self.keyspaces.get(&id);
        match (account, &edit.created) {
            (Some(_), Some(_)) => return Err(refused(id, "is there already")),
            (None, None) => return Err(refused(id, "does not exist")),
            (None, Some(_)) if limits.keyspaces <= id.0 => {
                return Err(refused(id, "has a number that was never given"));
            }
            _ => {}
        }
        if edit.dropped && (edit.created.is_some() || !edit.added.is_empty()) {
            return Err(refused(id, "is dropped and changed at once"));
        }
        let mut removed = HashSet::new();
        for &(level, file) in &edit.removed {
            let place = account.and_then(|a| a.tables.get(&file));
            if place.is_none_or(|place| place.0 != level) || !removed.insert(file) {
                return Err(Error::invalid(format!(
                    "table {file} is removed and not at level {level}"
                )));
            }
        }
        for added in &edit.added {
            let file = added.meta.file;
            let live = self.owners.contains_key(&file) && !removed.contains(&file);
            if live || !files.insert(file) {
                return Err(Error::invalid(format!(
                    "table {file} is added and live already"
                )));
            }
            if limits.files <= file.0 || limits.orders <= added.order {
                return Err(Error::invalid(format!(
                    "table {file} or its run {} has a number that was never given",
                    added.order
                )));
            }
            let (low, high) = added.meta.summary.seqnos;
            if LEVELS_MAX <= usize::from(added.level) || high < low {
                return Err(Error::invalid(format!("table {file} is described wrongly")));
            }
        }
        let state = account.map(|a| &a.state);
        if state.is_some_and(|s| edit.log_floor.is_some_and(|floor| floor < s.log_floor)) {
            return Err(refused(id, "has a log floor that goes back"));
        }
        if state.is_some_and(|s| {
            edit.flushed_through
                .is_some_and(|to| to < s.flushed_through)
        }) {
            return Err(refused(id, "is flushed through a number that goes back"));
        }
        Ok(())
    }

    fn check_logs(&self, edit: &VersionEdit, limits: Limits) -> Result<()> {
        let mut added = HashSet::new();
        for &log in &edit.logs_added {
            if limits.files <= log.0 || self.logs.contains(&log) || !added.insert(log) {
                return Err(Error::invalid(format!("log {log} is added and not new")));
            }
        }
        let mut removed = HashSet::new();
        for &log in &edit.logs_removed {
            if !self.logs.contains(&log) || !removed.insert(log) {
                return Err(Error::invalid(format!(
                    "log {log} is removed and not there"
                )));
            }
        }
        Ok(())
    }

    /// Applies an edit that `check` let pass.
    pub(super) fn apply(&mut self, edit: &VersionEdit) {
        // Drops first: they may free a name that the same edit gives again.
        for dropped in edit.keyspaces.iter().filter(|k| k.dropped) {
            if let Some(account) = self.keyspaces.remove(&dropped.id) {
                self.names.remove(&account.state.name);
                for file in account.tables.keys() {
                    self.owners.remove(file);
                }
            }
        }
        for keyspace in edit.keyspaces.iter().filter(|k| !k.dropped) {
            self.apply_keyspace(keyspace);
        }
        self.logs.extend(&edit.logs_added);
        for log in &edit.logs_removed {
            self.logs.remove(log);
        }
    }

    fn apply_keyspace(&mut self, edit: &KeyspaceEdit) {
        if let Some((name, options)) = &edit.created {
            let account = Account {
                state: KeyspaceState::new(edit.id, name, options),
                tables: HashMap::new(),
            };
            self.names.insert(name.clone(), edit.id);
            self.keyspaces.insert(edit.id, account);
        }
        let Some(account) = self.keyspaces.get_mut(&edit.id) else {
            debug_assert!(false, "an edit is checked before it is applied");
            return;
        };
        account.state.apply(edit);
        for (_, file) in &edit.removed {
            account.tables.remove(file);
            self.owners.remove(file);
        }
        for added in &edit.added {
            let place = (added.level, added.order);
            let before = account.tables.insert(added.meta.file, place);
            debug_assert!(before.is_none(), "L1: a file belongs to one place");
            self.owners.insert(added.meta.file, edit.id);
        }
    }
}

fn refused(keyspace: KeyspaceId, why: &str) -> Error {
    Error::invalid(format!("keyspace {keyspace} {why}"))
}

//! What records of a manifest say beside their edits: ceilings, and the first record, which makes
//! everything from nothing.

use super::edit::{AddedTable, Ceilings, Identity, KeyspaceEdit, Record, VersionEdit};
use super::set::State;
use crate::base::ranges::Pieces;

/// The ceilings that an edit must bring along for the numbers it uses.
pub(super) fn ridden(stored: &Ceilings, edit: &VersionEdit) -> Ceilings {
    let created = edit.keyspaces.iter().filter(|k| k.created.is_some());
    let keyspaces = created.map(|k| k.id.0.saturating_add(1)).max();
    let added = edit.keyspaces.iter().flat_map(|k| &k.added);
    let orders = added.map(|a| a.order.saturating_add(1)).max();
    Ceilings {
        keyspaces: keyspaces.filter(|n| stored.keyspaces < Some(*n)),
        orders: orders.filter(|n| stored.orders < Some(*n)),
        ..Ceilings::default()
    }
}

/// The ceilings in force after a record. They never fall.
pub(super) fn joined(stored: &Ceilings, new: &Ceilings) -> Ceilings {
    Ceilings {
        files: stored.files.max(new.files),
        keyspaces: stored.keyspaces.max(new.keyspaces),
        orders: stored.orders.max(new.orders),
        seqnos: stored.seqnos.max(new.seqnos),
        clock: stored.clock.max(new.clock),
    }
}

/// The first record of a manifest: makes `state` from nothing.
pub(super) fn snapshot(identity: Identity, ceilings: Ceilings, state: &State) -> Record {
    let keyspaces = state.keyspaces.values().map(|keyspace| KeyspaceEdit {
        id: keyspace.id,
        created: Some((keyspace.name.clone(), keyspace.options.clone())),
        options: None,
        dropped: false,
        added: keyspace
            .version
            .tables()
            .map(|(level, order, table)| AddedTable {
                level,
                order,
                meta: table.meta().clone(),
                fresh: false,
            })
            .collect(),
        removed: Vec::new(),
        log_floor: Some(keyspace.log_floor),
        flushed_through: Some(keyspace.flushed_through),
        commit_pin: keyspace.commit_pin,
        hidden: keyspace.hidden.clone(),
        deleted: Pieces::clone(&keyspace.version.deleted),
    });
    Record {
        identity: Some(identity),
        ceilings,
        edit: VersionEdit {
            keyspaces: keyspaces.collect(),
            logs_added: state.logs.iter().copied().collect(),
            logs_removed: Vec::new(),
        },
    }
}

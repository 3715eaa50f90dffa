//! One committed batch, as the feed gives it.

use crate::base::error::{Error, Result};
use crate::base::expiring::{expiry_and_value, no_expiry};
use crate::base::operand::span_and_operand;
use crate::base::operation::Operation;
use crate::base::payload::Payload;
use crate::base::sync::Arc;
use crate::base::types::{KeyspaceId, SeqNo, ValueKind};
use std::collections::BTreeMap;

/// Names of keyspaces.
pub(super) type Names = BTreeMap<KeyspaceId, String>;

/// One committed batch: all its operations, in the order in which they were written.
#[derive(Clone, Debug)]
pub struct Change {
    seqno: SeqNo,
    payload: Vec<u8>,
    names: Arc<Names>,
}

/// What was done to a keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Changed<'a> {
    /// The key has this value.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// When it expires, if it does, in milliseconds since 1970.
        expires_ms: Option<u64>,
    },
    /// The key is absent from here on.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// An operand for the keyspace's merge operator.
    Merge {
        /// The key.
        key: &'a [u8],
        /// The operand, as it was given.
        operand: &'a [u8],
    },
    /// All these keys are absent from here on.
    DeleteRange {
        /// The first of them.
        start: &'a [u8],
        /// The first key behind them; `None`: there is no end.
        end: Option<&'a [u8]>,
    },
    /// Entries were loaded in bulk ([`Db::ingestion`](crate::Db::ingestion)): read them from a snapshot.
    /// A load that failed, or was cut off, in its last step can leave this all the same.
    Load,
}

impl Change {
    /// Checks that all of the payload can be read.
    pub(super) fn new(seqno: SeqNo, payload: &[u8], names: &Arc<Names>) -> Result<Change> {
        let operations = Payload::decode(payload)?.into_operations();
        for operation in operations {
            changed(&operation?)?;
        }
        Ok(Change {
            seqno,
            payload: payload.to_vec(),
            names: Arc::clone(names),
        })
    }

    /// The number of its last operation: what [`Db::write`](crate::Db::write) returned, and where
    /// [`Db::changes_since`](crate::Db::changes_since) goes on behind it.
    pub fn seqno(&self) -> SeqNo {
        self.seqno
    }

    /// The operations, each with the name of its keyspace. Those to keyspaces that have been dropped
    /// since are left out.
    pub fn operations(&self) -> impl Iterator<Item = (&str, Changed<'_>)> {
        // It was decoded whole when it was made.
        let (batch, load) = match Payload::decode(&self.payload) {
            Ok(Payload::Batch(operations)) => (Some(operations), Vec::new()),
            Ok(Payload::Load(keyspaces)) => (None, keyspaces),
            Err(_) => (None, Vec::new()),
        };
        let written = batch.into_iter().flatten().filter_map(Result::ok);
        let written = written.filter_map(|o| Some((o.keyspace, changed(&o).ok()?)));
        let loaded = load.into_iter().map(|keyspace| (keyspace, Changed::Load));
        let named = |(keyspace, changed)| Some((self.names.get(&keyspace)?.as_str(), changed));
        written.chain(loaded).filter_map(named)
    }
}

fn changed<'a>(operation: &Operation<'a>) -> Result<Changed<'a>> {
    let Operation { key, value, .. } = *operation;
    Ok(match operation.kind {
        ValueKind::Put => Changed::Put {
            key,
            value,
            expires_ms: None,
        },
        ValueKind::PutExpiring => {
            let (expiry, value) = expiry_and_value(value).ok_or_else(no_expiry)?;
            Changed::Put {
                key,
                value,
                expires_ms: Some(expiry.0),
            }
        }
        ValueKind::Delete => Changed::Delete { key },
        ValueKind::Merge => Changed::Merge {
            key,
            operand: span_and_operand(value).map_or(value, |(_, operand)| operand),
        },
        ValueKind::DeleteRange => Changed::DeleteRange {
            start: key,
            end: (!value.is_empty()).then_some(value),
        },
        ValueKind::PutBlob => {
            return Err(Error::corruption(
                "log record of a kind that nothing writes",
            ));
        }
    })
}

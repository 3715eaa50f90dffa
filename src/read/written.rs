//! What of a range was written between two numbers: the question of a transaction that has read it.
//!
//! Every source that has a number above the first is walked by itself: nothing needs to be merged to
//! know whether there is an entry, and mostly only memtables and the youngest tables are left.

use super::bounds::Bounds;
use super::source::RunPart;
use super::view::View;
use crate::base::cursor::Cursor;
use crate::base::error::Result;
use crate::base::ranges::HalfOpen;
use crate::base::types::{SeqNo, Tag};
use std::ops::Bound;

/// A key within `bounds` that has a version newer than `since` and not newer than `until`.
///
/// Cost: a walk through those sources that have such a number, within the bounds.
///
/// # Errors
/// Those of the tables that are walked.
pub fn written_within(
    view: &View,
    bounds: &Bounds,
    since: SeqNo,
    until: SeqNo,
) -> Result<Option<Vec<u8>>> {
    if bounds.is_inverted() {
        return Ok(None);
    }
    if view.has_deleted() {
        let deleted = view.all_deleted();
        if let Some(range) = HalfOpen::between(bounds.lower(), bounds.upper())
            && let Some(key) = deleted.first_between(&range, since, until)
        {
            return Ok(Some(key));
        }
    }
    for memtable in view.memtables() {
        if memtable.seqnos().is_some_and(|(_, last)| since < last)
            && let Some(key) = walk(memtable.cursor(), bounds, since, until)?
        {
            return Ok(Some(key));
        }
    }
    for run in view.runs() {
        for table in RunPart::new(run, bounds).tables() {
            if table.holds_newer(since)
                && let Some(key) = walk(table.table()?.cursor(), bounds, since, until)?
            {
                return Ok(Some(key));
            }
        }
    }
    Ok(None)
}

fn walk(
    mut cursor: impl Cursor,
    bounds: &Bounds,
    since: SeqNo,
    until: SeqNo,
) -> Result<Option<Vec<u8>>> {
    match bounds.lower() {
        Bound::Unbounded => cursor.first()?,
        Bound::Included(key) => cursor.seek(key, Tag::MAX)?,
        Bound::Excluded(key) => cursor.seek(key, Tag::MIN)?,
    }
    while cursor.valid() && bounds.before_upper(cursor.key()) {
        let seqno = cursor.tag().seqno();
        if since < seqno && seqno <= until {
            return Ok(Some(cursor.key().to_vec()));
        }
        cursor.next()?;
    }
    Ok(None)
}

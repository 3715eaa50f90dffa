//! Edits: what changes at once, and how a record of the manifest says it.
//!
//! A record is a sequence of fields `{tag varint, length varint, bytes}` in ascending order of tags.
//! The tag is `number << 1 | required`. A reader that does not know a field refuses the database
//! when the field is required (`Unsupported`) and else skips it; since opening writes the manifest
//! anew, a skipped field is gone afterwards, so only what may be forgotten is made optional. All
//! fields of today are required. Fields that may repeat stand side by side, all others come once:
//! accepted bytes without optional fields encode to themselves again. Each record ends with an
//! empty field of the highest number.
//!
//! The first record of a manifest is a snapshot: format, identity, every ceiling, and one edit that
//! makes everything from nothing. The byte table is in DESIGN.md.
//!
//! Not here: whether an edit makes sense (`ledger`, `version`); files (`manifest`).

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::file_meta::FileMeta;
use crate::base::coding::{Decoder, put_bytes, put_varint};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::ranges::{HalfOpen, Piece, Pieces};
use crate::base::types::{FileId, KeyspaceId, SeqNo, Time};
use crate::table::{BirthIdentity, Expiring, TableSummary};

/// The format that this code writes, and the newest it reads.
pub(super) const FORMAT: u64 = 1;

/// A table to add: where, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedTable {
    /// Level.
    pub level: u8,
    /// Run within the level: joins the run with this order, or makes it.
    pub order: u64,
    /// The facts.
    pub meta: FileMeta,
    /// This process wrote it just now (not stored).
    pub fresh: bool,
}

/// Changes of one keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceEdit {
    /// Which.
    pub id: KeyspaceId,
    /// It is made by this edit: name, encoded options.
    pub created: Option<(String, Vec<u8>)>,
    /// Its options from now on, encoded.
    pub options: Option<Vec<u8>>,
    /// It is dropped by this edit.
    pub dropped: bool,
    /// Tables added.
    pub added: Vec<AddedTable>,
    /// Tables removed (or moved, when also in `added`): level and number.
    pub removed: Vec<(u8, FileId)>,
    /// Logs below this number hold nothing of this keyspace that its tables do not hold.
    pub log_floor: Option<FileId>,
    /// Highest sequence number that its tables hold; replay skips what is at or below.
    pub flushed_through: Option<SeqNo>,
    /// Commit pin (format only; kept and written back).
    pub commit_pin: Option<SeqNo>,
    /// Hidden ranges of sequence numbers (format only; kept and written back).
    pub hidden: Vec<(SeqNo, SeqNo)>,
    /// Ranges of keys that are deleted from now on.
    pub deleted: Pieces,
}

/// One atomic change of the database's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionEdit {
    /// Keyspaces changed.
    pub keyspaces: Vec<KeyspaceEdit>,
    /// Log segments that exist from now on (registered before their first record, R4).
    pub logs_added: Vec<FileId>,
    /// Log segments that are no longer needed (removed from disk, or recycled, only afterwards).
    pub logs_removed: Vec<FileId>,
}

/// Who a database is; stands in the first record of each manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) database: u64,
    pub(super) hash_seed: u64,
}

/// Numbers below which everything may have been used (P6); for sequence numbers: up to which.
/// `None` leaves the one before in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ceilings {
    pub(super) files: Option<u64>,
    pub(super) keyspaces: Option<u32>,
    pub(super) orders: Option<u64>,
    pub(super) seqnos: Option<SeqNo>,
    /// The clock's mark: it has had this time. `None`: nothing expires.
    pub(super) clock: Option<Time>,
}

/// One record of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Only in the first record, and always there.
    pub(super) identity: Option<Identity>,
    pub(super) ceilings: Ceilings,
    pub(super) edit: VersionEdit,
}

/// Tags of the fields of a record.
mod tag {
    pub(super) const FORMAT: u64 = 1 << 1 | 1;
    pub(super) const IDENTITY: u64 = 2 << 1 | 1;
    pub(super) const FILES: u64 = 3 << 1 | 1;
    pub(super) const KEYSPACES: u64 = 4 << 1 | 1;
    pub(super) const ORDERS: u64 = 5 << 1 | 1;
    pub(super) const SEQNOS: u64 = 6 << 1 | 1;
    pub(super) const LOG_ADDED: u64 = 7 << 1 | 1;
    pub(super) const LOG_REMOVED: u64 = 8 << 1 | 1;
    pub(super) const KEYSPACE: u64 = 9 << 1 | 1;
    pub(super) const CLOCK: u64 = 10 << 1 | 1;
    /// Empty, and the last of every record: `7f 00`. Many bits in its tag, so that a record torn
    /// at any byte never looks like one with a flipped bit.
    pub(super) const END: u64 = 63 << 1 | 1;
}

/// Tags of the fields of a keyspace's edit.
mod keyspace_tag {
    pub(super) const ID: u64 = 1 << 1 | 1;
    pub(super) const CREATED: u64 = 2 << 1 | 1;
    pub(super) const OPTIONS: u64 = 3 << 1 | 1;
    pub(super) const DROPPED: u64 = 4 << 1 | 1;
    pub(super) const ADDED: u64 = 5 << 1 | 1;
    pub(super) const REMOVED: u64 = 6 << 1 | 1;
    pub(super) const LOG_FLOOR: u64 = 7 << 1 | 1;
    pub(super) const FLUSHED_THROUGH: u64 = 8 << 1 | 1;
    pub(super) const COMMIT_PIN: u64 = 9 << 1 | 1;
    pub(super) const HIDDEN: u64 = 10 << 1 | 1;
    pub(super) const DELETED: u64 = 11 << 1 | 1;
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(identity) = self.identity {
            put_number(&mut out, tag::FORMAT, FORMAT);
            put_field(&mut out, tag::IDENTITY, |out| {
                out.extend_from_slice(&identity.database.to_le_bytes());
                out.extend_from_slice(&identity.hash_seed.to_le_bytes());
            });
        }
        let ceilings = &self.ceilings;
        put_optional(&mut out, tag::FILES, ceilings.files);
        put_optional(&mut out, tag::KEYSPACES, ceilings.keyspaces.map(u64::from));
        put_optional(&mut out, tag::ORDERS, ceilings.orders);
        put_optional(&mut out, tag::SEQNOS, ceilings.seqnos.map(SeqNo::get));
        for log in &self.edit.logs_added {
            put_number(&mut out, tag::LOG_ADDED, log.0);
        }
        for log in &self.edit.logs_removed {
            put_number(&mut out, tag::LOG_REMOVED, log.0);
        }
        for keyspace in &self.edit.keyspaces {
            put_field(&mut out, tag::KEYSPACE, |out| {
                encode_keyspace(out, keyspace)
            });
        }
        put_optional(&mut out, tag::CLOCK, ceilings.clock.map(|time| time.0));
        put_field(&mut out, tag::END, |_| {});
        out
    }

    /// # Errors
    /// `Corruption` for bytes that no version writes; `Unsupported` for a newer format, or a
    /// required field that is not known here.
    pub(super) fn decode(bytes: &[u8]) -> Result<Record> {
        let mut record = Record::default();
        let mut format = None;
        let mut ended = false;
        let mut fields = Fields::new(bytes, &[tag::LOG_ADDED, tag::LOG_REMOVED, tag::KEYSPACE]);
        while let Some((tag, mut body)) = fields.next()? {
            let (ceilings, edit) = (&mut record.ceilings, &mut record.edit);
            match tag {
                tag::FORMAT => format = Some(known_format(whole(body.varint())?)?),
                tag::IDENTITY => {
                    record.identity = Some(Identity {
                        database: whole(body.u64())?,
                        hash_seed: whole(body.u64())?,
                    });
                }
                tag::FILES => ceilings.files = Some(whole(body.varint())?),
                tag::KEYSPACES => ceilings.keyspaces = Some(whole(body.varint32())?),
                tag::ORDERS => ceilings.orders = Some(whole(body.varint())?),
                tag::SEQNOS => ceilings.seqnos = Some(seqno(&mut body)?),
                tag::LOG_ADDED => edit.logs_added.push(FileId(whole(body.varint())?)),
                tag::LOG_REMOVED => edit.logs_removed.push(FileId(whole(body.varint())?)),
                tag::KEYSPACE => edit.keyspaces.push(decode_keyspace(body.rest())?),
                tag::CLOCK => ceilings.clock = Some(Time(whole(body.varint())?)),
                tag::END => ended = true,
                unknown => {
                    skip_unknown(unknown)?;
                    continue;
                }
            }
            if tag != tag::KEYSPACE && !body.is_empty() {
                return Err(malformed());
            }
        }
        if !ended || format.is_some() != record.identity.is_some() {
            return Err(malformed());
        }
        Ok(record)
    }
}

/// Decodes a manifest record and encodes it again: what fuzzers and format tests call.
///
/// # Errors
/// `Corruption` or `Unsupported` as decoding says.
#[doc(hidden)]
pub fn recode(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(Record::decode(bytes)?.encode())
}

fn known_format(format: u64) -> Result<u64> {
    match format {
        FORMAT => Ok(format),
        0 => Err(malformed()),
        newer => Err(
            Error::new(ErrorKind::Unsupported, "manifest of a newer format")
                .expected(format!("format {FORMAT}"), format!("format {newer}"))
                .advice("Open the database with the version of alluvium that wrote it."),
        ),
    }
}

fn encode_keyspace(out: &mut Vec<u8>, edit: &KeyspaceEdit) {
    use keyspace_tag as tag;
    put_number(out, tag::ID, u64::from(edit.id.0));
    if let Some((name, options)) = &edit.created {
        put_field(out, tag::CREATED, |out| {
            put_bytes(out, name.as_bytes());
            put_bytes(out, options);
        });
    }
    if let Some(options) = &edit.options {
        put_field(out, tag::OPTIONS, |out| out.extend_from_slice(options));
    }
    if edit.dropped {
        put_field(out, tag::DROPPED, |_| {});
    }
    for added in &edit.added {
        put_field(out, tag::ADDED, |out| encode_added(out, added));
    }
    for (level, file) in &edit.removed {
        put_field(out, tag::REMOVED, |out| {
            out.push(*level);
            put_varint(out, file.0);
        });
    }
    put_optional(out, tag::LOG_FLOOR, edit.log_floor.map(|f| f.0));
    put_optional(
        out,
        tag::FLUSHED_THROUGH,
        edit.flushed_through.map(SeqNo::get),
    );
    put_optional(out, tag::COMMIT_PIN, edit.commit_pin.map(SeqNo::get));
    for (from, to) in &edit.hidden {
        put_field(out, tag::HIDDEN, |out| {
            put_varint(out, from.get());
            put_varint(out, to.get());
        });
    }
    for piece in edit.deleted.iter() {
        put_field(out, tag::DELETED, |out| encode_piece(out, piece));
    }
}

fn decode_keyspace(bytes: &[u8]) -> Result<KeyspaceEdit> {
    use keyspace_tag as tag;
    let mut edit = KeyspaceEdit::default();
    let mut id = None;
    let mut deleted = Vec::new();
    let repeating = &[tag::ADDED, tag::REMOVED, tag::HIDDEN, tag::DELETED];
    let mut fields = Fields::new(bytes, repeating);
    while let Some((tag, mut body)) = fields.next()? {
        match tag {
            tag::ID => id = Some(KeyspaceId(whole(body.varint32())?)),
            tag::CREATED => {
                let name = std::str::from_utf8(whole(body.bytes())?).map_err(|_| malformed())?;
                edit.created = Some((name.to_owned(), whole(body.bytes())?.to_vec()));
            }
            tag::OPTIONS => edit.options = Some(rest(&mut body)?.to_vec()),
            tag::DROPPED => edit.dropped = true,
            tag::ADDED => edit.added.push(decode_added(&mut body)?),
            tag::REMOVED => {
                let level = whole(body.u8())?;
                edit.removed.push((level, FileId(whole(body.varint())?)));
            }
            tag::LOG_FLOOR => edit.log_floor = Some(FileId(whole(body.varint())?)),
            tag::FLUSHED_THROUGH => edit.flushed_through = Some(seqno(&mut body)?),
            tag::COMMIT_PIN => edit.commit_pin = Some(seqno(&mut body)?),
            tag::HIDDEN => edit.hidden.push((seqno(&mut body)?, seqno(&mut body)?)),
            tag::DELETED => deleted.push(decode_piece(&mut body)?),
            unknown => {
                skip_unknown(unknown)?;
                continue;
            }
        }
        if !body.is_empty() {
            return Err(malformed());
        }
    }
    edit.id = whole(id)?;
    edit.deleted = whole(Pieces::checked(deleted))?;
    Ok(edit)
}

/// An end is preceded by 1; without one there is a 0.
fn encode_piece(out: &mut Vec<u8>, piece: &Piece) {
    put_bytes(out, &piece.range.start);
    out.push(u8::from(piece.range.end.is_some()));
    if let Some(end) = &piece.range.end {
        put_bytes(out, end);
    }
    for seqno in &piece.seqnos {
        put_varint(out, seqno.get());
    }
}

fn decode_piece(body: &mut Decoder<'_>) -> Result<Piece> {
    let start = whole(body.bytes())?.to_vec();
    let end = match whole(body.u8())? {
        0 => None,
        1 => Some(whole(body.bytes())?.to_vec()),
        _ => return Err(malformed()),
    };
    let mut seqnos = Vec::new();
    while !body.is_empty() {
        seqnos.push(seqno(body)?);
    }
    Ok(Piece {
        range: HalfOpen { start, end },
        seqnos,
    })
}

fn encode_added(out: &mut Vec<u8>, added: &AddedTable) {
    let (identity, summary) = (&added.meta.identity, &added.meta.summary);
    out.push(added.level);
    put_varint(out, added.order);
    put_varint(out, added.meta.file.0);
    out.extend_from_slice(&identity.database.to_le_bytes());
    put_varint(out, identity.file.0);
    out.extend_from_slice(&identity.hash_seed.to_le_bytes());
    put_varint(out, summary.bytes);
    put_varint(out, summary.entries);
    put_varint(out, summary.tombstones);
    put_varint(out, summary.raw_bytes);
    put_bytes(out, &summary.smallest);
    put_bytes(out, &summary.largest);
    put_varint(out, summary.seqnos.0.get());
    put_varint(out, summary.seqnos.1.get());
    let expires = summary.expiring.entries != 0;
    if expires || added.meta.deleted_through != SeqNo::ZERO {
        put_varint(out, added.meta.deleted_through.get());
    }
    if expires {
        put_varint(out, summary.expiring.entries);
        put_varint(out, summary.expiring.half_at.0);
    }
}

fn decode_added(body: &mut Decoder<'_>) -> Result<AddedTable> {
    let level = whole(body.u8())?;
    let order = whole(body.varint())?;
    let file = FileId(whole(body.varint())?);
    let identity = BirthIdentity {
        database: whole(body.u64())?,
        file: FileId(whole(body.varint())?),
        hash_seed: whole(body.u64())?,
    };
    let mut summary = TableSummary {
        bytes: whole(body.varint())?,
        entries: whole(body.varint())?,
        tombstones: whole(body.varint())?,
        raw_bytes: whole(body.varint())?,
        smallest: whole(body.bytes())?.to_vec(),
        largest: whole(body.bytes())?.to_vec(),
        seqnos: (seqno(body)?, seqno(body)?),
        expiring: Expiring::default(),
    };
    let mut deleted_through = SeqNo::ZERO;
    if !body.is_empty() {
        deleted_through = seqno(body)?;
        let mut is_told = deleted_through != SeqNo::ZERO;
        if !body.is_empty() {
            summary.expiring = Expiring {
                entries: whole(body.varint())?,
                half_at: Time(whole(body.varint())?),
            };
            is_told = summary.expiring.entries != 0;
        }
        whole(is_told.then_some(()))?;
    }
    Ok(AddedTable {
        level,
        order,
        meta: FileMeta {
            file,
            identity,
            summary,
            deleted_through,
        },
        fresh: false,
    })
}

/// Splits bytes into fields, and holds them to their order.
struct Fields<'a> {
    decoder: Decoder<'a>,
    last: u64,
    repeating: &'static [u64],
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8], repeating: &'static [u64]) -> Self {
        Fields {
            decoder: Decoder::new(bytes),
            last: 0,
            repeating,
        }
    }

    fn next(&mut self) -> Result<Option<(u64, Decoder<'a>)>> {
        if self.decoder.is_empty() {
            return Ok(None);
        }
        let tag = whole(self.decoder.varint())?;
        let body = whole(self.decoder.bytes())?;
        let again = tag == self.last && (tag & 1 == 0 || self.repeating.contains(&tag));
        if tag <= self.last && !again {
            return Err(malformed());
        }
        self.last = tag;
        Ok(Some((tag, Decoder::new(body))))
    }
}

fn skip_unknown(tag: u64) -> Result<()> {
    if tag & 1 == 0 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!(
            "manifest with required field {} that is not known",
            tag >> 1
        ),
    )
    .advice("Open the database with the version of alluvium that wrote it."))
}

fn seqno(body: &mut Decoder<'_>) -> Result<SeqNo> {
    let n = whole(body.varint())?;
    let seqno = SeqNo::new(n);
    if seqno.get() == n {
        Ok(seqno)
    } else {
        Err(malformed())
    }
}

fn rest<'a>(body: &mut Decoder<'a>) -> Result<&'a [u8]> {
    whole(body.take(body.rest().len()))
}

fn whole<T>(part: Option<T>) -> Result<T> {
    part.ok_or_else(malformed)
}

#[cold]
fn malformed() -> Error {
    Error::corruption("manifest record that cannot be decoded")
}

fn put_field(out: &mut Vec<u8>, tag: u64, body: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    body(&mut bytes);
    put_varint(out, tag);
    put_bytes(out, &bytes);
}

fn put_number(out: &mut Vec<u8>, tag: u64, number: u64) {
    put_field(out, tag, |out| put_varint(out, number));
}

fn put_optional(out: &mut Vec<u8>, tag: u64, number: Option<u64>) {
    if let Some(number) = number {
        put_number(out, tag, number);
    }
}

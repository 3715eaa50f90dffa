//! Keyspaces by name and number, and their options as they are stored.
//!
//! Options are stored as `{tag: varint, value: bytes}` fields in the order of the tags; a reader
//! skips tags it does not know. An option that the caller leaves unset takes the stored value; one
//! that shapes existing files and differs is refused by name.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use crate::base::coding::{Decoder, put_bytes, put_varint};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::{CompactionStyle, Compression, FIFO_BYTES, KeyspaceOptions};
use crate::base::sync::Arc;
use crate::base::types::{KeyspaceId, millis};
use crate::tree::Tree;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The name of the keyspace that `Db` derefs to.
pub(crate) const DEFAULT_NAME: &str = "default";

/// The open keyspaces at one moment. Immutable; replaced when one is made or dropped.
#[derive(Debug, Default, Clone)]
pub(crate) struct Trees {
    /// In order, so that background work on the writing thread is the same in every run.
    pub(crate) by_id: BTreeMap<KeyspaceId, Arc<Tree>>,
    pub(crate) by_name: HashMap<String, Arc<Tree>>,
}

impl Trees {
    pub(crate) fn insert(&mut self, tree: Arc<Tree>) {
        self.by_name
            .insert(tree.name().to_owned(), Arc::clone(&tree));
        self.by_id.insert(tree.id(), tree);
    }

    /// The keyspace of that name; `NotFound` when there is none.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<Tree>> {
        self.by_name.get(name).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("there is no keyspace '{name}'"),
            )
        })
    }

    /// The names, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.by_name.keys().cloned().collect();
        names.sort();
        names
    }

    pub(crate) fn remove(&mut self, tree: &Tree) {
        self.by_name.remove(tree.name());
        self.by_id.remove(&tree.id());
    }
}

/// The options as they are stored in the manifest.
pub(crate) fn encode(options: &KeyspaceOptions) -> Vec<u8> {
    let codecs: Vec<u8> = options.compression.iter().map(|&c| c as u8).collect();
    let mut out = Vec::new();
    let mut field = |tag: u64, value: &[u8]| {
        put_varint(&mut out, tag);
        put_bytes(&mut out, value);
    };
    field(0, &options.write_buffer_bytes.to_le_bytes());
    field(1, &u64::from(options.immutables_max).to_le_bytes());
    field(2, &codecs);
    field(3, &u64::from(options.filter_bits_per_key).to_le_bytes());
    field(4, &u64::from(options.block_bytes).to_le_bytes());
    field(5, &options.table_bytes.to_le_bytes());
    field(6, &(options.compaction as u64).to_le_bytes());
    field(7, &u64::from(options.level0_runs).to_le_bytes());
    field(8, &u64::from(options.tier_runs).to_le_bytes());
    field(9, &u64::from(options.size_ratio).to_le_bytes());
    if !options.merge_operator.is_empty() {
        field(10, options.merge_operator.as_bytes());
    }
    if let Some(ttl) = options.ttl {
        field(11, &millis(ttl).to_le_bytes());
    }
    if !options.compaction_filter.is_empty() {
        field(12, options.compaction_filter.as_bytes());
    }
    if options.fifo_bytes != FIFO_BYTES {
        field(13, &options.fifo_bytes.to_le_bytes());
    }
    out
}

/// Reads what [`encode`] wrote. A number that no caller could have set is no option (P19).
pub(crate) fn decode(bytes: &[u8]) -> Result<KeyspaceOptions> {
    const ADVICE: &str = "Open the database with the version of alluvium that wrote it.";
    let options = decode_fields(bytes).ok_or_else(|| {
        Error::corruption("stored keyspace options that cannot be decoded").advice(ADVICE)
    })?;
    match options.check() {
        // A codec that is not compiled in is no damage: the error says what to do.
        Err(error) if options.compression.iter().all(|codec| codec.is_supported()) => {
            Err(Error::corruption(format!("stored keyspace options: {error}")).advice(ADVICE))
        }
        checked => checked.map(|()| options),
    }
}

fn decode_fields(bytes: &[u8]) -> Option<KeyspaceOptions> {
    let mut options = KeyspaceOptions::default();
    let mut decoder = Decoder::new(bytes);
    while !decoder.is_empty() {
        let tag = decoder.varint()?;
        let value = decoder.bytes()?;
        let number = || value.try_into().ok().map(u64::from_le_bytes);
        let small = || u32::try_from(number()?).ok();
        match tag {
            0 => options.write_buffer_bytes = number()?,
            1 => options.immutables_max = small()?,
            2 => {
                let codecs: Option<Vec<_>> =
                    value.iter().map(|&b| Compression::from_byte(b)).collect();
                options.compression = codecs?;
            }
            3 => options.filter_bits_per_key = small()?,
            4 => options.block_bytes = small()?,
            5 => options.table_bytes = number()?,
            6 => options.compaction = CompactionStyle::from_byte(u8::try_from(number()?).ok()?)?,
            7 => options.level0_runs = small()?,
            8 => options.tier_runs = small()?,
            9 => options.size_ratio = small()?,
            10 => options.merge_operator = String::from_utf8(value.to_vec()).ok()?,
            11 => options.ttl = Some(Duration::from_millis(number()?)),
            12 => options.compaction_filter = String::from_utf8(value.to_vec()).ok()?,
            13 => options.fifo_bytes = number()?,
            _ => {}
        }
    }
    Some(options)
}

/// The options a keyspace is opened with: what the caller set over what is stored.
///
/// # Errors
/// `InvalidArgument` when the caller set an option that shapes existing files to another value.
pub(crate) fn resolve(
    name: &str,
    stored: KeyspaceOptions,
    asked: &KeyspaceOptions,
) -> Result<KeyspaceOptions> {
    let set = |bit: u16| asked.set & (1 << bit) != 0;
    if set(4) && asked.block_bytes != stored.block_bytes {
        return Err(Error::invalid(format!(
            "option block_bytes of keyspace '{name}' cannot change"
        ))
        .expected(stored.block_bytes, asked.block_bytes)
        .advice("Leave it unset to take the stored value."));
    }
    let known = &stored.merge_operator;
    if set(10) && !known.is_empty() && asked.merge_operator != *known {
        return Err(Error::invalid(format!(
            "option merge_operator of keyspace '{name}' cannot change"
        ))
        .expected(format!("'{known}'"), format!("'{}'", asked.merge_operator))
        .advice("Leave it unset to take the stored name."));
    }
    let mut options = stored;
    macro_rules! take {
        ($($bit:literal $field:ident),*) => {$(
            if set($bit) { options.$field = asked.$field.clone(); }
        )*};
    }
    take!(0 write_buffer_bytes, 1 immutables_max, 2 compression, 3 filter_bits_per_key,
          5 table_bytes, 6 compaction, 7 level0_runs, 8 tier_runs, 9 size_ratio, 10 merge_operator,
          11 ttl, 12 compaction_filter, 13 fifo_bytes);
    options.set = 0;
    options.check()?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::check_name;

    fn odd() -> KeyspaceOptions {
        KeyspaceOptions::new()
            .write_buffer_bytes(1 << 20)
            .immutables_max(7)
            .compression(vec![Compression::None, Compression::Lz4])
            .filter_bits_per_key(9)
            .block_bytes(512)
            .table_bytes(1 << 19)
            .compaction(CompactionStyle::Leveled)
            .level0_runs(3)
            .tier_runs(5)
            .size_ratio(6)
            .merge_operator("counter")
            .compaction_filter("gone")
            .fifo_bytes(1 << 40)
    }

    #[test]
    fn every_option_is_stored_and_read_back() {
        let stored = decode(&encode(&odd())).unwrap();
        assert_eq!(KeyspaceOptions { set: 0, ..odd() }, stored);
        let hour = Duration::from_secs(3600);
        for plain in [
            KeyspaceOptions::new(),
            KeyspaceOptions::new().ttl(Some(hour)),
        ] {
            let stored = decode(&encode(&plain)).unwrap();
            assert_eq!(KeyspaceOptions { set: 0, ..plain }, stored);
        }
    }

    #[test]
    fn unset_options_take_the_stored_value_and_set_ones_win() {
        let options = resolve(
            "k",
            odd(),
            &KeyspaceOptions::new().size_ratio(4).table_bytes(1 << 21),
        );
        let expected = odd().size_ratio(4).table_bytes(1 << 21);
        assert_eq!(options.unwrap(), KeyspaceOptions { set: 0, ..expected });
    }

    #[test]
    fn an_option_that_shapes_files_is_refused_by_name() {
        for (asked, name) in [
            (KeyspaceOptions::new().block_bytes(4096), "block_bytes"),
            (
                KeyspaceOptions::new().merge_operator("max"),
                "merge_operator",
            ),
        ] {
            let error = resolve("k", odd(), &asked).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{name} of keyspace 'k'")),
                "{error}"
            );
        }
    }

    #[test]
    fn names_that_cannot_be_kept_are_refused() {
        for name in ["", "a\0b", "line\nbreak", &"x".repeat(256)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["orders", "Ünïcode", "a/b", &"x".repeat(255)] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_options_are_an_error() {
        assert!(decode(&[0, 9]).is_err());
        assert!(decode(&[0, 1, 1]).is_err(), "a number of one byte");
    }

    /// What a later version may add is no hindrance.
    #[test]
    fn an_option_with_an_unknown_number_is_skipped() {
        let mut bytes = encode(&KeyspaceOptions::new().size_ratio(5));
        let known = decode(&bytes).unwrap();
        bytes.extend_from_slice(&[99, 2, 1, 2]);
        assert_eq!(decode(&bytes).unwrap(), known);
    }

    /// A manifest whose checksums are right may hold them; the tree divided by a ratio of 0.
    #[test]
    fn stored_options_that_nobody_could_have_set_are_damage() {
        for wrong in [
            KeyspaceOptions::new().size_ratio(0),
            KeyspaceOptions::new().block_bytes(0),
            KeyspaceOptions::new().block_bytes(300),
            KeyspaceOptions::new().table_bytes(0),
            KeyspaceOptions::new().level0_runs(u32::MAX),
            KeyspaceOptions::new().write_buffer_bytes(u64::MAX),
        ] {
            let error = decode(&encode(&wrong)).unwrap_err();
            assert_eq!(error.kind(), crate::base::error::ErrorKind::Corruption);
            assert!(error.to_string().contains("out of range"), "{error}");
        }
    }
}

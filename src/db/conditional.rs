//! Writes of one key that depend on its value: compare-and-swap, put-if-absent, update.
//!
//! Each is one atomic step among all other writes. The value is read outside of the write lock; when
//! the key turns out to have been written since, it is read again. So somebody always goes on, and a
//! slow closure holds up nobody but its own caller.

use super::keyspace::Keyspace;
use super::watch::Answer;
use crate::base::batch::WriteBatch;
use crate::base::error::{Error, ErrorKind, Result, shown};
use crate::base::reads::ReadSet;
use crate::base::slice::Slice;
use crate::read;

impl Keyspace {
    /// Sets `key` to `new` if it has the value `old`; `None` stands for no value.
    ///
    /// One atomic step: of several callers that expect the same value one succeeds. Costs a get and a
    /// put; nobody waits for it.
    ///
    /// # Errors
    /// `Conflict` when the value is another one, and nothing was written; not
    /// [retryable](Error::is_retryable), because the same call would find the same. Otherwise as
    /// [`Keyspace::get`] and [`Keyspace::put`].
    ///
    /// ```
    /// # use alluvium::{Db, ErrorKind};
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-cas-{}", std::process::id()));
    /// # let db = Db::open(&dir)?;
    /// db.compare_and_swap("leader", None, Some(b"node-1"))?;
    /// let late = db.compare_and_swap("leader", None, Some(b"node-2")).unwrap_err();
    /// assert_eq!(late.kind(), ErrorKind::Conflict);
    /// db.compare_and_swap("leader", Some(b"node-1"), None)?; // it steps down
    /// # db.close()?; Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<()> {
        let swap = |found: Option<&[u8]>| match found == old {
            true => Ok(new),
            false => Err(conflict(old, found)),
        };
        self.decide(key.as_ref(), swap).map(|_| ())
    }

    /// Sets `key` to `value` if it has none: [`Keyspace::compare_and_swap`] from `None`.
    ///
    /// # Errors
    /// As there: `Conflict` when it has a value.
    pub fn put_if_absent(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.compare_and_swap(key, None, Some(value.as_ref()))
    }

    /// Sets `key` to what `next` makes of its value; `None` stands for no value, on both sides. Gives
    /// the value that it has now.
    ///
    /// One atomic step. `next` is called again when the key was written meanwhile, so it should do
    /// nothing but compute; it may read and write the database all the same.
    ///
    /// # Errors
    /// As [`Keyspace::get`] and [`Keyspace::put`].
    ///
    /// ```
    /// # use alluvium::Db;
    /// # let dir = std::env::temp_dir().join(format!("alluvium-doc-upd-{}", std::process::id()));
    /// # let db = Db::open(&dir)?;
    /// let count = |value: Option<&[u8]>| {
    ///     let seen = value.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
    ///     Some((seen + 1).to_be_bytes().to_vec())
    /// };
    /// db.update("visits", count)?;
    /// let visits = db.update("visits", count)?;
    /// assert_eq!(visits.unwrap(), 2u64.to_be_bytes());
    /// # db.close()?; Db::destroy(&dir)?;
    /// # Ok::<(), alluvium::Error>(())
    /// ```
    pub fn update(
        &self,
        key: impl AsRef<[u8]>,
        mut next: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<Slice>> {
        let value = self.decide(key.as_ref(), |found| Ok(next(found)))?;
        Ok(value.as_deref().map(Slice::copy))
    }

    /// Writes what `next` makes of the value, once nobody wrote the key between the two.
    fn decide<B: AsRef<[u8]>>(
        &self,
        key: &[u8],
        mut next: impl FnMut(Option<&[u8]>) -> Result<Option<B>>,
    ) -> Result<Option<B>> {
        let (core, id) = (self.core(), self.tree.id());
        let mut reads = ReadSet::default();
        reads.add_key(id, key);
        let mut batch = WriteBatch::new();
        loop {
            self.check()?;
            // The number first: what a compaction drops after that, it does not see (I5).
            let at = core.begin_read();
            let view = self.tree.view_owned();
            let found = read::get(&view, key, at.at())?;
            let value = next(found.bytes())?;
            batch.clear();
            match &value {
                Some(bytes) => {
                    batch.push_put_until(id, key, bytes.as_ref(), self.tree.expiry(None));
                }
                // It is as it shall be.
                None if found.bytes().is_none() => return Ok(None),
                None => batch.push_delete(id, key),
            }
            let answer = core.write_unless_overwritten(&reads, at.seqno(), &batch, None)?;
            if let Answer::Written(_) = answer {
                return Ok(value);
            }
        }
    }
}

fn conflict(expected: Option<&[u8]>, found: Option<&[u8]>) -> Error {
    let value = |bytes: Option<&[u8]>| match bytes {
        None => "no value".to_owned(),
        Some(bytes) => format!("a value {}", shown(bytes)),
    };
    Error::new(ErrorKind::Conflict, "the key was not as expected")
        .expected(value(expected), value(found))
        .advice("Nothing was written. Read the key again, and decide anew.")
}

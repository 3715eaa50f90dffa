//! The one error type: what happened, where, what was expected and found, what to do now.
//!
//! An [`Error`] is one word wide and cheap to clone, because a background failure is shown to
//! every later write with its cause. Callers branch on [`Error::kind`]; people read `Display`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A result with alluvium's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What now, for damage that keeps a database from being opened.
pub(crate) const REPAIR: &str = "Put the right file back from a copy, or run `Db::repair` \
     (`alluvium repair`): it keeps what can be read and says what is lost.";
/// What now, for damage in a table: the rest of the database goes on.
pub(crate) const REPAIR_TABLE: &str = "Keys in other blocks can be read. Put the file back from a \
     copy, or close the database and run `Db::repair` (`alluvium repair`): it keeps what can be \
     read and says what is lost.";

/// What now, for inputs of a compaction that make no sense together.
pub(crate) const REPAIR_INPUTS: &str = "`Db::verify` (`alluvium verify`) finds the table; \
     `Db::repair` keeps what can be read.";

/// What sort of thing went wrong: the part of an [`Error`] that programs branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a call.
    Io,
    /// The disk is full or a quota is used up. Goes away when space is freed.
    NoSpace,
    /// Bytes on the disk are not what was written.
    Corruption,
    /// Another process, or this one, has the database open.
    Locked,
    /// A condition of the write did not hold.
    Conflict,
    /// The thing named does not exist (a keyspace, a database).
    NotFound,
    /// A checkpoint or a restore into the directory has not ended: there is no database in it. A new
    /// one may take its place.
    Unfinished,
    /// The database accepts no writes; the cause is in the text and in `Db::state`.
    ReadOnly,
    /// The database was closed.
    Closed,
    /// An argument or option is outside what is documented.
    InvalidArgument,
    /// A key, value or batch is over its limit.
    TooLarge,
    /// The data was written by a newer version, or with a feature that is not compiled in.
    Unsupported,
    /// A write waited longer than it was allowed to for the background to catch up.
    Stalled,
}

/// What went wrong, where, what was expected and found, and what to do now.
///
/// One word wide; cloning is a reference count.
///
/// ```
/// use alluvium::{Db, ErrorKind};
/// # let dir = std::env::temp_dir().join(format!("alluvium-doc-error-{}", std::process::id()));
/// let db = Db::open(&dir)?;
/// let second = Db::open(&dir).unwrap_err();
/// assert_eq!(second.kind(), ErrorKind::Locked);
/// # db.close()?; alluvium::Db::destroy(&dir)?;
/// # Ok::<(), alluvium::Error>(())
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    what: String,
    file: Option<PathBuf>,
    offset: Option<u64>,
    expected_found: Option<(String, String)>,
    advice: Option<String>,
    retryable: bool,
    source: Option<Arc<dyn std::error::Error + Send + Sync + 'static>>,
}

impl Error {
    /// An error of `kind`; `what` is a short lower-case clause without a full stop.
    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Error(Arc::new(Inner {
            kind,
            what: what.into(),
            file: None,
            offset: None,
            expected_found: None,
            advice: None,
            retryable: matches!(kind, ErrorKind::NoSpace | ErrorKind::Stalled),
            source: None,
        }))
    }

    /// Bytes on the disk are not what was written.
    pub(crate) fn corruption(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corruption, what)
    }

    /// An argument or option is outside what is documented.
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, what)
    }

    /// A failed call of the operating system; a full disk becomes [`ErrorKind::NoSpace`].
    pub(crate) fn io(call: &str, file: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("{call} failed: {source}"))
            .at(file)
            .caused_by(source)
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Names the file.
    pub(crate) fn at(self, file: impl AsRef<Path>) -> Self {
        self.edit(|e| e.file = Some(file.as_ref().to_path_buf()))
    }

    /// Names the byte in the file.
    pub(crate) fn offset_at(self, offset: u64) -> Self {
        self.edit(|e| e.offset = Some(offset))
    }

    /// Says what should have been there, and what was.
    pub(crate) fn expected(self, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        self.edit(|e| e.expected_found = Some((expected.to_string(), found.to_string())))
    }

    /// Says what the reader should do now; a full sentence.
    pub(crate) fn advice(self, advice: impl Into<String>) -> Self {
        self.edit(|e| e.advice = Some(advice.into()))
    }

    /// Advises what to do about damage that nobody has advised about yet.
    pub(crate) fn or_advice(self, advice: &str) -> Self {
        match self.0.kind {
            ErrorKind::Corruption if self.0.advice.is_none() => self.advice(advice),
            _ => self,
        }
    }

    /// Changes the kind and keeps the rest: a cause seen from higher up.
    pub(crate) fn with_kind(self, kind: ErrorKind) -> Self {
        self.edit(|e| e.kind = kind)
    }

    /// The same call may succeed later without any change by the caller.
    pub(crate) fn retryable(self) -> Self {
        self.edit(|e| e.retryable = true)
    }

    /// Keeps the error of the layer below as `source()`.
    pub(crate) fn caused_by(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.edit(|e| e.source = Some(Arc::new(source)))
    }

    /// The sort of error, to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file concerned, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The byte offset in [`Error::file`], if it is known.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// True when the same call may succeed later without any change by the caller.
    ///
    /// A full disk and a stalled write are; a conflict of `compare_and_swap` is not.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// What happened, without place and advice: one clause.
    pub fn what(&self) -> &str {
        &self.0.what
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        f.write_str(&e.what)?;
        if let Some(file) = &e.file {
            write!(f, " in {}", file.display())?;
        }
        if let Some(offset) = e.offset {
            write!(f, " at offset {offset}")?;
        }
        if let Some((expected, found)) = &e.expected_found {
            write!(f, ": {found}, expected {expected}")?;
        }
        f.write_str(".")?;
        if let Some(advice) = &e.advice {
            write!(f, "\n{advice}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|s| s as &(dyn std::error::Error + 'static))
    }
}

/// Bytes as an error shows them: whole if there are few, else how many there are.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 32;
    match bytes.len() {
        ..=SHOWN_BYTES_MAX => format!("'{}'", bytes.escape_ascii()),
        len => format!("of {len} bytes"),
    }
}

/// What was read; `None` for what is damaged. Any other error stays one: what the disk does not give
/// now may be whole.
///
/// # Errors
/// All but `Corruption`.
pub fn readable<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Err(error) if error.kind() == ErrorKind::Corruption => Ok(None),
        other => other.map(Some),
    }
}

const _: () = assert!(
    size_of::<Error>() == size_of::<usize>(),
    "an Error is one word wide"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_expected_found_and_what_now() {
        let error = Error::corruption("corrupt block")
            .at("orders/000042.tbl")
            .offset_at(81_920)
            .expected("checksum 11d0e2b7", "checksum 9f3a11c0")
            .advice("Restore it from a checkpoint.");
        assert_eq!(
            error.to_string(),
            "corrupt block in orders/000042.tbl at offset 81920: checksum 9f3a11c0, expected \
             checksum 11d0e2b7.\nRestore it from a checkpoint."
        );
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert_eq!(error.offset(), Some(81_920));
    }

    #[test]
    fn a_full_disk_is_no_space_and_retryable() {
        let full = Error::io("write", Path::new("x"), io::ErrorKind::StorageFull.into());
        assert_eq!(full.kind(), ErrorKind::NoSpace);
        assert!(full.is_retryable());
        assert!(std::error::Error::source(&full).is_some());
    }
}

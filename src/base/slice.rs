//! A value as the user holds it: inline, on the heap, or pinned inside a file's mapping.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

const INLINE_BYTES_MAX: usize = 30;

/// Bytes of a key or value, cheap to clone and independent of the database that gave them.
///
/// `Deref<Target = [u8]>`, `Clone`, `Send`, `Sync`, `'static`. Up to 30 bytes are stored inside;
/// longer ones are shared on the heap or point into a table's mapping, which they keep alive
/// (also after the database is closed).
#[derive(Clone)]
pub struct Slice(Form);

#[derive(Clone)]
enum Form {
    Inline {
        len: u8,
        bytes: [u8; INLINE_BYTES_MAX],
    },
    Heap(Arc<[u8]>),
    Pinned {
        owner: Arc<dyn Pin>,
        offset: usize,
        len: usize,
    },
}

/// Memory that a [`Slice`] can point into: it never moves and never changes.
pub trait Pin: Send + Sync + 'static {
    /// All of the memory.
    fn bytes(&self) -> &[u8];
}

impl Slice {
    /// A copy of `bytes`.
    #[inline]
    pub fn copy(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE_BYTES_MAX {
            let mut inline = [0; INLINE_BYTES_MAX];
            inline[..bytes.len()].copy_from_slice(bytes);
            Slice(Form::Inline {
                len: bytes.len() as u8,
                bytes: inline,
            })
        } else {
            Slice(Form::Heap(Arc::from(bytes)))
        }
    }

    /// `owner.bytes()[offset..offset + len]`, without a copy.
    pub(crate) fn pinned(owner: Arc<dyn Pin>, offset: usize, len: usize) -> Self {
        debug_assert!(offset <= owner.bytes().len() && len <= owner.bytes().len() - offset);
        Slice(Form::Pinned { owner, offset, len })
    }

    /// The bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Form::Heap(bytes) => bytes,
            Form::Pinned { owner, offset, len } => &owner.bytes()[*offset..][..*len],
        }
    }
}

impl Deref for Slice {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::borrow::Borrow<[u8]> for Slice {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl From<&[u8]> for Slice {
    fn from(bytes: &[u8]) -> Self {
        Slice::copy(bytes)
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= INLINE_BYTES_MAX {
            Slice::copy(&bytes)
        } else {
            Slice(Form::Heap(Arc::from(bytes)))
        }
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Slice {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for Slice {}

impl PartialOrd for Slice {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slice {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl std::hash::Hash for Slice {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Owner(Vec<u8>);
    impl Pin for Owner {
        fn bytes(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn the_three_forms_read_alike() {
        for n in [0, 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 4096] {
            let bytes: Vec<u8> = (0..n).map(|i| i as u8).collect();
            let owner = Arc::new(Owner([&[9][..], &bytes, &[9]].concat()));
            let forms = [
                Slice::copy(&bytes),
                Slice::from(bytes.clone()),
                Slice::pinned(owner, 1, n),
            ];
            for form in forms {
                assert_eq!(form, bytes);
                assert_eq!(form.clone(), form);
            }
        }
    }
}

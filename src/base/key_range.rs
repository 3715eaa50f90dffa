//! What a caller gives as a range of keys.

use std::ops::Bound;

/// A range of keys: `..`, every std range of `K: AsRef<[u8]>`, and a pair of bounds.
///
/// An inverted range is empty.
pub trait KeyRange {
    /// The two bounds.
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>);
}

impl KeyRange for std::ops::RangeFull {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

impl<K: AsRef<[u8]>> KeyRange for (Bound<K>, Bound<K>) {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (
            self.0.as_ref().map(AsRef::as_ref),
            self.1.as_ref().map(AsRef::as_ref),
        )
    }
}

macro_rules! key_range {
    ($($range:ident),*) => {$(
        impl<K: AsRef<[u8]>> KeyRange for std::ops::$range<K> {
            fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
                use std::ops::RangeBounds;
                (self.start_bound().map(AsRef::as_ref), self.end_bound().map(AsRef::as_ref))
            }
        }
    )*};
}
key_range!(Range, RangeFrom, RangeInclusive, RangeTo, RangeToInclusive);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_range_has_its_bounds() {
        fn of(range: impl KeyRange) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
            let (start, end) = range.bounds();
            (start.map(<[u8]>::to_vec), end.map(<[u8]>::to_vec))
        }
        let a = || b"a".to_vec();
        assert_eq!(of(..), (Bound::Unbounded, Bound::Unbounded));
        assert_eq!(of("a".."a"), (Bound::Included(a()), Bound::Excluded(a())));
        assert_eq!(
            of(b"a"..=b"a"),
            (Bound::Included(a()), Bound::Included(a()))
        );
        assert_eq!(of(a()..), (Bound::Included(a()), Bound::Unbounded));
        assert_eq!(
            of((Bound::Excluded("a"), Bound::Unbounded)),
            (Bound::Excluded(a()), Bound::Unbounded)
        );
    }
}

//! Memory of the memtable, page by page from the system (an unsafe island).
//!
//! A chunk is owned like a box, and its bytes mean nothing until they are written. One of whole
//! huge pages asks for those, and is a mapping of its own: the system has it back when it is
//! dropped. The C library's allocator would keep it: what was freed in the middle of its heaps
//! stays there, and a store of 30 million short entries stood at 571 MiB at rest instead of 186.
//! Who fills a chunk, and with what, is the arena's and the index's business.

use memmap2::{MmapMut, MmapRaw};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// What a chunk begins with a multiple of.
pub(super) const PAGE_BYTES: usize = 4096;
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// The largest chunk that is recycled.
pub(super) const CHUNK_BYTES_MAX: usize = HUGE_PAGE_BYTES;
/// Addresses in a chunk are below `1 << ADDRESS_BITS`; checked for each.
pub(super) const ADDRESS_BITS: u32 = 48;

/// Memory with one owner.
#[derive(Debug)]
pub(super) struct Chunk {
    start: NonNull<u8>,
    bytes: usize,
    /// What the chunk lies in; nothing when it is the allocator's.
    mapping: Option<MmapRaw>,
}

// SAFETY: a chunk owns its memory like a box; it is not bound to a thread.
unsafe impl Send for Chunk {}
// SAFETY: through a shared chunk only its address and size can be had.
unsafe impl Sync for Chunk {}

impl Chunk {
    pub(super) fn new(bytes: usize) -> Chunk {
        assert!(0 < bytes, "a chunk has a size");
        // Miri knows no mappings.
        let mapping = (!cfg!(miri) && Self::is_huge(bytes)).then(|| Self::map(bytes));
        let pointer = match &mapping {
            Some(mapping) => {
                let begin = mapping.as_mut_ptr();
                begin.wrapping_add(begin.align_offset(HUGE_PAGE_BYTES))
            }
            // SAFETY: the layout's size is not zero.
            None => unsafe { alloc(Self::layout(bytes)) },
        };
        let Some(start) = NonNull::new(pointer) else {
            handle_alloc_error(Self::layout(bytes))
        };
        let end = start.as_ptr().addr() as u64 + bytes as u64;
        assert!(end >> ADDRESS_BITS == 0, "index slots hold 48 address bits");
        Chunk {
            start,
            bytes,
            mapping,
        }
    }

    /// A mapping with room for a chunk that starts with a huge page. Linux lays it so by itself from
    /// 6.7 on; where it does not, there is room around the chunk, which is never touched and takes
    /// address space alone (but `ulimit -d` and `-v` count that).
    ///
    /// Entries and index slots are met in an order that has nothing to do with addresses: with
    /// pages of 4 KiB nearly each of them costs a walk of the page table, for which even a prefetch
    /// waits. Whether the kernel grants the wish for huge ones changes the speed only.
    fn map(bytes: usize) -> MmapRaw {
        let anonymous = |len| {
            MmapMut::map_anon(len).unwrap_or_else(|_| handle_alloc_error(Self::layout(bytes)))
        };
        let mut mapping = anonymous(bytes);
        if mapping.as_ptr().align_offset(HUGE_PAGE_BYTES) != 0 {
            drop(mapping);
            mapping = anonymous(bytes + HUGE_PAGE_BYTES);
        }
        #[cfg(target_os = "linux")]
        let _ = mapping.advise(memmap2::Advice::HugePage);
        MmapRaw::from(mapping)
    }

    /// Made of whole huge pages.
    fn is_huge(bytes: usize) -> bool {
        bytes.is_multiple_of(HUGE_PAGE_BYTES)
    }

    /// Takes its pages from the system now, rather than when they are first written.
    pub(super) fn touch(&mut self) {
        for page in (0..self.bytes).step_by(PAGE_BYTES) {
            // SAFETY: inside the chunk, which nobody else has.
            let byte = unsafe { self.start.add(page) };
            // SAFETY: as above; the bytes of a chunk mean nothing until they are written.
            unsafe { byte.write_volatile(0) };
        }
    }

    #[inline]
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn layout(bytes: usize) -> Layout {
        // A huge page has to start at a multiple of its size.
        let align = match Self::is_huge(bytes) {
            true => HUGE_PAGE_BYTES,
            false => PAGE_BYTES,
        };
        Layout::from_size_align(bytes, align).expect("a chunk is smaller than the address space")
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.mapping.is_none() {
            // SAFETY: allocated in `new` with the same layout; the only owner is going away.
            unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_starts_with_a_page_and_a_huge_one_with_a_huge_page() {
        for bytes in [
            1,
            100,
            64 << 10,
            3 << 20,
            CHUNK_BYTES_MAX,
            4 * CHUNK_BYTES_MAX,
        ] {
            let mut chunk = Chunk::new(bytes);
            chunk.touch();
            let align = match bytes.is_multiple_of(HUGE_PAGE_BYTES) {
                true => HUGE_PAGE_BYTES,
                false => PAGE_BYTES,
            };
            assert!(
                chunk.start().as_ptr().addr().is_multiple_of(align),
                "{bytes}"
            );
            assert_eq!(chunk.bytes(), bytes);
        }
    }

    /// Far more address space than anything else in this process takes or lets go of meanwhile.
    #[test]
    #[cfg_attr(miri, ignore)]
    fn a_huge_chunk_goes_back_to_the_system_whole() {
        let pages = || -> u64 {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').next().unwrap().parse().unwrap()
        };
        const CHUNKS: u64 = 20_000;
        let before = pages();
        for _ in 0..CHUNKS {
            drop(Chunk::new(CHUNK_BYTES_MAX));
        }
        let all = CHUNKS * CHUNK_BYTES_MAX as u64 / PAGE_BYTES as u64;
        assert!(pages() < before + all / 4);
    }
}

//! Bytes of a file behind one bounds-checked call, and the writable mapping of a log segment.
//!
//! ```text
//! Region    = base, len (cached: mapped and heap bytes are read by the same machine code)
//!             owner: Mapped | Anonymous | Heap, looked at only by `advise`, `populate` and `Drop`
//!             probe: one bit for each page that is known to be readable, if that is asked for
//! LogRegion = base, len, and the mapping shared with its Populators
//! ```
//!
//! Unsafe island: mapping a file, reading through the cached pointer, storing into a mapped log,
//! and the one system call that no crate of ours wraps (`sync_file_range`).
//!
//! Invariants: a mapped table is finished, is never truncated by us, and stays locked against
//! other engines, so its bytes do not change while a `Region` lives (R10). A `LogRegion` lies in
//! preallocated space, so a store never meets a full disk. Every offset is checked before use.
//!
//! Threads: `Region` is immutable and shared freely. A `LogRegion` has one writer (`&mut self`);
//! `Populator`s on other threads touch page tables, never bytes.
//!
//! A device error under a mapping: the kernel sends SIGBUS and the process ends, which is a crash
//! like any other. A *probed* region asks the kernel for a page before it is first touched
//! (`MADV_POPULATE_READ`), so that a bad sector, or a file that somebody cut, is an error of
//! `block`. What it cannot see are pages that were dropped from memory since and fail when they
//! are read again. Heap regions, and reads by calls, have no such gap. A handler for SIGBUS that
//! puts a page of zeros in place of the bad one would close it, too, but is not here: it belongs to
//! the whole process, a library must share it with whatever else handles signals there, what it
//! does must be safe in the midst of any other code, and slices lent to callers could no longer be
//! trusted. `ReadMode::Pread` is the answer for disks that fail like that.
//!
//! Not here: deciding whether a file may be mapped (the callers of `File::map_log`), checksums.

use super::env::Env;
use crate::base::error::{Error, Result};
use crate::base::slice::Pin;
use crate::base::sync::Arc;
use crate::base::sync::atomic::{AtomicU64, Ordering};
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// Immutable bytes of a file: mapped or on the heap, behind one bounds-checked call. Send + Sync.
pub struct Region {
    base: *const u8,
    len: usize,
    owner: Owner,
    path: Option<Arc<Path>>,
    probe: Option<Probe>,
    #[cfg(any(test, feature = "sim"))]
    watch: Option<super::sim::Watch>,
}

/// Which pages are known to be readable: one bit each. Bits are only ever set, and nothing is
/// published through them, so all accesses are relaxed; two threads may ask for a page twice.
struct Probe(Box<[AtomicU64]>);

/// Copies of at least this size are mappings of their own. In the C library's heaps they would leave
/// holes among small pieces when they go: as much as the cache that they lie in, after a while.
const ANONYMOUS_BYTES_MIN: usize = 32 << 10;

/// No system has smaller ones; where they are larger, this is a part of one.
const PAGE_BYTES: usize = 4096;

/// A page that is in memory is mapped in less, and no device answers so soon.
const DEVICE_LEAST: Duration = Duration::from_micros(15);

enum Owner {
    Mapped(memmap2::Mmap),
    Anonymous(
        #[expect(dead_code, reason = "keeps the bytes behind `base` alive")] memmap2::MmapMut,
    ),
    Heap(#[expect(dead_code, reason = "keeps the bytes behind `base` alive")] Arc<Vec<u8>>),
}

// SAFETY: the bytes behind `base` belong to `owner`, which moves with the region and may be
// dropped on any thread; nothing else holds the pointer.
unsafe impl Send for Region {}
// SAFETY: nobody writes the bytes while the region lives, so shared reads cannot race.
unsafe impl Sync for Region {}

impl Region {
    /// Maps the first `len` bytes. The caller has checked that the file is that long.
    pub(super) fn map(file: &impl AsRawFd, len: usize, path: &Path) -> io::Result<Region> {
        // SAFETY: the file is finished: this engine neither writes nor truncates it again, and
        // the directory lock and mode 0700 keep others away (R10). What another program does to
        // an open database is outside the fault model.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(file) }?;
        let (base, len) = (map.as_ptr(), map.len());
        Ok(Region::new(base, len, Owner::Mapped(map), Some(path)))
    }

    /// `len` bytes at `base`, which belong to `owner` and do not move with it.
    fn new(base: *const u8, len: usize, owner: Owner, path: Option<&Path>) -> Region {
        Region {
            base,
            len,
            owner,
            path: path.map(Arc::from),
            probe: None,
            #[cfg(any(test, feature = "sim"))]
            watch: None,
        }
    }

    /// Bytes on the heap that came from the file at `path`.
    pub(super) fn heap(bytes: Arc<Vec<u8>>, path: Option<&Path>) -> Region {
        let (base, len) = (bytes.as_ptr(), bytes.len());
        Region::new(base, len, Owner::Heap(bytes), path)
    }

    /// The same bytes, under the eyes of the simulator.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn watched(self, watch: super::sim::Watch) -> Region {
        Region {
            watch: Some(watch),
            ..self
        }
    }

    /// The same bytes; pages are asked for before they are first touched. Nothing for heap bytes.
    #[must_use]
    pub fn probed(self) -> Region {
        let pages = self.len.div_ceil(PAGE_BYTES);
        let bits = || (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let is_mapped = matches!(self.owner, Owner::Mapped(_));
        Region {
            probe: is_mapped.then(|| Probe(bits())),
            ..self
        }
    }

    /// Bytes that are not of any file; errors then name no path.
    pub fn from_vec(bytes: Vec<u8>) -> Region {
        Region::heap(Arc::new(bytes), None)
    }

    /// A copy: `len` bytes that `fill` sets.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn copied(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<Region> {
        // Miri knows no mappings; and where the system has none left, the heap may have room.
        let is_large = ANONYMOUS_BYTES_MIN <= len && !cfg!(miri);
        let mapping = is_large.then(|| memmap2::MmapMut::map_anon(len).ok());
        if let Some(mut mapping) = mapping.flatten() {
            fill(&mut mapping)?;
            let base = mapping.as_ptr();
            return Ok(Region::new(base, len, Owner::Anonymous(mapping), None));
        }
        let mut bytes = vec![0; len];
        fill(&mut bytes)?;
        Ok(Region::from_vec(bytes))
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `bytes[offset..offset + len]`, without a copy.
    ///
    /// # Errors
    /// `Corruption` naming file and offset when the range is not inside the region: the caller's
    /// numbers came from a file. `Io` from a probed region whose pages cannot be read; and again at
    /// each later call.
    #[inline]
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn block(&self, offset: u64, len: usize) -> Result<&[u8]> {
        #[cfg(any(test, feature = "sim"))]
        self.touch(offset, len)?;
        let bytes = self.bytes();
        let block = usize::try_from(offset)
            .ok()
            .and_then(|start| bytes.get(start..start.checked_add(len)?))
            .ok_or_else(|| self.outside(offset, len))?;
        if let Some(probe) = &self.probe {
            self.ask_for(probe, offset as usize, len)?;
        }
        Ok(block)
    }

    /// As `block`, for bytes that are read now, all of them. Where the first of more than a page has
    /// to come from the device, so has the rest, probably: all of it is asked for at once, and not a
    /// page at each fault. Two looks at the clock, if it is more than a page.
    ///
    /// # Errors
    /// As [`Region::block`].
    #[inline]
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn whole_block(&self, offset: u64, len: usize) -> Result<&[u8]> {
        let block = self.block(offset, len)?;
        if PAGE_BYTES < len {
            self.bring_in(block, offset);
        }
        Ok(block)
    }

    #[cold]
    fn bring_in(&self, block: &[u8], offset: u64) {
        if let Owner::Mapped(_) = self.owner {
            let clock = Env::os();
            let start = clock.now();
            std::hint::black_box(block.first().copied());
            if DEVICE_LEAST <= clock.elapsed(start) {
                self.advise(Advice::WillNeed(offset, block.len() as u64));
            }
        }
    }

    /// Makes sure that the pages of a range inside the region can be read.
    fn ask_for(&self, probe: &Probe, offset: usize, len: usize) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        for page in offset / PAGE_BYTES..=(offset + len - 1) / PAGE_BYTES {
            let (word, bit) = (&probe.0[page / 64], 1 << (page % 64));
            if word.load(Ordering::Relaxed) & bit == 0 {
                self.ask_for_page(page * PAGE_BYTES)?;
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    #[cold]
    fn ask_for_page(&self, start: usize) -> Result<()> {
        #[cfg(target_os = "linux")]
        if let (Owner::Mapped(map), Some(path)) = (&self.owner, &self.path) {
            let len = PAGE_BYTES.min(self.len - start);
            match map.advise_range(memmap2::Advice::PopulateRead, start, len) {
                // A kernel before 5.14 does not know the request: then this is an ordinary mapping.
                Err(e) if e.kind() != io::ErrorKind::InvalidInput => {
                    let error = Error::io("reading a page through a mapping", path, e);
                    return Err(error.offset_at(start as u64));
                }
                _ => {}
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = start;
        Ok(())
    }

    #[cfg(any(test, feature = "sim"))]
    #[track_caller]
    fn touch(&self, offset: u64, len: usize) -> Result<()> {
        let (Some(watch), Some(path)) = (&self.watch, &self.path) else {
            return Ok(());
        };
        let start = usize::try_from(offset).unwrap_or(self.len).min(self.len);
        let range = start..self.len.min(start.saturating_add(len));
        watch
            .touch(std::panic::Location::caller(), range)
            .map_err(|e| Error::io("read through a mapping", path, e).offset_at(offset))
    }

    #[cold]
    fn outside(&self, offset: u64, len: usize) -> Error {
        let error = Error::corruption("block outside the file")
            .offset_at(offset)
            .expected(
                format!("a block within {} bytes", self.len),
                format!("{len} bytes"),
            );
        match &self.path {
            Some(path) => error.at(path),
            None => error,
        }
    }

    /// Tells the kernel how the bytes will be read; a hint, and nothing for heap bytes.
    pub fn advise(&self, advice: Advice) {
        let Owner::Mapped(map) = &self.owner else {
            return;
        };
        // A hint that is refused (an old kernel, a file system without read-ahead) costs speed
        // and nothing else, so its errors are not looked at.
        let _ = match advice {
            Advice::Random => map.advise(memmap2::Advice::Random),
            Advice::Sequential => map.advise(memmap2::Advice::Sequential),
            Advice::WillNeed(offset, len) => {
                let (offset, len) = clamp(offset, len, self.len);
                map.advise_range(memmap2::Advice::WillNeed, offset, len)
            }
        };
    }

    /// Pages in all of it now, on the thread that calls this (4 to 15 ms per 128 MiB that are
    /// cached; a read of the disk where they are not).
    pub fn populate(&self) {
        #[cfg(target_os = "linux")]
        if let Owner::Mapped(map) = &self.owner {
            // Before Linux 5.14 this is refused, and the pages come in by faults instead.
            let _ = map.advise(memmap2::Advice::PopulateRead);
        }
    }
}

impl Pin for Region {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: `base` and `len` describe the bytes of `owner`, which lives as long as `self`,
        // never moves them, and is never written (see the header).
        unsafe { std::slice::from_raw_parts(self.base, self.len) }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = match self.owner {
            Owner::Mapped(_) => "mapped",
            Owner::Anonymous(_) => "anonymous",
            Owner::Heap(_) => "heap",
        };
        write!(f, "Region({owner}, {} bytes, {:?})", self.len, self.path)
    }
}

/// Access patterns for [`Region::advise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Point reads.
    Random,
    /// Scans.
    Sequential,
    /// A range that is read soon.
    WillNeed(u64, u64),
}

/// The part of `[offset, offset + len)` that lies below `end`, as start and length.
fn clamp(offset: u64, len: u64, end: usize) -> (usize, usize) {
    let start = usize::try_from(offset).unwrap_or(end).min(end);
    let room = end - start;
    (start, usize::try_from(len).unwrap_or(room).min(room))
}

/// The writable mapping of a log segment. One writer (`&mut self`).
#[derive(Debug)]
pub struct LogRegion(LogOwner);

#[derive(Debug)]
enum LogOwner {
    Mapped(Arc<memmap2::MmapRaw>),
    #[cfg(any(test, feature = "sim"))]
    Sim(super::sim::SimMapping),
}

impl LogRegion {
    /// Maps the first `len` bytes for reading and writing. The caller has checked that the file
    /// is that long and preallocated.
    pub(super) fn map(file: &impl AsRawFd, len: usize) -> io::Result<LogRegion> {
        let map = memmap2::MmapOptions::new().len(len).map_raw(file)?;
        Ok(LogRegion(LogOwner::Mapped(Arc::new(map))))
    }

    /// Stores become writes of the simulator.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn simulated(mapping: super::sim::SimMapping) -> LogRegion {
        LogRegion(LogOwner::Sim(mapping))
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        match &self.0 {
            LogOwner::Mapped(map) => map.len(),
            #[cfg(any(test, feature = "sim"))]
            LogOwner::Sim(mapping) => mapping.len(),
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stores the bytes at `offset`: a copy, no system call. They survive the
    /// death of the process, and power loss once `File::sync_data` returned.
    ///
    /// # Panics
    /// Beyond the end of the mapping; callers check that the record fits.
    #[inline]
    #[cfg_attr(any(test, feature = "sim"), track_caller)]
    pub fn store(&mut self, offset: u64, bytes: &[u8]) {
        match &mut self.0 {
            LogOwner::Mapped(map) => store_mapped(map, offset, bytes),
            #[cfg(any(test, feature = "sim"))]
            LogOwner::Sim(mapping) => mapping.store(std::panic::Location::caller(), offset, bytes),
        }
    }

    /// A handle that pages the mapping in ahead of the writer, from another thread.
    pub fn populator(&self) -> Populator {
        match &self.0 {
            LogOwner::Mapped(map) => Populator(Some(Arc::clone(map))),
            #[cfg(any(test, feature = "sim"))]
            LogOwner::Sim(_) => Populator(None),
        }
    }
}

#[inline]
fn store_mapped(map: &memmap2::MmapRaw, offset: u64, bytes: &[u8]) {
    let fits = offset <= map.len() as u64 && bytes.len() as u64 <= map.len() as u64 - offset;
    assert!(fits, "a store beyond the end of a mapped log");
    // SAFETY: `offset <= map.len()`, so the result is inside the mapping or one past its end.
    let target = unsafe { map.as_mut_ptr().add(offset as usize) };
    // SAFETY: `bytes.len()` from `target` on are inside the mapping, which is writable. `bytes`
    // does not overlap it: no reference to the mapping is ever made. `&mut LogRegion` above makes
    // this the only writer, and populators do not touch bytes.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
}

/// Pages in a log region from a background thread; keeps the mapping alive.
#[derive(Clone, Debug)]
pub struct Populator(Option<Arc<memmap2::MmapRaw>>);

impl Populator {
    /// Makes the pages of `[offset, offset + len)` present and writable, clamped to the mapping
    /// (12 ms per 64 MiB). Only a hint: without it the first store to a page faults.
    pub fn populate(&self, offset: u64, len: u64) {
        #[cfg(target_os = "linux")]
        if let Some(map) = &self.0 {
            let (offset, len) = clamp(offset, len, map.len());
            let _ = map.advise_range(memmap2::Advice::PopulateWrite, offset, len);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }
}

/// Starts write-back of a range of `file` without waiting for it; a hint.
pub(super) fn start_write_back(file: &impl AsRawFd, offset: u64, len: u64) {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        use std::os::raw::{c_int, c_uint};

        // SAFETY: the prototype is that of sync_file_range(2) in glibc and musl, whose `off64_t`
        // has 64 bits everywhere; it takes no pointers, and any argument only yields an error.
        unsafe extern "C" {
            safe fn sync_file_range(fd: c_int, offset: i64, len: i64, flags: c_uint) -> c_int;
        }
        const SYNC_FILE_RANGE_WRITE: c_uint = 2;

        if let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) {
            // Errors come back from the fsync that must follow; nothing is promised here.
            sync_file_range(file.as_raw_fd(), offset, len, SYNC_FILE_RANGE_WRITE);
        }
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = (file, offset, len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;
    use crate::base::slice::Slice;
    use crate::base::types::FileId;
    use crate::fs::{FileName, Fs, disk};
    use proptest::prelude::*;

    const LOG: FileName = FileName::Log(FileId(1));

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_block_is_what_the_slice_has_there_or_corruption(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            offset in prop_oneof![0..220u64, any::<u64>()],
            len in prop_oneof![0..220usize, any::<usize>()],
        ) {
            let region = Region::from_vec(bytes.clone());
            let twin = (offset as usize).checked_add(len).and_then(|end| bytes.get(offset as usize..end));
            match region.block(offset, len) {
                Ok(block) => prop_assert_eq!(Some(block), twin),
                Err(e) => {
                    prop_assert_eq!(e.kind(), ErrorKind::Corruption);
                    prop_assert_eq!(e.offset(), Some(offset));
                    prop_assert_eq!(None, twin);
                }
            }
        }

        #[test]
        fn stores_into_a_mapped_log_are_copies_into_a_vector(
            stores in prop::collection::vec(
                (0..4096u64, prop::collection::vec(any::<u8>(), 0..200)),
                1..20,
            ),
        ) {
            let base = disk::scratch("region");
            let fs = Fs::os(base.path());
            let file = fs.create_new(LOG).unwrap();
            file.truncate(4096 + 200).unwrap();
            let mut log = file.map_log(4096 + 200).unwrap();
            let mut twin = vec![0; 4096 + 200];
            for (offset, bytes) in &stores {
                log.store(*offset, bytes);
                twin[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
            }
            let mapped = file.map(4096 + 200).unwrap();
            prop_assert_eq!(mapped.bytes(), &twin[..]);
            let read = file.read_region(4096 + 200).unwrap();
            prop_assert_eq!(read.bytes(), &twin[..]);
        }
    }

    /// A region of each kind over the same bytes of a file.
    fn of_each_kind(fs: &Fs, len: u64) -> [Region; 4] {
        let file = fs.open_read(LOG).unwrap();
        let bytes = file.read_region(len).unwrap().bytes().to_vec();
        [
            file.map(len).unwrap(),
            file.map(len).unwrap().probed(),
            file.read_region(len).unwrap(),
            Region::from_vec(bytes).probed(),
        ]
    }

    #[test]
    fn every_kind_of_region_gives_the_same_blocks_and_refusals() {
        let base = disk::scratch("region");
        let fs = Fs::os(base.path());
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        fs.create_new(LOG).unwrap().write_all_at(&bytes, 0).unwrap();
        for region in of_each_kind(&fs, 10_000) {
            for (offset, len) in [(0, 0), (0, 10_000), (4095, 2), (9_999, 1), (10_000, 0)] {
                let block = region.block(offset as u64, len).unwrap();
                assert_eq!(block, &bytes[offset..offset + len], "{region:?}");
            }
            for (offset, len) in [(10_000, 1), (9_999, 2), (u64::MAX, 1), (1, usize::MAX)] {
                let error = region.block(offset, len).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corruption, "{region:?}");
            }
        }
    }

    /// Somebody cuts the file under the mapping: touching the lost page would be a SIGBUS.
    #[test]
    #[cfg(all(target_os = "linux", not(miri)))]
    fn a_probed_page_that_is_gone_is_an_error_and_not_a_signal() {
        let base = disk::scratch("region");
        let fs = Fs::os(base.path());
        let file = fs.create_new(LOG).unwrap();
        file.write_all_at(&[7; 3 * 65_536], 0).unwrap();
        let region = file.map(3 * 65_536).unwrap().probed();
        assert_eq!(region.block(65_536, 10).unwrap(), [7; 10]);
        file.truncate(65_536).unwrap();
        assert_eq!(region.block(65_530, 6).unwrap(), [7; 6]);
        for _ in 0..2 {
            let error = region.block(2 * 65_536 - 1, 9).unwrap_err();
            assert_eq!(
                (error.kind(), error.file()),
                (ErrorKind::Io, Some(&*fs.path(LOG)))
            );
            assert_eq!(error.offset(), Some(2 * 65_536 - 4096), "{error}");
        }
    }

    #[test]
    fn an_error_of_a_mapped_region_names_its_file() {
        let base = disk::scratch("region");
        let fs = Fs::os(base.path());
        let file = fs.create_new(LOG).unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        let error = file.map(3).unwrap().block(2, 2).unwrap_err();
        assert_eq!(error.file(), Some(&*fs.path(LOG)));
        assert!(
            error.to_string().contains("block outside the file"),
            "{error}"
        );
        assert!(file.map(0).unwrap().is_empty());
    }

    #[test]
    fn a_slice_keeps_its_mapping_alive_beyond_file_and_name() {
        let base = disk::scratch("region");
        let fs = Fs::os(base.path());
        let file = fs.create_new(LOG).unwrap();
        file.write_all_at(&[7; 5000], 0).unwrap();
        let region: Arc<Region> = Arc::new(file.map(5000).unwrap());
        let slice = Slice::pinned(region, 4000, 1000);
        drop(file);
        fs.remove(LOG).unwrap();
        let read = std::thread::spawn(move || slice.iter().all(|b| *b == 7));
        assert!(read.join().unwrap());
    }
}

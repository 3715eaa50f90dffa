//! The reserve: space set aside so that a full disk can be made emptier (P15).
//!
//! While all is well a file BALLAST holds some bytes of the disk. The first time that the
//! manifest, the log, a flush or a compaction finds no space, space is given back and what failed is
//! done again at once: half of it to the log and to flushes, and all of it to the manifest and to
//! compactions, so that flushes cannot use up what the compaction needs that makes room: they wait
//! until it has ended, and what it has freed becomes this half again first. Writes wait until the
//! whole file could be made again, so that they do not use up what deletions and compactions need;
//! those go on. The file's bytes mean nothing, and no orphan it is: a crash leaves it or not, the
//! next open takes it as it is.
//!
//! It takes a sixteenth of a log segment, 2 MiB at most, and nothing where that is under 32 KiB.

use super::sweep::remove_if_there;
use crate::base::error::{ErrorKind, Result};
use crate::base::options::Options;
use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::base::sync::{Mutex, MutexGuard};
use crate::fs::{FileName, Fs};

const RESERVE_BYTES_MAX: u64 = 2 << 20;
const RESERVE_BYTES_MIN: u64 = 32 << 10;
/// A segment of 32 MiB gives the most, one of 512 KiB the least.
const SHARE_OF_SEGMENT: u64 = 16;
/// Less than this is no help to a compaction.
const REFILL_BYTES_MIN: u64 = 4 << 10;
/// Where space cannot be allocated without writing: so many zeros a call.
const CHUNK_BYTES: usize = 64 << 10;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Reserve {
    bytes: u64,
    /// How much of it the file holds: all, half, less than that, or nothing.
    left: Mutex<u64>,
    /// Held by the compaction that it was given up for.
    lease: Mutex<()>,
    is_lent: AtomicBool,
}

/// While it lives, what was given up is for one compaction, and flushes wait.
#[derive(Debug)]
pub(crate) struct Lease<'r> {
    is_lent: &'r AtomicBool,
    _one_at_a_time: MutexGuard<'r, ()>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // Relaxed: as in `lend`.
        self.is_lent.store(false, Ordering::Relaxed);
    }
}

impl Reserve {
    /// The reserve for these options, not there yet.
    pub(crate) fn new(options: &Options) -> Reserve {
        let share = (options.log_segment_bytes / SHARE_OF_SEGMENT).min(RESERVE_BYTES_MAX);
        Reserve {
            bytes: if share < RESERVE_BYTES_MIN { 0 } else { share },
            left: Mutex::new(0),
            lease: Mutex::new(()),
            is_lent: AtomicBool::new(false),
        }
    }

    /// Its size; 0: there is never one.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// For a compaction that found no space: until it ends nobody else gets what is given up for
    /// it. Waits for another one that has it, whose end may have made room.
    pub(crate) fn lend(&self) -> Lease<'_> {
        let one_at_a_time = self.lease.lock();
        // Relaxed: a flush that has begun goes on, so nothing depends on who sees this when.
        self.is_lent.store(true, Ordering::Relaxed);
        Lease {
            is_lent: &self.is_lent,
            _one_at_a_time: one_at_a_time,
        }
    }

    /// True while flushes should wait for a compaction.
    pub(crate) fn is_lent(&self) -> bool {
        // Relaxed: as in `lend`.
        self.is_lent.load(Ordering::Relaxed)
    }

    /// Takes over a file of an earlier session; false when it is not of the right size.
    pub(crate) fn adopt(&self, len: u64) -> bool {
        let fits = 0 < self.bytes && len == self.bytes;
        *self.left.lock() = if fits { len } else { 0 };
        fits
    }

    /// Gives space back to the disk, `all` or the first half; false when there was none to give.
    pub(crate) fn give_up(&self, fs: &Fs, all: bool) -> bool {
        let mut left = self.left.lock();
        if *left == 0 || (!all && *left < self.bytes) {
            return false;
        }
        let (kept, given) = if all {
            (0, fs.remove(FileName::Ballast))
        } else {
            let half = self.bytes / 2;
            let file = fs.open_write(FileName::Ballast);
            (half, file.and_then(|file| file.truncate(half)))
        };
        if given.is_ok() {
            *left = kept;
        }
        given.is_ok()
    }

    /// Removes the file of an earlier session before anything else has looked at it: for an open on
    /// a full disk. False when there is none, or when these options have no reserve.
    pub(crate) fn give_up_of_before(&self, fs: &Fs) -> bool {
        0 < self.bytes && fs.remove(FileName::Ballast).is_ok()
    }

    /// Sets aside what only compactions get, when nothing is left of the reserve: of space that has
    /// just been freed, before flushes use it up. Half of the reserve, or what there is of that.
    ///
    /// # Errors
    /// What the file system says, except `NoSpace`.
    pub(crate) fn refill(&self, fs: &Fs) -> Result<()> {
        let mut left = self.left.lock();
        if self.bytes == 0 || 0 < *left {
            return Ok(());
        }
        let mut wanted = self.bytes / 2;
        while REFILL_BYTES_MIN <= wanted {
            match make(fs, wanted) {
                Ok(()) => {
                    *left = wanted;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::NoSpace => wanted /= 2,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes it again where it is missing. What is left of it stays while space is missing.
    ///
    /// # Errors
    /// `NoSpace` while the disk is full; nothing more than before stays of the attempt then.
    pub(crate) fn restore(&self, fs: &Fs) -> Result<()> {
        let mut left = self.left.lock();
        if *left == self.bytes {
            return Ok(());
        }
        if *left == 0 || !grow(fs, self.bytes)? {
            *left = 0;
            make(fs, self.bytes)?;
        }
        *left = self.bytes;
        Ok(())
    }
}

/// Enlarges the file; false where that takes writing it anew.
fn grow(fs: &Fs, bytes: u64) -> Result<bool> {
    match fs.open_write(FileName::Ballast)?.preallocate(bytes) {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        other => other.map(|()| true),
    }
}

/// Makes the file anew. Of a failed attempt nothing stays; one that could not be cleaned up is in
/// the way of the next, which removes it.
fn make(fs: &Fs, bytes: u64) -> Result<()> {
    remove_if_there(fs, FileName::Ballast)?;
    fill(fs, bytes).or_else(|error| remove_if_there(fs, FileName::Ballast).and(Err(error)))
}

fn fill(fs: &Fs, bytes: u64) -> Result<()> {
    let file = fs.create_new(FileName::Ballast)?;
    match file.preallocate(bytes) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        other => return other,
    }
    let zeros = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < bytes {
        let n = (bytes - at).min(CHUNK_BYTES as u64);
        file.write_all_at(&zeros[..n as usize], at)?;
        at += n;
    }
    // Blocks may be allocated as late as here.
    file.sync_data()
}

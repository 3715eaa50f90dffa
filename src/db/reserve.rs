//! The reserve: space set aside so that a full disk can be made emptier (P15).
//!
//! While all is well a file BALLAST holds some bytes of the disk. The first time that the
//! manifest, the log, a flush or a compaction finds no space, the file is removed and what failed
//! is done again at once. Writes then wait until the file could be made again, so that they do not
//! use up what deletions and compactions need; those go on. The file's bytes mean nothing, and no
//! orphan it is: a crash leaves it or not, the next open takes it as it is.
//!
//! It takes a thirty-second of a log segment, 2 MiB at most, and nothing where that is under 32 KiB.

use crate::base::error::{ErrorKind, Result};
use crate::base::options::Options;
use crate::base::sync::Mutex;
use crate::fs::{FileName, Fs};

const RESERVE_BYTES_MAX: u64 = 2 << 20;
const RESERVE_BYTES_MIN: u64 = 32 << 10;
/// The default segment of 64 MiB gives the most, one of 1 MiB the least.
const SHARE_OF_SEGMENT: u64 = 32;
/// Where space cannot be allocated without writing: so many zeros a call.
const CHUNK_BYTES: usize = 64 << 10;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Reserve {
    bytes: u64,
    is_here: Mutex<bool>,
}

impl Reserve {
    /// The reserve for these options, not there yet.
    pub(crate) fn new(options: &Options) -> Reserve {
        let share = (options.log_segment_bytes / SHARE_OF_SEGMENT).min(RESERVE_BYTES_MAX);
        Reserve {
            bytes: if share < RESERVE_BYTES_MIN { 0 } else { share },
            is_here: Mutex::new(false),
        }
    }

    /// Its size; 0: there is never one.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes over a file of an earlier session; false when it is not of the right size.
    pub(crate) fn adopt(&self, len: u64) -> bool {
        let fits = 0 < self.bytes && len == self.bytes;
        *self.is_here.lock() = fits;
        fits
    }

    /// Gives its space back to the disk; false when there was none to give.
    pub(crate) fn give_up(&self, fs: &Fs) -> bool {
        let mut is_here = self.is_here.lock();
        if !*is_here || fs.remove(FileName::Ballast).is_err() {
            return false;
        }
        *is_here = false;
        true
    }

    /// Removes the file of an earlier session before anything else has looked at it: for an open on
    /// a full disk. False when there is none, or when these options have no reserve.
    pub(crate) fn give_up_of_before(&self, fs: &Fs) -> bool {
        0 < self.bytes && fs.remove(FileName::Ballast).is_ok()
    }

    /// Makes it again where it is missing.
    ///
    /// # Errors
    /// `NoSpace` while the disk is full; nothing stays of the attempt then.
    pub(crate) fn restore(&self, fs: &Fs) -> Result<()> {
        let mut is_here = self.is_here.lock();
        if *is_here || self.bytes == 0 {
            return Ok(());
        }
        // An attempt that could not be cleaned up is in the way.
        remove_if_there(fs)?;
        if let Err(error) = fill(fs, self.bytes) {
            remove_if_there(fs)?;
            return Err(error);
        }
        *is_here = true;
        Ok(())
    }
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

fn remove_if_there(fs: &Fs) -> Result<()> {
    match fs.remove(FileName::Ballast) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

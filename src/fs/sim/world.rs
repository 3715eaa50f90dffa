//! One running machine: its disk, the calls made, the faults to come, the space left.
//!
//! Every call passes [`World::enter`] first, which gives it its index, lets it crash or fail, and
//! notes who made it. What an operation does to the disk is log.rs's business; how a fault is
//! carried out that is more than an error is the call's (file.rs).

use super::super::name::FileName;
use super::clock::Pace;
use super::coverage::{CallSite, Sites};
use super::fault::{CallKind, Fault, FileClass, Schedule};
use super::image::Album;
use super::log::{BLOCK_BYTES, Inode, Medium};
use super::misuse::IDLE_SYNCS_MAX;
use crate::base::sync::Arc;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::panic::Location;
use std::path::{Path, PathBuf};

/// Blocks of a disk without a limit: 1 TiB.
const BLOCKS: u64 = (1 << 40) / BLOCK_BYTES;

/// One call that changed something, or failed to.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) kind: CallKind,
    pub(super) root: Arc<Path>,
    pub(super) name: Option<FileName>,
    /// The other name of a rename.
    pub(super) to: Option<FileName>,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) line: &'static Location<'static>,
    pub(super) fault: Option<Fault>,
}

impl Call {
    pub(super) fn site(&self) -> CallSite {
        CallSite::new(self.line, self.kind, FileClass::of(self.name))
    }
}

/// One line of the script: index excluded, fault and place included.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.root.display())?;
        if let Some(name) = self.name {
            write!(f, "/{name}")?;
        }
        match self.kind {
            CallKind::Write | CallKind::Store => write!(f, " {}+{}", self.offset, self.len)?,
            CallKind::Resize => write!(f, " to {}", self.len)?,
            _ => {}
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some(fault) = self.fault {
            write!(f, " ({fault:?})")?;
        }
        write!(f, "  # {}:{}", self.line.file(), self.line.line())
    }
}

/// A limit of the disk's size, and how calls fail that go beyond.
#[derive(Clone, Copy, Debug)]
struct Limit {
    blocks: u64,
    fault: Fault,
}

/// Who is told of each mutating call before it happens.
pub(super) struct Watcher(pub(super) Box<dyn FnMut(u64, Medium) + Send>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

/// One running machine.
#[derive(Debug)]
pub(super) struct World {
    pub(super) medium: Medium,
    /// Calls made before this machine was split off another.
    pub(super) base: u64,
    pub(super) calls: Vec<Call>,
    pub(super) watcher: Option<Watcher>,
    /// Of this moment, if it was asked for images.
    album: Option<Album>,
    pub(super) crash_at: Option<u64>,
    pub(super) crashed: bool,
    pub(super) faults: Schedule,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) random: u64,
    pub(super) sites: Sites,
    limit: Option<Limit>,
    /// See [`SimFs::slow_down`](super::SimFs::slow_down).
    pub(super) pace: Option<Pace>,
    /// Syncs in a row that had nothing to sync.
    idle_syncs: u32,
}

impl World {
    pub(super) fn new(medium: Medium) -> World {
        World {
            random: medium.seed,
            medium,
            base: 0,
            calls: Vec::new(),
            watcher: None,
            album: None,
            crash_at: None,
            crashed: false,
            faults: Schedule::default(),
            locks: BTreeSet::new(),
            sites: Sites::default(),
            limit: None,
            pace: None,
            idle_syncs: 0,
        }
    }

    /// The index of the next mutating call.
    pub(super) fn next_call(&self) -> u64 {
        self.base + self.calls.len() as u64
    }

    /// What a power loss at this moment may leave.
    pub(super) fn album(&mut self) -> &mut Album {
        let album = self.album.take().unwrap_or_else(|| Album::of(self));
        self.album.insert(album)
    }

    /// The disk, for one who changes it: images of before are no longer those of now.
    pub(super) fn changed(&mut self) -> &mut Medium {
        self.album = None;
        &mut self.medium
    }

    /// Every call passes here first: it gets its index, crashes, fails by the schedule, or goes on
    /// with a fault that it has to carry out itself.
    pub(super) fn enter(&mut self, mut call: Call) -> io::Result<Option<Fault>> {
        let kind = call.kind;
        if kind.mutates() && !self.crashed {
            self.crashed = self.crash_at == Some(self.next_call());
        }
        if self.crashed {
            return Err(io::Error::other("crashed"));
        }
        let site = call.site();
        let strike = self.faults.strike(&site);
        let fault = strike.map(|strike| strike.fault);
        self.sites.called(call.line, kind, site.class, fault);
        call.fault = fault;
        if kind.mutates() {
            let index = self.next_call();
            if let Some(Watcher(watch)) = &mut self.watcher {
                watch(index, self.medium.fork());
            }
            if !matches!(kind, CallKind::Sync | CallKind::SyncDir) {
                self.idle_syncs = 0;
            }
            self.calls.push(call);
            self.album = None;
        }
        let Some(strike) = strike else {
            return Ok(None);
        };
        if strike.fills_disk {
            self.limit_free(0, strike.fault);
        }
        match strike.fault.error() {
            Some(error) if !strike.fault.is_carried_out() => Err(error),
            _ => Ok(Some(strike.fault)),
        }
    }

    /// A sync is under way; idle if it has nothing to do.
    pub(super) fn synced(&mut self, idle: bool) {
        self.idle_syncs = if idle { self.idle_syncs + 1 } else { 0 };
        let call = self.calls.last();
        assert!(
            self.idle_syncs <= IDLE_SYNCS_MAX,
            "{IDLE_SYNCS_MAX} syncs in a row have found nothing to sync: {call:?}"
        );
    }

    /// The last mutating call, and its site, meet a fault that is not of the schedule.
    pub(super) fn struck(&mut self, line: &'static Location<'static>, fault: Fault) {
        if let Some(call) = self.calls.last_mut() {
            call.fault = Some(fault);
            let class = FileClass::of(call.name);
            self.sites.struck(line, call.kind, class, fault);
        }
    }

    /// From now on the disk has so much free.
    pub(super) fn limit_free(&mut self, bytes: u64, fault: Fault) {
        self.limit = Some(Limit {
            blocks: self.medium.blocks() + bytes / BLOCK_BYTES,
            fault,
        });
    }

    pub(super) fn lift_limit(&mut self) {
        self.limit = None;
    }

    pub(super) fn free_bytes(&self) -> u64 {
        let blocks = self.limit.map_or(BLOCKS, |limit| limit.blocks);
        blocks.saturating_sub(self.medium.blocks()) * BLOCK_BYTES
    }

    /// How far the file can grow, for one that shall reach `end`.
    ///
    /// # Errors
    /// ENOSPC or EDQUOT when not even to `least`.
    pub(super) fn room(
        &mut self,
        inode: Inode,
        least: u64,
        end: u64,
        line: &'static Location<'static>,
    ) -> io::Result<u64> {
        let Some(limit) = self.limit else {
            return Ok(end);
        };
        let free = limit.blocks.saturating_sub(self.medium.blocks());
        let blocks = self.medium.file(inode).blocks();
        let most = (blocks + free) * BLOCK_BYTES;
        if end <= most || least <= most {
            return Ok(end.min(most));
        }
        self.faults.hits += 1;
        self.struck(line, limit.fault);
        match limit.fault.error() {
            Some(error) => Err(error),
            None => Ok(end),
        }
    }
}

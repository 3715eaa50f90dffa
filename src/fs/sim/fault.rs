//! The fault schedule: which call fails, how, and for how long.
//!
//! A rule counts the calls it matches and strikes at the `nth` of them, once, from then on, or by
//! filling the disk. The first rule that strikes decides. Everything here is plain data and a
//! counter; what a fault does is up to the call (file.rs).

use super::super::name::FileName;
use super::coverage::CallSite;
use rustix::io::Errno;
use std::io;

/// What a call does, in the log of calls and in fault rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallKind {
    /// Asking for a size, free space, or whether the directory is there.
    Stat,
    /// Making the directory.
    MakeRoot,
    /// Removing the directory.
    RemoveRoot,
    /// Taking the lock.
    Lock,
    /// Reading the directory.
    List,
    /// Making a file, LOCK among them.
    Create,
    /// Opening a file that exists.
    Open,
    /// Reading by a call.
    Read,
    /// Reading a block of a mapped file.
    Touch,
    /// Writing by a call.
    Write,
    /// Storing into a mapped log. Stores have no result: errno rules pass them by.
    Store,
    /// `truncate` and `preallocate`.
    Resize,
    /// Syncing a file.
    Sync,
    /// Syncing the directory.
    SyncDir,
    /// Renaming.
    Rename,
    /// Removing a file.
    Remove,
    /// Linking into another directory.
    Link,
    /// Mapping, a table or a log.
    Map,
}

impl CallKind {
    /// True for the calls that have an index: those after which a crash leaves another disk.
    pub fn mutates(self) -> bool {
        use CallKind::*;
        !matches!(self, Stat | Lock | List | Open | Read | Touch | Map)
    }
}

/// What a file is for, as far as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileClass {
    /// The directory itself.
    Dir,
    /// LOCK.
    Lock,
    /// CURRENT.
    Current,
    /// BALLAST.
    Ballast,
    /// A manifest, or a point in time of a directory of backups.
    Manifest,
    /// A log segment.
    Log,
    /// A table, of a database or of backups.
    Table,
    /// A temporary file, or a mark of what a directory is.
    Temp,
}

impl FileClass {
    /// The class of a file, or of the directory when there is no name.
    pub fn of(name: Option<FileName>) -> FileClass {
        match name {
            None => FileClass::Dir,
            Some(FileName::Lock) => FileClass::Lock,
            Some(FileName::Current) => FileClass::Current,
            Some(FileName::Ballast) => FileClass::Ballast,
            Some(FileName::Manifest(_) | FileName::Point(_)) => FileClass::Manifest,
            Some(FileName::Log(_)) => FileClass::Log,
            Some(FileName::Table(_) | FileName::Stored(_)) => FileClass::Table,
            Some(FileName::Temp(_) | FileName::Unfinished | FileName::Backups) => FileClass::Temp,
        }
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// EIO and no effect. A failed sync leaves the data dirty: a later one may succeed.
    Eio,
    /// ENOSPC and no effect; only calls that need space or may have put off needing it.
    Enospc,
    /// EDQUOT, as [`Fault::Enospc`].
    Edquot,
    /// EMFILE and no effect; only calls that open something.
    Emfile,
    /// EACCES and no effect; only calls that follow a path.
    Eacces,
    /// EINTR and no effect; sticky rules would hang the caller's loop and are refused.
    Eintr,
    /// A read or write of half the bytes, at least one.
    Short,
    /// A write that returns 0.
    WriteZero,
    /// A sync fails and the pages are clean with their new content: read back, never written,
    /// lost by a power loss even if a later sync succeeds (Linux, ext4).
    SyncCleanNew,
    /// A sync fails and the content reverts to that of the last good sync at once.
    SyncCleanOld,
    /// A sync says that all is well although nothing reached the disk; the next sync of the file
    /// reports EIO. What was written before is read back, and lost by a power loss. No program
    /// can keep what such a disk was asked to keep: P1 is void for that one sync.
    SyncLate,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::Eio,
        Fault::Enospc,
        Fault::Edquot,
        Fault::Emfile,
        Fault::Eacces,
        Fault::Eintr,
        Fault::Short,
        Fault::WriteZero,
        Fault::SyncCleanNew,
        Fault::SyncCleanOld,
        Fault::SyncLate,
    ];

    /// True when a call of this kind can fail in this way. No store can: it has no result.
    pub fn fits(self, kind: CallKind) -> bool {
        use CallKind::*;
        match self {
            Fault::SyncCleanNew | Fault::SyncCleanOld | Fault::SyncLate => kind == CallKind::Sync,
            Fault::Short => matches!(kind, Read | Write),
            Fault::WriteZero => kind == Write,
            Fault::Eintr => matches!(kind, Read | Write | Resize),
            Fault::Eio => kind != Store,
            Fault::Enospc | Fault::Edquot => matches!(
                kind,
                MakeRoot | Create | Write | Resize | Sync | SyncDir | Rename | Link
            ),
            Fault::Emfile => matches!(kind, Lock | List | Create | Open | SyncDir),
            Fault::Eacces => matches!(
                kind,
                MakeRoot
                    | RemoveRoot
                    | Lock
                    | List
                    | Create
                    | Open
                    | SyncDir
                    | Rename
                    | Remove
                    | Link
            ),
        }
    }

    /// The error that the call returns; `None` where it succeeds in its own way.
    pub(super) fn error(self) -> Option<io::Error> {
        let errno = match self {
            Fault::Eio | Fault::SyncCleanNew | Fault::SyncCleanOld => Errno::IO,
            Fault::Enospc => Errno::NOSPC,
            Fault::Edquot => Errno::DQUOT,
            Fault::Emfile => Errno::MFILE,
            Fault::Eacces => Errno::ACCESS,
            Fault::Eintr => Errno::INTR,
            Fault::Short | Fault::WriteZero | Fault::SyncLate => return None,
        };
        Some(errno.into())
    }

    /// True when the call does something of its own before or instead of failing.
    pub(super) fn is_carried_out(self) -> bool {
        matches!(
            self,
            Fault::Short
                | Fault::WriteZero
                | Fault::SyncCleanNew
                | Fault::SyncCleanOld
                | Fault::SyncLate
        )
    }
}

/// For how long a rule strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasts {
    Once,
    Sticky,
    UntilFreed,
}

/// One entry of the fault schedule; give it to [`SimFs::fail`](super::SimFs::fail).
///
/// By default it strikes once, at the next call of any kind on any file that the fault fits.
#[derive(Clone, Debug)]
pub struct FaultRule {
    fault: Fault,
    kinds: Vec<CallKind>,
    class: Option<FileClass>,
    site: Option<CallSite>,
    nth: u64,
    lasts: Lasts,
    matched: u64,
}

impl FaultRule {
    /// A rule that fails calls in this way.
    pub fn new(fault: Fault) -> FaultRule {
        FaultRule {
            fault,
            kinds: Vec::new(),
            class: None,
            site: None,
            nth: 0,
            lasts: Lasts::Once,
            matched: 0,
        }
    }

    /// Only calls of these kinds.
    #[must_use]
    pub fn kinds(mut self, kinds: &[CallKind]) -> FaultRule {
        self.kinds = kinds.to_vec();
        self
    }

    /// Only files of this class.
    #[must_use]
    pub fn class(mut self, class: FileClass) -> FaultRule {
        self.class = Some(class);
        self
    }

    /// Only calls of this line of the source, of the site's kind and on its class of file.
    #[must_use]
    pub fn at(mut self, site: &CallSite) -> FaultRule {
        self.site = Some(*site);
        self
    }

    /// Passes `nth` matching calls by and strikes the next. Default 0.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> FaultRule {
        self.nth = nth;
        self
    }

    /// Strikes every matching call from the first hit on, until
    /// [`SimFs::heal`](super::SimFs::heal).
    ///
    /// # Panics
    /// For `Eintr`, which callers repeat for ever.
    #[must_use]
    pub fn sticky(mut self) -> FaultRule {
        assert!(self.fault != Fault::Eintr, "a sticky EINTR never ends");
        self.lasts = Lasts::Sticky;
        self
    }

    /// Fills the disk at the first hit: that call fails, and from then on every call that needs
    /// space, until enough files were removed or [`SimFs::heal`](super::SimFs::heal). See
    /// [`SimFs::set_free`](super::SimFs::set_free).
    ///
    /// # Panics
    /// Unless the fault is `Enospc` or `Edquot`.
    #[must_use]
    pub fn until_freed(mut self) -> FaultRule {
        let about_space = matches!(self.fault, Fault::Enospc | Fault::Edquot);
        assert!(about_space, "freeing space does not end {:?}", self.fault);
        self.lasts = Lasts::UntilFreed;
        self
    }

    fn strikes(&mut self, site: &CallSite) -> bool {
        let matches = self.fault.fits(site.kind)
            && (self.kinds.is_empty() || self.kinds.contains(&site.kind))
            && self.class.is_none_or(|c| c == site.class)
            && self.site.is_none_or(|s| s == *site);
        if !matches {
            return false;
        }
        self.matched += 1;
        let turn = self.matched - 1;
        turn == self.nth || (self.lasts == Lasts::Sticky && turn > self.nth)
    }
}

/// A fault that strikes now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strike {
    pub(super) fault: Fault,
    /// The disk is full from now on.
    pub(super) fills_disk: bool,
}

/// All rules in force, and how often they struck.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub(super) rules: Vec<FaultRule>,
    pub(super) hits: u64,
}

impl Schedule {
    pub(super) fn strike(&mut self, site: &CallSite) -> Option<Strike> {
        // Each rule counts, also behind one that strikes, so that rules do not shift each other.
        let mut struck = None;
        for rule in &mut self.rules {
            if rule.strikes(site) {
                struck.get_or_insert(Strike {
                    fault: rule.fault,
                    fills_disk: rule.lasts == Lasts::UntilFreed,
                });
            }
        }
        self.hits += u64::from(struck.is_some());
        struck
    }
}

//! The fault schedule: which call fails, how, and for how long.
//!
//! A rule counts the calls it matches and strikes at the `nth` of them, once or from then on.
//! The first rule that strikes decides. Everything here is plain data and a counter.

use super::super::name::FileName;
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
    /// A manifest.
    Manifest,
    /// A log segment.
    Log,
    /// A table.
    Table,
    /// A temporary file.
    Temp,
}

impl FileClass {
    /// The class of a file, or of the directory when there is no name.
    pub fn of(name: Option<FileName>) -> FileClass {
        match name {
            None => FileClass::Dir,
            Some(FileName::Lock) => FileClass::Lock,
            Some(FileName::Current) => FileClass::Current,
            Some(FileName::Manifest(_)) => FileClass::Manifest,
            Some(FileName::Log(_)) => FileClass::Log,
            Some(FileName::Table(_)) => FileClass::Table,
            Some(FileName::Temp(_)) => FileClass::Temp,
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
    /// EMFILE and no effect; only calls that open something.
    Emfile,
    /// EINTR and no effect; sticky rules would hang the caller's loop and are refused.
    Eintr,
    /// A read or write of half the bytes, at least one.
    Short,
    /// A sync fails and the pages are clean with their new content: read back, never written,
    /// lost by a power loss even if a later sync succeeds (Linux, ext4).
    SyncCleanNew,
    /// A sync fails and the content reverts to that of the last good sync at once.
    SyncCleanOld,
}

impl Fault {
    fn fits(self, kind: CallKind) -> bool {
        use CallKind::*;
        match self {
            Fault::SyncCleanNew | Fault::SyncCleanOld => kind == CallKind::Sync,
            Fault::Short => matches!(kind, CallKind::Read | CallKind::Write),
            Fault::Eintr => matches!(kind, CallKind::Read | CallKind::Write | CallKind::Resize),
            Fault::Eio => kind != CallKind::Store,
            Fault::Enospc => matches!(
                kind,
                MakeRoot | Create | Write | Resize | Sync | SyncDir | Rename | Link
            ),
            Fault::Emfile => matches!(kind, Lock | List | Create | Open | SyncDir),
        }
    }

    /// The error that the call returns; `None` for a short count.
    pub(super) fn error(self) -> Option<io::Error> {
        let errno = match self {
            Fault::Eio | Fault::SyncCleanNew | Fault::SyncCleanOld => Errno::IO,
            Fault::Enospc => Errno::NOSPC,
            Fault::Emfile => Errno::MFILE,
            Fault::Eintr => Errno::INTR,
            Fault::Short => return None,
        };
        Some(errno.into())
    }
}

/// One entry of the fault schedule; give it to [`SimFs::fail`](super::SimFs::fail).
///
/// By default it strikes once, at the next call of any kind on any file that the fault fits.
#[derive(Clone, Debug)]
pub struct FaultRule {
    fault: Fault,
    kinds: Vec<CallKind>,
    class: Option<FileClass>,
    nth: u64,
    sticky: bool,
    matched: u64,
}

impl FaultRule {
    /// A rule that fails calls in this way.
    pub fn new(fault: Fault) -> FaultRule {
        FaultRule {
            fault,
            kinds: Vec::new(),
            class: None,
            nth: 0,
            sticky: false,
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

    /// Passes `nth` matching calls by and strikes the next. Default 0.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> FaultRule {
        self.nth = nth;
        self
    }

    /// Strikes every matching call from the first hit on, until
    /// [`SimFs::heal`](super::SimFs::heal).
    #[must_use]
    pub fn sticky(mut self) -> FaultRule {
        assert!(self.fault != Fault::Eintr, "a sticky EINTR never ends");
        self.sticky = true;
        self
    }

    fn strikes(&mut self, kind: CallKind, class: FileClass) -> bool {
        let matches = self.fault.fits(kind)
            && (self.kinds.is_empty() || self.kinds.contains(&kind))
            && self.class.is_none_or(|c| c == class);
        if !matches {
            return false;
        }
        self.matched += 1;
        let turn = self.matched - 1;
        turn == self.nth || (self.sticky && turn > self.nth)
    }
}

/// All rules in force, and how often they struck.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub(super) rules: Vec<FaultRule>,
    pub(super) hits: u64,
}

impl Schedule {
    pub(super) fn strike(&mut self, kind: CallKind, class: FileClass) -> Option<Fault> {
        // Each rule counts, also behind one that strikes, so that rules do not shift each other.
        let mut struck = None;
        for rule in &mut self.rules {
            if rule.strikes(kind, class) {
                struck.get_or_insert(rule.fault);
            }
        }
        self.hits += u64::from(struck.is_some());
        struck
    }
}

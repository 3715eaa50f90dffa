//! Which lines of the engine call the disk, and which faults have struck there.
//!
//! Every call on a simulated machine is noted with its *site*: the line outside of `fs` that made
//! it, what it does, and to what class of file. One line is several sites when it writes logs and
//! manifests alike. A fault sweep is complete when [`Coverage::missing`] is empty: then each site
//! has failed in each way that its kind of call can fail.

use super::fault::{CallKind, Fault, FileClass};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::panic::Location;

thread_local! {
    static CALLER: Cell<&'static Location<'static>> = const { Cell::new(Location::caller()) };
}

/// The call that follows on this thread was made by this line. `Fs` and `File` say so at the head
/// of each of their methods, because a closure cannot see its caller's caller.
pub(in crate::fs) fn called_from(line: &'static Location<'static>) {
    CALLER.set(line);
}

pub(super) fn caller() -> &'static Location<'static> {
    CALLER.get()
}

/// A place in the source that calls the disk, with what it does to which class of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallSite {
    /// As the compiler was given it: `src/wal/writer.rs` for the engine's own files.
    pub file: &'static str,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// What it does.
    pub kind: CallKind,
    /// To what class of file.
    pub class: FileClass,
}

impl CallSite {
    pub(super) fn new(
        line: &'static Location<'static>,
        kind: CallKind,
        class: FileClass,
    ) -> CallSite {
        CallSite {
            file: line.file(),
            line: line.line(),
            column: line.column(),
            kind,
            class,
        }
    }
}

impl fmt::Display for CallSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CallSite {
            file,
            line,
            column,
            kind,
            class,
        } = self;
        write!(f, "{file}:{line}:{column} {kind:?} {class:?}")
    }
}

/// The sites seen, how often each called, and the faults that struck there.
///
/// Each machine keeps its own, [`SimFs::coverage`](super::SimFs::coverage); a sweep merges them.
///
/// ```
/// use alluvium::fs::{FileName, Fs, sim::{Coverage, Fault, FaultRule, SimFs}};
/// use std::path::Path;
///
/// let mut all = Coverage::default();
/// for fault in Fault::ALL {
///     let sim = SimFs::new(1);
///     sim.fail(FaultRule::new(fault));
///     let _ = Fs::sim(&sim, Path::new("/db")).make_root(); // one site, of kind MakeRoot
///     all.merge(&sim.coverage());
/// }
/// assert_eq!(all.sites().count(), 1);
/// assert_eq!(all.missing(), []); // it has failed in every way that making a directory can
/// ```
#[derive(Clone, Debug, Default)]
pub struct Coverage(BTreeMap<CallSite, (u64, BTreeSet<Fault>)>);

impl Coverage {
    /// Adds what another machine has seen.
    pub fn merge(&mut self, other: &Coverage) {
        for (site, (calls, faults)) in &other.0 {
            let own = self.0.entry(*site).or_default();
            own.0 += calls;
            own.1.extend(faults);
        }
    }

    /// Each site and how many calls it made, in order of file and line.
    pub fn sites(&self) -> impl Iterator<Item = (CallSite, u64)> {
        self.0.iter().map(|(site, (calls, _))| (*site, *calls))
    }

    /// The faults that struck at a site.
    pub fn hits(&self, site: &CallSite) -> BTreeSet<Fault> {
        self.0
            .get(site)
            .map(|(_, faults)| faults.clone())
            .unwrap_or_default()
    }

    /// What could have struck and never did: a site that was seen, and a fault that fits its kind.
    pub fn missing(&self) -> Vec<(CallSite, Fault)> {
        let of = |(site, (_, faults)): (&CallSite, &(u64, BTreeSet<Fault>))| {
            let fits = Fault::ALL.into_iter().filter(|f| f.fits(site.kind));
            let missing = fits.filter(|fault| !faults.contains(fault));
            missing.map(|fault| (*site, fault)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }
}

/// By the address of the location, which is quick to hash; one line may have several.
type Key = (usize, CallKind, FileClass);

fn key(line: &'static Location<'static>, kind: CallKind, class: FileClass) -> Key {
    (std::ptr::from_ref(line).addr(), kind, class)
}

/// What one machine notes while it runs.
#[derive(Debug, Default)]
pub(super) struct Sites(HashMap<Key, Seen>);

#[derive(Debug)]
struct Seen {
    line: &'static Location<'static>,
    calls: u64,
    /// One bit for each fault.
    faults: u16,
}

impl Sites {
    pub(super) fn called(
        &mut self,
        line: &'static Location<'static>,
        kind: CallKind,
        class: FileClass,
        fault: Option<Fault>,
    ) {
        let seen = self.0.entry(key(line, kind, class)).or_insert(Seen {
            line,
            calls: 0,
            faults: 0,
        });
        seen.calls += 1;
        seen.faults |= fault.map_or(0, |fault| 1 << fault as u16);
    }

    /// A fault struck in the midst of a call that was counted.
    pub(super) fn struck(
        &mut self,
        line: &'static Location<'static>,
        kind: CallKind,
        class: FileClass,
        fault: Fault,
    ) {
        self.called(line, kind, class, Some(fault));
        if let Some(seen) = self.0.get_mut(&key(line, kind, class)) {
            seen.calls -= 1;
        }
    }

    pub(super) fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        for ((_, kind, class), seen) in &self.0 {
            let site = CallSite::new(seen.line, *kind, *class);
            let (calls, faults) = coverage.0.entry(site).or_default();
            *calls += seen.calls;
            let struck = |fault: &Fault| seen.faults & (1 << *fault as u16) != 0;
            faults.extend(Fault::ALL.into_iter().filter(struck));
        }
        coverage
    }
}

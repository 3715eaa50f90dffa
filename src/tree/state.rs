//! The tree's state: what readers see, what writers fill, what waits for its flush.
//!
//! Lock order: the database's write lock, then the switch's (switch.rs), then nothing. Views are
//! read without either.

use crate::base::checksum::KeyHasher;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::filter::{CompactionFilters, Filter};
use crate::base::hooks::MergeOperators;
use crate::base::operation::Operation;
use crate::base::options::KeyspaceOptions;
use crate::base::ranges::DeletedRanges;
use crate::base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::base::sync::{Arc, ArcSwap, Guard, Mutex};
use crate::base::types::{FileId, KeyspaceId, SeqNo, Tag, Time, ValueKind, millis};
use crate::compaction::{Busy, policy};
use crate::fs::{Clock, Fs};
use crate::memtable::{Memtable, MemtableOptions, Pool};
use crate::read::{ReadCounters, View};
use crate::version::{KeyspaceState, Version, VersionSet};

use super::switch::{Layers, Switch, is_one_of};
use std::cmp;
use std::time::Duration;

/// What all trees of a database share.
#[derive(Debug)]
pub struct TreeContext {
    /// The directory.
    pub fs: Fs,
    /// The live set and its manifest.
    pub versions: Arc<VersionSet>,
    /// Recycled memtable memory.
    pub pool: Pool,
    /// The database's keyed hash.
    pub hasher: KeyHasher,
    /// Set when the database is closed.
    pub closed: Arc<AtomicBool>,
    /// Those that are registered.
    pub merge_operators: MergeOperators,
    /// What says when values expire.
    pub clock: Arc<Clock>,
    /// Those that are registered.
    pub compaction_filters: CompactionFilters,
}

/// See the room's text.
#[derive(Debug)]
pub struct Tree {
    pub(super) context: Arc<TreeContext>,
    id: KeyspaceId,
    name: String,
    options: ArcSwap<KeyspaceOptions>,
    /// That of the options, which each write asks for. In milliseconds; `u64::MAX`: none.
    ttl: AtomicU64,
    pub(super) views: Switch<View>,
    pub(super) busy: Mutex<Busy>,
    pub(super) flushing: AtomicBool,
    dropped: AtomicBool,
    /// Highest sequence number that tables hold; the manifest's twin.
    flushed_through: AtomicU64,
}

/// How far a tree's background work is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Memtables that wait for their flush.
    pub immutables: usize,
    /// So many may wait while the active one fills.
    pub immutables_max: usize,
    /// True when the active memtable has its size.
    pub active_is_full: bool,
    /// Compaction debt: 0.0 nothing is due, from 1.0 on it is far behind.
    pub compaction: f64,
}

impl Pressure {
    /// True when there is no room for another write before a flush ends.
    pub fn is_full(&self) -> bool {
        match self.immutables.cmp(&self.immutables_max) {
            cmp::Ordering::Less => false,
            cmp::Ordering::Equal => self.active_is_full,
            cmp::Ordering::Greater => true,
        }
    }
}

impl Layers for View {
    type Memtable = Memtable;
    type Version = Arc<Version>;

    fn active(&self) -> &Arc<Memtable> {
        &self.active
    }

    fn rotated(&self, active: Arc<Memtable>) -> View {
        let mut immutables = Vec::with_capacity(self.immutables.len() + 1);
        immutables.push(Arc::clone(&self.active));
        immutables.extend(self.immutables.iter().cloned());
        View {
            active,
            ..self.over(immutables, Arc::clone(&self.version))
        }
    }

    fn refreshed(&self, flushed: &[Arc<Memtable>], version: Arc<Version>) -> View {
        let mut immutables = self.immutables.clone();
        immutables.retain(|m| !is_one_of(m, flushed));
        self.over(immutables, version)
    }
}

impl Tree {
    /// A tree over the files that the manifest lists.
    pub fn open(
        context: Arc<TreeContext>,
        state: &KeyspaceState,
        options: KeyspaceOptions,
    ) -> Self {
        let active = Arc::new(Memtable::new(
            MemtableOptions {
                capacity_bytes: options.write_buffer_bytes,
                hasher: context.hasher,
                common_prefix: Vec::new(),
                index_slots: 0,
            },
            &context.pool,
        ));
        let view = View {
            active,
            immutables: Vec::new(),
            version: Arc::clone(&state.version),
            deleted: DeletedRanges::from(&state.version.deleted),
            hasher: context.hasher,
            counters: Arc::new(ReadCounters::default()),
            closed: Arc::clone(&context.closed),
            folding: context.merge_operators.folding(&options.merge_operator),
            clock: Arc::clone(&context.clock),
        };
        Tree {
            context,
            id: state.id,
            name: state.name.clone(),
            ttl: AtomicU64::new(options.ttl.map_or(u64::MAX, millis)),
            options: ArcSwap::from_pointee(options),
            views: Switch::new(view, state.log_floor),
            busy: Mutex::new(Busy::default()),
            flushing: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
            flushed_through: AtomicU64::new(state.flushed_through.get()),
        }
    }

    /// The keyspace's number.
    pub fn id(&self) -> KeyspaceId {
        self.id
    }

    /// The keyspace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The keyspace's options now. Who works with them keeps to those that he began with.
    pub fn options(&self) -> Arc<KeyspaceOptions> {
        self.options.load_full()
    }

    /// Other options from now on: for the next memtable, the next table and the next choice of a job.
    pub fn set_options(&self, options: KeyspaceOptions) {
        if options.merge_operator != self.options().merge_operator {
            self.give_merge_operator(&options.merge_operator);
        }
        let millis = options.ttl.map_or(u64::MAX, millis);
        // Relaxed, as its load: no other data hangs on it.
        self.ttl.store(millis, Ordering::Relaxed);
        self.options.store(Arc::new(options));
    }

    /// The compaction filter, if it has one and that is registered.
    pub(super) fn filter(&self) -> Option<Filter> {
        let filters = &self.context.compaction_filters;
        filters.named(&self.options().compaction_filter)
    }

    /// When a value expires that is written now to live for `ttl`, or without one for as long as the
    /// keyspace says; `None`: never.
    #[inline]
    pub fn expiry(&self, ttl: Option<Duration>) -> Option<Time> {
        // Relaxed, as its store: no other data hangs on it.
        match self.ttl.load(Ordering::Relaxed) {
            u64::MAX if ttl.is_none() => None,
            millis => self.expiry_of(ttl.unwrap_or(Duration::from_millis(millis))),
        }
    }

    #[inline(never)]
    fn expiry_of(&self, ttl: Duration) -> Option<Time> {
        self.context.clock.now().after(ttl)
    }

    /// What a point read looks at; held for the read only.
    #[inline]
    pub fn view(&self) -> Guard<Arc<View>> {
        self.views.view()
    }

    /// What an iterator looks at, for as long as it lives.
    pub fn view_owned(&self) -> Arc<View> {
        self.views.view_owned()
    }

    /// Marks the keyspace as dropped. Callers hold the write lock.
    pub fn mark_dropped(&self) {
        // Pairs with the Acquire in `check_open`.
        self.dropped.store(true, Ordering::Release);
    }

    /// True after `mark_dropped`.
    #[inline]
    pub fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    /// Fails with `NotFound` when the keyspace was dropped.
    #[inline]
    pub fn check_open(&self) -> Result<()> {
        if self.is_dropped() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("the keyspace '{}' was dropped", self.name),
            )
            .advice("Open a keyspace of that name again to get a new, empty one."));
        }
        Ok(())
    }

    /// The name of its merge operator; empty when it has none.
    pub fn merge_operator(&self) -> String {
        self.view().folding.name().to_owned()
    }

    /// Gives a keyspace that has no merge operator this one.
    fn give_merge_operator(&self, name: &str) {
        let folding = self.context.merge_operators.folding(name);
        self.views.change(|view| View {
            folding,
            ..view.clone()
        });
    }

    /// Fails when the keyspace has no merge operator.
    pub fn check_takes_merges(&self) -> Result<()> {
        if !self.view().folding.name().is_empty() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the keyspace '{}' has no merge operator",
            self.name
        ))
        .advice("Nothing was written. Give it one: `KeyspaceOptions::merge_operator`."))
    }

    /// The memtable that takes writes, for as long as a caller holds the write lock, which keeps it
    /// from being rotated. Recovery uses the same.
    #[inline]
    pub fn active(&self) -> Active {
        Active(self.views.view())
    }

    /// True when the active memtable should be rotated.
    pub fn is_full(&self) -> bool {
        self.views.view().active.is_full()
    }

    /// True when replay must skip an operation with this number: the tables hold it.
    pub fn is_flushed(&self, seqno: SeqNo) -> bool {
        seqno.get() <= self.flushed_through.load(Ordering::Acquire)
    }

    /// Highest sequence number that tables hold.
    pub fn flushed_through(&self) -> SeqNo {
        SeqNo::new(self.flushed_through.load(Ordering::Acquire))
    }

    pub(super) fn raise_flushed_through(&self, to: SeqNo) {
        // Pairs with the Acquire loads above.
        self.flushed_through.fetch_max(to.get(), Ordering::AcqRel);
    }

    /// Freezes the active memtable and starts a new one whose first record is in `segment` or
    /// later. Does nothing when it is empty. Callers hold the write lock. True when rotated.
    pub fn rotate(&self, segment: FileId) -> bool {
        self.views.rotate(segment, |full| {
            if full.is_empty() {
                return None;
            }
            let (common_prefix, index_slots) = full.successor_hint();
            let options = MemtableOptions {
                capacity_bytes: self.options().write_buffer_bytes,
                hasher: self.context.hasher,
                common_prefix,
                index_slots,
            };
            Some(Memtable::new(options, &self.context.pool))
        })
    }

    /// Puts the newest version in place, without the memtables in `flushed`.
    pub(super) fn refresh_view(&self, flushed: &[Arc<Memtable>]) {
        self.views
            .refresh(flushed, || self.context.versions.version(self.id));
    }

    /// Forgets all memtables of a dropped keyspace.
    pub fn discard(&self) {
        self.views.discard();
    }

    /// The oldest log segment that holds something only memtables hold; `None`: none does.
    ///
    /// Callers hold the write lock: otherwise a record could be in the log and not yet here.
    pub fn oldest_log(&self) -> Option<FileId> {
        if self.is_dropped() {
            return None;
        }
        self.views.oldest_log(|active| !active.is_empty())
    }

    /// True when some writes are only in memtables and the log.
    pub fn has_unflushed(&self) -> bool {
        let view = self.views.view();
        !self.is_dropped() && (!view.immutables.is_empty() || !view.active.is_empty())
    }

    /// Memtables that wait for their flush.
    pub fn immutables(&self) -> usize {
        self.views.waiting()
    }

    /// True when a memtable with some write up to `through` waits for its flush.
    pub fn has_waiting(&self, through: SeqNo) -> bool {
        let view = self.views.view();
        let mut seqnos = view.immutables.iter().filter_map(|m| m.seqnos());
        seqnos.any(|(first, _)| first <= through)
    }

    /// Bytes of entries in the active memtable.
    pub fn active_bytes(&self) -> u64 {
        self.views.view().active.bytes()
    }

    /// Memory of all memtables.
    pub fn memtable_memory(&self) -> u64 {
        let view = self.views.view();
        view.active.memory() + view.immutables.iter().map(|m| m.memory()).sum::<u64>()
    }

    /// How far the background is behind.
    pub fn pressure(&self) -> Pressure {
        let (view, options) = (self.views.view(), self.options());
        Pressure {
            immutables: view.immutables.len(),
            immutables_max: options.immutables_max as usize,
            active_is_full: view.active.is_full(),
            compaction: policy::debt(&view.version, &options),
        }
    }
}

/// Fails on kinds of operations that only a newer version writes.
///
/// # Errors
/// `Unsupported`.
#[inline]
pub fn check_kind(kind: ValueKind) -> Result<()> {
    match kind {
        ValueKind::DeleteRange => Ok(()),
        kind if kind.is_known() => Ok(()),
        kind => Err(Error::new(
            ErrorKind::Unsupported,
            format!("an operation of kind {kind:?}"),
        )
        .advice("Open the database with the version of alluvium that wrote it.")),
    }
}

/// See [`Tree::active`].
pub struct Active(Guard<Arc<View>>);

impl Active {
    /// Adds one operation; true when the memtable is full now.
    ///
    /// # Errors
    /// `Unsupported` for kinds that only a newer version writes; nothing was added.
    #[inline]
    pub fn apply(&self, operation: &Operation<'_>, hash: u64, seqno: SeqNo) -> Result<bool> {
        let active = &self.0.active;
        if operation.kind.is_plain() || self.prepare(operation, seqno)? {
            let tag = Tag::new(seqno, operation.kind);
            active.insert(operation.key, hash, tag, operation.value);
        }
        Ok(active.is_full())
    }

    /// Does what the kinds that come less often need; true when there is an entry to add then.
    #[cold]
    fn prepare(&self, operation: &Operation<'_>, seqno: SeqNo) -> Result<bool> {
        check_kind(operation.kind)?;
        match operation.kind {
            ValueKind::DeleteRange => {
                self.0.active.delete_range(operation.range(), seqno);
                return Ok(false);
            }
            ValueKind::PutExpiring => self.0.clock.begin_use(),
            _ => {}
        }
        Ok(true)
    }

    /// Brings the index line for `hash` into the cache.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.0.active.prefetch(hash);
    }
}

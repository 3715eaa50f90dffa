//! The switch of memtables: active, waiting, flushed, and the number that makes writes visible.

use super::{fails, holds};
use crate::base::sync::{Arc, Mutex, thread};
use crate::base::types::{FileId, SeqNo};
use crate::db::published::Published;
use crate::tree::switch::{Layers, Switch, is_one_of};
use loom::sync::atomic::{AtomicU64, Ordering};
use std::slice;

/// A memtable of one entry: a number, 0 when empty.
type Cell = AtomicU64;

/// Numbers in memtables and in tables.
struct Toy {
    active: Arc<Cell>,
    waiting: Vec<Arc<Cell>>,
    tables: Vec<u64>,
}

impl Layers for Toy {
    type Memtable = Cell;
    type Version = Vec<u64>;

    fn active(&self) -> &Arc<Cell> {
        &self.active
    }

    fn rotated(&self, active: Arc<Cell>) -> Toy {
        let mut waiting = vec![Arc::clone(&self.active)];
        waiting.extend(self.waiting.iter().cloned());
        Toy {
            active,
            waiting,
            tables: self.tables.clone(),
        }
    }

    fn refreshed(&self, flushed: &[Arc<Cell>], tables: Vec<u64>) -> Toy {
        let stays = |m: &&Arc<Cell>| !is_one_of(m, flushed);
        Toy {
            active: Arc::clone(&self.active),
            waiting: self.waiting.iter().filter(stays).cloned().collect(),
            tables,
        }
    }
}

/// What a mistake of the model is; `None` in the right one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    /// The number is published before the entry is in the memtable.
    PublishesEarly,
    /// The number is read after the view, and then taken for what the view must hold.
    NumberAfterView,
    /// The version is asked for before the switch is locked.
    OldVersion,
    /// The memtable leaves the view before its table is in the version.
    Gap,
}

struct World {
    switch: Switch<Toy>,
    published: Published,
    /// The truth about tables: what the version set is to a tree.
    tables: Mutex<Vec<u64>>,
    mistake: Mistake,
}

impl World {
    fn new(mistake: Mistake) -> Arc<World> {
        let view = Toy {
            active: Arc::default(),
            waiting: Vec::new(),
            tables: Vec::new(),
        };
        Arc::new(World {
            switch: Switch::new(view, FileId(0)),
            published: Published::new(SeqNo::new(0)),
            tables: Mutex::default(),
            mistake,
        })
    }

    /// A write under the write lock: rotate what is full, insert, publish.
    fn write(&self, number: u64) {
        // Relaxed in a memtable: the number's Release and Acquire must be enough.
        self.switch.rotate(FileId(number), |full| {
            (full.load(Ordering::Relaxed) != 0).then(Cell::default)
        });
        if self.mistake == Mistake::PublishesEarly {
            self.published.publish(SeqNo::new(number));
        }
        let view = self.switch.view();
        view.active.store(number, Ordering::Relaxed);
        if self.mistake != Mistake::PublishesEarly {
            self.published.publish(SeqNo::new(number));
        }
    }

    fn flush(&self) {
        let Some((memtable, _)) = self.switch.oldest_waiting() else {
            return;
        };
        let number = memtable.load(Ordering::Relaxed);
        if self.mistake == Mistake::Gap {
            let before = || Some(self.tables.lock().clone());
            self.switch.refresh(slice::from_ref(&memtable), before);
        }
        self.tables.lock().push(number);
        self.refresh(slice::from_ref(&memtable));
    }

    /// A compaction: puts all numbers into one table, which is the same as none changing.
    fn compact(&self) {
        self.refresh(&[]);
    }

    fn refresh(&self, flushed: &[Arc<Cell>]) {
        let newest = || Some(self.tables.lock().clone());
        if self.mistake == Mistake::OldVersion {
            let old = newest();
            self.switch.refresh(flushed, || old);
        } else {
            self.switch.refresh(flushed, newest);
        }
    }

    /// Every number up to the visible one is in the view. Once, or in a memtable *and* its table: a
    /// compaction that ends between a flush's edit and its refresh shows both, which say the same.
    fn read(&self) {
        let mut at = self.published.visible();
        let view = self.switch.view_owned();
        if self.mistake == Mistake::NumberAfterView {
            at = self.published.visible();
        }
        let memtables = std::iter::once(&view.active).chain(&view.waiting);
        let mut found: Vec<u64> = memtables.map(|m| m.load(Ordering::Relaxed)).collect();
        found.extend(&view.tables);
        for number in 1..=at.get() {
            assert!(found.contains(&number), "{number} of {at:?} in {found:?}");
        }
    }
}

/// A writer that rotates, a flush and a reader.
fn written_and_flushed(mistake: Mistake) {
    let world = World::new(mistake);
    world.write(1);
    world.write(2);
    let writer = {
        let world = Arc::clone(&world);
        thread::spawn(move || world.write(3))
    };
    let flusher = {
        let world = Arc::clone(&world);
        thread::spawn(move || world.flush())
    };
    world.read();
    writer.join().expect("the writer returns");
    flusher.join().expect("the flush returns");
    world.read();
}

/// A flush and a compaction that ends at the same time, and a reader.
fn flushed_and_compacted(mistake: Mistake) {
    let world = World::new(mistake);
    world.write(1);
    world.write(2);
    let flusher = {
        let world = Arc::clone(&world);
        thread::spawn(move || world.flush())
    };
    let compaction = {
        let world = Arc::clone(&world);
        thread::spawn(move || world.compact())
    };
    world.read();
    flusher.join().expect("the flush returns");
    compaction.join().expect("the compaction returns");
    world.read();
}

#[test]
fn models_memtables_are_switched_without_a_gap() {
    holds("memtable switch: write, flush, read", || {
        written_and_flushed(Mistake::None)
    });
    holds("memtable switch: flush, compaction, read", || {
        flushed_and_compacted(Mistake::None)
    });
    for mistake in [
        Mistake::PublishesEarly,
        Mistake::NumberAfterView,
        Mistake::Gap,
    ] {
        fails(&format!("{mistake:?}"), move || {
            written_and_flushed(mistake)
        });
    }
    fails("OldVersion", || flushed_and_compacted(Mistake::OldVersion));
}

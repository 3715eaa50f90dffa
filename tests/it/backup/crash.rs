//! The power goes at any call of a backup, a removal or a restore.

use super::{
    Contents, RESTORED, all, backups, destroy_restored, files, fill, open, options, restored,
};
use crate::support::ROOT;
use alluvium::fs::Fs;
use alluvium::fs::sim::{Family, SimFs};
use alluvium::{BackupDirectory, Db, ErrorKind};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;

/// The world in which the calls of one operation are cut off.
pub(super) struct Scene {
    sim: SimFs,
    pub(super) db: Db,
    backups: BackupDirectory,
    kept: BTreeMap<u64, Contents>,
}

/// Two points in time, and something new.
pub(super) fn scene(seed: u64) -> Scene {
    let sim = SimFs::new(seed);
    let db = open(&sim, ROOT);
    let backups = backups(&sim);
    let mut kept = BTreeMap::new();
    for round in 0..2 {
        fill(&db, round * 15, round * 15 + 15);
        let id = backups.create(&db).unwrap().backup.id;
        kept.insert(id, all(&db));
    }
    fill(&db, 50, 55);
    db.flush().unwrap();
    Scene {
        sim,
        db,
        backups,
        kept,
    }
}

/// Every point that is listed is whole and one that was made; those in `must` are.
fn check(sim: &SimFs, what: &str, scene: &Scene, must: &[u64], may: &[u64]) {
    let directory = backups(sim);
    let found = directory.list().unwrap();
    let found: Vec<u64> = found
        .into_iter()
        .map(|info| info.unwrap_or_else(|e| panic!("{what}: {e}")).id)
        .collect();
    assert!(
        must.iter().all(|id| found.contains(id)),
        "{what}: {found:?}"
    );
    for &id in &found {
        assert!(must.contains(&id) || may.contains(&id), "{what}: {found:?}");
        let problems = directory.verify(id).unwrap().problems;
        assert!(problems.is_empty(), "{what}: {id}: {problems:?}");
    }
    if let Some(&id) = found.last() {
        let copy = restored(sim, &directory, id).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(all(&copy) == scene.kept[&id], "{what}: {id}");
        destroy_restored(sim, copy);
    }
    // The next one works, and sweeps.
    let db = open(sim, ROOT);
    let next = directory
        .create(&db)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    directory.keep_newest(1).unwrap();
    let left = files(sim);
    let expected = 3 + next.backup.tables as usize;
    assert_eq!(left.len(), expected, "{what}: {:?}", left.keys());
}

#[test]
fn power_loss_at_any_call_of_a_backup_leaves_the_earlier_points_whole() {
    let mut scene = scene(9);
    scene.kept.insert(3, all(&scene.db));
    let moments = watched(&scene.sim, || {
        drop(scene.backups.create(&scene.db).unwrap())
    });
    assert!(15 < moments.len(), "{}", moments.len());
    let mut made = 0;
    for (index, moment) in moments.iter().enumerate() {
        for image in moment.images(&Family::ALL) {
            let is_done = index + 1 == moments.len();
            let must: &[u64] = if is_done { &[1, 2, 3] } else { &[1, 2] };
            made += usize::from(files(&image.sim).contains_key("000003.point"));
            check(&image.sim, &image.id.to_string(), &scene, must, &[3]);
        }
    }
    assert!(1 < made, "{made}");
}

#[test]
fn power_loss_at_any_call_of_a_removal_leaves_the_others_whole() {
    let scene = scene(10);
    scene.db.compact().unwrap();
    scene.backups.create(&scene.db).unwrap();
    let mut scene = scene;
    scene.kept.insert(3, all(&scene.db));
    let moments = watched(&scene.sim, || scene.backups.remove(2).unwrap());
    assert!(4 < moments.len(), "{}", moments.len());
    for (index, moment) in moments.iter().enumerate() {
        for image in moment.images(&Family::ALL) {
            let is_done = index + 1 == moments.len();
            let may: &[u64] = if is_done { &[] } else { &[2] };
            check(&image.sim, &image.id.to_string(), &scene, &[1, 3], may);
        }
    }
}

#[test]
fn power_loss_at_any_call_of_a_restore_leaves_the_whole_database_or_none() {
    let scene = scene(11);
    let moments = watched(&scene.sim, || {
        drop(scene.backups.restore(2, RESTORED).unwrap())
    });
    let (mut whole, mut unfinished) = (0, 0);
    for (index, moment) in moments.iter().enumerate() {
        for image in moment.images(&Family::ALL) {
            let (sim, id) = (&image.sim, image.id);
            let fs = Fs::sim(sim, Path::new(RESTORED));
            let found = options().create_if_missing(false).open_in(fs);
            match found {
                Ok(copy) => {
                    whole += 1;
                    assert!(all(&copy) == scene.kept[&2], "{id}");
                }
                Err(error) => {
                    assert!(index + 1 < moments.len(), "{id}: it was done");
                    unfinished += usize::from(error.kind() == ErrorKind::Unfinished);
                    let refused = [ErrorKind::Unfinished, ErrorKind::NotFound];
                    assert!(refused.contains(&error.kind()), "{id}: {error}");
                    let copy = restored(sim, &backups(sim), 2).unwrap();
                    assert!(all(&copy) == scene.kept[&2], "{id}");
                }
            }
        }
    }
    assert!(5 < whole && 20 < unfinished, "{whole}, {unfinished}");
}

/// The machine before each call that `act` makes, and behind the last.
fn watched(sim: &SimFs, act: impl FnOnce()) -> Vec<SimFs> {
    let (copies, moments) = mpsc::channel();
    sim.on_call(move |_, machine| copies.send(machine).unwrap());
    act();
    let last = sim.kill();
    sim.on_call(|_, _| {});
    moments.try_iter().chain([last]).collect()
}

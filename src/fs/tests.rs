//! The disk and the simulator give the same results and errors for the same script, so that what
//! is proved on one holds on the other.

use super::name::FileName;
use super::sim::SimFs;
use super::{File, Fs};
use crate::base::error::Result;
use crate::base::types::FileId;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    OpenRead(u8),
    OpenWrite(u8),
    Write(Vec<u8>, u16),
    Read(u16, u16),
    Truncate(u16),
    Preallocate(u16),
    Map(u16),
    Store(u16),
    Sync,
    SyncDir,
    Rename(u8, u8),
    Remove(u8),
    Link(u8, u8),
    List,
    Lock,
    MakeRoot,
    RemoveRoot,
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let (file, size) = (0..4u8, 0..2000u16);
    prop_oneof![
        3 => file.clone().prop_map(Create),
        1 => file.clone().prop_map(OpenRead),
        2 => file.clone().prop_map(OpenWrite),
        4 => (prop::collection::vec(any::<u8>(), 0..40), size.clone()).prop_map(|(b, o)| Write(b, o)),
        2 => (size.clone(), 0..100u16).prop_map(|(o, n)| Read(o, n)),
        1 => size.clone().prop_map(Truncate),
        1 => size.clone().prop_map(Preallocate),
        1 => size.clone().prop_map(Map),
        1 => size.prop_map(Store),
        1 => Just(Sync),
        1 => Just(SyncDir),
        2 => (file.clone(), file.clone()).prop_map(|(a, b)| Rename(a, b)),
        2 => file.clone().prop_map(Remove),
        1 => (file.clone(), file).prop_map(|(a, b)| Link(a, b)),
        2 => Just(List),
        1 => Just(Lock),
        1 => Just(MakeRoot),
        1 => Just(RemoveRoot),
    ]
}

fn name(n: u8) -> FileName {
    FileName::Log(FileId(u64::from(n)))
}

/// What one step did, as text in which the two file systems must agree.
fn run(fs: &Fs, open: &mut Option<File>, step: &Step) -> String {
    let text = |r: Result<String>| match r {
        Ok(text) => text,
        Err(e) => format!("{:?} {}", e.kind(), e.what()),
    };
    let opened = |open: &mut Option<File>, r: Result<File>| match r {
        Ok(file) => {
            *open = Some(file);
            "opened".to_owned()
        }
        Err(e) => format!("{:?} {}", e.kind(), e.what()),
    };
    let done = |r: Result<()>| text(r.map(|()| "done".to_owned()));
    match (step, &*open) {
        (Step::Create(n), _) => opened(open, fs.create_new(name(*n))),
        (Step::OpenRead(n), _) => opened(open, fs.open_read(name(*n))),
        (Step::OpenWrite(n), _) => opened(open, fs.open_write(name(*n))),
        (Step::SyncDir, _) => done(fs.sync_dir()),
        (Step::Rename(a, b), _) => done(fs.rename(name(*a), name(*b))),
        (Step::Remove(n), _) => done(fs.remove(name(*n))),
        (Step::Link(a, b), _) => text(fs.link(name(*a), fs, name(*b)).map(|l| l.to_string())),
        (Step::List, _) => text(fs.list().map(|l| format!("{l:?}"))),
        (Step::Lock, _) => text(fs.lock().map(|_one| {
            let two = fs.lock().map_err(|e| e.kind());
            format!("locked, then {two:?}")
        })),
        (Step::MakeRoot, _) => done(fs.make_root()),
        (Step::RemoveRoot, _) => done(fs.remove_root()),
        (_, None) => "no file".to_owned(),
        (Step::Write(bytes, at), Some(file)) => done(file.write_all_at(bytes, u64::from(*at))),
        (Step::Read(at, n), Some(file)) => {
            let mut buffer = vec![0; usize::from(*n)];
            let read = file.read_exact_at(&mut buffer, u64::from(*at));
            text(read.map(|()| format!("{buffer:?}")))
        }
        (Step::Truncate(n), Some(file)) => done(file.truncate(u64::from(*n))),
        (Step::Preallocate(n), Some(file)) => done(file.preallocate(u64::from(*n))),
        (Step::Map(n), Some(file)) => text(file.map(u64::from(*n)).map(|region| {
            let block = region.block(u64::from(*n / 2), 9).map_err(|e| e.kind());
            format!("{block:?}")
        })),
        (Step::Store(n), Some(file)) => text(file.map_log(u64::from(*n)).map(|mut log| {
            log.store(u64::from(n / 2), &[7; 1][..usize::from(*n > 0)]);
            format!("{} bytes", log.len())
        })),
        (Step::Sync, Some(file)) => done(file.sync_data()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_disk_and_the_simulator_agree_on_every_step(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let base = super::disk::scratch("parity");
        let root = base.path().join("db");
        let (disk, sim) = (Fs::os(&root), Fs::sim(&SimFs::new(0), &root));
        let (mut on_disk, mut in_sim) = (None, None);
        for step in std::iter::once(&Step::MakeRoot).chain(&steps) {
            prop_assert_eq!(
                run(&disk, &mut on_disk, step),
                run(&sim, &mut in_sim, step),
                "{:?}", step
            );
        }
        prop_assert_eq!(disk.root_exists().unwrap(), sim.root_exists().unwrap());
    }
}

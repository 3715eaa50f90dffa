//! What the disk promises: private files, no links followed, one opener, and lengths checked before
//! anything is mapped or allocated.

use super::*;
use crate::base::error::{Error, ErrorKind};
use crate::base::types::FileId;
use crate::fs::{Fs, region::Advice};

const TABLE: FileName = FileName::Table(FileId(7));
const LOG: FileName = FileName::Log(FileId(8));

fn db(scratch: &Scratch) -> Fs {
    let fs = Fs::os(&scratch.0.join("db"));
    fs.make_root().unwrap();
    fs
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn bytes_written_are_read_mapped_and_listed() {
    let scratch = scratch("disk");
    let fs = db(&scratch);
    let file = fs.create_new(TABLE).unwrap();
    file.write_all_at(b"sediment", 0).unwrap();
    file.write_all_at(b"ary", 8).unwrap();
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    fs.sync_dir().unwrap();
    file.start_write_back(0, 4096);

    let file = fs.open_read(TABLE).unwrap();
    assert_eq!(file.len().unwrap(), 11);
    let mut five = [0; 5];
    file.read_exact_at(&mut five, 6).unwrap();
    assert_eq!(&five, b"ntary");
    for region in [file.map(11).unwrap(), file.read_region(11).unwrap()] {
        region.advise(Advice::Random);
        region.advise(Advice::Sequential);
        region.advise(Advice::WillNeed(3, u64::MAX));
        region.populate();
        assert_eq!(region.block(0, 11).unwrap(), b"sedimentary");
        assert_eq!(region.block(11, 0).unwrap(), b"");
        assert_eq!(region.whole_block(1, 10).unwrap(), b"edimentary");
        assert_eq!(region.whole_block(11, 0).unwrap(), b"");
        let outside = region.whole_block(1, 11).unwrap_err();
        assert_eq!(outside.kind(), ErrorKind::Corruption, "{outside}");
    }
    let listed = fs.list().unwrap();
    assert_eq!((listed[0].name.as_str(), listed[0].len), ("000007.tbl", 11));
}

#[test]
fn a_mapped_log_is_read_back_by_calls_and_outlives_its_region() {
    let scratch = scratch("disk");
    let fs = db(&scratch);
    let file = fs.create_new(LOG).unwrap();
    if let Err(e) = file.preallocate(1 << 16) {
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        file.truncate(1 << 16).unwrap();
    }
    assert_eq!(file.len().unwrap(), 1 << 16);
    let mut log = file.map_log(1 << 16).unwrap();
    let populator = log.populator();
    std::thread::spawn(move || populator.populate(4096, u64::MAX))
        .join()
        .unwrap();
    log.store(4090, b"header and payload");
    log.store((1 << 16) - 4, b"tail");
    drop(log);
    let region = file.read_region(1 << 16).unwrap();
    assert_eq!(region.block(4090, 18).unwrap(), b"header and payload");
    assert_eq!(region.block((1 << 16) - 4, 4).unwrap(), b"tail");
}

#[test]
#[should_panic(expected = "beyond the end of a mapped log")]
fn a_store_beyond_the_end_of_the_log_never_happens() {
    let scratch = scratch("disk");
    let file = db(&scratch).create_new(LOG).unwrap();
    file.truncate(4096).unwrap();
    file.map_log(4096).unwrap().store(4090, b"1234567");
}

#[test]
fn files_are_private_and_made_exclusively() {
    let scratch = scratch("disk");
    let fs = db(&scratch);
    fs.create_new(TABLE).unwrap();
    let _lock = fs.lock().unwrap();
    assert_eq!(mode(fs.root()), 0o700);
    assert_eq!(mode(&fs.path(TABLE)), 0o600);
    assert_eq!(mode(&fs.path(FileName::Lock)), 0o600);
    let error = fs.create_new(TABLE).unwrap_err();
    assert!(error.to_string().starts_with("create failed"), "{error}");
    assert_eq!(error.file(), Some(&*fs.path(TABLE)));
}

#[test]
fn the_umask_changes_nothing() {
    // The umask belongs to the process, so the test above runs again in a process of its own:
    // once where everybody may do everything, once where the owner may not even write.
    for umask in ["0000", "0277"] {
        let run = std::process::Command::new("sh")
            .args(["-c", "umask $0; exec \"$1\" --exact \"$2\""])
            .args([umask.as_ref(), std::env::current_exe().unwrap().as_os_str()])
            .arg("fs::disk::tests::files_are_private_and_made_exclusively")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(
            run.status.success() && text.contains("1 passed"),
            "{umask}: {text}"
        );
    }
}

#[test]
fn links_directories_and_pipes_are_not_opened() {
    let scratch = scratch("disk");
    let fs = db(&scratch);
    let target = scratch.0.join("secret");
    fs::write(&target, b"keep").unwrap();
    std::os::unix::fs::symlink(&target, fs.path(TABLE)).unwrap();
    fs::create_dir(fs.path(LOG)).unwrap();
    for name in [TABLE, LOG] {
        assert!(fs.open_read(name).is_err());
        assert!(fs.open_write(name).is_err());
        assert!(fs.create_new(name).is_err());
    }
    std::os::unix::fs::symlink(&target, fs.path(FileName::Lock)).unwrap();
    assert_eq!(fs.lock().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(fs::read(&target).unwrap(), b"keep");
    let lens: Vec<u64> = fs.list().unwrap().into_iter().map(|e| e.len).collect();
    assert_eq!(lens, [0, 0, 0], "only regular files have a size");
}

#[test]
fn a_file_shorter_than_the_manifest_says_is_corrupt_before_anything_is_allocated() {
    let scratch = scratch("disk");
    let fs = db(&scratch);
    let file = fs.create_new(TABLE).unwrap();
    file.write_all_at(b"short", 0).unwrap();
    let errors: [Error; 4] = [
        file.map(u64::MAX).unwrap_err(),
        file.map_log(6).unwrap_err(),
        file.read_region(1 << 60).unwrap_err(),
        file.read_exact_at(&mut [0; 3], 3).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert_eq!(error.file(), Some(&*fs.path(TABLE)));
    }
}

#[test]
fn a_locked_directory_is_refused_through_every_alias_and_stays_locked() {
    let scratch = scratch("disk");
    let fs = db(&scratch);
    let alias = scratch.0.join("alias");
    std::os::unix::fs::symlink(fs.root(), &alias).unwrap();
    let lock = fs.lock().unwrap();
    for other in [fs.root(), &alias, &scratch.0.join("db/../db")] {
        let error = fs.at(other).lock().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    }
    // The refusals above must not have released it, as closing an fcntl lock's file would.
    let stranger = OpenOptions::new().write(true).open(fs.path(FileName::Lock));
    assert!(stranger.unwrap().try_lock().is_err());
    drop(lock);
    fs.at(&alias).lock().unwrap();
    assert!(fs.path(FileName::Lock).exists(), "LOCK is never deleted");
}

#[test]
fn a_lock_of_another_process_is_respected_and_goes_with_it() {
    let scratch = scratch("disk");
    let fs = db(&scratch);
    drop(fs.lock().unwrap());
    // Another open file description is to the kernel what another process is.
    let other = OpenOptions::new().write(true).open(fs.path(FileName::Lock));
    let other = other.unwrap();
    other.try_lock().unwrap();
    let error = fs.lock().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert_eq!(error.file(), Some(&*fs.path(FileName::Lock)));
    drop(other);
    fs.lock().unwrap();
}

#[test]
fn a_lock_held_through_another_name_of_the_lock_file_is_seen() {
    let scratch = scratch("disk");
    let (one, two) = (db(&scratch), Fs::os(&scratch.0.join("two")));
    two.make_root().unwrap();
    let _lock = one.lock().unwrap();
    fs::hard_link(one.path(FileName::Lock), two.path(FileName::Lock)).unwrap();
    assert_eq!(two.lock().unwrap_err().kind(), ErrorKind::Locked);
}

#[test]
fn missing_parents_are_made_and_a_directory_goes_only_when_empty() {
    let scratch = scratch("disk");
    let fs = Fs::os(&scratch.0.join("a/b/c"));
    assert!(!fs.root_exists().unwrap());
    assert_eq!(fs.list().unwrap_err().kind(), ErrorKind::NotFound);
    fs.make_root().unwrap();
    fs.make_root().unwrap();
    assert_eq!(mode(&scratch.0.join("a")), 0o700);
    drop(fs.lock().unwrap());
    fs.create_new(TABLE).unwrap();
    assert!(fs.remove_root().is_err());
    assert!(fs.path(FileName::Lock).exists(), "a refusal keeps LOCK");
    fs.remove(TABLE).unwrap();
    assert_eq!(fs.remove(TABLE).unwrap_err().kind(), ErrorKind::NotFound);
    fs.remove_root().unwrap();
    assert!(!fs.root_exists().unwrap());
}

#[test]
fn a_hard_link_shares_the_file_and_a_rename_replaces_it() {
    let scratch = scratch("disk");
    let fs = db(&scratch);
    let copy = fs.at(&scratch.0.join("copy"));
    copy.make_root().unwrap();
    fs.create_new(TABLE).unwrap().write_all_at(b"x", 0).unwrap();
    assert!(fs.link(TABLE, &copy, TABLE).unwrap());
    assert!(fs.link(TABLE, &copy, TABLE).is_err(), "it exists");
    fs.remove(TABLE).unwrap();
    assert_eq!(copy.open_read(TABLE).unwrap().len().unwrap(), 1);
    copy.create_new(LOG).unwrap();
    copy.rename(TABLE, LOG).unwrap();
    assert_eq!(copy.open_read(LOG).unwrap().len().unwrap(), 1);
    assert_eq!(copy.list().unwrap().len(), 1);
}

#[test]
fn the_disk_says_what_it_has_and_chance_does_not_repeat() {
    let scratch = scratch("disk");
    let fs = db(&scratch);
    assert!(fs.free_space().unwrap() > 0);
    assert_ne!(fs.random(), fs.random());
    // Asked before the directory exists, the answer is that of the place where it will be.
    let later = Fs::os(&scratch.0.join("not/yet"));
    assert_eq!(
        later.guarantees_preallocation(),
        fs.guarantees_preallocation()
    );
}

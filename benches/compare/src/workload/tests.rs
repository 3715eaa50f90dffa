//! Every workload believes an engine that works and refuses one that lies.

use super::reopen::Fill;
use super::*;

/// An engine that loses what it is told: every proof must notice.
struct Liar;
impl Engine for Liar {
    const MERGES: bool = true;
    const EXPIRES: bool = true;
    const TRANSACTS: bool = true;

    fn open(_: &std::path::Path, _: &Settings) -> Result<Self> {
        Ok(Liar)
    }
    fn put(&self, _: &[u8], _: &[u8], _: bool) -> Result<()> {
        Ok(())
    }
    fn put_batch<V: AsRef<[u8]>>(&self, _: &[(Key, V)]) -> Result<()> {
        Ok(())
    }
    fn delete(&self, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn add(&self, _: &[u8], _: i64) -> Result<()> {
        Ok(())
    }
    fn transfer(&self, _: &[u8], _: &[u8], _: u64) -> Result<()> {
        Ok(())
    }
    fn get<T>(&self, _: &[u8], read: impl FnOnce(Option<&[u8]>) -> T) -> Result<T> {
        Ok(read(Some(b"something")))
    }
    fn scan(&self, _: Start<'_>, _: u64, _: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        Ok(0)
    }
    fn settle(&self) -> Result<()> {
        Ok(())
    }
    fn close(self) -> Result<()> {
        Ok(())
    }
}

pub const TINY: Scale = Scale {
    keys: 2_000,
    synced_writes: 10,
    memory_mib: None,
};

/// What the process that fills a store finds its task in.
const FILL: &str = "COMPARE_TEST_FILL";

/// This test binary again, running nothing but `fill_for_another_process`.
fn filler(engine: &str, name: &str, directory: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let test = "workload::tests::fill_for_another_process";
    command
        .args(["--exact", test, "--nocapture"])
        .env(FILL, format!("{engine}\t{name}\t{}", directory.display()));
    Ok(command)
}

/// Not a test of its own: what tests that open a store again run in another process.
#[test]
fn fill_for_another_process() {
    let Ok(task) = std::env::var(FILL) else {
        return; // Not that process.
    };
    let fields: Vec<&str> = task.split('\t').collect();
    let [engine, name, directory] = fields[..] else {
        panic!("not a task: {task}");
    };
    let work = Fill {
        directory: Path::new(directory),
        scale: TINY,
        name,
    };
    crate::engine::with(engine, work).unwrap();
}

pub fn run_in<E: Engine>(place: &Path, engine: &str, name: &str) -> Result<Vec<Figure>> {
    run::<E>(&Task {
        name,
        directory: place,
        scale: TINY,
        filler: &|| filler(engine, name, place),
    })
}

#[test]
fn no_workload_believes_an_engine_that_lies() {
    // Its stores are filled by an honest engine, for it could not even begin.
    let place = std::env::temp_dir().join(format!("compare-test-{}-liar", std::process::id()));
    for name in NAMES {
        let answer = run_in::<Liar>(&place, "lmdb", name);
        let error = answer.expect_err(&format!("{name} believed a liar"));
        assert!(!error.to_string().contains("ended with"), "{name}: {error}");
        drop(std::fs::remove_dir_all(&place));
    }
}

/// The limit that an engine is said to have is the one it has.
#[test]
fn a_key_longer_than_lmdb_says_is_refused_by_it() {
    type Lmdb = crate::engine::lmdb::Lmdb;
    let place = std::env::temp_dir().join(format!("compare-test-{}-keys", std::process::id()));
    let engine = Lmdb::open(&place, &TINY.settings(forms::LONG)).unwrap();
    let key = [7; Lmdb::KEY_BYTES_MAX + 1];
    engine.put(&key[1..], b"value", false).unwrap();
    engine.put(&key, b"value", false).unwrap_err();
    engine.close().unwrap();
    std::fs::remove_dir_all(&place).unwrap();
}

fn every_workload_is_content_with<E: Engine>(engine: &str) {
    let place = format!("compare-test-{}-{engine}", std::process::id());
    let place = std::env::temp_dir().join(place);
    for name in NAMES {
        match run_in::<E>(&place, engine, name) {
            Ok(figures) => assert!(figures.iter().all(|f| f.operations > 0), "{name}"),
            Err(error) => {
                assert!(error.is::<Unsupported>(), "{name}: {error}");
                let known = match *name {
                    forms::LONG => engine == "lmdb",
                    counters::NAME => ["fjall", "lmdb", "redb"].contains(&engine),
                    ranges::NAME | expiring::NAME => !["alluvium", "rocksdb"].contains(&engine),
                    _ => false,
                };
                assert!(known, "{engine}: {name}");
            }
        }
        std::fs::remove_dir_all(&place).unwrap();
    }
}

/// One test for each engine, so that they run beside each other and fail by name.
mod every_workload_is_content_with_an_engine_that_works {
    use super::every_workload_is_content_with as check;
    use crate::engine;

    #[cfg(feature = "alluvium")]
    #[test]
    fn alluvium() {
        check::<engine::alluvium::Alluvium>("alluvium");
    }

    #[test]
    fn fjall() {
        check::<engine::fjall::Fjall>("fjall");
    }

    #[test]
    fn lmdb() {
        check::<engine::lmdb::Lmdb>("lmdb");
    }

    #[test]
    fn redb() {
        check::<engine::redb::Redb>("redb");
    }

    #[test]
    fn rocksdb() {
        check::<engine::rocksdb::RocksDb>("rocksdb");
    }

    #[test]
    fn sled() {
        check::<engine::sled::Sled>("sled");
    }
}

#[test]
fn settings_follow_from_a_memory_limit_and_what_a_workload_keeps_does_not_count_in_it() {
    let limited = Scale {
        keys: 2_000_000,
        memory_mib: Some(64),
        ..TINY
    };
    for name in NAMES {
        let settings = limited.settings(name);
        assert!(settings.memory_is_limited);
        assert!(settings.write_buffer_bytes <= 4 << 20, "{name}");
        assert_eq!(settings.cache_bytes, 16 << 20);
        assert!(limited.limit_bytes(name) >= Some(64 << 20), "{name}");
        assert_eq!(TINY.limit_bytes(name), None);
    }
    assert_eq!(limited.limit_bytes("scan forward"), Some(64 << 20));
    let seek = limited.limit_bytes("seek and next 10");
    assert_eq!(seek, Some((64 << 20) + 32_000_000));
}

#[test]
fn the_permutation_visits_every_index_once() {
    for keys in [
        1_000, 2_000, 200_000, 500_000, 1_000_000, 2_000_000, 4_000_000,
    ] {
        let mut seen = vec![false; keys as usize];
        (0..keys).for_each(|i| seen[permuted(i, keys) as usize] = true);
        assert!(seen.into_iter().all(|s| s));
    }
}

//! A background thread that panics: nobody waits for it, and everybody is told.

use super::super::{Db, State};
use super::*;
use crate::base::error::ErrorKind;
use crate::base::options::{KeyspaceOptions, Options};
use crate::base::types::SeqNo;
use crate::fs::Fs;
use crate::fs::sim::SimFs;
use std::path::Path;
use std::sync::mpsc::channel;

/// fjall #157, #296: the thread behind panicked, and writers waited for it for ever.
#[test]
fn bug_78_when_a_worker_panics_writers_flushes_and_compactions_are_told() {
    let sim = SimFs::new(78);
    let fs = Fs::sim(&sim, Path::new("/db"));
    let small = KeyspaceOptions::new()
        .write_buffer_bytes(4 << 10)
        .immutables_max(1);
    let options = Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(64 << 10)
        .background_threads(1)
        .default_keyspace(small);
    let db = options.clone().open_in(fs).unwrap();
    db.put("k", "v").unwrap();
    // A snapshot of what was never written: every job asserts that there is none.
    let future = db.engine().snapshots.register(|| SeqNo::MAX);
    let (told, answers) = channel();
    let waits: [fn(&Db) -> Error; 4] = [
        |db| db.flush().expect_err("no memtable reaches a table"),
        |db| db.compact().expect_err("no table is made"),
        |db| {
            // Until a full memtable waits for its flush, and then the writer.
            let writes = (0u32..).map(|n| db.put(n.to_be_bytes(), [7; 200]));
            writes.filter_map(Result::err).next().expect("writes end")
        },
        |db| {
            let waiting = (0..).map(|_| db.state()).find_map(|state| match state {
                State::Ok => {
                    std::thread::sleep(Duration::from_millis(1));
                    None
                }
                State::ReadOnly(cause) | State::Fatal(cause) => Some(cause),
            });
            waiting.expect("the state is known")
        },
    ];
    let callers = waits.len();
    for wait in waits {
        let (db, told) = (db.clone(), told.clone());
        // Not scoped: a caller that waits for ever must fail this test and not hold it up.
        std::thread::spawn(move || told.send(wait(&db)));
    }
    for _ in 0..callers {
        let answer = answers.recv_timeout(Duration::from_secs(30));
        let error = answer.expect("every caller gets its answer");
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    assert!(matches!(db.state(), State::Fatal(_)));
    assert_eq!(db.get("k").unwrap().unwrap(), b"v", "reads go on");
    drop(future);
    let (closed, answer) = channel();
    std::thread::spawn(move || closed.send(db.close()));
    let answer = answer.recv_timeout(Duration::from_secs(30));
    answer.expect("close returns").expect_err("and says why");
    let db = options.open_in(Fs::sim(&sim, Path::new("/db"))).unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), b"v", "nothing is lost");
}

#[test]
fn a_panic_in_the_background_is_fatal_and_lets_nobody_wait() {
    for threads in [0, 2] {
        let fs = Fs::sim(&SimFs::new(1), Path::new("/db"));
        let options = Options::new().background_threads(threads);
        let db = options.log_segment_bytes(64 << 10).open_in(fs).unwrap();
        db.put("k", "v").unwrap();
        guarded(db.engine(), |_| panic!("on purpose"));
        assert!(matches!(db.state(), State::Fatal(_)), "{}", db.state());
        let refused = db.put("k", "w").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnly);
        assert!(!refused.is_retryable());
        let text = refused.to_string();
        assert!(
            text.contains("a thread of the database panicked") && text.contains("open it again"),
            "{text}"
        );
        assert_eq!(db.get("k").unwrap().unwrap(), b"v", "reads go on");
        assert!(db.flush().is_err() && db.sync().is_err() && db.compact().is_err());
        let told = db.close().unwrap_err();
        assert!(told.to_string().contains("panicked"), "R14: {told}");
    }
}

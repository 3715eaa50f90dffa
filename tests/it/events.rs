//! What the background does, told to a listener.

use crate::support::{ROOT, TempDir, quiet_options};
use alluvium::fs::sim::SimFs;
use alluvium::listener::Event;
use alluvium::{Db, ErrorKind, KeyspaceOptions, Options};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What was told, a line each.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn options(&self, options: Options) -> Options {
        let heard = self.clone();
        options.listener(move |event: &Event<'_>| {
            let line = match event {
                Event::Flushed { keyspace, .. } => format!("flushed {keyspace}"),
                Event::Loaded {
                    keyspace, entries, ..
                } => format!("loaded {keyspace} {entries}"),
                Event::Compacted {
                    keyspace, reason, ..
                } => format!("{reason} {keyspace}"),
                Event::WritesSlowed {
                    keyspace, cause, ..
                } => format!("slowed {keyspace} {cause}"),
                Event::WritesStopped { cause, .. } => format!("stopped {:?}", cause.kind()),
                other => format!("{other:?}"),
            };
            heard.0.lock().unwrap().push(line);
        })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn has(&self, start: &str) -> bool {
        let lines = self.0.lock().unwrap();
        lines.iter().any(|line| line.starts_with(start))
    }
}

fn open(sim: &SimFs, heard: &Heard) -> Db {
    let keyspace = KeyspaceOptions::new().level0_runs(64);
    let options = heard.options(quiet_options(keyspace));
    options.open_sim(sim, ROOT).unwrap()
}

#[test]
fn flushes_and_compactions_are_told_with_their_reason() {
    let (sim, heard) = (SimFs::new(1), Heard::default());
    let db = open(&sim, &heard);
    let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
    db.put("k", "v").unwrap();
    orders.put("k", "v").unwrap();
    assert_eq!(heard.take(), [""; 0]);
    db.flush().unwrap();
    let mut flushes = heard.take();
    flushes.sort();
    assert_eq!(flushes, ["flushed default", "flushed orders"]);
    db.put("k", "w").unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!(heard.take(), ["flushed default", "manual default"]);
}

#[test]
fn what_is_told_adds_up_to_the_statistics() {
    let sim = SimFs::new(2);
    let sums = Arc::new(Mutex::new([0; 3]));
    let sum = Arc::clone(&sums);
    let keyspace = KeyspaceOptions::new()
        .write_buffer_bytes(4 << 10)
        .level0_runs(2);
    let options = quiet_options(keyspace).listener(move |event: &Event<'_>| match event {
        Event::Flushed { bytes_written, .. } => sum.lock().unwrap()[0] += bytes_written,
        Event::Compacted {
            bytes_read,
            bytes_written,
            ..
        } => {
            sum.lock().unwrap()[1] += bytes_read;
            sum.lock().unwrap()[2] += bytes_written;
        }
        _ => {}
    });
    let db = options.open_sim(&sim, ROOT).unwrap();
    for n in 0..2_000u32 {
        db.put((n % 500).to_be_bytes(), [n as u8; 40]).unwrap();
    }
    db.flush().unwrap();
    let stats = db.stats();
    let expected = [
        stats.flush_bytes_written,
        stats.compaction_bytes_read,
        stats.compaction_bytes_written,
    ];
    assert_eq!(*sums.lock().unwrap(), expected);
    assert!(expected.iter().all(|bytes| *bytes != 0));
}

#[test]
fn a_load_is_told_for_each_of_its_keyspaces() {
    let (sim, heard) = (SimFs::new(2), Heard::default());
    let db = open(&sim, &heard);
    let other = db.keyspace("other", KeyspaceOptions::new()).unwrap();
    db.put("k", "v").unwrap();
    let mut load = db.ingestion().unwrap();
    load.add(&db, [("a", "1"), ("b", "2")]).unwrap();
    load.add(&other, [("c", "3")]).unwrap();
    load.add(&db, [("d", "4")]).unwrap();
    load.commit().unwrap();
    let told = heard.take();
    assert_eq!(
        told,
        ["flushed default", "loaded default 3", "loaded other 1"]
    );
}

#[test]
fn that_writes_stop_and_that_they_resume_is_told_once_each() {
    let (sim, heard) = (SimFs::new(3), Heard::default());
    let db = open(&sim, &heard);
    db.put("k", "v").unwrap();
    sim.set_free(Some(0));
    assert!(db.flush().is_err());
    for _ in 0..3 {
        assert_eq!(db.put("k", "w").unwrap_err().kind(), ErrorKind::NoSpace);
    }
    assert_eq!(heard.take(), ["stopped NoSpace"]);
    sim.set_free(None);
    sim.advance(Duration::from_secs(5));
    let started = Instant::now();
    while db.put("k", "w").is_err() {
        sim.advance(Duration::from_secs(1));
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{}",
            db.state()
        );
    }
    db.flush().unwrap();
    let heard = heard.take();
    assert!(heard.contains(&"WritesResumed".to_owned()), "{heard:?}");
    assert!(
        !heard.iter().any(|line| line.starts_with("stopped")),
        "{heard:?}"
    );
}

#[test]
fn that_writes_are_slowed_down_and_are_not_any_more_is_told() {
    let (dir, heard) = (TempDir::new("events"), Heard::default());
    let keyspace = KeyspaceOptions::new()
        .write_buffer_bytes(64 << 10)
        .level0_runs(2);
    let options = Options::new()
        .memory_bytes(8 << 20)
        .rate_limit(Some(64 << 10))
        .default_keyspace(keyspace);
    let db = heard.options(options).open(dir.path()).unwrap();
    let started = Instant::now();
    let mut n = 0u32;
    while !heard.has("slowed default") {
        db.put(n.to_be_bytes(), [n as u8; 1000]).unwrap();
        n += 1;
        assert!(started.elapsed() < Duration::from_secs(60), "{n} writes");
    }
    db.set_rate_limit(None).unwrap();
    while !heard.has("WritesFree") {
        std::thread::sleep(Duration::from_millis(5));
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{:?}",
            db.why_stalled()
        );
    }
    db.close().unwrap();
}

#[test]
fn a_listener_that_panics_stops_nobody() {
    let sim = SimFs::new(4);
    let options = quiet_options(KeyspaceOptions::new());
    let options = options.listener(|_: &Event<'_>| panic!("a listener's own"));
    let db = options.open_sim(&sim, ROOT).unwrap();
    db.put("k", "v").unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), b"v");
    assert!(matches!(db.state(), alluvium::State::Ok));
}

/// Events as `tracing` sees them.
#[cfg(feature = "tracing")]
#[test]
fn tracing_hears_what_a_listener_hears() {
    use std::fmt::Write;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Metadata, Subscriber};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<String>>);
    struct Line<'a>(&'a mut String);
    impl Visit for Line<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            write!(self.0, " {field}={value:?}").unwrap();
        }
    }
    impl Subscriber for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "alluvium"
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            let mut lines = self.0.lock().unwrap();
            write!(lines, "{}", event.metadata().level()).unwrap();
            event.record(&mut Line(&mut lines));
            lines.push('\n');
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let sim = SimFs::new(5);
        let options = quiet_options(KeyspaceOptions::new()).listener(alluvium::listener::Tracing);
        let db = options.open_sim(&sim, ROOT).unwrap();
        db.put("k", "v").unwrap();
        db.flush().unwrap();
        db.compact().unwrap();
        db.put("k", "w").unwrap();
        sim.set_free(Some(0));
        assert!(db.flush().is_err());
        assert!(db.put("k", "w").is_err());
    });
    let lines = lines.0.lock().unwrap();
    assert!(
        lines.contains("DEBUG message=flushed keyspace=\"default\""),
        "{lines}"
    );
    assert!(
        lines.contains("message=compacted") && lines.contains("reason=\"manual\""),
        "{lines}"
    );
    assert!(
        lines.contains("WARN message=no writes are taken cause=write failed: No space"),
        "{lines}"
    );
}

/// Events as `metrics` counts them.
#[cfg(feature = "metrics")]
#[test]
fn metrics_count_what_a_listener_hears() {
    use metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Figures(Mutex<BTreeMap<String, Arc<AtomicU64>>>);
    impl Figures {
        fn of(&self, key: &Key) -> Arc<AtomicU64> {
            let labels: Vec<_> = key.labels().map(|it| it.value().to_owned()).collect();
            let name = format!("{} {}", key.name(), labels.join(" "));
            Arc::clone(self.0.lock().unwrap().entry(name).or_default())
        }
        fn get(&self, name: &str) -> u64 {
            self.0.lock().unwrap()[name].load(Ordering::Relaxed)
        }
    }
    impl Recorder for Figures {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.of(key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.of(key))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    let figures = Figures::default();
    metrics::with_local_recorder(&figures, || {
        let sim = SimFs::new(6);
        let options = quiet_options(KeyspaceOptions::new()).listener(alluvium::listener::Metrics);
        let db = options.open_sim(&sim, ROOT).unwrap();
        for value in ["v", "w"] {
            db.put("k", value).unwrap();
            db.flush().unwrap();
        }
        db.compact().unwrap();
        let stats = db.stats();
        assert_eq!(figures.get("alluvium.flushes default"), 2);
        let flushed = figures.get("alluvium.flush.bytes_written default");
        assert_eq!(flushed, stats.flush_bytes_written);
        assert_eq!(
            figures.get("alluvium.compactions default"),
            stats.compactions
        );
        let read = figures.get("alluvium.compaction.bytes_read default");
        assert_eq!(read, stats.compaction_bytes_read);
        sim.set_free(Some(0));
        db.put("k", "x").unwrap();
        assert!(db.flush().is_err());
        assert!(db.put("k", "y").is_err());
    });
    assert_eq!(f64::from_bits(figures.get("alluvium.writes.stopped ")), 1.0);
}

//! What the system knows of this process and of the machine.

use super::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Memory that is not a mapped file: `RssAnon` + `RssShmem`, in bytes.
pub(crate) fn memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        Ok(number
            .ok_or_else(|| format!("/proc/self/status has no {name}"))?
            .parse()?)
    };
    Ok((kib("RssAnon:")? + kib("RssShmem:")?) << 10)
}

/// Page faults of this process so far, those that the disk had to be asked for among them.
pub(crate) fn page_faults() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold anything: state is the first field, minflt the 8th, majflt
    // the 10th.
    let (_, fields) = stat
        .rsplit_once(") ")
        .ok_or("/proc/self/stat has no name")?;
    let mut fields = fields.split(' ').skip(7).step_by(2);
    let mut next = || -> Result<u64> {
        let field = fields.next().ok_or("/proc/self/stat is too short")?;
        Ok(field.parse()?)
    };
    Ok(next()? + next()?)
}

/// Processor time that all threads which live now have had.
pub(crate) fn processor_time() -> Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split_whitespace().next();
        nanos += first.ok_or("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Threads of this process.
pub(crate) fn threads() -> Result<u64> {
    Ok(std::fs::read_dir("/proc/self/task")?.count() as u64)
}

/// Looks for the highest `memory` until it is dropped. All accesses are relaxed: a number and a
/// flag that nothing else depends on.
pub(crate) struct Peak {
    bytes: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    looking: Option<JoinHandle<()>>,
}

impl Peak {
    pub(crate) fn start() -> Peak {
        let (bytes, done) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (seen, stop) = (Arc::clone(&bytes), Arc::clone(&done));
        let looking = std::thread::spawn(move || {
            while !stop.load(Relaxed) {
                seen.fetch_max(memory().unwrap_or(0), Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Peak {
            bytes,
            done,
            looking: Some(looking),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.done.store(true, Relaxed);
        if let Some(looking) = self.looking.take() {
            drop(looking.join());
        }
    }
}

//! A durable queue: jobs are put in by some threads and done by others, each exactly once.
//!
//! A job's key is its number, so the oldest is the first entry. It is taken, and what comes of it is
//! written, in one transaction: of two workers who take the same job one runs again, and a job whose
//! worker dies is still there. Numbers are given and written under a lock, so that they become visible
//! in their order; behind the head of the queue lie only deletions, which nobody walks over again,
//! because workers begin to look where the last job was found.

use alluvium::{Db, ErrorKind, Keyspace, KeyspaceOptions, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const JOBS: u64 = 4_000;
const PRODUCERS: u64 = 2;
const WORKERS: u64 = 2;

struct Queue {
    db: Db,
    jobs: Keyspace,
    results: Keyspace,
    /// The number of the next job.
    next: Mutex<u64>,
    /// No job below it is left.
    head: AtomicU64,
}

fn number(key: &[u8]) -> u64 {
    u64::from_be_bytes(key.try_into().expect("a key is eight bytes"))
}

impl Queue {
    fn open(db: Db) -> Result<Queue> {
        let jobs = db.keyspace("jobs", KeyspaceOptions::new())?;
        let results = db.keyspace("results", KeyspaceOptions::new())?;
        let (mut all, mut done) = (jobs.iter(), results.iter());
        let first = all.next().transpose()?.map(|(key, _)| number(&key));
        // Numbers go on behind every job that was ever there.
        let last_job = all.next_back().transpose()?.map(|(key, _)| number(&key));
        let last_done = done.next_back().transpose()?.map(|(key, _)| number(&key));
        let last = last_job.max(first).max(last_done);
        Ok(Queue {
            next: Mutex::new(last.map_or(0, |last| last + 1)),
            head: AtomicU64::new(first.unwrap_or(0)),
            db,
            jobs,
            results,
        })
    }

    fn push(&self, job: u64) -> Result<()> {
        let mut next = self.next.lock().expect("nobody panics with it");
        self.jobs.put(next.to_be_bytes(), job.to_le_bytes())?;
        *next += 1;
        Ok(())
    }

    /// Does the oldest job; false when there is none.
    fn work(&self) -> Result<bool> {
        let done = self.db.transaction(|tx| {
            let head = self.head.load(Ordering::Relaxed);
            let mut jobs = tx.range(&self.jobs, head.to_be_bytes()..);
            let Some((key, job)) = jobs.next().transpose()? else {
                return Ok(None);
            };
            let job = u64::from_le_bytes(job[..].try_into().expect("eight bytes"));
            tx.delete(&self.jobs, &key);
            tx.put(&self.results, &key, (job * job).to_le_bytes());
            Ok(Some(number(&key)))
        })?;
        if let Some(done) = done {
            self.head.fetch_max(done + 1, Ordering::Relaxed);
        }
        Ok(done.is_some())
    }

    /// Works until `jobs` are done, by whomever.
    fn work_off(&self, jobs: u64) -> Result<u64> {
        let mut worked = 0;
        while self.head.load(Ordering::Relaxed) < jobs {
            match self.work() {
                Ok(true) => worked += 1,
                Ok(false) => std::thread::yield_now(),
                // Others were faster each time that it was tried.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Ok(worked)
    }
}

fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("queue-{}", std::process::id()));
    let queue = Queue::open(Db::open(&directory)?)?;
    let worked = std::thread::scope(|scope| -> Result<u64> {
        for producer in 0..PRODUCERS {
            let queue = &queue;
            scope.spawn(move || {
                for job in (producer..JOBS).step_by(PRODUCERS as usize) {
                    queue.push(job).expect("it can be written");
                }
            });
        }
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| scope.spawn(|| queue.work_off(JOBS / 2)))
            .collect();
        let worked = workers.into_iter();
        worked
            .map(|worker| worker.join().expect("it has not panicked"))
            .sum()
    })?;
    assert!(JOBS / 2 <= worked);
    queue.db.close()?;

    // Half of the jobs are done; the others wait in the directory.
    let queue = Queue::open(Db::open(&directory)?)?;
    let later = queue.work_off(JOBS)?;
    assert_eq!(worked + later, JOBS, "each job was done once");
    assert_eq!(queue.jobs.iter().count(), 0);
    let mut results = Vec::new();
    for entry in queue.results.iter() {
        let (_, result) = entry?;
        results.push(u64::from_le_bytes(
            result[..].try_into().expect("eight bytes"),
        ));
    }
    results.sort_unstable();
    assert!(results.iter().copied().eq((0..JOBS).map(|job| job * job)));
    println!("{worked} jobs were done, the queue was closed, {later} were done later");
    queue.db.close()?;
    Db::destroy(&directory)
}

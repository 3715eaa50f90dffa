//! Readings of sensors that are kept for a while: each expires by itself, and nobody cleans up.
//!
//! A reading's key is its sensor and its time, so that the readings of a sensor lie side by side in
//! the order of time, and the newest of one is the first entry from behind. The keyspace says how long
//! readings live; an alarm is kept for longer. What has expired is seen by nobody, and its space is
//! given back in the background.

use alluvium::{Db, KeyspaceOptions, Result, WriteBatch, WriteOptions};
use std::time::{Duration, Instant};

const SENSORS: u32 = 20;
const READINGS: u32 = 500;
const KEPT: Duration = Duration::from_millis(1500);
const ALARMS_KEPT: Duration = Duration::from_secs(3600);

/// Sensor and time, both so that their bytes are in their order.
fn key(sensor: u32, time: u32) -> [u8; 8] {
    let (sensor, time) = (sensor.to_be_bytes(), time.to_be_bytes());
    [sensor, time].concat().try_into().expect("two times four")
}

fn value(sensor: u32, time: u32) -> f64 {
    f64::from(sensor) + f64::from(time % 50) / 100.0
}

fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("readings-{}", std::process::id()));
    let db = Db::open(&directory)?;
    let readings = db.keyspace("readings", KeyspaceOptions::new().ttl(Some(KEPT)))?;

    let started = Instant::now();
    for time in 0..READINGS {
        let mut batch = WriteBatch::new(); // what was read at one time, all of it or nothing
        for sensor in 0..SENSORS {
            let reading = value(sensor, time).to_le_bytes();
            match sensor == 7 && time == 100 {
                true => batch.put_with_ttl(&readings, key(sensor, time), reading, ALARMS_KEPT),
                false => batch.put(&readings, key(sensor, time), reading),
            }
        }
        db.write(&batch, WriteOptions::default())?;
    }
    let now = db.snapshot(); // sees what is there now, also when it has expired for others
    let mut newest = readings.prefix(7u32.to_be_bytes()).rev();
    let (at, reading) = newest.next().expect("it was read")?;
    assert_eq!(at, key(7, READINGS - 1));
    assert_eq!(reading, value(7, READINGS - 1).to_le_bytes());
    let minute = readings.range(key(7, 60)..key(7, 120)).count();
    assert!(minute == 60 || KEPT < started.elapsed());
    drop(newest);

    std::thread::sleep(KEPT);
    let left: Vec<_> = readings.iter().collect::<Result<_>>()?;
    assert_eq!(left.len(), 1, "the alarm");
    assert_eq!(left[0].0, key(7, 100));
    let seen = now.keyspace(&readings).iter().count() as u32;
    assert!(seen == SENSORS * READINGS || KEPT < started.elapsed() - KEPT);
    drop(now);

    readings.compact()?; // the background would do so in its own time
    let entries = db.verify()?.entries;
    println!("{seen} readings, of which {entries} is left: sensor 7 at 100");
    assert_eq!(entries, 1);
    drop((left, readings));
    db.close()?;
    Db::destroy(&directory)
}

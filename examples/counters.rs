//! Visits of pages are counted by several threads, and none is lost or read for it.
//!
//! A count is a *merge*: it says what to add, and costs no more than a put. What the additions make
//! of a page's count is found when somebody reads it, and put together by the background. The pages
//! that a visitor has seen are a set in the same way. A count and its visitor are one batch.

use alluvium::{Db, KeyspaceOptions, Options, Result, WriteBatch, WriteOptions, merge};

const PAGES: u64 = 50;
const THREADS: u64 = 3;
const VISITS: u64 = 20_000;

fn count(bytes: &[u8]) -> i64 {
    i64::from_le_bytes(bytes.try_into().expect("a counter has 8 bytes"))
}

fn page(n: u64) -> String {
    format!("/page/{n:02}")
}

/// What the thread `visitor` looks at in its `i`-th step.
fn visited(visitor: u64, i: u64) -> u64 {
    (i * i + visitor) % PAGES
}

fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("counters-{}", std::process::id()));
    // An operator of one's own is a function; it has to be registered at each open.
    let longest = merge::associative(|values| {
        let longest = values.iter().rev().max_by_key(|value| value.len());
        longest.map(|value| value.to_vec())
    });
    let options = Options::new().merge_operator("longest", longest);
    let db = options.clone().open(&directory)?;
    let with = |operator: &str| KeyspaceOptions::new().merge_operator(operator);
    let visits = db.keyspace("visits", with(merge::COUNTER))?;
    let seen = db.keyspace("seen", with(merge::SET_UNION))?;
    let words = db.keyspace("words", with("longest"))?;

    std::thread::scope(|scope| {
        let visitors: Vec<_> = (0..THREADS)
            .map(|visitor| {
                let (db, visits, seen) = (&db, &visits, &seen);
                scope.spawn(move || -> Result<()> {
                    for i in 0..VISITS {
                        let page = page(visited(visitor, i));
                        let mut batch = WriteBatch::new();
                        batch.merge(visits, &page, 1i64.to_le_bytes());
                        batch.merge(seen, format!("visitor-{visitor}"), merge::set([&page]));
                        db.write(&batch, WriteOptions::default())?;
                    }
                    Ok(())
                })
            })
            .collect();
        // Meanwhile: in one instant each page that somebody has seen has been counted.
        for _ in 0..20 {
            let now = db.snapshot();
            for entry in now.keyspace(&seen).iter() {
                let (_, pages) = entry?;
                for page in merge::members(&pages).expect("a set") {
                    let visits = now.keyspace(&visits).get(page)?;
                    assert!(visits.is_some_and(|visits| 0 < count(&visits)));
                }
            }
        }
        let mut ends = visitors.into_iter();
        ends.try_for_each(|visitor| visitor.join().expect("no panic"))
    })?;
    words.merge("word", "silt")?;
    words.merge("word", "alluvium")?;
    words.merge("word", "clay")?;
    drop((visits, seen, words));
    db.close()?;

    let db = options.open(&directory)?;
    let open = |name| db.keyspace(name, KeyspaceOptions::new()); // the operators are known
    let (visits, seen, words) = (open("visits")?, open("seen")?, open("words")?);
    let mut expected = vec![0i64; PAGES as usize];
    for visitor in 0..THREADS {
        (0..VISITS).for_each(|i| expected[visited(visitor, i) as usize] += 1);
    }
    let mut total = 0;
    for entry in visits.iter() {
        let (page, visits) = entry?;
        let n: usize = String::from_utf8_lossy(&page[6..])
            .parse()
            .expect("a number");
        assert_eq!(count(&visits), expected[n]);
        total += count(&visits);
    }
    assert_eq!(total, (THREADS * VISITS) as i64);
    let pages = seen.get("visitor-0")?.expect("it was there");
    let pages = merge::members(&pages).expect("a set").len();
    let word = words.get("word")?.expect("it was merged");
    let word = String::from_utf8_lossy(&word);
    println!("{total} visits; visitor 0 has seen {pages} pages; the longest word is {word}");
    assert_eq!(word, "alluvium");
    drop((visits, seen, words));
    db.close()?;
    Db::destroy(&directory)
}

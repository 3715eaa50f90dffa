//! Keys of other forms than 16 hexadecimal digits: filled, read, and sought with ten entries each.
//!
//! A form makes the key of the `n`-th of `all` records, in the order of the keys: the first record
//! has the smallest. So what must follow a key is known without a sorted list of all of them. They
//! are put in a random order, and values are the usual 100 bytes. The number of records keeps a
//! store to 256 bytes for each of `--keys`, and is at most that number.

use super::{Figure, SAMPLE, Unsupported, Volume, expect, settle_and_rest};
use crate::data::{Random, VALUE_BYTES, digits, is_value, value};
use crate::engine::{Engine, Result, Start};
use std::time::{Duration, Instant};

pub struct Form {
    pub name: &'static str,
    /// The longest keys are so long.
    bytes_max: usize,
    write: fn(n: u64, all: u64, key: &mut Vec<u8>),
}

pub const FORMS: &[Form] = &[
    Form {
        name: USER,
        bytes_max: 16,
        write: user,
    },
    Form {
        name: UUID,
        bytes_max: 36,
        write: uuid,
    },
    Form {
        name: URL,
        bytes_max: 120,
        write: url,
    },
    Form {
        name: NUMBER,
        bytes_max: 8,
        write: number,
    },
    Form {
        name: LONG,
        bytes_max: 1_024,
        write: long,
    },
];

pub const USER: &str = "keys user000000012345";
pub const UUID: &str = "keys UUID";
pub const URL: &str = "keys URL";
pub const NUMBER: &str = "keys of 8 bytes";
pub const LONG: &str = "keys of 1 KiB";

const BYTES_PER_KEY: u64 = 256;
const SEEK_ENTRIES: u64 = 10;

fn user(n: u64, _: u64, key: &mut Vec<u8>) {
    key.extend_from_slice(b"user");
    decimal::<12>(n, key);
}

/// Version 4: 48 bits that ascend in random steps, and the rest random.
fn uuid(n: u64, all: u64, key: &mut Vec<u8>) {
    let mut random = Random::new(n);
    let step = (1 << 48) / all;
    let high = (n * step + random.below(step)) << 16 | 0x4000 | random.next() & 0x0fff;
    let low = 1 << 63 | random.next() >> 2;
    let words = [high >> 32, high, low >> 32, low].map(|word| digits(word as u32));
    let text = words.as_flattened();
    for (i, part) in [0..8, 8..12, 12..16, 16..20, 20..32]
        .into_iter()
        .enumerate()
    {
        if i != 0 {
            key.push(b'-');
        }
        key.extend_from_slice(&text[part]);
    }
}

/// In ascending order, which the test of the forms holds them to.
const SITES: [&[u8]; 8] = [
    b"https://api.example.com/v2/accounts/",
    b"https://api.example.com/v2/invoices/",
    b"https://docs.example.org/en/stable/reference/modules/",
    b"https://docs.example.org/en/stable/tutorials/",
    b"https://m.example.net/p/",
    b"https://www.example.co.uk/catalogue/garden/furniture/",
    b"https://www.example.co.uk/catalogue/garden/tools-and-machines/",
    b"https://www.example.co.uk/catalogue/kitchen/",
];
/// A page has so many of these bytes behind its number.
const WORDS: &[u8] = b"/long-lasting-and-well-made-of-oak-from-the-south";
const WORDS_MIN: usize = 8;

/// Hosts and paths with as many pages each, numbers in nine digits, and some words: 41 to 120 bytes.
fn url(n: u64, all: u64, key: &mut Vec<u8>) {
    key.extend_from_slice(SITES[(n * SITES.len() as u64 / all) as usize]);
    decimal::<9>(n, key);
    let more = Random::new(n).below((WORDS.len() - WORDS_MIN) as u64 + 1);
    key.extend_from_slice(&WORDS[..WORDS_MIN + more as usize]);
}

fn number(n: u64, _: u64, key: &mut Vec<u8>) {
    key.extend_from_slice(&n.to_be_bytes());
}

/// All but the last twelve bytes are the same.
fn long(n: u64, _: u64, key: &mut Vec<u8>) {
    key.resize(1_012, b'p');
    decimal::<12>(n, key);
}

fn decimal<const DIGITS: usize>(mut n: u64, key: &mut Vec<u8>) {
    let mut text = [b'0'; DIGITS];
    for digit in text.iter_mut().rev() {
        *digit += (n % 10) as u8;
        n /= 10;
    }
    key.extend_from_slice(&text);
}

fn records(form: &Form, keys: u64) -> u64 {
    (keys * BYTES_PER_KEY / (form.bytes_max + VALUE_BYTES) as u64).min(keys)
}

/// A store with keys of one form.
struct Store<'a, E> {
    engine: &'a E,
    form: &'a Form,
    records: u64,
    /// The key in hand.
    key: Vec<u8>,
}

/// Rows `<name>: fill`, `<name>: read` and `<name>: seek and next 10`.
pub fn run<E: Engine>(form: &Form, engine: &E, keys: u64) -> Result<Vec<Figure>> {
    if E::KEY_BYTES_MAX < form.bytes_max {
        let reason = format!("a key has at most {} bytes", E::KEY_BYTES_MAX);
        return Err(Unsupported(reason).into());
    }
    let records = records(form, keys);
    let mut store = Store {
        engine,
        form,
        records,
        key: Vec::with_capacity(form.bytes_max),
    };
    let (bytes, filling) = store.fill()?;
    store.read(SAMPLE.min(records))?;
    settle_and_rest(engine, records)?;
    let reading = store.read(records)?;
    let seeks = records / SEEK_ENTRIES;
    let seeking = store.seek(seeks)?;
    let row = |what: &str| format!("{}: {what}", form.name);
    Ok(vec![
        Figure::new(&row("fill"), records, filling).with_volume(Volume::once(bytes)),
        Figure::new(&row("read"), records, reading),
        Figure::new(&row("seek and next 10"), seeks, seeking),
    ])
}

impl<E: Engine> Store<'_, E> {
    fn make_key(&mut self, n: u64) {
        self.key.clear();
        (self.form.write)(n, self.records, &mut self.key);
    }

    /// Every record once, in an order that is drawn before the clock starts; bytes and time.
    fn fill(&mut self) -> Result<(u64, Duration)> {
        let order = shuffled(self.records);
        let mut bytes = 0;
        let start = Instant::now();
        for n in order {
            self.make_key(n);
            self.engine.put(&self.key, &value(n, 0), false)?;
            bytes += (self.key.len() + VALUE_BYTES) as u64;
        }
        Ok((bytes, start.elapsed()))
    }

    fn read(&mut self, reads: u64) -> Result<Duration> {
        let start = Instant::now();
        for i in 0..reads {
            let n = Random::new(i).below(self.records);
            self.make_key(n);
            let right = self.engine.get(&self.key, |found| {
                found.is_some_and(|bytes| is_value(bytes, n, 0))
            })?;
            if !right {
                return Err(format!("{}: record {n} is lost or wrong", self.form.name).into());
            }
        }
        Ok(start.elapsed())
    }

    /// Each to a key that is there; it and those that follow are known.
    fn seek(&mut self, seeks: u64) -> Result<Duration> {
        let start = Instant::now();
        let mut expected = Vec::with_capacity(self.form.bytes_max);
        for i in 0..seeks {
            let first = Random::new(i).below(self.records);
            self.make_key(first);
            let (mut n, mut all_right) = (first, true);
            let from = Start::At(&self.key);
            self.engine.scan(from, SEEK_ENTRIES, |key, bytes| {
                expected.clear();
                (self.form.write)(n, self.records, &mut expected);
                all_right &= key == expected && is_value(bytes, n, 0);
                n += 1;
            })?;
            let entries = SEEK_ENTRIES.min(self.records - first);
            expect("entries after a seek", entries, n - first)?;
            if !all_right {
                let name = self.form.name;
                return Err(format!("{name}: wrong entries from record {first} on").into());
            }
        }
        Ok(start.elapsed())
    }
}

/// The numbers below `count`, each once, by Fisher and Yates.
fn shuffled(count: u64) -> Vec<u64> {
    let mut random = Random::new(count);
    let mut numbers: Vec<u64> = (0..count).collect();
    for i in (1..count).rev() {
        numbers.swap(i as usize, random.below(i + 1) as usize);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(form: &Form, n: u64, all: u64) -> Vec<u8> {
        let mut key = Vec::new();
        (form.write)(n, all, &mut key);
        key
    }

    #[test]
    fn keys_of_every_form_ascend_and_are_no_longer_than_said() {
        for form in FORMS {
            for all in [1_000, 10_000] {
                let keys: Vec<_> = (0..all).map(|n| key(form, n, all)).collect();
                assert!(keys.is_sorted_by(|a, b| a < b), "{}", form.name);
                let longest = keys.iter().map(Vec::len).max();
                assert_eq!(longest, Some(form.bytes_max), "{}", form.name);
            }
        }
    }

    #[test]
    fn keys_look_as_their_names_say() {
        let [user, uuid, url, number, long] = FORMS else {
            panic!("a form more or less");
        };
        assert_eq!(key(user, 12_345, 100_000), b"user000000012345");
        assert_eq!(key(number, 258, 1_000), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert!(key(long, 7, 1_000).ends_with(b"ppp000000000007"));
        let first = "https://api.example.com/v2/accounts/000000000/long-la";
        assert!(key(url, 0, 1_000).starts_with(first.as_bytes()));
        let shortest = (0..10_000).map(|n| key(url, n, 10_000).len()).min();
        assert_eq!(shortest, Some(41));
        for n in 0..1_000 {
            let text = String::from_utf8(key(uuid, n, 1_000)).unwrap();
            let lengths: Vec<usize> = text.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{text}");
            assert_eq!(&text[14..15], "4", "{text}");
            assert!("89ab".contains(&text[19..20]), "{text}");
            let digit = |c: char| c == '-' || c.is_ascii_hexdigit() && !c.is_uppercase();
            assert!(text.chars().all(digit), "{text}");
        }
    }

    #[test]
    fn a_shuffle_has_every_number_once_and_is_in_no_order() {
        let numbers = shuffled(10_000);
        let ascents = numbers.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((4_500..5_500).contains(&ascents), "{ascents}");
        let mut sorted = numbers;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..10_000));
    }
}

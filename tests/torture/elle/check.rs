//! Finds what cannot be in a history of serializable transactions.
//!
//! Of each key the order of its versions is known. A list shows it itself: every append is in the
//! list that the last transaction reads. Of a register it is the order of the commits' numbers, which
//! the engine claims; a wrong claim shows as a cycle too. From the versions follow dependencies:
//!
//! ```text
//! ww  wrote the next version of what the other one wrote
//! wr  read what the other one wrote
//! rw  read the version before the one that the other one wrote
//! rt  was called when the other one had returned
//! ```
//!
//! If they have no cycle, there is an order of the transactions that explains everything, and it
//! agrees with the clocks of the clients (strict serializability). Reads of what nobody committed, of
//! what its writer overwrote, and appends that are lost are told before. The names of the anomalies
//! are Adya's.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

/// A list or a register of the history.
pub(super) type Key = u16;
/// What is written: each value once in a history.
pub(super) type Value = u32;

/// What a transaction did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Append(Key, Value),
    List(Key, Vec<Value>),
    Write(Key, Value),
    Read(Key, Option<Value>),
}

/// A transaction as its client saw it.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) actions: Vec<Action>,
    /// On one clock for all clients.
    pub(super) called: u64,
    pub(super) returned: u64,
    /// The number that its commit gave; `None` if it was refused.
    pub(super) commit: Option<u64>,
}

/// The last one reads every list, after all others have returned.
pub(super) type History = Vec<Transaction>;

/// What cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Anomaly {
    pub(super) name: &'static str,
    story: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.name, self.story)
    }
}

fn anomaly(name: &'static str, story: impl Into<String>) -> Anomaly {
    let story = story.into();
    Anomaly { name, story }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    WriteWrite,
    WriteRead,
    ReadWrite,
    RealTime,
}

/// Who wrote each value, and whether it wrote another one to the key afterwards.
struct Writer {
    transaction: usize,
    key: Key,
    is_final: bool,
}

/// Versions of each key, oldest first: value and writer.
type Versions = BTreeMap<Key, Vec<(Value, usize)>>;

/// Refuses a history that no serial order explains.
pub(super) fn check(history: &History) -> Result<(), Anomaly> {
    let writers = writers(history);
    let versions = versions(history, &writers)?;
    let mut edges: Vec<BTreeMap<usize, Why>> = vec![BTreeMap::new(); history.len()];
    let mut depends = |from: usize, to: usize, why: Why| {
        if from != to {
            let known = edges[from].entry(to).or_insert(why);
            *known = why.min(*known);
        }
    };
    for order in versions.values() {
        for pair in order.windows(2) {
            depends(pair[0].1, pair[1].1, Why::WriteWrite);
        }
    }
    for (reader, transaction) in committed(history) {
        for (key, place) in reads_of(reader, transaction, &writers, &versions)? {
            let order = versions.get(&key).map_or(&[][..], Vec::as_slice);
            if let Some(before) = place.checked_sub(1) {
                depends(order[before].1, reader, Why::WriteRead);
            }
            if let Some((_, next)) = order.get(place) {
                depends(reader, *next, Why::ReadWrite);
            }
        }
    }
    for (first, a) in committed(history) {
        for (second, b) in committed(history) {
            if a.returned < b.called {
                depends(first, second, Why::RealTime);
            }
        }
    }
    match shortest_cycle(&edges) {
        None => Ok(()),
        Some(cycle) => Err(describe(history, &edges, &cycle)),
    }
}

fn committed(history: &History) -> impl Iterator<Item = (usize, &Transaction)> {
    let all = history.iter().enumerate();
    all.filter(|(_, transaction)| transaction.commit.is_some())
}

fn writers(history: &History) -> HashMap<Value, Writer> {
    let mut writers = HashMap::new();
    for (n, transaction) in history.iter().enumerate() {
        let mut last: HashMap<Key, Value> = HashMap::new();
        for action in &transaction.actions {
            let (Action::Append(key, value) | Action::Write(key, value)) = *action else {
                continue;
            };
            if let Some(before) = last.insert(key, value) {
                let before: &mut Writer = writers.get_mut(&before).expect("noted just now");
                before.is_final = false;
            }
            let writer = Writer {
                transaction: n,
                key,
                is_final: true,
            };
            let twice = writers.insert(value, writer);
            assert!(twice.is_none(), "value {value} is written once");
        }
    }
    writers
}

/// The order of the versions of each key.
fn versions(history: &History, writers: &HashMap<Value, Writer>) -> Result<Versions, Anomaly> {
    let mut versions = Versions::new();
    let last = history.last().expect("a history has a last reader");
    for action in &last.actions {
        if let Action::List(key, list) = action {
            let mut order = Vec::new();
            for value in list {
                order.push((
                    *value,
                    writer_of(*value, *key, history, writers)?.transaction,
                ));
            }
            let mut seen = list.clone();
            seen.sort_unstable();
            if !seen.is_sorted_by(|a, b| a < b) {
                return Err(anomaly("an append twice", format!("list {key}: {list:?}")));
            }
            versions.insert(*key, order);
        }
    }
    let mut registers: BTreeMap<Key, Vec<(u64, Value, usize)>> = BTreeMap::new();
    for (n, transaction) in committed(history) {
        for action in &transaction.actions {
            match action {
                Action::Append(key, value) => {
                    let order = versions.get(key).map_or(&[][..], Vec::as_slice);
                    if !order.iter().any(|(known, _)| known == value) {
                        let story = format!("list {key} has no {value} of transaction {n}");
                        return Err(anomaly("lost append", story));
                    }
                }
                Action::Write(key, value) if writers[value].is_final => {
                    let commit = transaction.commit.expect("it committed");
                    registers.entry(*key).or_default().push((commit, *value, n));
                }
                _ => {}
            }
        }
    }
    for (key, mut order) in registers {
        order.sort_unstable();
        let order = order.into_iter().map(|(_, value, n)| (value, n));
        versions.insert(key, order.collect());
    }
    Ok(versions)
}

/// The writer of a value that somebody has read.
fn writer_of<'w>(
    value: Value,
    key: Key,
    history: &History,
    writers: &'w HashMap<Value, Writer>,
) -> Result<&'w Writer, Anomaly> {
    let known = writers.get(&value).filter(|writer| writer.key == key);
    let Some(writer) = known else {
        let story = format!("key {key} has {value}");
        return Err(anomaly("a value that nobody wrote", story));
    };
    if history[writer.transaction].commit.is_none() {
        let story = format!("{value} of {:?}", history[writer.transaction]);
        return Err(anomaly("G1a: aborted read", story));
    }
    Ok(writer)
}

/// For each read of others' versions: the key, and how many versions came before it.
fn reads_of(
    reader: usize,
    transaction: &Transaction,
    writers: &HashMap<Value, Writer>,
    versions: &Versions,
) -> Result<Vec<(Key, usize)>, Anomaly> {
    let mut reads = Vec::new();
    let mut own: HashMap<Key, Vec<Value>> = HashMap::new();
    let wrong = |name, action: &Action| {
        let story = format!("{action:?} in transaction {reader}: {transaction:?}");
        Err(anomaly(name, story))
    };
    for action in &transaction.actions {
        match action {
            Action::Append(key, value) | Action::Write(key, value) => {
                own.entry(*key).or_default().push(*value);
            }
            Action::List(key, list) => {
                let order = versions.get(key).map_or(&[][..], Vec::as_slice);
                let own = own.get(key).map_or(&[][..], Vec::as_slice);
                let Some(others) = list.strip_suffix(own) else {
                    return wrong("own appends are not there", action);
                };
                let agrees = others.len() <= order.len()
                    && others
                        .iter()
                        .zip(order)
                        .all(|(seen, (value, _))| seen == value);
                if !agrees {
                    return wrong("lists that do not grow out of each other", action);
                }
                if let Some(last) = others.last()
                    && !writers[last].is_final
                {
                    return wrong("G1b: intermediate read", action);
                }
                reads.push((*key, others.len()));
            }
            Action::Read(key, value) => {
                if let Some(own) = own.get(key) {
                    if own.last() != value.as_ref() {
                        return wrong("own write is not there", action);
                    }
                    continue;
                }
                let order = versions.get(key).map_or(&[][..], Vec::as_slice);
                let Some(value) = value else {
                    reads.push((*key, 0));
                    continue;
                };
                match order.iter().position(|(known, _)| known == value) {
                    Some(place) => reads.push((*key, place + 1)),
                    None if writers.get(value).is_some_and(|w| !w.is_final) => {
                        return wrong("G1b: intermediate read", action);
                    }
                    None => return wrong("G1a: a value that nobody committed", action),
                }
            }
        }
    }
    Ok(reads)
}

/// The transactions of a shortest cycle, in order.
fn shortest_cycle(edges: &[BTreeMap<usize, Why>]) -> Option<Vec<usize>> {
    let cycles = (0..edges.len()).filter_map(|start| {
        let mut came_from: HashMap<usize, usize> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for &next in edges[at].keys() {
                if next == start {
                    let mut cycle = vec![at];
                    while cycle[cycle.len() - 1] != start {
                        cycle.push(came_from[&cycle[cycle.len() - 1]]);
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                if let std::collections::hash_map::Entry::Vacant(place) = came_from.entry(next) {
                    place.insert(at);
                    queue.push_back(next);
                }
            }
        }
        None
    });
    cycles.min_by_key(Vec::len)
}

fn describe(history: &History, edges: &[BTreeMap<usize, Why>], cycle: &[usize]) -> Anomaly {
    let next = |i: usize| cycle[(i + 1) % cycle.len()];
    let whys: Vec<Why> = (0..cycle.len())
        .map(|i| edges[cycle[i]][&next(i)])
        .collect();
    let lines: Vec<String> = (0..cycle.len())
        .map(|i| {
            let n = cycle[i];
            format!("{n}: {:?}\n   {:?} before {}", history[n], whys[i], next(i))
        })
        .collect();
    let count = |why: Why| whys.iter().filter(|other| **other == why).count();
    let name = match (
        count(Why::ReadWrite),
        count(Why::WriteRead),
        count(Why::RealTime),
    ) {
        (_, _, 1..) => "an order that the clients' clocks contradict",
        (0, 0, _) => "G0: write cycle",
        (0, _, _) => "G1c: circular information flow",
        (1, _, _) => "G-single: read skew",
        _ => "G2: anti-dependency cycle",
    };
    anomaly(name, lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::Action::{Append, List, Read, Write};
    use super::*;

    /// Transactions that all run side by side; the first number is the commit's, 0 for none.
    fn history(transactions: &[(u64, &[Action])]) -> History {
        let mut history: History = transactions
            .iter()
            .map(|(commit, actions)| Transaction {
                actions: actions.to_vec(),
                called: 0,
                returned: 10,
                commit: (0 < *commit).then_some(*commit),
            })
            .collect();
        let last = history.last_mut().unwrap();
        (last.called, last.returned) = (20, 30);
        history
    }

    fn refused(transactions: &[(u64, &[Action])]) -> &'static str {
        check(&history(transactions))
            .expect_err("it must be refused")
            .name
    }

    #[test]
    fn what_happened_one_after_the_other_is_accepted() {
        let all: [(u64, &[Action]); 4] = [
            (1, &[List(1, vec![]), Append(1, 10), Write(2, 20)]),
            (
                2,
                &[
                    List(1, vec![10]),
                    Append(1, 11),
                    Append(1, 12),
                    List(1, vec![10, 11, 12]),
                ],
            ),
            (
                3,
                &[
                    Read(2, Some(20)),
                    Write(2, 21),
                    Read(2, Some(21)),
                    Read(3, None),
                ],
            ),
            (4, &[List(1, vec![10, 11, 12]), Read(2, Some(21))]),
        ];
        assert_eq!(check(&history(&all)), Ok(()));
    }

    #[test]
    fn write_skew_is_refused() {
        let name = refused(&[
            (1, &[Read(1, None), Write(2, 20)]),
            (2, &[Read(2, None), Write(1, 10)]),
            (3, &[Read(1, Some(10)), Read(2, Some(20))]),
        ]);
        assert_eq!(name, "G2: anti-dependency cycle");
    }

    #[test]
    fn read_skew_is_refused() {
        let name = refused(&[
            (1, &[Write(1, 10), Write(2, 20)]),
            (2, &[Read(1, None), Read(2, Some(20))]),
            (3, &[]),
        ]);
        assert_eq!(name, "G-single: read skew");
    }

    #[test]
    fn a_lost_update_is_refused() {
        let name = refused(&[
            (1, &[Read(1, None), Write(1, 10)]),
            (2, &[Read(1, None), Write(1, 11)]),
            (3, &[]),
        ]);
        assert_eq!(name, "G-single: read skew");
    }

    #[test]
    fn a_lost_append_is_refused() {
        let name = refused(&[
            (1, &[List(1, vec![]), Append(1, 10)]),
            (2, &[List(1, vec![]), Append(1, 11)]),
            (3, &[List(1, vec![11])]),
        ]);
        assert_eq!(name, "lost append");
    }

    #[test]
    fn circular_information_is_refused() {
        let name = refused(&[
            (1, &[Append(1, 10), List(2, vec![20])]),
            (2, &[Append(2, 20), List(1, vec![10])]),
            (3, &[List(1, vec![10]), List(2, vec![20])]),
        ]);
        assert_eq!(name, "G1c: circular information flow");
    }

    #[test]
    fn a_write_cycle_is_refused() {
        let name = refused(&[
            (1, &[Append(1, 10), Append(2, 20)]),
            (2, &[Append(1, 11), Append(2, 21)]),
            (3, &[List(1, vec![10, 11]), List(2, vec![21, 20])]),
        ]);
        assert_eq!(name, "G0: write cycle");
    }

    #[test]
    fn reads_of_what_was_not_committed_are_refused() {
        let aborted = refused(&[(0, &[Append(1, 10)]), (3, &[List(1, vec![10])])]);
        assert_eq!(aborted, "G1a: aborted read");
        let aborted = refused(&[(0, &[Write(1, 10)]), (3, &[Read(1, Some(10))])]);
        assert_eq!(aborted, "G1a: a value that nobody committed");
        let intermediate = refused(&[
            (1, &[Append(1, 10), Append(1, 11)]),
            (2, &[List(1, vec![10])]),
            (3, &[List(1, vec![10, 11])]),
        ]);
        assert_eq!(intermediate, "G1b: intermediate read");
        let intermediate = refused(&[
            (1, &[Write(1, 10), Write(1, 11)]),
            (2, &[Read(1, Some(10))]),
            (3, &[]),
        ]);
        assert_eq!(intermediate, "G1b: intermediate read");
        let nobody = refused(&[(3, &[List(1, vec![10])])]);
        assert_eq!(nobody, "a value that nobody wrote");
    }

    #[test]
    fn own_writes_must_be_seen() {
        let name = refused(&[(1, &[Write(1, 10), Read(1, None)]), (3, &[])]);
        assert_eq!(name, "own write is not there");
        let name = refused(&[
            (1, &[Append(1, 10), List(1, vec![])]),
            (3, &[List(1, vec![10])]),
        ]);
        assert_eq!(name, "own appends are not there");
    }

    /// Serializable, but not in the order in which the clients did it.
    #[test]
    fn a_read_of_the_past_is_refused_by_the_clock() {
        let mut history = history(&[(1, &[Write(1, 10)]), (2, &[Read(1, None)]), (3, &[])]);
        assert_eq!(check(&history), Ok(()), "side by side");
        (history[1].called, history[1].returned) = (11, 12);
        let anomaly = check(&history).unwrap_err();
        assert_eq!(anomaly.name, "an order that the clients' clocks contradict");
    }
}

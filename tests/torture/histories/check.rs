//! The checker: is there one order of the operations that explains all that was read?
//!
//! A history is a list of operations a client, each with the moments of its call and its return.
//! It is accepted when every operation can be given one instant between the two, so that in the
//! order of these instants each read gives what a plain map would. The map is the whole database:
//! a batch has *one* instant for all its keys, a snapshot or scan has one for all its reads. So
//! this one search covers linearizability by key, the atomicity of batches and the immobility of
//! snapshots, and their real-time order against each other.
//!
//! The search is that of Wing and Gong with Lowe's memory of configurations seen: which operations
//! are placed (a position a client) and what the map holds. Two facts make it short. A read that
//! could be next and agrees with the map can be placed at once: it changes nothing, so no other
//! choice is better. And values are unique: a write that replaces a value which somebody has still
//! to read cannot be next.
//!
//! A refused history is cut down before it is shown: to the fewest keys that are refused alone
//! (leaving keys out of an acceptable history leaves an acceptable one), and to its shortest
//! beginning that is refused.

use std::collections::{HashMap, HashSet};
use std::fmt;

/// A key of the history, as an index.
pub(super) type Key = u16;
/// A written value, unique in its history. `None` is "no value".
pub(super) type Value = Option<u32>;

/// What one operation did or saw: one instant for all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Put, delete, or a batch of both.
    Write(Vec<(Key, Value)>),
    /// Get, or all reads of one snapshot, scan or multi-get.
    Read(Vec<(Key, Value)>),
}

/// One operation, with its moments on the one clock of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) action: Action,
    pub(super) called: u64,
    pub(super) returned: u64,
}

/// The operations of each client, in its order.
pub(super) type History = Vec<Vec<Event>>;

/// More configurations than this are not looked at; then nothing is proven, which is a failure too.
const CONFIGURATIONS_MAX: usize = 4_000_000;
/// So many operations of a refused history are shown, the last ones.
const SHOWN_MAX: usize = 40;

/// Why a history was refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No order explains these operations: client and event, by call.
    Impossible(Vec<(usize, Event)>),
    /// The search was given up.
    Undecided,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Undecided => write!(f, "undecided after {CONFIGURATIONS_MAX} configurations"),
            Refusal::Impossible(events) => {
                writeln!(f, "no order explains these {} operations:", events.len())?;
                for (client, event) in events {
                    let Event { name, action, .. } = event;
                    let (sign, pairs) = match action {
                        Action::Write(pairs) => ("<-", pairs),
                        Action::Read(pairs) => ("->", pairs),
                    };
                    write!(f, "  client {client} ")?;
                    write!(f, "[{:>6}, {:>6}] {name}", event.called, event.returned)?;
                    for (key, value) in pairs {
                        match value {
                            Some(value) => write!(f, " k{key} {sign} {value}")?,
                            None => write!(f, " k{key} {sign} none")?,
                        }
                    }
                    writeln!(f)?;
                }
                Ok(())
            }
        }
    }
}

/// Accepts the history, or says why not.
pub(super) fn check(history: &History) -> Result<(), Refusal> {
    match search(history) {
        Verdict::Accepted => return Ok(()),
        Verdict::Undecided => return Err(Refusal::Undecided),
        Verdict::Refused => {}
    }
    let least = fewest_keys(history).unwrap_or_else(|| history.clone());
    let least = shortest(&least);
    let mut events: Vec<(usize, Event)> = Vec::new();
    for (client, own) in least.into_iter().enumerate() {
        events.extend(own.into_iter().map(|event| (client, event)));
    }
    events.sort_by_key(|(_, event)| event.called);
    let from = events.len().saturating_sub(SHOWN_MAX);
    Err(Refusal::Impossible(events.split_off(from)))
}

fn is_refused(history: &History) -> bool {
    matches!(search(history), Verdict::Refused)
}

/// The history over one key, or two, that is refused already.
fn fewest_keys(history: &History) -> Option<History> {
    let mut keys: Vec<Key> = Vec::new();
    for event in history.iter().flatten() {
        let (Action::Write(pairs) | Action::Read(pairs)) = &event.action;
        keys.extend(pairs.iter().map(|(key, _)| *key));
    }
    keys.sort_unstable();
    keys.dedup();
    let alone = keys.iter().map(|&a| vec![a]);
    let pairs = keys.iter().flat_map(|&a| {
        let later = keys.iter().copied().filter(move |&b| a < b);
        later.map(move |b| vec![a, b])
    });
    let projections = alone.chain(pairs).map(|kept| project(history, &kept));
    projections.into_iter().find(is_refused)
}

/// The shortest beginning of a refused history that is refused: writes called by then, and reads
/// that had returned (all that these can have seen was called before).
fn shortest(history: &History) -> History {
    let until = |moment: u64| -> History {
        let by_then = |event: &&Event| match event.action {
            Action::Write(_) => event.called <= moment,
            Action::Read(_) => event.returned <= moment,
        };
        let cut = |own: &Vec<Event>| own.iter().filter(by_then).cloned().collect();
        history.iter().map(cut).collect()
    };
    let last = history.iter().flatten().map(|event| event.returned).max();
    let (mut fine, mut refused) = (0, last.unwrap_or(0));
    while fine + 1 < refused {
        let middle = fine + (refused - fine) / 2;
        match is_refused(&until(middle)) {
            true => refused = middle,
            false => fine = middle,
        }
    }
    until(refused)
}

/// What the history says of some keys alone.
fn project(history: &History, kept: &[Key]) -> History {
    let of = |pairs: &[(Key, Value)]| -> Vec<(Key, Value)> {
        pairs
            .iter()
            .copied()
            .filter(|(key, _)| kept.contains(key))
            .collect()
    };
    let cut = |event: &Event| {
        let action = match &event.action {
            Action::Write(pairs) => Action::Write(of(pairs)),
            Action::Read(pairs) => Action::Read(of(pairs)),
        };
        let (Action::Write(left) | Action::Read(left)) = &action;
        (!left.is_empty()).then(|| Event {
            action: action.clone(),
            ..event.clone()
        })
    };
    history
        .iter()
        .map(|own| own.iter().filter_map(cut).collect())
        .collect()
}

enum Verdict {
    Accepted,
    Undecided,
    Refused,
}

/// An event as the search sees it: values are small numbers, 0 for none.
struct Step {
    called: u64,
    returned: u64,
    writes: bool,
    pairs: Vec<(usize, usize)>,
}

/// A place where the search can go back to.
struct Branch {
    positions: Vec<u16>,
    /// Clients whose write could be next, and how many of them were tried.
    clients: Vec<usize>,
    tried: usize,
    /// What the write tried last has replaced.
    replaced: Vec<(usize, usize)>,
}

struct Search {
    clients: Vec<Vec<Step>>,
    positions: Vec<u16>,
    map: Vec<usize>,
    /// A hash of `map`, kept up by the difference.
    hash: u64,
    /// Reads of each value that are not placed yet. While there are some, the value must stay: it
    /// is never written again.
    readers: Vec<u32>,
}

fn mixed(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Search {
    fn new(history: &History) -> Search {
        let mut numbers: HashMap<u32, usize> = HashMap::new();
        let mut small = |value: Value| match value {
            None => 0,
            Some(value) => {
                let fresh = numbers.len() + 1;
                *numbers.entry(value).or_insert(fresh)
            }
        };
        let mut step = |event: &Event| {
            let (Action::Write(pairs) | Action::Read(pairs)) = &event.action;
            let pairs = pairs.iter().map(|&(k, v)| (usize::from(k), small(v)));
            Step {
                called: event.called,
                returned: event.returned,
                writes: matches!(event.action, Action::Write(_)),
                pairs: pairs.collect(),
            }
        };
        let steps = |own: &Vec<Event>| own.iter().map(&mut step).collect();
        let clients: Vec<Vec<Step>> = history.iter().map(steps).collect();
        let keys = clients.iter().flatten().flat_map(|s| &s.pairs);
        let mut search = Search {
            positions: vec![0; clients.len()],
            map: vec![0; keys.map(|(key, _)| key + 1).max().unwrap_or(0)],
            hash: 0,
            readers: vec![0; numbers.len() + 1],
            clients,
        };
        for step in search.clients.iter().flatten().filter(|s| !s.writes) {
            for &(_, value) in &step.pairs {
                search.readers[value] += 1;
            }
        }
        search
    }

    fn next(&self, client: usize) -> Option<&Step> {
        self.clients[client].get(usize::from(self.positions[client]))
    }

    /// The earliest return of what is not placed: whatever was called later must wait.
    fn horizon(&self) -> u64 {
        let pending = (0..self.clients.len()).filter_map(|client| self.next(client));
        pending.map(|step| step.returned).min().unwrap_or(u64::MAX)
    }

    /// Places every read that can be next and agrees with the map.
    fn place_reads(&mut self) {
        let mut client = 0;
        let mut idle = 0;
        let mut horizon = self.horizon();
        while idle < self.clients.len() {
            let at = usize::from(self.positions[client]);
            match self.clients[client].get(at) {
                Some(step) if step.called < horizon && self.agrees(step) => {
                    for &(_, value) in &step.pairs {
                        self.readers[value] -= 1;
                    }
                    self.positions[client] += 1;
                    horizon = self.horizon();
                    idle = 0;
                }
                _ => {
                    client = (client + 1) % self.clients.len();
                    idle += 1;
                }
            }
        }
    }

    fn agrees(&self, step: &Step) -> bool {
        !step.writes
            && step
                .pairs
                .iter()
                .all(|&(key, value)| self.map[key] == value)
    }

    /// True when every value that the write replaces has been read by all that read it.
    fn replaces_what_is_done(&self, step: &Step) -> bool {
        let done =
            |&(key, _): &(usize, usize)| self.map[key] == 0 || self.readers[self.map[key]] == 0;
        step.pairs.iter().all(done)
    }

    fn set(&mut self, key: usize, value: usize) -> usize {
        let place = &mut self.map[key];
        let of = |value: usize| mixed((key as u64) << 33 | value as u64);
        self.hash ^= of(*place) ^ of(value);
        std::mem::replace(place, value)
    }

    /// Clients whose write can be next, the one that returned first at the front.
    fn writers(&self) -> Vec<usize> {
        let horizon = self.horizon();
        let ready =
            |step: &Step| step.writes && step.called < horizon && self.replaces_what_is_done(step);
        let mut clients: Vec<_> = (0..self.clients.len())
            .filter_map(|client| self.next(client).map(|step| (step, client)))
            .filter(|(step, _)| ready(step))
            .map(|(step, client)| (step.returned, client))
            .collect();
        clients.sort_unstable();
        clients.into_iter().map(|(_, client)| client).collect()
    }

    /// Places the next write of a client; gives what it replaced.
    fn place_write(&mut self, client: usize) -> Vec<(usize, usize)> {
        let at = usize::from(self.positions[client]);
        self.positions[client] += 1;
        let pairs = self.clients[client][at].pairs.clone();
        let replace = |(key, value)| (key, self.set(key, value));
        pairs.into_iter().map(replace).collect()
    }

    /// Takes back everything placed since the branch.
    fn return_to(&mut self, branch: &mut Branch) {
        for (key, value) in branch.replaced.drain(..).rev() {
            self.set(key, value);
        }
        for client in 0..self.clients.len() {
            let (from, to) = (branch.positions[client], self.positions[client]);
            let placed = &self.clients[client][usize::from(from)..usize::from(to)];
            for step in placed.iter().filter(|step| !step.writes) {
                for &(_, value) in &step.pairs {
                    self.readers[value] += 1;
                }
            }
        }
        self.positions.clone_from(&branch.positions);
    }

    /// What is placed and what the map holds: two ways to get there need one look.
    fn configuration(&self) -> (u64, u64) {
        let fold = |hash, &position: &u16| mixed(hash ^ u64::from(position));
        (self.positions.iter().fold(0, fold), self.hash)
    }
}

fn search(history: &History) -> Verdict {
    let mut search = Search::new(history);
    let mut seen: HashSet<(u64, u64)> = HashSet::new();
    let mut branches: Vec<Branch> = Vec::new();
    loop {
        search.place_reads();
        if search.horizon() == u64::MAX {
            return Verdict::Accepted;
        }
        if CONFIGURATIONS_MAX < seen.len() {
            return Verdict::Undecided;
        }
        if seen.insert(search.configuration()) {
            branches.push(Branch {
                positions: search.positions.clone(),
                clients: search.writers(),
                tried: 0,
                replaced: Vec::new(),
            });
        }
        // The next untried write of the latest branch that has one.
        loop {
            let Some(branch) = branches.last_mut() else {
                return Verdict::Refused;
            };
            search.return_to(branch);
            if let Some(&client) = branch.clients.get(branch.tried) {
                branch.tried += 1;
                branch.replaced = search.place_write(client);
                break;
            }
            branches.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &'static str, called: u64, returned: u64, pairs: &[(Key, Value)]) -> Event {
        let action = match name {
            "put" | "delete" | "batch" => Action::Write(pairs.to_vec()),
            _ => Action::Read(pairs.to_vec()),
        };
        Event {
            name,
            action,
            called,
            returned,
        }
    }

    fn refused(history: &History) -> String {
        match check(history) {
            Ok(()) => panic!("accepted: {history:?}"),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn overlapping_operations_may_take_effect_in_any_order() {
        let write = vec![event("put", 0, 9, &[(0, Some(1))])];
        for seen in [None, Some(1)] {
            let read = vec![event("get", 1, 8, &[(0, seen)])];
            assert!(check(&vec![write.clone(), read]).is_ok());
        }
        // Seen once, it stays seen.
        let back = vec![
            event("get", 1, 2, &[(0, Some(1))]),
            event("get", 3, 4, &[(0, None)]),
        ];
        assert!(check(&vec![write, back]).is_err());
    }

    #[test]
    fn a_stale_read_is_refused_and_shown_without_other_keys() {
        let text = refused(&vec![
            vec![
                event("put", 0, 1, &[(0, Some(1))]),
                event("put", 2, 3, &[(0, Some(2))]),
            ],
            vec![
                event("put", 0, 1, &[(7, Some(3))]),
                event("get", 4, 5, &[(0, Some(1))]),
                event("get", 6, 7, &[(7, Some(3))]),
            ],
        ]);
        assert!(text.contains("get k0 -> 1"), "{text}");
        assert!(!text.contains("k7"), "{text}");
    }

    #[test]
    fn a_lost_update_is_refused() {
        let text = refused(&vec![
            vec![event("put", 0, 1, &[(0, Some(1))])],
            vec![event("get", 2, 3, &[(0, None)])],
        ]);
        assert!(text.contains("put k0 <- 1"), "{text}");
        // Also when it is lost behind a later read that saw it.
        refused(&vec![
            vec![event("put", 0, 5, &[(0, Some(1))])],
            vec![
                event("get", 1, 2, &[(0, Some(1))]),
                event("delete", 3, 4, &[(1, None)]),
                event("get", 6, 7, &[(0, None)]),
            ],
        ]);
    }

    #[test]
    fn a_deleted_value_that_comes_back_is_refused() {
        refused(&vec![
            vec![
                event("put", 0, 1, &[(0, Some(1))]),
                event("delete", 2, 3, &[(0, None)]),
            ],
            vec![
                event("get", 4, 5, &[(0, None)]),
                event("get", 6, 7, &[(0, Some(1))]),
            ],
        ]);
    }

    #[test]
    fn a_torn_batch_is_refused_though_each_key_alone_is_fine() {
        let batch = vec![event("batch", 0, 9, &[(0, Some(1)), (1, Some(2))])];
        let torn = vec![event("snapshot", 1, 2, &[(0, Some(1)), (1, None)])];
        let text = refused(&vec![batch.clone(), torn]);
        assert!(text.contains("batch k0 <- 1 k1 <- 2"), "{text}");
        // Torn over two gets: the second key lags behind the first.
        let lagging = vec![
            event("get", 1, 2, &[(0, Some(1))]),
            event("get", 3, 4, &[(1, None)]),
        ];
        refused(&vec![batch.clone(), lagging]);
        let whole = vec![event("snapshot", 1, 2, &[(0, Some(1)), (1, Some(2))])];
        assert!(check(&vec![batch, whole]).is_ok());
    }

    #[test]
    fn a_snapshot_that_moves_is_refused() {
        // Its first key is from before both puts, its second from after.
        let writes = vec![
            event("put", 2, 3, &[(0, Some(1))]),
            event("put", 4, 5, &[(1, Some(2))]),
        ];
        let moved = vec![event("snapshot", 0, 9, &[(0, None), (1, Some(2))])];
        refused(&vec![writes.clone(), moved]);
        // One instant, but not within the call that took the snapshot.
        let late = vec![event("snapshot", 0, 1, &[(0, Some(1)), (1, None)])];
        refused(&vec![writes.clone(), late]);
        let right = vec![event("snapshot", 0, 9, &[(0, Some(1)), (1, None)])];
        assert!(check(&vec![writes, right]).is_ok());
    }

    #[test]
    fn two_snapshots_that_disagree_on_the_order_of_writes_are_refused() {
        let one = vec![event("put", 0, 9, &[(0, Some(1))])];
        let other = vec![event("put", 0, 9, &[(1, Some(2))])];
        let here = vec![event("snapshot", 1, 8, &[(0, Some(1)), (1, None)])];
        let there = vec![event("scan", 1, 8, &[(0, None), (1, Some(2))])];
        let text = refused(&vec![one, other, here, there]);
        assert!(text.contains("scan k0 -> none k1 -> 2"), "{text}");
    }

    #[test]
    fn a_value_that_nobody_wrote_is_refused() {
        refused(&vec![vec![event("get", 0, 1, &[(0, Some(1))])]]);
    }

    #[test]
    fn one_changed_read_in_a_long_history_is_found() {
        // Four clients in turn, each write seen by the next client: changing any read is an error.
        let mut history: History = vec![Vec::new(); 4];
        let mut clock = 0;
        let mut last = [None; 5];
        for step in 0..400u32 {
            let key = (step * 7 % 5) as Key;
            let own = &mut history[step as usize % 4];
            let read = [(key, last[usize::from(key)])];
            own.push(event("get", clock, clock + 1, &read));
            last[usize::from(key)] = Some(step);
            own.push(event("put", clock + 2, clock + 3, &[(key, Some(step))]));
            clock += 4;
        }
        assert!(check(&history).is_ok());
        for at in [10, 57, 99] {
            let mut bad = history.clone();
            let place = bad[1].iter_mut().filter(|e| e.name == "get").nth(at);
            place.expect("there are 100").action = Action::Read(vec![(0, Some(0))]);
            assert!(check(&bad).is_err(), "{at}");
        }
    }
}

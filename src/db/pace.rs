//! A rate that bytes keep to: what the background writes (`Options::rate_limit`), what a scrub reads.
//!
//! One moment says it all: when everything spent so far is paid for. Each byte moves it on by its
//! share of a second; it is never further back than [`BURST`], so that a pause is not made up for by
//! a flood. Who has spent too much waits for that moment; who must not wait only pays.
//!
//! Threads: any.

use crate::base::sync::Mutex;
use crate::fs::{Env, Instant};
use std::time::Duration;

/// What was not spent in a pause is spent later to this much.
const BURST: Duration = Duration::from_millis(100);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Account>);

#[derive(Debug)]
struct Account {
    /// Bytes a second; `None` without a limit.
    rate: Option<u64>,
    /// When all that was spent is paid for.
    paid_at: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(rate: Option<u64>) -> Pace {
        Pace(Mutex::new(Account {
            rate,
            paid_at: None,
        }))
    }

    /// From now on.
    pub(crate) fn set_rate(&self, rate: Option<u64>) {
        self.0.lock().rate = rate;
    }

    /// `bytes` were written or read.
    pub(crate) fn spend(&self, env: &Env, bytes: u64) {
        let mut account = self.0.lock();
        let Some(rate) = account.rate else {
            account.paid_at = None;
            return;
        };
        let now = env.now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let paid_at = account.paid_at.map_or(earliest, |at| at.max(earliest));
        let share = Duration::from_secs_f64(bytes as f64 / rate as f64);
        account.paid_at = Some(paid_at + share);
    }

    /// How long to wait until it may go on.
    pub(crate) fn ahead(&self, env: &Env) -> Duration {
        let account = self.0.lock();
        match (account.rate, account.paid_at) {
            (Some(_), Some(at)) => at.saturating_duration_since(env.now()),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Fs;
    use crate::fs::sim::SimFs;
    use std::path::Path;

    const MIB: u64 = 1 << 20;

    fn clock() -> (SimFs, Env) {
        let sim = SimFs::new(1);
        let env = Fs::sim(&sim, Path::new("/db")).env();
        (sim, env)
    }

    #[test]
    fn what_is_spent_is_waited_for_and_nothing_else() {
        let (sim, env) = clock();
        let pace = Pace::new(Some(MIB));
        assert_eq!(pace.ahead(&env), Duration::ZERO);
        pace.spend(&env, 2 * MIB);
        assert_eq!(pace.ahead(&env), Duration::from_secs(2) - BURST);
        sim.advance(Duration::from_secs(1));
        pace.spend(&env, MIB);
        assert_eq!(pace.ahead(&env), Duration::from_secs(2) - BURST);
        sim.advance(Duration::from_secs(2));
        assert_eq!(pace.ahead(&env), Duration::ZERO);
    }

    #[test]
    fn a_long_pause_is_made_up_for_by_a_burst_at_most() {
        let (sim, env) = clock();
        let pace = Pace::new(Some(MIB));
        pace.spend(&env, MIB);
        sim.advance(Duration::from_secs(3600));
        pace.spend(&env, MIB);
        assert_eq!(pace.ahead(&env), Duration::from_secs(1) - BURST);
    }

    #[test]
    fn a_limit_comes_and_goes() {
        let (_sim, env) = clock();
        let pace = Pace::new(None);
        pace.spend(&env, 1 << 40);
        assert_eq!(pace.ahead(&env), Duration::ZERO);
        pace.set_rate(Some(MIB));
        assert_eq!(pace.ahead(&env), Duration::ZERO, "from now on");
        pace.spend(&env, MIB);
        assert!(Duration::ZERO < pace.ahead(&env));
        pace.set_rate(None);
        assert_eq!(pace.ahead(&env), Duration::ZERO);
    }
}

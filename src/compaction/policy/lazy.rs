//! Lazy leveling: cheap to write, one sorted run at the bottom.
//!
//! ```text
//! level 0          a run for each flush; at level0_runs they become one run of level 1
//! level 1 … d - 1  up to tier_runs runs each; then they become one run of the next level
//! level d          the last: one run; the level above is merged into it slice by slice
//! ```
//! A run of level `l ≥ 1` has about `R(l) = write_buffer_bytes × level0_runs × tier_runs^(l - 1)`
//! bytes, a run of level 0 `R(0) = write_buffer_bytes`.
//!
//! **When a level is due.** Its runs reach the threshold; or its bytes exceed its limit, the
//! smaller of `write_buffer_bytes × level0_runs × size_ratio^l` (a backstop for runs that are
//! larger than usual) and the bytes of the last level (superseded data stays below live data).
//! The level with the largest score goes first, the upper one of equals.
//!
//! **When a level is added.** The last level moves down, no byte rewritten, when it is larger than
//! `size_ratio × R(d - 1)`. A byte written costs `d - 1` merges on its way through the tiers and
//! `last / (tier_runs × R(d - 1))` for its share of rewriting the last level; one tier more costs
//! 1 and divides the second term by `tier_runs`. With 8 and 4 the tier is added when that term is
//! 2 (it would be 8 if the whole level above were the measure), which is near the optimum for
//! writes, and old data is still bounded by the byte limit above. `tier_runs` counts as 2 at least
//! here, so that thresholds grow and the depth is logarithmic.
//!
//! A table that overlaps nothing beneath is moved straight to the last level (sequential loads),
//! unless it is tiny: then merging it once is cheaper than a file more for ever.

use super::super::job::{Job, Reason};
use super::select::Ground;
use super::{TINY, grown, overdue_bytes, overdue_runs, runs_unmerged};

/// The most urgent job.
pub(super) fn pick(ground: &Ground<'_>) -> Option<Job> {
    if is_outgrown(ground) {
        // Waits for running jobs if it must; the rest goes on meanwhile.
        if let Some(job) = ground.deepen(Reason::Size) {
            return Some(job);
        }
    }
    let mut due: Vec<(f64, Reason, u8)> = (0..=ground.deepest())
        .filter_map(|level| {
            let (score, reason) = score(ground, level);
            (1.0 <= score).then_some((score, reason, level))
        })
        .collect();
    // Stable: the upper one of equals stays first.
    due.sort_by(|a, b| b.0.total_cmp(&a.0));
    due.into_iter()
        .find_map(|(_, reason, level)| down(ground, level, reason))
}

/// Nobody writes: the uppermost level that is not the last goes down, until one run is left.
pub(super) fn tidy(ground: &Ground<'_>) -> Option<Job> {
    let deepest = ground.deepest();
    let upper = (0..deepest).find(|level| !ground.version.level(*level).is_empty());
    match upper {
        Some(level) => down(ground, level, Reason::Idle),
        None if 2 <= ground.version.level(deepest).len() => down(ground, deepest, Reason::Idle),
        None => None,
    }
}

/// The worst middle level: by runs as level 0, by bytes against its limit.
pub(super) fn debt(ground: &Ground<'_>) -> f64 {
    let middle = 1..ground.deepest();
    middle
        .map(|level| {
            let runs = runs_unmerged(ground.version.level(level));
            let bytes = ground.version.level_bytes_unmerged(level);
            overdue_runs(runs, ground.options.tier_runs)
                .max(overdue_bytes(bytes, limit(ground, level)))
        })
        .fold(0.0, f64::max)
}

fn score(ground: &Ground<'_>, level: u8) -> (f64, Reason) {
    let runs = ground.version.level(level).len();
    let by_runs = runs as f64 / f64::from(ground.runs_most(level));
    if level == 0 {
        return (by_runs, Reason::Runs);
    }
    if level == ground.deepest() && runs < 2 {
        return (0.0, Reason::Runs);
    }
    let by_bytes = ground.version.level_bytes(level) as f64 / limit(ground, level).max(1) as f64;
    // A level as large as its limit is not yet over it.
    if 1.0 < by_bytes && by_runs < by_bytes {
        (by_bytes, Reason::Size)
    } else {
        (by_runs, Reason::Runs)
    }
}

/// How many bytes a middle level may have.
fn limit(ground: &Ground<'_>, level: u8) -> u64 {
    let options = ground.options;
    let level0 = options
        .write_buffer_bytes
        .saturating_mul(options.level0_runs.into());
    let backstop = grown(level0, options.size_ratio, level.into());
    match ground.last() {
        Some(last) => backstop.min(last.bytes()),
        None => backstop,
    }
}

fn is_outgrown(ground: &Ground<'_>) -> bool {
    let (Some(last), Some(above)) = (ground.last(), ground.deepest().checked_sub(1)) else {
        return false;
    };
    let options = ground.options;
    let run = match above.checked_sub(1) {
        None => options.write_buffer_bytes,
        Some(power) => grown(
            options
                .write_buffer_bytes
                .saturating_mul(options.level0_runs.into()),
            options.tier_runs.max(2),
            power.into(),
        ),
    };
    run.saturating_mul(options.size_ratio.into()) < last.bytes()
}

/// Takes a level one step down.
fn down(ground: &Ground<'_>, level: u8, reason: Reason) -> Option<Job> {
    let deepest = ground.deepest();
    if level == deepest && level != 0 {
        return ground.collapse(reason, level, &|_| true);
    }
    let bottom = deepest.max(1);
    // `None` with a deepest level above 0: that level has several runs and is treated as a tier.
    let last = ground.last();
    let settled = last.is_some() || deepest == 0;
    if settled {
        let bytes_min = ground.options.table_bytes / TINY;
        if let Some(job) = ground.sink(reason, level, bottom, bytes_min) {
            return Some(job);
        }
    }
    if level + 1 == bottom && settled {
        ground.slice(reason, &ground.runs(level), last, bottom, &|_| true)
    } else {
        ground.whole(reason, level, level + 1, &|_| true)
    }
}

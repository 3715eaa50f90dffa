//! Models of the engine's protocols, run by loom in every order that its memory model allows.
//!
//! Each model runs the engine's own type (`Group`, `Switch`, `Published`, `Holdings`,
//! `SnapshotList`, `Board`, `Stall`, `Health`): what is made up is only what stands around it. And each
//! has twins with one step in the wrong order, which loom must refuse: a model that cannot fail
//! proves nothing.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --features sim --target-dir target/loom --lib models
//! ```
//! `LOOM_MAX_PREEMPTIONS` sets the bound, 2 without it; below the bound the exploration is complete.
//! loom takes SeqCst for AcqRel, and does not see loads that run ahead of their program order.
//! Time does not pass, so no wait here is saved by its time limit.

mod background;
mod files;
mod group;
mod switch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn builder() -> loom::model::Builder {
    let mut builder = loom::model::Builder::new();
    let bound = std::env::var("LOOM_MAX_PREEMPTIONS").map_or(Ok(2), |bound| bound.parse());
    builder.preemption_bound = Some(bound.expect("LOOM_MAX_PREEMPTIONS is a number"));
    builder.max_branches = 20_000;
    // Nothing cuts an exploration short.
    builder.max_permutations = None;
    builder.max_duration = None;
    builder
}

/// Runs the model in all orders, and prints how many there were.
fn holds(name: &str, model: impl Fn() + Sync + Send + 'static) {
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    let start = Instant::now();
    let builder = builder();
    let bound = builder.preemption_bound.unwrap_or_default();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let orders = orders.load(Ordering::Relaxed);
    println!(
        "suite | B1 loom, bound {bound}: {name} | {orders} orders | at least 2 | {} s | \
         .ci/races loom",
        start.elapsed().as_secs()
    );
    assert!(2 <= orders, "{name}: the threads never meet");
}

/// Runs a model with a mistake in it, which some order must show.
fn fails(name: &str, model: impl Fn() + Sync + Send + 'static) {
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    let run = AssertUnwindSafe(move || {
        builder().check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            model();
        });
    });
    let refused = catch_unwind(run).is_err();
    let orders = orders.load(Ordering::Relaxed);
    assert!(refused, "{name}: accepted in {orders} orders");
    println!("refused after {orders} orders: {name}");
}

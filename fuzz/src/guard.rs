//! What hostile bytes may cost: memory by their size, and a second.
//!
//! Inside [`within`] every allocation of the thread is counted. One that is larger than the input
//! and 64 KiB, or live ones above twice the input and 8 MiB (P19), end the process, so that the
//! fuzzer keeps the input. What a target remembers for its own comparisons is allocated inside
//! [`aside`] and does not count. [`run`] measures the processor time of one input.
//!
//! Threads: counters are per thread; a target runs the engine without background threads.
#![expect(
    unsafe_code,
    reason = "an allocator is unsafe to implement; this one hands on to the system's"
)]

use rustix::time::{ClockId, clock_gettime};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Duration;

/// One allocation may be larger than the input by this.
const ONE_BYTES: usize = 64 << 10;
/// All that live may be larger than twice the input by this.
const ALL_BYTES: usize = 8 << 20;
/// Processor time of one input at most. Wall time is the fuzzer's `-timeout`.
const TIME_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Limits {
    one: usize,
    all: usize,
    live: usize,
}

thread_local! {
    static LIMITS: Cell<Option<Limits>> = const { Cell::new(None) };
}

/// The system's allocator, with counters.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is handed to the system's allocator with the arguments it came with; what is
// counted beside it allocates nothing, or ends the process.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        give(layout.size());
        take(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn take(bytes: usize) {
    let Some(mut limits) = LIMITS.get() else {
        return;
    };
    limits.live += bytes;
    LIMITS.set(Some(limits));
    if limits.one < bytes || limits.all < limits.live {
        LIMITS.set(None);
        panic!(
            "P19: an allocation of {bytes} bytes, {} live, where one may have {} and all {}",
            limits.live, limits.one, limits.all
        );
    }
}

fn give(bytes: usize) {
    if let Some(mut limits) = LIMITS.get() {
        // What was allocated before counting began does not make room for more.
        limits.live = limits.live.saturating_sub(bytes);
        LIMITS.set(Some(limits));
    }
}

/// Runs a parser over so many bytes of input, within the limits of P19.
pub fn within<T>(input: usize, parse: impl FnOnce() -> T) -> T {
    within_budget(input, 0, parse)
}

/// As [`within`], where the engine may use a budget of its own besides: that of its options.
pub fn within_budget<T>(input: usize, budget: usize, parse: impl FnOnce() -> T) -> T {
    let limits = Limits {
        one: input + ONE_BYTES + budget,
        all: 2 * input + ALL_BYTES + budget,
        live: 0,
    };
    let outer = LIMITS.replace(Some(limits));
    let parsed = parse();
    LIMITS.set(outer);
    parsed
}

/// Allocates for the target itself, inside [`within`].
pub fn aside<T>(own: impl FnOnce() -> T) -> T {
    let outer = LIMITS.replace(None);
    let made = own();
    LIMITS.set(outer);
    made
}

/// Gives the input to a target, and with `FUZZ_PREFIXES` every beginning of it too.
pub fn run(data: &[u8], target: fn(&[u8])) {
    static PREFIXES: OnceLock<bool> = OnceLock::new();
    run_timed(data, target);
    if *PREFIXES.get_or_init(|| std::env::var_os("FUZZ_PREFIXES").is_some()) {
        (0..data.len()).for_each(|n| run_timed(&data[..n], target));
        // Read by `.ci/fuzz`, which counts.
        eprintln!("prefixes: {}", data.len());
    }
}

/// As [`run`], for a target whose input is a program: a second says nothing about it, and no
/// beginning of it is special.
pub fn run_untimed(data: &[u8], target: fn(&[u8])) {
    target(data);
}

fn run_timed(data: &[u8], target: fn(&[u8])) {
    let before = processor_time();
    target(data);
    let took = processor_time().saturating_sub(before);
    assert!(
        took <= TIME_MAX,
        "P19: {took:?} for {} bytes of input",
        data.len()
    );
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

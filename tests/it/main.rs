//! Integration tests: the public face as a user meets it.
#![expect(clippy::unwrap_used, reason = "here it is an assertion")]

mod backup;
mod bugs;
mod changes;
mod checkpoint;
mod close;
mod conditional;
mod errors;
mod events;
mod explain;
mod face;
mod faults;
mod feed;
mod filters;
mod ingest;
mod merge_operators;
mod merges;
mod model;
mod modes;
mod pauses;
mod ranges;
mod reader;
mod recovery;
#[cfg(feature = "lz4")]
mod released;
mod rot;
mod running;
mod slow;
mod space;
mod spec;
mod styles;
mod support;
mod temp_dir;
mod transactions;
mod ttl;

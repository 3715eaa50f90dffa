//! Specifications of the version room.

mod bytes;
mod crash;
mod fault;
mod live_set;
mod shape;
mod world;

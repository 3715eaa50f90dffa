//! Integration tests: the public face as a user meets it.

mod bugs;
mod crash;
mod face;
mod model;
mod spec;
mod support;

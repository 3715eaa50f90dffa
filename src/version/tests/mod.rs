//! Specifications of the version room.

mod shape;

//! Names of the rows that the model computes too.

pub(crate) const FILL: &str = "fill, ns a put";
pub(crate) const FILL_LEVELS: &str = "fill: levels at its end";
pub(crate) const FILL_RUNS: &str = "fill: runs at its end";
pub(crate) const FILL_SPACE: &str = "fill: tables ÷ live at its end";
pub(crate) const FILL_WRITTEN: &str = "fill: written ÷ put";
pub(crate) const REST_WRITTEN: &str = "at rest: written ÷ put";
pub(crate) const REST_RUNS: &str = "at rest: runs";
pub(crate) const REST_TABLES: &str = "at rest: tables";
pub(crate) const REST_SPACE: &str = "at rest: tables ÷ live";
pub(crate) const SCAN: &str = "scan, ns an entry";
pub(crate) const GET: &str = "get, ns";
pub(crate) const SEARCHED: &str = "get: tables searched";
pub(crate) const MISS: &str = "get missing, ns";
pub(crate) const MISS_SEARCHED: &str = "get missing: tables searched";
pub(crate) const GET_MANY: &str = "get_many of 100, ns a key";
pub(crate) const SEEK: &str = "seek and next 10, ns";
pub(crate) const INDEX: &str = "index, bytes a key";
pub(crate) const FILTER: &str = "filter, bytes a key";

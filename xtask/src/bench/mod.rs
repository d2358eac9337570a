//! What `cargo xtask bench` found: results, their tables, and how they compare with what was found before.

pub(crate) mod admission;
pub(crate) mod compare;
pub(crate) mod cpu;
pub(crate) mod document;
pub(crate) mod parts;
pub(crate) mod results;
pub(crate) mod scale;
pub(crate) mod table;
pub(crate) mod work;

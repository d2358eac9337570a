//! Events: from the kernel's ring to people and other programs.
//!
//! ```text
//! ring ─ bytes ─ decode ─▶ Event ─ enrich ─▶ record::Record ─ sink ─▶ JSON lines
//! ```
#![forbid(unsafe_code)]

pub mod admission;
pub mod container;
pub mod decode;
pub mod enrich;
pub mod pipeline;
pub mod record;
pub mod sink;
pub mod suggest;
pub mod text;
pub mod time;

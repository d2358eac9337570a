//! VM scenarios.

pub mod report;

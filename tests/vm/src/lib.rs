//! VM scenarios.

//! Policies: bytes in, values out.

pub mod image;

#![no_std]
#![forbid(unsafe_code)]
//! Placeholder until the ABI lands.

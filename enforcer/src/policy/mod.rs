//! Policies: bytes in, values out.
//!
//! ```text
//! bytes ─ source ─ parse ─▶ model::Policy ─ compile ─▶ image::PolicyImage ─ place ─▶ map entries
//!                    └──▶ diagnostics ◀────────┘
//! ```
//!
//! [`source`] holds text and places in it, [`parse`] finds every mistake in one go, [`model`] is what is left when there
//! is none, [`compile`] lowers it with [`glob`], [`automaton`], [`net`] and [`selectors`], [`place`] says what the image
//! becomes at a place in the maps, [`containers`] which containers a policy admits, and [`lookup`] runs the kernel's own decision function over it. No module here does
//! I/O, and none knows the kernel.
#![forbid(unsafe_code)]

pub mod automaton;
pub mod compile;
pub mod containers;
pub mod diagnostics;
pub mod digest;
pub mod families;
pub mod glob;
pub mod image;
pub mod lookup;
pub mod model;
pub mod net;
pub mod parse;
pub mod place;
pub mod question;
pub mod schema;
pub mod selectors;
pub mod source;
pub mod stats;
pub mod suggest;

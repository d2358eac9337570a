//! Policies on their way to the kernel: from bytes to proof.
//!
//! ```text
//! NAME.toml, NAME.pcrsig.json ─ sources ─▶ bytes ─ signed (dsse, statement, key, anchors) ─▶ SignedSet
//!                                                                                              │ admission: the TPM
//!                                            compile ─▶ Candidate                              ▼
//!                                                           └────────────── verify ──▶ VerifiedBundle ─▶ installer
//! ```

pub mod anchors;
pub mod approval;
pub mod compile;
pub mod dsse;
pub mod key;
pub mod signed;
pub mod sources;
pub mod statement;
pub mod verify;

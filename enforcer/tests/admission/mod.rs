//! Policies admitted by a TPM: every refusal, and what is measured and proved elsewhere.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod bundles;
mod disturbed;
mod emergencies;
mod evidence;
mod platforms;
mod slots;
mod vanishing;
mod world;

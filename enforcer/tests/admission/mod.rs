//! Policies admitted by a TPM: every refusal, and what is measured and proved elsewhere.

mod bundles;
mod emergencies;
mod evidence;
mod platforms;
mod slots;
mod world;

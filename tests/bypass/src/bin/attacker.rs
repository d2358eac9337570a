//! Carries out attacks: `["hard-link-over-program", "/evil", "/app"]`.
//!
//! See [`enforcer_vm_tests::performer`] for how it is told, and why it starts without Rust's runtime.
#![no_main]

/// Entry point without Rust's runtime.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const i8) -> i32 {
    enforcer_vm_tests::performer::main(enforcer_bypass_tests::attacks::perform)
}

//! Does one operation, or a list of them, and prints one JSON line about each.
//!
//! See [`enforcer_vm_tests::performer`] for how it is told. Some operations are wrappers whose remaining arguments are
//! another operation: `["fork", "open-read", "/etc/shadow"]`.
//!
//! The actor is what the tests put under a policy, so it must do what it is told and nothing else. That is why it has
//! no Rust runtime start-up (which reads `/proc/self/maps`) and spawns through plain `fork` and `execve`.
#![no_main]

mod files;
mod lineage;
mod looping;
mod memory;
mod network;
mod privileges;
mod programs;
mod system;
mod tampering;

use enforcer_vm_tests::performer;
use enforcer_vm_tests::report::{Failure, Outcome};

/// Entry point without Rust's runtime: see the module's documentation.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const i8) -> i32 {
    performer::main(perform)
}

/// Does one operation.
pub(crate) fn perform(op: &[String]) -> Outcome {
    let words: Vec<&str> = op.iter().map(String::as_str).collect();
    let Some((name, arguments)) = words.split_first() else { return Err(unknown("nothing")) };
    let rest = op.get(1..).unwrap_or_default();
    files::perform(name, arguments)
        .or_else(|| programs::perform(name, arguments))
        .or_else(|| memory::perform(name, arguments))
        .or_else(|| network::perform(name, arguments))
        .or_else(|| privileges::perform(name, arguments))
        .or_else(|| tampering::perform(name, arguments))
        .or_else(|| looping::perform(name, rest))
        .or_else(|| lineage::perform(name, rest))
        .unwrap_or_else(|| Err(unknown(name)))
}

fn unknown(name: &str) -> Failure {
    Failure { step: format!("unknown operation {name} or wrong number of arguments"), errno: libc::ENOSYS }
}

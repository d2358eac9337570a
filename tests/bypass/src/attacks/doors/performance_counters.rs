//! Performance counters see other processes and the kernel.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "performance-counters",
    told: "watch the kernel through performance counters",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["own"])
            .allowed_by("privileges.allow", "perf")
            .refused(Hook::PerfEventOpen, Family::Privilege, Reason::Privilege)
            .about("perf")
            .optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [_] = arguments(words)?;
    // struct perf_event_attr, version 0 (64 bytes): type PERF_TYPE_SOFTWARE, size, config PERF_COUNT_SW_PAGE_FAULTS.
    let mut attributes = [0_u64; 8];
    attributes[0] = 1 | (64 << 32);
    attributes[1] = 2;
    // SAFETY: the attributes have the size they claim.
    let event = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) };
    calls::descriptor(event).at("perf_event_open").map(calls::nothing)
}

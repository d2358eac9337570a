//! A BPF program can take the enforcer away.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "bpf",
    told: "load BPF objects, or open those of the enforcer",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["create"])
            .allowed_by("privileges.allow", "bpf")
            .refused(Hook::Bpf, Family::Privilege, Reason::Privilege)
            .about("bpf"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [_] = arguments(words)?;
    // BPF_MAP_CREATE of an array with one four-byte element: map_type, key_size, value_size, max_entries.
    let mut attributes = [0_u32; 32];
    attributes[..4].copy_from_slice(&[2, 4, 4, 1]);
    // SAFETY: the attributes are 128 bytes, of which the kernel reads as many.
    let map = unsafe { libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), size_of_val(&attributes)) };
    calls::descriptor(map).at("bpf").map(calls::nothing)
}

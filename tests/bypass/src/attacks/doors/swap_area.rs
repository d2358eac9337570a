//! A swap area receives the memory of every process, and may be a file that the workload can read.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "swap-area",
    told: "have the kernel write everybody's memory into a file of mine",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let row = |how: &str| {
        ATTACK
            .row(&[how, "{dir}/area"])
            .file("{dir}/area")
            .given("file.read", "{dir}/area")
            .given("file.write", "{dir}/area")
            .allowed_by("privileges.allow", "file-system")
            .refused(Hook::Capable, Family::Privilege, Reason::Privilege)
            .about("file-system")
    };
    vec![row("swapon"), row("swapoff")]
}

fn run(words: &[&str]) -> Outcome {
    let [how, area] = arguments(words)?;
    let path = calls::c_string(area).at("path")?;
    // SAFETY: the path ends in NUL.
    let done = unsafe {
        if how == "swapon" { libc::swapon(path.as_ptr(), 0) } else { libc::swapoff(path.as_ptr()) }
    };
    match calls::check(done) {
        // The file is no area: the attacker got as far as that being looked at.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok("reached the swap code".into()),
        other => other.at(how).map(calls::nothing),
    }
}

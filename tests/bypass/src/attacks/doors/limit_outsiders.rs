//! Limits and priorities can starve a process.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "limit-outsiders",
    told: "starve a process outside",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["prlimit", "{victim}"])
            .allowed_by("privileges.allow", "schedule")
            .refused(Hook::TaskPrlimit, Family::Privilege, Reason::Privilege)
            .about("schedule"),
        ATTACK
            .row(&["scheduler", "{victim}"])
            .allowed_by("privileges.allow", "schedule")
            .refused(Hook::TaskSetscheduler, Family::Privilege, Reason::Privilege)
            .about("schedule"),
        ATTACK
            .row(&["priority", "{victim}"])
            .allowed_by("privileges.allow", "schedule")
            .refused(Hook::TaskSetnice, Family::Privilege, Reason::Privilege)
            .about("schedule"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, victim] = arguments(words)?;
    let pid: i32 = calls::number(victim)?;
    let done = match how {
        "prlimit" => {
            let limit = libc::rlimit { rlim_cur: 1024, rlim_max: 4096 };
            // SAFETY: the kernel reads one limit and writes none.
            unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, core::ptr::null_mut()) }
        }
        "scheduler" => {
            let parameter = libc::sched_param { sched_priority: 0 };
            // SAFETY: the kernel reads the parameter.
            unsafe { libc::sched_setscheduler(pid, libc::SCHED_OTHER, &raw const parameter) }
        }
        // SAFETY: takes no pointers.
        _ => unsafe { libc::setpriority(libc::PRIO_PROCESS, pid.unsigned_abs(), 1) },
    };
    calls::check(done).at(how).map(calls::nothing)
}

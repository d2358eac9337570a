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
        ATTACK
            .row(&["io-priority", "{victim}"])
            .allowed_by("privileges.allow", "schedule")
            .refused(Hook::TaskSetioprio, Family::Privilege, Reason::Privilege)
            .about("schedule"),
        // Who may not look at a process does not get that far.
        ATTACK
            .row(&["memory", "{victim}"])
            .given("privileges.allow", "ptrace")
            .allowed_by("privileges.allow", "schedule")
            .refused(Hook::TaskMovememory, Family::Privilege, Reason::Privilege)
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
        "io-priority" => {
            const IOPRIO_WHO_PROCESS: i32 = 1;
            const BEST_EFFORT_LOWEST: i32 = 2 << 13 | 7;
            // SAFETY: takes no pointers.
            let set =
                unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, BEST_EFFORT_LOWEST) };
            return calls::check(set).at(how).map(calls::nothing);
        }
        "memory" => {
            // From the first node to the first node.
            let nodes = 1_u64;
            // SAFETY: both sets of nodes are as long as said.
            let moved = unsafe {
                libc::syscall(libc::SYS_migrate_pages, pid, 64_u64, &raw const nodes, &raw const nodes)
            };
            return calls::check(moved).at(how).map(calls::nothing);
        }
        // SAFETY: takes no pointers.
        _ => unsafe { libc::setpriority(libc::PRIO_PROCESS, pid.unsigned_abs(), 1) },
    };
    calls::check(done).at(how).map(calls::nothing)
}

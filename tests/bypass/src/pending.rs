//! Attacks that still get through, or cannot be told from what is allowed.

/// Their names, and what will stop them. They run without a policy only, which keeps the attack itself working until
/// there is something to stop it; then the entry goes.
pub const PENDING: &[(&str, &str)] = &[
    ("removexattr", "right `write` on the path instead of a privilege"),
    ("set-times", "right `write` on the path, in inode_setattr"),
    ("set-acl", "right `write` on the path, in inode_set_acl"),
    ("set-flags", "right `write` on the path, in inode_file_setattr"),
    ("read-implies-exec-heap", "mmap_addr"),
    ("read-implies-exec-program", "mmap_addr"),
    ("inherited-connection", "socket_sendmsg without an address"),
    ("received-connection", "socket_sendmsg without an address"),
    ("fanotify", "path_notify, with a privilege"),
    ("inotify", "path_notify, with right `read`"),
    ("keyring", "key_alloc, with a privilege"),
    ("io-uring-setup", "uring_sqpoll and uring_override_creds, with a privilege"),
    ("set-time", "settime, with a privilege"),
    ("quota", "quotactl, with a privilege"),
    ("kernel-log", "syslog, with a privilege"),
    ("tun-device", "tun_dev_create, with a privilege"),
    ("limit-outsiders", "task_prlimit, task_setscheduler, task_setnice, with a privilege"),
    ("netlink-protocol", "rules about netlink protocols"),
    ("sctp-connectx-several", "rules about each address of a list"),
    ("signal-by-descriptor", "file_send_sigiotask, with the privilege `signal`"),
    ("mount-setattr", "nothing: no LSM hook sees mount_setattr(2)"),
    ("raw-other-destination", "nothing yet: `network.raw` trusts who has it with the headers"),
    ("ptrace-own-child", "ptrace_traceme and ptrace_access_check also inside the workload"),
    (
        "overlay-copy-up",
        "it is refused, but so is what is listed: the kernel's own work on the copy must pass",
    ),
    ("inherited-file-read", "file_permission, or a look at all descriptors when a program starts"),
];

/// Whether an attack still gets through.
#[must_use]
pub fn is_pending(name: &str) -> bool {
    PENDING.iter().any(|(pending, _)| *pending == name)
}

//! The control points: every program, the kernel hook it sits on, and what it decides.

use crate::codes::codes;

codes! {
    /// A program of ours. The name is the LSM hook or tracepoint it attaches to, unless [`Hook::target`] says another.
    pub enum Hook : u8 {
        /// Start of a program, and of a script's interpreter.
        BprmCheckSecurity = 1 => "bprm_check_security",
        /// The point after which the new program runs: arms labels.
        BprmCommittedCreds = 2 => "bprm_committed_creds",
        /// Every open.
        FileOpen = 3 => "file_open",
        /// Every mapping.
        MmapFile = 4 => "mmap_file",
        /// Every change of protection.
        FileMprotect = 5 => "file_mprotect",
        /// Attaching System V shared memory.
        ShmShmat = 6 => "shm_shmat",
        /// A file descriptor received over a unix socket.
        FileReceive = 7 => "file_receive",
        /// Creation of files, fifos, devices and unix socket names.
        PathMknod = 8 => "path_mknod",
        /// Creation of directories.
        PathMkdir = 9 => "path_mkdir",
        /// Creation of symbolic links.
        PathSymlink = 10 => "path_symlink",
        /// Removal of names.
        PathUnlink = 11 => "path_unlink",
        /// Removal of directories.
        PathRmdir = 12 => "path_rmdir",
        /// Renames and exchanges.
        PathRename = 13 => "path_rename",
        /// Hard links.
        PathLink = 14 => "path_link",
        /// `truncate(2)`.
        PathTruncate = 15 => "path_truncate",
        /// Mode changes.
        PathChmod = 16 => "path_chmod",
        /// Owner changes.
        PathChown = 17 => "path_chown",
        /// Setting extended attributes.
        InodeSetxattr = 18 => "inode_setxattr",
        /// Removing extended attributes.
        InodeRemovexattr = 19 => "inode_removexattr",
        /// `socket(2)`.
        SocketCreate = 20 => "socket_create",
        /// `connect(2)`.
        SocketConnect = 21 => "socket_connect",
        /// Every send.
        SocketSendmsg = 22 => "socket_sendmsg",
        /// `bind(2)`.
        SocketBind = 23 => "socket_bind",
        /// `listen(2)`.
        SocketListen = 24 => "socket_listen",
        /// Connecting to a unix stream socket.
        UnixStreamConnect = 25 => "unix_stream_connect",
        /// Sending to a unix datagram socket.
        UnixMaySend = 26 => "unix_may_send",
        /// SCTP's own bind and connect operations.
        SctpBindConnect = 27 => "sctp_bind_connect",
        /// Birth of a task: the label is copied.
        TaskAlloc = 28 => "task_alloc",
        /// Birth of a cgroup: its policy is bound.
        CgroupMkdir = 29 => "cgroup_mkdir",
        /// Death of a cgroup.
        CgroupRmdir = 30 => "cgroup_rmdir",
        /// A task moved into a cgroup.
        CgroupAttachTask = 31 => "cgroup_attach_task",
        /// `mount(2)`.
        SbMount = 32 => "sb_mount",
        /// `umount(2)`.
        SbUmount = 33 => "sb_umount",
        /// `move_mount(2)`.
        MoveMount = 34 => "move_mount",
        /// `pivot_root(2)`.
        SbPivotroot = 35 => "sb_pivotroot",
        /// `chroot(2)`.
        PathChroot = 36 => "path_chroot",
        /// Creation of a user namespace.
        UsernsCreate = 37 => "userns_create",
        /// Access to another task's memory or descriptors.
        PtraceAccessCheck = 38 => "ptrace_access_check",
        /// Asking to be traced.
        PtraceTraceme = 39 => "ptrace_traceme",
        /// `bpf(2)`.
        Bpf = 40 => "bpf",
        /// `perf_event_open(2)`.
        PerfEventOpen = 41 => "perf_event_open",
        /// The kernel asking user space to load a module on the task's behalf.
        KernelModuleRequest = 42 => "kernel_module_request",
        /// Loading kernel code from a file (modules, kexec images).
        KernelReadFile = 43 => "kernel_read_file",
        /// Loading kernel code from a buffer.
        KernelLoadData = 44 => "kernel_load_data",
        /// `io_uring` driver commands.
        UringCmd = 45 => "uring_cmd",
        /// Signals.
        TaskKill = 46 => "task_kill",
        /// Remounts.
        SbRemount = 47 => "sb_remount",
        /// Every mapping, and growth of the heap.
        MmapAddr = 48 => "mmap_addr",
        /// The kernel is asked whether it would start a program (`AT_EXECVE_CHECK`).
        BprmCredsForExec = 49 => "bprm_creds_for_exec",
        /// Changes of attributes; times are judged here.
        InodeSetattr = 50 => "inode_setattr",
        /// Setting an access control list.
        InodeSetAcl = 51 => "inode_set_acl",
        /// Removing an access control list.
        InodeRemoveAcl = 52 => "inode_remove_acl",
        /// Setting file flags and project ids (`FS_IOC_SETFLAGS`, `FS_IOC_FSSETXATTR`).
        InodeFileSetattr = 53 => "inode_file_setattr",
        /// `ioctl(2)`.
        FileIoctl = 54 => "file_ioctl",
        /// `ioctl(2)` of 32-bit programs.
        FileIoctlCompat = 55 => "file_ioctl_compat",
        /// Watches of inotify, fanotify and dnotify.
        PathNotify = 56 => "path_notify",
        /// Creation of keys and keyrings.
        KeyAlloc = 57 => "key_alloc",
        /// Use of keys and keyrings.
        KeyPermission = 58 => "key_permission",
        /// `io_uring` with a kernel thread that submits.
        UringSqpoll = 59 => "uring_sqpoll",
        /// `io_uring` requests with other credentials.
        UringOverrideCreds = 60 => "uring_override_creds",
        /// Setting the clock.
        Settime = 61 => "settime",
        /// `quotactl(2)`.
        Quotactl = 62 => "quotactl",
        /// Turning quotas on.
        QuotaOn = 63 => "quota_on",
        /// The kernel's log.
        Syslog = 64 => "syslog",
        /// Creation of a tun or tap device.
        TunDevCreate = 65 => "tun_dev_create",
        /// Opening an existing tun or tap device.
        TunDevOpen = 66 => "tun_dev_open",
        /// Changing another task's scheduling.
        TaskSetscheduler = 67 => "task_setscheduler",
        /// Changing a task's nice value.
        TaskSetnice = 68 => "task_setnice",
        /// Changing a task's I/O priority.
        TaskSetioprio = 69 => "task_setioprio",
        /// Changing another task's limits.
        TaskPrlimit = 70 => "task_prlimit",
        /// Moving another task's memory between nodes.
        TaskMovememory = 71 => "task_movememory",
        /// Use of a capability.
        Capable = 72 => "capable",
        /// `fcntl(2)`: whom a descriptor signals.
        FileFcntl = 73 => "file_fcntl",
        /// `setsockopt(2)`: headers of one's own making.
        SocketSetsockopt = 74 => "socket_setsockopt",
        /// Start of a program that inherits descriptors from outside the workload.
        BprmCredsFromFile = 75 => "bprm_creds_from_file",
        /// Writing to a socket without a message, by `sendfile(2)` and `splice(2)`.
        FilePermission = 76 => "file_permission",
        /// Start of a program that is pinned to contents: compares its digest, which the kernel sleeps to compute.
        BprmCheckDigest = 80 => "bprm_check_digest",
        /// A file is made. This and the next seven see what overlayfs does below itself, too.
        InodeCreate = 90 => "inode_create",
        /// A directory is made.
        InodeMkdir = 91 => "inode_mkdir",
        /// A fifo, device or socket name is made.
        InodeMknod = 92 => "inode_mknod",
        /// A symbolic link is made.
        InodeSymlink = 93 => "inode_symlink",
        /// A hard link is made.
        InodeLink = 94 => "inode_link",
        /// A name goes.
        InodeUnlink = 95 => "inode_unlink",
        /// A directory goes.
        InodeRmdir = 96 => "inode_rmdir",
        /// A name changes.
        InodeRename = 97 => "inode_rename",
        /// A descriptor of a BPF map is made.
        BpfMap = 98 => "bpf_map",
        /// A descriptor of a BPF program is made.
        BpfProg = 99 => "bpf_prog",
        /// A descriptor signals its owner.
        FileSendSigiotask = 100 => "file_send_sigiotask",
        /// Death of a task: what was kept of its label goes, on kernels that may forget a label.
        TaskFree = 101 => "task_free",
    }
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// BPF LSM, non-sleepable.
    Lsm,
    /// BPF LSM, sleepable: for helpers that read files.
    LsmSleepable,
    /// BTF tracepoint.
    Tracepoint,
}

impl Hook {
    /// How the program is attached.
    pub const fn attach(self) -> Attach {
        match self {
            Self::CgroupMkdir | Self::CgroupRmdir | Self::CgroupAttachTask => Attach::Tracepoint,
            Self::BprmCheckDigest => Attach::LsmSleepable,
            _ => Attach::Lsm,
        }
    }

    /// What the kernel calls the LSM hook or tracepoint.
    pub const fn target(self) -> &'static str {
        match self {
            Self::BprmCheckDigest => Self::BprmCheckSecurity.name(),
            _ => self.name(),
        }
    }

    /// Every program in the order to attach in.
    ///
    /// The kernel calls the programs of a hook last attached first (`hlist_add_head` in `kernel/bpf/trampoline.c`), and
    /// [`Hook::BprmCheckDigest`] acts on what [`Hook::BprmCheckSecurity`] left it, so it is attached before. Were the
    /// order another, pinned programs would be refused.
    pub fn in_attach_order() -> impl DoubleEndedIterator<Item = Self> {
        let digest = Self::BprmCheckDigest;
        core::iter::once(digest).chain(Self::ALL.iter().copied().filter(move |hook| *hook != digest))
    }
}

codes! {
    /// Doors that are closed to a workload unless its policy names them.
    pub enum Privilege : u8 {
        /// mount, umount, remount, move_mount.
        Mount = 0 => "mount",
        /// pivot_root.
        PivotRoot = 1 => "pivot-root",
        /// chroot.
        Chroot = 2 => "chroot",
        /// Creating user namespaces.
        UserNamespace = 3 => "user-namespace",
        /// ptrace, process_vm_*, /proc/PID/mem, pidfd_getfd; looking at tasks outside the workload.
        Ptrace = 4 => "ptrace",
        /// bpf.
        Bpf = 5 => "bpf",
        /// perf_event_open.
        Perf = 6 => "perf",
        /// Loading kernel modules, kexec images and firmware, or making the kernel do so.
        KernelModule = 7 => "kernel-module",
        /// io_uring driver commands.
        UringCommand = 8 => "uring-command",
        /// Signals to tasks outside the workload.
        Signal = 9 => "signal",
        /// Device nodes.
        MakeDevice = 10 => "make-device",
        // 11 was `set-xattr`.
        /// Renaming directories, which renames everything below them.
        RenameDirectory = 12 => "rename-directory",
        /// fanotify groups that decide about other tasks' accesses, and watches of whole mounts and file systems.
        Fanotify = 13 => "fanotify",
        /// Keys and keyrings of the kernel.
        Keyring = 14 => "keyring",
        /// Setting the clock.
        SetTime = 15 => "set-time",
        /// Disk quotas.
        Quota = 16 => "quota",
        /// Reading and clearing the kernel's log.
        KernelLog = 17 => "kernel-log",
        /// tun and tap devices.
        Tun = 18 => "tun",
        /// Scheduling, priorities and limits of tasks outside the workload.
        Schedule = 19 => "schedule",
        /// Rebooting, and loading another kernel.
        Reboot = 20 => "reboot",
        /// I/O ports, raw memory and other ways to change the running kernel.
        RawIo = 21 => "raw-io",
        /// Typing into a terminal as if its user did (`TIOCSTI`, `TIOCLINUX`).
        TerminalInput = 22 => "terminal-input",
        /// Writing IP headers: `IP_HDRINCL`, IP options, routing headers, further SCTP destinations by control message.
        RawHeaders = 23 => "raw-headers",
        /// Addresses, routes, filters and devices of the network.
        NetworkAdmin = 24 => "network-admin",
        /// Swap areas, and whatever else administers a file system: freezing, snapshots, labels.
        FileSystem = 25 => "file-system",
    }
}

impl Privilege {
    /// The bit in [`crate::abi::Head::privileges`].
    #[inline(always)]
    pub const fn bit(self) -> u32 {
        1 << self.code()
    }
}

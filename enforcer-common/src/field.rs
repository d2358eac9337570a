//! The struct fields of the running kernel that the programs read.
//!
//! One table. The programs hold a marker in the place of each offset, in the very load or sum that uses it; user space
//! resolves each entry from the kernel's BTF and puts the offset there before the object is loaded. So a field costs one
//! instruction, as if the programs had been compiled for the running kernel, and one binary verifies on every kernel that
//! has the fields, wherever they lie. Adding a field is adding a line here.

/// What an [`Entry`]'s offset says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Bytes from the start of the struct. A kernel without the field is not supported.
    Bytes,
    /// Bytes from the start of the struct, or [`ABSENT`].
    OptionalBytes,
    /// Bits from the start of the struct, or [`ABSENT`].
    OptionalBit,
}

/// The offset of a field that the running kernel lacks.
pub const ABSENT: u32 = u32::MAX;

/// A field in a program's code.
pub trait Marked: Copy {
    /// Its line in the table.
    const ENTRY: Entry;
}

/// What an instruction holds until the loader puts an offset there: the first of [`Entry::COUNT`] markers.
pub mod marker {
    /// As an immediate operand of [`IMMEDIATE_CODES`], and nowhere else. The loader puts the offset there, sign-extended:
    /// [`super::ABSENT`] is all ones, and only moved.
    pub const IMMEDIATE: i32 = 0x7ead_c000;
    /// As the displacement of [`LOAD_CODES`], and of no other access. No map value is that large, and no stack.
    pub const DISPLACEMENT: i16 = 0x7000;
    /// What stands there where the kernel lacks the field. The verifier refuses a program that gets to such a load.
    pub const NOWHERE: i16 = i16::MAX;
    /// `BPF_ALU64 | BPF_K` with `BPF_ADD`, `BPF_SUB` and [`MOVE`].
    pub const IMMEDIATE_CODES: [u8; 3] = [0x07, 0x17, MOVE];
    /// `BPF_MOV`.
    pub const MOVE: u8 = 0xb7;
    /// `BPF_LDX | BPF_MEM` with `BPF_W`, `BPF_H`, `BPF_B` and `BPF_DW`.
    pub const LOAD_CODES: [u8; 4] = [0x61, 0x69, 0x71, 0x79];
}

impl Entry {
    /// What stands for its offset as an immediate operand.
    #[must_use]
    pub const fn immediate(self) -> i32 {
        marker::IMMEDIATE + self as i32
    }

    /// What stands for its offset as a displacement.
    #[must_use]
    pub const fn displacement(self) -> i16 {
        marker::DISPLACEMENT + self as i16
    }
}

const _: () = assert!(Entry::COUNT < 0xfff, "there are markers for all");

macro_rules! fields {
    ($($(#[$meta:meta])* $variant:ident => $structure:literal . $path:literal $(as $shape:ident)?,)+) => {
        /// A line of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Entry { $($(#[$meta])* $variant,)+ }

        impl Entry {
            /// Every field, in table order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// What its offset says.
            pub const fn shape(self) -> Shape {
                match self { $(Self::$variant => fields!(@shape $($shape)?),)+ }
            }

            /// The struct that holds it.
            pub const fn structure(self) -> &'static str {
                match self { $(Self::$variant => $structure,)+ }
            }

            /// The member, dotted where it lies inside another member. Anonymous structs and unions are not named.
            pub const fn path(self) -> &'static str {
                match self { $(Self::$variant => $path,)+ }
            }
        }

        /// The fields as programs name them, after their place. Each is a type of its own, because the operands of an
        /// instruction must be constants.
        #[derive(Clone, Copy, Debug)]
        pub struct Field;

        #[expect(non_upper_case_globals, reason = "they are named like the entries that they stand for")]
        impl Field { $($(#[$meta])* pub const $variant: at::$variant = at::$variant;)+ }

        /// The types of [`Field`]'s constants.
        pub mod at {
            $(
                $(#[$meta])*
                #[derive(Clone, Copy, Debug)]
                pub struct $variant;

                impl super::Marked for $variant {
                    const ENTRY: super::Entry = super::Entry::$variant;
                }
            )+
        }
    };
    (@shape) => { Shape::Bytes };
    (@shape $shape:ident) => { Shape::$shape };
}

fields! {
    /// `struct inode *`.
    FileInode => "file"."f_inode",
    /// `fmode_t`.
    FileMode => "file"."f_mode",
    /// `unsigned int`.
    FileFlags => "file"."f_flags",
    /// `void *`: the `struct socket` of a socket's file.
    FilePrivateData => "file"."private_data",
    /// `struct files_struct *`.
    TaskFiles => "task_struct"."files",
    /// `struct fdtable *`.
    FilesFdt => "files_struct"."fdt",
    /// `unsigned int`: how many descriptors there is room for.
    FdtMaxFds => "fdtable"."max_fds",
    /// `struct file **`.
    FdtFd => "fdtable"."fd",
    /// `unsigned long *`: a bit for each descriptor.
    FdtCloseOnExec => "fdtable"."close_on_exec",
    /// `struct vfsmount *`.
    FileMnt => "file"."f_path.mnt",
    /// `struct dentry *`.
    FileDentry => "file"."f_path.dentry",
    /// `struct vfsmount *`.
    PathMnt => "path"."mnt",
    /// `struct dentry *`.
    PathDentry => "path"."dentry",
    /// `struct dentry *`.
    DentryParent => "dentry"."d_parent",
    /// Low half of `hash_len`; the high half is the length of the name.
    DentryNameLen => "dentry"."d_name.len",
    /// `const unsigned char *`.
    DentryName => "dentry"."d_name.name",
    /// NULL when the dentry is not hashed: the name is gone.
    DentryHashPprev => "dentry"."d_hash.pprev",
    /// `struct inode *`.
    DentryInode => "dentry"."d_inode",
    /// `struct super_block *`.
    DentrySb => "dentry"."d_sb",
    /// `umode_t`.
    InodeMode => "inode"."i_mode",
    /// `unsigned long`: its number on its file system.
    InodeNumber => "inode"."i_ino",
    /// `struct hlist_head`: the dentries that show it.
    InodeAliases => "inode"."i_dentry" as OptionalBytes,
    /// `struct hlist_node`: what [`Field::InodeAliases`] lists. Used before 6.6.
    DentryAlias => "dentry"."d_u.d_alias" as OptionalBytes,
    /// `unsigned int`: how many names it has.
    InodeLinks => "inode"."i_nlink",
    /// `s64`: seconds of its last change (before 6.6).
    InodeChangedSeconds61 => "inode"."i_ctime.tv_sec" as OptionalBytes,
    /// `long`: and nanoseconds.
    InodeChangedNanos61 => "inode"."i_ctime.tv_nsec" as OptionalBytes,
    /// The same from 6.6 to 6.10.
    InodeChangedSeconds66 => "inode"."__i_ctime.tv_sec" as OptionalBytes,
    /// `long`: and nanoseconds.
    InodeChangedNanos66 => "inode"."__i_ctime.tv_nsec" as OptionalBytes,
    /// `time64_t`: the same since 6.11.
    InodeChangedSeconds => "inode"."i_ctime_sec" as OptionalBytes,
    /// `u32`: and nanoseconds. Since 6.13 the highest bit says that somebody has asked for it.
    InodeChangedNanos => "inode"."i_ctime_nsec" as OptionalBytes,
    /// `struct fsverity_info *`, NULL until a file with fs-verity is opened (before 6.18).
    InodeVerity => "inode"."i_verity_info" as OptionalBytes,
    /// `const struct fsverity_hash_alg *`.
    VerityAlgorithm => "fsverity_info"."tree_params.hash_alg" as OptionalBytes,
    /// `u8 [64]`: the digest that `FS_IOC_MEASURE_VERITY` returns.
    VerityDigest => "fsverity_info"."file_digest" as OptionalBytes,
    /// `unsigned int`: length of the digest. 32 says SHA-256.
    VerityAlgorithmSize => "fsverity_hash_alg"."digest_size" as OptionalBytes,
    /// `struct super_block *`.
    InodeSb => "inode"."i_sb",
    /// `dev_t`: the number of the file system.
    SbDevice => "super_block"."s_dev",
    /// Magic number of the file system.
    SbMagic => "super_block"."s_magic",
    /// `struct dentry *`.
    SbRoot => "super_block"."s_root",
    /// The mounts of the file system: a list head, or (since 6.18) the first `struct mount *`.
    SbMounts => "super_block"."s_mounts",
    /// Links the mounts of a file system: a list head, before 6.18.
    MountInstance => "mount"."mnt_instance" as OptionalBytes,
    /// Links the mounts of a file system: `struct mount *`, since 6.18.
    MountNextForSb => "mount"."mnt_next_for_sb" as OptionalBytes,
    /// Any field of the struct whose existence (since 6.2) says that hooks on attributes get an idmap first.
    MntIdmapCount => "mnt_idmap"."count" as OptionalBytes,
    /// `unsigned int`: which attributes change.
    IattrValid => "iattr"."ia_valid",
    /// Where a mount shows up in a vfsmount pointer.
    MountVfs => "mount"."mnt",
    /// `struct mount *`.
    MountParent => "mount"."mnt_parent",
    /// `struct dentry *`.
    MountMountpoint => "mount"."mnt_mountpoint",
    /// `struct mnt_namespace *`.
    MountNs => "mount"."mnt_ns",
    /// `int`: its number, while it is there.
    MountId => "mount"."mnt_id",
    /// `int`: the group of mounts that what is mounted below propagates to; 0 if there is none.
    MountGroup => "mount"."mnt_group_id",
    /// `struct dentry *`, root of the mounted tree.
    MountRoot => "mount"."mnt.mnt_root",
    /// The same, seen from the part of a mount that hooks get.
    VfsmountRoot => "vfsmount"."mnt_root",
    /// `struct file *`.
    BprmFile => "linux_binprm"."file",
    /// `unsigned long`: where the arguments start on the new program's stack.
    BprmP => "linux_binprm"."p",
    /// `int`: how many arguments there are.
    BprmArgc => "linux_binprm"."argc",
    /// `int`: how many environment variables follow them.
    BprmEnvc => "linux_binprm"."envc",
    /// `unsigned int`: what makes the start unsafe, `LSM_UNSAFE_*`.
    BprmUnsafe => "linux_binprm"."unsafe",
    /// The kernel is only asked whether it would start the file (`AT_EXECVE_CHECK`, since 6.14).
    BprmIsCheck => "linux_binprm"."is_check" as OptionalBit,
    /// `struct pid *` that the file signals, where the file holds its owner (before 6.12).
    FileOwnerPid => "file"."f_owner.pid" as OptionalBytes,
    /// `enum pid_type` of that, in the same place.
    FileOwnerPidType => "file"."f_owner.pid_type" as OptionalBytes,
    /// `struct fown_struct *` since 6.12, NULL until somebody sets an owner; the struct itself before.
    FileOwner => "file"."f_owner",
    /// `struct pid *` that the file signals.
    FownPid => "fown_struct"."pid",
    /// `enum pid_type` of that.
    FownPidType => "fown_struct"."pid_type",
    /// `unsigned int`: how many pid namespaces deep.
    PidLevel => "pid"."level",
    /// `struct hlist_head []`, by `enum pid_type`.
    PidTasks => "pid"."tasks",
    /// `struct upid []`, one for each namespace.
    PidNumbers => "pid"."numbers",
    /// `int`: the number in one namespace.
    UpidNr => "upid"."nr",
    /// `unsigned long`: the number of the system call.
    RegsOrigAx => "pt_regs"."orig_ax",
    /// `unsigned long`: its third argument, on both ABIs.
    RegsDx => "pt_regs"."dx",
    /// `unsigned long`: the first argument of a 32-bit call.
    RegsBx => "pt_regs"."bx",
    /// `unsigned long`: where the stack of the program is.
    MmStartStack => "mm_struct"."start_stack",
    /// `struct file *`.
    VmaFile => "vm_area_struct"."vm_file",
    /// `unsigned long`.
    VmaFlags => "vm_area_struct"."vm_flags",
    /// Non-NULL once a private mapping holds pages of its own.
    VmaAnonVma => "vm_area_struct"."anon_vma",
    /// `struct nsproxy *`.
    TaskNsproxy => "task_struct"."nsproxy",
    /// `struct mnt_namespace *`.
    NsproxyMnt => "nsproxy"."mnt_ns",
    /// Inode number of a mount namespace.
    MntNamespaceInum => "mnt_namespace"."ns.inum",
    /// `struct user_namespace *` whose root may change the mounts.
    MntNamespaceUserNs => "mnt_namespace"."user_ns",
    /// `int`: how many user namespaces are above it. Zero for the first one only.
    UserNamespaceLevel => "user_namespace"."level",
    /// `struct task_struct *` of the process that reaps all others in a pid namespace.
    PidNamespaceReaper => "pid_namespace"."child_reaper",
    /// `struct fs_struct *`.
    TaskFs => "task_struct"."fs",
    /// `struct vfsmount *` that the root directory is on.
    FsRootMnt => "fs_struct"."root.mnt",
    /// `struct dentry *` of the root directory.
    FsRootDentry => "fs_struct"."root.dentry",
    /// Where a proc inode lies around its VFS inode.
    ProcInodeVfs => "proc_inode"."vfs_inode",
    /// `struct pid *` of a `/proc/PID` inode.
    ProcInodePid => "proc_inode"."pid",
    /// `struct task_struct *` of the thread group's leader.
    TaskGroupLeader => "task_struct"."group_leader",
    /// `struct pid *`.
    TaskThreadPid => "task_struct"."thread_pid",
    /// `struct hlist_node []`, by `enum pid_type`: what [`Entry::PidTasks`] lists.
    TaskPidLinks => "task_struct"."pid_links",
    /// `struct task_struct *`.
    TaskRealParent => "task_struct"."real_parent",
    /// `pid_t`.
    TaskTgid => "task_struct"."tgid",
    /// `u64`: when it started, in nanoseconds since boot.
    TaskStarted => "task_struct"."start_boottime",
    /// `u32`: the id of a BPF map.
    BpfMapId => "bpf_map"."id",
    /// `struct bpf_prog_aux *`.
    BpfProgAux => "bpf_prog"."aux",
    /// `u32`: the id of a BPF program.
    BpfProgAuxId => "bpf_prog_aux"."id",
    /// `char [16]`.
    TaskComm => "task_struct"."comm",
    /// `struct mm_struct *`.
    TaskMm => "task_struct"."mm",
    /// `int`: whether system calls are filtered.
    TaskSeccompMode => "task_struct"."seccomp.mode",
    /// `u32`: how the task entered the kernel.
    TaskThreadStatus => "task_struct"."thread_info.status",
    /// `unsigned int`.
    TaskPersonality => "task_struct"."personality",
    /// `const struct cred *` that the task acts with.
    TaskCred => "task_struct"."cred",
    /// `const struct cred *` that is the task's own.
    TaskRealCred => "task_struct"."real_cred",
    /// `unsigned int`.
    TaskFlags => "task_struct"."flags",
    /// `void *`: the `struct io_worker` of an `io_uring` worker.
    TaskWorkerPrivate => "task_struct"."worker_private",
    /// `struct io_wq_work *` that the worker does.
    IoWorkerWork => "io_worker"."cur_work",
    /// Where that lies in a request.
    IoRequestWork => "io_kiocb"."work",
    /// `u8`: `IORING_OP_*`.
    IoRequestOpcode => "io_kiocb"."opcode",
    /// `struct css_set *`.
    TaskCgroups => "task_struct"."cgroups",
    /// `struct cgroup *` on the unified hierarchy.
    CssSetDflCgrp => "css_set"."dfl_cgrp",
    /// `struct file *`.
    MmExeFile => "mm_struct"."exe_file",
    /// `unsigned long`. Zero until the kernel has mapped a new program: the loaders set it last.
    MmStartCode => "mm_struct"."start_code",
    /// `struct kernfs_node *`.
    CgroupKn => "cgroup"."kn",
    /// `struct cgroup_root *`.
    CgroupRoot => "cgroup"."root",
    /// `struct cgroup_subsys_state *` of the parent.
    CgroupSelfParent => "cgroup"."self.parent",
    /// `struct cgroup *`.
    CssCgroup => "cgroup_subsys_state"."cgroup",
    /// `u64`: the cgroup's id.
    KernfsId => "kernfs_node"."id",
    /// Zero for the unified hierarchy.
    CgroupRootHierarchy => "cgroup_root"."hierarchy_id",
    /// `struct sock *`.
    SocketSk => "socket"."sk",
    /// `short`.
    SocketType => "socket"."type",
    /// `unsigned short`: address family.
    SockFamily => "sock"."__sk_common.skc_family",
    /// `u16`.
    SockProtocol => "sock"."sk_protocol",
    /// Local port, host byte order.
    SockNum => "sock"."__sk_common.skc_num",
    /// Local IPv4 address.
    SockRcvSaddr => "sock"."__sk_common.skc_rcv_saddr",
    /// Local IPv6 address.
    SockV6RcvSaddr => "sock"."__sk_common.skc_v6_rcv_saddr",
    /// Peer's port, network byte order; 0 while there is no peer.
    SockDport => "sock"."__sk_common.skc_dport",
    /// Peer's IPv4 address.
    SockDaddr => "sock"."__sk_common.skc_daddr",
    /// Peer's IPv6 address.
    SockV6Daddr => "sock"."__sk_common.skc_v6_daddr",
    /// `struct path` a unix socket is bound to.
    UnixPath => "unix_sock"."path",
    /// `struct unix_address *`.
    UnixAddr => "unix_sock"."addr",
    /// `int`: length of the address.
    UnixAddressLen => "unix_address"."len",
    /// `struct sockaddr_un []`.
    UnixAddressName => "unix_address"."name",
    /// `void *`.
    MsgName => "msghdr"."msg_name",
    /// `int`.
    MsgNameLen => "msghdr"."msg_namelen",
    /// `unsigned int`: `MSG_*`, as the caller gave them.
    MsgFlags => "msghdr"."msg_flags",
    /// `void *`: control messages.
    MsgControl => "msghdr"."msg_control",
    /// `size_t`: bytes of them.
    MsgControlLen => "msghdr"."msg_controllen",
}
